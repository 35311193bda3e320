//! The machine alone: what it believes, what it passes on, what floods and forgeries cost and whom.
//!
//! In: announcements signed by made-up nodes, forged ones among them. Out: verdicts on store, messages and bounds.
//! The world around the machine is `World`: it checks signatures for real and knows which outputs there are.

use super::*;
use crate::id::ChannelId;
use crate::sign::{Crypto, RealCrypto};
use crate::tx::script;
use crate::units::Msat;
use crate::wire::gossip::*;
use alloc::vec;
use bitcoin::hashes::Hash;
use secp256k1::{PublicKey, SecretKey};

const NOW_S: u64 = 1_700_000_000;
const CHAIN: Network = Network::Regtest;
const BOB: LinkId = LinkId(1);
const CAROL: LinkId = LinkId(2);

fn secret(n: u8) -> SecretKey {
    SecretKey::from_slice(&[n; 32]).unwrap()
}

fn public(n: u8) -> PublicKey {
    secret(n).public_key(&secp256k1::Secp256k1::signing_only())
}

fn id(n: u8) -> NodeId {
    NodeId(public(n))
}

fn scid(n: u64) -> ShortChannelId {
    ShortChannelId(n << 40 | 1 << 16)
}

fn digest(message: &Message, signatures: usize) -> [u8; 32] {
    signed_digest(&message.encode().unwrap(), signatures).unwrap()
}

/// Nodes `a` and `b` announce a channel; each has a funding key 100 above its own.
fn announcement(crypto: &RealCrypto, scid: ShortChannelId, a: u8, b: u8) -> ChannelAnnouncement {
    let (a, b) = if id(a).0.serialize() < id(b).0.serialize() { (a, b) } else { (b, a) };
    signed(crypto, scid, [a, b], [a + 100, b + 100])
}

fn signed(crypto: &RealCrypto, scid: ShortChannelId, nodes: [u8; 2], keys: [u8; 2]) -> ChannelAnnouncement {
    let dummy = crypto.sign(&[1; 32], &secret(1));
    let mut m = ChannelAnnouncement {
        node_signature_1: dummy,
        node_signature_2: dummy,
        bitcoin_signature_1: dummy,
        bitcoin_signature_2: dummy,
        features: vec![],
        chain_hash: CHAIN.chain_hash(),
        short_channel_id: scid,
        node_id_1: id(nodes[0]),
        node_id_2: id(nodes[1]),
        bitcoin_key_1: public(keys[0]),
        bitcoin_key_2: public(keys[1]),
        tail: vec![],
    };
    let digest = digest(&Message::ChannelAnnouncement(m.clone()), 4);
    m.node_signature_1 = crypto.sign(&digest, &secret(nodes[0]));
    m.node_signature_2 = crypto.sign(&digest, &secret(nodes[1]));
    m.bitcoin_signature_1 = crypto.sign(&digest, &secret(keys[0]));
    m.bitcoin_signature_2 = crypto.sign(&digest, &secret(keys[1]));
    m
}

/// `from`'s update of its channel with `to`.
fn update(crypto: &RealCrypto, scid: ShortChannelId, from: u8, to: u8, timestamp: u64) -> ChannelUpdate {
    let second = id(from).0.serialize() > id(to).0.serialize();
    let m = ChannelUpdate {
        signature: crypto.sign(&[1; 32], &secret(1)),
        chain_hash: CHAIN.chain_hash(),
        short_channel_id: scid,
        timestamp: timestamp as u32,
        message_flags: 1,
        channel_flags: u8::from(second),
        cltv_expiry_delta: 40,
        htlc_minimum_msat: Msat(1),
        fee_base_msat: 1_000,
        fee_proportional_millionths: 10,
        htlc_maximum_msat: Msat(900_000),
        tail: vec![],
    };
    resigned(crypto, m, from)
}

fn resigned(crypto: &RealCrypto, mut m: ChannelUpdate, from: u8) -> ChannelUpdate {
    let digest = digest(&Message::ChannelUpdate(m.clone()), 1);
    m.signature = crypto.sign(&digest, &secret(from));
    m
}

fn introduction(crypto: &RealCrypto, who: u8, timestamp: u64, addresses: Vec<u8>) -> NodeAnnouncement {
    let mut m = NodeAnnouncement {
        signature: crypto.sign(&[1; 32], &secret(1)),
        features: vec![],
        timestamp: timestamp as u32,
        node_id: id(who),
        rgb_color: [1, 2, 3],
        alias: [b'x'; 32],
        addresses,
        tail: vec![],
    };
    let digest = digest(&Message::NodeAnnouncement(m.clone()), 1);
    m.signature = crypto.sign(&digest, &secret(who));
    m
}

