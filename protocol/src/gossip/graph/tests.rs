//! The graph against a plain list of channels that was kept beside it.
//!
//! In: additions, policies and removals, some by hand, thousands at random. Out: both say the same.

use super::*;
use crate::entropy::Entropy;
use alloc::collections::BTreeSet;
use secp256k1::{All, Secp256k1};

fn id(secp: &Secp256k1<All>, n: u8) -> NodeId {
    let mut secret = [1; 32];
    secret[31] = n;
    NodeId(secp256k1::SecretKey::from_slice(&secret).unwrap().public_key(secp))
}

fn ordered(a: NodeId, b: NodeId) -> [NodeId; 2] {
    if a.0.serialize() < b.0.serialize() {
        [a, b]
    } else {
        [b, a]
    }
}

fn policy(n: u32) -> Policy {
    Policy {
        disabled: n.is_multiple_of(7),
        cltv_expiry_delta: 34,
        htlc_minimum: Msat(1),
        htlc_maximum: Msat(u64::from(n) + 1),
        fee_base_msat: n,
        fee_proportional_millionths: n / 2,
        timestamp: n,
    }
}

#[test]
fn a_channel_comes_changes_and_goes_with_its_nodes() {
    let secp = Secp256k1::new();
    let [low, high] = ordered(id(&secp, 1), id(&secp, 2));
    let scid = ShortChannelId(7);
    let mut graph = Graph::new();
    assert!(!graph.add_channel(scid, [high, low], None), "the order is wrong");
    assert!(!graph.add_channel(scid, [low, low], None), "one node twice");
    assert!(graph.add_channel(scid, [low, high], Some(Sat(50_000))));
    assert!(!graph.add_channel(scid, [low, high], Some(Sat(60_000))), "there already");
    assert_eq!(graph.policy(scid, Direction::Zero), None);
    assert!(graph.set_policy(scid, Direction::One, policy(9)));
    assert!(!graph.set_policy(ShortChannelId(8), Direction::One, policy(9)));
    let view = graph.channel(scid).unwrap();
    assert_eq!(view.nodes, [low, high]);
    assert_eq!(view.capacity, Some(Sat(50_000)));
    assert_eq!(view.policies, [None, Some(policy(9))]);
    // Direction one leads from the greater id to the lesser.
    let arc = graph.arcs_into(graph.number_of(&low).unwrap())[0];
    assert_eq!((graph.id_of(arc.from), arc.fee_base), (high, 9));
    assert_eq!(graph.node_by_bytes(&high.0.serialize()), Some(&high));
    assert!(graph.set_capacity(scid, Sat(70_000)));
    assert_eq!(graph.remove_channel(scid).map(|v| v.capacity), Some(Some(Sat(70_000))));
    assert_eq!((graph.node_count(), graph.channel_count()), (0, 0));
    assert!(!graph.has_node(&low) && !graph.has_channel(scid) && !graph.set_capacity(scid, Sat(1)));
    assert_eq!(graph.remove_channel(scid), None);
}

#[test]
fn directions_follow_the_order_of_ids() {
    let secp = Secp256k1::new();
    let [low, high] = ordered(id(&secp, 1), id(&secp, 2));
    assert_eq!(Direction::between(&low, &high), Direction::Zero);
    assert_eq!(Direction::between(&high, &low), Direction::One);
    assert_eq!([Direction::from_flags(0), Direction::from_flags(3)], Direction::BOTH);
}

/// What the graph must say, in the dullest way.
fn assert_same(graph: &Graph, list: &BTreeMap<ShortChannelId, ChannelView>) {
    assert!(graph.channels().eq(list.values().cloned()));
    let keys: BTreeSet<[u8; 33]> = list.values().flat_map(|v| v.nodes).map(|n| n.0.serialize()).collect();
    assert!(graph.nodes().map(|n| n.0.serialize()).eq(keys.iter().copied()));
    assert_eq!((graph.node_count(), graph.channel_count()), (keys.len(), list.len()));
    for node in graph.nodes() {
        let mut mine: Vec<ShortChannelId> = graph.channels_of(node).map(|v| v.scid).collect();
        mine.sort();
        let theirs = list.values().filter(|v| v.nodes.contains(node)).map(|v| v.scid);
        assert!(mine.into_iter().eq(theirs));
    }
}

#[test]
fn it_says_what_a_plain_list_says() {
    let secp = Secp256k1::new();
    let people: Vec<NodeId> = (1..=12).map(|n| id(&secp, n)).collect();
    let mut dice = Entropy::new([5; 32]);
    let mut roll = move |n: u64| dice.u64() % n;
    let (mut graph, mut list) = (Graph::new(), BTreeMap::new());
    for turn in 0..3_000 {
        let scid = ShortChannelId(roll(40));
        match roll(5) {
            0 | 1 => {
                let (a, b) = (people[roll(12) as usize], people[roll(12) as usize]);
                let nodes = ordered(a, b);
                let capacity = (roll(3) > 0).then(|| Sat(1 + roll(1_000)));
                let added = graph.add_channel(scid, nodes, capacity);
                assert_eq!(added, a != b && !list.contains_key(&scid));
                if added {
                    list.insert(scid, ChannelView { scid, nodes, capacity, policies: [None; 2] });
                }
            }
            2 | 3 => {
                let direction = Direction::from_flags(roll(2) as u8);
                let set = graph.set_policy(scid, direction, policy(turn));
                assert_eq!(set, list.contains_key(&scid));
                if let Some(view) = list.get_mut(&scid) {
                    view.policies[direction.index()] = Some(policy(turn));
                }
            }
            _ => assert_eq!(graph.remove_channel(scid), list.remove(&scid)),
        }
        if turn % 50 == 0 {
            assert_same(&graph, &list);
        }
    }
    assert_same(&graph, &list);
    // Gaps are used again: no more numbers than there were nodes at once.
    assert!(graph.ids.len() <= people.len());
}

#[test]
fn fees_are_those_of_bolt_7_and_never_wrap() {
    let asks = Policy { fee_base_msat: 200, fee_proportional_millionths: 2_000, ..policy(0) };
    assert_eq!(asks.fee(Msat(4_999_999)), Some(Msat(10_199)));
    let most = Policy { fee_base_msat: u32::MAX, fee_proportional_millionths: u32::MAX, ..policy(0) };
    assert_eq!(most.fee(Msat(u64::MAX)), None);
    assert_eq!(
        most.fee(Msat(1 << 40)),
        Some(Msat((u128::from(u32::MAX) * (1u128 << 40) / 1_000_000) as u64 + 4_294_967_295))
    );
}
