//! Marks: each way of the chain that some seed must have gone, so that what is never gone does not count as tested.
//!
//! In: both nodes' watches, looked at again and again. Out: a mark in the tally the first time that a way was gone in a
//! run. `sim --marks` fails when a mark was never reached. Read next: `tally`.

use super::world::World;
use bitcoin::OutPoint;
use chand_protocol::channel::cause::Trigger;
use chand_protocol::channel::Channel;
use chand_protocol::id::Side;
use chand_protocol::onchain::claim::Form;
use chand_protocol::onchain::{Kind, Output, Standing, Watch};
use std::collections::{BTreeMap, BTreeSet};

/// Every mark.
pub const ALL: [&str; 38] = [
    "penalty: to_local",
    "penalty: offered HTLC",
    "penalty: received HTLC",
    "penalty: second level",
    "penalty: to_remote beside it",
    "claim: own to_local after its delay",
    "claim: own second level after its delay",
    "claim: to_remote",
    "claim: success on theirs",
    "claim: timeout on theirs",
    "claim: success on ours, alone",
    "claim: timeout on ours, alone",
    "claim: success on ours, funded",
    "claim: timeout on ours, funded",
    "claim: child of the commitment",
    "claim: raised",
    "claim: raised in a penalty",
    "claim: batch of several",
    "claim: batch split",
    "claim: lost and made anew",
    "reorganisation: close undone",
    "reorganisation: close again",
    "reorganisation: claim undone",
    "reorganisation: claim again",
    "reorganisation: penalty undone",
    "reorganisation: penalty again",
    "reorganisation: second level undone",
    "breach found at start-up",
    "secret learnt from the chain",
    "close: deadline of an offered HTLC",
    "close: deadline of a received HTLC",
    "settled late",
    "reorganisation: deep, a close with it",
    "a cheat that calls again",
    "a cheat that calls again before its crime is in a block",
    "a cheat that pins",
    "forgotten",
    "forgotten, something small left",
];

/// What was seen of an output before.
#[derive(Clone, Copy, Default)]
struct Seen {
    born: bool,
    taken: bool,
    unborn: bool,
    untaken: bool,
}

/// What is remembered of a run for marks.
#[derive(Default)]
pub struct Marks {
    seen: BTreeMap<(usize, OutPoint), Seen>,
    reached: BTreeSet<&'static str>,
    /// At which block each program began.
    pub begun_at: [u32; 2],
    breaches: BTreeSet<(usize, OutPoint)>,
}

impl World {
    /// A way was gone.
    pub(super) fn mark(&mut self, mark: &'static str) {
        if self.marks.reached.insert(mark) {
            self.tally.met(mark);
        }
    }

    /// Looks at what both nodes watch.
    pub(super) fn note_marks(&mut self) {
        let mut found: Vec<&'static str> = Vec::new();
        for seat in 0..2 {
            if !self.is_judged(seat) {
                continue;
            }
            let Some(node) = self.seats[seat].node() else { continue };
            for channel in node.channels() {
                why(channel, &mut found);
                let Some(watch) = &channel.watch else { continue };
                claims(watch, &mut found);
                late(channel, watch, &mut found);
                let breach = watch.owner == Side::Remote && watch.standing == Standing::Revoked;
                if let (true, Some(born)) = (breach, watch.born()) {
                    let new = self.marks.breaches.insert((seat, channel.terms.funding));
                    if new && born.0 <= self.marks.begun_at[seat] {
                        found.push("breach found at start-up");
                    }
                }
                for output in &watch.outputs {
                    spent(watch, output, &mut found);
                    let known = self.marks.seen.entry((seat, output.outpoint)).or_default();
                    undone(watch, output, known, &mut found);
                }
                // Second-level outputs are forgotten with their block.
                let there: BTreeSet<OutPoint> = watch.outputs.iter().map(|o| o.outpoint).collect();
                let ours = watch.outputs.first().map(|o| o.outpoint.txid);
                let gone = self.marks.seen.iter().any(|((s, place), seen)| {
                    *s == seat
                        && seen.born
                        && seen.unborn
                        && !there.contains(place)
                        && Some(place.txid) != ours
                });
                if gone {
                    found.push("reorganisation: second level undone");
                }
                for ((s, place), seen) in &mut self.marks.seen {
                    seen.unborn |= *s == seat && !there.contains(place);
                }
            }
        }
        for mark in found {
            self.mark(mark);
        }
    }
}

fn why(channel: &Channel, found: &mut Vec<&'static str>) {
    let Some(cause) = &channel.annals.cause else { return };
    if cause.trigger != Trigger::Deadline {
        return;
    }
    match cause.htlc.map(|h| h.id.offered_by) {
        Some(Side::Local) => found.push("close: deadline of an offered HTLC"),
        Some(Side::Remote) => found.push("close: deadline of a received HTLC"),
        None => {}
    }
}

