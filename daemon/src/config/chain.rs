//! Which chain backend, and how to log in to it.
//!
//! In: `--bitcoin-rpc`, `--bitcoin-rpc-cookie`, or nothing. Out: host, port and a way to log in, of one backend or several.
//! Nothing named: the cookies that `chand regtest` and bitcoind leave where they always do.
//! Read next: `options`.

use super::network::NetworkInfo;
use super::options::Settings;
use super::ConfigError;
use chand_protocol::chain::Network;
use std::path::{Path, PathBuf};
use zeroize::Zeroize;

/// Something that is never printed, and wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden<T: Zeroize>(T);

impl<T: Zeroize> Hidden<T> {
    /// Hides it.
    pub fn new(value: T) -> Hidden<T> {
        Hidden(value)
    }
    /// To use it, not to print it.
    pub fn reveal(&self) -> &T {
        &self.0
    }
}
impl<T: Zeroize> std::fmt::Debug for Hidden<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}
impl<T: Zeroize> Drop for Hidden<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// How to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RpcAuth {
    /// With a name and a password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: Hidden<String>,
    },
    /// With the first of these files that exists and that the backend accepts. They change whenever the backend
    /// starts: read them again after each refusal.
    Cookies(Vec<PathBuf>),
}

/// A bitcoind, or what speaks like one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitcoinRpc {
    /// Name or address; without the brackets of IPv6.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path of the URL, `/` at least (`/wallet/…` works with bitcoind, too).
    pub path: String,
    /// Login.
    pub auth: RpcAuth,
}

/// The backends, in the order in which they were named, and at least one.
pub(super) fn read(
    s: &mut Settings,
    network: &NetworkInfo,
    home: Option<&Path>,
) -> Result<(BitcoinRpc, Vec<BitcoinRpc>), ConfigError> {
    let mut cookies = s.list("bitcoin-rpc-cookie", cookie_file)?.into_iter();
    let named = s.joined("bitcoin-rpc", "://");
    let mut all = Vec::new();
    for text in named {
        let url = parse_url(&text, network.rpc_port).map_err(|reason| s.complain("bitcoin-rpc", reason))?;
        all.push(one(s, url, &mut cookies, network, home)?);
    }
    if all.is_empty() {
        all.push(match cookies.next() {
            Some(cookie) => local(network, vec![cookie]),
            None => match found_cookies(network, home) {
                cookies if cookies.is_empty() => return Err(no_chain(network)),
                cookies => local(network, cookies),
            },
        });
    }
    if cookies.next().is_some() {
        let words = "more files than --bitcoin-rpc without a user: give each backend one of both";
        return Err(s.complain("bitcoin-rpc-cookie", words.into()));
    }
    let first = all.remove(0);
    Ok((first, all))
}

/// One backend; a URL without a user takes the next cookie.
fn one(
    s: &mut Settings,
    url: Url,
    cookies: &mut impl Iterator<Item = PathBuf>,
    network: &NetworkInfo,
    home: Option<&Path>,
) -> Result<BitcoinRpc, ConfigError> {
    let Url { host, port, path, login } = url;
    if let Some((user, password)) = login {
        if !is_local(&host) && !network.is_regtest() {
            s.warn(format!("the password for {host} travels unencrypted: reach it through a tunnel or VPN"));
        }
        return Ok(BitcoinRpc { host, port, path, auth: RpcAuth::Password { user, password } });
    }
    if let Some(cookie) = cookies.next() {
        return Ok(BitcoinRpc { host, port, path, auth: RpcAuth::Cookies(vec![cookie]) });
    }
    match found_cookies(network, home) {
        cookies if !cookies.is_empty() && is_local(&host) => {
            Ok(BitcoinRpc { host, port, path, auth: RpcAuth::Cookies(cookies) })
        }
        _ => Err(s.complain(
            "bitcoin-rpc",
            "names no user: write http://user:password@host:port, or add --bitcoin-rpc-cookie FILE".into(),
        )),
    }
}

fn local(network: &NetworkInfo, cookies: Vec<PathBuf>) -> BitcoinRpc {
    let auth = RpcAuth::Cookies(cookies);
    BitcoinRpc { host: "127.0.0.1".into(), port: network.rpc_port, path: "/".into(), auth }
}

fn no_chain(network: &NetworkInfo) -> ConfigError {
    let (name, port, program) = (network.name, network.rpc_port, network.node_program());
    ConfigError::NoChain(if network.network == Network::Regtest {
        format!("no chain found at 127.0.0.1:{port}: start one with `chand regtest`, or name one with --bitcoin-rpc URL")
    } else {
        format!(
            "no chain found for network {name} (no {program} cookie in the home directory): start {program}, or name it \
             with --bitcoin-rpc http://user:password@host:{port} or --bitcoin-rpc-cookie FILE"
        )
    })
}

fn found_cookies(network: &NetworkInfo, home: Option<&Path>) -> Vec<PathBuf> {
    let Some(home) = home else { return Vec::new() };
    let ours = (network.network == Network::Regtest).then(|| home.join(".chand-regtest/regtest/.cookie"));
    let bitcoinds = home.join(network.node_home).join(network.node_dir).join(".cookie");
    ours.into_iter().chain([bitcoinds]).filter(|p| p.is_file()).collect()
}

fn cookie_file(text: &str) -> Result<PathBuf, String> {
    let path = std::path::absolute(text).map_err(|e| e.to_string())?;
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!(
            "there is no file {}: is the backend running, and its data dir the one you mean?",
            path.display()
        ))
    }
}

fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

struct Url {
    host: String,
    port: u16,
    path: String,
    login: Option<(String, Hidden<String>)>,
}

/// Reads `http://user:password@host:port/path`; no complaint ever quotes it.
fn parse_url(text: &str, default_port: u16) -> Result<Url, String> {
    let form = "write http://user:password@host:port";
    let rest = text.strip_prefix("http://").ok_or(match text.split_once("://") {
        Some(("https", _)) => "https is not spoken: use http on this machine or through a tunnel".to_string(),
        _ => format!("does not begin with http://: {form}"),
    })?;
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let (login, host_port) = match authority.rsplit_once('@') {
        Some((login, host)) => (Some(login), host),
        None => (None, authority),
    };
    let login = match login {
        None => None,
        Some(login) => {
            let (user, password) = login.split_once(':').ok_or(format!("names no password: {form}"))?;
            Some((unescape(user)?, Hidden::new(unescape(password)?)))
        }
    };
    let (host, port) = split_port(host_port);
    let port = match port {
        None => default_port,
        Some(port) => port.parse().ok().filter(|p| *p != 0).ok_or("has no valid port after the host")?,
    };
    if host.is_empty() || host.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("names no host: {form}"));
    }
    Ok(Url { host: host.to_string(), port, path: path.to_string(), login })
}

fn split_port(host_port: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = host_port.strip_prefix('[').and_then(|r| r.split_once(']')) {
        return (host, rest.strip_prefix(':'));
    }
    match host_port.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (host_port, None),
    }
}

/// `%40` and the like, which a password with an `@` needs.
fn unescape(text: &str) -> Result<String, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|b| (b as char).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err("holds a % that two hex digits do not follow (write %25 for a %)".into());
        };
        out.push((high * 16 + low) as u8);
    }
    String::from_utf8(out).map_err(|_| "user or password is not UTF-8".into())
}
