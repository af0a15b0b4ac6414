//! The one handle that the pages of self-service have: an owner's keys, within a ceiling.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gatekey::{
    Engine, Error, Expiry, Issued, Key, KeyFilter, KeyId, KeyState, KeyUpdate, Keyspace, NewKey,
    NotFound, OwnerPath, Permissions, Prefix, Reason, Revoked, Rotated, Rotation, Timestamp,
    UsageBin,
};

use crate::chart;
use crate::member::{Ceiling, Member};
use crate::reply::Fault;

/// The most keys that are read for one page.
const KEYS_MAX: usize = 1_000;
/// The most rotations, one after the other, that are followed from an old key.
const REPLACED_MAX: usize = 100;

/// One lock for each of some organisations, so that what is counted or compared is still
/// so when it is changed. What comes by other doors is not held up: the engine's own caps
/// hold against that.
#[derive(Debug)]
pub(crate) struct Turns([Mutex<()>; 64]);

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }
}

impl Turns {
    pub(crate) fn take(&self, owner: &OwnerPath) -> MutexGuard<'_, ()> {
        let first = owner.as_str().split('/').next().unwrap_or_default();
        let hash = first.bytes().fold(5381_usize, |hash, byte| {
            hash.wrapping_mul(33) ^ usize::from(byte)
        });
        let index = hash % self.0.len();
        let turn = self.0.get(index).unwrap_or(&self.0[0]);
        turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A key within reach, with what the member may do with it.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) key: Key,
    pub(crate) keyspace: Keyspace,
    pub(crate) ceiling: Ceiling,
}

impl Found {
    /// Whether its owner has one key at a time: then a page is about that one.
    pub(crate) fn is_the_only_one(&self) -> bool {
        has_one(&self.ceiling, &self.keyspace)
    }
}

/// Whether a member has one key at a time of a keyspace.
pub(crate) fn has_one(ceiling: &Ceiling, keyspace: &Keyspace) -> bool {
    keyspace.keys_per_owner.is_single() && ceiling.levels.is_empty()
}

/// What a member wishes for a new key.
#[derive(Debug, Default)]
pub(crate) struct Wish {
    pub(crate) below: Vec<String>,
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) purpose: Option<String>,
    pub(crate) permissions: Vec<String>,
    pub(crate) lifetime: Option<Life>,
    pub(crate) plan: Option<String>,
    pub(crate) labels: Vec<(String, String)>,
}

/// How long a key is to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    For(Duration),
    Never,
}

/// A member's keys. No other way leads from a page of self-service to the engine.
#[derive(Clone)]
pub(crate) struct Desk {
    engine: Engine,
    pub(crate) member: Member,
    turns: Arc<Turns>,
}

impl Desk {
    pub(crate) fn new(engine: &Engine, member: Member, turns: Arc<Turns>) -> Result<Self, Error> {
        Ok(Self {
            engine: engine.acting_as(&member.actor)?,
            member,
            turns,
        })
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.engine.now()
    }

    /// Writes what verifications noted, so that usage is as of now.
    pub(crate) fn write_usage(&self) {
        let _ = self.engine.flush();
    }

    /// What the member may have in a keyspace, if the keyspace exists for them.
    pub(crate) fn ceiling(&self, prefix: &str) -> Result<(Ceiling, Keyspace), Fault> {
        let of = |ceiling: &&Ceiling| ceiling.keyspace.as_str() == prefix;
        let ceiling = self.member.ceilings.iter().find(of);
        let ceiling = ceiling.ok_or(Fault::NotFound)?.clone();
        let keyspace = self.engine.keyspace(ceiling.keyspace)?;
        Ok((ceiling, keyspace))
    }

    /// The rule: of a keyspace of the member's, of their owner or below, and with no
    /// permission that they may not give.
    fn reaches(&self, key: &Key, ceiling: &Ceiling, keyspace: &Keyspace) -> bool {
        let of_ceiling = mask(ceiling, keyspace);
        key.keyspace == ceiling.keyspace
            && self.member.owner.covers(&key.owner)
            && of_ceiling.contains(key.permissions & keyspace.active_mask())
    }

