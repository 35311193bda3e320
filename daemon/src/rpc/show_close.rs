//! Why a channel closed and what became of it, as JSON: `cause` and `state_changes`.
//!
//! In: `view::Channel` with its annals and the outputs of a published commitment. Out: (chand) `cause`, and Core
//! Lightning's `close_cause` and `state_changes`.
//! Read next: `show`.

use super::show::{direction, msat, Object};
use chand_protocol::channel::cause::{Because, By, Cause, Line, Reason, StateChange};
use chand_protocol::node::view;
use chand_protocol::onchain::Output;
use serde_json::{json, Value};
use std::collections::BTreeSet;

/// Who decided that it closes, in Core Lightning's words; `None` while nobody did.
pub fn close_cause(c: &view::Channel) -> Option<&'static str> {
    Some(c.annals.cause.as_ref()?.trigger.by().name())
}

/// (chand) `cause` of a channel that closes or is closed; `kind` and `confirmed` come from its end, where there is one.
pub fn cause(c: &view::Channel, end: Option<&view::ClosedChannel>) -> Option<Value> {
    let noted = c.annals.cause.as_ref();
    if noted.is_none() && end.is_none() {
        return None;
    }
    let object = Object::of(json!({ "txids": txids(c) }))
        .maybe("kind", end.map(|e| e.close_cause))
        .maybe("confirmed_height", end.and_then(|e| e.height).map(|h| h.0))
        .maybe(
            "outputs",
            (!c.outputs.is_empty()).then(|| c.outputs.iter().map(|o| output(c, o)).collect::<Vec<_>>()),
        );
    let object = match noted {
        Some(noted) => with_cause(object, noted),
        // Closed by a version that noted less.
        None => object.maybe("reason", end.map(|e| e.trigger.clone())),
    };
    Some(object.build())
}

fn with_cause(object: Object, cause: &Cause) -> Object {
    object
        .maybe("trigger", Some(cause.trigger.name()))
        .maybe("reason", Some(cause.words.clone()))
        .maybe("height", Some(cause.height.0))
        .maybe("time", Some(cause.time_s))
        .maybe("feerate_perkw", Some(cause.feerate.0))
        .maybe("htlc", cause.htlc.as_ref().map(htlc))
        .maybe("peer_message", cause.peer_message.clone())
        .maybe("decision", Some(cause.decision.clone()))
        .maybe("story", Some(cause.story.iter().map(line).collect::<Vec<_>>()))
}

fn htlc(reason: &Reason) -> Value {
    json!({
        "direction": direction(reason.id.offered_by),
        "id": reason.id.id,
        "amount_msat": reason.amount.0,
        "payment_hash": reason.payment_hash.to_string(),
        "expiry": reason.cltv_expiry.0,
    })
}

fn line(line: &Line) -> Value {
    json!({ "height": line.height.0, "time": line.time_s, "text": line.text })
}

fn output(c: &view::Channel, output: &Output) -> Value {
    let rests = c.resting.iter().find(|(outpoint, _)| *outpoint == output.outpoint && output.spent.is_none());
    let rests = rests.map(|(_, least)| {
        format!("taking it would cost at least {least}, more than it is worth: left until feerates fall")
    });
    Object::of(json!({
        "outpoint": output.outpoint.to_string(),
        "kind": output.kind.name(),
        "amount_msat": msat(output.amount),
        "state": output.state(),
    }))
    .maybe("payment_hash", output.lock.as_ref().map(|lock| lock.payment_hash.to_string()))
    .maybe("waits_because", rests)
    .maybe("spent_by", output.spent.map(|spent| spent.txid.to_string()))
    .maybe("spent_height", output.spent.map(|spent| spent.height.0))
    .build()
}

/// The transaction that closed it first, then those that spent what it paid to, each once.
fn txids(c: &view::Channel) -> Vec<String> {
    let spends = c.outputs.iter().filter_map(|output| output.spent).map(|spent| spent.txid);
    let mut seen = BTreeSet::new();
    c.closing_txid
        .into_iter()
        .chain(spends)
        .filter(|txid| seen.insert(*txid))
        .map(|t| t.to_string())
        .collect()
}

/// Core Lightning's `state_changes`, oldest first, with the (chand) height.
pub fn state_changes(c: &view::Channel) -> Vec<Value> {
    let reasons = c.annals.reasons.iter().map(Some).chain(std::iter::repeat(None));
    c.annals.changes.iter().zip(reasons).map(|(change, why)| state_change(change, why)).collect()
}

fn state_change(change: &StateChange, why: Option<&Because>) -> Value {
    json!({
        "timestamp": timestamp(change.time_s),
        "old_state": change.from.name(),
        "new_state": change.to.name(),
        "cause": why.map_or(By::Unknown, |why| why.by).name(),
        "message": why.map_or("", |why| &why.words),
        "height": change.height.0, // (chand)
    })
}

/// `YYYY-MM-DDThh:mm:ss.000Z`, as Core Lightning writes it; from seconds since the Unix epoch.
fn timestamp(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.000Z", second % 60)
}

/// The Gregorian date of a day since 1970-01-01. Years begin in March here, so that a leap day is a year's last.
fn date(days: u64) -> (u64, u64, u64) {
    // Days from 0000-03-01 to 1970-01-01, and of 400, 100 and 4 years.
    const TO_EPOCH: u64 = 719_468;
    const AGE: u64 = 146_097;
    const CENTURY: u64 = 36_524;
    const LEAP: u64 = 1_461;
    let days = days.saturating_add(TO_EPOCH);
    let (age, of_age) = (days / AGE, days % AGE);
    let of_age_year = (of_age - of_age / (LEAP - 1) + of_age / CENTURY - of_age / (AGE - 1)) / 365;
    let of_year = of_age - (365 * of_age_year + of_age_year / 4 - of_age_year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = 400 * age + of_age_year + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_231_006_505, "2009-01-03T18:15:05.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (1_735_689_600, "2025-01-01T00:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(timestamp(seconds), text);
        }
    }
}
