//! The judges: while it goes on, and when all has ended.
//!
//! In: a region. Out: a verdict. What a cheat or a sleeper brought on itself is not looked at; what is too small for an
//! output of a commitment has no place on chain where a secret could be read, so that of such an HTLC in a channel that was
//! closed by force two neighbours may say different things (its worth is in the cost of the close).
//! Read next: `estate`, `plan`.

use super::plan::{Fate, Spoil};
use super::play::{Owed, Region};
use crate::sim::Verdict;
use chand_protocol::channel::htlc::Htlc;
use chand_protocol::channel::policy::Policy;
use chand_protocol::channel::{Channel, Phase};
use chand_protocol::id::{PaymentHash, ShortChannelId, Side};
use chand_protocol::node::command::{Command, InvoiceFilter, Reply};
use chand_protocol::node::view;
use chand_protocol::onchain::{Output, Standing};
use chand_protocol::units::Msat;
use std::collections::{BTreeMap, BTreeSet};

/// An HTLC that is surely an output in every commitment here, with the fee of its own transaction.
pub(super) const BIG_MSAT: u64 = 3_000_000;

/// An HTLC that a peer offered: over which channel, by whom, its number.
type Name = (ShortChannelId, usize, u64);

/// What all nodes say in the end.
struct Said {
    pays: Vec<Vec<view::Pay>>,
    bills: Vec<Vec<view::Invoice>>,
    rows: Vec<Vec<view::Forward>>,
}

fn found<T>(judge: &'static str, words: String) -> Result<T, Verdict> {
    Err(Verdict::new(judge, words))
}

/// Whether an HTLC of a channel that closed has no output that somebody could still take: it is under way no more.
fn is_gone(channel: &Channel, htlc: &Htlc) -> bool {
    let here = |o: &Output| o.spent.is_none() && o.lock.as_ref().is_some_and(|lock| lock.id == htlc.id);
    let taken = channel.watch.as_ref().is_some_and(|watch| !watch.outputs.iter().any(here));
    matches!(channel.phase, Phase::Onchain(_)) && (htlc.amount.0 < BIG_MSAT || taken)
}

impl Region {
    /// At any moment: no more is under way than is owed.
    ///
    /// # Errors
    /// `once`.
    pub(super) fn look(&mut self) -> Result<(), Verdict> {
        self.note_deaths();
        self.note_closes();
        for (seat, place) in self.town.seats.iter().enumerate() {
            let mut sums: BTreeMap<(PaymentHash, Side), u64> = BTreeMap::new();
            for channel in place.node.channels() {
                let pending = channel.ledger.htlcs.values().filter(|h| h.removal.is_none());
                for htlc in pending.filter(|h| !is_gone(channel, h)) {
                    // Of a payee that the payer does not know the way may lead through that very payee: what comes in there
                    // to go on is none of what it is paid. Once it is locked in, it went on.
                    let owed = self.owed.get(&htlc.payment_hash).filter(|o| o.hidden && o.payee == seat);
                    if owed.is_some() && htlc.id.offered_by == Side::Remote && !htlc.is_settleable() {
                        continue;
                    }
                    *sums.entry((htlc.payment_hash, htlc.id.offered_by)).or_default() += htlc.amount.0;
                }
            }
            // Also what is on its way back: then the HTLC that it was for still waits.
            let all = place.node.channels().flat_map(|c| c.ledger.htlcs.values());
            let offered = all.filter(|h| h.id.offered_by == Side::Local);
            let goes_on: BTreeSet<PaymentHash> = offered.map(|h| h.payment_hash).collect();
            for ((hash, side), sum) in sums {
                let Some(owed) = self.owed.get(&hash).filter(|o| o.spoil.is_none()) else {
                    continue;
                };
                let most = match side {
                    Side::Local if owed.payer == seat => owed.max_fee.map(|fee| owed.msat + fee),
                    Side::Remote if owed.hidden && goes_on.contains(&hash) => None,
                    // Of each payer no more than all of it.
                    Side::Remote if owed.payee == seat => Some(owed.msat * (1 + owed.others.len() as u64)),
                    _ => None,
                };
                if most.is_some_and(|most| sum > most) {
                    return found(
                        "once",
                        format!("{sum} msat are under way at node {seat} for {hash}: {owed:?}"),
                    );
                }
            }
        }
        Ok(())
    }

