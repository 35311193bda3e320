//! A node out of records that a disk, or somebody at it, has changed.
//!
//! In: bytes that say which records of a real node are changed, dropped, exchanged or filed elsewhere. Out: nothing, or a
//! panic: the start is refused in words, or there is a node, and it does all that a node is asked without falling.
//! Read next: `files` (the same one floor below).

use super::feed::Feed;
use super::hunt::saw;
use super::stage::{set, STAGES};
use crate::duet::{other, Duet, ALICE, BOB};
use chand_protocol::channel::Channel;
use chand_protocol::id::{CommandId, LinkId, Preimage};
use chand_protocol::node::command::{ChannelRef, Command, InvoiceFilter, RouteLimits};
use chand_protocol::node::effect::{After, Fees, Input};
use chand_protocol::node::{step, Node};
use chand_protocol::record::{decode, BadRecord, Kind, VERSION};
use chand_protocol::store::{Entry, Journal};
use chand_protocol::units::{Feerate, Height, Msat, Timestamp};
use chand_protocol::wire::features::Features;
use chand_protocol::wire::message::{ChannelReestablish, Init};
use chand_protocol::wire::Message;
use chand_storage::MemoryStore;
use std::sync::Arc;

/// A record of any kind as any bytes: refused, or what it is decodes again to the same.
pub fn value(input: &[u8]) {
    let text = decode::<String>(input);
    saw((text.is_ok(), format!("{:?}", text.as_ref().err())));
    if let Ok(text) = text {
        let again = chand_protocol::record::encode(&text);
        assert_eq!(decode::<String>(&again), Ok(text));
    }
    let list = decode::<Vec<(u64, Vec<u8>, Option<String>)>>(input);
    if let Ok(list) = list {
        let again = chand_protocol::record::encode(&list);
        assert_eq!(decode::<Vec<(u64, Vec<u8>, Option<String>)>>(&again), Ok(list));
    }
    if input.first().is_some_and(|version| *version > VERSION) {
        assert!(matches!(decode::<u8>(input), Err(BadRecord::Newer(_))));
    }
    saw(Kind::of(input).map(|kind| kind as u8));
}

/// Changes the records of a real node, then starts it.
pub fn records(input: &[u8]) {
    let mut feed = Feed::new(input);
    let choice = feed.u8();
    let stage = STAGES[usize::from(choice >> 2) % STAGES.len()];
    let mut duet = set(stage, choice & 1 == 0).duet;
    let seat = usize::from(choice >> 1 & 1);
    let mut entries = duet.seats[seat].store.durable();
    while !feed.is_empty() && !entries.is_empty() {
        change(&mut feed, &mut entries);
    }
    entries.sort();
    entries.dedup_by(|one, two| one.0 == two.0);
    match duet.seats[seat].try_reborn(entries.clone()) {
        Err(error) => {
            assert!(!error.to_string().is_empty());
            let kind = error.key.get(..2).map(String::from);
            saw((kind, format!("{:?}", error.why)));
        }
        Ok(node) => {
            saw(("started", format!("{stage:?}"), seat));
            live(&mut duet, seat, node, entries);
        }
    }
}

fn change(feed: &mut Feed<'_>, entries: &mut Vec<Entry>) {
    let at = usize::from(feed.u8()) % entries.len();
    let (key, value) = &mut entries[at];
    match feed.u8() % 10 {
        0 | 1 => {
            let place = usize::from(feed.u16()) % value.len().max(1);
            let mask = feed.u8();
            value.get_mut(place).into_iter().for_each(|byte| *byte ^= mask);
        }
        2 | 3 => {
            let place = usize::from(feed.u16()) % value.len().max(1);
            let piece = feed.take(8).to_vec();
            value.iter_mut().skip(place).zip(piece).for_each(|(to, from)| *to = from);
        }
        4 => value.truncate(usize::from(feed.u16()) % (value.len() + 1)),
        5 => *value = [&[VERSION], feed.piece()].concat(),
        6 => {
            let place = usize::from(feed.u8()) % key.len().max(1);
            key[place] = feed.u8();
        }
        7 => {
            entries.remove(at);
        }
        8 => {
            let other = usize::from(feed.u8()) % entries.len();
            let values = (entries[at].1.clone(), entries[other].1.clone());
            (entries[other].1, entries[at].1) = values;
        }
        _ => {
            let mut copy = entries[at].clone();
            let place = usize::from(feed.u8()) % copy.0.len().max(1);
            copy.0[place] = feed.u8();
            entries.push(copy);
        }
    }
}

/// What a peer would say that knows the channel as it truly is.
fn reestablish(theirs: &Channel) -> Message {
    let known = theirs.commits.remote_number;
    let last = known.checked_sub(1).and_then(|n| theirs.commits.remote_secrets.get(n));
    Message::ChannelReestablish(ChannelReestablish {
        channel_id: theirs.id(),
        next_commitment_number: theirs.commits.local_number + 1,
        next_revocation_number: known,
        your_last_per_commitment_secret: last.map_or([0; 32], |secret| secret.secret_bytes()),
        my_current_per_commitment_point: theirs.commits.remote_point,
    })
}

