//! What a credential may spend: one account for each budget, kept in step with the payments that draw on it.
//!
//! A payment within budgets sets aside, before anything of it is offered, its amount and the most that its way may cost: in each
//! of them, or in none. Its own record says so ([`Drawn`]), so that the first HTLC and what is set aside for it are one durable
//! write; what is set aside of a budget is the sum over all payments that are not over. When nothing of a payment is under way any
//! more, what it really cost is added to the accounts in the batch that keeps its end. So after a crash at any point an account
//! says what was spent, and its payments what may still be.
//!
//! In: payments with budgets, and their ends. Out: refusals; records. Read next: `orders`, `send`.

use crate::id::{CommandId, PaymentHash};
use crate::node::command::Command;

use crate::node::payments::{Order, Payment, Payments, Status};
use crate::node::routes::NO_LIMIT;
use crate::node::{view, Node};
use crate::record::{account_key, put};
use crate::store::Change;
use crate::units::Msat;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Core Lightning's `RUNE_NOT_PERMITTED`.
const NOT_PERMITTED: i32 = 1_502;
/// Seconds.
const DAY_S: u64 = 86_400;

/// A bound on what several commands may spend together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Commands that name the same account share it.
    pub account: [u8; 32],
    /// The most, fees included.
    pub limit: Msat,
    /// Of each day (UTC), by when a payment began; else for ever.
    pub daily: bool,
}

/// What a payment has to do with budgets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Drawn {
    /// On which accounts it draws, each with the day, or zero.
    from: Vec<([u8; 32], u64)>,
    /// Set aside in each; nothing once it is over.
    aside: Msat,
    /// Parts of which nobody knows whether the payee has them: they count as paid.
    lost: Msat,
}

impl Drawn {
    /// Whether its HTLCs may add up to so much.
    pub(super) fn covers(&self, sent: Msat) -> bool {
        self.from.is_empty() || sent.saturating_add(self.lost) <= self.aside
    }
}

/// What was spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Account {
    spent: Msat,
    /// The day it was spent on; zero: ever.
    day: u64,
}

/// Every account.
#[derive(Clone, Debug, Default)]
pub(super) struct Accounts {
    by_name: BTreeMap<[u8; 32], Account>,
    /// What payments that are not over have set aside; follows from their records.
    held: BTreeMap<[u8; 32], Msat>,
}

impl Accounts {
    pub(super) fn restore(&mut self, name: [u8; 32], account: Account) {
        self.by_name.insert(name, account);
    }

    pub(super) fn records(&self) -> impl Iterator<Item = Change> + '_ {
        self.by_name.iter().map(|(name, account)| put(account_key(name), account))
    }

    /// Sets aside what these payments may still cost.
    pub(super) fn hold(&mut self, payments: &Payments) {
        for payment in payments.by_hash.values() {
            let Drawn { from, aside, .. } = &payment.drawn;
            from.iter().for_each(|(name, _)| self.set_aside(name, *aside));
        }
    }

    fn set_aside(&mut self, name: &[u8; 32], amount: Msat) {
        if amount > Msat::ZERO {
            let held = self.held.entry(*name).or_insert(Msat::ZERO);
            *held = held.saturating_add(amount);
        }
    }

    fn give_back(&mut self, name: &[u8; 32], amount: Msat) {
        if let Some(held) = self.held.get_mut(name) {
            *held = held.saturating_sub(amount);
            if *held == Msat::ZERO {
                self.held.remove(name);
            }
        }
    }

    /// The day that a draw on this budget counts for.
    fn day(&self, budget: &Budget, today: u64) -> u64 {
        let known = self.by_name.get(&budget.account).map_or(0, |account| account.day);
        // A clock that was set back gives no day a second time.
        if budget.daily {
            today.max(known).max(1)
        } else {
            0
        }
    }

    /// What may still be set aside of it. What was begun yesterday and is under way counts for today as well, until it ends.
    fn left(&self, budget: &Budget, today: u64) -> Msat {
        let day = self.day(budget, today);
        let spent = self.by_name.get(&budget.account).filter(|account| account.day == day);
        let held = self.held.get(&budget.account).copied().unwrap_or(Msat::ZERO);
        let used = spent.map_or(Msat::ZERO, |account| account.spent).saturating_add(held);
        budget.limit.saturating_sub(used)
    }

    /// Adds what was spent on a day; the record, unless that day is over.
    fn spend(&mut self, name: &[u8; 32], day: u64, amount: Msat) -> Option<Change> {
        let account = self.by_name.entry(*name).or_insert(Account { spent: Msat::ZERO, day });
        if day < account.day {
            return None;
        }
        if day > account.day {
            *account = Account { spent: Msat::ZERO, day };
        }
        account.spent = account.spent.saturating_add(amount);
        Some(put(account_key(name), account))
    }

    /// How each stands.
    pub(super) fn views(&self) -> Vec<view::Account> {
        let held = |name: &[u8; 32]| self.held.get(name).copied().unwrap_or(Msat::ZERO);
        let row = |(name, account): (&[u8; 32], &Account)| view::Account {
            name: *name,
            spent: account.spent,
            day: account.day,
            held: held(name),
        };
        let mut views: Vec<view::Account> = self.by_name.iter().map(row).collect();
        let only_held = self.held.iter().filter(|(name, _)| !self.by_name.contains_key(*name));
        views.extend(only_held.map(|(name, held)| view::Account {
            name: *name,
            spent: Msat::ZERO,
            day: 0,
            held: *held,
        }));
        views
    }
}

