//! (chand) `listsnapshots balance`
//!
//! In: what was really signed, and every term of every balance. Out: the same, after checking that it adds up.
//! Read next: `wallet`.

use super::node::ChainWarnings;
use super::wallet::coins;
use super::{Context, Outcome};
use crate::rpc::backend::{Coin, CoinStatus};
use crate::rpc::message::{RpcError, INTERNAL_ERROR};
use crate::rpc::params::Args;
use crate::rpc::show::{self, Object};
use chand_protocol::node::command::{Command, Reply};
use chand_protocol::node::view::ChannelBalance;
use chand_protocol::units::{Msat, Sat};
use serde_json::{json, Value};
use std::sync::Arc;

/// Most snapshots in one answer.
const MAX_SNAPSHOTS: u64 = 10_000;

/// The balances that were signed.
pub async fn listsnapshots(cx: Arc<Context>, args: Args) -> Outcome {
    let limit = args.opt::<u64>("limit")?;
    if limit.is_some_and(|l| l > MAX_SNAPSHOTS) {
        return Err(RpcError::param("limit", format!("must be at most {MAX_SNAPSHOTS}")));
    }
    let command =
        Command::ListSnapshots { channel: args.get("channel_id")?, start: args.opt("start")?, limit };
    match cx.backend.command(command).await? {
        Reply::Snapshots(list) => {
            Ok(json!({ "snapshots": list.iter().map(show::snapshot).collect::<Vec<_>>() }))
        }
        _ => Err(RpcError::unexpected("listsnapshots")),
    }
}

/// All money, term by term.
pub async fn balance(cx: Arc<Context>, _: Args) -> Outcome {
    let Reply::Balance(list) = cx.backend.command(Command::Balance).await? else {
        return Err(RpcError::unexpected("balance"));
    };
    let coins = coins(&cx, false).await?;
    let balance = add_up(&list, &coins)
        .map_err(|problem| RpcError::new(INTERNAL_ERROR, format!("balance: {problem}")))?;
    Ok(ChainWarnings::ask(&cx).await?.onto(Object::of(balance)).build())
}

/// Adds everything up.
///
/// # Errors
/// Words that name the term that does not.
pub fn add_up(list: &[ChannelBalance], coins: &[Coin]) -> Result<Value, String> {
    let mut channels = Vec::new();
    let mut ours = Msat::ZERO;
    for channel in list {
        check(channel)?;
        let in_channel = Msat::checked_sum(own_terms(channel).map(|(_, amount)| amount))
            .ok_or("our part of the channels does not fit")?;
        ours = ours.checked_add(in_channel).ok_or("our part of the channels does not fit")?;
        channels.push(terms_json(channel, in_channel));
    }
    let onchain = Onchain::of(coins)?;
    let total = ours.checked_add(onchain.total).ok_or("the sum over channels and chain does not fit")?;
    Ok(json!({
        "channels": channels,
        "onchain": onchain.to_json(),
        "in_channels_msat": ours.0,
        "onchain_msat": onchain.total.0,
        "total_msat": total.0,
    }))
}

/// The terms that are ours, by name.
fn own_terms(c: &ChannelBalance) -> impl Iterator<Item = (&'static str, Msat)> {
    [
        ("spendable_msat", c.spendable_msat),
        ("our_reserve_msat", c.our_reserve_msat),
        ("commit_fee_msat", c.commit_fee_msat),
        ("anchors_msat", c.anchors_msat),
        ("htlcs_out_msat", c.htlcs_out_msat),
    ]
    .into_iter()
}

/// All terms, by name.
fn all_terms(c: &ChannelBalance) -> impl Iterator<Item = (&'static str, Msat)> {
    own_terms(c).chain([("htlcs_in_msat", c.htlcs_in_msat), ("their_msat", c.their_msat)])
}

