//! Invoices: what a payee asks for, as text that a person passes on (BOLT 11).
//!
//! In: what to ask for, with our node key; or the text of somebody's invoice. Out: the text; or an [`Invoice`] whose
//! signature and required features are checked. Whether it has expired and is for our chain are questions apart.
//! `amount` is the part a human can read, `make` writes and signs, `parse` reads and checks, `blinded` is the field of paths
//! to a payee who is not named (bLIP 39), `text` is the bech32 below.
//! Read next: `parse`.

mod amount;
pub mod blinded;
mod make;
mod parse;
#[cfg(test)]
mod tests;
mod text;

pub use amount::Currency;
pub use make::{make, our_features, NewInvoice};
pub use parse::parse;

use crate::id::{NodeId, PaymentHash, PaymentSecret, ShortChannelId};
use crate::onion::blind::PayPath;
use crate::units::Msat;
use crate::wire::features::Features;
use alloc::string::String;
use alloc::vec::Vec;
use bitcoin::ScriptBuf;
use core::fmt;
use secp256k1::ecdsa::Signature;
use serde::{Deserialize, Serialize};

/// How long an invoice holds when it does not say, in seconds (BOLT 11, field `x`).
pub const DEFAULT_EXPIRY_S: u64 = 3600;
/// The final hop's expiry in blocks when an invoice does not say (BOLT 11, field `c`).
pub const DEFAULT_MIN_FINAL_CLTV_BLOCKS: u32 = 18;
/// The most bytes of a description, or of payment metadata: what one field can hold.
pub const MAX_FIELD_BYTES: usize = 639;

/// An invoice whose signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoice {
    /// The chain it is to be paid on.
    pub currency: Currency,
    /// What is asked for; `None` leaves it to the payer.
    pub amount: Option<Msat>,
    /// When it was made, in seconds since the Unix epoch.
    pub timestamp_s: u64,
    /// How long after that it holds, in seconds.
    pub expiry_s: u64,
    /// What the payment's preimage hashes to.
    pub payment_hash: PaymentHash,
    /// To be handed to the payee with the payment (BOLT 4, `payment_data`); `None` where there are blinded paths, whose
    /// sealed ids are for that.
    pub payment_secret: Option<PaymentSecret>,
    /// Who signed it and is to be paid; where there are blinded paths, a key that is no node's.
    pub payee: NodeId,
    /// What the payment is for.
    pub description: Description,
    /// How far ahead, in blocks, the last HTLC must expire.
    pub min_final_cltv_blocks: u32,
    /// Ways to the payee over channels that are not public, each from a public node on.
    pub route_hints: Vec<Vec<RouteHintHop>>,
    /// Blinded paths to the payee (bLIP 39): the only way there when there are any.
    pub blinded_paths: Vec<PayPath>,
    /// What the payee offers and requires.
    pub features: Features,
    /// To be handed to the payee with the payment.
    pub payment_metadata: Option<Vec<u8>>,
    /// Where the payee can be paid on chain, in its order of preference.
    pub fallbacks: Vec<ScriptBuf>,
    /// Fields of types we do not know, skipped.
    pub extra: Vec<ExtraField>,
    /// The payee's signature; it may be high-S.
    pub signature: Signature,
}

/// What a payment is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Description {
    /// In words; from a stranger, so it is printed only through `Display`, which escapes it.
    Text(String),
    /// The SHA-256 of words that are to be had elsewhere.
    Hash([u8; 32]),
}

/// One channel of a route hint (BOLT 11, field `r`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteHintHop {
    /// The node at the channel's start.
    pub node_id: NodeId,
    /// The channel to the next node.
    pub short_channel_id: ShortChannelId,
    /// Its fixed fee.
    pub fee_base_msat: u32,
    /// Its fee per million.
    pub fee_proportional_millionths: u32,
    /// How many blocks it adds to the expiry.
    pub cltv_expiry_delta_blocks: u16,
}

