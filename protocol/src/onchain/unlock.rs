//! How we spend an output of a published commitment, from when on, and until when it is ours alone.
//!
//! In: a watch and one of its outputs. Out: a [`Way`]: witness script, key, height at which it is ripe, deadline.
//! One match over (whose commitment, what it is worth, what the output is) covers BOLT 5; what is not in it is not ours.
//! HTLC transactions of our own commitment are not here: the peer signed them long ago (`bump`, `claim`).
//! Read next: `claim`.

pub(crate) use super::identify::htlc_script;
use super::{Kind, Lock, Output, Standing, Watch};
use crate::channel::{key_fault, Channel, Context};
use crate::fault::LocalFault;
use crate::id::{Preimage, Side};
use crate::tx::keys::CommitmentKeys;
use crate::tx::script::{self, HtlcScripts};
use crate::tx::{amount, ChannelType};
use crate::units::Height;
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{ScriptBuf, Sequence, Transaction, Witness};
use secp256k1::ecdsa::Signature;
use secp256k1::{PublicKey, SecretKey};

/// The length of the longest signature with a low S, its hash type included.
const SIGNATURE: u64 = 73;
/// Any relative lock or none at all: the sequence that only says "may be replaced".
const REPLACEABLE: Sequence = Sequence::ENABLE_RBF_NO_LOCKTIME;

/// Blocks after its expiry by which an HTLC of ours should be taken back: six before whoever paid us for it, over another
/// channel, may take theirs back (BOLT 2 asks for 34 between the two).
pub(super) const UPSTREAM_BLOCKS: u32 = 28;

/// What a witness has beside the signature and the script.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Stack {
    /// `<sig>`
    Nothing,
    /// `<sig> <>`
    Empty,
    /// `<sig> 1`
    One,
    /// `<sig> <key>`
    Key(PublicKey),
    /// `<sig> <preimage>`
    Preimage(Preimage),
}

/// Why it matters when it is mined.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Class {
    /// Ours alone for ever.
    Sweep,
    /// Of a cheat, and nobody else's until his delay is over.
    Penalty,
    /// Of a cheat, who may yet move it to a second transaction.
    PenaltyHtlc,
    /// By its secret, until the payer may take it back.
    Success,
    /// Taken back, until the payee shows the secret.
    Timeout,
}

/// How an output is spent; the key is wiped when dropped.
pub(crate) struct Way {
    script: ScriptBuf,
    stack: Stack,
    key: SecretKey,
    pub sequence: Sequence,
    /// The lock time it asks for; 0 for none.
    pub lock_time: Height,
    /// The first block that may hold the spend.
    pub ripe: Height,
    /// From this height on somebody else can take it.
    pub deadline: Option<Height>,
    pub class: Class,
}

impl Drop for Way {
    fn drop(&mut self) {
        self.key.non_secure_erase();
    }
}

impl Way {
    /// As a watchtower takes an output of the peer's revoked commitment: by `key`, the revocation key's secret. `None` for what
    /// that key does not take. `Channel::penalty` is the same with a channel at hand.
    pub(crate) fn of_cheat(keys: &Keys, output: &Output, key: SecretKey, delay_blocks: u16) -> Option<Way> {
        // BOLT 5 [5.revoked.2, 5.revoked.3, 5.revoked.4, 5.revoked.5, 5.revoked.6].
        let born = output.born?;
        let (script, stack, class) = match (output.kind, &output.lock) {
            (Kind::ToLocal | Kind::Second, _) => (keys.delayed.clone(), Stack::One, Class::Penalty),
            (Kind::Htlc, Some(lock)) => {
                let script = htlc_script(&keys.scripts, Side::Remote, lock);
                (script, Stack::Key(keys.own.revocation), Class::PenaltyHtlc)
            }
            _ => return None,
        };
        Some(Way {
            script,
            stack,
            key,
            sequence: REPLACEABLE,
            lock_time: Height(0),
            ripe: born.plus(1),
            deadline: Some(born.plus(u32::from(delay_blocks))),
            class,
        })
    }

    /// The weight of its witness, in weight units, with the longest signature.
    pub fn witness_weight(&self) -> u64 {
        let more = match &self.stack {
            Stack::Nothing => 0,
            Stack::Empty => 1,
            Stack::One => 2,
            Stack::Key(_) => 34,
            Stack::Preimage(_) => 33,
        };
        let script = if self.script.is_empty() { 0 } else { pushed(self.script.len() as u64) };
        1 + pushed(SIGNATURE) + more + script
    }

