//! The usual moves: connect, open, invoice, pay, close.
//!
//! In: who and how much. Out: the money moved, or the words of the refusal. Read next: `judge`.

use super::{other, Duet, ALICE, BOB};
use chand_protocol::id::{CommandId, PaymentHash, Preimage};
use chand_protocol::node::command::{ChannelRef, Command, CommandError, InvoiceRequest, Reply, RouteLimits};
use chand_protocol::node::effect::Input;
use chand_protocol::node::view;
use chand_protocol::units::{Feerate, Msat, Sat};

/// What an opener decides.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    /// Capacity, sat.
    pub sat: u64,
    /// Given away, msat.
    pub push_msat: u64,
    /// With anchors, or static_remotekey only.
    pub anchors: bool,
    /// Sat per 1,000 weight units.
    pub feerate: u32,
    /// What the peer must keep, sat.
    pub reserve: Option<u64>,
    /// Everybody is to hear of it.
    pub announce: bool,
    /// With `option_scid_alias`; `None`: as the node thinks best.
    pub scid_alias: Option<bool>,
}

impl Default for Open {
    fn default() -> Open {
        Open {
            sat: 1_000_000,
            push_msat: 400_000_000,
            anchors: true,
            feerate: 1_000,
            reserve: None,
            announce: false,
            scid_alias: Some(false),
        }
    }
}

/// An order to pay.
pub fn pay(bolt11: &str, amount_msat: Option<u64>) -> Command {
    Command::Pay {
        bolt11: bolt11.into(),
        amount_msat: amount_msat.map(Msat),
        label: None,
        retry_for_s: 60,
        limits: RouteLimits::default(),
    }
}

