//! Onions: what LDK seals we peel, what we seal LDK peels, and both packets have equal bytes; LDK's errors are read.
//!
//! In: random routes, amounts, secrets, records. Out: each hop finds what was put there, by whichever of the two.
//! LDK opens the errors of others in private code only: that way round is for the process tests, where it pays us in vain.
//! Read next: `invoice.rs`.

use bitcoin::hashes::{hmac, sha256, Hash, HashEngine};
use chand_protocol::id::{PaymentSecret, Preimage, ShortChannelId};
use chand_protocol::onion::payload::{Final, Forward, Payload};
use chand_protocol::onion::returned::{unwrap, wrap_again};
use chand_protocol::onion::sphinx::{build, peel, BuiltOnion};
use chand_protocol::units::{Height, Msat};
use chand_protocol::wire::message::OnionPacket;
use ldk_agree::{property, secp, Rng};
use lightning::ln::channelmanager::{PendingHTLCInfo, PendingHTLCRouting, RecipientOnionFields};
use lightning::ln::msgs;
use lightning::ln::onion_payment::{peel_payment_onion, InboundHTLCErr};
use lightning::ln::onion_utils::create_payment_onion;
use lightning::ln::types::ChannelId;
use lightning::routing::router::{Path, RouteHop};
use lightning::sign::KeysManager;
use lightning::util::logger::{Logger, Record};
use lightning_types::features::{ChannelFeatures, NodeFeatures};
use lightning_types::payment as ldk;
use secp256k1::SecretKey;

const CASES: u64 = 1_500;
/// The height at which all of this happens.
const HEIGHT: u32 = 800_000;
/// So many nodes LDK plays.
const NODES: usize = 8;

struct Quiet;

impl Logger for Quiet {
    fn log(&self, _: Record) {}
}

struct Nodes(Vec<KeysManager>);

impl Nodes {
    fn new() -> Nodes {
        Nodes((0..NODES).map(|n| KeysManager::new(&[n as u8 + 1; 32], 1, 1, true)).collect())
    }

    fn key(&self, node: usize) -> SecretKey {
        self.0[node].get_node_secret_key()
    }
}

/// A payment over some hops: what each hop is told.
#[derive(Debug)]
struct Payment {
    /// Which node each hop is.
    nodes: Vec<usize>,
    session: SecretKey,
    hash: [u8; 32],
    /// For all hops but the last.
    forwards: Vec<Forward>,
    last: Final,
    /// What the first hop gets, and until when.
    first_msat: u64,
    first_expiry: u32,
    /// The same for LDK.
    path: Path,
}

fn some_final(rng: &mut Rng, amount: u64, expiry: u32) -> (Final, [u8; 32]) {
    let (amount, expiry) = (Msat(amount), Height(expiry));
    let (mut last, hash) = if rng.one_in(3) {
        let preimage = Preimage(rng.array());
        let hash = preimage.hash().0;
        (Final::keysend(amount, expiry, preimage), hash)
    } else {
        let total = Msat(amount.0 + if rng.one_in(2) { rng.any_size() >> 20 } else { 0 });
        (Final::invoice(amount, expiry, PaymentSecret(rng.array()), total), rng.array())
    };
    if rng.one_in(4) {
        let length = rng.index(0, 100);
        last.payment_metadata = Some(rng.bytes(length));
    }
    for _ in 0..rng.range(0, 4) {
        // Free for anybody from here on; those of keysend and of LDK's invoice requests are taken.
        let kind = 65_536 + (rng.any_size() >> 8);
        // An even one is refused by whoever does not know it.
        let kind = if rng.one_in(5) { kind } else { kind | 1 };
        if kind != 5_482_373_484 && kind != 77_777 {
            let length = rng.index(0, 60);
            last.custom.insert(kind, rng.bytes(length));
        }
    }
    (last, hash)
}

impl Payment {
    fn any(rng: &mut Rng, nodes: &Nodes) -> Payment {
        let count = rng.index(1, 12);
        let chosen: Vec<usize> = (0..count).map(|_| rng.index(0, NODES)).collect();
        let scids: Vec<u64> = (0..count).map(|_| rng.bits()).collect();
        let (fees, deltas): (Vec<u64>, Vec<u32>) =
            (0..count).map(|_| (rng.any_size() >> 24, rng.range(60, 150) as u32)).unzip();
        let amount = 1 + (rng.any_size() >> 14);
        // What arrives at a hop, and when it expires there.
        let (mut msat, mut expiry) = (amount, HEIGHT + deltas[count - 1]);
        let (last, hash) = some_final(rng, msat, expiry);
        let mut forwards = Vec::new();
        for hop in (0..count - 1).rev() {
            forwards.push(Forward {
                short_channel_id: ShortChannelId(scids[hop + 1]),
                amt_to_forward: Msat(msat),
                outgoing_cltv_value: Height(expiry),
            });
            msat += fees[hop];
            expiry += deltas[hop];
        }
        forwards.reverse();
        let hop = |n: usize| RouteHop {
            pubkey: nodes.key(chosen[n]).public_key(secp()),
            node_features: NodeFeatures::empty(),
            short_channel_id: scids[n],
            channel_features: ChannelFeatures::empty(),
            fee_msat: if n == count - 1 { amount } else { fees[n] },
            cltv_expiry_delta: deltas[n],
            maybe_announced_channel: true,
        };
        let path = Path { hops: (0..count).map(hop).collect(), blinded_tail: None };
        let (first_msat, first_expiry) = (msat, expiry);
        Payment { nodes: chosen, session: rng.secret(), hash, forwards, last, first_msat, first_expiry, path }
    }

