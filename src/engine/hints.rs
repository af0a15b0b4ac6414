//! Hints for a person, from the keys and their usage history.

use std::cmp::Reverse;
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
use crate::model::used_from::UsedFrom;
use crate::store::tx::uses::Hour;
use crate::store::usage_networks::{NetworksRecord, UsedNet};

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
/// For so long a key's networks must have been noted before another is new.
const LEARNT: Duration = Duration::from_secs(7 * 86_400);
/// A key that was not used for so long is unused.
const UNUSED: Duration = Duration::from_secs(90 * 86_400);

/// # Hints
impl Engine {
    /// Looks for what a person should see, by the rules of [`HintRule`], among so many keys
    /// from a cursor on, in the order of their ids: a revoked key that is still tried, a key
    /// that wakes up, one that is used far more than it was, an old key that is in use
    /// shortly before its grace ends, a key that nobody uses, one that is used from a new
    /// network.
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
        let networks = match was_used && key.state != KeyState::Revoked {
            true => self.noted_networks(key.id, now)?,
            false => NetworksRecord::default(),
        };
        let days = match was_used || key.state == KeyState::Revoked {
            true => self.usage_of_key(key.id, Timestamp::MIN, now)?,
            false => Vec::new(),
        };
        let mut hints = by_the_rules(key, &days, today, now);
        hints.extend(about_networks(key, &networks, today.saturating_sub(DAY)));
        Ok(hints)
    }

    /// The networks that a key was used from in the last 90 days, the first that was noted
    /// first, where [`Options::note_networks`](crate::Options::note_networks) has them noted;
    /// as of the last [`flush`](Engine::flush).
    ///
    /// # Errors
    /// See [`Engine`]. A key that is unknown has none.
    ///
    /// ```
    /// # use gatekey::{NewKey, NewKeyspace, Options, Requirements};
    /// let engine = Options::new().note_networks(true).open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// let from = Requirements::new().source("2001:db8:7::1".parse().unwrap());
    /// engine.verify_with(issued.token.expose(), &from)?;
    /// engine.flush()?;
    /// let [noted] = engine.networks_of(issued.key.id)?[..] else { panic!() };
    /// assert_eq!(noted.network.to_string(), "2001:db8:7::/48");
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn networks_of(&self, key: KeyId) -> Result<Vec<UsedFrom>> {
        let mut nets = self.noted_networks(key, self.now())?.nets;
        nets.sort_by_key(|net| (net.first, net.net));
        let told = |net: UsedNet| UsedFrom {
            network: net.net.network(),
            first: net.first,
            last_day: Timestamp::from_raw(u64::from(net.last_day) * DAY_MS),
        };
        Ok(nets.into_iter().map(told).collect())
    }

    fn noted_networks(&self, key: KeyId, now: Timestamp) -> Result<NetworksRecord> {
        let today = Hour::of(now).day();
        self.core
            .read(|snapshot| snapshot.used_networks(key, today))
    }
}

const DAY_MS: u64 = 86_400_000;

/// A hint for each network from which a key was first used recently, the newest first.
fn about_networks(key: &Key, noted: &NetworksRecord, recently: Timestamp) -> Vec<Hint> {
    let known_by = noted.since.saturating_add(LEARNT).max(recently);
    let mut new = noted.nets.clone();
    new.retain(|net| net.first >= known_by);
    new.sort_by_key(|net| Reverse((net.first, net.net)));
    let (count, all) = (new.len() as u64, noted.nets.len() as u64);
    let hint = |net: UsedNet| Hint {
        network: Some(net.net.network()),
        ..hint_of(
            key,
            HintRule::NewNetwork,
            Some(net.first),
            (count, all - count),
        )
    };
    new.into_iter().map(hint).collect()
}

fn hint_of(
    key: &Key,
    rule: HintRule,
    since: Option<Timestamp>,
    (count, usual): (u64, u64),
) -> Hint {
    Hint {
        rule,
        key: key.id,
        keyspace: key.keyspace,
        owner: key.owner.clone(),
        since,
        count,
        usual,
        network: None,
    }
}

/// What the rules say of a key with some days of use.
fn by_the_rules(key: &Key, days: &[UsageBin], today: Timestamp, now: Timestamp) -> Vec<Hint> {
    let days_ago = |bin: &UsageBin| {
        let ago = today.unix_ms().saturating_sub(bin.begins_at.unix_ms()) / DAY_MS;
        u32::try_from(ago).unwrap_or(u32::MAX)
    };
    let (recent, before): (Vec<&UsageBin>, Vec<&UsageBin>) =
        days.iter().partition(|bin| days_ago(bin) <= 1);
    let granted: u64 = recent.iter().map(|bin| bin.counts.granted()).sum();
    let hint = |rule, since, count, usual| hint_of(key, rule, since, (count, usual));
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
