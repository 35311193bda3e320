//! Fees that rise after a close by force: a child carries the commitment, claims are raised, and batches come apart in time.
//!
//! In: real nodes, and the embedded chain with a floor below which its mempool takes nothing; blocks that leave out what
//! waits. Out: each is mined before somebody else could take it, and a restart goes on where it was.
//! Read next: `onchain`.

use crate::stage::{self, Purses};
use bitcoin::{OutPoint, Transaction};
use chand_tests::trail::{wait_spender, Trail, ANCHOR_SAT};
use chand_tests::{wait_for, ChannelType, Node, World};
use serde_json::json;
use std::collections::BTreeSet;

/// A floor well above what commitments pay here, in satoshi for 1,000 virtual bytes.
const FLOOR: u64 = 12_000;

/// Fees rise, and a node has heard of it.
fn rise(world: &World, node: &Node, sat_per_kvb: u64) {
    world.chain.set_floor(sat_per_kvb);
    wait_for("the node to know the floor", || match node.call("feerates", json!(["perkb"])) {
        rates if rates["perkb"]["floor"].as_u64() >= Some(sat_per_kvb) => Ok(()),
        rates => Err(rates.to_string()),
    });
}

/// A block that leaves out what waits.
fn pass(world: &World, node: &Node) -> u64 {
    let height = world.chain.mine_empty();
    node.wait_height(height);
    height
}

/// What a transaction pays, in satoshi for 1,000 virtual bytes.
fn rate(world: &World, tx: &Transaction) -> u64 {
    world.chain.fee(tx) * 1_000 / tx.vsize() as u64
}

/// The transaction in the mempool that spends one of these, when `wanted`.
fn wait_version(
    world: &World,
    places: &[OutPoint],
    what: &str,
    wanted: impl Fn(&Transaction) -> bool,
) -> Transaction {
    wait_for(what, || {
        let waiting: Vec<Transaction> =
            world.chain.mempool().iter().filter_map(|id| world.chain.find(id)).collect();
        let spends = |tx: &&Transaction| tx.input.iter().any(|i| places.contains(&i.previous_output));
        let found: Vec<&Transaction> = waiting.iter().filter(spends).collect();
        match found.iter().find(|tx| wanted(tx)) {
            Some(tx) => Ok(Transaction::clone(tx)),
            None => Err(found.iter().map(|tx| tx.compute_txid().to_string() + " ").collect()),
        }
    })
}

fn outputs_of(tx: &Transaction, sat: u64) -> Vec<OutPoint> {
    let txid = tx.compute_txid();
    let all = (0..).zip(&tx.output).filter(|(_, o)| o.value.to_sat() == sat);
    all.map(|(vout, _)| OutPoint { txid, vout }).collect()
}

/// The expiry that comes first.
fn expiry(node: &Node, peer: &Node) -> u64 {
    let channel = node.channel(peer);
    let htlcs = channel["htlcs"].as_array().expect("htlcs");
    htlcs.iter().filter_map(|h| h["expiry"].as_u64()).min().expect("an HTLC")
}

fn dev_fail(node: &Node, peer: &Node) {
    node.call("dev-fail", json!({ "id": stage::channel_id(node, peer) }));
}

/// The commitment pays less than the mempool takes: it goes in with its child, which is raised at every block as the first
/// HTLC's expiry nears, also across a kill.
#[test]
fn a_commitment_below_the_floor_is_carried_by_its_child() {
    // BOLT 5 [5.fail.5, 5.fail.6].
    let mut world = stage::world(ChannelType::Anchors);
    stage::hold(&world.alice, &world.bob, 30_000, "never settled");
    stage::newest(&world.alice, &world.bob);
    let (expiry, funding) = (expiry(&world.alice, &world.bob), stage::funding(&world.alice, &world.bob));
    world.bob.kill();
    rise(&world, &world.alice, FLOOR);
    dev_fail(&world.alice, &world.bob);
    let commitment = wait_spender(&world.chain, &funding);
    let anchors = outputs_of(&commitment, ANCHOR_SAT);
    let mut child = wait_version(&world, &anchors, "the child", |_| true);
    assert!(rate(&world, &commitment) < FLOOR, "{} sat a kvB", rate(&world, &commitment));
    let both = world.chain.fee(&commitment) + world.chain.fee(&child);
    let size = (commitment.vsize() + child.vsize()) as u64;
    assert!(both * 1_000 / size >= FLOOR, "{both} sat for {size} vB");
    // That is as it should be, and no trouble in the log.
    let lines = world.alice.call("getlog", json!({ "level": "unusual" }))["log"].to_string();
    assert!(!lines.contains("was refused") && !lines.contains("BROKEN"), "{lines}");

    while pass(&world, &world.alice) + 7 < expiry {}
    child = wait_version(&world, &anchors, "the child after some blocks", |_| true);
    for step in 0..4 {
        if step == 2 {
            // Killed in the middle: what was paid before is not forgotten.
            world.alice.kill_and_launch();
        }
        let before = world.chain.fee(&child);
        pass(&world, &world.alice);
        let dearer = |tx: &Transaction| tx.compute_txid() != child.compute_txid();
        let next = wait_version(&world, &anchors, "a dearer child", dearer);
        assert!(world.chain.fee(&next) > before + before / 10, "step {step}: {before}");
        let coins = |tx: &Transaction| tx.input.iter().map(|i| i.previous_output).collect::<BTreeSet<_>>();
        assert_eq!(coins(&next), coins(&child), "of the same coins");
        child = next;
    }
    let born = world.chain.mine(1);
    assert!(born < expiry, "{born} of {expiry}");
    let tip = world.chain.block(born);
    for tx in [&commitment, &child] {
        assert!(tip.txdata.iter().any(|t| t.compute_txid() == tx.compute_txid()));
    }
    world.chain.set_floor(0);
    world.bob.launch();
    world.alice.wait_height(born);
    let trail = stage::resolve(&world, &commitment, born, 30);
    assert_eq!(trail.of(30_000).owner, Some("Alice"), "{trail:?}");
}

