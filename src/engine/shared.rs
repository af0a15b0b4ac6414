//! What the handles of an engine share: the way of a verification and the way
//! of a change.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;

use crate::change::quota;
use crate::change::update::renew_digests;
use crate::crypto::digest::{Keyring, digests_equal};
use crate::crypto::token::{self, Parts, Signed};
use crate::engine::options::Options;
use crate::engine::policy;
use crate::memory::attempts::Attempts;
use crate::memory::limiter::{Admitted, Limiter, Refused, Subject};
use crate::memory::process::{Home, Step};
use crate::memory::quota::Quotas;
use crate::memory::registry::{Entry, Registry};
use crate::memory::resident::{Copied, RECORD_LEN_MAX, Resident};
use crate::memory::usage::{Notes, Renewal};
use crate::model::audit::NAMED_MAX;
use crate::model::clock::{Clock, Timestamp};
use crate::model::error::{Error, NotFound, OpenError, StoreFailure};
use crate::model::health::{Alarm, Health};
use crate::model::id::KeyId;
use crate::model::permissions::Permissions;
use crate::model::requirements::Requirements;
use crate::model::time::{self, ClockStatus, Present, Time, Watch};
use crate::model::verdict::{Denial, Standing, Verdict};
use crate::store::backup::OnProgress;
use crate::store::failure::guarded;
use crate::store::life::Life;
use crate::store::place::Place;
use crate::store::queue::Progress;
use crate::store::queue::{Ended, Queue};
use crate::store::quota::{Asked, Spent};
use crate::store::record::View;
use crate::store::snapshot::Snapshot;
use crate::store::tx::uses::OnTheWay;
use crate::store::tx::{Touched, Tx};
use crate::store::writer::{Outcome, Store};
use crate::store::{counts, history};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, lock};

#[cfg(feature = "http")]
mod standing;

/// The most keys whose usage one transaction writes.
const USAGE_PER_TRANSACTION: usize = 4096;
/// The most digests that one transaction renews: its audit entry names them all.
const RENEWALS_PER_TRANSACTION: usize = NAMED_MAX;

pub(crate) struct Core {
    home: Home,
    store: Store,
    queue: Queue,
    /// The newest snapshot; `None` once the engine is closed, or where a commit
    /// could not be read back.
    published: ArcSwapOption<Snapshot>,
    resident: Option<Resident>,
    registry: Registry,
    clock: Arc<dyn Clock>,
    cache_bytes: usize,
    time: Time,
    watch: Watch,
    closed: AtomicBool,
    /// Whether there is no snapshot: then nothing is answered, not even what needs none.
    dark: AtomicBool,
    notes: Notes,
    limiter: Limiter,
    quotas: Arc<Quotas>,
    attempts: Option<Attempts>,
    tracks_usage: bool,
    idempotency_window: Duration,
    /// Held while what verifications noted is on its way into the file. In it are the
    /// uses of a flush of which it was not known whether they were written.
    flushing: Mutex<Option<Arc<OnTheWay>>>,
    fails_closed_after: Option<Duration>,
}

impl Core {
    pub(crate) fn open(options: &Options, place: Place<'_>) -> Result<Self, Error> {
        let path = place.path();
        let resident = Resident::new(options.resident_bytes).map_err(|_| {
            let why = format!(
                "there is no memory for {} resident bytes",
                options.resident_bytes
            );
            Error::open(path, OpenError::Options(why))
        })?;
        let alarm = Arc::new(Alarm::new(options.clock.clone()));
        let store = Store::open(&options.store, place, alarm)?;
        let registry = Registry::new();
        let loaded = guarded(|| {
            let snapshot = store.snapshot()?;
            let state = snapshot.state()?;
            for keyspace in snapshot.keyspaces()? {
                registry.publish(keyspace)?;
            }
            Ok((snapshot, state))
        });
        let (snapshot, state) =
            loaded.map_err(|error| Error::open(path, OpenError::reading(error)))?;
        Ok(Self {
            home: Home::new(),
            time: Time::new(state.clock),
            watch: Watch::new(options.clock_leap),
            closed: AtomicBool::new(false),
            dark: AtomicBool::new(false),
            store,
            queue: Queue::default(),
            published: ArcSwapOption::new(Some(snapshot)),
            resident,
            registry,
            clock: options.clock.clone(),
            cache_bytes: options.store.cache_bytes,
            notes: Notes::new(),
            limiter: Limiter::new(options.limited_keys),
            quotas: Arc::new(Quotas::new(options.limited_keys)),
            attempts: options.failed_attempts.map(Attempts::new),
            tracks_usage: options.usage_interval.is_some(),
            idempotency_window: options.idempotency_window,
            flushing: Mutex::new(None),
            fails_closed_after: options.fails_closed_after,
        })
    }