    /// When all has ended.
    ///
    /// # Errors
    /// Of the first judge that finds something.
    pub(super) fn judge(&mut self) -> Result<(), Verdict> {
        let said = self.ask_all();
        self.ends(&said)?;
        self.once(&said)?;
        self.fees(&said)?;
        self.iff(&said)?;
        self.whole(&said.pays, &said.bills, &said.rows)?;
        self.see(&said);
        for pay in said.pays.iter().flatten() {
            match pay.status {
                "complete" => self.paid.0 += 1,
                _ => self.paid.1 += 1,
            }
        }
        Ok(())
    }

    fn ask_all(&mut self) -> Said {
        let mut said = Said { pays: Vec::new(), bills: Vec::new(), rows: Vec::new() };
        for seat in 0..self.plan.people {
            let list = Command::ListPays { payment_hash: None, bolt11: None };
            if let Reply::Pays(pays) = self.town.must(seat, list) {
                said.pays.push(pays);
            }
            if let Reply::Invoices(bills) =
                self.town.must(seat, Command::ListInvoices(InvoiceFilter::default()))
            {
                said.bills.push(bills);
            }
            let rows = self.town.forwards(seat);
            said.rows.push(rows);
        }
        said
    }

    fn ends(&mut self, said: &Said) -> Result<(), Verdict> {
        for asked in self.asked.clone() {
            let answered = self.town.answer(asked.id).is_some();
            if !answered && self.town.deaths[asked.seat] == asked.life {
                return found(
                    "ends",
                    format!("order {} to node {} was never answered", asked.id.0, asked.seat),
                );
            }
        }
        for seat in (0..self.plan.people).filter(|seat| !self.guilty.contains(seat)) {
            if let Some(pay) = said.pays[seat].iter().find(|pay| pay.status == "pending") {
                return found("ends", format!("a payment of node {seat} is pending: {pay:?}"));
            }
            if let Some(row) = said.rows[seat].iter().find(|row| row.status == "offered") {
                return found("ends", format!("a forward of node {seat} is under way: {row:?}"));
            }
            let place = &self.town.seats[seat];
            if self.plan.calm && place.node.channels().any(|c| c.phase != Phase::Open) {
                return found("ends", format!("a channel of node {seat} was closed in peace"));
            }
        }
        Ok(())
    }

    /// Who was paid by whom, each once and for all of it.
    fn once(&self, said: &Said) -> Result<(), Verdict> {
        let mut payers: BTreeMap<PaymentHash, usize> = BTreeMap::new();
        for (seat, pay) in said.pays.iter().enumerate().flat_map(|(s, list)| list.iter().map(move |p| (s, p)))
        {
            if pay.status != "complete" {
                continue;
            }
            let fits = pay.preimage.as_ref().is_some_and(|secret| secret.hash() == pay.payment_hash);
            let named = pay.destination.and_then(|id| self.town.seats.iter().position(|s| s.id == id));
            let payee = self.owed.get(&pay.payment_hash).map(|owed| owed.payee).or(named);
            let bill =
                payee.and_then(|at| said.bills[at].iter().find(|b| b.payment_hash == pay.payment_hash));
            if !fits || bill.is_none_or(|bill| bill.status != "paid") {
                return found(
                    "receipt",
                    format!("node {seat} paid and has no receipt, or its payee nothing: {pay:?}, {bill:?}"),
                );
            }
            let first = payers.insert(pay.payment_hash, seat);
            // Parts of two payers may make up one payment: each then has the secret, and the payee one amount.
            let apart = self.owed.get(&pay.payment_hash).is_none_or(|owed| !owed.is_contested());
            if let Some(first) = first.filter(|_| apart) {
                return found("once", format!("nodes {first} and {seat} both paid {}", pay.payment_hash));
            }
        }
        for (seat, bill) in
            said.bills.iter().enumerate().flat_map(|(s, list)| list.iter().map(move |b| (s, b)))
        {
            self.received(seat, bill, said)?;
            let owed = self.owed.get(&bill.payment_hash);
            let strict = self.guilty.is_empty()
                && (bill.amount_msat >= Some(Msat(16 * BIG_MSAT)) || self.struck.is_empty());
            if strict && bill.status == "paid" && !payers.contains_key(&bill.payment_hash) {
                return found(
                    "receipt",
                    format!("node {seat} was paid, and nobody has paid: {bill:?}, {owed:?}"),
                );
            }
            if owed.is_some_and(|o| matches!(o.hold, Some((_, Fate::Cancel | Fate::Leave))))
                && bill.status == "paid"
            {
                return found("once", format!("node {seat} took what it was not told to take: {bill:?}"));
            }
        }
        Ok(())
    }

