//! Amounts and feerates as people write them.
//!
//! In: `1000`, `1000msat`, `10sat`, `1.5sat`, `0.1btc`, `any`, `all`; `253perkw`, `1000perkb`, `slow`, `12blocks`.
//! Out: exact integers, or words that say what is wrong. There is no floating point here.
//! Read next: `params`.

use chand_protocol::units::{Feerate, Msat, Sat};

/// Millisatoshis in one bitcoin have this many decimal places.
const BTC_PLACES: usize = 11;
/// Millisatoshis in one satoshi.
const SAT_PLACES: usize = 3;

/// A decimal number without sign or exponent, scaled by `10^places` to an integer.
///
/// # Errors
/// Words, when it is no such number, has more decimals than `places`, or does not fit.
pub fn decimal(text: &str, places: usize) -> Result<u64, String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || text.ends_with('.') {
        return Err(format!("'{}' is not a number", shorten(text)));
    }
    if fraction.len() > places {
        return Err(format!("'{}' has more than {places} decimal places", shorten(text)));
    }
    let padded = format!("{whole}{fraction:0<places$}");
    padded.parse().map_err(|_| format!("'{}' is too large", shorten(text)))
}

/// Text for an error message: never more than a few words of what a client sent.
pub fn shorten(text: &str) -> String {
    if text.chars().count() <= 80 {
        return text.to_string();
    }
    let mut short: String = text.chars().take(77).collect();
    short.push_str("...");
    short
}

/// An amount in millisatoshi; a bare number is millisatoshi.
///
/// # Errors
/// Words.
pub fn msat(text: &str) -> Result<Msat, String> {
    amount(text, 0)
}

/// An amount in whole satoshi; a bare number is satoshi.
///
/// # Errors
/// Words; also when it is no whole number of satoshi.
pub fn sat(text: &str) -> Result<Sat, String> {
    let msat = amount(text, SAT_PLACES)?;
    if msat.0 % 1_000 != 0 {
        return Err(format!("'{}' is not a whole number of satoshi", shorten(text)));
    }
    Ok(msat.floor_sat())
}

/// `bare_places`: decimal places of a millisatoshi in the unit of a bare number.
fn amount(text: &str, bare_places: usize) -> Result<Msat, String> {
    let msat = if let Some(n) = text.strip_suffix("msat") {
        decimal(n, 0)?
    } else if let Some(n) = text.strip_suffix("sat") {
        decimal(n, SAT_PLACES)?
    } else if let Some(n) = text.strip_suffix("btc") {
        decimal(n, BTC_PLACES)?
    } else if text.contains('.') {
        return Err(format!("'{}' needs a unit: msat, sat or btc", shorten(text)));
    } else {
        decimal(text, bare_places)?
    };
    // BOLT 1 [1.types.3].
    if msat > Sat::MAX_MONEY.to_msat().0 {
        return Err(format!("'{}' is more than all bitcoin there will ever be", shorten(text)));
    }
    Ok(Msat(msat))
}

/// A feerate as given: a number, or a name to be looked up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FeerateSpec {
    /// This one, in sat per 1,000 weight units.
    Exact(Feerate),
    /// Mined at once.
    Urgent,
    /// Mined soon.
    Normal,
    /// Mined when there is room.
    Slow,
    /// What relays at all.
    Minimum,
    /// Mined within this many blocks.
    Blocks(u32),
}

/// `253perkw`, `1000perkb`, `1000` (per kB, as Core Lightning reads it), `12blocks` or a name.
///
/// # Errors
/// Words.
pub fn feerate(text: &str) -> Result<FeerateSpec, String> {
    let number = |n: &str| -> Result<u32, String> {
        let value = decimal(n, 0)?;
        u32::try_from(value).map_err(|_| format!("'{}' is too large", shorten(n)))
    };
    Ok(match text {
        "urgent" | "unilateral_close" | "penalty" => FeerateSpec::Urgent,
        "normal" | "opening" | "mutual_close" => FeerateSpec::Normal,
        "slow" => FeerateSpec::Slow,
        "minimum" => FeerateSpec::Minimum,
        _ => {
            if let Some(n) = text.strip_suffix("perkw") {
                exact(number(n)?)?
            } else if let Some(n) = text.strip_suffix("blocks") {
                FeerateSpec::Blocks(number(n)?)
            } else {
                let n = text.strip_suffix("perkb").unwrap_or(text);
                if n.bytes().next().is_none_or(|b| !b.is_ascii_digit()) {
                    return Err(format!(
                        "'{}' is no feerate: try slow, normal, urgent, 253perkw or 1000perkb",
                        shorten(text)
                    ));
                }
                // 1,000 virtual bytes are 4,000 weight units; rounded up, so that 1,000perkb does not
                // become less than what relays.
                exact(number(n)?.div_ceil(4))?
            }
        }
    })
}

fn exact(perkw: u32) -> Result<FeerateSpec, String> {
    if perkw < Feerate::FLOOR.0 {
        // Bitcoin nodes relay from 1,000 sat per kvB, which is 250 per kw; 253 after rounding (BOLT 3).
        if perkw >= 250 {
            return Ok(FeerateSpec::Exact(Feerate::FLOOR));
        }
        return Err(format!("{perkw}perkw is too low to relay: at least {}perkw", Feerate::FLOOR.0));
    }
    Ok(FeerateSpec::Exact(Feerate(perkw)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact() {
        for (text, want) in [
            ("0", 0),
            ("1000", 1_000),
            ("1000msat", 1_000),
            ("10sat", 10_000),
            ("1.5sat", 1_500),
            ("0.001sat", 1),
            ("0.1btc", 10_000_000_000),
            ("1btc", 100_000_000_000),
            ("0.00000000001btc", 1),
            ("21000000btc", 2_100_000_000_000_000_000),
        ] {
            assert_eq!(msat(text), Ok(Msat(want)), "{text}");
        }
        for (text, want) in
            [("1000", 1_000), ("1000sat", 1_000), ("1000000msat", 1_000), ("0.1btc", 10_000_000), ("0", 0)]
        {
            assert_eq!(sat(text), Ok(Sat(want)), "{text}");
        }
    }

    #[test]
    fn bad_amounts_are_refused() {
        for text in [
            "",
            "-1",
            "+1",
            "1e3",
            "1,000",
            "0x10",
            " 1",
            "1 ",
            "1.5",
            "1.5msat",
            "0.0001sat",
            ".5btc",
            "1.btc",
            "0.000000000001btc",
            "21000000.00000000001btc",
            "99999999999999999999",
            "sat",
            "any",
            "١",
            "1BTC",
        ] {
            assert!(msat(text).is_err(), "{text}");
        }
        assert!(sat("1msat").is_err());
        assert!(sat("0.5sat").is_err());
        assert!(sat("2100000000000001").is_err());
    }

    #[test]
    fn feerates() {
        let exact = |n| Ok(FeerateSpec::Exact(Feerate(n)));
        assert_eq!(feerate("253perkw"), exact(253));
        assert_eq!(feerate("250perkw"), exact(253));
        assert_eq!(feerate("7500perkb"), exact(1_875));
        assert_eq!(feerate("7501"), exact(1_876));
        assert_eq!(feerate("1000perkb"), exact(253));
        assert_eq!(feerate("12blocks"), Ok(FeerateSpec::Blocks(12)));
        assert_eq!(feerate("urgent"), Ok(FeerateSpec::Urgent));
        for text in ["", "1perkw", "fast", "99999999999perkw", "-5", "1.5perkw", "perkw"] {
            assert!(feerate(text).is_err(), "{text}");
        }
    }
}