    /// The witness of input `index` of `tx`, which spends `output`.
    pub fn witness(
        &self,
        tx: &Transaction,
        index: usize,
        output: &Output,
        cx: &Context<'_>,
    ) -> Option<Witness> {
        let mut cache = SighashCache::new(tx);
        let (value, kind) = (amount(output.amount), EcdsaSighashType::All);
        let digest: [u8; 32] = match &self.stack {
            Stack::Key(key) if self.script.is_empty() => {
                *cache.p2wpkh_signature_hash(index, &script::p2wpkh(key), value, kind).ok()?.as_ref()
            }
            _ => *cache.p2wsh_signature_hash(index, &self.script, value, kind).ok()?.as_ref(),
        };
        Some(self.stacked(&cx.crypto.sign(&digest, &self.key)))
    }

    fn stacked(&self, signature: &Signature) -> Witness {
        let mut witness = Witness::new();
        witness.push_ecdsa_signature(&script::witness_signature(signature, EcdsaSighashType::All));
        match &self.stack {
            Stack::Nothing => {}
            Stack::Empty => witness.push([]),
            Stack::One => witness.push([1]),
            Stack::Key(key) => witness.push(key.serialize()),
            Stack::Preimage(preimage) => witness.push(preimage.0),
        }
        if !self.script.is_empty() {
            witness.push(self.script.as_bytes());
        }
        witness
    }
}

/// The weight of a witness element of `len` bytes, its length included.
pub(super) const fn pushed(len: u64) -> u64 {
    len + if len < 253 { 1 } else { 3 }
}

/// The keys of a watched commitment and of ours in it.
pub(crate) struct Keys {
    pub own: CommitmentKeys,
    /// Of HTLC outputs.
    pub scripts: HtlcScripts,
    /// The witness script of `to_local` and of second-level outputs.
    pub delayed: ScriptBuf,
}

impl Keys {
    /// Of a commitment whose owner waits `delay_blocks`.
    pub(crate) fn new(channel_type: ChannelType, own: CommitmentKeys, delay_blocks: u16) -> Keys {
        let scripts = HtlcScripts::new(channel_type, &own);
        let delayed = script::to_local(&own.revocation, &own.delayed, delay_blocks);
        Keys { own, scripts, delayed }
    }
}

impl Channel {
    /// The keys of what is watched; `None` when its point is not known.
    pub(super) fn watch_keys(&self, watch: &Watch, cx: &Context<'_>) -> Result<Option<Keys>, LocalFault> {
        let Some(point) = watch.point else { return Ok(None) };
        let own = self.keys_at(watch.owner, &point, cx)?;
        Ok(Some(Keys::new(self.terms.channel_type, own, self.delay_of(watch.owner))))
    }

    /// How we spend `output` of `watch`; `None` when it is not ours, not yet confirmed, or ours only by an HTLC transaction.
    pub(super) fn way(
        &self,
        watch: &Watch,
        keys: Option<&Keys>,
        output: &Output,
        cx: &Context<'_>,
    ) -> Result<Option<Way>, LocalFault> {
        let Some(born) = output.born else { return Ok(None) };
        if let (Kind::ToRemote, Side::Remote) = (output.kind, watch.owner) {
            return Ok(Some(self.our_to_remote(born, cx)));
        }
        let Some(keys) = keys else { return Ok(None) };
        match (watch.owner, watch.standing, output.kind) {
            (Side::Local, _, Kind::ToLocal | Kind::Second) => {
                self.our_delayed(watch, keys, born, cx).map(Some)
            }
            (Side::Remote, Standing::Revoked, _) => self.penalty(watch, keys, output, born, cx),
            (Side::Remote, Standing::Valid, Kind::Htlc) => self.their_htlc(watch, keys, output, born, cx),
            _ => Ok(None),
        }
    }

    /// `to_remote` of the peer's commitment: one key, the same for all commitments (static_remotekey).
    fn our_to_remote(&self, born: Height, cx: &Context<'_>) -> Way {
        let public = cx.crypto.public_key(&self.secrets.payment);
        let (script, stack, sequence) = match self.terms.channel_type {
            ChannelType::StaticRemotekey => (ScriptBuf::new(), Stack::Key(public), REPLACEABLE),
            ChannelType::Anchors => (script::to_remote_anchors(&public), Stack::Nothing, Sequence(1)),
        };
        Way {
            script,
            stack,
            key: self.secrets.payment,
            sequence,
            lock_time: Height(0),
            ripe: born.plus(1),
            deadline: None,
            class: Class::Sweep,
        }
    }

