//! Makes new hostile bytes out of old ones.
//!
//! In: a seed, an input, others of the same kind. Out: an input that differs in one to eight places: bits, numbers at
//! the edge of their type, lengths that lie, pieces cut out, doubled, swapped or taken from another input.
//! The same seed makes the same bytes, so that a number replays a failure. Uses `std` alone: the daemon's own tests
//! include this file.
//! Read next: `hunt`.

/// A stream of numbers that a seed decides (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// The stream of `seed`.
    pub const fn new(seed: u64) -> Dice {
        Dice { state: seed }
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..end`; 0 when `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.roll() % (end.max(1) as u64)) as usize
    }

    /// A length that is mostly small.
    fn small(&mut self, most: usize) -> usize {
        let scale = [4, 16, 64, 512, 4_096][self.below(5)];
        1 + self.below(scale.min(most.max(1)))
    }
}

/// Numbers at which arithmetic goes wrong.
const EDGES: [u64; 22] = [
    0,
    1,
    2,
    16,
    32,
    64,
    0x7f,
    0x80,
    0xfc,
    0xfd,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0xffff_ffff,
    // All bitcoins, in millisatoshi.
    2_100_000_000_000_000_000,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_fff0,
    u64::MAX,
];

/// Changes `input` in one to eight places; the result has at most `max_len` bytes.
pub fn mutate(dice: &mut Dice, input: &[u8], others: &[Vec<u8>], max_len: usize) -> Vec<u8> {
    let mut bytes = input.to_vec();
    let rounds = 1 + dice.below(8).min(dice.below(8));
    for _ in 0..rounds {
        once(dice, &mut bytes, others, max_len);
    }
    bytes.truncate(max_len);
    bytes
}

fn once(dice: &mut Dice, bytes: &mut Vec<u8>, others: &[Vec<u8>], max_len: usize) {
    if bytes.is_empty() {
        return insert_noise(dice, bytes);
    }
    match dice.below(20) {
        0..=2 => flip_bit(dice, bytes),
        3..=4 => {
            let at = dice.below(bytes.len());
            bytes[at] = dice.roll() as u8;
        }
        5..=7 => edge_number(dice, bytes),
        8 => nudge(dice, bytes),
        9 => lying_length(dice, bytes),
        10 => insert_noise(dice, bytes),
        11 => cut_out(dice, bytes),
        12 => double(dice, bytes),
        13 => swap(dice, bytes),
        14 => bytes.truncate(dice.below(bytes.len())),
        15..=16 => take_from_another(dice, bytes, others),
        17 => cross(dice, bytes, others),
        18 => fill(dice, bytes),
        _ => grow(dice, bytes, max_len),
    }
}

fn flip_bit(dice: &mut Dice, bytes: &mut [u8]) {
    let at = dice.below(bytes.len());
    bytes[at] ^= 1 << dice.below(8);
}

/// Writes `value` over `width` bytes at `at`, as far as they are there.
fn put(bytes: &mut [u8], at: usize, width: usize, value: u64, big_endian: bool) {
    let (big, little) = (value.to_be_bytes(), value.to_le_bytes());
    let from = if big_endian { &big[8 - width..] } else { &little[..width] };
    bytes.iter_mut().skip(at).zip(from).for_each(|(to, from)| *to = *from);
}

fn width(dice: &mut Dice) -> usize {
    [1, 2, 4, 8][dice.below(4)]
}

fn edge_number(dice: &mut Dice, bytes: &mut [u8]) {
    let (at, width) = (dice.below(bytes.len()), width(dice));
    let value = EDGES[dice.below(EDGES.len())];
    put(bytes, at, width, value, dice.below(4) > 0);
}

/// Adds a little to a number.
fn nudge(dice: &mut Dice, bytes: &mut [u8]) {
    let (at, width) = (dice.below(bytes.len()), width(dice));
    let mut old = [0; 8];
    let there = bytes.iter().skip(at).take(width);
    old.iter_mut().skip(8 - width).zip(there).for_each(|(to, from)| *to = *from);
    let by = 1 + dice.below(35) as u64;
    let value = u64::from_be_bytes(old);
    let value = if dice.below(2) == 0 { value.wrapping_add(by) } else { value.wrapping_sub(by) };
    put(bytes, at, width, value, true);
}

/// Two bytes that say how much follows, nearly.
fn lying_length(dice: &mut Dice, bytes: &mut [u8]) {
    let at = dice.below(bytes.len());
    let left = bytes.len().saturating_sub(at + 2) as u64;
    let value = [left, left + 1, left.saturating_sub(1), left / 2][dice.below(4)];
    put(bytes, at, 2, value, true);
}

fn insert_noise(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let at = dice.below(bytes.len() + 1);
    let count = dice.small(64);
    let same = (dice.below(3) == 0).then(|| dice.roll() as u8);
    let noise: Vec<u8> = (0..count).map(|_| same.unwrap_or_else(|| dice.roll() as u8)).collect();
    bytes.splice(at..at, noise);
}

fn piece(dice: &mut Dice, len: usize) -> std::ops::Range<usize> {
    let from = dice.below(len);
    let count = dice.small(len - from).min(len - from);
    from..from + count
}

fn cut_out(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let gone = piece(dice, bytes.len());
    bytes.drain(gone);
}

fn double(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let copied = piece(dice, bytes.len());
    let copy = bytes[copied].to_vec();
    let at = dice.below(bytes.len() + 1);
    bytes.splice(at..at, copy);
}

/// Two pieces of equal length change places.
fn swap(dice: &mut Dice, bytes: &mut [u8]) {
    let one = piece(dice, bytes.len());
    let count = one.len();
    let other = dice.below(bytes.len() - count + 1);
    for step in 0..count {
        bytes.swap(one.start + step, other + step);
    }
}

fn another<'a>(dice: &mut Dice, others: &'a [Vec<u8>]) -> Option<&'a [u8]> {
    let other = others.get(dice.below(others.len()))?;
    (!other.is_empty()).then_some(other)
}

/// Overwrites, or puts in, a piece of another input.
fn take_from_another(dice: &mut Dice, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
    let Some(other) = another(dice, others) else { return };
    let copied = piece(dice, other.len());
    let copy = other[copied].to_vec();
    let at = dice.below(bytes.len());
    let until = if dice.below(2) == 0 { (at + copy.len()).min(bytes.len()) } else { at };
    bytes.splice(at..until, copy);
}

/// The front of this input, the end of another.
fn cross(dice: &mut Dice, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
    let Some(other) = another(dice, others) else { return };
    bytes.truncate(dice.below(bytes.len() + 1));
    bytes.extend_from_slice(&other[dice.below(other.len())..]);
}

fn fill(dice: &mut Dice, bytes: &mut [u8]) {
    let filled = piece(dice, bytes.len());
    let with = [0, 0xff, 1, dice.roll() as u8][dice.below(4)];
    bytes[filled].fill(with);
}

/// Now and then as long as it may be.
fn grow(dice: &mut Dice, bytes: &mut Vec<u8>, max_len: usize) {
    let len = if dice.below(32) == 0 { max_len } else { bytes.len() + dice.small(4_096) };
    let with = [0, 0xff, dice.roll() as u8][dice.below(3)];
    bytes.resize(len.min(max_len).max(bytes.len()), with);
}