    /// The present: the clock's, or the newest instant that counted where that
    /// is later.
    pub(crate) fn now(&self) -> Timestamp {
        self.present().at
    }

    /// Lets time not run behind an instant from now on.
    pub(crate) fn hold_at(&self, instant: Timestamp) {
        self.time.hold_commit(instant);
    }

    /// The same, to be held where a key is told to be over at it.
    pub(crate) fn present(&self) -> Present {
        self.time.now(&*self.clock)
    }

    /// Keeps time from running behind a present at which it was told that a key is
    /// over, so that it stays over if the clock steps back.
    pub(crate) fn hold(&self, present: Present) {
        self.time.hold(present);
    }

    /// Runs what tells the states of keys, or leaves out those that are over.
    pub(crate) fn tell<T>(
        &self,
        mut look: impl FnMut(&Snapshot, Timestamp) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let present = self.present();
        let told = self.read(|snapshot| look(snapshot, present.at))?;
        self.hold(present);
        Ok(told)
    }

    /// What the clock says by itself.
    pub(crate) fn clock_now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn clock_status(&self) -> Result<ClockStatus, Error> {
        let committed = self.read(Snapshot::state)?.clock;
        Ok(self.watch.status(&*self.clock, &self.time, committed))
    }

    /// Whether time can be set back once more.
    pub(crate) fn can_be_set_back(&self) -> Result<(), Error> {
        match self.time.can_be_set_back() {
            true => Ok(()),
            false => Err(time::no_more_eras()),
        }
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// Finds out once in a while whether this is the engine's process: a system call
    /// each time would cost more than a verification from memory. See docs/INTERNALS.md.
    fn look_home(&self) -> Result<(), Error> {
        let step = Step::of(self.clock.coarse_now());
        self.notes.look(step, || self.home.check())
    }

    pub(crate) fn ring(&self) -> &Keyring {
        self.store.ring()
    }

    pub(crate) fn idempotency_window(&self) -> Duration {
        self.idempotency_window
    }

    pub(crate) fn tracks_usage(&self) -> bool {
        self.tracks_usage
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn resident(&self) -> Option<&Resident> {
        self.resident.as_ref()
    }

    pub(crate) fn cache_bytes(&self) -> usize {
        self.cache_bytes
    }

    pub(crate) fn file_bytes(&self) -> u64 {
        self.store.file_bytes()
    }

    pub(crate) fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    pub(crate) fn signing_pepper(&self) -> u8 {
        self.store.ring().signing_pepper()
    }

    pub(crate) fn notes(&self) -> &Notes {
        &self.notes
    }

    pub(crate) fn snapshot(&self) -> Result<Arc<Snapshot>, Error> {
        self.home.check()?;
        self.published.load_full().ok_or_else(|| self.unavailable())
    }

    /// Fails where no verification can be answered. For what would be answered
    /// without a look at the snapshot.
    fn must_be_open(&self) -> Result<(), Error> {
        match self.dark.load(Ordering::Acquire) {
            true => Err(self.unavailable()),
            false => Ok(()),
        }
    }

    /// The answer to a text that is no token.
    fn refuse_malformed(&self) -> Result<Verdict, Error> {
        self.must_be_open()?;
        Ok(Verdict::Denied(Denial::Malformed))
    }

    /// Why there is no snapshot.
    #[cold]
    fn unavailable(&self) -> Error {
        match self.closed.load(Ordering::Acquire) {
            true => Error::Closed,
            false => Error::Store(StoreFailure::new(
                "what was committed last cannot be read; the engine tries again by itself",
                None,
            )),
        }
    }

    // The way of a verification

    /// Verifies a text, behind the limiter of failed attempts where there is one.
    pub(crate) fn verify_text(
        &self,
        text: &[u8],
        requirements: &Requirements<'_>,
    ) -> Result<Verdict, Error> {
        self.require_health()?;
        let (Some(attempts), Some(source)) = (&self.attempts, requirements.source) else {
            return self.verify_unguarded(text, requirements);
        };
        self.must_be_open()?;
        self.look_home()?;
        let now = self.now();
        if let Some(retry_after) = attempts.wait(source, now) {
            return Ok(Verdict::Denied(Denial::TooManyAttempts { retry_after }));
        }
        let verdict = self.verify_unguarded(text, requirements)?;
        if matches!(
            verdict,
            Verdict::Denied(Denial::Malformed | Denial::Unknown)
        ) {
            // Before a lock: a thread that is not in a fork may have it there for ever.
            self.home.check()?;
            attempts.failed(source, now);
        }
        Ok(verdict)
    }

    /// Refuses to verify where the store has taken no changes for longer than the
    /// options allow.
    fn require_health(&self) -> Result<(), Error> {
        match self.store.alarm().is_raised() {
            true => self.require_recent_health(),
            false => Ok(()),
        }
    }

    #[cold]
    fn require_recent_health(&self) -> Result<(), Error> {
        let lasts = self.store.alarm().lasts();
        match (self.fails_closed_after, lasts, self.health().failure()) {
            (Some(allowed), Some(lasts), Some(failure)) if lasts >= allowed => {
                Err(Error::FailedClosed {
                    since: failure.since(),
                })
            }
            _ => Ok(()),
        }
    }

    fn verify_unguarded(
        &self,
        text: &[u8],
        requirements: &Requirements<'_>,
    ) -> Result<Verdict, Error> {
        match token::split(text) {
            Some(parts) => self.verify(&parts, requirements),
            None => self.refuse_malformed(),
        }
    }

    /// A key that is resident and whose digest the token has is answered from
    /// memory, without a look at the token's other digits: the digest covers
    /// them. All else goes to the file, so that a wrong secret costs what an
    /// unknown id costs, whether its key is resident or not.
    fn verify(&self, parts: &Parts<'_>, requirements: &Requirements<'_>) -> Result<Verdict, Error> {
        if let Some(resident) = &self.resident
            && let Some(found) = resident.find(parts.id)
        {
            // The hash first: it does not wait for the memory, and the record's
            // misses overlap it.
            let ring = self.store.ring();
            let digest = ring.sign(parts.signed);
            let mut copied: Copied = [0; RECORD_LEN_MAX];
            if resident.copy(found, parts.id, &mut copied)
                && let Some(view) = View::parse(&copied)
                && match view.pepper() == ring.signing_pepper() {
                    true => digests_equal(&digest, view.digest()),
                    false => self.is_proven(&view, parts),
                }
            {
                return self.judge(&view, parts, requirements);
            }
        }
        self.verify_from_file(parts, requirements)
    }

    /// Verifies several tokens, whose cache misses overlap.
    pub(crate) fn verify_many<T: AsRef<[u8]>>(
        &self,
        tokens: &[T],
        requirements: &Requirements<'_>,
    ) -> Result<Vec<Verdict>, Error> {
        /// Few enough for the copies to stay in the first-level cache.
        const AT_ONCE: usize = 32;
        self.must_be_open()?;
        self.require_health()?;
        if self.attempts.is_some() && requirements.source.is_some() {
            // One after the other: each may be the one too many.
            let verify = |token: &T| self.verify_text(token.as_ref(), requirements);
            return tokens.iter().map(verify).collect();
        }
        let mut verdicts = Vec::with_capacity(tokens.len());
        let mut copies = [[0; RECORD_LEN_MAX]; AT_ONCE];
        for tokens in tokens.chunks(AT_ONCE) {
            // One step for all before the next: the loads of a step are
            // independent of each other.
            let mut parts: [Option<Parts<'_>>; AT_ONCE] = [const { None }; AT_ONCE];
            let mut found = [None; AT_ONCE];
            for (parts, token) in parts.iter_mut().zip(tokens) {
                *parts = token::split(token.as_ref());
            }
            if let Some(resident) = &self.resident {
                for (found, parts) in found.iter_mut().zip(&parts) {
                    *found = parts.as_ref().and_then(|parts| resident.find(parts.id));
                }
                found
                    .iter()
                    .flatten()
                    .for_each(|found| resident.touch(*found));
                for ((found, parts), copy) in found.iter_mut().zip(&parts).zip(&mut copies) {
                    if let (Some(at), Some(parts)) = (*found, parts)
                        && !resident.copy(at, parts.id, copy)
                    {
                        *found = None;
                    }
                }
            }
            for ((parts, found), copy) in parts.iter().zip(&found).zip(&copies).take(tokens.len()) {
                let Some(parts) = parts else {
                    verdicts.push(self.refuse_malformed()?);
                    continue;
                };
                let view = found.and_then(|_| View::parse(copy));
                let verdict = match view.filter(|view| self.is_proven(view, parts)) {
                    Some(view) => self.judge(&view, parts, requirements),
                    None => self.verify_from_file(parts, requirements),
                };
                verdicts.push(verdict?);
            }
        }
        Ok(verdicts)
    }

    fn verify_from_file(
        &self,
        parts: &Parts<'_>,
        requirements: &Requirements<'_>,
    ) -> Result<Verdict, Error> {
        if !parts.is_token() {
            return self.refuse_malformed();
        }
        self.look_home()?;
        loop {
            // Before the snapshot is loaded: see the protocol in `resident`.
            let leave = self.resident.as_ref().and_then(Resident::leave_to_fill);
            let published = self.published.load();
            let snapshot = published.as_ref().ok_or_else(|| self.unavailable())?;
            let verdict = snapshot.hot(parts.id, |found| match found {
                Some((view, body)) if self.is_proven(&view, parts) => {
                    // Only now: a token whose secret is wrong must not push out one
                    // that is in use.
                    if let (Some(resident), Some(leave)) = (&self.resident, leave) {
                        resident.fill(leave, parts.id, body);
                    }
                    self.judge(&view, parts, requirements)
                }
                Some(_) => Ok(Verdict::Denied(Denial::Unknown)),
                None => {
                    self.store.ring().refuse_unknown(parts.signed);
                    Ok(Verdict::Denied(Denial::Unknown))
                }
            });
            match verdict {
                Err(_) if self.is_replaced(snapshot) => {}
                verdict => return verdict?,
            }
        }
    }

    /// Reads from the newest snapshot; from the next where the store was opened again
    /// beneath it.
    pub(crate) fn read<T>(
        &self,
        mut read: impl FnMut(&Snapshot) -> Result<T, Error>,
    ) -> Result<T, Error> {
        loop {
            let snapshot = self.snapshot()?;
            match guarded(|| read(&snapshot)) {
                Err(_) if self.is_replaced(&snapshot) => {}
                done => return done,
            }
        }
    }

    /// Whether a snapshot can be read no more, and there is another.
    #[cold]
    fn is_replaced(&self, snapshot: &Arc<Snapshot>) -> bool {
        let newest = self.published.load();
        let is_newest = newest.as_ref().is_none_or(|it| Arc::ptr_eq(it, snapshot));
        !is_newest && snapshot.is_over()
    }

    /// The key whose token a text is, whatever its state, and the snapshot that it was
    /// found in; [`NotFound::Token`] where it is none's.
    pub(crate) fn find_by_token(&self, text: &[u8]) -> Result<(KeyId, Arc<Snapshot>), Error> {
        let snapshot = self.snapshot()?;
        let parts = token::parse(text).ok_or(NotFound::Token)?;
        let is_proven = snapshot.hot(parts.id, |found| match found {
            Some((view, _)) => {
                let keyspace = self.registry.get(view.keyspace());
                self.is_proven(&view, &parts)
                    && keyspace.is_some_and(|entry| entry.prefix.as_bytes() == parts.prefix)
            }
            None => {
                self.store.ring().refuse_unknown(parts.signed);
                false
            }
        })?;
        match is_proven {
            true => Ok((parts.id, snapshot)),
            false => Err(NotFound::Token.into()),
        }
    }

    /// Whether a token is that of a record.
    fn is_proven(&self, view: &View<'_>, parts: &Parts<'_>) -> bool {
        let ring = self.store.ring();
        match ring.digest(view.pepper(), parts.signed) {
            Some(digest) => digests_equal(&digest, view.digest()),
            None => {
                // Revoked, or its pepper could not have been left out.
                ring.refuse_unknown(parts.signed);
                false
            }
        }
    }

    /// Decides on a record that the token has proven to be its own.
    fn judge(
        &self,
        view: &View<'_>,
        parts: &Parts<'_>,
        requirements: &Requirements<'_>,
    ) -> Result<Verdict, Error> {
        let entry = self
            .registry
            .get(view.keyspace())
            .ok_or_else(|| Error::corrupted("keys", view.id(), "its keyspace does not exist"))?;
        let asked_elsewhere = requirements
            .keyspace
            .is_some_and(|prefix| prefix != entry.prefix);
        if entry.prefix.as_bytes() != parts.prefix || asked_elsewhere {
            return self.deny(match parts.is_token() {
                true => Denial::Unknown,
                false => Denial::Malformed,
            });
        }
        let is_counted = view.plan() != 0 || view.has_quota();
        let present = match is_counted || !Life::from(view).is_timeless() {
            true => Some(self.present()),
            false => None,
        };
        let now = present.map_or(Timestamp::MIN, |present| present.at);
        let held = view.permissions() & entry.active();
        let needs_names =
            !requirements.permission_names.is_empty() || !held.contains(requirements.permissions);
        let decision = if needs_names {
            let keyspace = entry.current.load();
            policy::decide(view, held, requirements, Some(&keyspace), now)
        } else {
            policy::decide(view, held, requirements, None, now)
        };
        if let Err(denial) = decision {
            if let Some(present) = present {
                self.hold_time(&denial, present);
            }
            return self.deny(denial);
        }
        if is_counted && let Some(present) = present {
            return self.judge_counted(view, parts, requirements, entry, held, present);
        }
        self.grant(view, parts, requirements, entry, held, None)
    }

    /// Denies what may be another's to know by now: the parent's, where this is a fork.
    fn deny(&self, denial: Denial) -> Result<Verdict, Error> {
        self.look_home()?;
        Ok(Verdict::Denied(denial))
    }

    /// Charges a request that nothing else refuses to the limits of its key's plan
    /// and to its quota, and grants it where they admit it.
    fn judge_counted(
        &self,
        view: &View<'_>,
        parts: &Parts<'_>,
        requirements: &Requirements<'_>,
        entry: &Entry,
        held: Permissions,
        present: Present,
    ) -> Result<Verdict, Error> {
        let (key, cost) = (view.id(), requirements.cost);
        let admitted = match self.charge_plan(view, entry, cost, present.at)? {
            Ok(admitted) => admitted,
            Err(refused) => {
                return self.deny(Denial::RateLimited {
                    key,
                    status: refused.status,
                    retry_after: refused.retry_after,
                });
            }
        };
        let (standing, receipt) = match admitted {
            Some(admitted) => (Some(admitted.standing), admitted.receipt),
            None => (None, None),
        };
        // What costs nothing takes no slice either, and waits for no commit.
        if view.has_quota() && cost > 0 {
            let spent = self.spend_quota(key, cost, present);
            if !matches!(spent, Ok(Spent::Covered))
                && let Some(receipt) = receipt
            {
                receipt.give_back();
            }
            match spent? {
                Spent::Covered => {}
                Spent::Exhausted { refills_at } => {
                    return self.deny(Denial::QuotaExhausted { key, refills_at });
                }
                // It was changed since its record was read.
                Spent::Gone => return self.verify_from_file(parts, requirements),
            }
        }
        self.grant(view, parts, requirements, entry, held, standing)
    }

    /// Charges a request to the limits of its key's plan.
    fn charge_plan(
        &self,
        view: &View<'_>,
        entry: &Entry,
        cost: u32,
        now: Timestamp,
    ) -> Result<Result<Option<Admitted>, Refused>, Error> {
        if view.plan() == 0 {
            return Ok(Ok(None));
        }
        let keyspace = entry.current.load();
        let plan = keyspace
            .plan_numbered(view.plan())
            .ok_or_else(|| Error::corrupted("keys", view.id(), "its plan does not exist"))?;
        let subject = Subject {
            key: view.id(),
            keyspace: view.keyspace(),
            revision: keyspace.revision,
            owner: view.owner(),
            plan_number: view.plan(),
            plan,
        };
        Ok(self.limiter.charge(&subject, cost, now, view.has_quota()))
    }

    /// Spends a request's cost of its key's quota. Where too little of it is in
    /// memory, this waits for a durable commit.
    fn spend_quota(&self, key: KeyId, cost: u32, present: Present) -> Result<Spent, Error> {
        let (cost, now) = (u64::from(cost), present.at);
        if let Some(spent) = self.quotas.spend_from_memory(key, cost, now) {
            return Ok(spent);
        }
        // Before any lock: a thread that is not in a fork may have it there for ever.
        self.home.check()?;
        let take = |asked: &Arc<Asked>| {
            // The store must not be behind this request, or a refill that is due
            // for it would not be due there.
            self.time.hold(present);
            let (quotas, asked) = (self.quotas.clone(), Arc::downgrade(asked));
            self.mutate(move |tx| quota::take_slice(tx, &quotas, key, cost, &asked))
        };
        self.quotas.spend(key, cost, now, take)
    }

    fn put_back(&self, numbers: Vec<u64>) -> Result<(), Error> {
        let quotas = self.quotas.clone();
        self.mutate(move |tx| quota::put_back(tx, &quotas, &numbers))
    }

    fn grant(
        &self,
        view: &View<'_>,
        parts: &Parts<'_>,
        requirements: &Requirements<'_>,
        entry: &Entry,
        held: Permissions,
        standing: Option<Standing>,
    ) -> Result<Verdict, Error> {
        let coarse = self.clock.coarse_now();
        let ask = || self.home.check();
        match self.tracks_usage && !requirements.is_counted {
            true => {
                let now = coarse.max(self.time.latest());
                self.notes.used(view.id(), now, Step::of(coarse), ask)?;
            }
            false => self.notes.look(Step::of(coarse), ask)?,
        }
        let ring = self.store.ring();
        if view.pepper() != ring.signing_pepper() {
            self.note_renewal(ring, view, parts.signed);
        }
        let grant = view.grant(held, entry.prefix);
        // Not written to, and so not moved, where there is nothing to write.
        Ok(Verdict::Granted(match standing {
            None => grant,
            standing => grant.with_limits(standing),
        }))
    }

    /// Keeps time from running behind an instant at which a key was said to be
    /// over, so that it stays over if the clock steps back.
    #[cold]
    fn hold_time(&self, denial: &Denial, present: Present) {
        if matches!(denial, Denial::Expired { .. } | Denial::Revoked { .. }) {
            self.hold(present);
        }
    }

    #[cold]
    fn note_renewal(&self, ring: &Keyring, view: &View<'_>, signed: &Signed) {
        if self.notes.awaits_renewal(view.id()) {
            return;
        }
        self.notes.renew(Renewal {
            id: view.id(),
            old: *view.digest(),
            new: ring.sign(signed),
        });
    }

    // The way of a change

    /// Runs a change in a durable transaction, alone or with others, and gives
    /// its result once all can see it.
    pub(crate) fn mutate<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.home.check()?;
        self.queue.submit(work, |run| self.commit(run))
    }

    fn commit(&self, run: &mut dyn FnMut(&mut Tx<'_>) -> Progress) -> Ended {
        self.watch.look(&*self.clock);
        let present = self.present();
        let mut run = |tx: &mut Tx<'_>| {
            // What became of those before this one is known by now.
            self.quotas.undo();
            let progress = run(tx);
            let unreadable = tx.take_unreadable();
            if let (Some(resident), false) = (&self.resident, unreadable.is_empty()) {
                // Whoever was told so can rely on it that no copy grants.
                resident.forget(&unreadable);
            }
            if matches!(progress, Progress::Done) {
                self.quotas.publish(&tx.unwritten_quotas());
            }
            // Also where nothing is committed, and before a caller is answered.
            self.hold(present.moved_to(tx.told_over()));
            progress
        };
        match self.store.write(present.at, &mut run, &self.publication()) {
            Outcome::Unchanged | Outcome::Committed => Ended::Well,
            Outcome::Failed(error) => Ended::Failed(error),
            Outcome::Unknown(failure) => Ended::Unknown(failure),
            // Durable, but what it took away cannot be seen to be gone.
            Outcome::Unreadable => {
                self.go_dark();
                Ended::Well
            }
        }
    }

    fn publication(&self) -> impl Fn(&Touched, Arc<Snapshot>) -> Result<(), Error> {
        |touched, snapshot| self.publish(touched, snapshot)
    }

    /// Lets a commit take effect for all verifications, at one instant: the
    /// swap of the snapshot.
    fn publish(&self, touched: &Touched, snapshot: Arc<Snapshot>) -> Result<(), Error> {
        for keyspace in &touched.keyspaces {
            self.registry.publish(keyspace.clone())?;
        }
        self.quotas.publish(&touched.quotas);
        for is_written in &touched.uses {
            is_written.store(true, Ordering::Release);
        }
        match touched.sets_time_back {
            true => {
                self.time.set_back(touched.at);
                // Their windows are those of the time that was wrong.
                self.limiter.forget();
                if let Some(attempts) = &self.attempts {
                    attempts.forget();
                }
            }
            false => self.time.hold_commit(touched.at),
        }
        let swap = || self.show(Some(snapshot));
        match &self.resident {
            Some(resident) => resident.publish(&touched.keys, swap),
            None => swap(),
        }
        Ok(())
    }

    /// Recovers where the store has failed: `Ok` where it takes changes.
    pub(crate) fn recover(&self) -> Result<(), Error> {
        self.home.check()?;
        self.store.recover_now(&self.publication())
    }

    /// Writes the store to a new file, which takes its place.
    pub(crate) fn compact(&self, on_progress: OnProgress<'_>) -> Result<(), Error> {
        self.home.check()?;
        self.store.compact(&self.publication(), on_progress)
    }

    pub(crate) fn health(&self) -> Health {
        self.alarm().health()
    }

    pub(crate) fn alarm(&self) -> &Arc<Alarm> {
        self.store.alarm()
    }

    /// Answers nothing from memory any more: every verification fails.
    fn go_dark(&self) {
        if let Some(resident) = &self.resident {
            resident.shut();
        }
        self.show(None);
    }

    /// Lets verifications see a snapshot, or none.
    fn show(&self, snapshot: Option<Arc<Snapshot>>) {
        self.dark.store(snapshot.is_none(), Ordering::Release);
        self.published.store(snapshot);
    }

    /// Writes what verifications have noted. Every use that was noted before the call is
    /// in the file after it, also where another flush had taken the note.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        self.home.check()?;
        self.watch.look(&*self.clock);
        self.recover()?;
        let mut doubtful = lock(&self.flushing);
        let mut renewals = self.notes.take_renewals();
        while !renewals.is_empty() {
            let rest = renewals.split_off(renewals.len().min(RENEWALS_PER_TRANSACTION));
            let chunk = Arc::new(renewals);
            let renewed = self.mutate({
                let chunk = chunk.clone();
                move |tx| renew_digests(tx, &chunk)
            });
            if let Err(error) = renewed {
                let unwritten = chunk.iter().chain(&rest);
                unwritten.for_each(|renewal| self.notes.renew(*renewal));
                return Err(error);
            }
            renewals = rest;
        }
        // The store takes changes, so what became of that commit is known by now.
        if let Some(before) = doubtful.take()
            && !before.is_written.load(Ordering::Acquire)
        {
            self.notes.put_back(&before.used);
        }
        let mut used = self.notes.take_used();
        while !used.is_empty() {
            let rest = used.split_off(used.len().min(USAGE_PER_TRANSACTION));
            let chunk = Arc::new(OnTheWay::new(used));
            let result = self.mutate({
                let chunk = chunk.clone();
                move |tx| tx.add_uses(&chunk)
            });
            if let Err(error) = result {
                match error {
                    Error::OutcomeUnknown(_) => *doubtful = Some(chunk),
                    _ => self.notes.put_back(&chunk.used),
                }
                self.notes.put_back(&rest);
                return Err(error);
            }
            used = rest;
        }
        self.index_trail()?;
        self.follow_time()
    }

    /// Counts keys whose state time has changed, where many wait for it.
    fn follow_time(&self) -> Result<(), Error> {
        let lags = |snapshot: &Snapshot| snapshot.reach_lags(self.present().at, counts::LAG);
        while self.read(lags)? {
            self.mutate(|tx| tx.follow_time())?;
        }
        Ok(())
    }

    /// Adds rows to the index of the audit trail, where many entries wait for them.
    fn index_trail(&self) -> Result<(), Error> {
        while guarded(|| self.snapshot()?.unindexed())? >= history::LAG {
            self.mutate(|tx| tx.follow_trail())?;
        }
        Ok(())
    }

    /// Flushes and closes the file. Calls that come after fail.
    pub(crate) fn close(&self) -> Result<(), Error> {
        let flushed = match self.published.load().is_some() {
            true => {
                let put_back = self.quotas.close(|numbers| self.put_back(numbers));
                self.flush().and(put_back)
            }
            false => Ok(()),
        };
        let closed = self.store.close(|| {
            self.closed.store(true, Ordering::Release);
            self.go_dark();
        });
        closed.and(flushed)
    }
}

#[cfg(test)]
#[cfg(not(gatekey_shuttle))]
mod tests;
