//! What `chand regtest` can be told on its command line.
//!
//! In: flags and `CHAND_REGTEST_…` variables. Out: [`Options`]. Read next: `node`, which starts from them.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// bitcoind's regtest RPC port.
pub const DEFAULT_RPC_PORT: u16 = 18_443;
/// Blocks mined to the faucet on an empty chain: ten of their coinbases can be spent at once.
pub const DEFAULT_PREMINE_BLOCKS: u32 = 110;

/// Options of the embedded chain.
#[derive(Args, Clone)]
pub struct Options {
    /// Where the RPC listens; port 0 takes a free one
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "CHAND_REGTEST_LISTEN",
        hide_env = true,
        default_value = "127.0.0.1:18443"
    )]
    pub listen: SocketAddr,
    /// Where blocks, the faucet's key and the cookie live [default: ~/.chand-regtest]
    #[arg(long, value_name = "DIR", env = "CHAND_REGTEST_DATA_DIR", hide_env = true)]
    pub data_dir: Option<PathBuf>,
    /// RPC user instead of the cookie; wants --password, too
    #[arg(long, value_name = "USER", env = "CHAND_REGTEST_USER", hide_env = true)]
    pub user: Option<String>,
    /// RPC password instead of the cookie; wants --user, too
    #[arg(long, value_name = "PASSWORD", env = "CHAND_REGTEST_PASSWORD", hide_env = true)]
    pub password: Option<String>,
    /// Blocks mined to the faucet at first; 101 or more give it money
    #[arg(long, value_name = "BLOCKS", default_value_t = DEFAULT_PREMINE_BLOCKS)]
    pub premine: u32,
    /// The least fee rate that is relayed
    #[arg(long, value_name = "SAT_PER_KVB", default_value_t = 100)]
    pub min_relay_fee: u64,
    /// What estimatesmartfee answers [default: "Insufficient data"]
    #[arg(long, value_name = "SAT_PER_KVB")]
    pub fee_estimate: Option<u64>,
}

impl Default for Options {
    /// What the command line gives when it is empty.
    fn default() -> Options {
        Options {
            listen: SocketAddr::from(([127, 0, 0, 1], DEFAULT_RPC_PORT)),
            data_dir: None,
            user: None,
            password: None,
            premine: DEFAULT_PREMINE_BLOCKS,
            min_relay_fee: 100,
            fee_estimate: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("listen", &self.listen)
            .field("data_dir", &self.data_dir)
            .field("user", &self.user)
            .field("premine", &self.premine)
            .field("min_relay_fee", &self.min_relay_fee)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// The data directory: as told, or `~/.chand-regtest`.
    pub fn directory(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| {
            let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from);
            home.join(".chand-regtest")
        })
    }

    /// Where the chain itself lives, laid out as bitcoind does: a folder of the network's name.
    pub fn network_directory(&self) -> PathBuf {
        self.directory().join("regtest")
    }
}
