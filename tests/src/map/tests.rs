//! The map that is grown has the shape it is said to have.
//!
//! In: one seed. Out: its figures beside those of the public network.

use super::*;

fn at(sorted: &[u64], share: f64) -> u64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

/// Within a factor.
fn near(what: &str, got: u64, wanted: u64, factor: f64) {
    let (got, wanted) = (got as f64 + 1.0, wanted as f64 + 1.0);
    assert!(got / wanted < factor && wanted / got < factor, "{what}: {got}, not {wanted}");
}

#[test]
fn it_has_the_public_networks_shape() {
    let map = Map::public_size(1);
    assert_eq!(map.nodes, figures::NODES);
    near("channels", map.roads.len() as u64, figures::CHANNELS as u64, 1.01);
    let mut degrees: Vec<u64> = map.degrees().into_iter().map(u64::from).collect();
    degrees.sort_unstable();
    for (share, degree) in figures::DEGREES {
        near("degree", at(&degrees, f64::from(share) / 10_000.0), degree, 1.4);
    }
    // Quantiles of all channels together, counted in the snapshot.
    let mut capacities: Vec<u64> = map.roads.iter().map(|road| road.capacity_sat).collect();
    capacities.sort_unstable();
    for (share, sat) in
        [(0.05, 20_000), (0.25, 200_000), (0.5, 1_283_260), (0.75, 5_000_000), (0.95, 40_000_000)]
    {
        near("capacity", at(&capacities, share), sat, 2.0);
    }
    let off = map.roads.iter().flat_map(|road| &road.ways).filter(|way| way.disabled).count();
    near("directions that are off", off as u64, 35_806, 1.25);
}

#[test]
fn the_same_seed_grows_the_same_map_and_another_does_not() {
    assert_eq!(Map::grow(5, 300, 900), Map::grow(5, 300, 900));
    assert_ne!(Map::grow(5, 300, 900), Map::grow(6, 300, 900));
}

#[test]
fn a_table_is_read_and_a_bad_one_refused() {
    let text = "channel,direction,…\n0,0,3,1,5000,0,1,4000000,1000,10,34\n0,1,1,3,5000,1,0,1,2,3,144\n";
    let map = Map::read(text).unwrap();
    assert_eq!((map.nodes, map.roads.len()), (4, 1));
    assert_eq!((map.roads[0].ends, map.roads[0].ways[1].cltv_delta), ([3, 1], 144));
    assert!(Map::read("x\n0,0,3,1").is_err());
    assert!(Map::read("x\n0,1,3,1,5000,0,1,4000000,1000,10,34\n").is_err());
}

#[test]
fn names_of_channels_come_back() {
    for n in [0, 1, 499, 500, 50_807] {
        assert_eq!(number(scid(n)), n);
    }
}

#[test]
fn chands_graph_holds_all_of_it() {
    let map = Map::grow(3, 200, 700);
    let graph = map.graph(&ids(map.nodes));
    assert_eq!(graph.channel_count(), map.roads.len());
    assert_eq!(graph.node_count(), map.degrees().iter().filter(|degree| **degree > 0).count());
    let road = &map.roads[17];
    let ids = ids(map.nodes);
    let forth = Direction::between(&ids[road.ends[0] as usize], &ids[road.ends[1] as usize]);
    assert_eq!(graph.policy(scid(17), forth), Some(policy(&road.ways[0])));
}
