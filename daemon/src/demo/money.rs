//! Amounts as people read them.
//!
//! In: millisatoshi. Out: bitcoin in decimal, exact, by integer arithmetic.
//! Read next: `tell`.

/// One bitcoin.
pub const BITCOIN_MSAT: u64 = 100_000_000_000;

/// Bitcoin with all eight decimals, and three more when there are millisatoshi.
pub fn fixed(msat: u64) -> String {
    let (whole, rest) = (msat / BITCOIN_MSAT, msat % BITCOIN_MSAT);
    match rest % 1_000 {
        0 => format!("{whole}.{:08}", rest / 1_000),
        _ => format!("{whole}.{rest:011}"),
    }
}

/// Bitcoin without zeros at the end.
pub fn short(msat: u64) -> String {
    let text = fixed(msat);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// Satoshi with groups of three digits.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact() {
        assert_eq!(fixed(40_000_000_000), "0.40000000");
        assert_eq!(fixed(100_000_000_001), "1.00000000001");
        assert_eq!(short(40_000_000_000), "0.4");
        assert_eq!(short(BITCOIN_MSAT), "1");
        assert_eq!(short(0), "0");
        assert_eq!(short(2_100_000_000_000_000_000), "21000000");
        assert_eq!(short(1), "0.00000000001");
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(12_345_678), "12,345,678");
    }
}
