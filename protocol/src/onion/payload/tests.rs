//! Layers there and back, and every way a stream can be wrong.

use super::*;
use alloc::vec;

fn forward() -> Forward {
    Forward {
        short_channel_id: ShortChannelId(0x0102_0304_0506_0708),
        amt_to_forward: Msat(15_000),
        outgoing_cltv_value: Height(1_500),
    }
}

fn full() -> Final {
    let mut last = Final::invoice(Msat(1_000), Height(800_000), PaymentSecret([9; 32]), Msat(0x1_0000));
    last.payment_metadata = Some(vec![1, 0xfa]);
    last.keysend_preimage = Some(Preimage([5; 32]));
    last.custom.insert(65_537, vec![1]);
    last.custom.insert(KEYSEND_PREIMAGE + 1, vec![2; 300]);
    last
}

fn refused(payload: &[u8], is_final: bool) -> (u64, u16) {
    let bad = Payload::decode(payload, is_final).unwrap_err();
    (bad.kind, bad.offset)
}

#[test]
fn layers_go_there_and_back() {
    // BOLT 4 [4.write.6, 4.write.7].
    assert_eq!(Payload::decode(&forward().encode(), false), Ok(Payload::Forward(forward())));
    let lasts = [
        full(),
        Final::keysend(Msat(7), Height(9), Preimage([1; 32])),
        Final::invoice(Msat(0), Height(0), PaymentSecret([0; 32]), Msat(0)),
    ];
    for last in lasts {
        assert_eq!(Payload::decode(&last.encode(), true), Ok(Payload::Final(last)));
    }
}

#[test]
fn keysend_totals_what_it_carries() {
    // BOLT 4 [4.read.25].
    let last = Final::keysend(Msat(7), Height(9), Preimage([1; 32]));
    assert_eq!(last.total_msat(), Msat(7));
    assert_eq!(full().total_msat(), Msat(0x1_0000));
}

#[test]
fn custom_types_that_are_not_free_are_left_out() {
    let mut last = full();
    last.custom.insert(3, vec![1]);
    last.custom.insert(KEYSEND_PREIMAGE, vec![1]);
    assert_eq!(last.encode(), full().encode());
}

#[test]
fn an_unknown_even_type_is_named_with_its_place() {
    // One byte of length prefix comes before the stream.
    assert_eq!(refused(&[2, 1, 5, 4, 1, 5, 14, 0], true), (14, 7));
    let mut long = vec![2, 1, 5, 4, 1, 5, 0xfd, 0x01, 0x01, 0xfd, 0x01, 0x00];
    long.resize(12 + 256, 0);
    long.extend([0xfe, 0, 1, 0, 0, 0]);
    assert_eq!(refused(&long, true), (65_536, 3 + 12 + 256));
    long.truncate(12 + 256);
    assert!(Payload::decode(&long, true).is_ok(), "an odd one is skipped");
}

#[test]
fn a_missing_record_is_named() {
    // BOLT 4 [4.read.20, 4.read.21].
    assert_eq!(refused(&[4, 1, 5], true), (AMT_TO_FORWARD, 0));
    assert_eq!(refused(&[2, 1, 5], true), (OUTGOING_CLTV_VALUE, 0));
    assert_eq!(refused(&[2, 1, 5, 4, 1, 5], false), (SHORT_CHANNEL_ID, 0));
}

#[test]
fn a_bad_value_is_named() {
    assert_eq!(refused(&[2, 2, 0, 5, 4, 1, 5], true), (AMT_TO_FORWARD, 1));
    assert_eq!(refused(&[2, 1, 5, 4, 5, 1, 1, 1, 1, 1], true), (OUTGOING_CLTV_VALUE, 4));
    assert_eq!(refused(&[2, 1, 5, 4, 1, 5, 6, 1, 1], false), (SHORT_CHANNEL_ID, 7));
    assert_eq!(refused(&[2, 1, 5, 4, 1, 5, 8, 1, 1], true), (PAYMENT_DATA, 7));
    assert_eq!(refused(&[2, 1, 5, 4, 1, 5, 4, 1, 5], true), (OUTGOING_CLTV_VALUE, 7));
}

#[test]
fn truncated_and_damaged_layers_never_panic() {
    for bytes in [forward().encode(), full().encode()] {
        for cut in 0..bytes.len() {
            for is_final in [false, true] {
                // Cutting between records can leave a sound layer; anything else must be refused cleanly.
                if let Ok(Payload::Final(last)) = Payload::decode(&bytes[..cut], is_final) {
                    assert_eq!(last.encode(), &bytes[..cut]);
                }
            }
        }
        let mut damaged = bytes.clone();
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xfd, 0xfe, 0xff] {
                damaged[at] = value;
                if let Ok(Payload::Forward(read)) = Payload::decode(&damaged, false) {
                    assert!(damaged.starts_with(&[2]) && read.encode().len() <= damaged.len());
                }
                if let Err(bad) = Payload::decode(&damaged, true) {
                    assert!(usize::from(bad.offset) <= bytes.len() + 3);
                }
            }
            damaged[at] = bytes[at];
        }
    }
}

#[test]
fn blinded_layers_are_told_apart_and_kept_strict() {
    let mut key = vec![CURRENT_PATH_KEY as u8, 33, 2];
    key.extend([
        0x79, 0xbe, 0x66, 0x7e, 0xf9, 0xdc, 0xbb, 0xac, 0x55, 0xa0, 0x62, 0x95, 0xce, 0x87, 0x0b, 0x07, 0x02,
        0x9b, 0xfc, 0xdb, 0x2d, 0xce, 0x28, 0xd9, 0x59, 0xf2, 0x81, 0x5b, 0x16, 0xf8, 0x17, 0x98,
    ]);
    let sealed = [10, 2, 0xaa, 0xbb];
    let middle = [&sealed[..], &key].concat();
    match Payload::decode(&middle, false) {
        Ok(Payload::Blinded(blinded)) => {
            assert_eq!(blinded.encrypted_recipient_data, [0xaa, 0xbb]);
            assert!(blinded.current_path_key.is_some());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(refused(&middle, true), (AMT_TO_FORWARD, 0));
    assert_eq!(refused(&[&[2, 1, 5], &sealed[..]].concat(), false), (AMT_TO_FORWARD, 1));
    assert_eq!(refused(&[&sealed[..], &[13, 0]].concat(), false), (13, 5));
    let last = [&[2, 1, 5, 4, 1, 6], &sealed[..], &[18, 1, 7]].concat();
    assert!(matches!(Payload::decode(&last, true), Ok(Payload::Blinded(_))));
    // A path key without sealed data is an error outside a blinded route.
    assert_eq!(refused(&[&[2, 1, 5, 4, 1, 6], &key[..]].concat(), true), (CURRENT_PATH_KEY, 7));
    key[2] = 5;
    assert_eq!(refused(&key, false), (CURRENT_PATH_KEY, 1));
}

#[test]
fn secrets_are_not_printed() {
    let text = alloc::format!("{:?}", full());
    assert!(text.contains("keysend: true") && !text.contains("5, 5"), "{text}");
}
