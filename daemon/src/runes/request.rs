//! What a rune's restrictions are held against: a method and its parameters, from either way of giving them.
//!
//! A parameter has its name (`pnameX`, also without underscores) and its place (`parrN`), however it was given, when the
//! method is known: a restriction that names it one way is not got round the other way. Values are written in one way only: amounts as whole
//! msat (or sat, where a parameter is in sat), numbers in decimal, ids in lower case.
//! In: what `bind` will bind. Out: the text of a field, if there is such a field. Read next: `authority`.

use crate::rpc::message::RawParams;
use crate::rpc::params::{FromArg, Kind};
use crate::rpc::table::Method;
use chand_protocol::invoice::{self, Description, Invoice};
use chand_protocol::units::{Msat, Sat};
use secp256k1::Secp256k1;
use serde_json::Value;
use std::collections::BTreeMap;

/// One request, as far as restrictions can tell of it.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Who asks, if a node does.
    pub nodeid: Option<String>,
    /// What is asked.
    pub method: Option<String>,
    fields: BTreeMap<String, String>,
    count: usize,
}

impl Request {
    /// Of a method; `known` is the same in the table, if it is there.
    pub fn new(name: &str, known: Option<&Method>, params: &RawParams) -> Request {
        let mut request = Request { method: Some(name.into()), ..Request::default() };
        request.take(known, params);
        request
    }

    /// Takes parameters in.
    pub fn take(&mut self, known: Option<&Method>, params: &RawParams) {
        let list = known.map_or(&[] as &[_], |method| method.params);
        match params {
            RawParams::List(values) => {
                for (place, value) in values.iter().enumerate() {
                    let param = list.get(place);
                    self.add(param.map(|p| p.name), Some(place), param.map(|p| p.kind), value);
                }
            }
            RawParams::Named(values) => {
                for (name, value) in values {
                    let place = list.iter().position(|p| p.name == name);
                    let kind = place.and_then(|place| list.get(place)).map(|p| p.kind);
                    self.add(Some(name), place, kind, value);
                }
            }
        }
    }

    fn add(&mut self, name: Option<&str>, place: Option<usize>, kind: Option<Kind>, value: &Value) {
        if value.is_null() {
            return;
        }
        self.count = self.count.saturating_add(1);
        let text = plain(kind, value);
        if let Some(place) = place {
            self.fields.insert(format!("parr{place}"), text.clone());
        }
        if let Some(name) = name {
            let bare: String = name.chars().filter(|c| !c.is_ascii_punctuation()).collect();
            self.fields.entry(format!("pname{bare}")).or_insert_with(|| text.clone());
            self.fields.insert(format!("pname{name}"), text);
        }
    }

    /// A field's text.
    ///
    /// # Errors
    /// In words, when it cannot be had.
    pub fn field(&self, name: &str) -> Result<Option<String>, String> {
        match name {
            "id" => Ok(self.nodeid.clone()),
            "method" => Ok(self.method.clone()),
            "pnum" => Ok(Some(self.count.to_string())),
            _ => match name.strip_prefix("pinv") {
                Some(rest) => self.of_invoice(rest),
                None => Ok(self.fields.get(name).filter(|_| is_parameter(name)).cloned()),
            },
        }
    }

    /// `X_amount`, `X_description`, `X_node`: what the invoice in parameter X says.
    fn of_invoice(&self, rest: &str) -> Result<Option<String>, String> {
        let unknown = || format!("Unknown invoice field {rest}");
        let (param, what) = rest.rsplit_once('_').ok_or_else(unknown)?;
        let read: fn(&Invoice) -> Option<String> = match what {
            "amount" => |invoice| invoice.amount.map(|amount| amount.0.to_string()),
            "node" => |invoice| Some(invoice.payee.to_string()),
            "description" => |invoice| match &invoice.description {
                Description::Text(text) => Some(text.clone()),
                Description::Hash(_) => None,
            },
            _ => return Err(unknown()),
        };
        let text = self.fields.get(&format!("pname{param}"));
        let text = text.ok_or_else(|| format!("Unknown invoice parameter {param}"))?.trim();
        let bare = text.get(..10).filter(|p| p.eq_ignore_ascii_case("lightning:"));
        let text = bare.map_or(text, |prefix| text.get(prefix.len()..).unwrap_or_default());
        let invoice = invoice::parse(text, &Secp256k1::verification_only())
            .map_err(|problem| format!("Invalid invoice: {problem}"))?;
        Ok(read(&invoice))
    }
}