/// A secret of one's own making.
pub fn preimage(number: u64) -> Preimage {
    let mut bytes = [0x42; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Preimage(bytes)
}

/// What a new invoice asks for.
pub fn request(label: &str, amount_msat: Option<u64>) -> InvoiceRequest {
    InvoiceRequest {
        amount_msat: amount_msat.map(Msat),
        label: label.into(),
        description: "a test".into(),
        description_hash_only: false,
        expiry_s: None,
        preimage: None,
        cltv_blocks: None,
        hold: None,
        expose_private: None,
        blinded: None,
    }
}

impl Duet {
    /// Alice calls Bob.
    pub fn connect(&mut self) {
        let peer = self.id(BOB);
        let reply = self.must(ALICE, Command::Connect { peer, address: Some("127.0.0.1:9736".into()) });
        assert!(matches!(reply, Reply::Connected(_)));
        self.settle();
    }

    /// The order that opens.
    pub fn fund_order(&self, seat: usize, open: Open) -> Command {
        Command::FundChannel {
            peer: self.id(other(seat)),
            amount: Some(Sat(open.sat)),
            feerate: Some(Feerate(open.feerate)),
            announce: open.announce,
            push_msat: Msat(open.push_msat),
            close_to: None,
            mindepth: None,
            reserve: open.reserve.map(Sat),
            anchors: Some(open.anchors),
            scid_alias: open.scid_alias,
        }
    }

    /// Alice opens a channel to Bob and both see it confirm.
    pub fn open(&mut self, open: Open) {
        let order = self.fund_order(ALICE, open);
        let reply = self.must(ALICE, order);
        assert!(matches!(reply, Reply::Funded { .. }), "{reply:?}");
        self.mine(1);
        assert!(self.channel(ALICE).is_usable() && self.channel(BOB).is_usable());
    }

    /// Two nodes with one open channel.
    pub fn opened(seed: u64, open: Open) -> Duet {
        let mut duet = Duet::new(seed);
        duet.connect();
        duet.open(open);
        duet
    }

    /// A new invoice of a node.
    pub fn invoice(&mut self, seat: usize, request: InvoiceRequest) -> view::Invoice {
        let reply = self.must(seat, Command::Invoice(request));
        let Reply::Invoice(invoice) = reply else { panic!("{reply:?}") };
        invoice
    }

    /// A hold invoice for the hash of [`preimage`]`(number)`.
    pub fn hold_invoice(&mut self, seat: usize, number: u64, amount_msat: u64) -> view::Invoice {
        let hold = Some(preimage(number).hash());
        self.invoice(seat, InvoiceRequest { hold, ..request(&format!("hold-{number}"), Some(amount_msat)) })
    }

    /// `payer` pays the other `amount_msat` on an invoice made for it; gives what was paid.
    pub fn pay(&mut self, payer: usize, label: &str, amount_msat: u64) -> view::Pay {
        let invoice = self.invoice(other(payer), request(label, Some(amount_msat)));
        let reply = self.must(payer, pay(&invoice.bolt11, None));
        let Reply::Paid(paid) = reply else { panic!("{reply:?}") };
        assert_eq!(paid.preimage.as_ref().map(Preimage::hash), Some(invoice.payment_hash));
        paid
    }

    /// `payer` pays the other so many times at once, and nothing is left under way.
    ///
    /// # Panics
    /// When one of them fails.
    pub fn pay_many(&mut self, payer: usize, label: &str, count: u64, amount_msat: u64) {
        let wish = |n| Command::Invoice(request(&format!("{label}-{n}"), Some(amount_msat)));
        let made = self.at_once(other(payer), (0..count).map(wish).collect());
        let order = |reply| match reply {
            Reply::Invoice(invoice) => pay(&invoice.bolt11, None),
            other => panic!("{other:?}"),
        };
        for reply in self.at_once(payer, made.into_iter().map(order).collect()) {
            assert!(matches!(reply, Reply::Paid(_)), "{reply:?}");
        }
    }

    /// Orders in one step, and their answers.
    fn at_once(&mut self, seat: usize, commands: Vec<Command>) -> Vec<Reply> {
        let first = self.next_command + 1;
        self.next_command += commands.len() as u64;
        let ids: Vec<CommandId> = (first..=self.next_command).map(CommandId).collect();
        let order = |(id, command): (&CommandId, Command)| Input::Command { id: *id, command };
        let inputs = ids.iter().zip(commands).map(order).collect();
        self.step(seat, inputs);
        self.run();
        let answer = |id| match self.answer(id) {
            Some(Ok(reply)) => reply,
            other => panic!("{other:?}"),
        };
        ids.into_iter().map(answer).collect()
    }

    /// Starts a payment of a hold invoice that waits at the payee; gives the order's number.
    pub fn pay_held(&mut self, payer: usize, number: u64, amount_msat: u64) -> CommandId {
        let invoice = self.hold_invoice(other(payer), number, amount_msat);
        let id = self.tell(payer, pay(&invoice.bolt11, None));
        self.run();
        id
    }

    /// How an invoice stands: its status and, for a hold invoice, how far it is.
    pub fn invoice_status(&mut self, seat: usize, hash: PaymentHash) -> (String, Option<String>) {
        let filter = chand_protocol::node::command::InvoiceFilter {
            payment_hash: Some(hash),
            ..chand_protocol::node::command::InvoiceFilter::default()
        };
        let reply = self.must(seat, Command::ListInvoices(filter));
        let Reply::Invoices(list) = reply else { panic!("{reply:?}") };
        let one = list.first().unwrap_or_else(|| panic!("no such invoice"));
        (one.status.into(), one.hold.map(Into::into))
    }

    /// A payment as `listpays` has it.
    pub fn payment(&mut self, seat: usize, hash: PaymentHash) -> Option<view::Pay> {
        let reply = self.must(seat, Command::ListPays { payment_hash: Some(hash), bolt11: None });
        let Reply::Pays(list) = reply else { panic!("{reply:?}") };
        list.into_iter().next()
    }

    /// The order to close the one channel.
    pub fn close_order(&self) -> Command {
        Command::Close {
            channel: ChannelRef::Id(self.channel_id()),
            unilateral_timeout_s: 0,
            destination: None,
            feerange: None,
        }
    }

    /// Closes by agreement and mines; checks that each side got on chain what it had, less the opener's fee.
    pub fn close(&mut self, closer: usize) {
        let order = self.close_order();
        let reply = self.must(closer, order);
        assert!(matches!(reply, Reply::Closed { kind: "mutual", .. }), "{reply:?}");
        self.judge_close();
    }

    /// The closing transaction confirms and pays exactly what each had.
    pub fn judge_close(&mut self) {
        let had = [ALICE, BOB].map(|seat| self.balance_msat(seat) / 1_000);
        self.mine(1);
        let funding = self.channel(ALICE).terms.funding;
        let all = self.chain.blocks.iter().flat_map(|b| b.txs.iter());
        let tx = all.into_iter().find(|tx| tx.input.iter().any(|i| i.previous_output == funding));
        let tx = tx.unwrap_or_else(|| panic!("no closing transaction in a block")).clone();
        let mut paid = [0, 0];
        for (seat, paid) in paid.iter_mut().enumerate() {
            let script = &self.seats[seat].wallet.script;
            let mine = tx.output.iter().filter(|o| o.script_pubkey == *script);
            *paid = mine.map(|o| o.value.to_sat()).sum();
        }
        let fee =
            self.channel(ALICE).terms.capacity.0 - tx.output.iter().map(|o| o.value.to_sat()).sum::<u64>();
        assert!(fee > 0 && fee < 20_000, "a fee of {fee}");
        let opener = usize::from(self.channel(ALICE).terms.opener != chand_protocol::id::Side::Local);
        let simple = self.channel(ALICE).terms.simple_close;
        // Msats that are no whole satoshi go to the fee; with simple close whoever offered pays.
        let other_pays = simple && paid[opener] == had[opener];
        let payer = if other_pays { other(opener) } else { opener };
        assert_eq!(paid[other(payer)], had[other(payer)], "{paid:?} of {had:?}, fee {fee}");
        let lost = self.channel(ALICE).terms.capacity.0 - had[0] - had[1];
        assert_eq!(paid[payer] + fee, had[payer] + lost, "{paid:?} of {had:?}, fee {fee}");
        for seat in [ALICE, BOB] {
            assert!(self.channel(seat).spent_height().is_some(), "{} did not see it", self.seats[seat].name);
        }
        self.judge_peace();
    }

    /// A payment that must fail: its words, and no money moved.
    pub fn must_not_move(&mut self, payer: usize, command: Command) -> CommandError {
        let before = [self.balance_msat(ALICE), self.balance_msat(BOB)];
        let error = self.must_fail(payer, command);
        assert_eq!([self.balance_msat(ALICE), self.balance_msat(BOB)], before);
        self.judge_agreement();
        error
    }
}
