//! Batches are taken apart in time: one output that is held up must not cost the others.
//!
//! The claims wait in a mempool while other miners make blocks without them, or reach nobody; time runs out.
//! Read next: `claims` (what they pay).

use crate::claims::{alone, cheated, claims, force_close, rival_of, DELAY};
use bitcoin::{OutPoint, Txid};
use chand_protocol::node::command::Command;
use chand_protocol::onchain::claim::{Claim, Form};
use chand_protocol::onchain::{Kind, Watch};
use chand_tests::duet::play::{preimage, Open};
use chand_tests::duet::{Duet, ALICE, BOB};
use std::collections::BTreeSet;

/// What each of four HTLCs holds.
const SATS: [u64; 4] = [30_000, 20_000, 25_000, 15_000];

fn watch(duet: &Duet, seat: usize) -> Watch {
    duet.channel(seat).watch.clone().expect("watched")
}

fn taken(duet: &Duet, seat: usize, place: &OutPoint) -> bool {
    watch(duet, seat).output(place).expect("known").spent.is_some_and(|s| s.ours)
}

/// The claims that take these outputs, one each; all are in the mempool, each apart from the others.
fn each_alone(duet: &Duet, all: &[Claim], places: &[OutPoint]) -> Vec<Claim> {
    let of = |place: &OutPoint| all.iter().filter(|c| c.inputs == [*place]).cloned().collect::<Vec<_>>();
    let singles: Vec<Claim> = places.iter().flat_map(of).collect();
    assert_eq!(singles.len(), places.len(), "one for each: {all:#?}");
    let waiting: BTreeSet<Txid> = duet.chain.mempool.iter().map(|tx| tx.compute_txid()).collect();
    let mut spent = BTreeSet::new();
    for claim in &singles {
        let tx = claim.tx.as_ref().expect("a version");
        assert!(waiting.contains(&tx.compute_txid()), "{:?} is not in the mempool", claim.inputs);
        for input in &tx.input {
            assert!(spent.insert(input.previous_output), "{} is spent by two", input.previous_output);
        }
    }
    singles
}

fn batch_of_four(all: &[Claim]) -> Claim {
    let found: Vec<&Claim> = all.iter().filter(|c| c.inputs.len() == 4).collect();
    let [batch] = found.as_slice() else { panic!("no claim of the four HTLCs: {all:#?}") };
    (*batch).clone()
}

/// The network has the penalty, and no block does: from six blocks before the cheat's delay is over on each output has its
/// own, which takes the place of the batch; a restart changes nothing of that.
#[test]
fn a_penalty_that_no_block_holds_is_taken_apart() {
    // BOLT 5 [5.revoked.8].
    for anchors in [true, false] {
        for restarted in [false, true] {
            let mut duet = cheated(1_100, anchors);
            duet.mine(1);
            let born = duet.chain.height();
            let batch = batch_of_four(&claims(&duet));
            let txid = batch.tx.as_ref().expect("a version").compute_txid();
            assert!(duet.chain.mempool.iter().any(|tx| tx.compute_txid() == txid));
            duet.mine_foreign(1);
            assert!(!duet.chain.mempool.iter().any(|tx| tx.compute_txid() == txid), "replaced");
            let before = each_alone(&duet, &claims(&duet), &batch.inputs);
            if restarted {
                duet.restart(ALICE);
                duet.run();
                assert_eq!(each_alone(&duet, &claims(&duet), &batch.inputs), before);
            }
            duet.mine_foreign(1);
            let after = each_alone(&duet, &claims(&duet), &batch.inputs);
            for (old, new) in before.iter().zip(&after) {
                assert!(new.number == old.number && new.fee > old.fee, "raised: {old:?} {new:?}");
            }
            duet.mine(1);
            assert!(duet.chain.height() < born + DELAY);
            assert!(batch.inputs.iter().all(|place| taken(&duet, ALICE, place)));
        }
    }
}