fn claims(watch: &Watch, found: &mut Vec<&'static str>) {
    let penal = watch.owner == Side::Remote && watch.standing == Standing::Revoked;
    for claim in &watch.claims {
        let raised = claim.txids.len() > 1;
        if raised {
            found.push("claim: raised");
        }
        if raised && penal {
            found.push("claim: raised in a penalty");
        }
        if claim.form == Form::Sweep && claim.inputs.len() > 1 {
            found.push("claim: batch of several");
        }
        let shared = |c: &chand_protocol::onchain::claim::Claim| {
            c.number != claim.number && c.txids.iter().any(|t| claim.txids.contains(t))
        };
        if claim.inputs.len() == 1 && watch.claims.iter().any(shared) {
            found.push("claim: batch split");
        }
    }
    let highest = watch.claims.iter().map(|c| c.number + 1).max().unwrap_or(0);
    if (watch.claims.len() as u32) < watch.next_claim.min(highest) {
        found.push("claim: lost and made anew");
    }
}

fn late(channel: &Channel, watch: &Watch, found: &mut Vec<&'static str>) {
    for output in &watch.outputs {
        let Some(lock) = &output.lock else { continue };
        if lock.id.offered_by == Side::Local && lock.preimage.is_some() {
            found.push("secret learnt from the chain");
        }
        let step = channel.htlc(lock.id);
        let fulfilled = step.and_then(|h| h.removal.as_ref()).is_some_and(|r| r.is_fulfilled());
        // Its removal was never said to the peer: it stands as it stood when the channel closed.
        let quiet = step.is_some_and(|h| !h.step.name(h.id.offered_by).contains("REMOVE"));
        if lock.id.offered_by == Side::Remote && fulfilled && quiet && watch.standing == Standing::Valid {
            found.push("settled late");
        }
    }
}

/// Which way an output was taken by us.
fn spent(watch: &Watch, output: &Output, found: &mut Vec<&'static str>) {
    let Some(spent) = output.spent.filter(|s| s.ours) else { return };
    let offered = output.lock.as_ref().map(|l| l.id.offered_by);
    let form = watch.claims.iter().find(|c| c.txids.contains(&spent.txid)).map(|c| c.form);
    let mark = match (watch.owner, watch.standing, output.kind) {
        (Side::Remote, Standing::Revoked, Kind::ToLocal) => "penalty: to_local",
        (Side::Remote, Standing::Revoked, Kind::Second) => "penalty: second level",
        (Side::Remote, Standing::Revoked, Kind::Htlc) if offered == Some(Side::Remote) => {
            "penalty: offered HTLC"
        }
        (Side::Remote, Standing::Revoked, Kind::Htlc) => "penalty: received HTLC",
        (Side::Remote, Standing::Revoked, Kind::ToRemote) => "penalty: to_remote beside it",
        (Side::Remote, _, Kind::ToRemote) => "claim: to_remote",
        (Side::Remote, Standing::Valid, Kind::Htlc) if offered == Some(Side::Remote) => {
            "claim: success on theirs"
        }
        (Side::Remote, Standing::Valid, Kind::Htlc) => "claim: timeout on theirs",
        (Side::Local, _, Kind::ToLocal) => "claim: own to_local after its delay",
        (Side::Local, _, Kind::Second) => "claim: own second level after its delay",
        (Side::Local, _, Kind::AnchorOwner) => "claim: child of the commitment",
        (Side::Local, _, Kind::Htlc) => match (form, offered) {
            (Some(Form::HtlcAlone), Some(Side::Remote)) => "claim: success on ours, alone",
            (Some(Form::HtlcAlone), _) => "claim: timeout on ours, alone",
            (Some(Form::HtlcFunded | Form::HtlcTogether), Some(Side::Remote)) => {
                "claim: success on ours, funded"
            }
            (Some(Form::HtlcFunded | Form::HtlcTogether), _) => "claim: timeout on ours, funded",
            _ => return,
        },
        _ => return,
    };
    found.push(mark);
}

/// What a reorganisation took back, and what came again.
fn undone(watch: &Watch, output: &Output, known: &mut Seen, found: &mut Vec<&'static str>) {
    let penal = watch.owner == Side::Remote && watch.standing == Standing::Revoked;
    let (born, taken) = (output.born.is_some(), output.spent.is_some_and(|s| s.ours));
    if known.born && !born {
        known.unborn = true;
        found.push("reorganisation: close undone");
    } else if born && known.unborn && output.kind != Kind::Second {
        found.push("reorganisation: close again");
    }
    if known.taken && output.spent.is_none() {
        known.untaken = true;
        found.push(if penal { "reorganisation: penalty undone" } else { "reorganisation: claim undone" });
    } else if taken && known.untaken {
        found.push(if penal { "reorganisation: penalty again" } else { "reorganisation: claim again" });
    }
    (known.born, known.taken) = (born, taken);
}
