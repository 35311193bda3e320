//! Parameters: their types, and binding what a client sent to a method's list.
//!
//! In: a method's parameter list and an array or object. Out: [`Args`], every value checked, or error −32602 naming
//! the parameter. A type is read in one place ([`FromArg`]), which the check at the door and the method both use.
//! Read next: `table`.

use super::amount::{self, shorten, FeerateSpec};
use super::message::{RawParams, RpcError, INVALID_PARAMS};
use crate::runes::{Alternative, Restriction};
use chand_protocol::gossip::graph::Direction;
use chand_protocol::id::{hex_array, hex_bytes, ChannelId, NodeId, PaymentHash, ShortChannelId};
use chand_protocol::node::command::{ChannelRef, RouteHop};
use chand_protocol::units::{Msat, Sat};
use serde_json::{json, Map, Value};
use std::str::FromStr;

/// The type of a parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A string.
    Text,
    /// A string, or a number kept as the string of its digits.
    Label,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// `true` or `false`.
    Bool,
    /// 0 to 65,535.
    U16,
    /// 0 to 4,294,967,295.
    U32,
    /// 0 to 18,446,744,073,709,551,615.
    U64,
    /// A decimal number such as `0.5`.
    Percent,
    /// An amount; a bare number is msat.
    Msat,
    /// An amount in msat, or `any`.
    MsatOrAny,
    /// An amount of whole satoshi; a bare number is sat.
    Sat,
    /// An amount of whole satoshi, or `all`.
    SatOrAll,
    /// A feerate.
    Feerate,
    /// A lowest and a highest feerate.
    FeerateRange,
    /// A node's public key.
    NodeId,
    /// A node's public key, perhaps with `@host:port`.
    NodeAddress,
    /// A channel by its peer, its id or its short id.
    Channel,
    /// A channel's id.
    ChannelId,
    /// A short channel id.
    ShortChannelId,
    /// 32 bytes.
    Hash,
    /// 32 bytes that nobody else may learn.
    Secret,
    /// Transaction outputs, `txid:vout`.
    Outpoints,
    /// A transaction's id.
    Txid,
    /// A partially signed transaction.
    Psbt,
    /// Feature bits.
    Bits,
    /// Hops of a route.
    Route,
    /// Channels with their direction, and nodes.
    Excluded,
    /// What a rune allows.
    Restrictions,
    /// Parameters of another method.
    Params,
    /// A place in Core Lightning's list for something that chand does not do yet: anything given is refused.
    NotYet,
}

impl Kind {
    /// As help and documentation name it.
    pub fn name(self) -> String {
        match self {
            Kind::Text => "string".into(),
            Kind::Label => "string or integer".into(),
            Kind::OneOf(words) => words.join(" or "),
            Kind::Bool => "boolean".into(),
            Kind::U16 => "u16".into(),
            Kind::U32 => "u32".into(),
            Kind::U64 => "u64".into(),
            Kind::Percent => "decimal".into(),
            Kind::Msat => "msat".into(),
            Kind::MsatOrAny => "msat or any".into(),
            Kind::Sat => "sat".into(),
            Kind::SatOrAll => "sat or all".into(),
            Kind::Feerate => "feerate".into(),
            Kind::FeerateRange => "array of two feerates".into(),
            Kind::NodeId => "node id".into(),
            Kind::NodeAddress => "node id[@host:port]".into(),
            Kind::Channel => "node id, channel id or short channel id".into(),
            Kind::ChannelId => "channel id".into(),
            Kind::ShortChannelId => "short channel id".into(),
            Kind::Hash => "32 bytes hex".into(),
            Kind::Secret => "32 bytes hex, secret".into(),
            Kind::Outpoints => "array of txid:vout".into(),
            Kind::Txid => "txid".into(),
            Kind::Psbt => "PSBT, base64".into(),
            Kind::Bits => "array of u32".into(),
            Kind::Route => "array of hops".into(),
            Kind::Excluded => "array of short channel id/direction or node id".into(),
            Kind::Restrictions => "array of arrays of alternatives, or readonly".into(),
            Kind::Params => "object or array".into(),
            Kind::NotYet => "not supported yet".into(),
        }
    }

