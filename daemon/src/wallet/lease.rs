//! Coins that a user puts aside for a transaction in the making (`reserveinputs`, `fundpsbt`).
//!
//! In: coins, and for how many blocks. Out: nothing here spends them until then: no withdrawal, no funding, no fee of a
//! channel. They are kept like everything else, so that a restart forgets none; and they end by themselves, so that a
//! transaction that was never sent does not lock coins up for ever. Read next: `psbt`.

use super::{OutputStatus, Wallet, WalletError};
use bitcoin::{Block, OutPoint};
use chand_protocol::units::Height;
use std::collections::BTreeSet;

/// One coin that was put aside, or freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reservation {
    /// Which.
    pub outpoint: OutPoint,
    /// It was put aside before, too.
    pub was_reserved: bool,
    /// The first block at which it is free again; `None`: it is free.
    pub until: Option<Height>,
}

impl Wallet {
    /// Puts the wallet's own among these coins aside for so many blocks; others are passed over. `exclusive`: none may be
    /// put aside already, else such a one is for so many blocks longer.
    ///
    /// # Errors
    /// [`WalletError::Coin`] names the first that cannot be had; then none is put aside.
    pub fn reserve_inputs(
        &mut self,
        coins: &[OutPoint],
        blocks: u32,
        exclusive: bool,
    ) -> Result<Vec<Reservation>, WalletError> {
        let outputs = self.outputs();
        let mut made: Vec<Reservation> = Vec::new();
        for outpoint in coins.iter().copied() {
            let Some(coin) = outputs.iter().find(|o| o.outpoint == outpoint) else { continue };
            let why = match coin.lease {
                _ if made.iter().any(|r| r.outpoint == outpoint) => continue,
                _ if coin.status == OutputStatus::Spent => "it is spent",
                Some(_) if exclusive => "it is put aside already (exclusive=false adds to that)",
                None if coin.reserved => "it is reserved for a transaction of a channel",
                lease => {
                    let from = lease.unwrap_or_else(|| self.tip().0);
                    let until = Some(Height(from.0.saturating_add(blocks)));
                    made.push(Reservation { outpoint, was_reserved: lease.is_some(), until });
                    continue;
                }
            };
            return Err(WalletError::Coin { outpoint, why });
        }
        for reservation in &made {
            self.set_lease(reservation.outpoint, reservation.until);
        }
        Ok(made)
    }

    /// Those of these coins that are put aside are so for so many blocks less, or free when no block is left.
    pub fn unreserve_inputs(&mut self, coins: &[OutPoint], blocks: u32) -> Vec<Reservation> {
        let (tip, named) = (self.tip().0, coins.iter().copied().collect::<BTreeSet<OutPoint>>());
        let mut made = Vec::new();
        for outpoint in named {
            let Some(until) = self.lease_of(&outpoint) else { continue };
            let until = Some(Height(until.0.saturating_sub(blocks))).filter(|until| *until > tip);
            self.set_lease(outpoint, until);
            made.push(Reservation { outpoint, was_reserved: true, until });
        }
        made
    }

    /// Until when a user put this coin aside, if so.
    pub(super) fn lease_of(&self, outpoint: &OutPoint) -> Option<Height> {
        self.leases.get(outpoint).copied().filter(|until| *until > self.tip().0)
    }

    /// All coins that users put aside.
    pub(super) fn leased(&self) -> impl Iterator<Item = OutPoint> + '_ {
        let tip = self.tip().0;
        self.leases.iter().filter(move |(_, until)| **until > tip).map(|(outpoint, _)| *outpoint)
    }

    fn set_lease(&mut self, outpoint: OutPoint, until: Option<Height>) {
        match until {
            Some(until) => drop(self.leases.insert(outpoint, until)),
            None => drop(self.leases.remove(&outpoint)),
        }
        self.pending.leases.insert(outpoint, until.map(|height| height.0));
    }

    /// Forgets those that are over: their time is, or the block spends the coin.
    pub(super) fn end_leases(&mut self, block: &Block) {
        if self.leases.is_empty() {
            return;
        }
        let tip = self.tip().0;
        let spent: BTreeSet<OutPoint> =
            block.txdata.iter().flat_map(|tx| &tx.input).map(|i| i.previous_output).collect();
        let over = |(outpoint, until): &(&OutPoint, &Height)| **until <= tip || spent.contains(*outpoint);
        let over: Vec<OutPoint> = self.leases.iter().filter(over).map(|(outpoint, _)| *outpoint).collect();
        over.into_iter().for_each(|outpoint| self.set_lease(outpoint, None));
    }
}