/// Every msat of the capacity is in exactly one term.
fn check(c: &ChannelBalance) -> Result<(), String> {
    let id = c.channel_id;
    let capacity = c.capacity.checked_msat().ok_or_else(|| format!("channel {id}: capacity does not fit"))?;
    for (name, amount) in all_terms(c) {
        if amount > capacity {
            return Err(format!("channel {id}: {name} is {amount}, more than the capacity of {capacity}"));
        }
    }
    let htlcs = c.htlcs_out_msat.saturating_add(c.htlcs_in_msat);
    if c.dust_msat > htlcs {
        return Err(format!("channel {id}: dust_msat is {}, more than all HTLCs, {htlcs}", c.dust_msat));
    }
    let sum = Msat::checked_sum(all_terms(c).map(|(_, amount)| amount)).unwrap_or(Msat(u64::MAX));
    if sum == capacity {
        return Ok(());
    }
    let terms: Vec<String> = all_terms(c).map(|(name, amount)| format!("{name} {}", amount.0)).collect();
    let off = Msat(sum.0.abs_diff(capacity.0));
    let way = if sum > capacity { "too much" } else { "missing" };
    Err(format!(
        "channel {id}: the terms do not add up to total_msat {}: {off} {way} in {}",
        capacity.0,
        terms.join(" + ")
    ))
}

fn terms_json(c: &ChannelBalance, ours: Msat) -> Value {
    json!({
        "channel_id": c.channel_id.to_string(),
        "peer_id": c.peer_id.to_string(),
        "state": c.state.name(),
        "total_msat": show::msat(c.capacity),
        "spendable_msat": c.spendable_msat.0,
        "our_reserve_msat": c.our_reserve_msat.0,
        "commit_fee_msat": c.commit_fee_msat.0,
        "anchors_msat": c.anchors_msat.0,
        "htlcs_out_msat": c.htlcs_out_msat.0,
        "htlcs_in_msat": c.htlcs_in_msat.0,
        "their_msat": c.their_msat.0,
        "dust_msat": c.dust_msat.0,
        "ours_msat": ours.0,
    })
}

/// The on-chain side; a coin is in exactly one of the first three, reserved ones are counted again apart.
struct Onchain {
    confirmed: Msat,
    unconfirmed: Msat,
    immature: Msat,
    reserved: Msat,
    total: Msat,
}

impl Onchain {
    fn of(coins: &[Coin]) -> Result<Onchain, String> {
        let sum = |what: &str, wanted: &dyn Fn(&Coin) -> bool| {
            coins
                .iter()
                .filter(|coin| wanted(coin))
                .try_fold(Sat::ZERO, |sum, coin| sum.checked_add(coin.amount))
                .and_then(Sat::checked_msat)
                .ok_or_else(|| format!("the {what} coins do not fit"))
        };
        let all = Onchain {
            confirmed: sum("confirmed", &|c| matches!(c.status, CoinStatus::Confirmed(_)))?,
            unconfirmed: sum("unconfirmed", &|c| c.status == CoinStatus::Unconfirmed)?,
            immature: sum("immature", &|c| matches!(c.status, CoinStatus::Immature(_)))?,
            reserved: sum("reserved", &|c| {
                c.reserved_to.is_some() && !matches!(c.status, CoinStatus::Spent(_))
            })?,
            total: sum("unspent", &|c| !matches!(c.status, CoinStatus::Spent(_)))?,
        };
        let parts = Msat::checked_sum([all.confirmed, all.unconfirmed, all.immature]);
        if parts != Some(all.total) {
            return Err(format!(
                "onchain: the coins by status do not add up to onchain_msat {}",
                all.total.0
            ));
        }
        Ok(all)
    }

    fn to_json(&self) -> Value {
        json!({
            "confirmed_msat": self.confirmed.0,
            "unconfirmed_msat": self.unconfirmed.0,
            "immature_msat": self.immature.0,
            "reserved_msat": self.reserved.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::fake;

    #[test]
    fn terms_add_up_or_are_named() {
        let good = fake::channel_balance();
        let json = add_up(std::slice::from_ref(&good), &fake::coins()).unwrap();
        let ours = json["in_channels_msat"].as_u64().unwrap();
        assert_eq!(json["total_msat"].as_u64(), Some(ours + json["onchain_msat"].as_u64().unwrap()));
        assert_eq!(ours + good.their_msat.0 + good.htlcs_in_msat.0, good.capacity.to_msat().0);

        let mut bad = good.clone();
        bad.their_msat = Msat(bad.their_msat.0 - 1);
        let words = add_up(&[bad], &[]).unwrap_err();
        assert!(words.contains("1 msat missing") && words.contains("total_msat"), "{words}");

        let mut bad = good.clone();
        bad.their_msat = Msat(u64::MAX);
        assert!(add_up(&[bad], &[]).unwrap_err().contains("their_msat"));

        let mut bad = good;
        bad.dust_msat = Msat(bad.capacity.to_msat().0);
        assert!(add_up(&[bad], &[]).unwrap_err().contains("dust_msat"));
    }
}
