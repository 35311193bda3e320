//! Coins for others' transactions: put aside, signed, sent; and what comes back damaged or with lies in it.

use super::*;
use crate::wallet::PsbtOrder;
use bitcoin::psbt::PsbtSighashType;
use bitcoin::secp256k1::{Message, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{CompressedPublicKey, Psbt};

/// Of a transaction with one p2wsh output: version, lock time, counts, mark, output.
const START: u64 = 42 + 4 * (8 + 1 + 34);

fn order(sat: u64) -> PsbtOrder {
    PsbtOrder {
        amount: Some(Sat(sat)),
        feerate: RATE,
        start_weight: START,
        min_depth: 1,
        utxos: None,
        reserved_ok: false,
        reserve_blocks: 72,
        lock_time: None,
        min_witness_weight: 0,
        excess_as_change: true,
        keep: Sat::ZERO,
    }
}

/// With a channel's output of so many satoshi.
fn paying(psbt: &Psbt, sat: u64) -> Psbt {
    let mut psbt = psbt.clone();
    psbt.unsigned_tx.output.push(TxOut { value: Amount::from_sat(sat), script_pubkey: channel(7) });
    psbt.outputs.push(bitcoin::psbt::Output::default());
    psbt
}

/// A wallet elsewhere, of one key and one coin.
struct Stranger {
    key: SecretKey,
    coin: OutPoint,
    held: TxOut,
}

impl Stranger {
    fn new(sat: u64) -> Stranger {
        let key = SecretKey::from_slice(&[0x77; 32]).unwrap();
        let public = CompressedPublicKey(key.public_key(&Secp256k1::new()));
        let script_pubkey = ScriptBuf::new_p2wpkh(&public.wpubkey_hash());
        let coin = OutPoint { txid: Txid::from_byte_array([0xaa; 32]), vout: 3 };
        Stranger { key, coin, held: TxOut { value: Amount::from_sat(sat), script_pubkey } }
    }

    fn joins(&self, psbt: &Psbt) -> Psbt {
        let mut psbt = psbt.clone();
        psbt.unsigned_tx.input.push(TxIn { previous_output: self.coin, ..TxIn::default() });
        let part = bitcoin::psbt::Input { witness_utxo: Some(self.held.clone()), ..Default::default() };
        psbt.inputs.push(part);
        psbt
    }

    fn signs(&self, psbt: &Psbt) -> Psbt {
        let mut psbt = psbt.clone();
        let at = psbt.unsigned_tx.input.iter().position(|i| i.previous_output == self.coin).unwrap();
        let (secp, kind) = (Secp256k1::new(), EcdsaSighashType::All);
        let digest = SighashCache::new(&psbt.unsigned_tx)
            .p2wpkh_signature_hash(at, &self.held.script_pubkey, self.held.value, kind)
            .unwrap();
        let signature = secp.sign_ecdsa(&Message::from(digest), &self.key);
        let signature = bitcoin::ecdsa::Signature { signature, sighash_type: kind };
        psbt.inputs[at].partial_sigs.insert(self.key.public_key(&secp).into(), signature);
        psbt
    }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, WalletError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn coins_for_a_psbt_are_put_aside_over_a_restart_and_come_back() {
    let mut w = World::new();
    let small = w.receive(AddressKind::P2wpkh, 60_000);
    w.receive(AddressKind::P2tr, 500_000);
    let funded = w.wallet.fund_psbt(&order(40_000)).unwrap();
    let spent: Vec<OutPoint> = funded.psbt.unsigned_tx.input.iter().map(|i| i.previous_output).collect();
    assert_eq!(spent, [small], "the smallest that suffices");
    assert_eq!(funded.psbt.unsigned_tx.lock_time.to_consensus_u32(), w.wallet.tip().0 .0);
    let until = w.wallet.tip().0.plus(72);
    assert_eq!((funded.reservations[0].until, funded.reservations[0].was_reserved), (Some(until), false));
    w.restart();
    assert_eq!(w.wallet.balance().reserved, Sat(60_000));
    // Nothing else takes it: neither a withdrawal, nor a funding, nor a second PSBT.
    let named = w.wallet.withdraw(channel(1), exact(10_000), RATE, Some(vec![small]), None);
    assert!(refusal(named).contains("unreserveinputs frees it"));
    let all = w.wallet.withdraw(channel(1), FundAmount::All { at_most: Sat::MAX_MONEY }, RATE, None, Some(1));
    assert!(all.unwrap().tx.input.iter().all(|i| i.previous_output != small));
    assert!(matches!(w.wallet.fund_psbt(&order(40_000)), Err(WalletError::Insufficient { .. })));
    let mut again = order(40_000);
    again.utxos = Some(vec![small]);
    assert!(refusal(w.wallet.fund_psbt(&again)).contains("reservedok"));
    again.reserved_ok = true;
    let longer = w.wallet.fund_psbt(&again).unwrap().reservations;
    assert_eq!((longer[0].was_reserved, longer[0].until), (true, Some(until.plus(72))));

    // Less long, then free.
    assert_eq!(w.wallet.unreserve_inputs(&spent, 72)[0].until, Some(until));
    assert_eq!(w.wallet.unreserve_inputs(&spent, 72)[0].until, None);
    assert_eq!(w.wallet.unreserve_inputs(&spent, 72), []);
    w.restart();
    assert_eq!(w.wallet.balance().reserved, Sat(0));

    // And by itself, with time.
    w.wallet.reserve_inputs(&spent, 3, true).unwrap();
    assert!(refusal(w.wallet.reserve_inputs(&spent, 3, true)).contains("put aside already"));
    for left in (0..3).rev() {
        w.mine(&[]);
        assert_eq!(w.wallet.balance().reserved, Sat(if left > 0 { 60_000 } else { 0 }));
    }
    w.restart();
    assert!(w.wallet.leases.is_empty(), "no record of it is left");
}

#[test]
fn what_a_block_spends_is_not_put_aside_any_more() {
    let mut w = World::new();
    let coin = w.receive(AddressKind::P2wpkh, 60_000);
    assert_eq!(w.wallet.reserve_inputs(&[coin, OutPoint::null()], 1_000, true).unwrap().len(), 1);
    w.mine(&[pay(coin, vec![(channel(1), 50_000)])]);
    assert!(w.wallet.leases.is_empty());
    assert!(refusal(w.wallet.reserve_inputs(&[coin], 10, false)).contains("is spent"));
}

#[test]
fn a_compacted_wallet_has_what_was_put_aside() {
    let mut w = World::new();
    let coin = w.receive(AddressKind::P2wpkh, 60_000);
    w.wallet.reserve_inputs(&[coin], 1_000, true).unwrap();
    w.keep();
    w.wallet.changes = 1_000;
    let whole = w.wallet.compact().unwrap();
    w.kept = vec![whole];
    w.restart();
    assert_eq!(w.wallet.balance().reserved, Sat(60_000));
}

#[test]
fn amounts_fees_and_weights_add_up() {
    let mut w = World::new();
    for (kind, sat) in
        [(AddressKind::P2wpkh, 30_000), (AddressKind::P2tr, 20_000), (AddressKind::P2tr, 90_000)]
    {
        w.receive(kind, sat);
    }
    for (sat, change, min_witness) in
        [(25_000, true, 0), (89_000, true, 0), (100_000, false, 0), (130_000, true, 0), (100_000, true, 400)]
    {
        let wanted = PsbtOrder {
            excess_as_change: change,
            reserve_blocks: 0,
            min_witness_weight: min_witness,
            ..order(sat)
        };
        let funded = w.wallet.fund_psbt(&wanted).unwrap();
        assert!(funded.reservations.is_empty());
        let whole = paying(&funded.psbt, sat);
        let coins: Vec<OutPoint> = whole.unsigned_tx.input.iter().map(|i| i.previous_output).collect();
        w.wallet.reserve_inputs(&coins, 1, true).unwrap();
        let signed = w.wallet.sign_psbt(&whole, None).unwrap();
        let (tx, spent) = w.wallet.finish_psbt(&signed).unwrap();
        let inward: u64 = spent.iter().map(|o| o.value.to_sat()).sum();
        let fee = inward - tx.output.iter().map(|o| o.value.to_sat()).sum::<u64>();
        let due = RATE.fee(funded.weight).0;
        assert!(fee.abs_diff(due + funded.excess.0) <= 1, "{fee} paid, {due} due, {}", funded.excess);
        assert!(tx.weight().to_wu() <= funded.weight, "never less than was ordered");
        assert!(min_witness > 0 || funded.weight - tx.weight().to_wu() < 3 * tx.input.len() as u64);
        assert_eq!(funded.change.is_some(), tx.output.len() == 2);
        assert!(change || funded.change.is_none());
        w.wallet.unreserve_inputs(&coins, 72);
    }
    let all = w.wallet.fund_psbt(&PsbtOrder { amount: None, excess_as_change: false, ..order(0) }).unwrap();
    assert_eq!((all.psbt.inputs.len(), all.change), (3, None));
    assert_eq!(all.excess.0 + RATE.fee(all.weight).0, 140_000);
    for (sat, words) in [(200_000, "needed"), (Sat::MAX_MONEY.0 + 1, "more than there will ever be")] {
        assert!(refusal(w.wallet.fund_psbt(&order(sat))).contains(words));
    }
    let slow = PsbtOrder { feerate: Feerate(1), ..order(1_000) };
    assert!(matches!(w.wallet.fund_psbt(&slow), Err(WalletError::FeerateTooLow(_))));
}

#[test]
fn what_is_kept_back_comes_back_as_change() {
    let mut w = World::new();
    let coin = w.receive(AddressKind::P2wpkh, 100_000);
    let keep = Sat(25_000);
    let wanted = PsbtOrder { keep, excess_as_change: false, ..order(50_000) };
    let funded = w.wallet.fund_psbt(&wanted).unwrap();
    assert_eq!(funded.psbt.unsigned_tx.output[0].value.to_sat(), 25_000, "though no change was asked for");
    assert!(w.wallet.is_mine(&funded.psbt.unsigned_tx.output[0].script_pubkey));
    w.wallet.unreserve_inputs(&[coin], 72);
    let said = refusal(w.wallet.fund_psbt(&PsbtOrder { keep, ..order(80_000) }));
    assert!(said.contains("25000 sat stay in the wallet"), "{said}");
    // Coins that are named are taken whole.
    let named = PsbtOrder { keep, utxos: Some(vec![coin]), ..order(80_000) };
    assert!(w.wallet.fund_psbt(&named).is_ok());
    w.wallet.unreserve_inputs(&[coin], 72);
    // Another coin holds what is to stay.
    w.receive(AddressKind::P2wpkh, 30_000);
    assert_eq!(w.wallet.fund_psbt(&PsbtOrder { excess_as_change: false, ..wanted }).unwrap().change, None);
}

#[test]
fn named_coins_are_all_taken_or_none() {
    let mut w = World::new();
    let (one, two) = (w.receive(AddressKind::P2wpkh, 50_000), w.receive(AddressKind::P2tr, 40_000));
    let named = |coins: &[OutPoint], sat| PsbtOrder { utxos: Some(coins.to_vec()), ..order(sat) };
    assert_eq!(w.wallet.fund_psbt(&named(&[one, two], 1_000)).unwrap().psbt.inputs.len(), 2);
    w.wallet.unreserve_inputs(&[one, two], 72);
    for (coins, sat, words) in [
        (vec![one, one], 1_000, "named twice"),
        (vec![OutPoint::null()], 1_000, "not the wallet's"),
        (vec![], 1_000, "needed"),
        (vec![one], 60_000, "name more of them"),
    ] {
        let said = refusal(w.wallet.fund_psbt(&named(&coins, sat)));
        assert!(said.contains(words), "{words}: {said}");
        assert_eq!(w.wallet.balance().reserved, Sat(0));
    }
}

#[test]
fn two_wallets_sign_one_transaction() {
    let mut w = World::new();
    w.receive(AddressKind::P2tr, 60_000);
    w.receive(AddressKind::P2wpkh, 70_000);
    let stranger = Stranger::new(1_000_000);
    let funded = w.wallet.fund_psbt(&order(110_000)).unwrap();
    assert_eq!(funded.psbt.inputs.len(), 2);
    let whole = stranger.joins(&paying(&funded.psbt, 1_100_000));
    assert!(refusal(w.wallet.finish_psbt(&whole)).contains("input 0 is not signed"));
    let ours = w.wallet.sign_psbt(&whole, None).unwrap();
    assert!(refusal(w.wallet.finish_psbt(&ours)).contains("input 2 is not signed"));
    let (tx, spent) = w.wallet.finish_psbt(&stranger.signs(&ours)).unwrap();
    verify_spend(&tx, &spent).unwrap();
    // Signed by the other first, and bit by bit.
    let one = w.wallet.sign_psbt(&stranger.signs(&whole), Some(&[0])).unwrap();
    assert!(refusal(w.wallet.finish_psbt(&one)).contains("input 1 is not signed"));
    let both = w.wallet.sign_psbt(&one, Some(&[1])).unwrap();
    assert_eq!(w.wallet.finish_psbt(&both).unwrap().0.compute_txid(), tx.compute_txid());
    for (only, words) in [(2, "not the wallet's"), (3, "no input 3")] {
        assert!(refusal(w.wallet.sign_psbt(&whole, Some(&[only]))).contains(words));
    }

    // Sent: our coins count as spent, and a block ends it.
    w.wallet.send(&tx, 72, false).unwrap();
    assert_eq!(w.wallet.balance().spendable(), Sat(0));
    assert!(refusal(w.wallet.sign_psbt(&whole, None)).contains("spent"));
    w.mine(std::slice::from_ref(&tx));
    assert!(w.wallet.leases.is_empty());
    let change = funded.psbt.unsigned_tx.output[0].value.to_sat();
    assert_eq!(w.wallet.balance().spendable(), Sat(change));
    w.restart();
}

#[test]
fn what_a_channel_relies_on_stays_reserved_until_its_block() {
    let mut w = World::new();
    w.receive(AddressKind::P2tr, 200_000);
    let funded = w.wallet.fund_psbt(&order(100_000)).unwrap();
    let signed = w.wallet.sign_psbt(&paying(&funded.psbt, 100_000), None).unwrap();
    let (tx, _) = w.wallet.finish_psbt(&signed).unwrap();
    w.wallet.send(&tx, 72, true).unwrap();
    w.restart();
    assert!(w.wallet.unconfirmed().is_empty(), "the channel's node offers it");
    let bump = crate::wallet::BumpOrder {
        txid: tx.compute_txid(),
        feerate: Feerate(5_000),
        replace: true,
        seen: None,
    };
    let child = w.wallet.bump(&bump).unwrap().tx;
    assert_eq!(child.input[0].previous_output.txid, tx.compute_txid(), "a child, for its id must stay");
    w.mine(&[tx, child]);
    assert!(w.wallet.reserved.is_empty());
}

#[test]
fn only_what_is_put_aside_is_signed_and_only_whole_transactions() {
    let mut w = World::new();
    let coin = w.receive(AddressKind::P2wpkh, 60_000);
    let funded = w.wallet.fund_psbt(&PsbtOrder { reserve_blocks: 0, ..order(40_000) }).unwrap();
    let whole = paying(&funded.psbt, 40_000);
    assert!(refusal(w.wallet.sign_psbt(&whole, None)).contains("not put aside"));
    w.wallet.reserve_inputs(&[coin], 10, true).unwrap();
    for kind in [EcdsaSighashType::None, EcdsaSighashType::Single, EcdsaSighashType::AllPlusAnyoneCanPay] {
        let mut open = whole.clone();
        open.inputs[0].sighash_type = Some(PsbtSighashType::from(kind));
        assert!(refusal(w.wallet.sign_psbt(&open, None)).contains("leaves a part of the transaction open"));
    }
    let mut lie = whole.clone();
    lie.inputs[0].witness_utxo.as_mut().unwrap().value = Amount::from_sat(41_000);
    assert!(refusal(w.wallet.sign_psbt(&lie, None)).contains("lies about the fee"));
    // Keys that somebody wrote beside a foreign input sign nothing there.
    let stranger = Stranger::new(50_000);
    let mut trap = stranger.joins(&whole);
    let ours = trap.inputs[0].clone();
    trap.inputs[1].bip32_derivation = ours.bip32_derivation;
    trap.inputs[1].witness_utxo = ours.witness_utxo;
    let signed = w.wallet.sign_psbt(&trap, None).unwrap();
    assert!(signed.inputs[1].partial_sigs.is_empty() && !signed.inputs[0].partial_sigs.is_empty());
    // What channels rely on is nobody else's.
    w.wallet.unreserve_inputs(&[coin], 72);
    w.wallet.fund(channel(1), exact(10_000), RATE).unwrap();
    assert!(refusal(w.wallet.sign_psbt(&whole, None)).contains("not put aside"));
    assert!(refusal(w.wallet.reserve_inputs(&[coin], 10, false))
        .contains("reserved for a transaction of a channel"));
}

#[test]
fn damaged_and_foolish_psbts_are_refused_in_words() {
    let mut w = World::new();
    w.receive(AddressKind::P2tr, 60_000);
    let stranger = Stranger::new(1_000_000);
    let funded = w.wallet.fund_psbt(&order(40_000)).unwrap();
    let good = stranger.joins(&paying(&funded.psbt, 900_000));
    let silent = {
        let mut psbt = good.clone();
        psbt.inputs[1].witness_utxo = None;
        psbt
    };
    assert!(refusal(w.wallet.sign_psbt(&silent, None))
        .contains("input 1: what it spends (witness_utxo) is not told"));
    let twice = stranger.joins(&good);
    let mut empty = good.clone();
    empty.unsigned_tx.output.clear();
    empty.outputs.clear();
    let mut other = good.clone();
    other.inputs[1].non_witness_utxo = Some(pay(OutPoint::null(), vec![(channel(1), 5)]));
    let mut short = good.clone();
    short.inputs.pop();
    for (psbt, words) in [
        (twice, "a second time"),
        (empty, "no outputs"),
        (other, "not the transaction"),
        (short, "do not fit"),
    ] {
        for said in [refusal(w.wallet.sign_psbt(&psbt, None)), refusal(w.wallet.finish_psbt(&psbt))] {
            assert!(said.contains(words), "{words}: {said}");
        }
    }
    let foreign = {
        let only =
            stranger.joins(&Psbt::from_unsigned_tx(pay(OutPoint::null(), vec![(channel(1), 5)])).unwrap());
        let mut psbt = only.clone();
        psbt.unsigned_tx.input.remove(0);
        psbt.inputs.remove(0);
        psbt
    };
    assert!(refusal(w.wallet.sign_psbt(&foreign, None)).contains("nothing to sign"));
    // Signed, and then: an output fewer, which is a fee of 900,000 sat; more out than in; a bit of a signature.
    let finish =
        |psbt: &Psbt| w.wallet.finish_psbt(&stranger.signs(&w.wallet.sign_psbt(psbt, None).unwrap()));
    let mut dear = good.clone();
    dear.unsigned_tx.output[1].value = Amount::from_sat(1_000);
    assert!(finish(&dear).is_ok(), "dear, and still no absurdity");
    let mut too_much = good.clone();
    too_much.unsigned_tx.output[1].value = Amount::from_sat(2_000_000);
    assert!(refusal(finish(&too_much)).contains("more than its inputs hold"));
    let absurd = {
        let mut rich = Stranger::new(9_000_000_000);
        rich.coin = stranger.coin;
        let psbt = rich.joins(&paying(&funded.psbt, 40_000));
        w.wallet.finish_psbt(&rich.signs(&w.wallet.sign_psbt(&psbt, None).unwrap()))
    };
    assert!(refusal(absurd).contains("absurd"));
    let mut broken = stranger.signs(&w.wallet.sign_psbt(&good, None).unwrap());
    let (tx, _) = w.wallet.finish_psbt(&broken).unwrap();
    let mut witness: Vec<Vec<u8>> = tx.input[0].witness.to_vec();
    witness[0][9] ^= 1;
    broken.inputs[0].final_script_witness = Some(Witness::from_slice(&witness));
    assert!(refusal(w.wallet.finish_psbt(&broken)).contains("input 0 does not satisfy"));
}