/// Nobody hears of the claims until two blocks are left, and then one of the outputs is pinned.
#[test]
fn the_last_block_is_enough_for_all_that_is_not_held_up() {
    let mut duet = cheated(1_110, true);
    duet.mute = Some(ALICE);
    duet.mine(1);
    let born = duet.chain.height();
    let batch = batch_of_four(&claims(&duet));
    duet.mine(DELAY - 3);
    duet.chain.mempool.push(rival_of(batch.inputs[1], born + 1_000));
    duet.mute = None;
    duet.mine(2);
    assert_eq!(duet.chain.height(), born + DELAY - 1, "the next block may be the cheat's");
    for place in &batch.inputs {
        assert_eq!(taken(&duet, ALICE, place), *place != batch.inputs[1], "{place}");
    }
}

/// Found when the cheat's delay is nearly over: nothing is put into a batch any more.
#[test]
fn what_is_found_late_is_in_no_batch() {
    let mut duet = cheated(1_120, true);
    let saved = duet.seats[ALICE].store.durable();
    duet.mute = Some(ALICE);
    duet.mine(3);
    duet.mute = None;
    duet.restore_old(ALICE, saved);
    duet.run();
    let all = claims(&duet);
    let contested =
        |c: &&Claim| watch(&duet, ALICE).output(&c.inputs[0]).is_some_and(|o| o.kind == Kind::Htlc);
    assert_eq!(all.iter().filter(contested).map(|c| c.inputs.len()).collect::<Vec<_>>(), [1; 4]);
    duet.mine(1);
    assert!(all.iter().flat_map(|c| &c.inputs).all(|place| taken(&duet, ALICE, place)));
}

/// Bob knows the secrets of four HTLCs and closes by force: his HTLC transactions take coins of a wallet that has so many.
fn settled(seed: u64, coins: usize) -> (Duet, u32) {
    let mut duet = Duet::opened(seed, Open::default());
    for (number, sat) in (1..).zip(SATS) {
        duet.pay_held(ALICE, number, sat * 1_000);
    }
    duet.settle();
    alone(&mut duet);
    for number in 1..=4 {
        duet.must(BOB, Command::SettleInvoice { preimage: preimage(number) });
    }
    let expiry = duet.channel(BOB).ledger.htlcs.values().map(|h| h.cltv_expiry.0).min().expect("four");
    duet.seats[BOB].wallet.keep_only(coins);
    force_close(&mut duet, BOB);
    duet.mine(1);
    (duet, expiry)
}

fn funded(duet: &Duet) -> Vec<Claim> {
    let htlcs = |c: &Claim| matches!(c.form, Form::HtlcFunded | Form::HtlcTogether);
    watch(duet, BOB).claims.into_iter().filter(htlcs).collect()
}

fn all_in_time(duet: &mut Duet, places: &[OutPoint], expiry: u32) {
    duet.mine(1);
    assert!(duet.chain.height() < expiry, "{} of {expiry}", duet.chain.height());
    assert!(places.iter().all(|place| taken(duet, BOB, place)));
    assert!(duet.chain.conserved().is_ok());
}

#[test]
fn htlcs_with_coins_of_the_wallet_are_taken_apart_as_their_expiry_nears() {
    // BOLT 5 [5.revoked.8].
    for restarted in [false, true] {
        let (mut duet, expiry) = settled(1_130, 20);
        let batch = batch_of_four(&funded(&duet));
        while duet.chain.height() + 6 < expiry {
            duet.mine_foreign(1);
            assert_eq!(batch_of_four(&funded(&duet)).number, batch.number, "not yet");
        }
        duet.mine_foreign(1);
        let before = each_alone(&duet, &funded(&duet), &batch.inputs);
        if restarted {
            duet.restart(BOB);
            duet.run();
            assert_eq!(each_alone(&duet, &funded(&duet), &batch.inputs).len(), 4);
            let numbers = |claims: &[Claim]| claims.iter().map(|c| c.number).collect::<BTreeSet<_>>();
            assert_eq!(numbers(&funded(&duet)), numbers(&before), "nothing begins again");
        }
        duet.mine_foreign(1);
        each_alone(&duet, &funded(&duet), &batch.inputs);
        all_in_time(&mut duet, &batch.inputs, expiry);
    }
}

