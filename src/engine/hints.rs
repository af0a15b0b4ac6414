//! Hints for a person, from the keys and their usage history.

use std::time::Duration;

use crate::engine::handle::Engine;
use crate::model::clock::Timestamp;
use crate::model::error::Result;
use crate::model::filter::{Cursor, KeyFilter};
use crate::model::hint::{Hint, HintPage, HintRule};
use crate::model::id::KeyId;
use crate::model::key::{Key, KeyState};
use crate::model::outcome::Outcome;
use crate::model::usage_history::UsageBin;

const DAY: Duration = Duration::from_secs(86_400);
/// After so many days without a use, a key is dormant.
const DORMANT_DAYS: u32 = 30;
/// What is usual is that of so many days, of which so many have uses.
const USUAL_DAYS: u32 = 28;
const USUAL_DAYS_MIN: usize = 7;
/// So many times as often is unusual, if it is so often.
const UNUSUAL_TIMES: u64 = 5;
const UNUSUAL_MIN: u64 = 100;
/// So long before its end a grace is near it.
const NEAR_END: Duration = Duration::from_secs(3 * 86_400);
/// A key that was not used for so long is unused.
const UNUSED: Duration = Duration::from_secs(90 * 86_400);

/// # Hints
impl Engine {
    /// Looks for what a person should see, by the rules of [`HintRule`], among so many keys
    /// from a cursor on, in the order of their ids: a revoked key that is still tried, a key
    /// that wakes up, one that is used far more than it was, an old key that is in use
    /// shortly before its grace ends, a key that nobody uses.
    ///
    /// It looks at the usage as of the last [`flush`](Engine::flush), and reads the records
    /// of the keys; of those that were used lately, up to 90 days. Damaged keys are left out.
    ///
    /// # Errors
    /// See [`Engine`]; [`Invalid`](crate::Invalid) for a limit of 0 or over
    /// [`bounds::PAGE_MAX`](crate::bounds::PAGE_MAX).
    ///
    /// ```
    /// # use gatekey::{NewKey, NewKeyspace, Options, Reason};
    /// use gatekey::HintRule;
    ///
    /// # let engine = Options::new().open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// engine.revoke(issued.key.id, Reason::KeyCompromise)?;
    /// engine.verify(issued.token.expose())?; // denied
    /// engine.flush()?;
    /// let page = engine.hints(None, 1_000)?;
    /// assert_eq!(page.hints[0].rule, HintRule::RevokedKeyTried);
    /// assert_eq!((page.hints[0].key, page.hints[0].count), (issued.key.id, 1));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn hints(&self, after: Option<&Cursor>, keys: usize) -> Result<HintPage> {
        let now = self.now();
        let page = self.keys_page(&KeyFilter::new(), after, keys)?;
        let mut hints = Vec::new();
        for key in &page.keys {
            hints.extend(self.hints_about(key, now)?);
        }
        Ok(HintPage {
            hints,
            next: page.next,
        })
    }

    /// As [`hints`](Engine::hints), for one key.
    ///
    /// # Errors
    /// See [`Engine`]; [`NotFound::Key`](crate::NotFound::Key).
    ///
    /// ```
    /// # use gatekey::{NewKey, NewKeyspace, Options, Reason};
    /// # let engine = Options::new().open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// engine.revoke(issued.key.id, Reason::KeyCompromise)?;
    /// assert!(engine.hints_of(issued.key.id)?.is_empty());
    /// engine.verify(issued.token.expose())?; // denied
    /// engine.flush()?;
    /// assert_eq!(engine.hints_of(issued.key.id)?.len(), 1);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn hints_of(&self, key: KeyId) -> Result<Vec<Hint>> {
        self.hints_about(&self.key(key)?, self.now())
    }

    fn hints_about(&self, key: &Key, now: Timestamp) -> Result<Vec<Hint>> {
        let today = now.saturating_sub(Duration::from_millis(now.unix_ms() % DAY_MS));
        let was_used = key
            .usage
            .last_used
            .is_some_and(|at| at >= today.saturating_sub(DAY));
        let days = match was_used || key.state == KeyState::Revoked {
            true => self.usage_of_key(key.id, Timestamp::MIN, now)?,
            false => Vec::new(),
        };
        Ok(by_the_rules(key, &days, today, now))
    }
}

