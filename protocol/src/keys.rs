//! All of a node's keys from one seed.
//!
//! In: the 64 bytes of a BIP 39 seed. Out: the node's identity key and the secrets of each channel, by number.
//! Derived with HKDF-SHA256, a label for each use; the on-chain wallet derives its own from the same seed (BIP 32).
//! Read next: `tx::keys`.

use crate::backup::BackupKey;
use crate::chain::Network;
use crate::id::NodeId;
use crate::tx::keys::ChannelSecrets;
use hkdf::Hkdf;
use secp256k1::{All, Secp256k1, SecretKey};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

/// The root of all secrets; wiped when dropped, never printed.
#[derive(Clone)]
pub struct NodeKeys {
    root: [u8; 32],
    node: SecretKey,
    dev_channel: Option<ChannelSecrets>,
}

impl core::fmt::Debug for NodeKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("NodeKeys(secret)")
    }
}

impl Drop for NodeKeys {
    fn drop(&mut self) {
        self.root.zeroize();
        self.node.non_secure_erase();
    }
}

/// Expands `root` for one use. The output is 32 bytes, far below HKDF's limit.
fn expand(root: &[u8; 32], label: &str, number: u64) -> [u8; 32] {
    let mut out = [0u8; 32];
    let kdf = Hkdf::<Sha256>::from_prk(root);
    if let Ok(kdf) = kdf {
        // Fails only for outputs above 8,160 bytes.
        let _ = kdf.expand_multi_info(&[label.as_bytes(), &number.to_be_bytes()], &mut out);
    }
    out
}

/// A valid key for one use: the next number's when (with chance 2^-128) the bytes are none.
fn expand_key(root: &[u8; 32], label: &str, number: u64) -> SecretKey {
    let mut try_root = *root;
    loop {
        let mut bytes = expand(&try_root, label, number);
        let key = SecretKey::from_slice(&bytes);
        if let Ok(key) = key {
            bytes.zeroize();
            try_root.zeroize();
            return key;
        }
        try_root = expand(&try_root, "again", number);
    }
}

impl NodeKeys {
    /// Derives the root and the identity key. Each network has keys of its own.
    pub fn from_seed(seed: &[u8; 64], network: Network) -> NodeKeys {
        let (mut prk, _) = Hkdf::<Sha256>::extract(Some(b"chand lightning keys"), seed);
        let mut master: [u8; 32] = prk.into();
        let root = expand(&master, network.row().name, 0);
        prk.zeroize();
        master.zeroize();
        let node = expand_key(&root, "node identity", 0);
        NodeKeys { root, node, dev_channel: None }
    }

    /// The same with a given identity key (`--dev-force-privkey`).
    pub fn with_node_secret(mut self, node: SecretKey) -> NodeKeys {
        self.node = node;
        self
    }

    /// The same with given secrets for every channel (`--dev-force-channel-secrets`).
    pub fn with_channel_secrets(mut self, secrets: ChannelSecrets) -> NodeKeys {
        self.dev_channel = Some(secrets);
        self
    }

    /// The identity key.
    pub const fn node_secret(&self) -> &SecretKey {
        &self.node
    }

    /// The identity, as others see it.
    pub fn node_id(&self, secp: &Secp256k1<All>) -> NodeId {
        NodeId(self.node.public_key(secp))
    }

    /// The key under which this node speaks to watchtowers: they need not know which node they watch for.
    pub fn tower_client_secret(&self) -> SecretKey {
        expand_key(&self.root, "watchtower client", 0)
    }

    /// What the authentication codes of runes grow from.
    pub fn rune_secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(expand(&self.root, "runes", 0))
    }

    /// What seals this node's channel backups.
    pub fn backup_key(&self) -> BackupKey {
        BackupKey(expand(&self.root, "channel backup", 0))
    }

    /// The secrets of channel number `index`.
    pub fn channel_secrets(&self, index: u64) -> ChannelSecrets {
        if let Some(secrets) = &self.dev_channel {
            return secrets.clone();
        }
        ChannelSecrets {
            funding: expand_key(&self.root, "funding", index),
            revocation: expand_key(&self.root, "revocation", index),
            payment: expand_key(&self.root, "payment", index),
            delayed_payment: expand_key(&self.root, "delayed payment", index),
            htlc: expand_key(&self.root, "htlc", index),
            // BOLT 3 [3.secret.1].
            shachain_seed: expand(&self.root, "shachain", index),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_stable_and_differ_by_channel_and_network() {
        let keys = NodeKeys::from_seed(&[7; 64], Network::Regtest);
        let again = NodeKeys::from_seed(&[7; 64], Network::Regtest);
        let other = NodeKeys::from_seed(&[7; 64], Network::Bitcoin);
        assert_eq!(keys.node_secret(), again.node_secret());
        assert_ne!(keys.node_secret(), other.node_secret());
        let (one, two) = (keys.channel_secrets(1), keys.channel_secrets(2));
        assert_eq!(one.funding, again.channel_secrets(1).funding);
        let all = [one.funding, one.revocation, one.payment, one.delayed_payment, one.htlc, two.funding];
        for (i, a) in all.iter().enumerate() {
            assert!(all.iter().skip(i + 1).all(|b| a != b));
        }
        assert_ne!(one.shachain_seed, two.shachain_seed);
        assert_eq!(keys.rune_secret(), again.rune_secret());
        assert_ne!(keys.rune_secret(), other.rune_secret());
    }
}
