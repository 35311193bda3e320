//! Transactions that need coins of the wallet: HTLC transactions with anchors, which pay nothing by themselves, and a
//! child that carries our unconfirmed commitment.
//!
//! In: a watch over our own commitment, the peer's signatures on its HTLC transactions. Out: orders to the wallet
//! ([`AttachOrder`]), and with its answer signed transactions. Orders are not kept: what has no coins when a node starts,
//! or was refused some, is ordered again at the next block. Without anchors the HTLC transactions are complete as the
//! peer signed them. Where coins are too few for each, several HTLC transactions share some (`split`).
//! Read next: `follow`.

use super::claim::{in_claims, raised, target, Claim, Form, Rest};
use super::split::{join, waits_for_coins};
use super::unlock::{pushed, UPSTREAM_BLOCKS};
use super::{Kind, Standing, Watch};
use crate::channel::{key_fault, Channel, Context, Out};
use crate::fault::LocalFault;
use crate::id::Side;
use crate::node::effect::{AttachOrder, Level, Unattached};
use crate::tx::commitment::{Commitment, HtlcTx};
use crate::tx::{amount, script, ChannelType};
use crate::units::{Feerate, Height, Sat};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use bitcoin::absolute::LockTime;
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use secp256k1::ecdsa::Signature;

/// HTLC transactions in one: each more makes all of them wait for the slowest.
pub(super) const MAX_HTLCS: usize = 20;
/// What an HTLC transaction weighs at least with a coin of the wallet and its change.
const FUNDED_WEIGHT: u64 = 1_100;
/// The weight of an anchor's witness: signature and script.
const ANCHOR_WITNESS: u64 = 1 + 74 + 41;

/// An HTLC transaction of our commitment and the peer's signature on it.
struct Ready {
    htlc: HtlcTx,
    signature: Signature,
}

impl Channel {
    /// HTLC transactions of our own commitment that are ripe and in no claim yet.
    pub(super) fn plan_htlcs(
        &self,
        watch: &mut Watch,
        cx: &Context<'_>,
        out: &mut Out,
    ) -> Result<(), LocalFault> {
        let waits = |o: &super::Output| o.kind == Kind::Htlc && o.spent.is_none() && o.born.is_some();
        if watch.owner != Side::Local || watch.standing != Standing::Valid || !watch.outputs.iter().any(waits)
        {
            return Ok(());
        }
        // BOLT 5 [5.local.3, 5.local.4].
        let (commitment, _) = self.signed_commitment(cx)?;
        if commitment.number != watch.number {
            return Ok(());
        }
        let taken = in_claims(watch);
        let mut groups: BTreeMap<Height, Vec<OutPoint>> = BTreeMap::new();
        for output in watch.outputs.iter().filter(|o| waits(o) && !taken.contains(&o.outpoint)) {
            let Some(ready) = self.ready_htlc(&commitment, output, cx) else { continue };
            match self.terms.channel_type {
                // Left until feerates fall: no wallet pays more for it than it holds.
                ChannelType::Anchors if output.amount <= cx.feerate_minimum.fee(FUNDED_WEIGHT) => {}
                ChannelType::Anchors => {
                    groups.entry(lock_time(&ready.htlc)).or_default().push(output.outpoint);
                }
                ChannelType::StaticRemotekey => {
                    let claim = self.htlc_alone(watch.next_claim, output.outpoint, &ready, watch, cx)?;
                    watch.next_claim = watch.next_claim.saturating_add(1);
                    watch.claims.extend(claim);
                }
            }
        }
        for (lock_time, all) in groups {
            for inputs in all.chunks(MAX_HTLCS) {
                let mut claim = empty(watch.next_claim, Form::HtlcFunded, inputs.to_vec(), cx);
                claim.lock_time = lock_time;
                claim.reveals = lock_time == Height(0);
                watch.next_claim = watch.next_claim.saturating_add(1);
                watch.claims.push(claim);
            }
        }
        for at in 0..watch.claims.len() {
            let wanted = |c: &&Claim| c.is_htlcs() && c.is_active(watch) && c.may_ask(cx);
            let Some(claim) = watch.claims.get(at).filter(wanted) else { continue };
            let Some(order) = self.order_htlcs(watch, claim, &commitment, cx) else { continue };
            out.attach.push(Box::new(order));
            if let Some(claim) = watch.claims.get_mut(at) {
                (claim.asked, claim.waits) = (Some(cx.tip), true);
            }
        }
        Ok(())
    }

