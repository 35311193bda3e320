//! Orders to pay: what each asks for, and what no waiting could mend.
//!
//! In: `pay`, `keysend`, `listpays`. Out: a payment that `send` starts, or a refusal that moved no money. No hash is ever
//! paid twice: a payment is complete, or pending, or may be tried again after it failed for good.
//! Read next: `by_hand` (`sendpay`), `send`, `routes`.

use crate::channel::Channel;
use crate::gossip::graph::Direction;
use crate::id::{CommandId, NodeId, PaymentHash, Preimage};
use crate::invoice::{self, Currency, Description};
use crate::node::budget::{Budget, Drawn};
use crate::node::command::{Command, Reply, RouteHop, RouteLimits};
use crate::node::drain::DRAINING;
use crate::node::payments::{code, Final0, Order, Payment, Status, Wait};
use crate::node::routes::room_later;
use crate::node::send::EXPIRY_SLACK_BLOCKS;
use crate::node::{view, Node};
use crate::onion::blind::PayPath;
use crate::units::Msat;
use crate::wire::features::Feature;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The longest a payee may ask us to lock money up, and a way to it: two weeks.
pub(super) const MAX_BLOCKS: u32 = 2_016;
/// The longest a whole route of the user's may.
const MAX_ROUTE_BLOCKS: u32 = MAX_BLOCKS + 34 * MAX_HOPS as u32;
/// Longest text kept with a payment.
const MAX_TEXT_BYTES: usize = 16_384;
/// BOLT 4: what an onion of 1,300 bytes has room for.
pub(super) const MAX_HOPS: usize = 20;
/// Payments that may wait for their turn.
const MAX_QUEUED: usize = 10_000;
/// HTLCs that one payment is split into at most.
const MAX_PARTS: u32 = 16;

impl Node {
    /// `pay`, `keysend`, `listpays`, and what `by_hand` does.
    pub(super) fn on_pay_command(&mut self, id: CommandId, command: Command, budgets: &[Budget]) {
        let begins = matches!(
            command,
            Command::Pay { .. }
                | Command::Keysend { .. }
                | Command::SendPay { .. }
                | Command::SendPart { .. }
        );
        if begins && self.is_draining() {
            return self.refuse(id, code::STOPPED_RETRYING, DRAINING);
        }
        let order = match command {
            Command::Pay { bolt11, amount_msat, label, retry_for_s, limits } => {
                let order = self.order_of_invoice(&bolt11, amount_msat, label, retry_for_s);
                order.map(|order| Order { limits, ..order })
            }
            Command::Keysend { destination, amount_msat, label, retry_for_s, limits } => {
                let order = self.order_of_keysend(destination, amount_msat, label, retry_for_s);
                Ok(Order { limits, ..order })
            }
            Command::SendPay { .. } => return self.send_pay(id, command),
            Command::SendPart { .. } => return self.send_part(id, command),
            Command::WaitSendPay { payment_hash, timeout_s } => {
                return self.wait_send_pay(id, payment_hash, timeout_s)
            }
            Command::WaitSendPart { payment_hash, partid, groupid, timeout_s } => {
                return self.wait_send_part(id, payment_hash, (partid, groupid), timeout_s)
            }
            Command::ListPays { payment_hash, bolt11 } => {
                return self.list_pays(id, payment_hash, bolt11, |payment| alloc::vec![payment.view()])
            }
            Command::ListSendPays { payment_hash, bolt11 } => {
                return self.list_pays(id, payment_hash, bolt11, Payment::view_parts)
            }
            _ => return self.refuse(id, -32603, "internal: not a payment command"),
        };
        match order {
            Err((code, text)) => self.refuse(id, code, text),
            Ok(order) => self.pay(id, order, budgets),
        }
    }

