//! One unmodified ldk-node as a process: the counterparty of the interop tests.
//!
//! In: one command a line, `TAG WORD ARGUMENTS…`. Out: one JSON object a line: `{"tag":TAG,"ok":true,…}` or
//! `{"tag":TAG,"ok":false,"error":…}` for each command, in order, and `{"event":NAME,…}` when LDK has one.
//! It ends with its input, in good order. Nothing of LDK is changed; its defaults are left as they are.
//! Read next: `options`, `command`, `show`.

mod blinded;
mod command;
mod options;
mod show;

use ldk_node::Node;
use serde_json::{json, Value};
use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::Arc;

fn print(value: &Value) {
    let mut out = std::io::stdout().lock();
    // Whoever does not listen any more will close the input, too.
    let _ = writeln!(out, "{value}").and_then(|()| out.flush());
}

/// Prints LDK's events as they come; each is acknowledged once it is printed.
fn tell_events(node: Arc<Node>) {
    std::thread::spawn(move || loop {
        print(&show::event(&node.wait_next_event()));
        if node.event_handled().is_err() {
            return;
        }
    });
}

fn answer(node: &Node, line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let Some(([tag, word], arguments)) = words.split_first_chunk::<2>() else {
        return;
    };
    let mut reply = json!({ "tag": tag });
    match command::run(node, word, arguments) {
        Ok(fields) => {
            reply["ok"] = json!(true);
            for (name, value) in fields.as_object().into_iter().flatten() {
                reply[name] = value.clone();
            }
        }
        Err(error) => {
            reply["ok"] = json!(false);
            reply["error"] = json!(error);
        }
    }
    print(&reply);
}

fn main() -> ExitCode {
    let node = match options::Options::read(std::env::args().skip(1)).and_then(options::Options::start) {
        Ok(node) => node,
        Err(error) => {
            print(&json!({ "event": "fatal", "error": error }));
            return ExitCode::from(2);
        }
    };
    print(&json!({ "event": "started", "node_id": node.node_id().to_string() }));
    tell_events(Arc::clone(&node));
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        answer(&node, &line);
    }
    let stopped = node.stop();
    print(&json!({ "event": "stopped", "error": stopped.err().map(|e| e.to_string()) }));
    // The thread of events still waits for one.
    std::process::exit(0);
}
