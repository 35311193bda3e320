//! The whole life of a channel with LDK, for either opener and both kinds: opened, paid over, held, refused, killed,
//! cut, closed by one side; opened again, closed by the other.
//!
//! In: nothing. Out: four tests, which run side by side.
//! Read next: `steps`, `load`, `close`.

use crate::close::{close, close_over_an_htlc};
use crate::load::{cut, kill_ldk, kill_us};
use crate::pair::{Opener, Pair};
use crate::steps;
use chand_tests::ChannelType;

fn live(opener: Opener, kind: ChannelType, seed: u8) {
    let mut pair = Pair::with_channel(opener, kind, seed);
    steps::pay_both_ways(&mut pair);
    steps::keysend_both_ways(&mut pair);
    steps::many_at_once(&mut pair);
    steps::hold_both_ways(&mut pair);
    steps::refused_both_ways(&mut pair);
    steps::around_dust(&mut pair);
    kill_us(&mut pair, 4);
    kill_ldk(&mut pair, 2);
    cut(&mut pair, 4);
    if opener == Opener::Us {
        steps::change_fees(&mut pair);
        steps::around_dust(&mut pair);
    }
    close(&mut pair, Opener::Us);
    pair.open();
    close(&mut pair, Opener::Ldk);
    pair.open();
    close_over_an_htlc(&mut pair);
}

#[test]
fn we_open_with_anchors() {
    live(Opener::Us, ChannelType::Anchors, 1);
}

#[test]
fn we_open_with_static_remotekey() {
    live(Opener::Us, ChannelType::StaticRemoteKey, 2);
}

#[test]
fn ldk_opens_with_anchors() {
    live(Opener::Ldk, ChannelType::Anchors, 3);
}

#[test]
fn ldk_opens_with_static_remotekey() {
    live(Opener::Ldk, ChannelType::StaticRemoteKey, 4);
}
