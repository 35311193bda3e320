//! What a service manager wants to hear: that the node is ready, alive, about to stop (systemd's notification protocol).
//!
//! In: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` of the environment; without the first nothing is said to anybody.
//! Out: datagrams of a line or two over a Unix socket, which may be an abstract one. Nothing waits for whoever listens.
//! Read next: `crate::start`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// Where to say it.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    alive_within: Option<Duration>,
}

impl Notifier {
    /// As the environment asks; `pid` is this process.
    pub fn of(env: &dyn Fn(&str) -> Option<OsString>, pid: u32) -> Notifier {
        let Some(name) = env("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Notifier::default();
        };
        let socket = match connect(&name) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, "NOTIFY_SOCKET cannot be reached: nobody is told that this node is ready");
                return Notifier::default();
            }
        };
        let number = |name: &str| env(name).and_then(|text| text.to_str()?.parse::<u64>().ok());
        let ours = number("WATCHDOG_PID").is_none_or(|watched| watched == u64::from(pid));
        let within = number("WATCHDOG_USEC").filter(|within| ours && *within > 0);
        Notifier { socket: Some(socket), alive_within: within.map(Duration::from_micros) }
    }

    /// How often a sign of life is wanted at least, if at all.
    pub const fn alive_within(&self) -> Option<Duration> {
        self.alive_within
    }

    /// The node can be asked.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}"));
    }

    /// It still can.
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    /// It ends in order.
    pub fn stopping(&self, status: &str) {
        self.say(&format!("STOPPING=1\nSTATUS={status}"));
    }

    fn say(&self, words: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(words.as_bytes()) {
            tracing::debug!(%error, "the service manager did not take a word");
        }
    }
}

fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must not stop us.
    socket.set_nonblocking(true)?;
    match name.as_bytes().split_first() {
        #[cfg(target_os = "linux")]
        Some((b'@', name)) => {
            use std::os::linux::net::SocketAddrExt;
            socket.connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)?;
        }
        _ => socket.connect(name)?,
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let n = socket.recv(&mut bytes).expect("a word");
        String::from_utf8_lossy(&bytes[..n]).into_owned()
    }

    fn notifier(name: OsString, more: &[(&str, &str)]) -> Notifier {
        let env = |wanted: &str| match wanted {
            "NOTIFY_SOCKET" => Some(name.clone()),
            _ => more.iter().find(|(name, _)| *name == wanted).map(|(_, value)| (*value).into()),
        };
        Notifier::of(&env, 7)
    }

    #[test]
    fn words_reach_a_socket_with_a_path_and_an_abstract_one() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("a socket");
        let notifier =
            notifier(path.into_os_string(), &[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "7")]);
        notifier.ready("it runs");
        assert_eq!(heard(&manager), "READY=1\nSTATUS=it runs");
        assert_eq!(notifier.alive_within(), Some(Duration::from_secs(2)));
        notifier.alive();
        assert_eq!(heard(&manager), "WATCHDOG=1");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_abstract_socket_has_an_at_sign() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("chand-test-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
        let manager = UnixDatagram::bind_addr(&address).expect("a socket");
        let notifier = notifier(format!("@{name}").into(), &[("WATCHDOG_USEC", "5"), ("WATCHDOG_PID", "8")]);
        notifier.stopping("as asked");
        assert_eq!(heard(&manager), "STOPPING=1\nSTATUS=as asked");
        assert_eq!(notifier.alive_within(), None, "another process is watched");
    }

    #[test]
    fn without_anybody_nothing_is_said() {
        for name in ["", "/nowhere/at/all", "@"] {
            let notifier = notifier(name.into(), &[("WATCHDOG_USEC", "5")]);
            notifier.ready("it runs");
            assert_eq!(notifier.alive_within(), None, "{name}");
        }
    }
}
