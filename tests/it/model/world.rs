//! An engine and the model of it, taking the same steps.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gatekey::{
    Cursor, Denial, Engine, Error, KeyFilter, KeyId, LimitStatus, ManualClock, NotFound, Options,
    Pepper, Permissions, Reason, Requirements, Revocation, Rotation, Verdict,
};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::compare::revoked;
use super::limits::{Limited, SLICE, Standing, Standings};
use super::op::{
    Ask, Case, Edit, Filter, Forgery, NAMES, OWNERS, Op, PREFIXES, Pick, Resident, SOURCES,
    Setting, Spec, Ticks,
};
use super::plain::{Granted, Key, Model, Refused, STATES, TICK, Why, covers, names_in};
use super::text::{
    duration, forge, key_update, keyspace_update, ms, new_key, new_keyspace, path, prefix, ts,
};
use crate::common::code;

/// How often each verdict, refusal and kind of success was met.
pub(crate) type Tally = BTreeMap<String, u64>;
pub(crate) type Checked<T = ()> = Result<T, TestCaseError>;

const REASONS: [Reason; 6] = [
    Reason::Unspecified,
    Reason::KeyCompromise,
    Reason::Superseded,
    Reason::AffiliationChanged,
    Reason::PrivilegeWithdrawn,
    Reason::Cessation,
];

pub(crate) struct World<'t> {
    pub(crate) engine: Engine,
    pub(crate) model: Model,
    /// Every key ever issued, in order, with its token.
    pub(crate) issued: Vec<(KeyId, String)>,
    pub(crate) audit_seen: usize,
    /// How many entries of the trail name keys that were revoked before: the model has none.
    pub(crate) naming: usize,
    clock: ManualClock,
    setting: Setting,
    dir: tempfile::TempDir,
    tally: &'t RefCell<Tally>,
}

impl<'t> World<'t> {
    pub(crate) fn new(setting: &Setting, tally: &'t RefCell<Tally>) -> Self {
        let clock = ManualClock::at(ts(0));
        let dir = tempfile::tempdir().unwrap();
        let pepper = setting.peppered.into();
        Self {
            engine: open(setting, &clock, dir.path(), pepper),
            clock,
            setting: setting.clone(),
            dir,
            model: Model {
                pepper,
                ..Model::default()
            },
            issued: vec![],
            audit_seen: 0,
            naming: 0,
            tally,
        }
    }

    pub(crate) fn run(mut self, case: &Case) -> Checked {
        for (at, new) in (0..).zip(case.setting.keyspaces.clone()) {
            let op = Op::CreateKeyspace(at, new);
            self.step(&op, "the beginning")?;
        }
        for (at, op) in case.ops.iter().enumerate() {
            self.step(op, &format!("step {at}"))?;
        }
        self.look_at_all()
            .map_err(|error| told_at(error, "at the end"))
    }

    fn step(&mut self, op: &Op, place: &str) -> Checked {
        // Three actors take turns, so that the trail can be told apart.
        let actor = format!("actor {}", self.model.audit.len() % 3);
        self.model.actor = Some(actor.clone());
        let engine = self.engine.acting_as(actor).unwrap();
        let outcome = self.take(op, &engine);
        drop(engine);
        outcome
            .and_then(|()| self.read_the_time())
            .and_then(|()| self.look_at_audit())
            .and_then(|()| match self.setting.sweeps {
                true => self.sweep(),
                false => Ok(()),
            })
            .map_err(|error| told_at(error, &format!("{place}, {op:?}")))
    }

