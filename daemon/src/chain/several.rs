//! Several backends of one chain: which of them the node follows, and what is wrong with the others.
//!
//! In: what each says of its tip every few seconds ([`look`]), and what the node meets that uses the active one ([`Backends::blame`]).
//! Out: the active one, a report in words for each. The most work wins among those that can be believed; who was caught with
//! nonsense, or went silent in use, is not asked for a while, whatever it says of itself. With a single backend there is no choice
//! and no referee. Read next: `follow`, which checks every block of whichever is active.

use super::{Chain, ChainInfo, RpcClient, RpcError};
use bitcoin::BlockHash;
use chand_protocol::chain::Network;
use chand_protocol::units::Height;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{sleep, timeout, Instant};

/// How long nobody asks one that answered nonsense or followed another chain.
const DISTRUST: Duration = Duration::from_secs(600);
/// The same of one that did not answer the node: its next look may succeed all the same.
const PAUSE: Duration = Duration::from_secs(30);
/// Time for one look at one backend.
const LOOK_TIME: Duration = Duration::from_secs(20);
/// So many blocks behind the active one are said.
const LATE_BLOCKS: u32 = 3;
/// Two that differ so deep below the lower tip are on different branches, not in the middle of a block's way to both.
const BRANCH_DEPTH: u32 = 2;

/// Work of a chain: 256 bits, big-endian, so that they compare as they are.
pub(super) type Work = [u8; 32];

/// All backends of the chain, at least one.
#[derive(Debug)]
pub struct Backends {
    first: Backend,
    others: Vec<Backend>,
    active: AtomicUsize,
}

/// One of them.
#[derive(Debug)]
struct Backend {
    rpc: RpcClient,
    standing: Mutex<Standing>,
}

/// What is known of one.
#[derive(Clone, Debug, Default)]
struct Standing {
    /// What it said last of its tip.
    tip: Option<(Work, Height, BlockHash)>,
    /// Why it is not to be followed.
    trouble: Option<String>,
    /// It is not before then: whatever it says of itself when it lied, else only if there is a better one.
    until: Option<(Instant, Held)>,
    /// What its user should know although it serves: late, or on another branch.
    remark: Option<String>,
}

/// How it stands with a backend, for `listbackends`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// `host:port`.
    pub place: String,
    /// The node follows this one.
    pub active: bool,
    /// Its tip, as it says.
    pub tip: Option<(Height, BlockHash)>,
    /// Why it is not followed, or what is strange about it.
    pub trouble: Option<String>,
}

fn lock(standing: &Mutex<Standing>) -> MutexGuard<'_, Standing> {
    standing.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why one is left alone for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// It did not answer the node.
    Silent,
    /// It answered nonsense, or for another chain.
    Lied,
}

impl Standing {
    fn held(&self, now: Instant) -> Option<Held> {
        self.until.filter(|(until, _)| *until > now).map(|(_, why)| why)
    }

    fn is_good(&self, now: Instant) -> bool {
        self.trouble.is_none() && self.tip.is_some() && self.held(now).is_none()
    }

    /// How much it is worth to be followed: nothing, little (silent a moment ago, but it says again where it stands), or all that
    /// its work is worth.
    fn worth(&self, now: Instant) -> (u8, Work) {
        match (self.tip, self.held(now)) {
            (Some((work, ..)), _) if self.is_good(now) => (2, work),
            (Some((work, ..)), Some(Held::Silent)) => (1, work),
            _ => (0, Work::default()),
        }
    }
}

/// Which to follow: the active one while nobody is worth more; of those that say where they stand, the one with the most work.
fn choose(all: &[Standing], active: usize, now: Instant) -> usize {
    let worth = |n: usize| all.get(n).map(|standing| standing.worth(now));
    let mut best = active;
    for n in 0..all.len() {
        if worth(n) > worth(best) {
            best = n;
        }
    }
    best
}