/// A day in the life of a node that may be another than it was.
fn live(duet: &mut Duet, seat: usize, mut node: Node, entries: Vec<Entry>) {
    let (peer, place) = (duet.id(other(seat)), &duet.seats[other(seat)]);
    for channel in node.channels() {
        let (ours, all) = (channel.to_us(), channel.terms.capacity.to_msat());
        assert!(ours <= all, "{ours} of {all} is ours");
    }
    let link = LinkId(99);
    let init = Message::Init(Init { features: Features::ours_init(true), networks: None });
    let mut days: Vec<Vec<Input>> = vec![
        Vec::new(),
        vec![Input::ChainSynced { tip_time_s: None }, Input::Fees(fees(5_000))],
        vec![Input::Linked { peer, link, inbound: true, address: "127.0.0.1:9736".into() }],
        vec![Input::Message { peer, link, message: init }],
    ];
    let talk = place.node.channels().map(|c| Input::Message { peer, link, message: reestablish(c) });
    days.extend(talk.map(|input| vec![input]));
    days.extend(
        orders(&node)
            .into_iter()
            .zip(1..)
            .map(|(command, n)| vec![Input::Command { id: CommandId(n), command }]),
    );
    let height = node.tip().map_or(100, |(h, _)| h.0).wrapping_add(1);
    days.push(vec![Input::BlockConnected {
        height: Height(height),
        hash: bitcoin::hashes::Hash::from_byte_array([5; 32]),
        time_s: 1_700_000_000,
        txs: Arc::new(duet.chain.mempool.clone()),
        wallet: None,
    }]);
    days.push(vec![Input::Unlinked { peer, link, reason: "gone".into() }]);
    days.push(Vec::new());
    let mut journal = Journal::new(MemoryStore::with_entries(entries));
    let mut now = Timestamp(1_700_000_000_000);
    for inputs in days {
        now = now.plus_ms(30_000);
        let batch = step(&mut node, now, inputs);
        let proof = journal.commit(std::slice::from_ref(&batch)).unwrap_or_else(|e| panic!("{e}"));
        let released = batch.release(&proof).unwrap_or_else(|b| panic!("not released: {b:?}"));
        for after in released {
            if let After::Send(outgoing) = after {
                let (_, _, message) = outgoing.into_parts();
                assert!(message.encode().is_ok(), "{} does not encode", message.name());
                saw((format!("{seat}"), message.kind()));
            }
        }
        node.records();
        node.next_deadline();
    }
    for channel in node.channels() {
        saw(channel.state_name().name());
    }
}

fn fees(normal: u32) -> Fees {
    Fees { normal: Feerate(normal), urgent: Feerate(normal * 2), minimum: Feerate(253) }
}

fn orders(node: &Node) -> Vec<Command> {
    let mut orders = vec![
        Command::GetInfo,
        Command::ListPeers { peer: None },
        Command::ListPeerChannels { peer: None, channel: None },
        Command::ListClosedChannels { peer: None },
        Command::ListInvoices(InvoiceFilter::default()),
        Command::ListPays { payment_hash: None, bolt11: None },
        Command::ListHtlcs { channel: None },
        Command::Balance,
    ];
    for number in [1, 2] {
        orders.push(Command::SettleInvoice { preimage: crate::duet::play::preimage(number) });
        orders.push(Command::CancelInvoice { payment_hash: Preimage([number as u8; 32]).hash() });
    }
    for channel in node.channels() {
        let id = ChannelRef::Id(channel.id());
        let peer = channel.terms.peer;
        orders.push(Command::ListSnapshots { channel: id.clone(), start: None, limit: None });
        orders.push(Command::Keysend {
            destination: peer,
            amount_msat: Msat(1_234_567),
            label: None,
            retry_for_s: 1,
            limits: RouteLimits::default(),
        });
        orders.push(Command::DevFeerate { channel: id.clone(), feerate: Feerate(1_500) });
        orders.push(Command::DevSignLastTx { channel: id.clone() });
        orders.push(Command::Close {
            channel: id.clone(),
            unilateral_timeout_s: 1,
            destination: None,
            feerange: None,
        });
        orders.push(Command::DevFail { channel: id });
    }
    orders
}

/// One change of each kind at each stage.
pub fn record_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for stage in 0..STAGES.len() as u8 {
        for kind in 0..10 {
            for at in [3, 11] {
                seeds.push(vec![stage << 2 | kind & 3, at, kind, 0, at.wrapping_mul(7), 0x40, 1, 2, 3]);
            }
        }
    }
    seeds
}

/// Records of a real node.
pub fn value_seeds() -> Vec<Vec<u8>> {
    let duet = set(STAGES[3], true).duet;
    let of = |seat: usize| duet.seats[seat].store.durable().into_iter().map(|(_, value)| value);
    of(ALICE).chain(of(BOB)).filter(|value| value.len() < 600).take(40).collect()
}
