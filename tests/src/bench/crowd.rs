//! A public network that exists: each channel of a map has its output on the chain, each message its true signatures.
//!
//! In: a map, a chain. Out: a store that holds all of it, as a well-connected node would, and what a cache of it weighs.
//! Capacities are a thousandth of the map's, for the chain's faucet has not that much. Read next: `gossip`.

use crate::duet::crypto;
use crate::map::{Map, Way};
use crate::Chain;
use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{
    Address, Amount, Network as Chains, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid,
    Witness,
};
use chand_protocol::chain::Network;
use chand_protocol::gossip::{Kept, Store};
use chand_protocol::id::{sha256, NodeId, ShortChannelId};
use chand_protocol::tx::script;
use chand_protocol::units::{Msat, Sat};
use chand_protocol::wire::gossip::{signed_digest, ChannelAnnouncement, ChannelUpdate, NodeAnnouncement};
use chand_protocol::wire::Message;
use secp256k1::ecdsa::Signature;
use secp256k1::{PublicKey, Secp256k1, SecretKey};
use serde_json::json;
use std::time::{SystemTime, UNIX_EPOCH};

/// Outputs of one transaction: below the weight that relays.
const OUTPUTS: usize = 2_000;
/// What such a transaction pays.
const FEE_SAT: u64 = 100_000;
/// The smallest output.
const LEAST_SAT: u64 = 1_000;
/// A record's frame in the cache, and the head of the file (`chand::gossip::Cache`).
const FRAME_BYTES: u64 = 8;
const HEAD_BYTES: u64 = 48;

/// All of it.
#[derive(Debug)]
pub struct Crowd {
    /// What a node that knows everything has.
    pub store: Store,
    /// Channels in it.
    pub channels: usize,
    /// Nodes in it.
    pub nodes: usize,
    /// The length of a cache file that holds all of it once.
    pub cache_bytes: u64,
    /// What all messages weigh.
    pub message_bytes: u64,
}

struct Keys {
    secret: SecretKey,
    public: PublicKey,
}

/// The identity (`part` 0) or the funding key (1) of a node.
fn keys(part: u8, node: usize, secp: &Secp256k1<secp256k1::All>) -> Keys {
    let secret = SecretKey::from_slice(&sha256(&[&[part], &node.to_be_bytes()[..]].concat())).expect("a key");
    Keys { secret, public: secret.public_key(secp) }
}

/// Builds it on a chain; takes some seconds.
///
/// # Panics
/// When the chain refuses something.
pub fn gather(map: &Map, chain: &Chain) -> Crowd {
    let secp = Secp256k1::new();
    let identities: Vec<Keys> = (0..map.nodes).map(|n| keys(0, n, &secp)).collect();
    let purses: Vec<Keys> = (0..map.nodes).map(|n| keys(1, n, &secp)).collect();
    let outputs: Vec<TxOut> = map
        .roads
        .iter()
        .map(|road| {
            let [a, b] = road.ends.map(|end| &purses[end as usize].public);
            TxOut {
                value: Amount::from_sat(capacity(road.capacity_sat)),
                script_pubkey: script::p2wsh(&script::funding(a, b)),
            }
        })
        .collect();
    let places = put_on_chain(chain, &outputs);
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs() as u32;
    let mut crowd = Crowd {
        store: Store::new(),
        channels: map.roads.len(),
        nodes: 0,
        cache_bytes: HEAD_BYTES,
        message_bytes: 0,
    };
    let mut known = vec![false; map.nodes];
    for (number, (road, (scid, txid))) in map.roads.iter().zip(places).enumerate() {
        let told_s = now_s - age_s(number);
        // Who has the smaller id is the first.
        let mut ends = road.ends.map(|end| end as usize);
        let mut ways = road.ways;
        if identities[ends[0]].public.serialize() > identities[ends[1]].public.serialize() {
            ends.reverse();
            ways.reverse();
        }
        let capacity_sat = capacity(road.capacity_sat);
        let announcement = announce(scid, ends.map(|n| &identities[n]), ends.map(|n| &purses[n]));
        let funding = Some((txid, Sat(capacity_sat)));
        crowd.keep(now_s, announcement.len(), Kept::Channel { announcement, funding, since_s: now_s });
        for (direction, way) in ways.iter().enumerate() {
            let update =
                update(scid, direction as u8, way, capacity_sat, told_s, &identities[ends[direction]]);
            crowd.keep(now_s, update.len(), Kept::Update { update });
        }
        ends.into_iter().for_each(|n| known[n] = true);
    }
    for (number, _) in known.iter().enumerate().filter(|(_, known)| **known) {
        let announcement = present(number, now_s - age_s(number), &identities[number]);
        crowd.keep(now_s, announcement.len(), Kept::Node { announcement });
        crowd.nodes += 1;
    }
    crowd
}

/// Updates come at any time of the two weeks after which a channel without one is forgotten.
const fn age_s(number: usize) -> u32 {
    const DAYS: usize = 13;
    (number * 7_919 % (DAYS * 86_400)) as u32
}

const fn capacity(sat: u64) -> u64 {
    let scaled = sat / 1_000;
    if scaled < LEAST_SAT {
        LEAST_SAT
    } else {
        scaled
    }
}

impl Crowd {
    fn keep(&mut self, now_s: u32, message_bytes: usize, kept: Kept) {
        self.cache_bytes += FRAME_BYTES + kept.encode().len() as u64;
        self.message_bytes += message_bytes as u64;
        self.store.restore(kept, &Network::Regtest.chain_hash(), now_s);
    }
}

