//! What only tests may ask for.
//!
//! In: `--dev` and the `--dev-…` options. Out: [`Dev`], or a complaint when one is given without `--dev`.
//! Read next: `options`.

use super::chain::Hidden;
use super::options::Settings;
use super::ConfigError;
use chand_protocol::id::hex_array;

/// Six secrets that every channel then uses, so that a script can build its transactions, too.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ChannelSecrets {
    pub funding: Hidden<[u8; 32]>,
    pub revocation: Hidden<[u8; 32]>,
    pub payment: Hidden<[u8; 32]>,
    pub delayed: Hidden<[u8; 32]>,
    pub htlc: Hidden<[u8; 32]>,
    /// Seed of the per-commitment secrets.
    pub shachain_seed: Hidden<[u8; 32]>,
}

/// Present when `--dev` was given.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Dev {
    /// The node's key instead of the seed's.
    pub force_privkey: Option<Hidden<[u8; 32]>>,
    /// The BIP 32 seed instead of the seed file.
    pub force_bip32_seed: Option<Hidden<[u8; 32]>>,
    /// Every channel's secrets.
    pub force_channel_secrets: Option<ChannelSecrets>,
    /// Seconds between two questions for a new block.
    pub bitcoind_poll_s: Option<u32>,
    /// Flush gossip at once.
    pub fast_gossip: bool,
    /// Do not close over an HTLC that ran out.
    pub no_htlc_timeout: bool,
    /// Announce local addresses.
    pub allow_localhost: bool,
}

pub(super) fn read(s: &mut Settings) -> Result<Option<Dev>, ConfigError> {
    if !s.switch("dev")? {
        return match s.dev_options_given().first() {
            Some(name) => Err(s.complain(name, "only with --dev, which is for tests".into())),
            None => Ok(None),
        };
    }
    let poll =
        if s.is_given("dev-bitcoind-poll") { Some(s.number("dev-bitcoind-poll", 1, 3_600)?) } else { None };
    Ok(Some(Dev {
        force_privkey: s.optional("dev-force-privkey", key)?,
        force_bip32_seed: s.optional("dev-force-bip32-seed", bytes)?,
        force_channel_secrets: s.optional("dev-force-channel-secrets", channel_secrets)?,
        bitcoind_poll_s: poll,
        fast_gossip: s.switch("dev-fast-gossip")?,
        no_htlc_timeout: s.switch("dev-no-htlc-timeout")?,
        allow_localhost: s.switch("dev-allow-localhost")?,
    }))
}

fn bytes(text: &str) -> Result<Hidden<[u8; 32]>, String> {
    hex_array(text).map(Hidden::new).map_err(|_| "is not 64 hex digits".into())
}

fn key(text: &str) -> Result<Hidden<[u8; 32]>, String> {
    let hidden = bytes(text)?;
    secp256k1::SecretKey::from_slice(hidden.reveal())
        .map(|mut key| key.non_secure_erase())
        .map_err(|_| "is not a valid private key".to_string())?;
    Ok(hidden)
}

fn channel_secrets(text: &str) -> Result<ChannelSecrets, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let [funding, revocation, payment, delayed, htlc, seed] = parts.as_slice() else {
        return Err(
            "is not six keys with / between: FUNDING/REVOCATION/PAYMENT/DELAYED/HTLC/SHACHAIN_SEED".into()
        );
    };
    Ok(ChannelSecrets {
        funding: key(funding)?,
        revocation: key(revocation)?,
        payment: key(payment)?,
        delayed: key(delayed)?,
        htlc: key(htlc)?,
        shachain_seed: bytes(seed)?,
    })
}