/// A machine, a clock, the outputs there are, and what was said over each link.
struct World {
    gossip: Gossip,
    crypto: RealCrypto,
    now: Timestamp,
    /// Keys of funding outputs; what is not here is absent.
    outputs: BTreeMap<ShortChannelId, (PublicKey, PublicKey)>,
    blind: bool,
    /// Workers and chain are slow: what they would answer.
    stuck: Option<Vec<Event>>,
    said: Vec<(LinkId, Message)>,
    looked: Vec<ShortChannelId>,
    kept: Vec<Kept>,
}

impl World {
    fn new() -> World {
        let now = Timestamp(NOW_S * 1_000);
        let settings = Settings { ask_all: false, ..Settings::new(CHAIN, id(1)) };
        let mut world = World {
            gossip: Gossip::new(settings, Store::new(), now),
            crypto: RealCrypto::new(),
            now,
            outputs: BTreeMap::new(),
            blind: false,
            stuck: None,
            said: vec![],
            looked: vec![],
            kept: vec![],
        };
        world.link(BOB, 2);
        world.link(CAROL, 3);
        world.said.clear();
        world
    }

    fn link(&mut self, link: LinkId, peer: u8) {
        self.link_with(link, peer, &[7]);
    }

    fn link_with(&mut self, link: LinkId, peer: u8, bits: &[u16]) {
        let features = Features::of(bits);
        self.give(Event::News(News::Linked { peer: id(peer), link, features }));
    }

    fn tell(&mut self, link: LinkId, message: Message) {
        self.give(Event::Message { peer: id(2), link, message });
    }

    /// One event, and all that follows from it.
    fn give(&mut self, event: Event) {
        let mut events = vec![event];
        while !events.is_empty() {
            let actions = self.gossip.step(self.now, core::mem::take(&mut events));
            for action in actions {
                let answer = self.act(action);
                match &mut self.stuck {
                    Some(stuck) => stuck.extend(answer),
                    None => events.extend(answer),
                }
            }
        }
        for link in self.gossip.hungry() {
            let spoken = self.gossip.pump(link, 1 << 20);
            spoken.into_iter().for_each(|s| self.hear(s));
        }
    }

    /// Whoever was slow answers all that was asked, then all that is asked because of that.
    fn unstick(&mut self) {
        while let Some(stuck) = self.stuck.replace(vec![]).filter(|stuck| !stuck.is_empty()) {
            stuck.into_iter().for_each(|event| self.give(event));
        }
        self.stuck = None;
    }

    fn hear(&mut self, spoken: Spoken) {
        let (link, bytes) = spoken.into_parts();
        self.said.push((link, Message::decode(&bytes).unwrap()));
    }

    fn act(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Verify { ticket, jobs } => {
                let good = jobs.iter().all(|j| self.crypto.verify(&j.digest, &j.signature, &j.key));
                return Some(Event::Verified { ticket, good });
            }
            Action::LookUp(scid) => {
                self.looked.push(scid);
                let utxo = match self.outputs.get(&scid) {
                    _ if self.blind => Utxo::Unknown,
                    Some((one, two)) => Utxo::Found {
                        txid: txid_of(scid),
                        capacity: Sat(1_000_000),
                        script: script::p2wsh(&script::funding(one, two)),
                    },
                    None => Utxo::Absent,
                };
                return Some(Event::LookedUp { scid, utxo });
            }
            Action::Send(spoken) => self.hear(spoken),
            Action::Keep(kept) => self.kept.push(kept),
            Action::Notice(..) => {}
        }
        None
    }

    fn wait(&mut self, s: u64) {
        self.now = self.now.plus_ms(s * 1_000);
        self.give(Event::Block { height: self.gossip.tip, spent: vec![] });
    }

    /// A channel of `a` and `b` that is really there, as Bob tells it.
    fn channel(&mut self, n: u64, a: u8, b: u8) -> ChannelAnnouncement {
        let m = announcement(&self.crypto, scid(n), a, b);
        self.outputs.insert(scid(n), (m.bitcoin_key_1, m.bitcoin_key_2));
        self.tell(BOB, Message::ChannelAnnouncement(m.clone()));
        m
    }

    fn update(&mut self, n: u64, from: u8, to: u8, ago_s: u64) -> ChannelUpdate {
        let m = update(&self.crypto, scid(n), from, to, self.now.seconds() - ago_s);
        self.tell(BOB, Message::ChannelUpdate(m.clone()));
        m
    }

    fn filter(&mut self, link: LinkId, first_timestamp: u64) {
        let chain_hash = CHAIN.chain_hash();
        let (first_timestamp, timestamp_range) = (first_timestamp as u32, u32::MAX);
        let m = GossipTimestampFilter { chain_hash, first_timestamp, timestamp_range };
        self.tell(link, Message::GossipTimestampFilter(m));
    }

    fn heard_by(&mut self, link: LinkId) -> Vec<Message> {
        let said = core::mem::take(&mut self.said);
        said.into_iter().filter(|(to, _)| *to == link).map(|(_, m)| m).collect()
    }

    fn knows(&self, n: u64) -> bool {
        self.gossip.store().channel(&scid(n)).is_some()
    }

    fn timestamp(&self, n: u64, direction: usize) -> Option<u32> {
        self.gossip.store().channel(&scid(n))?.updates[direction].as_ref().map(|u| u.timestamp)
    }
}

