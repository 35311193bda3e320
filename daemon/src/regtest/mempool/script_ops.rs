//! The small change of script: reading opcodes, numbers, truth, minimal pushes.
//!
//! In: script bytes. Out: one instruction at a time. Read next: `interpreter`.

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// Pushes bytes.
    Push {
        /// The opcode that pushes.
        code: u8,
        /// What it pushes.
        data: &'a [u8],
    },
    /// Does something else.
    Code(u8),
}

/// Reads the instruction at `position` and where the next one starts; `None` when it runs over the end.
pub fn read_op(script: &[u8], position: usize) -> Option<(Op<'_>, usize)> {
    let code = *script.get(position)?;
    let after = position.checked_add(1)?;
    let (size, start) = match code {
        0..=0x4b => (usize::from(code), after),
        0x4c => (usize::from(*script.get(after)?), after + 1),
        0x4d => {
            let bytes: [u8; 2] = script.get(after..after + 2)?.try_into().ok()?;
            (usize::from(u16::from_le_bytes(bytes)), after + 2)
        }
        0x4e => {
            let bytes: [u8; 4] = script.get(after..after + 4)?.try_into().ok()?;
            (usize::try_from(u32::from_le_bytes(bytes)).ok()?, after + 4)
        }
        _ => return Some((Op::Code(code), after)),
    };
    let end = start.checked_add(size)?;
    Some((Op::Push { code, data: script.get(start..end)? }, end))
}

/// Was the shortest opcode used for this push (BIP 62 rule 3)?
pub fn minimal_push(code: u8, data: &[u8]) -> bool {
    match data {
        [] => code == 0,
        [1..=16] | [0x81] => false,
        _ if data.len() <= 0x4b => usize::from(code) == data.len(),
        _ if data.len() <= 0xff => code == 0x4c,
        _ if data.len() <= 0xffff => code == 0x4d,
        _ => true,
    }
}

/// Truth: any byte set, except for negative zero.
pub fn cast_bool(item: &[u8]) -> bool {
    match item.split_last() {
        None => false,
        Some((last, rest)) => rest.iter().any(|byte| *byte != 0) || !matches!(last, 0 | 0x80),
    }
}

/// Script's numbers: little endian, sign in the top bit.
pub struct Num;

impl Num {
    /// Reads a minimally encoded number of at most `max_len` bytes.
    pub fn read(item: &[u8], max_len: usize) -> Option<i64> {
        if item.len() > max_len || max_len > 8 {
            return None;
        }
        let Some((last, rest)) = item.split_last() else { return Some(0) };
        if last & 0x7f == 0 && rest.last().is_none_or(|byte| byte & 0x80 == 0) {
            return None;
        }
        let mut magnitude = i64::from(last & 0x7f);
        for byte in rest.iter().rev() {
            magnitude = (magnitude << 8) | i64::from(*byte);
        }
        Some(if last & 0x80 == 0 { magnitude } else { -magnitude })
    }
}

/// Writes a number as script does.
pub fn encode_num(value: i64) -> Vec<u8> {
    if value == 0 {
        return Vec::new();
    }
    let mut bytes: Vec<u8> = value.unsigned_abs().to_le_bytes().to_vec();
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    let sign = if value < 0 { 0x80 } else { 0 };
    match bytes.last_mut() {
        Some(last) if *last & 0x80 == 0 => *last |= sign,
        _ => bytes.push(sign),
    }
    bytes
}

/// Is this one of BIP 342's OP_SUCCESS opcodes?
pub fn is_op_success(code: u8) -> bool {
    matches!(code, 0x50 | 0x62 | 0x7e..=0x81 | 0x83..=0x86 | 0x89 | 0x8a | 0x8d | 0x8e | 0x95..=0x99 | 0xbb..=0xfe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_there_and_back() {
        for value in
            [0, 1, -1, 127, 128, -128, 255, 256, 32_767, 32_768, -32_768, 2_147_483_647, 4_294_967_295]
        {
            assert_eq!(Num::read(&encode_num(value), 5), Some(value));
        }
        assert_eq!(Num::read(&[0], 4), None);
        assert_eq!(Num::read(&[1, 0], 4), None);
        assert_eq!(Num::read(&[0x80], 4), None);
        assert_eq!(Num::read(&[0xff, 0], 4), Some(255));
        assert_eq!(Num::read(&[1, 2, 3, 4, 5], 4), None);
    }

    #[test]
    fn truth_knows_negative_zero() {
        assert!(!cast_bool(&[]));
        assert!(!cast_bool(&[0, 0x80]));
        assert!(cast_bool(&[0x80, 0]));
        assert!(cast_bool(&[1]));
    }

    #[test]
    fn pushes_over_the_end_are_nothing() {
        assert_eq!(read_op(&[2, 1], 0), None);
        assert_eq!(read_op(&[0x4e, 255, 255, 255, 255], 0), None);
        assert_eq!(read_op(&[0x4d, 1], 0), None);
        assert_eq!(read_op(&[1, 7, 0xac], 0), Some((Op::Push { code: 1, data: &[7] }, 2)));
        assert!(minimal_push(1, &[17]));
        assert!(!minimal_push(1, &[16]));
        assert!(!minimal_push(0x4c, &[17, 18]));
    }
}
