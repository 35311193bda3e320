//! What is believed of gossip: LDK's graph and ours, told the same, know the same afterwards.
//!
//! In: announcements that hold, and such as are wrong in one place: another bit, another's signature, another chain, a node
//! with itself, an older time. Out: after each message either both took it or neither did, and they say the same of it.
//! The chain is not asked (LDK has none here, ours does not answer), so what outputs hold decides nothing.
//! Read next: `gossip` (the bytes), BOLT 7.

use chand_protocol::chain::Network;
use chand_protocol::gossip::graph::Direction;
use chand_protocol::gossip::{Action, Event, Gossip, News, Settings, Store, Utxo};
use chand_protocol::id::{LinkId, NodeId, ShortChannelId};
use chand_protocol::sign::Crypto;
use chand_protocol::units::{Msat, Timestamp};
use chand_protocol::wire::features::Features;
use chand_protocol::wire::gossip::{signed_digest, ChannelAnnouncement, ChannelUpdate, NodeAnnouncement};
use chand_protocol::wire::Message;
use ldk_agree::{crypto, property, secp, Rng};
use lightning::ln::msgs;
use lightning::routing::gossip::{NetworkGraph, NodeId as LdkNodeId};
use lightning::util::logger::{Logger, Record};
use lightning::util::ser::LengthReadable;
use secp256k1::ecdsa::Signature;
use secp256k1::SecretKey;
use std::time::{SystemTime, UNIX_EPOCH};

const CASES: u64 = 600;
const CHAIN: Network = Network::Regtest;
const LINK: LinkId = LinkId(1);
/// Neither takes updates that are older than two weeks; a minute more or less is left out.
const OLD_S: u32 = 14 * 24 * 3_600 + 60;

/// LDK's graph wants somebody to talk to.
struct Deaf;

impl Logger for Deaf {
    fn log(&self, _: Record) {}
}

fn now_s() -> u32 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as u32
}

/// A node or the owner of an output.
struct Who {
    secret: SecretKey,
    id: NodeId,
}

impl Who {
    fn new(rng: &mut Rng) -> Who {
        let secret = rng.secret();
        Who { secret, id: NodeId(secret.public_key(secp())) }
    }
}

/// Both graphs.
struct Both {
    ours: Gossip,
    ldk: NetworkGraph<&'static Deaf>,
    now: Timestamp,
    /// How many peers there were.
    peers: u64,
}

impl Both {
    fn new(rng: &mut Rng) -> Both {
        let now = Timestamp(u64::from(now_s()) * 1_000);
        let settings = Settings::new(CHAIN, Who::new(rng).id);
        let mut both = Both {
            ours: Gossip::new(settings, Store::new(), now),
            ldk: NetworkGraph::new(bitcoin::Network::Regtest, &Deaf),
            now,
            peers: 0,
        };
        both.link();
        both
    }

    /// A peer of its own for each message: one that forges is not listened to any more, whatever its link.
    fn link(&mut self) -> NodeId {
        self.peers += 1;
        let mut secret = [7; 32];
        secret[..8].copy_from_slice(&self.peers.to_be_bytes());
        let features = Features::of(&[7]);
        let peer = NodeId(crypto().public_key(&SecretKey::from_slice(&secret).expect("a key")));
        let news = [News::Unlinked { link: LINK }, News::Linked { peer, link: LINK, features }];
        self.ours.step(self.now, news.map(Event::News));
        peer
    }

    /// Tells both what these bytes say; whether LDK took it.
    fn tell(&mut self, bytes: &[u8]) -> bool {
        let peer = self.link();
        if let Ok(message) = Message::decode(bytes) {
            let mut events = vec![Event::Message { peer, link: LINK, message }];
            while !events.is_empty() {
                let actions = self.ours.step(self.now, events);
                events = actions.into_iter().filter_map(answer).collect();
            }
        }
        let (kind, mut body) = (u16::from_be_bytes([bytes[0], bytes[1]]), &bytes[2..]);
        let body = &mut body;
        match kind {
            256 => msgs::ChannelAnnouncement::read_from_fixed_length_buffer(body)
                .is_ok_and(|m| self.ldk.update_channel_from_announcement_no_lookup(&m).is_ok()),
            257 => msgs::NodeAnnouncement::read_from_fixed_length_buffer(body)
                .is_ok_and(|m| self.ldk.update_node_from_announcement(&m).is_ok()),
            _ => msgs::ChannelUpdate::read_from_fixed_length_buffer(body)
                .is_ok_and(|m| self.ldk.update_channel(&m).is_ok()),
        }
    }