fn txid_of(scid: ShortChannelId) -> Txid {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&scid.0.to_be_bytes());
    Txid::from_byte_array(bytes)
}

#[test]
fn a_channel_is_believed_kept_and_passed_on_with_its_first_update() {
    // BOLT 7 [7.filter.2, 7.filter.3, 7.filter.4, 7.filter.6, 7.relay.1].
    let mut world = World::new();
    world.filter(CAROL, NOW_S - 100);
    let m = world.channel(500, 10, 11);
    assert!(world.knows(500));
    assert_eq!(world.looked, [scid(500)]);
    world.wait(2);
    assert_eq!(world.heard_by(CAROL), [], "without an update it is not passed on");
    let u = world.update(500, 10, 11, 5);
    let node = introduction(&world.crypto, 10, NOW_S - 3, vec![]);
    world.tell(BOB, Message::NodeAnnouncement(node.clone()));
    assert_eq!(world.heard_by(CAROL), [], "nor before the next broadcast");
    world.wait(2);
    let all =
        [Message::ChannelAnnouncement(m), Message::ChannelUpdate(u), Message::NodeAnnouncement(node.clone())];
    assert_eq!(world.heard_by(CAROL), all);
    world.wait(10);
    assert!(world.said.is_empty(), "and once only; Bob has no filter and hears nothing");
    assert_eq!(world.kept.len(), 3);
    // Another store of the same records is the same.
    let mut copy = Store::new();
    for kept in world.gossip.store().records() {
        copy.restore(Kept::decode(&kept.encode()).unwrap(), &CHAIN.chain_hash(), NOW_S as u32);
    }
    assert_eq!(copy.channel(&scid(500)).map(|c| c.capacity), Some(Some(Sat(1_000_000))));
    assert_eq!(copy.node(&id(10)), Some(node));
    assert_eq!(copy.graph().channel(scid(500)), world.gossip.graph().channel(scid(500)));
}

#[test]
fn each_signature_is_needed_and_a_forger_loses_its_gossip_only() {
    // BOLT 7 [7.announce.14, 7.announce.18, 7.node.12, 7.update.21].
    for forged in 0..6 {
        let mut world = World::new();
        let mut m = announcement(&world.crypto, scid(500), 10, 11);
        world.outputs.insert(scid(500), (m.bitcoin_key_1, m.bitcoin_key_2));
        let other = world.crypto.sign(&[9; 32], &secret(10));
        let message = match forged {
            0 => {
                m.node_signature_1 = other;
                Message::ChannelAnnouncement(m)
            }
            1 => {
                m.node_signature_2 = other;
                Message::ChannelAnnouncement(m)
            }
            2 => {
                m.bitcoin_signature_1 = other;
                Message::ChannelAnnouncement(m)
            }
            3 => {
                m.bitcoin_signature_2 = other;
                Message::ChannelAnnouncement(m)
            }
            4 => {
                world.tell(CAROL, Message::ChannelAnnouncement(m));
                let u = update(&world.crypto, scid(500), 10, 11, NOW_S);
                Message::ChannelUpdate(ChannelUpdate { fee_base_msat: 0, ..u })
            }
            _ => {
                world.tell(CAROL, Message::ChannelAnnouncement(m));
                let node = introduction(&world.crypto, 10, NOW_S, vec![]);
                Message::NodeAnnouncement(NodeAnnouncement { alias: [b'y'; 32], ..node })
            }
        };
        world.tell(BOB, message);
        assert_eq!(world.knows(500), forged > 3, "{forged}");
        assert_eq!(world.timestamp(500, 0).or(world.timestamp(500, 1)), None);
        assert_eq!(world.gossip.store().node(&id(10)), None);
        assert!(world.gossip.is_muted(BOB) && !world.gossip.is_muted(CAROL));
        let warned = world.heard_by(BOB);
        assert!(
            matches!(warned.as_slice(), [Message::Warning(w)] if w.channel_id == ChannelId::ALL),
            "{warned:?}"
        );
        // Nothing of it counts now, all of it again later.
        world.channel(501, 12, 13);
        assert!(!world.knows(501));
        world.wait(601);
        world.channel(501, 12, 13);
        assert!(world.knows(501));
    }
}