    fn take(&mut self, op: &Op, engine: &Engine) -> Checked {
        match op {
            Op::CreateKeyspace(at, new) => {
                let whys = self.model.whys_of_create(*at, new);
                let result = engine.create_keyspace(new_keyspace(*at, new));
                if self.agree("create keyspace", result, &whys)?.is_some() {
                    self.model.create(*at, new);
                }
            }
            Op::UpdateKeyspace(at, edit) => {
                let whys = self.model.whys_of_space_update(*at, edit);
                let result = engine.update_keyspace(prefix(*at), keyspace_update(edit));
                if self.agree("update keyspace", result, &whys)?.is_some() {
                    self.model.update_space(*at, edit);
                }
            }
            Op::Issue(spec) => self.issue(spec, engine)?,
            Op::IssueBatch(specs) => self.issue_batch(specs, engine)?,
            Op::Verify(key, ask) => self.verify(*key, ask)?,
            Op::VerifyForged(key, forgery) => self.verify_forged(*key, *forgery)?,
            Op::Update(key, edit) => {
                let id = self.pick(*key);
                let whys = self.model.whys_of_update(id, edit);
                let result = engine.update(id, key_update(edit, self.model.now()));
                if let Some(key) = self.agree("update", result, &whys)? {
                    self.model.update(id, edit);
                    self.compare(&key)?;
                }
            }
            Op::Rotate(key, grace, edit) => self.rotate(self.pick(*key), *grace, edit, engine)?,
            Op::Revoke(..) | Op::RevokeToken(..) | Op::RevokeOwner(_) | Op::RevokeKeyspace(_) => {
                self.revoke(op, engine)?;
            }
            Op::Disable(key) | Op::Enable(key) => {
                let disabled = matches!(op, Op::Disable(_));
                let id = self.pick(*key);
                let whys = self.model.whys_of_change(id);
                let result = match disabled {
                    true => engine.disable(id),
                    false => engine.enable(id),
                };
                if let Some(key) = self.agree("disable or enable", result, &whys)? {
                    self.model.switch(id, disabled);
                    self.compare(&key)?;
                }
            }
            Op::Suspend(owner) => {
                self.model.suspend(*owner);
                engine.suspend(path(*owner), None).map_err(failed)?;
                self.look_at_owner(*owner)?;
            }
            Op::Resume(owner) => {
                self.model.resume(*owner);
                engine.resume(path(*owner)).map_err(failed)?;
                self.look_at_owner(*owner)?;
            }
            Op::Purge(age) => {
                let purged = engine.purge(duration(*age)).map_err(failed)?;
                prop_assert_eq!(purged.keys, self.model.purge(*age), "purged");
                self.note(if purged.keys > 0 {
                    "purge"
                } else {
                    "purge of nothing"
                });
            }
            Op::Flush => {
                engine.flush().map_err(failed)?;
                self.model.flush();
                self.look_at_audit()?;
                let unnamed = &self.model.unnamed;
                prop_assert!(unnamed.is_empty(), "revoked, unnamed: {:?}", unnamed);
            }
            Op::Advance(ticks) => self.set_clock(self.model.clock + i64::from(*ticks) * TICK),
            Op::StepBack(ticks) => self.set_clock(self.model.clock - i64::from(*ticks) * TICK),
            Op::ToTheNextEdge { before } => {
                if let Some(edge) = self.model.next_edge() {
                    self.set_clock(edge - i64::from(*before));
                }
            }
            Op::Reopen { pepper } => self.reopen(*pepper)?,
            Op::Crash => self.crash()?,
            Op::List(filter) => self.list(filter)?,
            Op::LookAtAll => self.look_at_all()?,
        }
        Ok(())
    }

    /// How many keys change together with their owner.
    fn at_once(&self) -> usize {
        match cfg!(feature = "proof") && self.setting.lags {
            true => 1,
            false => 256,
        }
    }

    // The verbs that need more than a line

    fn issue(&mut self, spec: &Spec, engine: &Engine) -> Checked {
        let whys = self.model.whys_of_issue(std::slice::from_ref(spec));
        let whys = whys.map_or(vec![], |(_, whys)| whys);
        let result = engine.issue(new_key(spec, self.model.now()));
        if let Some(issued) = self.agree("issue", result, &whys)? {
            prop_assert_eq!(issued.token.key_id(), issued.key.id);
            self.model.issue(spec, issued.key.id);
            self.add(issued.key.id, issued.token.expose());
            self.compare(&issued.key)?;
        }
        Ok(())
    }

    fn issue_batch(&mut self, specs: &[Spec], engine: &Engine) -> Checked {
        let faults = self.model.whys_of_issue(specs);
        let now = self.model.now();
        let result = engine.issue_batch(specs.iter().map(|spec| new_key(spec, now)).collect());
        let Some((index, whys)) = faults else {
            let all = self.agree("issue batch", result, &[])?.unwrap_or_default();
            prop_assert_eq!(all.len(), specs.len());
            for (spec, issued) in specs.iter().zip(&all) {
                self.model.issue(spec, issued.key.id);
                self.add(issued.key.id, issued.token.expose());
            }
            return all.iter().try_for_each(|issued| self.compare(&issued.key));
        };
        match result {
            Err(Error::Batch {
                index: told,
                source,
            }) => {
                prop_assert_eq!(told, index, "the bad item, {}", source);
                self.agree::<()>("issue batch", Err(*source), &whys)?;
                Ok(())
            }
            other => Err(TestCaseError::fail(format!(
                "item {index} has the faults {whys:?}, and the batch gave {other:?}"
            ))),
        }
    }

