//! JSON as bitcoind writes it: amounts are numbers with eight decimals, exact to the satoshi.
//!
//! In: satoshi, or a JSON number someone sent. Out: the other one. An amount travels as a double here, which is exact
//! enough: up to 21 million coins, doubles stand closer together than satoshi, so each satoshi has its own and the
//! eighth decimal is never in doubt (and its sixteen digits fit 53 bits, so reading it is one exact division). What
//! decides about money is the integer. Read next: `args`.

use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;
use serde_json::Value;

use super::error::RpcError;

const SAT_PER_COIN: u64 = 100_000_000;
const MAX_MONEY_SAT: u64 = 21_000_000 * SAT_PER_COIN;

/// An amount as a JSON number of coins.
pub fn amount(sat: u64) -> Value {
    Value::from(sat as f64 / SAT_PER_COIN as f64)
}

/// A rate (satoshi per 1000 virtual bytes) of what was paid for a size.
pub fn feerate(fee_sat: u64, vsize: u64) -> Value {
    amount(fee_sat.saturating_mul(1000) / vsize.max(1))
}

/// Reads an amount: a number or a string with at most eight decimals.
pub fn parse_amount(value: &Value) -> Result<u64, RpcError> {
    let text = match value {
        // A double prints as the shortest decimal that it is nearest to: what was written, up to 16 digits.
        Value::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(whole), _) => whole.to_string(),
            (None, Some(double)) => double.to_string(),
            (None, None) => return Err(RpcError::wrong_type("Invalid amount")),
        },
        Value::String(text) => text.trim().to_owned(),
        _ => return Err(RpcError::wrong_type("Amount is not a number or string")),
    };
    if text.starts_with('-') {
        return Err(RpcError::wrong_type("Amount out of range"));
    }
    let sat = parse_decimal(&text).ok_or_else(|| RpcError::wrong_type("Invalid amount"))?;
    if sat > MAX_MONEY_SAT {
        return Err(RpcError::wrong_type("Amount out of range"));
    }
    Ok(sat)
}

fn parse_decimal(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || whole.is_empty() || whole.len() > 10 || fraction.len() > 8 {
        return None;
    }
    let mut fraction = fraction.to_owned();
    while fraction.len() < 8 {
        fraction.push('0');
    }
    let (whole, fraction): (u64, u64) = (whole.parse().ok()?, fraction.parse().ok()?);
    whole.checked_mul(SAT_PER_COIN)?.checked_add(fraction)
}

/// Writes doubles that are whole satoshi with eight decimals, others with sixteen digits.
struct CoinFormatter;

impl Formatter for CoinFormatter {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let sat = (value * SAT_PER_COIN as f64).round();
        if sat.abs() <= MAX_MONEY_SAT as f64 && sat / SAT_PER_COIN as f64 == value {
            write!(writer, "{value:.8}")
        } else {
            // Sixteen digits, as bitcoind has it.
            let text = format!("{value:.15e}");
            match text.split_once('e') {
                Some((digits, exponent)) => {
                    write!(writer, "{}e{exponent}", digits.trim_end_matches('0').trim_end_matches('.'))
                }
                None => write!(writer, "{text}"),
            }
        }
    }
}

/// The text of a value.
pub fn to_text(value: &Value) -> String {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, CoinFormatter);
    match value.serialize(&mut serializer) {
        Ok(()) => String::from_utf8(bytes).unwrap_or_else(|_| "null".into()),
        Err(_) => "null".into(),
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use bitcoin::hex::DisplayHex;
    bytes.to_lower_hex_string()
}

/// Reads hex.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    use bitcoin::hex::FromHex;
    Vec::from_hex(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_print_eight_decimals_exactly() {
        for (sat, text) in [
            (0, "0.00000000"),
            (1, "0.00000001"),
            (10_000_000, "0.10000000"),
            (30_000_000, "0.30000000"),
            (5_000_000_000, "50.00000000"),
            (123_456_789, "1.23456789"),
            (2_099_999_997_690_000, "20999999.97690000"),
            (2_099_999_997_690_001, "20999999.97690001"),
            (2_099_999_999_999_999, "20999999.99999999"),
            (2_100_000_000_000_000, "21000000.00000000"),
        ] {
            assert_eq!(to_text(&amount(sat)), text);
            let read: Value = serde_json::from_str(text).unwrap();
            assert_eq!(parse_amount(&read), Ok(sat), "{text}");
            assert_eq!(parse_amount(&Value::from(text)), Ok(sat), "{text}");
        }
    }

    #[test]
    fn every_satoshi_of_a_wide_sample_survives_both_ways() {
        let mut sat = 1u64;
        while sat < MAX_MONEY_SAT {
            let text = to_text(&amount(sat));
            assert_eq!(text, format!("{}.{:08}", sat / SAT_PER_COIN, sat % SAT_PER_COIN));
            let read: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(parse_amount(&read), Ok(sat));
            sat = sat + sat / 97 + 1;
        }
    }

    #[test]
    fn amounts_out_of_range_or_shape_are_refused() {
        for bad in ["0.123456789", "abc", "", ".", ".5", "1e400", "0x10", "1 000"] {
            assert_eq!(parse_amount(&Value::from(bad)).map_err(|e| e.code), Err(-3), "{bad}");
        }
        assert_eq!(parse_amount(&serde_json::json!(-1)).map_err(|e| e.code), Err(-3));
        assert_eq!(parse_amount(&serde_json::json!(-0.5)).map_err(|e| e.code), Err(-3));
        assert_eq!(parse_amount(&serde_json::json!(21_000_001)).map_err(|e| e.code), Err(-3));
        assert_eq!(parse_amount(&serde_json::json!(1e-8)), Ok(1));
        assert_eq!(parse_amount(&serde_json::json!([])).map_err(|e| e.code), Err(-3));
    }

    #[test]
    fn other_doubles_have_sixteen_digits() {
        let difficulty = 65_535.0 / 8_388_607.0 / 16_777_216.0;
        assert_eq!(to_text(&Value::from(difficulty)), "4.656542373906925e-10");
        assert_eq!(to_text(&Value::from(4.656542373906925e-10)), "4.656542373906925e-10");
        assert_eq!(to_text(&serde_json::json!({"a": 1, "b": "x"})), r#"{"a":1,"b":"x"}"#);
    }
}