/// With too few coins for each some stay together: never does one wait for the coin of another.
#[test]
fn htlcs_share_coins_where_there_are_too_few() {
    for coins in [1, 2, 3] {
        let (mut duet, expiry) = settled(1_140, coins);
        let batch = batch_of_four(&funded(&duet));
        while duet.chain.height() + 5 < expiry {
            duet.mine_foreign(1);
        }
        for _ in 0..3 {
            let all = funded(&duet);
            assert_eq!(all.len(), coins, "{all:#?}");
            let waiting: Vec<Txid> = duet.chain.mempool.iter().map(|tx| tx.compute_txid()).collect();
            let mut places = BTreeSet::new();
            for claim in &all {
                let tx = claim.tx.as_ref().expect("coins");
                assert!(waiting.contains(&tx.compute_txid()), "{claim:#?}");
                places.extend(tx.input.iter().map(|i| i.previous_output));
            }
            assert!(batch.inputs.iter().all(|place| places.contains(place)), "all are on their way");
            duet.mine_foreign(1);
        }
        all_in_time(&mut duet, &batch.inputs, expiry);
    }
}

/// One of the HTLCs is pinned, long before their expiry: after two refusals the others go alone.
#[test]
fn htlcs_with_coins_of_the_wallet_are_taken_apart_when_refused() {
    let (mut duet, expiry) = settled(1_150, 20);
    let batch = batch_of_four(&funded(&duet));
    let pinned = batch.inputs[1];
    let txid = batch.tx.as_ref().expect("a version").compute_txid();
    duet.chain.mempool.retain(|tx| tx.compute_txid() != txid);
    duet.chain.mempool.push(rival_of(pinned, expiry + 1_000));
    duet.mine(4);
    for place in &batch.inputs {
        assert_eq!(taken(&duet, BOB, place), *place != pinned, "{place}");
    }
    assert!(duet.chain.height() + 6 < expiry, "not because of the time");
    duet.chain.mempool.retain(|tx| tx.input.iter().all(|i| i.previous_output != pinned));
    duet.mine(2);
    assert!(taken(&duet, BOB, &pinned));
}

/// HTLCs that this node offered have expired, and no block holds what takes them back. Whoever paid us for them over another
/// channel takes his own back 34 blocks later: until then each goes alone, and dearer.
#[test]
fn what_is_taken_back_after_its_expiry_comes_apart_and_is_raised() {
    for closer in [ALICE, BOB] {
        let mut duet = Duet::opened(1_160, Open::default());
        for (number, sat) in (1..).zip(SATS) {
            duet.pay_held(ALICE, number, sat * 1_000);
        }
        duet.settle();
        alone(&mut duet);
        let expiry = duet.channel(ALICE).ledger.htlcs.values().map(|h| h.cltv_expiry.0).min().expect("four");
        force_close(&mut duet, closer);
        duet.mine(1);
        while duet.chain.height() < expiry {
            duet.mine_foreign(1);
        }
        let now = |duet: &Duet| -> Vec<Claim> {
            watch(duet, ALICE).claims.into_iter().filter(|c| c.tx.is_some() && c.lock_time.0 > 0).collect()
        };
        let batch = batch_of_four(&now(&duet));
        duet.mine_foreign(27);
        let after = now(&duet);
        assert_eq!(after.len(), 4, "{after:#?}");
        assert!(after.iter().all(|c| c.inputs.len() == 1 && c.feerate > batch.feerate), "{after:#?}");
    }
}
