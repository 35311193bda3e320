//! Who says whether a rune may do something.
//!
//! It knows the secret, which numbers were given out and which are refused (read from the node when first needed, and changed with
//! it), and when each rune was last used. A rune that is limited in time between two uses has each use kept before it is
//! answered, so that a restart is no way round it.
//! In: runes and requests. Out: a [`Grant`], or Core Lightning's error 1501, 1502 or 1503. Read next: `request`.

use super::request::Request;
use super::{number, restriction, Alternative, Condition, Restriction, Rune};
use crate::rpc::amount;
use crate::rpc::message::RpcError;
use crate::rpc::Backend;
use chand_protocol::id::sha256;
use chand_protocol::node::budget::Budget;
use chand_protocol::node::command::{Command, Reply};
use chand_protocol::node::view;
use chand_protocol::units::Msat;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard};
use zeroize::Zeroizing;

/// The rune is not ours.
pub const NOT_AUTHORIZED: i32 = 1_501;
/// It does not allow this.
pub const NOT_PERMITTED: i32 = 1_502;
/// It is refused.
pub const BLACKLISTED: i32 = 1_503;
/// The restriction that bounds what is spent.
pub const BUDGET: &str = "budget_msat";
/// Budgets of one rune.
const MAX_BUDGETS: usize = 16;
/// Requests of one rune that are answered at once.
const MAX_UNDER_WAY: usize = 64;

/// What a request may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The rune's number.
    pub id: u64,
    /// What bounds its spending; each counts.
    pub budgets: Vec<Budget>,
}

/// One budget as a rune names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// As it stands in the rune.
    pub text: String,
    /// What it means.
    pub budget: Budget,
}

struct State {
    secret: Option<(u64, Zeroizing<[u8; 32]>)>,
    /// When each that was given out was last used, in time since the Unix epoch.
    used: BTreeMap<u64, Duration>,
    blacklist: Vec<(u64, u64)>,
}

/// See the head of this file.
pub struct Authority {
    base: Zeroizing<[u8; 32]>,
    state: AsyncMutex<Option<State>>,
    under_way: Arc<Mutex<BTreeMap<u64, usize>>>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority(secret)")
    }
}

/// A request under way.
#[derive(Debug)]
pub struct UnderWay {
    all: Arc<Mutex<BTreeMap<u64, usize>>>,
    id: u64,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.id) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                all.remove(&self.id);
            }
        }
    }
}

fn not_authorized(why: &str) -> RpcError {
    RpcError::new(NOT_AUTHORIZED, format!("Not authorized: {why}"))
}

/// Error 1502.
pub fn not_permitted(why: impl std::fmt::Display) -> RpcError {
    RpcError::new(NOT_PERMITTED, format!("Not permitted: {why}"))
}

fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

impl State {
    fn of(base: &[u8; 32], runes: &view::Runes) -> State {
        let mut state = State { secret: None, used: BTreeMap::new(), blacklist: Vec::new() };
        state.learn(base, runes.epoch);
        let used = |rune: &view::Rune| (rune.id, Duration::from_millis(rune.used_at_ms));
        state.used = runes.runes.iter().map(used).collect();
        state.blacklist.clone_from(&runes.blacklist);
        state
    }

    /// Runes are made with this epoch.
    fn learn(&mut self, base: &[u8; 32], epoch: Option<u64>) {
        let Some(epoch) = epoch else { return };
        if self.secret.as_ref().is_none_or(|(known, _)| *known != epoch) {
            let mut bytes = Zeroizing::new(base.to_vec());
            bytes.extend_from_slice(&epoch.to_be_bytes());
            self.secret = Some((epoch, Zeroizing::new(sha256(&bytes))));
        }
    }

    /// Its number, when it is ours and not refused.
    fn admit(&self, rune: &Rune) -> Result<u64, RpcError> {
        let foreign = || not_authorized("Not derived from master");
        let (_, secret) = self.secret.as_ref().ok_or_else(foreign)?;
        let genuine = rune.is_of(secret.as_slice());
        let id = rune.id().filter(|id| genuine && self.used.contains_key(id)).ok_or_else(foreign)?;
        if self.is_blacklisted(id) {
            return Err(RpcError::new(BLACKLISTED, "Not authorized: Blacklisted rune"));
        }
        Ok(id)
    }

