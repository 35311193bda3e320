//! `emergencyrecover`
//!
//! In: nothing; the channel backups that lie in the node's folder. Out: the channels that were restored from them.
//! Read next: `crate::backup`, `chand_protocol::node::lost`.

use super::{Context, Outcome};
use crate::backup;
use crate::rpc::message::RpcError;
use crate::rpc::params::Args;
use chand_protocol::node::command::{Command, Reply};
use serde_json::{json, Value};
use std::sync::Arc;

/// Channels that the backup files name and this node does not know.
pub async fn emergencyrecover(cx: Arc<Context>, _: Args) -> Outcome {
    let dir = cx.about.lightning_dir.clone();
    let read = tokio::task::spawn_blocking(move || backup::files_in(&dir)).await;
    let sealed = match read {
        Ok(Ok(sealed)) => sealed,
        Ok(Err(error)) => {
            return Err(RpcError::new(-1, format!("the channel backups cannot be read: {error}")))
        }
        Err(_) => return Err(RpcError::unexpected("emergencyrecover")),
    };
    let Reply::Stubs(made) = cx.backend.command(Command::EmergencyRecover { sealed }).await? else {
        return Err(RpcError::unexpected("emergencyrecover"));
    };
    let stubs: Vec<Value> = made.iter().map(|id| json!(id.to_string())).collect();
    Ok(json!({ "stubs": stubs }))
}
