//! How a daemon is told what to do.
//!
//! In: the command line, `CHAND_…` variables and `chand.toml` in the data dir; the first that names an option wins.
//! Out: a [`Config`] whose every value was checked, or one sentence about what is wrong and what to write instead.
//! Read next: `options` (THE list of options and where a value came from), `chain` (which chain backend), `dev`.

pub mod chain;
pub mod dev;
pub mod http;
pub mod network;
pub mod options;

pub use chain::{BitcoinRpc, Hidden, RpcAuth};
pub use dev::{ChannelSecrets, Dev};
pub use http::Http;
pub use network::NetworkInfo;
pub use options::{Flags, Setting, SettingValue, Source};

use crate::tower::{self, TowerAddress};
use crate::{backup, check, demo, manual, passphrase, regtest};
use options::Settings;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, Permissions};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A day: the longest that a stop may wait for payments.
pub const MOST_DRAIN_S: u32 = 86_400;
/// The longest path a Unix socket may have, in bytes.
pub const SOCKET_PATH_MAX: usize = 107;

/// The `chand` command line.
#[derive(clap::Parser, Debug)]
#[command(
    name = "chand",
    version,
    about = "A Lightning node: payment channels over Bitcoin, driven through one socket (see chan-cli).",
    help_template = "{about}\n\n{usage-heading} {usage}\n\n{all-args}{after-help}",
    after_help = options::AFTER_HELP,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    term_width = 0
)]
pub struct Cli {
    /// What to run instead of the daemon.
    #[command(subcommand)]
    pub command: Option<Program>,
    /// The daemon's options.
    #[command(flatten)]
    pub flags: Flags,
}

/// The end of `chand regtest --help`.
const REGTEST_HELP: &str = "\
SAT_PER_KVB: satoshi per 1000 virtual bytes. The first four are also variables (CHAND_REGTEST_LISTEN=…).";

/// What `chand` runs beside the daemon.
#[derive(clap::Subcommand, Debug)]
pub enum Program {
    /// A Bitcoin regtest chain in one process, for this machine only
    #[command(after_help = REGTEST_HELP)]
    Regtest(regtest::Options),
    /// Punishes breaches for nodes that are off
    Watchtower(tower::Options),
    /// The tour: a chain and four nodes, played before your eyes
    Demo(demo::Args),
    /// Whether the database of a node that is not running is whole; changes nothing
    #[command(hide = true)]
    Check(check::Options),
    /// A new data folder from the words of a seed, with the channels of a backup
    #[command(hide = true)]
    Recover(backup::recover::Options),
    /// What would come back from a channel backup
    #[command(hide = true)]
    Backup(backup::verify::Command),
    /// Seals the seed of a data folder under a passphrase, or changes it
    #[command(hide = true)]
    Passphrase(passphrase::Options),
    /// Completions for a shell
    #[command(hide = true)]
    Completions {
        /// bash, zsh or fish
        #[arg(value_parser = manual::SHELLS)]
        shell: String,
    },
    /// A page for man: of chand, of chan-cli, or of a method
    #[command(hide = true)]
    Man {
        /// chand, chan-cli or the name of a method
        #[arg(default_value = "chand")]
        page: String,
    },
}