/// Fees rise by half at each block, and the blocks are full of others' transactions.
#[test]
fn an_htlc_claim_keeps_up_with_rising_fees() {
    // BOLT 5 [5.fail.6, 5.htlctx.3].
    let mut world = stage::world(ChannelType::Anchors);
    stage::hold(&world.alice, &world.bob, 30_000, "settled");
    stage::newest(&world.bob, &world.alice);
    let (expiry, funding) = (expiry(&world.bob, &world.alice), stage::funding(&world.bob, &world.alice));
    world.alice.kill();
    stage::settle(&world.bob, "settled");
    dev_fail(&world.bob, &world.alice);
    let commitment = wait_spender(&world.chain, &funding);
    let born = world.chain.mine(1);
    world.bob.wait_height(born);
    let htlc = [stage::output_of(&commitment, 30_000)];
    let mut claim = wait_version(&world, &htlc, "the claim", |_| true);
    let mut floor = FLOOR;
    for step in 0..4 {
        if step == 2 {
            world.bob.kill_and_launch();
        }
        assert!(rate(&world, &claim) < floor, "the old version would not be taken any more");
        rise(&world, &world.bob, floor);
        pass(&world, &world.bob);
        let old = claim.compute_txid();
        claim = wait_version(&world, &htlc, "a dearer claim", |tx| tx.compute_txid() != old);
        assert!(rate(&world, &claim) >= floor, "step {step}: {} of {floor}", rate(&world, &claim));
        floor += floor / 2;
    }
    let height = world.chain.mine(1);
    assert!(height < expiry, "{height} of {expiry}");
    let tip = world.chain.block(height);
    assert!(tip.txdata.iter().any(|tx| tx.compute_txid() == claim.compute_txid()));
    world.chain.set_floor(0);
    world.alice.launch();
    world.bob.wait_height(height);
    stage::wait_status(&world.alice, "settled", "complete");
    let trail = stage::resolve(&world, &commitment, born, 30);
    assert_eq!(trail.of(30_000).owner, Some("Bob"), "{trail:?}");
}

/// Three HTLCs in one transaction that no block takes: as their expiry nears each goes alone, if there are coins for that.
fn a_batch_comes_apart(coins: u64) {
    let mut world = stage::world(ChannelType::Anchors);
    for _ in 1..coins {
        world.fund(&world.bob, 100_000);
    }
    let sats = [30_000, 25_000, 20_000];
    for sat in sats {
        stage::hold(&world.alice, &world.bob, sat, &format!("{sat}"));
    }
    stage::newest(&world.bob, &world.alice);
    let (expiry, funding) = (expiry(&world.bob, &world.alice), stage::funding(&world.bob, &world.alice));
    world.alice.kill();
    sats.iter().for_each(|sat| stage::settle(&world.bob, &format!("{sat}")));
    dev_fail(&world.bob, &world.alice);
    let commitment = wait_spender(&world.chain, &funding);
    let born = world.chain.mine(1);
    world.bob.wait_height(born);
    let places = sats.map(|sat| stage::output_of(&commitment, sat));
    let takes_all =
        |tx: &Transaction| places.iter().all(|place| tx.input.iter().any(|i| i.previous_output == *place));
    wait_version(&world, &places, "all three in one", takes_all);
    while pass(&world, &world.bob) + 5 < expiry {}
    for kill in [true, false] {
        wait_for("each on its way, in as many transactions as there are coins", || {
            let waiting: Vec<Transaction> =
                world.chain.mempool().iter().filter_map(|id| world.chain.find(id)).collect();
            let by = |place: &OutPoint| {
                let spends = |tx: &&Transaction| tx.input.iter().any(|i| i.previous_output == *place);
                waiting.iter().find(spends).map(Transaction::compute_txid)
            };
            let by: Vec<_> = places.iter().map(by).collect();
            let apart: BTreeSet<_> = by.iter().flatten().collect();
            match by.iter().all(Option::is_some) && apart.len() as u64 == coins {
                true => Ok(()),
                false => Err(format!("{by:?}")),
            }
        });
        if kill {
            world.bob.kill_and_launch();
        }
        pass(&world, &world.bob);
    }
    places.iter().for_each(|place| drop(wait_spender(&world.chain, place)));
    let height = world.chain.mine(1);
    assert!(height < expiry, "{height} of {expiry}");
    for place in places {
        let tip = world.chain.block(height);
        assert!(tip.txdata.iter().any(|tx| tx.input.iter().any(|i| i.previous_output == place)), "{place}");
    }
    world.alice.launch();
    world.bob.wait_height(height);
    let trail = stage::resolve(&world, &commitment, born, 30);
    for sat in sats {
        assert_eq!(trail.of(sat).owner, Some("Bob"), "{trail:?}");
    }
    assert!(!world.bob.log().contains("a bug of chand"));
}

