//! The methods themselves, in the order in which help shows them.
//!
//! In: nothing. Out: a row a method: name, area, one line for people, parameters in order, the function that does it.
//! Read next: `crate::rpc::call`.

use super::{later, opt, req, Method, DRY_RUN};
use crate::rpc::call::{
    channel, decode, graph, invoice, message, node, open, pay, peer, rune, sendpay, snapshot, wait, wallet,
};
use crate::rpc::params::{Kind, Param};

const CHANNEL: Param = req("id", Kind::Channel, "the channel: its id, its short id, or its peer's node id");
const PAGE_INDEX: Param =
    opt("index", Kind::OneOf(&["created", "updated"]), "created", "what `start` counts, as `wait` does");
const PAGE_START: Param = opt("start", Kind::U64, "0", "the first index to list");
const PAGE_LIMIT: Param = opt("limit", Kind::U32, "no limit", "how many to list");
const MAX_DELAY: Param =
    opt("maxdelay", Kind::U32, "2016", "the most blocks that our money may be locked up");
const EXCLUDE: Param =
    opt("exclude", Kind::Excluded, "none", "channels (103x1x0/1) and nodes not to be used");
const RETRY_FOR: Param = opt("retry_for", Kind::U32, "60", "seconds to go on trying");
const PAY_LABEL: Param = opt("label", Kind::Label, "none", "a name to find it by in lists");
const LOCALINVREQID: Param = opt("localinvreqid", Kind::Hash, "none", "has no effect");
const STATUS: Param =
    opt("status", Kind::OneOf(&["pending", "complete", "failed"]), "all", "only those with this status");

