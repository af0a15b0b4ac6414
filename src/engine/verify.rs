//! The way of a verification: split the token, find the record that it names in memory
//! or in the file, prove that the token is the record's, decide, charge, grant.

use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::crypto::mac::Mac;
use crate::crypto::token::{self, Parts, Signed};
use crate::engine::charge::{Charged, Coarsely, Receipt};
use crate::engine::fleet::steady;
use crate::engine::policy;
use crate::engine::prove::Proven;
use crate::engine::shared::Core;
use crate::memory::attempts::Attempts;
use crate::memory::lagging::is_behind;
use crate::memory::process::Step;
use crate::memory::registry::{Entry, Once};
use crate::memory::resident::packed::{COPIED_LEN, Copied, CopiedLong, RECORD_LEN_MAX};
use crate::memory::resident::{Candidates, Copying, FillLeave, Resident};
use crate::memory::tally::{Answered, Way};
use crate::memory::usage::Renewal;
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::outcome::Outcome;
use crate::model::permissions::Permissions;
use crate::model::requirements::Requirements;
use crate::model::time::{Now, Present};
use crate::model::verdict::{Age, Denial, Grant, InlinePath, Verdict};
use crate::store::hot::HotCopy;
use crate::store::life::Life;
use crate::store::record::View;

/// How many tokens of a batch are looked up together: few enough for the copies of
/// their records to stay in the first-level cache.
const AT_ONCE: usize = 32;

/// How often a key's record is read anew because a quota of it was changed meanwhile: each time
/// takes a whole change of it.
pub(super) const ROUNDS_MAX: u32 = 64;

/// It was changed each time. Better an error than a request that never ends.
#[cold]
pub(super) fn never_settled() -> Error {
    Error::Internal("memory has a quota that the store does not have")
}

/// What a token that was proven is judged to be.
pub(super) enum Judged {
    /// Good, and charged.
    Good,
    Denied(Denial),
    /// The quota was changed since the record was read: the caller reads it again.
    Gone,
}

/// A token during the look-up in memory.
#[derive(Default)]
struct Look<'t> {
    /// `None`: the text is no token.
    parts: Option<Parts<'t>>,
    /// Where its key may stand in memory; `None` where no copy of its record was made.
    found: Option<Candidates>,
    /// Whether its record has parts, of which no copy was made yet.
    is_long: bool,
    /// What memory would know it by.
    mac: Mac,
}

impl Core {
    /// Verifies a text, behind the limiter of failed attempts where there is one. One in
    /// many is timed.
    pub(crate) fn verify_text(
        &self,
        text: &[u8],
        requirements: &Requirements<'_>,
    ) -> Result<Verdict, Error> {
        // Each way is left at once, with nothing to look at behind it: a verdict that is
        // looked at is moved to where the caller wants it, and not made there.
        if self.store.alarm().wants_attention() {
            return self.verify_attentively(text, requirements);
        }
        if let (Some(attempts), Some(source)) = (&self.attempts, requirements.source) {
            return self.verify_from(attempts, source, text, requirements);
        }
        self.verify(text, requirements)
    }

    /// As [`verify_text`](Self::verify_text), of a request that others may have charged. A
    /// token is granted only if it proves to be of the key that it names; what is no token of
    /// gatekey's own names none.
    #[cfg(feature = "tower")]
    #[cold]
    pub(crate) fn verify_on_credit(
        &self,
        text: &[u8],
        requirements: &Requirements<'_>,
    ) -> Result<Verdict, Error> {
        match token::parse(text) {
            Some(parts) => {
                self.on_credit(parts.id, requirements, |left| self.verify_text(text, left))
            }
            None => self.verify_text(text, requirements),
        }
    }

