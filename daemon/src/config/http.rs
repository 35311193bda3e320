//! What was said about `--http`.
//!
//! In: `--http`, `--http-tls`, `--http-host`, `--tls-cert`, `--tls-key`. Out: where to listen, under which names, with which certificate; or
//! what does not go together. Off the machine only with TLS, unless somebody says `--http-tls never`. Read next: `crate::http`.

use super::options::Settings;
use super::ConfigError;
use crate::http::tls::Files;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The listener that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Http {
    /// Where.
    pub address: SocketAddr,
    /// Names that we are called by, beside addresses and `localhost`.
    pub names: Vec<String>,
    /// The certificate; `None`: no TLS.
    pub tls: Option<Files>,
}

impl Http {
    /// For whom a certificate is made.
    pub fn cert_names(&self) -> Vec<String> {
        let mut names = vec!["localhost".to_string(), "127.0.0.1".into(), "::1".into()];
        let ip = self.address.ip();
        if !ip.is_unspecified() && !ip.is_loopback() {
            names.push(ip.to_string());
        }
        names.extend(self.names.iter().cloned());
        names
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Auto,
    Always,
    Never,
}

/// What was said; `None`: nothing is listened to.
pub(super) fn read(s: &mut Settings, dir: &Path) -> Result<Option<Http>, ConfigError> {
    let address = s.optional("http", |text| {
        text.parse::<SocketAddr>()
            .map_err(|_| format!("\"{text}\" is not an address and a port, e.g. 127.0.0.1:3010 or [::]:3010"))
    })?;
    let names = s.list("http-host", name)?;
    let when = s.parse("http-tls", |text| match text {
        "auto" => Ok(When::Auto),
        "always" => Ok(When::Always),
        "never" => Ok(When::Never),
        _ => Err(format!("\"{text}\" is none of auto, always, never")),
    })?;
    let file = |text: &str| std::path::absolute(text).map_err(|e| e.to_string());
    let files = (s.optional("tls-cert", file)?, s.optional("tls-key", file)?);
    let Some(address) = address else {
        let alone = ["http-host", "tls-cert", "tls-key"].into_iter().find(|name| s.is_given(name));
        return match alone {
            Some(name) => Err(s.complain(name, "means nothing without --http ADDR:PORT".into())),
            None => Ok(None),
        };
    };
    let given: Option<(PathBuf, PathBuf)> = match files {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(_), None) => return Err(s.complain("tls-cert", "goes together with --tls-key".into())),
        (None, Some(_)) => return Err(s.complain("tls-key", "goes together with --tls-cert".into())),
    };
    let local = address.ip().is_loopback();
    let with_tls = match when {
        When::Auto => !local || given.is_some(),
        When::Always => true,
        When::Never => false,
    };
    if !with_tls && given.is_some() {
        return Err(s.complain("http-tls", "never: not together with --tls-cert".into()));
    }
    if !with_tls && !local {
        s.warn(format!(
            "--http {address} without TLS: whoever can listen on the way can take the runes that are shown"
        ));
    }
    let own = || (dir.join("http-cert.pem"), dir.join("http-key.pem"));
    let make = given.is_none();
    let (cert, key) = given.unwrap_or_else(own);
    Ok(Some(Http { address, names, tls: with_tls.then_some(Files { cert, key, make }) }))
}

fn name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    if text.is_empty() || text.len() > 253 || !text.chars().all(plain) || text.starts_with(['-', '.']) {
        return Err(format!("\"{text}\" is no name of a host, e.g. node.example (without a port)"));
    }
    Ok(text.to_ascii_lowercase())
}
