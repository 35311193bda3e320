//! A published commitment is recognised: whose, which of many, and what each output is.

use bitcoin::Transaction;
use chand_protocol::channel::htlc::{Htlc, Span, Step};
use chand_protocol::channel::ledger::View;
use chand_protocol::channel::{Channel, Context};
use chand_protocol::id::{HtlcId, Side};
use chand_protocol::node::command::{ChannelRef, Command, Reply};
use chand_protocol::onchain::{Kind, Standing, Watch};
use chand_protocol::tx::commitment::{build, Commitment, OutputKind, Spec, SpecHtlc};
use chand_protocol::units::{Feerate, Height, Msat, Timestamp};
use chand_tests::duet::play::{preimage, Open};
use chand_tests::duet::{crypto, Duet, ALICE, BOB};

fn identify(channel: &Channel, tx: &Transaction) -> Option<Watch> {
    let (crypto, close_script) = (crypto(), bitcoin::ScriptBuf::new());
    let cx = Context {
        now: Timestamp(0),
        tip: Height(0),
        at_tip: true,
        crypto: crypto.as_ref(),
        feerate_normal: Feerate::FLOOR,
        feerate_urgent: Feerate::FLOOR,
        feerate_minimum: Feerate::FLOOR,
        feerate_ceiling: Feerate::FLOOR,
        max_dust: Msat::ZERO,
        close_script: &close_script,
        dev: false,
        tower: false,
        dust_factor: 1,
    };
    channel.identify(tx, None, &cx).expect("keys")
}

/// A commitment of the past, and what its outputs were when it was the newest.
struct Kept {
    owner: usize,
    number: u64,
    tx: Transaction,
    /// The HTLCs by output, told from the owner; `None` for any other output.
    htlcs: Vec<Option<(HtlcId, Height)>>,
}

fn newest(duet: &mut Duet, owner: usize) -> Kept {
    let channel = ChannelRef::Id(duet.channel_id());
    let Reply::Tx(tx) = duet.must(owner, Command::DevSignLastTx { channel }) else {
        panic!("no transaction")
    };
    let channel = duet.channel(owner);
    let spec = channel.ledger.spec(View::Signed(Side::Local), channel.terms.opener).expect("a snapshot");
    let at = |out: &bitcoin::TxOut| {
        // Amounts of these HTLCs are all different, and no balance is like one.
        let found = spec.htlcs.iter().find(|h| h.amount.floor_sat().0 == out.value.to_sat())?;
        Some((found.id, found.cltv_expiry))
    };
    let htlcs = tx.output.iter().map(at).collect();
    Kept { owner, number: channel.commits.local_number, tx, htlcs }
}

#[test]
fn each_of_many_commitments_of_both_sides() {
    for anchors in [true, false] {
        let mut duet = Duet::opened(900, Open { anchors, ..Open::default() });
        duet.check_every = 0;
        let mut kept = Vec::new();
        // HTLCs come and go while others stay, so that every span is another.
        for number in 0..24u64 {
            let payer = if number % 3 == 1 { BOB } else { ALICE };
            duet.pay_held(payer, number, 5_000_000 + number * 1_001_000);
            kept.extend([ALICE, BOB].map(|owner| newest(&mut duet, owner)));
            let Some(old) = number.checked_sub(1 + number % 5) else { continue };
            let payee = if old % 3 == 1 { ALICE } else { BOB };
            let order = match number % 2 {
                0 => Command::SettleInvoice { preimage: preimage(old) },
                _ => Command::CancelInvoice { payment_hash: preimage(old).hash() },
            };
            // Some have ended already.
            let _ = duet.ask(payee, order);
            kept.extend([ALICE, BOB].map(|owner| newest(&mut duet, owner)));
        }
        let known = kept.iter().map(|k| (k.owner, k.number)).collect::<std::collections::BTreeSet<_>>();
        assert!(known.len() > 50, "only {} different ones", known.len());
        assert!(kept.iter().any(|k| k.htlcs.iter().flatten().count() > 5), "none with many HTLCs");
        for seat in [ALICE, BOB] {
            for one in &kept {
                recognised(&duet, seat, one);
            }
        }
    }
}

fn recognised(duet: &Duet, seat: usize, one: &Kept) {
    let channel = duet.channel(seat);
    let watch = identify(channel, &one.tx).expect("a commitment of this channel");
    let owner = if one.owner == seat { Side::Local } else { Side::Remote };
    assert_eq!((watch.owner, watch.number), (owner, one.number));
    let newest = duet.channel(one.owner).commits.local_number == one.number;
    assert_eq!(watch.standing, if newest { Standing::Valid } else { Standing::Revoked });
    for (output, held) in watch.outputs.iter().zip(&one.htlcs) {
        let found = output.lock.as_ref().map(|lock| {
            // The owner calls its own HTLCs local.
            let by = if one.owner == seat { lock.id.offered_by } else { lock.id.offered_by.other() };
            (HtlcId { offered_by: by, id: lock.id.id }, lock.cltv_expiry)
        });
        assert_eq!(found, *held, "output {} of {}", output.outpoint.vout, one.number);
        assert_eq!(output.kind == Kind::Htlc, held.is_some());
        assert_ne!(output.kind, Kind::Unknown);
    }
    // Nobody else's.
    let mut foreign = one.tx.clone();
    foreign.lock_time = bitcoin::absolute::LockTime::ZERO;
    assert_eq!(identify(channel, &foreign), None);
}