/// All but those of `care` and `psbt`.
pub(super) const LIST: &[Method] = &[
    // ---- node
    method!("getinfo", "node", "Who this node is and where it stands.", node::getinfo, []),
    method!(
        "help",
        "node",
        "List the methods, or explain one.",
        node::help,
        [opt("command", Kind::Text, "all", "the method to explain"),]
    ),
    method!(
        "stop",
        "node",
        "Shut down in good order.",
        node::stop,
        [opt(
            "drain",
            Kind::U32,
            "0",
            "(chand) seconds for payments under way to end first; nothing new is begun meanwhile"
        ),]
    ),
    method!(
        "listconfigs",
        "node",
        "Every option, its value and where it came from.",
        node::listconfigs,
        [opt("config", Kind::Text, "all", "only this option"),]
    ),
    method!(
        "getlog",
        "node",
        "The last lines of the log.",
        node::getlog,
        [opt(
            "level",
            Kind::OneOf(&["broken", "unusual", "info", "debug", "trace", "io"]),
            "info",
            "the quietest level to show",
        ),]
    ),
    method!(
        "signmessage",
        "node",
        "Sign words with this node's key.",
        message::signmessage,
        [req("message", Kind::Text, "at most 65,535 bytes"),]
    ),
    method!(
        "checkmessage",
        "node",
        "Check who signed a message.",
        message::checkmessage,
        [
            req("message", Kind::Text, "the words that were signed"),
            req("zbase", Kind::Text, "the signature, as `signmessage` gives it"),
            opt("pubkey", Kind::NodeId, "any node known here", "who should have signed"),
        ]
    ),
    method!(
        "createrune",
        "node",
        "Make a credential for --http, or restrict one further.",
        rune::createrune,
        [
            opt("rune", Kind::Text, "a new one", "add the restrictions to this one; anybody's will do"),
            opt(
                "restrictions",
                Kind::Restrictions,
                "none",
                "all must hold, of each its alternatives at least one; docs/ACCESS.md has their language"
            ),
        ]
    ),
    method!(
        "showrunes",
        "node",
        "The runes that were made here, or what one says.",
        rune::showrunes,
        [opt("rune", Kind::Text, "all", "only this one, which need not be ours"),]
    ),
    method!(
        "checkrune",
        "node",
        "Whether a rune allows a method; counts as a use of it.",
        rune::checkrune,
        [
            req("rune", Kind::Text, "the rune"),
            opt("nodeid", Kind::NodeId, "none", "the node that asks"),
            opt("method", Kind::Text, "none", "what it asks"),
            opt("params", Kind::Params, "none", "with what"),
        ]
    ),
    method!(
        "blacklistrune",
        "node",
        "Refuse runes from now on, by their numbers; lists those that are refused.",
        rune::blacklistrune,
        [
            opt("start", Kind::U64, "only list", "the first number"),
            opt("end", Kind::U64, "start", "the last number"),
            opt("relist", Kind::Bool, "false", "refuse them no longer"),
        ]
    ),
    method!(
        "destroyrune",
        "node",
        "The same as blacklistrune.",
        rune::blacklistrune,
        [
            opt("start", Kind::U64, "only list", "the first number"),
            opt("end", Kind::U64, "start", "the last number"),
            opt("relist", Kind::Bool, "false", "refuse them no longer"),
        ]
    ),
    // ---- peers
    method!(
        "connect",
        "peers",
        "Connect to a node, and remember where it is.",
        peer::connect,
        [
            req("id", Kind::NodeAddress, "the node, as id or id@host:port"),
            opt("host", Kind::Text, "where it was last", "host or IP address"),
            opt("port", Kind::U16, "9735", "TCP port"),
        ]
    ),
    method!(
        "disconnect",
        "peers",
        "Hang up on a node, and do not call it again until told.",
        peer::disconnect,
        [
            req("id", Kind::NodeId, "the node"),
            opt("force", Kind::Bool, "false", "even when there are channels with it"),
        ]
    ),
    method!(
        "listpeers",
        "peers",
        "The nodes we are connected to or have channels with.",
        peer::listpeers,
        [opt("id", Kind::NodeId, "all", "only this one"), later("level"),]
    ),
    method!(
        "ping",
        "peers",
        "Ask a connected node for a sign of life.",
        peer::ping,
        [
            req("id", Kind::NodeId, "the node"),
            opt("len", Kind::U16, "128", "bytes of padding to send"),
            opt(
                "pongbytes",
                Kind::U16,
                "128",
                "bytes to ask for; 65,532 and more are never answered (BOLT 1)"
            ),
        ]
    ),
    // ---- wallet
    method!(
        "newaddr",
        "wallet",
        "A fresh on-chain address of this node.",
        wallet::newaddr,
        [opt("addresstype", Kind::OneOf(&["bech32", "p2tr", "all"]), "the wallet's own", "which kind"),]
    ),
    method!(
        "listfunds",
        "wallet",
        "Coins on chain, money in channels, and what of the coins is kept back for closes on chain.",
        wallet::listfunds,
        [opt("spent", Kind::Bool, "false", "also coins already spent"),]
    ),
    method!(
        "withdraw",
        "wallet",
        "Send coins from the on-chain wallet to an address.",
        wallet::withdraw,
        [
            req("destination", Kind::Text, "a Bitcoin address of this network"),
            req("satoshi", Kind::SatOrAll, "how much, or `all`"),
            opt(
                "feerate",
                Kind::Feerate,
                "normal",
                "slow, normal, urgent, minimum, Nblocks, Nperkw or Nperkb"
            ),
            opt("minconf", Kind::U32, "1", "how deep the coins spent must be"),
            opt("utxos", Kind::Outpoints, "the wallet chooses", "spend these coins and no others"),
            DRY_RUN,
        ]
    ),
    method!(
        "feerates",
        "wallet",
        "The fees used now.",
        wallet::feerates,
        [req(
            "style",
            Kind::OneOf(&["perkw", "perkb"]),
            "per 1,000 weight units, or per 1,000 virtual bytes"
        ),]
    ),
    method!(
        "balance",
        "wallet",
        "(chand) All money of this node, term by term; an error names the term that does not add up.",
        snapshot::balance,
        []
    ),
    // ---- channels
    method!(
        "fundchannel",
        "channels",
        "Open a channel with a node and fund it from the wallet.",
        open::fundchannel,
        [
            req("id", Kind::NodeAddress, "the node; with id@host:port chand connects first"),
            req("amount", Kind::SatOrAll, "the channel's size, or `all`"),
            opt("feerate", Kind::Feerate, "normal", "of the funding transaction and the first commitment"),
            opt(
                "announce",
                Kind::Bool,
                "true",
                "ask for a public channel: announced once it is six blocks deep"
            ),
            later("minconf"),
            opt(
                "push_msat",
                Kind::Msat,
                "0",
                "given to the peer at the start: a gift, it does not come back"
            ),
            opt("close_to", Kind::Text, "the wallet", "the address our part goes to when the channel closes"),
            later("request_amt"),
            later("compact_lease"),
            later("utxos"),
            opt("mindepth", Kind::U32, "--funding-confirms", "confirmations before the channel is used"),
            opt("reserve", Kind::Sat, "1 %", "what the peer must always keep in the channel"),
            opt(
                "channel_type",
                Kind::Bits,
                "anchors if both can; not announced, with scid_alias",
                "[12] static_remotekey, [12,22] with anchors; with 46 too, scid_alias"
            ),
            DRY_RUN,
        ]
    ),
    method!(
        "close",
        "channels",
        "Close a channel: by agreement, or alone when the peer is silent.",
        channel::close,
        [
            CHANNEL,
            opt("unilateraltimeout", Kind::U32, "172800", "seconds to wait for the peer; 0 waits for ever"),
            opt("destination", Kind::Text, "the wallet", "the address our part goes to"),
            later("fee_negotiation_step"),
            later("wrong_funding"),
            later("force_lease_closed"),
            opt(
                "feerange",
                Kind::FeerateRange,
                "what is sensible now",
                "lowest and highest feerate of the close"
            ),
            DRY_RUN,
        ]
    ),
    method!(
        "listpeerchannels",
        "channels",
        "Every channel and how it stands.",
        channel::listpeerchannels,
        [
            opt("id", Kind::NodeId, "all", "only those with this node"),
            opt("short_channel_id", Kind::ShortChannelId, "all", "only this one"),
            opt("channel_id", Kind::ChannelId, "all", "only this one"),
        ]
    ),
    method!(
        "listclosedchannels",
        "channels",
        "Channels that are closed, and why.",
        channel::listclosedchannels,
        [opt("id", Kind::NodeId, "all", "only those with this node"),]
    ),
    method!(
        "setchannel",
        "channels",
        "Change the fees and limits for forwarding over a channel.",
        channel::setchannel,
        [
            req("id", Kind::Text, "the channel: its id, its short id, its peer's node id, or `all`"),
            opt("feebase", Kind::Msat, "as it is", "msat taken for each payment"),
            opt("feeppm", Kind::U32, "as it is", "millionths of the amount taken"),
            opt("htlcmin", Kind::Msat, "as it is", "smallest payment forwarded"),
            opt("htlcmax", Kind::Msat, "as it is", "largest payment forwarded"),
            later("enforcedelay"),
            later("ignorefeelimits"),
        ]
    ),
    method!(
        "listhtlcs",
        "channels",
        "Payments in flight in channels.",
        channel::listhtlcs,
        [
            opt("id", Kind::Channel, "all", "only those of this channel"),
            later("index"),
            later("start"),
            later("limit"),
        ]
    ),
    method!(
        "listsnapshots",
        "channels",
        "(chand) The balances both sides signed, newest first: the current one and those it revoked.",
        snapshot::listsnapshots,
        [
            req("channel_id", Kind::Channel, "the channel: its id, its short id, or its peer's node id"),
            opt("start", Kind::U64, "0", "skip this many"),
            opt("limit", Kind::U64, "100", "list at most this many"),
        ]
    ),
    // ---- payments
    method!(
        "invoice",
        "payments",
        "Make an invoice: ask to be paid.",
        invoice::invoice,
        [
            req("amount_msat", Kind::MsatOrAny, "how much, or `any`"),
            req("label", Kind::Label, "a name of your own, used once"),
            req("description", Kind::Text, "what it is for; the payer reads it"),
            opt("expiry", Kind::U64, "604800", "seconds it can be paid"),
            later("fallbacks"),
            opt("preimage", Kind::Secret, "random", "the secret R; never use one twice"),
            opt(
                "exposeprivatechannels",
                Kind::Bool,
                "if none is public",
                "name channels that are not public"
            ),
            opt("cltv", Kind::U32, "--cltv-final", "blocks we want to have left when it arrives"),
            opt("deschashonly", Kind::Bool, "false", "put only the description's hash in the invoice"),
            opt("blinded", Kind::Bool, "false", "name no node: be paid over blinded paths (bLIP 39)"),
        ]
    ),
    method!(
        "listinvoices",
        "payments",
        "Our invoices and what became of them.",
        invoice::listinvoices,
        [
            opt("label", Kind::Label, "all", "only the one with this label"),
            opt("invstring", Kind::Text, "all", "only this one"),
            opt("payment_hash", Kind::Hash, "all", "only the one with this hash"),
            later("offer_id"),
            PAGE_INDEX,
            PAGE_START,
            PAGE_LIMIT,
        ]
    ),
    method!(
        "delinvoice",
        "payments",
        "Forget an invoice.",
        invoice::delinvoice,
        [
            req("label", Kind::Label, "its label"),
            req("status", Kind::OneOf(&["paid", "expired", "unpaid"]), "the status you believe it has"),
            later("desconly"),
        ]
    ),
    method!(
        "waitinvoice",
        "payments",
        "Wait until an invoice is paid, expires, or is cancelled or deleted.",
        invoice::waitinvoice,
        [req("label", Kind::Label, "its label"),]
    ),
    method!(
        "waitanyinvoice",
        "payments",
        "Wait for the next payment that comes in.",
        invoice::waitanyinvoice,
        [
            opt("lastpay_index", Kind::U64, "0", "the pay_index of the last one you saw"),
            opt("timeout", Kind::U64, "for ever", "seconds to wait; then error 904"),
        ]
    ),
    method!(
        "holdinvoice",
        "payments",
        "(chand) Make an invoice on a hash whose preimage you keep: the payment is held until you decide, \
         or until 12 blocks (two thirds of --cltv-final) are left.",
        invoice::holdinvoice,
        [
            req("payment_hash", Kind::Hash, "SHA-256 of the preimage"),
            req("amount_msat", Kind::MsatOrAny, "how much, or `any`"),
            req("label", Kind::Label, "a name of your own, used once"),
            req("description", Kind::Text, "what it is for; the payer reads it"),
            opt("expiry", Kind::U64, "604800", "seconds it can be paid"),
            opt("cltv", Kind::U32, "--cltv-final", "blocks we want to have left when it arrives"),
            opt("blinded", Kind::Bool, "false", "name no node: be paid over blinded paths (bLIP 39)"),
        ]
    ),
    method!(
        "settleinvoice",
        "payments",
        "(chand) Take the money of a held payment.",
        invoice::settleinvoice,
        [req("preimage", Kind::Secret, "the secret R of its hash"),]
    ),
    method!(
        "cancelinvoice",
        "payments",
        "(chand) Give the money of a held payment back.",
        invoice::cancelinvoice,
        [req("payment_hash", Kind::Hash, "its hash"),]
    ),
    method!(
        "decode",
        "payments",
        "What an invoice or a rune says.",
        decode::decode,
        [req("string", Kind::Text, "the invoice (BOLT 11), or the rune"),]
    ),
    method!(
        "pay",
        "payments",
        "Pay an invoice.",
        pay::pay,
        [
            req("bolt11", Kind::Text, "the invoice"),
            opt("amount_msat", Kind::Msat, "the invoice's", "needed when the invoice names none"),
            PAY_LABEL,
            opt(
                "riskfactor",
                Kind::Percent,
                "10",
                "has no effect: what a delay costs is fixed (docs/decisions/routing.md)"
            ),
            opt("maxfeepercent", Kind::Percent, "0.5", "the most to pay in fees, in percent of the amount"),
            RETRY_FOR,
            MAX_DELAY,
            opt("exemptfee", Kind::Msat, "5000", "fees up to this are never too much"),
            LOCALINVREQID,
            EXCLUDE,
            opt(
                "maxfee",
                Kind::Msat,
                "by percent",
                "the most to pay in fees; not with maxfeepercent or exemptfee"
            ),
            opt("description", Kind::Text, "none", "compared with the invoice's hash of it, if it has one"),
            later("partial_msat"),
        ]
    ),
    method!(
        "xpay",
        "payments",
        "Pay an invoice (Core Lightning's newer method).",
        pay::xpay,
        [
            req("invstring", Kind::Text, "the invoice"),
            opt("amount_msat", Kind::Msat, "the invoice's", "needed when the invoice names none"),
            opt("maxfee", Kind::Msat, "1 %, at least 5000", "the most to pay in fees"),
            later("layers"),
            RETRY_FOR,
            later("partial_msat"),
            MAX_DELAY,
            later("payer_note"),
            PAY_LABEL,
            LOCALINVREQID,
        ]
    ),
    method!(
        "keysend",
        "payments",
        "Pay a node without an invoice.",
        pay::keysend,
        [
            req("destination", Kind::NodeId, "whom"),
            req("amount_msat", Kind::Msat, "how much"),
            PAY_LABEL,
            opt("maxfeepercent", Kind::Percent, "0.5", "the most to pay in fees, in percent of the amount"),
            RETRY_FOR,
            MAX_DELAY,
            opt("exemptfee", Kind::Msat, "5000", "fees up to this are never too much"),
            later("routehints"),
            later("extratlvs"),
            opt(
                "maxfee",
                Kind::Msat,
                "by percent",
                "the most to pay in fees; not with maxfeepercent or exemptfee"
            ),
        ]
    ),
    method!(
        "getroute",
        "payments",
        "A route to a node, as `pay` would take it now; no money moves.",
        pay::getroute,
        [
            req("id", Kind::NodeId, "to whom"),
            req("amount_msat", Kind::Msat, "how much is to arrive"),
            opt("riskfactor", Kind::Percent, "10", "has no effect: what a delay costs is fixed"),
            opt("cltv", Kind::U32, "9", "blocks from now until the last HTLC expires"),
            later("fromid"),
            later("fuzzpercent"),
            EXCLUDE,
            opt("maxhops", Kind::U32, "20", "the most hops"),
        ]
    ),
    method!(
        "listpays",
        "payments",
        "Payments we made or tried.",
        pay::listpays,
        [
            opt("bolt11", Kind::Text, "all", "only for this invoice"),
            opt("payment_hash", Kind::Hash, "all", "only for this hash"),
            STATUS,
            PAGE_INDEX,
            PAGE_START,
            PAGE_LIMIT,
        ]
    ),
    method!(
        "sendpay",
        "payments",
        "Start a payment over a route of your choosing.",
        sendpay::sendpay,
        [
            req("route", Kind::Route, "hops of {id, channel, delay, amount_msat}, the first one first"),
            req("payment_hash", Kind::Hash, "the invoice's"),
            PAY_LABEL,
            opt("amount_msat", Kind::Msat, "the last hop's", "the sum of all parts; needed with a partid"),
            opt("bolt11", Kind::Text, "none", "kept for lists"),
            opt("payment_secret", Kind::Secret, "none", "the invoice's; most payees demand it"),
            opt("partid", Kind::U64, "0", "not 0: one part of amount_msat, by this number"),
            LOCALINVREQID,
            opt("groupid", Kind::U64, "the last, or the next", "parts that make up a payment together"),
            later("payment_metadata"),
            later("description"),
        ]
    ),
    method!(
        "waitsendpay",
        "payments",
        "Wait for the end of what `sendpay` started.",
        sendpay::waitsendpay,
        [
            req("payment_hash", Kind::Hash, "its hash"),
            opt("timeout", Kind::U32, "for ever", "seconds to wait; then error 200"),
            opt("partid", Kind::U64, "0", "which part; 0 for a payment that was not sent in parts"),
            opt("groupid", Kind::U64, "the last", "the part's group"),
        ]
    ),
    method!(
        "listforwards",
        "payments",
        "Payments that went on through this node, or are on their way: the newest 10,000 that ended.",
        channel::listforwards,
        [
            opt("status", Kind::OneOf(&["offered", "settled", "failed"]), "all", "only those"),
            opt("in_channel", Kind::ShortChannelId, "all", "only those that came in over it"),
            opt("out_channel", Kind::ShortChannelId, "all", "only those that went out over it"),
            PAGE_INDEX,
            PAGE_START,
            PAGE_LIMIT,
        ]
    ),
    method!(
        "listsendpays",
        "payments",
        "Payments we made or tried: parts that `sendpay` sent one by one, what `pay` sent as a whole.",
        sendpay::listsendpays,
        [
            opt("bolt11", Kind::Text, "all", "only for this invoice"),
            opt("payment_hash", Kind::Hash, "all", "only for this hash"),
            STATUS,
            PAGE_INDEX,
            PAGE_START,
            PAGE_LIMIT,
        ]
    ),
    method!(
        "wait",
        "payments",
        "Wait until so many invoices, payments or forwards were made, changed or deleted; answers at once if they were.",
        wait::wait,
        [
            req("subsystem", Kind::OneOf(&["invoices", "sendpays", "forwards"]), "the list"),
            req("indexname", Kind::OneOf(&["created", "updated", "deleted"]), "what is counted, from 1"),
            req("nextvalue", Kind::U64, "the number to wait for; 0 asks how far it is"),
        ]
    ),
    // ---- graph
    method!(
        "listchannels",
        "graph",
        "The public channels of the network, one entry for each direction that was announced.",
        graph::listchannels,
        [
            opt("short_channel_id", Kind::ShortChannelId, "all", "only this one"),
            opt("source", Kind::NodeId, "all", "only those that this node sends over"),
            opt("destination", Kind::NodeId, "all", "only those that lead to this node"),
        ]
    ),
    method!(
        "listnodes",
        "graph",
        "The nodes of the network that have a public channel.",
        graph::listnodes,
        [opt("id", Kind::NodeId, "all", "only this one"),]
    ),
    // ---- developer
    method!(
        "dev-fail",
        "developer",
        "Close a channel at once by our commitment.",
        channel::dev_fail,
        [CHANNEL]
    ),
    method!(
        "dev-sign-last-tx",
        "developer",
        "Our current commitment, signed. Never publish it after a newer one.",
        channel::dev_sign_last_tx,
        [CHANNEL]
    ),
    method!(
        "dev-broadcast-revoked",
        "developer",
        "Publish an old commitment of ours, as a cheat would: for tests. The peer may take everything.",
        channel::dev_broadcast_revoked,
        [CHANNEL, req("number", Kind::U64, "which of our commitments, as in listsnapshots"),]
    ),
    method!(
        "dev-feerate",
        "developer",
        "Set the feerate of a channel's commitments now.",
        channel::dev_feerate,
        [CHANNEL, req("feerate", Kind::U32, "sat per 1,000 weight units"),]
    ),
];
