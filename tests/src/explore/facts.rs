//! What is known of one node's state, and what must hold of it alone.
//!
//! In: a node, its disk, the step that led here. Out: [`Facts`], small enough to be looked at in every state of the
//! world; or a verdict. The judges here: `store` (the disk holds exactly the node), `restart` (who comes back from it
//! is the same), `money` (it adds up in every view), `safety` (only what is revoked is revealed), `durable` (what is
//! said is kept), `agree` (the newest commitment is signed by the peer).
//! Read next: `world`.

use super::start::{Payment, Start};
use super::Verdict;
use crate::duet::other;
use bitcoin::{ScriptBuf, Transaction, Txid};
use chand_protocol::channel::ledger::View;
use chand_protocol::channel::{Channel, Context, Link, Phase};
use chand_protocol::entropy::Entropy;
use chand_protocol::id::{ChannelId, CommandId, Preimage, Side};
use chand_protocol::node::command::{Command, InvoiceFilter, Reply};
use chand_protocol::node::effect::{After, Input};
use chand_protocol::node::{step, Node};
use chand_protocol::record::{encode, Kind};
use chand_protocol::sign::{Crypto, VerifyJob};
use chand_protocol::store::{Entry, Journal};
use chand_protocol::tx::commitment::{build, Commitment, Spec};
use chand_protocol::tx::keys::CommitmentKeys;
use chand_protocol::units::{Feerate, Height, Msat, Timestamp};
use chand_protocol::wire::Message;
use chand_storage::MemoryStore;
use secp256k1::PublicKey;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// How far a payment is, told by one of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Stand {
    /// The payer never tried; the payee has seen no money.
    #[default]
    Nothing,
    /// It waits at the payer for its turn.
    Waiting,
    /// On its way.
    Pending,
    /// The payee has the money and waits for an order.
    Held,
    /// Paid.
    Done,
    /// Given back, or given up.
    Over,
}

/// Where a close stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Closing {
    /// Nobody closes.
    Not,
    /// `shutdown` was sent or received, or is to be.
    Begun,
    /// Agreed: the transaction, in 64 bits.
    Agreed(u64),
}

/// A transaction's name in 64 bits.
pub fn name_of(tx: &Transaction) -> u64 {
    short(tx.compute_txid().as_ref())
}

/// Where a node's close stands.
///
/// # Errors
/// `peace`, when it closed by force.
pub fn closing_of(node: &Node, id: ChannelId) -> Result<Closing, Verdict> {
    match &channel_of(node, id)?.phase {
        Phase::Open => Ok(Closing::Not),
        Phase::Closing(_) => Ok(Closing::Begun),
        Phase::Closed(closed) => Ok(Closing::Agreed(name_of(&closed.tx))),
        other => Err(Verdict::new("peace", format!("the channel is {other:?}"))),
    }
}

/// What is published is what was agreed on and kept.
///
/// # Errors
/// `durable`.
pub fn judge_published(published: &[u64], kept: Closing) -> Result<(), Verdict> {
    match published.last() {
        Some(tx) if kept != Closing::Agreed(*tx) => {
            Err(Verdict::new("durable", "a closing transaction was published that is not on disk"))
        }
        _ => Ok(()),
    }
}

/// What the world needs to know of a node's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// The number of its newest commitment.
    pub local: u64,
    /// The number of the peer's newest that is not revoked.
    pub remote: u64,
    /// It signed the one after that.
    pub awaiting: bool,
    /// `channel_reestablish` was exchanged.
    pub up: bool,
    /// HTLCs may be offered.
    pub usable: bool,
    /// Something is still to be signed.
    pub news: bool,
    /// Where a close stands.
    pub closing: Closing,
    /// HTLCs not yet forgotten.
    pub htlcs: u8,
    /// The feerate of its own newest commitment.
    pub feerate: Feerate,
    /// Its money, pending HTLCs of its own included.
    pub to_us: Msat,
    /// The most it could offer in one HTLC.
    pub spendable: Msat,
    /// Its own newest commitment: snapshot and transaction.
    pub own: u64,
    /// The peer's newest that it signed: snapshot and transaction.
    pub theirs: u64,
    /// The name of its own newest commitment.
    pub own_tx: Txid,
    /// The name of the peer's newest that it signed.
    pub theirs_tx: Txid,
    /// Everything that decides what becomes of HTLCs on chain, in 64 bits.
    pub pending: u64,
    /// Each payment of the walk, as this side has it.
    pub stands: [Stand; 8],
}