    /// True when a client that has only text (a command line) should send it as a string, whatever it looks like.
    pub fn is_text(self) -> bool {
        !matches!(
            self,
            Kind::Bool
                | Kind::U16
                | Kind::U32
                | Kind::U64
                | Kind::FeerateRange
                | Kind::Outpoints
                | Kind::Bits
                | Kind::Route
                | Kind::Excluded
                | Kind::Restrictions
                | Kind::Params
                | Kind::NotYet
        )
    }

    /// Words, when `value` is not of this type.
    fn check(self, value: &Value) -> Result<(), String> {
        fn ok<T: FromArg>(value: &Value) -> Result<(), String> {
            T::from_arg(value).map(|_| ())
        }
        match self {
            Kind::Text => ok::<String>(value),
            Kind::Label => ok::<Label>(value),
            Kind::OneOf(words) => {
                let word = String::from_arg(value)?;
                if words.contains(&word.as_str()) {
                    return Ok(());
                }
                Err(format!("must be {}, not '{}'", words.join(" or "), shorten(&word)))
            }
            Kind::Bool => ok::<bool>(value),
            Kind::U16 => ok::<u16>(value),
            Kind::U32 => ok::<u32>(value),
            Kind::U64 => ok::<u64>(value),
            Kind::Percent => ok::<Percent>(value),
            Kind::Msat => ok::<Msat>(value),
            Kind::MsatOrAny => ok::<AmountOr<Msat>>(value),
            Kind::Sat => ok::<Sat>(value),
            Kind::SatOrAll => ok::<AmountOr<Sat>>(value),
            Kind::Feerate => ok::<FeerateSpec>(value),
            Kind::FeerateRange => ok::<(FeerateSpec, FeerateSpec)>(value),
            Kind::NodeId => ok::<NodeId>(value),
            Kind::NodeAddress => ok::<NodeAddress>(value),
            Kind::Channel => ok::<ChannelRef>(value),
            Kind::ChannelId => ok::<ChannelId>(value),
            Kind::ShortChannelId => ok::<ShortChannelId>(value),
            Kind::Hash => ok::<PaymentHash>(value),
            Kind::Secret => ok::<Secret>(value),
            Kind::Outpoints => ok::<Vec<bitcoin::OutPoint>>(value),
            Kind::Txid => ok::<bitcoin::Txid>(value),
            Kind::Psbt => ok::<bitcoin::Psbt>(value),
            Kind::Bits => ok::<Vec<u32>>(value),
            Kind::Route => ok::<Vec<RouteHop>>(value),
            Kind::Excluded => ok::<Vec<Excluded>>(value),
            Kind::Restrictions => ok::<Vec<Restriction>>(value),
            Kind::Params => ok::<RawParams>(value),
            Kind::NotYet => Err("chand does not do this yet; leave it out".into()),
        }
    }
}

/// One parameter of a method.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// Core Lightning's name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Must be given.
    pub required: bool,
    /// For people: what it is when left out.
    pub default: &'static str,
    /// For people: what it does.
    pub doc: &'static str,
}

/// The checked arguments of one call.
#[derive(Debug, Default)]
pub struct Args(Map<String, Value>);

/// Binds what came to a method's parameters. `null` counts as left out.
///
/// # Errors
/// −32602 naming the parameter that is missing, unknown, too many or of the wrong type.
pub fn bind(params: &[Param], raw: RawParams) -> Result<Args, RpcError> {
    let given = match raw {
        RawParams::List(list) => by_position(params, list)?,
        RawParams::Named(map) => map,
    };
    let mut args = Map::new();
    for (name, value) in given {
        let Some(param) = params.iter().find(|p| p.name == name) else {
            return Err(RpcError::new(INVALID_PARAMS, format!("unknown parameter: {}", shorten(&name))));
        };
        if value.is_null() {
            continue;
        }
        param.kind.check(&value).map_err(|problem| RpcError::param(param.name, problem))?;
        args.insert(name, value);
    }
    if let Some(missing) = params.iter().find(|p| p.required && !args.contains_key(p.name)) {
        return Err(RpcError::new(INVALID_PARAMS, format!("missing required parameter: {}", missing.name)));
    }
    Ok(Args(args))
}

