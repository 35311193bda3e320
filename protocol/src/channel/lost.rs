//! A channel of which nothing is left but its backup: the seed came back, the database did not.
//!
//! In: what a backup holds of it. Out: a channel that asks its peer to close, publishes nothing of its own, and takes what is
//! ours from whatever commitment comes into a block: `to_remote` of the peer's, which needs no secret of that state, or
//! `to_local` of one of ours, whose number stands in it. HTLCs that were in it cannot be told any more.
//! Such a channel is in doubt from its first moment (`Channel::doubt`). Read next: `resume`, `crate::onchain`.

use crate::backup::Kept;
use crate::channel::alias::Aliases;
use crate::channel::announce::Announce;
use crate::channel::cause::Annals;
use crate::channel::commit::Commits;
use crate::channel::keyring::KeyRing;
use crate::channel::ledger::Ledger;
use crate::channel::policy::Policy;
use crate::channel::save::Dirty;
use crate::channel::terms::{Party, Terms};
use crate::channel::tower::Notes;
use crate::channel::{Channel, Link, Phase};
use crate::node::view::Stats;
use crate::sign::Crypto;
use crate::tx::keys::{Basepoints, ChannelSecrets};
use crate::tx::shachain::SecretStore;
use crate::units::{Feerate, Msat, Sat};
use secp256k1::ecdsa::Signature;

/// What the records hold in the place of a signature: one that fits nothing.
fn no_signature() -> Option<Signature> {
    let mut one = [0u8; 64];
    one[31] = 1;
    one[63] = 1;
    Signature::from_compact(&one).ok()
}

/// One side's part, of which only its keys and its delay are known.
fn party(basepoints: Basepoints, to_self_delay: u16) -> Party {
    Party {
        basepoints,
        dust_limit: Sat::ZERO,
        max_in_flight: Msat::ZERO,
        reserve: Sat::ZERO,
        htlc_minimum: Msat::ZERO,
        to_self_delay,
        // By this a lost channel is known: no other takes none at all.
        max_accepted_htlcs: 0,
        upfront_shutdown: None,
    }
}

impl Channel {
    /// What `kept` leaves of a channel; `None` cannot be.
    pub(crate) fn lost(kept: &Kept, secrets: ChannelSecrets, crypto: &dyn Crypto) -> Option<Channel> {
        let local = secrets.basepoints(crypto.secp());
        let terms = Terms {
            channel_id: kept.channel_id,
            peer: kept.peer,
            key_index: kept.key_index,
            opener: kept.opener,
            channel_type: kept.channel_type,
            funding: kept.funding,
            capacity: kept.capacity,
            push: Msat::ZERO,
            initial_feerate: Feerate::FLOOR,
            minimum_depth: 1,
            announce: false,
            simple_close: false,
            local: party(local, kept.delays.0),
            remote: party(kept.remote.clone(), kept.delays.1),
            scid_alias: kept.scid_alias,
        };
        Some(Channel {
            commits: Commits {
                local_number: 0,
                remote_number: 0,
                awaiting_revoke: false,
                commit_was_last: false,
                // Not known, and never used.
                remote_point: kept.remote.payment_basepoint,
                remote_next_point: None,
                signature: no_signature()?,
                htlc_signatures: alloc::vec::Vec::new(),
                remote_secrets: SecretStore::new(),
                snapshots: alloc::vec::Vec::new(),
            },
            link: Link::Down,
            phase: Phase::Open,
            // What is ours shows when it is on chain.
            ledger: Ledger::new(Msat::ZERO, kept.capacity.to_msat(), Feerate::FLOOR),
            ready: (true, true),
            confirmed: kept.confirmed,
            funding_tx: None,
            close_to: None,
            log: alloc::vec::Vec::new(),
            annals: Annals::default(),
            watch: None,
            retired: false,
            doubt: true,
            stats: Stats::default(),
            extremes: (Msat::ZERO, Msat::ZERO),
            policy: Policy::new(0, 0, 0),
            announce: Announce::default(),
            aliases: Aliases::default(),
            secrets,
            keyring: KeyRing::default(),
            notes: Notes::default(),
            dirty: Dirty::new_channel(),
            terms,
        })
    }

    /// Whether nothing but its backup is left of it.
    pub const fn is_lost(&self) -> bool {
        self.terms.local.max_accepted_htlcs == 0
    }
}
