//! Random balance snapshots: both sides build one transaction, money is neither made nor lost, nothing is dust.

use super::{channel_secrets, consensus, Dice};
use bitcoin::{Amount, OutPoint, Transaction, TxOut};
use chand_protocol::id::{HtlcId, PaymentHash, Side};
use chand_protocol::sign::{Crypto, RealCrypto};
use chand_protocol::tx::commitment::{
    build, commitment_number, obscure_factor, Commitment, CommitmentTerms, OutputKind, Spec, SpecError,
    SpecHtlc,
};
use chand_protocol::tx::keys::{Basepoints, CommitmentKeys};
use chand_protocol::tx::shachain::MAX_INDEX;
use chand_protocol::tx::standard::standard;
use chand_protocol::tx::weight::{funder_cost, is_trimmed};
use chand_protocol::tx::ChannelType;
use chand_protocol::units::{Feerate, Height, Msat, Sat};

/// A commitment of Alice's, as she or as Bob would write it down.
#[derive(Clone)]
struct Case {
    terms: CommitmentTerms,
    keys: CommitmentKeys,
    number: u64,
    spec: Spec,
}

struct Table {
    crypto: RealCrypto,
    alice: Basepoints,
    bob: Basepoints,
}

impl Table {
    fn new() -> Table {
        let crypto = RealCrypto::new();
        let (alice, bob) = (channel_secrets(0x11), channel_secrets(0x21));
        Table { alice: alice.basepoints(crypto.secp()), bob: bob.basepoints(crypto.secp()), crypto }
    }

    fn case(&self, dice: &mut Dice, htlcs: u64) -> Case {
        let number = dice.roll() & MAX_INDEX;
        let secrets = channel_secrets(0x11);
        let point = secrets.per_commitment_point(&self.crypto, number).expect("a point");
        let owner_is_funder = dice.below(2) == 0;
        let (opener, accepter) =
            if owner_is_funder { (&self.alice, &self.bob) } else { (&self.bob, &self.alice) };
        let spec = spec(dice, htlcs);
        let parts = spec.htlcs.iter().map(|htlc| htlc.amount).chain([spec.to_owner, spec.to_other]);
        let terms = CommitmentTerms {
            channel_type: [ChannelType::StaticRemotekey, ChannelType::Anchors][dice.below(2) as usize],
            funding: OutPoint { txid: "06".repeat(32).parse().expect("a txid"), vout: dice.below(9) as u32 },
            capacity: Msat::checked_sum(parts).expect("a sum").floor_sat(),
            owner_is_funder,
            owner_funding_pubkey: self.alice.funding_pubkey,
            other_funding_pubkey: self.bob.funding_pubkey,
            owner_dust_limit: Sat([354, 546, 1_000, 5_000][dice.below(4) as usize]),
            owner_delay_blocks: dice.below(2_017) as u16,
            obscure: obscure_factor(&opener.payment_basepoint, &accepter.payment_basepoint),
        };
        let keys = CommitmentKeys::new(self.crypto.secp(), &self.alice, &self.bob, &point).expect("keys");
        Case { terms, keys, number, spec }
    }
}

/// Balances from nothing to plenty; HTLCs that often share amount, hash or expiry with another.
fn spec(dice: &mut Dice, htlcs: u64) -> Spec {
    let htlc = |dice: &mut Dice, id| {
        let offered = dice.below(2) == 0;
        SpecHtlc {
            id: HtlcId { offered_by: if offered { Side::Local } else { Side::Remote }, id },
            offered,
            amount: Msat(1 + [5_000_000 + dice.below(3), dice.below(20_000_000)][dice.below(2) as usize]),
            payment_hash: PaymentHash([dice.below(4) as u8; 32]),
            cltv_expiry: Height(500_000 + dice.below(4) as u32),
        }
    };
    let htlcs: Vec<SpecHtlc> = (0..htlcs).map(|id| htlc(dice, id)).collect();
    let balance = |dice: &mut Dice| match dice.below(4) {
        0 => 0,
        1 => dice.below(3_000_000),
        _ => dice.below(1_000_000_000),
    };
    let (to_owner, mut to_other) = (balance(dice), balance(dice));
    // A capacity is whole satoshis.
    let sum: u64 = htlcs.iter().map(|htlc| htlc.amount.0).sum::<u64>() + to_owner + to_other;
    to_other += (1_000 - sum % 1_000) % 1_000;
    Spec {
        feerate: Feerate(dice.below(4_000) as u32),
        to_owner: Msat(to_owner),
        to_other: Msat(to_other),
        htlcs,
    }
}

