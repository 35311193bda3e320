//! What is looked at before anything is done for a client: how it calls us, from where it was sent, what for, with which rune.
//!
//! A page of somebody else's in a browser may send requests here, under a name that it had point to us (DNS rebinding): so only addresses,
//! `localhost` and names that we were told are ours are answered, and a page's requests (they have an `Origin`) only when it is ours.
//! Paths are compared as they stand: nothing in them is decoded, joined or left out.
//! In: the head of a request. Out: what it is for, or why not. Read next: `answer`.

use super::Door;
use crate::rpc::message::RpcError;
use crate::runes::authority::NOT_AUTHORIZED;
use crate::runes::Rune;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, Request, StatusCode, Uri};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest name of a method.
const MAX_METHOD: usize = 64;
/// The header that holds a rune.
const RUNE: HeaderName = HeaderName::from_static("rune");

/// What a request is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Aim {
    /// `POST /v1/METHOD`
    Method(String),
    /// `POST /` or `/v1`: JSON-RPC.
    Rpc,
    /// `GET /ws` or `/v1/ws`
    WebSocket,
}

/// A refusal: status and error.
pub(super) type No = (StatusCode, RpcError);

fn no(status: StatusCode, text: &str) -> No {
    (status, RpcError::new(crate::rpc::message::INVALID_REQUEST, text))
}

/// What a request is for.
pub(super) fn aim<B>(request: &Request<B>, door: &Door) -> Result<Aim, No> {
    host(request.headers(), &door.names)?;
    origin(request.headers(), door.scheme)?;
    route(request.method(), request.uri())
}

/// The one value of a header.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, No> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str(), values.next()) {
        (Ok(text), None) => Ok(Some(text)),
        _ => Err(no(StatusCode::BAD_REQUEST, "a header is there twice, or is no text")),
    }
}

fn host(headers: &HeaderMap, names: &[String]) -> Result<(), No> {
    let host = single(headers, &header::HOST)?;
    let host = host.ok_or_else(|| no(StatusCode::BAD_REQUEST, "no host is named"))?;
    if is_us(host, names) {
        return Ok(());
    }
    Err(no(StatusCode::MISDIRECTED_REQUEST, "this host is not called so (--http-host says how it is)"))
}

/// Whether it is an address, `localhost` or a name of ours, with a port or without.
fn is_us(host: &str, names: &[String]) -> bool {
    let is_port = |port: &str| !port.is_empty() && port.parse::<u16>().is_ok();
    if let Some(rest) = host.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        let port_ok = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return port_ok && address.parse::<Ipv6Addr>().is_ok();
    }
    let name = match host.split_once(':') {
        Some((name, port)) if is_port(port) => name,
        Some(_) => return false,
        None => host,
    };
    let known = |known: &String| name.eq_ignore_ascii_case(known);
    name.parse::<Ipv4Addr>().is_ok() || name.eq_ignore_ascii_case("localhost") || names.iter().any(known)
}

/// A page's own origin is the only one that may ask.
fn origin(headers: &HeaderMap, scheme: &str) -> Result<(), No> {
    let Some(origin) = single(headers, &header::ORIGIN)? else { return Ok(()) };
    let host = single(headers, &header::HOST)?.unwrap_or_default();
    if origin.split_once("://") == Some((scheme, host)) {
        return Ok(());
    }
    Err(no(StatusCode::FORBIDDEN, "pages of other origins are not answered"))
}

fn route(method: &Method, uri: &Uri) -> Result<Aim, No> {
    let none = || no(StatusCode::NOT_FOUND, "there is nothing here");
    if uri.scheme().is_some() || uri.authority().is_some() || uri.query().is_some() {
        return Err(no(StatusCode::BAD_REQUEST, "a path, and nothing else"));
    }
    let aim = match uri.path() {
        "/" | "/v1" => Aim::Rpc,
        "/ws" | "/v1/ws" => Aim::WebSocket,
        path => {
            let name = path.strip_prefix("/v1/").ok_or_else(none)?;
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
            if name.is_empty() || name.len() > MAX_METHOD || !name.bytes().all(plain) {
                return Err(none());
            }
            Aim::Method(name.into())
        }
    };
    let wanted = if aim == Aim::WebSocket { Method::GET } else { Method::POST };
    if *method != wanted {
        return Err(no(StatusCode::METHOD_NOT_ALLOWED, "POST, or GET for a WebSocket"));
    }
    Ok(aim)
}

/// The rune that was shown, if one was.
pub(super) fn rune(headers: &HeaderMap) -> Result<Option<Rune>, No> {
    single(headers, &RUNE)?.map(read_rune).transpose().map_err(|error| (StatusCode::UNAUTHORIZED, error))
}

