//! What claims pay: raised towards their deadline, never more than they may, and split when one input holds up the rest.

use bitcoin::absolute::LockTime;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use chand_protocol::channel::Phase;
use chand_protocol::node::command::{ChannelRef, Command};
use chand_protocol::node::effect::{Fees, Input};
use chand_protocol::onchain::claim::{Claim, Form};
use chand_protocol::onchain::Kind;
use chand_protocol::units::Feerate;
use chand_tests::duet::chain::check_transaction;
use chand_tests::duet::play::{preimage, Open};
use chand_tests::duet::{Duet, ALICE, BOB};

/// The CSV delay of both sides here.
pub const DELAY: u32 = 6;

pub fn alone(duet: &mut Duet) {
    duet.reachable = false;
    duet.cut(None);
    duet.run();
    duet.expected_errors =
        vec!["closed by force", "dev-fail", "PENALTY", "CHEATS", "no coins", "may take everything"];
}

pub fn force_close(duet: &mut Duet, seat: usize) -> Transaction {
    let channel = ChannelRef::Id(duet.channel_id());
    duet.must(seat, Command::DevFail { channel });
    let Phase::Onchain(onchain) = &duet.channel(seat).phase else { panic!("not closed") };
    onchain.tx.clone().expect("its own")
}

/// Bob publishes a state with HTLCs both ways that he revoked since; it is in no block yet.
pub fn cheated(seed: u64, anchors: bool) -> Duet {
    cheated_with(seed, anchors, DELAY)
}

/// The same with another delay of both.
pub fn cheated_with(seed: u64, anchors: bool, delay: u32) -> Duet {
    let mut duet = Duet::with(seed, |_, config| config.to_self_delay_blocks = delay as u16);
    duet.connect();
    duet.open(Open { anchors, ..Open::default() });
    for (number, payer, msat) in
        [(1, ALICE, 30_000_000), (2, BOB, 20_000_000), (3, ALICE, 25_000_000), (4, BOB, 15_000_000)]
    {
        duet.pay_held(payer, number, msat);
    }
    duet.settle();
    let old = duet.seats[BOB].store.durable();
    for (number, payee) in [(1, BOB), (2, ALICE), (3, BOB), (4, ALICE)] {
        duet.must(payee, Command::CancelInvoice { payment_hash: preimage(number).hash() });
    }
    duet.settle();
    alone(&mut duet);
    duet.restore_old(BOB, old);
    force_close(&mut duet, BOB);
    duet
}

pub fn claims(duet: &Duet) -> Vec<Claim> {
    let watch = duet.channel(ALICE).watch.as_ref().expect("watched");
    watch.claims.iter().filter(|c| c.form == Form::Sweep).cloned().collect()
}

fn spent(duet: &Duet, tx: &Transaction) -> Vec<TxOut> {
    duet.chain.spent_by(tx).expect("its outputs are there")
}

fn fees(duet: &mut Duet, seat: usize, normal: u32, urgent: u32) {
    let fees = Fees { normal: Feerate(normal), urgent: Feerate(urgent), minimum: Feerate::FLOOR };
    duet.step(seat, vec![Input::Fees(fees)]);
}

/// Nothing of Alice's is mined: each block she pays more, by what a replacement must, and each version is sound.
#[test]
fn a_penalty_is_raised_at_every_block() {
    for anchors in [true, false] {
        let mut duet = cheated(1_000, anchors);
        duet.mute = Some(ALICE);
        // A block on, each output has a claim of its own, and keeps it (`split`).
        duet.mine(2);
        let mut before = claims(&duet);
        assert!(before.len() >= 2, "contested outputs apart from the rest: {before:?}");
        for _ in 3..DELAY {
            duet.mine(1);
            let now = claims(&duet);
            let hurried = |c: &&Claim| !matches!(duet.channel(ALICE).watch.as_ref().and_then(|w| w.output(&c.inputs[0])), Some(o) if o.kind == Kind::ToRemote);
            for claim in now.iter().filter(hurried) {
                let old = before.iter().find(|c| c.number == claim.number).expect("the same claim");
                let tx = claim.tx.as_ref().expect("a version");
                let held: u64 = spent(&duet, tx).iter().map(|o| o.value.to_sat()).sum();
                let fee = held - tx.output.iter().map(|o| o.value.to_sat()).sum::<u64>();
                assert_eq!(claim.fee.0, fee);
                assert!(
                    claim.fee.0 >= old.fee.0 + tx.weight().to_wu() / 4,
                    "{} after {}",
                    claim.fee,
                    old.fee
                );
                assert!(claim.feerate.0 as u64 * 100 >= u64::from(old.feerate.0) * 124, "a quarter more");
                assert_eq!(claim.inputs, old.inputs);
                check_transaction(tx, &spent(&duet, tx));
            }
            before = now;
        }
        // Heard at last, the newest versions are enough.
        duet.mute = None;
        duet.mine(2);
        let watch = duet.channel(ALICE).watch.as_ref().expect("watched");
        for output in watch.outputs.iter().filter(|o| matches!(o.kind, Kind::ToLocal | Kind::Htlc)) {
            assert!(output.spent.is_some_and(|s| s.ours), "{output:?}");
        }
    }
}