    /// The HTLC transaction of `output`, when the next block may hold it.
    fn ready_htlc(&self, commitment: &Commitment, output: &super::Output, cx: &Context<'_>) -> Option<Ready> {
        let at = commitment.htlcs.iter().position(|h| h.vout == output.outpoint.vout)?;
        let htlc = commitment.htlcs.get(at)?.clone();
        let signature = *self.commits.htlc_signatures.get(at)?;
        // BOLT 5 [5.localoffer.2, 5.localtake.1].
        let ripe = if htlc.offered {
            cx.tip >= htlc.cltv_expiry
        } else {
            output.lock.as_ref().is_some_and(|lock| self.preimage_of(lock).is_some())
        };
        ripe.then_some(Ready { htlc, signature })
    }

    fn htlc_alone(
        &self,
        number: u32,
        outpoint: OutPoint,
        ready: &Ready,
        watch: &Watch,
        cx: &Context<'_>,
    ) -> Result<Option<Claim>, LocalFault> {
        // BOLT 5 [5.htlctx.4].
        let own = self.sign_htlc(ready.htlc.own_sighash(), watch, cx)?;
        let lock = watch.output(&outpoint).and_then(|o| o.lock.as_ref());
        let preimage = lock.and_then(|lock| self.preimage_of(lock));
        let Ok(tx) = ready.htlc.signed(&own, &ready.signature, preimage.as_ref()) else { return Ok(None) };
        let mut claim = empty(number, Form::HtlcAlone, [outpoint].into(), cx);
        claim.lock_time = lock_time(&ready.htlc);
        claim.reveals = !ready.htlc.offered;
        claim.txids.push(tx.compute_txid());
        claim.tx = Some(tx);
        Ok(Some(claim))
    }

    fn sign_htlc(&self, digest: [u8; 32], watch: &Watch, cx: &Context<'_>) -> Result<Signature, LocalFault> {
        let point = match watch.point {
            Some(point) => point,
            None => self.local_point(watch.number, cx.crypto)?,
        };
        let own = &self.terms.local.basepoints;
        let mut key = self.secrets.htlc_key(cx.crypto, own, &point).map_err(key_fault)?;
        let signature = cx.crypto.sign(&digest, &key);
        key.non_secure_erase();
        Ok(signature)
    }

    /// An order of coins for a claim that has none yet, or that is to be raised.
    fn order_htlcs(
        &self,
        watch: &Watch,
        claim: &Claim,
        commitment: &Commitment,
        cx: &Context<'_>,
    ) -> Option<AttachOrder> {
        // BOLT 5 [5.htlctx.3].
        let feerate = due(watch, claim, cx)?;
        let htlcs = claim.inputs.iter().filter_map(|i| find(commitment, i)).collect::<Vec<_>>();
        let witness = |h: &&HtlcTx| {
            let secret = if h.offered { 1 } else { 33 };
            2 + 2 * 74 + secret + pushed(h.witness_script.len() as u64)
        };
        let spent =
            |h: &&HtlcTx| TxOut { value: amount(h.amount), script_pubkey: script::p2wsh(&h.witness_script) };
        Some(AttachOrder {
            channel: self.id(),
            claim: claim.number,
            tx: unsigned_htlcs(&htlcs, claim)?,
            spent: htlcs.iter().map(spent).collect(),
            witness_weight: htlcs.iter().map(witness).sum(),
            feerate,
            lowest: cx.feerate_normal.min(feerate),
            parent: None,
            most: htlcs.iter().fold(Sat::ZERO, |sum, h| sum.saturating_add(h.amount)),
            replaces: claim.tx.clone(),
        })
    }

