//! HTLCs of peers, opened: whether each ends here or goes on, and how it is given back if it does neither (BOLT 4,
//! "Payload Format", "Route Blinding").
//!
//! In: an HTLC with its onion, and the path key that came with it. Out: an [`Aim`], or a failure. What goes wrong inside a
//! blinded path is one and the same for who hears of it, whatever it was and wherever: a payer that could tell failures
//! apart could tell nodes apart. Nothing of it needs a record of its own: how an HTLC goes back follows from its
//! onion and its path key.
//! Read next: `receive`, `forward`, `crate::onion::blind`.

use crate::channel::htlc::{Htlc, Removal};
use crate::channel::{Channel, Phase};
use crate::id::{HtlcId, NodeId, PaymentSecret, ShortChannelId, Side};
use crate::node::forwards::Place;
use crate::node::Node;
use crate::onion::blind::{blinded_key, open, Opened};
use crate::onion::failure::INVALID_ONION_BLINDING;
use crate::onion::payload::{names_path_key, Blinded, Final, Forward, Payload, PaymentData};
use crate::onion::sphinx::{peel, sha256_of_onion, PeelError, Peeled};
use crate::onion::{returned, Failure, SharedSecret};
use crate::units::Msat;
use crate::wire::message::OnionPacket;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use secp256k1::{PublicKey, SecretKey};

/// Hops in a row that may be ours: an onion has no room for more.
const MAX_OWN_HOPS: usize = 27;

/// Where an HTLC is to go.
pub(super) enum Aim {
    /// It is for us; over a blinded path or not.
    Here { payload: Final, blinded: bool },
    /// Over a channel of ours.
    Onward { wish: Forward, onion: Box<OnionPacket>, path_key: Option<PublicKey> },
}

/// How an HTLC of a peer is given back.
pub(super) enum Back {
    /// With a failure that only the payer can read.
    Sealed(SharedSecret),
    /// The same, and we are a blinded path's only node.
    Alone(SharedSecret),
    /// The same, and always with the same failure: a blinded path begins with us.
    Introduction { shared_secret: SharedSecret, sha256_of_onion: [u8; 32] },
    /// With a word to the peer, always the same: we are inside a blinded path.
    Inside { sha256_of_onion: [u8; 32] },
}

impl Back {
    fn of(onion: &OnionPacket, path_key: Option<&PublicKey>, peeled: &Peeled) -> Back {
        let (shared_secret, sha256_of_onion) = (peeled.shared_secret.clone(), sha256_of_onion(onion));
        if path_key.is_some() {
            Back::Inside { sha256_of_onion }
        } else {
            match (names_path_key(&peeled.payload), peeled.next.is_some()) {
                (true, true) => Back::Introduction { shared_secret, sha256_of_onion },
                (true, false) => Back::Alone(shared_secret),
                (false, _) => Back::Sealed(shared_secret),
            }
        }
    }

    /// A blinded path begins with us: "SHOULD add a random delay before returning errors" (BOLT 4).
    pub(super) const fn is_entrance(&self) -> bool {
        matches!(self, Back::Introduction { .. } | Back::Alone(_))
    }

    /// It failed with us.
    pub(super) fn failed(&self, failure: &Failure) -> Removal {
        match self {
            Back::Sealed(secret) | Back::Alone(secret) => Removal::Failed(returned::wrap(secret, failure)),
            // BOLT 2, 4 [2.remove.2, 4.fail.2, 4.fail.6].
            Back::Introduction { shared_secret, sha256_of_onion } => {
                let failure = Failure::InvalidOnionBlinding { sha256_of_onion: *sha256_of_onion };
                Removal::Failed(returned::wrap(shared_secret, &failure))
            }
            // BOLT 2, 4 [2.remove.3, 4.fail.1, 4.fail.5].
            Back::Inside { sha256_of_onion } => {
                Removal::Malformed { sha256_of_onion: *sha256_of_onion, failure_code: INVALID_ONION_BLINDING }
            }
        }
    }

    /// It failed further on.
    pub(super) fn relayed(&self, removal: &Removal) -> Removal {
        match (self, removal) {
            // BOLT 4 [4.relayfail.4, 4.relayfail.5].
            (Back::Sealed(secret) | Back::Alone(secret), Removal::Failed(reason)) => {
                Removal::Failed(returned::wrap_again(secret, reason.clone()))
            }
            // BOLT 2 [2.remove.8].
            (_, Removal::Malformed { sha256_of_onion, failure_code }) => {
                let failure = Failure::from_malformed(*failure_code, *sha256_of_onion);
                self.failed(&failure.unwrap_or(Failure::TemporaryNodeFailure))
            }
            // BOLT 5 [5.localoffer.3, 5.localoffer.8, 5.remoteoffer.4].
            _ => self.failed(&Failure::PermanentChannelFailure),
        }
    }
}

impl Node {
    /// Opens our layer of an HTLC's onion; otherwise how the HTLC is given back.
    pub(super) fn peel_htlc(&self, htlc: &Htlc, onion: &OnionPacket) -> Result<(Peeled, Back), Removal> {
        let path_key = htlc.path_key.as_ref();
        let inside = || Back::Inside { sha256_of_onion: sha256_of_onion(onion) };
        let peeled = match path_key {
            // BOLT 2 [2.add.15, 2.add.17].
            None => self.peel_with(onion, htlc, self.keys.node_secret()),
            // BOLT 2 [2.add.16].
            Some(path_key) => match blinded_key(path_key, self.keys.node_secret()) {
                Some(mut key) => {
                    let peeled = self.peel_with(onion, htlc, &key);
                    key.non_secure_erase();
                    peeled
                }
                None => return Err(inside().failed(&Failure::TemporaryNodeFailure)),
            },
        };
        match peeled {
            Ok(peeled) => {
                let back = Back::of(onion, path_key, &peeled);
                Ok((peeled, back))
            }
            Err(_) if path_key.is_some() => Err(inside().failed(&Failure::TemporaryNodeFailure)),
            Err(PeelError::Malformed { failure_code, sha256_of_onion }) => {
                // BOLT 2, 4 [2.add.18, 4.version.1, 4.version.2].
                Err(Removal::Malformed { sha256_of_onion, failure_code })
            }
            Err(PeelError::Payload { shared_secret, failure }) => {
                Err(Back::Sealed(shared_secret).failed(&failure))
            }
        }
    }

