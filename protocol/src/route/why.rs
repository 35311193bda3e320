//! Why there is no route: which limit stood in the way, and what would do.
//!
//! In: a query that failed. Out: words for the user, and each limit that, taken away alone, leaves a way, with the nearest
//! one: the cheapest, the one with the fewest blocks, the largest amount. Only a failure pays for these searches.
//! Read next: `query`.

use super::cost::Aim;
use super::ends::Ends;
use super::query::{Exclude, FirstHop, NoRoute, Query, Relaxed, Route, Way};
use super::score::Scorer;
use super::search::Search;
use crate::gossip::graph::{Graph, State};
use crate::units::Msat;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// As many parts as a payment goes in.
const MANY_PARTS: usize = 16;

pub(super) fn explain(search: &mut Search, graph: &Graph, scorer: &Scorer, query: &Query) -> NoRoute {
    if let Some(text) = hopeless(graph, query) {
        return NoRoute { text, ways: Vec::new() };
    }
    let mut ways = Vec::new();
    // Where all limits together are not what stands in the way, none of them is alone: the usual case, and the dearest.
    let all = without(search, graph, scorer, query, Relaxed::All);
    let limits = [
        Relaxed::Fee,
        Relaxed::Cltv,
        Relaxed::Hops,
        Relaxed::Parts,
        Relaxed::Excluded,
        Relaxed::OwnLiquidity,
        Relaxed::Learned,
    ];
    let limits = limits.into_iter().filter(|_| all.is_some());
    for relaxed in limits.chain([Relaxed::Amount]) {
        if let Some(parts) = without(search, graph, scorer, query, relaxed) {
            ways.push(Way { relaxed, parts });
        }
    }
    if ways.is_empty() && all.is_none() {
        // Whatever is taken away: perhaps no channel takes so little.
        let least = search.least(graph, scorer, query);
        ways.extend(least.map(|route| Way { relaxed: Relaxed::Minimum, parts: vec![route] }));
    }
    if ways.is_empty() {
        ways.extend(all.map(|parts| Way { relaxed: Relaxed::All, parts }));
    }
    NoRoute { text: words(query, &ways), ways }
}

/// What needs no search to be seen.
fn hopeless(graph: &Graph, query: &Query) -> Option<String> {
    if query.us == query.payee {
        return Some("no route: the payee is the payer".into());
    }
    if query.amount == Msat::ZERO {
        return Some("no route: nothing is to be paid".into());
    }
    if query.exclude.contains(&Exclude::Node(query.payee)) {
        return Some("no route: the payee is excluded".into());
    }
    if query.final_cltv_delta > query.max_cltv_blocks {
        return Some(format!(
            "no route: the payee alone asks for {} blocks, more than the {} allowed",
            query.final_cltv_delta, query.max_cltv_blocks
        ));
    }
    let ends = Ends::new(graph, query);
    if !ends.has_own() && ends.us.is_none() {
        return Some("no route: the payer has no public channel".into());
    }
    if query.first_hops.is_some_and(<[FirstHop]>::is_empty) {
        return Some("no route: this node has no usable channel".into());
    }
    let known = ends.is_in_graph(ends.payee);
    let beside = ends.own_to(ends.payee).next().is_some() || !query.hints.is_empty();
    if !known && !beside {
        return Some(format!(
            "no route: the payee, {}, is not in the graph, and the invoice has no route hint",
            query.payee
        ));
    }
    let open = known && graph.arcs_into(ends.payee).iter().any(|arc| arc.state == State::Enabled);
    if !open && !beside {
        return Some(format!("no route: all channels to the payee, {}, are switched off", query.payee));
    }
    None
}

/// The nearest way without one limit; `None` when the limit is none, too.
fn without(
    search: &mut Search,
    graph: &Graph,
    scorer: &Scorer,
    query: &Query,
    relaxed: Relaxed,
) -> Option<Vec<Route>> {
    let nothing = Scorer::with_room(4);
    let own: Vec<FirstHop>;
    let mut free = *query;
    let (mut aim, mut scores) = (Aim::Balanced, scorer);
    match relaxed {
        Relaxed::Fee => (free.max_fee, aim) = (Msat(u64::MAX), Aim::Cheapest),
        Relaxed::Cltv => (free.max_cltv_blocks, aim) = (u32::MAX, Aim::Earliest),
        Relaxed::Hops => (free.max_hops, aim) = (20, Aim::Shortest),
        Relaxed::Parts if query.max_parts >= MANY_PARTS => return None,
        Relaxed::Parts => free.max_parts = MANY_PARTS,
        Relaxed::Excluded if query.exclude.is_empty() => return None,
        Relaxed::Excluded => free.exclude = &[],
        Relaxed::OwnLiquidity => {
            own = unlimited(query.first_hops?);
            free.first_hops = Some(&own);
        }
        Relaxed::Learned if scorer.is_empty() => return None,
        Relaxed::Learned => scores = &nothing,
        Relaxed::Amount => return search.largest(graph, scorer, query).map(|route| vec![route]),
        Relaxed::Minimum => return None,
        Relaxed::All => {
            own = unlimited(query.first_hops.unwrap_or(&[]));
            free.first_hops = query.first_hops.map(|_| own.as_slice());
            (free.max_fee, free.max_cltv_blocks, free.max_hops) = (Msat(u64::MAX), u32::MAX, 20);
            (free.exclude, scores) = (&[], &nothing);
            free.max_parts = query.max_parts.max(MANY_PARTS);
        }
    }
    search.some_parts(graph, scores, &free, aim)
}

