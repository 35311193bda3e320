//! `getinfo help stop listconfigs listbackends getlog`
//!
//! In: nothing but what the node and its daemon know of themselves. Out: Core Lightning's shapes.
//! Read next: `show`.

use super::{Context, Outcome};
use crate::chain::Report;
use crate::config::MOST_DRAIN_S;
use crate::core::words;
use crate::rpc::backend::{ConfigEntry, ConfigValue};
use crate::rpc::log::{LogLine, MAX_BYTES};
use crate::rpc::message::{RpcError, METHOD_NOT_FOUND};
use crate::rpc::params::{Args, Kind};
use crate::rpc::show::{self, Object};
use crate::rpc::table::{find, Method, METHODS};
use chand_protocol::id::to_hex;
use chand_protocol::node::command::{Command, Reply};
use chand_protocol::node::view::Info;
use serde_json::{json, Map, Value};
use std::sync::Arc;
use std::time::Duration;
use tracing::Level;

/// What money on chain is told with: fields that say why it may be old, if it may.
pub struct ChainWarnings {
    unreachable: bool,
    reading: bool,
}

impl ChainWarnings {
    /// Asks the node.
    ///
    /// # Errors
    /// The node's.
    pub async fn ask(cx: &Context) -> Result<ChainWarnings, RpcError> {
        match cx.backend.command(Command::GetInfo).await? {
            Reply::Info(info) => Ok(ChainWarnings::of(cx, &info)),
            _ => Err(RpcError::unexpected("getinfo")),
        }
    }

    fn of(cx: &Context, info: &Info) -> ChainWarnings {
        // What is on disk does not tell how far the chain is read: `warning_disk` says what there is to say.
        let reading = info.chain_reachable && !info.chain_synced && cx.backend.behind().is_none();
        ChainWarnings { unreachable: !info.chain_reachable, reading }
    }

    /// With the fields of Core Lightning's names.
    pub fn onto(&self, object: Object) -> Object {
        let unreachable =
            "the chain backend cannot be reached; what happens on chain is not seen until it is back";
        let behind = "still reading blocks; the balances shown may be old";
        object
            .maybe("warning_bitcoind_sync", self.unreachable.then_some(unreachable))
            .maybe("warning_lightningd_sync", self.reading.then_some(behind))
    }
}

/// Who this node is and where it stands.
pub async fn getinfo(cx: Arc<Context>, _: Args) -> Outcome {
    let Reply::Info(info) = cx.backend.command(Command::GetInfo).await? else {
        return Err(RpcError::unexpected("getinfo"));
    };
    let about = &cx.about;
    let object = Object::of(json!({
        "id": info.id.to_string(),
        "alias": info.alias,
        "color": to_hex(&info.color),
        "num_peers": info.num_peers,
        "num_pending_channels": info.num_pending_channels,
        "num_active_channels": info.num_active_channels,
        "num_inactive_channels": info.num_inactive_channels,
        "address": about.addresses.iter().map(|a| show::address(a)).collect::<Vec<_>>(),
        "binding": about.bindings.iter().map(show::socket_address).collect::<Vec<_>>(),
        "version": about.version,
        "blockheight": info.blockheight.0,
        "network": about.network.row().name,
        "fees_collected_msat": info.fees_collected.0,
        "lightning-dir": about.lightning_dir.display().to_string(),
        "our_features": {
            "init": to_hex(&info.features_init),
            "node": to_hex(&about.features.node),
            "channel": to_hex(&about.features.channel),
            "invoice": to_hex(&info.features_invoice),
        },
    }));
    let draining =
        info.draining.map(|left| format!("about to stop, nothing is begun any more: {}", words(left)));
    Ok(ChainWarnings::of(&cx, &info).onto(object).maybe("warning_draining", draining).build())
}

/// The methods there are.
pub async fn help(cx: Arc<Context>, args: Args) -> Outcome {
    let dev = cx.about.dev;
    let list = match args.opt::<String>("command")? {
        None => METHODS.iter().filter(|m| dev || !m.is_dev()).map(help_entry).collect(),
        Some(name) => {
            let method = find(&name, dev).ok_or_else(|| unknown_method(&name))?;
            vec![help_entry(method)]
        }
    };
    Ok(json!({ "help": Value::Array(list), "format-hint": "simple" }))
}

/// Error −32601.
pub fn unknown_method(name: &str) -> RpcError {
    RpcError::new(METHOD_NOT_FOUND, format!("Unknown command '{}'", crate::rpc::amount::shorten(name)))
}