    /// A child for our commitment while that is in no block and pays less than it should.
    pub(super) fn plan_child(&self, watch: &mut Watch, cx: &Context<'_>, out: &mut Out) {
        // BOLT 5 [5.fail.5].
        let anchor = watch.outputs.iter().find(|o| o.kind == Kind::AnchorOwner);
        let (Some(anchor), Side::Local, None) = (anchor, watch.owner, watch.born()) else { return };
        if watch.standing != Standing::Valid {
            return;
        }
        let (outpoint, value) = (anchor.outpoint, anchor.amount);
        let outputs = watch.outputs.iter().fold(Sat::ZERO, |sum, o| sum.saturating_add(o.amount));
        let fee = self.terms.capacity.saturating_sub(outputs);
        let weight = watch.commitment.weight().to_wu();
        let locks = watch.outputs.iter().filter_map(|o| o.lock.as_ref());
        let first = locks.clone().map(|lock| lock.cltv_expiry.since(cx.tip)).min();
        let at_stake = locks.fold(Sat::ZERO, |sum, lock| sum.saturating_add(lock.amount.floor_sat()));
        let known = watch.claims.iter().position(|c| c.form == Form::Child);
        let at = match known {
            Some(at) => at,
            None if fee >= target(cx, first).fee(weight) => return,
            None => {
                let claim = empty(watch.next_claim, Form::Child, [outpoint].into(), cx);
                watch.next_claim = watch.next_claim.saturating_add(1);
                watch.claims.push(claim);
                watch.claims.len() - 1
            }
        };
        let Some(claim) = watch.claims.get(at).filter(|c| c.may_ask(cx)) else { return };
        let Some(feerate) = due(watch, claim, cx) else { return };
        let (number, replaces) = (claim.number, claim.tx.clone());
        let script = script::anchor(&self.terms.local.basepoints.funding_pubkey);
        let input = TxIn {
            previous_output: outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        };
        let tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: [input].into(),
            output: Vec::new(),
        };
        // In time is worth what is under way; without a deadline a tenth of what waits for its delay.
        let most = at_stake.max(Sat(self.to_us().floor_sat().0 / 10));
        if most == Sat::ZERO {
            return;
        }
        out.attach.push(Box::new(AttachOrder {
            channel: self.id(),
            claim: number,
            tx,
            spent: [TxOut { value: amount(value), script_pubkey: script::p2wsh(&script) }].into(),
            witness_weight: ANCHOR_WITNESS,
            feerate,
            lowest: feerate,
            parent: Some((weight, fee)),
            most,
            replaces,
        }));
        if let Some(claim) = watch.claims.get_mut(at) {
            (claim.asked, claim.waits) = (Some(cx.tip), true);
        }
    }

    /// The wallet's answer to an order.
    ///
    /// # Errors
    /// A fault of ours (keys, a wallet that changed what it was to keep).
    pub(crate) fn on_attached(
        &mut self,
        number: u32,
        result: Result<Transaction, Unattached>,
        spare_coins: u32,
        cx: &Context<'_>,
        out: &mut Out,
    ) -> Result<(), LocalFault> {
        // Each answer counts what those before it have left.
        for claim in self.watch.iter_mut().flat_map(|watch| &mut watch.claims) {
            claim.spare_coins = spare_coins;
            claim.waits &= claim.number != number;
        }
        let tx = match result {
            Ok(tx) => tx,
            Err(why) => {
                self.not_attached(number, why, cx, out);
                if let Some(watch) = &mut self.watch {
                    self.dirty.watch |= join(watch, number);
                }
                return self.order_joined(cx, out);
            }
        };
        let Some(mut watch) = self.watch.take() else {
            out.unreserve.push(tx.compute_txid());
            return Ok(());
        };
        let txid = tx.compute_txid();
        let done = self.complete(&mut watch, number, tx, cx, out);
        if !matches!(done, Ok(true)) {
            out.unreserve.push(txid);
        }
        self.dirty.watch = true;
        self.watch = Some(watch);
        done?;
        self.order_joined(cx, out)
    }

    /// Says why a claim has no coins: once, when it is not worth its fee; it then rests until feerates fall.
    fn not_attached(&mut self, number: u32, why: Unattached, cx: &Context<'_>, out: &mut Out) {
        let least = match why {
            Unattached::TooDear(least) => least,
            Unattached::NoCoins(why) => {
                let text = format!(
                    "no coins for the fee of a transaction that this channel needs on chain: {why}. Send coins to \
                     an address from newaddr; it is tried again at every block"
                );
                return out.notice(Level::Error, text);
            }
        };
        let Some(watch) = &mut self.watch else { return };
        let claims = watch.claims.iter_mut();
        let Some(claim) = claims.into_iter().find(|c| c.number == number) else { return };
        let news = claim.rests.is_none();
        claim.rests = Some(Rest::new(least, cx));
        if news {
            let text = format!(
                "{} would cost at least {least}, more than it is worth: it rests until feerates fall",
                claim.why()
            );
            out.notice(Level::Info, text);
        }
    }

    /// Orders coins for claims that were put together, once all answers are there.
    fn order_joined(&mut self, cx: &Context<'_>, out: &mut Out) -> Result<(), LocalFault> {
        let Some(watch) = &self.watch else { return Ok(()) };
        let joined = |c: &&Claim| c.form == Form::HtlcTogether && c.asked.is_none() && !c.is_current(watch);
        if watch.claims.iter().any(|c| joined(&c)) && !waits_for_coins(watch) {
            return self.plan(cx, out);
        }
        Ok(())
    }

    /// Signs our inputs; `false` when the claim is not wanted any more.
    fn complete(
        &self,
        watch: &mut Watch,
        number: u32,
        mut tx: Transaction,
        cx: &Context<'_>,
        out: &mut Out,
    ) -> Result<bool, LocalFault> {
        let Some(at) = watch.claims.iter().position(|c| c.number == number) else { return Ok(false) };
        let claim = watch.claims[at].clone();
        let ours = tx.input.iter().map(|i| i.previous_output).take(claim.inputs.len());
        if !claim.is_active(watch) || !ours.eq(claim.inputs.iter().copied()) {
            return Ok(false);
        }
        let witnesses = match claim.form {
            Form::Child => self.anchor_witness(&tx, cx).into_iter().collect(),
            _ => self.htlc_witnesses(watch, &claim, &tx, cx)?,
        };
        if witnesses.len() != claim.inputs.len() {
            return Ok(false);
        }
        for (input, witness) in tx.input.iter_mut().zip(witnesses) {
            input.witness = witness;
        }
        out.publish.push((tx.clone(), claim.why()));
        let feerate = due(watch, &claim, cx);
        if let Some(claim) = watch.claims.get_mut(at) {
            claim.txids.push(tx.compute_txid());
            claim.kept = false;
            claim.feerate = claim.feerate.max(feerate.unwrap_or(claim.feerate));
            claim.tx = Some(tx);
            claim.rests = None;
            claim.last = cx.tip;
        }
        Ok(true)
    }

    fn anchor_witness(&self, tx: &Transaction, cx: &Context<'_>) -> Option<Witness> {
        let script = script::anchor(&self.terms.local.basepoints.funding_pubkey);
        let kind = EcdsaSighashType::All;
        let value = amount(crate::tx::weight::ANCHOR_SAT);
        let digest = SighashCache::new(tx).p2wsh_signature_hash(0, &script, value, kind).ok()?;
        let signature = cx.crypto.sign(digest.as_ref(), &self.secrets.funding);
        let mut witness = Witness::new();
        witness.push_ecdsa_signature(&script::witness_signature(&signature, kind));
        witness.push(script.as_bytes());
        Some(witness)
    }

    fn htlc_witnesses(
        &self,
        watch: &Watch,
        claim: &Claim,
        tx: &Transaction,
        cx: &Context<'_>,
    ) -> Result<Vec<Witness>, LocalFault> {
        let (commitment, _) = self.signed_commitment(cx)?;
        let mut witnesses = Vec::new();
        for (index, outpoint) in claim.inputs.iter().enumerate() {
            let at = commitment.htlcs.iter().position(|h| h.vout == outpoint.vout);
            let signature = at.and_then(|at| self.commits.htlc_signatures.get(at));
            let (Some(htlc), Some(theirs)) = (at.and_then(|at| commitment.htlcs.get(at)), signature) else {
                continue;
            };
            // BOLT 5 [5.htlctx.2].
            let kind = EcdsaSighashType::All;
            let mut cache = SighashCache::new(tx);
            let hash = cache.p2wsh_signature_hash(index, &htlc.witness_script, amount(htlc.amount), kind);
            let Ok(hash) = hash else { continue };
            let own = self.sign_htlc(*hash.as_ref(), watch, cx)?;
            let lock = watch.output(outpoint).and_then(|o| o.lock.as_ref());
            let preimage = lock.and_then(|lock| self.preimage_of(lock));
            witnesses.extend(htlc.witness(&own, theirs, preimage.as_ref()));
        }
        Ok(witnesses)
    }
}

