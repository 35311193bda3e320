//! Blinded paths: what LDK makes we read and pay over, what we make LDK pays over, and every hop on the way, LDK's or ours,
//! finds the same.
//!
//! In: random hops before a path, random paths, fees, limits, amounts. Out: equal sums of a path, equal names of its hops, equal
//! bytes of the onion, and what LDK's node finds when it peels what we sealed.
//! Read next: `onion.rs`, BOLT 4 ("Route Blinding").

use bitcoin::hashes::{hmac, sha256, Hash, HashEngine};
use chand_protocol::id::{NodeId, ShortChannelId};
use chand_protocol::onion::blind::{
    open, BlindedHop, BlindedPath, Constraints, HopData, PayInfo, PayPath, Relay,
};
use chand_protocol::onion::payload::Forward;
use chand_protocol::onion::sphinx::build;
use chand_protocol::units::{Height, Msat};
use chand_protocol::wire::features::Features;
use chand_protocol::wire::message::OnionPacket;
use ldk_agree::{property, secp, Rng};
use lightning::blinded_path::payment::{
    BlindedPaymentPath, Bolt12RefundContext, ForwardTlvs, PaymentConstraints, PaymentContext,
    PaymentForwardNode, PaymentRelay, UnauthenticatedReceiveTlvs,
};
use lightning::blinded_path::BlindedHop as LdkHop;
use lightning::ln::channelmanager::{PendingHTLCRouting, RecipientOnionFields};
use lightning::ln::msgs;
use lightning::ln::onion_payment::peel_payment_onion;
use lightning::ln::onion_utils::create_payment_onion;
use lightning::ln::types::ChannelId;
use lightning::offers::nonce::Nonce;
use lightning::routing::router::{BlindedTail, Path, RouteHop};
use lightning::sign::{EntropySource, KeysManager, NodeSigner};
use lightning::util::logger::{Logger, Record};
use lightning_types::features::{BlindedHopFeatures, ChannelFeatures, NodeFeatures};
use lightning_types::payment as ldk;
use secp256k1::{PublicKey, SecretKey};

const CASES: u64 = 500;
/// The height at which all of this happens.
const HEIGHT: u32 = 800_000;
/// No payment here expires later.
const LATEST: u32 = HEIGHT + 100_000;
/// What the payee wants to have left.
const FINAL_BLOCKS: u16 = 60;
/// So many nodes LDK plays.
const NODES: usize = 8;

struct Quiet;

impl Logger for Quiet {
    fn log(&self, _: Record) {}
}

/// LDK draws a path's session key from here.
struct Drawn([u8; 32]);

impl EntropySource for Drawn {
    fn get_secure_random_bytes(&self) -> [u8; 32] {
        self.0
    }
}

struct Nodes(Vec<KeysManager>);

impl Nodes {
    fn new() -> Nodes {
        Nodes((0..NODES).map(|n| KeysManager::new(&[n as u8 + 1; 32], 1, 1, true)).collect())
    }

    fn key(&self, node: usize) -> SecretKey {
        self.0[node].get_node_secret_key()
    }

    fn id(&self, node: usize) -> PublicKey {
        self.key(node).public_key(secp())
    }
}

/// A path, its hops known to us: all but the last send on.
#[derive(Debug)]
struct Known {
    nodes: Vec<usize>,
    session: SecretKey,
    told: Vec<HopData>,
    payment_secret: [u8; 32],
}

impl Known {
    fn any(rng: &mut Rng) -> Known {
        let count = rng.index(1, 5);
        let told = |rng: &mut Rng| HopData {
            short_channel_id: Some(ShortChannelId(rng.bits())),
            payment_relay: Some(Relay {
                // LDK passes nothing on for less than 48.
                cltv_expiry_delta: rng.range(48, 200) as u16,
                fee_proportional_millionths: rng.range(0, 5_000) as u32,
                fee_base_msat: rng.range(0, 5_000) as u32,
            }),
            payment_constraints: Some(Constraints {
                max_cltv_expiry: Height(LATEST),
                htlc_minimum: Msat(rng.range(0, 1_000)),
            }),
            ..HopData::default()
        };
        Known {
            nodes: (0..count).map(|_| rng.index(0, NODES)).collect(),
            session: rng.secret(),
            told: (1..count).map(|_| told(rng)).collect(),
            payment_secret: rng.array(),
        }
    }