    /// As [`verify_text`](Self::verify_text), where the store may have failed or this
    /// verification be timed.
    #[cold]
    fn verify_attentively(
        &self,
        text: &[u8],
        requirements: &Requirements<'_>,
    ) -> Result<Verdict, Error> {
        let (known_at, begun) = self.attend().map_err(|error| self.noted(error))?;
        let mut verdict = match (&self.attempts, requirements.source) {
            (Some(attempts), Some(source)) => {
                self.verify_from(attempts, source, text, requirements)
            }
            _ => self.verify(text, requirements),
        };
        if let Some(begun) = begun {
            self.notes.timed(begun.elapsed());
        }
        self.note_age(&mut verdict, known_at);
        verdict
    }

    /// Whether the store has failed for too long, as of when a server of a fleet knows everything, and
    /// whether this verification is timed: the next of any thread after one that
    /// [asks](Self::ask), so that each busy thread has one in about 1,024 timed (more while its
    /// log of uses is full), and each other one a second.
    fn attend(&self) -> Result<(Option<Duration>, Option<Instant>), Error> {
        let known_at = self.require_health()?;
        if !self.store.alarm().takes_timing() {
            return Ok((known_at, None));
        }
        self.notes.begin_timed();
        Ok((known_at, Some(Instant::now())))
    }

    /// Asks whether this is the engine's process, and has a verification timed.
    #[cold]
    fn ask(&self) -> Result<(), Error> {
        self.store.alarm().want_timing();
        self.home.refuse_fork()
    }

    /// Counts a verification that ended in an error.
    #[cold]
    pub(super) fn note_error(&self) {
        self.counters.errors.fetch_add(1, Relaxed);
    }

    /// The same error, counted: of a verification that ends in it.
    #[cold]
    pub(super) fn noted(&self, error: Error) -> Error {
        self.note_error();
        error
    }

    /// Verifies a text from a source whose failed attempts are counted.
    fn verify_from(
        &self,
        attempts: &Attempts,
        source: IpAddr,
        text: &[u8],
        requirements: &Requirements<'_>,
    ) -> Result<Verdict, Error> {
        let wait = || {
            self.must_be_open()?;
            self.look_home()?;
            attempts.wait(source, self.clock.now(), &self.home)
        };
        if let Some(retry_after) = wait().map_err(|error| self.noted(error))? {
            self.notes.count_unattributed(Outcome::TooManyAttempts);
            return Ok(Verdict::Denied(Denial::TooManyAttempts { retry_after }));
        }
        let verdict = self.verify(text, requirements)?;
        if matches!(
            verdict,
            Verdict::Denied(Denial::Malformed | Denial::Unknown)
        ) {
            // Counted by the clock, also where that is behind the engine's time.
            attempts
                .failed(source, self.clock.now(), &self.home)
                .map_err(|error| self.noted(error))?;
        }
        Ok(verdict)
    }

    /// Notes in a grant how old the knowledge of its server is by now.
    pub(super) fn note_age(
        &self,
        verdict: &mut Result<Verdict, Error>,
        known_at: Option<Duration>,
    ) {
        if let (Ok(Verdict::Granted(grant)), Some(known_at)) = (verdict, known_at) {
            grant.age = Age::of(steady(&*self.clock).saturating_sub(known_at));
        }
    }

