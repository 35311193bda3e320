//! The command line of `chan-cli`.
//!
//! In: words and environment variables. Out: which socket to ask, which method, and its parameters as JSON.
//! The list of methods says which arguments are text, so that a hash of digits only does not become a number.
//! Read next: `client`.

use crate::rpc::table::{find, Method};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// What was asked for.
#[derive(Debug)]
pub(super) enum Wanted {
    /// `--help`
    Usage,
    /// `--version`
    Version,
    /// A method.
    Call(Call),
}

/// One call.
#[derive(Debug)]
pub(super) struct Call {
    /// Whom to ask.
    pub socket: PathBuf,
    /// Where chand keeps its files.
    pub data_dir: PathBuf,
    /// Which network was meant.
    pub network: String,
    /// What to do.
    pub method: String,
    /// With what.
    pub params: Value,
    /// Words instead of JSON.
    pub human: bool,
    /// Wait until the matter is settled on chain.
    pub wait: bool,
}

#[derive(Default)]
struct Flags {
    data_dir: Option<String>,
    network: Option<String>,
    rpc_socket: Option<String>,
    human: bool,
    keywords: bool,
    wait: bool,
    /// The method and its arguments.
    rest: Vec<String>,
}

/// Reads the command line.
///
/// # Errors
/// Words.
pub(super) fn parse(words: &[String], env: &dyn Fn(&str) -> Option<String>) -> Result<Wanted, String> {
    let mut flags = Flags::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (name, attached) = match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_string())),
            _ => (word.as_str(), None),
        };
        let mut value = || {
            let next = attached.clone().or_else(|| words.next().cloned());
            next.filter(|v| !v.is_empty()).ok_or_else(|| format!("{name} needs a value"))
        };
        match name {
            "--data-dir" => flags.data_dir = Some(value()?),
            "--network" => flags.network = Some(value()?),
            "--rpc-socket" => flags.rpc_socket = Some(value()?),
            "-H" | "--human" => flags.human = true,
            "-J" | "--json" => flags.human = false,
            "-k" | "--keywords" => flags.keywords = true,
            "--wait" => flags.wait = true,
            "-h" | "--help" => return Ok(Wanted::Usage),
            "-V" | "--version" => return Ok(Wanted::Version),
            "--" => flags.rest.extend(words.by_ref().cloned()),
            _ if word.starts_with('-') && word.len() > 1 => return Err(format!("there is no option {word}")),
            _ => flags.rest.push(word.clone()),
        }
    }
    call(flags, env)
}

fn call(flags: Flags, env: &dyn Fn(&str) -> Option<String>) -> Result<Wanted, String> {
    let Some((method, arguments)) = flags.rest.split_first() else { return Ok(Wanted::Usage) };
    let home = || env("HOME").map(|home| Path::new(&home).join(".chand"));
    let data_dir = flags.data_dir.or_else(|| env("CHAND_DATA_DIR")).map(PathBuf::from).or_else(home);
    let data_dir = data_dir.ok_or("there is no HOME: name chand's folder with --data-dir")?;
    let file = settings(&data_dir)?;
    let setting = |given: Option<String>, variable: &str, key: &str| {
        given
            .or_else(|| env(variable))
            .or_else(|| file.get(key).and_then(toml::Value::as_str).map(str::to_string))
    };
    let network = setting(flags.network, "CHAND_NETWORK", "network").unwrap_or_else(|| "regtest".into());
    crate::config::network::find(&network)?;
    let socket = setting(flags.rpc_socket, "CHAND_RPC_SOCKET", "rpc-socket")
        .map_or_else(|| data_dir.join(&network).join("rpc.sock"), PathBuf::from);
    if flags.wait && !["fundchannel", "close"].contains(&method.as_str()) {
        return Err(format!("--wait is for fundchannel and close, not for {method}"));
    }
    Ok(Wanted::Call(Call {
        socket,
        data_dir,
        network,
        method: method.clone(),
        params: params(find(method, true), arguments, flags.keywords)?,
        human: flags.human,
        wait: flags.wait,
    }))
}

/// `chand.toml`, which the daemon reads too; that there is none is usual.
fn settings(data_dir: &Path) -> Result<toml::Table, String> {
    let path = data_dir.join("chand.toml");
    match std::fs::read_to_string(&path) {
        Ok(text) => text.parse().map_err(|_| format!("{} is not valid TOML", path.display())),
        Err(_) => Ok(toml::Table::new()),
    }
}

/// The parameters: an array when all are by position, else an object.
fn params(method: Option<&Method>, arguments: &[String], keywords: bool) -> Result<Value, String> {
    let mut by_position = Vec::new();
    let mut by_name = Map::new();
    for argument in arguments {
        match named(method, argument, keywords)? {
            Some((name, text)) => {
                let value = encode(method, |p| p.name == name, &text);
                if by_name.insert(name.clone(), value).is_some() {
                    return Err(format!("{name} is given twice"));
                }
            }
            None if by_name.is_empty() => {
                let at = by_position.len();
                by_position.push(encode_at(method, at, argument));
            }
            None => {
                return Err(format!("'{argument}' comes after name=value arguments; give it a name, too"))
            }
        }
    }
    if by_name.is_empty() {
        return Ok(Value::Array(by_position));
    }
    let Some(method) = method.filter(|m| by_position.len() <= m.params.len()) else {
        if by_position.is_empty() {
            return Ok(Value::Object(by_name));
        }
        return Err("arguments by position and by name cannot be mixed here".into());
    };
    for (param, value) in method.params.iter().zip(by_position) {
        if by_name.insert(param.name.into(), value).is_some() {
            return Err(format!("{} is given twice, by position and by name", param.name));
        }
    }
    Ok(Value::Object(by_name))
}

