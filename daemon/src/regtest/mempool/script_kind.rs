//! Which of the known templates a scriptPubKey is, as bitcoind names them.
//!
//! In: a script. Out: [`ScriptKind`]. Read next: `standard` (what the pool relays), `rpc/decode.rs` (the names).

use bitcoin::{PublicKey, Script};

use super::script_ops::{read_op, Op};

/// The template of a scriptPubKey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScriptKind {
    /// None of them.
    Nonstandard,
    /// A key and OP_CHECKSIG.
    PubKey(PublicKey),
    /// P2PKH.
    PubKeyHash,
    /// P2SH (BIP 16).
    ScriptHash,
    /// Bare m-of-n multisig.
    Multisig {
        /// Signatures wanted.
        required: u8,
        /// The keys.
        keys: Vec<PublicKey>,
    },
    /// OP_RETURN and pushes.
    NullData,
    /// P2WPKH (BIP 141).
    WitnessV0KeyHash,
    /// P2WSH (BIP 141).
    WitnessV0ScriptHash,
    /// P2TR (BIP 341).
    WitnessV1Taproot,
    /// Pay to anchor, `1 <4e73>`: anyone may spend it.
    Anchor,
    /// A witness version of the future.
    WitnessUnknown,
}

impl ScriptKind {
    /// Sorts a script into its template.
    pub fn of(script: &Script) -> ScriptKind {
        let bytes = script.as_bytes();
        if script.is_p2sh() {
            return ScriptKind::ScriptHash;
        }
        if let Some(version) = script.witness_version() {
            return match (version.to_num(), bytes.len()) {
                (0, 22) => ScriptKind::WitnessV0KeyHash,
                (0, 34) => ScriptKind::WitnessV0ScriptHash,
                (0, _) => ScriptKind::Nonstandard,
                (1, 34) => ScriptKind::WitnessV1Taproot,
                (1, 4) if bytes == [0x51, 2, 0x4e, 0x73] => ScriptKind::Anchor,
                _ => ScriptKind::WitnessUnknown,
            };
        }
        if script.is_op_return() && bytes.get(1..).is_some_and(|rest| Script::from_bytes(rest).is_push_only())
        {
            return ScriptKind::NullData;
        }
        if script.is_p2pkh() {
            return ScriptKind::PubKeyHash;
        }
        if let Some(key) = script.p2pk_public_key() {
            return ScriptKind::PubKey(key);
        }
        multisig(bytes).unwrap_or(ScriptKind::Nonstandard)
    }

    /// bitcoind's name in `scriptPubKey.type`.
    pub fn name(&self) -> &'static str {
        match self {
            ScriptKind::Nonstandard => "nonstandard",
            ScriptKind::PubKey(_) => "pubkey",
            ScriptKind::PubKeyHash => "pubkeyhash",
            ScriptKind::ScriptHash => "scripthash",
            ScriptKind::Multisig { .. } => "multisig",
            ScriptKind::NullData => "nulldata",
            ScriptKind::WitnessV0KeyHash => "witness_v0_keyhash",
            ScriptKind::WitnessV0ScriptHash => "witness_v0_scripthash",
            ScriptKind::WitnessV1Taproot => "witness_v1_taproot",
            ScriptKind::Anchor => "anchor",
            ScriptKind::WitnessUnknown => "witness_unknown",
        }
    }
}

fn small_int(code: u8) -> Option<u8> {
    (0x51..=0x60).contains(&code).then(|| code - 0x50)
}

fn multisig(bytes: &[u8]) -> Option<ScriptKind> {
    let (Op::Code(first), mut position) = read_op(bytes, 0)? else { return None };
    let required = small_int(first)?;
    let mut keys = Vec::new();
    loop {
        let (op, next) = read_op(bytes, position)?;
        position = next;
        match op {
            Op::Push { data, .. } => keys.push(PublicKey::from_slice(data).ok()?),
            Op::Code(code) => {
                let total = small_int(code)?;
                let closes = bytes.get(position..) == Some(&[0xae]);
                let counts = usize::from(total) == keys.len() && required <= total;
                return (closes && counts).then_some(ScriptKind::Multisig { required, keys });
            }
        }
    }
}
