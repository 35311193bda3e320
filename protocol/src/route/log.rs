//! Binary logarithms in 65,536ths, without floats: the same on every machine.
//!
//! In: an integer. Out: its logarithm, off by less than two units. A table of 257 values, worked out by the compiler by squaring
//! again and again, and a straight line between two of them. Read next: `chance`.

/// Units for a factor of two.
pub(crate) const ONE: u32 = 1 << 16;

/// `log2(1 + i / 256)` in 65,536ths.
const TABLE: [u32; 257] = table();

const fn table() -> [u32; 257] {
    let mut all = [0; 257];
    let mut i = 0;
    while i < 257 {
        all[i] = of_mantissa(i as u64);
        i += 1;
    }
    all
}

/// Each squaring of a number from 1 to 2 gives one more binary digit of its logarithm.
const fn of_mantissa(i: u64) -> u32 {
    let mut x = (256 + i) << 24;
    let (mut log, mut digit) = (0, 0);
    // 1 + 256 / 256 is two.
    if i == 256 {
        return ONE;
    }
    while digit < 17 {
        x = ((x as u128 * x as u128) >> 32) as u64;
        log <<= 1;
        if x >= 2 << 32 {
            log |= 1;
            x >>= 1;
        }
        digit += 1;
    }
    // Rounded from one digit more.
    (log + 1) >> 1
}

/// The binary logarithm of `x` in 65,536ths; of zero as of one.
#[inline]
pub(crate) fn log2(x: u64) -> u32 {
    let x = x.max(1);
    let whole = 63 - x.leading_zeros();
    // The leading one away, 8 bits for the table, 16 for the line.
    let mantissa = (x << (63 - whole)) << 1;
    let (place, rest) = ((mantissa >> 56) as usize, (mantissa >> 40 & 0xffff) as u32);
    let (low, high) = (TABLE[place & 255], TABLE[(place & 255) + 1]);
    (whole << 16) + low + (((high - low) * rest) >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_two_are_exact_and_it_never_falls() {
        for n in 0..64 {
            assert_eq!(log2(1 << n), n * ONE);
        }
        let mut last = 0;
        for x in (1..2_000_000u64).chain((1..1_000).map(|i| u64::MAX / 1_000 * i)) {
            let now = log2(x);
            assert!(now >= last, "log2({x})");
            last = now;
        }
    }

    #[test]
    fn products_become_sums() {
        // 3^40 still fits: its logarithm is 40 times that of 3, from a table of logarithms.
        let three = 103_872; // 1.584962501 in 65,536ths
        for n in 1..=40u32 {
            let wanted = u64::from(n) * 1_038_720_824 / 10_000; // 1.5849625007 × 65,536 = 103,872.0824…
            let got = u64::from(log2(3u64.pow(n)));
            assert!(got.abs_diff(wanted) <= 2, "3^{n}: {got}, not {wanted}");
        }
        assert!(log2(3).abs_diff(three) <= 2);
    }
}
