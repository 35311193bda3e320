//! Where a node listens: the address descriptors of a `node_announcement` (BOLT 7).
//!
//! In: the bytes of the field, which another node chose, or addresses of ours. Out: the addresses that can be called, or
//! the field. Descriptors stand in ascending order of type, so that the first unknown one ends what can be read.
//! Read next: `gossip`.

use crate::wire::codec::{Malformed, Reader, Writer};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

const IPV4: u8 = 1;
const IPV6: u8 = 2;
const TOR_V2: u8 = 3;
const TOR_V3: u8 = 4;
const DNS: u8 = 5;
/// A Tor v2 onion service, which nobody can call any more: 10 bytes and a port.
const TOR_V2_BYTES: usize = 12;
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// One place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// An IPv4 address and port.
    Ipv4(Ipv4Addr, u16),
    /// An IPv6 address and port.
    Ipv6(Ipv6Addr, u16),
    /// The 35 bytes that a Tor v3 onion name stands for, and a port.
    TorV3([u8; 35], u16),
    /// A host name in ASCII, and a port.
    Dns(String, u16),
}

/// What an `addresses` field says.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Addresses {
    /// Those that can be called, in order.
    pub known: Vec<Address>,
    /// There is more than one host name: the announcement is not to be passed on.
    pub many_names: bool,
}

impl Address {
    /// Its name in Core Lightning's JSON.
    pub const fn kind(&self) -> &'static str {
        match self {
            Address::Ipv4(..) => "ipv4",
            Address::Ipv6(..) => "ipv6",
            Address::TorV3(..) => "torv3",
            Address::Dns(..) => "dns",
        }
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        match self {
            Address::Ipv4(_, port)
            | Address::Ipv6(_, port)
            | Address::TorV3(_, port)
            | Address::Dns(_, port) => *port,
        }
    }

    /// The host, without the port.
    pub fn host(&self) -> String {
        match self {
            Address::Ipv4(ip, _) => alloc::format!("{ip}"),
            Address::Ipv6(ip, _) => alloc::format!("{ip}"),
            Address::TorV3(bytes, _) => onion_name(bytes),
            Address::Dns(name, _) => name.clone(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ipv6(ip, port) => write!(f, "[{ip}]:{port}"),
            other => write!(f, "{}:{}", other.host(), other.port()),
        }
    }
}

/// 35 bytes are 56 digits of base 32, exactly.
fn onion_name(bytes: &[u8; 35]) -> String {
    let mut name = String::with_capacity(62);
    for five in bytes.chunks_exact(5) {
        let group = five.iter().fold(0u64, |all, byte| all << 8 | u64::from(*byte));
        for at in (0..8).rev() {
            name.push(char::from(BASE32[(group >> (at * 5) & 31) as usize]));
        }
    }
    name.push_str(".onion");
    name
}

/// Reads an `addresses` field up to the first descriptor of an unknown type.
///
/// # Errors
/// [`Malformed::Truncated`] when it ends inside a descriptor of a known type.
pub fn read(field: &[u8]) -> Result<Addresses, Malformed> {
    let (mut r, mut found, mut names) = (Reader::new(field), Addresses::default(), 0u32);
    while r.left() > 0 {
        let address = match r.u8("addresses")? {
            IPV4 => Address::Ipv4(Ipv4Addr::from(r.array::<4>("ipv4_addr")?), r.u16("port")?),
            IPV6 => Address::Ipv6(Ipv6Addr::from(r.array::<16>("ipv6_addr")?), r.u16("port")?),
            TOR_V2 => {
                r.take(TOR_V2_BYTES, "onion_addr")?;
                continue;
            }
            TOR_V3 => Address::TorV3(r.array("onion_addr")?, r.u16("port")?),
            DNS => {
                let length = r.u8("hostname_len")?;
                let name = r.take(length.into(), "hostname")?;
                let port = r.u16("port")?;
                names += 1;
                match host_name(name) {
                    Some(name) if names == 1 => Address::Dns(name, port),
                    _ => continue,
                }
            }
            _ => break,
        };
        // A port of 0 cannot be called.
        if address.port() != 0 {
            found.known.push(address);
        }
    }
    found.many_names = names > 1;
    Ok(found)
}

