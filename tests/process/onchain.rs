//! Unilateral closes: whoever closes waits, the other does not, and every HTLC ends where its script says.
//!
//! In: real nodes on the embedded chain, whose mempool and interpreter judge each transaction. Out: balances to the
//! satoshi, every fee read from the transaction that paid it.
//! Read next: `penalty`.

use crate::stage::{self, accounts, Purses, BOBS_SAT, CAPACITY_SAT, CSV};
use bitcoin::Transaction;
use chand_tests::trail::{wait_spender, Trail};
use chand_tests::{wait_for, ChannelType, Node, World};
use serde_json::json;

/// The expiry of the one HTLC.
fn expiry(node: &Node, peer: &Node) -> u64 {
    let channel = node.channel(peer);
    let htlcs = channel["htlcs"].as_array().expect("htlcs");
    assert_eq!(htlcs.len(), 1, "{channel}");
    htlcs[0]["expiry"].as_u64().expect("expiry")
}

fn state(node: &Node, peer: &Node) -> String {
    node.channel(peer)["state"].as_str().expect("state").to_string()
}

/// Mines for the one node that is up.
fn mine_for(world: &World, node: &Node, blocks: u64) {
    let height = world.chain.mine(blocks);
    node.wait_height(height);
}

/// Orders a close by force, with the other away, and mines the commitment: it, and the height of its block.
fn force_close(world: &World, closer: &Node, other: &Node) -> (Transaction, u64) {
    let funding = stage::funding(closer, other);
    closer.call("dev-fail", json!({ "id": stage::channel_id(closer, other) }));
    let commitment = wait_spender(&world.chain, &funding);
    mine_for(world, closer, 1);
    (commitment, world.chain.height())
}

fn who_closes_waits(kind: ChannelType, opener_closes: bool) {
    let world = stage::world(kind);
    let (alice, bob) = (&world.alice, &world.bob);
    let bolt11 = bob.invoice(50_000_000, "before the end");
    alice.call("pay", json!({ "bolt11": bolt11 }));
    world.wait_quiet();
    let before = Purses::of(&world);
    let funding = stage::funding(alice, bob);
    let (orders, hears) = if opener_closes { (alice, bob) } else { (bob, alice) };
    orders.call("dev-fail", json!({ "id": stage::channel_id(orders, hears) }));
    wait_spender(&world.chain, &funding);
    world.mine(1);
    let (commitment, born) = (stage::spender_in_tip(&world, &funding), world.chain.height());
    // The other answers the error with its own commitment: either may be first, and both know which it was.
    let first = [alice, bob].map(|node| stage::closed(node)["closer"].clone());
    let (closer, other) = match [first[0].as_str(), first[1].as_str()] {
        [Some("local"), Some("remote")] => (alice, bob),
        [Some("remote"), Some("local")] => (bob, alice),
        odd => panic!("they do not agree on who closed: {odd:?}"),
    };
    let bobs = BOBS_SAT + 50_000;
    let alices: u64 = commitment
        .output
        .iter()
        .map(|o| o.value.to_sat())
        .filter(|sat| *sat != bobs && *sat != chand_tests::trail::ANCHOR_SAT)
        .sum();
    let sat = |node: &Node| if node.name() == bob.name() { bobs } else { alices };
    let (delayed, free) =
        (stage::output_of(&commitment, sat(closer)), stage::output_of(&commitment, sat(other)));
    wait_spender(&world.chain, &free);
    world.mine(1);
    let trail = Trail::read(&world.chain, &commitment, born, &[alice, bob]);
    let end = trail.of(sat(other));
    assert_eq!((end.owner, end.spent.map(|s| s.1)), (Some(other.name()), Some(born + 1)));
    assert_eq!(trail.of(sat(closer)).spent, None, "whoever closes waits");
    world.mine(CSV - 2);
    let sweep = wait_spender(&world.chain, &delayed);
    assert_eq!(sweep.input[0].sequence.to_consensus_u32(), u32::try_from(CSV).expect("small"));
    world.mine(1);
    let trail = Trail::read(&world.chain, &commitment, born, &[alice, bob]);
    assert_eq!(trail.of(sat(closer)).spent.map(|s| s.1), Some(born + CSV), "{trail:?}");
    accounts(&world, before, &trail, bobs);

    let entry = stage::closed(orders);
    assert_eq!((&entry["close_cause"], &entry["cause"]["trigger"]), (&json!("user"), &json!("dev-fail")));
    let entry = stage::closed(hears);
    assert_eq!(entry["close_cause"], "remote", "{entry}");
    for node in [alice, bob] {
        let entry = stage::closed(node);
        let states = entry["state_changes"].as_array().expect("state_changes");
        assert_eq!(states.last().expect("one")["new_state"], "ONCHAIN", "{entry}");
        let outputs = entry["cause"]["outputs"].as_array().expect("outputs");
        let ours = outputs.iter().filter(|o| o["state"] == "taken by this node").count();
        assert_eq!(ours, 1, "{entry}");
    }
}

