//! Paying over blinded paths: to a payee whom nobody but the payee's neighbours knows (BOLT 4, "Route Blinding").
//!
//! A way to such a payee ends with a hop that stands for a whole path: its name is the payee's blinded one, what reaches
//! it is what the payee gets. Before it stands the introduction node with what enters the path.
//!
//! In: an invoice with paths; ways that were found; parts that came back. Out: layers for the onion, and which path is
//! not tried again. A path that did not carry an amount is tried with half of it at most, and not for ever: which of its hops
//! failed, and why, nobody tells.
//! Read next: `send`, `routes`, `crate::onion::blind`.

use crate::id::{NodeId, PaymentHash, ShortChannelId};
use crate::node::command::RouteHop;
use crate::node::orders::{check_route, MAX_HOPS};
use crate::node::payments::{Final0, Part, Payment};
use crate::node::routes::FirstHop;
use crate::node::Node;
use crate::onion::blind::payinfo::Onward;
use crate::onion::blind::PayPath;
use crate::onion::payload;
use crate::onion::Failure;
use crate::route::BlindedHint;
use crate::units::{Height, Msat};
use crate::wire::features::Feature;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use secp256k1::PublicKey;

/// How often one payment tries a path that did not carry it, with less each time.
const MAX_TIMES_FAILED: u8 = 3;
/// Bytes of an onion.
const ONION_BYTES: usize = 1_300;
/// Bytes that a layer takes beyond its payload, at most; and the whole layer of a hop before the path.
const LAYER_BYTES: usize = 35;
const PLAIN_LAYER_BYTES: usize = 60;

/// A blinded path as whoever finds ways has to know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathHint {
    /// What the hop that stands for it is called.
    pub name: NodeId,
    /// Where it begins and what it costs.
    pub hint: BlindedHint,
}

impl PathHint {
    /// The hop that stands for it at the end of a way.
    pub const fn end(&self, amount: Msat) -> RouteHop {
        RouteHop { id: self.name, channel: None, amount_msat: amount, delay_blocks: 0 }
    }
}

/// Paths of one payment that did not carry what they were given.
#[derive(Clone, Debug, Default)]
pub(super) struct Tried {
    failed: BTreeMap<NodeId, (u8, Msat)>,
}

impl Tried {
    fn note(&mut self, path: NodeId, amount: Msat) {
        let (times, least) = self.failed.entry(path).or_insert((0, amount));
        *times = times.saturating_add(1);
        *least = amount.min(*least);
    }

    /// The most that is tried over a path again; `None` when it is not tried any more.
    fn most(&self, path: &NodeId) -> Option<Msat> {
        match self.failed.get(path) {
            None => Some(Msat(u64::MAX)),
            Some((times, least)) => (*times < MAX_TIMES_FAILED).then_some(Msat(least.0 / 2)),
        }
    }
}

impl Payment {
    /// The paths to its payee; none when the payee is known.
    fn paths(&self) -> &[PayPath] {
        match &self.last {
            Final0::Blinded { paths } => paths,
            _ => &[],
        }
    }

    /// Its paths as whoever finds ways has to know them, and the most hops that a way may have before one.
    pub(super) fn path_hints(&self, tried: &Tried, first: &[FirstHop]) -> (Vec<PathHint>, usize) {
        let hints = self.paths().iter().filter_map(|path| {
            let most = tried.most(&path.name())?.min(path.info.htlc_maximum);
            // What follows our own hop of a path goes to our own peer, or nowhere.
            let own = first.iter().filter(|hop| hop.peer == path.path.introduction);
            let own = own.map(|hop| hop.spendable).max().unwrap_or(Msat::ZERO);
            let most = if path.outside { most.min(own) } else { most };
            let hint = BlindedHint {
                introduction: path.path.introduction,
                fee_base_msat: path.info.fee_base_msat,
                fee_proportional_millionths: path.info.fee_proportional_millionths,
                cltv_expiry_delta: path.info.cltv_expiry_delta,
                htlc_minimum: path.info.htlc_minimum,
                htlc_maximum: most,
            };
            (most >= path.info.htlc_minimum).then_some(PathHint { name: path.name(), hint })
        });
        let room = |path: &PayPath| {
            let layers = path.layers(self.amount, Height(u32::MAX), self.total);
            let bytes: usize =
                layers.iter().map(|(_, payload)| payload.len().saturating_add(LAYER_BYTES)).sum();
            // The introduction node is a hop of the way and has a layer of the path.
            (ONION_BYTES.saturating_sub(bytes) / PLAIN_LAYER_BYTES).saturating_add(1)
        };
        let hops = self.paths().iter().map(room).min().unwrap_or(MAX_HOPS);
        (hints.collect(), hops.min(MAX_HOPS))
    }

