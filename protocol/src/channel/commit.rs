//! Signing the next snapshot and invalidating the last (RSMC; BOLT 2, "Committing Updates So Far", "Completing the
//! Transition to the Updated State").
//!
//! In: updates that gathered in the ledger, `commitment_signed`, `revoke_and_ack`. Out: the same, and a ledger one
//! step on. A received commitment is verified, kept and answered with the revocation of the one before in a single
//! step: there is no moment with two valid commitments of ours.
//! Updates gather while the peer's revocation is awaited; then one signature covers them all.
//! Read next: `resume`.

use crate::channel::htlc::{Removal, Step};
use crate::channel::ledger::View;
use crate::channel::{key_fault, Channel, ChannelEvent, Context, Out, Phase};
use crate::fault::{local, LocalFault, PeerFault, Trouble};
use crate::id::{HtlcId, Side};
use crate::sign::{SignJob, VerifyJob};
use crate::tx::commitment::{build, Commitment, Spec};
use crate::tx::shachain::SecretStore;
use crate::units::{Feerate, Msat};
use crate::wire::message::{CommitmentSigned, RevokeAndAck};
use crate::wire::Message;
use alloc::format;
use alloc::vec::Vec;
use secp256k1::ecdsa::Signature;
use secp256k1::{PublicKey, SecretKey};
use serde::{Deserialize, Serialize};

/// Snapshots that are kept for `listsnapshots`, at least.
pub const MAX_SNAPSHOTS: usize = 10_000;
/// So many of the oldest go at once.
const SNAPSHOTS_AT_ONCE: usize = 1_000;

/// Both chains of commitments: numbers, points, signatures.
#[derive(Clone, Debug)]
pub struct Commits {
    /// The number of our newest commitment: signed by the peer, all before it revoked by us.
    pub local_number: u64,
    /// The number of the peer's newest commitment that is not revoked.
    pub remote_number: u64,
    /// We signed the peer's commitment `remote_number + 1` and wait for its revocation of `remote_number`.
    pub awaiting_revoke: bool,
    /// Of our last `commitment_signed` and `revoke_and_ack`, the former was sent later.
    pub commit_was_last: bool,
    /// The point of the peer's commitment `remote_number`.
    pub remote_point: PublicKey,
    /// The point of the one after; known from `channel_ready` on.
    pub remote_next_point: Option<PublicKey>,
    /// The peer's signature on our newest commitment.
    pub signature: Signature,
    /// Its signatures on that commitment's HTLC transactions, in output order.
    pub htlc_signatures: Vec<Signature>,
    /// Every secret the peer revealed.
    pub remote_secrets: SecretStore,
    /// Each snapshot of ours that was signed, oldest first.
    pub snapshots: Vec<SnapshotEntry>,
}

/// What is kept of one signed snapshot; its HTLCs are found by their [`Span`](crate::channel::htlc::Span).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SnapshotEntry {
    /// Our commitment's number.
    pub number: u64,
    /// The peer's newest commitment at that time.
    pub their_number: u64,
    /// Ours.
    pub local: Msat,
    /// Theirs.
    pub remote: Msat,
    /// Its feerate.
    pub feerate: Feerate,
    /// When it was signed.
    pub time_s: u64,
}

/// A verified next commitment of ours, and what revokes the one before.
struct Verified {
    signature: Signature,
    htlc_signatures: Vec<Signature>,
    entry: SnapshotEntry,
    secret: SecretKey,
    next_point: PublicKey,
}

impl Channel {
    /// Builds a commitment: number `number` of `owner`, of the snapshot `spec`, at the owner's `point`.
    pub(crate) fn build_commitment(
        &self,
        owner: Side,
        number: u64,
        point: &PublicKey,
        spec: &Spec,
        cx: &Context<'_>,
    ) -> Result<Commitment, LocalFault> {
        let keys = self.commitment_keys(owner, point, cx.crypto)?;
        build(&self.terms.commitment_terms(owner), &keys, number, spec).map_err(local)
    }

    /// Our newest commitment with both signatures: what a force close publishes.
    ///
    /// # Errors
    /// A fault of ours.
    pub fn signed_commitment(
        &self,
        cx: &Context<'_>,
    ) -> Result<(Commitment, bitcoin::Transaction), LocalFault> {
        let number = self.commits.local_number;
        let point = self.local_point(number, cx.crypto)?;
        let spec = self.spec(View::Signed(Side::Local))?;
        let commitment = self.build_commitment(Side::Local, number, &point, &spec, cx)?;
        let own = cx.crypto.sign(&commitment.sighash(), &self.secrets.funding);
        let tx = commitment.with_signatures(&own, &self.commits.signature);
        Ok((commitment, tx))
    }

