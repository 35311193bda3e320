//! What the primitives allow: the rate and latency that no daemon of this design can beat on this machine.
//!
//! In: primitives in microseconds, payments in flight. Out: computed limits. The counts are the protocol's (BOLT 2),
//! with every HTLC above the dust limit, signatures never spread over cores, the keys of a commitment derived while
//! waiting, and nothing else: no parsing, no scheduling, no memory. docs/PERFORMANCE.md says the same in words.
//! Read next: `report`.

use serde_json::Value;

/// Medians of the primitives, in microseconds.
#[derive(Clone, Debug)]
pub struct Primitives {
    sign: f64,
    verify: f64,
    recover: f64,
    ecdh: f64,
    generator: f64,
    point: f64,
    sum: f64,
    seal: f64,
    round_trip: f64,
    page: f64,
    /// Records in a commit, and what it takes.
    commits: Vec<(f64, f64)>,
}

/// Waits for the disk until the payer may answer: before the first signature; before the payee's revocation and
/// signature; before the payer's revocation; before the preimage and the signature without the HTLC; before the reply.
const SYNCS: f64 = 5.0;
/// The payer's client, and two there and back between the nodes.
const ROUND_TRIPS: f64 = 3.0;

impl Primitives {
    /// Reads what `primitives` printed; missing names count nothing.
    pub fn read(by_name: impl Fn(&str) -> f64) -> Primitives {
        let commits = [1, 10, 100, 400].map(|n| (f64::from(n), by_name(&format!("sled_commit_{n}"))));
        Primitives {
            sign: by_name("sign"),
            verify: by_name("verify"),
            recover: by_name("recover"),
            ecdh: by_name("ecdh"),
            generator: by_name("generator_times_scalar"),
            point: by_name("point_times_scalar"),
            sum: by_name("point_plus_generator"),
            seal: by_name("seal_message"),
            round_trip: by_name("loopback_round_trip"),
            page: by_name("fdatasync_4k"),
            commits: commits.to_vec(),
        }
    }

    /// A commit of so many records through the store, between the measured sizes in proportion.
    fn commit(&self, records: f64) -> f64 {
        for pair in self.commits.windows(2) {
            let [(from, low), (to, high)] = [pair[0], pair[1]];
            if records <= to {
                return low + (high - low) * (records - from).max(0.0) / (to - from);
            }
        }
        self.commits.last().map_or(0.0, |(most, us)| us * records / most)
    }

    /// What all HTLCs of a batch cost the payer and the payee, besides the two signatures of the commitments.
    fn each(&self) -> (f64, f64) {
        // The invoice's signature, the onion's session key and secret, its HTLC's signature made, the payee's
        // checked, the message sealed.
        let payer = self.recover + self.generator + self.ecdh + self.sign + self.verify + self.seal;
        // Opened, the onion's secret, one checked, one made.
        let payee = self.seal + self.ecdh + self.verify + self.sign;
        (payer, payee)
    }

    /// What a batch costs once, whatever its size: three commitments signed and two of them checked before the payer
    /// answers, two revealed secrets checked.
    fn once(&self) -> f64 {
        3.0 * self.sign + 2.0 * self.verify + 2.0 * self.generator
    }

    /// What a batch costs both in computing until the channel is at rest: four commitments, each signed, checked and its
    /// keys derived on both sides (the revocation key takes two multiplications, three keys a sum each), and revoked.
    fn whole(&self) -> f64 {
        let keys = 2.0 * self.point + 3.0 * self.sum;
        4.0 * (self.sign + self.verify + self.generator + 2.0 * keys)
    }

    /// From request to reply for a batch of `n`, in microseconds, with each wait for the disk taking `sync`.
    fn batch(&self, n: f64, sync: f64) -> f64 {
        let (payer, payee) = self.each();
        SYNCS * sync + self.once() + n * (payer + payee) + ROUND_TRIPS * self.round_trip
    }

    /// The limits with `in_flight` under way.
    pub fn limits(&self, in_flight: usize) -> Limits {
        let n = in_flight as f64;
        let (payer, payee) = self.each();
        let (bare, store) = (self.batch(n, self.page), self.batch(n, self.commit(n)));
        let busiest = payer.max(payee);
        Limits {
            latency_ms: bare / 1e3,
            latency_store_ms: store / 1e3,
            per_s: n / bare * 1e6,
            per_s_store: n / store * 1e6,
            per_s_pipelined: (n / self.batch(1.0, self.page)).min(1.0 / busiest) * 1e6,
            cpu_ms: (payer + payee + self.whole() / n) / 1e3,
        }
    }
}

/// What cannot be beaten.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limits {
    /// From request to reply when all in flight go as one batch and a wait for the disk is one `fdatasync`.
    pub latency_ms: f64,
    /// The same when it is a commit through the store.
    pub latency_store_ms: f64,
    /// One batch at a time, one `fdatasync` a step.
    pub per_s: f64,
    /// The same with commits through the store.
    pub per_s_store: f64,
    /// A core a side always busy, all waiting hidden; never more than so many lone payments side by side.
    pub per_s_pipelined: f64,
    /// Bare cryptography of both nodes for each payment of a batch, until the channel is at rest.
    pub cpu_ms: f64,
}

/// The medians of several measurements of the primitives.
pub fn medians(measured: &[&Value]) -> impl Fn(&str) -> f64 {
    let measured: Vec<Value> = measured.iter().map(|v| (*v).clone()).collect();
    move |name| super::pair::median(&measured.iter().filter_map(|m| m[name].as_f64()).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::Primitives;

    fn unit(sync: f64) -> Primitives {
        Primitives::read(|name| match name {
            "fdatasync_4k" => sync,
            "sled_commit_1" => 100.0,
            "sled_commit_10" => 190.0,
            "sled_commit_100" => 1_090.0,
            "sled_commit_400" => 4_090.0,
            _ => 1.0,
        })
    }

    #[test]
    fn a_lone_payment_waits_five_times() {
        let (with, without) = (unit(1_000.0).limits(1), unit(0.0).limits(1));
        assert!((with.latency_ms - without.latency_ms - 5.0).abs() < 1e-9);
        // Ten operations for the HTLC, seven for the batch, three round trips.
        assert!((without.latency_ms - 0.020).abs() < 1e-9, "{without:?}");
    }

    #[test]
    fn commits_between_the_measured_sizes() {
        let p = unit(0.0);
        assert!((p.commit(1.0) - 100.0).abs() < 1e-9);
        assert!((p.commit(55.0) - 640.0).abs() < 1e-9);
        assert!((p.commit(800.0) - 8_180.0).abs() < 1e-9);
    }

    #[test]
    fn larger_batches_cost_less_each() {
        let p = unit(1_000.0);
        assert!(p.limits(100).per_s > 50.0 * p.limits(1).per_s);
        assert!(p.limits(100).per_s_pipelined >= p.limits(100).per_s);
    }
}
