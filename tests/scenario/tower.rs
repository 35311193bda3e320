//! A watchtower's work without sockets: states as the node hands them out, sealed, kept, opened by the txid of a breach.
//!
//! In: two nodes, one of which cheats while nothing that the other publishes reaches anybody. Out: the tower alone takes
//! what its mode reaches, and every transaction of it passes the reference code of Bitcoin Core (`TinyChain::submit`).

use crate::penalty::cheat;
use bitcoin::Transaction;
use chand_protocol::node::command::{ChannelRef, Command, Reply};
use chand_protocol::node::effect::Fees;
use chand_protocol::node::tower::TowerChannel;
use chand_protocol::onchain::Kind;
use chand_protocol::tower::blob::{appoint, entries};
use chand_protocol::tower::guard::{Breach, Moment};
use chand_protocol::tower::{hint, EntryId, Hint, Mode};
use chand_protocol::units::{Feerate, Height, Sat};
use chand_tests::duet::play::{preimage, Open};
use chand_tests::duet::{crypto, other, Duet, ALICE, BOB};
use std::collections::BTreeMap;

const FEES: Fees = Fees { normal: Feerate(1_000), urgent: Feerate(2_000), minimum: Feerate(253) };

/// A tower with one client.
struct Tower {
    mode: Mode,
    next: u64,
    blobs: BTreeMap<Hint, Vec<u8>>,
    entries: BTreeMap<EntryId, Vec<u8>>,
    breaches: Vec<Breach>,
}

impl Tower {
    fn new(mode: Mode) -> Tower {
        let (blobs, entries) = (BTreeMap::new(), BTreeMap::new());
        Tower { mode, next: 0, blobs, entries, breaches: Vec::new() }
    }

    /// Asks the node for all it has, a few states at once.
    fn collect(&mut self, duet: &mut Duet, seat: usize) {
        self.collect_from(duet, seat, 0);
    }

    /// The same, when the node has nothing any more from below `first`.
    fn collect_from(&mut self, duet: &mut Duet, seat: usize, first: u64) {
        let channel = known(duet, seat);
        let first = first.max(channel.first);
        while self.next.max(first) < channel.end {
            let from = self.next.max(first);
            let whole = from != self.next;
            let order = Command::TowerStates { channel: channel.channel, from, most: 3, whole };
            let Reply::TowerStates { sealing, states } = duet.must(seat, order) else { panic!("no states") };
            for entry in entries(&states, &sealing, self.next == 0 || whole) {
                self.entries.insert(entry.id, entry.sealed);
            }
            for revoked in &states {
                let sealed = appoint(revoked, &sealing, self.mode, &*crypto()).expect("keys");
                // Without a balance of the peer's nothing can be signed in advance.
                self.blobs.extend(sealed.map(|s| (s.hint, s.blob)));
            }
            self.next = states.last().expect("at least one").noted.number + 1;
        }
    }

    fn connected(&mut self, duet: &Duet, height: u32) {
        let txs = &duet.chain.block(height).expect("a block").txs;
        for tx in txs.iter() {
            let Some(blob) = self.blobs.get(&hint(&tx.compute_txid())) else { continue };
            let find = |id: &EntryId| self.entries.get(id).cloned();
            let breach =
                Breach::open(tx, Height(height), blob, &find, &*crypto()).expect("its txid opens it");
            self.breaches.push(breach);
        }
        for breach in &mut self.breaches {
            breach.on_block(txs, Height(height), &*crypto());
        }
    }

    /// What it would publish now; everything is offered to the network.
    fn publish(&mut self, duet: &mut Duet) -> Vec<Transaction> {
        let crypto = crypto();
        let now = Moment { tip: Height(duet.chain.height()), fees: FEES, crypto: &*crypto };
        let mut all = Vec::new();
        for breach in &mut self.breaches {
            let (txs, _) = breach.plan(&now);
            for tx in &txs {
                let taken = duet.chain.submit(tx).is_ok();
                breach.answered(&tx.compute_txid(), taken);
            }
            all.extend(txs);
        }
        all
    }

