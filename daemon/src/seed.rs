//! The secret that all of a node's keys grow from: 24 words of BIP 39, in a file of their own.
//!
//! In: a path. Out: the seed's bytes, made at the first start and read at every later one.
//! The randomness is the kernel's, read from `/dev/random`: it gives the same stream as `/dev/urandom`, but not
//! before the kernel's generator is ready, which on a machine that was just switched on matters for a key that
//! must hold for years. 32 bytes are read, once in a node's life.
//! A file is never overwritten: it is written under another name, synced, and then linked to its own.
//! What the crate `bip39` and the kernel's page cache keep is out of our hands; our own copies are wiped.
//! Read next: `wallet` (what grows from it on chain).

use crate::passphrase::Passphrase;
use bip39::{Language, Mnemonic};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use zeroize::{Zeroize, Zeroizing};

const HEADER: &str =
    "# The seed of a chand node (BIP 39, no passphrase). Whoever knows it owns the money.\n\
     # Write it down; keep this file private (0600). The words give back on-chain coins; with emergency.recover, channels.\n";
const ENTROPY_BYTES: usize = 32;
const FILE_BYTES_MAX: u64 = 4_096;

/// The bytes that keys are derived from (BIP 32). Never printed; wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed(Vec<u8>);

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(secret)")
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Whether this start made the seed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Created {
    /// Just now: tell the user to write it down.
    Now,
    /// At an earlier start.
    Before,
}

/// Why there is no seed. Never quotes the file.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The file system refused.
    #[error("the seed file {path} could not be {what}: {reason}")]
    Io {
        /// Which file.
        path: String,
        /// `read` or `written`.
        what: &'static str,
        /// The system's words.
        reason: String,
    },
    /// Others may read it.
    #[error("the seed file {path} may be read by others (mode {mode:03o}): run chmod 600 on it, and think whether somebody has")]
    Open {
        /// Which file.
        path: String,
        /// Its rights.
        mode: u32,
    },
    /// The words are not a seed.
    #[error("the seed file {path} does not hold a valid seed: {reason}; put the right words back (nothing was changed)")]
    Words {
        /// Which file.
        path: String,
        /// What is wrong, without the words.
        reason: String,
    },
    /// The kernel gave no randomness.
    #[error("no randomness from /dev/random: {0}")]
    Randomness(String),
}

/// Words that a user wrote down, and the seed that they are.
pub struct Words {
    words: Zeroizing<String>,
    /// The seed.
    pub seed: Seed,
}

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Words(secret)")
    }
}

impl Words {
    /// Makes them the seed of a node: the file at `path`, which must not be there or hold the same.
    ///
    /// # Errors
    /// [`SeedError`]; an existing file is never changed.
    pub fn install(&self, path: &Path, passphrase: Option<&Passphrase>) -> Result<(), SeedError> {
        let text = file_text(path, &self.words, passphrase)?;
        write_new(path, text.as_bytes()).map_err(|e| io_error(path, "written", &e.to_string()))?;
        match Seed::load(path, passphrase)? {
            Some(seed) if seed == self.seed => Ok(()),
            _ => Err(io_error(path, "written", "there is another seed already, and it stays")),
        }
    }
}

impl Seed {
    /// Reads the seed at `path`, or makes one there (file 0600, folder 0700) when there is no file.
    ///
    /// # Errors
    /// [`SeedError`]; an existing file is never changed.
    pub fn load_or_create(
        path: &Path,
        passphrase: Option<&Passphrase>,
    ) -> Result<(Seed, Created), SeedError> {
        match Seed::load(path, passphrase)? {
            Some(seed) => Ok((seed, Created::Before)),
            None => {
                create(path, passphrase)?;
                // What counts is what is on disk, also when another process was faster.
                let seed = Seed::load(path, passphrase)?
                    .ok_or_else(|| io_error(path, "read", "it is gone again"))?;
                Ok((seed, Created::Now))
            }
        }
    }

    /// Reads the seed at `path`, under a passphrase if one is given; `None` when there is no file.
    ///
    /// # Errors
    /// [`SeedError`] when there is one that cannot be used.
    pub fn load(path: &Path, passphrase: Option<&Passphrase>) -> Result<Option<Seed>, SeedError> {
        let Some(words) = read_words(path, passphrase)? else { return Ok(None) };
        parse(&words)
            .map(Some)
            .map_err(|reason| SeedError::Words { path: path.display().to_string(), reason })
    }