    /// The payee has what it asked for; of several payers' parts it may have more, never more than twice that, and together
    /// they paid exactly what it has and what the hops earned.
    fn received(&self, seat: usize, bill: &view::Invoice, said: &Said) -> Result<(), Verdict> {
        let (Some(asked), Some(got)) = (bill.amount_msat, bill.amount_received_msat) else { return Ok(()) };
        let shared = self.owed.get(&bill.payment_hash).is_some_and(Owed::is_contested);
        let most = if shared { asked.0 * 2 } else { asked.0 };
        if bill.status == "paid" && !(asked.0..=most).contains(&got.0) {
            return found("once", format!("node {seat} has another amount than it asked for: {bill:?}"));
        }
        let clear = self.struck.is_empty() && self.guilty.is_empty();
        if bill.status == "paid" && shared && clear {
            let paid = said.pays.iter().flatten().filter(|p| p.payment_hash == bill.payment_hash);
            let paid: u64 = paid.filter(|p| p.status == "complete").map(|p| p.amount_sent_msat.0).sum();
            let rows = said.rows.iter().flatten().filter(|r| r.payment_hash == bill.payment_hash);
            let earned: u64 =
                rows.filter(|r| r.status == "settled").map(|r| r.in_msat.0 - r.out_msat.0).sum();
            if paid != got.0 + earned {
                let words = format!("its payers gave {paid} msat, hops earned {earned}: {bill:?}");
                return found("once", words);
            }
        }
        Ok(())
    }

    fn fees(&self, said: &Said) -> Result<(), Verdict> {
        for seat in (0..self.plan.people).filter(|seat| !self.guilty.contains(seat)) {
            for row in &said.rows[seat] {
                self.fee_of(seat, row)?;
            }
            for pay in &said.pays[seat] {
                self.cost_of_pay(seat, pay, said)?;
            }
        }
        Ok(())
    }

    /// What went on was paid for as announced, by the terms of the channel or one beside it.
    fn fee_of(&self, seat: usize, row: &view::Forward) -> Result<(), Verdict> {
        let earned = row.in_msat.0.checked_sub(row.out_msat.0);
        let blocks = row.in_expiry.0.checked_sub(row.out_expiry.0);
        let exact = self.owed.get(&row.payment_hash).is_none_or(|o| o.spoil != Some(Spoil::FeeMore));
        let Some(out) = row.out_channel else { return Ok(()) };
        let peer = self.other_end(seat, out);
        let beside =
            self.terms.iter().filter(|((who, scid), _)| *who == seat && self.other_end(seat, *scid) == peer);
        let fits = beside.flat_map(|(_, all)| all).any(|terms| {
            let policy = Policy::new(terms.base, terms.ppm, terms.delta);
            let asked = policy.fee(row.out_msat).map(|fee| fee.0);
            let paid = if exact { earned == asked } else { earned >= asked };
            // A route that is changed before this hop may be dearer and longer than asked for.
            let spoiled = self.owed.get(&row.payment_hash).is_some_and(|o| o.spoil.is_some());
            let paid = paid || (spoiled && earned >= asked);
            let longer =
                if spoiled { blocks >= Some(terms.delta.into()) } else { blocks == Some(terms.delta.into()) };
            paid && longer
        });
        if fits {
            return Ok(());
        }
        found("fees", format!("node {seat} sent on for {earned:?} msat and {blocks:?} blocks: {row:?}"))
    }

    fn other_end(&self, seat: usize, scid: ShortChannelId) -> Option<usize> {
        let channel = self.town.seats[seat].node.channels().find(|c| c.short_channel_id() == Some(scid))?;
        self.town.seats.iter().position(|s| s.id == channel.terms.peer)
    }

