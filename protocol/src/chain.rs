//! The chains chand knows, as a table.
//!
//! In: a network's name. Out: its genesis hash, prefixes and habits. Another chain is another row.
//! Read next: `address`, `node`.

use bitcoin::hashes::Hash;
use bitcoin::BlockHash;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// A network that channels can live on.
///
/// Records hold its place in this list: new ones go to the end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Network {
    Bitcoin,
    Testnet,
    Testnet4,
    Signet,
    Regtest,
    Litecoin,
    LitecoinTestnet,
    LitecoinRegtest,
}

/// Whose chain a network is, a test network being one of its coin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Coin {
    /// Bitcoin: proof of work by SHA-256.
    Bitcoin,
    /// Litecoin: proof of work by scrypt, blocks four times as often, extension blocks (MWEB) behind its own.
    Litecoin,
}

/// What is particular to a network.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The name users and Core Lightning's JSON use.
    pub name: &'static str,
    /// Whose chain it is.
    pub coin: Coin,
    /// What `getblockchaininfo.chain` of its node says.
    pub node_name: &'static str,
    /// The human-readable part of its segwit addresses.
    pub hrp: &'static str,
    /// First bytes of its older addresses: to a key; to a script, the one to write first.
    pub base58: (u8, &'static [u8]),
    /// The prefix of its BOLT 11 invoices.
    pub invoice_prefix: &'static str,
    /// The peer port used when none is given.
    pub default_port: u16,
    /// Blocks are made at will: no time-based safety rules.
    pub on_demand: bool,
    /// Seconds between blocks, on average.
    pub block_s: u32,
    /// How many times Bitcoin's the smallest outputs are that its nodes relay.
    pub dust_factor: u64,
}

