//! What a file of the data dir may hold: options, the seed, the wallet's records.
//!
//! In: bytes. Out: nothing, or a panic: a file is read, or the start is refused in words that hold no secret.
//! Read next: `client`.

use super::hunt::saw;
use crate::config::{Cli, Config};
use crate::seed::Seed;
use crate::wallet::Wallet;
use chand_protocol::chain::Network;
use chand_protocol::units::{Feerate, Height};
use clap::Parser;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// `chand.toml` up to a zero byte, then a command line, a word a line.
pub fn config(input: &[u8]) {
    thread_local!(static HOME: tempfile::TempDir = tempfile::tempdir().expect("a folder"));
    let at = input.iter().position(|b| *b == 0).unwrap_or(input.len());
    let (toml, rest) = input.split_at(at);
    let words = String::from_utf8_lossy(rest.get(1..).unwrap_or_default()).into_owned();
    HOME.with(|home| {
        let dir = home.path().join(".chand");
        fs::create_dir_all(&dir).expect("a folder");
        fs::write(dir.join("chand.toml"), toml).expect("written");
        let words = words.split('\n').filter(|w| !w.is_empty());
        let cli = match Cli::try_parse_from(["chand"].into_iter().chain(words)) {
            Ok(cli) => cli,
            Err(error) => return saw(format!("{:?}", error.kind())),
        };
        let env = |name: &str| (name == "HOME").then(|| OsString::from(home.path()));
        match Config::resolve(&cli.flags, &env) {
            Ok(config) => {
                saw((config.network.name, config.listen.len(), config.dev.is_some(), config.warnings.len()));
                assert!(!format!("{config:?}").contains("hunter2"), "a password is shown");
                assert!(!config.settings.is_empty() && config.seed_path().starts_with(&config.dir));
            }
            Err(error) => {
                let text = error.to_string();
                // In another option's place it is that option's value, and no password.
                let about = text.starts_with("--bitcoin-rpc") || text.contains("is not TOML");
                assert!(!about || !text.contains("hunter2"), "a password is shown: {text}");
                saw(text.chars().filter(|c| c.is_ascii_alphabetic()).skip(20).take(30).collect::<String>());
            }
        }
    });
}

/// The file of the seed.
pub fn seed(input: &[u8]) {
    thread_local!(static HOME: tempfile::TempDir = tempfile::tempdir().expect("a folder"));
    HOME.with(|home| {
        let path = home.path().join("seed");
        fs::write(&path, input).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("rights");
        match Seed::load(&path, None) {
            Ok(seed) => {
                assert_eq!(seed.map(|s| s.bytes().len()), Some(64));
                saw("a seed");
            }
            Err(error) => {
                let text = error.to_string();
                for word in ["abandon", "zoo", "about"] {
                    assert!(!text.contains(word), "the words are quoted: {text}");
                }
                saw(text
                    .rsplit("valid")
                    .next()
                    .map(|t| t.chars().filter(|c| !c.is_ascii_digit()).collect::<String>()));
            }
        }
        assert_eq!(fs::read(&path).ok().as_deref(), Some(input), "the file was changed");
    });
}

/// Some records of a wallet, each behind its length.
pub fn wallet(input: &[u8]) {
    let mut records = Vec::new();
    let mut left = input;
    while let [high, low, rest @ ..] = left {
        let len = (usize::from(*high) << 8 | usize::from(*low)).min(rest.len());
        let (record, rest) = rest.split_at(len);
        records.push(record.to_vec());
        left = rest;
    }
    let count = records.len();
    match Wallet::load(&Seed::dev_from_bip32_seed(&[7; 32]), Network::Regtest, records) {
        Err(error) => {
            saw(error.to_string().chars().filter(|c| !c.is_ascii_digit()).take(50).collect::<String>())
        }
        Ok(mut wallet) => {
            saw(("loaded", count.min(4)));
            let (height, _) = wallet.tip();
            let _ = wallet.unused_address(crate::wallet::AddressKind::P2wpkh);
            let next = height.0.checked_add(1).map(Height);
            let blocks: Vec<_> = next.into_iter().map(|h| (h, bitcoin::hashes::Hash::all_zeros())).collect();
            saw((wallet.catch_up(&blocks).is_ok(), wallet.outputs().len().min(5)));
            let _ = (wallet.take_change(), wallet.compact(), Feerate::FLOOR);
        }
    }
}

/// Every option in the file and on the line.
pub fn config_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "network = \"regtest\"\nalias = \"Alice\"\nrgb = \"0a0b0c\"\nlisten = [\"127.0.0.1:0\"]\nbitcoin-rpc = \"http://bob:hunter2@127.0.0.1:18443\"\0",
        "network = \"signet\"\nbitcoin-rpcuser = \"bob\"\nbitcoin-rpcpassword = \"hunter2\"\nbitcoin-rpc = \"http://127.0.0.1:1\"\0--log-level\ntrace",
        "fee-base = 1\nfee-per-satoshi = 10\ncltv-delta = 40\ncltv-final = 20\nto-self-delay = 144\nfunding-confirms = 3\nmax-htlc-value-in-flight = 90\nsimple-close = true\0--bitcoin-rpc\nhttp://bob:hunter2@127.0.0.1:1",
        "\0--dev\n--network=regtest\n--bitcoin-rpc=http://bob:hunter2@127.0.0.1:1\n--dev-force-bip32-seed=0000000000000000000000000000000000000000000000000000000000000007",
        "bitcoin-rpc = \"http://bob:hunter2@nowhere\"\0",
        "alias = [1, 2]\n[table]\nx = 1\0--help",
        "\0regtest\n--premine\n0",
        "\0demo\n--fast",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// A seed and what is none.
pub fn seed_seeds() -> Vec<Vec<u8>> {
    let good = format!("# the seed\n{}art\n", "abandon ".repeat(23));
    let texts = [good, "abandon ".repeat(24), "zoo zoo".into(), String::new(), "about\u{0}about".into()];
    texts.into_iter().map(String::into_bytes).collect()
}

/// What a wallet keeps after a start, an address and a block.
pub fn wallet_seeds() -> Vec<Vec<u8>> {
    let mut wallet = Wallet::load(&Seed::dev_from_bip32_seed(&[7; 32]), Network::Regtest, Vec::new())
        .unwrap_or_else(|e| panic!("{e}"));
    let mut kept: Vec<Vec<u8>> = wallet.take_change().into_iter().collect();
    let hash = |n: u8| bitcoin::hashes::Hash::from_byte_array([n; 32]);
    wallet.start_at(Height(100), hash(1)).unwrap_or_else(|e| panic!("{e}"));
    kept.extend(wallet.take_change());
    wallet.new_address(crate::wallet::AddressKind::P2wpkh);
    kept.extend(wallet.take_change());
    let whole = wallet.compact();
    let framed = |records: &[Vec<u8>]| -> Vec<u8> {
        records.iter().flat_map(|r| [&(r.len() as u16).to_be_bytes()[..], r].concat()).collect()
    };
    let mut seeds = vec![framed(&kept), framed(&kept[..1])];
    seeds.extend(whole.map(|whole| framed(&[whole])));
    seeds
}