    /// The path that a way ends with.
    fn path_of(&self, way: &[RouteHop]) -> Option<&PayPath> {
        let end = way.last()?;
        self.paths().iter().find(|path| path.name() == end.id)
    }

    /// Whether the payee's paths lead there: then how a way must end is checked here.
    pub(super) fn is_blinded(&self) -> bool {
        !self.paths().is_empty()
    }

    /// The last hop of a way over one of its paths, if the path gets what it asks for.
    pub(super) fn check_blinded<'a>(&self, way: &'a [RouteHop]) -> Option<&'a RouteHop> {
        let path = self.path_of(way)?;
        let (end, before) = way.split_last()?;
        let begins = check_route(before).ok()?;
        let enough = begins.amount_msat >= path.info.entering(end.amount_msat)?
            && begins.delay_blocks >= path.info.cltv_expiry_delta.into()
            && end.amount_msat <= path.info.htlc_maximum
            && begins.id == path.path.introduction;
        (enough && (before.len() == 1 || !path.outside)).then_some(end)
    }

    /// The onion's layers for a way over a blinded path, and the path key for the first hop when that is inside.
    #[allow(clippy::type_complexity)]
    pub(super) fn blinded_layers(
        &self,
        way: &[RouteHop],
        expiry: impl Fn(u32) -> Height,
    ) -> Option<(Vec<(PublicKey, Vec<u8>)>, Option<PublicKey>)> {
        let path = self.path_of(way)?;
        let (end, before) = way.split_last()?;
        // BOLT 4 [4.blind.10].
        let mut layers: Vec<(PublicKey, Vec<u8>)> = Vec::new();
        for pair in before.windows(2) {
            let [here, next] = pair else { continue };
            let layer = payload::Forward {
                short_channel_id: next.channel.unwrap_or(ShortChannelId(0)),
                amt_to_forward: next.amount_msat,
                outgoing_cltv_value: expiry(next.delay_blocks),
            };
            layers.push((here.id.0, layer.encode()));
        }
        layers.extend(path.layers(end.amount_msat, expiry(end.delay_blocks), self.total));
        Some((layers, path.outside.then_some(path.path.path_key)))
    }
}

impl Node {
    /// Paths of an invoice that can be paid over; those that begin with us without their first hop.
    pub(super) fn payable_paths(&self, paths: Vec<PayPath>) -> Vec<PayPath> {
        paths.into_iter().filter_map(|path| self.payable_path(path)).collect()
    }

    fn payable_path(&self, mut path: PayPath) -> Option<PayPath> {
        let names_us = |path: &PayPath| path.path.introduction == self.id;
        for _ in 0..MAX_HOPS {
            if !names_us(&path) {
                // To a peer who does not know path keys, one beside an onion would be a reason to hang up.
                let next = path.path.introduction;
                let knows = !self.is_connected(&next) || self.negotiated(&next, Feature::RouteBlinding);
                return Some(path).filter(|path| knows || !path.outside);
            }
            let (onward, rest) = path.advance(self.keys.node_secret(), self.crypto.secp())?;
            path = rest;
            path.path.introduction = match onward {
                Onward::Node(node) => node,
                Onward::Channel(scid) => self.by_scid(scid)?.terms.peer,
            };
        }
        None
    }

    /// A part came back from where its blinded path begins, or from nobody knows where: the path does not carry that much.
    /// Whether another try can help; `None` when the part says nothing of a path.
    pub(super) fn avoid_path(
        &mut self,
        hash: PaymentHash,
        part: &Part,
        erring: Option<usize>,
        failure: Option<&Failure>,
    ) -> Option<bool> {
        let path = self.payments.by_hash.get(&hash)?.path_of(&part.route)?;
        let begins = part.route.len().checked_sub(2)?;
        if erring.is_some_and(|at| at < begins) {
            return None;
        }
        let name = path.name();
        // A path of one hop hides nobody: it is the payee who answers, and for good.
        let is_payee = path.path.hops.len() == 1;
        if is_payee && failure.is_some_and(|f| f.is_permanent() && !f.is_bad_onion()) {
            return Some(false);
        }
        let search = self.payments.plans.get_mut(&hash)?.search.as_mut()?;
        search.tried.note(name, part.amount);
        Some(true)
    }
}