const DAY_MS: u64 = 86_400_000;

/// What the rules say of a key with some days of use.
fn by_the_rules(key: &Key, days: &[UsageBin], today: Timestamp, now: Timestamp) -> Vec<Hint> {
    let days_ago = |bin: &UsageBin| {
        let ago = today.unix_ms().saturating_sub(bin.begins_at.unix_ms()) / DAY_MS;
        u32::try_from(ago).unwrap_or(u32::MAX)
    };
    let (recent, before): (Vec<&UsageBin>, Vec<&UsageBin>) =
        days.iter().partition(|bin| days_ago(bin) <= 1);
    let granted: u64 = recent.iter().map(|bin| bin.counts.granted()).sum();
    let hint = |rule, since, count, usual| Hint {
        rule,
        key: key.id,
        keyspace: key.keyspace,
        owner: key.owner.clone(),
        since,
        count,
        usual,
    };
    let mut hints = Vec::new();
    let tried: u64 = recent
        .iter()
        .map(|bin| bin.counts.get(Outcome::Revoked))
        .sum();
    if key.state == KeyState::Revoked && tried > 0 {
        let since = key.revoked.as_ref().map(|revoked| revoked.at);
        hints.push(hint(HintRule::RevokedKeyTried, since, tried, 0));
    }
    let used_before = before.iter().filter(|bin| bin.counts.granted() > 0);
    let last_before = used_before.clone().max_by_key(|bin| bin.begins_at);
    if granted > 0 {
        let first = recent
            .iter()
            .filter(|bin| bin.counts.granted() > 0)
            .map(|bin| days_ago(bin))
            .max();
        let first = first.unwrap_or(0);
        let is_dormant = match last_before {
            Some(last) => days_ago(last).saturating_sub(first) > DORMANT_DAYS,
            None => key.created_at < today.saturating_sub(DAY * (DORMANT_DAYS + first)),
        };
        if is_dormant {
            let since = last_before.map(|bin| bin.begins_at);
            hints.push(hint(HintRule::DormantKeyUsed, since, granted, 0));
        }
    }
    let mut usual: Vec<u64> = used_before
        .filter(|bin| days_ago(bin) <= USUAL_DAYS + 1)
        .map(|bin| bin.counts.granted())
        .collect();
    usual.sort_unstable();
    let busiest = recent.iter().max_by_key(|bin| bin.counts.granted());
    if let (Some(busiest), Some(median)) = (busiest, usual.get(usual.len() / 2))
        && usual.len() >= USUAL_DAYS_MIN
    {
        let count = busiest.counts.granted();
        if count >= UNUSUAL_MIN && count >= median.saturating_mul(UNUSUAL_TIMES) {
            let since = Some(busiest.begins_at);
            hints.push(hint(HintRule::UnusualRate, since, count, *median));
        }
    }
    if let (KeyState::Retiring, Some(until)) = (key.state, key.retiring_until)
        && granted > 0
        && until <= now.saturating_add(NEAR_END)
    {
        hints.push(hint(HintRule::OldKeyInUse, Some(until), granted, 0));
    }
    let long_ago = now.saturating_sub(UNUSED);
    if key.state == KeyState::Active
        && key.created_at <= long_ago
        && key.usage.last_used.is_none_or(|used| used <= long_ago)
    {
        let (since, count) = (key.usage.last_used, key.usage.count);
        hints.push(hint(HintRule::Unused, since, count, 0));
    }
    hints
}