    /// Verifies several tokens, so that their cache misses overlap. Each has a result
    /// of its own: an error on one does not lose what was charged for another.
    pub(crate) fn verify_many<T: AsRef<[u8]>>(
        &self,
        tokens: &[T],
        requirements: &Requirements<'_>,
    ) -> Vec<Result<Verdict, Error>> {
        let known_at = match self.must_be_open().and_then(|()| self.require_health()) {
            Ok(known_at) => known_at,
            Err(error) => {
                tokens.iter().for_each(|_| self.note_error());
                return tokens.iter().map(|_| Err(error.clone())).collect();
            }
        };
        if self.attempts.is_some() && requirements.source.is_some() {
            // One after the other: each may reach the limit of failed attempts.
            let verify = |token: &T| self.verify_text(token.as_ref(), requirements);
            return tokens.iter().map(verify).collect();
        }
        let mut results = Vec::with_capacity(tokens.len());
        let mut copies = [[0; COPIED_LEN]; AT_ONCE];
        // Up to which token slices of quotas were taken ahead, and whether the next may wait for a
        // commit each without.
        let (mut ahead, mut may_wait) = (0, false);
        Self::has_waited_for_slice();
        for chunk in tokens.chunks(AT_ONCE) {
            may_wait |= Self::has_waited_for_slice();
            if may_wait && results.len() + chunk.len() > ahead {
                let next = tokens.get(results.len()..).unwrap_or_default();
                let looked_at;
                (looked_at, may_wait) = self.take_slices_ahead(next, requirements);
                ahead = results.len() + looked_at;
            }
            let mut looks: [Look<'_>; AT_ONCE] = std::array::from_fn(|_| Look::default());
            for (look, token) in looks.iter_mut().zip(chunk) {
                look.parts = token::split(token.as_ref());
            }
            self.look_in_memory(&mut looks, &mut copies);
            let looks = looks.iter().zip(&copies).zip(chunk);
            results.extend(looks.map(|((look, copy), token)| {
                self.answer_apart((token.as_ref(), look, copy), requirements)
            }));
        }
        if known_at.is_some() {
            let verdicts = results.iter_mut();
            verdicts.for_each(|verdict| self.note_age(verdict, known_at));
        }
        results
    }

    /// Verifies a text from any source. Counts its error.
    fn verify(&self, text: &[u8], requirements: &Requirements<'_>) -> Result<Verdict, Error> {
        let mut look = [Look {
            parts: token::split(text),
            ..Look::default()
        }];
        let mut copy = [[0; COPIED_LEN]];
        self.look_in_memory(&mut look, &mut copy);
        let ([look], [copy]) = (&look, &copy);
        self.answer(text, look, copy, requirements)
    }

    /// Copies the records that tokens name out of memory. Each step is done for all
    /// tokens before the next: its loads do not depend on each other, so that the waits
    /// for memory overlap, also with the hashes.
    #[inline(always)]
    fn look_in_memory<const N: usize>(&self, looks: &mut [Look<'_>; N], into: &mut [Copied; N]) {
        let Some(resident) = &self.resident else {
            return;
        };
        let heeded = self.heeded();
        for look in &mut *looks {
            let parts = look.parts.as_ref();
            look.found = parts.and_then(|parts| resident.find(parts.id));
        }
        if N > 1 {
            let found = looks.iter().filter_map(|look| look.found);
            found.for_each(|found| resident.touch(found));
        }
        for look in &mut *looks {
            if let (Some(parts), Some(_)) = (&look.parts, look.found) {
                self.touch_charges(parts.id);
                look.mac = resident.mac(parts.signed);
            }
        }
        for (look, into) in looks.iter_mut().zip(into) {
            if let (Some(parts), Some(at)) = (&look.parts, look.found) {
                let copying = resident.copy(at, parts.id, into);
                if copying != Copying::Done || is_behind(heeded.as_ref(), into) {
                    look.is_long = copying == Copying::Long;
                    look.found = None;
                }
            }
        }
    }

    /// Answers a token of several, compiled apart: within a loop, the verdict was put together in one
    /// place and moved to another, and what was just written in parts is slow to be moved.
    #[inline(never)]
    fn answer_apart(
        &self,
        (text, look, copy): (&[u8], &Look<'_>, &Copied),
        requirements: &Requirements<'_>,
    ) -> Result<Verdict, Error> {
        self.answer(text, look, copy, requirements)
    }

    /// Answers a token after the look-up in memory. If the key is there and the token is proven,
    /// nothing else of it need be checked: the MAC covers all of it. All other tokens go to the
    /// file, so that a wrong secret costs what an unknown id costs, whether or not its key is in
    /// memory. Counts an error.
    ///
    /// Compiled as one with the steps that it calls: what they hand on is large, and would be moved.
    #[inline(always)]
    fn answer(
        &self,
        text: &[u8],
        look: &Look<'_>,
        copy: &Copied,
        requirements: &Requirements<'_>,
    ) -> Result<Verdict, Error> {
        let noted = |error| self.noted(error);
        let Some(parts) = &look.parts else {
            return self.verify_foreign(text, requirements).map_err(noted);
        };
        if look.found.is_some()
            && let Some(view) = View::parse(copy)
            && let Some(proven) = self.prove_again(view, parts, &look.mac).map_err(noted)?
        {
            let now = self.time.coarse(&*self.clock);
            let mut receipt = Receipt::default();
            match self.judge(&proven, requirements, now, &mut receipt) {
                Ok(Judged::Good) => {
                    let signed = Some(parts.signed);
                    self.note_grant(&proven, signed, requirements, now, Way::Memory)
                        .map_err(noted)?;
                    return Ok(Verdict::Granted(Self::grant(&proven, &receipt)));
                }
                Ok(Judged::Denied(denial)) => {
                    return self.deny(&proven.view, denial, Way::Memory).map_err(noted);
                }
                Ok(Judged::Gone) => {}
                Err(error) => return Err(noted(error)),
            }
        }
        if look.is_long
            && let Some(verdict) = self.answer_long(look, parts, requirements).map_err(noted)?
        {
            return Ok(verdict);
        }
        self.verify_from_file(text, parts, requirements)
            .map_err(noted)
    }

    /// Answers a token whose key has a long record in memory; `None` where it is to be looked
    /// for in the file.
    #[cold]
    fn answer_long(
        &self,
        look: &Look<'_>,
        parts: &Parts<'_>,
        requirements: &Requirements<'_>,
    ) -> Result<Option<Verdict>, Error> {
        let mut copy = [0; RECORD_LEN_MAX];
        let Some(view) = self.copy_long(parts.id, &mut copy) else {
            return Ok(None);
        };
        match self.prove_again(view, parts, &look.mac)? {
            Some(proven) => self.conclude(&proven, Some(parts.signed), requirements, Way::Memory),
            None => Ok(None),
        }
    }

    /// Copies a long record out of memory, if it is there and does not lag behind its owner.
    pub(super) fn copy_long<'c>(&self, id: KeyId, copy: &'c mut CopiedLong) -> Option<View<'c>> {
        // Before the copy is made, as for one that is short.
        let heeded = self.heeded();
        let resident = self.resident.as_ref()?;
        let is_there = resident.copy_long(resident.find(id)?, id, copy);
        (is_there && !is_behind(heeded.as_ref(), copy)).then(|| View::parse(copy))?
    }

    fn verify_from_file(
        &self,
        text: &[u8],
        parts: &Parts<'_>,
        requirements: &Requirements<'_>,
    ) -> Result<Verdict, Error> {
        if !parts.is_token() {
            return self.verify_foreign(text, requirements);
        }
        let begun = Instant::now();
        let verdict = self.find_in_file(parts, requirements);
        self.notes.read_file(begun.elapsed());
        verdict
    }

    fn find_in_file(
        &self,
        parts: &Parts<'_>,
        requirements: &Requirements<'_>,
    ) -> Result<Verdict, Error> {
        self.look_home()?;
        let mut copy = HotCopy::new();
        for _ in 0..ROUNDS_MAX {
            let leave = self.copy_from_file(parts.id, &mut copy)?;
            let Some(proven) = self.prove_copy(&copy, parts)? else {
                self.notes.count_unattributed(Outcome::Unknown);
                return Ok(Verdict::Denied(Denial::Unknown));
            };
            // Only now: a token with a wrong secret must not evict a key that is in
            // use.
            if let (Some(resident), Some(leave)) = (&self.resident, leave) {
                resident.fill(
                    leave,
                    parts.id,
                    copy.body(),
                    Some(&resident.mac(parts.signed)),
                );
            }
            let signed = Some(parts.signed);
            if let Some(verdict) = self.conclude(&proven, signed, requirements, Way::File)? {
                return Ok(verdict);
            }
        }
        Err(never_settled())
    }

    /// Copies a key's record out of the newest snapshot, and releases the snapshot.
    /// Returns the permit to put the record into memory.
    pub(super) fn copy_from_file(
        &self,
        id: KeyId,
        into: &mut HotCopy,
    ) -> Result<Option<FillLeave>, Error> {
        loop {
            // Before the snapshot is loaded: see the protocol in `resident`.
            let leave = self.resident.as_ref().and_then(Resident::leave_to_fill);
            let published = self.published.load();
            let snapshot = published.as_ref().ok_or_else(|| self.unavailable())?;
            match snapshot.hot(id, into) {
                Err(_) if self.is_replaced(snapshot) => {}
                copied => return copied.map(|()| leave),
            }
        }
    }

    /// Decides on a record whose token was proven, before it is charged.
    #[inline(always)]
    pub(super) fn decide(
        view: &View<'_>,
        entry: &Entry,
        life: &Life,
        held: Permissions,
        requirements: &Requirements<'_>,
        now: Timestamp,
    ) -> Result<(), Denial> {
        let asked_elsewhere = requirements
            .keyspace
            .is_some_and(|prefix| prefix != entry.prefix);
        if asked_elsewhere {
            return Err(Denial::Unknown);
        }
        let keyspace = Once::new(entry);
        policy::decide(
            view,
            life,
            held,
            requirements,
            |name| entry.holds(held, name),
            || keyspace.get(),
            now,
        )
    }

    /// Decides on a record whose token was proven, and charges it. What it was charged is
    /// filled in where the caller has it: a word that was just written in parts is slow to be
    /// read in one piece, as it would be to be moved.
    #[inline(always)]
    pub(super) fn judge(
        &self,
        proven: &Proven<'_>,
        requirements: &Requirements<'_>,
        now: Now,
        receipt: &mut Receipt,
    ) -> Result<Judged, Error> {
        let Proven { view, entry, held } = proven;
        let life = Life::from(view);
        let is_counted =
            view.plan() != 0 || view.has_quota() || view.has_own_limits() || entry.charges_owners();
        let is_exact = life.turns_soon(now.present.at);
        let mut present = match is_exact {
            true => self.present(),
            false => now.present,
        };
        let decision = Self::decide(view, entry, &life, *held, requirements, present.at);
        if let Err(denial) = decision {
            if is_counted || life.turns() {
                self.hold_time(&denial, present);
            }
            return Ok(Judged::Denied(denial));
        }
        if is_counted {
            let coarsely = match is_exact {
                true => Coarsely::Undecided,
                false => self.charge_coarsely(view, entry, requirements, now.clock, receipt)?,
            };
            let charged = match coarsely {
                Coarsely::Admitted => Charged::Admitted,
                Coarsely::Refused(refused) => *refused,
                Coarsely::Undecided => {
                    if !is_exact {
                        present = self.present();
                    }
                    self.charge(view, entry, requirements, present, receipt)?
                }
            };
            match charged {
                Charged::Admitted => {}
                Charged::OverLimit(denial) => return Ok(Judged::Denied(denial)),
                Charged::Gone => return Ok(Judged::Gone),
            }
        }
        if requirements.is_settled_later {
            let part = receipt.part.take();
            receipt.charge = Some(self.charge_of(view, requirements.cost, part, present));
        }
        Ok(Judged::Good)
    }

    /// Judges a record whose token was proven, and makes the verdict. `None` where it must be
    /// read again.
    pub(super) fn conclude(
        &self,
        proven: &Proven<'_>,
        signed: Option<&Signed>,
        requirements: &Requirements<'_>,
        way: Way,
    ) -> Result<Option<Verdict>, Error> {
        let now = self.time.coarse(&*self.clock);
        let mut receipt = Receipt::default();
        match self.judge(proven, requirements, now, &mut receipt)? {
            Judged::Good => {
                self.note_grant(proven, signed, requirements, now, way)?;
                Ok(Some(Verdict::Granted(Self::grant(proven, &receipt))))
            }
            Judged::Denied(denial) => self.deny(&proven.view, denial, way).map(Some),
            Judged::Gone => Ok(None),
        }
    }

    /// Denies, unless this process is a fork, whose state may be out of date.
    pub(super) fn deny(&self, view: &View<'_>, denial: Denial, way: Way) -> Result<Verdict, Error> {
        let answered = Answered {
            keyspace: view.keyspace(),
            outcome: Outcome::of_denial(&denial),
            way,
        };
        let now = self.time.coarse(&*self.clock);
        let (at, step) = (now.present.at, Step::of(now.clock));
        let ask = || self.ask();
        match self.tracks_usage {
            true => {
                let call = || self.store.alarm().call();
                (self.notes).answered(view.id(), answered, (at, step), ask, call)?;
            }
            false => self.notes.look(Some(answered), step, ask)?,
        }
        Ok(Verdict::Denied(denial))
    }

    /// Notes that a token is granted, unless this process is a fork.
    #[inline(always)]
    pub(super) fn note_grant(
        &self,
        proven: &Proven<'_>,
        signed: Option<&Signed>,
        requirements: &Requirements<'_>,
        now: Now,
        way: Way,
    ) -> Result<(), Error> {
        let view = &proven.view;
        let ask = || self.ask();
        let answered = Answered {
            keyspace: view.keyspace(),
            outcome: Outcome::Granted,
            way,
        };
        let (at, step) = (now.present.at, Step::of(now.clock));
        match self.tracks_usage && !requirements.is_counted {
            true => {
                let call = || self.store.alarm().call();
                (self.notes).answered(view.id(), answered, (at, step), ask, call)?;
            }
            false => self.notes.look(Some(answered), step, ask)?,
        }
        if self.networks.is_on()
            && let Some(source) = requirements.source
            && !requirements.is_counted
        {
            self.networks.used(view.id(), source, at);
        }
        if let Some(signed) = signed
            && view.pepper() < self.signing_pepper()
        {
            self.note_renewal(view, signed, way);
        }
        Ok(())
    }

    /// What is granted. The usual grant is made in one piece, which is written where the
    /// caller wants it: put together from parts, it would be moved there.
    #[inline(always)]
    pub(super) fn grant(proven: &Proven<'_>, receipt: &Receipt) -> Grant {
        let Proven { view, entry, held } = proven;
        let Receipt {
            standing, charge, ..
        } = receipt;
        if let (Some((len, path)), None) = (view.short_owner(), charge) {
            let owner = InlinePath::short(path, len);
            return view.grant(*held, entry.prefix, owner, *standing);
        }
        let owner = InlinePath::new(view.owner());
        let mut grant = view.grant(*held, entry.prefix, owner, *standing);
        grant.charge.clone_from(charge);
        grant
    }

    /// Keeps time from running behind an instant at which the engine said that a key is
    /// over, so that the key stays over if the clock steps back.
    #[cold]
    pub(super) fn hold_time(&self, denial: &Denial, present: Present) {
        if matches!(denial, Denial::Expired { .. } | Denial::Revoked { .. }) {
            self.hold(present);
        }
    }

    #[cold]
    fn note_renewal(&self, view: &View<'_>, signed: &Signed, way: Way) {
        if self.notes.awaits_renewal(view.id()) {
            return;
        }
        let old = match way {
            Way::File => Some(*view.digest()),
            // It has a MAC in the place.
            Way::Memory => self.ring().digest(view.pepper(), signed),
        };
        let Some(old) = old else {
            return;
        };
        let (pepper, new) = self.ring().sign(signed);
        self.notes.renew(Renewal {
            id: view.id(),
            old,
            pepper,
            new,
        });
    }
}