    fn relays(&self) -> Vec<Relay> {
        self.told.iter().filter_map(|hop| hop.payment_relay).collect()
    }

    /// Made by us.
    fn ours(&self, nodes: &Nodes) -> PayPath {
        let last = HopData { path_id: Some(self.payment_secret.to_vec()), ..HopData::default() };
        let data = self.told.iter().chain([&last]).map(|hop| hop.encode(None));
        let hops: Vec<_> = self.nodes.iter().map(|n| nodes.id(*n)).zip(data).collect();
        let path = BlindedPath::make(&self.session, &hops, secp()).expect("a path");
        PayPath::new(PayInfo::total(&self.relays(), FINAL_BLOCKS.into()).expect("sums"), path)
    }

    /// Made by LDK, of the same session key.
    fn theirs(&self, nodes: &Nodes) -> BlindedPaymentPath {
        let forward = |(hop, node): (&HopData, &usize)| {
            let (relay, limits) = (hop.payment_relay.expect("it sends on"), hop.payment_constraints);
            let limits = limits.expect("limits");
            PaymentForwardNode {
                tlvs: ForwardTlvs {
                    short_channel_id: hop.short_channel_id.expect("a channel").0,
                    payment_relay: PaymentRelay {
                        cltv_expiry_delta: relay.cltv_expiry_delta,
                        fee_proportional_millionths: relay.fee_proportional_millionths,
                        fee_base_msat: relay.fee_base_msat,
                    },
                    payment_constraints: PaymentConstraints {
                        max_cltv_expiry: limits.max_cltv_expiry.0,
                        htlc_minimum_msat: limits.htlc_minimum.0,
                    },
                    features: BlindedHopFeatures::empty(),
                    next_blinding_override: None,
                },
                node_id: nodes.id(*node),
                htlc_maximum_msat: u64::MAX,
            }
        };
        let forwards: Vec<_> = self.told.iter().zip(&self.nodes).map(forward).collect();
        let payee = *self.nodes.last().expect("a payee");
        let tlvs = UnauthenticatedReceiveTlvs {
            payment_secret: ldk::PaymentSecret(self.payment_secret),
            payment_constraints: PaymentConstraints { max_cltv_expiry: LATEST, htlc_minimum_msat: 1 },
            payment_context: PaymentContext::Bolt12Refund(Bolt12RefundContext {}),
        };
        let tlvs = tlvs
            .authenticate(Nonce::from_entropy_source(&nodes.0[payee]), &nodes.0[payee].get_expanded_key());
        let drawn = Drawn(self.session.secret_bytes());
        let made =
            BlindedPaymentPath::new(&forwards, nodes.id(payee), tlvs, u64::MAX, FINAL_BLOCKS, &drawn, secp());
        made.expect("LDK makes a path")
    }
}

/// LDK's path as an invoice of ours would carry it.
fn taken(path: &BlindedPaymentPath, introduction: PublicKey) -> PayPath {
    let hop = |hop: &LdkHop| BlindedHop {
        blinded_node_id: hop.blinded_node_id,
        encrypted_data: hop.encrypted_payload.clone(),
    };
    let info = PayInfo {
        fee_base_msat: path.payinfo.fee_base_msat,
        fee_proportional_millionths: path.payinfo.fee_proportional_millionths,
        cltv_expiry_delta: path.payinfo.cltv_expiry_delta,
        htlc_minimum: Msat(path.payinfo.htlc_minimum_msat),
        htlc_maximum: Msat(path.payinfo.htlc_maximum_msat),
        features: Features::new(),
    };
    let hops = path.blinded_hops().iter().map(hop).collect();
    PayPath::new(
        info,
        BlindedPath { introduction: NodeId(introduction), path_key: path.blinding_point(), hops },
    )
}