/// Letters, digits, dots and dashes only: it is shown to people and given to the resolver.
fn host_name(bytes: &[u8]) -> Option<String> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    (!bytes.is_empty() && bytes.iter().all(plain)).then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// The field for these addresses, in ascending order; those without a port, and a second host name, are left out.
pub fn write(addresses: &[Address]) -> Vec<u8> {
    let mut sorted: Vec<&Address> = addresses.iter().filter(|a| a.port() != 0).collect();
    // BOLT 7 [7.node.5, 7.node.6, 7.node.8].
    sorted.sort();
    sorted.dedup_by(|a, b| a == b || matches!((a, b), (Address::Dns(..), Address::Dns(..))));
    let mut w = Writer::new();
    for address in sorted {
        match address {
            Address::Ipv4(ip, _) => {
                w.u8(IPV4);
                w.bytes(&ip.octets());
            }
            Address::Ipv6(ip, _) => {
                w.u8(IPV6);
                w.bytes(&ip.octets());
            }
            Address::TorV3(bytes, _) => {
                w.u8(TOR_V3);
                w.bytes(bytes);
            }
            Address::Dns(name, _) => {
                let Ok(length) = u8::try_from(name.len()) else { continue };
                w.u8(DNS);
                w.u8(length);
                w.bytes(name.as_bytes());
            }
        }
        w.u16(address.port());
    }
    w.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    #[test]
    fn what_is_written_is_read_and_shown() {
        // BOLT 7 [7.node.5, 7.node.6, 7.node.8].
        let v4 = Address::Ipv4(Ipv4Addr::new(203, 0, 113, 7), 9735);
        let v6 = Address::Ipv6(Ipv6Addr::LOCALHOST, 1);
        let tor = Address::TorV3([0xff; 35], 80);
        let dns = Address::Dns("alice.example".into(), 9);
        let other = Address::Dns("bob.example".into(), 9);
        let portless = Address::Ipv4(Ipv4Addr::LOCALHOST, 0);
        let field = write(&[dns.clone(), tor.clone(), other, v6.clone(), portless, v4.clone()]);
        let read = read(&field).unwrap();
        assert_eq!(read, Addresses { known: vec![v4, v6, tor, dns], many_names: false });
        let shown: Vec<String> = read.known.iter().map(ToString::to_string).collect();
        assert_eq!(shown[..2], ["203.0.113.7:9735", "[::1]:1"]);
        assert_eq!(shown[2], alloc::format!("{}.onion:80", "7".repeat(56)));
        assert_eq!(shown[3], "alice.example:9");
    }

    #[test]
    fn unknown_types_end_it_old_ones_are_skipped_and_bad_ones_left_out() {
        let v4 = |last: u8, port: u16| [&[1, 10, 0, 0, last], &port.to_be_bytes()[..]].concat();
        let name = |text: &[u8]| [&[5, text.len() as u8], text, &[0, 9]].concat();
        let tor2 = [&[3][..], &[9; 12]].concat();
        let ports = |field: &[u8]| read(field).map(|a| a.known.iter().map(Address::port).collect::<Vec<_>>());
        assert_eq!(ports(&[v4(1, 7), v4(2, 0), tor2.clone(), v4(3, 8)].concat()), Ok(vec![7, 8]));
        assert_eq!(ports(&[v4(1, 7), vec![77, 1, 2, 3], v4(3, 8)].concat()), Ok(vec![7]));
        assert_eq!(ports(&[0]), Ok(vec![]));
        assert!(!read(&name(b"a")).unwrap().many_names);
        assert!(read(&[name(b"a"), name(b"b")].concat()).unwrap().many_names);
        assert_eq!(read(&name(b"a\x1b[2J")).unwrap().known, []);
        for field in
            [v4(1, 7), tor2, name(b"alice"), [&[4][..], &[1; 37]].concat(), [&[2][..], &[1; 18]].concat()]
        {
            assert!(read(&field).is_ok());
            for cut in 1..field.len() {
                assert!(matches!(read(&field[..cut]), Err(Malformed::Truncated(_))));
            }
        }
    }
}
