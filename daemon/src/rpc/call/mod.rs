//! What each method does: one family a file.
//!
//! In: checked arguments. Out: Core Lightning's JSON, or an error with its code.
//! Read next: `node`, `open`, `pay`; the shapes of answers are in `show`.

pub mod backup;
pub mod channel;
pub mod decode;
pub mod graph;
pub mod invoice;
pub mod message;
pub mod node;
pub mod open;
pub mod pay;
pub mod peer;
pub mod psbt;
pub mod rune;
pub mod sendpay;
pub mod snapshot;
pub mod tower;
pub mod wait;
pub mod wallet;

use super::amount::FeerateSpec;
use super::backend::{About, Backend, FeeTable, WalletReply, WalletRequest};
use super::log::Ring;
use super::message::{RpcError, INVALID_PARAMS};
use chand_protocol::id::{ChannelId, NodeId};
use chand_protocol::node::command::{ChannelRef, Command, Reply};
use chand_protocol::node::view;
use chand_protocol::units::Feerate;
use serde_json::Value;
use std::sync::Arc;

/// What a method gives back.
pub type Outcome = Result<Value, RpcError>;

/// What every method may use.
pub struct Context {
    /// The daemon.
    pub backend: Arc<dyn Backend>,
    /// What stays the same while it runs.
    pub about: About,
    /// The last lines of the log.
    pub log: Ring,
}

impl Context {
    /// For this daemon.
    pub fn new(backend: Arc<dyn Backend>, log: Ring) -> Context {
        Context { about: backend.about(), backend, log }
    }

    /// Every channel, or those with one peer.
    async fn channels(&self, peer: Option<NodeId>) -> Result<Vec<view::Channel>, RpcError> {
        match self.backend.command(Command::ListPeerChannels { peer, channel: None }).await? {
            Reply::PeerChannels(list) => Ok(list),
            _ => Err(RpcError::unexpected("listpeerchannels")),
        }
    }

    /// The id of the channel that a client named in one of three ways.
    async fn channel_id(&self, channel: &ChannelRef) -> Result<ChannelId, RpcError> {
        if let ChannelRef::Id(id) = channel {
            return Ok(*id);
        }
        let found: Vec<view::Channel> = self
            .channels(None)
            .await?
            .into_iter()
            .filter(|c| match channel {
                ChannelRef::Id(id) => c.channel_id == *id,
                ChannelRef::Short(id) => c.is_called(*id),
                ChannelRef::Peer(id) => c.peer_id == *id,
            })
            .collect();
        match found.as_slice() {
            [one] => Ok(one.channel_id),
            [] => Err(RpcError::param("id", "there is no such channel")),
            _ => Err(RpcError::param("id", "that peer has several channels; name one by its channel id")),
        }
    }

    /// What fees are now.
    async fn fee_table(&self) -> Result<FeeTable, RpcError> {
        match self.backend.wallet(WalletRequest::Feerates).await? {
            WalletReply::Feerates(table) => Ok(table),
            _ => Err(RpcError::unexpected("feerates")),
        }
    }

    /// A named feerate as a number; `None`: let the node take its normal one.
    async fn feerate(&self, name: &str, spec: Option<FeerateSpec>) -> Result<Option<Feerate>, RpcError> {
        match spec {
            None | Some(FeerateSpec::Normal) => Ok(None),
            Some(FeerateSpec::Exact(feerate)) => Ok(Some(feerate)),
            Some(spec) => {
                let unknown = || RpcError::param(name, "no fee estimate yet; give a number such as 253perkw");
                resolve(&self.fee_table().await?, spec).map(Some).ok_or_else(unknown)
            }
        }
    }

    /// An address of our network, as the script it stands for.
    fn script(&self, name: &str, address: &str) -> Result<bitcoin::ScriptBuf, RpcError> {
        chand_protocol::address::read(address, self.about.network)
            .map_err(|error| RpcError::param(name, error.to_string()))
    }
}

/// A named feerate as a number, when the table knows it. Never below what relays.
pub fn resolve(table: &FeeTable, spec: FeerateSpec) -> Option<Feerate> {
    let fees = table.fees;
    let floor = fees.map_or(Feerate::FLOOR, |f| f.minimum.max(Feerate::FLOOR));
    let found = match spec {
        FeerateSpec::Exact(feerate) => Some(feerate),
        FeerateSpec::Urgent => fees.map(|f| f.urgent),
        FeerateSpec::Normal => fees.map(|f| f.normal),
        FeerateSpec::Minimum => Some(floor),
        FeerateSpec::Slow => table
            .estimates
            .iter()
            .max_by_key(|(blocks, _)| *blocks)
            .map(|(_, f)| *f)
            .or(fees.map(|f| f.minimum)),
        // The estimate for the farthest target that is still within the wish; if none is that near, the nearest.
        FeerateSpec::Blocks(wish) => table
            .estimates
            .iter()
            .filter(|(blocks, _)| *blocks <= wish)
            .max_by_key(|(blocks, _)| *blocks)
            .or(table.estimates.iter().min_by_key(|(blocks, _)| *blocks))
            .map(|(_, f)| *f)
            .or(fees.map(|f| f.urgent)),
    };
    found.map(|f| f.max(floor))
}

/// Fails with −32602 when two parameters that exclude each other were both given.
fn exclusive(args: &super::params::Args, one: &str, other: &str) -> Result<(), RpcError> {
    if args.has(one) && args.has(other) {
        return Err(RpcError::new(INVALID_PARAMS, format!("{one}: not together with {other}")));
    }
    Ok(())
}

/// `index`, `start` and `limit` over a list whose members count from 1, in order of their making and of their newest change;
/// by the latter one that never changed is not listed.
fn page<T>(
    args: &super::params::Args,
    mut list: Vec<T>,
    indexes: impl Fn(&T) -> (u64, Option<u64>),
) -> Result<Vec<T>, RpcError> {
    let by_change = args.opt::<String>("index")?.as_deref() == Some("updated");
    let index = |item: &T| match indexes(item) {
        (_, updated) if by_change => updated,
        (created, _) => Some(created),
    };
    list.sort_by_key(&index);
    let start = args.opt::<u64>("start")?.unwrap_or(0);
    list.retain(|item| index(item).is_some_and(|number| number >= start));
    if let Some(limit) = args.opt::<u32>("limit")? {
        list.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    Ok(list)
}