#[test]
fn both_make_the_same_path() {
    let nodes = Nodes::new();
    property(CASES, |rng| {
        let known = Known::any(rng);
        let (ours, theirs) = (known.ours(&nodes), known.theirs(&nodes));
        let read = taken(&theirs, nodes.id(known.nodes[0]));
        assert_eq!(ours.path.path_key, read.path.path_key);
        let names = |path: &PayPath| path.path.hops.iter().map(|h| h.blinded_node_id).collect::<Vec<_>>();
        assert_eq!(names(&ours), names(&read));
        let sums = |p: &PayInfo| (p.fee_base_msat, p.fee_proportional_millionths, p.cltv_expiry_delta);
        assert_eq!(sums(&ours.info), sums(&read.info), "{:?}", known.relays());
        // Each hop before the payee reads of LDK's path what was put there; what LDK tells itself is its own.
        let mut path_key = read.path.path_key;
        for (at, told) in known.told.iter().enumerate() {
            let hop = &read.path.hops[at];
            let opened =
                open(&hop.encrypted_data, &path_key, &nodes.key(known.nodes[at]), secp()).expect("opened");
            assert_eq!(
                (opened.data.short_channel_id, opened.data.payment_relay, opened.data.payment_constraints),
                (told.short_channel_id, told.payment_relay, told.payment_constraints)
            );
            assert!(opened.data.is_understood());
            path_key = opened.next_path_key;
        }
    });
}

/// Hops that lead to a path, and what is sent over them.
struct Trip {
    before: Vec<usize>,
    scids: Vec<u64>,
    fees: Vec<u64>,
    deltas: Vec<u32>,
    amount: u64,
    total: u64,
    /// Blocks beyond what the path asks for.
    spare: u32,
    session: SecretKey,
    hash: [u8; 32],
}

impl Trip {
    fn any(rng: &mut Rng) -> Trip {
        let count = rng.index(0, 4);
        let amount = rng.range(100_000, 1 << 40);
        Trip {
            before: (0..count).map(|_| rng.index(0, NODES)).collect(),
            scids: (0..=count).map(|_| rng.bits()).collect(),
            fees: (0..count).map(|_| rng.range(0, 10_000)).collect(),
            deltas: (0..count).map(|_| rng.range(40, 150) as u32).collect(),
            amount,
            total: amount + rng.range(0, 2) * rng.range(0, 1 << 30),
            spare: rng.range(0, 100) as u32,
            session: rng.secret(),
            hash: rng.array(),
        }
    }

    /// What the introduction node gets, and until when.
    fn entering(&self, path: &PayPath) -> (u64, u32) {
        let msat = path.info.entering(Msat(self.amount)).expect("an amount").0;
        (msat, HEIGHT + self.spare + u32::from(path.info.cltv_expiry_delta))
    }

    /// Sealed by us.
    fn ours(&self, nodes: &Nodes, path: &PayPath) -> OnionPacket {
        let (mut msat, mut expiry) = self.entering(path);
        let mut hops = Vec::new();
        for at in (0..self.before.len()).rev() {
            let forward = Forward {
                short_channel_id: ShortChannelId(self.scids[at + 1]),
                amt_to_forward: Msat(msat),
                outgoing_cltv_value: Height(expiry),
            };
            hops.push((nodes.id(self.before[at]), forward.encode()));
            msat += self.fees[at];
            expiry += self.deltas[at];
        }
        hops.reverse();
        hops.extend(path.layers(Msat(self.amount), Height(HEIGHT + self.spare), Msat(self.total)));
        build(&self.session, &hops, &self.hash, secp()).expect("it fits").packet
    }

    /// Sealed by LDK.
    fn theirs(&self, nodes: &Nodes, path: &PayPath) -> msgs::OnionPacket {
        let hop = |pubkey: PublicKey, at: usize, fee_msat: u64, cltv_expiry_delta: u32| RouteHop {
            pubkey,
            node_features: NodeFeatures::empty(),
            short_channel_id: self.scids[at],
            channel_features: ChannelFeatures::empty(),
            fee_msat,
            cltv_expiry_delta,
            maybe_announced_channel: true,
        };
        let mut hops: Vec<RouteHop> = (0..self.before.len())
            .map(|at| hop(nodes.id(self.before[at]), at, self.fees[at], self.deltas[at]))
            .collect();
        let (entering, _) = self.entering(path);
        // LDK counts the spare blocks twice: in the last named hop, and for the payee.
        let blocks = u32::from(path.info.cltv_expiry_delta) + self.spare;
        hops.push(hop(path.path.introduction.0, self.before.len(), entering - self.amount, blocks));
        let ldks = |hop: &BlindedHop| LdkHop {
            blinded_node_id: hop.blinded_node_id,
            encrypted_payload: hop.encrypted_data.clone(),
        };
        let tail = BlindedTail {
            trampoline_hops: Vec::new(),
            hops: path.path.hops.iter().map(ldks).collect(),
            blinding_point: path.path.path_key,
            excess_final_cltv_expiry_delta: self.spare,
            final_value_msat: self.amount,
        };
        let mut padding = hmac::HmacEngine::<sha256::Hash>::new(b"pad");
        padding.input(&self.session.secret_bytes());
        let made = create_payment_onion(
            secp(),
            &Path { hops, blinded_tail: Some(tail) },
            &self.session,
            self.total,
            &RecipientOnionFields::spontaneous_empty(),
            HEIGHT,
            &ldk::PaymentHash(self.hash),
            &None,
            None,
            hmac::Hmac::from_engine(padding).to_byte_array(),
        );
        made.expect("LDK seals").0
    }
}