/// The same commitment in Bob's books: HTLCs in another order, and who is "local" the other way round.
fn as_bob(case: &Case, dice: &mut Dice) -> Case {
    let mut case = case.clone();
    let htlcs = &mut case.spec.htlcs;
    for place in (1..htlcs.len()).rev() {
        htlcs.swap(place, dice.below(place as u64 + 1) as usize);
    }
    htlcs.iter_mut().for_each(|htlc| htlc.id.offered_by = htlc.id.offered_by.other());
    case
}

fn check(case: &Case, commitment: &Commitment) {
    let (terms, spec) = (&case.terms, &case.spec);
    let outputs: u64 = commitment.tx.output.iter().map(|output| output.value.to_sat()).sum();
    assert_eq!(outputs + commitment.fee.0, terms.capacity.0, "all the money");
    for (kind, output) in commitment.outputs.iter().zip(&commitment.tx.output) {
        let anchor = matches!(kind, OutputKind::AnchorOwner | OutputKind::AnchorOther);
        let least = if anchor { Sat(330) } else { terms.owner_dust_limit };
        assert!(output.value.to_sat() >= least.0, "no dust");
    }
    let order = |output: &TxOut| (output.value, output.script_pubkey.to_bytes());
    assert!(commitment.tx.output.is_sorted_by_key(order), "BIP 69");
    let tied = |pair: &[&chand_protocol::tx::commitment::HtlcTx]| {
        let [a, b] = pair else { return true };
        let same = a.amount == b.amount && a.witness_script == b.witness_script;
        !same || a.cltv_expiry <= b.cltv_expiry
    };
    assert!(commitment.htlcs.iter().collect::<Vec<_>>().windows(2).all(tied), "then by expiry");
    assert_eq!(commitment.htlcs.len() + commitment.trimmed.len(), spec.htlcs.len(), "every HTLC once");
    assert_eq!(commitment_number(&commitment.tx, terms.obscure), Some(case.number));

    let cost = funder_cost(terms.channel_type, spec.feerate, commitment.htlcs.len());
    let (funder, kind, other, other_kind) = if terms.owner_is_funder {
        (spec.to_owner, OutputKind::ToLocal, spec.to_other, OutputKind::ToRemote)
    } else {
        (spec.to_other, OutputKind::ToRemote, spec.to_owner, OutputKind::ToLocal)
    };
    let value =
        |kind| commitment.vout_of(kind).map(|vout| commitment.tx.output[vout as usize].value.to_sat());
    let kept = |sat: Sat| Some(sat.0).filter(|sat| *sat >= terms.owner_dust_limit.0);
    assert_eq!(value(kind), kept(funder.floor_sat().saturating_sub(cost)), "the funder pays");
    assert_eq!(value(other_kind), kept(other.floor_sat()), "the other side does not");
    assert_eq!(commitment.shortfall, cost.saturating_sub(funder.floor_sat()));
    if commitment.shortfall == Sat::ZERO {
        assert!(commitment.fee >= commitment.base_fee);
    }
    let trims = |htlc: &&SpecHtlc| {
        is_trimmed(terms.channel_type, spec.feerate, terms.owner_dust_limit, htlc.offered, htlc.amount)
    };
    let trimmed: Vec<HtlcId> = spec.htlcs.iter().filter(trims).map(|htlc| htlc.id).collect();
    assert_eq!(commitment.trimmed, trimmed);
    let anchors = [value(OutputKind::AnchorOwner), value(OutputKind::AnchorOther)];
    let has_htlcs = !commitment.htlcs.is_empty();
    let expected = [OutputKind::ToLocal, OutputKind::ToRemote].map(|balance| {
        let due = terms.channel_type == ChannelType::Anchors && (has_htlcs || value(balance).is_some());
        due.then_some(330)
    });
    assert_eq!(anchors, expected);
    for htlc in &commitment.htlcs {
        assert_eq!(
            htlc.tx.output[0].value.to_sat().max(terms.owner_dust_limit.0),
            htlc.tx.output[0].value.to_sat()
        );
    }
}

