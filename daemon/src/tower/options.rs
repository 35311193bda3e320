//! What `chand watchtower` can be told, and how a node names its towers.
//!
//! In: the command line. Out: [`Options`], and the part of it that is a daemon's own ([`Options::flags`]); [`TowerAddress`]es.
//! Read next: `run`.

use crate::config::Flags;
use crate::rpc::call::peer::host_port;
use chand_protocol::id::NodeId;
use chand_protocol::tower::message::Quota;
use chand_protocol::tower::Mode;
use clap::Args;
use std::path::PathBuf;

/// Where towers listen unless they say otherwise.
const DEFAULT_PORT: u16 = 9911;

/// Options of the watchtower.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Where nodes reach it; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9911")]
    pub listen: String,
    /// Where everything is kept [default: ~/.chand-watchtower]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// regtest, testnet, testnet4, signet or bitcoin
    #[arg(long, value_name = "NAME", default_value = "regtest")]
    pub network: String,
    /// The chain, http://user:password@host:port (bitcoind's RPC)
    #[arg(long, value_name = "URL")]
    pub bitcoin_rpc: Option<String>,
    /// Its cookie file, instead of user and password
    #[arg(long, value_name = "FILE")]
    pub bitcoin_rpc_cookie: Option<String>,
    /// Serve only these clients (client_id of listwatchtowers); repeatable
    #[arg(long = "client", value_name = "ID")]
    pub clients: Vec<NodeId>,
    /// How many clients to keep something for
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    pub max_clients: usize,
    /// Megabytes kept for one client
    #[arg(long, value_name = "MB", default_value_t = 100)]
    pub quota_mb: u64,
    /// Revoked states kept for one client
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000_000)]
    pub quota_states: u64,
    /// Make a new key, the old one being lost; clients need the new ID@HOST:PORT
    #[arg(long)]
    pub new_identity: bool,
    /// error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
}

impl Options {
    /// What is kept for one client.
    pub const fn quota(&self) -> Quota {
        Quota { bytes: self.quota_mb.saturating_mul(1_000_000), states: self.quota_states }
    }

    /// The options that a daemon has too, to be checked by the same rules; `home` for the default folder.
    pub fn flags(&self, home: Option<PathBuf>) -> Flags {
        let dir = self.data_dir.clone().or_else(|| Some(home?.join(".chand-watchtower")));
        let text = |text: &Option<String>| text.clone().map(Into::into);
        let given = [
            ("data-dir", dir.map(PathBuf::into_os_string)),
            ("listen", Some(self.listen.clone().into())),
            ("network", Some(self.network.clone().into())),
            ("bitcoin-rpc", text(&self.bitcoin_rpc)),
            ("bitcoin-rpc-cookie", text(&self.bitcoin_rpc_cookie)),
            ("log-level", Some(self.log_level.clone().into())),
        ];
        Flags::of(given.into_iter().filter_map(|(name, value)| Some((name, value?))))
    }
}

/// A tower as the user of a node names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TowerAddress {
    /// Its key.
    pub id: NodeId,
    /// `host:port`.
    pub address: String,
    /// How far it is trusted.
    pub mode: Mode,
}

impl TowerAddress {
    /// Reads `ID@HOST[:PORT]`s; the word `presigned` behind one says how far that is trusted.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn read_all(words: &[String]) -> Result<Vec<TowerAddress>, String> {
        let mut towers: Vec<TowerAddress> = Vec::new();
        for word in words {
            if word == Mode::Presigned.name() {
                towers.last_mut().ok_or("names a mode and no tower")?.mode = Mode::Presigned;
                continue;
            }
            let form = || format!("\"{word}\" is not ID@HOST:PORT or ID@HOST:PORT,presigned");
            let (id, host) = word.split_once('@').ok_or_else(form)?;
            let id: NodeId = id.parse().map_err(|_| form())?;
            let address = host_port(host, Some(DEFAULT_PORT)).or_else(|_| host_port(host, None));
            let address = address.map_err(|_| form())?;
            if towers.iter().any(|t| t.id == id) {
                return Err(format!("names the tower {id} twice"));
            }
            towers.push(TowerAddress { id, address, mode: Mode::Key });
        }
        Ok(towers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn towers_have_an_address_and_perhaps_a_mode() {
        let id = |byte: u8| {
            let key = secp256k1::SecretKey::from_slice(&[byte; 32]).expect("a key");
            NodeId(key.public_key(&secp256k1::Secp256k1::new())).to_string()
        };
        let read = |words: &[String]| TowerAddress::read_all(words);
        let towers =
            read(&[format!("{}@tower.example:1", id(1)), "presigned".into(), format!("{}@::1", id(2))]);
        let towers = towers.expect("two towers");
        assert_eq!((towers[0].address.as_str(), towers[0].mode), ("tower.example:1", Mode::Presigned));
        assert_eq!((towers[1].address.as_str(), towers[1].mode), ("[::1]:9911", Mode::Key));
        for wrong in [
            vec!["presigned".to_string()],
            vec!["tower.example:1".into()],
            vec![format!("{}@", id(1))],
            vec![format!("{}@a:0", id(1))],
            vec![format!("{}@a", id(1)), format!("{}@b", id(1))],
        ] {
            assert!(read(&wrong).is_err(), "{wrong:?}");
        }
    }
}
