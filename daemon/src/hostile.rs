//! Hostile bytes for the daemon's own decoders: what a client, a backend, a file or a command line may hold.
//!
//! In: any bytes. Out: nothing, or a panic that says which promise was broken. Only in tests, and for cargo-fuzz behind
//! the feature `hostile`. The mutator is the one of `tests/src/fuzz`, included file by file; the kept inputs lie in
//! `tests/fuzz/corpus/daemon_*`. `HOSTILE_SECONDS` lengthens the run, `HOSTILE_SEED` changes it.
//! Read next: `client`, `backend`, `files`.

pub mod backend;
pub mod client;
pub mod files;
#[path = "../../tests/src/fuzz/hunt.rs"]
pub mod hunt;
#[path = "../../tests/src/fuzz/mutate.rs"]
pub mod mutate;
pub mod runes;
#[cfg(test)]
mod tests;

use hunt::Target;

fn target(
    name: &'static str,
    about: &'static str,
    run: fn(&[u8]),
    seeds: fn() -> Vec<Vec<u8>>,
    max_len: usize,
    pace: u64,
) -> Target {
    Target { name, about, run, seeds, max_len, weight: 1, pace }
}

/// Every target.
pub fn targets() -> Vec<Target> {
    vec![
        target(
            "daemon_requests",
            "a client's requests",
            client::requests,
            client::request_seeds,
            5_000,
            60_000,
        ),
        target(
            "daemon_words",
            "values as a person writes them",
            client::words,
            client::word_seeds,
            400,
            300_000,
        ),
        target(
            "daemon_command_line",
            "the command lines",
            client::command_line,
            client::command_seeds,
            600,
            140_000,
        ),
        target(
            "daemon_answers",
            "a backend's answers",
            backend::answers,
            backend::answer_seeds,
            3_000,
            3_900,
        ),
        target(
            "daemon_regtest",
            "requests to the embedded chain",
            backend::regtest,
            backend::regtest_seeds,
            3_000,
            300,
        ),
        target(
            "daemon_config",
            "chand.toml and the options",
            files::config,
            files::config_seeds,
            1_500,
            19_000,
        ),
        target("daemon_runes", "runes and their restrictions", runes::runes, runes::rune_seeds, 600, 8_000),
        target("daemon_seed", "the file of the seed", files::seed, files::seed_seeds, 5_000, 5_800),
        target("daemon_wallet", "the wallet's records", files::wallet, files::wallet_seeds, 6_000, 3_800),
    ]
}
