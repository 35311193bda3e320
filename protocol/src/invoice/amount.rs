//! The part of an invoice before the separator: the chain and the amount (BOLT 11, "Human-Readable Part").
//!
//! In: `lnbc2500u`. Out: [`Currency`] and millisatoshi, and back in the shortest way. Whole numbers only.
//! Read next: `text`.

use super::InvoiceError;
use crate::chain::Network;
use crate::units::Msat;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use serde::{Deserialize, Serialize};

/// The chain that an invoice is to be paid on, named by its address prefix (BIP 173).
///
/// Testnet 3 and 4 share one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Currency {
    /// `bc`
    Bitcoin,
    /// `tb`
    Testnet,
    /// `tbs`
    Signet,
    /// `bcrt`
    Regtest,
    /// `ltc`
    Litecoin,
    /// `tltc`
    LitecoinTestnet,
    /// `rltc`
    LitecoinRegtest,
}

/// Prefix, words, and a network whose addresses it shares.
const CURRENCIES: [(Currency, &str, &str, Network); 7] = [
    (Currency::Bitcoin, "bc", "bitcoin", Network::Bitcoin),
    (Currency::Testnet, "tb", "bitcoin testnet", Network::Testnet),
    (Currency::Signet, "tbs", "bitcoin signet", Network::Signet),
    (Currency::Regtest, "bcrt", "bitcoin regtest", Network::Regtest),
    (Currency::Litecoin, "ltc", "litecoin", Network::Litecoin),
    (Currency::LitecoinTestnet, "tltc", "litecoin testnet", Network::LitecoinTestnet),
    (Currency::LitecoinRegtest, "rltc", "litecoin regtest", Network::LitecoinRegtest),
];

/// Multipliers with how many tenths of a millisatoshi (pico-bitcoin) one unit is, largest first.
const MULTIPLIERS: [(&str, u64); 5] =
    [("", 1_000_000_000_000), ("m", 1_000_000_000), ("u", 1_000_000), ("n", 1_000), ("p", 1)];
/// One millisatoshi in pico-bitcoin.
const PICO_PER_MSAT: u128 = 10;

impl Currency {
    const fn row(self) -> &'static (Currency, &'static str, &'static str, Network) {
        match self {
            Currency::Bitcoin => &CURRENCIES[0],
            Currency::Testnet => &CURRENCIES[1],
            Currency::Signet => &CURRENCIES[2],
            Currency::Regtest => &CURRENCIES[3],
            Currency::Litecoin => &CURRENCIES[4],
            Currency::LitecoinTestnet => &CURRENCIES[5],
            Currency::LitecoinRegtest => &CURRENCIES[6],
        }
    }

    /// What follows `ln`: `bc`, `tb`, `tbs`, `bcrt`, `ltc`, `tltc` or `rltc`; the `currency` of `decode`.
    pub const fn prefix(self) -> &'static str {
        self.row().1
    }

    /// A network whose addresses it shares.
    pub const fn network(self) -> Network {
        self.row().3
    }

    /// The prefix's chain, if it is known here.
    pub fn from_prefix(prefix: &str) -> Option<Currency> {
        CURRENCIES.iter().find(|row| row.1 == prefix).map(|row| row.0)
    }

    /// What invoices on `network` carry.
    pub const fn of(network: Network) -> Currency {
        match network {
            Network::Bitcoin => Currency::Bitcoin,
            Network::Testnet | Network::Testnet4 => Currency::Testnet,
            Network::Signet => Currency::Signet,
            Network::Regtest => Currency::Regtest,
            Network::Litecoin => Currency::Litecoin,
            Network::LitecoinTestnet => Currency::LitecoinTestnet,
            Network::LitecoinRegtest => Currency::LitecoinRegtest,
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().2)
    }
}

/// Reads chain and amount from the lower-case text before the separator.
// BOLT 11 [11.human.5].
pub(super) fn read(human: &str) -> Result<(Currency, Option<Msat>), InvoiceError> {
    let rest = human.strip_prefix("ln").ok_or(InvoiceError::Prefix)?;
    let digits_at = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
    let (prefix, amount) = rest.split_at_checked(digits_at).ok_or(InvoiceError::Prefix)?;
    let currency =
        Currency::from_prefix(prefix).ok_or_else(|| InvoiceError::UnknownCurrency(prefix.to_string()))?;
    // "if the `amount` is empty: SHOULD indicate to the payer that amount is unspecified".
    let amount = if amount.is_empty() { None } else { Some(read_amount(amount)?) };
    Ok((currency, amount))
}

