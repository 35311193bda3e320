//! Links: calls, messages under way, cuts, silence, ends.
//!
//! In: what releases send, calls, hang-ups. Out: events for the cores, each side at its own time. A link carries whole
//! messages, or (with noise) bytes in chunks; a cut lets through as much of either direction as it was told, down to
//! the byte. The two ends of a link learn of its end one after the other, and in silence neither learns anything.
//! Read next: `wire`, `cheats`.

use super::judge::Verdict;
use super::plan::SECOND;
use super::rng::Rng;
use super::seat::Event;
use super::wire::{Came, NoiseEnd};
use super::world::{Happening, World};
use chand_protocol::entropy::Entropy;
use chand_protocol::id::LinkId;
use chand_protocol::node::effect::Input;
use chand_protocol::wire::Message;
use std::collections::{BTreeMap, VecDeque};

/// How long one call may take.
const DIAL_US: u64 = 10 * SECOND;
/// How long a node has for a last word after a message that does not decode.
const LAST_WORD_US: u64 = SECOND;

/// What is under way.
#[derive(Debug)]
enum Cargo {
    /// The callee learns of the link.
    Up,
    /// One message.
    Message(Vec<u8>),
    /// A piece of the stream.
    Bytes(Vec<u8>),
    /// The other side closed, or the link broke.
    End(String),
}

/// One direction of a link.
#[derive(Debug, Default)]
struct Direction {
    under_way: VecDeque<(u64, Cargo)>,
    last_at: u64,
}

/// One connection.
struct Conn {
    caller: usize,
    /// By seat: its end is open.
    open: [bool; 2],
    /// By seat: its core was told.
    up: [bool; 2],
    /// By seat: nothing more is read.
    deaf: [bool; 2],
    /// By seat: it said `init`.
    greeted: [bool; 2],
    /// By sender.
    dirs: [Direction; 2],
    /// By seat.
    wire: Option<[NoiseEnd; 2]>,
    /// Nothing goes through, and nobody is told.
    silent: bool,
    /// Broken: what is sent from here on is lost.
    cut: bool,
}

/// All connections there are.
#[derive(Default)]
pub struct Net {
    conns: BTreeMap<u64, Conn>,
    made: u64,
}

/// Where a seat can be called.
pub fn address(seat: usize) -> String {
    format!("127.0.0.1:{}", 9735 + seat)
}

fn link_of(conn: u64, seat: usize) -> LinkId {
    LinkId(conn * 2 + seat as u64)
}

impl Net {
    fn of(&mut self, seat: usize, link: LinkId) -> Option<(u64, &mut Conn)> {
        let number = link.0 / 2;
        let conn = self.conns.get_mut(&number).filter(|_| link.0 % 2 == seat as u64)?;
        conn.open[seat].then_some((number, conn))
    }

    /// The newest connection that is whole.
    fn newest(&self) -> Option<u64> {
        let whole = |c: &Conn| c.open == [true, true] && !c.cut && !c.silent;
        self.conns.iter().rev().find(|(_, c)| whole(c)).map(|(number, _)| *number)
    }

    /// The link of a seat that stands longest, silent or not.
    pub(super) fn oldest(&self, seat: usize) -> Option<u64> {
        self.conns.iter().find(|(_, c)| c.open[seat] && c.up[seat]).map(|(number, _)| *number)
    }

    /// Nothing is under way on any link that could still arrive.
    pub fn is_quiet(&self) -> bool {
        self.conns.values().all(|c| c.silent || c.dirs.iter().all(|d| d.under_way.is_empty()))
    }

    /// One link, whole and up on both sides.
    pub fn is_linked(&self) -> bool {
        let whole = |c: &&Conn| c.open == [true, true] && c.up == [true, true] && !c.cut && !c.silent;
        self.conns.values().filter(whole).count() == 1
    }

    fn forget_closed(&mut self) {
        self.conns.retain(|_, c| c.open != [false, false]);
    }
}