/// A field of a type we do not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraField {
    /// Its letter.
    pub tag: char,
    /// Its content in bech32 letters.
    pub data: String,
}

/// Why an invoice cannot be read, made or used; in words for the person who has it in hand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum InvoiceError {
    #[error("the invoice is longer than 7089 characters")]
    TooLong,
    #[error("this is not an invoice: {0}")]
    NotBech32(&'static str),
    #[error("the invoice is damaged: its checksum does not match")]
    Checksum,
    #[error("the invoice is cut short")]
    TooShort,
    #[error("this is not an invoice: it does not begin with \"ln\"")]
    Prefix,
    #[error("the invoice is for a chain that is not known here (\"{0}\")")]
    UnknownCurrency(String),
    #[error("the invoice is for {found}, not for {expected}")]
    WrongCurrency { found: Currency, expected: Currency },
    #[error("the invoice's amount makes no sense")]
    Amount,
    #[error("the invoice asks for a fraction of a millisatoshi")]
    SubMillisatoshi,
    #[error("the invoice's field \"{0}\" has the wrong length")]
    FieldLength(char),
    #[error("the invoice makes no sense: {0}")]
    Field(&'static str),
    #[error("the invoice is not written in the shortest way, as it must be")]
    NotMinimal,
    #[error("the invoice has no payment hash")]
    NoPaymentHash,
    #[error("the invoice has blinded paths and beside them {0}, which must not be")]
    BesidePaths(&'static str),
    #[error("the invoice has no payment secret, so it cannot be paid safely")]
    NoPaymentSecret,
    #[error("the invoice must have either a description or its hash, and only one of them")]
    Description,
    #[error("the invoice requires feature {0}, which is not known here")]
    UnknownFeature(u32),
    #[error("the invoice offers {feature} without {needs}, which that needs")]
    MissingFeature { feature: &'static str, needs: &'static str },
    #[error("the invoice's signature does not hold")]
    Signature,
    #[error("{what} takes {bytes} bytes, an invoice holds {MAX_FIELD_BYTES}")]
    TooLongToMake { what: &'static str, bytes: usize },
    #[error("the time is beyond what an invoice can say")]
    Timestamp,
}

impl Invoice {
    /// Whether it holds no longer at `now_s`, in seconds since the Unix epoch (BOLT 11, "Payer / Payee Requirements").
    pub fn is_expired(&self, now_s: u64) -> bool {
        now_s > self.expires_at_s()
    }

    /// The last second at which it holds, since the Unix epoch.
    pub fn expires_at_s(&self) -> u64 {
        self.timestamp_s.saturating_add(self.expiry_s)
    }

    /// Refuses an invoice for another chain.
    ///
    /// # Errors
    /// [`InvoiceError::WrongCurrency`].
    pub fn require_currency(&self, expected: Currency) -> Result<(), InvoiceError> {
        if self.currency == expected {
            return Ok(());
        }
        Err(InvoiceError::WrongCurrency { found: self.currency, expected })
    }

    /// The address of one of its fallbacks; `None` for a script that has none.
    pub fn fallback_address(&self, script: &ScriptBuf) -> Option<String> {
        crate::address::write(script, self.currency.network())
    }
}

/// What kind of address a fallback is, as `decode` names it; `None` for a witness version without a name.
pub fn fallback_kind(script: &ScriptBuf) -> Option<&'static str> {
    let kinds: [(bool, &'static str); 5] = [
        (script.is_p2pkh(), "P2PKH"),
        (script.is_p2sh(), "P2SH"),
        (script.is_p2wpkh(), "P2WPKH"),
        (script.is_p2wsh(), "P2WSH"),
        (script.is_p2tr(), "P2TR"),
    ];
    kinds.into_iter().find(|(matches, _)| *matches).map(|(_, name)| name)
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Control and direction marks must not reach a terminal as they are.
            Description::Text(text) => text.escape_debug().fmt(f),
            Description::Hash(hash) => write!(f, "hash {}", crate::id::to_hex(hash)),
        }
    }
}
