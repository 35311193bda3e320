//! The life of an HTLC as a table, and of a fee change as its first half (BOLT 2, "Normal Operation").
//!
//! An update is offered by one side and passes through both commitments. Ten steps, the same for both sides when
//! told from the offerer's seat; each is reached by one message of one side:
//!
//! | step | reached when | who sent it | in the receiver's commitment | in the offerer's |
//! |---|---|---|---|---|
//! | 0 `AddHtlc` | `update_add_htlc` | offerer | – | – |
//! | 1 `AddCommit` | `commitment_signed` | offerer | yes | – |
//! | 2 `AddRevocation` | `revoke_and_ack` | receiver | yes | – |
//! | 3 `AddAckCommit` | `commitment_signed` | receiver | yes | yes |
//! | 4 `AddAckRevocation` | `revoke_and_ack` | offerer | yes | yes: locked in |
//! | 5 `RemoveHtlc` | `update_fulfill_htlc`, `update_fail_htlc` | receiver | yes | yes |
//! | 6 `RemoveCommit` | `commitment_signed` | receiver | yes | – |
//! | 7 `RemoveRevocation` | `revoke_and_ack` | offerer | yes | – |
//! | 8 `RemoveAckCommit` | `commitment_signed` | offerer | – | – |
//! | 9 `RemoveAckRevocation` | `revoke_and_ack` | receiver | – | – : gone |
//!
//! In: a message's effect. Out: the next step, and who counts the update in. Read next: `ledger`.

use crate::id::{HtlcId, PaymentHash, Preimage, Side};
use crate::units::{Height, Msat};
use crate::wire::message::OnionPacket;
use alloc::boxed::Box;
use alloc::vec::Vec;
use secp256k1::PublicKey;
use serde::{Deserialize, Serialize};

/// How far an update has come; see the table above.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Step {
    AddHtlc,
    AddCommit,
    AddRevocation,
    AddAckCommit,
    AddAckRevocation,
    RemoveHtlc,
    RemoveCommit,
    RemoveRevocation,
    RemoveAckCommit,
    RemoveAckRevocation,
}

use Step::*;

impl Step {
    /// Every step, in order.
    pub const ALL: [Step; 10] = [
        AddHtlc,
        AddCommit,
        AddRevocation,
        AddAckCommit,
        AddAckRevocation,
        RemoveHtlc,
        RemoveCommit,
        RemoveRevocation,
        RemoveAckCommit,
        RemoveAckRevocation,
    ];

    /// The step after `signer` sent `commitment_signed`, or `None` when that changes nothing for this update.
    pub const fn after_commit(self, offered_by: Side, signer: Side) -> Option<Step> {
        let by_offerer =
            matches!((offered_by, signer), (Side::Local, Side::Local) | (Side::Remote, Side::Remote));
        match (self, by_offerer) {
            (AddHtlc, true) => Some(AddCommit),
            (RemoveRevocation, true) => Some(RemoveAckCommit),
            (AddRevocation, false) => Some(AddAckCommit),
            (RemoveHtlc, false) => Some(RemoveCommit),
            _ => None,
        }
    }

    /// The step after `revoker` sent `revoke_and_ack`, or `None` when that changes nothing for this update.
    pub const fn after_revoke(self, offered_by: Side, revoker: Side) -> Option<Step> {
        let by_offerer =
            matches!((offered_by, revoker), (Side::Local, Side::Local) | (Side::Remote, Side::Remote));
        match (self, by_offerer) {
            (AddCommit, false) => Some(AddRevocation),
            (RemoveAckCommit, false) => Some(RemoveAckRevocation),
            (AddAckCommit, true) => Some(AddAckRevocation),
            (RemoveCommit, true) => Some(RemoveRevocation),
            _ => None,
        }
    }

    /// Whether the newest signed commitment of `owner` counts the addition (it may count the removal as well).
    pub const fn added_in(self, offered_by: Side, owner: Side) -> bool {
        let owner_offered =
            matches!((offered_by, owner), (Side::Local, Side::Local) | (Side::Remote, Side::Remote));
        if owner_offered {
            self as u8 >= AddAckCommit as u8
        } else {
            self as u8 >= AddCommit as u8
        }
    }

