//! The states of the world that were met, each once, in the order they were met.
//!
//! In: states, packed into 128 bits. Out: their numbers; whether one is new. Twenty-eight bytes a state.
//! Read next: `walk`.

use std::hash::{BuildHasherDefault, Hasher};

/// A hasher for small keys of numbers: multiplies and folds.
#[derive(Clone, Copy, Debug, Default)]
pub struct MixHasher(u64);

/// Builds [`MixHasher`]s.
pub type Mix = BuildHasherDefault<MixHasher>;

fn mix(a: u64, b: u64) -> u64 {
    let wide = u128::from(a ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(u128::from(b ^ 0xd1b5_4a32_d192_ed03));
    (wide >> 64) as u64 ^ wide as u64
}

impl Hasher for MixHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.write_u64(u64::from(*b)));
    }
    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = mix(self.0.rotate_left(29) ^ n, self.0 ^ 0x5851_f42d_4c95_7f2d);
    }
}

/// No state.
pub const NONE: u32 = u32::MAX;

/// A set of packed states that gives each a number; open addressing over one array of numbers.
#[derive(Debug)]
pub struct Table {
    states: Vec<u128>,
    slots: Vec<u32>,
}

impl Default for Table {
    fn default() -> Table {
        Table { states: Vec::new(), slots: vec![NONE; 1 << 16] }
    }
}

impl Table {
    /// The number of `state`, and whether it is new.
    pub fn insert(&mut self, state: u128) -> (u32, bool) {
        if self.states.len() * 5 > self.slots.len() * 3 {
            self.grow();
        }
        match self.find(state) {
            Ok(number) => (number, false),
            Err(place) => {
                let number = self.states.len() as u32;
                self.slots[place] = number;
                self.states.push(state);
                (number, true)
            }
        }
    }

    /// A state by its number.
    pub fn get(&self, number: u32) -> u128 {
        self.states[number as usize]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// Its number, or the slot where it would stand.
    fn find(&self, state: u128) -> Result<u32, usize> {
        let mask = self.slots.len() - 1;
        let mut place = mix(state as u64, (state >> 64) as u64) as usize & mask;
        loop {
            match self.slots[place] {
                NONE => return Err(place),
                number if self.states[number as usize] == state => return Ok(number),
                _ => place = (place + 1) & mask,
            }
        }
    }

    fn grow(&mut self) {
        let size = self.slots.len() * 2;
        self.slots = Vec::new();
        self.slots = vec![NONE; size];
        for number in 0..self.states.len() as u32 {
            if let Err(place) = self.find(self.states[number as usize]) {
                self.slots[place] = number;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_one_number() {
        let mut table = Table::default();
        let state = |n: u128| (n << 77) | (n * n);
        for n in 0..200_000u128 {
            assert_eq!(table.insert(state(n)), (n as u32, true));
        }
        for n in (0..200_000u128).rev() {
            assert_eq!(table.insert(state(n)), (n as u32, false));
            assert_eq!(table.get(n as u32), state(n));
        }
        assert_eq!(table.len(), 200_000);
    }
}