fn sign(case: &Case, commitment: &Commitment, crypto: &RealCrypto) -> Transaction {
    let (alice, bob) = (channel_secrets(0x11), channel_secrets(0x21));
    let digest = commitment.sighash();
    let tx = commitment
        .with_signatures(&crypto.sign(&digest, &alice.funding), &crypto.sign(&digest, &bob.funding));
    let spent = [TxOut {
        value: Amount::from_sat(case.terms.capacity.0),
        script_pubkey: commitment.funding_script().to_p2wsh(),
    }];
    assert_eq!(consensus(&tx, &spent), Ok(()));
    assert_eq!(standard(&tx, &spent, Feerate(0)), Ok(()));
    tx
}

#[test]
fn both_sides_build_the_same() {
    let table = Table::new();
    let mut dice = Dice(0x0bad_5eed);
    let (mut built, mut refused, mut empty, mut short) = (0, 0, 0, 0);
    for round in 0..1_500 {
        let htlcs = dice.below(if round % 100 == 0 { 300 } else { 12 });
        let case = table.case(&mut dice, htlcs);
        let theirs = as_bob(&case, &mut dice);
        let commitment = build(&case.terms, &case.keys, case.number, &case.spec);
        let at_bob = build(&theirs.terms, &theirs.keys, theirs.number, &theirs.spec);
        match (commitment, at_bob) {
            (Ok(commitment), Ok(at_bob)) => {
                check(&case, &commitment);
                check(&theirs, &at_bob);
                assert_eq!(commitment.tx, at_bob.tx);
                assert_eq!(commitment.sighash(), at_bob.sighash());
                assert_eq!(commitment.htlc_sighashes(), at_bob.htlc_sighashes());
                let names = |of: &Commitment| of.htlcs.iter().map(|htlc| htlc.id.id).collect::<Vec<_>>();
                assert_eq!(names(&commitment), names(&at_bob), "which output is whose");
                if round % 50 == 0 {
                    sign(&case, &commitment, &table.crypto);
                }
                built += 1;
                short += u32::from(commitment.shortfall > Sat::ZERO);
            }
            (Err(SpecError::Anchors), Err(SpecError::Anchors)) => {
                let funder = if case.terms.owner_is_funder { case.spec.to_owner } else { case.spec.to_other };
                assert!(funder.floor_sat() < Sat(660) && case.terms.channel_type == ChannelType::Anchors);
                refused += 1;
            }
            (Err(SpecError::NoOutput), Err(SpecError::NoOutput)) => {
                let limit = case.terms.owner_dust_limit.0
                    + funder_cost(case.terms.channel_type, case.spec.feerate, 0).0;
                assert!(case.spec.to_owner.floor_sat().0 < limit && case.spec.to_other.floor_sat().0 < limit);
                empty += 1;
            }
            (one, two) => panic!("round {round}: {:?} and {:?}", one.err(), two.err()),
        }
    }
    assert!(built > 1_000 && refused > 10, "{built} built, {refused} refused for the anchors");
    assert!(empty > 10 && short > 10, "{empty} without output, {short} with too little for the fee");
}