    /// Whether the channel is known, to us and to LDK.
    fn know(&self, scid: ShortChannelId) -> (bool, bool) {
        (self.ours.graph().has_channel(scid), self.ldk.read_only().channel(scid.0).is_some())
    }

    /// What is said of a direction, by us and by LDK.
    fn terms(&self, scid: ShortChannelId, second: bool) -> (Option<Terms>, Option<Terms>) {
        let graph = self.ldk.read_only();
        let channel = graph.channel(scid.0);
        let theirs = channel.and_then(|c| if second { c.two_to_one.clone() } else { c.one_to_two.clone() });
        let direction = Direction::BOTH[usize::from(second)];
        let ours = self.ours.graph().policy(scid, direction);
        (
            ours.map(|p| Terms {
                enabled: !p.disabled,
                delta: p.cltv_expiry_delta,
                least: p.htlc_minimum.0,
                most: p.htlc_maximum.0,
                fee: (p.fee_base_msat, p.fee_proportional_millionths),
            }),
            theirs.map(|u| Terms {
                enabled: u.enabled,
                delta: u.cltv_expiry_delta,
                least: u.htlc_minimum_msat,
                most: u.htlc_maximum_msat,
                fee: (u.fees.base_msat, u.fees.proportional_millionths),
            }),
        )
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Terms {
    enabled: bool,
    delta: u16,
    least: u64,
    most: u64,
    fee: (u32, u32),
}

/// The world around our machine: signatures are checked, the chain is not.
fn answer(action: Action) -> Option<Event> {
    match action {
        Action::Verify { ticket, jobs } => {
            Some(Event::Verified { ticket, good: crypto().verify_batch(&jobs) })
        }
        Action::LookUp(scid) => Some(Event::LookedUp { scid, utxo: Utxo::Unknown }),
        _ => None,
    }
}

fn signed(message: &Message, signatures: usize, by: &SecretKey) -> Signature {
    let bytes = message.encode().expect("encoded");
    crypto().sign(&signed_digest(&bytes, signatures).expect("long enough"), by)
}

/// A channel of `nodes`, in the order in which they are given, with the keys of its output.
fn announcement(
    rng: &mut Rng,
    scid: ShortChannelId,
    nodes: [&Who; 2],
    keys: [&Who; 2],
) -> ChannelAnnouncement {
    let unsigned = rng.signature();
    let tail = if rng.one_in(3) { rng.bytes(9) } else { Vec::new() };
    let mut m = ChannelAnnouncement {
        node_signature_1: unsigned,
        node_signature_2: unsigned,
        bitcoin_signature_1: unsigned,
        bitcoin_signature_2: unsigned,
        features: Vec::new(),
        chain_hash: CHAIN.chain_hash(),
        short_channel_id: scid,
        node_id_1: nodes[0].id,
        node_id_2: nodes[1].id,
        bitcoin_key_1: keys[0].id.0,
        bitcoin_key_2: keys[1].id.0,
        tail,
    };
    if rng.one_in(20) {
        m.chain_hash = Network::Bitcoin.chain_hash();
    }
    let whole = Message::ChannelAnnouncement(m.clone());
    m.node_signature_1 = signed(&whole, 4, &nodes[0].secret);
    m.node_signature_2 = signed(&whole, 4, &nodes[1].secret);
    m.bitcoin_signature_1 = signed(&whole, 4, &keys[0].secret);
    m.bitcoin_signature_2 = signed(&whole, 4, &keys[1].secret);
    if rng.one_in(10) {
        let forged = signed(&whole, 4, &rng.secret());
        let at = rng.index(0, 4);
        *[
            &mut m.node_signature_1,
            &mut m.node_signature_2,
            &mut m.bitcoin_signature_1,
            &mut m.bitcoin_signature_2,
        ][at] = forged;
    }
    m
}

/// One bit of the message, not of its type, is another.
fn touched(rng: &mut Rng, mut bytes: Vec<u8>) -> Vec<u8> {
    let at = rng.index(2, bytes.len());
    bytes[at] ^= 1 << rng.range(0, 8);
    bytes
}

fn bytes_of(rng: &mut Rng, message: &Message) -> Vec<u8> {
    let bytes = message.encode().expect("encoded");
    if rng.one_in(5) {
        return touched(rng, bytes);
    }
    bytes
}

#[test]
fn the_same_is_believed() {
    let (mut channels, mut updates, mut nodes, mut refused) = (0, 0, 0, 0);
    property(CASES, |rng| {
        let mut both = Both::new(rng);
        let mut pair = [Who::new(rng), Who::new(rng)];
        // LDK takes them in any order, which BOLT 7 does not allow.
        pair.sort_by_key(|who| who.id.0.serialize());
        let second = if rng.one_in(20) { &pair[0] } else { &pair[1] };
        let keys = [Who::new(rng), Who::new(rng)];
        let scid = ShortChannelId(rng.range(1, 1 << 62));
        let m = announcement(rng, scid, [&pair[0], second], [&keys[0], &keys[1]]);
        let bytes = bytes_of(rng, &Message::ChannelAnnouncement(m));
        let took = both.tell(&bytes);
        assert_eq!(both.know(scid), (took, took), "a channel");
        channels += u64::from(took);
        refused += u64::from(!took);

        let mut last = [0; 2];
        for _ in 0..4 {
            let second = rng.one_in(2);
            let m = update(rng, scid, second, &pair);
            let (time, whole) = (m.timestamp, Message::ChannelUpdate(m));
            let bytes = bytes_of(rng, &whole);
            let before = both.terms(scid, second);
            let took = both.tell(&bytes);
            for side in [false, true] {
                let (ours, theirs) = both.terms(scid, side);
                assert_eq!(ours, theirs, "{time} after {last:?} of {second}: took {took}, was {before:?}");
            }
            if took {
                last[usize::from(second)] = time;
                updates += 1;
            } else {
                refused += 1;
            }
        }

        let who = rng.index(0, 3);
        let stranger = Who::new(rng);
        let who = pair.get(who).unwrap_or(&stranger);
        for _ in 0..2 {
            let m = introduction(rng, who);
            let bytes = bytes_of(rng, &Message::NodeAnnouncement(m));
            let took = both.tell(&bytes);
            let ours = both.ours.store().node(&who.id).map(|m| (m.timestamp, m.alias, m.rgb_color));
            let graph = both.ldk.read_only();
            let known = graph.node(&LdkNodeId::from_pubkey(&who.id.0));
            let theirs = known.and_then(|n| n.announcement_info.clone());
            let theirs = theirs.map(|info| (info.last_update(), info.alias().0, info.rgb()));
            assert_eq!(ours, theirs, "a node; took: {took}");
            nodes += u64::from(took);
            refused += u64::from(!took);
        }
    });
    if std::env::var_os("AGREE_CASE").is_none() {
        assert!(
            channels > 300 && updates > 500 && nodes > 100 && refused > 500,
            "{channels} {updates} {nodes} {refused}"
        );
    }
}

fn update(rng: &mut Rng, scid: ShortChannelId, second: bool, pair: &[Who; 2]) -> ChannelUpdate {
    let age = match rng.range(0, 8) {
        0 => OLD_S,
        1..4 => 0,
        _ => rng.range(0, 4) as u32,
    };
    let mut m = ChannelUpdate {
        signature: rng.signature(),
        chain_hash: CHAIN.chain_hash(),
        short_channel_id: if rng.one_in(15) { ShortChannelId(scid.0 + 1) } else { scid },
        timestamp: now_s() - age,
        message_flags: ChannelUpdate::MUST_BE_ONE,
        channel_flags: u8::from(second) | (rng.bits() as u8 & ChannelUpdate::DISABLE),
        cltv_expiry_delta: rng.any_size() as u16,
        htlc_minimum_msat: Msat(rng.range(0, 1_000_000)),
        fee_base_msat: rng.any_size() as u32,
        fee_proportional_millionths: rng.any_size() as u32,
        htlc_maximum_msat: Msat(rng.range(1_000_000, 1 << 40)),
        tail: if rng.one_in(3) { rng.bytes(5) } else { Vec::new() },
    };
    if rng.one_in(20) {
        m.chain_hash = Network::Bitcoin.chain_hash();
    }
    // Now and then the other end signs, who has no say in this direction.
    let by = usize::from(second ^ rng.one_in(10));
    m.signature = signed(&Message::ChannelUpdate(m.clone()), 1, &pair[by].secret);
    m
}

fn introduction(rng: &mut Rng, who: &Who) -> NodeAnnouncement {
    let mut m = NodeAnnouncement {
        signature: rng.signature(),
        features: Vec::new(),
        timestamp: now_s() - rng.range(0, 3) as u32,
        node_id: who.id,
        rgb_color: rng.array(),
        alias: rng.array(),
        addresses: [&[1][..], &rng.array::<4>(), &9_735_u16.to_be_bytes()].concat(),
        tail: if rng.one_in(3) { rng.bytes(5) } else { Vec::new() },
    };
    m.signature = signed(&Message::NodeAnnouncement(m.clone()), 1, &who.secret);
    m
}
