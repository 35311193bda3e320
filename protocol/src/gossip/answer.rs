//! Being asked: what a peer's queries get (BOLT 7, "Query Messages").
//!
//! In: `query_short_channel_ids`, `query_channel_range`. Out: the answers, bit by bit as the link takes them, one query of
//! each kind at a time. Read next: `sync`, the other side of it.

use crate::gossip::peers::Peer;
use crate::gossip::store::NodeKey;
use crate::gossip::Gossip;
use crate::id::{LinkId, ShortChannelId};
use crate::units::Height;
use crate::wire::gossip::{
    QueryChannelRange, QueryShortChannelIds, ReplyChannelRange, ReplyShortChannelIdsEnd, ShortChannelIds,
    UpdateChecksums, UpdateTimestamps,
};
use crate::wire::Message;
use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec;
use alloc::vec::Vec;

/// Channels in one `reply_channel_range`: with two timestamps each they fit a message.
const RANGE_IDS: usize = 4_000;
/// And with two checksums each as well.
const RANGE_IDS_SUMMED: usize = 2_700;
/// Everything about a channel.
pub(super) const ALL_FLAGS: u64 = 0b1_1111;
/// What a question for ranges costs who asks. One for channels costs one for each.
const RANGE: u32 = 1_000;
/// What is not summed: type and signature in front, and the timestamp after chain hash and channel.
const UNSUMMED: (usize, usize, usize) = (2 + 64, 2 + 64 + 32 + 8, 2 + 64 + 32 + 8 + 4);
/// The polynomial of CRC-32C, its bits in reverse.
const CASTAGNOLI: u32 = 0x82f6_3b78;

/// A `query_short_channel_ids` under way.
#[derive(Debug)]
pub(super) struct Answer {
    left: VecDeque<(ShortChannelId, u64)>,
    /// Nodes that were told of.
    told: BTreeSet<NodeKey>,
}

/// A `query_channel_range` under way.
#[derive(Debug)]
pub(super) struct Range {
    query: QueryChannelRange,
    /// What comes next.
    from: ShortChannelId,
    /// The block at which the next reply begins.
    block: u32,
}

impl Gossip {
    pub(super) fn on_query_ids(&mut self, link: LinkId, m: QueryShortChannelIds) {
        let flags = m.query_flags.as_ref().map(|flags| &flags.0);
        if flags.is_some_and(|flags| flags.len() != m.short_channel_ids.0.len()) {
            return self.warn(link, "query_short_channel_ids: not one flag for each channel");
        }
        if m.chain_hash != self.settings.chain_hash {
            // BOLT 7 [7.query.12].
            let end = ReplyShortChannelIdsEnd { chain_hash: m.chain_hash, full_information: 0 };
            return self.send(link, &Message::ReplyShortChannelIdsEnd(end));
        }
        let flags = flags.map(|flags| flags.as_slice());
        let wanted = m.short_channel_ids.0.iter().enumerate();
        let left =
            wanted.map(|(at, scid)| (*scid, flags.and_then(|f| f.get(at)).copied().unwrap_or(ALL_FLAGS)));
        let left = left.collect();
        let Some(peer) = self.peers.get_mut(&link) else { return };
        if peer.answer.is_some() {
            return self.warn(link, "query_short_channel_ids: the one before is not answered yet");
        }
        peer.answer = Some(Answer { left, told: BTreeSet::new() });
        self.charge_with(link, u32::try_from(m.short_channel_ids.0.len()).unwrap_or(u32::MAX));
    }

    /// All about the next channel asked for, or the end.
    pub(super) fn next_of_answer(&self, peer: &mut Peer) -> Option<Vec<Box<[u8]>>> {
        let answer = peer.answer.as_mut()?;
        let Some((scid, flags)) = answer.left.pop_front() else {
            peer.answer = None;
            // BOLT 7 [7.query.11].
            let end = ReplyShortChannelIdsEnd { chain_hash: self.settings.chain_hash, full_information: 1 };
            return encoded(&Message::ReplyShortChannelIdsEnd(end));
        };
        let mut batch = Vec::new();
        let Some(channel) = self.store.channel(&scid).filter(|c| c.newest().is_some()) else {
            return Some(batch);
        };
        // BOLT 7 [7.query.6, 7.query.7, 7.query.8, 7.query.9, 7.query.10].
        if flags & 1 != 0 {
            batch.push(channel.announcement.clone());
        }
        for (at, update) in channel.updates.iter().enumerate() {
            if flags >> (1 + at) & 1 != 0 {
                batch.extend(update.as_ref().map(|u| u.bytes.clone()));
            }
        }
        for (at, id) in channel.nodes.iter().enumerate() {
            let key = id.0.serialize();
            if flags >> (3 + at) & 1 != 0 && answer.told.insert(key) {
                let told = self.store.told(&key).filter(|told| told.passed_on);
                batch.extend(told.map(|t| t.bytes.clone()));
            }
        }
        Some(batch)
    }