#[test]
fn a_batch_of_htlcs_comes_apart_as_its_expiry_nears() {
    a_batch_comes_apart(3);
}

#[test]
fn a_batch_of_htlcs_stays_whole_with_a_single_coin() {
    a_batch_comes_apart(1);
}

/// The penalty waits in the mempool and no block takes it: each output gets a transaction of its own before the cheat's
/// delay is over.
#[test]
fn a_penalty_that_waits_comes_apart() {
    // BOLT 5 [5.revoked.8].
    let mut world = stage::world(ChannelType::Anchors);
    let sats = [30_000, 25_000, 20_000];
    for sat in sats {
        stage::hold(&world.alice, &world.bob, sat, &format!("{sat}"));
    }
    let number = stage::newest(&world.bob, &world.alice);
    sats.iter().for_each(|sat| stage::settle(&world.bob, &format!("{sat}")));
    world.wait_quiet();
    stage::newest(&world.bob, &world.alice);
    let before = Purses::of(&world);
    let funding = stage::funding(&world.alice, &world.bob);
    let params = json!({ "id": stage::channel_id(&world.bob, &world.alice), "number": number });
    world.bob.call("dev-broadcast-revoked", params);
    let commitment = wait_spender(&world.chain, &funding);
    world.mine(1);
    let born = world.chain.height();
    let places = sats.map(|sat| stage::output_of(&commitment, sat));
    wait_version(&world, &places, "a penalty for all three", |tx| tx.input.len() == 3);
    for kill in [true, false] {
        pass(&world, &world.alice);
        for place in places {
            wait_version(&world, &[place], "a penalty of its own", |tx| tx.input.len() == 1);
        }
        if kill {
            world.alice.kill_and_launch();
        }
    }
    world.mine(1);
    assert!(world.chain.height() < born + stage::CSV, "in time");
    let trail = Trail::read(&world.chain, &commitment, born, &[&world.alice, &world.bob]);
    for sat in sats {
        assert_eq!(trail.of(sat).owner, Some("Alice"), "{trail:?}");
    }
    assert!(before.gained(&world.bob) <= 0, "the cheat gained {}", before.gained(&world.bob));
}

fn kept_back(node: &Node) -> (u64, u64) {
    let kept = node.call("listfunds", json!({}))["kept_back"].clone();
    let number = |name: &str| kept[name].as_u64().unwrap_or_else(|| panic!("{name}: {kept}"));
    (number("amount_msat") / 1_000, number("channels"))
}

/// The very first channel leaves in the wallet what its own close may cost, and who wants it hears why it stays.
#[test]
fn the_first_channel_leaves_coins_for_its_close() {
    for (kind, left) in [(ChannelType::Anchors, 25_000), (ChannelType::StaticRemoteKey, 0)] {
        let world = World::new();
        world.fund(&world.alice, 500_000);
        assert_eq!(kept_back(&world.alice), (0, 0));
        world.alice.connect(&world.bob);
        let params = json!({ "id": world.bob.id(), "amount": "all", "channel_type": kind.bits() });
        world.alice.call("fundchannel", params);
        wait_for("the funding transaction", || match world.chain.mempool().len() {
            1 => Ok(()),
            n => Err(n.to_string()),
        });
        world.mine(1);
        world.wait_normal();
        let has = world.alice.wallet_sat();
        assert!(has >= left && has < left + 300, "{kind:?}: {has} sat");
        assert_eq!(kept_back(&world.alice), (left, left / 25_000));
        if left == 0 {
            continue;
        }
        let address = world.bob.new_address();
        let refused =
            world.alice.refusal("withdraw", json!({ "destination": address, "satoshi": 20_000 })).to_string();
        assert!(refused.contains("301") && refused.contains("25000 sat stay in the wallet"), "{refused}");
    }
}