/// How many blocks are left until the peer can take the first of what depends on this claim.
pub(super) fn left(watch: &Watch, claim: &Claim, cx: &Context<'_>) -> Option<u32> {
    let locks =
        watch.outputs.iter().filter(|o| claim.form == Form::Child || claim.inputs.contains(&o.outpoint));
    let expiry = locks.filter_map(|o| o.lock.as_ref()).map(|lock| lock.cltv_expiry).min()?;
    // What is taken back after its expiry should be ours before its own payer takes it back from us.
    let timeout = claim.form != Form::Child && claim.lock_time > Height(0);
    let deadline = if timeout { expiry.plus(UPSTREAM_BLOCKS) } else { expiry };
    Some(deadline.since(cx.tip))
}

/// The feerate to order at, when it is time to.
fn due(watch: &Watch, claim: &Claim, cx: &Context<'_>) -> Option<Feerate> {
    let left = left(watch, claim, cx);
    if claim.is_current(watch) {
        return raised(claim, left, cx);
    }
    Some(target(cx, left).max(claim.feerate))
}

fn find<'a>(commitment: &'a Commitment, outpoint: &OutPoint) -> Option<&'a HtlcTx> {
    commitment.htlcs.iter().find(|h| h.vout == outpoint.vout)
}

/// All HTLC transactions of a claim in one: input and output of each share an index, as the peer's signature asks.
fn unsigned_htlcs(htlcs: &[&HtlcTx], claim: &Claim) -> Option<Transaction> {
    let input: Option<Vec<TxIn>> = htlcs.iter().map(|h| h.tx.input.first().cloned()).collect();
    let output: Option<Vec<TxOut>> = htlcs.iter().map(|h| h.tx.output.first().cloned()).collect();
    Some(Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(claim.lock_time.0),
        input: input?,
        output: output?,
    })
}

/// The lock time of an HTLC transaction.
const fn lock_time(htlc: &HtlcTx) -> Height {
    if htlc.offered {
        htlc.cltv_expiry
    } else {
        Height(0)
    }
}

fn empty(number: u32, form: Form, inputs: Vec<OutPoint>, cx: &Context<'_>) -> Claim {
    Claim {
        number,
        form,
        inputs,
        lock_time: Height(0),
        tx: None,
        feerate: Feerate(0),
        fee: Sat::ZERO,
        txids: Vec::new(),
        reveals: false,
        kept: false,
        asked: None,
        spare_coins: 0,
        waits: false,
        rests: None,
        last: cx.tip,
        refusals: 0,
    }
}