/// What one node's judges remember.
pub struct Book {
    place: usize,
    channel: ChannelId,
    now: Timestamp,
    payments: Vec<Payment>,
    crypto: Arc<dyn Crypto>,
    /// Its points by number.
    points: HashMap<u64, PublicKey>,
    keys: HashMap<(bool, PublicKey), CommitmentKeys>,
}

impl std::fmt::Debug for Book {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Book({} points)", self.points.len())
    }
}

fn short(bytes: &[u8]) -> u64 {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    u64::from_be_bytes(digest[..8].try_into().unwrap_or_default())
}

impl Book {
    /// Nothing seen yet.
    pub fn new(start: &Start, place: usize, crypto: Arc<dyn Crypto>) -> Book {
        Book {
            place,
            channel: start.channel,
            now: start.duet.now,
            payments: start.payments().cloned().collect(),
            crypto,
            points: HashMap::new(),
            keys: HashMap::new(),
        }
    }

    /// Looks at a node.
    ///
    /// # Errors
    /// `money`, `agree`, `peace`.
    pub fn facts(&mut self, node: &Node) -> Result<Facts, Verdict> {
        let channel = channel_of(node, self.channel)?;
        let closing = closing_of(node, self.channel)?;
        if channel.doubt {
            return Err(Verdict::new("peace", "the node doubts its own state"));
        }
        judge_money(channel)?;
        let commits = &channel.commits;
        let point = self.point(channel)?;
        let (own, own_tx) = self.own(channel, &point)?;
        let signed = commits.remote_number + u64::from(commits.awaiting_revoke);
        let their_point =
            if commits.awaiting_revoke { commits.remote_next_point } else { Some(commits.remote_point) };
        let Some(their_point) = their_point else {
            return Err(Verdict::new("agree", "a commitment was signed at no point"));
        };
        let (their_commitment, theirs) = self.told(channel, Side::Remote, signed, &their_point)?;
        let stands = stands(node, self.place, &self.payments, self.now)?;
        let steps: Vec<_> = channel.ledger.htlcs.values().map(|h| (h.id, h.step, &h.removal)).collect();
        let pending = short(format!("{stands:?} {steps:?}").as_bytes());
        Ok(Facts {
            local: commits.local_number,
            remote: commits.remote_number,
            awaiting: commits.awaiting_revoke,
            up: channel.link == Link::Up,
            usable: channel.is_usable(),
            news: channel.ledger.has_news_for(Side::Local, channel.terms.opener),
            closing,
            htlcs: channel.ledger.htlcs.len() as u8,
            feerate: spec(channel, View::Signed(Side::Local))?.feerate,
            to_us: channel.to_us(),
            spendable: channel.ledger.spendable(&channel.terms, Side::Local),
            own,
            theirs,
            own_tx,
            theirs_tx: their_commitment.tx.compute_txid(),
            pending,
            stands,
        })
    }

    /// The point of its newest commitment.
    fn point(&mut self, channel: &Channel) -> Result<PublicKey, Verdict> {
        let number = channel.commits.local_number;
        if let Some(point) = self.points.get(&number) {
            return Ok(*point);
        }
        let (commitment, _) = signed_commitment(channel, self.crypto.as_ref())?;
        let point = commitment.keys().per_commitment_point;
        self.points.insert(number, point);
        Ok(point)
    }

