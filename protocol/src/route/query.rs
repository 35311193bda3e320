//! What is asked of the search, and what it answers.
//!
//! In and out: plain data. A [`Route`] is what `sendpay` takes: each hop with what reaches it and its blocks.
//! Read next: `search`.

use crate::gossip::graph::Direction;
use crate::id::{NodeId, ShortChannelId};
use crate::invoice::RouteHintHop;
use crate::node::command::RouteHop;
use crate::node::terms::Told;
use crate::units::{Msat, Timestamp};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// What is looked for, and within which limits.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Who pays.
    pub us: NodeId,
    /// Who is paid. Where a hint is blinded, only hints lead there.
    pub payee: NodeId,
    /// What the payee gets.
    pub amount: Msat,
    /// Blocks from now until the payee's HTLC expires, the payer's own slack among them.
    pub final_cltv_delta: u32,
    /// The most that all hops together may earn.
    pub max_fee: Msat,
    /// Blocks from now until our own HTLC expires, at most.
    pub max_cltv_blocks: u32,
    /// Hops, the payee among them; an onion has room for 20.
    pub max_hops: usize,
    /// Parts of the payment; [`super::Search::route`] takes no notice.
    pub max_parts: usize,
    /// Our own channels, known exactly. `None`: the payer's channels are those of the graph, as far as anybody knows.
    pub first_hops: Option<&'a [FirstHop]>,
    /// Ways to the payee that the invoice names.
    pub hints: &'a [Hint],
    /// What must not be used.
    pub exclude: &'a [Exclude],
    /// What other HTLCs of ours take up on their way, so that they are not counted on twice. Not our own channels.
    pub in_flight: &'a [(ShortChannelId, Direction, Msat)],
    /// What this payment saw of channels that hints name and the graph has not.
    pub beside: &'a [Beside],
    /// What channels ask for in place of what the graph or a hint says.
    pub told: &'a [Told],
    /// What was learned fades with time.
    pub now: Timestamp,
}

/// A channel of our own that is usable now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FirstHop {
    /// Its name, or an alias.
    pub scid: ShortChannelId,
    /// With whom.
    pub peer: NodeId,
    /// What can be offered over it now, all parts together.
    pub spendable: Msat,
    /// The least that an HTLC may carry.
    pub htlc_minimum: Msat,
    /// The most that one may carry.
    pub htlc_maximum: Msat,
}

/// A way to the payee that is not in the graph.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Hint {
    /// Channels in a row (BOLT 11, field `r`), the last of which ends at the payee.
    Private(Vec<RouteHintHop>),
    /// A blinded path (BOLT 4): its inside is the payee's secret, and counts as one channel.
    Blinded(BlindedHint),
}

/// What is to be known of a blinded path; all its hops together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlindedHint {
    /// Where it begins. A path that begins at the payer is no hint: the payer opens its own layer first.
    pub introduction: NodeId,
    /// Fixed fee.
    pub fee_base_msat: u32,
    /// Fee per million.
    pub fee_proportional_millionths: u32,
    /// Blocks, the payee's own among them.
    pub cltv_expiry_delta: u16,
    /// The least that it takes.
    pub htlc_minimum: Msat,
    /// The most.
    pub htlc_maximum: Msat,
}

/// What one payment saw of a channel that is not in the graph. Its name is what its owner is told; another node may have one
/// of the same name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Beside {
    /// Its name in the hint.
    pub scid: ShortChannelId,
    /// Who sends on over it.
    pub from: NodeId,
    /// The most that is tried over it beside what is taken; nothing: it is not used.
    pub most: Msat,
    /// What HTLCs of ours take up there.
    pub taken: Msat,
}

/// What must not be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exclude {
    /// One direction of a channel.
    Channel(ShortChannelId, Direction),
    /// A node and all its channels.
    Node(NodeId),
}

/// One hop of a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hop {
    /// The channel to it.
    pub scid: ShortChannelId,
    /// Which way that is used.
    pub direction: Direction,
    /// Who.
    pub node: NodeId,
    /// What reaches it.
    pub amount: Msat,
    /// When the HTLC that reaches it expires, in blocks from now.
    pub delay_blocks: u32,
    /// What its channel is believed to hold; for what is learned from the outcome.
    pub size: Msat,
    /// The channel is not in the graph, a hint names it: nothing is learned of it.
    pub beside: bool,
}

impl From<&Hop> for RouteHop {
    fn from(hop: &Hop) -> RouteHop {
        RouteHop {
            id: hop.node,
            channel: Some(hop.scid),
            amount_msat: hop.amount,
            delay_blocks: hop.delay_blocks,
        }
    }
}

/// A way from the payer to the payee.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// First hop first; the last is the payee, or where the blinded path begins.
    pub hops: Vec<Hop>,
    /// What the payee gets.
    pub amount: Msat,
    /// What all hops earn, those of a blinded path too.
    pub fee: Msat,
    /// Which of the query's hints it ends with.
    pub hint: Option<usize>,
    /// How unlikely it is to work: the negative binary logarithm of its chance, in 65,536ths.
    pub risk: u32,
}

impl Route {
    /// What we offer over the first channel.
    pub fn sent(&self) -> Msat {
        self.hops.first().map_or(self.amount, |hop| hop.amount)
    }

    /// Blocks until our own HTLC expires.
    pub fn delay_blocks(&self) -> u32 {
        self.hops.first().map_or(0, |hop| hop.delay_blocks)
    }

    /// In the shape that `sendpay` takes.
    pub fn for_sendpay(&self) -> Vec<RouteHop> {
        self.hops.iter().map(RouteHop::from).collect()
    }
}

/// There is no route within the limits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoRoute {
    /// In words, for the user: what stood in the way, and what would do.
    pub text: String,
    /// Each limit that, taken away alone, leaves a way; only when there is none such, all of them together.
    pub ways: Vec<Way>,
}

/// One limit that stood in the way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Way {
    /// Which.
    pub relaxed: Relaxed,
    /// The nearest way without it: its one part, or all.
    pub parts: Vec<Route>,
}

/// A limit that was taken away.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Relaxed {
    /// `max_fee`.
    Fee,
    /// `max_cltv_blocks`.
    Cltv,
    /// `max_hops`.
    Hops,
    /// `max_parts`.
    Parts,
    /// `exclude`.
    Excluded,
    /// What our own channels can send.
    OwnLiquidity,
    /// What earlier attempts showed.
    Learned,
    /// The amount: the route is for less.
    Amount,
    /// The least that channels take: the route is for more.
    Minimum,
    /// Every limit at once, the amount apart.
    All,
}

impl fmt::Display for NoRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl core::error::Error for NoRoute {}
