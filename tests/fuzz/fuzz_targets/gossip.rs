//! `gossip` for cargo-fuzz. In: bytes. Out: nothing, or a crash. Read next: `chand_tests::fuzz`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| chand_tests::fuzz::gossip::gossip(bytes));