/// A cheat gets nothing: to the last satoshi above dust it may all go to fees.
#[test]
fn a_penalty_may_cost_all_it_takes() {
    let mut duet = cheated(1_010, true);
    fees(&mut duet, ALICE, 1_000, 3_000_000);
    duet.mine(1);
    let capped = claims(&duet).into_iter().filter(|c| c.inputs.len() == 4).collect::<Vec<_>>();
    let [claim] = capped.as_slice() else { panic!("no claim of the four HTLCs") };
    let tx = claim.tx.as_ref().expect("a version");
    let dust = tx.output[0].script_pubkey.minimal_non_dust();
    assert_eq!(tx.output[0].value, dust, "{}", claim.fee);
    check_transaction(tx, &spent(&duet, tx));
    duet.mine(2);
    let watch = duet.channel(ALICE).watch.as_ref().expect("watched");
    assert!(watch.outputs.iter().filter(|o| o.kind == Kind::Htlc).all(|o| o.spent.is_some_and(|s| s.ours)));
}

/// What is ours alone waits rather than to give more than half of it away, and while it would cost more than it holds.
#[test]
fn our_own_may_cost_half_at_most() {
    let mut duet = Duet::opened(1_020, Open::default());
    alone(&mut duet);
    force_close(&mut duet, ALICE);
    duet.mine(DELAY - 1);
    // Before it is ripe feerates have gone mad.
    let held = |duet: &Duet| {
        let watch = duet.channel(ALICE).watch.as_ref().expect("watched");
        watch.outputs.iter().find(|o| o.kind == Kind::ToLocal).cloned().expect("a balance")
    };
    duet.mute = Some(ALICE);
    fees(&mut duet, ALICE, 20_000_000, 20_000_000);
    let early = claims(&duet).len();
    duet.mine(1);
    assert_eq!(claims(&duet).len(), early, "not worth it");
    fees(&mut duet, ALICE, 900_000, 900_000);
    duet.mine(1);
    let claim = claims(&duet).pop().expect("a claim");
    assert_eq!(claim.fee.0, held(&duet).amount.0 / 2);
    // Down again: what is out is left as it is, and is mined.
    fees(&mut duet, ALICE, 1_000, 1_000);
    duet.mute = None;
    duet.mine(2);
    assert!(held(&duet).spent.is_some_and(|s| s.ours));
}

/// Somebody pins one of four outputs with a transaction that pays much and cannot be mined yet, long before time runs out.
/// The other three must not wait for it.
#[test]
fn one_that_is_held_up_does_not_hold_up_the_rest() {
    let mut duet = cheated_with(1_030, true, 40);
    duet.mute = Some(ALICE);
    duet.mine(1);
    let batch = claims(&duet).into_iter().find(|c| c.inputs.len() == 4).expect("a batch of the four HTLCs");
    let pinned = batch.inputs[1];
    let rival = rival_of(pinned, duet.chain.height() + 1_000);
    duet.chain.mempool.push(rival.clone());
    duet.mute = None;
    duet.mine(4);
    let taken = |duet: &Duet, place: &OutPoint| {
        let watch = duet.channel(ALICE).watch.as_ref().expect("watched");
        watch.output(place).expect("known").spent.is_some_and(|s| s.ours)
    };
    for place in batch.inputs.iter().filter(|i| **i != pinned) {
        assert!(taken(&duet, place), "{place} waits for another");
    }
    assert!(!taken(&duet, &pinned));
    // The pin goes; what is left follows.
    duet.chain.mempool.retain(|tx| tx.compute_txid() != rival.compute_txid());
    duet.mine(2);
    assert!(taken(&duet, &pinned));
}

/// Spends `place`, pays nearly all of it in fees, and is not final before `height`.
pub fn rival_of(place: OutPoint, height: u32) -> Transaction {
    Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: LockTime::from_consensus(height),
        input: vec![TxIn {
            previous_output: place,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        }],
        output: vec![TxOut { value: Amount::from_sat(330), script_pubkey: ScriptBuf::new() }],
    }
}

/// A sweep of what an HTLC transaction made waits; then that transaction leaves the chain: the sweep can never be mined, and no
/// version of it may count in the wallet.
#[test]
fn a_claim_on_what_a_reorganisation_took_away_leaves_the_wallet() {
    let mut duet = Duet::opened(734, Open { anchors: false, ..Open::default() });
    duet.pay_held(ALICE, 1, 50_000_000);
    duet.settle();
    alone(&mut duet);
    force_close(&mut duet, ALICE);
    duet.check_every = 0;
    let made = |duet: &Duet| {
        let watch = duet.channel(ALICE).watch.clone().expect("watched");
        let second = watch.outputs.iter().find(|o| o.kind == Kind::Second)?.clone();
        let claim =
            watch.claims.iter().find(|c| c.inputs.contains(&second.outpoint) && !c.txids.is_empty())?;
        Some((second.born.expect("in a block").0, claim.txids.clone()))
    };
    let (born, versions) = (0..400)
        .find_map(|_| {
            duet.mine(1);
            made(&duet)
        })
        .expect("a sweep of the second level");
    while duet.chain.height() >= born {
        duet.chain.unmine(true);
    }
    duet.mine_foreign(20);
    let told = &duet.seats[ALICE].wallet.unreserved;
    assert!(versions.iter().all(|txid| told.contains(txid)), "{versions:?} {told:?}");
}