    /// Mines, block by block, with the tower at work.
    fn mine(&mut self, duet: &mut Duet, blocks: u32) {
        for _ in 0..blocks {
            duet.mine(1);
            self.connected(duet, duet.chain.height());
            self.publish(duet);
        }
    }

    fn taken(&self, kind: Kind) -> Vec<bool> {
        let outputs = self.breaches.iter().flat_map(|b| &b.watch.outputs).filter(|o| o.kind == kind);
        outputs.map(|o| o.spent.is_some_and(|s| s.ours)).collect()
    }
}

/// Alice's notes for towers, on disk.
fn notes(duet: &Duet) -> usize {
    duet.seats[ALICE].store.durable().iter().filter(|(key, _)| key[0] == b'e').count()
}

fn known(duet: &mut Duet, seat: usize) -> TowerChannel {
    let Reply::TowerChannels(channels) = duet.must(seat, Command::TowerChannels) else { panic!("no list") };
    assert_eq!(channels.len(), 1);
    channels[0]
}

fn watched(seed: u64, anchors: bool) -> Duet {
    let mut duet = Duet::with(seed, |_, config| config.tower = true);
    duet.connect();
    duet.open(Open { anchors, ..Open::default() });
    duet
}

fn begin(duet: &mut Duet) {
    let all = [(1, ALICE, 30_000_000), (2, BOB, 20_000_000), (3, ALICE, 25_000_000), (4, BOB, 15_000_000)];
    for (number, payer, msat) in all {
        duet.pay_held(payer, number, msat);
    }
    duet.settle();
}

/// All of them end, and money moves on.
fn end(duet: &mut Duet) {
    for (number, payee) in [(1, BOB), (2, ALICE)] {
        duet.must(payee, Command::SettleInvoice { preimage: preimage(number) });
    }
    for (number, payee) in [(3, BOB), (4, ALICE)] {
        duet.must(payee, Command::CancelInvoice { payment_hash: preimage(number).hash() });
    }
    duet.settle();
}

fn money(duet: &Duet, seat: usize) -> u64 {
    duet.chain.money_of(&duet.seats[seat].wallet.script)
}

/// Every output but `to_remote`, which nobody but the victim can take, and anchors.
fn takeable(tower: &Tower) -> u64 {
    takeable_of(&tower.breaches[0])
}

fn takeable_of(breach: &Breach) -> u64 {
    let own = |k| matches!(k, Kind::ToLocal | Kind::Htlc);
    breach.watch.outputs.iter().filter(|o| own(o.kind)).map(|o| o.amount.0).sum()
}

