//! The daemon as somebody with a budget sees it.
//!
//! In: a daemon and budgets. Out: the same daemon, where payments begin within the budgets and whatever else could spend, or
//! change what others may, is refused: by the name of its method first, and by what it would have the node do once more, so that a method
//! that is added to the table later is not forgotten. Read next: `crate::runes::authority`.

use super::backend::{About, Backend, ConfigEntry, Pending, WalletReply, WalletRequest};
use super::message::RpcError;
use crate::core::Drained;
use crate::gossip::GossipHandle;
use crate::runes::authority::not_permitted;
use crate::runes::Authority;
use crate::tower::TowerStatus;
use chand_protocol::node::budget::Budget;
use chand_protocol::node::command::{Command, CommandError, Reply};
use chand_protocol::units::Sat;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

/// Methods whose payments are counted.
const COUNTED: [&str; 3] = ["keysend", "pay", "xpay"];
/// Methods that spend nothing and give nobody more than he has.
const HARMLESS: [&str; 26] = [
    "balance",
    "checkmessage",
    "decode",
    "feerates",
    "getinfo",
    "getroute",
    "help",
    "invoice",
    "listchannels",
    "listclosedchannels",
    "listforwards",
    "listfunds",
    "listhtlcs",
    "listinvoices",
    "listnodes",
    "listpays",
    "listpeerchannels",
    "listpeers",
    "listsendpays",
    "listsnapshots",
    "newaddr",
    "ping",
    "wait",
    "waitanyinvoice",
    "waitinvoice",
    "waitsendpay",
];

/// Whether somebody with a budget may call this method.
///
/// # Errors
/// 1502.
pub fn may_call(method: &str) -> Result<(), RpcError> {
    if COUNTED.contains(&method) {
        return Ok(());
    }
    if HARMLESS.contains(&method) {
        return Ok(());
    }
    Err(not_permitted("with a budget only pay, xpay, keysend and what spends nothing"))
}

/// The same where nothing is counted.
///
/// # Errors
/// 1502.
pub fn may_only_look(method: &str) -> Result<(), RpcError> {
    if COUNTED.contains(&method) {
        return Err(not_permitted("a budget is counted for payments over --http only"));
    }
    may_call(method)
}

/// A daemon within budgets.
pub struct Limited {
    inner: Arc<dyn Backend>,
    budgets: Vec<Budget>,
}

impl Limited {
    /// Of this daemon.
    pub fn new(inner: Arc<dyn Backend>, budgets: Vec<Budget>) -> Limited {
        Limited { inner, budgets }
    }
}

fn refused<T: Send + 'static>() -> Pending<Result<T, CommandError>> {
    Box::pin(ready(Err(CommandError::new(
        crate::runes::authority::NOT_PERMITTED,
        "Not permitted: this spends in a way that no budget counts",
    ))))
}

impl Backend for Limited {
    fn command(&self, command: Command) -> Pending<Result<Reply, CommandError>> {
        match command {
            Command::Pay { .. } | Command::Keysend { .. } => {
                let budgets = self.budgets.clone();
                self.inner.command(Command::Within { budgets, command: Box::new(command) })
            }
            Command::Ping { .. }
            | Command::Invoice(_)
            | Command::WaitInvoice { .. }
            | Command::WaitAnyInvoice { .. }
            | Command::WaitSendPay { .. }
            | Command::WaitSendPart { .. }
            | Command::Wait { .. }
            | Command::GetRoute { .. } => self.inner.command(command),
            question if question.is_question() => self.inner.command(question),
            _ => refused(),
        }
    }

    fn wallet(&self, request: WalletRequest) -> Pending<Result<WalletReply, CommandError>> {
        match request {
            WalletRequest::NewAddress { .. }
            | WalletRequest::ListCoins { .. }
            | WalletRequest::KeptBack
            | WalletRequest::Feerates => self.inner.wallet(request),
            _ => refused(),
        }
    }

    fn behind(&self) -> Option<String> {
        self.inner.behind()
    }

    fn stop(&self) {}

    fn drain(&self, _: Duration) -> Pending<Drained> {
        Box::pin(ready(Drained::Unknown))
    }

    fn configs(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }

    fn towers(&self) -> Vec<TowerStatus> {
        self.inner.towers()
    }

    fn chains(&self) -> Vec<crate::chain::Report> {
        self.inner.chains()
    }

    fn mempool(&self, _: bitcoin::Txid) -> Pending<Option<(bitcoin::Transaction, Option<Sat>)>> {
        Box::pin(ready(None))
    }

    fn gossip(&self) -> GossipHandle {
        self.inner.gossip()
    }

    fn runes(&self) -> Arc<Authority> {
        self.inner.runes()
    }

    fn about(&self) -> About {
        self.inner.about()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::call::Context;
    use crate::rpc::fake::FakeBackend;
    use crate::rpc::log::Ring;
    use crate::rpc::message::RawParams;
    use crate::rpc::params::bind;
    use crate::rpc::table::{find, METHODS};
    use chand_protocol::units::Msat;
    use serde_json::{json, Map};

    const BUDGET: Budget = Budget { account: [1; 32], limit: Msat(10_000), daily: false };

    #[test]
    fn every_method_that_may_be_called_is_there_and_all_others_are_refused() {
        for name in HARMLESS.iter().chain(&COUNTED) {
            assert!(find(name, false).is_some(), "{name}");
        }
        let refused: Vec<&str> =
            METHODS.iter().map(|m| m.name).filter(|name| may_call(name).is_err()).collect();
        let must = [
            "stop",
            "withdraw",
            "fundchannel",
            "close",
            "sendpay",
            "setchannel",
            "settleinvoice",
            "createrune",
            "showrunes",
            "blacklistrune",
            "destroyrune",
            "signmessage",
            "dev-fail",
            "disconnect",
            "listconfigs",
        ];
        for name in must {
            assert!(refused.contains(&name), "{name}");
        }
    }

    #[tokio::test]
    async fn payments_are_counted_and_nothing_else_gets_through() {
        let inner = Arc::new(FakeBackend::default());
        let limited = Limited::new(Arc::clone(&inner) as _, vec![BUDGET]);
        let cx = Arc::new(Context::new(Arc::new(limited), Ring::default()));
        let keysend = find("keysend", false).unwrap();
        let id = crate::rpc::fake::node(2).to_string();
        let args = bind(keysend.params, RawParams::List(vec![json!(id), json!(1_000)])).unwrap();
        assert!((keysend.call)(Arc::clone(&cx), args).await.is_ok());
        let Command::Within { budgets, command } = inner.last() else { panic!("{:?}", inner.last()) };
        assert_eq!(budgets, [BUDGET]);
        assert!(matches!(*command, Command::Keysend { .. }));
        // Even when a method slips past its name.
        for (name, params) in [
            (
                "withdraw",
                json!({ "destination": "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", "satoshi": 1000 }),
            ),
            ("fundchannel", json!({ "id": id, "amount": 100_000 })),
            ("close", json!({ "id": "07".repeat(32) })),
            ("setchannel", json!({ "id": "all", "feebase": 0 })),
            (
                "sendpay",
                json!({ "route": [{ "id": id, "amount_msat": 1, "delay": 9 }], "payment_hash": "00".repeat(32) }),
            ),
            ("settleinvoice", json!({ "preimage": "00".repeat(32) })),
            ("createrune", json!({})),
            ("blacklistrune", json!({ "start": 0 })),
            ("dev-fail", json!({ "id": "07".repeat(32) })),
        ] {
            let method = find(name, true).unwrap();
            let params: Map<_, _> = params.as_object().unwrap().clone();
            let args = match bind(method.params, RawParams::Named(params)) {
                Ok(args) => args,
                Err(error) => panic!("{name}: {error}"),
            };
            let before = inner.seen.lock().unwrap().len() + inner.wallet_seen.lock().unwrap().len();
            let error = (method.call)(Arc::clone(&cx), args).await.unwrap_err();
            assert_eq!(error.code, crate::runes::authority::NOT_PERMITTED, "{name}: {error}");
            let questions = inner.seen.lock().unwrap().iter().filter(|c| c.is_question()).count();
            let after = inner.seen.lock().unwrap().len() + inner.wallet_seen.lock().unwrap().len();
            assert!(after - before <= questions, "{name} reached the node");
        }
    }
}