#[test]
fn the_opener_closes_with_anchors() {
    // BOLT 5 [5.watch.1, 5.watch.2, 5.watch.4, 5.local.1, 5.local.2, 5.remote.1, 5.fail.4].
    who_closes_waits(ChannelType::Anchors, true);
}

#[test]
fn the_other_closes_with_anchors() {
    who_closes_waits(ChannelType::Anchors, false);
}

#[test]
fn the_other_closes_with_static_remotekey() {
    who_closes_waits(ChannelType::StaticRemoteKey, false);
}

/// HTLCs of both directions under way: settled by the payee though the payer never hears it, timed out, and dust.
fn every_htlc_ends_where_its_script_says(kind: ChannelType, opener_closes: bool) {
    let mut world = stage::world(kind);
    let plan = [
        (true, 30_000, "settled by Bob"),
        (true, 20_000, "timed out for Alice"),
        (false, 25_000, "settled by Alice"),
        (false, 15_000, "timed out for Bob"),
        (true, 200, "dust"),
    ];
    for (alice_pays, sat, label) in plan {
        let (from, to) = if alice_pays { (&world.alice, &world.bob) } else { (&world.bob, &world.alice) };
        stage::hold(from, to, sat, label);
    }
    stage::newest(&world.alice, &world.bob);
    stage::newest(&world.bob, &world.alice);
    let before = Purses::of(&world);
    // The other is away while the closer settles and closes, and settles when it is back and the closer away.
    let labels = ["settled by Alice", "settled by Bob"];
    let (commitment, born) = if opener_closes {
        world.bob.kill();
        stage::settle(&world.alice, labels[0]);
        let closed = force_close(&world, &world.alice, &world.bob);
        world.alice.kill();
        world.bob.launch();
        stage::settle(&world.bob, labels[1]);
        world.alice.launch();
        closed
    } else {
        world.alice.kill();
        stage::settle(&world.bob, labels[1]);
        let closed = force_close(&world, &world.bob, &world.alice);
        world.bob.kill();
        world.alice.launch();
        stage::settle(&world.alice, labels[0]);
        world.bob.launch();
        closed
    };
    for sat in [30_000, 25_000] {
        wait_spender(&world.chain, &stage::output_of(&commitment, sat));
    }
    world.mine(1);
    // The payers learn the secrets from the chain, at once.
    stage::wait_status(&world.alice, "settled by Bob", "complete");
    stage::wait_status(&world.bob, "settled by Alice", "complete");
    let trail = stage::resolve(&world, &commitment, born, 45);
    world.mine(7);
    for (alice_pays, _, label) in plan {
        let payer = if alice_pays { &world.alice } else { &world.bob };
        stage::wait_status(payer, label, if label.starts_with("settled") { "complete" } else { "failed" });
    }
    accounts(&world, before, &trail, BOBS_SAT - 25_000 - 15_000 + 30_000 + 15_000);
    for (sat, owner) in [(30_000, "Bob"), (20_000, "Alice"), (25_000, "Alice"), (15_000, "Bob")] {
        assert_eq!(trail.of(sat).owner, Some(owner), "{trail:?}");
    }
    let spent: u64 = commitment.output.iter().map(|o| o.value.to_sat()).sum();
    assert!(CAPACITY_SAT - spent < 10_000, "the dust went to the fee, and not much more");
}

#[test]
fn htlcs_on_the_openers_commitment() {
    // BOLT 5 [5.htlctx.4, 5.localoffer.2, 5.localtake.1].
    every_htlc_ends_where_its_script_says(ChannelType::StaticRemoteKey, true);
}

#[test]
fn htlcs_on_the_others_commitment() {
    every_htlc_ends_where_its_script_says(ChannelType::StaticRemoteKey, false);
}