#[test]
fn a_tower_takes_every_output_second_level_ones_too() {
    // BOLT 5 [5.revoked.2, 5.revoked.3, 5.revoked.4, 5.revoked.6].
    for anchors in [true, false] {
        for cheat_seat in [ALICE, BOB] {
            for late_blocks in [0, 3] {
                let victim = other(cheat_seat);
                let mut duet = watched(1_600, anchors);
                let mut tower = Tower::new(Mode::Key);
                duet.pay(ALICE, "before", 100_000_000);
                begin(&mut duet);
                let old = duet.seats[cheat_seat].store.durable();
                end(&mut duet);
                tower.collect(&mut duet, victim);
                duet.mute = Some(victim);
                let before = [money(&duet, ALICE), money(&duet, BOB)];
                cheat(&mut duet, cheat_seat, old, Some(if cheat_seat == BOB { 1 } else { 2 }));
                // The cheat settles again what it was offered, and is in a block with it before the tower wakes.
                let from = duet.chain.height() + 1;
                duet.mine(1 + late_blocks);
                for height in from..=duet.chain.height() {
                    tower.connected(&duet, height);
                }
                tower.publish(&mut duet);
                tower.mine(&mut duet, 12);

                assert_eq!(tower.breaches.len(), 1);
                assert_eq!(tower.taken(Kind::ToLocal), [true]);
                let second = tower.taken(Kind::Second);
                assert!(second.iter().all(|ours| *ours) && second.len() <= 1);
                assert_eq!(
                    second.len(),
                    usize::from(late_blocks > 0),
                    "anchors {anchors}, cheat {cheat_seat}"
                );
                let htlcs = tower.taken(Kind::Htlc);
                assert_eq!(htlcs.len(), 4);
                assert_eq!(htlcs.iter().filter(|ours| **ours).count(), 4 - second.len());
                let (all, gained) = (takeable(&tower), money(&duet, victim) - before[victim]);
                assert!(gained < all && gained + 30_000 > all, "{gained} of {all}");
                assert!(money(&duet, cheat_seat) <= before[cheat_seat], "the cheat gained");
                let end = |blocks: u32, minimum| {
                    let (tip, fees) = (Height(duet.chain.height() + blocks), Fees { minimum, ..FEES });
                    tower.breaches[0].end(&Moment { tip, fees, crypto: &*crypto() })
                };
                assert_eq!(end(0, FEES.minimum), None);
                assert!(end(100, FEES.minimum).is_some_and(|end| end.left.0 == 0));
            }
        }
    }
}

#[test]
fn what_was_signed_in_advance_takes_the_balance_and_nothing_else() {
    for anchors in [true, false] {
        let mut duet = watched(1_610, anchors);
        let mut tower = Tower::new(Mode::Presigned);
        duet.pay(ALICE, "before", 100_000_000);
        begin(&mut duet);
        let old = duet.seats[BOB].store.durable();
        end(&mut duet);
        tower.collect(&mut duet, ALICE);
        assert!(tower.blobs.values().all(|blob| blob.len() < 450), "about 350 bytes");
        duet.mute = Some(ALICE);
        let before = money(&duet, ALICE);
        let commitment = cheat(&mut duet, BOB, old, None);
        duet.mine(1);
        tower.connected(&duet, duet.chain.height());
        // Nobody mines the cheap one: a dearer one takes its place.
        let cheap = tower.publish(&mut duet);
        assert_eq!(cheap.len(), 1);
        duet.chain.mempool.clear();
        tower.mine(&mut duet, 2);
        assert_ne!(tower.publish(&mut duet), cheap);
        tower.mine(&mut duet, 1);
        assert_eq!(tower.taken(Kind::ToLocal), [true]);
        assert_eq!(tower.publish(&mut duet), []);
        let to_local = tower.breaches[0].watch.outputs.iter().find(|o| o.kind == Kind::ToLocal);
        let to_local = to_local.expect("a balance");
        assert_eq!(to_local.outpoint.txid, commitment.compute_txid());
        let gained = money(&duet, ALICE) - before;
        assert!(gained < to_local.amount.0 && gained + 20_000 > to_local.amount.0, "{gained}");
    }
}

#[test]
fn a_reorganisation_and_a_restart_of_the_tower_change_nothing() {
    let mut duet = watched(1_620, true);
    let mut tower = Tower::new(Mode::Key);
    duet.pay(ALICE, "before", 100_000_000);
    begin(&mut duet);
    let old = duet.seats[BOB].store.durable();
    end(&mut duet);
    tower.collect(&mut duet, ALICE);
    duet.mute = Some(ALICE);
    cheat(&mut duet, BOB, old, None);
    duet.mine(1);
    tower.connected(&duet, duet.chain.height());
    tower.publish(&mut duet);
    tower.mine(&mut duet, 2);
    assert_eq!(tower.taken(Kind::ToLocal), [true]);
    let height = duet.chain.height();
    duet.unmine(true);
    duet.unmine(true);
    tower.breaches.iter_mut().for_each(|b| b.on_undone(Height(height - 1)));
    assert_eq!(tower.taken(Kind::ToLocal), [false]);
    let kept = chand_protocol::record::encode(&tower.breaches);
    tower.breaches = chand_protocol::record::decode(&kept).expect("read back");
    tower.publish(&mut duet);
    tower.mine(&mut duet, 3);
    assert_eq!(tower.taken(Kind::ToLocal), [true]);
    assert_eq!(tower.taken(Kind::Htlc), [true; 4]);
}

