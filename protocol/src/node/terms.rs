//! What a hop that gave an HTLC back now asks for, by the `channel_update` in its failure (BOLT 4, "Returning Errors").
//!
//! In: a part that came back, which hop says why, and its failure. Out: that hop's terms, for this payment's next tries and
//! nothing else – they reach neither the graph nor anybody else, so that no hop can mark a payer by terms of its own.
//! Believed are terms that the erring node signed, for the very channel and direction that the onion named, and that what was
//! sent does not meet: who refuses what keeps its own terms is at fault. Read next: `routes`, which believes once a channel.

use crate::gossip::graph::{Direction, Policy};
use crate::id::{NodeId, ShortChannelId};
use crate::node::payments::Part;
use crate::onion::Failure;
use crate::sign::Crypto;
use crate::units::Msat;
use crate::wire::gossip::signed_digest;
use crate::wire::Message;

/// The type of `channel_update`, which some nodes leave out in failures.
const UPDATE_TYPE: [u8; 2] = 258u16.to_be_bytes();

/// What a channel asks for, as its owner told us alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// Its name, as the onion had it.
    pub channel: ShortChannelId,
    /// Who asks.
    pub from: NodeId,
    /// For sending on to whom.
    pub to: NodeId,
    /// The terms.
    pub policy: Policy,
}

/// What one hop of a route had to do.
#[derive(Clone, Copy, Debug)]
struct Duty {
    /// Who it was.
    node: NodeId,
    /// Over this channel.
    channel: ShortChannelId,
    /// To whom.
    next: NodeId,
    /// What came to it, and what was to go on.
    amounts: (Msat, Msat),
    /// Blocks between the expiries of the two.
    blocks: u32,
}

/// The terms in a failure of the hop at this place of a part's route.
// BOLT 4 [4.receive.2].
pub(super) fn told(
    crypto: &dyn Crypto,
    chain_hash: &[u8; 32],
    part: &Part,
    at: usize,
    failure: &Failure,
) -> Option<Told> {
    let (here, next) = (part.route.get(at)?, part.route.get(at.checked_add(1)?)?);
    let duty = Duty {
        node: here.id,
        channel: next.channel?,
        next: next.id,
        amounts: (here.amount_msat, next.amount_msat),
        blocks: here.delay_blocks.saturating_sub(next.delay_blocks),
    };
    believed(crypto, chain_hash, &duty, failure.channel_update()?)
}

fn believed(crypto: &dyn Crypto, chain_hash: &[u8; 32], duty: &Duty, bytes: &[u8]) -> Option<Told> {
    let typed = bytes.starts_with(&UPDATE_TYPE).then(|| bytes.to_vec());
    let bytes = typed.unwrap_or_else(|| [&UPDATE_TYPE, bytes].concat());
    let Ok(Message::ChannelUpdate(m)) = Message::decode(&bytes) else { return None };
    let named = (m.chain_hash, m.short_channel_id, Direction::from_flags(m.channel_flags));
    if named != (*chain_hash, duty.channel, Direction::between(&duty.node, &duty.next)) || m.is_disabled() {
        return None;
    }
    let policy = Policy::from(&m);
    if duty.meets(&policy) {
        return None;
    }
    let digest = signed_digest(&bytes, 1)?;
    let signed = crypto.verify(&digest, &m.signature, &duty.node.0);
    signed.then_some(Told { channel: duty.channel, from: duty.node, to: duty.next, policy })
}

impl Duty {
    /// Whether what was sent is what these terms ask for.
    fn meets(&self, policy: &Policy) -> bool {
        let (came, goes) = self.amounts;
        let needed = policy.fee(goes).and_then(|fee| goes.checked_add(fee));
        needed.is_some_and(|needed| came >= needed)
            && self.blocks >= u32::from(policy.cltv_expiry_delta)
            && goes >= policy.htlc_minimum
            && goes <= policy.htlc_maximum
    }
}

#[cfg(test)]
mod tests;
