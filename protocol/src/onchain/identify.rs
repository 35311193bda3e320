//! Whose commitment a transaction is, which of thousands, and what each of its outputs is.
//!
//! In: the transaction that spent the funding output. Out: a [`Watch`]. The number stands, obscured, in the
//! transaction; the outputs are found by their scripts, which follow from keys and from the HTLCs that this commitment
//! held: balances and feerates of old states need not be kept. Read next: `unlock`.

use super::{Kind, Lock, Output, Standing, Watch};
use crate::channel::htlc::Span;
use crate::channel::{key_fault, Channel, Context};
use crate::fault::LocalFault;
use crate::id::Side;
use crate::tx::commitment::commitment_number;
use crate::tx::keys::CommitmentKeys;
use crate::tx::script::{self, HtlcScripts};
use crate::units::{Height, Sat};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use bitcoin::{OutPoint, ScriptBuf, Transaction};
use secp256k1::PublicKey;

/// An HTLC that a script may stand for, and which commitments held it.
struct Candidate {
    lock: Lock,
    span: Span,
}

impl Channel {
    /// Recognises a commitment of either side; `None` when `tx` is none of this channel's.
    ///
    /// # Errors
    /// A fault of ours (keys).
    pub fn identify(
        &self,
        tx: &Transaction,
        height: Option<Height>,
        cx: &Context<'_>,
    ) -> Result<Option<Watch>, LocalFault> {
        // BOLT 2, 5 [2.again.39, 5.remote.1].
        let Some(number) = commitment_number(tx, self.terms.obscure()) else { return Ok(None) };
        let theirs = self.their_point(number, cx)?;
        let mut best = self.watch(tx, Side::Remote, number, theirs, height, cx)?;
        // Our points follow from the seed: of a lost channel any of our commitments can be told.
        if number <= self.commits.local_number || self.is_lost() {
            let ours = Some(self.local_point(number, cx.crypto)?);
            let local = self.watch(tx, Side::Local, number, ours, height, cx)?;
            // Anchors look the same from both sides; scripts with keys of one commitment do not.
            if known(&local) > known(&best) {
                best = local;
            }
        }
        Ok(Some(best))
    }

    /// The point of the peer's commitment `number`, as far as this node can know it.
    fn their_point(&self, number: u64, cx: &Context<'_>) -> Result<Option<PublicKey>, LocalFault> {
        let commits = &self.commits;
        if self.is_lost() {
            return Ok(None);
        }
        if number < commits.remote_number {
            return Ok(self.their_secret(number).map(|secret| cx.crypto.public_key(&secret)));
        }
        Ok(match number - commits.remote_number {
            0 => Some(commits.remote_point),
            1 if commits.awaiting_revoke => commits.remote_next_point,
            _ => None,
        })
    }

    /// The secret by which the peer gave its commitment `number` up.
    pub(crate) fn their_secret(&self, number: u64) -> Option<secp256k1::SecretKey> {
        self.commits.remote_secrets.get(number)
    }

    fn standing(&self, owner: Side, number: u64) -> Standing {
        let (newest, signed) = match owner {
            Side::Local => (self.commits.local_number, self.commits.local_number),
            Side::Remote => {
                let number = self.commits.remote_number;
                (number, number + u64::from(self.commits.awaiting_revoke))
            }
        };
        match number {
            _ if self.is_lost() => Standing::Ahead,
            n if n < newest => Standing::Revoked,
            n if n <= signed => Standing::Valid,
            _ => Standing::Ahead,
        }
    }

    fn watch(
        &self,
        tx: &Transaction,
        owner: Side,
        number: u64,
        point: Option<PublicKey>,
        height: Option<Height>,
        cx: &Context<'_>,
    ) -> Result<Watch, LocalFault> {
        let keys = match point {
            Some(point) => Some(self.keys_at(owner, &point, cx)?),
            None => None,
        };
        let mut scripts = self.plain_scripts(owner, keys.as_ref());
        let mut htlcs = keys.as_ref().map(|k| self.htlc_scripts(owner, number, k)).unwrap_or_default();
        let txid = tx.compute_txid();
        let output = |(vout, out): (u32, &bitcoin::TxOut)| {
            let amount = Sat(out.value.to_sat());
            let lock = htlcs.get_mut(&(out.script_pubkey.clone(), amount)).and_then(Vec::pop);
            let kind = match &lock {
                Some(_) => Kind::Htlc,
                None => scripts.remove(&out.script_pubkey).unwrap_or(Kind::Unknown),
            };
            Output { outpoint: OutPoint { txid, vout }, amount, kind, lock, born: height, spent: None }
        };
        let outputs = (0..).zip(&tx.output).map(output).collect();
        Ok(Watch {
            commitment: tx.clone(),
            owner,
            standing: self.standing(owner, number),
            number,
            point,
            outputs,
            claims: Vec::new(),
            next_claim: 0,
        })
    }

