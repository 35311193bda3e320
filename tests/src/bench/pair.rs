//! What a measurement asks of two nodes with one channel between them, or others in a line, whoever wrote them.
//!
//! In: orders (make invoices, pay them with so many in flight, come to rest, start again). Out: times and process
//! ids, by which the kernel's counters are read. The first node pays, the second is paid.
//! Read next: `chand`, `ldk` (the implementations), `measure` (the caller).

/// The capacity of every channel measured, in satoshi; half of it is pushed at the opening.
pub const CAPACITY_SAT: u64 = 16_000_000;

/// The amount of every payment, in millisatoshi: above the dust limit, so that each has an HTLC transaction to sign.
pub const AMOUNT_MSAT: u64 = 1_000_000;

/// The most payments that one channel is asked for: what the payer's half holds, reserve and fees left aside.
pub const MOST_PAYMENTS: u64 = 7_700;

/// What a round of payments took.
#[derive(Clone, Default, Debug)]
pub struct Paid {
    /// From the first request to the last reply, in seconds.
    pub seconds: f64,
    /// From request to reply, in microseconds, one entry a payment that succeeded.
    pub latencies_us: Vec<u64>,
    /// Payments that ended in an error.
    pub failed: u64,
    /// How the first of those did.
    pub first_error: Option<String>,
}

/// Two nodes in two processes with one usable channel, or with others between them.
pub trait Pair {
    /// The processes: payer, payee.
    fn process_ids(&mut self) -> [u32; 2];

    /// The processes between them, when they share no channel.
    fn between(&mut self) -> Vec<u32> {
        Vec::new()
    }

    /// Makes invoices of [`AMOUNT_MSAT`] at the payee.
    fn invoices(&mut self, count: u64) -> Vec<String>;

    /// Pays them all, keeping `in_flight` under way.
    fn pay(&mut self, invoices: Vec<String>, in_flight: usize) -> Paid;

    /// Waits until no HTLC is left.
    fn rest(&mut self);

    /// Stops both in order and starts them again: milliseconds from start to the first answer, payer and payee.
    fn restart(&mut self) -> [f64; 2];
}

/// A value below which this share of the sorted values lies (nearest rank).
pub fn quantile(sorted: &[u64], share: f64) -> u64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(0)
}

/// The middle value, or the mean of the two in the middle; 0 of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::{median, quantile};

    #[test]
    fn medians_and_quantiles() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        let hundred: Vec<u64> = (1..=101).collect();
        assert_eq!(
            (quantile(&hundred, 0.5), quantile(&hundred, 0.99), quantile(&hundred, 1.0)),
            (51, 100, 101)
        );
        assert_eq!(quantile(&[], 0.5), 0);
    }
}
