//! The gossip machine, driven by bytes: announcements true and false, queries, blocks, time, links that come and go.
//!
//! In: decisions. Out: nothing, or a panic: what waits stays bounded, store and graph agree, what was kept makes the same
//! store again, and nothing of others goes to a link that did not ask.
//! Read next: `chand_protocol::gossip`.

use super::feed::Feed;
use super::hunt::saw;
use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, ScriptBuf, Txid};
use chand_protocol::chain::Network;
use chand_protocol::gossip::{Action, Event, Gossip, Kept, News, Settings, Spoken, Store, Utxo};
use chand_protocol::id::{LinkId, NodeId, ShortChannelId};
use chand_protocol::tx::script;
use chand_protocol::units::{Height, Msat, Sat, Timestamp};
use chand_protocol::wire::features::Features;
use chand_protocol::wire::gossip::*;
use chand_protocol::wire::Message;
use secp256k1::ecdsa::Signature;
use secp256k1::{PublicKey, Secp256k1, SecretKey};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

const START_S: u64 = 1_700_000_000;
const MAX_OPERATIONS: usize = 400;
const NODES: usize = 6;

/// Keys of the few nodes there are, in lexical order.
fn keys() -> &'static [PublicKey; NODES] {
    static KEYS: OnceLock<[PublicKey; NODES]> = OnceLock::new();
    KEYS.get_or_init(|| {
        let secp = Secp256k1::signing_only();
        let mut keys: Vec<PublicKey> = (1..=NODES as u8)
            .map(|n| SecretKey::from_slice(&[n; 32]).expect("a key").public_key(&secp))
            .collect();
        keys.sort_by_key(PublicKey::serialize);
        keys.try_into().expect("as many as there are")
    })
}

fn node(n: usize) -> NodeId {
    NodeId(keys()[n % NODES])
}

fn signature(n: u8) -> Signature {
    Signature::from_compact(&[n.clamp(1, 100); 64]).expect("two small numbers")
}

fn scid(feed: &mut Feed<'_>) -> ShortChannelId {
    ShortChannelId(u64::from(feed.u8() % 8) << 40 | u64::from(feed.u8() % 3) << 16)
}

fn txid(scid: ShortChannelId) -> Txid {
    let mut bytes = [3; 32];
    bytes[..8].copy_from_slice(&scid.0.to_be_bytes());
    Txid::from_byte_array(bytes)
}

struct Play<'a> {
    feed: Feed<'a>,
    gossip: Gossip,
    now: Timestamp,
    height: u32,
    checks: Vec<u64>,
    looks: Vec<ShortChannelId>,
    asked: BTreeSet<LinkId>,
    kept: Vec<Kept>,
    seen: BTreeMap<u16, u32>,
}

/// Operations until the bytes are used up.
pub fn gossip(input: &[u8]) {
    let now = Timestamp(START_S * 1_000);
    let settings = Settings::new(Network::Regtest, node(0));
    let mut play = Play {
        feed: Feed::new(input),
        gossip: Gossip::new(settings, Store::new(), now),
        now,
        height: 0,
        checks: Vec::new(),
        looks: Vec::new(),
        asked: BTreeSet::new(),
        kept: Vec::new(),
        seen: BTreeMap::new(),
    };
    for _ in 0..MAX_OPERATIONS {
        if play.feed.is_empty() {
            break;
        }
        play.operate();
        play.judge();
    }
    play.finish();
}

