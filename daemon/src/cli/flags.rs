//! THE list of `chan-cli`'s own options, for its help, its manual page and the shells.
//!
//! In: nothing. Out: for each its names, what stands behind it and what it is for. What they do is in `args`, and a test holds the
//! two against each other. Read next: `args`.

/// One option.
#[derive(Clone, Copy, Debug)]
pub struct CliFlag {
    /// With two dashes.
    pub long: &'static str,
    /// With one.
    pub short: Option<char>,
    /// What its value looks like, if it takes one.
    pub form: Option<&'static str>,
    /// Where it comes from when it is not given.
    pub default: Option<&'static str>,
    /// What it is for.
    pub help: &'static str,
}

const fn flag(
    long: &'static str,
    short: Option<char>,
    form: Option<&'static str>,
    default: Option<&'static str>,
    help: &'static str,
) -> CliFlag {
    CliFlag { long, short, form, default, help }
}

/// All of them.
pub const FLAGS: [CliFlag; 9] = [
    flag("data-dir", None, Some("DIR"), Some("CHAND_DATA_DIR, else ~/.chand"), "The data folder of chand"),
    flag(
        "network",
        None,
        Some("NAME"),
        Some("CHAND_NETWORK, else regtest"),
        "regtest, testnet, testnet4, signet or bitcoin",
    ),
    flag(
        "rpc-socket",
        None,
        Some("PATH"),
        Some("CHAND_RPC_SOCKET, else DIR/NETWORK/rpc.sock"),
        "The control socket",
    ),
    flag("human", Some('H'), None, None, "Answers for people instead of JSON"),
    flag("json", Some('J'), None, None, "Answers as JSON, which is usual"),
    flag("keywords", Some('k'), None, None, "Every argument is name=value"),
    flag(
        "wait",
        None,
        None,
        None,
        "fundchannel: until the channel can be used; close: until the close is confirmed",
    ),
    flag("help", Some('h'), None, None, "How it is used"),
    flag("version", Some('V'), None, None, "Which version it is"),
];