    /// Seals the seed at `path` under another passphrase, or under none: a new file in its place.
    ///
    /// # Errors
    /// [`SeedError`]; the file of before stays.
    pub fn reseal(path: &Path, old: Option<&Passphrase>, new: Option<&Passphrase>) -> Result<(), SeedError> {
        let words = read_words(path, old)?.ok_or_else(|| io_error(path, "read", "there is none"))?;
        let bad = |reason| SeedError::Words { path: path.display().to_string(), reason };
        parse(&words).map_err(bad)?;
        let text = file_text(path, &joined(&words), new)?;
        let temp = path.with_extension("resealed");
        let unwritten = |e: io::Error| io_error(path, "written", &e.to_string());
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temp);
        let file = file.as_mut().map_err(|e| io_error(path, "written", &e.to_string()))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(unwritten)?;
        fs::rename(&temp, path).map_err(unwritten)?;
        let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(unwritten)
    }

    /// The words of a file (`-`: of standard input) that a user wrote, 12 or 24 of them; its rights are the user's affair.
    ///
    /// # Errors
    /// [`SeedError`] when it cannot be read or the words are none.
    pub fn from_words(path: &Path, passphrase: Option<&Passphrase>) -> Result<Words, SeedError> {
        let unread = |e: io::Error| io_error(path, "read", &e.to_string());
        let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX as usize));
        let source: Box<dyn Read> = match path.to_str() {
            Some("-") => Box::new(io::stdin()),
            _ => Box::new(File::open(path).map_err(unread)?),
        };
        source.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(unread)?;
        let bad = |reason| SeedError::Words { path: path.display().to_string(), reason };
        // A node's own seed file will do as well.
        let words = joined(&crate::passphrase::words_if_sealed(text, passphrase).map_err(bad)?);
        if !matches!(words.split(' ').count(), 12 | 24) {
            return Err(bad(format!("it has {} words instead of 12 or 24", words.split(' ').count())));
        }
        let seed = parse(&words).map_err(bad)?;
        Ok(Words { words, seed })
    }

    /// For tests: a BIP 32 seed as it is (`--dev-force-bip32-seed`).
    pub fn dev_from_bip32_seed(bytes: &[u8; 32]) -> Seed {
        Seed(bytes.to_vec())
    }

    /// The BIP 32 seed: 64 bytes, or 32 when it was forced by a test.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The text of the words in the file at `path`; `None` when there is no file.
fn read_words(path: &Path, passphrase: Option<&Passphrase>) -> Result<Option<Zeroizing<String>>, SeedError> {
    let unread = |e: io::Error| io_error(path, "read", &e.to_string());
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(unread(e)),
    };
    let mode = file.metadata().map_err(unread)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SeedError::Open { path: path.display().to_string(), mode });
    }
    // Room for all of it at once: a growing string would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX as usize));
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(unread)?;
    let bad = |reason| SeedError::Words { path: path.display().to_string(), reason };
    crate::passphrase::words(text, passphrase).map(Some).map_err(bad)
}

fn io_error(path: &Path, what: &'static str, reason: &str) -> SeedError {
    SeedError::Io { path: path.display().to_string(), what, reason: reason.to_string() }
}

/// The words of a text, without its comments, with one space between.
fn joined(text: &str) -> Zeroizing<String> {
    let mut words = Zeroizing::new(String::with_capacity(text.len() + 1));
    let lines = text.lines().filter(|l| !l.trim_start().starts_with('#'));
    for word in lines.flat_map(str::split_whitespace) {
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
    }
    words
}

fn parse(text: &str) -> Result<Seed, String> {
    let words = joined(text);
    let mnemonic = Mnemonic::parse_in_normalized(Language::English, &words).map_err(|e| match e {
        bip39::Error::BadWordCount(n) => format!("it has {n} words instead of 12 or 24"),
        bip39::Error::UnknownWord(n) => format!("word {} is not in BIP 39's list", n + 1),
        bip39::Error::InvalidChecksum => "the checksum is wrong, so a word is wrong or out of place".into(),
        _ => "it is not BIP 39".into(),
    })?;
    let mut bytes = mnemonic.to_seed_normalized("");
    let seed = Seed(bytes.to_vec());
    bytes.zeroize();
    Ok(seed)
}

/// The text of a seed file that holds these words.
fn file_text(
    path: &Path,
    words: &str,
    passphrase: Option<&Passphrase>,
) -> Result<Zeroizing<String>, SeedError> {
    let mut text = Zeroizing::new(String::with_capacity(1_024));
    text.push_str(HEADER);
    text.push_str(words);
    text.push('\n');
    match passphrase {
        None => Ok(text),
        Some(passphrase) => {
            passphrase.seal(&text).map(Zeroizing::new).map_err(|why| io_error(path, "written", &why))
        }
    }
}

fn create(path: &Path, passphrase: Option<&Passphrase>) -> Result<(), SeedError> {
    let mut entropy = Zeroizing::new([0u8; ENTROPY_BYTES]);
    let random = |e: io::Error| SeedError::Randomness(e.to_string());
    File::open("/dev/random").and_then(|mut f| f.read_exact(entropy.as_mut())).map_err(random)?;
    if entropy.iter().all(|b| *b == entropy[0]) {
        return Err(SeedError::Randomness("it gave the same byte over and over".into()));
    }
    let mnemonic = Mnemonic::from_entropy_in(Language::English, entropy.as_ref())
        .map_err(|e| SeedError::Randomness(e.to_string()))?;
    let mut words = Zeroizing::new(String::with_capacity(1_024));
    // Joined without a second copy that nobody wipes.
    let mut gap = "";
    for word in mnemonic.words() {
        words.push_str(gap);
        words.push_str(word);
        gap = " ";
    }
    let text = file_text(path, &words, passphrase)?;
    write_new(path, text.as_bytes()).map_err(|e| io_error(path, "written", &e.to_string()))
}

