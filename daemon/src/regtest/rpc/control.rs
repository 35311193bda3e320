//! Commands about the process itself, and the network it does not have.
//!
//! In: nothing much. Out: JSON. Read next: `table`.

use serde_json::{json, Value};

use super::args::Args;
use super::error::RpcError;
use super::json::amount;
use super::table::{find, COMMANDS};
use crate::regtest::node::Node;

/// The bitcoind whose behaviour is followed.
const VERSION: u32 = 300_000;

/// `getnetworkinfo`.
pub fn get_network_info(node: &Node, _: &Args) -> Result<Value, RpcError> {
    let state = node.lock()?;
    let policy = &state.pool.policy;
    Ok(json!({
        "version": VERSION,
        "subversion": "/Satoshi:30.0.0(chand regtest)/",
        "protocolversion": 70016,
        "localservices": "0000000000000409",
        "localservicesnames": ["NETWORK", "WITNESS", "NETWORK_LIMITED"],
        "localrelay": true,
        "timeoffset": 0,
        "networkactive": false,
        "connections": 0,
        "connections_in": 0,
        "connections_out": 0,
        "networks": [],
        "relayfee": amount(policy.min_relay_sat_kvb),
        "incrementalfee": amount(policy.incremental_sat_kvb),
        "localaddresses": [],
        "warnings": [],
    }))
}

/// `getpeerinfo`.
pub fn get_peer_info(_: &Node, _: &Args) -> Result<Value, RpcError> {
    Ok(json!([]))
}

/// `getconnectioncount`.
pub fn get_connection_count(_: &Node, _: &Args) -> Result<Value, RpcError> {
    Ok(json!(0))
}

/// `getzmqnotifications`.
pub fn get_zmq_notifications(_: &Node, _: &Args) -> Result<Value, RpcError> {
    Ok(json!([]))
}

/// `echo`.
pub fn echo(_: &Node, args: &Args) -> Result<Value, RpcError> {
    Ok(Value::Array(args.all().to_vec()))
}

/// `uptime`.
pub fn uptime(node: &Node, _: &Args) -> Result<Value, RpcError> {
    Ok(json!(node.uptime_seconds()))
}

/// `stop`.
pub fn stop(node: &Node, _: &Args) -> Result<Value, RpcError> {
    node.stop();
    Ok(json!("chand regtest stopping"))
}

/// `help`.
pub fn help(_: &Node, args: &Args) -> Result<Value, RpcError> {
    let usage = |name: &str, params: &[&str]| format!("{name} {}", params.join(" ")).trim_end().to_owned();
    if let Some(name) = args.text_opt(0)? {
        return Ok(match find(name) {
            Some(command) => json!(format!("{}\n\n{}", usage(command.name, command.args), command.about)),
            None => json!(format!("help: unknown command: {name}")),
        });
    }
    let mut areas: Vec<&str> = Vec::new();
    for command in COMMANDS {
        if !areas.contains(&command.area) {
            areas.push(command.area);
        }
    }
    let mut lines = Vec::new();
    for area in areas {
        lines.push(format!("== {area} =="));
        let mine = COMMANDS.iter().filter(|command| command.area == area);
        lines.extend(mine.map(|command| usage(command.name, command.args)));
        lines.push(String::new());
    }
    lines.pop();
    Ok(json!(lines.join("\n")))
}
