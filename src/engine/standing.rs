//! What is left of a key's limits and quotas, and what a request would come to.

use crate::crypto::token;
use crate::engine::charge::Who;
use crate::engine::foreign::Looked;
use crate::engine::handle::Engine;
use crate::engine::prove::Proven;
use crate::engine::shared::Core;
#[cfg(feature = "http")]
use crate::model::allowances::Allowances;
use crate::model::allowances::{LimitAllowance, QuotaAllowance};
use crate::model::clock::Timestamp;
use crate::model::dry_run::{DryRun, QuotaLeft};
use crate::model::error::{NotFound, Result};
use crate::model::id::KeyId;
use crate::model::limit::LimitStatus;
use crate::model::quota::QuotaStatus;
use crate::model::requirements::Requirements;
use crate::model::verdict::Denial;
use crate::store::hot::HotCopy;
use crate::store::life::Life;

/// # Limits
impl Engine {
    /// What is left of every limit that a request of a key would be charged to, with
    /// nothing charged: of the owners above it, the shortest path first, and of the key.
    ///
    /// A request of a cost would be admitted by the limits if each has so much
    /// [`remaining`](LimitStatus::remaining). [`quotas_left`](Engine::quotas_left) tells
    /// the same of quotas, and [`dry_run`](Engine::dry_run) asks for a token.
    ///
    /// # Errors
    /// [`NotFound::Key`](crate::NotFound::Key).
    ///
    /// ```
    /// use gatekey::{Engine, Level, Limit, NewKey, NewKeyspace, OwnerUpdate};
    ///
    /// let engine = Engine::open_in_memory()?;
    /// engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// let tier = OwnerUpdate::new().limits([Limit::per_hour(1_000).fixed()]);
    /// engine.update_owner("acme_live", "acme", tier)?;
    /// let issued = engine.issue(NewKey::new("acme_live", "acme/ingest")?)?;
    /// assert!(engine.verify(issued.token.expose())?.is_granted());
    ///
    /// let left = engine.limits_left(issued.key.id)?;
    /// assert_eq!((left[0].level(), left[0].remaining()), (Level::Owner(1), 999));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn limits_left(&self, key: KeyId) -> Result<Vec<LimitStatus>> {
        let mut copy = HotCopy::new();
        self.core.read(|snapshot| snapshot.hot(key, &mut copy))?;
        let view = copy.view().ok_or(NotFound::Key(key))?;
        let entry = self.core.entry_of(&view)?;
        let now = self.core.present().clock;
        self.core.look_at_limits(&view, entry, now)
    }

    /// What is left of every quota that a request of a key would be charged to, with
    /// nothing charged: of the owners above it, the shortest path first, and of the key.
    ///
    /// It counts what is in memory as well. Requests that come meanwhile may be counted or
    /// not. A quota of which something is in memory is told from there; of another, a
    /// record is read.
    ///
    /// # Errors
    /// [`NotFound::Key`](crate::NotFound::Key).
    ///
    /// ```
    /// use gatekey::{Engine, Level, NewKey, NewKeyspace, OwnerUpdate, Quota};
    ///
    /// let engine = Engine::open_in_memory()?;
    /// engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// engine.update_owner("acme_live", "acme", OwnerUpdate::new().quota(Quota::new(1_000)))?;
    /// let issued = engine.issue(NewKey::new("acme_live", "acme/ingest")?)?;
    /// assert!(engine.verify(issued.token.expose())?.is_granted());
    ///
    /// let left = engine.quotas_left(issued.key.id)?;
    /// assert_eq!((left[0].level(), left[0].status().remaining), (Level::Owner(1), 999));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn quotas_left(&self, key: KeyId) -> Result<Vec<QuotaLeft>> {
        let mut copy = HotCopy::new();
        self.core.read(|snapshot| snapshot.hot(key, &mut copy))?;
        let view = copy.view().ok_or(NotFound::Key(key))?;
        let entry = self.core.entry_of(&view)?;
        let now = self.core.present().clock;
        self.core.with_levels(Who::has(&view), entry, |levels| {
            let left = self.core.look_at_quotas(&view, levels, now)?;
            Ok(left.iter().map(QuotaLeft::of).collect())
        })
    }

    /// Says whether a request would be granted, and what is left at every level, without
    /// charging it. It decides as [`verify_with`](Engine::verify_with) does, and notes no
    /// use and no failed attempt.
    ///
    /// The answer is of this instant: it reserves nothing, and never authenticates a
    /// request. It reads the file, also where the key is in memory. It does not look whether
    /// there is room to count the request ([`Options::limited_keys`](crate::Options::limited_keys)),
    /// and after a clock was ahead and is corrected, what of a quota is in memory may be missing
    /// from it until the next request.
    ///
    /// # Errors
    /// See [`Engine`].
    ///
    /// ```
    /// use gatekey::{Denial, Engine, Limit, NewKey, NewKeyspace, OwnerUpdate, Requirements};
    ///
    /// let engine = Engine::open_in_memory()?;
    /// engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// let tier = OwnerUpdate::new().limits([Limit::per_hour(1_000).fixed()]);
    /// engine.update_owner("acme_live", "acme", tier)?;
    /// let issued = engine.issue(NewKey::new("acme_live", "acme/ingest")?)?;
    ///
    /// let dear = Requirements::new().cost(1_001);
    /// let dry = engine.dry_run(issued.token.expose(), &dear)?;
    /// assert!(matches!(dry.denial, Some(Denial::RateLimited { retry_after: None, .. })));
    /// assert_eq!(dry.limits[0].remaining(), 1_000);
    /// assert!(engine.dry_run(issued.token.expose(), &Requirements::new())?.is_granted());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn dry_run(
        &self,
        token: impl AsRef<[u8]>,
        requirements: &Requirements<'_>,
    ) -> Result<DryRun> {
        self.core.dry_run(token.as_ref(), requirements)
    }
}