#[test]
fn htlcs_on_the_openers_commitment_with_anchors() {
    // BOLT 5 [5.local.3, 5.local.4, 5.localoffer.1, 5.localoffer.2, 5.localoffer.4, 5.localoffer.5, 5.localoffer.6].
    // BOLT 5 [5.localtake.1, 5.localtake.3, 5.localtake.5, 5.localtake.6, 5.htlctx.1, 5.htlctx.2, 5.htlctx.3].
    every_htlc_ends_where_its_script_says(ChannelType::Anchors, true);
}

#[test]
fn htlcs_on_the_others_commitment_with_anchors() {
    // BOLT 5 [5.remote.2, 5.remote.3, 5.remoteoffer.1, 5.remoteoffer.2, 5.remotetake.1].
    every_htlc_ends_where_its_script_says(ChannelType::Anchors, false);
}

/// The payee is silent and the deadline passes: the payer closes and takes its money back.
fn a_deadline_closes(kind: ChannelType) {
    let mut world = stage::world(kind);
    stage::hold(&world.alice, &world.bob, 30_000, "never settled");
    stage::newest(&world.alice, &world.bob);
    let expiry = expiry(&world.alice, &world.bob);
    let before = Purses::of(&world);
    let funding = stage::funding(&world.alice, &world.bob);
    world.bob.kill();
    while state(&world.alice, &world.bob) == "CHANNELD_NORMAL" {
        assert!(world.chain.height() < expiry + 3, "the channel is still open");
        mine_for(&world, &world.alice, 1);
    }
    assert!(world.chain.height() >= expiry, "closed at {}, before {expiry}", world.chain.height());
    let commitment = wait_spender(&world.chain, &funding);
    mine_for(&world, &world.alice, 1);
    let born = world.chain.height();
    wait_spender(&world.chain, &stage::output_of(&commitment, 30_000));
    mine_for(&world, &world.alice, 7);
    stage::wait_status(&world.alice, "never settled", "failed");
    world.bob.launch();
    let trail = stage::resolve(&world, &commitment, born, 20);
    accounts(&world, before, &trail, BOBS_SAT);
    let entry = stage::closed(&world.alice);
    let cause = &entry["cause"];
    assert_eq!((&entry["close_cause"], &cause["trigger"]), (&json!("protocol"), &json!("htlc_deadline")));
    assert_eq!(cause["htlc"]["amount_msat"], 30_000_000, "{cause}");
    assert_eq!(cause["htlc"]["expiry"], expiry, "{cause}");
    assert_eq!(stage::closed(&world.bob)["cause"]["trigger"], "peer_commitment");
}

#[test]
fn a_deadline_closes_with_anchors() {
    // BOLT 2 [2.expiry.1, 2.expiry.2, 2.expiry.3].
    a_deadline_closes(ChannelType::Anchors);
}

#[test]
fn a_deadline_closes_with_static_remotekey() {
    a_deadline_closes(ChannelType::StaticRemoteKey);
}

/// The payer is silent: the payee, who has shown the secret to nobody that heard, closes before it could be too late.
#[test]
fn a_secret_is_used_before_its_deadline() {
    // BOLT 2 [2.expiry.6].
    let mut world = stage::world(ChannelType::Anchors);
    stage::hold(&world.alice, &world.bob, 30_000, "settled");
    stage::newest(&world.bob, &world.alice);
    let expiry = expiry(&world.bob, &world.alice);
    let before = Purses::of(&world);
    let funding = stage::funding(&world.bob, &world.alice);
    world.alice.kill();
    stage::settle(&world.bob, "settled");
    while state(&world.bob, &world.alice) == "CHANNELD_NORMAL" {
        assert!(world.chain.height() < expiry, "the channel is still open");
        mine_for(&world, &world.bob, 1);
    }
    let commitment = wait_spender(&world.chain, &funding);
    mine_for(&world, &world.bob, 1);
    let born = world.chain.height();
    wait_spender(&world.chain, &stage::output_of(&commitment, 30_000));
    mine_for(&world, &world.bob, 1);
    assert!(world.chain.height() < expiry, "in time");
    world.alice.launch();
    stage::wait_status(&world.alice, "settled", "complete");
    let trail = stage::resolve(&world, &commitment, born, 20);
    accounts(&world, before, &trail, BOBS_SAT + 30_000);
    assert_eq!(stage::closed(&world.bob)["cause"]["trigger"], "htlc_deadline");
}

