//! A door between a node and its chain that can be shut.
//!
//! In: the port of a server on this machine. Out: another port that leads there while the door is open; when it is
//! shut, connections break and new ones are refused at once, as by a server that is away.
//! Read next: `chain`.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// A door. Its thread ends with the program.
#[derive(Debug)]
pub struct Gate {
    port: u16,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    shut: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

impl Gate {
    /// An open door to `port` on this machine.
    ///
    /// # Panics
    /// When no port is to be had.
    pub fn open_to(port: u16) -> Gate {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let own = listener.local_addr().expect("its number").port();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Whoever is refused here sees the connection end before any answer.
                if !shared.shut.load(Ordering::SeqCst) {
                    shared.pass(stream, port);
                }
            }
        });
        Gate { port: own, state }
    }

    /// The port in front of it.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Nothing passes any more.
    pub fn shut(&self) {
        self.state.shut.store(true, Ordering::SeqCst);
        for stream in self.state.streams().drain(..) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// All passes again.
    pub fn open(&self) {
        self.state.shut.store(false, Ordering::SeqCst);
    }
}

impl State {
    fn streams(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self, outside: TcpStream, port: u16) {
        let Ok(inside) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return };
        let clone = |stream: &TcpStream| stream.try_clone().expect("a handle");
        self.streams().extend([clone(&outside), clone(&inside)]);
        for (from, to) in [(clone(&outside), clone(&inside)), (inside, outside)] {
            thread::spawn(move || copy(from, to));
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 16_384];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    // Either end may be gone already.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