    /// The keys of a commitment on chain.
    pub(super) fn keys_at(
        &self,
        owner: Side,
        point: &PublicKey,
        cx: &Context<'_>,
    ) -> Result<CommitmentKeys, LocalFault> {
        let (own, other) = (self.terms.party(owner), self.terms.party(owner.other()));
        cx.crypto.commitment_keys(&own.basepoints, &other.basepoints, point).map_err(key_fault)
    }

    /// The script of `to_local` and of second-level outputs on `owner`'s commitments.
    pub(super) fn delayed_script(&self, owner: Side, keys: &CommitmentKeys) -> ScriptBuf {
        script::to_local(&keys.revocation, &keys.delayed, self.delay_of(owner))
    }

    /// How long, in blocks, `owner` waits for its own outputs: the seed's rule, who closes waits.
    pub(crate) fn delay_of(&self, owner: Side) -> u16 {
        self.terms.party(owner.other()).to_self_delay
    }

    fn plain_scripts(&self, owner: Side, keys: Option<&CommitmentKeys>) -> BTreeMap<ScriptBuf, Kind> {
        let (own, other) = (self.terms.party(owner), self.terms.party(owner.other()));
        let mut scripts = BTreeMap::new();
        if let Some(keys) = keys {
            scripts.insert(script::p2wsh(&self.delayed_script(owner, keys)), Kind::ToLocal);
        }
        let to_remote =
            script::to_remote_output(self.terms.channel_type, &other.basepoints.payment_basepoint);
        scripts.insert(to_remote, Kind::ToRemote);
        if self.terms.channel_type.is_anchors() {
            let anchor = |party: &crate::channel::terms::Party| {
                script::p2wsh(&script::anchor(&party.basepoints.funding_pubkey))
            };
            scripts.insert(anchor(own), Kind::AnchorOwner);
            scripts.insert(anchor(other), Kind::AnchorOther);
        }
        scripts
    }

    /// The HTLCs that the commitment may hold, by script and amount. Two that are alike in both stand in the order of
    /// their expiry (BOLT 3, "Transaction Output Ordering"), the first to be taken last in its list.
    fn htlc_scripts(
        &self,
        owner: Side,
        number: u64,
        keys: &CommitmentKeys,
    ) -> BTreeMap<(ScriptBuf, Sat), Vec<Lock>> {
        let scripts = HtlcScripts::new(self.terms.channel_type, keys);
        let mut found: BTreeMap<(ScriptBuf, Sat), Vec<Lock>> = BTreeMap::new();
        for candidate in self.candidates().filter(|c| c.span.holds(owner, number)) {
            let lock = candidate.lock;
            let witness_script = htlc_script(&scripts, owner, &lock);
            found.entry((script::p2wsh(&witness_script), lock.amount.floor_sat())).or_default().push(lock);
        }
        for locks in found.values_mut() {
            locks.sort_by_key(|lock| core::cmp::Reverse((lock.cltv_expiry, lock.id.id)));
        }
        found
    }

    fn candidates(&self) -> impl Iterator<Item = Candidate> + '_ {
        let live = self.ledger.htlcs.values().map(|h| Candidate {
            lock: Lock {
                id: h.id,
                amount: h.amount,
                payment_hash: h.payment_hash,
                cltv_expiry: h.cltv_expiry,
                preimage: None,
            },
            span: h.span,
        });
        let past = self.past().iter().map(|p| Candidate {
            lock: Lock {
                id: p.id,
                amount: p.amount,
                payment_hash: p.payment_hash,
                cltv_expiry: p.cltv_expiry,
                preimage: None,
            },
            span: p.span,
        });
        live.chain(past)
    }
}

/// The witness script of an HTLC output on `owner`'s commitment.
pub(crate) fn htlc_script(scripts: &HtlcScripts, owner: Side, lock: &Lock) -> ScriptBuf {
    if lock.id.offered_by == owner {
        scripts.offered(&lock.payment_hash)
    } else {
        scripts.received(&lock.payment_hash, lock.cltv_expiry)
    }
}

/// How many outputs say whose commitment it is.
fn known(watch: &Watch) -> usize {
    let telling = |kind| matches!(kind, Kind::ToLocal | Kind::ToRemote | Kind::Htlc);
    watch.outputs.iter().filter(|o| telling(o.kind)).count()
}