    /// Sealed by us.
    fn ours(&self, nodes: &Nodes) -> BuiltOnion {
        let layers = self.forwards.iter().map(Forward::encode).chain([self.last.encode()]);
        let keys = self.nodes.iter().map(|n| nodes.key(*n).public_key(secp()));
        let hops: Vec<_> = keys.zip(layers).collect();
        build(&self.session, &hops, &self.hash, secp()).expect("it fits")
    }

    /// Sealed by LDK, with the padding that BOLT 4 makes of the session key.
    fn theirs(&self) -> msgs::OnionPacket {
        let mut padding = hmac::HmacEngine::<sha256::Hash>::new(b"pad");
        padding.input(&self.session.secret_bytes());
        let padding = hmac::Hmac::from_engine(padding).to_byte_array();
        let mut fields = match &self.last.payment_data {
            Some(data) => RecipientOnionFields::secret_only(ldk::PaymentSecret(data.payment_secret.0)),
            None => RecipientOnionFields::spontaneous_empty(),
        };
        fields.payment_metadata = self.last.payment_metadata.clone();
        let custom: Vec<(u64, Vec<u8>)> = self.last.custom.clone().into_iter().collect();
        let fields = fields.with_custom_tlvs(custom).expect("free types");
        let (packet, msat, expiry) = create_payment_onion(
            secp(),
            &self.path,
            &self.session,
            self.last.total_msat().0,
            &fields,
            HEIGHT,
            &ldk::PaymentHash(self.hash),
            &self.last.keysend_preimage.as_ref().map(|p| ldk::PaymentPreimage(p.0)),
            None,
            padding,
        )
        .expect("LDK seals");
        assert_eq!((msat, expiry), (self.first_msat, self.first_expiry));
        packet
    }
}

fn as_ldk(packet: &OnionPacket) -> msgs::OnionPacket {
    msgs::OnionPacket {
        version: packet.version,
        public_key: Ok(secp256k1::PublicKey::from_slice(&packet.public_key).expect("a key")),
        hop_data: packet.hop_payloads,
        hmac: packet.hmac,
    }
}

fn as_ours(packet: &msgs::OnionPacket) -> OnionPacket {
    OnionPacket {
        version: packet.version,
        public_key: packet.public_key.expect("a key").serialize(),
        hop_payloads: packet.hop_data,
        hmac: packet.hmac,
    }
}

fn ldk_peels(
    nodes: &Nodes,
    node: usize,
    packet: msgs::OnionPacket,
    hash: [u8; 32],
    msat: u64,
    expiry: u32,
) -> Result<PendingHTLCInfo, InboundHTLCErr> {
    let add = msgs::UpdateAddHTLC {
        channel_id: ChannelId([1; 32]),
        htlc_id: 0,
        amount_msat: msat,
        payment_hash: ldk::PaymentHash(hash),
        cltv_expiry: expiry,
        skimmed_fee_msat: None,
        onion_routing_packet: packet,
        blinding_point: None,
        hold_htlc: None,
    };
    peel_payment_onion(&add, &nodes.0[node], &Quiet, secp(), HEIGHT, false)
}

#[test]
fn both_seal_the_same_bytes() {
    let nodes = Nodes::new();
    property(CASES, |rng| {
        let payment = Payment::any(rng, &nodes);
        let (ours, theirs) = (payment.ours(&nodes).packet, as_ours(&payment.theirs()));
        assert_eq!(ours.public_key, theirs.public_key);
        assert!(ours.hop_payloads == theirs.hop_payloads, "the payloads of {payment:?}");
        assert_eq!(ours.hmac, theirs.hmac);
        assert_eq!(ours.version, theirs.version);
    });
}

#[test]
fn we_peel_what_ldk_sealed() {
    let nodes = Nodes::new();
    property(CASES, |rng| {
        let payment = Payment::any(rng, &nodes);
        let mut packet = as_ours(&payment.theirs());
        let secrets = payment.ours(&nodes).shared_secrets;
        for (at, node) in payment.nodes.iter().enumerate() {
            let peeled = peel(&packet, &nodes.key(*node), &payment.hash, secp()).expect("peeled");
            assert_eq!(peeled.shared_secret, secrets[at]);
            let is_last = peeled.next.is_none();
            assert_eq!(is_last, at == payment.nodes.len() - 1);
            let payload = Payload::decode(&peeled.payload, is_last);
            // LDK leaves it to its user to refuse records that must be known and are not; here they are refused.
            if let Some(kind) = payment.last.custom.keys().find(|kind| is_last && *kind % 2 == 0) {
                assert_eq!(payload.expect_err("an unknown even record").kind, *kind);
                return;
            }
            let payload = payload.expect("a payload");
            match peeled.next {
                Some(next) => {
                    assert_eq!(payload, Payload::Forward(payment.forwards[at].clone()));
                    packet = next;
                }
                None => assert_eq!(payload, Payload::Final(payment.last.clone())),
            }
        }
    });
}

