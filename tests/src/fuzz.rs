//! Hostile bytes: every decoder of bytes from a peer, a user or the disk, and two whole nodes driven by bytes.
//!
//! In: any bytes. Out: nothing, or a panic that says which promise was broken. A target is a plain function, run by the
//! program `mutate` on stable Rust and by cargo-fuzz (`tests/fuzz`); what it was ever worth keeping lies in
//! `tests/fuzz/corpus`. The daemon's own decoders have their targets in `daemon/src/hostile.rs`.
//! Read next: `hunt`, then `wire` (the plainest targets) and `machine` (the largest).

pub mod feed;
pub mod files;
pub mod gossip;
pub mod hunt;
pub mod invoice;
pub mod machine;
pub mod mutate;
pub mod onion;
pub mod record;
pub mod seeds;
pub mod stage;
pub mod tower;
pub mod transaction;
pub mod transport;
pub mod wire;

use hunt::Target;

macro_rules! targets {
    ($($name:literal $run:path, $seeds:path, $max_len:literal, $weight:literal, $pace:literal, $about:literal;)*) => {
        /// Every target.
        pub const TARGETS: &[Target] = &[$(Target {
            name: $name,
            about: $about,
            run: $run,
            seeds: $seeds,
            max_len: $max_len,
            weight: $weight,
            pace: $pace,
        },)*];
    };
}

targets! {
    "message" wire::message, seeds::messages, 65_600, 2, 400_000, "a peer's message";
    "tlv" wire::tlv, seeds::tlvs, 65_600, 1, 700_000, "a TLV stream, BigSize and truncated integers";
    "features" wire::features, seeds::features, 2_000, 1, 500, "feature bits";
    "handshake" transport::handshake, seeds::few, 200, 1, 3_900, "the three acts of the noise handshake";
    "frames" transport::frames, seeds::few, 400, 1, 2_200, "a stream of noise frames, cut, changed, out of order";
    "onion_packet" onion::packet, onion::packet_seeds, 1_400, 1, 18_000, "an onion, any or tampered with";
    "onion_sealed" onion::sealed, seeds::sealed, 1_500, 1, 6_000, "whatever a payer sealed for a hop";
    "onion_payload" onion::payload, onion::payload_seeds, 1_400, 1, 800_000, "a hop's layer";
    "failure" onion::failure, seeds::failures, 1_200, 1, 18_000, "a failure, any or tampered with on its way back";
    "invoice_text" invoice::text, invoice::text_seeds, 8_000, 1, 400_000, "an invoice as text";
    "invoice_signed" invoice::signed, invoice::signed_seeds, 2_000, 2, 20_000, "an invoice with a good checksum and signature";
    "tower" tower::tower, tower::tower_seeds, 2_000, 1, 700_000, "what a watchtower and its client read";
    "gossip" gossip::gossip, gossip::gossip_seeds, 4_000, 2, 5_800, "the gossip machine and what waits in it";
    "record_value" record::value, record::value_seeds, 70_000, 1, 800_000, "a record's bytes";
    "records" record::records, record::record_seeds, 2_000, 4, 3_200, "a node's records, changed";
    "transaction" transaction::transaction, transaction::transaction_seeds, 20_000, 1, 500_000, "a transaction from the chain";
    "script" transaction::script, transaction::script_seeds, 11_000, 1, 800_000, "an output's script";
    "files" files::damaged, files::damaged_seeds, 600, 3, 430, "a database's files, changed";
    "entries" files::entries, files::entry_seeds, 600, 2, 170, "the engine's entries, changed";
    "schedule" machine::schedule, machine::schedule_seeds, 600, 5, 130, "two nodes in a bad world";
    "hostile_wire" machine::hostile_wire, machine::hostile_seeds, 1_200, 6, 230, "two nodes with somebody on the wire";
}

/// The target of that name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