    fn is_blacklisted(&self, id: u64) -> bool {
        self.blacklist.iter().any(|(from, to)| (*from..=*to).contains(&id))
    }

    fn epoch(&self) -> u64 {
        self.secret.as_ref().map_or(0, |(epoch, _)| *epoch)
    }

    /// Whether a restriction on time or on what is asked holds.
    fn test(&self, id: u64, test: &Alternative, request: &Request, now: Duration) -> Result<(), String> {
        match test.field.as_str() {
            "time" => test.test(Some(&now.as_secs().to_string())),
            "rate" => self.rested(id, now, interval_of_rate(test)?),
            "per" => self.rested(id, now, interval_of_per(test)?),
            // Checked before, and counted where payments begin.
            BUDGET => Ok(()),
            // A comment or an absence asks for no value.
            _ if test.condition == Condition::Comment => Ok(()),
            field => test.test(request.field(field)?.as_deref()),
        }
    }

    fn rested(&self, id: u64, now: Duration, least: Duration) -> Result<(), String> {
        // Of one that was used in what the clock now calls the future, no time has passed.
        let used = self.used.get(&id).copied().unwrap_or_default();
        if now.saturating_sub(used) < least {
            return Err("too soon".into());
        }
        Ok(())
    }
}

fn interval_of_rate(test: &Alternative) -> Result<Duration, String> {
    if test.condition != Condition::Equal {
        return Err("rate operator must be =".into());
    }
    let per_minute = test.value.parse::<u32>().ok().filter(|n| *n > 0 && is_digits(&test.value));
    let per_minute = per_minute.ok_or("malformed rate")?;
    Ok(Duration::from_nanos(60_000_000_000 / u64::from(per_minute)))
}

