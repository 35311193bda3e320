//! What must hold. Each judge is a file, has a short name that stays, and says what it found in words.
//!
//! In: the world, at the moments that `core` names: a message leaves, a transaction is given out, a node is born, a
//! release is done, all is quiet. Out: nothing, or a [`Verdict`].
//!
//! | name | what it wants |
//! |---|---|
//! | `money` | no msat is made or lost; each payment is complete for both or for neither; sums as in an independent book; on chain nobody honest ends with less than its newest state gave it, fees apart, and a cheat with nothing |
//! | `agree` | what one side signs is, byte for byte, what the other side builds |
//! | `durable` | whatever was said is known to a node made of what is on disk |
//! | `restart` | the disk holds exactly what the node would need, and who comes back is the same |
//! | `safety` | no revoked commitment leaves, no secret early or twice differently, none is lost by who may punish with it, nor what it takes to build the commitment again; what is published is signed; honest peers find no fault in each other |
//! | `live` | once all is mended, every HTLC ends and every channel works, in bounded time; both know what the chain holds |
//! | `late` | who is awake takes each output by the first block that may hold its claim, closes in time for an HTLC's deadline, and gives none up before its end is seven deep |
//! | `fees` | a claim of one's own money pays no more than is promised; a raised version is worth its way |
//! | `reply` | every order is answered exactly once |
//! | `same` | the same plan twice leaves the same trace (the runner) |
//! | `panic` | no step panics |
//!
//! Read next: `money`.

pub mod agree;
pub mod durable;
pub mod estate;
pub mod fees;
pub mod late;
pub mod money;
pub mod place;
pub mod rebuild;
pub mod restart;
pub mod safety;
pub mod script;
pub mod valid;

use super::world::World;
use chand_protocol::id::CommandId;
use chand_protocol::node::command::{CommandError, Reply};
use chand_protocol::wire::Message;
use std::collections::BTreeMap;

/// What a judge found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Which judge.
    pub judge: &'static str,
    /// What it found.
    pub words: String,
}

impl Verdict {
    /// A finding.
    pub fn new(judge: &'static str, words: impl Into<String>) -> Verdict {
        Verdict { judge, words: words.into() }
    }
}

/// What the judges remember of a run.
#[derive(Default)]
pub struct Judges {
    /// Every payment that was tried.
    pub book: money::Book,
    /// What each seat said.
    pub told: [durable::Told; 2],
    /// Every commitment that was signed.
    pub signed: agree::Signed,
    /// Secrets that went out.
    pub revealed: safety::Revealed,
    /// What is ripe, and for how long.
    pub late: late::Late,
    /// Answers that somebody looks for.
    pub kept: BTreeMap<CommandId, Result<Reply, CommandError>>,
}

/// A message leaves a node.
///
/// # Errors
/// The first judge that finds it wrong.
pub fn said(world: &mut World, seat: usize, message: &Message) -> Result<(), Verdict> {
    durable::said(world, seat, message);
    agree::said(world, seat, message)?;
    safety::said(world, seat, message)
}

/// The numbers of a message, for a trace.
pub fn brief(message: &Message) -> String {
    match message {
        Message::UpdateAddHtlc(m) => format!("id {} {} {}", m.id, m.amount_msat, short(&m.payment_hash)),
        Message::UpdateFulfillHtlc(m) => format!("id {}", m.id),
        Message::UpdateFailHtlc(m) => format!("id {}", m.id),
        Message::UpdateFailMalformedHtlc(m) => format!("id {}", m.id),
        Message::UpdateFee(m) => format!("{}", m.feerate_per_kw),
        Message::CommitmentSigned(m) => format!("{} HTLC signatures", m.htlc_signatures.len()),
        Message::ChannelReestablish(m) => {
            format!("next commitment {} revocation {}", m.next_commitment_number, m.next_revocation_number)
        }
        Message::Error(m) | Message::Warning(m) => m.text(),
        _ => String::new(),
    }
}

fn short(bytes: &[u8; 32]) -> String {
    chand_protocol::id::to_hex(&bytes[..4])
}