    pub(crate) fn spec(&self, view: View) -> Result<Spec, LocalFault> {
        let spec = self.ledger.spec(view, self.terms.opener);
        spec.ok_or_else(|| local("a balance of the channel's ledger is negative"))
    }

    /// Signs the peer's next commitment when there is news and no revocation is awaited.
    pub(crate) fn flush_commitment(&mut self, cx: &Context<'_>, out: &mut Out) -> Result<(), LocalFault> {
        let active = self.ready == (true, true) && matches!(self.phase, Phase::Open | Phase::Closing(_));
        if !active || self.commits.awaiting_revoke || self.doubt {
            return Ok(());
        }
        // "MUST NOT send a commitment_signed message that does not include any updates."
        // BOLT 2 [2.commit.1].
        if !self.ledger.has_news_for(Side::Local, self.terms.opener) {
            return Ok(());
        }
        let Some(point) = self.commits.remote_next_point else { return Ok(()) };
        let spec = self.spec(View::Next(Side::Remote))?;
        let number = self.commits.remote_number + 1;
        let (message, commitment) = self.sign_commitment(number, &point, &spec, cx)?;
        self.note_for_towers(&commitment, cx)?;
        self.apply_sent_commitment(number);
        self.send(message, out);
        Ok(())
    }

    /// Signs commitment `number` of the peer and its HTLC transactions.
    pub(crate) fn sign_commitment(
        &self,
        number: u64,
        point: &PublicKey,
        spec: &Spec,
        cx: &Context<'_>,
    ) -> Result<(Message, Commitment), LocalFault> {
        // BOLT 2 [2.commit.2].
        let commitment = self.build_commitment(Side::Remote, number, point, spec, cx)?;
        let signature = cx.crypto.sign(&commitment.sighash(), &self.secrets.funding);
        let htlc_signatures = if commitment.htlcs.is_empty() {
            Vec::new()
        } else {
            let own = &self.terms.local.basepoints;
            let key = self.secrets.htlc_key(cx.crypto, own, point).map_err(key_fault)?;
            let jobs: Vec<SignJob> =
                commitment.htlc_sighashes().into_iter().map(|digest| SignJob { digest, key }).collect();
            cx.crypto.sign_batch(&jobs)
        };
        let message = CommitmentSigned { channel_id: self.id(), signature, htlc_signatures };
        Ok((Message::CommitmentSigned(message), commitment))
    }

    fn apply_sent_commitment(&mut self, number: u64) {
        let dirty = &mut self.dirty;
        for htlc in self.ledger.htlcs.values_mut() {
            if let Some(next) = htlc.step.after_commit(htlc.id.offered_by, Side::Local) {
                htlc.step = next;
                htlc.span.note(Side::Remote, number, next <= Step::AddAckRevocation);
                dirty.htlc(htlc.id);
            }
        }
        for fee in &mut self.ledger.fees {
            fee.step = fee.step.after_commit(self.terms.opener, Side::Local).unwrap_or(fee.step);
        }
        for (_, committed) in &mut self.log {
            *committed = true;
        }
        self.commits.awaiting_revoke = true;
        self.commits.commit_was_last = true;
        self.dirty.state = true;
    }

    /// `commitment_signed`.
    pub(crate) fn on_commitment_signed(
        &mut self,
        m: CommitmentSigned,
        cx: &Context<'_>,
        out: &mut Out,
    ) -> Result<(), Trouble> {
        let verified = self.check_commitment(m, cx)?;
        if cx.dev {
            out.dev_revoked.push((self.commits.local_number, self.signed_commitment(cx)?.1));
        }
        self.apply_commitment(verified, out);
        Ok(())
    }