#[test]
fn ldk_peels_what_we_sealed() {
    let nodes = Nodes::new();
    property(CASES, |rng| {
        let payment = Payment::any(rng, &nodes);
        let built = payment.ours(&nodes);
        let mut packet = as_ldk(&built.packet);
        let (mut msat, mut expiry) = (payment.first_msat, payment.first_expiry);
        for (at, node) in payment.nodes.iter().enumerate() {
            let found = ldk_peels(&nodes, *node, packet.clone(), payment.hash, msat, expiry);
            let info = found.unwrap_or_else(|e| panic!("hop {at} of {payment:?}: {e:?}"));
            assert_eq!(info.incoming_shared_secret, built.shared_secrets[at].0);
            match payment.forwards.get(at) {
                Some(forward) => {
                    let PendingHTLCRouting::Forward { onion_packet, short_channel_id, .. } = info.routing
                    else {
                        panic!("hop {at} passes it on")
                    };
                    assert_eq!(short_channel_id, forward.short_channel_id.0);
                    (msat, expiry) = (info.outgoing_amt_msat, info.outgoing_cltv_value);
                    assert_eq!((msat, expiry), (forward.amt_to_forward.0, forward.outgoing_cltv_value.0));
                    packet = onion_packet;
                }
                None => found_at_last(&payment.last, info),
            }
        }
    });
}

/// LDK found in the last layer what was put there.
fn found_at_last(last: &Final, info: PendingHTLCInfo) {
    assert_eq!(info.outgoing_amt_msat, last.amt_to_forward.0);
    let (data, metadata, expiry, custom, preimage) = match info.routing {
        PendingHTLCRouting::Receive {
            payment_data,
            payment_metadata,
            incoming_cltv_expiry,
            custom_tlvs,
            ..
        } => (Some(payment_data), payment_metadata, incoming_cltv_expiry, custom_tlvs, None),
        PendingHTLCRouting::ReceiveKeysend {
            payment_data,
            payment_preimage,
            payment_metadata,
            incoming_cltv_expiry,
            custom_tlvs,
            ..
        } => (payment_data, payment_metadata, incoming_cltv_expiry, custom_tlvs, Some(payment_preimage.0)),
        _ => panic!("it is the last hop"),
    };
    assert_eq!(expiry, last.outgoing_cltv_value.0);
    assert_eq!(metadata, last.payment_metadata);
    assert_eq!(preimage, last.keysend_preimage.as_ref().map(|p| p.0));
    let sent = last.payment_data.as_ref().map(|d| (d.payment_secret.0, d.total_msat.0));
    assert_eq!(data.map(|d| (d.payment_secret.0, d.total_msat)), sent);
    assert_eq!(custom, last.custom.clone().into_iter().collect::<Vec<_>>());
}

#[test]
fn we_read_ldks_errors() {
    let nodes = Nodes::new();
    property(CASES / 2, |rng| {
        // The last hop's layer lacks an amount, or has a record that it must know and does not.
        let count = rng.index(1, 8);
        let chosen: Vec<usize> = (0..count).map(|_| rng.index(0, NODES)).collect();
        let good = Forward {
            short_channel_id: ShortChannelId(rng.bits()),
            amt_to_forward: Msat(1_000),
            outgoing_cltv_value: Height(HEIGHT + 100),
        };
        let mut bad = if rng.one_in(2) { good.encode()[..3].to_vec() } else { good.encode() };
        bad.extend([0x7e, 0x01, 0xff]);
        let layers = (0..count).map(|n| if n == count - 1 { bad.clone() } else { good.encode() });
        let keys = chosen.iter().map(|n| nodes.key(*n).public_key(secp()));
        let hops: Vec<_> = keys.zip(layers).collect();
        let hash = rng.array();
        let built = build(&rng.secret(), &hops, &hash, secp()).expect("it fits");
        let mut packet = built.packet.clone();
        for node in &chosen[..count - 1] {
            let peeled = peel(&packet, &nodes.key(*node), &hash, secp()).expect("peeled");
            packet = peeled.next.expect("more hops");
        }
        let peeled = ldk_peels(&nodes, chosen[count - 1], as_ldk(&packet), hash, 1_000, HEIGHT + 100);
        let error = peeled.err().expect("no sound payload");
        // LDK sealed it for the way back; the hops between are ours.
        let mut reason = error.err_data;
        for secret in built.shared_secrets[..count - 1].iter().rev() {
            reason = wrap_again(secret, reason);
        }
        let (hop, failure) = unwrap(&built.shared_secrets, &reason).expect("a failure that can be read");
        assert_eq!((hop, failure.name()), (count - 1, "invalid_onion_payload"));
    });
}
