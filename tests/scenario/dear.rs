//! An HTLC that costs more to take than it holds is left in peace until feerates fall.

use crate::claims::{alone, force_close};
use chand_protocol::node::effect::{Fees, Input, Level};
use chand_protocol::node::Node;
use chand_protocol::onchain::Kind;
use chand_protocol::units::{Feerate, Height};
use chand_tests::duet::play::Open;
use chand_tests::duet::{Duet, ALICE};

fn fees(duet: &mut Duet, seat: usize, feerate: u32) {
    let feerate = Feerate(feerate);
    duet.step(seat, vec![Input::Fees(Fees { normal: feerate, urgent: feerate, minimum: Feerate::FLOOR })]);
}

fn resting(node: &Node) -> usize {
    node.channels().map(|c| c.view(node.tip().expect("a tip").0).resting.len()).sum()
}

/// When the wallet was asked last for the claim that rests.
fn asked(duet: &Duet) -> u32 {
    let watch = duet.channel(ALICE).watch.as_ref().expect("watched");
    watch.claims.iter().find_map(|claim| claim.rests.and(claim.asked)).expect("one rests").0
}

#[test]
fn what_rests_is_asked_for_again_when_the_wallet_got_something() {
    let mut duet = Duet::opened(1_101, Open { anchors: true, ..Open::default() });
    duet.pay_held(ALICE, 1, 9_000_000);
    duet.settle();
    alone(&mut duet);
    duet.expected_errors.retain(|words| *words != "no coins");
    force_close(&mut duet, ALICE);
    duet.mine(1);
    fees(&mut duet, ALICE, 20_000);
    while resting(&duet.seats[ALICE].node) == 0 {
        duet.mine(1);
    }
    for wallet in [None, Some(b"a coin".to_vec())] {
        let (before, height) = (asked(&duet), duet.chain.height() + 1);
        duet.chain.mine();
        let block = duet.chain.block(height).cloned().expect("a block");
        let (hash, time_s, txs, news) = (block.hash, block.time_s, block.txs, wallet.is_some());
        let height = Height(height);
        duet.step(ALICE, vec![Input::BlockConnected { height, hash, time_s, txs, wallet }]);
        assert_eq!(asked(&duet), if news { height.0 } else { before });
    }
}

#[test]
fn a_claim_that_is_not_worth_its_fee_rests_and_comes_back() {
    let mut duet = Duet::opened(1_100, Open { anchors: true, ..Open::default() });
    duet.pay_held(ALICE, 1, 9_000_000);
    duet.settle();
    alone(&mut duet);
    // No coin is missing here.
    duet.expected_errors.retain(|words| *words != "no coins");
    force_close(&mut duet, ALICE);
    duet.mine(1);
    let about = |duet: &Duet, words: &str| {
        duet.seats[ALICE].log.iter().filter(|n| n.text.contains(words)).map(|n| n.level).collect::<Vec<_>>()
    };
    fees(&mut duet, ALICE, 20_000);
    let taken = |duet: &Duet| {
        let watch = duet.channel(ALICE).watch.as_ref().expect("watched");
        watch.outputs.iter().any(|o| o.kind == Kind::Htlc && o.spent.is_some())
    };
    let mut rested = 0;
    for _ in 0..60 {
        duet.mine(1);
        rested += resting(&duet.seats[ALICE].node);
    }
    assert!(rested > 15 && !taken(&duet), "left for {rested} blocks");
    assert_eq!(about(&duet, "rests until feerates fall"), [Level::Info], "said once");
    // Somewhat lower is not yet low enough, and is no news.
    fees(&mut duet, ALICE, 15_000);
    duet.mine(3);
    assert_eq!(about(&duet, "rests until feerates fall").len(), 1);
    assert_eq!(resting(&duet.seats[ALICE].node), 1);
    // Never for longer than an hour without another question: the wallet may have coins by now that weigh less.
    let first = asked(&duet);
    duet.mine(7);
    assert!((first + 1..first + 8).contains(&asked(&duet)), "{first}, then {}", asked(&duet));
    fees(&mut duet, ALICE, 1_000);
    duet.mine(2);
    assert!(taken(&duet));
    assert_eq!(resting(&duet.seats[ALICE].node), 0);
}