// BOLT 11 [11.human.6, 11.human.7].
fn read_amount(text: &str) -> Result<Msat, InvoiceError> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, multiplier) = text.split_at_checked(end).ok_or(InvoiceError::Amount)?;
    let (_, pico) = MULTIPLIERS.iter().find(|(name, _)| *name == multiplier).ok_or(InvoiceError::Amount)?;
    let number: u64 = digits.parse().map_err(|_| InvoiceError::Amount)?;
    // "MUST encode `amount` as a positive decimal integer": nothing can be paid with zero.
    if number == 0 {
        return Err(InvoiceError::Amount);
    }
    let pico = u128::from(number).checked_mul(u128::from(*pico)).ok_or(InvoiceError::Amount)?;
    // BOLT 11 [11.human.8].
    if pico % PICO_PER_MSAT != 0 {
        return Err(InvoiceError::SubMillisatoshi);
    }
    u64::try_from(pico / PICO_PER_MSAT).map(Msat).map_err(|_| InvoiceError::Amount)
}

/// Writes chain and amount, with the largest multiplier that needs no fraction.
// BOLT 11 [11.human.1, 11.human.2, 11.human.3].
pub(super) fn write(currency: Currency, amount: Option<Msat>) -> Result<String, InvoiceError> {
    let prefix = currency.prefix();
    let Some(Msat(msat)) = amount else {
        return Ok(format!("ln{prefix}"));
    };
    if msat == 0 {
        return Err(InvoiceError::Amount);
    }
    // BOLT 11 [11.human.4].
    let pico = u128::from(msat).saturating_mul(PICO_PER_MSAT);
    let whole = MULTIPLIERS.iter().find(|(_, unit)| pico % u128::from(*unit) == 0);
    let (multiplier, unit) = whole.ok_or(InvoiceError::Amount)?;
    Ok(format!("ln{prefix}{}{multiplier}", pico / u128::from(*unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_go_there_and_back_in_the_shortest_way() {
        // BOLT 11 [11.human.2, 11.human.3, 11.human.4, 11.human.7].
        let cases = [
            (1, "lnbc10p"),
            (100, "lnbc1n"),
            (150, "lnbc1500p"),
            (100_000, "lnbc1u"),
            (250_000_000, "lnbc2500u"),
            (2_000_000_000, "lnbc20m"),
            (967_878_534, "lnbc9678785340p"),
            (100_000_000_000, "lnbc1"),
            (u64::MAX, "lnbc184467440737095516150p"),
        ];
        for (msat, text) in cases {
            assert_eq!(write(Currency::Bitcoin, Some(Msat(msat))).as_deref(), Ok(text));
        }
        for (msat, text) in &cases[..8] {
            assert_eq!(read(text), Ok((Currency::Bitcoin, Some(Msat(*msat)))));
        }
    }

    #[test]
    fn every_currency_has_its_prefix() {
        // BOLT 11 [11.human.1].
        for (currency, prefix, _, network) in CURRENCIES {
            assert_eq!(read(&format!("ln{prefix}")), Ok((currency, None)));
            assert_eq!(read(&format!("ln{prefix}1m")), Ok((currency, Some(Msat(100_000_000)))));
            assert_eq!((currency.prefix(), Currency::of(network)), (prefix, currency));
        }
        assert_eq!(Currency::of(Network::Testnet4), Currency::Testnet);
    }

    #[test]
    fn amounts_that_make_no_sense_are_refused() {
        // BOLT 11 [11.human.5, 11.human.6, 11.human.8].
        for text in ["lnbc2500x", "lnbc1mm", "lnbc1m1", "lnbc0", "lnbc0m", "lnbc99999999999999999999"] {
            assert_eq!(read(text), Err(InvoiceError::Amount), "{text}");
        }
        assert_eq!(read("lnbc18446744073709551615"), Err(InvoiceError::Amount));
        assert_eq!(read("lnbc2500000001p"), Err(InvoiceError::SubMillisatoshi));
        assert_eq!(read("lnxy1m"), Err(InvoiceError::UnknownCurrency("xy".to_string())));
        assert_eq!(read("ln"), Err(InvoiceError::UnknownCurrency(String::new())));
        assert_eq!(read("bc1m"), Err(InvoiceError::Prefix));
        assert_eq!(write(Currency::Bitcoin, Some(Msat(0))), Err(InvoiceError::Amount));
    }
}
