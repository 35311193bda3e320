//! THE list of the daemon's options, and where each value came from.
//!
//! In: flags, environment, file. Out: one text value an option, its source, and a report for `listconfigs`.
//! An option is a row of [`OPTIONS`]: the help, the variable's name, the key in `chand.toml` and the report all
//! come from it. Parsing and checking is the caller's (`mod`), who gets the source into every complaint.
//! Read next: `mod`.

use super::network::NETWORKS;
use super::ConfigError;
use clap::{Arg, ArgAction, ArgMatches};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// How many values an option takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// None: named or not.
    Switch,
    /// One, of this form.
    One(&'static str),
    /// Several, of this form.
    Many(&'static str),
}

struct Opt {
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    /// Its value is never shown.
    secret: bool,
    help: &'static str,
}

const fn opt(name: &'static str, kind: Kind, default: Option<&'static str>, help: &'static str) -> Opt {
    Opt { name, kind, default, secret: false, help }
}

const fn secret(name: &'static str, form: &'static str, help: &'static str) -> Opt {
    Opt { name, kind: Kind::One(form), default: None, secret: true, help }
}

static OPTIONS: [Opt; 34] = [
    opt("data-dir", Kind::One("DIR"), None, "Where everything is kept [~/.chand]"),
    opt(
        "network",
        Kind::One("NAME"),
        Some("regtest"),
        "regtest, testnet[4], signet, bitcoin, litecoin[-regtest, -testnet] [regtest]",
    ),
    opt(
        "listen",
        Kind::Many("ADDR:PORT"),
        Some("127.0.0.1:9735"),
        "Where peers reach us; repeatable [127.0.0.1:9735]",
    ),
    opt("rpc-socket", Kind::One("PATH"), None, "The control socket [DIR/NETWORK/rpc.sock]"),
    Opt {
        kind: Kind::Many("URL"),
        ..secret(
            "bitcoin-rpc",
            "URL",
            "The chain, http://user:password@host:port (bitcoind's RPC); repeatable",
        )
    },
    opt("bitcoin-rpc-cookie", Kind::Many("FILE"), None, "Its cookie file, instead of user and password"),
    opt(
        "alias",
        Kind::One("NAME"),
        None,
        "Our name for others, at most 32 bytes; --rgb RRGGBB is our colour",
    ),
    opt("rgb", Kind::One("RRGGBB"), None, "Our colour for others"),
    opt("log-level", Kind::One("LEVEL"), Some("info"), "error, warn, info, debug or trace [info]"),
    opt("fee-base", Kind::One("MSAT"), Some("1000"), "What forwarding one payment costs [1000]"),
    opt("fee-per-satoshi", Kind::One("PPM"), Some("10"), "And in millionths of its amount [10]"),
    opt(
        "cltv-delta",
        Kind::One("BLOCKS"),
        None,
        "Blocks between an incoming and an outgoing HTLC [34; Litecoin 136]",
    ),
    opt("cltv-final", Kind::One("BLOCKS"), None, "Blocks that a payment to us must leave [18; Litecoin 72]"),
    opt(
        "to-self-delay",
        Kind::One("BLOCKS"),
        None,
        "How long a closing peer waits for its money [144; regtest 6]",
    ),
    opt(
        "funding-confirms",
        Kind::One("BLOCKS"),
        None,
        "Confirmations before a channel is used [3; regtest 1]",
    ),
    opt(
        "max-htlc-value-in-flight",
        Kind::One("PERCENT"),
        Some("100"),
        "Share of a channel in flight to us [100]",
    ),
    opt("simple-close", Kind::Switch, None, "Offer the close in which each side pays for its own"),
    opt(
        "watchtower",
        Kind::Many("ID@HOST:PORT"),
        None,
        "Who punishes cheats while we are off (,presigned: trusted less); repeatable",
    ),
    opt("passphrase-file", Kind::One("FILE"), None, "Its first line opens the seed file, or seals a new one"),
    opt("restored", Kind::Switch, None, "The database is an old copy: let the peers close all channels"),
    opt(
        "drain",
        Kind::One("SECONDS"),
        Some("0"),
        "How long payments under way may take to end at a stop by signal [0]",
    ),
    opt(
        "http",
        Kind::One("ADDR:PORT"),
        None,
        "Serve holders of runes; with --http-tls, --http-host, --tls-cert, --tls-key",
    ),
    opt("http-tls", Kind::One("WHEN"), Some("auto"), "always, never, or auto: beyond this machine [auto]"),
    opt("http-host", Kind::Many("NAME"), None, "A name that --http may be called by; repeatable"),
    opt("tls-cert", Kind::One("FILE"), None, "Its certificate, PEM [DIR/NETWORK/http-cert.pem, made]"),
    opt("tls-key", Kind::One("FILE"), None, "The certificate's key, PEM [DIR/NETWORK/http-key.pem, made]"),
    opt("dev", Kind::Switch, None, "Allow dev-... methods and --dev-... options: only for tests"),
    secret("dev-force-privkey", "HEX32", "The node's key"),
    secret("dev-force-bip32-seed", "HEX32", "The wallet's seed"),
    secret("dev-force-channel-secrets", "A/B/C/D/E/F", "Keys and shachain seed of every channel"),
    opt("dev-bitcoind-poll", Kind::One("SECONDS"), None, "How often to look for blocks"),
    opt("dev-fast-gossip", Kind::Switch, None, "Flush gossip at once, and tell soon that a peer is gone"),
    opt("dev-no-htlc-timeout", Kind::Switch, None, "Do not close a channel for the deadline of an HTLC"),
    opt("dev-allow-localhost", Kind::Switch, None, "Announce local addresses"),
];

/// Rows that the help has no room for: their neighbours name them.
fn is_hidden(name: &str) -> bool {
    name.starts_with("dev-") || matches!(name, "rgb" | "http-tls" | "http-host" | "tls-cert" | "tls-key")
}

/// The end of `--help`.
pub(super) const AFTER_HELP: &str = "\
Options are also variables (CHAND_FEE_BASE=5) and keys of DIR/chand.toml (fee-base = 5): flag over variable over file.
With no chain named, what runs here is used. Also: chand check, recover, backup verify, passphrase, man, completions.
--dev-force-privkey HEX32, --dev-force-bip32-seed HEX32, --dev-force-channel-secrets A/B/C/D/E/F, --dev-no-htlc-timeout,
--dev-bitcoind-poll S, --dev-fast-gossip (news leave at once) and --dev-allow-localhost (local addresses announced).";

/// What the command line said.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    given: BTreeMap<&'static str, Vec<OsString>>,
}