/// What is wrong with how the daemon was started, in words for whoever started it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value is not possible.
    #[error("{option} ({from}): {reason}")]
    Value {
        /// As it is written on the command line.
        option: String,
        /// Where the value came from.
        from: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// `chand.toml` cannot be read, or names what there is not.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// No chain backend was named, and none was found.
    #[error("{0}")]
    NoChain(String),
    /// A folder cannot be made.
    #[error("the folder {path} cannot be made or protected: {reason}")]
    Folder {
        /// Which.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// There is no home directory and no data dir.
    #[error("HOME is not set: say where to keep data with --data-dir DIR")]
    NoHome,
}

/// Everything the daemon was told, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which network, and what is customary on it.
    pub network: &'static NetworkInfo,
    /// `DIR/NETWORK`: where this node's files live.
    pub dir: PathBuf,
    /// The control socket.
    pub rpc_socket: PathBuf,
    /// Where peers reach us.
    pub listen: Vec<SocketAddr>,
    /// True when `listen` is the default: on regtest another free port then does, too.
    pub listen_is_default: bool,
    /// The chain backend.
    pub bitcoin_rpc: BitcoinRpc,
    /// Others of the same chain.
    pub more_bitcoin_rpc: Vec<BitcoinRpc>,
    /// Our name for others, at most 32 bytes (BOLT 7); `None`: made from the node id.
    pub alias: Option<String>,
    /// Our colour for others (BOLT 7); `None`: made from the node id.
    pub rgb: Option<[u8; 3]>,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub log_level: tracing::Level,
    /// What a forward costs, in msat.
    pub fee_base_msat: u32,
    /// And in millionths of its amount.
    pub fee_ppm: u32,
    /// `cltv_expiry_delta`, in blocks.
    pub cltv_delta_blocks: u16,
    /// `min_final_cltv_expiry_delta` of our invoices, in blocks.
    pub cltv_final_blocks: u16,
    /// The `to_self_delay` that we impose on peers, in blocks.
    pub to_self_delay_blocks: u16,
    /// How deep a funding transaction must lie before we use its channel, in blocks.
    pub funding_confirms: u32,
    /// The share of a channel that may be in flight towards us, in percent.
    pub max_in_flight_percent: u8,
    /// Offer `option_simple_close`.
    pub simple_close: bool,
    /// The database is an old copy: every channel is in doubt from this start on.
    pub restored: bool,
    /// Where the passphrase of the seed stands.
    pub passphrase_file: Option<PathBuf>,
    /// Who watches while we are away.
    pub watchtowers: Vec<TowerAddress>,
    /// How long a stop by a signal lets payments under way end, in seconds.
    pub drain_s: u32,
    /// Where whoever has a rune is served.
    pub http: Option<Http>,
    /// Present with `--dev`.
    pub dev: Option<Dev>,
    /// Every option, its value and where it came from; nothing secret (`listconfigs`).
    pub settings: Vec<Setting>,
    /// What is allowed but unwise, to be logged.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads `chand.toml`, weighs flags, environment and file, and checks every value.
    /// `env` looks a variable up: `|name| std::env::var_os(name)` in a program.
    ///
    /// # Errors
    /// [`ConfigError`] names the option, where its value came from, and what would be right.
    pub fn resolve(
        flags: &Flags,
        env: &dyn Fn(&str) -> Option<std::ffi::OsString>,
    ) -> Result<Config, ConfigError> {
        let home = env("HOME").filter(|h| !h.is_empty()).map(PathBuf::from);
        let mut s = Settings::gather(flags, env, home.as_deref())?;
        let dev = dev::read(&mut s)?;
        let network = s.parse("network", network::find)?;
        let dir = s.data_dir.join(network.name);
        let rpc_socket = rpc_socket(&mut s, &dir)?;
        let (listen, listen_is_default) = listen(&mut s)?;
        let least = |blocks: u16| if dev.is_some() { 1 } else { blocks };
        let (bitcoin_rpc, more_bitcoin_rpc) = chain::read(&mut s, network, home.as_deref())?;
        let mut config = Config {
            bitcoin_rpc,
            more_bitcoin_rpc,
            alias: s.optional("alias", alias)?,
            rgb: s.optional("rgb", rgb)?,
            log_level: s.parse("log-level", log_level)?,
            fee_base_msat: s.number("fee-base", 0, u32::MAX)?,
            fee_ppm: s.number("fee-per-satoshi", 0, u32::MAX)?,
            cltv_delta_blocks: blocks(&mut s, "cltv-delta", least(network.cltv_delta_blocks), NO_TIME)?,
            cltv_final_blocks: blocks(&mut s, "cltv-final", least(network.cltv_final_blocks), NO_TIME)?,
            to_self_delay_blocks: blocks(&mut s, "to-self-delay", 1, "a cheat could not be punished")?,
            funding_confirms: s.number("funding-confirms", 1, 100)?,
            max_in_flight_percent: s.number("max-htlc-value-in-flight", 1, 100)?,
            simple_close: s.switch("simple-close")?,
            restored: s.switch_once("restored")?,
            passphrase_file: s.optional("passphrase-file", |text| Ok::<_, String>(PathBuf::from(text)))?,
            watchtowers: watchtowers(&mut s)?,
            drain_s: s.number("drain", 0, MOST_DRAIN_S)?,
            http: http::read(&mut s, &dir)?,
            network,
            dir,
            rpc_socket,
            listen,
            listen_is_default,
            dev,
            settings: Vec::new(),
            warnings: Vec::new(),
        };
        config.warnings = s.take_warnings();
        config.settings = s.into_report();
        Ok(config)
    }

    /// The file of the seed words.
    pub fn seed_path(&self) -> PathBuf {
        self.dir.join("seed")
    }

    /// The folder of the database.
    pub fn store_dir(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// Makes `DIR/NETWORK` for the owner only.
    ///
    /// # Errors
    /// [`ConfigError::Folder`].
    pub fn make_dir(&self) -> Result<(), ConfigError> {
        make_private_dir(&self.dir)
    }
}

/// Makes a folder that only its owner may enter, and those above it when they are missing.
///
/// # Errors
/// [`ConfigError::Folder`].
pub fn make_private_dir(dir: &Path) -> Result<(), ConfigError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .and_then(|()| fs::set_permissions(dir, Permissions::from_mode(0o700)))
        .map_err(|e| ConfigError::Folder { path: dir.display().to_string(), reason: e.to_string() })
}

