//! A cheat that calls again after its crime: with its old state, with a made-up one, with floods and errors.
//!
//! In: an act, a node that was given an old disk and closed all with it. Out: a link between the two, and messages on it that
//! its own node would not say. Whatever it says, its victim takes everything, and falls for none of it. What the victim
//! says back is not judged as among honest nodes: it may complain, and close what the cheat says it lost.
//! Read next: `feud`, `aftermath`.

use super::world::World;
use chand_protocol::channel::{Channel, Phase};
use chand_protocol::id::ChannelId;
use chand_protocol::units::Feerate;
use chand_protocol::wire::message::{
    ChannelReestablish, CommitmentSigned, ErrorMessage, RevokeAndAck, Shutdown, UpdateFee, UpdateFulfillHtlc,
};
use chand_protocol::wire::Message;
use secp256k1::SecretKey;

/// What a cheat may say when it is back.
pub const WAYS: u8 = 9;
/// Messages in a flood.
const FLOOD: usize = 200;

impl World {
    /// The cheat calls, or says something on the link that it has.
    pub(super) fn haunt(&mut self, what: u8) {
        let Some(cheat) = self.feud.cheat else { return };
        self.feud.returned = true;
        let Some(link) = self.greeted_link(cheat) else { return self.connect(cheat) };
        self.mark("a cheat that calls again");
        let victim = 1 - cheat;
        let node = self.seats[victim].node();
        let open = |c: &Channel| !matches!(c.phase, Phase::Onchain(_) | Phase::Closed(_));
        let channels = || node.into_iter().flat_map(|n| n.channels());
        let ids: Vec<ChannelId> = channels().map(Channel::id).collect();
        if channels().any(open) {
            self.mark("a cheat that calls again before its crime is in a block");
        }
        for message in ids.iter().flat_map(|id| self.said_by_a_cheat(what, cheat, *id)).collect::<Vec<_>>() {
            if let Ok(bytes) = message.encode() {
                self.send_bytes(cheat, link, bytes);
            }
        }
    }

    fn said_by_a_cheat(&self, what: u8, cheat: usize, id: ChannelId) -> Vec<Message> {
        let found = |seat: usize| self.seats[seat].node().and_then(|n| n.channel(&id));
        let key = SecretKey::from_slice(&[0x52; 32]).expect("in range");
        let point = self.seats[cheat].crypto().public_key(&key);
        let signature = self.seats[cheat].crypto().sign(&[7; 32], &key);
        match what {
            0 => found(cheat).map(|old| reestablish(old, point)).into_iter().collect(),
            1 => self.as_if_nothing_were(cheat, id, point).into_iter().collect(),
            2 => vec![Message::Error(ErrorMessage::new(id, "give it back"))],
            3 => {
                let wrong = Message::Warning(ErrorMessage::new(id, "a flood"));
                std::iter::repeat_n(wrong, FLOOD).collect()
            }
            4 => {
                let fee = |n: u32| UpdateFee { channel_id: id, feerate_per_kw: Feerate(300 + n) };
                (0..FLOOD as u32).map(|n| Message::UpdateFee(fee(n))).collect()
            }
            5 => vec![Message::CommitmentSigned(CommitmentSigned {
                channel_id: id,
                signature,
                htlc_signatures: Vec::new(),
            })],
            6 => vec![Message::RevokeAndAck(RevokeAndAck {
                channel_id: id,
                per_commitment_secret: key,
                next_per_commitment_point: point,
            })],
            7 => {
                let scriptpubkey = self.seats[cheat].wallet.script.clone();
                vec![Message::Shutdown(Shutdown { channel_id: id, scriptpubkey })]
            }
            _ => {
                let lie = |n| UpdateFulfillHtlc { channel_id: id, id: n, payment_preimage: [5; 32] };
                (0..8).map(|n| Message::UpdateFulfillHtlc(lie(n))).collect()
            }
        }
    }

    /// A cheat that remembers how far the channel really came, and goes on as if it had not closed it.
    fn as_if_nothing_were(
        &self,
        cheat: usize,
        id: ChannelId,
        point: secp256k1::PublicKey,
    ) -> Option<Message> {
        let victim = &self.seats[1 - cheat];
        let channel = victim.node()?.channel(&id)?;
        let number = channel.commits.local_number;
        let secrets = victim.keys.channel_secrets(channel.terms.key_index);
        let last = number.checked_sub(1).and_then(|n| secrets.per_commitment_secret(n).ok());
        Some(Message::ChannelReestablish(ChannelReestablish {
            channel_id: id,
            next_commitment_number: channel.commits.remote_number
                + u64::from(channel.commits.awaiting_revoke)
                + 1,
            next_revocation_number: number,
            your_last_per_commitment_secret: last.map_or([0; 32], |s| s.secret_bytes()),
            my_current_per_commitment_point: point,
        }))
    }
}

/// What a node with an old copy says of itself.
fn reestablish(old: &Channel, point: secp256k1::PublicKey) -> Message {
    let commits = &old.commits;
    let last = commits.remote_number.checked_sub(1).and_then(|n| commits.remote_secrets.get(n));
    Message::ChannelReestablish(ChannelReestablish {
        channel_id: old.id(),
        next_commitment_number: commits.local_number + 1,
        next_revocation_number: commits.remote_number,
        your_last_per_commitment_secret: last.map_or([0; 32], |s| s.secret_bytes()),
        my_current_per_commitment_point: point,
    })
}