impl Flags {
    /// As if these had stood on the command line.
    pub fn of(given: impl IntoIterator<Item = (&'static str, OsString)>) -> Flags {
        Flags { given: given.into_iter().map(|(name, value)| (name, vec![value])).collect() }
    }
}

impl clap::FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Flags, clap::Error> {
        let mut flags = Flags::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for opt in &OPTIONS {
            let values = match opt.kind {
                Kind::Switch if matches.get_flag(opt.name) => vec!["true".into()],
                Kind::Switch => continue,
                _ => match matches.get_many::<OsString>(opt.name) {
                    Some(values) => values.cloned().collect(),
                    None => continue,
                },
            };
            self.given.insert(opt.name, values);
        }
        Ok(())
    }
}

impl clap::Args for Flags {
    fn augment_args(mut command: clap::Command) -> clap::Command {
        for opt in &OPTIONS {
            let arg = Arg::new(opt.name).long(opt.name).help(opt.help).hide(is_hidden(opt.name));
            let arg = match opt.kind {
                Kind::Switch => arg.action(ArgAction::SetTrue),
                Kind::One(form) => arg.value_name(form).value_parser(clap::value_parser!(OsString)),
                Kind::Many(form) => {
                    arg.value_name(form).value_parser(clap::value_parser!(OsString)).action(ArgAction::Append)
                }
            };
            command = command.arg(arg);
        }
        command
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// The command line.
    Flag,
    /// This environment variable.
    Env(String),
    /// `chand.toml`, here.
    File(PathBuf),
    /// Nobody said anything.
    Default,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Flag => f.write_str("cmdline"),
            Source::Env(name) => f.write_str(name),
            Source::File(path) => path.display().fmt(f),
            Source::Default => f.write_str("default"),
        }
    }
}

/// One option's value, for `listconfigs`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SettingValue {
    /// A switch.
    Set(bool),
    /// A number.
    Int(u64),
    /// Text; `(hidden)` for secrets.
    Text(String),
    /// Several.
    List(Vec<String>),
    /// Not set, and no default.
    None,
}

/// One option, its value and where it came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// Without the dashes in front.
    pub name: &'static str,
    /// What.
    pub value: SettingValue,
    /// Whence.
    pub source: Source,
}

#[derive(Clone)]
struct Given {
    values: Vec<String>,
    source: Source,
}

/// All values as text, each with its source.
pub(super) struct Settings {
    /// Where `chand.toml` is, and `DIR/NETWORK` will be.
    pub(super) data_dir: PathBuf,
    given: BTreeMap<&'static str, Given>,
    warnings: Vec<String>,
}

type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

