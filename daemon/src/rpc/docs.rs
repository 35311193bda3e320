//! The table of methods as a page, `docs/RPC.md`.
//!
//! In: `table`. Out: Markdown. A test keeps the file equal to this; `CHAND_WRITE_DOCS=1` writes it.
//! Read next: `table`.

use super::params::Kind;
use super::table::{Method, METHODS};
use std::fmt::Write as _;

const HEAD: &str = "\
# The control socket

JSON-RPC 2.0 over a Unix stream socket, in Core Lightning's dialect: method, parameter and field names, types and error
codes are its own, so that its clients (`pyln-client`, `cln-rpc`) work unchanged. What is chand's own is marked (chand).
Why, and where the two differ: [decisions/rpc-dialect.md](decisions/rpc-dialect.md).

* The socket is `DIR/NETWORK/rpc.sock` (`--rpc-socket`), readable and writable by its owner only.
* Requests are JSON objects back to back, or one a line; batches are arrays of at most 100. Each answer is one line followed
  by an empty one, and carries its request's `id`; answers come when they are ready, not in order of asking.
* `params` is an array or an object; `null` counts as left out. A request without `id` is done and not answered.
* Amounts are msat where a name says so, written `1000`, `1000msat`, `10sat`, `1.5sat` or `0.1btc`; parameters of type `sat` take
  whole satoshi, and a bare number there is satoshi. Feerates are `slow`, `normal`, `urgent`, `minimum`, `12blocks`, `253perkw`, `1000perkb`.
* Limits: 4 MiB and 64 levels a request, 64 requests at once a connection, 128 connections. A client that does not read its
  answers for 30 seconds is hung up on. No client's trouble touches another's.
* Errors: −32700 no JSON, −32600 no request, −32601 no such method, −32602 a parameter (named), −32603 a bug of chand's;
  200–219 payments, 300–313 funding, 400–402 connecting, 900–908 invoices, as Core Lightning's; −1 everything else.
* While the disk refuses (no room), what asks only – `getinfo`, `balance`, `listfunds` and the lists of peers, channels, invoices, payments,
  forwards, HTLCs, snapshots and watchtowers – is answered from what was kept last, with a field `warning_disk` (chand), or with an error
  when that cannot be read; everything else waits until there is room.
* The same methods over HTTP and WebSocket, for whoever has a rune (`--http`): [ACCESS.md](ACCESS.md).
* `filter` beside `params` picks fields of the result: `{\"channels\":[{\"state\":true}]}`.

This page is made from the list that the daemon itself dispatches by. The same text: `chan-cli help METHOD`.
";

/// The whole page.
pub fn render() -> String {
    let mut page = HEAD.to_string();
    for category in ["node", "peers", "wallet", "channels", "payments", "graph", "developer"] {
        let _ = writeln!(page, "\n## {category}");
        if category == "developer" {
            page.push_str("\nOnly with `--dev`: for tests. They can lose money.\n");
        }
        for method in METHODS.iter().filter(|m| m.category == category) {
            section(&mut page, method);
        }
    }
    page
}

fn section(page: &mut String, method: &Method) {
    let _ = writeln!(page, "\n### {}\n\n{}\n\n`{}`", method.name, method.summary, method.usage());
    let done: Vec<_> = method.params.iter().filter(|p| p.kind != Kind::NotYet).collect();
    if !done.is_empty() {
        page.push_str("\n| parameter | type | default | |\n|---|---|---|---|\n");
    }
    for p in done {
        let default = if p.required { "**needed**" } else { p.default };
        let _ = writeln!(page, "| `{}` | {} | {} | {} |", p.name, p.kind.name(), default, p.doc);
    }
    let later: Vec<String> =
        method.params.iter().filter(|p| p.kind == Kind::NotYet).map(|p| format!("`{}`", p.name)).collect();
    if !later.is_empty() {
        let _ = writeln!(page, "\nNot done yet, refused when given: {}.", later.join(", "));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_is_up_to_date() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/RPC.md");
        if std::env::var_os("CHAND_WRITE_DOCS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, super::render()).unwrap();
        }
        let page = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(page == super::render(), "docs/RPC.md is old: run the tests once with CHAND_WRITE_DOCS=1");
    }
}