#[test]
fn both_seal_the_same_bytes_for_a_path() {
    let nodes = Nodes::new();
    property(CASES, |rng| {
        let (known, trip) = (Known::any(rng), Trip::any(rng));
        let path = if rng.one_in(2) {
            known.ours(&nodes)
        } else {
            taken(&known.theirs(&nodes), nodes.id(known.nodes[0]))
        };
        let (ours, theirs) = (trip.ours(&nodes, &path), trip.theirs(&nodes, &path));
        assert_eq!(ours.public_key, theirs.public_key.expect("a key").serialize());
        assert!(ours.hop_payloads == theirs.hop_data, "the payloads over {known:?}");
        assert_eq!(ours.hmac, theirs.hmac);
    });
}

#[test]
fn ldk_finds_in_its_path_what_we_sealed() {
    let nodes = Nodes::new();
    property(CASES, |rng| {
        let (known, mut trip) = (Known::any(rng), Trip::any(rng));
        trip.before.clear();
        let path = taken(&known.theirs(&nodes), nodes.id(known.nodes[0]));
        let packet = trip.ours(&nodes, &path);
        let mut packet = msgs::OnionPacket {
            version: packet.version,
            public_key: PublicKey::from_slice(&packet.public_key),
            hop_data: packet.hop_payloads,
            hmac: packet.hmac,
        };
        let (mut msat, mut expiry) = trip.entering(&path);
        let mut path_key = None;
        for (at, node) in known.nodes.iter().enumerate() {
            let add = msgs::UpdateAddHTLC {
                channel_id: ChannelId([1; 32]),
                htlc_id: 0,
                amount_msat: msat,
                payment_hash: ldk::PaymentHash(trip.hash),
                cltv_expiry: expiry,
                skimmed_fee_msat: None,
                onion_routing_packet: packet.clone(),
                blinding_point: path_key,
                hold_htlc: None,
            };
            let peeled = peel_payment_onion(&add, &nodes.0[*node], &Quiet, secp(), HEIGHT, false);
            let info = peeled.unwrap_or_else(|e| panic!("hop {at} of {known:?}: {e:?}"));
            match (info.routing, known.told.get(at)) {
                (PendingHTLCRouting::Forward { onion_packet, short_channel_id, .. }, Some(told)) => {
                    let relay = told.payment_relay.expect("it sends on");
                    let (goes_on, until) = relay.onward(Msat(msat), Height(expiry)).expect("an amount");
                    assert_eq!(Some(ShortChannelId(short_channel_id)), told.short_channel_id);
                    // BOLT 4 rounds what goes on up; LDK keeps a millisatoshi where that would leave it less than its fee.
                    assert!([goes_on.0, goes_on.0 - 1].contains(&info.outgoing_amt_msat));
                    assert_eq!(info.outgoing_cltv_value, until.0);
                    let (hop, key) = (&path.path.hops[at], path_key.unwrap_or(path.path.path_key));
                    let opened = open(&hop.encrypted_data, &key, &nodes.key(*node), secp()).expect("opened");
                    (msat, expiry, path_key) = (info.outgoing_amt_msat, until.0, Some(opened.next_path_key));
                    packet = onion_packet;
                }
                (PendingHTLCRouting::Receive { payment_data, .. }, None) => {
                    assert_eq!(payment_data.payment_secret.0, known.payment_secret);
                    assert_eq!(payment_data.total_msat, trip.total);
                    // What the sums of the path make of the amount is never too little.
                    assert!(msat >= trip.amount && expiry >= HEIGHT + trip.spare + u32::from(FINAL_BLOCKS));
                }
                _ => panic!("hop {at} of {known:?} found something else"),
            }
        }
    });
}