/// Any old state, of many; the notes of what every tower has are gone, and no state needs what was sent before a gap.
#[test]
fn notes_go_when_towers_have_them_and_a_new_tower_gets_what_it_needs() {
    let mut duet = watched(1_630, true);
    let (mut first, mut second) = (Tower::new(Mode::Key), Tower::new(Mode::Key));
    for number in 0..20 {
        duet.pay(if number % 3 == 0 { BOB } else { ALICE }, &format!("pay-{number}"), 5_000_000);
    }
    begin(&mut duet);
    first.collect(&mut duet, ALICE);
    let channel = known(&mut duet, ALICE);
    assert_eq!((channel.first, first.next), (0, channel.end));
    let noted = notes(&duet);
    assert!(noted > 40, "{noted}");
    duet.must(ALICE, Command::TowersHave { channel: channel.channel, below: Some(channel.end) });
    assert_eq!(notes(&duet), noted, "so few stay, for a tower that loses some");
    // A tower that says it has what does not exist yet is not believed so far.
    duet.must(ALICE, Command::TowersHave { channel: channel.channel, below: Some(u64::MAX) });
    assert_eq!((notes(&duet), known(&mut duet, ALICE).kept), (noted, channel.end));
    duet.restart(ALICE);
    duet.settle();
    assert_eq!(known(&mut duet, ALICE), TowerChannel { kept: channel.end, ..channel });

    // The second tower starts here; the state that it gets first holds four HTLCs that began long ago.
    let old = duet.seats[BOB].store.durable();
    end(&mut duet);
    first.collect(&mut duet, ALICE);
    second.collect_from(&mut duet, ALICE, channel.end);
    assert!(second.blobs.len() < 20 && first.blobs.len() > 40);
    duet.mute = Some(ALICE);
    cheat(&mut duet, BOB, old, None);
    duet.mine(1);
    for tower in [&mut first, &mut second] {
        tower.connected(&duet, duet.chain.height());
        assert_eq!(tower.taken(Kind::Htlc), [false; 4], "all four are recognised");
        assert_eq!(tower.taken(Kind::ToLocal), [false]);
    }
    // A blob opens with its own txid only.
    let tip = duet.chain.block(duet.chain.height()).expect("a block").clone();
    let commitment = tip.txs.iter().find(|tx| first.blobs.contains_key(&hint(&tx.compute_txid())));
    let commitment = commitment.expect("the breach");
    let find = |id: &EntryId| first.entries.get(id).cloned();
    for (name, blob) in &first.blobs {
        let opened = Breach::open(commitment, Height(1), blob, &find, &*crypto());
        assert_eq!(opened.is_some(), *name == hint(&commitment.compute_txid()));
    }
    duet.must(ALICE, Command::TowersHave { channel: channel.channel, below: None });
    assert_eq!(notes(&duet), 0);
    let Reply::TowerChannels(none) = duet.must(ALICE, Command::TowerChannels) else { panic!("no list") };
    assert_eq!(none, []);
}

