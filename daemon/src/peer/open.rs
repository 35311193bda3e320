//! The noise handshake over a socket, from either side.
//!
//! In: a connected stream, our key, a source of ephemeral keys. Out: the peer's identity and its transport, or why not.
//! The caller bounds the time; dropping the future closes the socket.
//! Read next: `chand_protocol::noise::handshake`.

use chand_protocol::id::NodeId;
use chand_protocol::noise::{Initiator, NoiseError, Responder, Transport};
use chand_protocol::noise::{ACT_ONE_BYTES, ACT_THREE_BYTES, ACT_TWO_BYTES};
use secp256k1::SecretKey;
use std::io::{self, Read};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

/// Makes a fresh secret key for each handshake (BOLT 8, `generateKey`: strong randomness).
pub type EphemeralSource = fn() -> io::Result<SecretKey>;

/// Why no link came of a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("the connection was closed during the handshake")]
    Closed,
    #[error("{0}")]
    Io(io::Error),
    #[error("handshake: {0}")]
    Noise(#[from] NoiseError),
    #[error("no randomness from the operating system: {0}")]
    Entropy(io::Error),
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> OpenError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                OpenError::Closed
            }
            _ => OpenError::Io(error),
        }
    }
}

/// A key from the operating system's random number generator.
///
/// # Errors
/// When `/dev/urandom` cannot be read.
pub fn os_ephemeral() -> io::Result<SecretKey> {
    // BOLT 8 [8.noise.4].
    let mut source = std::fs::File::open("/dev/urandom")?;
    let mut bytes = Zeroizing::new([0u8; 32]);
    loop {
        source.read_exact(bytes.as_mut())?;
        // Refused are zero and what exceeds the curve's order: about one draw in 2^128.
        if let Ok(key) = SecretKey::from_slice(bytes.as_ref()) {
            return Ok(key);
        }
    }
}

/// Calls: acts one and three are ours.
pub(crate) async fn call<S>(
    stream: &mut S,
    node_key: SecretKey,
    ephemeral: EphemeralSource,
    peer: NodeId,
) -> Result<Transport, OpenError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ephemeral = ephemeral().map_err(OpenError::Entropy)?;
    let (initiator, one) = Initiator::new(node_key, peer.0, ephemeral);
    stream.write_all(&one).await?;
    let mut two = [0u8; ACT_TWO_BYTES];
    stream.read_exact(&mut two).await?;
    let (three, transport) = initiator.act_two(&two)?;
    stream.write_all(&three).await?;
    Ok(transport)
}

/// Answers: act two is ours. "The responder MUST terminate the connection without any further messages"
/// when an act fails (BOLT 8): the caller drops the stream.
pub(crate) async fn answer<S>(
    stream: &mut S,
    node_key: SecretKey,
    ephemeral: EphemeralSource,
) -> Result<(NodeId, Transport), OpenError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut one = [0u8; ACT_ONE_BYTES];
    stream.read_exact(&mut one).await?;
    let ephemeral = ephemeral().map_err(OpenError::Entropy)?;
    let (waiting, two) = Responder::new(node_key, ephemeral).act_one(&one)?;
    stream.write_all(&two).await?;
    let mut three = [0u8; ACT_THREE_BYTES];
    stream.read_exact(&mut three).await?;
    let (peer, transport) = waiting.act_three(&three)?;
    Ok((NodeId(peer), transport))
}