/// One more HTLC in a channel's books, as if it were in commitment `number` of the peer alone.
fn add(channel: &mut Channel, spec: &mut Spec, number: u64, id: HtlcId, msat: u64, expiry: u32) {
    let (amount, payment_hash) = (Msat(msat), preimage(77).hash());
    let cltv_expiry = Height(expiry);
    let mut span = Span::default();
    (span.remote_first, span.remote_last) = (Some(number), Some(number));
    let step = Step::AddAckRevocation;
    let htlc = Htlc {
        id,
        amount,
        payment_hash,
        cltv_expiry,
        step,
        removal: None,
        span,
        onion: None,
        path_key: None,
    };
    channel.ledger.htlcs.insert(id, htlc);
    let offered = id.offered_by == Side::Remote;
    spec.htlcs.push(SpecHtlc { id, offered, amount, payment_hash, cltv_expiry });
    let from = if offered { &mut spec.to_owner } else { &mut spec.to_other };
    *from = from.checked_sub(amount).expect("enough money");
}

/// The peer's commitment `number` as `spec` has it.
fn theirs(channel: &Channel, number: u64, spec: &Spec) -> Commitment {
    let crypto = crypto();
    let point = match channel.commits.remote_secrets.get(number) {
        Some(secret) => crypto.public_key(&secret),
        None => channel.commits.remote_point,
    };
    let terms = &channel.terms;
    let keys = crypto.commitment_keys(&terms.remote.basepoints, &terms.local.basepoints, &point);
    build(&terms.commitment_terms(Side::Remote), &keys.expect("keys"), number, spec).expect("a commitment")
}

/// HTLCs with one hash: alike but for amount, expiry, direction, or nothing at all. What its owner offered has no expiry in
/// its script; then the order of the outputs tells (BOLT 3), and each must be claimed with the right lock time.
#[test]
fn htlcs_of_one_hash_are_told_apart() {
    for anchors in [true, false] {
        let mut duet = Duet::opened(910, Open { anchors, ..Open::default() });
        for payer in [ALICE, BOB, ALICE] {
            duet.pay(payer, &format!("{payer}-{}", duet.delivered), 3_000_000);
        }
        for seat in [ALICE, BOB] {
            let newest = duet.channel(seat).commits.remote_number;
            for number in [newest, newest - 1, 1] {
                for turn in 0..6 {
                    one_hash(&duet, seat, number, turn);
                }
            }
        }
    }
}

fn one_hash(duet: &Duet, seat: usize, number: u64, turn: usize) {
    let mut channel = duet.channel(seat).clone();
    channel.ledger.htlcs.clear();
    let spec = channel.ledger.spec(View::Signed(Side::Remote), channel.terms.opener);
    let mut spec = spec.expect("a snapshot");
    let (same, more) = (20_000_000, 20_001_000);
    // Ids in any order against expiries.
    let mut expiries = [500, 510, 520];
    expiries.rotate_left(turn % 3);
    if turn > 2 {
        expiries.swap(0, 1);
    }
    for (side, id, msat, expiry) in [
        (Side::Remote, 900, same, expiries[0]),
        (Side::Remote, 901, same, expiries[1]),
        (Side::Remote, 902, same, expiries[2]),
        (Side::Remote, 903, more, 500),
        // The same satoshi, another millisatoshi.
        (Side::Remote, 904, same + 7, 505),
        (Side::Local, 900, same, expiries[0]),
        (Side::Local, 901, same, expiries[1]),
        (Side::Local, 902, more, expiries[1]),
    ] {
        add(&mut channel, &mut spec, number, HtlcId { offered_by: side, id }, msat, expiry);
    }
    let commitment = theirs(&channel, number, &spec);
    let watch = identify(&channel, &commitment.tx).expect("a commitment");
    assert_eq!((watch.owner, watch.number), (Side::Remote, number));
    let mut names = Vec::new();
    for (output, kind) in watch.outputs.iter().zip(&commitment.outputs) {
        let OutputKind::Htlc(_) = kind else {
            assert!(output.lock.is_none());
            continue;
        };
        let lock = output.lock.as_ref().expect("recognised");
        let vout = output.outpoint.vout;
        let made = commitment.htlcs.iter().find(|h| h.vout == vout).expect("its transaction");
        let told = (lock.id.offered_by == Side::Remote, lock.cltv_expiry, lock.amount.floor_sat());
        assert_eq!(
            told,
            (made.offered, made.cltv_expiry, made.amount),
            "output {vout}, {seat} {number} {turn}"
        );
        names.push(lock.id);
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 8, "each HTLC once");
    // Without its span an HTLC is none of this commitment's: nothing may be guessed.
    for htlc in channel.ledger.htlcs.values_mut() {
        htlc.span.remote_last = number.checked_sub(1);
    }
    let unknown = identify(&channel, &commitment.tx).expect("a commitment");
    assert_eq!(unknown.outputs.iter().filter(|o| o.kind == Kind::Unknown).count(), 8);
}
