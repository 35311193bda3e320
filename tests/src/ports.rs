//! Free TCP ports on localhost.
//!
//! In: nothing. Out: a port that nobody listens on.
//! They come from below the range from which the kernel takes ports for outgoing connections (32768 and up), so
//! that a port stays free while its node is down and is started again.
//! Read next: `node`.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 10_000;
const COUNT: u32 = 20_000;
/// Runs that happen at the same time begin this far apart.
const STRIDE: u32 = 97;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port on 127.0.0.1 that is free now and given to nobody else in this process.
///
/// # Panics
/// When none is free.
pub fn free() -> u16 {
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (std::process::id().wrapping_mul(STRIDE) % COUNT + step) % COUNT;
        let port = u16::try_from(port).expect("below 30,001");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}