    fn order_of_invoice(
        &self,
        text: &str,
        amount: Option<Msat>,
        label: Option<String>,
        retry_for_s: u64,
    ) -> Result<Order, (i32, String)> {
        let invoice =
            invoice::parse(text, self.crypto.secp()).map_err(|e| (code::PARAMS, format!("bolt11: {e}")))?;
        invoice
            .require_currency(Currency::of(self.config.network))
            .map_err(|e| (code::PARAMS, format!("bolt11: {e}")))?;
        // BOLT 4 [4.mpp.2, 4.mpp.3].
        let amount = match (invoice.amount, amount) {
            (Some(named), None) => named,
            (None, Some(given)) => given,
            (Some(named), Some(given)) if named == given => named,
            (Some(_), Some(_)) => {
                return Err((code::PARAMS, "amount_msat: the invoice names another amount".into()));
            }
            (None, None) => {
                return Err((code::PARAMS, "amount_msat: the invoice names none, so give one".into()))
            }
        };
        if invoice.is_expired(self.wall().seconds()) && !self.is_under_way_or_paid(&invoice.payment_hash) {
            return Err((
                code::INVOICE_EXPIRED,
                "the invoice has expired: ask the payee for a new one".into(),
            ));
        }
        let blinded = !invoice.blinded_paths.is_empty();
        if blinded && self.invoices.by_hash.contains_key(&invoice.payment_hash) {
            return Err((code::PARAMS, "the payee is this node itself".into()));
        }
        if invoice.min_final_cltv_blocks > MAX_BLOCKS {
            let text =
                format!("the payee wants the money locked for {} blocks", invoice.min_final_cltv_blocks);
            return Err((code::PARAMS, text));
        }
        let description = match &invoice.description {
            Description::Text(text) => Some(text.clone()),
            Description::Hash(_) => None,
        };
        Ok(Order {
            hash: invoice.payment_hash,
            destination: invoice.payee,
            amount,
            total: amount,
            // The payee's blocks are among those of its paths.
            final_cltv_blocks: if blinded { 0 } else { invoice.min_final_cltv_blocks },
            route: Vec::new(),
            last: match invoice.payment_secret {
                // BOLT 11 [11.read.11, 11.read.13].
                Some(secret) => Final0::Invoice { secret, metadata: invoice.payment_metadata },
                None => Final0::Blinded { paths: self.payable_paths(invoice.blinded_paths) },
            },
            bolt11: Some(text.into()),
            label,
            description,
            retry_for_s,
            limits: RouteLimits::default(),
            // BOLT 11 [11.feature.3].
            max_parts: if invoice.features.supports(Feature::BasicMpp) { MAX_PARTS } else { 1 },
            hints: invoice.route_hints,
            drawn: Drawn::default(),
        })
    }

    /// Whether asking to pay it once more sends nothing, however old the invoice is.
    fn is_under_way_or_paid(&self, hash: &PaymentHash) -> bool {
        self.payments.by_hash.get(hash).is_some_and(|p| !matches!(p.status, Status::Failed { .. }))
    }

    fn order_of_keysend(
        &mut self,
        destination: NodeId,
        amount: Msat,
        label: Option<String>,
        retry_for_s: u64,
    ) -> Order {
        let preimage = Preimage(self.entropy.bytes32());
        Order {
            hash: preimage.hash(),
            destination,
            amount,
            total: amount,
            // What keysend receivers expect; more than chand itself asks for.
            final_cltv_blocks: 42,
            route: Vec::new(),
            last: Final0::Keysend { preimage },
            bolt11: None,
            label,
            description: None,
            retry_for_s,
            limits: RouteLimits::default(),
            hints: Vec::new(),
            // Its layer holds no secret that would tie parts together.
            max_parts: 1,
            drawn: Drawn::default(),
        }
    }

    fn pay(&mut self, id: CommandId, mut order: Order, budgets: &[Budget]) {
        let hash = order.hash;
        match self.payments.by_hash.get(&hash).map(|p| &p.status) {
            Some(Status::Complete { .. }) => return self.pay_again(id, &order),
            Some(Status::Pending | Status::Alone { .. } | Status::Queued) => {
                let text = "this invoice is being paid already: wait for that payment (listpays shows it)";
                return self.refuse(id, code::IN_PROGRESS, text);
            }
            Some(Status::Failed { .. }) | None => {}
        }
        let start = match self.check_payable(&order) {
            Ok(start) => start,
            Err((code, text)) => return self.refuse(id, code, text),
        };
        if let Err((code, text)) = self.draw(&mut order, budgets) {
            return self.refuse(id, code, text);
        }
        // First in line, then started: a payment that ends at once has its payer to tell.
        self.payments.payers.entry(hash).or_default().push((id, Wait::Pay));
        self.start_payment(order, start);
    }