#[test]
fn an_output_must_be_there_unspent_deep_and_the_announced_one() {
    // BOLT 7 [7.announce.16].
    let mut world = World::new();
    world.give(Event::Block { height: Height(600), spent: vec![] });
    let m = announcement(&world.crypto, scid(500), 10, 11);
    world.tell(BOB, Message::ChannelAnnouncement(m.clone()));
    assert!(!world.knows(500) && !world.gossip.is_muted(BOB), "a peer may be behind");
    world.tell(BOB, Message::ChannelAnnouncement(m.clone()));
    assert_eq!(world.looked.len(), 1, "and is not looked for twice");
    // Unless the chain is another now.
    world.give(Event::BlockGone { height: Height(600) });
    world.outputs.insert(scid(500), (m.bitcoin_key_1, m.bitcoin_key_2));
    world.tell(BOB, Message::ChannelAnnouncement(m.clone()));
    assert!(world.knows(500) && world.looked.len() == 2);

    world.outputs.insert(scid(501), (public(120), public(121)));
    let m = announcement(&world.crypto, scid(501), 10, 11);
    world.tell(BOB, Message::ChannelAnnouncement(m));
    assert!(!world.knows(501), "another's output");

    let mut world = World::new();
    world.give(Event::Block { height: Height(504), spent: vec![] });
    let m = world.channel(500, 10, 11);
    let u = world.update(500, 10, 11, 5);
    assert!(!world.knows(500) && world.looked.is_empty(), "five deep");
    world.give(Event::Block { height: Height(505), spent: vec![] });
    assert!(world.knows(500));
    assert_eq!(world.timestamp(500, usize::from(u.direction())), Some(u.timestamp), "its update waited");
    assert_eq!(world.gossip.waiting(), 0);

    let mut world = World::new();
    world.blind = true;
    world.tell(BOB, Message::ChannelAnnouncement(m));
    let capacity = world.gossip.store().channel(&scid(500)).map(|c| c.capacity);
    assert_eq!(capacity, Some(None), "who cannot look believes the signatures");
}

#[test]
fn only_newer_updates_of_the_right_end_count() {
    // BOLT 7 [7.update.18, 7.update.20].
    let mut world = World::new();
    world.channel(500, 10, 11);
    let u = world.update(500, 10, 11, 50);
    let at = usize::from(u.direction());
    assert_eq!(world.timestamp(500, at), Some(u.timestamp));
    let crypto = RealCrypto::new();
    let base = update(&crypto, scid(500), 10, 11, NOW_S - 10);
    for (why, m) in [
        ("older", update(&crypto, scid(500), 10, 11, NOW_S - 51)),
        ("the same time", resigned(&crypto, ChannelUpdate { fee_base_msat: 7, ..u.clone() }, 10)),
        ("far ahead", update(&crypto, scid(500), 10, 11, NOW_S + 100_000)),
        ("of long ago", update(&crypto, scid(500), 11, 10, NOW_S - 1_300_000)),
        ("private", resigned(&crypto, ChannelUpdate { message_flags: 3, ..base.clone() }, 10)),
        ("another chain", resigned(&crypto, ChannelUpdate { chain_hash: [0; 32], ..base.clone() }, 10)),
    ] {
        world.tell(BOB, Message::ChannelUpdate(m));
        assert_eq!(world.timestamp(500, at), Some(u.timestamp), "{why}");
        assert_eq!(world.timestamp(500, 1 - at), None, "{why}");
        assert!(!world.gossip.is_muted(BOB), "{why}");
    }
    world.tell(BOB, Message::ChannelUpdate(base.clone()));
    assert_eq!(world.timestamp(500, at), Some(base.timestamp));
    // By one end in the other's name: forged.
    let wrong = ChannelUpdate { channel_flags: base.channel_flags ^ 1, ..base };
    world.tell(BOB, Message::ChannelUpdate(resigned(&crypto, wrong, 10)));
    assert!(world.gossip.is_muted(BOB) && world.timestamp(500, 1 - at).is_none());
}

