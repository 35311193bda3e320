//! The seed file under a passphrase: whoever gets the disk alone gets nothing.
//!
//! In: words and a passphrase. Out: one line of text that holds both the words, sealed, and how the key was made; and the words
//! again. argon2id makes guessing dear (64 MiB and three passes a guess), ChaCha20-Poly1305 notices a wrong one at once. Each sealing has
//! a salt of its own, so that no key seals twice and the nonce can be zero. Our copies are wiped.
//! Read next: `crate::seed`.

use crate::seed::{Seed, SeedError};
use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use chand_protocol::id::{hex_bytes, to_hex};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use zeroize::Zeroizing;

/// What a sealed seed's line begins with; the number is its form.
const MARK: &str = "chand-sealed-seed-1";
const HEADER: &str =
    "# The seed of a chand node, sealed under a passphrase (argon2id, ChaCha20-Poly1305): both are needed.\n";
/// KiB, passes and lanes of a new sealing.
const COST: (u32, u32, u32) = (64 * 1_024, 3, 1);
/// More is asked of nobody: 1 GiB, and some seconds.
const MOST: (u32, u32, u32) = (1_024 * 1_024, 64, 16);
const MAX_PASSPHRASE_BYTES: u64 = 1_024;

/// A passphrase. Never printed; wiped when dropped.
pub struct Passphrase(Zeroizing<String>);

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(secret)")
    }
}

impl Passphrase {
    /// The first line of a file (`-`: of standard input).
    ///
    /// # Errors
    /// In words: it cannot be read, or there is nothing in it.
    pub fn read(path: &Path) -> Result<Passphrase, String> {
        let at = path.display();
        let source: Box<dyn Read> = match path.to_str() {
            Some("-") => Box::new(std::io::stdin()),
            _ => Box::new(
                File::open(path).map_err(|e| format!("the passphrase file {at} cannot be read: {e}"))?,
            ),
        };
        let mut text = Zeroizing::new(String::with_capacity(MAX_PASSPHRASE_BYTES as usize + 1));
        let read = source.take(MAX_PASSPHRASE_BYTES).read_to_string(&mut text);
        read.map_err(|e| format!("the passphrase file {at} cannot be read: {e}"))?;
        match text.lines().next() {
            Some(line) if !line.is_empty() => Ok(Passphrase(Zeroizing::new(line.to_string()))),
            _ => Err(format!("the first line of the passphrase file {at} is empty")),
        }
    }

    fn key(&self, salt: &[u8], (memory, passes, lanes): (u32, u32, u32)) -> Option<Zeroizing<[u8; 32]>> {
        let params = Params::new(memory, passes, lanes, Some(32)).ok()?;
        let mut key = Zeroizing::new([0u8; 32]);
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon.hash_password_into(self.0.as_bytes(), salt, key.as_mut()).ok()?;
        Some(key)
    }

    /// A seed file's text with `words` in it, sealed.
    ///
    /// # Errors
    /// When the system gives no randomness or no memory.
    pub fn seal(&self, words: &str) -> Result<String, String> {
        self.seal_at(words, COST)
    }

    fn seal_at(&self, words: &str, cost: (u32, u32, u32)) -> Result<String, String> {
        let mut salt = [0u8; 16];
        File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut salt)).map_err(|e| e.to_string())?;
        let key = self.key(&salt, cost).ok_or("no memory for argon2id")?;
        let head = head(cost, &salt);
        let payload = Payload { msg: words.as_bytes(), aad: head.as_bytes() };
        let cipher = ChaCha20Poly1305::new((&*key).into());
        let sealed = cipher.encrypt(&[0u8; 12].into(), payload).map_err(|_| "it cannot be sealed")?;
        Ok(format!("{HEADER}{head} {}\n", to_hex(&sealed)))
    }
}

fn head((memory, passes, lanes): (u32, u32, u32), salt: &[u8]) -> String {
    format!("{MARK} {memory} {passes} {lanes} {}", to_hex(salt))
}

/// The sealed line of a seed file, if it is sealed.
fn sealed_line(text: &str) -> Option<&str> {
    text.lines().find(|line| line.starts_with(MARK))
}

/// The words in a seed file's text: opened with the passphrase when they are sealed, as they are when they are not.
///
/// # Errors
/// In words without any of them: a passphrase is needed, or wrong, or there is nothing to open with it; or the file is damaged.
pub fn words(text: Zeroizing<String>, passphrase: Option<&Passphrase>) -> Result<Zeroizing<String>, String> {
    let (line, passphrase) = match (sealed_line(&text), passphrase) {
        (None, None) => return Ok(text),
        (None, Some(_)) => {
            return Err(
                "a passphrase is given and it is not sealed: seal it with chand passphrase --new FILE".into(),
            )
        }
        (Some(_), None) => {
            return Err(
                "it is sealed: name the file that holds its passphrase with --passphrase-file FILE".into()
            )
        }
        (Some(line), Some(passphrase)) => (line, passphrase),
    };
    let damaged =
        || String::from("its sealed line is damaged: put a copy of the file back, or recover from the words");
    let parts: Vec<&str> = line.split(' ').collect();
    let [_, memory, passes, lanes, salt, sealed] = parts[..] else { return Err(damaged()) };
    let number = |text: &str| text.parse::<u32>().map_err(|_| damaged());
    let cost = (number(memory)?, number(passes)?, number(lanes)?);
    if cost.0 > MOST.0 || cost.1 > MOST.1 || cost.2 > MOST.2 {
        return Err(damaged());
    }
    let salt = hex_bytes(salt).map_err(|_| damaged())?;
    let sealed = hex_bytes(sealed).map_err(|_| damaged())?;
    let key = passphrase.key(&salt, cost).ok_or_else(damaged)?;
    let aad = head(cost, &salt);
    let payload = Payload { msg: &sealed, aad: aad.as_bytes() };
    let cipher = ChaCha20Poly1305::new((&*key).into());
    let opened = cipher.decrypt(&[0u8; 12].into(), payload);
    let opened =
        opened.map_err(|_| "the passphrase does not open it: it is another one, or the file is damaged")?;
    let opened = Zeroizing::new(opened);
    let words = std::str::from_utf8(&opened).map_err(|_| damaged())?;
    Ok(Zeroizing::new(words.to_string()))
}

