//! What happens to the nodes from outside: users with their orders, blocks, faults.
//!
//! In: one act of the plan. Out: commands, and what follows from their answers: an invoice that was made is paid, an
//! answer goes into the book. Read next: `plan` (the acts), `judge::money` (the book).

use super::judge::{self, money::Try, Verdict};
use super::net::address;
use super::plan::{Act, How, Much, Opening, When, SECOND};
use super::seat::{Death, Event};
use super::world::World;
use chand_protocol::channel::{Channel, Phase};
use chand_protocol::id::{sha256, ChannelId, CommandId, PaymentHash, Preimage, Side};
use chand_protocol::node::command::{
    ChannelRef, Command, CommandError, InvoiceFilter, InvoiceRequest, Reply, RouteHop, RouteLimits,
};
use chand_protocol::node::effect::{Fees, Input};
use chand_protocol::node::view::Invoice;
use chand_protocol::units::{Feerate, Msat, Sat};
use chand_protocol::wire::message::{ErrorMessage, Ping, Pong};
use chand_protocol::wire::Message;

/// How far a clock may be wrong.
const WRONG_CLOCK_MS: i64 = 7_200_000;
/// A payer's patience.
const RETRY_S: u64 = 20;

/// A command that was given and not yet answered.
#[derive(Clone, Debug)]
pub struct Asked {
    /// To whom.
    pub seat: usize,
    /// What for.
    pub what: What,
}

/// What a command is for.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum What {
    /// An invoice that is to be paid when it is there.
    Invoice { number: usize, payer: usize, give: Option<u64>, how: How },
    /// A payment.
    Pay { number: usize, payer: usize },
    /// A hold invoice to be settled.
    Settle { hash: PaymentHash },
    /// Somebody waits until this invoice is paid, perhaps for ever.
    Await { label: String },
    /// A channel to be opened.
    Fund,
    /// The answer is kept for whoever looks.
    Keep,
    /// Nobody cares.
    Other(&'static str),
}

/// The secret of hold invoice `number`.
pub fn preimage(number: usize) -> Preimage {
    Preimage(sha256(format!("hold {number}").as_bytes()))
}

fn request(label: String, amount: Option<u64>, hold: Option<PaymentHash>) -> InvoiceRequest {
    InvoiceRequest {
        amount_msat: amount.map(Msat),
        label,
        description: "sim".into(),
        description_hash_only: false,
        expiry_s: None,
        preimage: None,
        cltv_blocks: None,
        hold,
        expose_private: None,
        blinded: None,
    }
}

impl World {
    /// Gives a node an order; nothing when it is down.
    pub(super) fn tell(&mut self, seat: usize, command: Command, what: What) -> Option<CommandId> {
        self.seats[seat].life.as_ref()?;
        self.next_command += 1;
        let id = CommandId(self.next_command);
        self.commands.insert(id, Asked { seat, what });
        self.give(seat, Event::Input(Box::new(Input::Command { id, command })));
        Some(id)
    }

