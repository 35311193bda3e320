//! `chand backup verify`: would this file give the channels back?
//!
//! In: a backup, and the seed (of a data folder, or as words). Out: what would come back; exit status 0 when all of it would.
//! The file is opened as a recovery would, a database is made of it in a folder for temporary files, a node and a wallet
//! are made of that and asked, and the folder is removed again. Nothing else is written.
//! Read next: `recover`.

use super::recover::{about, channel, config, outlook};
use crate::check::Scratch;
use crate::config::Config;
use crate::seed::Seed;
use crate::start;
use chand_protocol::node::lost::recovered;
use chand_protocol::store::Store as _;
use chand_protocol::units::{Height, Timestamp};
use chand_storage::SledStore;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// What can be done with a backup.
#[derive(clap::Subcommand, Clone, Debug)]
pub enum What {
    /// Says what would come back from a backup; changes nothing
    Verify(Options),
}

/// `chand backup`.
#[derive(clap::Args, Clone, Debug)]
pub struct Command {
    /// What to do.
    #[command(subcommand)]
    pub what: What,
}

/// What `chand backup verify` is told.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// The backup
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The data folder whose seed opens it [default: ~/.chand]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The words that open it, instead of a data folder (-: standard input)
    #[arg(long, value_name = "FILE")]
    pub words_file: Option<PathBuf>,
    /// regtest, testnet, testnet4, signet or bitcoin [default: what chand.toml says, else regtest]
    #[arg(long, value_name = "NAME")]
    pub network: Option<String>,
}

/// Does what was asked.
pub fn run(command: &Command, env: &dyn Fn(&str) -> Option<OsString>) -> ExitCode {
    let What::Verify(options) = &command.what;
    match verify(options, env) {
        Ok(lines) => {
            lines.iter().for_each(|line| println!("{line}"));
            ExitCode::SUCCESS
        }
        Err(words) => {
            eprintln!("chand backup verify: {words}");
            ExitCode::FAILURE
        }
    }
}

fn seed(options: &Options, config: &Config) -> Result<Seed, String> {
    let passphrase = start::passphrase(config).map_err(|e| e.to_string())?;
    if let Some(words) = &options.words_file {
        return Seed::from_words(words, passphrase.as_ref())
            .map(|words| words.seed)
            .map_err(|e| e.to_string());
    }
    let path = config.seed_path();
    let found = Seed::load(&path, passphrase.as_ref()).map_err(|e| e.to_string())?;
    found.ok_or_else(|| {
        format!("there is no seed {}: name a data folder, or give --words-file", path.display())
    })
}

fn verify(options: &Options, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Vec<String>, String> {
    let config = config(options.data_dir.as_ref(), options.network.as_ref(), env)?;
    let seed = seed(options, &config)?;
    let (keys, crypto, node) = start::keys_of(&config, &seed).map_err(|e| e.to_string())?;
    let backup = super::open(&options.file, &keys.backup_key())?;
    let (owner, birth) = start::of_seed(&config, seed).map_err(|e| e.to_string())?;
    let now = Timestamp(start::now_s().saturating_mul(1_000));
    let changes = recovered(&keys, crypto.as_ref(), &backup.channels, Height(0), now);

    let scratch = Scratch::new()?;
    let tried = |e: &dyn std::fmt::Display| format!("the backup opens, and no node can be made of it: {e}");
    let mut store = SledStore::open(&scratch.0.join("store"), &owner).map_err(|e| tried(&e))?;
    store.commit(&[&changes]).map_err(|e| tried(&e))?;
    let entries = store.load().map_err(|e| tried(&e))?;
    let (dormant, _wallet) = birth(entries).map_err(|e| tried(&e))?;
    let restored: BTreeSet<_> = dormant.channels().filter(|c| c.is_lost()).map(|c| c.id()).collect();
    if let Some(missing) = backup.channels.iter().find(|kept| !restored.contains(&kept.channel_id)) {
        return Err(tried(&format!("channel {} would be missing", missing.channel_id)));
    }
    let mut lines =
        vec![format!("node        {node} on {}", config.network.name), about(&options.file, &backup)];
    lines.extend(backup.channels.iter().map(channel));
    lines.push(outlook(Some(&backup)));
    lines.push("all of it can be restored; nothing was changed".into());
    Ok(lines)
}