    /// A payment cost what its forwards earned, and no more than was allowed; one that failed was not refused its price.
    fn cost_of_pay(&self, seat: usize, pay: &view::Pay, said: &Said) -> Result<(), Verdict> {
        let owed = self.owed.get(&pay.payment_hash);
        let fee = pay.amount_sent_msat.0.saturating_sub(pay.amount_msat.0);
        if pay.status == "complete" {
            let most = owed.filter(|o| o.payer == seat).and_then(|o| o.max_fee);
            if most.is_some_and(|most| fee > most) {
                return found("fees", format!("node {seat} paid more than it allowed: {pay:?}, {owed:?}"));
            }
            let rows = || said.rows.iter().flatten().filter(|r| r.payment_hash == pay.payment_hash);
            let earned: u64 =
                rows().filter(|r| r.status == "settled").map(|r| r.in_msat.0 - r.out_msat.0).sum();
            let clear = self.struck.is_empty() && !owed.is_some_and(Owed::is_contested);
            if clear && earned != fee {
                return found(
                    "fees",
                    format!("node {seat} paid {fee} msat in fees, {earned} were earned: {pay:?}"),
                );
            }
        }
        let Some((_, text)) = &pay.failure else { return Ok(()) };
        let fair = owed.is_none_or(|o| matches!(o.spoil, None | Some(Spoil::Nothing | Spoil::FeeMore)));
        let blamed = ["fee_insufficient", "incorrect_cltv_expiry", "unknown_next_peer"];
        if fair && !self.plan.changes_terms() && blamed.iter().any(|word| text.contains(word)) {
            return found("fees", format!("node {seat} paid as was asked, and was refused: {text}"));
        }
        Ok(())
    }

    /// Whether two neighbours may say different things of an HTLC.
    fn may_differ(&self, scid: ShortChannelId, amount: Msat) -> bool {
        let struck = self
            .town
            .seats
            .iter()
            .flat_map(|s| s.node.channels())
            .any(|c| c.short_channel_id() == Some(scid) && matches!(c.phase, Phase::Onchain(_)));
        struck && amount.0 < BIG_MSAT
    }

    /// Settled exactly when the next one is.
    fn iff(&self, said: &Said) -> Result<(), Verdict> {
        // Every HTLC that came to somebody who sent it on, by who offered it.
        let mut incoming: BTreeMap<Name, (usize, &view::Forward)> = BTreeMap::new();
        let rows =
            || said.rows.iter().enumerate().flat_map(|(seat, list)| list.iter().map(move |row| (seat, row)));
        for (seat, row) in rows() {
            let Some(scid) = row.in_channel else { continue };
            if let Some(offerer) = self.other_end(seat, scid) {
                incoming.insert((scid, offerer, row.in_htlc_id), (seat, row));
            }
        }
        for (seat, row) in rows().filter(|(seat, _)| !self.guilty.contains(seat)) {
            if row.lost.is_some() && !self.excused(row) {
                return found("iff", format!("node {seat} paid on what it did not get: {row:?}"));
            }
            let Some(out) = row.out_channel else { continue };
            let Some((next, after)) = incoming.remove(&(out, seat, row.out_htlc_id)) else { continue };
            // What was paid on and lost (excused above) was settled downstream.
            let paid_on = row.status == "settled" || row.lost.is_some();
            let same = paid_on == (after.status == "settled");
            if !same && !self.guilty.contains(&next) && !self.may_differ(out, row.out_msat) {
                return found(
                    "iff",
                    format!("node {seat} says {row:?}, the next one, {next}, says {after:?}"),
                );
            }
        }
        // What is left was offered by payers.
        for ((scid, payer, _), (seat, row)) in incoming {
            if self.guilty.contains(&payer) || self.guilty.contains(&seat) || row.status != "settled" {
                continue;
            }
            let pay = said.pays[payer].iter().find(|pay| pay.payment_hash == row.payment_hash);
            if pay.is_none_or(|pay| pay.status != "complete") && !self.may_differ(scid, row.in_msat) {
                return found(
                    "iff",
                    format!("node {seat} settled what its payer {payer} did not pay: {row:?}, {pay:?}"),
                );
            }
        }
        Ok(())
    }