    /// Whether the newest signed commitment of `owner` counts the removal.
    pub const fn removed_in(self, offered_by: Side, owner: Side) -> bool {
        let owner_offered =
            matches!((offered_by, owner), (Side::Local, Side::Local) | (Side::Remote, Side::Remote));
        if owner_offered {
            self as u8 >= RemoveCommit as u8
        } else {
            self as u8 >= RemoveAckCommit as u8
        }
    }

    /// Core Lightning's name for this step of an HTLC that `offered_by` offered.
    pub const fn name(self, offered_by: Side) -> &'static str {
        match (offered_by, self) {
            (Side::Local, AddHtlc) => "SENT_ADD_HTLC",
            (Side::Local, AddCommit) => "SENT_ADD_COMMIT",
            (Side::Local, AddRevocation) => "RCVD_ADD_REVOCATION",
            (Side::Local, AddAckCommit) => "RCVD_ADD_ACK_COMMIT",
            (Side::Local, AddAckRevocation) => "SENT_ADD_ACK_REVOCATION",
            (Side::Local, RemoveHtlc) => "RCVD_REMOVE_HTLC",
            (Side::Local, RemoveCommit) => "RCVD_REMOVE_COMMIT",
            (Side::Local, RemoveRevocation) => "SENT_REMOVE_REVOCATION",
            (Side::Local, RemoveAckCommit) => "SENT_REMOVE_ACK_COMMIT",
            (Side::Local, RemoveAckRevocation) => "RCVD_REMOVE_ACK_REVOCATION",
            (Side::Remote, AddHtlc) => "RCVD_ADD_HTLC",
            (Side::Remote, AddCommit) => "RCVD_ADD_COMMIT",
            (Side::Remote, AddRevocation) => "SENT_ADD_REVOCATION",
            (Side::Remote, AddAckCommit) => "SENT_ADD_ACK_COMMIT",
            (Side::Remote, AddAckRevocation) => "RCVD_ADD_ACK_REVOCATION",
            (Side::Remote, RemoveHtlc) => "SENT_REMOVE_HTLC",
            (Side::Remote, RemoveCommit) => "SENT_REMOVE_COMMIT",
            (Side::Remote, RemoveRevocation) => "RCVD_REMOVE_REVOCATION",
            (Side::Remote, RemoveAckCommit) => "RCVD_REMOVE_ACK_COMMIT",
            (Side::Remote, RemoveAckRevocation) => "SENT_REMOVE_ACK_REVOCATION",
        }
    }
}

/// How an HTLC ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Removal {
    /// By its secret: the receiver has the money.
    Fulfilled(Preimage),
    /// Given back; the bytes are for the payer (BOLT 4).
    Failed(Vec<u8>),
    /// Given back because its onion could not be read.
    Malformed {
        /// SHA-256 of the onion as received.
        sha256_of_onion: [u8; 32],
        /// A code with the BADONION bit.
        failure_code: u16,
    },
    /// The channel closed, and on chain it ended without its secret being shown: its amount went back to the offerer.
    OnChain,
}

impl Removal {
    /// Whether the receiver has the money.
    pub const fn is_fulfilled(&self) -> bool {
        matches!(self, Removal::Fulfilled(_))
    }
}

/// The commitments, by number, that hold an HTLC: first and last of each side's. What a penalty will need to
/// know of it for ever, in constant space.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Span {
    /// Ours: first.
    pub local_first: Option<u64>,
    /// Ours: last; `None` while it is in the newest, or never was in one.
    pub local_last: Option<u64>,
    /// The peer's: first.
    pub remote_first: Option<u64>,
    /// The peer's: last.
    pub remote_last: Option<u64>,
}

impl Span {
    /// Whether commitment `number` of `owner` held the HTLC.
    pub fn holds(&self, owner: Side, number: u64) -> bool {
        let (first, last) = match owner {
            Side::Local => (self.local_first, self.local_last),
            Side::Remote => (self.remote_first, self.remote_last),
        };
        first.is_some_and(|f| f <= number) && last.is_none_or(|l| number <= l)
    }