    fn check_commitment(&self, m: CommitmentSigned, cx: &Context<'_>) -> Result<Verified, Trouble> {
        if self.ready != (true, true) || !matches!(self.phase, Phase::Open | Phase::Closing(_)) {
            return Err(PeerFault::disconnect("commitment_signed outside of normal operation").into());
        }
        let Some(spec) = self.ledger.spec(View::Next(Side::Local), self.terms.opener) else {
            return Err(PeerFault::disconnect("commitment_signed: a balance would be negative").into());
        };
        let number = self.commits.local_number + 1;
        let point = self.local_point(number, cx.crypto)?;
        let commitment = self.build_commitment(Side::Local, number, &point, &spec, cx)?;
        let digests = commitment.htlc_sighashes();
        // "if num_htlcs is not equal to the number of HTLC outputs" (BOLT 2).
        // BOLT 2 [2.commit.10].
        if digests.len() != m.htlc_signatures.len() {
            let (got, want) = (m.htlc_signatures.len(), digests.len());
            let what = format!("commitment_signed {number}: {got} HTLC signatures for {want} outputs");
            return Err(PeerFault::disconnect(what).into());
        }
        let mut jobs = Vec::with_capacity(1 + digests.len());
        jobs.push(VerifyJob {
            digest: commitment.sighash(),
            signature: m.signature,
            key: self.terms.remote.basepoints.funding_pubkey,
        });
        let key = commitment.keys().other_htlc;
        jobs.extend(digests.into_iter().zip(&m.htlc_signatures).map(|(digest, signature)| VerifyJob {
            digest,
            signature: *signature,
            key,
        }));
        // BOLT 2 [2.commit.9, 2.commit.11].
        if !cx.crypto.verify_batch(&jobs) {
            // The next line is the whole defence of our money: nothing is kept of what is not signed.
            return Err(PeerFault::disconnect(format!("commitment_signed {number}: bad signature")).into());
        }
        Ok(Verified {
            signature: m.signature,
            htlc_signatures: m.htlc_signatures,
            entry: SnapshotEntry {
                number,
                their_number: self.commits.remote_number + u64::from(self.commits.awaiting_revoke),
                local: spec.to_owner,
                remote: spec.to_other,
                feerate: spec.feerate,
                time_s: cx.now.seconds(),
            },
            // BOLT 2 [2.revoke.1].
            secret: self.secrets.per_commitment_secret(number - 1).map_err(key_fault)?,
            // BOLT 2 [2.revoke.2].
            next_point: self.local_point(number + 1, cx.crypto)?,
        })
    }

    fn apply_commitment(&mut self, v: Verified, out: &mut Out) {
        // BOLT 2 [2.commit.20, 2.revoke.3].
        let number = v.entry.number;
        let dirty = &mut self.dirty;
        for htlc in self.ledger.htlcs.values_mut() {
            let by = htlc.id.offered_by;
            if let Some(next) = htlc.step.after_commit(by, Side::Remote) {
                htlc.span.note(Side::Local, number, next <= Step::AddAckRevocation);
                // The revocation goes out in the same step.
                htlc.step = next.after_revoke(by, Side::Local).unwrap_or(next);
                if next == Step::AddCommit {
                    dirty.onion(htlc.id);
                }
                dirty.htlc(htlc.id);
            }
        }
        // What an earlier commitment of theirs left to be revoked by us cannot be: both happen together.
        for fee in &mut self.ledger.fees {
            if let Some(next) = fee.step.after_commit(self.terms.opener, Side::Remote) {
                fee.step = next.after_revoke(self.terms.opener, Side::Local).unwrap_or(next);
            }
        }
        self.ledger.merge_fees();
        self.commits.local_number = number;
        self.commits.signature = v.signature;
        self.commits.htlc_signatures = v.htlc_signatures;
        self.commits.commit_was_last = false;
        self.commits.snapshots.push(v.entry);
        self.forget_old_snapshots();
        self.dirty.state = true;
        self.dirty.signatures = true;
        self.dirty.snapshots.push(v.entry);
        self.send(
            Message::RevokeAndAck(RevokeAndAck {
                channel_id: self.id(),
                per_commitment_secret: v.secret,
                next_per_commitment_point: v.next_point,
            }),
            out,
        );
        self.retire(out);
    }

    /// Old snapshots are for people only: a penalty is found without them.
    fn forget_old_snapshots(&mut self) {
        let snapshots = &mut self.commits.snapshots;
        if snapshots.len() >= MAX_SNAPSHOTS + SNAPSHOTS_AT_ONCE {
            let old = snapshots.drain(..SNAPSHOTS_AT_ONCE).map(|entry| entry.number);
            self.dirty.snapshots_gone.extend(old);
        }
    }

    /// The revocation of our commitment before the newest, to be said again after a cut.
    pub(crate) fn last_revocation(&self, cx: &Context<'_>) -> Result<Message, LocalFault> {
        let number = self.commits.local_number;
        let revoked = number.checked_sub(1).ok_or_else(|| local("nothing was revoked yet"))?;
        Ok(Message::RevokeAndAck(RevokeAndAck {
            channel_id: self.id(),
            per_commitment_secret: self.secrets.per_commitment_secret(revoked).map_err(key_fault)?,
            next_per_commitment_point: self.local_point(number + 1, cx.crypto)?,
        }))
    }

    /// `revoke_and_ack`.
    pub(crate) fn on_revoke_and_ack(
        &mut self,
        m: &RevokeAndAck,
        cx: &Context<'_>,
        out: &mut Out,
    ) -> Result<(), Trouble> {
        let (store, slot) = self.check_revocation(m, cx)?;
        self.apply_revocation(m, store, slot, out);
        Ok(())
    }