    /// An act happens.
    pub(super) fn perform(&mut self, act: &Act) -> Result<(), Verdict> {
        self.counts.acts += 1;
        self.judge_quiet()?;
        self.note_marks();
        judge::late::look(self);
        self.trace.note(self.now, &[1], || format!("{act:?}"));
        match act.clone() {
            Act::Pay { number, payer, much, how } => self.begin_payment(number, payer, much, how),
            Act::Settle { hold } => self.settle(hold),
            Act::Cancel { hold } => self.cancel(hold),
            Act::Delete { number, paid } => self.delete_invoice(number, paid),
            Act::Await { number } => self.await_invoice(number),
            Act::Feerate { seat, feerate } => self.set_feerate(seat, feerate),
            Act::Estimate { seat, normal } => self.estimate(seat, normal),
            Act::Open(opening) => self.open(opening),
            Act::Close { seat, nth } => self.close(seat, nth),
            Act::Ask { seat, what } => self.ask(seat, what),
            Act::Ping { seat, len, pong } => {
                let peer = self.seats[1 - seat].id;
                self.tell(seat, Command::Ping { peer, len, pongbytes: pong }, What::Other("ping"));
            }
            Act::Chatter { seat, what } => self.chatter(seat, what),
            Act::Disconnect { seat } => {
                let peer = self.seats[1 - seat].id;
                self.tell(seat, Command::Disconnect { peer, force: true }, What::Other("disconnect"));
            }
            Act::Connect { seat } => self.connect(seat),
            Act::Mine { blocks } => self.mine_fairly(blocks),
            Act::Unmine { blocks, forget } => {
                self.tally.met("reorganisation");
                self.reorganise_fairly(blocks, forget);
            }
            Act::Unreachable { seat, for_us } => {
                self.tally.met("backend away");
                self.unreachable(seat, for_us);
            }
            Act::Cut { keep } => self.cut(keep),
            Act::Silence => self.silence(),
            Act::Crash { seat, when, after, down_us, silent } => {
                let death = Death { when, after, down_us, silent };
                if when != When::Now {
                    self.seats[seat].death = Some(death);
                } else if self.seats[seat].life.is_some() {
                    return self.die(seat, death);
                }
            }
            Act::Disk { seat, troubles } => self.seats[seat].troubles.extend(troubles),
            Act::Slow { seat, sync_us, for_us } => {
                self.tally.met("slow disk");
                self.seats[seat].slow = Some((self.now + for_us, sync_us));
            }
            Act::Bug { seat } => return self.bug(seat),
            Act::Clock { seat, by_ms } => {
                self.tally.met("clock jump");
                let off = self.seats[seat].clock_off_ms + by_ms;
                self.seats[seat].clock_off_ms = off.clamp(-WRONG_CLOCK_MS, WRONG_CLOCK_MS);
                // The daemon's core sleeps ten seconds at most.
                self.wake(seat, self.now + 10 * SECOND);
            }
            Act::Lie { lie, skip } => self.cheat.plan(lie, skip),
            act => return self.feud(act),
        }
        Ok(())
    }

    /// A seat's channels that are worth naming, oldest first.
    fn channels_of(&self, seat: usize) -> Vec<&Channel> {
        self.seats[seat].node().map(|n| n.channels().collect()).unwrap_or_default()
    }

    fn spendable(&self, seat: usize) -> u64 {
        let open = self.channels_of(seat).into_iter().filter(|c| c.phase == Phase::Open);
        open.map(|c| c.ledger.spendable(&c.terms, Side::Local).0).max().unwrap_or(0)
    }

    fn begin_payment(&mut self, number: usize, payer: usize, much: Much, how: How) {
        let msat = match much {
            Much::Msat(msat) => msat,
            Much::Share(share, more) => {
                let all = u128::from(self.spendable(payer)) * u128::from(share) / 1_000;
                u64::try_from(all).unwrap_or(0).saturating_add_signed(more).max(1)
            }
        };
        let (payee, label) = (1 - payer, format!("{number}"));
        match how {
            How::Invoice => self.make_invoice(number, payer, request(label, Some(msat), None), None),
            How::AnyAmount => self.make_invoice(number, payer, request(label, None, None), Some(msat)),
            How::Hold => {
                let hold = Some(preimage(number).hash());
                self.make_invoice(number, payer, request(label, Some(msat), hold), None);
            }
            How::Twin(earlier) => match self.judges.book.tries.get(&earlier) {
                Some(first) if first.hold => {
                    let (hold, payer) = (Some(preimage(first.secret).hash()), 1 - first.payer);
                    self.make_invoice(number, payer, request(label, Some(msat), hold), None);
                }
                _ => self.make_invoice(number, payer, request(label, Some(msat), None), None),
            },
            How::Again(earlier) => {
                let Some(first) = self.judges.book.tries.get_mut(&earlier) else { return };
                first.attempts += 1;
                let (payer, bolt11, give) = (first.payer, first.bolt11.clone(), first.give);
                self.pay(earlier, payer, bolt11, give);
            }
            How::Keysend => {
                let hash = None;
                self.judges.book.tries.insert(number, Try { msat, hash, ..Try::new(payer) });
                let destination = self.seats[payee].id;
                let amount_msat = Msat(msat);
                let command = Command::Keysend {
                    destination,
                    amount_msat,
                    label: None,
                    retry_for_s: RETRY_S,
                    limits: RouteLimits::default(),
                };
                self.tell(payer, command, What::Pay { number, payer });
            }
            How::Stray => self.pay_stray(number, payer, msat),
            How::Sent | How::Guessed => {
                let what = What::Invoice { number, payer, give: None, how };
                self.tell(payee, Command::Invoice(request(label, Some(msat), None)), what);
            }
        }
    }

