//! The letters of an invoice: bech32 of any length up to 7,089 characters, and what is signed (BOLT 11, "Encoding
//! Overview", "Data Part").
//!
//! In: text. Out: the human-readable part, the 5-bit values of the data and the signature after them; and back.
//! Read next: `parse`.

use super::InvoiceError;
use alloc::string::String;
use alloc::vec::Vec;
use bitcoin::bech32::primitives::decode::{CheckedHrpstring, CheckedHrpstringError, UncheckedHrpstringError};
use bitcoin::bech32::{ByteIterExt, Fe32, Fe32IterExt, Hrp};
use lightning_invoice::{Bolt11Bech32, MAX_LENGTH};
use secp256k1::Message;
use sha2::{Digest, Sha256};

/// 64 bytes of signature and one of recovery id, in 5-bit values.
const SIGNATURE_LEN: usize = 104;

/// An invoice taken apart, its checksum verified.
pub(super) struct Parts {
    /// Lower case.
    pub human: String,
    /// Timestamp and fields.
    pub data: Vec<Fe32>,
    pub signature: [u8; 65],
}

/// Takes an invoice apart; a `lightning:` in front and white space around are removed.
pub(super) fn split(text: &str) -> Result<Parts, InvoiceError> {
    let text = text.trim();
    const SCHEME: &str = "lightning:";
    let text = match text.split_at_checked(SCHEME.len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => rest,
        _ => text,
    };
    if text.len() > MAX_LENGTH {
        return Err(InvoiceError::TooLong);
    }
    // BOLT 11 [11.text.2, 11.text.3].
    let parsed = CheckedHrpstring::new::<Bolt11Bech32>(text).map_err(|e| in_words(&e))?;
    let mut data: Vec<Fe32> = parsed.fe32_iter::<core::iter::Empty<u8>>().collect();
    let signature_at = data.len().checked_sub(SIGNATURE_LEN).ok_or(InvoiceError::TooShort)?;
    let signature: Vec<u8> = data.split_off(signature_at).into_iter().fes_to_bytes().collect();
    let signature = signature.try_into().map_err(|_| InvoiceError::TooShort)?;
    Ok(Parts { human: parsed.hrp().to_lowercase(), data, signature })
}

/// Puts an invoice together.
pub(super) fn join(human: &str, data: &[Fe32], signature: &[u8; 65]) -> Result<String, InvoiceError> {
    let hrp = Hrp::parse(human).map_err(|_| InvoiceError::Prefix)?;
    let signature = signature.iter().copied().bytes_to_fes();
    // BOLT 11 [11.text.1].
    let letters = data.iter().copied().chain(signature).with_checksum::<Bolt11Bech32>(&hrp).chars();
    let text: String = letters.collect();
    if text.len() > MAX_LENGTH {
        return Err(InvoiceError::TooLong);
    }
    Ok(text)
}

/// What the payee signs: "the human-readable part (as UTF-8 bytes) concatenated with the data part (excluding the
/// signature), with 0 bits appended to pad to a byte boundary".
pub(super) fn signed_message(human: &str, data: &[Fe32]) -> Message {
    let whole_bytes = data.len().div_ceil(8).saturating_mul(8);
    let padding = core::iter::repeat_n(Fe32::Q, whole_bytes.saturating_sub(data.len()));
    let bits = data.len().saturating_mul(5);
    let bytes = data.iter().copied().chain(padding).fes_to_bytes().take(bits.div_ceil(8));
    let mut hash = Sha256::new();
    hash.update(human.as_bytes());
    hash.update(bytes.collect::<Vec<u8>>());
    Message::from_digest(hash.finalize().into())
}

fn in_words(error: &CheckedHrpstringError) -> InvoiceError {
    use bitcoin::bech32::primitives::decode::{CharError, ChecksumError};
    match error {
        CheckedHrpstringError::Checksum(ChecksumError::InvalidResidue) => InvoiceError::Checksum,
        CheckedHrpstringError::Checksum(ChecksumError::CodeLength(_)) => InvoiceError::TooLong,
        CheckedHrpstringError::Checksum(_) => InvoiceError::TooShort,
        CheckedHrpstringError::Parse(UncheckedHrpstringError::Char(CharError::MixedCase)) => {
            InvoiceError::NotBech32("it mixes upper and lower case")
        }
        CheckedHrpstringError::Parse(UncheckedHrpstringError::Char(CharError::MissingSeparator)) => {
            InvoiceError::NotBech32("it has no \"1\" between its two parts")
        }
        _ => InvoiceError::NotBech32("it has characters that do not belong in one"),
    }
}
