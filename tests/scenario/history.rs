//! A channel with a long past: what a penalty needs of it is bounded, and goes as a whole, a portion at a block.

use chand_protocol::node::command::{ChannelRef, Command};
use chand_protocol::record::Kind;
use chand_tests::duet::play::Open;
use chand_tests::duet::{Duet, ALICE, BOB};

/// Records that `retire` may delete at one block, with the few that go at the end.
const PORTION: u64 = 5_000 + 200;

fn old(seed: u64) -> Duet {
    let mut duet = Duet::counterfeit(seed, |_, config| config.dev = seed % 2 == 1);
    duet.check_every = 0;
    duet.burst = 2_000;
    duet.connect();
    duet.open(Open { sat: 16_000_000, push_msat: 8_000_000_000, ..Open::default() });
    for round in 0..30u64 {
        duet.pay_many(if round % 2 == 0 { ALICE } else { BOB }, &format!("{round}"), 400, 1_000_000);
    }
    duet.settle();
    duet
}

fn count(duet: &Duet, seat: usize, kind: Kind) -> usize {
    duet.seats[seat].store.durable().iter().filter(|(key, _)| Kind::of(key) == Some(kind)).count()
}

/// 12,000 HTLCs, closed by agreement or by force: no record per commitment, and several blocks delete them.
#[test]
fn twelve_thousand_htlcs_go_in_portions() {
    for by_force in [false, true] {
        let mut duet = old(if by_force { 1_101 } else { 1_100 });
        for seat in [ALICE, BOB] {
            assert_eq!(count(&duet, seat, Kind::Past), 12_000);
            assert_eq!(duet.channel(seat).past().len(), 12_000);
            let past: usize = duet.seats[seat]
                .store
                .durable()
                .iter()
                .filter(|(key, _)| Kind::of(key) == Some(Kind::Past))
                .map(|(key, value)| key.len() + value.len())
                .sum();
            assert!(past < 12_000 * 110, "{past} bytes");
        }
        if by_force {
            duet.expected_errors = vec!["dev-fail", "closed by force", "no coins"];
            let channel = ChannelRef::Id(duet.channel_id());
            duet.must(ALICE, Command::DevFail { channel });
        } else {
            let order = duet.close_order();
            duet.must(ALICE, order);
        }
        // Until all that is theirs is deep.
        let mut portions = [Vec::new(), Vec::new()];
        for block in 0..130 {
            let before = [ALICE, BOB].map(|seat| duet.seats[seat].store.counts().changes);
            duet.mine(1);
            // Nothing is deep before; counting is slow.
            if block < 90 {
                continue;
            }
            for seat in [ALICE, BOB] {
                let changed = duet.seats[seat].store.counts().changes - before[seat];
                assert!(changed <= PORTION, "{changed} changes at one block");
                let left = count(&duet, seat, Kind::Past);
                if portions[seat].last() != Some(&left) {
                    portions[seat].push(left);
                    // A start in the middle goes on where it was.
                    if left == 7_000 && block % 2 == 0 {
                        duet.restart(seat);
                    }
                }
            }
        }
        for (seat, left) in portions.iter().enumerate() {
            assert_eq!(left, &[12_000, 7_000, 2_000, 0], "seat {seat}");
            assert!(duet.channel(seat).retired);
            assert_eq!(count(&duet, seat, Kind::Secret), 0);
            assert_eq!(count(&duet, seat, Kind::Snapshot), 1, "the one it closed with");
            assert_eq!(duet.channel(seat).past().len(), 0);
            duet.judge_records(seat);
        }
    }
}
