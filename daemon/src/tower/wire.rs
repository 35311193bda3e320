//! Tower messages over a socket: the transport of BOLT 8, one question and one answer at a time.
//!
//! In: a connected stream, keys. Out: messages said and heard; unknown odd ones are skipped.
//! Read next: `chand_protocol::tower::message`.

use crate::peer::frames::Frames;
use crate::peer::open::{answer, call};
use crate::peer::os_ephemeral;
use chand_protocol::id::NodeId;
use chand_protocol::noise::{Sealer, Transport};
use chand_protocol::tower::message::TowerMessage;
use secp256k1::SecretKey;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long connecting and the handshake may take, each.
const GREETING: Duration = Duration::from_secs(10);
/// How long a message may take to be written.
const WRITING: Duration = Duration::from_secs(60);

/// One connection, its handshake done.
pub(super) struct Wire {
    stream: TcpStream,
    sealer: Sealer,
    frames: Frames,
}

fn late(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} took too long"))
}

fn wrong(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

impl Wire {
    fn new(stream: TcpStream, transport: Transport) -> Wire {
        let (sealer, opener) = transport.split();
        Wire { stream, sealer, frames: Frames::new(opener) }
    }

    /// Calls the tower `id` at `address`.
    ///
    /// # Errors
    /// When it is not there, or has another key.
    pub async fn call(key: SecretKey, id: NodeId, address: &str) -> io::Result<Wire> {
        let connecting = timeout(GREETING, TcpStream::connect(address));
        let mut stream = connecting.await.map_err(|_| late("connecting"))??;
        stream.set_nodelay(true)?;
        let transport = timeout(GREETING, call(&mut stream, key, os_ephemeral, id)).await;
        let transport = transport.map_err(|_| late("the handshake"))?.map_err(wrong)?;
        Ok(Wire::new(stream, transport))
    }

    /// Waits, with no question open, until the other end is gone; it says nothing unasked.
    pub async fn ended(&self) -> io::Error {
        match self.stream.peek(&mut [0]).await {
            Ok(0) => io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up"),
            Ok(_) => wrong("it speaks unasked"),
            Err(error) => error,
        }
    }

    /// Answers whoever called.
    ///
    /// # Errors
    /// When the handshake fails.
    pub async fn answer(key: SecretKey, mut stream: TcpStream) -> io::Result<(NodeId, Wire)> {
        stream.set_nodelay(true)?;
        let handshake = timeout(GREETING, answer(&mut stream, key, os_ephemeral)).await;
        let (id, transport) = handshake.map_err(|_| late("the handshake"))?.map_err(wrong)?;
        Ok((id, Wire::new(stream, transport)))
    }

    /// Says one message.
    ///
    /// # Errors
    /// When the other side is gone, or does not read.
    pub async fn say(&mut self, message: &TowerMessage) -> io::Result<()> {
        let bytes = message.encode().ok_or_else(|| wrong("a message of our own is too long"))?;
        let mut frame = Vec::new();
        self.sealer.seal(&bytes, &mut frame).map_err(wrong)?;
        timeout(WRITING, self.stream.write_all(&frame)).await.map_err(|_| late("writing"))?
    }

    /// The next message, within `limit`.
    ///
    /// # Errors
    /// When the other side is gone, silent, or says what cannot be understood.
    pub async fn hear(&mut self, limit: Duration) -> io::Result<TowerMessage> {
        timeout(limit, self.next()).await.map_err(|_| late("an answer"))?
    }

    async fn next(&mut self) -> io::Result<TowerMessage> {
        loop {
            while let Some(bytes) = self.frames.next_message().map_err(wrong)? {
                if let Some(message) = TowerMessage::decode(bytes).map_err(wrong)? {
                    return Ok(message);
                }
            }
            let read = self.stream.read_buf(self.frames.room()).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.frames.appended(read);
        }
    }
}