/// The first state that a new tower gets holds an HTLC that is too small for an output; a later one gives it one.
#[test]
fn a_new_tower_knows_htlcs_that_were_trimmed_in_its_first_state() {
    let mut duet = Duet::with(1_640, |_, config| config.tower = true);
    duet.connect();
    duet.open(Open { anchors: false, feerate: 8_000, ..Open::default() });
    duet.pay(ALICE, "before", 100_000_000);
    duet.pay_held(ALICE, 1, 4_000_000);
    duet.pay_held(BOB, 2, 4_000_000);
    duet.settle();
    let first = known(&mut duet, ALICE).end;
    let mut tower = Tower::new(Mode::Key);
    let channel = ChannelRef::Id(duet.channel_id());
    duet.must(ALICE, Command::DevFeerate { channel, feerate: Feerate(500) });
    duet.settle();
    let old = duet.seats[BOB].store.durable();
    duet.must(BOB, Command::SettleInvoice { preimage: preimage(1) });
    duet.must(ALICE, Command::CancelInvoice { payment_hash: preimage(2).hash() });
    duet.settle();
    tower.collect_from(&mut duet, ALICE, first);
    duet.mute = Some(ALICE);
    cheat(&mut duet, BOB, old, None);
    duet.mine(1);
    tower.connected(&duet, duet.chain.height());
    assert_eq!(tower.taken(Kind::Htlc), [false; 2], "both are recognised");
    tower.publish(&mut duet);
    tower.mine(&mut duet, 1);
    assert_eq!(tower.taken(Kind::Htlc), [true; 2]);
}

/// No tower takes them any more: what waits is bounded, with and without one on the command line, and told in the log.
#[test]
fn what_waits_for_towers_is_bounded() {
    let mut duet = Duet::counterfeit(1_650, |_, config| config.tower = true);
    duet.check_every = 50;
    duet.connect();
    duet.open(Open::default());
    let pays = |duet: &mut Duet, label: &str, count: usize| {
        for number in 0..count {
            duet.pay(ALICE, &format!("{label}-{number}"), 100_000);
        }
    };
    pays(&mut duet, "one", 250);
    let before = notes(&duet);
    assert!(before > 450, "{before}");
    duet.mine(1);
    assert_eq!(notes(&duet), before, "a tower that is away may come back");
    // What every tower has goes, all but the newest.
    let channel = known(&mut duet, ALICE);
    duet.must(ALICE, Command::TowersHave { channel: channel.channel, below: Some(channel.end) });
    assert_eq!(known(&mut duet, ALICE).first, channel.end - 400);
    let kept = notes(&duet);
    pays(&mut duet, "two", 50);
    assert!(notes(&duet) >= kept + 100);
    // Started without a tower.
    duet.seats[ALICE].configure(|config| config.tower = false);
    duet.restart(ALICE);
    duet.settle();
    let dropped =
        |duet: &Duet| duet.seats[ALICE].log.iter().filter(|n| n.text.contains("are dropped")).count();
    duet.mine(1);
    assert_eq!((notes(&duet), dropped(&duet)), (400, 0), "every tower has what went");
    pays(&mut duet, "three", 3);
    assert_eq!(notes(&duet), 400, "nothing is noted");
    // Given again: what comes from now on has all that it needs, and there is a hole before it.
    duet.seats[ALICE].configure(|config| config.tower = true);
    duet.restart(ALICE);
    duet.settle();
    pays(&mut duet, "four", 120);
    let end = known(&mut duet, ALICE).end;
    let order = Command::TowerStates { channel: channel.channel, from: 0, most: 2_000, whole: true };
    let Reply::TowerStates { states, .. } = duet.must(ALICE, order) else { panic!("no states") };
    let numbers: Vec<u64> = states.iter().map(|s| s.noted.number).collect();
    assert_eq!(numbers.last(), Some(&(end - 1)));
    assert_eq!(numbers.windows(2).filter(|two| two[1] != two[0] + 1).count(), 1, "one hole");
    // Without a tower again, and now some go that none has.
    duet.seats[ALICE].configure(|config| config.tower = false);
    duet.restart(ALICE);
    duet.settle();
    duet.mine(1);
    assert_eq!(notes(&duet), 400);
    duet.close(BOB);
    duet.mine(101);
    assert!(duet.channel(ALICE).retired);
    assert_eq!(notes(&duet), 0, "nobody can cheat any more");
    let marks =
        |duet: &Duet| duet.seats[ALICE].store.durable().iter().filter(|(key, _)| key[0] == b'u').count();
    assert_eq!(marks(&duet), 1, "towers may still be told to forget it");
    duet.mine(2_016);
    assert_eq!(marks(&duet), 0, "not for ever");
}

