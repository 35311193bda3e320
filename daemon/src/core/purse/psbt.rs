//! The purse's part in transactions that others make with us, in raised fees, and in what would be.
//!
//! In: requests about PSBTs and coins put aside. Out: answers, once what they tell of is durable; a transaction is answered
//! when the network took it. Read next: `crate::wallet`.

use super::{kept_for, refusal, Purse, Undo, Withdrawal, NOT_BROADCAST, PATIENCE};
use crate::core::waiting::{Waiting, WalletReplyTo};
use crate::rpc::{WalletReply, WalletRequest};
use crate::wallet::{Plan, Wallet, WalletError};
use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, ScriptBuf, Transaction, TxOut};
use chand_protocol::node::command::CommandError;
use chand_protocol::node::effect::{FundAmount, Input};
use chand_protocol::units::{Feerate, Sat};
use std::time::Instant;

impl Purse {
    pub(super) fn psbt_request(
        &mut self,
        request: WalletRequest,
        to: WalletReplyTo,
        waiting: &Waiting,
    ) -> Option<Input> {
        let answer = match request {
            WalletRequest::FundPsbt(mut order) => {
                order.keep = self.kept(order.keep);
                self.wallet.fund_psbt(&order).map(|funded| WalletReply::PsbtFunded(Box::new(funded)))
            }
            WalletRequest::SignPsbt { psbt, only } => {
                let signed = self.wallet.sign_psbt(&psbt, only.as_deref());
                signed.map(|psbt| WalletReply::Psbt(Box::new(psbt)))
            }
            WalletRequest::FinishPsbt { psbt } => {
                self.wallet.finish_psbt(&psbt).map(|(tx, _)| WalletReply::Finished(tx))
            }
            WalletRequest::ReserveInputs { coins, exclusive, blocks } => {
                self.wallet.reserve_inputs(&coins, blocks, exclusive).map(WalletReply::Reservations)
            }
            WalletRequest::UnreserveInputs { coins, blocks } => {
                Ok(WalletReply::Reservations(self.wallet.unreserve_inputs(&coins, blocks)))
            }
            WalletRequest::SendPsbt { psbt, reserve_blocks, relied } => {
                match self.wallet.finish_psbt(&psbt) {
                    Ok((tx, _)) => return self.send_psbt(&tx, reserve_blocks, relied, to),
                    Err(error) => Err(error),
                }
            }
            WalletRequest::Bump { mut order, feerate } => {
                order.feerate = self.bump_rate(feerate);
                let old = self.wallet.transaction(&order.txid);
                match self.wallet.bump(&order) {
                    Ok(done) => {
                        let gone = old.filter(|old| shares_an_input(old, &done.tx));
                        return self.withdrawn(done.tx, to, Undo { replaced: gone, ..Undo::default() });
                    }
                    Err(error) => Err(error),
                }
            }
            _ => Err(WalletError::Internal("no request about a PSBT".into())),
        };
        match answer {
            Ok(reply) => self.once_kept(reply, to, waiting),
            Err(error) => {
                let _ = to.send(Err(refusal(&error)));
                None
            }
        }
    }

    /// What a request would do.
    pub(super) fn plan(&mut self, request: WalletRequest) -> Result<Plan, WalletError> {
        let normal = self.rates.fees.map_or(Feerate::FLOOR, |f| f.normal);
        let all = FundAmount::All { at_most: Sat::MAX_MONEY };
        match request {
            WalletRequest::Withdraw { destination, amount, feerate, min_confirmations, utxos } => {
                let amount = amount.map_or(all, FundAmount::Exact);
                let rate = feerate.unwrap_or(normal);
                let build = |wallet: &mut Wallet| {
                    let made = wallet.withdraw(destination, amount, rate, utxos, Some(min_confirmations));
                    made.map(|done| done.tx)
                };
                self.wallet.plan(build, &[])
            }
            WalletRequest::Fund { amount, anchors, feerate } => {
                let rate = feerate.unwrap_or(normal);
                let keep = kept_for(self.channels + u64::from(anchors));
                // As long as any funding output's script.
                let script = ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::all_zeros());
                let build = |wallet: &mut Wallet| {
                    let amount = match amount {
                        Some(amount) => amount,
                        None => wallet.most_fundable(rate, keep)?,
                    };
                    wallet.fund(script, FundAmount::Exact(amount), rate).map(|funded| funded.tx)
                };
                self.wallet.plan(build, &[])
            }
            WalletRequest::SendPsbt { psbt, .. } => {
                let (tx, spent) = self.wallet.finish_psbt(&psbt)?;
                let told: Vec<(OutPoint, TxOut)> =
                    tx.input.iter().map(|input| input.previous_output).zip(spent).collect();
                self.wallet.plan(|_| Ok(tx), &told)
            }
            WalletRequest::Bump { mut order, feerate } => {
                order.feerate = self.bump_rate(feerate);
                self.wallet.plan(|wallet| wallet.bump(&order).map(|done| done.tx), &[])
            }
            WalletRequest::FundPsbt(mut order) => {
                order.keep = self.kept(order.keep);
                let build = |wallet: &mut Wallet| wallet.fund_psbt(&order).map(|f| f.psbt.unsigned_tx);
                self.wallet.plan(build, &[])
            }
            _ => Err(WalletError::Internal("nothing to plan".into())),
        }
    }

    fn bump_rate(&self, given: Option<Feerate>) -> Feerate {
        given.or(self.rates.fees.map(|f| f.urgent)).unwrap_or(Feerate::FLOOR)
    }

    /// What stays in the wallet, with the share of a channel that is to be (any amount stands for one).
    fn kept(&self, one_more: Sat) -> Sat {
        kept_for(self.channels + u64::from(one_more > Sat::ZERO))
    }

    fn send_psbt(&mut self, tx: &Transaction, blocks: u32, relied: bool, to: WalletReplyTo) -> Option<Input> {
        let txid = tx.compute_txid();
        if self.withdrawals.contains_key(&txid) {
            let message = format!("{txid} is being sent already");
            let _ = to.send(Err(CommandError::new(NOT_BROADCAST, message)));
            return None;
        }
        let made = match self.wallet.send(tx, blocks, relied) {
            Ok(made) => made,
            Err(error) => {
                let _ = to.send(Err(refusal(&error)));
                return None;
            }
        };
        let leased = (made.into_iter().map(|reservation| reservation.outpoint).collect(), blocks);
        let (reply, until) = (WalletReply::Sent(tx.clone()), Instant::now() + PATIENCE);
        let undo = Undo { leased, relied, ..Undo::default() };
        self.withdrawals.insert(txid, Withdrawal { to, reply, until, undo });
        Some(match self.wallet.take_change() {
            Some(change) => Input::Wallet { change, publish: Some(tx.clone()), reply: None },
            // Nothing in it is the wallet's.
            None => Input::Offer { tx: tx.clone() },
        })
    }

    /// A transaction was refused: what making it changed is as before.
    pub(super) fn undo(&mut self, undo: Undo) {
        let (coins, blocks) = undo.leased;
        self.wallet.unreserve_inputs(&coins, blocks);
        if let Some(replaced) = undo.replaced {
            self.wallet.insert_unconfirmed(replaced);
        }
    }
}

fn shares_an_input(a: &Transaction, b: &Transaction) -> bool {
    a.input.iter().any(|one| b.input.iter().any(|other| one.previous_output == other.previous_output))
}