    /// A key by its id. One that is out of reach is like one that is not there.
    pub(crate) fn find(&self, id: &str) -> Result<Found, Fault> {
        let id: KeyId = id.parse().map_err(|_| Fault::NotFound)?;
        let key = match self.engine.find_key(id) {
            // Whose it was is not known any more: it must not be told apart either.
            Err(Error::Corrupted(_)) => None,
            found => found?,
        };
        let key = key.ok_or(Fault::NotFound)?;
        let (ceiling, keyspace) = self.ceiling(key.keyspace.as_str())?;
        match self.reaches(&key, &ceiling, &keyspace) {
            true => Ok(Found {
                key,
                keyspace,
                ceiling,
            }),
            false => Err(Fault::NotFound),
        }
    }

    /// The key that has a key's place in the end: one that it was rotated to may have been
    /// rotated itself. None where there is none, or none within reach.
    pub(crate) fn replacement(&self, key: &Key) -> Result<Option<Found>, Fault> {
        let mut newest = None;
        let mut next = key.successor;
        for _ in 0..REPLACED_MAX {
            let Some(id) = next else { break };
            let found = match self.find(&id.to_string()) {
                Err(Fault::NotFound) => break,
                found => found?,
            };
            next = found.key.successor;
            newest = Some(found);
        }
        Ok(newest)
    }

    /// The key in its grace whose place a key has. There is no other before it: a rotation
    /// ends the grace of the one before.
    pub(crate) fn replaced_by(&self, key: &Key) -> Result<Option<Found>, Fault> {
        let Some(id) = key.predecessor else {
            return Ok(None);
        };
        match self.find(&id.to_string()) {
            Err(Fault::NotFound) => Ok(None),
            found => Ok(Some(found?).filter(|old| is_retiring(&old.key))),
        }
    }

    /// The key that has the place of one in its grace, if that one is good for something.
    pub(crate) fn takes_over(&self, key: &Key) -> Result<Option<Found>, Fault> {
        match is_retiring(key) {
            true => Ok(self.replacement(key)?.filter(|new| !is_over(&new.key))),
            false => Ok(None),
        }
    }

    /// The keys of a keyspace that are within reach, at most a thousand; and whether there
    /// are more.
    pub(crate) fn list(&self, prefix: Prefix) -> Result<(Vec<Key>, bool), Fault> {
        let (ceiling, keyspace) = self.ceiling(prefix.as_str())?;
        let page = self
            .engine
            .keys_page(&self.filter(prefix), None, KEYS_MAX)?;
        let more = page.next.is_some();
        let keys = page.keys.into_iter();
        let mut keys: Vec<Key> = keys
            .filter(|key| self.reaches(key, &ceiling, &keyspace))
            .collect();
        keys.sort_by(|a, b| {
            (is_over(a), &a.owner, b.created_at).cmp(&(is_over(b), &b.owner, a.created_at))
        });
        Ok((keys, more))
    }

    fn filter(&self, prefix: Prefix) -> KeyFilter {
        KeyFilter::new()
            .owner_and_below(self.member.owner.clone())
            .keyspace(prefix)
    }