/// Reads a rune.
pub(super) fn read_rune(text: &str) -> Result<Rune, RpcError> {
    Rune::parse(text.trim()).map_err(|_| RpcError::new(NOT_AUTHORIZED, "Not authorized: Invalid rune"))
}

/// Nobody showed one.
pub(super) fn missing_rune() -> No {
    (StatusCode::FORBIDDEN, RpcError::new(NOT_AUTHORIZED, "Not authorized: Missing rune"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_ours() {
        let names = ["node.example".to_string()];
        for good in [
            "127.0.0.1",
            "10.0.0.1:3010",
            "localhost",
            "LocalHost:80",
            "[::1]",
            "[::1]:3010",
            "Node.Example:1",
        ] {
            assert!(is_us(good, &names), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost:",
            "localhost:x",
            "localhost:99999",
            "[::1",
            "[::1]x",
            "[::1]:",
            "::1",
            "node.example.",
            "a@localhost",
            "127.1",
            "[evil]",
            "localhost:80:80",
            " localhost",
        ] {
            assert!(!is_us(bad, &names), "{bad}");
        }
    }

    fn routed(method: &str, path: &str) -> Result<Aim, u16> {
        let Ok(uri) = path.parse::<Uri>() else { return Err(0) };
        route(&method.parse().unwrap(), &uri).map_err(|(status, _)| status.as_u16())
    }

    #[test]
    fn paths_are_taken_as_they_stand() {
        assert_eq!(routed("POST", "/v1/getinfo"), Ok(Aim::Method("getinfo".into())));
        assert_eq!(routed("POST", "/v1/dev-fail"), Ok(Aim::Method("dev-fail".into())));
        assert_eq!((routed("POST", "/"), routed("POST", "/v1")), (Ok(Aim::Rpc), Ok(Aim::Rpc)));
        assert_eq!((routed("GET", "/ws"), routed("GET", "/v1/ws")), (Ok(Aim::WebSocket), Ok(Aim::WebSocket)));
        for path in [
            "/v1/",
            "/v1//getinfo",
            "//v1/getinfo",
            "/v1/getinfo/",
            "/v1/../getinfo",
            "/v1/x/../getinfo",
            "/v1/./getinfo",
            "/v1/%67etinfo",
            "/v1/getinfo%00",
            "/v1/%2e%2e/getinfo",
            "/v1/Getinfo",
            "/V1/getinfo",
            "/v2/getinfo",
            "/getinfo",
            "/v1/getinfo;x",
            "/v1/get info",
            "/v1/getinfo\\",
            "/v1/getinf\u{f6}",
            "/wsx",
            "/ws/",
        ] {
            assert!(matches!(routed("POST", path), Err(404 | 0)), "{path}: {:?}", routed("POST", path));
        }
        assert_eq!(routed("POST", &format!("/v1/{}", "a".repeat(65))), Err(404));
        for path in ["/v1/getinfo?rune=x", "http://localhost/v1/getinfo", "/?"] {
            assert_eq!(routed("POST", path), Err(400), "{path}");
        }
        for (method, path) in
            [("GET", "/v1/getinfo"), ("post", "/v1/getinfo"), ("POST", "/ws"), ("OPTIONS", "/"), ("PUT", "/")]
        {
            assert_eq!(routed(method, path), Err(405), "{method} {path}");
        }
    }

    #[test]
    fn only_a_page_of_ours_may_ask() {
        let headers = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            headers
        };
        let host = ("host", "127.0.0.1:3010");
        assert!(origin(&headers(&[host]), "http").is_ok());
        assert!(origin(&headers(&[host, ("origin", "http://127.0.0.1:3010")]), "http").is_ok());
        for other in [
            "https://127.0.0.1:3010",
            "http://127.0.0.1",
            "http://evil.example",
            "null",
            "",
            "http://127.0.0.1:3010/",
        ] {
            assert!(origin(&headers(&[host, ("origin", other)]), "http").is_err(), "{other}");
        }
        let twice = headers(&[host, ("host", "localhost")]);
        assert!(super::host(&twice, &[]).is_err());
        assert!(super::host(&HeaderMap::new(), &[]).is_err());
        assert!(matches!(rune(&headers(&[("rune", "a"), ("rune", "b")])), Err((StatusCode::BAD_REQUEST, _))));
        assert!(matches!(rune(&headers(&[("rune", "a")])), Err((StatusCode::UNAUTHORIZED, _))));
        assert_eq!(rune(&headers(&[])), Ok(None));
    }
}
