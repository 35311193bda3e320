//! RPC errors with bitcoind's codes.
//!
//! In: what the layers below refuse. Out: [`RpcError`]. Read next: `call`.

use thiserror::Error;

use crate::regtest::faucet_spend::PayError;
use crate::regtest::mempool::{Reject, RejectKind};
use crate::regtest::node::Broken;
use crate::regtest::RegtestError;

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message} ({code})")]
pub struct RpcError {
    /// bitcoind's code.
    pub code: i64,
    /// What it says.
    pub message: String,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        impl RpcError {
            $($(#[$doc])* pub fn $name(message: impl Into<String>) -> RpcError {
                RpcError { code: $code, message: message.into() }
            })*
        }
    };
}

codes! {
    /// Anything else, such as missing parameters.
    misc = -1;
    /// A value of the wrong type.
    wrong_type = -3;
    /// The wallet cannot do it.
    wallet = -4;
    /// An address, key, transaction or block that is not there.
    not_found = -5;
    /// Not enough money.
    funds = -6;
    /// A value out of range.
    bad_value = -8;
    /// Bytes that do not decode.
    decode = -22;
    /// A transaction or block fails a check.
    verify = -25;
    /// The pool's policy or consensus refuses a transaction.
    rejected = -26;
    /// A transaction is in the chain already.
    in_chain = -27;
    /// The wallet is loaded already.
    loaded = -35;
    /// No such method.
    no_method = -32601;
    /// Not a request.
    bad_request = -32600;
    /// Not JSON.
    parse = -32700;
    /// Our own fault.
    internal = -32603;
}

impl From<Broken> for RpcError {
    fn from(broken: Broken) -> RpcError {
        RpcError::internal(broken.to_string())
    }
}

impl From<Reject> for RpcError {
    fn from(reject: Reject) -> RpcError {
        match reject.kind {
            RejectKind::MissingInputs => RpcError::verify(reject.to_string()),
            RejectKind::InChain => RpcError::in_chain("Transaction outputs already in utxo set"),
            RejectKind::Rejected | RejectKind::Reconsiderable | RejectKind::InPool => {
                RpcError::rejected(reject.to_string())
            }
        }
    }
}

impl From<PayError> for RpcError {
    fn from(fault: PayError) -> RpcError {
        match fault {
            PayError::Funds | PayError::TooSmall => RpcError::funds(fault.to_string()),
            PayError::Rejected(_) | PayError::Wallet(_) | PayError::Signing => {
                RpcError::wallet(fault.to_string())
            }
        }
    }
}

impl From<RegtestError> for RpcError {
    fn from(fault: RegtestError) -> RpcError {
        RpcError::wallet(fault.to_string())
    }
}