    /// A commitment as this node builds it: itself, and its snapshot and transaction in 64 bits.
    fn told(
        &mut self,
        channel: &Channel,
        owner: Side,
        number: u64,
        point: &PublicKey,
    ) -> Result<(Commitment, u64), Verdict> {
        let spec = spec(channel, View::Signed(owner))?;
        let terms = &channel.terms;
        let (crypto, key) = (&self.crypto, (owner == Side::Local, *point));
        let keys = self.keys.entry(key).or_insert_with(|| {
            let (own, peer) = (&terms.party(owner).basepoints, &terms.party(owner.other()).basepoints);
            crypto.commitment_keys(own, peer, point).unwrap_or_else(|_| panic!("no keys"))
        });
        let built = build(&terms.commitment_terms(owner), keys, number, &spec);
        let commitment = built.map_err(|e| Verdict::new("money", format!("commitment {number}: {e}")))?;
        let mut htlcs: Vec<_> = spec
            .htlcs
            .iter()
            .map(|h| (h.offered, h.id.id, h.amount, h.payment_hash, h.cltv_expiry))
            .collect();
        htlcs.sort();
        let mut bytes = encode(&(number, spec.feerate, spec.to_owner, spec.to_other, htlcs));
        bytes.extend(commitment.sighash());
        Ok((commitment, short(&bytes)))
    }

    /// Its own newest commitment, and whether the peer signed that and nothing else.
    fn own(&mut self, channel: &Channel, point: &PublicKey) -> Result<(u64, Txid), Verdict> {
        let number = channel.commits.local_number;
        let (commitment, told) = self.told(channel, Side::Local, number, point)?;
        let digests = commitment.htlc_sighashes();
        let commits = &channel.commits;
        if digests.len() != commits.htlc_signatures.len() {
            let text = format!("commitment {number}: not one signature for each HTLC");
            return Err(Verdict::new("agree", text));
        }
        let key = channel.terms.remote.basepoints.funding_pubkey;
        let mut jobs = vec![VerifyJob { digest: commitment.sighash(), signature: commits.signature, key }];
        let key = commitment.keys().other_htlc;
        let htlcs = digests.into_iter().zip(&commits.htlc_signatures);
        jobs.extend(htlcs.map(|(digest, signature)| VerifyJob { digest, signature: *signature, key }));
        match self.crypto.verify_batch(&jobs) {
            true => Ok((told, commitment.tx.compute_txid())),
            false => Err(Verdict::new("agree", format!("commitment {number} is not what the peer signed"))),
        }
    }

    /// A message that left, against the state that was kept before it did.
    ///
    /// # Errors
    /// `safety`, `durable`.
    pub fn judge_message(&self, message: &Message, kept: &Facts) -> Result<(), Verdict> {
        match message {
            Message::RevokeAndAck(m) => {
                let revealed = self.crypto.public_key(&m.per_commitment_secret);
                let newer = self.points.iter().find(|(n, point)| **n >= kept.local && **point == revealed);
                if let Some((number, _)) = newer {
                    let text =
                        format!("the secret of commitment {number} left; the newest kept is {}", kept.local);
                    return Err(Verdict::new("safety", text));
                }
                let before = kept.local.checked_sub(1).and_then(|n| self.points.get(&n));
                match before == Some(&revealed) {
                    true => Ok(()),
                    false => Err(Verdict::new("safety", "a secret left that is not the last one's")),
                }
            }
            Message::CommitmentSigned(_) if !kept.awaiting => {
                Err(Verdict::new("durable", "commitment_signed left, and the disk knows of none"))
            }
            Message::UpdateFulfillHtlc(m) => {
                let hash = Preimage(m.payment_preimage).hash();
                let paid = self.payments.iter().zip(&kept.stands).any(|(payment, stand)| {
                    payment.payer != self.place && payment.hash == hash && *stand == Stand::Done
                });
                match paid {
                    true => Ok(()),
                    false => Err(Verdict::new("durable", "a preimage left, and no invoice is paid on disk")),
                }
            }
            Message::UpdateAddHtlc(m) => {
                let known = self.payments.iter().zip(&kept.stands).any(|(payment, stand)| {
                    let this = payment.payer == self.place && payment.hash.0 == m.payment_hash;
                    this && *stand != Stand::Nothing && payment.msat == m.amount_msat.0
                });
                match known {
                    true => Ok(()),
                    false => Err(Verdict::new("durable", "an HTLC left, and no payment is on disk")),
                }
            }
            _ => Ok(()),
        }
    }
}

type Lists = (Vec<chand_protocol::node::view::Pay>, Vec<chand_protocol::node::view::Invoice>);