impl Settings {
    /// Weighs the sources.
    pub(super) fn gather(
        flags: &Flags,
        env: Lookup<'_>,
        home: Option<&Path>,
    ) -> Result<Settings, ConfigError> {
        let mut settings =
            Settings { data_dir: PathBuf::new(), given: BTreeMap::new(), warnings: Vec::new() };
        for opt in &OPTIONS {
            if let Some(given) = from_flag_or_env(opt, flags, env)? {
                settings.given.insert(opt.name, given);
            }
        }
        settings.data_dir = settings.find_data_dir(home)?;
        let path = settings.data_dir.join("chand.toml");
        for (name, values) in read_file(&path)? {
            let source = Source::File(path.clone());
            settings.given.entry(name).or_insert(Given { values, source });
        }
        settings.warn_of_open_file(&path);
        for opt in &OPTIONS {
            if let Some(default) = opt.default {
                settings.set_default(opt.name, default.to_string());
            }
        }
        settings.network_defaults();
        Ok(settings)
    }

    fn find_data_dir(&mut self, home: Option<&Path>) -> Result<PathBuf, ConfigError> {
        let path = match self.given.get("data-dir").and_then(|g| g.values.first()) {
            Some(text) => PathBuf::from(text),
            None => home.ok_or(ConfigError::NoHome)?.join(".chand"),
        };
        let path = std::path::absolute(&path).map_err(|e| self.complain("data-dir", e.to_string()))?;
        self.set_default("data-dir", path.display().to_string());
        Ok(path)
    }

    fn network_defaults(&mut self) {
        let name = self.given.get("network").and_then(|g| g.values.first());
        // A wrong name is complained of where it is parsed.
        let Some(network) = name.and_then(|n| NETWORKS.iter().find(|row| row.name == n)) else { return };
        self.set_default("to-self-delay", network.to_self_delay_blocks.to_string());
        self.set_default("funding-confirms", network.funding_confirms.to_string());
        self.set_default("cltv-delta", network.cltv_delta_blocks.to_string());
        self.set_default("cltv-final", network.cltv_final_blocks.to_string());
    }

    fn warn_of_open_file(&mut self, path: &Path) {
        let holds_secret = OPTIONS
            .iter()
            .filter(|o| o.secret)
            .any(|o| self.given.get(o.name).is_some_and(|g| matches!(g.source, Source::File(_))));
        let Ok(meta) = std::fs::metadata(path) else { return };
        if holds_secret && meta.permissions().mode() & 0o077 != 0 {
            self.warnings
                .push(format!("{} holds a password and others may read it: chmod 600 {0}", path.display()));
        }
    }

    /// A value for an option that nobody named.
    pub(super) fn set_default(&mut self, name: &'static str, value: String) {
        self.given.entry(name).or_insert(Given { values: vec![value], source: Source::Default });
    }

    /// True when nobody named it.
    pub(super) fn is_default(&self, name: &str) -> bool {
        self.given.get(name).is_none_or(|g| g.source == Source::Default)
    }

