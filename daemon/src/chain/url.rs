//! Where a chain backend is and how to log in there.
//!
//! In: a URL as the user wrote it. Out: host, path and credentials, which no `Debug` shows.
//! Read next: `rpc`.

use std::fmt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// How to log in to a backend.
#[derive(Clone)]
pub enum Auth {
    /// With what the URL says, if it says anything.
    Url,
    /// With these.
    Password {
        /// `rpcuser`.
        user: String,
        /// `rpcpassword`.
        password: Zeroizing<String>,
    },
    /// With the cookie that the backend writes at each start (`.cookie`); read again when it is refused.
    CookieFile(PathBuf),
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Auth::Url => f.write_str("Url"),
            Auth::Password { .. } => f.write_str("Password(secret)"),
            Auth::CookieFile(path) => f.debug_tuple("CookieFile").field(path).finish(),
        }
    }
}

/// Why a URL cannot be used; never repeats it, for it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Another scheme, or none.
    #[error("the chain backend's URL must start with http:// (bitcoind speaks no TLS: use a tunnel)")]
    Scheme,
    /// No host or no port.
    #[error(
        "the chain backend's URL must name a host and a port, as in http://user:password@127.0.0.1:8332"
    )]
    Place,
    /// A `%` that is not followed by two hex digits, or bytes that are no text.
    #[error("the user name or password in the chain backend's URL is badly encoded")]
    Encoding,
    /// A user without a password.
    #[error("the chain backend's URL names a user but no password")]
    NoPassword,
}

/// A parsed URL with its login.
pub(super) struct Endpoint {
    /// `host:port`.
    pub place: String,
    /// `/` or `/wallet/NAME`.
    pub path: String,
    auth: Auth,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("place", &self.place)
            .field("auth", &self.auth)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    pub fn parse(url: &str, auth: Auth) -> Result<Endpoint, UrlError> {
        let rest = url.strip_prefix("http://").ok_or(UrlError::Scheme)?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, authority),
        };
        let (host, port) = place.rsplit_once(':').ok_or(UrlError::Place)?;
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '@');
        let host_is_good = !host.is_empty() && host.chars().all(plain);
        if !host_is_good || port.parse::<u16>().map_or(true, |p| p == 0) || !path.chars().all(plain) {
            return Err(UrlError::Place);
        }
        let auth = match (auth, login) {
            (Auth::Url, Some(login)) => {
                let (user, password) = login.split_once(':').ok_or(UrlError::NoPassword)?;
                Auth::Password { user: decode(user)?.to_string(), password: decode(password)? }
            }
            (auth, _) => auth,
        };
        Ok(Endpoint { place: place.to_owned(), path: path.to_owned(), auth })
    }

    /// The cookie file, when that is how to log in.
    pub fn cookie(&self) -> Option<&Path> {
        match &self.auth {
            Auth::CookieFile(path) => Some(path),
            _ => None,
        }
    }

    /// `user:password`, when they are known.
    pub fn password(&self) -> Option<Zeroizing<String>> {
        match &self.auth {
            Auth::Password { user, password } => Some(Zeroizing::new(format!("{user}:{}", **password))),
            _ => None,
        }
    }
}

/// Undoes percent encoding (RFC 3986).
fn decode(text: &str) -> Result<Zeroizing<String>, UrlError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16)).ok_or(UrlError::Encoding);
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| UrlError::Encoding)?);
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| UrlError::Encoding)?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Endpoint, UrlError> {
        Endpoint::parse(url, Auth::Url)
    }

    #[test]
    fn a_url_says_where_and_how() {
        let full = parse("http://alice:p%40ss%3a%2f@127.0.0.1:18443/wallet/w").expect("good");
        assert_eq!((full.place.as_str(), full.path.as_str()), ("127.0.0.1:18443", "/wallet/w"));
        assert_eq!(full.password().as_deref().map(String::as_str), Some("alice:p@ss:/"));
        let bare = parse("http://[::1]:8332").expect("good");
        assert_eq!((bare.place.as_str(), bare.path.as_str()), ("[::1]:8332", "/"));
        assert!(bare.password().is_none() && bare.cookie().is_none());
        let file = Auth::CookieFile("/tmp/.cookie".into());
        let cookie = Endpoint::parse("http://alice:x@localhost:1", file).expect("good");
        assert!(cookie.password().is_none() && cookie.cookie().is_some());
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (url, expected) in [
            ("https://u:p@h:1", UrlError::Scheme),
            ("127.0.0.1:8332", UrlError::Scheme),
            ("http://u:p@host", UrlError::Place),
            ("http://host:99999", UrlError::Place),
            ("http://:1", UrlError::Place),
            ("http://host:1/\r\nX: y", UrlError::Place),
            ("http://user@host:1", UrlError::NoPassword),
            ("http://u:%zz@host:1", UrlError::Encoding),
            ("http://u:%ff@host:1", UrlError::Encoding),
            ("http://u:%f", UrlError::Place),
        ] {
            assert_eq!(parse(url).err(), Some(expected), "{url}");
        }
        let shown = format!("{:?}", parse("http://bob:hunter2@h:1").expect("good"));
        assert!(!shown.contains("hunter2") && !shown.contains("bob"), "{shown}");
    }
}
