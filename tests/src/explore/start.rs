//! Where a walk begins: an open channel, invoices made beforehand, and what each side is going to do.
//!
//! In: a name such as `A+Ah+B+fee`. Out: two nodes just restored from their disks, and the operations.
//!
//! | word | operation |
//! |---|---|
//! | `A`, `B` | Alice (Bob) pays an invoice of the other: fulfilled as soon as it is locked in |
//! | `Ah`, `Bh` | the same for a hold invoice: the payee settles or cancels, both are tried, at any moment |
//! | `Ax`, `Bx` | the payee gives it back: its invoice was cancelled |
//! | `Ad`, `Bd` | an amount too small for an output |
//! | `As`, `Bs` | hold invoices of both sides for one and the same hash |
//! | `fee` | Alice, who opened the channel, changes the feerate |
//! | `Ac`, `Bc` | Alice (Bob) closes the channel by agreement |
//!
//! In front, with a slash behind it, may stand how the channel is: `plain/` without anchors, `simple/` with option_simple_close, `12000/` with only so many
//! satoshi on Alice's side, whose reserve is 10,000 and who pays the fees.
//! Each side does its own in the order of the name; between the sides every order is walked.
//! Read next: `graph`.

use crate::duet::play::{pay, preimage, request, Open};
use crate::duet::{other, Duet, ALICE, BOB};
use chand_protocol::id::{ChannelId, PaymentHash};
use chand_protocol::node::command::{ChannelRef, Command, InvoiceRequest};
use chand_protocol::units::Feerate;

/// The walks that `all` stands for.
pub const ALL: [&str; 14] = [
    "A+A+B+fee",
    "A",
    "fee",
    "Bh",
    "A+B",
    "As+Bs",
    "Ad+Bh",
    "A+Ax+Ah",
    "plain/Ad+B+fee",
    "plain/Ah+Bh",
    "13400/B+B+fee",
    "14000/B+B+fee",
    "A+B+Bc",
    "simple/Ah+Ac+Bc",
];

/// What the payee does with an HTLC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payee {
    /// Fulfils it at once.
    Takes,
    /// Waits for an order.
    Holds,
    /// Fails it at once.
    Refuses,
}

/// One operation.
#[derive(Clone, Debug)]
pub enum Operation {
    /// A payment.
    Pay(Payment),
    /// The feerate changes.
    Fee(Feerate),
    /// The channel closes.
    Close,
}

/// One payment.
#[derive(Clone, Debug)]
pub struct Payment {
    /// How the name has it.
    pub word: String,
    /// Who pays.
    pub payer: usize,
    /// What for.
    pub bolt11: String,
    /// Its lock.
    pub hash: PaymentHash,
    /// How much.
    pub msat: u64,
    /// What becomes of it.
    pub payee: Payee,
    /// The number that [`preimage`] makes its secret of.
    pub number: u64,
}

impl Payment {
    /// Too small for an output.
    pub fn is_dust(&self) -> bool {
        self.word.ends_with('d')
    }
}

/// A beginning.
#[derive(Debug)]
pub struct Start {
    /// As it was asked for.
    pub name: String,
    /// Two nodes whose channel is open, to be restored from.
    pub duet: Duet,
    /// The channel.
    pub channel: ChannelId,
    /// What each side is going to do, in order.
    pub operations: [Vec<Operation>; 2],
}

/// One word of a name: who, and a letter for how.
fn word(text: &str) -> Result<(usize, char), String> {
    let mut letters = text.chars();
    let seat = match letters.next() {
        Some('A') => ALICE,
        Some('B') => BOB,
        _ => return Err(format!("{text}: a word is fee, or A or B with c, d, h, s or x behind it")),
    };
    let how = letters.next().unwrap_or(' ');
    if !" cdhsx".contains(how) || letters.next().is_some() {
        return Err(format!("{text}: behind A or B stands c, d, h, s, x or nothing"));
    }
    Ok((seat, how))
}

