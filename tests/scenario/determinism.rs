//! The same seed is the same run: every message, byte for byte.

use crate::script::play;
use chand_tests::duet::{Crash, Duet, When, ALICE, BOB};

/// Every message with its sender, in order.
type Trace = Vec<(usize, Vec<u8>)>;
/// Every key with its value.
type Disk = Vec<(Vec<u8>, Vec<u8>)>;

fn traced(seed: u64) -> (Trace, Disk) {
    let mut duet = Duet::new(seed);
    duet.expected_errors = vec!["unknown channel"];
    duet.tracing = true;
    duet.crashes = vec![
        Crash { seat: BOB, step: 30, when: When::BeforeRelease },
        Crash { seat: ALICE, step: 45, when: When::BeforeCommit },
    ];
    play(&mut duet, true);
    (duet.trace, duet.seats[ALICE].store.durable())
}

#[test]
fn the_same_seed_twice_is_the_same_run() {
    let (one, disk) = traced(70);
    let (two, again) = traced(70);
    assert!(one.len() > 60);
    assert_eq!(one, two);
    assert_eq!(disk, again);
    assert_ne!(one, traced(71).0, "another seed is another run");
}
