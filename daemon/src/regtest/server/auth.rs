//! Who may call: a user and password from the options, or bitcoind's cookie.
//!
//! In: options, later an `Authorization` header. Out: yes or no. The cookie is `__cookie__:` and 32 random bytes in
//! hex, in `DIR/regtest/.cookie` (0600), new at each start, as bitcoind leaves it. Read next: `server`.

use std::fmt;
use std::path::PathBuf;

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use zeroize::Zeroizing;

use crate::regtest::faucet::{random_bytes, write_private};
use crate::regtest::options::Options;
use crate::regtest::rpc_hex;
use crate::regtest::RegtestError;

const COOKIE_USER: &str = "__cookie__";

/// What a caller must show.
pub struct Credentials {
    user: String,
    password: Zeroizing<String>,
    cookie: Option<PathBuf>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Takes the options' user and password, or writes a new cookie.
    pub fn prepare(options: &Options) -> Result<Credentials, RegtestError> {
        match (&options.user, &options.password) {
            (Some(user), Some(_)) if user.contains(':') => {
                Err(RegtestError::Options("a colon cannot be part of --user".into()))
            }
            (Some(user), Some(password)) => Ok(Credentials {
                user: user.clone(),
                password: Zeroizing::new(password.clone()),
                cookie: None,
            }),
            (None, None) => {
                let path = options.network_directory().join(".cookie");
                let secret = random_bytes::<32>().map_err(|source| RegtestError::File {
                    what: "make",
                    path: path.clone(),
                    source,
                })?;
                let password = Zeroizing::new(rpc_hex(secret.as_slice()));
                let line = Zeroizing::new(format!("{COOKIE_USER}:{}", password.as_str()));
                write_private(&path, line.as_bytes())?;
                Ok(Credentials { user: COOKIE_USER.into(), password, cookie: Some(path) })
            }
            _ => Err(RegtestError::Options("--user and --password go together".into())),
        }
    }

    /// The user name.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The cookie file, if there is one.
    pub fn cookie(&self) -> Option<&PathBuf> {
        self.cookie.as_ref()
    }

    /// Does this `Authorization` header show them?
    pub fn admits(&self, header: &[u8]) -> bool {
        let Some(encoded) = header.strip_prefix(b"Basic ") else { return false };
        let Ok(given) = STANDARD.decode(encoded.trim_ascii()) else { return false };
        let given = Zeroizing::new(given);
        let wanted = Zeroizing::new(format!("{}:{}", self.user, self.password.as_str()));
        same(&given, wanted.as_bytes())
    }
}

/// Compares without telling by its duration where the first difference is.
fn same(left: &[u8], right: &[u8]) -> bool {
    let differing = left.iter().zip(right).fold(0u8, |seen, (a, b)| seen | (a ^ b));
    left.len() == right.len() && std::hint::black_box(differing) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_pair_is_admitted() {
        let credentials =
            Credentials { user: "alice".into(), password: Zeroizing::new("pass:word".into()), cookie: None };
        let header = |text: &str| format!("Basic {}", STANDARD.encode(text)).into_bytes();
        assert!(credentials.admits(&header("alice:pass:word")));
        for wrong in ["alice:pass:wor", "alice:pass:wordx", "bob:pass:word", "alice", ""] {
            assert!(!credentials.admits(&header(wrong)), "{wrong}");
        }
        assert!(!credentials.admits(b"Bearer x"));
        assert!(!credentials.admits(b"Basic ###"));
        assert!(!format!("{credentials:?}").contains("word"));
    }
}
