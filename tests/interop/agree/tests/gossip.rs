//! Gossip's messages: the same bytes from either, whatever a later version appends to them.
//!
//! In: random fields, addresses of every kind, lists of every length. Out: equal bytes, equal values read back; addresses that
//! both know mean the same.
//! Read next: `graph` (what either believes of them), BOLT 7.

use bitcoin::constants::ChainHash;
use chand_protocol::id::{ChannelId, NodeId, ShortChannelId};
use chand_protocol::units::{Height, Msat};
use chand_protocol::wire::address::{self, Address};
use chand_protocol::wire::gossip as ours;
use chand_protocol::wire::Message;
use ldk_agree::codec::same;
use ldk_agree::{property, Rng};
use lightning::ln::msgs::{self, SocketAddress};
use lightning::ln::types::ChannelId as LdkChannelId;
use lightning::routing::gossip::{NodeAlias, NodeId as LdkNodeId};
use lightning::util::ser::Hostname;
use lightning_types::features::{ChannelFeatures, NodeFeatures};

const CASES: u64 = 1_000;
/// The type of an address that nobody knows yet.
const UNKNOWN_ADDRESS: u8 = 77;

fn some_bytes(rng: &mut Rng, most: usize) -> Vec<u8> {
    let length = if rng.one_in(2) { 0 } else { rng.index(0, most) };
    rng.bytes(length)
}

fn node(rng: &mut Rng) -> (NodeId, LdkNodeId) {
    let key = rng.key();
    (NodeId(key), LdkNodeId::from_pubkey(&key))
}

#[test]
fn announcing_a_channel() {
    property(CASES, |rng| {
        let id = rng.array();
        let (short_channel_id, node_signature, bitcoin_signature) =
            (rng.bits(), rng.signature(), rng.signature());
        same(
            Message::AnnouncementSignatures(ours::AnnouncementSignatures {
                channel_id: ChannelId(id),
                short_channel_id: ShortChannelId(short_channel_id),
                node_signature,
                bitcoin_signature,
            }),
            &msgs::AnnouncementSignatures {
                channel_id: LdkChannelId(id),
                short_channel_id,
                node_signature,
                bitcoin_signature,
            },
        );
        let (one, two) = (node(rng), node(rng));
        let m = ours::ChannelAnnouncement {
            node_signature_1: rng.signature(),
            node_signature_2: rng.signature(),
            bitcoin_signature_1: rng.signature(),
            bitcoin_signature_2: rng.signature(),
            // Leading zeros, too, stay as they came.
            features: some_bytes(rng, 12),
            chain_hash: rng.array(),
            short_channel_id: ShortChannelId(short_channel_id),
            node_id_1: one.0,
            node_id_2: two.0,
            bitcoin_key_1: rng.key(),
            bitcoin_key_2: rng.key(),
            tail: some_bytes(rng, 80),
        };
        let theirs = msgs::ChannelAnnouncement {
            node_signature_1: m.node_signature_1,
            node_signature_2: m.node_signature_2,
            bitcoin_signature_1: m.bitcoin_signature_1,
            bitcoin_signature_2: m.bitcoin_signature_2,
            contents: msgs::UnsignedChannelAnnouncement {
                features: ChannelFeatures::from_be_bytes(m.features.clone()),
                chain_hash: ChainHash::from(m.chain_hash),
                short_channel_id,
                node_id_1: one.1,
                node_id_2: two.1,
                bitcoin_key_1: LdkNodeId::from_pubkey(&m.bitcoin_key_1),
                bitcoin_key_2: LdkNodeId::from_pubkey(&m.bitcoin_key_2),
                excess_data: m.tail.clone(),
            },
        };
        same(Message::ChannelAnnouncement(m), &theirs);
    });
}

#[test]
fn updating_a_channel() {
    property(CASES, |rng| {
        let m = ours::ChannelUpdate {
            signature: rng.signature(),
            chain_hash: rng.array(),
            short_channel_id: ShortChannelId(rng.bits()),
            timestamp: rng.bits() as u32,
            // LDK reads none without it.
            message_flags: rng.bits() as u8 | ours::ChannelUpdate::MUST_BE_ONE,
            channel_flags: rng.bits() as u8,
            cltv_expiry_delta: rng.any_size() as u16,
            htlc_minimum_msat: Msat(rng.any_size()),
            fee_base_msat: rng.any_size() as u32,
            fee_proportional_millionths: rng.any_size() as u32,
            htlc_maximum_msat: Msat(rng.any_size()),
            tail: some_bytes(rng, 80),
        };
        let theirs = msgs::ChannelUpdate {
            signature: m.signature,
            contents: msgs::UnsignedChannelUpdate {
                chain_hash: ChainHash::from(m.chain_hash),
                short_channel_id: m.short_channel_id.0,
                timestamp: m.timestamp,
                message_flags: m.message_flags,
                channel_flags: m.channel_flags,
                cltv_expiry_delta: m.cltv_expiry_delta,
                htlc_minimum_msat: m.htlc_minimum_msat.0,
                htlc_maximum_msat: m.htlc_maximum_msat.0,
                fee_base_msat: m.fee_base_msat,
                fee_proportional_millionths: m.fee_proportional_millionths,
                excess_data: m.tail.clone(),
            },
        };
        same(Message::ChannelUpdate(m), &theirs);
    });
}

