//! A map of channels as large as the public network: read from a table, or grown from a seed to the same shape.
//!
//! In: CSV lines, one for each direction of a channel; or a seed and two numbers. Out: channels and policies between
//! numbered nodes, ids for these, and chand's graph of them. The benchmark of routes includes this module as it stands
//! (`tests/bench/ldk/routes`), so it knows nothing but the protocol crate. Read next: `grow`, `figures`.

pub mod figures;
pub mod grow;

use chand_protocol::gossip::graph::{Direction, Graph, Policy};
use chand_protocol::id::{sha256, NodeId, ShortChannelId};
use chand_protocol::units::{Msat, Sat};
use secp256k1::{Secp256k1, SecretKey};

/// Nodes are numbers from 0 on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    /// How many.
    pub nodes: usize,
    /// All channels.
    pub roads: Vec<Road>,
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Road {
    /// Its two nodes.
    pub ends: [u32; 2],
    /// What it holds.
    pub capacity_sat: u64,
    /// From the first to the second, and back.
    pub ways: [Way; 2],
}

/// One direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// Switched off, or never updated.
    pub disabled: bool,
    /// Limits of an HTLC.
    pub htlc_minimum_msat: u64,
    /// The same.
    pub htlc_maximum_msat: u64,
    /// Fixed fee.
    pub fee_base_msat: u32,
    /// Fee per million.
    pub fee_millionths: u32,
    /// Blocks.
    pub cltv_delta: u16,
}

/// The name of the n-th channel.
pub fn scid(n: usize) -> ShortChannelId {
    ShortChannelId((600_000 + n as u64 / 500) << 40 | (1 + n as u64 % 500) << 16)
}

/// Which channel has this name.
pub fn number(scid: ShortChannelId) -> usize {
    ((scid.0 >> 40) as usize - 600_000) * 500 + (scid.0 >> 16 & 0xff_ffff) as usize - 1
}

/// Ids for so many nodes, always the same ones.
pub fn ids(count: usize) -> Vec<NodeId> {
    let secp = Secp256k1::new();
    let key = |n: usize| SecretKey::from_slice(&sha256(&(n as u64).to_be_bytes())).expect("a hash is a key");
    (0..count).map(|n| NodeId(key(n).public_key(&secp))).collect()
}

impl Map {
    /// From lines `channel,direction,from,to,capacity,disabled,minimum,maximum,base,millionths,delta` below a heading, the
    /// two directions of a channel one after the other.
    pub fn read(csv: &str) -> Result<Map, String> {
        let mut map = Map::default();
        for (place, line) in csv.lines().enumerate().skip(1) {
            let bad = || format!("line {}: not a direction of a channel", place + 1);
            let words: Result<Vec<u64>, _> = line.split(',').map(str::parse).collect();
            let words = words.map_err(|_| bad())?;
            let [_, direction, from, to, capacity, disabled, least, most, base, millionths, delta] =
                words[..]
            else {
                return Err(bad());
            };
            let way = Way {
                disabled: disabled != 0,
                htlc_minimum_msat: least,
                htlc_maximum_msat: most,
                fee_base_msat: u32::try_from(base).map_err(|_| bad())?,
                fee_millionths: u32::try_from(millionths).map_err(|_| bad())?,
                cltv_delta: u16::try_from(delta).map_err(|_| bad())?,
            };
            let (from, to) = (from as u32, to as u32);
            match (direction, map.roads.last_mut()) {
                (0, _) => {
                    map.nodes = map.nodes.max(from.max(to) as usize + 1);
                    let ways = [way, Way { disabled: true, ..way }];
                    map.roads.push(Road { ends: [from, to], capacity_sat: capacity, ways });
                }
                (1, Some(road)) if road.ends == [to, from] => road.ways[1] = way,
                _ => return Err(bad()),
            }
        }
        Ok(map)
    }

    /// How many channels each node has.
    pub fn degrees(&self) -> Vec<u32> {
        let mut degrees = vec![0; self.nodes];
        for end in self.roads.iter().flat_map(|road| road.ends) {
            degrees[end as usize] += 1;
        }
        degrees
    }

    /// As chand keeps it.
    pub fn graph(&self, ids: &[NodeId]) -> Graph {
        let mut graph = Graph::new();
        for (place, road) in self.roads.iter().enumerate() {
            let mut nodes = road.ends.map(|end| ids[end as usize]);
            let forth = Direction::between(&nodes[0], &nodes[1]);
            if forth == Direction::One {
                nodes.reverse();
            }
            graph.add_channel(scid(place), nodes, Some(Sat(road.capacity_sat)));
            graph.set_policy(scid(place), forth, policy(&road.ways[0]));
            graph.set_policy(scid(place), forth.other(), policy(&road.ways[1]));
        }
        graph
    }
}

fn policy(way: &Way) -> Policy {
    Policy {
        disabled: way.disabled,
        cltv_expiry_delta: way.cltv_delta,
        htlc_minimum: Msat(way.htlc_minimum_msat),
        htlc_maximum: Msat(way.htlc_maximum_msat),
        fee_base_msat: way.fee_base_msat,
        fee_proportional_millionths: way.fee_millionths,
        timestamp: 1,
    }
}

#[cfg(test)]
mod tests;
