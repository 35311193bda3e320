//! `money`: no msat is made or lost; each payment is complete for both or for neither; sums as in an independent book.
//!
//! In: every order to pay with its answer; at the end both nodes' lists and balances. The book knows what was ordered
//! and what users were told, and nothing of how a node counts. Out: a verdict. Read next: `agree`.

use super::{estate, Verdict};
use crate::sim::world::World;
use chand_protocol::channel::Channel;
use chand_protocol::id::{HtlcId, PaymentHash, Preimage, Side};
use chand_protocol::node::command::{CommandError, Reply};
use chand_protocol::node::view::{ChannelBalance, Invoice, Pay};
use chand_protocol::node::Node;
use std::collections::{BTreeMap, BTreeSet};

/// Core Lightning's code for a payment that goes on elsewhere.
const IN_PROGRESS: i32 = 200;

/// One payment that was tried.
#[derive(Clone, Debug)]
pub struct Try {
    /// Who pays.
    pub payer: usize,
    /// How much.
    pub msat: u64,
    /// The amount that the payer had to name.
    pub give: Option<u64>,
    /// Its hash, once known.
    pub hash: Option<PaymentHash>,
    /// What is paid; empty without invoice.
    pub bolt11: String,
    /// Its money waits for the payee's word.
    pub hold: bool,
    /// Whose secret it has.
    pub secret: usize,
    /// How often it was ordered.
    pub attempts: u32,
}

impl Try {
    /// A payment of somebody's.
    pub fn new(payer: usize) -> Try {
        Try {
            payer,
            msat: 0,
            give: None,
            hash: None,
            bolt11: String::new(),
            hold: false,
            secret: 0,
            attempts: 1,
        }
    }
}

/// What was ordered and what was told.
#[derive(Debug, Default)]
pub struct Book {
    /// By number.
    pub tries: BTreeMap<usize, Try>,
    /// Payer and hash of what was told to be complete.
    pub paid: BTreeSet<(usize, PaymentHash)>,
    /// Numbers of what was told to have failed.
    pub failed: BTreeSet<usize>,
    /// Payee and hash of what must never be paid.
    pub never: BTreeSet<(usize, PaymentHash)>,
    /// Payee and hash of invoices that were to be deleted.
    pub deleted: BTreeSet<(usize, PaymentHash)>,
    /// Payee and hash of hold invoices whose settling was confirmed.
    pub settled: BTreeSet<(usize, PaymentHash)>,
}

fn wrong(words: impl Into<String>) -> Result<(), Verdict> {
    Err(Verdict::new("money", words))
}

/// A payer is told how it went.
///
/// # Errors
/// The answer is not of this payment.
pub fn told(
    world: &mut World,
    number: usize,
    payer: usize,
    result: &Result<Reply, CommandError>,
) -> Result<(), Verdict> {
    let book = &mut world.judges.book;
    let Some(tried) = book.tries.get_mut(&number) else { return Ok(()) };
    match result {
        Ok(Reply::Paid(pay)) => {
            world.counts.paid += 1;
            if pay.status != "complete" || pay.preimage.as_ref().map(Preimage::hash) != Some(pay.payment_hash)
            {
                return wrong(format!("payment {number} is told to be paid, without its secret"));
            }
            if tried.hash.is_some_and(|h| h != pay.payment_hash) || pay.amount_sent_msat.0 != tried.msat {
                let (sent, wanted) = (pay.amount_sent_msat, tried.msat);
                return wrong(format!("payment {number} of {wanted} msat was made with {sent}"));
            }
            tried.hash = Some(pay.payment_hash);
            book.paid.insert((payer, pay.payment_hash));
        }
        Err(error) if error.code != IN_PROGRESS => {
            world.counts.failed += 1;
            book.failed.insert(number);
        }
        _ => {}
    }
    Ok(())
}

/// `balance` adds up.
///
/// # Errors
/// It does not.
pub fn balance(list: &[ChannelBalance]) -> Result<(), Verdict> {
    for c in list {
        let terms = [
            c.spendable_msat,
            c.our_reserve_msat,
            c.commit_fee_msat,
            c.anchors_msat,
            c.htlcs_out_msat,
            c.htlcs_in_msat,
            c.their_msat,
        ];
        let sum: u64 = terms.iter().map(|m| m.0).sum();
        if sum != c.capacity.to_msat().0 {
            return wrong(format!("balance: {c:?} does not add up"));
        }
    }
    Ok(())
}

/// What both nodes' lists say at the end.
pub struct Lists {
    /// By seat.
    pub pays: [Vec<Pay>; 2],
    /// By seat.
    pub invoices: [Vec<Invoice>; 2],
}

impl Lists {
    fn complete(&self, payer: usize) -> BTreeMap<PaymentHash, u64> {
        let done = self.pays[payer].iter().filter(|p| p.status == "complete");
        done.map(|p| (p.payment_hash, p.amount_sent_msat.0)).collect()
    }

    /// What the payee of `payer` received; an invoice that was deleted since counts as the payer saw it.
    fn taken(&self, payer: usize, book: &Book) -> BTreeMap<PaymentHash, u64> {
        let mut out = self.received(1 - payer);
        let listed = |hash: &PaymentHash| self.invoices[1 - payer].iter().any(|i| i.payment_hash == *hash);
        for (hash, msat) in self.complete(payer) {
            if book.deleted.contains(&(1 - payer, hash)) && !listed(&hash) {
                out.insert(hash, msat);
            }
        }
        out
    }

