//! The control socket: Core Lightning's JSON-RPC dialect over a Unix stream socket.
//!
//! In: bytes of clients (`frame`, `message`), bound to parameters by the one list of methods (`table`, `params`).
//! Out: [`Command`](chand_protocol::node::command::Command)s and [`WalletRequest`]s for whoever runs the node
//! ([`Backend`]), whose answers `call` and `show` turn into Core Lightning's JSON.
//! Nothing here decides about money; it reads, checks and renders.
//! Read next: `table` (what exists), `socket` (how it is served), `backend` (what it needs).

pub mod amount;
pub mod backend;
pub mod call;
pub mod docs;
pub mod filter;
pub mod frame;
pub mod limited;
pub mod log;
pub mod message;
pub mod params;
pub mod show;
pub mod show_close;
pub mod socket;
pub mod table;
pub mod zbase32;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod psbt_tests;
#[cfg(test)]
mod shape_tests;
#[cfg(test)]
mod socket_tests;

pub use backend::{
    About, AddressKind, Backend, Coin, CoinStatus, ConfigEntry, ConfigValue, FeeTable, Pending, WalletReply,
    WalletRequest,
};
pub use message::RpcError;
pub use socket::{bind, serve, BindError, Bound, Limits};