impl Core {
    fn dry_run(&self, text: &[u8], requirements: &Requirements<'_>) -> Result<DryRun> {
        self.require_health()?;
        self.must_be_open()?;
        self.home.refuse_fork()?;
        if let (Some(attempts), Some(source)) = (&self.attempts, requirements.source)
            && let Some(retry_after) = attempts.wait(source, self.clock.now(), &self.home)?
        {
            return Ok(DryRun::denied(Denial::TooManyAttempts { retry_after }));
        }
        let mut copy = HotCopy::new();
        let proven = match token::parse(text) {
            Some(parts) => {
                self.copy_from_file(parts.id, &mut copy)?;
                self.prove_copy(&copy, &parts)?
            }
            None => match self.look_for_foreign(text, &mut copy, &mut None)? {
                Looked::Denied(denial) => return Ok(DryRun::denied(denial)),
                Looked::Proven(found, proven) => {
                    if let Some(denial) = self.ended(&found, &proven, requirements) {
                        return Ok(DryRun::denied(denial));
                    }
                    Some(proven)
                }
            },
        };
        let Some(Proven { view, entry, held }) = proven else {
            return Ok(DryRun::denied(Denial::Unknown));
        };
        let present = self.present();
        let decision = Self::decide(
            &view,
            entry,
            &Life::from(&view),
            held,
            requirements,
            present.at,
        );
        if let Err(denial) = decision {
            self.hold_time(&denial, present);
            return Ok(DryRun::denied(denial));
        }
        let (key, cost, now) = (view.id(), requirements.cost, present.clock);
        self.with_levels(Who::has(&view), entry, |levels| {
            let found = self.limiter.look(&levels.limits, cost, now, &self.home)?;
            let quotas = self.look_at_quotas(&view, levels, now)?;
            let denial = match limited(key, &found, now) {
                Some(Denial::RateLimited {
                    status,
                    retry_after,
                    ..
                }) => {
                    let limits = (status, retry_after);
                    Some(self.over_limit(&view, levels, cost, now, limits))
                }
                _ => (quotas.iter())
                    .find(|left| u64::from(cost) > left.remaining)
                    .map(|left| {
                        let known = (left.level, left.covers_at(cost, now));
                        let longest = self.longest_refill(&view, levels, cost, now, known);
                        let (level, refills_at) = longest;
                        Denial::QuotaExhausted {
                            key,
                            level,
                            refills_at,
                        }
                    }),
            };
            Ok(DryRun {
                denial,
                limits: found.iter().map(|found| found.status).collect(),
                quotas: quotas.iter().map(QuotaLeft::of).collect(),
            })
        })
    }
}

/// Why limits refuse a request, if any does: that of the longest wait.
fn limited(key: KeyId, limits: &[LimitAllowance], now: Timestamp) -> Option<Denial> {
    let refusing = limits.iter().filter(|limit| limit.refuses);
    // Of those with the same wait, the first.
    let longest = refusing
        .rev()
        .max_by_key(|limit| limit.admits_at.unwrap_or(Timestamp::MAX))?;
    Some(Denial::RateLimited {
        key,
        status: longest.status,
        retry_after: longest.admits_at.map(|at| at.saturating_since(now)),
    })
}

impl QuotaLeft {
    fn of(left: &QuotaAllowance) -> Self {
        Self {
            level: left.level,
            status: QuotaStatus {
                quota: left.quota,
                remaining: left.remaining,
                refills_at: left.refills_at,
                owed: left.owed,
            },
        }
    }
}

#[cfg(feature = "http")]
impl Core {
    /// What is left of the limits and quotas that a request of a key would be charged to;
    /// `None` where it has none, or that cannot be said.
    pub(crate) fn allowances_of(&self, key: KeyId) -> Option<Allowances> {
        let mut copy = HotCopy::new();
        self.snapshot().ok()?.hot(key, &mut copy).ok()?;
        let view = copy.view()?;
        let entry = self.registry.get(view.keyspace())?;
        let found = self.look_at_levels(&view, entry, self.clock.now()).ok()?;
        let has_any = !found.limits.is_empty() || !found.quotas.is_empty();
        has_any.then_some(found)
    }
}