impl Backends {
    /// These, the first of which is followed until something is known of the others.
    pub(super) fn new(first: RpcClient, others: Vec<RpcClient>) -> Backends {
        let backend = |rpc| Backend { rpc, standing: Mutex::default() };
        Backends {
            first: backend(first),
            others: others.into_iter().map(backend).collect(),
            active: AtomicUsize::new(0),
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.others.len() + 1
    }

    fn get(&self, n: usize) -> &Backend {
        n.checked_sub(1).and_then(|n| self.others.get(n)).unwrap_or(&self.first)
    }

    pub(super) fn rpc(&self, n: usize) -> &RpcClient {
        &self.get(n).rpc
    }

    pub(super) fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// How all of them stand.
    pub(super) fn report(&self) -> Vec<Report> {
        let active = self.active();
        let one = |n: usize| {
            let standing = lock(&self.get(n).standing).clone();
            Report {
                place: self.rpc(n).place().to_owned(),
                active: n == active,
                tip: standing.tip.map(|(_, height, hash)| (height, hash)),
                trouble: standing.trouble.or(standing.remark),
            }
        };
        (0..self.count()).map(one).collect()
    }

    /// The node met this at backend `n`: it is left alone for a while when another one serves. Whether one does.
    pub(super) fn blame(&self, n: usize, error: &RpcError) -> bool {
        let (time, why) = match error {
            // The referee may have been quicker, and `n` is then another one by now.
            RpcError::Unreachable { place, .. } | RpcError::WrongPassword { place } => {
                if place != self.rpc(n).place() {
                    return true;
                }
                (PAUSE, Held::Silent)
            }
            // A call that was refused says nothing of the chain.
            RpcError::Rpc { .. } => return false,
            RpcError::WrongChain { .. } | RpcError::Nonsense(_) => (DISTRUST, Held::Lied),
        };
        {
            let mut standing = lock(&self.get(n).standing);
            standing.trouble = Some(error.to_string());
            standing.until = Some((Instant::now() + time, why));
            if why == Held::Silent {
                standing.tip = None;
            }
        }
        self.decide();
        self.active() != n
    }

    /// The node has read all that the only backend has; where there are several, the referee looks at each.
    pub(super) fn served(&self, height: Height, hash: BlockHash) {
        if self.others.is_empty() {
            let tip = Some((Work::default(), height, hash));
            *lock(&self.first.standing) = Standing { tip, ..Standing::default() };
        }
    }

    /// What a look at backend `n` showed.
    fn looked(&self, n: usize, found: Result<ChainInfo, RpcError>) {
        let mut standing = lock(&self.get(n).standing);
        let now = Instant::now();
        let held = standing.held(now).is_some();
        let trouble = match found {
            Ok(info) => {
                standing.tip = Some((info.work, info.height, info.best));
                let starts = info.initial_block_download && info.headers > info.height;
                starts.then(|| format!("it is still reading blocks: {} of {}", info.height.0, info.headers.0))
            }
            Err(error) => {
                standing.tip = None;
                Some(error.to_string())
            }
        };
        if held {
            return;
        }
        if trouble.is_some() && standing.trouble != trouble {
            tracing::warn!(backend = self.rpc(n).place(), "{}", trouble.as_deref().unwrap_or_default());
        }
        if trouble.is_none() && standing.trouble.is_some() {
            tracing::warn!(backend = self.rpc(n).place(), "this chain backend serves again");
        }
        (standing.trouble, standing.until) = (trouble, None);
    }

    /// Takes another one when that is better.
    fn decide(&self) {
        let active = self.active();
        let all: Vec<Standing> = (0..self.count()).map(|n| lock(&self.get(n).standing).clone()).collect();
        let best = choose(&all, active, Instant::now());
        if best == active {
            return;
        }
        let why = match all.get(active).and_then(|s| s.trouble.as_deref()) {
            Some(trouble) => trouble.to_owned(),
            None => "it has less work".to_owned(),
        };
        self.active.store(best, Ordering::Relaxed);
        tracing::warn!(
            from = self.rpc(active).place(),
            to = self.rpc(best).place(),
            "the chain is followed through another backend: {why}"
        );
    }

    fn remark(&self, n: usize, remark: Option<String>) {
        let mut standing = lock(&self.get(n).standing);
        if let Some(words) = remark.as_deref().filter(|_| standing.remark != remark) {
            tracing::warn!(backend = self.rpc(n).place(), "{words}");
        }
        standing.remark = remark;
    }
}

/// Looks at all backends again and again, for ever.
pub(super) async fn referee(chain: Chain, network: Network) {
    let every = if network.is_regtest() { Duration::from_millis(200) } else { Duration::from_secs(10) };
    loop {
        round(&chain, network).await;
        sleep(every).await;
    }
}

async fn round(chain: &Chain, network: Network) {
    let looks: Vec<_> = chain
        .each()
        .map(|(n, one)| {
            (n, tokio::spawn(async move { timeout(LOOK_TIME, one.check_network(network)).await }))
        })
        .collect();
    for (n, look) in looks {
        let silent = || RpcError::Unreachable {
            place: chain.backends.rpc(n).place().to_owned(),
            reason: "it does not say in time where it stands".into(),
        };
        let found = look.await.ok().and_then(Result::ok).unwrap_or_else(|| Err(silent()));
        chain.backends.looked(n, found);
    }
    chain.backends.decide();
    let active = chain.backends.active();
    for (n, other) in chain.each().filter(|(n, _)| *n != active) {
        let remark = compare(chain, &other, n, active).await;
        chain.backends.remark(n, remark);
    }
    chain.backends.remark(active, None);
}

/// What is strange about backend `n`, measured by the active one.
async fn compare(chain: &Chain, other: &Chain, n: usize, active: usize) -> Option<String> {
    let tip = |n: usize| {
        let standing = lock(&chain.backends.get(n).standing);
        standing.tip.filter(|_| standing.is_good(Instant::now())).map(|(_, height, _)| height.0)
    };
    let (theirs, ours) = (tip(n)?, tip(active)?);
    let common = theirs.min(ours).saturating_sub(BRANCH_DEPTH);
    let base = chain.pinned(active);
    if differ(&base, other, common).await? {
        let parting = part(&base, other, common).await?;
        return Some(format!(
            "it is on another branch of the chain since block {parting} ({theirs} blocks; the backend in use has {ours})"
        ));
    }
    let late = ours.saturating_sub(theirs);
    (late >= LATE_BLOCKS).then(|| format!("it is {late} blocks behind, at {theirs}"))
}

/// Whether two have different blocks at a height; nothing when one does not say.
async fn differ(one: &Chain, other: &Chain, height: u32) -> Option<bool> {
    let hash = |chain: Chain| async move { chain.get_block_hash(Height(height)).await.ok().flatten() };
    Some(hash(one.clone()).await? != hash(other.clone()).await?)
}

/// The first height at which two differ that differ at `high`.
async fn part(one: &Chain, other: &Chain, mut high: u32) -> Option<u32> {
    let mut low = 0;
    while low < high {
        let middle = low + (high - low) / 2;
        if differ(one, other, middle).await? {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(work: u8) -> Standing {
        use bitcoin::hashes::Hash;
        let mut bytes = [0; 32];
        bytes[31] = work;
        Standing { tip: Some((bytes, Height(1), BlockHash::all_zeros())), ..Standing::default() }
    }

    #[tokio::test]
    async fn the_most_work_wins_among_those_that_can_be_believed() {
        let now = Instant::now();
        let chosen = |all: &[Standing], active| choose(all, active, now);
        let (low, high) = (standing(1), standing(2));
        let bad = Standing { trouble: Some("away".into()), ..standing(9) };
        let until = |time, why| Some((now + time, why));
        let lied = Standing { until: until(DISTRUST, Held::Lied), ..standing(9) };
        let silent =
            Standing { trouble: Some("away".into()), until: until(PAUSE, Held::Silent), ..standing(9) };
        let over = Standing { until: until(Duration::ZERO, Held::Lied), ..standing(3) };
        assert_eq!(chosen(&[low.clone(), high.clone()], 0), 1);
        assert_eq!(chosen(&[high.clone(), low.clone()], 0), 0);
        // Equal work is no reason to change.
        assert_eq!(chosen(&[high.clone(), high.clone(), high.clone()], 1), 1);
        assert_eq!(chosen(&[bad.clone(), low.clone(), high.clone()], 0), 2);
        assert_eq!(chosen(&[low.clone(), bad.clone(), lied.clone(), silent.clone()], 0), 0);
        assert_eq!(chosen(&[low.clone(), over], 0), 1);
        // Nobody is good: the one in use is waited for.
        assert_eq!(chosen(&[bad.clone(), lied.clone(), Standing::default()], 2), 2);
        // But for one that was silent a moment ago and is not now.
        assert_eq!(chosen(&[bad.clone(), silent, lied], 2), 1);
        assert_eq!(chosen(&[bad.clone(), bad, low], 1), 2);
    }
}
