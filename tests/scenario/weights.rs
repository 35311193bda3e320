//! The weights that BOLT 3 and BOLT 5 state are those of real transactions.
//!
//! In: claims and penalties of two nodes that closed by force. Out: each witness weighs what its appendix says, once
//! its signatures are counted as long as they can be, and numbers as long as the appendix takes them to be.
//! Read next: `penalty`.

use crate::onchain::{alone, force_close};
use crate::penalty::cheat;
use bitcoin::script::{Instruction, Script};
use bitcoin::{OutPoint, Transaction, Witness};
use chand_protocol::node::command::Command;
use chand_protocol::onchain::{Kind, Output};
use chand_protocol::tx::weight::{commit_weight, htlc_success_weight, htlc_timeout_weight};
use chand_protocol::tx::ChannelType;
use chand_tests::duet::play::{preimage, Open};
use chand_tests::duet::{Duet, ALICE, BOB};

/// The appendices count a signature with its hash type as so many bytes.
const SIGNATURE: u64 = 73;
/// BOLT 5, Appendix A: witnesses of penalties, in bytes.
const TO_LOCAL_PENALTY: u64 = 160;
const OFFERED_HTLC_PENALTY: u64 = 243;
const ACCEPTED_HTLC_PENALTY: u64 = 249;
/// The inputs around them (BOLT 5, "Penalty Transactions Weight Calculation").
const TXINPUT: u64 = 164;
/// What anchors add to the script of an HTLC: `1 OP_CHECKSEQUENCEVERIFY OP_DROP`.
const ANCHORS_SCRIPT: u64 = 3;
/// BOLT 3 and 5 count a delay as a push of eight bytes, and an expiry as one of four.
const DELAY_PUSH: u64 = 9;
const EXPIRY_PUSH: u64 = 5;

/// The bytes of a witness, each signature as long as it can be.
fn bytes(witness: &Witness) -> u64 {
    let is_signature = |item: &&[u8]| item.first() == Some(&0x30) && (68..=73).contains(&item.len());
    let short: u64 = witness.iter().filter(is_signature).map(|item| SIGNATURE - item.len() as u64).sum();
    witness.size() as u64 + short
}

/// How long the push of the number before `op` is in the script of a witness.
fn pushed_before(witness: &Witness, op: bitcoin::Opcode) -> u64 {
    let script = witness.last().expect("a script");
    let all: Vec<Instruction<'_>> =
        Script::from_bytes(script).instructions().collect::<Result<_, _>>().expect("a script");
    let at = all.iter().position(|i| *i == Instruction::Op(op)).expect("the opcode");
    match &all[at - 1] {
        // A small number is an opcode of its own.
        Instruction::Op(_) => 1,
        Instruction::PushBytes(number) => 1 + number.len() as u64,
    }
}

/// Both kinds of channel, with an HTLC each way, and one each way more that its payee has settled.
fn begun(seed: u64, anchors: bool) -> Duet {
    let mut duet = Duet::opened(seed, Open { anchors, ..Open::default() });
    for (number, payer, msat) in
        [(1, ALICE, 30_000_000), (2, BOB, 20_000_000), (3, ALICE, 25_000_000), (4, BOB, 15_000_000)]
    {
        duet.pay_held(payer, number, msat);
    }
    duet.settle();
    duet
}

/// The witness by which `output` was spent, as the claims of `seat` have it.
fn spent_by(duet: &Duet, seat: usize, output: &Output) -> (Transaction, Witness) {
    let claims = &duet.channel(seat).watch.as_ref().expect("watched").claims;
    let spends = |tx: &&Transaction| tx.input.iter().any(|i| i.previous_output == output.outpoint);
    let tx = claims.iter().filter_map(|c| c.tx.as_ref()).find(spends).expect("a claim").clone();
    let input = tx.input.iter().find(|i| i.previous_output == output.outpoint).expect("its input");
    let witness = input.witness.clone();
    (tx, witness)
}

fn outputs(duet: &Duet, seat: usize, kind: Kind) -> Vec<Output> {
    let watch = duet.channel(seat).watch.as_ref().expect("watched");
    watch.outputs.iter().filter(|o| o.kind == kind).cloned().collect()
}

