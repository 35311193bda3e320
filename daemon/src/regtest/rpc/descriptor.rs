//! Output descriptors as `scriptPubKey.desc` shows them (BIP 380): `addr(…)`, `raw(…)`, `rawtr(…)`, `pk(…)`,
//! `multi(…)`, each with its checksum; and the two of them that callers may name as a target.
//!
//! In: a script, or a text. Out: the other one. Read next: `decode`.

use std::str::FromStr;

use bitcoin::{Address, Network, Script, ScriptBuf};

use super::error::RpcError;
use super::json::{hex, unhex};
use crate::regtest::mempool::ScriptKind;

const INPUT_CHARSET: &str =
    "0123456789()[],'/*abcdefgh@:$%{}IJKLMNOPQRSTUVWXYZ&+-.;<=>?!^_|~ijklmnopqrstuvwxyzABCDEFGH`#\"\\ ";
const CHECKSUM_CHARSET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const GENERATOR: [u64; 5] = [0xf5_dee5_1989, 0xa9_fdca_3312, 0x1b_ab10_e32d, 0x37_06b1_677a, 0x64_4d62_6ffd];

fn step(state: u64, value: u64) -> u64 {
    let top = state >> 35;
    let mut next = ((state & 0x7_ffff_ffff) << 5) ^ value;
    for (bit, generator) in GENERATOR.iter().enumerate() {
        if (top >> bit) & 1 == 1 {
            next ^= generator;
        }
    }
    next
}

/// The eight characters after `#` (BIP 380); `None` for a character descriptors cannot have.
pub fn checksum(text: &str) -> Option<String> {
    let (mut state, mut class, mut count) = (1u64, 0u64, 0u32);
    for character in text.chars() {
        let position = u64::try_from(INPUT_CHARSET.find(character)?).ok()?;
        state = step(state, position & 31);
        class = class * 3 + (position >> 5);
        count += 1;
        if count == 3 {
            state = step(state, class);
            (class, count) = (0, 0);
        }
    }
    if count > 0 {
        state = step(state, class);
    }
    for _ in 0..8 {
        state = step(state, 0);
    }
    state ^= 1;
    let symbol =
        |place: u32| CHECKSUM_CHARSET.get(usize::try_from((state >> (5 * (7 - place))) & 31).ok()?).copied();
    (0..8).map(|place| symbol(place).map(char::from)).collect()
}

/// The address of a script, if it has one.
pub fn address_of(script: &Script) -> Option<Address> {
    match ScriptKind::of(script) {
        // Core shows no address for these, though their forms could be written as one.
        ScriptKind::PubKey(_)
        | ScriptKind::Multisig { .. }
        | ScriptKind::NullData
        | ScriptKind::Nonstandard => None,
        _ => Address::from_script(script, Network::Regtest).ok(),
    }
}

/// The descriptor of a script, with its checksum.
pub fn describe(script: &Script) -> String {
    let body = match ScriptKind::of(script) {
        ScriptKind::WitnessV1Taproot => {
            format!("rawtr({})", hex(script.as_bytes().get(2..).unwrap_or_default()))
        }
        ScriptKind::PubKey(key) => format!("pk({key})"),
        ScriptKind::Multisig { required, keys } => {
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            format!("multi({required},{})", keys.join(","))
        }
        _ => match address_of(script) {
            Some(address) => format!("addr({address})"),
            None => format!("raw({})", hex(script.as_bytes())),
        },
    };
    let sum = checksum(&body).unwrap_or_default();
    format!("{body}#{sum}")
}

/// The script of a regtest address.
pub fn script_of_address(text: &str) -> Option<ScriptBuf> {
    let address = Address::from_str(text).ok()?.require_network(Network::Regtest).ok()?;
    Some(address.script_pubkey())
}

/// The script of an address, or of a descriptor `addr(…)` or `raw(…)`, its checksum checked if given.
pub fn script_of(text: &str) -> Result<ScriptBuf, RpcError> {
    if let Some(script) = script_of_address(text) {
        return Ok(script);
    }
    let fault = || RpcError::not_found("Error: Invalid address or descriptor");
    let body = match text.split_once('#') {
        Some((body, sum)) if checksum(body).as_deref() == Some(sum) => body,
        Some(_) => return Err(fault()),
        None => text,
    };
    let inner = |name: &str| body.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
    if let Some(address) = inner("addr") {
        return script_of_address(address).ok_or_else(fault);
    }
    let bytes = inner("raw").and_then(unhex).ok_or_else(fault)?;
    Ok(ScriptBuf::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_bip_380() {
        assert_eq!(checksum("raw(deadbeef)").as_deref(), Some("89f8spxm"));
        assert_eq!(checksum("raw(é)"), None);
    }

    #[test]
    fn targets_may_be_addresses_or_raw_scripts() {
        assert_eq!(script_of("raw(51)").map(ScriptBuf::into_bytes), Ok(vec![0x51]));
        assert_eq!(
            script_of("raw(deadbeef)#89f8spxm").map(ScriptBuf::into_bytes),
            Ok(vec![0xde, 0xad, 0xbe, 0xef])
        );
        assert_eq!(script_of("raw(deadbeef)#89f8spxq").map_err(|fault| fault.code), Err(-5));
        assert_eq!(
            script_of("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4").map_err(|fault| fault.code),
            Err(-5)
        );
    }
}