    /// Whether what came in of a forward had no output on chain.
    fn excused(&self, row: &view::Forward) -> bool {
        row.in_channel.is_none_or(|scid| self.may_differ(scid, row.in_msat))
    }

    fn see(&mut self, said: &Said) {
        for seat in 0..self.plan.people {
            for row in &said.rows[seat] {
                self.see_row(seat, row);
            }
            for pay in said.pays[seat].iter().filter(|pay| pay.status == "complete") {
                self.see_pay(pay, said);
            }
        }
        let refused =
            |owed: &Owed| matches!(owed.spoil, Some(Spoil::FeeLess | Spoil::DeltaLess | Spoil::AmountLess));
        for (hash, owed) in self.owed.clone() {
            let rows = || said.rows.iter().flatten().filter(|row| row.payment_hash == hash);
            let bill = said.bills[owed.payee].iter().find(|bill| bill.payment_hash == hash);
            let pay = said.pays[owed.payer].iter().find(|pay| pay.payment_hash == hash);
            if refused(&owed) && pay.is_some_and(|pay| pay.failure.is_some()) {
                self.marks.see("a route that pays too little was refused");
            }
            let hold = bill.and_then(|bill| bill.hold);
            if hold == Some("settled") && rows().count() > 1 {
                self.marks.see("a hold invoice was settled over several hops");
            }
            if hold == Some("cancelled") && rows().any(|row| row.status == "failed") {
                self.marks.see("a hold invoice was given back over several hops");
            }
        }
        self.see_crime();
    }

    fn see_row(&mut self, seat: usize, row: &view::Forward) {
        let Some(end) = row.resolved else { return };
        let within =
            |all: &[chand_protocol::units::Timestamp]| all.iter().any(|at| *at >= row.received && *at <= end);
        let settled = row.status == "settled";
        if settled && within(&self.died[seat]) {
            self.marks.see("a forward was settled after a crash of the node in the middle");
        }
        if within(&self.refused[seat]) {
            self.marks.see("a disk refused in a forward");
        }
        if settled && row.out_msat.0 < 354_000 {
            self.marks.see("an HTLC too small for an output was forwarded");
        }
        let channels = self.town.seats[seat].node.channels();
        let out = channels.into_iter().find(|c| c.short_channel_id() == row.out_channel);
        let struck =
            out.and_then(|c| self.struck.get(&c.id())).is_some_and(|at| *at <= end && *at >= row.received);
        if struck && row.out_msat.0 >= BIG_MSAT {
            self.marks.see(match settled {
                true => "a secret that was learned on chain went upstream",
                false => "a forward failed back after the chain decided",
            });
        }
    }

    fn see_pay(&mut self, pay: &view::Pay, said: &Said) {
        let rows = || said.rows.iter().flatten().filter(|row| row.payment_hash == pay.payment_hash);
        let unknown = pay.destination.is_some_and(|id| self.town.seats.iter().all(|seat| seat.id != id));
        if unknown && pay.status == "complete" && rows().any(|row| row.status == "settled") {
            self.marks.see("a payee was paid whom its payer never knew");
        }
        if pay.parts >= 3 {
            self.marks.see("a payment in three parts or more");
        }
        if pay.parts == 1 && rows().filter(|row| row.status == "settled").count() >= 3 {
            self.marks.see("a payment over four hops or more");
        }
        if rows().any(|row| row.status == "failed") {
            self.marks.see("a part failed and went elsewhere");
        }
        if pay.bolt11.is_none() && !self.owed.contains_key(&pay.payment_hash) && rows().count() > 0 {
            self.marks.see("a keysend over several hops");
        }
    }

    fn see_crime(&mut self) {
        let Some((id, true)) = self.crime else { return };
        let punished =
            self.town.seats.iter().filter_map(|s| s.node.channel(&id)).filter_map(|c| c.watch.as_ref());
        let taken = |watch: &chand_protocol::onchain::Watch| {
            let revoked = watch.standing == Standing::Revoked && watch.owner == Side::Remote;
            revoked && watch.outputs.iter().any(|o| o.spent.is_some_and(|spent| spent.ours))
        };
        if punished.into_iter().any(taken) {
            self.marks.see("a cheat was punished while it forwarded");
        }
    }
}