fn by_position(params: &[Param], list: Vec<Value>) -> Result<Map<String, Value>, RpcError> {
    if list.len() > params.len() {
        let text = format!("too many parameters: got {}, expected at most {}", list.len(), params.len());
        return Err(RpcError::new(INVALID_PARAMS, text));
    }
    Ok(params.iter().map(|p| p.name.to_string()).zip(list).collect())
}

impl Args {
    /// The value of a parameter, if it was given.
    ///
    /// # Errors
    /// −32602, when the type asked for is narrower than the one in the method's list.
    pub fn opt<T: FromArg>(&self, name: &str) -> Result<Option<T>, RpcError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(value) => T::from_arg(value).map(Some).map_err(|problem| RpcError::param(name, problem)),
        }
    }

    /// The value of a required parameter.
    ///
    /// # Errors
    /// −32602, when it is missing or of another type.
    pub fn get<T: FromArg>(&self, name: &str) -> Result<T, RpcError> {
        self.opt(name)?
            .ok_or_else(|| RpcError::new(INVALID_PARAMS, format!("missing required parameter: {name}")))
    }

    /// True when it was given.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

/// A type that a parameter can be read as.
pub trait FromArg: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// Words that say what was expected.
    fn from_arg(value: &Value) -> Result<Self, String>;
}

/// A string, or a number's digits.
pub struct Label(pub String);

/// Millionths of a percent's unit: `0.5` is 500,000.
pub struct Percent(pub u64);

/// What a route must not use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Excluded {
    /// One direction of a channel.
    Channel(ShortChannelId, Direction),
    /// A node.
    Node(NodeId),
}

/// 32 secret bytes. Not printable.
pub struct Secret(pub [u8; 32]);

/// An amount, or the word that stands for "no amount named" (`any`, `all`).
pub struct AmountOr<T>(pub Option<T>);

/// `id`, `id@host`, `id@host:port`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeAddress {
    /// Who.
    pub id: NodeId,
    /// `host` or `host:port`, if it was there.
    pub address: Option<String>,
}

/// Text that a number may stand for, digit by digit; amounts and labels come both ways.
fn text_or_number(value: &Value, what: &str) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(format!("must be {what}")),
    }
}

fn parsed<T: FromStr>(value: &Value, what: &str) -> Result<T, String> {
    let text = value.as_str().ok_or_else(|| format!("must be {what}"))?;
    text.parse().map_err(|_| format!("must be {what}, not '{}'", shorten(text)))
}

