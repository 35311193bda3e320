//! The methods of partially signed transactions, of channels that these fund, and of fees raised.
//!
//! In: nothing. Out: a row a method, like those of `list`.
//! Read next: `crate::rpc::call::psbt`.

use super::{opt, req, Method, DRY_RUN};
use crate::rpc::call::{open, psbt};
use crate::rpc::params::{Kind, Param};

const PSBT: Param = req("psbt", Kind::Psbt, "a PSBT of version 0 (BIP 174)");
const SATOSHI: Param = req("satoshi", Kind::SatOrAll, "what the coins are to bring beyond the fee, or `all`");
const FEERATE: Param = req("feerate", Kind::Feerate, "of the whole transaction");
const STARTWEIGHT: Param =
    req("startweight", Kind::U32, "what the transaction weighs without the wallet's inputs");
const RESERVE: Param = opt("reserve", Kind::U32, "72", "put the coins aside for so many blocks; 0: do not");
const LOCKTIME: Param = opt("locktime", Kind::U32, "the newest block's height", "of the transaction");
const MIN_WITNESS_WEIGHT: Param =
    opt("min_witness_weight", Kind::U32, "as it is", "count each of our witnesses as at least so heavy");
const EXCESS_AS_CHANGE: Param = opt(
    "excess_as_change",
    Kind::Bool,
    "false",
    "what is too much comes back to the wallet when it is worth an output",
);
const OPENING_ANCHOR_CHANNEL: Param =
    opt("opening_anchor_channel", Kind::Bool, "false", "keep back the share of one more channel");

/// All of them.
pub(super) const LIST: &[Method] = &[
    method!(
        "fundpsbt",
        "wallet",
        "Coins of the wallet in a PSBT, for others to complete.",
        psbt::fundpsbt,
        [
            SATOSHI,
            FEERATE,
            STARTWEIGHT,
            opt("minconf", Kind::U32, "1", "how deep the coins spent must be"),
            RESERVE,
            LOCKTIME,
            MIN_WITNESS_WEIGHT,
            EXCESS_AS_CHANGE,
            opt("nonwrapped", Kind::Bool, "false", "has no effect: no coin of chand's is wrapped in p2sh"),
            OPENING_ANCHOR_CHANNEL,
            DRY_RUN,
        ]
    ),
    method!(
        "utxopsbt",
        "wallet",
        "These coins of the wallet in a PSBT, for others to complete.",
        psbt::utxopsbt,
        [
            SATOSHI,
            FEERATE,
            STARTWEIGHT,
            req("utxos", Kind::Outpoints, "the coins; all of them are taken, what is kept back, too"),
            RESERVE,
            opt("reservedok", Kind::Bool, "false", "take coins that are put aside already"),
            LOCKTIME,
            MIN_WITNESS_WEIGHT,
            EXCESS_AS_CHANGE,
            OPENING_ANCHOR_CHANNEL,
            DRY_RUN,
        ]
    ),
    method!(
        "addpsbtoutput",
        "wallet",
        "One more output in a PSBT, or in a new one.",
        psbt::addpsbtoutput,
        [
            req("satoshi", Kind::Sat, "what it holds"),
            opt("initialpsbt", Kind::Psbt, "a new one", "the PSBT, unsigned"),
            opt("locktime", Kind::U32, "the newest block's height", "of a new one"),
            opt("destination", Kind::Text, "the wallet", "the address it pays to"),
        ]
    ),
    method!(
        "reserveinputs",
        "wallet",
        "Put the wallet's coins in a PSBT aside, so that nothing else spends them.",
        psbt::reserveinputs,
        [
            PSBT,
            opt("exclusive", Kind::Bool, "true", "fail when one is put aside already"),
            opt("reserve", Kind::U32, "72", "for so many blocks"),
        ]
    ),
    method!(
        "unreserveinputs",
        "wallet",
        "Free the wallet's coins in a PSBT.",
        psbt::unreserveinputs,
        [PSBT, opt("reserve", Kind::U32, "72", "for so many blocks less"),]
    ),
    method!(
        "signpsbt",
        "wallet",
        "Sign the wallet's inputs of a PSBT; they must be put aside.",
        psbt::signpsbt,
        [PSBT, opt("signonly", Kind::Bits, "all of ours", "sign only the inputs of these numbers"),]
    ),
    method!(
        "sendpsbt",
        "wallet",
        "Send the transaction of a PSBT that is signed by all.",
        psbt::sendpsbt,
        [PSBT, opt("reserve", Kind::U32, "72", "put our coins in it aside for so many blocks more"), DRY_RUN,]
    ),
    method!(
        "bumpfee",
        "wallet",
        "(chand) Raise the fee of a transaction in no block: by a replacement, or by a child that carries it.",
        psbt::bumpfee,
        [
            req("txid", Kind::Txid, "a withdrawal, a channel's funding, or a payment to this wallet"),
            opt("feerate", Kind::Feerate, "urgent", "what it, or it with its child, is to pay"),
            DRY_RUN,
        ]
    ),
    method!(
        "fundchannel_start",
        "channels",
        "Begin a channel that a transaction from elsewhere will fund; nothing may be sent yet.",
        open::fundchannel_start,
        [
            req("id", Kind::NodeId, "the node, connected"),
            req("amount", Kind::Sat, "exactly what the funding output will hold"),
            opt("feerate", Kind::Feerate, "normal", "of the first commitment"),
            opt(
                "announce",
                Kind::Bool,
                "true",
                "ask for a public channel: announced once it is six blocks deep"
            ),
            opt("close_to", Kind::Text, "the wallet", "the address our part goes to when the channel closes"),
            opt(
                "push_msat",
                Kind::Msat,
                "0",
                "given to the peer at the start: a gift, it does not come back"
            ),
            opt("mindepth", Kind::U32, "--funding-confirms", "confirmations before the channel is used"),
            opt("reserve", Kind::Sat, "1 %", "what the peer must always keep in the channel"),
            opt(
                "channel_type",
                Kind::Bits,
                "anchors if both can; not announced, with scid_alias",
                "[12] static_remotekey, [12,22] with anchors; with 46 too, scid_alias"
            ),
        ]
    ),
    method!(
        "fundchannel_complete",
        "channels",
        "Name the transaction that funds it; once this has succeeded it may be sent, best with sendpsbt.",
        open::fundchannel_complete,
        [
            req("id", Kind::NodeId, "the node"),
            req("psbt", Kind::Psbt, "complete but for signatures; every input must be segwit"),
            opt("withhold", Kind::Bool, "true", "has no effect: a channel is withheld until sendpsbt, or its block"),
        ]
    ),
    method!(
        "fundchannel_cancel",
        "channels",
        "Give such a channel up, before its funding transaction is sent.",
        open::fundchannel_cancel,
        [req("id", Kind::NodeId, "the node"),]
    ),
];