/// An argument's name and value, when it has a name.
fn named(
    method: Option<&Method>,
    argument: &str,
    keywords: bool,
) -> Result<Option<(String, String)>, String> {
    let split = argument.split_once('=').map(|(n, v)| (n.to_string(), v.to_string()));
    if keywords {
        return split.map(Some).ok_or_else(|| format!("-k needs name=value, not '{argument}'"));
    }
    // `a=b` is a name and a value only where `a` is a parameter: a description may hold an equals sign.
    let is_name = |name: &str| match method {
        Some(method) => method.params.iter().any(|p| p.name == name),
        None => !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'),
    };
    Ok(split.filter(|(name, _)| is_name(name)))
}

fn encode_at(method: Option<&Method>, at: usize, text: &str) -> Value {
    let name = method.and_then(|m| m.params.get(at)).map(|p| p.name);
    encode(method, |p| Some(p.name) == name, text)
}

/// A word as JSON, by the type of its parameter where that is known.
fn encode(method: Option<&Method>, is_it: impl Fn(&crate::rpc::params::Param) -> bool, text: &str) -> Value {
    let param = method.and_then(|m| m.params.iter().find(|p| is_it(p)));
    let as_text = || Value::String(text.into());
    match param {
        Some(p) if !p.required && text == "null" => Value::Null,
        Some(p) if p.kind.is_text() => as_text(),
        Some(_) => serde_json::from_str(text).unwrap_or_else(|_| as_text()),
        None => match serde_json::from_str(text) {
            // A long row of digits is rather an id than a number, and would lose digits as one.
            Ok(Value::Number(_)) if text.len() > 15 => as_text(),
            Ok(value) => value,
            Err(_) => as_text(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parsed(line: &[&str]) -> Result<Call, String> {
        let words: Vec<String> = line.iter().map(ToString::to_string).collect();
        let env = |name: &str| (name == "HOME").then(|| "/home/alice".to_string());
        match parse(&words, &env)? {
            Wanted::Call(call) => Ok(call),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn options_anywhere_and_defaults() {
        let call = parsed(&["getinfo"]).unwrap();
        assert_eq!(call.socket, Path::new("/home/alice/.chand/regtest/rpc.sock"));
        assert_eq!(call.params, json!([]));
        let call = parsed(&["--data-dir=/d", "getinfo", "--network", "signet", "-H"]).unwrap();
        assert_eq!(call.socket, Path::new("/d/signet/rpc.sock"));
        assert!(call.human);
        let call = parsed(&["--rpc-socket", "/x.sock", "stop"]).unwrap();
        assert_eq!(call.socket, Path::new("/x.sock"));
        for bad in [
            &["--nope", "getinfo"][..],
            &["--network", "main", "getinfo"],
            &["--data-dir"],
            &["--wait", "getinfo"],
            &["-k", "ping", "x"],
        ] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_option_of_the_list_is_read_and_in_the_help() {
        for flag in crate::cli::flags::FLAGS {
            let value = match (flag.long, flag.form) {
                ("network", _) => Some("signet"),
                (_, form) => form,
            };
            let long = format!("--{}", flag.long);
            let short = flag.short.map(|c| format!("-{c}"));
            for name in [Some(long.clone()), short].into_iter().flatten() {
                let line =
                    [Some(name), value.map(String::from), Some("close".into()), Some("id=1x1x1".into())];
                let words: Vec<String> = line.into_iter().flatten().collect();
                assert!(
                    parse(&words, &|name| (name == "HOME").then(|| "/home/alice".into())).is_ok(),
                    "{words:?}"
                );
            }
            let named = crate::cli::usage().contains(&long);
            assert!(named || flag.short.is_some(), "{long} is not in the help");
        }
    }

    #[test]
    fn arguments_become_json_by_their_type() {
        let digits = "1".repeat(64);
        assert_eq!(parsed(&["cancelinvoice", &digits]).unwrap().params, json!([digits]));
        let call = parsed(&["invoice", "any", "7", "a=b", "expiry=60", "deschashonly=true"]).unwrap();
        assert_eq!(
            call.params,
            json!({"amount_msat":"any","label":"7","description":"a=b","expiry":60,"deschashonly":true})
        );
        let call = parsed(&["-k", "close", "id=103x1x0", "feerange=[\"slow\",\"urgent\"]"]).unwrap();
        assert_eq!(call.params, json!({"id":"103x1x0","feerange":["slow","urgent"]}));
        assert_eq!(parsed(&["getlog", "null"]).unwrap().params, json!([null]));
        assert_eq!(parsed(&["signmessage", "null"]).unwrap().params, json!(["null"]));
        assert_eq!(parsed(&["signmessage", "--", "-H"]).unwrap().params, json!(["-H"]));
        assert_eq!(parsed(&["unknown", "7", "x", &digits]).unwrap().params, json!([7, "x", digits]));
        assert!(parsed(&["ping", "id=02", "7"]).is_err());
        assert!(parsed(&["ping", "02", "id=02"]).is_err());
    }
}