impl FromArg for String {
    fn from_arg(value: &Value) -> Result<Self, String> {
        value.as_str().map(str::to_string).ok_or_else(|| "must be a string".into())
    }
}
impl FromArg for Label {
    fn from_arg(value: &Value) -> Result<Self, String> {
        let whole = |n: &serde_json::Number| n.is_u64() || n.is_i64();
        match value {
            // What does not fit was read as a fraction, and would come back as another text.
            Value::Number(n) if !whole(n) => {
                Err("must be a string or an integer below 2^64: put a longer number in quotes".into())
            }
            _ => text_or_number(value, "a string or an integer").map(Label),
        }
    }
}
impl FromArg for bool {
    fn from_arg(value: &Value) -> Result<Self, String> {
        match value {
            Value::Bool(b) => Ok(*b),
            Value::String(s) if s == "true" => Ok(true),
            Value::String(s) if s == "false" => Ok(false),
            _ => Err("must be true or false".into()),
        }
    }
}
impl FromArg for u64 {
    fn from_arg(value: &Value) -> Result<Self, String> {
        let what = "must be a whole number that is not negative";
        match value {
            Value::Number(n) => n.as_u64().ok_or_else(|| format!("{what}, not {n}")),
            Value::String(s) if !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()) => {
                s.parse().map_err(|_| format!("'{}' is too large", shorten(s)))
            }
            _ => Err(what.into()),
        }
    }
}
impl FromArg for u32 {
    fn from_arg(value: &Value) -> Result<Self, String> {
        u32::try_from(u64::from_arg(value)?).map_err(|_| format!("must be at most {}", u32::MAX))
    }
}
impl FromArg for u16 {
    fn from_arg(value: &Value) -> Result<Self, String> {
        u16::try_from(u64::from_arg(value)?).map_err(|_| format!("must be at most {}", u16::MAX))
    }
}
impl FromArg for Percent {
    fn from_arg(value: &Value) -> Result<Self, String> {
        let text = text_or_number(value, "a decimal number such as 0.5")?;
        amount::decimal(&text, 6).map(Percent)
    }
}
impl FromArg for Msat {
    fn from_arg(value: &Value) -> Result<Self, String> {
        amount::msat(&text_or_number(value, "an amount such as 1000, 1000msat, 10sat or 0.1btc")?)
    }
}
impl FromArg for Sat {
    fn from_arg(value: &Value) -> Result<Self, String> {
        amount::sat(&text_or_number(value, "an amount in satoshi such as 1000, 1000sat or 0.1btc")?)
    }
}
impl FromArg for AmountOr<Msat> {
    fn from_arg(value: &Value) -> Result<Self, String> {
        if value.as_str() == Some("any") {
            return Ok(AmountOr(None));
        }
        let amount = Msat::from_arg(value)?;
        if amount == Msat::ZERO {
            return Err("must be more than 0; for an invoice without amount say any".into());
        }
        Ok(AmountOr(Some(amount)))
    }
}
impl FromArg for AmountOr<Sat> {
    fn from_arg(value: &Value) -> Result<Self, String> {
        if value.as_str() == Some("all") {
            return Ok(AmountOr(None));
        }
        Sat::from_arg(value).map(|a| AmountOr(Some(a)))
    }
}
impl FromArg for FeerateSpec {
    fn from_arg(value: &Value) -> Result<Self, String> {
        amount::feerate(&text_or_number(value, "a feerate such as slow, normal, urgent or 253perkw")?)
    }
}
impl FromArg for (FeerateSpec, FeerateSpec) {
    fn from_arg(value: &Value) -> Result<Self, String> {
        match value.as_array().map(Vec::as_slice) {
            Some([low, high]) => Ok((FeerateSpec::from_arg(low)?, FeerateSpec::from_arg(high)?)),
            _ => Err("must be an array of two feerates, the lowest and the highest".into()),
        }
    }
}
impl FromArg for NodeId {
    fn from_arg(value: &Value) -> Result<Self, String> {
        parsed(value, "a node id (66 hex digits)")
    }
}
impl FromArg for NodeAddress {
    fn from_arg(value: &Value) -> Result<Self, String> {
        let text = value.as_str().ok_or("must be a node id, or id@host:port")?;
        let (id, address) = match text.split_once('@') {
            Some((id, address)) => (id, Some(address)),
            None => (text, None),
        };
        if address.is_some_and(str::is_empty) {
            return Err("has no address after '@'".into());
        }
        let id = id
            .parse()
            .map_err(|_| format!("must begin with a node id (66 hex digits), not '{}'", shorten(id)))?;
        Ok(NodeAddress { id, address: address.map(str::to_string) })
    }
}
impl FromArg for ChannelRef {
    fn from_arg(value: &Value) -> Result<Self, String> {
        let what = "must be a channel id, a short channel id such as 103x1x0, or a peer's node id";
        let text = value.as_str().ok_or(what)?;
        if let Ok(id) = text.parse() {
            Ok(ChannelRef::Short(id))
        } else if let Ok(id) = text.parse() {
            Ok(ChannelRef::Id(id))
        } else if let Ok(id) = text.parse() {
            Ok(ChannelRef::Peer(id))
        } else {
            Err(format!("{what}, not '{}'", shorten(text)))
        }
    }
}
impl FromArg for ChannelId {
    fn from_arg(value: &Value) -> Result<Self, String> {
        parsed(value, "a channel id (64 hex digits)")
    }
}
impl FromArg for ShortChannelId {
    fn from_arg(value: &Value) -> Result<Self, String> {
        parsed(value, "a short channel id such as 103x1x0")
    }
}
impl FromArg for Vec<Excluded> {
    fn from_arg(value: &Value) -> Result<Self, String> {
        let what = "must be an array of channels such as 103x1x0/1, and of node ids";
        let one = |value: &Value| {
            let text = value.as_str().ok_or(what)?;
            let excluded = match text.split_once('/') {
                Some((scid, "0")) => scid.parse().map(|scid| Excluded::Channel(scid, Direction::Zero)),
                Some((scid, "1")) => scid.parse().map(|scid| Excluded::Channel(scid, Direction::One)),
                _ => text.parse().map(Excluded::Node),
            };
            excluded.map_err(|_| format!("{what}, not '{}'", shorten(text)))
        };
        value.as_array().ok_or(what)?.iter().map(one).collect()
    }
}
impl FromArg for Vec<Restriction> {
    fn from_arg(value: &Value) -> Result<Self, String> {
        let what = "not a valid restriction (should be array)";
        let alternative = |value: &Value| {
            let text = value.as_str().ok_or(what)?;
            Alternative::plain(text).map_err(|problem| format!("'{}' {problem}", shorten(text)))
        };
        let one = |value: &Value| match value.as_array().filter(|list| !list.is_empty()) {
            Some(all) => all.iter().map(alternative).collect::<Result<_, String>>().map(Restriction),
            None => Err(what.to_string()),
        };
        match value {
            Value::String(word) if word == "readonly" => {
                let text = json!([["method^list", "method^get", "method=summary"], ["method/listdatastore"]]);
                list(&text, what, one)
            }
            // One restriction alone, as a list of alternatives.
            Value::Array(all) if all.first().is_some_and(Value::is_string) => Ok(vec![one(value)?]),
            _ => list(value, what, one),
        }
    }
}
impl FromArg for RawParams {
    fn from_arg(value: &Value) -> Result<Self, String> {
        match value {
            Value::Object(map) => Ok(RawParams::Named(map.clone())),
            Value::Array(list) => Ok(RawParams::List(list.clone())),
            _ => Err("must be object or array".into()),
        }
    }
}
impl FromArg for PaymentHash {
    fn from_arg(value: &Value) -> Result<Self, String> {
        parsed(value, "a hash (64 hex digits)")
    }
}
impl FromArg for Secret {
    fn from_arg(value: &Value) -> Result<Self, String> {
        // What was given is not repeated: it may be a secret with a typing error.
        value
            .as_str()
            .and_then(|text| hex_array(text).ok())
            .map(Secret)
            .ok_or_else(|| "must be 64 hex digits".into())
    }
}
impl FromArg for Vec<u8> {
    fn from_arg(value: &Value) -> Result<Self, String> {
        value.as_str().and_then(|text| hex_bytes(text).ok()).ok_or_else(|| "must be hex digits".into())
    }
}
impl FromArg for Vec<bitcoin::OutPoint> {
    fn from_arg(value: &Value) -> Result<Self, String> {
        list(value, "an array of transaction outputs, each as txid:vout", |v| {
            parsed(v, "a transaction output as txid:vout")
        })
    }
}
impl FromArg for bitcoin::Txid {
    fn from_arg(value: &Value) -> Result<Self, String> {
        parsed(value, "a transaction id (64 hex digits)")
    }
}
impl FromArg for bitcoin::Psbt {
    fn from_arg(value: &Value) -> Result<Self, String> {
        super::call::psbt::read(value.as_str().ok_or("must be a PSBT in base64")?)
    }
}
impl FromArg for Vec<u32> {
    fn from_arg(value: &Value) -> Result<Self, String> {
        list(value, "an array of numbers", u32::from_arg)
    }
}
impl FromArg for Vec<RouteHop> {
    fn from_arg(value: &Value) -> Result<Self, String> {
        let hops = list(value, "an array of hops", hop)?;
        if hops.is_empty() {
            return Err("must hold at least one hop".into());
        }
        Ok(hops)
    }
}