/// An address as both have it; a host name of Tor's old kind has no meaning for us.
fn some_address(rng: &mut Rng, kind: u64) -> (Option<Address>, SocketAddress) {
    let port = rng.range(1, 1 << 16) as u16;
    match kind {
        0 => {
            let addr: [u8; 4] = rng.array();
            (Some(Address::Ipv4(addr.into(), port)), SocketAddress::TcpIpV4 { addr, port })
        }
        1 => {
            let addr: [u8; 16] = rng.array();
            (Some(Address::Ipv6(addr.into(), port)), SocketAddress::TcpIpV6 { addr, port })
        }
        2 => (None, SocketAddress::OnionV2(rng.array())),
        3 => {
            let (ed25519_pubkey, checksum, version): ([u8; 32], u16, u8) =
                (rng.array(), rng.bits() as u16, rng.bits() as u8);
            let bytes = [&ed25519_pubkey[..], &checksum.to_be_bytes(), &[version]].concat();
            let bytes: [u8; 35] = bytes.try_into().expect("35 bytes");
            (
                Some(Address::TorV3(bytes, port)),
                SocketAddress::OnionV3 { ed25519_pubkey, checksum, version, port },
            )
        }
        _ => {
            let letters = b"abcdefghijklmnopqrstuvwxyz0123456789-.";
            let length = rng.range(1, 60);
            let name: String = (0..length).map(|_| char::from(rng.pick(letters))).collect();
            let hostname = Hostname::try_from(name.clone()).expect("a host name");
            (Some(Address::Dns(name, port)), SocketAddress::Hostname { hostname, port })
        }
    }
}

#[test]
fn announcing_a_node() {
    property(CASES, |rng| {
        let (node_id, ldk_id) = node(rng);
        // In ascending order, as they are to be; of host names one.
        let mut kinds: Vec<u64> = (0..rng.range(0, 6)).map(|_| rng.range(0, 5)).collect();
        kinds.sort_unstable();
        let last = kinds.iter().position(|kind| *kind == 4).map_or(kinds.len(), |at| at + 1);
        let (mut mine, mut addresses) = (Vec::new(), Vec::new());
        for kind in &kinds[..last] {
            let (ours, theirs) = some_address(rng, *kind);
            mine.extend(ours);
            addresses.push(theirs);
        }
        let mut excess_address_data = some_bytes(rng, 40);
        if let Some(kind) = excess_address_data.first_mut() {
            *kind = UNKNOWN_ADDRESS;
        }
        let theirs = msgs::NodeAnnouncement {
            signature: rng.signature(),
            contents: msgs::UnsignedNodeAnnouncement {
                features: NodeFeatures::from_be_bytes(some_bytes(rng, 12)),
                timestamp: rng.bits() as u32,
                node_id: ldk_id,
                rgb: rng.array(),
                alias: NodeAlias(rng.array()),
                addresses,
                excess_address_data,
                excess_data: some_bytes(rng, 80),
            },
        };
        let c = &theirs.contents;
        let field: Vec<u8> = c.addresses.iter().flat_map(lightning::util::ser::Writeable::encode).collect();
        let m = ours::NodeAnnouncement {
            signature: theirs.signature,
            features: c.features.le_flags().iter().rev().copied().collect(),
            timestamp: c.timestamp,
            node_id,
            rgb_color: c.rgb,
            alias: c.alias.0,
            addresses: [field.clone(), c.excess_address_data.clone()].concat(),
            tail: c.excess_data.clone(),
        };
        assert_eq!(address::read(&m.addresses).expect("addresses").known, mine);
        // Old Tor names apart, and ours in ascending order, what we write is what LDK writes.
        if kinds.iter().all(|kind| *kind != 2) && mine.is_sorted() {
            let mut once = mine.clone();
            once.dedup();
            assert!(once.len() < mine.len() || address::write(&mine) == field);
        }
        same(Message::NodeAnnouncement(m), &theirs);
    });
}

#[test]
fn asking_and_answering() {
    property(CASES, |rng| {
        let chain_hash: [u8; 32] = rng.array();
        let chain = ChainHash::from(chain_hash);
        let ids: Vec<u64> = (0..rng.range(0, 40)).map(|_| rng.bits()).collect();
        let list = || ours::ShortChannelIds(ids.iter().copied().map(ShortChannelId).collect());
        let query = ours::QueryShortChannelIds { chain_hash, short_channel_ids: list(), query_flags: None };
        let theirs = msgs::QueryShortChannelIds { chain_hash: chain, short_channel_ids: ids.clone() };
        same(Message::QueryShortChannelIds(query), &theirs);
        let full = rng.one_in(2);
        same(
            Message::ReplyShortChannelIdsEnd(ours::ReplyShortChannelIdsEnd {
                chain_hash,
                full_information: full.into(),
            }),
            &msgs::ReplyShortChannelIdsEnd { chain_hash: chain, full_information: full },
        );
        let (first, count, range) = (rng.any_size() as u32, rng.any_size() as u32, rng.bits() as u32);
        let (first_blocknum, number_of_blocks) = (Height(first), count);
        let query =
            ours::QueryChannelRange { chain_hash, first_blocknum, number_of_blocks, query_option: None };
        let theirs = msgs::QueryChannelRange { chain_hash: chain, first_blocknum: first, number_of_blocks };
        same(Message::QueryChannelRange(query), &theirs);
        let reply = ours::ReplyChannelRange {
            chain_hash,
            first_blocknum,
            number_of_blocks,
            sync_complete: full.into(),
            short_channel_ids: list(),
            timestamps: None,
            checksums: None,
        };
        let theirs = msgs::ReplyChannelRange {
            chain_hash: chain,
            first_blocknum: first,
            number_of_blocks,
            sync_complete: full,
            short_channel_ids: ids.clone(),
        };
        same(Message::ReplyChannelRange(reply), &theirs);
        same(
            Message::GossipTimestampFilter(ours::GossipTimestampFilter {
                chain_hash,
                first_timestamp: first,
                timestamp_range: range,
            }),
            &msgs::GossipTimestampFilter {
                chain_hash: chain,
                first_timestamp: first,
                timestamp_range: range,
            },
        );
    });
}