impl Payment {
    /// Whether it costs no more and no less from here on.
    fn is_over(&self) -> bool {
        self.parts.is_empty() && matches!(self.status, Status::Complete { .. } | Status::Failed { .. })
    }
}

impl Node {
    /// A command of somebody who may spend no more than this. What is not counted is refused.
    pub(super) fn on_command_within(&mut self, id: CommandId, budgets: &[Budget], command: Command) {
        match command {
            Command::Pay { .. } | Command::Keysend { .. } => self.on_pay_command(id, command, budgets),
            _ => self.refuse(id, NOT_PERMITTED, "Not permitted: this spends in a way that no budget counts"),
        }
    }

    /// Sets aside what a payment may cost. Its fees are held to what is left.
    pub(super) fn draw(&mut self, order: &mut Order, budgets: &[Budget]) -> Result<(), (i32, String)> {
        if budgets.is_empty() {
            return Ok(());
        }
        let today = self.wall().seconds() / DAY_S;
        let left = budgets.iter().map(|budget| self.accounts.left(budget, today)).min();
        let left = left.unwrap_or(Msat::ZERO);
        let Some(for_fees) = left.checked_sub(order.amount) else {
            let text = format!(
                "Not permitted: {left} of the budget are left, and the payment is {}. No money moved",
                order.amount
            );
            return Err((NOT_PERMITTED, text));
        };
        let max_fee = order.limits.max_fee.unwrap_or(NO_LIMIT).min(for_fees);
        order.limits.max_fee = Some(max_fee);
        let aside = order.amount.saturating_add(max_fee);
        let from: Vec<([u8; 32], u64)> =
            budgets.iter().map(|budget| (budget.account, self.accounts.day(budget, today))).collect();
        from.iter().for_each(|(name, _)| self.accounts.set_aside(name, aside));
        order.drawn = Drawn { from, aside, lost: Msat::ZERO };
        Ok(())
    }

    /// A payment that is over gives back what it did not need; in the batch that keeps its end.
    pub(super) fn settle_draws(&mut self, hash: PaymentHash) {
        let Some(payment) = self.payments.by_hash.get_mut(&hash) else { return };
        if payment.drawn.aside == Msat::ZERO || !payment.is_over() {
            return;
        }
        let paid = match payment.status {
            Status::Complete { .. } => payment.sent,
            _ => Msat::ZERO,
        };
        let cost = paid.saturating_add(payment.drawn.lost);
        let aside = core::mem::replace(&mut payment.drawn.aside, Msat::ZERO);
        let from = payment.drawn.from.clone();
        from.iter().for_each(|(name, _)| self.accounts.give_back(name, aside));
        self.spend(&from, cost);
        self.keep_payment(hash);
    }

    /// A part of which nobody will ever know whether it was taken.
    pub(super) fn lose_draw(&mut self, hash: PaymentHash, amount: Msat) {
        if let Some(payment) = self.payments.by_hash.get_mut(&hash) {
            if payment.drawn.aside > Msat::ZERO {
                payment.drawn.lost = payment.drawn.lost.saturating_add(amount);
            }
        }
    }

    /// A payment that had failed turned out to be paid.
    pub(super) fn charge(&mut self, hash: PaymentHash, amount: Msat) {
        let from = self.payments.by_hash.get(&hash).map(|payment| payment.drawn.from.clone());
        self.spend(&from.unwrap_or_default(), amount);
    }

    fn spend(&mut self, from: &[([u8; 32], u64)], amount: Msat) {
        if amount == Msat::ZERO {
            return;
        }
        for (name, day) in from {
            if let Some(record) = self.accounts.spend(name, *day, amount) {
                self.keep(record);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: [u8; 32] = [7; 32];

    fn budget(limit: u64, daily: bool) -> Budget {
        Budget { account: NAME, limit: Msat(limit), daily }
    }

    #[test]
    fn what_is_set_aside_and_what_was_spent_count_together() {
        let mut accounts = Accounts::default();
        let ever = budget(1_000, false);
        accounts.set_aside(&NAME, Msat(400));
        assert_eq!(accounts.left(&ever, 5), Msat(600));
        accounts.give_back(&NAME, Msat(400));
        assert!(accounts.spend(&NAME, 0, Msat(390)).is_some());
        assert_eq!(accounts.left(&ever, 5), Msat(610));
        assert_eq!(accounts.left(&ever, 50_000), Msat(610));
        accounts.set_aside(&NAME, Msat(700));
        assert_eq!(accounts.left(&ever, 5), Msat(0));
    }

    #[test]
    fn a_day_is_counted_once_whatever_the_clock_says() {
        let mut accounts = Accounts::default();
        let daily = budget(1_000, true);
        accounts.spend(&NAME, accounts.day(&daily, 10), Msat(900));
        assert_eq!(accounts.left(&daily, 10), Msat(100));
        assert_eq!(accounts.left(&daily, 9), Msat(100), "the clock was set back");
        assert_eq!(accounts.left(&daily, 11), Msat(1_000));
        accounts.set_aside(&NAME, Msat(50));
        assert_eq!(accounts.left(&daily, 11), Msat(950), "under way since yesterday");
        accounts.spend(&NAME, 11, Msat(10));
        assert!(accounts.spend(&NAME, 10, Msat(500)).is_none(), "yesterday is over");
        assert_eq!(accounts.left(&daily, 11), Msat(940));
    }
}
