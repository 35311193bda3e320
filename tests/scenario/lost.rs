//! An old copy of the records, and payments that were under way in it: the peer closes with a commitment that this node lost.
//!
//! Which output is which HTLC cannot be told any more; secrets can. Read next: `faults` (how an old copy is noticed).

use chand_protocol::node::command::Command;
use chand_protocol::onchain::Standing;
use chand_tests::duet::play::{preimage, Open};
use chand_tests::duet::{Duet, ALICE, BOB};

/// Alice comes back from an old copy with a payment under way, and Bob closes with a commitment that she cannot read.
fn restored_with_a_payment(seed: u64) -> Duet {
    let mut duet = Duet::opened(seed, Open::default());
    duet.pay_held(ALICE, 1, 30_000_000);
    let old = duet.seats[ALICE].store.durable();
    for number in 0..3 {
        duet.pay(BOB, &format!("{number}"), 50_000_000);
    }
    duet.expected_errors =
        vec!["later state", "peer reports an error", "may be old", "lost state", "refused"];
    duet.check_every = 0;
    duet.restore_old(ALICE, old);
    duet.run();
    duet.wait_ms(1_000);
    duet.mine(1);
    let watch = duet.channel(ALICE).watch.as_ref().expect("watched");
    assert_eq!(watch.standing, Standing::Ahead);
    duet
}

#[test]
fn a_payment_in_a_commitment_that_was_lost_is_made_when_its_secret_is_seen() {
    let mut duet = restored_with_a_payment(931);
    duet.mine(7);
    let hash = preimage(1).hash();
    let status = |duet: &mut Duet| duet.payment(ALICE, hash).expect("listed").status;
    assert_eq!(status(&mut duet), "pending", "Bob may take it yet");
    duet.must(BOB, Command::SettleInvoice { preimage: preimage(1) });
    duet.mine(2);
    assert_eq!(status(&mut duet), "complete");
}

#[test]
fn a_payment_in_a_commitment_that_was_lost_is_given_up_after_its_expiry_and_no_sooner() {
    let mut duet = restored_with_a_payment(932);
    let hash = preimage(1).hash();
    let expiry = duet.channel(ALICE).ledger.htlcs.values().next().expect("an HTLC").cltv_expiry.0;
    while duet.chain.height() < expiry + 5 {
        duet.mine(1);
        assert_eq!(duet.payment(ALICE, hash).expect("listed").status, "pending");
    }
    duet.mine(1);
    let pay = duet.payment(ALICE, hash).expect("listed");
    let (_, words) = pay.failure.expect("failed");
    assert!(words.contains("Ask the payee"), "{words}");
}
