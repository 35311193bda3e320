//! What outcomes teach, how it fades, and that its cache can be anything.
//!
//! In: outcomes by hand and at random. Out: the bounds they leave.

use super::*;
use crate::entropy::Entropy;
use Direction::{One, Zero};

const SIZE: Msat = Msat(1_000_000);
const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn scid(n: u64) -> ShortChannelId {
    ShortChannelId(n)
}

fn bounds(scorer: &Scorer, n: u64, direction: Direction, now: Timestamp) -> (u64, u64) {
    let (low, high) = scorer.believed(scid(n), direction, SIZE, now);
    (low.0, high.0)
}

#[test]
fn one_direction_teaches_both() {
    let mut scorer = Scorer::new();
    assert_eq!(bounds(&scorer, 1, Zero, NOW), (0, 1_000_000));
    scorer.fail(scid(1), Zero, Msat(300_000), SIZE, NOW);
    assert_eq!(bounds(&scorer, 1, Zero, NOW), (0, 299_999));
    assert_eq!(bounds(&scorer, 1, One, NOW), (700_001, 1_000_000));
    scorer.pass(scid(1), Zero, Msat(100_000), SIZE, NOW);
    assert_eq!(bounds(&scorer, 1, Zero, NOW), (100_000, 299_999));
    // 150,000 go over and are gone from this side.
    scorer.settle(scid(1), Zero, Msat(150_000), SIZE, NOW);
    assert_eq!(bounds(&scorer, 1, Zero, NOW), (0, 149_999));
    assert_eq!(bounds(&scorer, 1, One, NOW), (850_001, 1_000_000));
}

#[test]
fn news_beat_what_was_believed() {
    let mut scorer = Scorer::new();
    scorer.fail(scid(1), Zero, Msat(300_000), SIZE, NOW);
    scorer.pass(scid(1), Zero, Msat(500_000), SIZE, NOW);
    assert_eq!(bounds(&scorer, 1, Zero, NOW), (500_000, 1_000_000));
    scorer.fail(scid(1), Zero, Msat(200_000), SIZE, NOW);
    assert_eq!(bounds(&scorer, 1, Zero, NOW), (0, 199_999));
    // Another size (the channel was spliced, or an alias is used again): nothing is known of that.
    let other = scorer.believed(scid(1), Zero, Msat(5), NOW);
    assert_eq!(other, (Msat(0), Msat(5)));
}

#[test]
fn what_is_known_fades_by_half_each_half_life() {
    let mut scorer = Scorer::new();
    scorer.fail(scid(1), Zero, Msat(200_001), SIZE, NOW);
    scorer.pass(scid(2), Zero, Msat(800_000), SIZE, NOW);
    let after = |halves: u64| NOW.plus_ms(halves * HALF_LIFE_S * 500);
    assert_eq!(bounds(&scorer, 1, Zero, after(2)), (0, 600_000));
    assert_eq!(bounds(&scorer, 1, Zero, after(1)), (0, 400_000), "a straight line between");
    assert_eq!(bounds(&scorer, 1, Zero, after(4)), (0, 800_000));
    assert_eq!(bounds(&scorer, 2, Zero, after(2)), (400_000, 1_000_000));
    assert_eq!(bounds(&scorer, 1, Zero, Timestamp(u64::MAX)), (0, 1_000_000));
    // What is learned of one bound leaves the other's age alone.
    scorer.pass(scid(1), Zero, Msat(10), SIZE, after(2));
    assert_eq!(bounds(&scorer, 1, Zero, after(4)).1, 800_000);
    // A clock that goes back brings nothing back.
    assert_eq!(bounds(&scorer, 2, Zero, Timestamp(0)), (800_000, 1_000_000));
}

#[test]
fn the_oldest_quarter_goes_when_there_is_no_room() {
    let mut scorer = Scorer::with_room(8);
    for n in 0..9 {
        scorer.fail(scid(n), Zero, Msat(100), SIZE, NOW.plus_ms(n * 1_000));
    }
    assert_eq!(scorer.len(), 7);
    assert_eq!(bounds(&scorer, 1, Zero, NOW), (0, 1_000_000), "forgotten");
    assert_eq!(bounds(&scorer, 2, Zero, NOW), (0, 99), "kept");
    // The same time everywhere: still only a quarter.
    let mut scorer = Scorer::with_room(8);
    (0..9).for_each(|n| scorer.fail(scid(n), Zero, Msat(100), SIZE, NOW));
    assert_eq!(scorer.len(), 7);
}

#[test]
fn bounds_hold_whatever_happens_and_survive_their_bytes() {
    let mut dice = Entropy::new([6; 32]);
    let mut roll = move |n: u64| dice.u64() % n;
    let mut scorer = Scorer::with_room(30);
    let mut now = NOW;
    for _ in 0..20_000 {
        let (name, amount) = (scid(roll(40)), Msat(roll(1_500_000)));
        let direction = Direction::from_flags(roll(2) as u8);
        now = now.plus_ms(roll(600_000));
        match roll(3) {
            0 => scorer.fail(name, direction, amount, SIZE, now),
            1 => scorer.pass(name, direction, amount, SIZE, now),
            _ => scorer.settle(name, direction, amount, SIZE, now),
        }
        let ((low, high), (back_low, back_high)) =
            (bounds(&scorer, name.0, direction, now), bounds(&scorer, name.0, direction.other(), now));
        assert!(low <= high && high <= SIZE.0);
        assert_eq!((low + back_high, high + back_low), (SIZE.0, SIZE.0));
        assert!(scorer.len() <= 30);
    }
    let read = Scorer::from_bytes(&scorer.to_bytes()).unwrap();
    assert_eq!(read.known, scorer.known);
    assert_eq!(bounds(&read, 3, One, now), bounds(&scorer, 3, One, now));
}

#[test]
fn any_bytes_may_stand_in_the_cache() {
    let mut scorer = Scorer::new();
    (0..5).for_each(|n| scorer.fail(scid(n), Zero, Msat(100 + n), SIZE, NOW));
    let good = scorer.to_bytes();
    for cut in 0..good.len() {
        let read = Scorer::from_bytes(&good[..cut]);
        assert_eq!(read.is_ok(), cut % RECORD_BYTES == 1, "{cut} bytes");
    }
    for place in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[place] ^= 1 << bit;
            if let Ok(read) = Scorer::from_bytes(&bad) {
                for known in read.known.values() {
                    let now = known.at(u32::MAX);
                    assert!(now.low <= now.high && now.high <= known.size);
                }
            }
        }
    }
    assert_eq!(Scorer::from_bytes(&[]).unwrap_err(), BadScores);
}
