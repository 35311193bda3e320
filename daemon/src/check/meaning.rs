//! What a record that cannot be read means for the money.
//!
//! In: its key. Out: what it was, and a sentence for whoever must decide what to do now. Read next: `super`.

use chand_protocol::record::{channel_of, Kind};

/// What this record was, and what its loss means.
pub(super) fn of(key: &[u8]) -> (String, &'static str) {
    let Some(kind) = Kind::of(key) else {
        return (
            "a record of an unknown kind".into(),
            "written by a later version, or damage: run the version that wrote it",
        );
    };
    let (what, meaning) = words(kind);
    let what = match channel_of(key).filter(|_| is_of_channel(kind)) {
        Some(channel) => format!("{what} of channel {channel}"),
        None => what.into(),
    };
    (what, meaning)
}

/// Its key begins with a channel's id.
pub(super) const fn is_of_channel(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::Peer
            | Kind::Invoice
            | Kind::Counters
            | Kind::Block
            | Kind::Wallet
            | Kind::Payment
            | Kind::NodeAnnounced
            | Kind::Runes
            | Kind::Rune
            | Kind::Account
    )
}

const CHANNEL: &str = "money is at stake: the newest state of this channel is not known for sure, and an older one must never be \
    published. Keep the folder as it is; the peer can close the channel and pay out what is ours";
const PENALTY: &str = "a cheat could not be punished in full: should the peer publish an old state of this channel, a part of it would be \
    lost. Close the channel by agreement as soon as the node runs again";
const PAST: &str = "no money: lists lack a part of the past";

fn words(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        // What a channel lacks, or what contradicts its terms, is found when it is put together.
        Kind::Terms => ("the terms, the state or what must fit them", CHANNEL),
        Kind::State => ("the state", CHANNEL),
        Kind::Signatures => ("the peer's signatures on our newest commitment", CHANNEL),
        Kind::Htlc => ("a pending HTLC", CHANNEL),
        Kind::Onion => (
            "the onion of a pending HTLC",
            "the payment in it may not be given back or sent on; at its expiry the chain decides",
        ),
        Kind::Watch => (
            "what is watched on chain",
            "money is at stake: claims on outputs of a published commitment are not made. Keep the folder as it is",
        ),
        Kind::Past => ("an HTLC of the past", PENALTY),
        Kind::Secret => ("a secret that the peer revealed", PENALTY),
        Kind::TowerMark | Kind::TowerNote => {
            ("what a watchtower is to know", "no money: towers may lack a state, and listwatchtowers says which")
        }
        Kind::FundingTx => (
            "a funding transaction",
            "the coins in it are still the wallet's, or in the channel if it is in a block; it is not offered again",
        ),
        Kind::Reserved => ("a funding transaction in the making", "its coins stay reserved until they are spent otherwise"),
        Kind::Snapshot | Kind::Annals | Kind::ClosedChannel => ("a piece of the history", PAST),
        Kind::Aliases => (
            "what both ends call a channel",
            "no money: payments on their way by that name are given back, and invoices that hold it may not be paid",
        ),
        Kind::Announce => ("what the network is told", "no money: the channel may be announced again late"),
        Kind::Invoice => (
            "an invoice",
            "a payment of it that comes would be given back; one that was paid is in the channel's balance all the same",
        ),
        Kind::Payment => (
            "a payment",
            "whether it arrived is not known here: ask the payee before paying again. Balances are those of the channels",
        ),
        Kind::Forward => ("a forward", "one under way may not be settled with its payer: up to its amount is at stake"),
        Kind::Counters => ("the counters", "numbers could be given twice; keys of a new channel with them: do not start with it"),
        Kind::Block => ("the place in the chain", "no money: blocks are read again"),
        Kind::Peer => ("a peer's address", "no money: name the address to connect again"),
        Kind::Wallet => (
            "a change of the wallet",
            "coins on chain may not be shown; the seed's 24 words give all of them back",
        ),
        Kind::Runes | Kind::Rune => {
            ("what is known of runes", "no money of itself: runes that were refused might be taken again. Refuse them anew")
        }
        Kind::Account => ("what was spent of a rune's budget", "whoever has the rune could spend what it allows once more"),
        Kind::PeerBlob => ("what is kept for a peer", "no money of ours: the peer gives it anew"),
        Kind::Recovered => ("that this node was made from words", "no money: blocks may have to be read again by hand"),
        Kind::NodeAnnounced => ("when we last told who we are", "no money"),
    }
}