#[test]
fn with_dev_no_htlc_timeout_no_deadline_closes() {
    let world = World::with_options(&["--dev", "--dev-no-htlc-timeout"]);
    let mut world = stage::with_channel(world, ChannelType::Anchors);
    stage::hold(&world.alice, &world.bob, 30_000, "never settled");
    stage::newest(&world.alice, &world.bob);
    let expiry = expiry(&world.alice, &world.bob);
    world.bob.kill();
    let blocks = expiry + 10 - world.chain.height();
    mine_for(&world, &world.alice, blocks);
    assert_eq!(state(&world.alice, &world.bob), "CHANNELD_NORMAL");
    assert_eq!(stage::status(&world.alice, "never settled"), "pending");
}

fn undo_blocks(world: &World, before: Purses, from: u64) {
    world.chain.undo(from);
    for node in [&world.alice, &world.bob] {
        node.wait_height(from - 1);
        // What has left the chain is no coin.
        wait_for("the coins to be gone", || match before.gained(node) {
            sat if sat <= 0 => Ok(()),
            sat => Err(format!("{sat} sat too many")),
        });
    }
}

/// The blocks with the close and with the other's claim leave the chain, and with them the mempool.
#[test]
fn a_close_that_is_undone_is_done_again() {
    // BOLT 5 [5.watch.3].
    let mut world = stage::world(ChannelType::Anchors);
    stage::hold(&world.alice, &world.bob, 30_000, "settled");
    stage::newest(&world.bob, &world.alice);
    let before = Purses::of(&world);
    let funding = stage::funding(&world.bob, &world.alice);
    world.alice.kill();
    stage::settle(&world.bob, "settled");
    let (commitment, born) = force_close(&world, &world.bob, &world.alice);
    world.alice.launch();
    let htlc = stage::output_of(&commitment, 30_000);
    wait_spender(&world.chain, &htlc);
    world.mine(2);
    stage::wait_status(&world.alice, "settled", "complete");
    undo_blocks(&world, before, born);
    world.chain.forget_mempool();
    // Another block takes the place of the first one, and the transactions are offered again.
    world.mine(1);
    let again = wait_spender(&world.chain, &funding);
    assert_eq!(again.compute_txid(), commitment.compute_txid(), "there is only one newest commitment");
    world.mine(1);
    let trail = stage::resolve(&world, &commitment, born, 20);
    accounts(&world, before, &trail, BOBS_SAT + 30_000);
    assert_eq!(stage::status(&world.alice, "settled"), "complete", "a receipt is not taken back");
    // All of it once more, when it is long over.
    let blocks = CSV + 3;
    world.mine(blocks);
    undo_blocks(&world, before, born);
    world.chain.forget_mempool();
    world.mine(1);
    wait_spender(&world.chain, &funding);
    world.mine(1);
    let trail = stage::resolve(&world, &commitment, born, 20);
    accounts(&world, before, &trail, BOBS_SAT + 30_000);
}

/// SIGKILL between a claim and its confirmation, and the mempool forgets it, too.
#[test]
fn a_claim_survives_a_kill_and_a_lost_mempool() {
    let mut world = stage::world(ChannelType::Anchors);
    stage::hold(&world.alice, &world.bob, 30_000, "settled");
    stage::newest(&world.bob, &world.alice);
    let before = Purses::of(&world);
    world.alice.kill();
    stage::settle(&world.bob, "settled");
    let (commitment, born) = force_close(&world, &world.bob, &world.alice);
    wait_spender(&world.chain, &stage::output_of(&commitment, 30_000));
    world.bob.kill();
    world.chain.forget_mempool();
    world.alice.launch();
    let alices = commitment
        .output
        .iter()
        .map(|o| o.value.to_sat())
        .find(|sat| ![chand_tests::trail::ANCHOR_SAT, 30_000, BOBS_SAT].contains(sat))
        .expect("Alice's");
    wait_spender(&world.chain, &stage::output_of(&commitment, alices));
    world.alice.kill();
    world.chain.forget_mempool();
    // All of it is offered again at the start, without a block.
    world.bob.launch();
    world.alice.launch();
    for sat in [30_000, alices] {
        wait_spender(&world.chain, &stage::output_of(&commitment, sat));
    }
    world.mine(1);
    let trail = stage::resolve(&world, &commitment, born, 20);
    accounts(&world, before, &trail, BOBS_SAT + 30_000);
    assert_eq!(stage::status(&world.alice, "settled"), "complete");
}