    fn check_revocation(&self, m: &RevokeAndAck, cx: &Context<'_>) -> Result<(SecretStore, u8), PeerFault> {
        if !self.commits.awaiting_revoke {
            return Err(PeerFault::disconnect("revoke_and_ack: nothing is to be revoked"));
        }
        let number = self.commits.remote_number;
        // "if per_commitment_secret is not a valid secret key or does not generate the previous
        // per_commitment_point: MUST send an error and fail the channel."
        // BOLT 2 [2.revoke.4].
        if cx.crypto.public_key(&m.per_commitment_secret) != self.commits.remote_point {
            return Err(PeerFault::fail(format!("revoke_and_ack: not the secret of commitment {number}")));
        }
        let mut store = self.commits.remote_secrets.clone();
        let slot = store.insert(number, &m.per_commitment_secret).map_err(|_| {
            PeerFault::fail(format!("revoke_and_ack {number}: secret does not match those before"))
        })?;
        Ok((store, slot))
    }

    fn apply_revocation(&mut self, m: &RevokeAndAck, store: SecretStore, slot: u8, out: &mut Out) {
        self.commits.remote_secrets = store;
        self.dirty.secret_slots.push(slot);
        self.commits.remote_number += 1;
        if let Some(next) = self.commits.remote_next_point.replace(m.next_per_commitment_point) {
            self.commits.remote_point = next;
        }
        self.commits.awaiting_revoke = false;
        out.tower = self.towered().is_some();
        self.log.retain(|(_, committed)| !committed);
        let dirty = &mut self.dirty;
        for htlc in self.ledger.htlcs.values_mut() {
            let by = htlc.id.offered_by;
            if let Some(next) = htlc.step.after_revoke(by, Side::Remote) {
                htlc.step = next;
                dirty.htlc(htlc.id);
                if next == Step::AddAckRevocation {
                    self.stats.in_offered += 1;
                    self.stats.in_offered_msat = self.stats.in_offered_msat.saturating_add(htlc.amount);
                    out.events.push(ChannelEvent::LockedIn(htlc.id));
                } else if next == Step::AddRevocation {
                    // The peer has it for good: the onion need never be told again.
                    (htlc.onion, htlc.path_key) = (None, None);
                    dirty.onion_gone(htlc.id);
                }
            }
        }
        for fee in &mut self.ledger.fees {
            fee.step = fee.step.after_revoke(self.terms.opener, Side::Remote).unwrap_or(fee.step);
        }
        self.dirty.state = true;
        self.retire(out);
    }

    /// Moves what both commitments have left behind into the settled balances.
    fn retire(&mut self, out: &mut Out) {
        let done: Vec<HtlcId> = self
            .ledger
            .htlcs
            .values()
            .filter(|h| h.step == Step::RemoveAckRevocation)
            .map(|h| h.id)
            .collect();
        for id in done {
            let Some(htlc) = self.ledger.htlcs.remove(&id) else { continue };
            let fulfilled = htlc.removal.as_ref().is_some_and(Removal::is_fulfilled);
            if fulfilled {
                self.move_settled(id.offered_by, htlc.amount);
            }
            if id.offered_by == Side::Local {
                if fulfilled {
                    self.stats.out_fulfilled += 1;
                    self.stats.out_fulfilled_msat = self.stats.out_fulfilled_msat.saturating_add(htlc.amount);
                } else if let Some(removal) = htlc.removal.clone() {
                    out.events.push(ChannelEvent::Failed { id, removal });
                }
            }
            self.dirty.gone(&htlc);
        }
        if let Some(last) = self.ledger.fees.iter().rposition(|f| f.step >= Step::AddAckRevocation) {
            self.ledger.feerate = self.ledger.fees[last].feerate;
            self.ledger.fees.drain(..=last);
            self.dirty.state = true;
        }
    }

    /// An HTLC of `from` was settled: its amount changes sides. The ledger held it back from `from` all along,
    /// so the subtraction cannot fail; were it to, the next snapshot would not add up and nothing would be signed.
    fn move_settled(&mut self, from: Side, amount: Msat) {
        let settled = &mut self.ledger.settled;
        let (payer, payee) = match from {
            Side::Local => (&mut settled.local, &mut settled.remote),
            Side::Remote => (&mut settled.remote, &mut settled.local),
        };
        if let (Some(less), Some(more)) = (payer.checked_sub(amount), payee.checked_add(amount)) {
            *payer = less;
            *payee = more;
        }
        let ours = self.ledger.settled.local;
        self.extremes = (self.extremes.0.min(ours), self.extremes.1.max(ours));
        self.dirty.state = true;
    }
}