#[test]
fn a_direction_that_changes_its_mind_all_the_time_is_not_followed() {
    let mut world = World::new();
    world.gossip.settings.refill_s = 600;
    world.channel(500, 10, 11);
    let crypto = RealCrypto::new();
    let mut taken = 0;
    for second in 0..40 {
        let m = update(&crypto, scid(500), 10, 11, NOW_S - 100 + second);
        let at = usize::from(m.direction());
        world.tell(BOB, Message::ChannelUpdate(m.clone()));
        taken += u32::from(world.timestamp(500, at) == Some(m.timestamp));
    }
    assert_eq!(taken, 10);
    world.wait(1_300);
    for second in 0..5 {
        let m = update(&crypto, scid(500), 10, 11, NOW_S + second);
        let at = usize::from(m.direction());
        world.tell(BOB, Message::ChannelUpdate(m.clone()));
        taken += u32::from(world.timestamp(500, at) == Some(m.timestamp));
    }
    assert_eq!(taken, 12, "two more after twice the time");
}

#[test]
fn an_update_without_its_channel_waits_and_the_channel_is_asked_for() {
    // BOLT 7 [7.query.2, 7.query.4, 7.query.5, 7.update.18].
    let mut world = World::new();
    // Until Bob has answered what he was asked at the start, nothing else is asked.
    let all = ReplyChannelRange {
        chain_hash: CHAIN.chain_hash(),
        first_blocknum: Height(0),
        number_of_blocks: u32::MAX,
        sync_complete: 1,
        short_channel_ids: ShortChannelIds::default(),
        timestamps: None,
        checksums: None,
    };
    world.tell(BOB, Message::ReplyChannelRange(all));
    world.said.clear();
    let u = world.update(500, 10, 11, 5);
    let asked = world.heard_by(BOB);
    let wanted = QueryShortChannelIds {
        chain_hash: CHAIN.chain_hash(),
        short_channel_ids: ShortChannelIds(vec![scid(500)]),
        query_flags: None,
    };
    assert_eq!(asked, [Message::QueryShortChannelIds(wanted)]);
    assert_eq!(world.gossip.waiting(), 1);
    world.channel(500, 10, 11);
    assert_eq!(world.timestamp(500, usize::from(u.direction())), Some(u.timestamp));
    // What never comes is forgotten.
    world.update(777, 10, 11, 5);
    world.wait(700);
    assert_eq!(world.gossip.waiting(), 0);
}

#[test]
fn two_names_for_one_output_and_neither_is_trusted_again() {
    let mut world = World::new();
    world.channel(500, 10, 11);
    world.channel(501, 10, 12);
    world.channel(502, 13, 14);
    // Other keys than the output's prove nothing.
    let [a, b] = if id(20).0.serialize() < id(21).0.serialize() { [20, 21] } else { [21, 20] };
    let m = signed(&world.crypto, scid(500), [a, b], [a + 100, b + 100]);
    world.tell(BOB, Message::ChannelAnnouncement(m));
    assert!(world.knows(500) && world.knows(501));
    // The output's own keys do.
    let m = signed(&world.crypto, scid(500), [a, b], [110, 111]);
    world.tell(BOB, Message::ChannelAnnouncement(m));
    assert!(!world.knows(500) && !world.knows(501) && world.knows(502));
    world.channel(503, a, 15);
    world.channel(504, 11, 15);
    assert!(!world.knows(503) && !world.knows(504));
}