    fn rotate(&mut self, id: KeyId, grace: Ticks, edit: &Edit, engine: &Engine) -> Checked {
        let whys = self.model.whys_of_rotate(id, edit);
        let rotation = match grace {
            0 => Rotation::at_once(),
            _ => Rotation::with_grace(duration(grace)),
        };
        let rotation = rotation.changing(key_update(edit, self.model.now()));
        if let Some(rotated) = self.agree("rotate", engine.rotate(id, rotation), &whys)? {
            self.model.rotate(id, grace, edit, rotated.key.id);
            self.add(rotated.key.id, rotated.token.expose());
            self.compare(&rotated.key)?;
            self.compare(&rotated.old)?;
        }
        Ok(())
    }

    fn revoke(&mut self, op: &Op, engine: &Engine) -> Checked {
        let revocation = |reason: u8, note: Option<&str>| {
            let revocation = Revocation::new(REASONS[usize::from(reason)]);
            match note {
                Some(note) => revocation.note(note),
                None => revocation,
            }
        };
        match op {
            Op::Revoke(key, reason) => {
                let id = self.pick(*key);
                let note = (reason % 2 == 1).then_some("a note");
                let whys = self.model.whys_of_revoke(id);
                let result = engine.revoke(id, revocation(*reason, note));
                if let Some(told) = self.agree("revoke", result, &whys)? {
                    let reason = REASONS[usize::from(*reason)];
                    let expected = self.model.revoke(id, reason, note);
                    prop_assert_eq!(told.key, id);
                    prop_assert_eq!(Some(expected), revoked(Some(&told)));
                }
            }
            Op::RevokeToken(key, forgery) => {
                let Some((id, token)) = self.pick_token(*key) else {
                    return Ok(());
                };
                let token = forgery.map_or(token.clone(), |forgery| forge(&token, forgery));
                let is_right = forgery.is_none() && self.model.keys.contains_key(&id);
                let whys = [Why::NotFound(NotFound::Token)];
                let result = engine.revoke_token(token, revocation(1, None));
                let whys = if is_right { &[][..] } else { &whys };
                if let Some(told) = self.agree("revoke token", result, whys)? {
                    let expected = self.model.revoke(id, REASONS[1], None);
                    prop_assert_eq!(Some(expected), revoked(Some(&told)));
                }
            }
            Op::RevokeOwner(owner) => {
                let many = engine
                    .revoke_owner(path(*owner), revocation(3, Some("gone")))
                    .map_err(failed)?;
                let above = path(*owner);
                let is_meant = |key: &Key| covers(above, path(key.owner));
                let at_once = self.at_once();
                let expected =
                    (self.model).revoke_many(at_once, REASONS[3], Some("gone"), is_meant);
                prop_assert_eq!((many.keys, many.newly), expected);
                prop_assert_eq!(many.damaged, 0);
            }
            Op::RevokeKeyspace(at) => {
                let whys = match self.model.spaces.contains_key(at) {
                    true => vec![],
                    false => vec![Why::NotFound(NotFound::Keyspace(prefix(*at)))],
                };
                let result = engine.revoke_keyspace(prefix(*at), revocation(5, None));
                if let Some(many) = self.agree("revoke keyspace", result, &whys)? {
                    let at_once = self.at_once();
                    let expected = (self.model)
                        .revoke_many(at_once, REASONS[5], None, |key| key.keyspace == *at);
                    prop_assert_eq!((many.keys, many.newly), expected);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn verify(&mut self, key: Pick, ask: &Ask) -> Checked {
        let Some((id, token)) = self.pick_token(key) else {
            return Ok(());
        };
        self.verdict(id, &token, ask)
    }

    pub(crate) fn verdict(&mut self, id: KeyId, token: &str, ask: &Ask) -> Checked {
        let names: Vec<&str> = names_in(ask.names)
            .map(|name| NAMES[usize::from(name)])
            .collect();
        let mut asked = Requirements::new()
            .cost(ask.cost.into())
            .permission_mask(Permissions::from_bits(ask.mask.into()))
            .permissions(&names);
        if let Some(at) = ask.keyspace {
            asked = asked.keyspace(prefix(at));
        }
        if let Some(at) = ask.source {
            asked = asked.source(SOURCES[usize::from(at)].0.parse().unwrap());
        }
        let verdict = self.engine.verify_with(token, &asked).map_err(failed)?;
        self.note(code(&verdict));
        let told = match verdict {
            Verdict::Granted(grant) => Ok(Granted {
                key: grant.key_id(),
                keyspace: PREFIXES
                    .into_iter()
                    .find(|prefix| *prefix == grant.keyspace().as_str())
                    .unwrap(),
                owner: OWNERS
                    .into_iter()
                    .find(|owner| *owner == grant.owner())
                    .unwrap(),
                permissions: grant.permissions().bits(),
                expires_at: grant.expires_at().map(ms),
                retiring_until: grant.retiring_until().map(ms),
                limits: grant.tightest_limit().zip(grant.longest_limit()).map(
                    |(tightest, longest)| Standings {
                        tightest: standing(tightest),
                        longest: standing(longest),
                    },
                ),
            }),
            Verdict::Denied(Denial::RateLimited {
                key,
                status,
                retry_after,
            }) => {
                prop_assert_eq!(key, id);
                let wait = retry_after.map(|wait| i64::try_from(wait.as_millis()).unwrap());
                Err(Refused::Limited(Limited {
                    standing: standing(status),
                    wait,
                }))
            }
            Verdict::Denied(mut denial) => {
                if let Denial::PermissionMissing { names, .. } = &mut denial {
                    names.sort();
                }
                Err(Refused::Denied(denial))
            }
        };
        prop_assert_eq!(
            told,
            self.model.verify(id, ask),
            "the verdict on key {} of {}, asked for {:?}",
            id,
            self.at(),
            ask
        );
        Ok(())
    }

    fn verify_forged(&mut self, key: Pick, forgery: Forgery) -> Checked {
        let Some((_, token)) = self.pick_token(key) else {
            return Ok(());
        };
        let verdict = self.engine.verify(forge(&token, forgery)).map_err(failed)?;
        self.note(code(&verdict));
        let expected = match forgery {
            Forgery::Check => Denial::Malformed,
            Forgery::Secret | Forgery::Prefix | Forgery::Id => Denial::Unknown,
        };
        prop_assert_eq!(verdict, Verdict::Denied(expected));
        Ok(())
    }

    fn reopen(&mut self, pepper: bool) -> Checked {
        if !self.setting.on_file {
            return Ok(());
        }
        self.engine.clone().close().map_err(failed)?;
        self.model.flush();
        if pepper && self.setting.peppered {
            self.model.pepper += 1;
        }
        let dir = self.dir.path();
        self.engine = open(&self.setting, &self.clock, dir, self.model.pepper);
        self.model.crash();
        self.note("reopened");
        self.read_the_time()?;
        self.look_at_quotas(0)
    }

    /// Goes on from a copy of the file as it is while the engine is open.
    fn crash(&mut self) -> Checked {
        if !self.setting.on_file {
            return Ok(());
        }
        let (file, crashed) = (file_in(self.dir.path()), self.dir.path().join("crashed"));
        std::fs::copy(&file, &crashed).unwrap();
        // What the old engine still writes at its end goes to the old file.
        std::fs::rename(&crashed, &file).unwrap();
        let dir = self.dir.path();
        self.engine = open(&self.setting, &self.clock, dir, self.model.pepper);
        self.model.crash();
        self.note("crashed");
        self.read_the_time()?;
        self.look_at_quotas(SLICE)
    }

    fn list(&mut self, filter: &Filter) -> Checked {
        let mut asked = KeyFilter::new();
        if let Some(at) = filter.keyspace {
            asked = asked.keyspace(prefix(at));
        }
        if let Some((owner, below)) = filter.owner {
            let owner = path(owner).parse().unwrap();
            asked = match below {
                true => asked.owner_and_below(owner),
                false => asked.owner(owner),
            };
        }
        if let Some(state) = filter.state {
            asked = asked.state(STATES[usize::from(state)]);
        }
        if let Some(text) = filter.text {
            asked = asked.label("text", text.to_string());
        }
        if let Some(within) = filter.within {
            asked = asked.expires_within(duration(within));
        }
        let whys = match filter.keyspace {
            Some(at) if !self.model.spaces.contains_key(&at) => {
                vec![Why::NotFound(NotFound::Keyspace(prefix(at)))]
            }
            _ => vec![],
        };
        let mut told = vec![];
        let mut after: Option<Cursor> = None;
        loop {
            let page = self.engine.keys_page(&asked, after.as_ref(), filter.page);
            let Some(page) = self.agree("list", page, &whys)? else {
                return Ok(());
            };
            prop_assert!(page.keys.len() <= filter.page);
            told.extend(page.keys.iter().map(|key| key.id));
            match page.next {
                Some(next) => after = Some(next.to_string().parse().unwrap()),
                None => break,
            }
        }
        told.sort_unstable();
        let listed = self.model.keys.iter();
        let listed = listed.filter(|(_, key)| self.model.is_listed(key, filter));
        let expected: Vec<KeyId> = listed.map(|(id, _)| *id).collect();
        prop_assert_eq!(told, expected, "listed at {}", self.at());
        Ok(())
    }
    // Small things

    pub(crate) fn note(&self, name: &str) {
        *self.tally.borrow_mut().entry(name.to_owned()).or_default() += 1;
    }

    pub(crate) fn at(&self) -> String {
        format!("{} ms (clock {})", self.model.now(), self.model.clock)
    }

    fn set_clock(&mut self, to: i64) {
        self.model.clock = to;
        self.model.clock_max = self.model.clock_max.max(to);
        self.clock.set(ts(to));
    }

    fn add(&mut self, id: KeyId, token: &str) {
        self.issued.push((id, token.to_owned()));
    }

    fn pick(&self, pick: Pick) -> KeyId {
        match self.pick_token(pick) {
            Some((id, _)) => id,
            None => "0000000000".parse().unwrap(),
        }
    }

    fn pick_token(&self, pick: Pick) -> Option<(KeyId, String)> {
        let now = self.model.now();
        let is_good = |id| {
            let key = self.model.keys.get(id);
            key.is_some_and(|key| !key.is_over(now))
        };
        let (back, only_good) = match pick {
            Pick::Good(back) => (back, self.issued.iter().any(|(id, _)| is_good(id))),
            Pick::Any(back) => (back, false),
        };
        let among = self.issued.iter().rev();
        let among: Vec<_> = among.filter(|(id, _)| !only_good || is_good(id)).collect();
        let back = usize::from(back) % among.len().max(1);
        among.get(back).copied().cloned()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` gives")]
pub(crate) fn failed(error: Error) -> TestCaseError {
    TestCaseError::fail(format!("the engine failed: {error:?}"))
}

fn told_at(error: TestCaseError, place: &str) -> TestCaseError {
    match error {
        TestCaseError::Fail(reason) => TestCaseError::fail(format!("{place}: {reason}")),
        other => other,
    }
}

fn standing(status: LimitStatus) -> Standing {
    let limit = status.limit();
    let window = i64::try_from(limit.window().as_millis()).unwrap();
    Standing {
        limit: (limit.requests(), window),
        remaining: status.remaining().into(),
        resets_at: ms(status.resets_at()),
    }
}

fn file_in(dir: &Path) -> PathBuf {
    dir.join("keys.redb")
}

fn open(setting: &Setting, clock: &ManualClock, dir: &Path, peppers: u8) -> Engine {
    let mut options = Options::new()
        .clock(clock.clone())
        // The flushes of the test are the only ones.
        .usage_interval(Duration::from_secs(86_400))
        .resident_bytes(match setting.resident {
            Resident::None => 0,
            Resident::Tiny => 1500,
            Resident::Default => Options::RESIDENT_BYTES,
        });
    #[cfg(feature = "proof")]
    if setting.lags {
        options = gatekey::proof::lagging(options, 1, false);
    }
    for id in 1..=peppers {
        options = options.pepper(Pepper::new(id, [id; 32]).unwrap());
    }
    match setting.on_file {
        true => options.open_or_create(file_in(dir)).unwrap(),
        false => options.open_in_memory().unwrap(),
    }
}