    fn pay_stray(&mut self, number: usize, payer: usize, msat: u64) {
        let payment_hash = PaymentHash(sha256(format!("stray {number}").as_bytes()));
        self.send_to(payer, payment_hash, [7; 32], msat);
    }

    /// Pays an invoice by `sendpay`; with a payment secret made up it must come back.
    fn send_pay(&mut self, payer: usize, how: How, invoice: &Invoice) {
        let (hash, msat) = (invoice.payment_hash, invoice.amount_msat.map_or(0, |m| m.0));
        let guessed = how == How::Guessed;
        if guessed {
            self.judges.book.never.insert((1 - payer, hash));
        }
        self.tally.met(if guessed { "sendpay with a guessed secret" } else { "sendpay" });
        self.send_to(payer, hash, if guessed { [7; 32] } else { invoice.payment_secret }, msat);
    }

    /// The payee forgets an invoice, if it may.
    fn delete_invoice(&mut self, number: usize, paid: bool) {
        let Some((payer, hash)) = self.judges.book.tries.get(&number).and_then(|t| Some((t.payer, t.hash?)))
        else {
            return;
        };
        let (label, status) = (format!("{number}"), if paid { "paid" } else { "unpaid" }.into());
        let told = self.tell(1 - payer, Command::DelInvoice { label, status }, What::Other("delinvoice"));
        if told.is_some() {
            // Whether it went is known from the lists.
            self.judges.book.deleted.insert((1 - payer, hash));
            self.judges.told[1 - payer].may_forget(&hash);
            self.tally.met("delinvoice");
        }
    }

    fn await_invoice(&mut self, number: usize) {
        let Some(payer) = self.judges.book.tries.get(&number).map(|t| t.payer) else { return };
        let label = format!("{number}");
        let what = What::Await { label: label.clone() };
        self.tell(1 - payer, Command::WaitInvoice { label }, what);
        self.tally.met("waitinvoice");
    }

    /// Nobody waits for an answer, but for an invoice to be paid.
    pub(super) fn is_answered(&self) -> bool {
        self.commands.values().all(|asked| matches!(asked.what, What::Await { .. }))
    }

    fn send_to(&mut self, payer: usize, payment_hash: PaymentHash, secret: [u8; 32], msat: u64) {
        let id = self.seats[1 - payer].id;
        let amount_msat = Msat(msat);
        let route = vec![RouteHop { id, channel: None, amount_msat, delay_blocks: 20 }];
        let payment_secret = Some(secret);
        let (label, bolt11) = (None, None);
        let command =
            Command::SendPay { route, payment_hash, payment_secret, amount_msat: None, label, bolt11 };
        self.tell(payer, command, What::Other("sendpay"));
    }

    fn make_invoice(&mut self, number: usize, payer: usize, request: InvoiceRequest, give: Option<u64>) {
        self.tell(
            1 - payer,
            Command::Invoice(request),
            What::Invoice { number, payer, give, how: How::Invoice },
        );
    }

    fn pay(&mut self, number: usize, payer: usize, bolt11: String, give: Option<u64>) {
        if bolt11.is_empty() {
            return;
        }
        let amount_msat = give.map(Msat);
        let (label, retry_for_s, limits) = (None, RETRY_S, RouteLimits::default());
        let command = Command::Pay { bolt11, amount_msat, label, retry_for_s, limits };
        self.tell(payer, command, What::Pay { number, payer });
    }

