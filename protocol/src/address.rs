//! Addresses: scripts as people write them, on every network of the table.
//!
//! In: a script or a text, a network. Out: the other one. Bitcoin's own library knows Bitcoin's networks only, so the rows'
//! prefixes decide here (BIP 173, BIP 350, and base58 with a checksum for the older kinds).
//! Read next: `chain`.

use crate::chain::Network;
use alloc::string::String;
use alloc::vec::Vec;
use bitcoin::base58;
use bitcoin::bech32::{segwit, Hrp};
use bitcoin::{Script, ScriptBuf, WitnessProgram, WitnessVersion};

/// Why a text is no address of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A typing error, or something else altogether.
    #[error("is not an address")]
    NotOne,
    /// Of another coin, or of a test network.
    #[error("is not an address of {0}")]
    OtherNetwork(Network),
}

/// The address of a script, if there is one for its kind.
pub fn write(script: &Script, network: Network) -> Option<String> {
    let row = network.row();
    if let (Some(version), true) = (script.witness_version(), script.is_witness_program()) {
        let hrp = Hrp::parse(row.hrp).ok()?;
        return segwit::encode(hrp, version.to_fe(), script.as_bytes().get(2..)?).ok();
    }
    let (first, hash) = match script.as_bytes() {
        // OP_DUP OP_HASH160 20 … OP_EQUALVERIFY OP_CHECKSIG; OP_HASH160 20 … OP_EQUAL.
        [0x76, 0xa9, 0x14, hash @ .., 0x88, 0xac] if hash.len() == 20 => (row.base58.0, hash),
        [0xa9, 0x14, hash @ .., 0x87] if hash.len() == 20 => (*row.base58.1.first()?, hash),
        _ => return None,
    };
    let mut bytes = Vec::from([first]);
    bytes.extend_from_slice(hash);
    Some(base58::encode_check(&bytes))
}

/// The script of an address.
///
/// # Errors
/// [`AddressError`].
pub fn read(text: &str, network: Network) -> Result<ScriptBuf, AddressError> {
    let row = network.row();
    if let Ok((hrp, version, program)) = segwit::decode(text) {
        if hrp.to_lowercase() != row.hrp {
            return Err(AddressError::OtherNetwork(network));
        }
        let version = WitnessVersion::try_from(version).map_err(|_| AddressError::NotOne)?;
        let program = WitnessProgram::new(version, &program).map_err(|_| AddressError::NotOne)?;
        return Ok(ScriptBuf::new_witness_program(&program));
    }
    let bytes = base58::decode_check(text).map_err(|_| AddressError::NotOne)?;
    let Some((first, hash)) = bytes.split_first() else { return Err(AddressError::NotOne) };
    let hash: [u8; 20] = hash.try_into().map_err(|_| AddressError::NotOne)?;
    let script = if *first == row.base58.0 {
        [&[0x76, 0xa9, 0x14][..], &hash, &[0x88, 0xac]].concat()
    } else if row.base58.1.contains(first) {
        [&[0xa9, 0x14][..], &hash, &[0x87]].concat()
    } else {
        return Err(AddressError::OtherNetwork(network));
    };
    Ok(ScriptBuf::from_bytes(script))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    /// One script of each kind that has an address.
    fn scripts() -> [ScriptBuf; 5] {
        let program = |version: u8, byte: u8, len: usize| {
            let head = [if version == 0 { 0 } else { 0x50 + version }, len as u8];
            ScriptBuf::from_bytes([&head[..], &alloc::vec![byte; len]].concat())
        };
        let key = [&[0x76, 0xa9, 0x14][..], &[3; 20], &[0x88, 0xac]].concat();
        let script = [&[0xa9, 0x14][..], &[4; 20], &[0x87]].concat();
        [
            program(0, 1, 20),
            program(0, 2, 32),
            // The generator's x coordinate would do as well: no point is looked for in an address.
            program(1, 5, 32),
            ScriptBuf::from_bytes(key),
            ScriptBuf::from_bytes(script),
        ]
    }

    #[test]
    fn bitcoins_own_library_writes_the_same() {
        for network in Network::ALL.into_iter().filter(|n| n.row().coin == crate::chain::Coin::Bitcoin) {
            for script in scripts() {
                let theirs = bitcoin::Address::from_script(&script, network.bitcoin()).map(|a| a.to_string());
                assert_eq!(write(&script, network), theirs.ok(), "{network}");
            }
        }
    }

    #[test]
    fn what_is_written_is_read_on_its_own_network_only() {
        for network in Network::ALL {
            for script in scripts() {
                let text = write(&script, network).expect("an address");
                assert_eq!(read(&text, network), Ok(script.clone()), "{text}");
                let damaged = text.replace(|c: char| c.is_ascii_digit(), "q");
                assert!(damaged == text || read(&damaged, network).is_err(), "{damaged}");
                for other in Network::ALL.into_iter().filter(|n| n.row().coin != network.row().coin) {
                    // Old addresses share first bytes: those of test networks, as the coins' own nodes have it, and Litecoin's
                    // to scripts may have Bitcoin's.
                    let (mine, its) = (network.row().base58, other.row().base58);
                    let same = if script.is_p2pkh() { mine.0 == its.0 } else { its.1.contains(&mine.1[0]) };
                    let shared = !script.is_witness_program() && same;
                    assert!(shared || read(&text, other).is_err(), "{text} on {other}");
                }
            }
        }
        assert_eq!(write(Script::from_bytes(&[0x6a]), Network::Bitcoin), None);
        assert_eq!(read("hello", Network::Bitcoin), Err(AddressError::NotOne));
    }

    /// Addresses that litecoind's own wallet gave out on its regtest.
    #[test]
    fn litecoins_own_node_writes_the_same() {
        for (text, script) in LITECOIND {
            let script = ScriptBuf::from_hex(script).expect("hex");
            assert_eq!(write(&script, Network::LitecoinRegtest).as_deref(), Some(text));
        }
    }

    const LITECOIND: [(&str, &str); 3] = [
        ("msAepaBo7cWnkuqorNoz4Q1pbTtyHHF5wJ", "76a9147fca9a907620b09081fddbac1ce45c72e0e7e0b188ac"),
        ("QRnebXjAL3Sh38J1uD5MDwLojUyKHpFQWB", "a91438dcea68bd59d0bf9ee54fda36c4d65d2a5db13387"),
        ("rltc1qvty5nlwsr4h3tk2fygc70mtl8my3zusdlwdv5d", "001462c949fdd01d6f15d9492231e7ed7f3ec911720d"),
    ];
}
