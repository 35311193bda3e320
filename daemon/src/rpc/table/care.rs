//! The methods that tell how well the node is looked after: its chain backends, its watchtowers, its backup.
//!
//! In: nothing. Out: a row a method, like those of `list`.
//! Read next: `crate::rpc::call::backup`.

use super::Method;
use crate::rpc::call::{backup, node, tower};

/// All of them.
pub(super) const LIST: &[Method] = &[
    method!(
        "listbackends",
        "node",
        "(chand) The chain backends named by --bitcoin-rpc, which of them is followed, and what is wrong with the others.",
        node::listbackends,
        []
    ),
    method!(
        "listwatchtowers",
        "node",
        "(chand) The watchtowers named by --watchtower, and how far each has the revoked states.",
        tower::listwatchtowers,
        []
    ),
    method!(
        "emergencyrecover",
        "channels",
        "Restore the channels of emergency.recover that this node does not know: their peers are asked to close them.",
        backup::emergencyrecover,
        []
    ),
];
