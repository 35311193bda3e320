//! The client against a served socket, exit codes and words included.

use super::{run, Terminal, DONE, REFUSED, UNREACHABLE};
use crate::rpc::fake::FakeBackend;
use crate::rpc::log::Ring;
use crate::rpc::{bind, serve, Limits};
use chand_protocol::node::view::State;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

struct Daemon {
    backend: Arc<FakeBackend>,
    folder: tempfile::TempDir,
    _shutdown: watch::Sender<bool>,
    _runtime: tokio::runtime::Runtime,
}

fn daemon() -> Daemon {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let backend = Arc::new(FakeBackend::default());
    let (shutdown, told) = watch::channel(false);
    runtime.block_on(async {
        let bound = bind(&folder.path().join("regtest/rpc.sock")).unwrap();
        tokio::spawn(serve(bound, Arc::clone(&backend) as _, Ring::default(), Limits::default(), told));
    });
    Daemon { backend, folder, _shutdown: shutdown, _runtime: runtime }
}

fn cli(data_dir: &Path, line: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut terminal = Terminal {
        out: &mut out,
        err: &mut err,
        out_is_terminal: false,
        err_is_terminal: false,
        poll: Duration::from_millis(1),
    };
    let words: Vec<String> = line.iter().map(ToString::to_string).collect();
    let dir = data_dir.display().to_string();
    let env = |name: &str| (name == "CHAND_DATA_DIR").then(|| dir.clone());
    let code = run(&words, &env, &mut terminal);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

#[test]
fn answers_errors_and_words() {
    let d = daemon();
    let dir = d.folder.path();
    let (code, out, _) = cli(dir, &["getinfo"]);
    assert_eq!(code, DONE);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["alias"], "Alice");
    let (code, out, _) = cli(dir, &["-H", "getinfo"]);
    assert_eq!(code, DONE);
    assert!(out.contains("blockheight") && !out.contains('{'), "{out}");

    let (code, out, _) = cli(dir, &["ping", "02"]);
    assert_eq!(code, REFUSED);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["code"], -32602);
    let (code, out, err) = cli(dir, &["-H", "ping", "02"]);
    assert_eq!((code, out.as_str()), (REFUSED, ""));
    assert!(err.contains("chan-cli help ping"), "{err}");
    let (code, out, _) = cli(dir, &["nonsense"]);
    assert_eq!(code, REFUSED);
    assert!(out.contains("-32601"));

    let (code, out, _) = cli(dir, &["-H", "help", "pay"]);
    assert_eq!(code, DONE);
    assert!(out.contains("maxfee (msat)"), "{out}");
    let (code, out, _) = cli(dir, &["--help"]);
    assert_eq!(code, DONE);
    assert!(out.lines().count() < 24);
}

#[test]
fn without_a_daemon_it_says_how_to_start_one() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let (code, out, err) = cli(dir, &["getinfo"]);
    assert_eq!((code, out.as_str()), (UNREACHABLE, ""));
    assert!(err.contains("no chand is running") && err.contains("chand --data-dir"), "{err}");
    let (code, _, err) = cli(dir, &["--what", "getinfo"]);
    assert_eq!(code, UNREACHABLE);
    assert!(err.contains("--what"));

    std::fs::create_dir(dir.join("regtest")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(dir.join("regtest/rpc.sock")).unwrap());
    let (code, _, err) = cli(dir, &["getinfo"]);
    assert_eq!(code, UNREACHABLE);
    assert!(err.contains("not running any more"), "{err}");

    let (code, out, err) = cli(dir, &["help", "pay"]);
    assert_eq!(code, DONE);
    assert!(out.contains("maxfee") && err.contains("chan-cli itself"));

    let d = daemon();
    let (code, _, err) = cli(d.folder.path(), &["--network", "signet", "getinfo"]);
    assert_eq!(code, UNREACHABLE);
    assert!(err.contains("--network regtest"), "{err}");
}

#[test]
fn a_daemon_that_hangs_up_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rpc.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let (code, _, err) = cli(folder.path(), &["--rpc-socket", path.to_str().unwrap(), "pay", "x"]);
    server.join().unwrap();
    assert_eq!(code, UNREACHABLE);
    assert!(err.contains("listpays"), "{err}");
}

#[test]
fn waiting_shows_progress_and_ends() {
    let d = daemon();
    let dir = d.folder.path();
    let bob = crate::rpc::fake::node(2).to_string();
    *d.backend.states.lock().unwrap() =
        vec![State::ChanneldAwaitingLockin, State::ChanneldAwaitingLockin, State::ChanneldNormal];
    let (code, out, err) = cli(dir, &["--wait", "fundchannel", &bob, "0.01btc"]);
    assert_eq!(code, DONE);
    assert!(out.contains("channel_id"));
    assert_eq!(err.matches("confirmations 0/3").count(), 1, "{err}");
    assert!(err.contains("can be used"), "{err}");

    *d.backend.states.lock().unwrap() = vec![State::Onchain];
    let (code, out, _) = cli(dir, &["fundchannel", &bob, "0.01btc", "--wait"]);
    assert_eq!(code, REFUSED);
    assert!(out.contains("closes instead of opening"));

    d.backend.states.lock().unwrap().clear();
    let (code, out, err) = cli(dir, &["close", "103x1x0", "--wait"]);
    assert_eq!(code, DONE);
    assert!(out.contains("mutual"));
    assert!(err.contains("waiting for the first confirmation") && err.contains("in block 120"), "{err}");
}