    /// `to_local` and second-level outputs of our own commitment: who closes waits.
    fn our_delayed(
        &self,
        watch: &Watch,
        keys: &Keys,
        born: Height,
        cx: &Context<'_>,
    ) -> Result<Way, LocalFault> {
        // BOLT 5 [5.local.1, 5.local.2, 5.localoffer.5, 5.localoffer.6, 5.localtake.5, 5.localtake.6].
        let delay_blocks = self.delay_of(Side::Local);
        let own = &self.terms.local.basepoints;
        let point = watch.point.unwrap_or(keys.own.per_commitment_point);
        Ok(Way {
            script: keys.delayed.clone(),
            stack: Stack::Empty,
            key: self.secrets.delayed_key(cx.crypto, own, &point).map_err(key_fault)?,
            sequence: Sequence(u32::from(delay_blocks)),
            lock_time: Height(0),
            ripe: born.plus(u32::from(delay_blocks)),
            deadline: None,
            class: Class::Sweep,
        })
    }

    /// Anything of a revoked commitment: the peer gave its secret away, and with it every output.
    fn penalty(
        &self,
        watch: &Watch,
        keys: &Keys,
        output: &Output,
        born: Height,
        cx: &Context<'_>,
    ) -> Result<Option<Way>, LocalFault> {
        // BOLT 5 [5.revoked.2, 5.revoked.3, 5.revoked.4, 5.revoked.5, 5.revoked.6].
        let (script, stack, class) = match (output.kind, &output.lock) {
            (Kind::ToLocal | Kind::Second, _) => (keys.delayed.clone(), Stack::One, Class::Penalty),
            (Kind::Htlc, Some(lock)) => {
                let script = htlc_script(&keys.scripts, watch.owner, lock);
                (script, Stack::Key(keys.own.revocation), Class::PenaltyHtlc)
            }
            _ => return Ok(None),
        };
        let Some(revealed) = self.their_secret(watch.number) else { return Ok(None) };
        let key = cx.crypto.revocation_secret(&self.secrets.revocation, &revealed).map_err(key_fault)?;
        Ok(Some(Way {
            script,
            stack,
            key,
            // The one-block delay of anchors stands in the other branch of the script.
            sequence: REPLACEABLE,
            lock_time: Height(0),
            ripe: born.plus(1),
            deadline: Some(born.plus(u32::from(self.delay_of(Side::Remote)))),
            class,
        }))
    }

    /// An HTLC on the peer's commitment: by its secret if the peer offered it, by its expiry if we did.
    fn their_htlc(
        &self,
        watch: &Watch,
        keys: &Keys,
        output: &Output,
        born: Height,
        cx: &Context<'_>,
    ) -> Result<Option<Way>, LocalFault> {
        let Some(lock) = &output.lock else { return Ok(None) };
        // BOLT 5 [5.remote.2, 5.remote.3, 5.remoteoffer.2, 5.remotetake.1].
        let (stack, lock_time, deadline, class) = match lock.id.offered_by {
            Side::Remote => match self.preimage_of(lock) {
                Some(preimage) => {
                    (Stack::Preimage(preimage), Height(0), Some(lock.cltv_expiry), Class::Success)
                }
                None => return Ok(None),
            },
            Side::Local => {
                (Stack::Empty, lock.cltv_expiry, Some(lock.cltv_expiry.plus(UPSTREAM_BLOCKS)), Class::Timeout)
            }
        };
        let own = &self.terms.local.basepoints;
        let point = watch.point.unwrap_or(keys.own.per_commitment_point);
        let anchors = self.terms.channel_type.is_anchors();
        Ok(Some(Way {
            script: htlc_script(&keys.scripts, watch.owner, lock),
            stack,
            key: self.secrets.htlc_key(cx.crypto, own, &point).map_err(key_fault)?,
            sequence: if anchors { Sequence(1) } else { REPLACEABLE },
            lock_time,
            ripe: born.max(lock_time).plus(1),
            deadline,
            class,
        }))
    }

    /// The secret of an HTLC that the peer offered, once we have used it.
    pub(super) fn preimage_of(&self, lock: &Lock) -> Option<Preimage> {
        if let Some(preimage) = &lock.preimage {
            return Some(preimage.clone());
        }
        // Only what was locked in is ever settled. BOLT 5 [5.localtake.4, 5.remotetake.2].
        match &self.htlc(lock.id)?.removal {
            Some(crate::channel::htlc::Removal::Fulfilled(preimage)) => Some(preimage.clone()),
            _ => None,
        }
    }
}