    /// Whoever waits for this payment's money takes it.
    pub(super) fn settle(&mut self, number: usize) {
        let Some(seat) = self.holder(number) else { return };
        let preimage = self.secret_of(number);
        let hash = preimage.hash();
        self.tell(seat, Command::SettleInvoice { preimage }, What::Settle { hash });
    }

    pub(super) fn cancel(&mut self, number: usize) {
        let Some(seat) = self.holder(number) else { return };
        let payment_hash = self.secret_of(number).hash();
        self.tell(seat, Command::CancelInvoice { payment_hash }, What::Other("cancelinvoice"));
    }

    fn holder(&self, number: usize) -> Option<usize> {
        self.judges.book.tries.get(&number).filter(|t| t.hold).map(|t| 1 - t.payer)
    }

    fn secret_of(&self, number: usize) -> Preimage {
        preimage(self.judges.book.tries.get(&number).map_or(number, |t| t.secret))
    }

    fn set_feerate(&mut self, seat: usize, feerate: u32) {
        let mine = |c: &&Channel| c.terms.opener == Side::Local && c.phase == Phase::Open;
        let Some(id) = self.channels_of(seat).into_iter().find(mine).map(Channel::id) else { return };
        self.feud.feerate(feerate);
        let (channel, feerate) = (ChannelRef::Id(id), Feerate(feerate));
        self.tell(seat, Command::DevFeerate { channel, feerate }, What::Other("feerate"));
    }

    fn estimate(&mut self, seat: usize, normal: u32) {
        self.feud.estimated(normal * 2);
        let (urgent, minimum) = (Feerate(normal * 2), Feerate::FLOOR);
        let fees = Fees { normal: Feerate(normal), urgent, minimum };
        self.give(seat, Event::Input(Box::new(Input::Fees(fees))));
    }

    pub(super) fn open(&mut self, opening: Opening) {
        let command = Command::FundChannel {
            peer: self.seats[1 - opening.seat].id,
            amount: Some(Sat(opening.sat)),
            feerate: Some(Feerate(opening.feerate)),
            announce: false,
            push_msat: Msat(opening.push_msat),
            close_to: None,
            mindepth: None,
            reserve: None,
            anchors: Some(opening.anchors),
            scid_alias: None,
        };
        self.tell(opening.seat, command, What::Fund);
    }

    fn close(&mut self, seat: usize, nth: usize) {
        let Some(id) = self.channels_of(seat).get(nth).map(|c| c.id()) else { return };
        self.close_one(seat, id);
    }

    pub(super) fn close_one(&mut self, seat: usize, id: ChannelId) {
        let command = Command::Close {
            channel: ChannelRef::Id(id),
            unilateral_timeout_s: 0,
            destination: None,
            feerange: None,
        };
        self.tell(seat, command, What::Other("close"));
    }

    fn ask(&mut self, seat: usize, what: u8) {
        let any = self.channels_of(seat).first().map(|c| ChannelRef::Id(c.id()));
        let command = match (what, any) {
            (0, _) => Command::Balance,
            (1, _) => Command::ListPeerChannels { peer: None, channel: None },
            (2, _) => Command::ListPays { payment_hash: None, bolt11: None },
            (3, _) => Command::ListInvoices(InvoiceFilter::default()),
            (4, _) => Command::ListHtlcs { channel: None },
            (5, Some(channel)) => Command::ListSnapshots { channel, start: None, limit: Some(20) },
            (6, _) => Command::WaitAnyInvoice { lastpay_index: 0, timeout_s: Some(5) },
            _ => Command::GetInfo,
        };
        self.tell(seat, command, What::Other("ask"));
    }