/// Signs a message whose first fields are these many signatures; each by one of the keys, in order.
fn signed(message: &Message, by: &[&Keys]) -> Vec<Signature> {
    let bytes = message.encode().expect("a message that fits");
    let digest = signed_digest(&bytes, by.len()).expect("a signed message");
    by.iter().map(|keys| crypto().sign(&digest, &keys.secret)).collect()
}

fn encoded(message: &Message) -> Box<[u8]> {
    message.encode().expect("a message that fits").into_boxed_slice()
}

fn unsigned() -> Signature {
    Signature::from_compact(&[1; 64]).expect("two numbers")
}

fn announce(scid: ShortChannelId, ids: [&Keys; 2], purses: [&Keys; 2]) -> Box<[u8]> {
    let mut m = ChannelAnnouncement {
        node_signature_1: unsigned(),
        node_signature_2: unsigned(),
        bitcoin_signature_1: unsigned(),
        bitcoin_signature_2: unsigned(),
        features: Vec::new(),
        chain_hash: Network::Regtest.chain_hash(),
        short_channel_id: scid,
        node_id_1: NodeId(ids[0].public),
        node_id_2: NodeId(ids[1].public),
        bitcoin_key_1: purses[0].public,
        bitcoin_key_2: purses[1].public,
        tail: Vec::new(),
    };
    let all = signed(&Message::ChannelAnnouncement(m.clone()), &[ids[0], ids[1], purses[0], purses[1]]);
    (m.node_signature_1, m.node_signature_2) = (all[0], all[1]);
    (m.bitcoin_signature_1, m.bitcoin_signature_2) = (all[2], all[3]);
    encoded(&Message::ChannelAnnouncement(m))
}

fn update(scid: ShortChannelId, direction: u8, way: &Way, most_sat: u64, now_s: u32, by: &Keys) -> Box<[u8]> {
    let off = if way.disabled { ChannelUpdate::DISABLE } else { 0 };
    let mut m = ChannelUpdate {
        signature: unsigned(),
        chain_hash: Network::Regtest.chain_hash(),
        short_channel_id: scid,
        timestamp: now_s,
        message_flags: ChannelUpdate::MUST_BE_ONE,
        channel_flags: direction | off,
        cltv_expiry_delta: way.cltv_delta,
        htlc_minimum_msat: Msat(way.htlc_minimum_msat.min(most_sat * 1_000)),
        fee_base_msat: way.fee_base_msat,
        fee_proportional_millionths: way.fee_millionths,
        htlc_maximum_msat: Msat(most_sat * 1_000),
        tail: Vec::new(),
    };
    m.signature = signed(&Message::ChannelUpdate(m.clone()), &[by])[0];
    encoded(&Message::ChannelUpdate(m))
}

fn present(number: usize, now_s: u32, by: &Keys) -> Box<[u8]> {
    let mut alias = [0; 32];
    let name = format!("node {number}");
    alias[..name.len()].copy_from_slice(name.as_bytes());
    // An IPv4 address for documentation (RFC 5737).
    let addresses = [&[1, 203, 0, 113, (number % 250) as u8][..], &9_735u16.to_be_bytes()[..]].concat();
    let mut m = NodeAnnouncement {
        signature: unsigned(),
        features: Vec::new(),
        timestamp: now_s,
        node_id: NodeId(by.public),
        rgb_color: [0, 0, 0],
        alias,
        addresses,
        tail: Vec::new(),
    };
    m.signature = signed(&Message::NodeAnnouncement(m.clone()), &[by])[0];
    encoded(&Message::NodeAnnouncement(m))
}

/// Mines these outputs, many in a transaction and one transaction a block; where each is.
fn put_on_chain(chain: &Chain, outputs: &[TxOut]) -> Vec<(ShortChannelId, Txid)> {
    let secp = Secp256k1::new();
    let purse = keys(2, 0, &secp);
    let script = script::p2wpkh(&purse.public);
    let address = Address::from_script(&script, Chains::Regtest).expect("an address").to_string();
    let mut places = Vec::with_capacity(outputs.len());
    for batch in outputs.chunks(OUTPUTS) {
        let wanted: u64 = batch.iter().map(|o| o.value.to_sat()).sum::<u64>() + FEE_SAT;
        let coin = chain.send(&address, wanted);
        let vout = chain.transaction(&coin.to_string()).output.iter().position(|o| o.script_pubkey == script);
        chain.mine(1);
        let outpoint = OutPoint { txid: coin, vout: vout.expect("the coin") as u32 };
        let tx = spend(outpoint, wanted, &script, &purse, batch);
        chain.call("sendrawtransaction", json!([serialize_hex(&tx)]));
        let height = chain.mine(1);
        // Alone with the coinbase in its block.
        let place = |vout: usize| ShortChannelId(height << 40 | 1 << 16 | vout as u64);
        places.extend((0..batch.len()).map(|vout| (place(vout), tx.compute_txid())));
    }
    // Deep enough to be announced.
    chain.mine(6);
    places
}

fn spend(coin: OutPoint, sat: u64, script: &ScriptBuf, purse: &Keys, outputs: &[TxOut]) -> Transaction {
    let mut tx = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: coin,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: outputs.to_vec(),
    };
    let kind = EcdsaSighashType::All;
    let value = Amount::from_sat(sat);
    let digest = SighashCache::new(&tx).p2wpkh_signature_hash(0, script, value, kind).expect("a digest");
    let signature = crypto().sign(digest.as_ref(), &purse.secret);
    tx.input[0].witness = Witness::p2wpkh(&script::witness_signature(&signature, kind), &purse.public);
    tx
}
