//! Names for channels that tell nothing (BOLT 2, "The `channel_ready` Message"; `option_scid_alias`).
//!
//! In: channels without a name, names in onions and in orders. Out: names that no channel of this node has, nor ever will by its
//! place on chain; and the channel that is meant. A name is kept in the batch that first says it, or before.
//! Read next: `crate::channel::alias`.

use crate::channel::Channel;
use crate::gossip::graph::Direction;
use crate::id::{ChannelId, NodeId, ShortChannelId};
use crate::node::effect::Level;
use crate::node::Node;
use crate::wire::features::Feature;
use crate::wire::Message;
use alloc::string::ToString;
use alloc::vec::Vec;

/// Blocks that no chain here reaches in three hundred years; others take aliases from there, too.
const FIRST_BLOCK: u64 = 16_000_000;
/// Of the numbers that a block may have, those from there on.
const BLOCKS: u64 = (1 << 24) - FIRST_BLOCK;
/// Place in the block and in the transaction.
const REST_BITS: u32 = 40;

/// A name from random numbers, the first that is not taken.
fn fresh(mut draw: impl FnMut() -> u64, taken: impl Fn(ShortChannelId) -> bool) -> ShortChannelId {
    loop {
        let number = draw();
        let block = FIRST_BLOCK + (number >> REST_BITS) % BLOCKS;
        let name = ShortChannelId(block << REST_BITS | number & ((1 << REST_BITS) - 1));
        if !taken(name) {
            return name;
        }
    }
}

impl Node {
    /// Gives a channel a name, unless it has one.
    pub(super) fn give_alias(&mut self, id: ChannelId) {
        if self.channels.get(&id).is_none_or(|c| c.alias().is_some()) {
            return;
        }
        // BOLT 2 [2.ready.4, 2.ready.5].
        let (entropy, channels) = (&mut self.entropy, &self.channels);
        let name = fresh(|| entropy.u64(), |name| channels.values().any(|c| c.is_called(name)));
        self.touched.insert(id);
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.set_alias(name);
        }
    }

    /// After `channel_reestablish`: a peer that knows aliases hears of one that it was never told.
    pub(super) fn tell_alias(&mut self, id: ChannelId) {
        let peer = self.channels.get(&id).map(|c| c.terms.peer);
        if peer.is_some_and(|peer| self.negotiated(&peer, Feature::ScidAlias)) {
            if let Some(Err(fault)) = self.act(id, |c, cx, out| c.tell_alias(cx, out)) {
                self.local_fault(id, &fault);
            }
        }
    }

    /// The channel that an onion names.
    pub(super) fn by_scid(&self, name: ShortChannelId) -> Option<&Channel> {
        self.channels.values().find(|c| !c.retired && c.is_hop(name))
    }

    /// Channels with their directions, ours by the names that ways begin with.
    pub(super) fn as_we_call_them(
        &self,
        channels: Vec<(ShortChannelId, Direction)>,
    ) -> Vec<(ShortChannelId, Direction)> {
        let called = |name| {
            let ours = self.channels.values().find(|c| c.alias() == Some(name));
            ours.and_then(Channel::own_name).unwrap_or(name)
        };
        channels.into_iter().map(|(name, way)| (called(name), way)).collect()
    }

    /// The peer refused an opening: once more without `option_scid_alias`, if that was our idea. `false` when there is nothing
    /// left to try.
    pub(super) fn reopen_without_alias(&mut self, key: (NodeId, ChannelId)) -> bool {
        let Some((request, wishes, command)) = self.openings.get(&key).and_then(|o| o.without_alias()) else {
            return false;
        };
        let Ok((mut opening, message)) = self.start_opening(key.0, &request, wishes) else { return false };
        opening.command = command;
        opening.by_hand = self.openings.get(&key).is_some_and(|o| o.by_hand);
        self.openings.remove(&key);
        let text = "the channel is asked for again without scid_alias".to_string();
        self.notice_about(Level::Info, text, key.0, None);
        self.openings.insert((key.0, opening.temporary_channel_id), opening);
        self.send(key.0, Message::OpenChannel(message));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_is_drawn_again() {
        // BOLT 2 [2.ready.5].
        let mut numbers = [7, 7, 9].into_iter();
        let first = fresh(|| numbers.next().unwrap(), |_| false);
        let second = fresh(|| numbers.next().unwrap(), |name| name == first);
        assert_ne!(first, second);
        assert_eq!(numbers.next(), None, "drawn twice");
    }

    #[test]
    fn names_are_of_blocks_that_never_come_and_no_number_is_lost() {
        // BOLT 2 [2.ready.4].
        for number in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef, BLOCKS << REST_BITS, (BLOCKS - 1) << REST_BITS]
        {
            let name = fresh(|| number, |_| false).0;
            assert!(name >> REST_BITS >= FIRST_BLOCK && name >> REST_BITS < 1 << 24, "{number:x}");
            assert_eq!(name << 24, number << 24, "place in block and transaction are random, too");
        }
    }
}