    pub(super) fn on_query_range(&mut self, link: LinkId, m: &QueryChannelRange) {
        if m.chain_hash != self.settings.chain_hash {
            let reply = ReplyChannelRange {
                chain_hash: m.chain_hash,
                first_blocknum: m.first_blocknum,
                number_of_blocks: m.number_of_blocks,
                sync_complete: 1,
                short_channel_ids: ShortChannelIds::default(),
                timestamps: None,
                checksums: None,
            };
            return self.send(link, &Message::ReplyChannelRange(reply));
        }
        let Some(peer) = self.peers.get_mut(&link) else { return };
        if peer.range.is_some() {
            return self.warn(link, "query_channel_range: the one before is not answered yet");
        }
        let block = m.first_blocknum.0;
        peer.range = Some(Range { query: m.clone(), from: first_in(block), block });
        self.charge_with(link, RANGE);
    }

    /// The next reply: as many channels as fit, and the blocks that they are all of.
    pub(super) fn next_of_range(&self, peer: &mut Peer) -> Option<Vec<Box<[u8]>>> {
        let range = peer.range.take()?;
        let (first, count) = (range.query.first_blocknum.0, range.query.number_of_blocks);
        let end = first.saturating_add(count);
        let told =
            self.store.channels_from(range.from).filter(|(_, c)| c.newest().is_some() && c.spent.is_none());
        let option = range.query.query_option.map_or(0, |option| option.0);
        let (wants_stamps, wants_sums) = (option & 1 != 0, option & 2 != 0);
        let most = if wants_sums { RANGE_IDS_SUMMED } else { RANGE_IDS };
        let (mut ids, mut stamps, mut sums, mut next) = (Vec::new(), Vec::new(), Vec::new(), None);
        for (scid, channel) in told.take_while(|(scid, _)| block_of(**scid) < end) {
            if ids.len() == most {
                next = Some(*scid);
                break;
            }
            ids.push(*scid);
            let stamp = |at: usize| channel.updates[at].as_ref().map_or(0, |u| u.timestamp);
            stamps.push((stamp(0), stamp(1)));
            if wants_sums {
                let sum = |at: usize| channel.updates[at].as_ref().map_or(0, |u| checksum(&u.bytes));
                sums.push((sum(0), sum(1)));
            }
        }
        // A block may be spread over two replies.
        let last = ids.last().map_or(range.block, |scid| block_of(*scid));
        let number_of_blocks = match next {
            // BOLT 7 [7.query.23].
            Some(_) => last.saturating_sub(range.block).saturating_add(1),
            // BOLT 7 [7.query.28].
            None => first.saturating_add(count).saturating_sub(range.block).max(1),
        };
        // BOLT 7 [7.query.22, 7.query.24, 7.query.25, 7.query.26, 7.query.27, 7.query.29, 7.query.30].
        let reply = ReplyChannelRange {
            chain_hash: range.query.chain_hash,
            first_blocknum: Height(range.block),
            number_of_blocks,
            sync_complete: u8::from(next.is_none()),
            short_channel_ids: ShortChannelIds(ids),
            timestamps: wants_stamps.then_some(UpdateTimestamps(stamps)),
            checksums: wants_sums.then_some(UpdateChecksums(sums)),
        };
        if let Some(from) = next {
            let block = if block_of(from) == last { last } else { last.saturating_add(1) };
            peer.range = Some(Range { query: range.query, from, block });
        }
        encoded(&Message::ReplyChannelRange(reply))
    }
}

/// What an update says apart from when: the same for two that differ in signature and timestamp alone.
fn checksum(update: &[u8]) -> u32 {
    let (from, stamp, after) = UNSUMMED;
    crc32c(&[update.get(from..stamp).unwrap_or_default(), update.get(after..).unwrap_or_default()])
}

/// CRC-32C of each byte.
const SUMS: [u32; 256] = sums();

const fn sums() -> [u32; 256] {
    let mut all = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut sum, mut bit) = (byte as u32, 0);
        while bit < 8 {
            sum = sum >> 1 ^ if sum & 1 == 1 { CASTAGNOLI } else { 0 };
            bit += 1;
        }
        all[byte] = sum;
        byte += 1;
    }
    all
}

/// CRC-32C (RFC 3720) of all of it, one after the other.
fn crc32c(parts: &[&[u8]]) -> u32 {
    let step = |sum: u32, byte: &u8| sum >> 8 ^ SUMS[usize::from(sum as u8 ^ byte)];
    !parts.iter().flat_map(|part| part.iter()).fold(u32::MAX, step)
}

fn encoded(message: &Message) -> Option<Vec<Box<[u8]>>> {
    Some(vec![message.encode().ok()?.into_boxed_slice()])
}

fn block_of(scid: ShortChannelId) -> u32 {
    (scid.0 >> 40) as u32
}

/// The first name that a channel of this block can have.
fn first_in(block: u32) -> ShortChannelId {
    ShortChannelId(u64::from(block.min((1 << 24) - 1)) << 40)
}

#[cfg(test)]
mod tests {
    use super::crc32c;

    #[test]
    fn the_checksum_is_that_of_rfc_3720() {
        // The check value of the polynomial, and the first test of RFC 3720, B.4.
        assert_eq!(crc32c(&[b"1234", b"56789"]), 0xe306_9283);
        assert_eq!(crc32c(&[&[0; 32]]), 0x8a91_36aa);
    }
}