/// A stream in pieces of random length.
fn pieces(bytes: Vec<u8>, rng: &mut Rng) -> Vec<Vec<u8>> {
    if rng.chance(60) {
        return vec![bytes];
    }
    let (mut out, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() && out.len() < 6 {
        let length = rng.spread(1, rest.len() as u64) as usize;
        let tail = rest.split_off(length.min(rest.len()));
        out.push(std::mem::replace(&mut rest, tail));
    }
    if !rest.is_empty() {
        out.push(rest);
    }
    out
}

impl World {
    /// A core calls its peer.
    pub(super) fn dial(&mut self, seat: usize) {
        let (low, high) = self.knobs.delay_us[seat];
        let at = self.now + self.rng.between(low, high);
        let lives = self.seats[seat].lives;
        self.heap.push(at, Happening::Dialled { seat, life: lives });
    }

    /// The call reaches the other side, or nobody.
    pub(super) fn on_dialled(&mut self, seat: usize) {
        let other = 1 - seat;
        if self.seats[other].life.is_none() || self.feud.cheat.is_some() {
            return self.dial_failed(seat, "connection refused");
        }
        self.net.made += 1;
        let number = self.net.made;
        let mut entropy = Entropy::new([self.rng.below(256) as u8; 32]);
        let (wire, first) = if self.knobs.noise {
            let own = *self.seats[seat].keys.node_secret();
            let (end, act) = NoiseEnd::calling(own, self.seats[other].id.0, entropy.secret_key());
            let called = NoiseEnd::called(*self.seats[other].keys.node_secret(), entropy.secret_key());
            (Some(if seat == 0 { [end, called] } else { [called, end] }), Cargo::Bytes(act))
        } else {
            (None, Cargo::Up)
        };
        let conn = Conn {
            caller: seat,
            open: [true; 2],
            up: [false; 2],
            deaf: [false; 2],
            greeted: [false; 2],
            dirs: Default::default(),
            wire,
            silent: false,
            cut: false,
        };
        let plain = conn.wire.is_none();
        self.net.conns.insert(number, conn);
        self.load(number, seat, first);
        self.heap.push(self.now + DIAL_US, Happening::DialTimeout { conn: number });
        if plain {
            self.is_up(number, seat);
        }
    }

    fn dial_failed(&mut self, seat: usize, reason: &str) {
        let input = Input::DialFailed { peer: self.seats[1 - seat].id, reason: reason.into() };
        self.give(seat, Event::Input(Box::new(input)));
    }

    pub(super) fn on_dial_timeout(&mut self, number: u64) {
        let Some(conn) = self.net.conns.get_mut(&number) else { return };
        let caller = conn.caller;
        if conn.open[caller] && !conn.up[caller] {
            conn.open[caller] = false;
            self.load(number, caller, Cargo::End("the caller gave up".into()));
            self.dial_failed(caller, "nobody answered in time");
        }
    }

    fn is_up(&mut self, number: u64, seat: usize) {
        let Some(conn) = self.net.conns.get_mut(&number) else { return };
        conn.up[seat] = true;
        let inbound = conn.caller != seat;
        self.give(seat, Event::Up { link: link_of(number, seat), inbound });
    }

    /// Puts something on its way.
    fn load(&mut self, number: u64, from: usize, cargo: Cargo) {
        let (low, high) = self.knobs.delay_us[from];
        let Some(conn) = self.net.conns.get_mut(&number) else { return };
        if conn.cut || conn.silent {
            return;
        }
        let at = (self.now + self.seats[from].rng.between(low, high)).max(conn.dirs[from].last_at);
        conn.dirs[from].last_at = at;
        conn.dirs[from].under_way.push_back((at, cargo));
        self.heap.push(at, Happening::Arrive { conn: number, from });
    }

    /// A message leaves a node; a liar's may be changed on the way out.
    pub(super) fn send(&mut self, seat: usize, link: LinkId, message: Message) -> Result<(), Verdict> {
        let name = message.name();
        let bytes =
            message.encode().map_err(|e| Verdict::new("safety", format!("{name} does not encode: {e}")))?;
        if self.counts.messages.is_multiple_of(16) && Message::decode(&bytes).as_ref() != Ok(&message) {
            return Err(Verdict::new("safety", format!("{name} is not what its bytes say")));
        }
        if self.net.of(seat, link).is_none() {
            return Ok(());
        }
        for bytes in self.tampered(seat, message, bytes) {
            self.send_bytes(seat, link, bytes);
        }
        Ok(())
    }

    /// The bytes of one message leave, whatever they are.
    pub(super) fn send_bytes(&mut self, seat: usize, link: LinkId, bytes: Vec<u8>) {
        self.counts.messages += 1;
        let kind = bytes.first_chunk::<2>().map_or(0, |k| u16::from_be_bytes(*k));
        self.trace.note(self.now, &bytes, || {
            let name = Message::decode(&bytes).map_or("?", |m| m.name());
            let about = Message::decode(&bytes).map(|m| super::judge::brief(&m)).unwrap_or_default();
            format!("{seat} -> {name} ({kind}, {} bytes) {about}", bytes.len())
        });
        let Some((number, conn)) = self.net.of(seat, link) else { return };
        conn.greeted[seat] |= kind == 16;
        match &mut conn.wire {
            None => self.load(number, seat, Cargo::Message(bytes)),
            Some(ends) => {
                let Some(sealed) = ends[seat].seal(&bytes) else { return };
                for piece in pieces(sealed, &mut self.seats[seat].rng) {
                    self.load(number, seat, Cargo::Bytes(piece));
                }
            }
        }
    }

    /// The link over which a seat could say anything now.
    pub(super) fn greeted_link(&self, seat: usize) -> Option<LinkId> {
        let number = self.net.newest()?;
        self.net.conns.get(&number).filter(|c| c.greeted[seat]).map(|_| link_of(number, seat))
    }

    /// What was under way arrives.
    pub(super) fn on_arrive(&mut self, number: u64, from: usize) {
        let to = 1 - from;
        loop {
            let now = self.now;
            let Some(conn) = self.net.conns.get_mut(&number).filter(|c| !c.silent) else { return };
            let due = conn.dirs[from].under_way.front().is_some_and(|(at, _)| *at <= now);
            let Some((_, cargo)) = due.then(|| conn.dirs[from].under_way.pop_front()).flatten() else {
                return;
            };
            if conn.open[to] {
                self.unload(number, to, cargo);
            } else if conn.open[from] && self.seats[to].life.is_some() && !matches!(cargo, Cargo::End(_)) {
                // Nobody there knows of this connection.
                self.load(number, to, Cargo::End("connection reset".into()));
            }
            self.net.forget_closed();
        }
    }

    fn unload(&mut self, number: u64, to: usize, cargo: Cargo) {
        match cargo {
            Cargo::Up => self.is_up(number, to),
            Cargo::Message(bytes) => self.arrived(number, to, &bytes),
            Cargo::End(reason) => self.ended(number, to, &reason),
            Cargo::Bytes(bytes) => {
                let Some(conn) = self.net.conns.get_mut(&number) else { return };
                let Some(ends) = conn.wire.as_mut() else { return };
                for came in ends[to].feed(&bytes) {
                    match came {
                        Came::Answer(act) => self.load(number, to, Cargo::Bytes(act)),
                        Came::Up => self.is_up(number, to),
                        Came::Message(message) => self.arrived(number, to, &message),
                        Came::Broken(reason) => {
                            self.load(number, to, Cargo::End("the other end hung up".into()));
                            self.ended(number, to, &reason);
                        }
                    }
                }
            }
        }
    }

    fn arrived(&mut self, number: u64, to: usize, bytes: &[u8]) {
        let Some(conn) = self.net.conns.get_mut(&number).filter(|c| !c.deaf[to]) else { return };
        let (peer, link) = (self.seats[1 - to].id, link_of(number, to));
        self.counts.delivered += 1;
        let input = match Message::decode(bytes) {
            Ok(message) => Input::Message { peer, link, message },
            Err(error) => {
                conn.deaf[to] = true;
                let at = self.now + LAST_WORD_US;
                self.heap.push(at, Happening::Close { conn: number, seat: to });
                Input::BadMessage { peer, link, reason: error.to_string() }
            }
        };
        self.lie_arrives(to, link, bytes);
        self.give(to, Event::Frame { link, input: Box::new(input) });
    }

    /// A seat's end is closed from outside.
    fn ended(&mut self, number: u64, seat: usize, reason: &str) {
        let Some(conn) = self.net.conns.get_mut(&number).filter(|c| c.open[seat]) else { return };
        conn.open[seat] = false;
        if conn.up[seat] {
            self.give(seat, Event::Down { link: link_of(number, seat), reason: reason.into() });
        } else if conn.caller == seat {
            self.dial_failed(seat, reason);
        }
    }

    /// A seat closes its end; what it sent before still arrives.
    pub(super) fn hang_up(&mut self, seat: usize, link: LinkId, reason: &str) {
        let Some((number, _)) = self.net.of(seat, link) else { return };
        self.load(number, seat, Cargo::End("the peer closed the connection".into()));
        self.ended(number, seat, reason);
    }

    pub(super) fn on_close(&mut self, number: u64, seat: usize) {
        self.hang_up(seat, link_of(number, seat), "the peer sent a message that does not decode");
    }

    /// A seat closes every link its core knows of.
    pub(super) fn hang_up_all(&mut self, seat: usize, reason: &str) {
        let known: Vec<LinkId> =
            self.seats[seat].life.as_ref().map(|l| l.known.iter().copied().collect()).unwrap_or_default();
        for link in known {
            self.hang_up(seat, link, reason);
        }
    }

    /// A seat is gone; its peer sees the ends of all links, or with `silent` nothing.
    pub(super) fn drop_links(&mut self, seat: usize, silent: bool) {
        let numbers: Vec<u64> = self.net.conns.keys().copied().collect();
        for number in numbers {
            let Some(conn) = self.net.conns.get_mut(&number).filter(|c| c.open[seat]) else { continue };
            if !silent {
                self.load(number, seat, Cargo::End("connection reset".into()));
            } else if !conn.up[1 - seat] {
                conn.cut = true;
            }
            if let Some(conn) = self.net.conns.get_mut(&number) {
                conn.open[seat] = false;
            }
        }
        self.net.forget_closed();
    }

    /// Breaks the newest link: of what is under way from each side, so many percent arrive.
    pub(super) fn cut(&mut self, keep: [u8; 2]) {
        let Some(number) = self.net.newest() else { return };
        self.counts.cuts += 1;
        self.tally.met("cut");
        self.trace.note(self.now, &[5, keep[0], keep[1]], || format!("the link is cut, keeping {keep:?} %"));
        for (from, percent) in keep.into_iter().enumerate() {
            let Some(conn) = self.net.conns.get_mut(&number) else { return };
            trim(&mut conn.dirs[from].under_way, u64::from(percent));
            self.load(number, from, Cargo::End("the link was cut".into()));
        }
        if let Some(conn) = self.net.conns.get_mut(&number) {
            conn.cut = true;
        }
    }

    /// From now on nothing goes through the newest link, and nobody is told.
    pub(super) fn silence(&mut self) {
        let Some(conn) = self.net.newest().and_then(|n| self.net.conns.get_mut(&n)) else { return };
        conn.silent = true;
        self.counts.cuts += 1;
        self.tally.met("silence");
        self.trace.note(self.now, &[6], || "the link goes silent".into());
    }

    /// Ends every link that is silent.
    pub(super) fn end_silence(&mut self) {
        let silent: Vec<u64> = self.net.conns.iter().filter(|(_, c)| c.silent).map(|(n, _)| *n).collect();
        for number in silent {
            for seat in 0..2 {
                self.ended(number, seat, "the link was dead");
            }
        }
        self.net.forget_closed();
    }
}

/// Keeps so many percent of the bytes, from the front; of whole messages only whole ones.
fn trim(under_way: &mut VecDeque<(u64, Cargo)>, percent: u64) {
    let size = |cargo: &Cargo| match cargo {
        Cargo::Message(bytes) | Cargo::Bytes(bytes) => bytes.len() as u64,
        Cargo::Up | Cargo::End(_) => 0,
    };
    let mut left = under_way.iter().map(|(_, cargo)| size(cargo)).sum::<u64>() * percent / 100;
    let mut kept = VecDeque::new();
    for (at, cargo) in under_way.drain(..) {
        let length = size(&cargo);
        if length <= left {
            left -= length;
            kept.push_back((at, cargo));
            continue;
        }
        if let Cargo::Bytes(mut bytes) = cargo {
            bytes.truncate(left as usize);
            kept.push_back((at, Cargo::Bytes(bytes)));
        }
        break;
    }
    *under_way = kept;
}