/// The same of a text that need not be sealed even when a passphrase is at hand.
///
/// # Errors
/// As [`words`].
pub fn words_if_sealed(
    text: Zeroizing<String>,
    passphrase: Option<&Passphrase>,
) -> Result<Zeroizing<String>, String> {
    let passphrase = passphrase.filter(|_| sealed_line(&text).is_some());
    words(text, passphrase)
}

/// What `chand passphrase` is told.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// The passphrase that the seed is sealed under now (-: standard input); none when it is not
    #[arg(long, value_name = "FILE")]
    pub old: Option<PathBuf>,
    /// The passphrase to seal it under; without it the seed is not sealed any more
    #[arg(long, value_name = "FILE")]
    pub new: Option<PathBuf>,
    /// The data folder [default: ~/.chand]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// regtest, testnet, testnet4, signet or bitcoin [default: what chand.toml says, else regtest]
    #[arg(long, value_name = "NAME")]
    pub network: Option<String>,
}

/// Seals the seed of a folder, changes its passphrase, or takes it away.
pub fn run(options: &Options, env: &dyn Fn(&str) -> Option<OsString>) -> ExitCode {
    match change(options, env) {
        Ok(words) => {
            println!("{words}");
            ExitCode::SUCCESS
        }
        Err(words) => {
            eprintln!("chand passphrase: {words}");
            ExitCode::FAILURE
        }
    }
}

fn change(options: &Options, env: &dyn Fn(&str) -> Option<OsString>) -> Result<String, String> {
    let config = crate::backup::recover::config(options.data_dir.as_ref(), options.network.as_ref(), env)?;
    let read = |path: &Option<PathBuf>| path.as_ref().map(|path| Passphrase::read(path)).transpose();
    let (old, new) = (read(&options.old)?, read(&options.new)?);
    let path = config.seed_path();
    let said = |e: SeedError| e.to_string();
    Seed::reseal(&path, old.as_ref(), new.as_ref()).map_err(said)?;
    Ok(match new {
        Some(_) => format!(
            "{} is sealed under the new passphrase; start chand with --passphrase-file",
            path.display()
        ),
        None => format!("{} is not sealed any more: whoever reads it owns the money", path.display()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: (u32, u32, u32) = (64, 1, 1);
    const WORDS: &str = "# words\nabandon ability able\n";

    fn pass(text: &str) -> Passphrase {
        Passphrase(Zeroizing::new(text.into()))
    }

    fn open(text: &str, with: Option<&Passphrase>) -> Result<String, String> {
        words(Zeroizing::new(text.into()), with).map(|words| words.to_string())
    }

    #[test]
    fn what_is_sealed_opens_with_its_passphrase_alone() {
        let (right, wrong) = (pass("correct horse"), pass("correct horsf"));
        let sealed = right.seal_at(WORDS, CHEAP).expect("sealed");
        assert!(!sealed.contains("abandon"));
        assert_eq!(open(&sealed, Some(&right)).as_deref(), Ok(WORDS));
        assert!(open(&sealed, Some(&wrong)).expect_err("wrong").contains("does not open"));
        assert!(open(&sealed, None).expect_err("none").contains("--passphrase-file"));
        assert_ne!(right.seal_at(WORDS, CHEAP).expect("sealed"), sealed, "no salt is used twice");
        // Words that are not sealed need none, and are not taken for sealed.
        assert_eq!(open(WORDS, None).as_deref(), Ok(WORDS));
        assert!(open(WORDS, Some(&right)).expect_err("plain").contains("not sealed"));
    }

    #[test]
    fn a_damaged_line_is_refused_and_asks_for_no_memory() {
        let right = pass("right");
        let sealed = right.seal_at(WORDS, CHEAP).expect("sealed");
        for (from, to) in [(" 64 1 1 ", " 4294967295 1 1 "), (" 64 1 1 ", " 64 1 "), (" 64 1 1 ", " 64 2 1 ")]
        {
            assert!(open(&sealed.replace(from, to), Some(&right)).is_err(), "{to}");
        }
        for cut in 1..60 {
            assert!(open(&sealed[..sealed.len() - cut], Some(&right)).is_err() || cut == 1, "{cut}");
        }
    }

    #[test]
    fn a_passphrase_is_the_first_line_of_its_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("pass");
        std::fs::write(&path, "one two\nthree").expect("written");
        assert_eq!(*Passphrase::read(&path).expect("read").0, "one two");
        std::fs::write(&path, "\n").expect("written");
        assert!(Passphrase::read(&path).is_err());
        assert!(Passphrase::read(&dir.path().join("none")).is_err());
    }
}