fn is_parameter(name: &str) -> bool {
    name.starts_with("pname") || name.starts_with("parr")
}

/// A value in the one way it is compared in.
fn plain(kind: Option<Kind>, value: &Value) -> String {
    let raw = || match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let read = match kind {
        Some(Kind::Msat | Kind::MsatOrAny) => Msat::from_arg(value).map(|amount| amount.0.to_string()).ok(),
        Some(Kind::Sat | Kind::SatOrAll) => Sat::from_arg(value).map(|amount| amount.0.to_string()).ok(),
        Some(Kind::U16 | Kind::U32 | Kind::U64) => u64::from_arg(value).map(|n| n.to_string()).ok(),
        Some(Kind::Bool) => bool::from_arg(value).map(|b| b.to_string()).ok(),
        Some(Kind::NodeId | Kind::NodeAddress | Kind::Channel | Kind::ChannelId | Kind::Hash) => {
            Some(raw().to_ascii_lowercase())
        }
        _ => None,
    };
    read.unwrap_or_else(raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::table::find;
    use serde_json::json;

    fn request(method: &str, params: Value) -> Request {
        let raw = match params {
            Value::Object(map) => RawParams::Named(map),
            Value::Array(list) => RawParams::List(list),
            _ => panic!("no parameters"),
        };
        Request::new(method, find(method, true), &raw)
    }

    #[test]
    fn a_parameter_has_its_name_and_its_place_however_it_came() {
        let id = "02AB".to_string() + &"cd".repeat(31);
        let ways = [
            json!({"destination": id, "amount_msat": "10sat"}),
            json!([id, 10_000]),
            json!({"amount_msat": "10000msat", "destination": id, "label": null}),
            json!([id, "10000", null]),
        ];
        for params in ways {
            let request = request("keysend", params);
            for (field, value) in [
                ("pnamedestination", id.to_lowercase()),
                ("parr0", id.to_lowercase()),
                ("pnameamount_msat", "10000".into()),
                ("pnameamountmsat", "10000".into()),
                ("parr1", "10000".into()),
                ("pnum", "2".into()),
                ("method", "keysend".into()),
            ] {
                assert_eq!(request.field(field), Ok(Some(value)), "{field}");
            }
            for none in ["pnamelabel", "parr2", "id", "budget_msat", "destination", "", "pname", "x"] {
                assert_eq!(request.field(none), Ok(None), "{none}");
            }
        }
    }

    #[test]
    fn of_a_name_given_twice_the_one_that_is_bound_counts() {
        let text = r#"{"bolt11":"lnbc1","amount_msat":1,"amount_msat":999}"#;
        let request = request("pay", serde_json::from_str(text).unwrap());
        assert_eq!(request.field("pnameamount_msat"), Ok(Some("999".into())));
        assert_eq!(request.field("pnum"), Ok(Some("2".into())));
    }

    #[test]
    fn methods_that_are_not_known_have_what_was_given() {
        let given = request("mystery", json!({"some_thing": [1, {"a": "b"}], "n": 5}));
        assert_eq!(given.field("pnamesomething"), Ok(Some(r#"[1,{"a":"b"}]"#.into())));
        assert_eq!(given.field("parr0"), Ok(None));
        assert_eq!(request("mystery", json!(["x"])).field("parr0"), Ok(Some("x".into())));
    }

    #[test]
    fn what_is_in_an_invoice() {
        // The first example of BOLT 11: a donation of any amount; and one of 2,500 micro-bitcoin.
        let coffee = "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27kyke0lp53ut353s06fv3qfegext0eh0ymjpf39tuven09sam30g4vgpfna3rh";
        for text in [coffee.to_string(), format!("lightning:{coffee}"), coffee.to_uppercase()] {
            let request = request("pay", json!([text]));
            assert_eq!(request.field("pinvbolt11_amount"), Ok(Some("250000000".into())));
            assert_eq!(request.field("pinvbolt11_description"), Ok(Some("1 cup coffee".into())));
            let payee = "03e7156ae33b0a208d0744199163177e909e80176e55d97a2f221ede0f934dd9ad";
            assert_eq!(request.field("pinvbolt11_node"), Ok(Some(payee.into())));
        }
        let request = request("pay", json!(["lnbc1nonsense"]));
        for field in ["pinvbolt11_amount", "pinvx_amount", "pinvbolt11_x", "pinv", "pinvbolt11"] {
            assert!(request.field(field).is_err(), "{field}");
        }
    }
}