#[test]
fn the_largest_commitment_is_standard() {
    let table = Table::new();
    let mut dice = Dice(966);
    let mut case = table.case(&mut dice, 966);
    for (place, htlc) in case.spec.htlcs.iter_mut().enumerate() {
        htlc.offered = place % 2 == 0;
        htlc.amount = Msat(20_000_000);
        htlc.id.offered_by = if htlc.offered { Side::Local } else { Side::Remote };
    }
    case.terms.channel_type = ChannelType::Anchors;
    case.spec.to_owner = Msat(500_000_000);
    case.spec.to_other = Msat(500_000_000);
    case.terms.capacity = Sat(966 * 20_000 + 1_000_000);
    let commitment = build(&case.terms, &case.keys, case.number, &case.spec).expect("a commitment");
    check(&case, &commitment);
    assert_eq!(commitment.htlcs.len(), 966);
    sign(&case, &commitment, &table.crypto);

    case.spec.htlcs[0].offered = false;
    let result = build(&case.terms, &case.keys, case.number, &case.spec);
    assert_eq!(result.err(), Some(SpecError::TooManyHtlcs), "484 by one side");
}

#[test]
fn impossible_snapshots_are_refused() {
    let table = Table::new();
    let mut dice = Dice(3);
    let mut case = table.case(&mut dice, 4);
    case.spec.to_owner = Msat(900_000_000);
    let parts =
        case.spec.htlcs.iter().map(|htlc| htlc.amount).chain([case.spec.to_owner, case.spec.to_other]);
    let sum = Msat::checked_sum(parts).expect("a sum");
    case.terms.capacity = sum.floor_sat();
    case.spec.to_other = Msat(case.spec.to_other.0 - sum.0 % 1_000);
    let attempt = |change: &dyn Fn(&mut Case)| {
        let mut case = case.clone();
        change(&mut case);
        build(&case.terms, &case.keys, case.number, &case.spec).map(|commitment| commitment.fee)
    };
    assert!(attempt(&|_| ()).is_ok());
    assert_eq!(attempt(&|case| case.spec.to_owner.0 += 1), Err(SpecError::Sum));
    assert_eq!(attempt(&|case| case.spec.to_other.0 -= 1), Err(SpecError::Sum));
    assert_eq!(attempt(&|case| case.spec.to_other = Msat(u64::MAX)), Err(SpecError::Sum));
    assert_eq!(attempt(&|case| case.terms.capacity = Sat(u64::MAX)), Err(SpecError::Sum));
    assert_eq!(attempt(&|case| case.number = MAX_INDEX + 1), Err(SpecError::Number));
    let expiry = |height| move |case: &mut Case| case.spec.htlcs[1].cltv_expiry = Height(height);
    assert_eq!(attempt(&expiry(500_000_000)), Err(SpecError::Expiry));
    assert!(attempt(&expiry(499_999_999)).is_ok());
    assert!(attempt(&|case| case.spec.feerate = Feerate(u32::MAX)).is_ok(), "no sum overflows");
    let dust = attempt(&|case| case.terms.owner_dust_limit = Sat(1_000_000_000));
    assert_eq!(dust, Err(SpecError::NoOutput));
}

#[test]
fn other_transactions_have_no_number() {
    let table = Table::new();
    let mut case = table.case(&mut Dice(5), 0);
    (case.spec.to_owner, case.spec.to_other) = (Msat(600_000_000), Msat(400_000_000));
    case.terms.capacity = Sat(1_000_000);
    let tx = build(&case.terms, &case.keys, 1, &case.spec).expect("a commitment").tx;
    assert_eq!(commitment_number(&tx, case.terms.obscure), Some(1));
    let change = |change: &dyn Fn(&mut Transaction)| {
        let mut tx = tx.clone();
        change(&mut tx);
        commitment_number(&tx, case.terms.obscure)
    };
    assert_eq!(change(&|tx| tx.lock_time = bitcoin::absolute::LockTime::ZERO), None);
    assert_eq!(change(&|tx| tx.input[0].sequence = bitcoin::Sequence::MAX), None);
    assert_eq!(change(&|tx| tx.input.push(tx.input[0].clone())), None);
    assert_eq!(change(&|tx| tx.input.clear()), None);
}
