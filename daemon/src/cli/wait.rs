//! `--wait`: stay until a channel can be used, or until its close is confirmed, and show how it goes.
//!
//! In: the answer of `fundchannel` or `close`. Out: the same answer, later; progress on standard error.
//! On a terminal one line is rewritten; elsewhere each change is a line.
//! Read next: `human`.

use super::args::Call;
use super::client::{CallError, Client};
use super::Terminal;
use serde_json::{json, Value};

/// Makes the call, and with `--wait` stays until the chain has settled it.
///
/// # Errors
/// [`CallError`]; also when a channel that was awaited closes instead.
pub(super) fn call(
    client: &mut Client,
    call: &Call,
    terminal: &mut Terminal<'_>,
) -> Result<Value, CallError> {
    if !call.wait {
        let tell = &mut |line: &str| terminal.warn(&format!("chan-cli: {line}"));
        return client.call_telling(&call.method, call.params.clone(), tell);
    }
    let mut progress = Progress { terminal, shown: String::new() };
    let outcome = if call.method == "close" {
        close(client, call, &mut progress)
    } else {
        fundchannel(client, call, &mut progress)
    };
    progress.end();
    outcome
}

fn fundchannel(
    client: &mut Client,
    call: &Call,
    progress: &mut Progress<'_, '_>,
) -> Result<Value, CallError> {
    progress.show("opening the channel with the peer …");
    let opened = client.call("fundchannel", call.params.clone())?;
    let (id, txid) = (text(&opened, "channel_id"), text(&opened, "txid"));
    progress.show(&format!("channel {id}"));
    progress.keep();
    loop {
        let channels = client.call("listpeerchannels", json!({ "channel_id": id }))?;
        let Some(channel) = channels.pointer("/channels/0") else {
            return Err(refused(format!("channel {id} is gone: the peer gave it up, or it was closed")));
        };
        match text(channel, "state").as_str() {
            "CHANNELD_NORMAL" => {
                progress.show(&format!("channel {id} can be used"));
                return Ok(opened);
            }
            "OPENINGD" | "CHANNELD_AWAITING_LOCKIN" => progress.show(&lockin(channel, &txid)),
            other => return Err(refused(format!("channel {id} closes instead of opening ({other})"))),
        }
        std::thread::sleep(progress.terminal.poll);
    }
}

fn lockin(channel: &Value, txid: &str) -> String {
    let (have, need) = (number(channel, "confirmations"), number(channel, "confirmations_needed"));
    if have >= need {
        return format!("confirmations {have}/{need}: waiting for the peer to be ready");
    }
    format!("confirmations {have}/{need} of the funding transaction {txid}")
}

fn close(client: &mut Client, call: &Call, progress: &mut Progress<'_, '_>) -> Result<Value, CallError> {
    let id = channel_id(client, call)?;
    progress.show("agreeing on the close with the peer …");
    let closed = client.call("close", call.params.clone())?;
    let Some(id) = id else { return Ok(closed) };
    if text(&closed, "type") == "unopened" {
        return Ok(closed);
    }
    let txid = closed.pointer("/txids/0").and_then(Value::as_str).unwrap_or("?").to_string();
    let kind = text(&closed, "type");
    progress.show(&format!("{kind} close: waiting for the first confirmation of {txid}"));
    loop {
        let list = client.call("listclosedchannels", json!({}))?;
        let found =
            list["closedchannels"].as_array().into_iter().flatten().find(|c| text(c, "channel_id") == id);
        if let Some(channel) = found {
            let height = channel.pointer("/cause/confirmed_height").and_then(Value::as_u64);
            let at = height.map_or_else(String::new, |h| format!(" in block {h}"));
            progress.show(&format!("{kind} close confirmed{at}"));
            return Ok(closed);
        }
        std::thread::sleep(progress.terminal.poll);
    }
}

/// The id of the channel that is to be closed, while it can still be found by its peer or short id.
fn channel_id(client: &mut Client, call: &Call) -> Result<Option<String>, CallError> {
    let wanted =
        call.params.get("id").or_else(|| call.params.get(0)).and_then(Value::as_str).unwrap_or_default();
    let channels = client.call("listpeerchannels", json!({}))?;
    let names = ["channel_id", "short_channel_id", "peer_id"];
    let found: Vec<&Value> = channels["channels"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|c| names.iter().any(|name| c[*name].as_str() == Some(wanted)))
        .collect();
    // When there is none, or more than one, `close` itself says so.
    Ok(if let [one] = found.as_slice() { Some(text(one, "channel_id")) } else { None })
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_string()
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_default()
}

fn refused(message: String) -> CallError {
    CallError::Refused(json!({ "code": -1, "message": message }))
}

/// The line that changes.
struct Progress<'a, 'b> {
    terminal: &'a mut Terminal<'b>,
    shown: String,
}

impl Progress<'_, '_> {
    /// Shows a line in place of the last.
    fn show(&mut self, line: &str) {
        if line == self.shown {
            return;
        }
        self.shown = line.into();
        // Nobody to read it is no reason to stop.
        let _ = if self.terminal.err_is_terminal {
            write!(self.terminal.err, "\r\x1b[K{line}").and_then(|()| self.terminal.err.flush())
        } else {
            writeln!(self.terminal.err, "{line}")
        };
    }

    /// Leaves the line where it is and begins another.
    fn keep(&mut self) {
        if self.terminal.err_is_terminal && !self.shown.is_empty() {
            let _ = writeln!(self.terminal.err);
        }
        self.shown.clear();
    }

    fn end(&mut self) {
        self.keep();
    }
}
