//! A real litecoind in the place of the embedded chain: with `CHAND_TEST_CHAIN=litecoind` the tests of real nodes run on it.
//!
//! In: a folder. Out: a regtest on which every rule is in force and coins can be spent, extension blocks (MWEB) among them.
//! Such a chain is made once and copied: it takes 1,500 blocks. Read next: `chain`.

use crate::chain::{PASSWORD, USER};
use crate::process::Process;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;

/// Where its regtest turns to blocks with extension blocks; the first one needs somebody who wants in.
const BEFORE_EXTENSION: u64 = 431;
/// All rules are in force (CLTV from block 1,351 on), and rewards can be spent.
const HEIGHT: u64 = 1_460;

/// Whether tests run on litecoind.
pub fn is_wanted() -> bool {
    std::env::var_os("CHAND_TEST_CHAIN").is_some_and(|chain| {
        assert!(chain == "litecoind" || chain == "chand", "CHAND_TEST_CHAIN is chand or litecoind");
        chain == "litecoind"
    })
}

/// What nodes are started with besides what a test gives them: the network, and expiries as near as those that tests count with.
pub fn node_options(given: &[String]) -> Vec<String> {
    let pairs = [("--network", "litecoin-regtest"), ("--cltv-delta", "34"), ("--cltv-final", "18")];
    let missing = |option: &str| !given.iter().any(|g| g == option);
    let mut options: Vec<String> = missing("--dev").then(|| "--dev".into()).into_iter().collect();
    for (name, value) in pairs.into_iter().filter(|(name, _)| missing(name)) {
        options.extend([name.into(), value.into()]);
    }
    options
}

/// Starts it on `port` with what is in `dir`.
pub fn launch(dir: &Path, port: u16, extra: &[String]) -> Process {
    let args = [
        "-regtest",
        "-server",
        "-listen=0",
        "-dnsseed=0",
        // As with the embedded chain, nothing is kept of what waits.
        "-persistmempool=0",
        "-fallbackfee=0.0002",
        // Off by default; without it nothing can be replaced by fee.
        "-mempoolreplacement=1",
        "-rpcthreads=8",
        "-rpcworkqueue=128",
        "-printtoconsole=1",
        &format!("-rpcuser={USER}"),
        &format!("-rpcpassword={PASSWORD}"),
        &format!("-rpcport={port}"),
        &format!("-datadir={}", dir.join("data").display()),
    ]
    .map(String::from);
    let args: Vec<String> = args.into_iter().chain(extra.iter().cloned()).collect();
    Process::start("litecoind", Path::new("litecoind"), &args, dir, &dir.join("log"))
}

/// Puts a chain with coins below `dir`.
///
/// # Panics
/// When there is no litecoind, or it does not do as it should.
pub fn prepare(dir: &Path) {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let dir = tempfile::Builder::new().prefix("litecoin-").tempdir().expect("a temporary folder");
        make(dir.path());
        dir
    });
    copy(&made.path().join("data"), &dir.join("data"));
}

fn make(dir: &Path) {
    use crate::chain::Chain;
    use serde_json::json;
    std::fs::create_dir_all(dir.join("data")).expect("a folder");
    let mut chain = Chain::of_litecoind(dir);
    chain.launch();
    // Its last parameter: load it at every start.
    let wallet = |name: &str, keep: bool| json!([name, false, false, "", false, false, keep]);
    chain.call("createwallet", wallet("other", false));
    let inside = chain.call("getnewaddress", json!(["", "mweb"]));
    chain.call("unloadwallet", json!(["other"]));
    chain.call("createwallet", wallet("faucet", true));
    chain.mine(BEFORE_EXTENSION);
    chain.call("sendtoaddress", json!([inside, 1]));
    chain.mine(HEIGHT - BEFORE_EXTENSION);
    chain.kill();
}

/// A folder with all that is in it.
fn copy(from: &Path, to: &PathBuf) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type().expect("its kind") {
            kind if kind.is_dir() => copy(&from, &to),
            kind if kind.is_file() => drop(std::fs::copy(&from, &to).expect("a copy")),
            _ => {}
        }
    }
}