    fn peel_with(&self, onion: &OnionPacket, htlc: &Htlc, key: &SecretKey) -> Result<Peeled, PeelError> {
        peel(onion, key, &htlc.payment_hash.0, self.crypto.secp())
    }

    /// How an HTLC that came in there is given back; `None` when it is not known any more.
    pub(super) fn back_of(&self, place: Place) -> Option<Back> {
        let id = HtlcId { offered_by: Side::Remote, id: place.htlc };
        let htlc = self.channels.get(&place.channel)?.htlc(id)?;
        let onion = htlc.onion.as_ref()?;
        self.peel_htlc(htlc, onion).ok().map(|(_, back)| back)
    }

    /// What an HTLC whose layer was opened is to become.
    pub(super) fn aim_of(&self, htlc: &Htlc, peeled: Peeled) -> Result<Aim, Failure> {
        let blinding = || Failure::InvalidOnionBlinding { sha256_of_onion: [0; 32] };
        // BOLT 2 [2.add.19].
        let payload = Payload::decode(&peeled.payload, peeled.next.is_none())?;
        match (payload, peeled.next.clone()) {
            (Payload::Blinded(blinded), _) => self.unblind(htlc, peeled, blinded).ok_or_else(blinding),
            // BOLT 4 [4.read.18].
            _ if htlc.path_key.is_some() => Err(blinding()),
            (Payload::Final(payload), _) => Ok(Aim::Here { payload, blinded: false }),
            (Payload::Forward(wish), Some(onion)) => {
                Ok(Aim::Onward { wish, onion: Box::new(onion), path_key: None })
            }
            (Payload::Forward(_), None) => Err(Failure::InvalidOnionPayload { kind: 0, offset: 0 }),
        }
    }

    /// Follows what the payee sealed for us, hop by hop while the next one is ourselves again; `None` for anything wrong.
    fn unblind(&self, htlc: &Htlc, mut peeled: Peeled, mut blinded: Blinded) -> Option<Aim> {
        // BOLT 4 [4.read.1, 4.read.2, 4.read.3, 4.read.4].
        let mut path_key = match (htlc.path_key, blinded.current_path_key) {
            (Some(outside), None) => outside,
            (None, Some(inside)) => inside,
            _ => return None,
        };
        let (mut amount, mut expiry) = (htlc.amount, htlc.cltv_expiry);
        let (key, secp) = (self.keys.node_secret(), self.crypto.secp());
        for _ in 0..MAX_OWN_HOPS {
            let Opened { data, next_path_key } =
                open(&blinded.encrypted_recipient_data, &path_key, key, secp)?;
            let fits = data.payment_constraints.is_none_or(|limits| limits.allow(amount, expiry));
            if !fits || !data.is_understood() {
                return None;
            }
            let Some(onion) = peeled.next else { return last_layer(&blinded, data.path_id) };
            // BOLT 4 [4.read.10, 4.read.11, 4.read.12].
            let (onward, outgoing) = data.payment_relay?.onward(amount, expiry)?;
            let scid = match (data.short_channel_id, data.next_node_id) {
                (Some(scid), None) => scid,
                (None, Some(node)) if node != self.id.0 => self.any_scid_with(NodeId(node))?,
                (None, Some(_)) => {
                    let own = blinded_key(&next_path_key, key)?;
                    peeled = self.peel_with(&onion, htlc, &own).ok()?;
                    let Ok(Payload::Blinded(next)) = Payload::decode(&peeled.payload, peeled.next.is_none())
                    else {
                        return None;
                    };
                    if next.current_path_key.is_some() {
                        return None;
                    }
                    (blinded, path_key, amount, expiry) = (next, next_path_key, onward, outgoing);
                    continue;
                }
                _ => return None,
            };
            let wish =
                Forward { short_channel_id: scid, amt_to_forward: onward, outgoing_cltv_value: outgoing };
            // BOLT 4 [4.blind.20].
            return Some(Aim::Onward { wish, onion: Box::new(onion), path_key: Some(next_path_key) });
        }
        None
    }

    /// A channel with this peer that HTLCs may be named by.
    fn any_scid_with(&self, peer: NodeId) -> Option<ShortChannelId> {
        let open = self.channels.values().filter(|c| c.terms.peer == peer && c.phase == Phase::Open);
        open.filter_map(Channel::hop_name).next()
    }
}

/// The payee's layer, with the path's id in the place of the payment secret.
fn last_layer(blinded: &Blinded, path_id: Option<alloc::vec::Vec<u8>>) -> Option<Aim> {
    let total_msat: Msat = blinded.total_amount_msat?;
    let secret: Option<[u8; 32]> = path_id.and_then(|id| id.try_into().ok());
    let payload = Final {
        amt_to_forward: blinded.amt_to_forward?,
        outgoing_cltv_value: blinded.outgoing_cltv_value?,
        payment_data: secret.map(|id| PaymentData { payment_secret: PaymentSecret(id), total_msat }),
        payment_metadata: None,
        keysend_preimage: None,
        custom: BTreeMap::new(),
    };
    Some(Aim::Here { payload, blinded: true })
}