/// How the channel is, and the words behind that.
fn form(name: &str) -> Result<(Open, &str), String> {
    let usual = Open::default();
    match name.split_once('/') {
        None => Ok((usual, name)),
        Some(("simple", words)) => Ok((usual, words)),
        Some(("plain", words)) => Ok((Open { anchors: false, ..usual }, words)),
        Some((number, words)) => {
            let sat: u64 =
                number.parse().map_err(|_| format!("{number}: plain, simple or a number of satoshi"))?;
            let given = usual.sat.checked_sub(sat).ok_or("more than the channel holds")?;
            Ok((Open { push_msat: given * 1_000, ..usual }, words))
        }
    }
}

impl Start {
    /// Opens a channel and makes the invoices.
    ///
    /// # Errors
    /// In words, when the name has a word that is none, or Alice too little to open.
    pub fn new(name: &str) -> Result<Start, String> {
        let (open, words) = form(name)?;
        let simple_close = name.starts_with("simple/");
        let mut duet = Duet::with(7, |_, config| config.simple_close = simple_close);
        duet.connect();
        let order = duet.fund_order(ALICE, open);
        if let Some(Err(why)) = duet.ask(ALICE, order) {
            return Err(format!("such a channel is not opened: {}", why.message));
        }
        duet.mine(1);
        let mut operations = [Vec::new(), Vec::new()];
        for (place, text) in words.split('+').enumerate() {
            if text == "fee" {
                operations[ALICE].push(Operation::Fee(Feerate(2_000)));
                continue;
            }
            let (payer, how) = word(text)?;
            if how == 'c' {
                operations[payer].push(Operation::Close);
                continue;
            }
            let payment = invoice(&mut duet, text, payer, how, place as u64);
            operations[payer].push(Operation::Pay(payment));
        }
        if operations.iter().any(|o| o.len() > 7) {
            return Err("at most seven operations a side".into());
        }
        let channel = duet.channel_id();
        Ok(Start { name: name.into(), duet, channel, operations })
    }

    /// Whether a side is going to close.
    pub fn closes(&self) -> bool {
        self.operations.iter().flatten().any(|o| matches!(o, Operation::Close))
    }

    /// Whether the feerate is to change.
    pub fn changes_fee(&self) -> bool {
        self.operations.iter().flatten().any(|o| matches!(o, Operation::Fee(_)))
    }

    /// Every payment, with its payer's place.
    pub fn payments(&self) -> impl Iterator<Item = &Payment> {
        self.operations.iter().flatten().filter_map(|o| match o {
            Operation::Pay(payment) => Some(payment),
            Operation::Fee(_) | Operation::Close => None,
        })
    }

    /// The order behind an operation.
    pub fn command(&self, operation: &Operation) -> Command {
        match operation {
            Operation::Pay(payment) => pay(&payment.bolt11, None),
            Operation::Close => self.duet.close_order(),
            Operation::Fee(feerate) => {
                Command::DevFeerate { channel: ChannelRef::Id(self.channel), feerate: *feerate }
            }
        }
    }
}

fn invoice(duet: &mut Duet, text: &str, payer: usize, how: char, place: u64) -> Payment {
    let payee_seat = other(payer);
    // Amounts differ, so that one taken for another is seen.
    let msat = if how == 'd' { 200_000 + place } else { 10_000_000 * (place + 1) + place };
    // With `s` both sides lock with one hash.
    let number = if how == 's' { 1_000 } else { place };
    let made = match how {
        'h' | 's' | 'x' => {
            let hold = Some(preimage(number).hash());
            duet.invoice(payee_seat, InvoiceRequest { hold, ..request(&format!("{place}"), Some(msat)) })
        }
        _ => {
            let secret = Some(preimage(number));
            let wish = InvoiceRequest { preimage: secret, ..request(&format!("{place}"), Some(msat)) };
            duet.invoice(payee_seat, wish)
        }
    };
    let payee = match how {
        'h' | 's' => Payee::Holds,
        'x' => Payee::Refuses,
        _ => Payee::Takes,
    };
    if payee == Payee::Refuses {
        duet.must(payee_seat, Command::CancelInvoice { payment_hash: made.payment_hash });
    }
    Payment { word: text.into(), payer, bolt11: made.bolt11, hash: made.payment_hash, msat, payee, number }
}