    /// Notes that `number` is the first (`added`) or the first without it.
    pub(crate) fn note(&mut self, owner: Side, number: u64, added: bool) {
        let (first, last) = match owner {
            Side::Local => (&mut self.local_first, &mut self.local_last),
            Side::Remote => (&mut self.remote_first, &mut self.remote_last),
        };
        if added {
            *first = Some(number);
        } else {
            *last = number.checked_sub(1);
        }
    }
}

/// One HTLC that is not yet forgotten.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Htlc {
    /// Its name.
    pub id: HtlcId,
    /// How much.
    pub amount: Msat,
    /// The lock.
    pub payment_hash: PaymentHash,
    /// From this height the offerer may take it back.
    pub cltv_expiry: Height,
    /// How far it has come.
    pub step: Step,
    /// How it ended, from step 5 on.
    pub removal: Option<Removal>,
    /// Which commitments hold it.
    pub span: Span,
    /// Its onion, kept in a record of its own while it may be needed.
    #[serde(skip)]
    pub onion: Option<Box<OnionPacket>>,
    /// The path key that came, or goes, beside the onion, kept with it: inside a blinded path only (BOLT 4).
    #[serde(skip)]
    pub path_key: Option<PublicKey>,
}

impl Htlc {
    /// Locked in on both sides and not being removed.
    pub fn is_settleable(&self) -> bool {
        self.step == AddAckRevocation && self.removal.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks one update through its ten messages and checks the table's columns at each.
    #[test]
    fn an_update_passes_both_commitments_and_leaves_them() {
        for offered_by in [Side::Local, Side::Remote] {
            let receiver = offered_by.other();
            let mut step = AddHtlc;
            let mut seen = alloc::vec![(step, false, false)];
            let push = |s: Step, seen: &mut Vec<(Step, bool, bool)>| {
                let held = |owner| s.added_in(offered_by, owner) && !s.removed_in(offered_by, owner);
                seen.push((s, held(receiver), held(offered_by)));
            };
            let acts: [(bool, Side); 9] = [
                (true, offered_by),
                (false, receiver),
                (true, receiver),
                (false, offered_by),
                (true, offered_by), // nothing to do for this update: it is locked in
                (true, receiver),
                (false, offered_by),
                (true, offered_by),
                (false, receiver),
            ];
            for (i, (commit, who)) in acts.into_iter().enumerate() {
                if i == 5 {
                    step = RemoveHtlc;
                    push(step, &mut seen);
                }
                let next = if commit {
                    step.after_commit(offered_by, who)
                } else {
                    step.after_revoke(offered_by, who)
                };
                assert_eq!(next.is_none(), i == 4, "act {i}");
                if let Some(n) = next {
                    assert_eq!(n as u8, step as u8 + 1);
                    step = n;
                    push(step, &mut seen);
                }
            }
            let table = [
                (false, false),
                (true, false),
                (true, false),
                (true, true),
                (true, true),
                (true, true),
                (true, false),
                (true, false),
                (false, false),
                (false, false),
            ];
            let wanted: Vec<_> = Step::ALL.into_iter().zip(table).map(|(s, (r, o))| (s, r, o)).collect();
            assert_eq!(seen, wanted);
        }
    }

    #[test]
    fn each_message_moves_only_the_steps_that_wait_for_it() {
        for offered_by in [Side::Local, Side::Remote] {
            for step in Step::ALL {
                let moves = [
                    step.after_commit(offered_by, Side::Local),
                    step.after_commit(offered_by, Side::Remote),
                    step.after_revoke(offered_by, Side::Local),
                    step.after_revoke(offered_by, Side::Remote),
                ];
                let count = moves.iter().flatten().count();
                let expected = usize::from(!matches!(step, AddAckRevocation | RemoveAckRevocation));
                assert_eq!(count, expected, "{step:?} by {offered_by:?}");
            }
        }
    }

    #[test]
    fn a_span_tells_which_commitments_held_it() {
        let mut span = Span::default();
        assert!(!span.holds(Side::Local, 0));
        span.note(Side::Local, 5, true);
        span.note(Side::Local, 8, false);
        let held: Vec<u64> = (0..12).filter(|n| span.holds(Side::Local, *n)).collect();
        assert_eq!(held, [5, 6, 7]);
        assert!(!span.holds(Side::Remote, 6));
    }
}