fn interval_of_per(test: &Alternative) -> Result<Duration, String> {
    if test.condition != Condition::Equal {
        return Err("per operator must be =".into());
    }
    let digits = test.value.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = test.value.split_at(digits);
    let nanos: u64 = match unit {
        "" | "sec" => 1_000_000_000,
        "nsec" => 1,
        "usec" => 1_000,
        "msec" => 1_000_000,
        "min" => 60_000_000_000,
        "hour" => 3_600_000_000_000,
        "day" => 86_400_000_000_000,
        _ => return Err("malformed suffix".into()),
    };
    let count = count.parse::<u32>().ok().filter(|n| *n > 0).ok_or("malformed per")?;
    nanos.checked_mul(count.into()).map(Duration::from_nanos).ok_or_else(|| "per overflow".into())
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// What a budget's text says: an amount, for ever or `/day`.
fn read_budget(alternative: &Alternative) -> Option<(Msat, bool)> {
    if alternative.condition != Condition::Equal {
        return None;
    }
    let (amount, daily) = match alternative.value.split_once('/') {
        Some((amount, "day")) => (amount, true),
        Some(_) => return None,
        None => (alternative.value.as_str(), false),
    };
    amount::msat(amount).ok().map(|amount| (amount, daily))
}

/// The budgets of a rune. Each has an account by all that stands in the rune up to it: who adds to a rune what he likes goes on
/// drawing on those that were there.
///
/// # Errors
/// In words, when one is not clear, or would not bind.
pub fn budgets(epoch: u64, id: u64, restrictions: &[Restriction]) -> Result<Vec<Named>, String> {
    let mut prefix = [b"chand budget".as_slice(), &epoch.to_be_bytes()].concat();
    prefix.extend(number(id).to_string().bytes());
    let mut found = Vec::new();
    for restriction in restrictions {
        prefix.push(b'&');
        prefix.extend(restriction.to_string().bytes());
        if restriction.0.iter().all(|alternative| alternative.field != BUDGET) {
            continue;
        }
        let [alternative] = restriction.0.as_slice() else {
            return Err(format!("{BUDGET} stands alone, with no alternatives"));
        };
        let (limit, daily) = read_budget(alternative)
            .ok_or_else(|| format!("{BUDGET} is {BUDGET}=AMOUNT, or {BUDGET}=AMOUNT/day"))?;
        let budget = Budget { account: sha256(&prefix), limit, daily };
        found.push(Named { text: alternative.to_string(), budget });
    }
    if found.len() > MAX_BUDGETS {
        return Err(format!("more than {MAX_BUDGETS} budgets"));
    }
    Ok(found)
}

impl Authority {
    /// With the node's secret for runes.
    pub fn new(base: Zeroizing<[u8; 32]>) -> Authority {
        Authority { base, state: AsyncMutex::new(None), under_way: Arc::default() }
    }

    /// One request more of a rune, unless there are too many.
    pub fn enter(&self, id: u64) -> Option<UnderWay> {
        let mut all = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(id).or_insert(0);
        if *count >= MAX_UNDER_WAY {
            return None;
        }
        *count = count.saturating_add(1);
        Some(UnderWay { all: Arc::clone(&self.under_way), id })
    }

    async fn state(&self, backend: &dyn Backend) -> Result<MutexGuard<'_, Option<State>>, RpcError> {
        let mut state = self.state.lock().await;
        if state.is_none() {
            *state = Some(State::of(&self.base, &*list(backend).await?));
        }
        Ok(state)
    }

    /// Whether a rune is ours and not refused; its number. Says nothing of what it allows.
    ///
    /// # Errors
    /// 1501 or 1503.
    pub async fn admit(&self, backend: &dyn Backend, rune: &Rune) -> Result<u64, RpcError> {
        let state = self.state(backend).await?;
        state.as_ref().map_or_else(|| Err(not_authorized("no runes")), |state| state.admit(rune))
    }

    /// Whether a rune allows a request; this counts as a use of it.
    ///
    /// # Errors
    /// 1501, 1502 or 1503.
    pub async fn check(
        &self,
        backend: &dyn Backend,
        rune: &Rune,
        request: &Request,
    ) -> Result<Grant, RpcError> {
        let now = now();
        let mut guard = self.state(backend).await?;
        let state = guard.as_mut().ok_or_else(|| not_authorized("no runes"))?;
        let id = state.admit(rune)?;
        let mut is_limited = false;
        for restriction in rune.restrictions() {
            let mut why = Vec::new();
            let holds = restriction.0.iter().any(|alternative| {
                let failed = state.test(id, alternative, request, now).err();
                let holds = failed.is_none();
                why.extend(failed);
                holds
            });
            if !holds {
                return Err(not_permitted(in_words(&why.join(" AND "))));
            }
            is_limited |= restriction.0.iter().any(|a| a.field == "rate" || a.field == "per");
        }
        let budgets = budgets(state.epoch(), id, rune.restrictions()).map_err(not_permitted)?;
        let budgets = budgets.into_iter().map(|named| named.budget).collect();
        state.used.insert(id, now);
        drop(guard);
        if is_limited {
            let at_ms = u64::try_from(now.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX);
            backend.command(Command::RuneUsed { id, at_ms }).await?;
        }
        Ok(Grant { id, budgets })
    }

    /// A new rune with a number of its own.
    ///
    /// # Errors
    /// The node's, or −32602.
    pub async fn create(
        &self,
        backend: &dyn Backend,
        restrictions: Vec<Restriction>,
    ) -> Result<Rune, RpcError> {
        let mut guard = self.state(backend).await?;
        // Whoever leaves before the end leaves nothing here, and it is read anew.
        let mut state = guard.take().ok_or_else(|| not_authorized("no runes"))?;
        let text = restriction::to_text(&restrictions);
        let Reply::Rune { id, epoch } = backend.command(Command::NewRune { restrictions: text }).await?
        else {
            return Err(RpcError::unexpected("createrune"));
        };
        state.learn(&self.base, Some(epoch));
        state.used.insert(id, Duration::ZERO);
        let (_, secret) = state.secret.as_ref().ok_or_else(|| RpcError::unexpected("createrune"))?;
        let all = std::iter::once(number(id)).chain(restrictions).collect();
        let rune = Rune::new(secret.as_slice(), all);
        *guard = Some(state);
        Ok(rune)
    }

    /// Refuses numbers from now on, or no longer.
    ///
    /// # Errors
    /// The node's.
    pub async fn blacklist(
        &self,
        backend: &dyn Backend,
        (start, end): (u64, u64),
        relist: bool,
    ) -> Result<Vec<(u64, u64)>, RpcError> {
        let mut guard = self.state(backend).await?;
        let mut state = guard.take().ok_or_else(|| not_authorized("no runes"))?;
        let Reply::Runes(runes) = backend.command(Command::BlacklistRunes { start, end, relist }).await?
        else {
            return Err(RpcError::unexpected("blacklistrune"));
        };
        state.blacklist.clone_from(&runes.blacklist);
        *guard = Some(state);
        Ok(runes.blacklist)
    }

    /// Everything about runes, and what tells ours from others.
    ///
    /// # Errors
    /// The node's.
    pub async fn look(&self, backend: &dyn Backend) -> Result<Look, RpcError> {
        let runes = list(backend).await?;
        let guard = self.state(backend).await?;
        let state = guard.as_ref();
        let used = state.map(|state| state.used.clone()).unwrap_or_default();
        let secret = state.and_then(|state| state.secret.as_ref().map(|(_, secret)| secret.clone()));
        Ok(Look { runes: *runes, used, secret })
    }
}

