//! `chand check`: is the database of a node that is not running whole?
//!
//! In: a data folder; its seed only to know whose it is and to load the wallet. Out: what is in it, what is damaged and what that means for
//! the money; exit status 0 when all of it can be read, fits together and adds up, else 1. Nothing in the folder is written: a copy
//! in the system's folder for temporary files (`TMPDIR`) is opened, and removed again. A running chand is left alone.
//! Read next: `meaning`, `chand_protocol::node::audit`, `chand_storage::SledStore::read_copy`.

mod meaning;

use crate::config::{Config, Flags};
use crate::core::{coins, Birth};
use crate::rpc::call::snapshot::add_up;
use crate::start;
use crate::wallet::Wallet;
use chand_protocol::id::{hex_bytes, to_hex};
use chand_protocol::node::command::{Command, Reply};
use chand_protocol::node::Dormant;
use chand_protocol::record::{channel_of, Kind};
use chand_protocol::store::Entry;
use chand_protocol::units::Timestamp;
use chand_storage::{Copied, CopyError, SledStore};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Damaged records that are named; there may be more.
const MAX_NAMED: usize = 100;

/// What `chand check` is told.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// The data folder of a chand that is not running [default: ~/.chand]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// regtest, testnet, testnet4, signet or bitcoin [default: what chand.toml says, else regtest]
    #[arg(long, value_name = "NAME")]
    pub network: Option<String>,
}

/// What was found.
#[derive(Debug, Default)]
struct Findings {
    /// Of what is there.
    lines: Vec<String>,
    /// Of what is wrong.
    wrong: Vec<String>,
}

/// Looks, prints, and says whether all is well.
pub fn run(options: &Options, env: &dyn Fn(&str) -> Option<OsString>) -> ExitCode {
    match look(options, env) {
        Ok(findings) => {
            findings.lines.iter().for_each(|line| println!("{line}"));
            findings.wrong.iter().for_each(|line| println!("WRONG: {line}"));
            if findings.wrong.is_empty() {
                println!("all of it can be read, fits together and adds up");
                return ExitCode::SUCCESS;
            }
            println!(
                "keep the folder as it is, and do not put an old copy in its place (docs/OPERATIONS.md)"
            );
            ExitCode::FAILURE
        }
        Err(words) => {
            eprintln!("chand check: {words}");
            ExitCode::FAILURE
        }
    }
}