    /// Paid already: the same answer again, and no money moves; but not for another invoice with its hash.
    fn pay_again(&mut self, id: CommandId, order: &Order) {
        let Some(paid) = self.payments.by_hash.get(&order.hash) else { return };
        if (paid.amount, paid.destination) == (order.amount, order.destination) {
            let view = paid.view();
            return self.reply(id, Ok(Reply::Paid(view)));
        }
        let text = format!(
            "this payment_hash is paid already, with {} to {}, and this would be {} to {}: who knows its preimage could \
             take it on the way. Nothing was paid now: ask the payee for a new invoice",
            paid.amount, paid.destination, order.amount, order.destination
        );
        self.refuse(id, code::HASH_ALREADY_USED, text);
    }

    /// What no waiting can mend is refused at once.
    pub(super) fn check_payable(&self, order: &Order) -> Result<Start, (i32, String)> {
        if order.destination == self.id {
            return Err((code::PARAMS, "the payee is this node itself".into()));
        }
        let texts = [&order.label, &order.bolt11, &order.description];
        if texts.into_iter().flatten().any(|t| t.len() > MAX_TEXT_BYTES) {
            let text = format!("label, bolt11, description: at most {MAX_TEXT_BYTES} bytes each");
            return Err((code::PARAMS, text));
        }
        if order.amount == Msat::ZERO {
            return Err((code::PARAMS, "amount_msat: must be more than zero".into()));
        }
        if self.payments.queue.len().max(self.payments.plans.len()) >= MAX_QUEUED {
            return Err((code::STOPPED_RETRYING, "too many payments wait already: try again later".into()));
        }
        if let Final0::Blinded { paths } = &order.last {
            return self.check_paths(paths);
        }
        match order.route.first() {
            Some(first) => self.check_first(order, first),
            None => self.check_payee(order),
        }
    }

    /// A route of the user's: a channel with its first hop that could carry it.
    fn check_first(&self, order: &Order, first: &RouteHop) -> Result<Start, (i32, String)> {
        let with = self.channels.values().filter(|c| c.terms.peer == first.id && c.wants_link());
        let text = match with.map(best_case).max() {
            Some(most) if first.amount_msat <= most => return Ok(Start::Route(order.route.clone())),
            None => "no route: there is no channel with its first hop. No money moved".into(),
            Some(most) => format!(
                "no route: {} is more than any channel to the first hop can send ({most} at most). No money moved",
                first.amount_msat
            ),
        };
        Err((code::ROUTE_NOT_FOUND, text))
    }

    /// A payee who is a peer is paid at once over a channel that has room and that the user does not exclude; ways to all
    /// others, and around what is full, are looked for.
    fn check_payee(&self, order: &Order) -> Result<Start, (i32, String)> {
        let none = |text: String| Err((code::ROUTE_NOT_FOUND, format!("no route: {text}. No money moved")));
        let limits = &order.limits;
        if limits.not_nodes.contains(&order.destination) {
            return none("the payee is excluded".into());
        }
        if limits.max_hops == Some(0) {
            return none("maxhops allows no hop".into());
        }
        let blocks = order.final_cltv_blocks.saturating_add(EXPIRY_SLACK_BLOCKS);
        if let Some(most) = limits.max_blocks.filter(|most| blocks > *most) {
            return none(format!(
                "maxdelay: the payee alone asks for {} blocks, with {EXPIRY_SLACK_BLOCKS} that may be mined meanwhile \
                 that is more than the {most} allowed",
                order.final_cltv_blocks
            ));
        }
        let way = |c: &Channel| Direction::between(&self.id, &c.terms.peer);
        let excluded = |c: &&Channel| {
            limits.not_channels.iter().any(|(name, direction)| c.is_called(*name) && *direction == way(c))
        };
        let open: Vec<&Channel> = self.channels.values().filter(|c| c.wants_link()).collect();
        if open.is_empty() {
            return none("this node has no channel that could carry it".into());
        }
        let open: Vec<&Channel> = open.into_iter().filter(|c| !excluded(c)).collect();
        let (to_payee, others): (Vec<&Channel>, Vec<&Channel>) =
            open.into_iter().partition(|c| c.terms.peer == order.destination);
        let expiry = self.tip_height().plus(blocks);
        let fits = |c: &&&Channel| c.check_offer(order.amount, expiry, Node::max_dust()).is_ok();
        if let Some(channel) = to_payee.iter().find(fits) {
            return Ok(Start::Way(order.over(channel)));
        }
        let splits = to_payee.len() > 1 && order.max_parts > 1;
        if !others.is_empty() || splits {
            let later = to_payee.iter().find(|c| room_later(c) >= order.amount && !fits(c));
            return Ok(Start::Search(later.map(|c| order.over(c))));
        }
        match to_payee.iter().max_by_key(|c| best_case(c)) {
            Some(channel) if order.amount <= best_case(channel) => Ok(Start::Way(order.over(channel))),
            Some(channel) => none(format!(
                "{} is more than any channel to the payee can send ({} at most)",
                order.amount,
                best_case(channel)
            )),
            None => none("every channel of this node is excluded".into()),
        }
    }