/// No miner takes the penalty, and the cheat's delay runs out: it pays more and more.
#[test]
fn a_penalty_is_raised_as_the_delay_runs_out() {
    for mode in [Mode::Key, Mode::Presigned] {
        let mut duet = watched(1_660, true);
        let mut tower = Tower::new(mode);
        duet.pay(ALICE, "before", 100_000_000);
        let old = duet.seats[BOB].store.durable();
        duet.pay(BOB, "after", 50_000_000);
        tower.collect(&mut duet, ALICE);
        duet.mute = Some(ALICE);
        cheat(&mut duet, BOB, old, None);
        duet.mine(1);
        tower.connected(&duet, duet.chain.height());
        let paid = |txs: &[Transaction]| {
            assert_eq!(txs.len(), 1);
            txs[0].output.iter().map(|o| o.value.to_sat()).sum::<u64>()
        };
        let first = paid(&tower.publish(&mut duet));
        let delay = tower.breaches[0].delay_blocks();
        for _ in 0..u32::from(delay) - 2 {
            duet.mine_foreign(1);
            tower.connected(&duet, duet.chain.height());
            tower.publish(&mut duet);
        }
        let last = paid(&tower.publish(&mut duet));
        assert!(first - last > 300, "{mode:?}: {first} and then {last}");
        duet.mine(1);
        tower.connected(&duet, duet.chain.height());
        assert_eq!(tower.taken(Kind::ToLocal), [true]);
    }
}

/// What nobody takes the tower tries for four weeks after its deadline, whatever a block's feerates say; what not even the lowest
/// feerate is worth, it does not.
#[test]
fn a_case_ends_when_what_is_left_is_not_worth_its_fee() {
    let mut duet = watched(1_670, true);
    let mut tower = Tower::new(Mode::Key);
    duet.pay(ALICE, "before", 100_000_000);
    begin(&mut duet);
    let old = duet.seats[BOB].store.durable();
    end(&mut duet);
    tower.collect(&mut duet, ALICE);
    duet.mute = Some(ALICE);
    cheat(&mut duet, BOB, old, None);
    duet.mine(1);
    tower.connected(&duet, duet.chain.height());
    let breach = &tower.breaches[0];
    let (crypto, born) = (crypto(), duet.chain.height());
    let deadline = born + u32::from(breach.delay_blocks());
    let end_of = |breach: &Breach, tip: u32, minimum: u32| {
        let fees = Fees { minimum: Feerate(minimum), ..FEES };
        breach.end(&Moment { tip: Height(tip), fees, crypto: &*crypto })
    };
    let end = |tip: u32, minimum: u32| end_of(breach, tip, minimum);
    let all = takeable(&tower);
    // A feerate at which nothing is worth it.
    let dear = 2_000_000;
    for feerate in [253, dear] {
        assert_eq!(end(deadline + 99, feerate), None, "that is worth to be tried on");
        assert_eq!(end(deadline + 4_031, feerate), None);
        assert_eq!(end(deadline + 4_032, feerate).map(|end| end.left.0), Some(all), "not for ever");
    }
    let mut small = breach.clone();
    for output in &mut small.watch.outputs {
        output.amount = output.amount.min(Sat(400));
    }
    let left = takeable_of(&small);
    assert_eq!(end_of(&small, deadline + 98, 253), None);
    assert_eq!(end_of(&small, deadline + 99, 253).map(|end| end.left.0), Some(left));
}