/// `listpays` and `listinvoices`, asked of a copy.
fn ask(node: &Node, now: Timestamp) -> Result<Lists, Verdict> {
    let mut copy = node.fork(Entropy::new([0; 32]));
    let commands = [
        Command::ListPays { payment_hash: None, bolt11: None },
        Command::ListInvoices(InvoiceFilter::default()),
    ];
    let order = |(n, command)| Input::Command { id: CommandId(n), command };
    let batch = step(&mut copy, now, (900..).zip(commands).map(order).collect());
    let mut journal = Journal::new(MemoryStore::new());
    let batches = [batch];
    let proof = journal.commit(&batches).map_err(|e| Verdict::new("store", e.to_string()))?;
    let (mut pays, mut invoices) = (Vec::new(), Vec::new());
    for after in batches.into_iter().filter_map(|b| b.release(&proof).ok()).flatten() {
        match after {
            After::Reply { result: Ok(Reply::Pays(list)), .. } => pays = list,
            After::Reply { result: Ok(Reply::Invoices(list)), .. } => invoices = list,
            _ => {}
        }
    }
    Ok((pays, invoices))
}

/// A node's newest commitment, and the same with both signatures.
///
/// # Errors
/// `agree`.
pub fn signed_commitment(
    channel: &Channel,
    crypto: &dyn Crypto,
) -> Result<(Commitment, Transaction), Verdict> {
    let script = ScriptBuf::new();
    let cx = Context {
        now: Timestamp(0),
        tip: Height(0),
        at_tip: true,
        crypto,
        feerate_normal: Feerate::FLOOR,
        feerate_minimum: Feerate::FLOOR,
        feerate_urgent: Feerate::FLOOR,
        feerate_ceiling: Feerate::FLOOR,
        max_dust: Msat::ZERO,
        close_script: &script,
        dev: false,
        tower: false,
        dust_factor: 1,
    };
    let made = channel.signed_commitment(&cx);
    made.map_err(|e| Verdict::new("agree", format!("no commitment: {e}")))
}

/// Every payment, as the node would tell its user.
///
/// # Errors
/// `store`.
pub fn stands(
    node: &Node,
    place: usize,
    payments: &[Payment],
    now: Timestamp,
) -> Result<[Stand; 8], Verdict> {
    let mut stands = [Stand::Nothing; 8];
    let (pays, invoices) = ask(node, now)?;
    for (stand, payment) in stands.iter_mut().zip(payments) {
        if payment.payer == place {
            let found = pays.iter().find(|p| p.payment_hash == payment.hash);
            *stand = match found.map(|p| p.status) {
                None => Stand::Nothing,
                Some("pending") if node.waits_to_pay(&payment.hash) => Stand::Waiting,
                Some("pending") => Stand::Pending,
                Some("complete") => Stand::Done,
                Some(_) => Stand::Over,
            };
        } else if other(payment.payer) == place {
            let found = invoices.iter().find(|i| i.payment_hash == payment.hash);
            *stand = match found.map(|i| (i.status, i.hold)) {
                Some(("paid", _)) => Stand::Done,
                Some((_, Some("accepted"))) => Stand::Held,
                Some((_, Some("cancelled"))) | None => Stand::Over,
                Some(_) => Stand::Nothing,
            };
        }
    }
    Ok(stands)
}

fn channel_of(node: &Node, id: ChannelId) -> Result<&Channel, Verdict> {
    node.channel(&id).ok_or_else(|| Verdict::new("restart", "the channel is gone"))
}

fn spec(channel: &Channel, view: View) -> Result<Spec, Verdict> {
    let spec = channel.ledger.spec(view, channel.terms.opener);
    spec.ok_or_else(|| Verdict::new("money", format!("{view:?}: a balance is negative")))
}

/// Balances and HTLCs are the capacity in every commitment there is or could be next.
fn judge_money(channel: &Channel) -> Result<(), Verdict> {
    let capacity = channel.terms.capacity.to_msat();
    let settled = channel.ledger.settled;
    if settled.local.checked_add(settled.remote) != Some(capacity) {
        return Err(Verdict::new("money", "the settled balances are not the capacity"));
    }
    let sides = [Side::Local, Side::Remote];
    for view in sides.map(View::Signed).into_iter().chain(sides.map(View::Next)) {
        let spec = spec(channel, view)?;
        let pending = Msat::checked_sum(spec.htlcs.iter().map(|h| h.amount));
        let sum = pending.and_then(|p| p.checked_add(spec.to_owner)?.checked_add(spec.to_other));
        if sum != Some(capacity) {
            return Err(Verdict::new("money", format!("{view:?} adds up to {sum:?}, not {capacity}")));
        }
    }
    Ok(())
}

