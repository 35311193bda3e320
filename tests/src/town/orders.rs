//! Orders to nodes of a town, and routes made by hand.
//!
//! In: who is to do what. Out: answers. Read next: `super`.

use super::Town;
use crate::duet::play::request;
use crate::duet::Answer;
use chand_protocol::channel::announce::PeerUpdate;
use chand_protocol::id::{CommandId, ShortChannelId};
use chand_protocol::node::asked_of_peers;
use chand_protocol::node::command::{Command, CommandError, InvoiceRequest, Reply, RouteHop};
use chand_protocol::node::effect::Input;
use chand_protocol::node::view;
use chand_protocol::units::Msat;

impl Town {
    /// A new invoice of a node.
    pub fn invoice(&mut self, seat: usize, request: InvoiceRequest) -> view::Invoice {
        let reply = self.must(seat, Command::Invoice(request));
        let Reply::Invoice(invoice) = reply else { panic!("{reply:?}") };
        invoice
    }

    /// What everybody says to ask for sending on to a node: what its hidden invoices need.
    pub fn asked_for(&self, payee: usize) -> Vec<(ShortChannelId, PeerUpdate)> {
        asked_of_peers(&self.map(), &self.seats[payee].id)
    }

    /// A plain invoice.
    pub fn bill(&mut self, seat: usize, label: &str, amount_msat: u64) -> view::Invoice {
        self.invoice(seat, request(label, Some(amount_msat)))
    }

    /// The route through `seats` (the payer first) that pays everyone on it what it asks for.
    pub fn route(&self, seats: &[usize], amount_msat: u64, final_blocks: u32) -> Vec<RouteHop> {
        let (mut amount, mut delay) = (amount_msat, final_blocks);
        let mut route = Vec::new();
        for pair in seats.windows(2).rev() {
            let (from, to) = (pair[0], pair[1]);
            let channel = Some(self.scid(from, to));
            route.push(RouteHop {
                id: self.seats[to].id,
                channel,
                amount_msat: Msat(amount),
                delay_blocks: delay,
            });
            let policy = self.between(from, to).policy;
            amount += policy.fee(Msat(amount)).map_or(0, |fee| fee.0);
            delay += u32::from(policy.delta_blocks);
        }
        route.reverse();
        route
    }

    /// The order to pay an invoice along a route.
    pub fn send_pay(route: Vec<RouteHop>, invoice: &view::Invoice) -> Command {
        Command::SendPay {
            route,
            payment_hash: invoice.payment_hash,
            payment_secret: Some(invoice.payment_secret),
            amount_msat: None,
            label: None,
            bolt11: None,
        }
    }

    /// Pays along a route, and gives what came of it once all is quiet.
    pub fn pay_along(
        &mut self,
        route: Vec<RouteHop>,
        invoice: &view::Invoice,
        payer: usize,
    ) -> Option<Answer> {
        match self.ask(payer, Town::send_pay(route, invoice)) {
            Some(Ok(_)) => {}
            other => return other,
        }
        let order = Command::WaitSendPay { payment_hash: invoice.payment_hash, timeout_s: Some(1) };
        self.ask(payer, order)
    }

    /// The rows of `listforwards`.
    pub fn forwards(&mut self, seat: usize) -> Vec<view::Forward> {
        let reply = self.must(seat, Command::ListForwards);
        let Reply::Forwards(list) = reply else { panic!("{reply:?}") };
        list
    }

    /// Gives an order; the answer comes when it comes.
    pub fn tell(&mut self, seat: usize, command: Command) -> CommandId {
        self.next_command += 1;
        let id = CommandId(self.next_command);
        self.seats[seat].inbox.push_back(Input::Command { id, command });
        id
    }

    /// The answer to an order, when it has come.
    pub fn answer(&mut self, id: CommandId) -> Option<Answer> {
        self.answers.remove(&id)
    }

    /// Gives an order and runs until all is quiet; `None` when no answer came.
    pub fn ask(&mut self, seat: usize, command: Command) -> Option<Answer> {
        let id = self.tell(seat, command);
        self.run();
        self.answer(id)
    }

    /// The same for an order that must succeed.
    pub fn must(&mut self, seat: usize, command: Command) -> Reply {
        let shown = format!("{command:?}");
        match self.ask(seat, command) {
            Some(Ok(reply)) => reply,
            other => panic!("{shown}: {other:?}"),
        }
    }

    /// The same for an order that must fail.
    pub fn must_fail(&mut self, seat: usize, command: Command) -> CommandError {
        let shown = format!("{command:?}");
        match self.ask(seat, command) {
            Some(Err(error)) => error,
            other => panic!("{shown}: {other:?}"),
        }
    }
}