    /// True when it has a value.
    pub(super) fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// The option's one value, parsed.
    pub(super) fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(given) = self.given.get(name) else { return Ok(None) };
        let [text] = given.values.as_slice() else {
            return Err(self.complain(name, "takes one value".into()));
        };
        parse(text).map(Some).map_err(|reason| self.complain(name, reason))
    }

    /// The option's one value, parsed; it must have one.
    pub(super) fn parse<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        self.optional(name, parse)?.ok_or_else(|| self.complain(name, "has no value".into()))
    }

    /// A whole number between two bounds.
    pub(super) fn number<T>(&mut self, name: &'static str, least: T, most: T) -> Result<T, ConfigError>
    where
        T: FromStr + PartialOrd + std::fmt::Display,
    {
        self.parse(name, |text| match text.parse::<T>() {
            Ok(n) if n >= least && n <= most => Ok(n),
            _ => Err(format!("\"{text}\" is not a whole number from {least} to {most}")),
        })
    }

    /// All values of a repeatable option whose values may hold commas: a piece without `mark` belongs to the one before.
    pub(super) fn joined(&self, name: &'static str, mark: &str) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for piece in self.given.get(name).map(|g| g.values.as_slice()).unwrap_or_default() {
            match all.last_mut().filter(|_| !piece.contains(mark)) {
                Some(last) => {
                    last.push(',');
                    last.push_str(piece);
                }
                None => all.push(piece.clone()),
            }
        }
        all
    }

    /// All values of a repeatable option.
    pub(super) fn list<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, ConfigError> {
        let values = self.given.get(name).map(|g| g.values.clone()).unwrap_or_default();
        values.iter().map(|text| parse(text).map_err(|reason| self.complain(name, reason))).collect()
    }

    /// Whether a switch is on.
    pub(super) fn switch(&mut self, name: &'static str) -> Result<bool, ConfigError> {
        let on = self.optional(name, |text| match text {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" | "" => Ok(false),
            _ => Err(format!("\"{text}\" is neither true nor false")),
        })?;
        Ok(on.unwrap_or(false))
    }

    /// A switch for one start: in the file or the environment it would hold for every start.
    pub(super) fn switch_once(&mut self, name: &'static str) -> Result<bool, ConfigError> {
        let on = self.switch(name)?;
        let lasting = self.given.get(name).is_some_and(|g| g.source != Source::Flag);
        if on && lasting {
            return Err(self.complain(name, "only on the command line: it is for one start".into()));
        }
        Ok(on)
    }

    /// The names of `--dev-…` options that somebody named.
    pub(super) fn dev_options_given(&self) -> Vec<&'static str> {
        self.given.keys().copied().filter(|n| n.starts_with("dev-")).collect()
    }

    /// A complaint that says where the value came from.
    pub(super) fn complain(&self, name: &str, reason: String) -> ConfigError {
        let source = self.given.get(name).map_or(Source::Default, |g| g.source.clone());
        let from = match source {
            Source::Flag => "command line".into(),
            other => other.to_string(),
        };
        ConfigError::Value { option: format!("--{name}"), from, reason }
    }

    /// Something to log.
    pub(super) fn warn(&mut self, text: String) {
        self.warnings.push(text);
    }

    pub(super) fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// What `listconfigs` says.
    pub(super) fn into_report(mut self) -> Vec<Setting> {
        let row = |opt: &Opt| {
            let name = opt.name;
            let Some(given) = self.given.remove(name) else {
                let value =
                    if opt.kind == Kind::Switch { SettingValue::Set(false) } else { SettingValue::None };
                return Setting { name, value, source: Source::Default };
            };
            let first = given.values.first().cloned().unwrap_or_default();
            let value = match opt.kind {
                _ if opt.secret => SettingValue::Text("(hidden)".into()),
                Kind::Switch => SettingValue::Set(matches!(first.as_str(), "true" | "1" | "yes" | "on")),
                Kind::Many(_) => SettingValue::List(given.values),
                Kind::One("MSAT" | "PPM" | "BLOCKS" | "PERCENT" | "SECONDS") => {
                    first.parse().map_or(SettingValue::Text(first), SettingValue::Int)
                }
                Kind::One(_) => SettingValue::Text(first),
            };
            Setting { name, value, source: given.source }
        };
        OPTIONS.iter().map(row).collect()
    }
}

fn from_flag_or_env(opt: &Opt, flags: &Flags, env: Lookup<'_>) -> Result<Option<Given>, ConfigError> {
    let variable = format!("CHAND_{}", opt.name.to_uppercase().replace('-', "_"));
    let (values, source) = if let Some(values) = flags.given.get(opt.name) {
        (values.clone(), Source::Flag)
    } else if let Some(value) = env(&variable) {
        (vec![value], Source::Env(variable))
    } else {
        return Ok(None);
    };
    let not_text = || ConfigError::Value {
        option: format!("--{}", opt.name),
        from: source.to_string(),
        reason: "is not UTF-8 text".into(),
    };
    let mut texts = Vec::new();
    for value in values {
        let text = value.into_string().map_err(|_| not_text())?;
        match opt.kind {
            Kind::Many(_) => texts.extend(text.split(',').map(|t| t.trim().to_string())),
            _ => texts.push(text),
        }
    }
    Ok(Some(Given { values: texts, source }))
}

fn read_file(path: &Path) -> Result<Vec<(&'static str, Vec<String>)>, ConfigError> {
    let complain = |reason: String| ConfigError::File { path: path.display().to_string(), reason };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(complain(e.to_string())),
    };
    // The parser's own words would quote the line, which may hold a password.
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
        let line = e.span().map(|s| text.get(..s.start).unwrap_or("").lines().count().max(1));
        let place = line.map(|n| format!(" near line {n}")).unwrap_or_default();
        complain(format!("is not TOML{place}: {}", e.message()))
    })?;
    let mut out = Vec::new();
    for (key, value) in &table {
        let opt = OPTIONS.iter().find(|o| o.name == key.replace('_', "-"));
        let opt =
            opt.ok_or_else(|| complain(format!("there is no option \"{key}\" (chand --help lists them)")))?;
        if opt.name == "data-dir" {
            return Err(complain("data-dir cannot stand in the file that lies in it".into()));
        }
        let values = match value {
            toml::Value::Array(items) if matches!(opt.kind, Kind::Many(_)) => {
                items.iter().map(scalar).collect::<Option<Vec<_>>>()
            }
            other => scalar(other).map(|v| vec![v]),
        };
        let values = values.ok_or_else(|| complain(format!("{key} has a value of the wrong kind")))?;
        out.push((opt.name, values));
    }
    Ok(out)
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(n) => Some(n.to_string()),
        toml::Value::Boolean(b) => Some(b.to_string()),
        _ => None,
    }
}