fn rpc_socket(s: &mut Settings, dir: &Path) -> Result<PathBuf, ConfigError> {
    s.set_default("rpc-socket", dir.join("rpc.sock").display().to_string());
    s.parse("rpc-socket", |text| {
        let path = std::path::absolute(text).map_err(|e| e.to_string())?;
        let len = OsStr::as_bytes(path.as_os_str()).len();
        if len > SOCKET_PATH_MAX {
            return Err(format!(
                "the path {} is {len} bytes long, and a Unix socket's may have {SOCKET_PATH_MAX}: choose a shorter \
                 one with --rpc-socket PATH, or a shorter --data-dir",
                path.display()
            ));
        }
        Ok(path)
    })
}

fn listen(s: &mut Settings) -> Result<(Vec<SocketAddr>, bool), ConfigError> {
    let address = |text: &str| {
        text.parse::<SocketAddr>()
            .map_err(|_| format!("\"{text}\" is not an address and a port, e.g. 127.0.0.1:9735 or [::]:9735"))
    };
    let given = s.list("listen", address)?;
    Ok((given, s.is_default("listen")))
}

fn watchtowers(s: &mut Settings) -> Result<Vec<TowerAddress>, ConfigError> {
    let words = s.list("watchtower", |word| Ok(word.to_string()))?;
    TowerAddress::read_all(&words).map_err(|reason| s.complain("watchtower", reason))
}

/// Why so few blocks will not do.
const NO_TIME: &str = "no time is left to act on chain";

fn blocks(s: &mut Settings, name: &'static str, least: u16, why: &str) -> Result<u16, ConfigError> {
    s.parse(name, |text| {
        let n: u16 = text.parse().map_err(|_| format!("\"{text}\" is not a number of blocks up to 2016"))?;
        if n < least {
            return Err(format!("{n} blocks are too few ({why}): at least {least}, unless --dev is given"));
        }
        if n > 2_016 {
            return Err(format!("{n} blocks are too many: at most 2016 (two weeks)"));
        }
        Ok(n)
    })
}

fn alias(text: &str) -> Result<String, String> {
    if text.len() > 32 {
        return Err(format!("{} bytes long: at most 32 (BOLT 7)", text.len()));
    }
    if text.chars().any(char::is_control) {
        return Err("holds control characters".into());
    }
    Ok(text.to_string())
}

fn rgb(text: &str) -> Result<[u8; 3], String> {
    chand_protocol::id::hex_array(text.trim_start_matches('#'))
        .map_err(|_| format!("\"{text}\" is not a colour of six hex digits, e.g. 00a0ff"))
}

fn log_level(text: &str) -> Result<tracing::Level, String> {
    let known = ["error", "warn", "info", "debug", "trace"];
    known
        .contains(&text)
        .then(|| text.parse().ok())
        .flatten()
        .ok_or_else(|| format!("\"{text}\" is none of {}", known.join(", ")))
}

#[cfg(test)]
mod tests;