    /// Over blinded paths a way is always looked for.
    fn check_paths(&self, paths: &[PayPath]) -> Result<Start, (i32, String)> {
        let text = match (paths.is_empty(), self.channels.values().any(|c| c.wants_link())) {
            (false, true) => return Ok(Start::Search(None)),
            (true, _) => {
                "no route: no blinded path of the invoice leads from here to its payee. No money moved"
            }
            (_, false) => "no route: this node has no channel that could carry it. No money moved",
        };
        Err((code::ROUTE_NOT_FOUND, text.into()))
    }

    fn list_pays(
        &mut self,
        id: CommandId,
        hash: Option<PaymentHash>,
        bolt11: Option<String>,
        rows: impl Fn(&Payment) -> Vec<view::Pay>,
    ) {
        let named = match bolt11 {
            Some(text) => match invoice::parse(&text, self.crypto.secp()) {
                Ok(invoice) => Some(invoice.payment_hash),
                Err(e) => return self.refuse(id, code::PARAMS, format!("bolt11: {e}")),
            },
            None => hash,
        };
        let all = &self.payments;
        let list = match named {
            Some(hash) => all.by_hash.get(&hash).into_iter().flat_map(rows).collect(),
            None => all.by_index.values().filter_map(|h| all.by_hash.get(h)).flat_map(rows).collect(),
        };
        self.reply(id, Ok(Reply::Pays(list)));
    }
}

/// How a payment begins.
pub(super) enum Start {
    /// Along the user's route, and no other.
    Route(Vec<RouteHop>),
    /// Along this way, unless it comes back or has no room.
    Way(Vec<RouteHop>),
    /// Along ways that are asked for; when there is none, along this one as soon as it has room.
    Search(Option<Vec<RouteHop>>),
}

impl Order {
    /// The way to a payee who is a peer.
    fn over(&self, channel: &Channel) -> Vec<RouteHop> {
        alloc::vec![RouteHop {
            id: self.destination,
            channel: channel.own_name(),
            amount_msat: self.amount,
            delay_blocks: self.final_cltv_blocks,
        }]
    }
}

/// What a channel could send if nothing stood in the way.
fn best_case(channel: &Channel) -> Msat {
    channel.to_us().saturating_sub(channel.terms.remote.reserve.to_msat())
}

/// A route that can be sent along: it goes on, and neither amounts nor expiries grow on the way. Gives its last hop.
pub(super) fn check_route(route: &[RouteHop]) -> Result<&RouteHop, &'static str> {
    let last = route.last().ok_or("at least one hop")?;
    if route.len() > MAX_HOPS {
        return Err("at most 20 hops");
    }
    if route.iter().any(|hop| hop.delay_blocks > MAX_ROUTE_BLOCKS) {
        return Err("delay: at most 2,016 blocks and 34 for each of 20 hops");
    }
    for pair in route.windows(2) {
        let [here, next] = pair else { continue };
        if next.channel.is_none() {
            return Err("channel: every hop but the first needs one");
        }
        if next.amount_msat > here.amount_msat || next.delay_blocks > here.delay_blocks {
            return Err("amount_msat and delay may not grow from hop to hop");
        }
    }
    Ok(last)
}
