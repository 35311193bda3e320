//! Core Lightning's `filter` member of a request: which fields of the result the client wants.
//!
//! In: a result and a filter such as `{"outputs":[{"txid":true}]}`. Out: the result with only those fields.
//! Read next: `socket`.

use super::message::{RpcError, INVALID_PARAMS};
use serde_json::{Map, Value};

/// Keeps of `result` what `filter` names; a filter of the wrong shape is refused.
///
/// # Errors
/// −32602 when a part of the filter is neither `true`, an object nor an array of one.
pub fn apply(result: Value, filter: &Value) -> Result<Value, RpcError> {
    match (filter, result) {
        (Value::Bool(true), value) => Ok(value),
        (Value::Object(wanted), Value::Object(mut map)) => {
            let mut kept = Map::new();
            for (name, inner) in wanted {
                if let Some(value) = map.remove(name) {
                    kept.insert(name.clone(), apply(value, inner)?);
                }
            }
            Ok(Value::Object(kept))
        }
        (Value::Array(wanted), Value::Array(list)) if wanted.len() == 1 => {
            let inner = wanted.first().unwrap_or(&Value::Null);
            Ok(Value::Array(list.into_iter().map(|v| apply(v, inner)).collect::<Result<_, _>>()?))
        }
        (Value::Array(wanted), value) if wanted.len() == 1 => Ok(value),
        (Value::Object(_), value) => Ok(value),
        _ => Err(RpcError::new(INVALID_PARAMS, "filter: must be made of objects, arrays of one, and true")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keeps_what_is_named() {
        let result = json!({"outputs":[{"txid":"a","output":1},{"txid":"b","output":2}],"channels":[]});
        let kept = apply(result.clone(), &json!({"outputs":[{"txid":true}],"nothing":true})).unwrap();
        assert_eq!(kept, json!({"outputs":[{"txid":"a"},{"txid":"b"}]}));
        assert!(apply(result, &json!({"outputs":7})).is_err());
    }
}
