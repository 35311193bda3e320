//! `chand recover`: a new data folder from the words, and from the channel backup if there is one.
//!
//! In: 12 or 24 words in a file; perhaps a backup. Out: the seed and a database in a folder that had neither, whose channels
//! wait for their peers to close them. Nobody is called and nothing is published: the next start of `chand` does that.
//! The database is made beside its place and put there last: what was begun can be begun again.
//! Read next: `chand_protocol::node::lost`, `verify`.

use super::{open, FILE};
use crate::config::{Config, Flags};
use crate::seed::Seed;
use crate::start;
use chand_protocol::backup::{Backup, Kept};
use chand_protocol::node::lost::recovered;
use chand_protocol::store::Store as _;
use chand_protocol::units::{Height, Sat, Timestamp};
use chand_storage::{Owner, SledStore};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What `chand recover` is told.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// The words of the seed, 12 or 24 (-: standard input)
    #[arg(long, value_name = "FILE")]
    pub words_file: PathBuf,
    /// The channel backup [default: DIR/NETWORK/emergency.recover if it is there; else on-chain coins alone come back]
    #[arg(long, value_name = "FILE")]
    pub backup: Option<PathBuf>,
    /// The new data folder; a backup may lie in it, a seed or a database may not [default: ~/.chand]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// regtest, testnet, testnet4, signet or bitcoin [default: what chand.toml says, else regtest]
    #[arg(long, value_name = "NAME")]
    pub network: Option<String>,
    /// The block from which on the chain is read: before the first coin and the first channel
    #[arg(long, value_name = "HEIGHT", default_value = "0")]
    pub from_height: u32,
}

/// A configuration without a chain: none is asked.
pub(crate) fn config(
    data_dir: Option<&PathBuf>,
    network: Option<&String>,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Config, String> {
    let given = [
        ("data-dir", data_dir.cloned().map(PathBuf::into_os_string)),
        ("network", network.cloned().map(OsString::from)),
        // One must be named where none is found.
        ("bitcoin-rpc", Some("http://nobody:nothing@127.0.0.1:1".into())),
    ];
    let flags = Flags::of(given.into_iter().filter_map(|(name, value)| Some((name, value?))));
    Config::resolve(&flags, env).map_err(|e| e.to_string())
}

/// Recovers, and says what will come back.
pub fn run(options: &Options, env: &dyn Fn(&str) -> Option<OsString>) -> ExitCode {
    match recover(options, env) {
        Ok(lines) => {
            lines.iter().for_each(|line| println!("{line}"));
            ExitCode::SUCCESS
        }
        Err(words) => {
            eprintln!("chand recover: {words}");
            ExitCode::FAILURE
        }
    }
}

fn recover(options: &Options, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Vec<String>, String> {
    let config = config(options.data_dir.as_ref(), options.network.as_ref(), env)?;
    let (store, seed_path) = (config.store_dir(), config.seed_path());
    if store.exists() {
        return Err(format!(
            "{} is there already: recover into a folder without a node (another --data-dir). Nothing was changed",
            store.display()
        ));
    }
    let passphrase = start::passphrase(&config).map_err(|e| e.to_string())?;
    let words = Seed::from_words(&options.words_file, passphrase.as_ref()).map_err(|e| e.to_string())?;
    let (keys, crypto, node) = start::keys_of(&config, &words.seed).map_err(|e| e.to_string())?;
    // Refused before anything is made.
    let beside = config.dir.join(FILE);
    let path = options.backup.clone().or_else(|| beside.exists().then_some(beside));
    let backup = path.as_ref().map(|path| open(path, &keys.backup_key())).transpose()?;
    let found: &[Kept] = backup.as_ref().map_or(&[], |backup| &backup.channels);

    config.make_dir().map_err(|e| e.to_string())?;
    words.install(&seed_path, passphrase.as_ref()).map_err(|e| e.to_string())?;
    let now = Timestamp(start::now_s().saturating_mul(1_000));
    let changes = recovered(&keys, crypto.as_ref(), found, Height(options.from_height), now);
    let owner = Owner { network: config.network.name.into(), node: node.to_string() };
    make(&config.dir, &store, &owner, &changes)?;

    let mut lines = vec![format!("node        {node} on {}", config.network.name)];
    lines.extend(path.iter().zip(&backup).map(|(path, backup)| about(path, backup)));
    lines.extend(found.iter().map(channel));
    lines.push(match options.from_height {
        0 => "chain       will be read from its first block: on-chain coins of these words come back".into(),
        from => format!("chain       will be read from block {from}: what was paid before is not found"),
    });
    lines.push(outlook(backup.as_ref()));
    lines.push("Start chand with this folder now, and with the options it had.".into());
    Ok(lines)
}

/// A database with these records, put in its place when it is whole.
fn make(
    dir: &Path,
    place: &Path,
    owner: &Owner,
    changes: &[chand_protocol::store::Change],
) -> Result<(), String> {
    let half = dir.join("store.recovering");
    let said = |e: &dyn std::fmt::Display| format!("no database could be made in {}: {e}", dir.display());
    for old in [half.clone(), half.with_extension("recovering.commit")] {
        let gone = if old.is_dir() { std::fs::remove_dir_all(&old) } else { std::fs::remove_file(&old) };
        match gone {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(said(&e)),
            _ => {}
        }
    }
    let mut store = SledStore::open(&half, owner).map_err(|e| said(&e))?;
    store.commit(&[changes]).map_err(|e| said(&e))?;
    drop(store);
    std::fs::rename(&half, place).map_err(|e| said(&e))?;
    // The number of its commits stands beside it; that of a database that is gone must not stay.
    std::fs::rename(half.with_extension("recovering.commit"), place.with_extension("commit"))
        .map_err(|e| said(&e))?;
    std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| said(&e))
}

/// One line about a backup.
pub(super) fn about(path: &Path, backup: &Backup) -> String {
    let count = backup.channels.len();
    format!(
        "backup      {}: {count} channels, made at {} (seconds since 1970)",
        path.display(),
        backup.made_at.seconds()
    )
}

/// One line about a channel in it.
pub(super) fn channel(kept: &Kept) -> String {
    let address = kept.address.as_deref().unwrap_or("an unknown address: connect it yourself");
    let place = kept.confirmed.map_or_else(|| "in no block yet".into(), |at| format!("in {}", at.height));
    format!(
        "channel     {} of {} with {} at {address}, funded by {} {place}",
        kept.channel_id, kept.capacity, kept.peer, kept.funding
    )
}

/// What to expect.
pub(super) fn outlook(backup: Option<&Backup>) -> String {
    let Some(backup) = backup else {
        return "channels    none without a backup; connect to the peers: those that keep a copy for this node give it back".into();
    };
    let sat = backup.channels.iter().map(|kept| kept.capacity).fold(Sat::ZERO, Sat::saturating_add);
    format!(
        "channels    {} with {sat} in them in all, the peers' part included: each peer is asked to close, and what is ours \
         in its commitment comes to the wallet; payments that were under way may be lost",
        backup.channels.len()
    )
}
