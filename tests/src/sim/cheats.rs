//! A peer that lies: a real node whose messages are changed, repeated, dropped or made up on their way out.
//!
//! In: a planned lie, the messages that the liar's node really says. Out: what it says instead. The liar's node does not
//! know; its peer must not panic, lose money, publish an old state or blame itself, and what it makes of each lie is
//! known beforehand ([`Fate`]). Read next: `reckless` (lies in onions, limits
//! that are not kept), `judge`, `heal` (what must still work afterwards).

use super::rng::Rng;
use super::world::World;
use chand_protocol::channel::htlc::Step;
use chand_protocol::id::{ChannelId, LinkId, Side};
use chand_protocol::units::{Feerate, Height, Msat, Sat};
use chand_protocol::wire::message::OnionPacket;
use chand_protocol::wire::message::{ErrorMessage, UpdateFailHtlc, UpdateFee, UpdateFulfillHtlc};
use chand_protocol::wire::Message;
use secp256k1::ecdsa::Signature;
use secp256k1::SecretKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

macro_rules! lies {
    ($($(#[$doc:meta])* $name:ident $fate:ident,)*) => {
        /// What is told instead of the truth.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
        pub enum Lie {
            $($(#[$doc])* $name,)*
        }

        impl Lie {
            /// Every one.
            pub const ALL: &'static [Lie] = &[$(Lie::$name,)*];

            /// What an honest peer makes of it.
            pub const fn fate(self) -> Fate {
                match self {
                    $(Lie::$name => Fate::$fate,)*
                }
            }
        }
    };
}

/// What an honest peer makes of a lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It may not even notice; the channel goes on.
    Mild,
    /// It complains and hangs up; on the next link the truth is told and the channel goes on.
    HangUp,
    /// It may close the channel by force.
    Fail,
    /// The channel may never work again, without a fault of the honest side.
    Ruin,
}

lies! {
    /// An HTLC of more than the channel holds.
    AddTooMuch HangUp,
    /// An HTLC of a little more than is signed for. This and the next two go unseen while the HTLC is dust in the hearer's
    /// commitment; once a commitment has it as an output, no signature fits any more.
    AddMore Ruin,
    /// Another hash.
    AddHash Ruin,
    /// Another expiry.
    AddExpiry Ruin,
    /// An expiry that means seconds.
    AddTime HangUp,
    /// A number that is not the next.
    AddSkip HangUp,
    /// Nothing at all.
    AddZero HangUp,
    /// Hundreds of HTLCs.
    AddFlood HangUp,
    /// An onion that nobody can read.
    AddOnion Mild,
    /// An onion that says: this is a part of the payment. The rest never comes.
    AddPart Mild,
    /// An onion with a payment secret that is made up.
    AddSecret Mild,
    /// A wrong secret.
    FulfillWrong Fail,
    /// The end of an HTLC that never was, by its secret.
    FulfillUnknown HangUp,
    /// The end of an HTLC that never was.
    FailUnknown HangUp,
    /// The end of an HTLC that is not locked in yet.
    FailEarly HangUp,
    /// The same, by a secret that fits nothing.
    FulfillEarly HangUp,
    /// A wrong signature.
    CommitWrong HangUp,
    /// A signature for an HTLC is missing.
    CommitShort HangUp,
    /// One too many.
    CommitLong HangUp,
    /// A wrong signature for an HTLC.
    CommitHtlcWrong HangUp,
    /// The same signature again.
    CommitTwice HangUp,
    /// Another secret.
    RevokeWrong Fail,
    /// The same revocation again.
    RevokeTwice Fail,
    /// Another point for a later commitment.
    RevokePoint Ruin,
    /// A feerate beyond all reason.
    FeeHigh HangUp,
    /// A feerate that does not relay.
    FeeLow HangUp,
    /// A feerate made up, by whoever pays it or not.
    FeeMadeUp HangUp,
    /// Hundreds of feerates.
    FeeFlood HangUp,
    /// Fewer commitments known than were.
    ReestablishCommitLow Fail,
    /// More than ever were.
    ReestablishCommitHigh Ruin,
    /// Fewer revocations known than were.
    ReestablishRevokeLow Fail,
    /// More than ever were.
    ReestablishRevokeHigh HangUp,
    /// A wrong last secret.
    ReestablishSecret HangUp,
    /// Twice on one link.
    ReestablishTwice Mild,
    /// Another second point.
    ReadyPoint Ruin,
    /// A script that is none.
    ShutdownScript HangUp,
    /// Another fee than signed for.
    CloseFee HangUp,
    /// A wrong signature on the closing transaction.
    CloseWrong HangUp,
    /// Terms of an opening that nobody may accept.
    OpenTerms Mild,
    /// A wrong first signature.
    OpenWrong Mild,
    /// An error about the channel.
    Error Fail,
    /// An error about every channel.
    ErrorAll Fail,
    /// A message of an unknown even type.
    UnknownEven HangUp,
    /// A message of an unknown odd type.
    UnknownOdd Mild,
    /// Half a message.
    Half Mild,
    /// Bytes at the end of a message.
    Tail Mild,
    /// One bit of a message.
    Bit Ruin,
    /// Rubbish.
    Rubbish Mild,
    /// A message is not sent.
    Drop Ruin,
    /// A message is sent twice.
    Repeat Fail,
    /// A message overtakes the one before.
    Swap Ruin,
    /// Hundreds of pings.
    PingFlood Mild,
    /// Hundreds of warnings.
    WarningFlood Mild,
}

impl Lie {
    /// One of them.
    pub fn pick(rng: &mut Rng) -> Lie {
        *rng.pick(Lie::ALL)
    }

    /// A lie whose hearer must complain, whatever else happens at that moment.
    const fn must_be_heard(self) -> bool {
        use Lie::*;
        matches!(
            self,
            AddTooMuch
                | AddTime
                | AddSkip
                | AddZero
                | CommitWrong
                | CommitShort
                | CommitLong
                | RevokeWrong
                | FulfillWrong
                | FulfillUnknown
                | FailUnknown
                | FailEarly
                | FulfillEarly
        )
    }
}

/// The liar's plans and what came of them.
#[derive(Debug, Default)]
pub struct Cheat {
    planned: Vec<(Lie, u64)>,
    held: Option<Vec<u8>>,
    /// Lies on their way: the first bytes that differ from the truth.
    told: Vec<(Lie, Vec<u8>)>,
    /// Lies that arrived.
    pub arrived: Vec<Lie>,
    /// Complaints by the honest side so far.
    pub complaints: u64,
    /// Lies that must be complained about: after how many complaints they came, in which life of the hearer.
    pub unheard: Vec<(Lie, u64, u64)>,
    /// Nothing more is told.
    pub reformed: bool,
    /// It keeps no limits, or does not know the state of its channels.
    pub beside_itself: bool,
    /// Onions that are told again as they were first told.
    pub onions: BTreeMap<(ChannelId, u64), OnionPacket>,
}

impl Cheat {
    /// Plans a lie for the message after the next `skip` that it fits.
    pub fn plan(&mut self, lie: Lie, skip: u64) {
        self.planned.push((lie, skip));
    }

    /// It lies again, and what it had still in mind is forgotten.
    pub fn relapse(&mut self) {
        self.planned.clear();
        self.reformed = false;
    }

    /// The honest side may have closed a channel by force.
    pub fn may_fail(&self) -> bool {
        self.told
            .iter()
            .map(|(lie, _)| lie)
            .chain(&self.arrived)
            .any(|l| matches!(l.fate(), Fate::Fail | Fate::Ruin))
    }

    /// Some channel may not work any more.
    pub fn may_ruin(&self) -> bool {
        self.may_fail() || (self.beside_itself && self.complaints > 0)
    }

    /// A node complained about its peer.
    pub fn complained(&mut self, _seat: usize) {
        self.complaints += 1;
    }
}

/// Another signature that still is one.
fn spoiled(signature: &Signature) -> Signature {
    let mut bytes = signature.serialize_compact();
    bytes[40] ^= 1;
    Signature::from_compact(&bytes).unwrap_or(*signature)
}

fn other_secret() -> SecretKey {
    SecretKey::from_slice(&[0x51; 32]).expect("in range")
}

fn bytes_of(message: &Message) -> Vec<u8> {
    message.encode().unwrap_or_default()
}

/// The message with one field changed; `None` when the lie does not fit it.
fn changed(lie: Lie, message: &Message) -> Option<Message> {
    use Lie::*;
    let mut out = message.clone();
    match (lie, &mut out) {
        (AddTooMuch, Message::UpdateAddHtlc(m)) => m.amount_msat = Msat(21_000_000 * 100_000_000_000),
        (AddMore, Message::UpdateAddHtlc(m)) => m.amount_msat = m.amount_msat.saturating_add(Msat(1_000)),
        (AddHash, Message::UpdateAddHtlc(m)) => m.payment_hash[3] ^= 1,
        (AddExpiry, Message::UpdateAddHtlc(m)) => m.cltv_expiry = m.cltv_expiry.plus(1),
        (AddTime, Message::UpdateAddHtlc(m)) => m.cltv_expiry = Height(500_000_000),
        (AddSkip, Message::UpdateAddHtlc(m)) => m.id += 1,
        (AddZero, Message::UpdateAddHtlc(m)) => m.amount_msat = Msat(0),
        (AddOnion, Message::UpdateAddHtlc(m)) => m.onion_routing_packet.hmac[0] ^= 1,
        (FulfillWrong, Message::UpdateFulfillHtlc(m)) => m.payment_preimage[0] ^= 1,
        (FulfillUnknown, Message::UpdateFulfillHtlc(m)) => m.id += 1_000,
        (FailUnknown, Message::UpdateFailHtlc(m)) => m.id += 1_000,
        (CommitWrong, Message::CommitmentSigned(m)) => m.signature = spoiled(&m.signature),
        (CommitShort, Message::CommitmentSigned(m)) => drop(m.htlc_signatures.pop()?),
        (CommitLong, Message::CommitmentSigned(m)) => m.htlc_signatures.push(m.signature),
        (CommitHtlcWrong, Message::CommitmentSigned(m)) => {
            let last = m.htlc_signatures.last_mut()?;
            *last = spoiled(last);
        }
        (RevokeWrong, Message::RevokeAndAck(m)) => m.per_commitment_secret = other_secret(),
        (RevokePoint, Message::RevokeAndAck(m)) => {
            m.next_per_commitment_point =
                super::seat::crypto(super::plan::Signing::Counterfeit).public_key(&other_secret());
        }
        (FeeHigh, Message::UpdateFee(m)) => m.feerate_per_kw = Feerate(4_000_000_000),
        (FeeLow, Message::UpdateFee(m)) => m.feerate_per_kw = Feerate(1),
        (ReestablishCommitLow, Message::ChannelReestablish(m)) if m.next_commitment_number > 1 => {
            m.next_commitment_number -= 1;
        }
        (ReestablishCommitHigh, Message::ChannelReestablish(m)) => m.next_commitment_number += 1,
        (ReestablishRevokeLow, Message::ChannelReestablish(m)) if m.next_revocation_number > 0 => {
            m.next_revocation_number -= 1;
        }
        (ReestablishRevokeHigh, Message::ChannelReestablish(m)) => m.next_revocation_number += 1,
        (ReestablishSecret, Message::ChannelReestablish(m)) => m.your_last_per_commitment_secret[9] ^= 1,
        (ReadyPoint, Message::ChannelReady(m)) => {
            m.second_per_commitment_point =
                super::seat::crypto(super::plan::Signing::Counterfeit).public_key(&other_secret());
        }
        (ShutdownScript, Message::Shutdown(m)) => {
            m.scriptpubkey = bitcoin::ScriptBuf::from_bytes(vec![0x51; 3])
        }
        (CloseFee, Message::ClosingSigned(m)) => m.fee_satoshis = Sat(m.fee_satoshis.0 + 1),
        (CloseFee, Message::ClosingComplete(m)) => m.fee_satoshis = Sat(m.fee_satoshis.0 + 1),
        (CloseWrong, Message::ClosingSigned(m)) => m.signature = spoiled(&m.signature),
        (CloseWrong, Message::ClosingComplete(m) | Message::ClosingSig(m)) => {
            for signature in
                [&mut m.closer_output_only, &mut m.closee_output_only, &mut m.closer_and_closee_outputs]
            {
                *signature = signature.as_ref().map(spoiled);
            }
        }
        (OpenTerms, Message::OpenChannel(m)) => m.channel_reserve_satoshis = m.funding_satoshis,
        (OpenTerms, Message::AcceptChannel(m)) => m.dust_limit_satoshis = Sat(1),
        (OpenWrong, Message::FundingCreated(m)) => m.signature = spoiled(&m.signature),
        (OpenWrong, Message::FundingSigned(m)) => m.signature = spoiled(&m.signature),
        _ => return None,
    }
    Some(out)
}

/// What is said instead of a message; `None` when the lie does not fit it.
fn told_instead(
    lie: Lie,
    message: &Message,
    bytes: &[u8],
    early: Option<u64>,
    rng: &mut Rng,
) -> Option<Vec<Vec<u8>>> {
    use Lie::*;
    let channel = message.channel_id().filter(|id| *id != ChannelId::ALL);
    let with = |extra: Vec<u8>| Some(vec![bytes.to_vec(), extra]);
    match (lie, message) {
        (AddFlood, Message::UpdateAddHtlc(m)) => {
            let copy = |n: u64| {
                bytes_of(&Message::UpdateAddHtlc(chand_protocol::wire::message::UpdateAddHtlc {
                    id: m.id + n,
                    ..m.clone()
                }))
            };
            Some((0..500).map(copy).collect())
        }
        (FailEarly, Message::RevokeAndAck(m)) => {
            let (channel_id, id, reason) = (m.channel_id, early?, vec![1; 292]);
            let first = bytes_of(&Message::UpdateFailHtlc(UpdateFailHtlc { channel_id, id, reason }));
            Some(vec![first, bytes.to_vec()])
        }
        (FulfillEarly, Message::RevokeAndAck(m)) => {
            let (channel_id, id, payment_preimage) = (m.channel_id, early?, [5; 32]);
            let early = UpdateFulfillHtlc { channel_id, id, payment_preimage };
            Some(vec![bytes_of(&Message::UpdateFulfillHtlc(early)), bytes.to_vec()])
        }
        (CommitTwice, Message::CommitmentSigned(_)) | (RevokeTwice, Message::RevokeAndAck(_)) => {
            with(bytes.to_vec())
        }
        (ReestablishTwice, Message::ChannelReestablish(_)) => with(bytes.to_vec()),
        (FeeMadeUp, Message::UpdateAddHtlc(m)) => {
            let fee = UpdateFee { channel_id: m.channel_id, feerate_per_kw: Feerate(700) };
            with(bytes_of(&Message::UpdateFee(fee)))
        }
        (FeeFlood, Message::UpdateFee(m)) => {
            let one = |n: u32| {
                bytes_of(&Message::UpdateFee(UpdateFee { feerate_per_kw: Feerate(253 + n), ..m.clone() }))
            };
            Some((0..300).map(one).collect())
        }
        (Error, _) => with(bytes_of(&Message::Error(ErrorMessage::new(channel?, "a lie")))),
        (ErrorAll, _) => with(bytes_of(&Message::Error(ErrorMessage::new(ChannelId::ALL, "a lie")))),
        (_, Message::Init(_)) => None,
        (UnknownEven, _) => with(vec![0x7f, 0xfe, 1, 2, 3]),
        (UnknownOdd, _) => with(vec![0x7f, 0xff, 1, 2, 3]),
        (Half, _) => Some(vec![bytes[..bytes.len() / 2].to_vec()]),
        (Tail, _) => Some(vec![[bytes, &[1, 2, 3]].concat()]),
        (Bit, _) => {
            let mut out = bytes.to_vec();
            let at = rng.below(out.len() as u64 * 8);
            out[at as usize / 8] ^= 1 << (at % 8);
            Some(vec![out])
        }
        (Rubbish, _) => with((0..rng.spread(1, 400)).map(|_| rng.below(256) as u8).collect()),
        (Drop, _) => Some(Vec::new()),
        (Repeat, _) => with(bytes.to_vec()),
        (PingFlood, _) => {
            let ping = vec![0, 18, 0, 1, 0, 0];
            Some(std::iter::repeat_n(ping, 200).chain([bytes.to_vec()]).collect())
        }
        (WarningFlood, _) => {
            let warning = bytes_of(&Message::Warning(ErrorMessage::new(ChannelId::ALL, "a flood")));
            Some(std::iter::repeat_n(warning, 200).chain([bytes.to_vec()]).collect())
        }
        _ => changed(lie, message).map(|m| vec![bytes_of(&m)]),
    }
}

impl World {
    /// What really leaves when a node says `message`.
    pub(super) fn tampered(&mut self, seat: usize, message: Message, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        if self.knobs.liar != Some(seat) {
            return vec![bytes];
        }
        let (message, bytes) = self.with_its_onion(message, bytes);
        if self.cheat.reformed {
            return vec![bytes];
        }
        if let Some(held) = self.cheat.held.take() {
            return vec![bytes, held];
        }
        for place in 0..self.cheat.planned.len() {
            let (lie, skip) = self.cheat.planned[place];
            if lie == Lie::Swap && !matches!(message, Message::Init(_)) && skip == 0 {
                self.cheat.planned.remove(place);
                self.lied(lie, Vec::new());
                self.cheat.held = Some(bytes);
                return Vec::new();
            }
            let early = self.not_locked_in(seat, &message);
            let instead = match lie {
                Lie::AddPart | Lie::AddSecret => self.other_onion(seat, lie, &message),
                _ => told_instead(lie, &message, &bytes, early, &mut self.rng),
            };
            let Some(instead) = instead else { continue };
            if skip > 0 {
                self.cheat.planned[place].1 -= 1;
                continue;
            }
            self.cheat.planned.remove(place);
            self.cheat.keep_onion(lie, &instead);
            let first = instead.iter().find(|b| **b != bytes).or(instead.last()).cloned().unwrap_or_default();
            self.lied(lie, first);
            return instead;
        }
        vec![bytes]
    }

    /// An HTLC of the honest side that this very message is about to take further.
    fn not_locked_in(&self, seat: usize, message: &Message) -> Option<u64> {
        let channel = self.seats[seat].node()?.channel(&message.channel_id()?)?;
        let theirs = channel.ledger.htlcs.values().filter(|h| h.id.offered_by == Side::Remote);
        theirs.filter(|h| h.step <= Step::AddRevocation).map(|h| h.id.id).next_back()
    }

    fn lied(&mut self, lie: Lie, bytes: Vec<u8>) {
        self.counts.lies += 1;
        self.tally.told(lie);
        self.trace.note(self.now, &[9], || format!("a lie: {lie:?}"));
        self.cheat.told.push((lie, bytes));
    }

    /// Bytes reach a core: perhaps a lie does.
    pub(super) fn lie_arrives(&mut self, to: usize, link: LinkId, bytes: &[u8]) {
        if self.knobs.liar != Some(1 - to) {
            return;
        }
        let Some(place) = self.cheat.told.iter().position(|(_, told)| told == bytes) else { return };
        let (lie, _) = self.cheat.told[place];
        self.cheat.arrived.push(lie);
        let liar = self.seats[1 - to].id;
        let Some(life) = &self.seats[to].life else { return };
        let calm = life.inbox.is_empty() && !life.reload && life.known.contains(&link);
        let open = |c: &chand_protocol::channel::Channel| c.is_usable();
        let about = Message::decode(bytes).ok().and_then(|m| m.channel_id());
        let used = about.and_then(|id| life.node.channel(&id)).is_some_and(open);
        if lie.must_be_heard() && calm && used && life.node.is_settled_with(&liar) && life.known.len() == 1 {
            self.cheat.unheard.push((lie, self.cheat.complaints, self.seats[to].lives));
        }
    }
}
