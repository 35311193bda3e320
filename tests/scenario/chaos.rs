//! Everything at once: payments both ways, holds, feerates, blocks, cuts, crashes and failing disks, in an order that
//! the seed decides. At the end all is healed, and every msat is where both say it is.

use chand_protocol::channel::Phase;
use chand_protocol::id::PaymentHash;
use chand_protocol::node::command::{ChannelRef, Command, InvoiceFilter, Reply};
use chand_protocol::units::Feerate;
use chand_storage::Fault;
use chand_tests::duet::play::{pay, preimage, request, Open};
use chand_tests::duet::{other, Crash, Cut, Duet, When, ALICE, BOB};
use std::collections::BTreeMap;

/// One payment that was tried.
struct Tried {
    payer: usize,
    msat: u64,
    hold: Option<u64>,
}

struct World {
    duet: Duet,
    tried: BTreeMap<PaymentHash, Tried>,
    /// Invoices made beforehand: by payer, amount, text, hold number.
    ready: Vec<(usize, u64, String, PaymentHash, Option<u64>)>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut duet = Duet::with(seed, |_, config| config.simple_close = seed % 3 == 0);
        duet.connect();
        let (anchors, push_msat) = (seed % 2 == 0, if seed % 5 == 0 { 0 } else { 450_000_000 });
        duet.open(Open { anchors, push_msat, ..Open::default() });
        let mut world = World { duet, tried: BTreeMap::new(), ready: Vec::new() };
        for number in 0..60 {
            world.prepare(number);
        }
        world.duet.burst = 1 + seed as usize % 4;
        world
    }

    fn prepare(&mut self, number: u64) {
        let payer = self.duet.random() as usize >> 5 & 1;
        let size = [1_000, 500_000, 3_000_000, 40_000_000, 300_000_000][self.duet.random() as usize % 5];
        let msat = 1 + self.duet.random() % size;
        let hold = (self.duet.random() % 3 == 0).then_some(number);
        let invoice = match hold {
            Some(number) => self.duet.hold_invoice(other(payer), number, msat),
            None => self.duet.invoice(other(payer), request(&format!("{number}"), Some(msat))),
        };
        self.ready.push((payer, msat, invoice.bolt11, invoice.payment_hash, hold));
    }

    fn act(&mut self) {
        let pick = self.duet.random();
        let seat = pick as usize >> 8 & 1;
        match pick % 100 {
            0..=34 => {
                let Some((payer, msat, bolt11, hash, hold)) = self.ready.pop() else { return };
                self.tried.insert(hash, Tried { payer, msat, hold });
                self.duet.tell(payer, pay(&bolt11, None));
            }
            35..=44 => self.decide(pick >> 9),
            45..=49 => {
                let channel = ChannelRef::Id(self.duet.channel_id());
                let feerate = Feerate(253 + (pick >> 10) as u32 % 3_000);
                self.duet.tell(ALICE, Command::DevFeerate { channel, feerate });
            }
            50..=53 => self.duet.cut([None, Some(ALICE), Some(BOB)][(pick >> 10) as usize % 3]),
            54..=57 => {
                let when = [When::BeforeCommit, When::BeforeRelease, When::AfterRelease];
                let when = when[(pick >> 12) as usize % 3];
                let step = self.duet.seats[seat].steps + 1 + (pick >> 20) % 6;
                self.duet.crashes.push(Crash { seat, step, when });
            }
            58..=59 => {
                let faults = [Fault::FailBefore, Fault::FailSync, Fault::FailAfter];
                self.duet.seats[seat].store.plan([Some(faults[(pick >> 12) as usize % 3])]);
            }
            60 => self.duet.chain.mine(),
            _ => {
                for _ in 0..pick >> 12 & 15 {
                    self.duet.turn();
                }
            }
        }
    }

    /// Settles or cancels one hold invoice, whether its money is there or not.
    fn decide(&mut self, pick: u64) {
        let held: Vec<(usize, u64)> =
            self.tried.values().filter_map(|t| Some((other(t.payer), t.hold?))).collect();
        if held.is_empty() {
            return;
        }
        let (seat, number) = held[pick as usize % held.len()];
        let command = if pick >> 20 & 1 == 0 {
            Command::SettleInvoice { preimage: preimage(number) }
        } else {
            Command::CancelInvoice { payment_hash: preimage(number).hash() }
        };
        self.duet.tell(seat, command);
    }

    /// One of the two closes while links break and nodes die.
    fn stormy_close(&mut self) {
        let duet = &mut self.duet;
        let closed = |duet: &Duet| [ALICE, BOB].map(|s| matches!(duet.channel(s).phase, Phase::Closed(_)));
        for _ in 0..3 {
            let pick = duet.random();
            let (seat, soon) = (pick as usize >> 8 & 1, pick >> 20 & 7);
            let when = [When::BeforeCommit, When::BeforeRelease, When::AfterRelease];
            let crash =
                Crash { seat, step: duet.seats[seat].steps + 1 + soon, when: when[pick as usize % 3] };
            duet.crashes.push(crash);
            let keep = [None, Some(ALICE), Some(BOB)][(pick >> 12) as usize % 3];
            duet.cuts.push(Cut { after: duet.delivered + (pick >> 28 & 15), keep });
        }
        for _ in 0..8 {
            if closed(duet) != [false, false] {
                break;
            }
            // The order may die with its node.
            let (order, closer) = (duet.close_order(), duet.random() as usize >> 7 & 1);
            duet.tell(closer, order);
            duet.run();
            duet.wait_ms(2_000);
        }
        duet.crashes.clear();
        duet.cuts.clear();
        // The other side hears of it too, before any block.
        duet.wait_ms(20_000);
        assert_eq!(closed(duet), [true, true]);
        duet.judge_close();
    }

    /// All is mended, every held payment given back; what is left is counted.
    fn heal_and_judge(&mut self) {
        self.duet.crashes.clear();
        for seat in [ALICE, BOB] {
            self.duet.seats[seat].store.plan([]);
        }
        self.duet.settle();
        self.duet.wait_ms(61_000);
        self.duet.settle();
        self.duet.judge_agreement();
        for number in 0..60 {
            let payment_hash = preimage(number).hash();
            for seat in [ALICE, BOB] {
                self.duet.ask(seat, Command::CancelInvoice { payment_hash });
            }
        }
        self.duet.run();
        let start = self.duet.channel(ALICE).view(chand_protocol::units::Height(0)).initial_to_us_msat.0;
        let mut alice = i128::from(start);
        assert!(self.duet.channel(ALICE).ledger.htlcs.is_empty(), "an HTLC is left");
        for (hash, tried) in &self.tried {
            let sent = self.duet.payment(tried.payer, *hash).map(|p| p.status);
            let filter = InvoiceFilter { payment_hash: Some(*hash), ..InvoiceFilter::default() };
            let reply = self.duet.must(other(tried.payer), Command::ListInvoices(filter));
            let Reply::Invoices(list) = reply else { panic!("{reply:?}") };
            let paid = list.first().map(|i| i.status == "paid");
            assert!(sent != Some("pending"), "{hash} is still pending");
            assert_eq!(sent == Some("complete"), paid == Some(true), "{hash}: the two disagree");
            if sent == Some("complete") {
                let msat = i128::from(tried.msat);
                alice += if tried.payer == ALICE { -msat } else { msat };
            }
        }
        assert_eq!(i128::from(self.duet.balance_msat(ALICE)), alice);
        self.duet.judge_agreement();
        self.duet.judge_peace();
        for seat in [ALICE, BOB] {
            assert_eq!(self.duet.seats[seat].logged("peer fault"), 0, "honest peers find no fault");
        }
    }
}

fn chaos(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..220 {
        world.act();
    }
    world.heal_and_judge();
    world.stormy_close();
}

#[test]
fn whatever_happens_no_msat_is_lost_or_made() {
    let range = std::env::var("CHAOS").ok().and_then(|v| {
        let (from, to) = v.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    });
    let seeds = range.unwrap_or(1_000..1_025);
    let failed: Vec<u64> = seeds.filter(|seed| std::panic::catch_unwind(|| chaos(*seed)).is_err()).collect();
    assert!(failed.is_empty(), "seeds {failed:?}: run one alone with CHAOS=FROM..TO");
}
