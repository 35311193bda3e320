//! `daemon_runes` for cargo-fuzz. In: bytes. Out: nothing, or a crash. Read next: `chand::hostile`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| chand::hostile::runes::runes(bytes));
