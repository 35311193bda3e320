//! The proof: a crash at every step of either node, a cut at every message, and the end is the same.

use crate::script::play;
use chand_tests::duet::{Crash, Cut, Duet, When, ALICE, BOB};

fn fresh(seed: u64) -> Duet {
    let mut duet = Duet::new(seed);
    // A channel that only one side kept before it was funded is ended by an error.
    duet.expected_errors = vec!["unknown channel"];
    duet
}

/// Runs the script without mishap: how many steps each took, how many messages there were.
fn quiet(seed: u64, anchors: bool) -> ([u64; 2], u64) {
    let mut duet = fresh(seed);
    play(&mut duet, anchors);
    (duet.seats.each_ref().map(|s| s.steps), duet.delivered)
}

fn crash_everywhere(seat: usize, when: When, anchors: bool) {
    let (steps, _) = quiet(60, anchors);
    assert!(steps[seat] > 60, "{steps:?}");
    for step in 3..=steps[seat] {
        let mut duet = fresh(60);
        duet.crashes = vec![Crash { seat, step, when }];
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| play(&mut duet, anchors)));
        assert!(result.is_ok(), "a crash of seat {seat} at step {step} ({when:?})");
        assert_eq!(duet.seats[seat].lives, 1);
    }
}

#[test]
fn alice_dies_before_each_write() {
    crash_everywhere(ALICE, When::BeforeCommit, true);
}

#[test]
fn bob_dies_before_each_write() {
    crash_everywhere(BOB, When::BeforeCommit, true);
}

#[test]
fn alice_dies_after_each_write_before_anything_leaves() {
    crash_everywhere(ALICE, When::BeforeRelease, true);
}

#[test]
fn bob_dies_after_each_write_before_anything_leaves() {
    crash_everywhere(BOB, When::BeforeRelease, true);
}

#[test]
fn either_dies_after_each_release() {
    crash_everywhere(ALICE, When::AfterRelease, false);
    crash_everywhere(BOB, When::AfterRelease, false);
}

#[test]
fn both_die_shortly_after_each_other() {
    let (steps, _) = quiet(61, true);
    let whens = [When::BeforeCommit, When::BeforeRelease, When::AfterRelease];
    for step in (3..=steps[ALICE]).step_by(2) {
        let mut duet = fresh(61);
        let when = |n: u64| whens[(step + n) as usize % 3];
        duet.crashes = vec![
            Crash { seat: ALICE, step, when: when(0) },
            Crash { seat: BOB, step: step * steps[BOB] / steps[ALICE] + step % 5, when: when(1) },
            Crash { seat: ALICE, step: step + 4, when: when(2) },
        ];
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| play(&mut duet, true)));
        assert!(result.is_ok(), "crashes from step {step}");
    }
}

fn cut_everywhere(keep: Option<usize>) {
    let (_, messages) = quiet(62, true);
    assert!(messages > 60, "{messages}");
    for after in 0..messages {
        let mut duet = fresh(62);
        duet.cuts = vec![Cut { after, keep }];
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| play(&mut duet, true)));
        assert!(result.is_ok(), "a cut after message {after}, keep {keep:?}");
    }
}

#[test]
fn the_link_is_cut_after_each_message_and_all_under_way_is_lost() {
    // BOLT 2 [2.again.3, 2.again.4, 2.again.5, 2.again.7, 2.again.8, 2.again.23, 2.again.26, 2.again.27].
    cut_everywhere(None);
}

#[test]
fn the_link_is_cut_after_each_message_and_one_direction_still_arrives() {
    cut_everywhere(Some(ALICE));
    cut_everywhere(Some(BOB));
}

#[test]
fn the_link_is_cut_after_every_few_messages() {
    for every in [9, 13, 17, 23] {
        let mut duet = fresh(63);
        duet.cuts = (1..30)
            .map(|n| Cut { after: 12 + n * every, keep: [None, Some(ALICE), Some(BOB)][n as usize % 3] })
            .collect();
        play(&mut duet, true);
        assert!(duet.cuts.len() < 28, "{} were left", duet.cuts.len());
    }
}
