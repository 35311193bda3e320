//! Somebody who speaks the transport of BOLT 8 well and says whatever it likes over it.
//!
//! In: a node's port and id; messages or frames as bytes. Out: what the node answers, until it hangs up.
//! Read next: `tests/process/stranger.rs`.

use crate::node::Node;
use crate::wait::PATIENCE;
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use chand_protocol::noise::{Initiator, Opener, Sealer, ACT_TWO_BYTES, BODY_TAG_BYTES, LENGTH_BYTES};
use chand_protocol::wire::features::Features;
use chand_protocol::wire::message::{Init, Ping};
use chand_protocol::wire::Message;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// What a node asks of gossip comes when it likes, and a stranger has none to give.
const GOSSIP_QUESTIONS: std::ops::RangeInclusive<u16> = 261..=265;

/// One connection, its handshake done.
#[derive(Debug)]
pub struct Stranger {
    stream: TcpStream,
    sealer: Sealer,
    opener: Opener,
}

impl Stranger {
    /// Dials a node with a key of its own, made of `number`.
    ///
    /// # Panics
    /// When the handshake fails.
    pub fn dial(node: &Node, number: u8) -> Stranger {
        Stranger::dial_at(node.port(), node.id(), number)
    }

    /// The same with any node of this machine.
    ///
    /// # Panics
    /// When the handshake fails.
    pub fn dial_at(port: u16, id: &str, number: u8) -> Stranger {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
        let key = |salt: u8| SecretKey::from_slice(&[salt | 1; 32].map(|b| b ^ number)).expect("a key");
        let remote: PublicKey = id.parse().expect("a node id");
        let (initiator, one) = Initiator::new(key(0x30), remote, key(0x50));
        stream.write_all(&one).expect("act one");
        let mut two = [0; ACT_TWO_BYTES];
        stream.read_exact(&mut two).expect("act two");
        let (three, transport) = initiator.act_two(&two).expect("the node's act two");
        stream.write_all(&three).expect("act three");
        let (sealer, opener) = transport.split();
        Stranger { stream, sealer, opener }
    }

    /// The same, with `init` exchanged.
    ///
    /// # Panics
    /// When that fails.
    pub fn greet(node: &Node, number: u8) -> Stranger {
        Stranger::greet_as(node, number, Features::ours_init(false))
    }

    /// The same, with these features.
    ///
    /// # Panics
    /// When that fails.
    pub fn greet_as(node: &Node, number: u8, features: Features) -> Stranger {
        Stranger::dial(node, number).greeted(features)
    }

    /// Exchanges `init`.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn greeted(mut self, features: Features) -> Stranger {
        let init = Message::Init(Init { features, networks: None });
        self.say(&init.encode().expect("init")).expect("init sent");
        let theirs = self.hear().expect("their init");
        assert!(matches!(Message::decode(&theirs), Ok(Message::Init(_))), "{theirs:?}");
        self
    }

    /// The id under which a node knows it.
    pub fn id(number: u8) -> PublicKey {
        let key = SecretKey::from_slice(&[0x31 ^ number; 32]).expect("a key");
        key.public_key(&Secp256k1::signing_only())
    }

    /// The frame of a message, not yet sent; each is good once, in this order.
    ///
    /// # Panics
    /// When the message is too long.
    pub fn seal(&mut self, message: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        self.sealer.seal(message, &mut frame).expect("a message that fits");
        frame
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the node has hung up.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a message.
    ///
    /// # Errors
    /// When the node has hung up.
    pub fn say(&mut self, message: &[u8]) -> io::Result<()> {
        let frame = self.seal(message);
        self.write(&frame)
    }

    /// The node's next message.
    ///
    /// # Errors
    /// When the node has hung up, or says nothing.
    ///
    /// # Panics
    /// When a frame of the node's does not open.
    pub fn hear(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let bytes = self.hear_anything()?;
            if !bytes.first_chunk().is_some_and(|kind| GOSSIP_QUESTIONS.contains(&u16::from_be_bytes(*kind)))
            {
                return Ok(bytes);
            }
        }
    }

    /// The node's next message, gossip too; `None` when it says nothing for so long.
    ///
    /// # Errors
    /// When the node has hung up.
    ///
    /// # Panics
    /// As [`Stranger::hear`].
    pub fn hear_within(&mut self, time: Duration) -> io::Result<Option<Vec<u8>>> {
        self.stream.set_read_timeout(Some(time))?;
        // Only looked at: half a frame stays where it is.
        let waits = match self.stream.peek(&mut [0; LENGTH_BYTES]) {
            Ok(LENGTH_BYTES) => true,
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => false,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => false,
            Err(e) => return Err(e),
        };
        self.stream.set_read_timeout(Some(PATIENCE))?;
        if waits {
            return self.hear_anything().map(Some);
        }
        Ok(None)
    }

    fn hear_anything(&mut self) -> io::Result<Vec<u8>> {
        let mut head = [0; LENGTH_BYTES];
        self.stream.read_exact(&mut head)?;
        let length = self.opener.open_length(&head).expect("the node's frame");
        let mut body = vec![0; length + BODY_TAG_BYTES];
        self.stream.read_exact(&mut body)?;
        Ok(self.opener.open_body(&mut body).expect("the node's frame").to_vec())
    }

    /// Asks for a pong and waits for it, whatever else is said before; the other messages, without gossip.
    ///
    /// # Errors
    /// When the node hung up instead.
    pub fn ping(&mut self, pong_bytes: u16) -> io::Result<Vec<Message>> {
        let ping = Message::Ping(Ping { num_pong_bytes: pong_bytes, byteslen: 3 });
        self.say(&ping.encode().map_err(io::Error::other)?)?;
        let mut others = Vec::new();
        loop {
            match Message::decode(&self.hear()?).map_err(io::Error::other)? {
                Message::Pong(pong) if pong.byteslen == pong_bytes => return Ok(others),
                // The node asks, too, when it has heard nothing for long.
                Message::Ping(_) => {}
                // What it wants to hear of the network.
                message if message.is_gossip() => {}
                other => others.push(other),
            }
        }
    }

    /// Everything the node says until it hangs up.
    ///
    /// # Panics
    /// When it does not hang up.
    pub fn until_the_end(&mut self) -> Vec<Message> {
        let mut said = Vec::new();
        loop {
            match self.hear() {
                Ok(bytes) => said.push(Message::decode(&bytes).expect("a message of the node's")),
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    panic!("it did not hang up, and said {said:?}")
                }
                Err(_) => return said,
            }
        }
    }
}