/// The newest snapshot is the newest commitment's. Snapshots are in no state's name, so this is asked after every step
/// that was computed, whether the state it leads to is new or not.
///
/// # Errors
/// `money`.
pub fn judge_snapshot(node: &Node, id: ChannelId) -> Result<(), Verdict> {
    let channel = channel_of(node, id)?;
    let spec = spec(channel, View::Signed(Side::Local))?;
    let Some(newest) = channel.snapshots().last() else {
        return Err(Verdict::new("money", "no snapshot was kept"));
    };
    let told = (newest.number, newest.local, newest.remote, newest.feerate);
    match told == (channel.commits.local_number, spec.to_owner, spec.to_other, spec.feerate) {
        true => Ok(()),
        false => Err(Verdict::new("money", "the newest snapshot is not that of the newest commitment")),
    }
}

fn shown(key: &[u8]) -> String {
    Kind::of(key).map_or_else(|| "?".into(), |k| format!("{k:?}"))
}

/// The disk holds what the node would need to come back, no more and no less.
///
/// # Errors
/// `store`.
pub fn judge_store(disk: Vec<Entry>, records: &[Entry]) -> Result<(), Verdict> {
    if disk == records {
        return Ok(());
    }
    let (disk, records): (BTreeMap<_, _>, BTreeMap<_, _>) =
        (disk.into_iter().collect(), records.iter().cloned().collect());
    for (key, value) in &records {
        match disk.get(key) {
            None => return Err(Verdict::new("store", format!("the disk lacks {}", shown(key)))),
            Some(kept) if kept != value => {
                return Err(Verdict::new("store", format!("the disk has an old {}", shown(key))))
            }
            Some(_) => {}
        }
    }
    let left = disk.keys().find(|key| !records.contains_key(*key));
    Err(Verdict::new("store", format!("the disk holds a leftover {}", left.map_or("?".into(), |k| shown(k)))))
}

/// Who comes back from the disk has the same records.
///
/// # Errors
/// `restart`.
pub fn judge_restored(node: &Node, restored: &Node, records: &[Entry], id: ChannelId) -> Result<(), Verdict> {
    judge_store(records.to_vec(), &restored.records()).map_err(|v| Verdict::new("restart", v.words))?;
    let (channel, again) = (channel_of(node, id)?, channel_of(restored, id)?);
    match (channel.to_us(), channel.state_name()) == (again.to_us(), again.state_name()) {
        true => Ok(()),
        false => Err(Verdict::new("restart", "another balance or state came back")),
    }
}

/// A cut leaves in memory what the disk holds: whether a node lost its link or died makes no difference to its peer.
///
/// # Errors
/// `restart`.
pub fn judge_cut(cut: &Node, restored: &Node, id: ChannelId) -> Result<(), Verdict> {
    let (cut, restored) = (channel_of(cut, id)?, channel_of(restored, id)?);
    let (kept, again) = ((&cut.ledger, &cut.phase), (&restored.ledger, &restored.phase));
    match kept == again {
        true => Ok(()),
        false => Err(Verdict::new("restart", format!("a cut leaves {kept:?}, a restart {again:?}"))),
    }
}

/// Numbers of commitments never run back, and nothing that was decided is undone.
///
/// # Errors
/// `safety`, `settle`.
pub fn judge_step(before: &Facts, after: &Facts) -> Result<(), Verdict> {
    if after.local < before.local || after.remote < before.remote {
        return Err(Verdict::new("safety", "a commitment's number ran back"));
    }
    let undone = match (before.closing, after.closing) {
        (Closing::Agreed(_), Closing::Agreed(_)) => false,
        (was, is) => is < was,
    };
    if undone {
        return Err(Verdict::new("settle", "a close was begun and is forgotten"));
    }
    for (was, is) in before.stands.iter().zip(&after.stands) {
        if matches!(was, Stand::Done | Stand::Over) && is != was {
            return Err(Verdict::new("settle", format!("a payment was {was:?} and is {is:?} now")));
        }
    }
    Ok(())
}
