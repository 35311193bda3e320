//! Messages and their encoding (BOLT 1, 2, 7, 9).
//!
//! In: the bytes of one decrypted message, or a [`Message`]. Out: the other of the two, or an error that names
//! what is wrong. A decoded message is well formed; whether it makes sense is for `node` and `channel` to say.
//! Read next: `message` (the fields), `layout` (their order), `codec` (their encoding), `features` (BOLT 9).

pub mod address;
pub mod codec;
pub mod features;
pub mod field;
pub mod gossip;
mod layout;
pub mod message;
#[cfg(test)]
mod tests;

use crate::id::ChannelId;
use alloc::vec::Vec;
use codec::{Malformed, Reader, Writer, MAX_MESSAGE_BYTES};
use gossip::{
    AnnouncementSignatures, ChannelAnnouncement, ChannelUpdate, GossipTimestampFilter, NodeAnnouncement,
    QueryChannelRange, QueryShortChannelIds, ReplyChannelRange, ReplyShortChannelIdsEnd,
};
use layout::Payload;
use message::{
    AcceptChannel, ChannelReady, ChannelReestablish, ClosingComplete, ClosingSigned, CommitmentSigned,
    ErrorMessage, FundingCreated, FundingSigned, Init, OpenChannel, PeerStorage, Ping, Pong, RevokeAndAck,
    Shutdown, UpdateAddHtlc, UpdateFailHtlc, UpdateFailMalformedHtlc, UpdateFee, UpdateFulfillHtlc,
};

/// Why bytes are no message. "MUST close the connection. MAY fail the channels." (BOLT 1, "Lightning Message Format").
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not even a type.
    #[error("a message of {0} bytes has no type")]
    NoType(usize),
    /// Longer than the transport carries.
    #[error("a message of {0} bytes is too long")]
    TooLong(usize),
    /// A message that must be understood, and is not.
    #[error("unknown even message type {kind}")]
    UnknownEven {
        /// Its type.
        kind: u16,
    },
    /// A known message that does not keep to its format.
    #[error("{message}: {fault}")]
    Malformed {
        /// Its name in the BOLTs.
        message: &'static str,
        /// What is wrong, and in which field.
        fault: Malformed,
    },
}

/// Why a message of our own cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Some bytes, or a list, in it are longer than a message can be.
    #[error("{message} does not fit {MAX_MESSAGE_BYTES} bytes")]
    TooLong {
        /// Its name in the BOLTs.
        message: &'static str,
    },
    /// [`Message::Unknown`] keeps no content to send.
    #[error("a message of unknown type {kind} cannot be sent")]
    Unknown {
        /// Its type.
        kind: u16,
    },
}

macro_rules! messages {
    ($($kind:literal $variant:ident($payload:ident) $name:literal $channel:tt)*) => {
        /// Any message of BOLT 1, 2 and 7 that chand speaks.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Message {
            $(
                #[doc = concat!("`", $name, "`, type ", stringify!($kind), ".")]
                $variant($payload),
            )*
            /// A message to be ignored: of an unknown odd type.
            Unknown {
                /// Its type.
                kind: u16,
            },
        }

        impl Message {
            /// The message's type on the wire.
            pub const fn kind(&self) -> u16 {
                match self {
                    $(Message::$variant(_) => $kind,)*
                    Message::Unknown { kind } => *kind,
                }
            }

            /// The message's name in the BOLTs.
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Message::$variant(_) => $name,)*
                    Message::Unknown { .. } => "unknown",
                }
            }

            /// The channel it is about: the temporary id until there is another; all zero in an `error` or
            /// `warning` about every channel; `None` when it is about the connection.
            pub const fn channel_id(&self) -> Option<ChannelId> {
                match self {
                    $(Message::$variant(_m) => messages!(@channel _m $channel),)*
                    Message::Unknown { .. } => None,
                }
            }

            fn read(kind: u16, r: &mut Reader<'_>) -> Result<Message, DecodeError> {
                match kind {
                    $($kind => $payload::read(r)
                        .map(Message::$variant)
                        .map_err(|fault| DecodeError::Malformed { message: $name, fault }),)*
                    // BOLT 1 [1.format.4].
                    _ if kind % 2 == 1 => Ok(Message::Unknown { kind }),
                    // "upon receiving a message of even, unknown type: MUST close the connection."
                    // BOLT 1 [1.format.5].
                    _ => Err(DecodeError::UnknownEven { kind }),
                }
            }

            fn write(&self, w: &mut Writer) {
                match self {
                    $(Message::$variant(m) => m.write(w),)*
                    Message::Unknown { .. } => {}
                }
            }
        }
    };
    (@channel $message:ident -) => { None };
    (@channel $message:ident $field:ident) => { Some($message.$field) };
}

