//! One LDK node under measurement, driven by lines of JSON: what the benchmark of chand holds beside its own.
//!
//! In: `ldk-bench engine|shipped DIR PORT SEED CHAIN USER PASSWORD`, then one command a line on stdin.
//! Out: one answer a line on stdout. The process ends when stdin does.
//! * `engine`: LDK's engine at its best, put together by hand (`engine`);
//! * `shipped`: the crate ldk-node with its own defaults (`shipped`).
//!
//! Read next: `node` (the commands), `pay` (how payments are driven), then the two.
#![forbid(unsafe_code)]

mod chain;
mod engine;
mod node;
mod pay;
mod shipped;
mod store;

use chain::Chain;
use node::{Config, Host};
use std::io::BufRead;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [kind, dir, port, seed, addr, user, password] = args.as_slice() else {
        eprintln!("ldk-bench engine|shipped DIR PORT SEED CHAIN USER PASSWORD");
        std::process::exit(2);
    };
    let config = Config {
        shipped: kind == "shipped",
        dir: dir.into(),
        port: port.parse().expect("a port"),
        seed: seed.parse().expect("a number from 0 to 255"),
        chain: Chain { addr: addr.clone(), user: user.clone(), password: password.clone() },
    };
    // A thread that fails ends the process, so that whoever waits for an answer hears of it.
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        std::process::exit(101);
    }));
    let mut host = Host::new(config);
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        println!("{}", host.command(&serde_json::from_str(&line).expect("JSON")));
    }
    // Threads of LDK's that still run must not hold the process.
    std::process::exit(0);
}
