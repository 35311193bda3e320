//! Closing transactions by `closing_signed`: ours and LDK's have equal bytes.
//!
//! In: random balances, fees, scripts and dust limits. Out: one transaction, built twice.
//! Read next: `onion.rs`.

use bitcoin::consensus::encode::serialize;
use chand_protocol::id::Side;
use chand_protocol::tx::close::{build_close, CloseError, CloseTerms};
use chand_protocol::units::{Msat, Sat};
use ldk_agree::{property, Rng};
use lightning::ln::chan_utils::{make_funding_redeemscript, ClosingTransaction};

/// Around the dust limit, equal to the other, or any.
fn some_balance(rng: &mut Rng, dust_sat: u64, fee_sat: u64, other_msat: u64) -> u64 {
    match rng.range(0, 5) {
        0 => (dust_sat * 1000 + rng.range(0, 2_001)).saturating_sub(1_000),
        1 => ((dust_sat + fee_sat) * 1000 + rng.range(0, 2_001)).saturating_sub(1_000),
        2 => other_msat,
        3 => rng.range(0, (dust_sat + fee_sat) * 2000),
        _ => rng.any_size() % 1_000_000_000_000_000_000,
    }
}

#[test]
fn equal_bytes_for_any_close() {
    let (mut both, mut one, mut none) = (0, 0, 0);
    property(4_000, |rng| {
        let (fee_sat, dust_sat) = (rng.range(0, 20_000), rng.pick(&[1, 330, 354, 546, 1_000]));
        let funder = rng.pick(&[Side::Local, Side::Remote]);
        let local_msat = some_balance(rng, dust_sat, fee_sat, 0);
        let mut remote_msat = some_balance(rng, dust_sat, fee_sat, local_msat);
        remote_msat += (1000 - (local_msat + remote_msat) % 1000) % 1000;
        let local_script = rng.shutdown_script();
        let remote_script = if rng.one_in(10) { local_script.clone() } else { rng.shutdown_script() };
        let terms = CloseTerms {
            funding: rng.outpoint(),
            capacity: Sat((local_msat + remote_msat) / 1000),
            local_funding_pubkey: rng.key(),
            remote_funding_pubkey: rng.key(),
            to_local: Msat(local_msat),
            to_remote: Msat(remote_msat),
            local_script,
            remote_script,
        };
        let ours = build_close(&terms, funder, Sat(fee_sat), Sat(dust_sat), None);

        let part =
            |side: Side, msat: u64| (msat / 1000).checked_sub(if side == funder { fee_sat } else { 0 });
        let (Some(local), Some(remote)) = (part(Side::Local, local_msat), part(Side::Remote, remote_msat))
        else {
            assert_eq!(ours, Err(CloseError::Fee));
            return;
        };
        let output = |sat: u64| if sat < dust_sat { 0 } else { sat };
        let theirs = ClosingTransaction::new(
            output(local),
            output(remote),
            terms.local_script.clone(),
            terms.remote_script.clone(),
            terms.funding,
        );
        let theirs = theirs.trust();
        let built = theirs.built_transaction();
        match ours {
            Ok(ours) => {
                assert_eq!(serialize(&ours.tx), serialize(built));
                let keys = (&terms.local_funding_pubkey, &terms.remote_funding_pubkey);
                let script = make_funding_redeemscript(keys.0, keys.1);
                let sighash = theirs.get_sighash_all(&script, terms.capacity.0);
                assert_eq!(&ours.sighash(), sighash.as_ref());
                *if ours.tx.output.len() == 2 { &mut both } else { &mut one } += 1;
            }
            Err(error) => {
                assert_eq!(error, CloseError::NoOutput);
                assert_eq!(built.output.len(), 0);
                none += 1;
            }
        }
    });
    println!("{both} with both outputs, {one} with one, {none} with none");
}