    fn received(&self, payee: usize) -> BTreeMap<PaymentHash, u64> {
        let paid = self.invoices[payee].iter().filter(|i| i.status == "paid");
        paid.map(|i| (i.payment_hash, i.amount_received_msat.map_or(0, |m| m.0))).collect()
    }
}

/// All is quiet and every HTLC has ended: payments, lists, told answers and balances say the same.
///
/// # Errors
/// They do not.
pub fn settle_up(world: &World, lists: &Lists) -> Result<(), Verdict> {
    let book = &world.judges.book;
    for payer in 0..2 {
        let (done, received) = (lists.complete(payer), lists.taken(payer, book));
        let never = |hash: &&PaymentHash| book.never.contains(&(1 - payer, **hash));
        if let Some(hash) = received.keys().chain(done.keys()).find(never) {
            return wrong(format!("{hash} was paid with a payment secret that was made up"));
        }
        if let Some(p) = lists.pays[payer].iter().find(|p| estate::is_stuck(p)) {
            return Err(Verdict::new("live", format!("payment {} is still pending", p.payment_hash)));
        }
        // One that costs more to take than it holds may be settled by its payee and never heard of by its payer.
        let petty = if world.any_forced() { estate::petty_msat(world) } else { 0 };
        let odd: Vec<String> = done
            .iter()
            .filter(|(h, m)| received.get(h) != Some(m))
            .chain(received.iter().filter(|(h, m)| done.get(h) != Some(m) && **m >= petty))
            .map(|(h, m)| format!("{h} {m} msat"))
            .collect();
        if !odd.is_empty() {
            return wrong(format!("paid by {payer} and received by the other differ: {}", odd.join(", ")));
        }
        if let Some((_, hash)) = book.paid.iter().find(|(p, h)| *p == payer && !done.contains_key(h)) {
            return wrong(format!("{hash} was told to be paid, and is not"));
        }
        for number in &book.failed {
            let Some(tried) = book.tries.get(number).filter(|t| t.payer == payer && t.attempts == 1) else {
                continue;
            };
            if tried.hash.is_some_and(|h| done.contains_key(&h)) {
                return wrong(format!("payment {number} was told to have failed, and is paid"));
            }
        }
        if let Some((_, hash)) =
            book.settled.iter().find(|(s, h)| *s == 1 - payer && !received.contains_key(h))
        {
            return wrong(format!("{hash} was settled by its payee, and is not paid"));
        }
    }
    for seat in 0..2 {
        let sum = |list: BTreeMap<PaymentHash, u64>| list.values().map(|m| i128::from(*m)).sum::<i128>();
        let wanted = sum(lists.taken(1 - seat, book)) - sum(lists.complete(seat));
        let Some(node) = world.seats[seat].node() else { continue };
        let (forced, sound): (Vec<&Channel>, Vec<&Channel>) =
            node.channels().partition(|c| estate::is_forced(c) && !c.retired);
        let (mut has, mut lack) = (moved_in(&sound), 0);
        for channel in &forced {
            let (gained, may_lack) = estate::moved(world, seat, channel);
            has += gained;
            lack += may_lack;
        }
        let wanted = if forced.is_empty() { wanted } else { wanted - lack };
        let moved = has;
        if moved < wanted || (forced.is_empty() && moved != wanted) {
            let name = world.seats[seat].name;
            return wrong(format!(
                "{name}'s channels hold {moved} msat more than at their start, the book says {wanted}"
            ));
        }
    }
    Ok(())
}

/// How much more a node has in all channels than at their starts.
fn moved(node: &Node) -> i128 {
    moved_in(&node.channels().collect::<Vec<_>>())
}

fn moved_in(channels: &[&Channel]) -> i128 {
    let moved = |c: &&Channel| i128::from(c.to_us().0) - i128::from(c.terms.initial_balance(Side::Local).0);
    channels.iter().map(moved).sum()
}

/// After lies: the honest node has at least what it was paid, less what it paid.
///
/// # Errors
/// It has less.
pub fn not_robbed(world: &World, honest: usize, lists: &Lists) -> Result<(), Verdict> {
    let Some(node) = world.seats[honest].node() else { return Ok(()) };
    let sum = |list: BTreeMap<PaymentHash, u64>| list.values().map(|m| i128::from(*m)).sum::<i128>();
    let mut wanted = sum(lists.received(honest)) - sum(lists.complete(honest));
    for channel in node.channels() {
        for htlc in channel.ledger.htlcs.values() {
            let HtlcId { offered_by, .. } = htlc.id;
            let fulfilled = htlc.removal.as_ref().is_some_and(|r| r.is_fulfilled());
            // Its secret is out, and the money not yet in the settled balance: on chain it is a claim.
            if offered_by == Side::Remote && fulfilled {
                wanted -= i128::from(htlc.amount.0);
            }
        }
    }
    let moved = moved(node);
    if moved < wanted {
        let name = world.seats[honest].name;
        return wrong(format!(
            "{name}, who is honest, has {moved} msat more than at the start and should have {wanted}"
        ));
    }
    Ok(())
}
