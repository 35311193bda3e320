//! `chand watchtower` from its options to its end.
//!
//! In: [`Options`]. Out: a process that serves clients and reads the chain until it is told to stop; or one sentence that says what is
//! wrong. It keeps `DIR/NETWORK/key` (its identity), `clients/` (`archive`) and `watch` (`keeper`), all for the owner only.
//! Read next: `serve`, `watch`.

use super::archive::Archive;
use super::keeper::Keeper;
use super::options::Options;
use super::serve::{self, Office};
use super::watch;
use crate::config::{Config, Flags};
use crate::crypto::ParallelCrypto;
use crate::peer::os_ephemeral;
use crate::start::{fallback_fees, follow_config, reach_chain};
use crate::{log, start};
use chand_protocol::id::NodeId;
use chand_protocol::sign::Crypto;
use secp256k1::{Secp256k1, SecretKey};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::{watch as channel, Notify};

/// Runs until told to stop; exit status 0 after an orderly end, else 1 and one line on stderr.
pub async fn run(options: Options) -> ExitCode {
    match live(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chand: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn live(options: Options) -> Result<(), String> {
    let home = std::env::var_os("HOME").filter(|h| !h.is_empty());
    let flags: Flags = options.flags(home.clone().map(Into::into));
    // Of the environment only the home: the daemon's variables are not the tower's.
    let config = Config::resolve(&flags, &|name| home.clone().filter(|_| name == "HOME"));
    let config = config.map_err(|e| e.to_string())?;
    log::start(config.log_level);
    let (stop, mut stopping) = channel::channel(false);
    let signals = tokio::spawn(start::signals(stop));

    config.make_dir().map_err(|e| e.to_string())?;
    let _lock = lock(&config.dir)?;
    let key = identity(&config.dir, options.new_identity)?;
    let id = NodeId(key.public_key(&Secp256k1::signing_only()));
    let disk = |e: io::Error| format!("the watchtower's files in {}: {e}", config.dir.display());
    let archive = Archive::open(&config.dir, options.quota(), options.max_clients).map_err(disk)?;
    let (clients, channels, states) = archive.totals();
    let blind = os_ephemeral().map_err(|e| format!("no randomness from the operating system: {e}"))?;
    let crypto: Arc<dyn Crypto> = Arc::new(ParallelCrypto::new(&blind.secret_bytes()));
    let keeper = Keeper::open(&config.dir, archive, fallback_fees(&config), crypto).map_err(disk)?;
    let (keeper, late) = (Arc::new(Mutex::new(keeper)), Arc::new(Notify::new()));
    let chain = reach_chain(&config).await.map_err(|e| e.to_string())?;
    chain.watch(config.network.network);

    let [address] = config.listen.as_slice() else { return Err("--listen takes one address".into()) };
    let listener = TcpListener::bind(address).await.map_err(|e| format!("--listen {address}: {e}"))?;
    let bound = listener.local_addr().map_err(|e| e.to_string())?;
    let office = Office {
        key,
        quota: options.quota(),
        clients: options.clients.iter().copied().collect(),
        keeper: Arc::clone(&keeper),
        late: Arc::clone(&late),
        guests: serve::Guests::default(),
    };
    let serving = tokio::spawn(serve::run(listener, Arc::new(office)));
    tracing::info!(
        network = config.network.name,
        clients,
        channels,
        states,
        "chand {} watches: chand --watchtower {id}@{bound}",
        env!("CARGO_PKG_VERSION")
    );
    let watching = watch::run(chain, follow_config(&config), keeper, late);
    let end = tokio::select! {
        end = watching => end.and(Err("internal error: nobody follows the chain any more".into())),
        // A gone sender means to stop, too.
        _ = stopping.wait_for(|stop| *stop) => Ok(()),
    };
    serving.abort();
    signals.abort();
    tracing::info!("stopped; everything is kept");
    end
}

/// Keeps a second process out, as long as it is held.
fn lock(dir: &Path) -> Result<File, String> {
    let path = dir.join("lock");
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = open.map_err(|e| format!("{}: {e}", path.display()))?;
    file.try_lock().map_err(|_| {
        format!("{} is in use by another watchtower: stop that, or name another --data-dir", dir.display())
    })?;
    Ok(file)
}

/// The tower's key, made at its first start. With clients' files and without a key it is made only when `new` says so: it
/// would be another tower for all of them.
fn identity(dir: &Path, new: bool) -> Result<SecretKey, String> {
    let path = dir.join("key");
    let words = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    match fs::read(&path) {
        Ok(bytes) => {
            let bytes = zeroize::Zeroizing::new(bytes);
            SecretKey::from_slice(&bytes).map_err(|_| words(&"is not a key of 32 bytes"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if !new && has_clients(dir) {
                return Err(words(
                    &"is missing, and clients have their states here. They know this watchtower by that key and would not \
                      find it with another: put the file back. If it is lost, start once with --new-identity; then give \
                      every client the new ID@HOST:PORT, or it is watched no more for what is to come",
                ));
            }
            make_key(dir, &path).map_err(|e| words(&e))
        }
        Err(error) => Err(words(&error)),
    }
}

fn make_key(dir: &Path, path: &Path) -> io::Result<SecretKey> {
    let key = os_ephemeral()?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&key.secret_bytes())?;
    file.sync_all()?;
    File::open(dir)?.sync_all()?;
    Ok(key)
}

/// Whether somebody left something here.
fn has_clients(dir: &Path) -> bool {
    fs::read_dir(dir.join("clients")).is_ok_and(|mut entries| entries.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tower_with_clients_and_without_its_key_does_not_become_another_unasked() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = identity(dir.path(), false).expect("made at the first start");
        assert_eq!(identity(dir.path(), true).expect("the same"), first);
        fs::create_dir_all(dir.path().join("clients").join("somebody")).expect("a folder");
        assert_eq!(identity(dir.path(), false).expect("the same"), first);
        fs::remove_file(dir.path().join("key")).expect("removed");
        let words = identity(dir.path(), false).expect_err("refused");
        assert!(words.contains("--new-identity") && words.contains("put the file back"), "{words}");
        assert!(!dir.path().join("key").exists());
        assert_ne!(identity(dir.path(), true).expect("asked for"), first);
        // A key that is no key is not replaced either.
        fs::write(dir.path().join("key"), [0; 5]).expect("written");
        assert!(identity(dir.path(), true).is_err());
    }
}