fn look(options: &Options, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Findings, String> {
    let given = [
        ("data-dir", options.data_dir.clone().map(PathBuf::into_os_string)),
        ("network", options.network.clone().map(OsString::from)),
        // No chain is asked; one must be named where none is found.
        ("bitcoin-rpc", Some("http://nobody:nothing@127.0.0.1:1".into())),
    ];
    let flags = Flags::of(given.into_iter().filter_map(|(name, value)| Some((name, value?))));
    let config = Config::resolve(&flags, env).map_err(|e| e.to_string())?;
    let (owner, birth) = start::of_folder(&config).map_err(|e| e.to_string())?;
    let dir = config.store_dir();
    let scratch = Scratch::new()?;
    let copied =
        SledStore::read_copy(&dir, &owner, &scratch.0).map_err(|e| in_words(&e, &scratch.0, &dir))?;
    drop(scratch);
    let Copied { entries, commits, bytes } = copied;
    let mut findings = Findings::default();
    findings.lines.push(format!("database    {}", dir.display()));
    findings.lines.push(format!("node        {} on {}", owner.node, owner.network));
    findings
        .lines
        .push(format!("records     {} from {commits} commits, {bytes} bytes on disk", entries.len()));
    let count = entries.len();
    let alive = restore(&birth, entries.clone(), &mut findings);
    if let Some((mut dormant, wallet)) = alive {
        if !findings.wrong.is_empty() {
            findings.lines.push("of what can be read:".into());
        }
        whole(&dormant, &entries, count, &mut findings);
        money(&mut dormant, &wallet, &mut findings);
    }
    Ok(findings)
}

/// The copy's folder is nothing to anybody who reads this.
fn in_words(error: &CopyError, scratch: &Path, dir: &Path) -> String {
    let copy = scratch.join("store").display().to_string();
    error.to_string().replace(&copy, &dir.display().to_string())
}

/// Node and wallet of the records that can be read; each that cannot is named and left out.
fn restore(birth: &Birth, mut entries: Vec<Entry>, findings: &mut Findings) -> Option<(Dormant, Wallet)> {
    for _ in 0..MAX_NAMED {
        let error = match birth(entries.clone()) {
            Ok(alive) => return Some(alive),
            Err(error) => error,
        };
        let Some((key, why)) = damaged(&error) else {
            findings.wrong.push(error);
            return None;
        };
        let (what, meaning) = meaning::of(&key);
        findings.wrong.push(format!("record {} ({what}): {why}\n       {meaning}", to_hex(&key)));
        let before = entries.len();
        let channel =
            Kind::of(&key).filter(|kind| meaning::is_of_channel(*kind)).and_then(|_| channel_of(&key));
        // Of a channel with a damaged record nothing else is believed.
        entries.retain(|(other, _)| {
            let same = channel.is_some()
                && Kind::of(other).is_some_and(meaning::is_of_channel)
                && channel_of(other) == channel;
            *other != key && !same
        });
        if entries.len() == before {
            return None;
        }
    }
    findings.wrong.push(format!("and more: only {MAX_NAMED} are named"));
    None
}

/// The key in `…: record KEY: why`.
fn damaged(error: &str) -> Option<(Vec<u8>, String)> {
    let (_, rest) = error.split_once("record ")?;
    let (key, why) = rest.split_once(": ")?;
    Some((hex_bytes(key).ok()?, why.into()))
}

/// What the node makes of its records is what they say: none is left over, none fits no other.
fn whole(dormant: &Dormant, entries: &[Entry], count: usize, findings: &mut Findings) {
    let audit = dormant.audit();
    let height = audit.height.map_or_else(|| "no block".into(), |height| format!("block {height}"));
    findings.lines.push(format!("chain       read up to {height}"));
    findings.lines.push(format!(
        "channels    {} open, {} opening, {} closing or on chain, {} over; {} HTLCs in them",
        audit.channels_open, audit.channels_opening, audit.channels_closing, audit.channels_over, audit.htlcs
    ));
    if audit.channels_in_doubt > 0 {
        findings.lines.push(format!(
            "            {} in doubt: their peers are to close them, nothing of ours is published",
            audit.channels_in_doubt
        ));
    }
    findings.lines.push(format!(
        "invoices    {}, {} of them paid, {} held",
        audit.invoices, audit.invoices_paid, audit.invoices_held
    ));
    findings.lines.push(format!(
        "payments    {}, {} of them complete, {} pending",
        audit.payments, audit.payments_complete, audit.payments_pending
    ));
    findings.lines.push(format!("forwards    {} listed", audit.forwards));
    findings.lines.push(format!("peers       {}", audit.peers));
    if !findings.wrong.is_empty() {
        // What is missing contradicts what is there.
        return;
    }
    findings.wrong.extend(audit.wrong);
    let kinds = |entries: &mut dyn Iterator<Item = &Entry>| {
        let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
        for kind in entries.filter_map(|(key, _)| Kind::of(key)) {
            // The wallet's are its own; those of coins set aside and of addresses may be older than what is in memory.
            if !matches!(kind, Kind::Wallet | Kind::Reserved | Kind::Peer) {
                *kinds.entry(kind).or_default() += 1;
            }
        }
        kinds
    };
    let (kept, made) = (kinds(&mut entries.iter()), kinds(&mut dormant.records().iter()));
    for kind in kept.keys().chain(made.keys()).collect::<std::collections::BTreeSet<_>>() {
        let (has, makes) = (kept.get(kind).copied().unwrap_or(0), made.get(kind).copied().unwrap_or(0));
        if has != makes {
            findings.wrong.push(format!(
                "{has} of {count} records are of kind {kind:?}, and the node made of them has {makes}"
            ));
        }
    }
}

/// Every term of every balance.
fn money(dormant: &mut Dormant, wallet: &Wallet, findings: &mut Findings) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    let now = Timestamp(u64::try_from(now).unwrap_or(u64::MAX));
    let Some(Ok(Reply::Balance(channels))) = dormant.ask(now, Command::Balance) else {
        return findings.wrong.push("the node does not tell its balance".into());
    };
    match add_up(&channels, &coins(wallet, false)) {
        Ok(sum) => findings.lines.push(format!(
            "money       {} msat in channels, {} msat on chain, {} msat in all",
            sum["in_channels_msat"], sum["onchain_msat"], sum["total_msat"]
        )),
        Err(problem) => findings.wrong.push(format!("balance: {problem}")),
    }
}

/// A folder of its own, gone with this.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Result<Scratch, String> {
        use std::os::unix::fs::DirBuilderExt;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        let path = std::env::temp_dir().join(format!("chand-check-{}-{since}", std::process::id()));
        // Not there yet, or it would be somebody else's.
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|e| format!("no folder {} to look at a copy in: {e}", path.display()))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("chand check: {} could not be removed: {error}", self.0.display());
        }
    }
}