    /// How many keys of a keyspace count: those that are not over.
    pub(crate) fn held(&self, prefix: Prefix) -> Result<u64, Fault> {
        let mut held = 0;
        for key in self.engine.keys(self.filter(prefix)) {
            match key {
                Ok(key) => held += u64::from(counts(&key)),
                // It grants nothing, and may be one: so it counts.
                Err(Error::Corrupted(_)) => held += 1,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(held)
    }

    /// The history of a key.
    pub(crate) fn history(&self, found: &Found) -> Result<Vec<gatekey::AuditEntry>, Fault> {
        Ok(self.engine.history(found.key.id, 0, 200)?)
    }

    /// What is left of the limits and quotas that a key's requests are charged to.
    pub(crate) fn left(
        &self,
        key: &Key,
    ) -> Result<(Vec<gatekey::LimitStatus>, Vec<gatekey::QuotaLeft>), Fault> {
        let id = key.id;
        match is_over(key) {
            true => Ok((Vec::new(), Vec::new())),
            false => Ok((self.engine.limits_left(id)?, self.engine.quotas_left(id)?)),
        }
    }

    /// How a key within reach was used, by the day.
    pub(crate) fn days(&self, key: &Key) -> Result<Vec<UsageBin>, Fault> {
        let now = self.now();
        Ok(self
            .engine
            .usage_of_key(key.id, chart::since_days(now), now)?)
    }

    /// When a new key ends, within the ceiling.
    fn expiry(&self, ceiling: &Ceiling, life: Option<Life>) -> Result<Expiry, Fault> {
        match life {
            None if ceiling.lifetimes.is_empty() && !ceiling.may_never_end => Ok(Expiry::Default),
            Some(Life::For(time)) if ceiling.lifetimes.contains(&time) => Ok(Expiry::After(time)),
            Some(Life::Never) if ceiling.may_never_end => Ok(Expiry::Never),
            _ => Err(Fault::Tampered),
        }
    }

    fn owner_of(&self, ceiling: &Ceiling, below: &[String]) -> Result<OwnerPath, Fault> {
        if below.len() != ceiling.levels.len() || below.iter().any(|name| name.contains('/')) {
            return Err(Fault::Tampered);
        }
        let mut path = self.member.owner.as_str().to_owned();
        for name in below {
            path.push('/');
            path.push_str(name);
        }
        let owner: OwnerPath = path.parse().map_err(Error::from)?;
        match self.member.owner.covers(&owner) {
            true => Ok(owner),
            false => Err(Fault::Tampered),
        }
    }

    /// Issues a key within the ceiling. `number` is the form's own.
    pub(crate) fn issue(&self, prefix: &str, wish: Wish, number: &str) -> Result<Issued, Fault> {
        let (ceiling, keyspace) = self.ceiling(prefix)?;
        let owner = self.owner_of(&ceiling, &wish.below)?;
        let mut new = NewKey::new(ceiling.keyspace, owner)?;
        let permissions = match (&wish.purpose, ceiling.purposes.is_empty()) {
            (None, true) => wish.permissions,
            (Some(name), false) if wish.permissions.is_empty() => {
                let of = |of: &&crate::member::Purpose| of.name == *name;
                let purpose = ceiling.purposes.iter().find(of).ok_or(Fault::Tampered)?;
                new = new.label("purpose", name);
                let given = purpose.permissions.iter();
                given
                    .filter(|name| ceiling.names().any(|of| of == name.as_str()))
                    .cloned()
                    .collect()
            }
            _ => return Err(Fault::Tampered),
        };
        if !permissions
            .iter()
            .all(|name| ceiling.names().any(|of| of == name))
        {
            return Err(Fault::Tampered);
        }
        new = new
            .permissions(permissions)
            .expiry(self.expiry(&ceiling, wish.lifetime)?);
        match wish.plan {
            Some(plan) if ceiling.plans.contains(&plan) => new = new.plan(plan),
            None if ceiling.plans.is_empty() => {}
            _ => return Err(Fault::Tampered),
        }
        if let Some(name) = wish.name {
            new = new.name(name);
        }
        if let Some(text) = wish.description {
            new = new.description(text);
        }
        for (name, value) in wish.labels {
            if !ceiling.labels.contains(&name) {
                return Err(Fault::Tampered);
            }
            new = new.label(name, value);
        }
        let _turn = self.turns.take(&self.member.owner);
        // There, a new key ends the others, whatever they may do: so all must be in reach.
        if keyspace.keys_per_owner.is_single() {
            for key in self.engine.keys(self.filter(ceiling.keyspace)) {
                let key = key?;
                if !is_over(&key) && !self.reaches(&key, &ceiling, &keyspace) {
                    return Err(Fault::Forbidden);
                }
            }
        } else if let Some(max) = ceiling.keys_max
            && self.held(ceiling.keyspace)? >= max
        {
            return Err(Fault::Full(max));
        }
        Ok(self.engine.idempotent(number)?.issue(new)?)
    }

    /// Names and describes a key anew. `seen` is the mark of the key as the form showed it.
    pub(crate) fn update(
        &self,
        id: &str,
        seen: &str,
        name: Option<&str>,
        description: Option<&str>,
        labels: &[(String, Option<String>)],
    ) -> Result<Key, Fault> {
        let _turn = self.turns.take(&self.member.owner);
        let found = self.seen(id, seen)?;
        let mut update = KeyUpdate::new().name(name).description(description);
        for (label, value) in labels {
            if !found.ceiling.labels.contains(label) {
                return Err(Fault::Tampered);
            }
            update = match value {
                Some(value) => update.label(label, value),
                None => update.remove_label(label),
            };
        }
        Ok(self.engine.update(found.key.id, update)?)
    }

    /// Replaces a key. The new one has no permission that the member may not give, and no
    /// longer a life.
    pub(crate) fn rotate(
        &self,
        id: &str,
        seen: &str,
        grace: Duration,
        life: Option<Life>,
        number: &str,
    ) -> Result<Rotated, Fault> {
        let _turn = self.turns.take(&self.member.owner);
        let found = self.seen(id, seen)?;
        if !found.ceiling.graces.contains(&grace) {
            return Err(Fault::Tampered);
        }
        // Given as they were looked at: an operator may widen the key meanwhile.
        let of_ceiling = mask(&found.ceiling, &found.keyspace);
        let mut changes = KeyUpdate::new().set_permission_mask(found.key.permissions & of_ceiling);
        changes = match life {
            Some(life) => changes.expiry(self.expiry(&found.ceiling, Some(life))?),
            None => match self.longest(&found) {
                Some(end) => changes.expiry(end),
                None => changes,
            },
        };
        let rotation = Rotation::with_grace(grace).changing(changes);
        let once = self.engine.idempotent(number)?;
        Ok(once.rotate(found.key.id, rotation)?)
    }

    /// The longest that a key may go on, where it would outlast what the member may give.
    fn longest(&self, found: &Found) -> Option<Expiry> {
        let longest = found.ceiling.lifetimes.iter().max()?;
        let end = self.now().saturating_add(*longest);
        let outlasts = found.key.expires_at.is_none_or(|at| at > end);
        (outlasts && !found.ceiling.may_never_end).then_some(Expiry::After(*longest))
    }

    /// Revokes a key for good.
    pub(crate) fn revoke(&self, id: &str, reason: Reason) -> Result<Revoked, Fault> {
        let found = self.find(id)?;
        Ok(self.engine.revoke(found.key.id, reason)?)
    }

    /// Has the engine decide on a key, as if its token had been presented.
    pub(crate) fn vouch(&self, found: &Found) -> Result<gatekey::Verdict, Fault> {
        let extension = self.engine.extension("console")?;
        let of_ceiling = mask(&found.ceiling, &found.keyspace);
        let requirements = gatekey::Requirements::new();
        Ok(extension.vouch(found.key.id, of_ceiling, &requirements)?)
    }

    /// A key that is still as a form showed it.
    fn seen(&self, id: &str, seen: &str) -> Result<Found, Fault> {
        let found = self.find(id)?;
        match mark(&found.key) == seen {
            true => Ok(found),
            false => Err(Fault::Changed),
        }
    }
}

/// The permissions of a ceiling that the keyspace has.
fn mask(ceiling: &Ceiling, keyspace: &Keyspace) -> Permissions {
    let known = |name: &&str| {
        let named = keyspace.permissions.iter().find(|of| of.name == **name);
        named.is_some_and(|of| !of.retired)
    };
    let names: Vec<&str> = ceiling.names().filter(known).collect();
    keyspace.mask(names).unwrap_or(Permissions::NONE)
}

/// Whether nothing revives a key.
pub(crate) fn is_over(key: &Key) -> bool {
    matches!(key.state, KeyState::Revoked | KeyState::Expired) || key.expired
}

/// Whether a key counts against how many there may be: a key in its grace counts as one
/// with its successor.
pub(crate) fn counts(key: &Key) -> bool {
    !is_over(key) && key.retiring_until.is_none()
}

/// Whether a key was replaced, and works until its grace ends.
pub(crate) fn is_retiring(key: &Key) -> bool {
    !is_over(key) && key.retiring_until.is_some()
}

/// Whether a new key may take the place of one.
pub(crate) fn may_rotate(key: &Key) -> bool {
    counts(key) && !key.disabled
}

/// What of a key a form can change or relies on, so that a form that was filled in before
/// another's change is noticed. Not a secret.
pub(crate) fn mark(key: &Key) -> String {
    let text = format!(
        "{:?}",
        (
            (
                key.id,
                &key.name,
                &key.description,
                &key.labels,
                key.permissions
            ),
            (
                key.state,
                key.disabled,
                key.suspended,
                &key.revoked,
                key.successor
            ),
            (key.expires_at, key.not_before, key.retiring_until),
            (&key.plan, &key.limits, &key.networks),
            key.quota.map(|status| status.quota),
        )
    );
    let hash = blake3::hash(text.as_bytes()).to_hex();
    hash.get(..32).unwrap_or_default().to_owned()
}

impl From<NotFound> for Fault {
    fn from(found: NotFound) -> Self {
        Error::from(found).into()
    }
}