#[test]
fn a_spent_channel_is_told_no_more_and_forgotten_72_blocks_later() {
    // BOLT 7 [7.update.19].
    let mut world = World::new();
    world.channel(500, 10, 11);
    let first = world.update(500, 10, 11, 50);
    let at = usize::from(first.direction());
    let spent = vec![bitcoin::OutPoint { txid: txid_of(scid(500)), vout: 0 }];
    world.give(Event::Block { height: Height(1_000), spent: spent.clone() });
    assert!(world.knows(500));
    world.update(500, 10, 11, 40);
    assert_eq!(world.timestamp(500, at), Some(first.timestamp), "only its end is news");
    let m = update(&world.crypto, scid(500), 10, 11, NOW_S - 30);
    let m = resigned(&world.crypto, ChannelUpdate { channel_flags: m.channel_flags | 2, ..m }, 10);
    world.tell(BOB, Message::ChannelUpdate(m.clone()));
    assert_eq!(world.timestamp(500, at), Some(m.timestamp));
    world.said.clear();
    world.filter(CAROL, 0);
    world.wait(2);
    let heard = world.heard_by(CAROL);
    assert!(!heard.iter().any(|m| matches!(m, Message::ChannelAnnouncement(_))), "{heard:?}");
    // A block that goes away takes the spending along.
    world.give(Event::BlockGone { height: Height(1_000) });
    assert_eq!(world.gossip.store().channel(&scid(500)).map(|c| c.spent), Some(None));
    world.give(Event::Block { height: Height(1_000), spent });
    world.give(Event::Block { height: Height(1_071), spent: vec![] });
    assert!(world.knows(500));
    world.give(Event::Block { height: Height(1_072), spent: vec![] });
    assert!(!world.knows(500) && !world.gossip.graph().has_channel(scid(500)));
}

#[test]
fn channels_without_news_for_two_weeks_are_pruned() {
    let mut world = World::new();
    world.channel(500, 10, 11);
    world.channel(501, 12, 13);
    for (from, to) in [(10, 11), (11, 10)] {
        world.update(500, from, to, 0);
    }
    let node = introduction(&world.crypto, 12, NOW_S, vec![]);
    world.tell(BOB, Message::NodeAnnouncement(node));
    world.wait(13 * 24 * 3_600);
    for (n, from, to) in [(500, 10, 11), (500, 11, 10), (501, 12, 13)] {
        world.update(n, from, to, 0);
    }
    assert!(world.knows(500) && world.knows(501));
    world.wait(2 * 24 * 3_600);
    assert!(world.knows(500) && !world.knows(501), "one end of 501 was silent");
    assert_eq!(world.gossip.store().node(&id(12)), None);
    assert_eq!(world.gossip.graph().node_count(), 2);
}

#[test]
fn a_node_that_asks_for_an_unheard_of_feature_is_marked_as_long_as_it_does() {
    // BOLT 7 [7.node.14, 7.node.15].
    let mut world = World::new();
    world.channel(500, 10, 11);
    let say = |world: &mut World, ago: u64, features: &[u16]| {
        let mut m = introduction(&world.crypto, 10, NOW_S - ago, vec![]);
        m.features = Features::of(features).as_bytes().to_vec();
        let digest = digest(&Message::NodeAnnouncement(m.clone()), 1);
        m.signature = world.crypto.sign(&digest, &secret(10));
        world.tell(CAROL, Message::NodeAnnouncement(m));
        world.gossip.graph().is_foreign(&id(10))
    };
    assert!(!say(&mut world, 9, &[0, 9, 28, 34, 62]), "features of BOLT 9, implemented here or not");
    assert!(!say(&mut world, 8, &[1_001]), "odd");
    assert!(say(&mut world, 7, &[9, 1_000]));
    assert!(!world.gossip.graph().is_foreign(&id(11)));
    // A cache tells the same, in whichever order its records stand.
    let mut copy = Store::new();
    for kept in world.gossip.store().records().collect::<Vec<_>>() {
        copy.restore(kept, &CHAIN.chain_hash(), NOW_S as u32);
    }
    assert!(copy.graph().is_foreign(&id(10)));
    assert!(!say(&mut world, 6, &[9]));
}

#[test]
fn a_nodes_addresses_must_not_end_inside_one_and_a_node_has_a_channel() {
    let mut world = World::new();
    world.channel(500, 10, 11);
    let name = |text: &[u8]| [&[5, text.len() as u8], text, &[0, 9]].concat();
    let cut = introduction(&world.crypto, 10, NOW_S, vec![1, 2, 3]);
    world.said.clear();
    world.tell(BOB, Message::NodeAnnouncement(cut));
    assert!(matches!(world.heard_by(BOB).as_slice(), [Message::Warning(_)]));
    let stranger = introduction(&world.crypto, 77, NOW_S, vec![]);
    world.tell(BOB, Message::NodeAnnouncement(stranger));
    assert_eq!((world.gossip.store().node(&id(77)), world.gossip.waiting()), (None, 0));
    let good = introduction(&world.crypto, 10, NOW_S, name(b"a"));
    world.tell(BOB, Message::NodeAnnouncement(good.clone()));
    assert_eq!(world.gossip.store().node(&id(10)), Some(good));
}

mod asking;
mod floods;
mod forgers;
mod news;
