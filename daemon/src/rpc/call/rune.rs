//! `createrune showrunes checkrune blacklistrune destroyrune`
//!
//! In: runes and restrictions. Out: runes, and what they allow. What a rune is, is `crate::runes`' business.
//! Read next: `crate::runes::authority`.

use super::{Context, Outcome};
use crate::rpc::limited;
use crate::rpc::message::{RawParams, RpcError};
use crate::rpc::params::Args;
use crate::rpc::show::Object;
use crate::rpc::table;
use crate::runes::authority::{budgets, Look};
use crate::runes::request::Request;
use crate::runes::{Alternative, Restriction, Rune};
use chand_protocol::id::NodeId;
use serde_json::{json, Value};
use std::sync::Arc;

/// The largest number that can be refused: Core Lightning has no larger one either.
const MAX_NUMBER: u64 = 99_999_999;
/// Core Lightning's `warning_unrestricted_rune`, in our words.
const UNRESTRICTED: &str =
    "WARNING: This rune has no restrictions: whoever has it can take all your money. Give \
                            restrictions, for instance the methods it may call";

/// A rune whose number can be told.
fn numbered(text: &str) -> Result<(Rune, u64), RpcError> {
    let rune = Rune::parse(text).map_err(|problem| RpcError::param("rune", problem))?;
    let id = rune.id().ok_or_else(|| RpcError::param("rune", "should have valid numeric unique_id"))?;
    Ok((rune, id))
}

/// Make a rune.
pub async fn createrune(cx: Arc<Context>, args: Args) -> Outcome {
    let restrictions: Vec<Restriction> = args.opt("restrictions")?.unwrap_or_default();
    // What could not bind is not given out.
    budgets(0, 0, &restrictions).map_err(|problem| RpcError::param("restrictions", problem))?;
    let rune = match args.opt::<String>("rune")? {
        Some(text) => {
            let (mut rune, _) = numbered(&text)?;
            restrictions.into_iter().for_each(|restriction| rune.restrict(restriction));
            rune
        }
        None => cx.backend.runes().create(&*cx.backend, restrictions).await?,
    };
    let text = rune.to_text();
    if text.len() > crate::runes::MAX_CHARS {
        return Err(RpcError::param("restrictions", "are too long"));
    }
    let warning = rune.restrictions().is_empty().then_some(UNRESTRICTED);
    Ok(Object::of(json!({ "rune": text, "unique_id": rune.id().unwrap_or_default().to_string() }))
        .maybe("warning_unrestricted_rune", warning)
        .build())
}

/// What runes there are.
pub async fn showrunes(cx: Arc<Context>, args: Args) -> Outcome {
    let look = cx.backend.runes().look(&*cx.backend).await?;
    let rows = match args.opt::<String>("rune")? {
        Some(text) => {
            let (rune, id) = numbered(&text)?;
            let kept = look.runes.runes.iter().find(|kept| kept.id == id).and_then(|kept| look.rebuild(kept));
            let stored = kept.is_some_and(|kept| kept == rune);
            vec![row(&look, &rune, id, stored)]
        }
        None => {
            let all = look.runes.runes.iter();
            all.filter_map(|kept| Some(row(&look, &look.rebuild(kept)?, kept.id, true))).collect()
        }
    };
    Ok(json!({ "runes": rows }))
}

fn row(look: &Look, rune: &Rune, id: u64, stored: bool) -> Value {
    let restrictions: Vec<Value> = rune.restrictions().iter().map(restriction).collect();
    let english: Vec<String> = rune.restrictions().iter().map(Restriction::english).collect();
    let refused = look.runes.blacklist.iter().any(|(from, to)| (*from..=*to).contains(&id));
    let ours = look.is_ours(rune);
    let used = look.used(id).filter(|_| ours).map(|used| used.as_secs_f64());
    let budgets: Vec<Value> = match ours {
        true => look
            .budgets(rune)
            .into_iter()
            .map(|(named, spent, held)| {
                let limit = named.budget.limit;
                json!({
                    "restriction": named.text,
                    "limit_msat": limit.0,
                    "spent_msat": spent.0,
                    "held_msat": held.0,
                    "left_msat": limit.saturating_sub(spent).saturating_sub(held).0,
                })
            })
            .collect(),
        false => Vec::new(),
    };
    Object::of(json!({
        "rune": rune.to_text(),
        "unique_id": id.to_string(),
        "restrictions": restrictions,
        "restrictions_as_english": english.join(" AND "),
    }))
    .maybe("stored", (!stored).then_some(false))
    .maybe("blacklisted", refused.then_some(true))
    .maybe("our_rune", (!ours).then_some(false))
    .maybe("last_used", used)
    .maybe("budgets", (!budgets.is_empty()).then_some(budgets))
    .build()
}

fn restriction(restriction: &Restriction) -> Value {
    let alternative = |a: &Alternative| {
        json!({
            "fieldname": a.field,
            "value": a.value,
            "condition": a.condition.sign().to_string(),
            "english": a.english(),
        })
    };
    json!({
        "alternatives": restriction.0.iter().map(alternative).collect::<Vec<Value>>(),
        "english": restriction.english(),
    })
}