messages! {
    1 Warning(ErrorMessage) "warning" channel_id
    7 PeerStorage(PeerStorage) "peer_storage" -
    9 PeerStorageRetrieval(PeerStorage) "peer_storage_retrieval" -
    16 Init(Init) "init" -
    17 Error(ErrorMessage) "error" channel_id
    18 Ping(Ping) "ping" -
    19 Pong(Pong) "pong" -
    32 OpenChannel(OpenChannel) "open_channel" temporary_channel_id
    33 AcceptChannel(AcceptChannel) "accept_channel" temporary_channel_id
    34 FundingCreated(FundingCreated) "funding_created" temporary_channel_id
    35 FundingSigned(FundingSigned) "funding_signed" channel_id
    36 ChannelReady(ChannelReady) "channel_ready" channel_id
    38 Shutdown(Shutdown) "shutdown" channel_id
    39 ClosingSigned(ClosingSigned) "closing_signed" channel_id
    40 ClosingComplete(ClosingComplete) "closing_complete" channel_id
    41 ClosingSig(ClosingComplete) "closing_sig" channel_id
    128 UpdateAddHtlc(UpdateAddHtlc) "update_add_htlc" channel_id
    130 UpdateFulfillHtlc(UpdateFulfillHtlc) "update_fulfill_htlc" channel_id
    131 UpdateFailHtlc(UpdateFailHtlc) "update_fail_htlc" channel_id
    132 CommitmentSigned(CommitmentSigned) "commitment_signed" channel_id
    133 RevokeAndAck(RevokeAndAck) "revoke_and_ack" channel_id
    134 UpdateFee(UpdateFee) "update_fee" channel_id
    135 UpdateFailMalformedHtlc(UpdateFailMalformedHtlc) "update_fail_malformed_htlc" channel_id
    136 ChannelReestablish(ChannelReestablish) "channel_reestablish" channel_id
    256 ChannelAnnouncement(ChannelAnnouncement) "channel_announcement" -
    257 NodeAnnouncement(NodeAnnouncement) "node_announcement" -
    258 ChannelUpdate(ChannelUpdate) "channel_update" -
    259 AnnouncementSignatures(AnnouncementSignatures) "announcement_signatures" channel_id
    261 QueryShortChannelIds(QueryShortChannelIds) "query_short_channel_ids" -
    262 ReplyShortChannelIdsEnd(ReplyShortChannelIdsEnd) "reply_short_channel_ids_end" -
    263 QueryChannelRange(QueryChannelRange) "query_channel_range" -
    264 ReplyChannelRange(ReplyChannelRange) "reply_channel_range" -
    265 GossipTimestampFilter(GossipTimestampFilter) "gossip_timestamp_filter" -
}

impl Message {
    /// Gossip between nodes (BOLT 7): about the network, not about a channel of ours.
    pub const fn is_gossip(&self) -> bool {
        matches!(self.kind(), 256..=258 | 261..=265)
    }

    /// Reads one message, type first.
    ///
    /// # Errors
    /// [`DecodeError`]; the connection should then be closed.
    pub fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(DecodeError::TooLong(bytes.len()));
        }
        let mut r = Reader::new(bytes);
        let kind = r.u16("type").map_err(|_| DecodeError::NoType(bytes.len()))?;
        Message::read(kind, &mut r)
    }

    /// The message's bytes, type first.
    ///
    /// # Errors
    /// [`EncodeError`]: only for a list or text of ours beyond all limits, or for [`Message::Unknown`].
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        // BOLT 1 [1.format.1].
        if let Message::Unknown { kind } = self {
            return Err(EncodeError::Unknown { kind: *kind });
        }
        let mut w = Writer::new();
        w.u16(self.kind());
        self.write(&mut w);
        w.finish().ok_or(EncodeError::TooLong { message: self.name() })
    }
}