#[test]
fn penalties_weigh_what_bolt_5_says() {
    for anchors in [true, false] {
        let extra = if anchors { ANCHORS_SCRIPT } else { 0 };
        let mut duet = begun(850, anchors);
        let old = duet.seats[BOB].store.durable();
        for (number, payee) in [(1, BOB), (2, ALICE), (3, BOB), (4, ALICE)] {
            duet.must(payee, Command::SettleInvoice { preimage: preimage(number) });
        }
        duet.settle();
        cheat(&mut duet, BOB, old, None);
        duet.mine(1);
        let to_local = outputs(&duet, ALICE, Kind::ToLocal);
        let (_, witness) = spent_by(&duet, ALICE, &to_local[0]);
        let delay = pushed_before(&witness, bitcoin::opcodes::all::OP_CSV);
        // The appendix counts the length of the `1` that chooses the branch, and not its one byte.
        assert_eq!(bytes(&witness) - 1 + DELAY_PUSH - delay, TO_LOCAL_PENALTY, "{witness:?}");
        let htlcs = outputs(&duet, ALICE, Kind::Htlc);
        assert_eq!(htlcs.len(), 4);
        for htlc in htlcs {
            let (tx, witness) = spent_by(&duet, ALICE, &htlc);
            let by_cheat =
                htlc.lock.as_ref().is_some_and(|l| l.id.offered_by == chand_protocol::id::Side::Remote);
            if by_cheat {
                assert_eq!(bytes(&witness) - extra, OFFERED_HTLC_PENALTY, "{witness:?}");
            } else {
                let expiry = pushed_before(&witness, bitcoin::opcodes::all::OP_CLTV);
                // Four bytes of an expiry are one more than BOLT 5 takes the script to have.
                let figure = ACCEPTED_HTLC_PENALTY + 1;
                assert_eq!(bytes(&witness) - extra + EXPIRY_PUSH - expiry, figure, "{witness:?}");
            }
            // An input is 41 bytes that count four times, and its witness.
            let rest: u64 = tx.input.iter().map(|i| TXINPUT + i.witness.size() as u64).sum();
            assert_eq!(tx.input[0].base_size() as u64 * 4, TXINPUT);
            assert!(tx.weight().to_wu() > rest);
        }
    }
}

/// The weight of an HTLC transaction as BOLT 3 counts it; of a batch, of the input and output of one.
fn htlc_weight(tx: &Transaction, spends: OutPoint) -> u64 {
    let at = tx.input.iter().position(|i| i.previous_output == spends).expect("its input");
    // Version, lock time, both counts; the two bytes that mark a transaction with witnesses.
    let frame = 4 * (4 + 4 + 1 + 1) + 2;
    frame + 4 * (tx.input[at].base_size() + tx.output[at].size()) as u64 + bytes(&tx.input[at].witness)
}

#[test]
fn commitments_and_htlc_transactions_weigh_what_bolt_3_says() {
    for anchors in [true, false] {
        let kind = if anchors { ChannelType::Anchors } else { ChannelType::StaticRemotekey };
        for closer in [ALICE, BOB] {
            let mut duet = begun(860, anchors);
            let (settled, silent) = if closer == ALICE { (2, 1) } else { (1, 2) };
            alone(&mut duet);
            duet.must(closer, Command::SettleInvoice { preimage: preimage(settled) });
            let commitment = force_close(&mut duet, closer);
            let full = commitment.weight().to_wu() - commitment.input[0].witness.size() as u64
                + bytes(&commitment.input[0].witness);
            // With anchors BOLT 3 takes the number of outputs to need three bytes instead of one.
            let count = if anchors { 4 * 2 } else { 0 };
            assert_eq!(full + count, commit_weight(kind, 4), "anchors {anchors}, closer {closer}");
            duet.mine(1);
            let of = |number| {
                let hash = preimage(number).hash();
                move |o: &&Output| o.lock.as_ref().is_some_and(|l| l.payment_hash == hash)
            };
            let htlcs = outputs(&duet, closer, Kind::Htlc);
            let taken = htlcs.iter().find(of(settled)).expect("one");
            let (tx, witness) = spent_by(&duet, closer, taken);
            let expiry = pushed_before(&witness, bitcoin::opcodes::all::OP_CLTV);
            // "Really 702 and 705", BOLT 3 says of its 703 and 706.
            let weight = htlc_weight(&tx, taken.outpoint) + EXPIRY_PUSH - expiry + 1;
            assert_eq!(weight, htlc_success_weight(kind), "anchors {anchors}, closer {closer}");
            let waits = htlcs.iter().find(of(silent)).expect("one").clone();
            let expiry = waits.lock.as_ref().expect("a lock").cltv_expiry.0;
            while duet.chain.height() < expiry {
                duet.mine(1);
            }
            let (tx, _) = spent_by(&duet, closer, &waits);
            let weight = htlc_weight(&tx, waits.outpoint);
            assert_eq!(weight, htlc_timeout_weight(kind), "anchors {anchors}, closer {closer}");
        }
    }
}