/// Whether a rune allows something.
pub async fn checkrune(cx: Arc<Context>, args: Args) -> Outcome {
    let (rune, _) = numbered(&args.get::<String>("rune")?)?;
    let method: Option<String> = args.opt("method")?;
    let known = method.as_deref().and_then(|name| table::find(name, true));
    let mut request = Request::default();
    request.method.clone_from(&method);
    request.nodeid = args.opt::<NodeId>("nodeid")?.map(|id| id.to_string());
    if let Some(params) = args.opt::<RawParams>("params")? {
        request.take(known, &params);
    }
    let grant = cx.backend.runes().check(&*cx.backend, &rune, &request).await?;
    if let (false, Some(method)) = (grant.budgets.is_empty(), &method) {
        limited::may_only_look(method)?;
    }
    Ok(json!({ "valid": true }))
}

/// Refuse runes.
pub async fn blacklistrune(cx: Arc<Context>, args: Args) -> Outcome {
    let (start, end) = (args.opt::<u64>("start")?, args.opt::<u64>("end")?);
    let relist = args.opt("relist")?.unwrap_or(false);
    let list = match (start, end) {
        (None, Some(_)) => return Err(RpcError::param("end", "can not be given without start")),
        (None, None) => cx.backend.runes().look(&*cx.backend).await?.runes.blacklist,
        (Some(start), end) => {
            let end = end.unwrap_or(start);
            if end > MAX_NUMBER {
                return Err(RpcError::param("end", format!("at most {MAX_NUMBER}")));
            }
            cx.backend.runes().blacklist(&*cx.backend, (start, end), relist).await?
        }
    };
    let list: Vec<Value> = list.iter().map(|(start, end)| json!({ "start": start, "end": end })).collect();
    Ok(json!({ "blacklist": list }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::fake::FakeBackend;
    use crate::rpc::log::Ring;
    use crate::rpc::params::bind;

    fn context() -> Arc<Context> {
        Arc::new(Context::new(Arc::new(FakeBackend::default()), Ring::default()))
    }

    async fn call(cx: &Arc<Context>, name: &str, params: Value) -> Outcome {
        let method = table::find(name, true).unwrap();
        let Value::Object(params) = params else { panic!("by name") };
        (method.call)(Arc::clone(cx), bind(method.params, RawParams::Named(params))?).await
    }

    async fn code(cx: &Arc<Context>, name: &str, params: Value) -> i32 {
        call(cx, name, params).await.unwrap_err().code
    }

    async fn rune(cx: &Arc<Context>, restrictions: Value) -> String {
        let made = call(cx, "createrune", json!({ "restrictions": restrictions })).await.unwrap();
        made["rune"].as_str().unwrap().into()
    }

    #[tokio::test]
    async fn made_restricted_checked_and_refused() {
        let cx = context();
        let all = call(&cx, "createrune", json!({})).await.unwrap();
        assert_eq!(all["unique_id"], "0");
        assert!(all["warning_unrestricted_rune"].is_string());
        let reader = call(&cx, "createrune", json!({ "rune": all["rune"], "restrictions": "readonly" }))
            .await
            .unwrap();
        assert_eq!(reader["unique_id"], "0");
        assert!(reader.get("warning_unrestricted_rune").is_none());
        let ask = |method: &str| json!({ "rune": reader["rune"], "method": method });
        for good in ["listpeers", "getinfo"] {
            assert_eq!(call(&cx, "checkrune", ask(good)).await, Ok(json!({ "valid": true })), "{good}");
        }
        for bad in ["pay", "listdatastore", "Listpeers", " getinfo", ""] {
            assert_eq!(code(&cx, "checkrune", ask(bad)).await, 1_502, "{bad}");
        }
        let shown = call(&cx, "showrunes", json!({ "rune": reader["rune"] })).await.unwrap();
        assert_eq!(shown["runes"][0]["stored"], false);
        assert!(shown["runes"][0]["last_used"].as_f64().unwrap() > 1e9);
        let english = "method starts with list OR method starts with get OR method equal to summary AND method unequal to listdatastore";
        assert_eq!(shown["runes"][0]["restrictions_as_english"], english);
        let list = call(&cx, "blacklistrune", json!({ "start": 0 })).await.unwrap();
        assert_eq!(list, json!({ "blacklist": [{ "start": 0, "end": 0 }] }));
        assert_eq!(code(&cx, "checkrune", ask("getinfo")).await, 1_503);
        call(&cx, "blacklistrune", json!({ "start": 0, "relist": true })).await.unwrap();
        assert!(call(&cx, "checkrune", ask("getinfo")).await.is_ok());
        assert_eq!(code(&cx, "blacklistrune", json!({ "end": 3 })).await, -32_602);
    }

    #[tokio::test]
    async fn runes_of_others_are_not_ours() {
        let (cx, other) = (context(), context());
        let _ = rune(&cx, json!([])).await;
        let _ = rune(&other, json!([])).await;
        let second = rune(&other, json!([["method=getinfo"]])).await;
        let ask = json!({ "rune": second, "method": "getinfo" });
        assert!(call(&other, "checkrune", ask.clone()).await.is_ok());
        assert_eq!(code(&cx, "checkrune", ask).await, 1_501, "of a number that was not given out here");
        let forged = Rune::new(&[1; 32], vec![crate::runes::number(0)]).to_text();
        assert_eq!(code(&cx, "checkrune", json!({ "rune": forged, "method": "getinfo" })).await, 1_501);
        for text in ["", "=", "AAAA", "not a rune"] {
            assert_eq!(code(&cx, "checkrune", json!({ "rune": text })).await, -32_602, "{text}");
        }
        let shown = call(&cx, "showrunes", json!({ "rune": forged })).await.unwrap();
        assert_eq!(shown["runes"][0]["our_rune"], false);
    }

    #[tokio::test]
    async fn time_rate_and_parameters() {
        let cx = context();
        let ask = |rune: &str, params: Value| json!({ "rune": rune, "method": "keysend", "params": params });
        let id = "02".repeat(33);
        for (restrictions, params, allowed) in [
            (json!([["time>1000000000"]]), json!([]), true),
            (json!([["time<1000000000"]]), json!([]), false),
            (json!([["id=02"]]), json!([]), false),
            (json!([["id!"]]), json!([]), true),
            (json!([["unknown=1"]]), json!([]), false),
            (json!([["unknown!"]]), json!([]), true),
            (json!([["budget_msat!"]]), json!([]), false),
            (json!([["pnameamount_msat<10001"]]), json!([id, "10sat"]), true),
            (json!([["pnameamountmsat<10000"]]), json!([id, "10sat"]), false),
            (json!([["pnameamountmsat<10000"]]), json!({ "destination": id, "amount_msat": 10_000 }), false),
            (json!([["parr1<10000"]]), json!({ "destination": id, "amount_msat": 9_999 }), true),
            (json!([["parr1<10000"]]), json!({ "destination": id, "amount_msat": 10_000 }), false),
            (json!([["pnum<2"]]), json!({ "destination": id, "amount_msat": 10_000 }), false),
            (json!([["pnamelabel!"]]), json!([id, 1, "a label"]), false),
            (json!([["method=pay", "method=keysend"], ["pnum=0", "a comment#"]]), json!([id]), true),
        ] {
            let made = call(&cx, "createrune", json!({ "restrictions": restrictions })).await;
            let got = match made {
                Ok(made) => call(&cx, "checkrune", ask(made["rune"].as_str().unwrap(), params)).await.is_ok(),
                Err(_) => false,
            };
            assert_eq!(got, allowed, "{restrictions}");
        }
        for limit in ["rate=1", "per=1min", "per=60", "per=1day"] {
            let text = rune(&cx, json!([[limit]])).await;
            assert!(call(&cx, "checkrune", ask(&text, json!([]))).await.is_ok(), "{limit}");
            assert_eq!(code(&cx, "checkrune", ask(&text, json!([]))).await, 1_502, "{limit}");
        }
        for bad in ["rate=0", "rate=x", "rate<5", "rate=+5", "per=0", "per=5weeks", "per>5", "per="] {
            let text = rune(&cx, json!([[bad]])).await;
            assert_eq!(code(&cx, "checkrune", ask(&text, json!([]))).await, 1_502, "{bad}");
        }
    }

    #[tokio::test]
    async fn a_budget_stands_alone_and_is_no_leave_to_spend_elsewhere() {
        let cx = context();
        for bad in [
            json!([["budget_msat=1", "method=pay"]]),
            json!([["budget_msat<5"]]),
            json!([["budget_msat=1/week"]]),
        ] {
            assert_eq!(code(&cx, "createrune", json!({ "restrictions": bad })).await, -32_602, "{bad}");
        }
        let text = rune(&cx, json!([["budget_msat=10000000"]])).await;
        let ask = |method: &str| json!({ "rune": text, "method": method });
        assert!(call(&cx, "checkrune", ask("getinfo")).await.is_ok());
        // Whoever asks here would pay through another door, which counts nothing.
        for spends in ["pay", "withdraw", "createrune", "no-such-method"] {
            assert_eq!(code(&cx, "checkrune", ask(spends)).await, 1_502, "{spends}");
        }
        let shown = call(&cx, "showrunes", json!({ "rune": text })).await.unwrap();
        assert_eq!(shown["runes"][0]["budgets"][0]["left_msat"], 10_000_000);
        // One that was derived without asking, and that could not have been made here.
        let mut forged = Rune::parse(&text).unwrap();
        forged.restrict(Restriction(
            ["budget_msat=5", "method=pay"].map(|a| Alternative::plain(a).unwrap()).to_vec(),
        ));
        let ask = json!({ "rune": forged.to_text(), "method": "getinfo" });
        assert_eq!(code(&cx, "checkrune", ask).await, 1_502);
    }
}
