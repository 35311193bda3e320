//! Two nodes at every stage of a channel's life, ready to be taken from there.
//!
//! In: a stage and a channel type. Out: a copy of both nodes, their disks and their chain, just started; and what was
//! paid so far. Each stage is played once a thread.
//! Read next: `machine`.

use crate::duet::play::Open;
use crate::duet::{Duet, ALICE, BOB};
use chand_protocol::id::PaymentHash;
use chand_protocol::node::command::{ChannelRef, Command};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Where in a channel's life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stage {
    /// Strangers.
    Fresh,
    /// Signed, in no block.
    Confirming,
    /// In use, with a past.
    Open,
    /// One HTLC held each way.
    Held,
    /// The same with a `shutdown` from both.
    Shutting,
    /// The closing transaction is agreed on and in no block.
    Closed,
    /// Closed by force with both HTLCs pending.
    Forced,
}

/// All of them.
pub const STAGES: [Stage; 7] = [
    Stage::Fresh,
    Stage::Confirming,
    Stage::Open,
    Stage::Held,
    Stage::Shutting,
    Stage::Closed,
    Stage::Forced,
];

/// A payment that was ordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tried {
    /// By whom.
    pub payer: usize,
    /// How much.
    pub msat: u64,
    /// For which hash.
    pub hash: PaymentHash,
    /// The number of the hold invoice's secret.
    pub hold: Option<u64>,
}

/// A stage with its past.
#[derive(Debug)]
pub struct Set {
    /// The two nodes.
    pub duet: Duet,
    /// Every payment so far.
    pub tried: Vec<Tried>,
}

/// A copy of a stage to play on.
pub fn set(stage: Stage, anchors: bool) -> Set {
    type Cache = BTreeMap<(Stage, bool), Set>;
    thread_local!(static SETS: RefCell<Cache> = const { RefCell::new(BTreeMap::new()) });
    SETS.with(|sets| {
        let mut sets = sets.borrow_mut();
        let set = sets.entry((stage, anchors)).or_insert_with(|| play(stage, anchors));
        Set { duet: set.duet.copy(), tried: set.tried.clone() }
    })
}

fn play(stage: Stage, anchors: bool) -> Set {
    let simple = anchors && stage == Stage::Shutting;
    let mut duet = Duet::with(77 + u64::from(anchors), |_, config| config.simple_close = simple);
    duet.check_every = 0;
    let mut set = Set { duet, tried: Vec::new() };
    if stage == Stage::Fresh {
        return set;
    }
    let open = Open { anchors, ..Open::default() };
    set.duet.connect();
    if stage == Stage::Confirming {
        let order = set.duet.fund_order(ALICE, open);
        set.duet.must(ALICE, order);
        return set;
    }
    set.duet.open(open);
    for (payer, label, msat) in [(ALICE, "tea", 50_000_000), (BOB, "rent", 1_000_000)] {
        let hash = set.duet.pay(payer, label, msat).payment_hash;
        set.tried.push(Tried { payer, msat, hash, hold: None });
    }
    if matches!(stage, Stage::Held | Stage::Shutting | Stage::Forced) {
        for (payer, number, msat) in [(ALICE, 1, 2_000_000), (BOB, 2, 3_000_000)] {
            set.duet.pay_held(payer, number, msat);
            let hash = crate::duet::play::preimage(number).hash();
            set.tried.push(Tried { payer, msat, hash, hold: Some(number) });
        }
    }
    if matches!(stage, Stage::Shutting | Stage::Closed) {
        let order = set.duet.close_order();
        set.duet.tell(BOB, order);
        set.duet.run();
    }
    if stage == Stage::Forced {
        set.duet.hostile = true;
        let channel = ChannelRef::Id(set.duet.channel_id());
        set.duet.tell(ALICE, Command::DevFail { channel });
        set.duet.run();
        set.duet.hostile = false;
    }
    set
}
