//! An HTLC that costs more to take than it holds is left in peace until feerates fall.

use crate::claims::{alone, force_close};
use chand_protocol::node::effect::{Fees, Input, Level};
use chand_protocol::node::Node;
use chand_protocol::onchain::Kind;
use chand_protocol::units::Feerate;
use chand_tests::duet::play::Open;
use chand_tests::duet::{Duet, ALICE};

fn fees(duet: &mut Duet, seat: usize, feerate: u32) {
    let feerate = Feerate(feerate);
    duet.step(seat, vec![Input::Fees(Fees { normal: feerate, urgent: feerate, minimum: Feerate::FLOOR })]);
}

fn resting(node: &Node) -> usize {
    node.channels().map(|c| c.view(node.tip().expect("a tip").0).resting.len()).sum()
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
    fees(&mut duet, ALICE, 1_000);
    duet.mine(2);
    assert!(taken(&duet));
    assert_eq!(resting(&duet.seats[ALICE].node), 0);
}