impl Play<'_> {
    fn operate(&mut self) {
        let link = LinkId(u64::from(self.feed.u8() % 3));
        let event = match self.feed.u8() % 16 {
            0 => {
                let features = Features::of(if self.feed.u8().is_multiple_of(2) { &[7] } else { &[] });
                Event::News(News::Linked { peer: node(link.0 as usize + 1), link, features })
            }
            1 => {
                self.asked.remove(&link);
                Event::News(News::Unlinked { link })
            }
            2 => {
                self.height += u32::from(self.feed.u8() % 80);
                let scid = scid(&mut self.feed);
                let spent = vec![OutPoint { txid: txid(scid), vout: 0 }];
                Event::Block { height: Height(self.height), spent }
            }
            3 => Event::BlockGone { height: Height(self.height) },
            4 | 5 => match self.checks.pop() {
                Some(ticket) => Event::Verified { ticket, good: !self.feed.u8().is_multiple_of(16) },
                None => Event::Verified { ticket: self.feed.u64(), good: true },
            },
            6 => {
                let scid = self.looks.pop().unwrap_or(ShortChannelId(9));
                Event::LookedUp { scid, utxo: self.utxo(scid) }
            }
            7 => {
                self.now = self.now.plus_ms(u64::from(self.feed.u32() % 2_000_000));
                Event::BlockGone { height: Height(u32::MAX) }
            }
            8 => match Message::decode(self.feed.piece()) {
                Ok(message) => Event::Message { peer: node(1), link, message },
                Err(_) => return,
            },
            9 => self.own(),
            _ => {
                let message = self.message();
                if matches!(message, Message::GossipTimestampFilter(_) | Message::QueryShortChannelIds(_)) {
                    self.asked.insert(link);
                }
                Event::Message { peer: node(1), link, message }
            }
        };
        let actions = self.gossip.step(self.now, [event]);
        self.take(actions);
        for link in self.gossip.hungry() {
            let room = usize::from(self.feed.u16());
            let spoken = self.gossip.pump(link, room);
            spoken.into_iter().for_each(|s| self.hear(s));
        }
    }

    fn utxo(&mut self, scid: ShortChannelId) -> Utxo {
        match self.feed.u8() % 8 {
            0 => Utxo::Absent,
            1 => Utxo::Unknown,
            2 => Utxo::Found { txid: txid(scid), capacity: Sat(1), script: ScriptBuf::new() },
            _ => {
                let script = script::p2wsh(&script::funding(&keys()[0], &keys()[1]));
                Utxo::Found { txid: txid(scid), capacity: Sat(1_000_000), script }
            }
        }
    }

    fn announcement(&mut self, first: usize) -> ChannelAnnouncement {
        let second = first + 1 + usize::from(self.feed.u8()) % (NODES - 1 - first).max(1);
        let few = usize::from(self.feed.u8() % 4);
        ChannelAnnouncement {
            node_signature_1: signature(self.feed.u8()),
            node_signature_2: signature(1),
            bitcoin_signature_1: signature(1),
            bitcoin_signature_2: signature(1),
            features: self.feed.take(few).to_vec(),
            chain_hash: Network::Regtest.chain_hash(),
            short_channel_id: scid(&mut self.feed),
            node_id_1: node(first),
            node_id_2: node(second.min(NODES - 1)),
            bitcoin_key_1: keys()[0],
            bitcoin_key_2: keys()[1],
            tail: Vec::new(),
        }
    }

    fn update(&mut self) -> ChannelUpdate {
        ChannelUpdate {
            signature: signature(self.feed.u8()),
            chain_hash: Network::Regtest.chain_hash(),
            short_channel_id: scid(&mut self.feed),
            timestamp: (self.now.seconds() as u32)
                .wrapping_add(u32::from(self.feed.u16()))
                .wrapping_sub(40_000),
            message_flags: self.feed.u8() % 4,
            channel_flags: self.feed.u8() % 4,
            cltv_expiry_delta: self.feed.u16(),
            htlc_minimum_msat: Msat(self.feed.u64()),
            fee_base_msat: self.feed.u32(),
            fee_proportional_millionths: self.feed.u32(),
            htlc_maximum_msat: Msat(self.feed.u64()),
            tail: Vec::new(),
        }
    }

    fn introduction(&mut self, who: usize) -> NodeAnnouncement {
        NodeAnnouncement {
            signature: signature(1),
            features: Vec::new(),
            timestamp: (self.now.seconds() as u32).wrapping_sub(u32::from(self.feed.u16())),
            node_id: node(who),
            rgb_color: [0; 3],
            alias: [self.feed.u8(); 32],
            addresses: self.feed.piece().to_vec(),
            tail: Vec::new(),
        }
    }

    fn own(&mut self) -> Event {
        Event::News(match self.feed.u8() % 3 {
            0 => {
                let m = self.announcement(0);
                let funding = OutPoint { txid: txid(m.short_channel_id), vout: 0 };
                News::Channel { announcement: Box::new(m), funding, capacity: Sat(5) }
            }
            1 => News::Update(Box::new(self.update())),
            _ => News::Node(Box::new(self.introduction(0))),
        })
    }

    fn message(&mut self) -> Message {
        let chain_hash = Network::Regtest.chain_hash();
        let scids = |feed: &mut Feed<'_>| ShortChannelIds((0..feed.u8() % 9).map(|_| scid(feed)).collect());
        match self.feed.u8() % 12 {
            0..=3 => {
                let first = 1 + usize::from(self.feed.u8()) % (NODES - 2);
                Message::ChannelAnnouncement(self.announcement(first))
            }
            4..=6 => Message::ChannelUpdate(self.update()),
            7 => {
                let who = usize::from(self.feed.u8());
                Message::NodeAnnouncement(self.introduction(who))
            }
            8 => Message::GossipTimestampFilter(GossipTimestampFilter {
                chain_hash,
                first_timestamp: self.feed.u32(),
                timestamp_range: self.feed.u32(),
            }),
            9 => Message::QueryShortChannelIds(QueryShortChannelIds {
                chain_hash,
                short_channel_ids: scids(&mut self.feed),
                query_flags: None,
            }),
            10 => Message::QueryChannelRange(QueryChannelRange {
                chain_hash,
                first_blocknum: Height(self.feed.u32()),
                number_of_blocks: self.feed.u32(),
                query_option: Some(QueryOption(self.feed.u8().into())),
            }),
            _ => Message::ReplyChannelRange(ReplyChannelRange {
                chain_hash,
                first_blocknum: Height(self.feed.u32()),
                number_of_blocks: self.feed.u32(),
                sync_complete: self.feed.u8(),
                short_channel_ids: scids(&mut self.feed),
                timestamps: None,
                checksums: None,
            }),
        }
    }

    fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(spoken) => self.hear(spoken),
                Action::Verify { ticket, jobs } => {
                    assert!(!jobs.is_empty());
                    self.checks.push(ticket);
                }
                Action::LookUp(scid) => self.looks.push(scid),
                Action::Keep(kept) => self.kept.push(kept),
                Action::Notice(..) => {}
            }
        }
    }

    fn hear(&mut self, spoken: Spoken) {
        let (link, bytes) = spoken.into_parts();
        let message = Message::decode(&bytes).unwrap_or_else(|e| panic!("it sends what nobody reads: {e}"));
        *self.seen.entry(message.kind()).or_default() += 1;
        let ours = node(0);
        let of_others = match &message {
            Message::ChannelAnnouncement(m) => m.node_id_1 != ours && m.node_id_2 != ours,
            Message::NodeAnnouncement(m) => m.node_id != ours,
            _ => false,
        };
        assert!(!of_others || self.asked.contains(&link), "unasked: {message:?}");
    }

    fn judge(&self) {
        assert!(self.gossip.waiting() <= 4 * MAX_OPERATIONS, "{} wait", self.gossip.waiting());
        let (store, graph) = (self.gossip.store(), self.gossip.graph());
        let known = store.channels_from(ShortChannelId(0)).filter(|(_, c)| !c.foreign).count();
        assert_eq!(known, graph.channel_count());
        for (scid, channel) in store.channels_from(ShortChannelId(0)).filter(|(_, c)| !c.foreign) {
            let view = graph.channel(*scid).unwrap_or_else(|| panic!("{scid} is not in the graph"));
            let times = |at: usize| channel.updates[at].as_ref().map(|u| u.timestamp);
            assert_eq!(view.policies.map(|p| p.map(|p| p.timestamp)), [times(0), times(1)]);
        }
    }

    /// What was kept, record by record, and what a compacted cache holds make the same store.
    fn finish(self) {
        let (hash, now_s) = (Network::Regtest.chain_hash(), self.now.seconds() as u32);
        let (mut grown, mut compact) = (Store::new(), Store::new());
        for kept in self.kept {
            let again = Kept::decode(&kept.encode()).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(again, kept);
            grown.restore(again, &hash, now_s);
        }
        for kept in self.gossip.store().records() {
            compact.restore(kept, &hash, now_s);
        }
        let shown = |store: &Store| {
            let all = store.channels_from(ShortChannelId(0));
            let all = all.map(|(scid, c)| (*scid, c.announcement.clone(), c.newest(), c.spent, c.capacity));
            (
                all.collect::<Vec<_>>(),
                store.nodes().copied().collect::<Vec<_>>(),
                store.graph().channel_count(),
            )
        };
        assert_eq!(shown(&grown), shown(self.gossip.store()));
        assert_eq!(shown(&compact), shown(self.gossip.store()));
        saw((
            shown(&compact).0.len().min(8),
            self.seen.into_iter().map(|(k, n)| (k, n.min(3))).collect::<Vec<_>>(),
        ));
    }
}

/// A channel learned and told, a query, an own channel.
pub fn gossip_seeds() -> Vec<Vec<u8>> {
    // Link 0 comes up; filter from 0; announcement, check, look-up; update, check; time.
    let up = [0, 0, 0];
    let filter = [0, 10, 8, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
    let announcement = [0, 10, 0, 1, 0, 1, 0, 5, 1];
    let verified = [0, 4, 1];
    let found = [0, 6, 7];
    let mut update = vec![0, 10, 4, 1, 5, 1, 0x90, 0, 1, 0];
    update.extend([0; 28]);
    let time = [0, 7, 0, 0, 8, 0];
    let own = [0, 9, 0, 0, 1, 0, 6, 1];
    let all: Vec<u8> =
        [&up[..], &filter, &announcement, &verified, &found, &update, &verified, &time, &own].concat();
    vec![all, [&up[..], &own, &time].concat(), [&up[..], &filter, &announcement, &announcement].concat()]
}