const fn bitcoin_row(name: &'static str, node_name: &'static str, hrp: &'static str, port: u16) -> Row {
    let (invoice_prefix, base58, on_demand): (_, (u8, &'static [u8]), _) = match name.as_bytes() {
        b"bitcoin" => ("lnbc", (0x00, &[0x05]), false),
        b"regtest" => ("lnbcrt", (0x6f, &[0xc4]), true),
        b"signet" => ("lntbs", (0x6f, &[0xc4]), false),
        _ => ("lntb", (0x6f, &[0xc4]), false),
    };
    let coin = Coin::Bitcoin;
    Row {
        name,
        coin,
        node_name,
        hrp,
        base58,
        invoice_prefix,
        default_port: port,
        on_demand,
        block_s: 600,
        dust_factor: 1,
    }
}

/// Litecoin's scripts had Bitcoin's first byte once, and may be written so still.
const fn litecoin_row(name: &'static str, node_name: &'static str, hrp: &'static str, port: u16) -> Row {
    let (invoice_prefix, base58, on_demand): (_, (u8, &'static [u8]), _) = match name.as_bytes() {
        b"litecoin" => ("lnltc", (0x30, &[0x32, 0x05]), false),
        b"litecoin-regtest" => ("lnrltc", (0x6f, &[0x3a, 0xc4]), true),
        _ => ("lntltc", (0x6f, &[0x3a, 0xc4]), false),
    };
    let coin = Coin::Litecoin;
    Row {
        name,
        coin,
        node_name,
        hrp,
        base58,
        invoice_prefix,
        default_port: port,
        on_demand,
        block_s: 150,
        dust_factor: 10,
    }
}

/// Hashes of Litecoin's first blocks, as its nodes show them (last byte first).
const LITECOIN_GENESIS: [&str; 3] = [
    "12a765e31ffd4059bada1e25190f6e98c99d9714d334efa41a195a7e7e04bfe2",
    "4966625a4b2851d9fdee139e56211a0d88575f59ed816ff5e6a63deb4dd3e29f",
    "530827f38f93b43ed12af0b3ad25a288dc02ed74d6d7857862df51fc56c416f9",
];

impl Network {
    /// Every network.
    pub const ALL: [Network; 8] = [
        Network::Bitcoin,
        Network::Testnet,
        Network::Testnet4,
        Network::Signet,
        Network::Regtest,
        Network::Litecoin,
        Network::LitecoinTestnet,
        Network::LitecoinRegtest,
    ];

    /// Its row of the table.
    pub const fn row(self) -> Row {
        match self {
            Network::Bitcoin => bitcoin_row("bitcoin", "main", "bc", 9735),
            Network::Testnet => bitcoin_row("testnet", "test", "tb", 19735),
            Network::Testnet4 => bitcoin_row("testnet4", "testnet4", "tb", 49735),
            Network::Signet => bitcoin_row("signet", "signet", "tb", 39735),
            Network::Regtest => bitcoin_row("regtest", "regtest", "bcrt", 9735),
            Network::Litecoin => litecoin_row("litecoin", "main", "ltc", 9735),
            Network::LitecoinTestnet => litecoin_row("litecoin-testnet", "test", "tltc", 19735),
            Network::LitecoinRegtest => litecoin_row("litecoin-regtest", "regtest", "rltc", 9735),
        }
    }

    /// The network of the `bitcoin` crate that has the same key prefixes and is as earnest: for keys and wallets. Addresses of
    /// another coin are written by `address`.
    pub const fn bitcoin(self) -> bitcoin::Network {
        match self {
            Network::Bitcoin | Network::Litecoin => bitcoin::Network::Bitcoin,
            Network::Testnet | Network::LitecoinTestnet => bitcoin::Network::Testnet,
            Network::Testnet4 => bitcoin::Network::Testnet4,
            Network::Signet => bitcoin::Network::Signet,
            Network::Regtest | Network::LitecoinRegtest => bitcoin::Network::Regtest,
        }
    }

    /// The first block.
    pub fn genesis(self) -> BlockHash {
        let text = match self {
            Network::Litecoin => LITECOIN_GENESIS[0],
            Network::LitecoinTestnet => LITECOIN_GENESIS[1],
            Network::LitecoinRegtest => LITECOIN_GENESIS[2],
            _ => return BlockHash::from_byte_array(self.bitcoin_chain_hash()),
        };
        // A test below reads all three.
        text.parse().unwrap_or_else(|_| BlockHash::all_zeros())
    }

    fn bitcoin_chain_hash(self) -> [u8; 32] {
        bitcoin::blockdata::constants::ChainHash::using_genesis_block_const(self.bitcoin()).to_bytes()
    }

    /// The genesis block's hash in internal byte order: `chain_hash` of BOLT 7 and BOLT 2.
    pub fn chain_hash(self) -> [u8; 32] {
        self.genesis().to_byte_array()
    }

    /// Whether its coin is worth nothing and its blocks are made at will.
    pub const fn is_regtest(self) -> bool {
        self.row().on_demand
    }
}

/// The name is of no network chand knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown network: use bitcoin, testnet, testnet4, signet, regtest, litecoin, litecoin-testnet or litecoin-regtest")]
pub struct UnknownNetwork;

impl FromStr for Network {
    type Err = UnknownNetwork;
    fn from_str(text: &str) -> Result<Network, UnknownNetwork> {
        Network::ALL.into_iter().find(|n| n.row().name == text).ok_or(UnknownNetwork)
    }
}

impl core::fmt::Display for Network {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.row().name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::string::ToString;

    #[test]
    fn no_two_networks_share_a_name_or_a_first_block() {
        let names: BTreeSet<&str> = Network::ALL.iter().map(|n| n.row().name).collect();
        let blocks: BTreeSet<BlockHash> = Network::ALL.iter().map(|n| n.genesis()).collect();
        assert_eq!((names.len(), blocks.len()), (Network::ALL.len(), Network::ALL.len()));
        assert!(!blocks.contains(&BlockHash::all_zeros()), "a first block that cannot be read");
        for network in Network::ALL {
            assert_eq!(network.to_string().parse(), Ok(network));
        }
    }

    #[test]
    fn chain_hashes_are_in_internal_order() {
        // BOLT 0's value for Bitcoin; Litecoin's as its node gives it, turned round.
        assert_eq!(Network::Bitcoin.chain_hash()[..4], [0x6f, 0xe2, 0x8c, 0x0a]);
        assert_eq!(Network::LitecoinRegtest.chain_hash()[..4], [0xf9, 0x16, 0xc4, 0x56]);
    }
}