/// What `showrunes` shows.
pub struct Look {
    /// As they are kept.
    pub runes: view::Runes,
    used: BTreeMap<u64, Duration>,
    secret: Option<Zeroizing<[u8; 32]>>,
}

impl Look {
    /// Whether it was made here.
    pub fn is_ours(&self, rune: &Rune) -> bool {
        let known = rune.id().is_some_and(|id| self.used.contains_key(&id));
        known && self.secret.as_ref().is_some_and(|secret| rune.is_of(secret.as_slice()))
    }

    /// When it was last used, in time since the Unix epoch.
    pub fn used(&self, id: u64) -> Option<Duration> {
        self.used.get(&id).copied().filter(|used| !used.is_zero())
    }

    /// The rune that was given out under this number.
    pub fn rebuild(&self, kept: &view::Rune) -> Option<Rune> {
        let restrictions = restriction::parse(&kept.restrictions).ok()?;
        let all = std::iter::once(number(kept.id)).chain(restrictions).collect();
        Some(Rune::new(self.secret.as_ref()?.as_slice(), all))
    }

    /// How the budgets of a rune stand: each with what was spent and what is set aside.
    pub fn budgets(&self, rune: &Rune) -> Vec<(Named, Msat, Msat)> {
        let (Some(epoch), Some(id)) = (self.runes.epoch, rune.id()) else { return Vec::new() };
        let today = now().as_secs() / 86_400;
        let stand = |named: Named| {
            let account = self.runes.accounts.iter().find(|a| a.name == named.budget.account);
            let spent =
                account.filter(|a| !named.budget.daily || a.day >= today).map_or(Msat::ZERO, |a| a.spent);
            (named, spent, account.map_or(Msat::ZERO, |a| a.held))
        };
        budgets(epoch, id, rune.restrictions()).unwrap_or_default().into_iter().map(stand).collect()
    }
}

async fn list(backend: &dyn Backend) -> Result<Box<view::Runes>, RpcError> {
    match backend.command(Command::ListRunes).await? {
        Reply::Runes(runes) => Ok(runes),
        _ => Err(RpcError::unexpected("showrunes")),
    }
}

/// The name of a field in words, where it is not a word.
fn in_words(why: &str) -> String {
    for (field, words) in [
        ("pname", "parameter "),
        ("parr", "parameter #"),
        ("pnum", "number of parameters"),
        ("pinv", "invoice parameter "),
    ] {
        if let Some(rest) = why.strip_prefix(field) {
            return format!("{words}{rest}");
        }
    }
    why.into()
}

#[cfg(test)]
impl Default for Authority {
    fn default() -> Authority {
        Authority::new(Zeroizing::new([7; 32]))
    }
}