/// Most elements of an array parameter.
const MAX_LIST: usize = 1_000;

fn list<T>(value: &Value, what: &str, read: impl Fn(&Value) -> Result<T, String>) -> Result<Vec<T>, String> {
    match value.as_array() {
        Some(list) if list.len() <= MAX_LIST => list.iter().map(read).collect(),
        Some(_) => Err(format!("must hold at most {MAX_LIST} elements")),
        None => Err(format!("must be {what}")),
    }
}

fn hop(value: &Value) -> Result<RouteHop, String> {
    fn field<T: FromArg>(value: &Value, name: &str) -> Result<T, String> {
        let inner = value.get(name).ok_or_else(|| format!("a hop has no {name}"))?;
        T::from_arg(inner).map_err(|problem| format!("a hop's {name} {problem}"))
    }
    let channel = match value.get("channel") {
        None | Some(Value::Null) => None,
        Some(_) => Some(field(value, "channel")?),
    };
    Ok(RouteHop {
        id: field(value, "id")?,
        channel,
        amount_msat: field(value, "amount_msat")?,
        delay_blocks: field(value, "delay")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ID: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

    fn p(name: &'static str, kind: Kind, required: bool) -> Param {
        Param { name, kind, required, default: "", doc: "" }
    }

    fn named(value: Value) -> RawParams {
        match value {
            Value::Object(map) => RawParams::Named(map),
            Value::Array(list) => RawParams::List(list),
            _ => panic!("not parameters"),
        }
    }

    #[test]
    fn by_name_and_by_position_bind_alike() {
        let params = [p("id", Kind::NodeId, true), p("amount", Kind::Msat, false), p("x", Kind::Bool, false)];
        for raw in [json!([ID, "10sat"]), json!({"amount": 10_000, "id": ID}), json!([ID, 10_000, null])] {
            let args = bind(&params, named(raw)).unwrap();
            assert_eq!(args.get::<NodeId>("id").unwrap().to_string(), ID);
            assert_eq!(args.opt::<Msat>("amount").unwrap(), Some(Msat(10_000)));
            assert!(!args.has("x"));
        }
    }

    #[test]
    fn errors_name_the_parameter() {
        let params =
            [p("id", Kind::NodeId, true), p("amount", Kind::Msat, false), p("utxos", Kind::NotYet, false)];
        for (raw, word) in [
            (json!({}), "id"),
            (json!({"id": "02"}), "id"),
            (json!({"id": ID, "amount": 1.5}), "amount"),
            (json!({"id": ID, "amount": -1}), "amount"),
            (json!({"id": ID, "amout": 1}), "amout"),
            (json!({"id": ID, "utxos": ["a:0"]}), "utxos"),
            (json!([ID, 1, null, 4]), "too many"),
        ] {
            let error = bind(&params, named(raw)).unwrap_err();
            assert_eq!(error.code, INVALID_PARAMS);
            assert!(error.message.contains(word), "{}", error.message);
        }
    }

    #[test]
    fn channels_nodes_and_routes() {
        assert!(matches!(ChannelRef::from_arg(&json!("103x1x0")), Ok(ChannelRef::Short(_))));
        assert!(matches!(ChannelRef::from_arg(&json!("ab".repeat(32))), Ok(ChannelRef::Id(_))));
        assert!(matches!(ChannelRef::from_arg(&json!(ID)), Ok(ChannelRef::Peer(_))));
        assert!(ChannelRef::from_arg(&json!("103x1")).is_err());
        let with = NodeAddress::from_arg(&json!(format!("{ID}@[::1]:9735"))).unwrap();
        assert_eq!(with.address.as_deref(), Some("[::1]:9735"));
        assert!(NodeAddress::from_arg(&json!(format!("{ID}@"))).is_err());
        let route = json!([{"id": ID, "channel": "1x2x3", "amount_msat": "5sat", "delay": 18}]);
        assert_eq!(Vec::<RouteHop>::from_arg(&route).unwrap()[0].amount_msat, Msat(5_000));
        assert!(Vec::<RouteHop>::from_arg(&json!([])).is_err());
        assert!(Vec::<RouteHop>::from_arg(&json!([{"id": ID}])).unwrap_err().contains("amount_msat"));
    }

    #[test]
    fn numbers_and_percent_are_exact() {
        assert_eq!(Percent::from_arg(&json!(0.5)).map(|p| p.0), Ok(500_000));
        assert_eq!(Percent::from_arg(&json!("1.000001")).map(|p| p.0), Ok(1_000_001));
        assert!(Percent::from_arg(&json!(-0.5)).is_err());
        assert!(Percent::from_arg(&json!(1e-9)).is_err());
        assert_eq!(u64::from_arg(&json!("18446744073709551615")), Ok(u64::MAX));
        assert!(u64::from_arg(&json!("18446744073709551616")).is_err());
        assert!(u16::from_arg(&json!(65_536)).is_err());
        assert!(u32::from_arg(&json!(1.0)).is_err());
    }

    #[test]
    fn a_mistyped_secret_is_not_repeated() {
        let typo = "g".repeat(64);
        let Err(words) = Secret::from_arg(&json!(typo)) else { panic!("accepted") };
        assert!(!words.contains(&typo));
    }
}