    /// What any peer may say at any time.
    fn chatter(&mut self, seat: usize, what: u8) {
        let Some(link) = self.greeted_link(seat) else { return };
        let message = match what {
            0 => Message::Ping(Ping { num_pong_bytes: 3, byteslen: 5 }),
            1 => Message::Pong(Pong { byteslen: 9 }),
            2 => Message::Warning(ErrorMessage::new(ChannelId::ALL, "hello")),
            3 => return self.send_bytes(seat, link, [&0x8001u16.to_be_bytes()[..], b"?"].concat()),
            _ => return self.send_bytes(seat, link, [&32_769u16.to_be_bytes()[..], &[0; 60]].concat()),
        };
        if let Ok(bytes) = message.encode() {
            self.send_bytes(seat, link, bytes);
        }
    }

    pub(super) fn connect(&mut self, seat: usize) {
        let (peer, address) = (self.seats[1 - seat].id, Some(address(1 - seat)));
        self.tell(seat, Command::Connect { peer, address }, What::Other("connect"));
    }

    pub(super) fn mine(&mut self, blocks: u32) {
        for _ in 0..blocks {
            self.mine_one();
        }
        self.chain_moved();
    }

    /// Other blocks take the place of the newest ones.
    pub(super) fn reorganise(&mut self, blocks: u32, forget: bool) {
        let blocks = blocks.min(self.chain.blocks.len() as u32 - 1);
        for _ in 0..blocks {
            self.chain.unmine(forget);
        }
        self.mine(blocks + 1);
    }

    /// A node answers an order.
    pub(super) fn answered(
        &mut self,
        seat: usize,
        id: CommandId,
        result: Result<Reply, CommandError>,
    ) -> Result<(), Verdict> {
        let asked = self.commands.remove(&id).filter(|asked| asked.seat == seat);
        let Some(asked) = asked else {
            return Err(Verdict::new("reply", format!("{id:?} was answered twice, or by another node")));
        };
        self.trace.note(self.now, &[8, seat as u8, u8::from(result.is_ok())], || match &result {
            Ok(reply) => format!("{seat} answers {:?}: {}", asked.what, first_words(reply)),
            Err(error) => format!("{seat} refuses {:?}: {error}", asked.what),
        });
        if !self.is_judged(seat) {
            return Ok(());
        }
        judge::durable::answered(self, seat, &result);
        match (asked.what, result) {
            (
                What::Invoice { payer, how: how @ (How::Sent | How::Guessed), .. },
                Ok(Reply::Invoice(invoice)),
            ) => {
                self.send_pay(payer, how, &invoice);
            }
            (What::Await { label }, Ok(Reply::Invoice(invoice)))
                if invoice.status != "paid" || invoice.label != label =>
            {
                let words = format!("invoice {label} was waited for, and is {}", invoice.status);
                return Err(Verdict::new("reply", words));
            }
            (What::Invoice { number, payer, give, .. }, Ok(Reply::Invoice(invoice))) => {
                let msat = give.or(invoice.amount_msat.map(|m| m.0)).unwrap_or(0);
                let (hash, bolt11) = (Some(invoice.payment_hash), invoice.bolt11.clone());
                let (hold, secret) =
                    (invoice.hold.is_some(), self.secret_number(number, invoice.payment_hash));
                let attempts = 1;
                let one = Try { payer, msat, give, hash, bolt11: bolt11.clone(), hold, secret, attempts };
                self.judges.book.tries.insert(number, one);
                self.pay(number, payer, bolt11, give);
            }
            (What::Pay { number, payer }, result) => judge::money::told(self, number, payer, &result)?,
            (What::Settle { hash }, Ok(_)) => {
                self.judges.book.settled.insert((seat, hash));
            }
            (What::Keep, result) => {
                self.judges.kept.insert(id, result);
            }
            (_, Ok(Reply::Balance(list))) => judge::money::balance(&list)?,
            _ => {}
        }
        Ok(())
    }

    /// Which number's secret has this hash: its own, or that of the one it is a twin of.
    fn secret_number(&self, number: usize, hash: PaymentHash) -> usize {
        let twin = self.judges.book.tries.iter().find(|(_, t)| t.hash == Some(hash));
        twin.map_or(number, |(_, t)| t.secret)
    }
}

/// A reply's kind.
fn first_words(reply: &Reply) -> String {
    format!("{reply:?}").chars().take(60).collect()
}