/// The same channels as if all were full on our side, up to the largest amount there is.
fn unlimited(hops: &[FirstHop]) -> Vec<FirstHop> {
    let most = Msat(u64::MAX);
    hops.iter().map(|hop| FirstHop { spendable: most, htlc_maximum: most, ..*hop }).collect()
}

fn words(query: &Query, ways: &[Way]) -> String {
    let mut said: Vec<String> = ways.iter().map(|way| sentence(query, way)).collect();
    if said.is_empty() {
        said.push(
            "nothing joins the payer and the payee with enough capacity, whatever it may cost".to_string(),
        );
    }
    format!("no route: {}", said.join("; or, "))
}

/// What stood in the way, and what would do.
fn sentence(query: &Query, Way { relaxed, parts }: &Way) -> String {
    let fee = Msat(parts.iter().map(|route| route.fee.0).fold(0, u64::saturating_add));
    let blocks = parts.iter().map(Route::delay_blocks).max().unwrap_or(0);
    let hops = parts.iter().map(|route| route.hops.len()).max().unwrap_or(0);
    match relaxed {
        Relaxed::Fee => format!("the fee: the cheapest way costs {fee}, and {} are allowed", query.max_fee),
        Relaxed::Cltv => {
            format!("the expiry: the earliest is {blocks} blocks, and {} are allowed", query.max_cltv_blocks)
        }
        Relaxed::Parts => {
            format!("the parts: {} would carry it for {fee}, and {} may be sent", parts.len(), query.max_parts)
        }
        Relaxed::Hops => {
            format!("the hops: the shortest way has {hops}, and {} are allowed", query.max_hops)
        }
        Relaxed::Excluded => format!("what is excluded, or has failed before: without that there is a way for {fee}"),
        Relaxed::OwnLiquidity => own_words(query, parts, query.amount.saturating_add(fee), fee),
        Relaxed::Learned => format!(
            "what was learned of channels on the way: it may have changed; without it there is a way for {fee}"
        ),
        Relaxed::Amount => {
            let most = parts.first().map_or(Msat::ZERO, |route| route.amount);
            format!("the amount: about {most} find a way in one part, for {fee}")
        }
        Relaxed::Minimum => {
            let least = parts.first().map_or(Msat::ZERO, |route| route.amount);
            format!("the amount: channels on the way take no HTLC that small, about {least} is the least")
        }
        Relaxed::All => format!(
            "several limits at once: without them there is a way for {fee} over {hops} hops and {blocks} blocks"
        ),
    }
}

/// What our own channels lack: money in all, in one, or in the one that leads there.
fn own_words(query: &Query, parts: &[Route], needed: Msat, fee: Msat) -> String {
    let own = query.first_hops.unwrap_or(&[]);
    let sum = Msat(own.iter().map(|hop| hop.spendable.0).fold(0, u64::saturating_add));
    let most = own.iter().map(|hop| hop.spendable).max().unwrap_or(Msat::ZERO);
    if needed > sum {
        return format!(
            "our own channels: {needed} are needed with a fee of {fee}, and they can send {sum} ({most} over one)"
        );
    }
    if query.max_parts == 1 && needed > most {
        return format!(
            "our own channels: {needed} are needed over one, with a fee of {fee}, as it may go in one part only, and {most} \
             is the most that one can send"
        );
    }
    let short = |route: &&Route| own.iter().any(|hop| is_first(hop, route) && hop.spendable < route.sent());
    let Some(route) = parts.iter().find(short).or(parts.first()) else { return "our own channels".into() };
    let has = own.iter().find(|hop| is_first(hop, route)).map_or(Msat::ZERO, |hop| hop.spendable);
    let name = route.hops.first().map(|hop| hop.scid.to_string()).unwrap_or_default();
    format!(
        "our own channels: they can send {sum}, and not where the way begins: {} are needed over {name}, and it can send {has}",
        route.sent()
    )
}

fn is_first(own: &FirstHop, route: &Route) -> bool {
    route.hops.first().is_some_and(|hop| hop.scid == own.scid)
}