/// Writes a file that was not there; whoever came first stays.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    crate::config::make_private_dir(dir).map_err(|e| io::Error::other(e.to_string()))?;
    let temp = path.with_extension(format!("new.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| match fs::hard_link(&temp, path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        // A file system without links: a second process at this very moment is all that could go wrong.
        Err(_) if !path.exists() => fs::rename(&temp, path),
        other => other,
    });
    let removed = match fs::remove_file(&temp) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    };
    linked.and(removed)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;

    const ABANDON: &str = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon \
                           abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon \
                           abandon art";

    fn with(text: &str, mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seed");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn the_first_start_makes_it_and_every_later_one_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("regtest/seed");
        let (first, created) = Seed::load_or_create(&path, None).unwrap();
        assert_eq!((created, first.bytes().len()), (Created::Now, 64));
        let text = fs::read_to_string(&path).unwrap();
        let (second, created) = Seed::load_or_create(&path, None).unwrap();
        assert_eq!(created, Created::Before);
        assert!(first == second);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert!(text.starts_with("# ") && text.lines().last().unwrap().split(' ').count() == 24);
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left behind");
        let other = Seed::load_or_create(&dir.path().join("other/seed"), None).unwrap().0;
        assert!(first != other);
    }

    #[test]
    fn the_words_give_the_seed_of_bip_39() {
        // The seed of this sentence without a passphrase, as any BIP 39 tool gives it.
        let (_dir, path) = with(&format!("# a comment\n\n{ABANDON}\n"), 0o600);
        let seed = Seed::load(&path, None).unwrap().unwrap();
        let hex = chand_protocol::id::to_hex(seed.bytes());
        assert_eq!(
            hex,
            "408b285c123836004f4b8842c89324c1f01382450c0d439af345ba7fc49acf705489c6fc77dbd4e3dc1dd8cc6bc9f043db8ada1e243c4a0eafb290d399480840"
        );
        assert_eq!(format!("{seed:?}"), "Seed(secret)");
    }

    #[test]
    fn a_file_that_is_no_seed_is_an_error_without_its_words_and_stays_as_it_is() {
        let swapped = ABANDON.replacen("abandon", "zoo", 1);
        let strange = ABANDON.replacen("abandon", "sesame", 1);
        for (text, want) in [
            ("", "0 words"),
            ("abandon abandon", "2 words"),
            (swapped.as_str(), "checksum"),
            (strange.as_str(), "word 1 is not in"),
            ("\u{fffd}", "words"),
        ] {
            let (_dir, path) = with(text, 0o600);
            let said = Seed::load_or_create(&path, None).unwrap_err().to_string();
            assert!(said.contains(want) && !said.contains("sesame") && !said.contains("abandon"), "{said}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let (_dir, path) = with("", 0o600);
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(Seed::load(&path, None), Err(SeedError::Io { .. })));
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        for mode in [0o640, 0o604, 0o644] {
            let (_dir, path) = with(ABANDON, mode);
            let error = Seed::load_or_create(&path, None).unwrap_err();
            assert!(matches!(error, SeedError::Open { mode: m, .. } if m == mode), "{error}");
            assert!(error.to_string().contains("chmod 600"));
        }
    }

    #[test]
    fn writing_never_replaces_what_is_there() {
        let (_dir, path) = with("precious", 0o600);
        write_new(&path, b"new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_seed_is_sealed_opened_changed_and_unsealed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seed");
        let pass = |name: &str| {
            let file = dir.path().join(name);
            fs::write(&file, name).unwrap();
            Passphrase::read(&file).unwrap()
        };
        let (one, two) = (pass("one"), pass("two"));
        let (seed, created) = Seed::load_or_create(&path, Some(&one)).unwrap();
        assert_eq!(created, Created::Now);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("argon2id") && text.lines().count() == 2, "{text}");
        let said = Seed::load(&path, Some(&two)).unwrap_err().to_string();
        assert!(said.contains("the passphrase does not open it"), "{said}");
        assert!(Seed::load(&path, None).unwrap_err().to_string().contains("--passphrase-file"));
        assert!(Seed::reseal(&path, Some(&two), None).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "nothing was changed");
        Seed::reseal(&path, Some(&one), Some(&two)).unwrap();
        assert!(Seed::load(&path, Some(&two)).unwrap().unwrap() == seed);
        assert!(Seed::load(&path, Some(&one)).is_err());
        Seed::reseal(&path, Some(&two), None).unwrap();
        assert!(Seed::load(&path, None).unwrap().unwrap() == seed);
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode, fs::read_dir(dir.path()).unwrap().count()), (0o600, 3));
    }
}
