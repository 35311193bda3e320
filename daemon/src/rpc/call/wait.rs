//! `wait`
//!
//! In: an index and a number. Out: how far it is once it is that far, and what happened to bring it there.
//! Read next: `show`.

use super::{Context, Outcome};
use crate::rpc::message::RpcError;
use crate::rpc::params::Args;
use crate::rpc::show;
use chand_protocol::node::command::{Command, Reply};
use chand_protocol::node::waits::{Event, Subsystem};
use std::sync::Arc;

/// Core Lightning's name for a list.
pub const fn subsystem_name(subsystem: Subsystem) -> &'static str {
    match subsystem {
        Subsystem::Invoices => "invoices",
        Subsystem::Sendpays => "sendpays",
        Subsystem::Forwards => "forwards",
    }
}

/// Core Lightning's name for an index.
pub const fn index_name(event: Event) -> &'static str {
    match event {
        Event::Created => "created",
        Event::Updated => "updated",
        Event::Deleted => "deleted",
    }
}

/// Wait for an index.
pub async fn wait(cx: Arc<Context>, args: Args) -> Outcome {
    let (list, name): (String, String) = (args.get("subsystem")?, args.get("indexname")?);
    let all = [Subsystem::Invoices, Subsystem::Sendpays, Subsystem::Forwards];
    let subsystem = all.into_iter().find(|s| subsystem_name(*s) == list);
    let subsystem = subsystem.ok_or_else(|| RpcError::param("subsystem", "is not counted"))?;
    let all = [Event::Created, Event::Updated, Event::Deleted];
    let event = all.into_iter().find(|e| index_name(*e) == name);
    let event = event.ok_or_else(|| RpcError::param("indexname", "is not counted"))?;
    let command = Command::Wait { index: (subsystem, event), from: args.get("nextvalue")? };
    match cx.backend.command(command).await? {
        Reply::Reached(reached) => Ok(show::reached(&reached)),
        _ => Err(RpcError::unexpected("wait")),
    }
}