fn help_entry(method: &Method) -> Value {
    json!({
        "command": method.usage(),
        "category": method.category,
        "description": method.summary,
        "verbose": explain(method),
    })
}

/// A method and its parameters in words, one a line.
pub fn explain(method: &Method) -> String {
    let mut text = format!("{}\n{}", method.usage(), method.summary);
    for p in method.params.iter().filter(|p| p.kind != Kind::NotYet) {
        text.push_str(&format!("\n  {} ({}): {}", p.name, p.kind.name(), p.doc));
        if !p.required {
            text.push_str(&format!(" [{}]", p.default));
        }
    }
    text
}

/// The shutdown itself begins when this answer was written (`socket`).
pub async fn stop(cx: Arc<Context>, args: Args) -> Outcome {
    let seconds = args.opt::<u32>("drain")?.unwrap_or(0);
    if seconds > MOST_DRAIN_S {
        return Err(RpcError::param("drain", format!("must be at most {MOST_DRAIN_S} seconds")));
    }
    let answer = Object::of(json!({ "result": "Shutdown complete" }));
    if seconds == 0 {
        return Ok(answer.build());
    }
    let drained = cx.backend.drain(Duration::from_secs(seconds.into())).await;
    let left = drained
        .left()
        .map(|left| json!({ "under_way": left.under_way, "held": left.held, "absent": left.absent }));
    Ok(answer.maybe("drained", Some(drained.words())).maybe("htlcs", left).build())
}

/// Every option.
pub async fn listconfigs(cx: Arc<Context>, args: Args) -> Outcome {
    let mut entries = cx.backend.configs();
    if let Some(name) = args.opt::<String>("config")? {
        entries.retain(|e| e.name == name);
        if entries.is_empty() {
            return Err(RpcError::param("config", "there is no such option"));
        }
    }
    let configs: Map<String, Value> = entries.iter().map(|e| (e.name.clone(), config(e))).collect();
    Ok(json!({ "configs": configs }))
}

fn config(entry: &ConfigEntry) -> Value {
    let source = &entry.source;
    match &entry.value {
        ConfigValue::Set(v) => json!({ "set": v, "source": source }),
        ConfigValue::Bool(v) => json!({ "value_bool": v, "source": source }),
        ConfigValue::Text(v) => json!({ "value_str": v, "source": source }),
        ConfigValue::Texts(v) => json!({ "values_str": v, "sources": vec![source; v.len()] }),
        ConfigValue::Int(v) => json!({ "value_int": v, "source": source }),
        ConfigValue::Msat(v) => json!({ "value_msat": v, "source": source }),
    }
}

/// The chain backends.
pub async fn listbackends(cx: Arc<Context>, _: Args) -> Outcome {
    let one = |report: Report| {
        Object::of(json!({ "address": report.place, "active": report.active }))
            .maybe("blockheight", report.tip.map(|(height, _)| height.0))
            .maybe("blockhash", report.tip.map(|(_, hash)| hash.to_string()))
            .maybe("trouble", report.trouble)
            .build()
    };
    Ok(json!({ "backends": cx.backend.chains().into_iter().map(one).collect::<Vec<_>>() }))
}

/// The last lines of the log.
pub async fn getlog(cx: Arc<Context>, args: Args) -> Outcome {
    let level = match args.opt::<String>("level")?.as_deref() {
        Some("broken") => Level::ERROR,
        Some("unusual") => Level::WARN,
        None | Some("info") => Level::INFO,
        Some("debug") => Level::DEBUG,
        Some(_) => Level::TRACE,
    };
    let lines: Vec<Value> = cx.log.read(level).iter().map(log_line).collect();
    Ok(json!({
        "created_at": seconds(cx.log.created_at()),
        "bytes_used": cx.log.bytes_used(),
        "bytes_max": MAX_BYTES,
        "log": lines,
    }))
}

fn log_line(line: &LogLine) -> Value {
    let entry = match line {
        LogLine::Skipped(n) => return json!({ "type": "SKIPPED", "num_skipped": n }),
        LogLine::Entry(entry) => entry,
    };
    let kind = match entry.level {
        Level::ERROR => "BROKEN",
        Level::WARN => "UNUSUAL",
        Level::INFO => "INFO",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "TRACE",
    };
    Object::of(
        json!({ "type": kind, "time": seconds(entry.after), "source": entry.source, "log": entry.text }),
    )
    .maybe("node_id", entry.peer.clone())
    .build()
}

fn seconds(time: Duration) -> String {
    format!("{}.{:09}", time.as_secs(), time.subsec_nanos())
}
