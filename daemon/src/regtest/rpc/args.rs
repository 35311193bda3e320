//! Parameters of a call, positional or named, with bitcoind's complaints about them.
//!
//! In: the request's `params`. Out: [`Args`], read by position in the table's order. Read next: `table`.

use std::str::FromStr;

use bitcoin::consensus::encode::deserialize;
use bitcoin::{BlockHash, Transaction, Txid};
use serde_json::{Map, Value};

use super::error::RpcError;
use super::json::{parse_amount, unhex};

/// The parameters of one call, in the order of the table's names.
#[derive(Clone, Debug)]
pub struct Args {
    names: &'static [&'static str],
    usage: String,
    values: Vec<Value>,
}

impl Args {
    /// Sorts the request's parameters by the names of the command.
    pub fn new(command: &str, names: &'static [&'static str], params: Value) -> Result<Args, RpcError> {
        let usage = format!("{command} {}", names.join(" ")).trim_end().to_owned();
        let values = match params {
            Value::Null => Vec::new(),
            Value::Array(values) => values,
            Value::Object(map) => by_name(names, map)?,
            _ => return Err(RpcError::bad_request("Params must be an array or object")),
        };
        if values.len() > names.len() && names.last() != Some(&"...") {
            return Err(RpcError::misc(usage));
        }
        Ok(Args { names, usage, values })
    }

    /// The parameter at this place; `None` when it is missing or null.
    pub fn get(&self, at: usize) -> Option<&Value> {
        self.values.get(at).filter(|value| !value.is_null())
    }

    /// All of them as they came.
    pub fn all(&self) -> &[Value] {
        &self.values
    }

    fn need(&self, at: usize) -> Result<&Value, RpcError> {
        self.get(at).ok_or_else(|| RpcError::misc(self.usage.clone()))
    }

    fn wrong(&self, at: usize, found: &Value, wanted: &str) -> RpcError {
        let found = match found {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let name = self.names.get(at).copied().unwrap_or_default();
        RpcError::wrong_type(format!(
            "Wrong type passed:\n{{\n    \"Position {} ({name})\": \"JSON value of type {found} is not of expected type {wanted}\"\n}}",
            at + 1
        ))
    }

    /// A string that must be there.
    pub fn text(&self, at: usize) -> Result<&str, RpcError> {
        let value = self.need(at)?;
        value.as_str().ok_or_else(|| self.wrong(at, value, "string"))
    }

    /// A string that may be there.
    pub fn text_opt(&self, at: usize) -> Result<Option<&str>, RpcError> {
        self.get(at).map(|_| self.text(at)).transpose()
    }

    /// A whole number that must be there.
    pub fn number(&self, at: usize) -> Result<i64, RpcError> {
        let value = self.need(at)?;
        match value {
            Value::Number(number) => {
                number.as_i64().ok_or_else(|| RpcError::misc("JSON integer out of range"))
            }
            _ => Err(self.wrong(at, value, "number")),
        }
    }

    /// A whole number that may be there.
    pub fn number_or(&self, at: usize, default: i64) -> Result<i64, RpcError> {
        self.get(at).map_or(Ok(default), |_| self.number(at))
    }

    /// A truth value that may be there.
    pub fn flag_or(&self, at: usize, default: bool) -> Result<bool, RpcError> {
        match self.get(at) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(value) => Err(self.wrong(at, value, "bool")),
        }
    }

    /// A verbosity: a number, or a truth value for 1 and 0.
    pub fn verbosity_or(&self, at: usize, default: i64) -> Result<i64, RpcError> {
        match self.get(at) {
            Some(Value::Bool(flag)) => Ok(i64::from(*flag)),
            _ => self.number_or(at, default),
        }
    }

    /// A list that must be there.
    pub fn list(&self, at: usize) -> Result<&[Value], RpcError> {
        let value = self.need(at)?;
        value.as_array().map(Vec::as_slice).ok_or_else(|| self.wrong(at, value, "array"))
    }

    /// An amount or rate, in satoshi, that may be there.
    pub fn amount_opt(&self, at: usize) -> Result<Option<u64>, RpcError> {
        self.get(at).map(parse_amount).transpose()
    }

    /// A transaction id.
    pub fn txid(&self, at: usize) -> Result<Txid, RpcError> {
        hash_of(self.text(at)?, self.names.get(at).copied().unwrap_or("txid"))
    }

    /// A block hash.
    pub fn block_hash(&self, at: usize) -> Result<BlockHash, RpcError> {
        hash_of(self.text(at)?, self.names.get(at).copied().unwrap_or("blockhash"))
    }
}

fn by_name(names: &'static [&'static str], mut map: Map<String, Value>) -> Result<Vec<Value>, RpcError> {
    let mut values = match map.shift_remove("args") {
        Some(Value::Array(values)) => values,
        Some(other) => vec![other],
        None => Vec::new(),
    };
    for (at, name) in names.iter().enumerate() {
        let Some(value) = map.shift_remove(*name) else { continue };
        if at < values.len() {
            return Err(RpcError::bad_value(format!(
                "Parameter {name} specified twice both as positional and named argument"
            )));
        }
        values.resize(at, Value::Null);
        values.push(value);
    }
    match map.keys().next() {
        Some(unknown) => Err(RpcError::bad_value(format!("Unknown named parameter {unknown}"))),
        None => Ok(values),
    }
}

/// Reads a hash of 64 hex digits.
pub fn hash_of<H: FromStr>(text: &str, name: &str) -> Result<H, RpcError> {
    if text.len() != 64 {
        let length = text.len();
        return Err(RpcError::bad_value(format!("{name} must be of length 64 (not {length}, for '{text}')")));
    }
    text.parse().map_err(|_| RpcError::bad_value(format!("{name} must be hexadecimal string (not '{text}')")))
}

/// Reads a transaction in hex.
pub fn transaction(text: &str) -> Result<Transaction, RpcError> {
    unhex(text)
        .and_then(|bytes| deserialize(&bytes).ok())
        .ok_or_else(|| RpcError::decode("TX decode failed. Make sure the tx has at least one input."))
}
