//! `wait`: every invoice, payment and forward that is made, changed or deleted has a number, and somebody may wait for it.
//!
//! Three lists, three counters each, all from 1 (Core Lightning's indexes). A number is given in the step that makes the
//! change and kept in the same batch, so that it never runs back and is never given twice.
//! In: what other parts of the node did; `wait`. Out: the number for the record; answers to who waits for it.
//! Read next: `state` (the counters), `invoices`, `by_hand`, `forwards` (whose rows these are).

use crate::id::{CommandId, PaymentHash};
use crate::node::command::Reply;
use crate::node::payments::Payment;
use crate::node::view::{self, Row};
use crate::node::Node;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

/// Who may wait at once, over all clients: each takes a few bytes, and is looked at at each event.
const MAX_WAITING: usize = 1_024;
/// Core Lightning's code for what has none of its own.
const REFUSED: i32 = -1;

/// A list whose events are counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Subsystem {
    /// The rows of `listinvoices`.
    Invoices,
    /// The rows of `listsendpays`.
    Sendpays,
    /// The rows of `listforwards`.
    Forwards,
}

/// What happened to a row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Event {
    /// It is new.
    Created,
    /// It shows another status.
    Updated,
    /// It is listed no more.
    Deleted,
}

/// One who waits until an index is at least `from`.
#[derive(Clone, Copy, Debug)]
struct Waiter {
    id: CommandId,
    index: (Subsystem, Event),
    from: u64,
}

/// All who wait, in the order they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Waits(Vec<Waiter>);

impl Waits {
    /// Those whom this number answers; they wait no more.
    fn reached(&mut self, index: (Subsystem, Event), number: u64) -> Vec<CommandId> {
        let done = self.0.extract_if(.., |w| w.index == index && w.from <= number);
        done.map(|w| w.id).collect()
    }

    /// These wait no more.
    fn forget(&mut self, gone: &[CommandId]) {
        self.0.retain(|w| !gone.contains(&w.id));
    }
}

impl Node {
    /// `wait`.
    pub(super) fn wait_for(&mut self, id: CommandId, index: (Subsystem, Event), from: u64) {
        let number = self.counters.of(index);
        let (subsystem, event) = index;
        if number >= from {
            return self.reply(id, Ok(Reply::Reached(view::Reached { subsystem, event, number, row: None })));
        }
        if self.waits.0.len() >= MAX_WAITING {
            let text = format!("{MAX_WAITING} requests wait already: end some of them, or ask again later");
            return self.refuse(id, REFUSED, text);
        }
        self.waits.0.push(Waiter { id, index, from });
    }

    /// Whoever asked these is gone: nobody waits for the answers.
    pub(super) fn forget_waiters(&mut self, gone: &[CommandId]) {
        self.waits.forget(gone);
        self.invoices.forget_waiters(gone);
        self.forget_drainers(gone);
    }

    /// The next number of an index, for the record of what is about to happen.
    pub(super) fn count(&mut self, subsystem: Subsystem, event: Event) -> u64 {
        self.counters.next((subsystem, event))
    }

    /// Answers who waits for this number; `row` is what it happened to, as it stands afterwards.
    pub(super) fn tell_waiters(
        &mut self,
        index: (Subsystem, Event),
        number: u64,
        row: impl FnOnce(&Node) -> Option<Row>,
    ) {
        let ids = self.waits.reached(index, number);
        if ids.is_empty() {
            return;
        }
        let (row, (subsystem, event)) = (row(self), index);
        for id in ids {
            let row = row.clone();
            self.reply(id, Ok(Reply::Reached(view::Reached { subsystem, event, number, row })));
        }
    }

    /// Something happened to an invoice.
    pub(super) fn tell_invoice(&mut self, event: Event, number: u64, hash: PaymentHash) {
        self.tell_waiters((Subsystem::Invoices, event), number, |node| {
            let invoice = node.invoices.by_hash.get(&hash)?;
            Some(Row::Invoice(Box::new(invoice.view(node.wall()))))
        });
    }

    /// Something happened to the row of `listsendpays` with this `created_index`.
    pub(super) fn tell_pay(&mut self, event: Event, number: u64, hash: PaymentHash, row: u64) {
        self.tell_waiters((Subsystem::Sendpays, event), number, |node| {
            let rows = node.payments.by_hash.get(&hash)?.view_parts();
            rows.into_iter().find(|p| p.created_index == row).map(|p| Row::Sendpay(Box::new(p)))
        });
    }

    /// Something happened to a forward.
    pub(super) fn tell_forward(&mut self, event: Event, number: u64, forward: view::Forward) {
        self.tell_waiters((Subsystem::Forwards, event), number, |_| Some(Row::Forward(Box::new(forward))));
    }

    /// These rows of `listsendpays` are listed no more.
    pub(super) fn count_deleted_pays(&mut self, rows: Vec<view::Pay>) {
        for row in rows {
            let number = self.count(Subsystem::Sendpays, Event::Deleted);
            self.tell_waiters((Subsystem::Sendpays, Event::Deleted), number, |_| {
                Some(Row::Sendpay(Box::new(row)))
            });
        }
    }

    /// The row of a payment that was sent as a whole shows another status; whoever calls keeps the record.
    pub(super) fn count_updated_pay(&mut self, hash: PaymentHash) {
        let number = self.count(Subsystem::Sendpays, Event::Updated);
        let Some(payment) = self.payments.by_hash.get_mut(&hash) else { return };
        payment.updated_index = number;
        let row = payment.created_index;
        self.tell_pay(Event::Updated, number, hash, row);
    }

    /// The same for one part that was sent by hand.
    pub(super) fn count_updated_part(&mut self, hash: PaymentHash, row: u64) {
        let number = self.count(Subsystem::Sendpays, Event::Updated);
        let Some(payment) = self.payments.by_hash.get_mut(&hash) else { return };
        payment.note_part_updated(row, number);
        self.tell_pay(Event::Updated, number, hash, row);
    }
}

impl Payment {
    /// The `updated_index` of a part, 0 when it never changed.
    pub(super) fn part_updated(&self, row: u64) -> u64 {
        self.parts_updated.iter().find(|(created, _)| *created == row).map_or(0, |(_, updated)| *updated)
    }

    fn note_part_updated(&mut self, row: u64, number: u64) {
        self.updated_index = number;
        self.parts_updated.retain(|(created, _)| *created != row);
        self.parts_updated.push((row, number));
    }
}
