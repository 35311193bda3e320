//! A peer that forgets: LDK drops a channel as soon as it holds the closing transaction, and says after a cut that it
//! knows nothing of it (`channel_reestablish` with numbers that ask for a close by force).

use chand_protocol::channel::Phase;
use chand_protocol::id::Side;
use chand_protocol::node::command::{ChannelRef, Command, Reply};
use chand_protocol::wire::Message;
use chand_tests::duet::play::Open;
use chand_tests::duet::{Duet, Mangle, ALICE, BOB};

/// What LDK says of a channel that it does not know.
fn forgotten(message: Message) -> Option<Message> {
    let Message::ChannelReestablish(mut m) = message else { return None };
    m.next_commitment_number = 0;
    m.next_revocation_number = 0;
    m.your_last_per_commitment_secret = [1; 32];
    Some(Message::ChannelReestablish(m))
}

fn forgetful(duet: &mut Duet, seat: usize) {
    duet.mangle = Some(Mangle { from: seat, change: forgotten, times: 1 });
}

fn opened(anchors: bool) -> Duet {
    let mut duet = Duet::opened(70, Open { anchors, ..Open::default() });
    duet.pay(ALICE, "one", 100_000_000);
    duet.pay(BOB, "two", 30_000_000);
    duet
}

#[test]
fn an_agreed_close_stays_agreed() {
    for anchors in [true, false] {
        for forgetter in [ALICE, BOB] {
            let mut duet = opened(anchors);
            let order = duet.close_order();
            let reply = duet.must(BOB, order);
            assert!(matches!(reply, Reply::Closed { kind: "mutual", .. }), "{reply:?}");
            forgetful(&mut duet, forgetter);
            duet.cut(None);
            duet.connect();
            assert_eq!(duet.mangle.map(|m| m.times), Some(0), "nothing was forgotten");
            for seat in [ALICE, BOB] {
                assert!(
                    matches!(duet.channel(seat).phase, Phase::Closed(_)),
                    "{:?}",
                    duet.channel(seat).phase
                );
            }
            duet.judge_close();
        }
    }
}

#[test]
fn a_close_that_one_side_missed_is_still_seen_as_agreed() {
    for anchors in [true, false] {
        let mut duet = opened(anchors);
        let order = duet.close_order();
        duet.tell(ALICE, order);
        // One side has both signatures and publishes; what it says last is lost.
        let ahead = loop {
            assert!(duet.turn(), "the close came to an end too early");
            let agreed = [ALICE, BOB].map(|seat| matches!(duet.channel(seat).phase, Phase::Closed(_)));
            match agreed {
                [true, false] => break ALICE,
                [false, true] => break BOB,
                _ => {}
            }
        };
        duet.expected_errors = vec!["txn-mempool-conflict", "the peer lost revocations of ours"];
        forgetful(&mut duet, ahead);
        duet.cut(None);
        duet.connect();
        let behind = chand_tests::duet::other(ahead);
        let Phase::Onchain(onchain) = &duet.channel(behind).phase else {
            panic!("{:?}", duet.channel(behind).phase)
        };
        assert_eq!(onchain.owner, Some(Side::Local), "its own commitment is the answer to lost data");
        // It pays more and so takes the agreed one's place in this mempool; a miner has the agreed one all the same.
        let Phase::Closed(closed) = &duet.channel(ahead).phase else { panic!("it forgot") };
        duet.chain.mempool = vec![closed.tx.clone()];
        duet.judge_close();
        assert!(matches!(duet.channel(behind).phase, Phase::Closed(_)), "{:?}", duet.channel(behind).phase);
    }
}

/// The opener's funding is in no block and in no mempool: the accepter has nothing in the channel, and its commitment would
/// spend nothing. It is not published, and nobody is told that it was.
#[test]
fn a_channel_that_nobody_funded_ends_without_a_transaction() {
    let mut duet = Duet::new(71);
    duet.connect();
    let order = duet.fund_order(ALICE, Open { push_msat: 0, ..Open::default() });
    let reply = duet.must(ALICE, order);
    assert!(matches!(reply, Reply::Funded { .. }), "{reply:?}");
    duet.chain.mempool.clear();
    duet.cut(None);
    let channel = ChannelRef::Id(duet.channel_id());
    duet.expected_errors = vec!["the peer reports an error: unknown channel", "missingorspent"];
    let reply = duet.must(BOB, Command::DevFail { channel });
    assert!(matches!(reply, Reply::Closed { kind: "unopened", tx: None }), "{reply:?}");
    assert_eq!(duet.seats[BOB].logged("was refused"), 0);
    assert_eq!(duet.seats[BOB].node.channels().count(), 0, "nothing of it is kept");
}
