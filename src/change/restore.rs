//! Reading from an audit trail which rights were taken away, and taking them away
//! again.
//!
//! A restore never widens a right: afterwards a key may do what both the backup and the
//! end of the trail allow.

use std::collections::{BTreeMap, BTreeSet};

use super::{keyspace, owner, revoke, update};
use crate::model::audit::{AuditEntry, AuditEvent, Change, Scope};
use crate::model::clock::Timestamp;
use crate::model::error::{Conflict, Error};
use crate::model::id::{KeyId, Prefix};
use crate::model::key::{Expiry, KeyUpdate, Revocation};
use crate::model::keyspace::KeyspaceUpdate;
use crate::model::network::Network;
use crate::model::owner::OwnerPath;
use crate::model::reason::Reason;
use crate::store::lags::AT_ONCE;
use crate::store::life::Life;
use crate::store::tx::Tx;

/// How many keys one revocation of many revokes in its own transaction: nobody waits for the
/// others, and all are counted.
const AT_ONCE_ALL: usize = usize::MAX;

/// Fields of a key that do not affect its rights, or only how often it may be used:
/// they stay as in the backup.
const LEFT_FIELDS: [&str; 6] = ["name", "description", "labels", "plan", "limits", "quota"];

/// The state of a key at the end of the trail, as far as the trail says.
#[derive(Debug, Default, Clone)]
pub(crate) struct KeyFate {
    /// It was revoked, and by whom.
    revoked: Option<(Revocation, Option<String>)>,
    disabled: bool,
    /// The trail does not say enough about a change, so the key is disabled.
    is_obscure: bool,
    /// The earliest end that a rotation set.
    until: Option<Timestamp>,
    /// Its own expiry; `Some(None)`: never.
    expiry: Option<Option<Timestamp>>,
    permissions: Option<Vec<String>>,
    networks: Option<Vec<Network>>,
}

/// The state of an owner at the end of the trail.
#[derive(Debug, Clone)]
pub(crate) struct OwnerFate {
    is_suspended: bool,
    note: Option<String>,
    by: Option<String>,
}

/// A revocation of many.
#[derive(Debug, Clone)]
pub(crate) struct Sweep {
    pub(crate) scope: Scope,
    revocation: Revocation,
    by: Option<String>,
}

/// What the entries of a trail say together.
#[derive(Debug, Default)]
pub(crate) struct Fates {
    pub(crate) keys: BTreeMap<KeyId, KeyFate>,
    pub(crate) owners: BTreeMap<OwnerPath, OwnerFate>,
    pub(crate) sweeps: Vec<Sweep>,
    /// The permissions that are retired at the end, by keyspace.
    pub(crate) retired: BTreeMap<Prefix, Vec<String>>,
    /// The keys that were issued, or that others were rotated to, and not purged since.
    pub(crate) lost: BTreeSet<KeyId>,
    /// How many changes of each extension there are.
    pub(crate) extensions: BTreeMap<String, u64>,
    /// The instant of the last entry.
    pub(crate) at: Option<Timestamp>,
}

impl Fates {
    /// Takes an entry, the next in the trail.
    pub(crate) fn follow(&mut self, entry: AuditEntry) {
        let AuditEntry {
            at, actor, event, ..
        } = entry;
        self.at = Some(at);
        match event {
            AuditEvent::KeyIssued {
                key, superseded, ..
            } => {
                self.lost.insert(key);
                self.supersede(superseded, actor.as_ref());
            }
            AuditEvent::KeyRotated {
                old,
                new,
                retiring_until,
                superseded,
            } => {
                self.lost.insert(new);
                match retiring_until {
                    Some(until) => {
                        let fate = self.key(old);
                        fate.until = Some(fate.until.map_or(until, |before| before.min(until)));
                    }
                    None => self.supersede(vec![old], actor.as_ref()),
                }
                self.supersede(superseded, actor.as_ref());
            }
            AuditEvent::KeyRevoked { key, reason, note } => {
                self.key(key).revoke(Revocation { reason, note }, actor);
            }
            // All keys of the backup in the scope existed then; those that the entry
            // does not name were damaged or over. A call may write several entries.
            AuditEvent::KeysRevoked {
                scope,
                reason,
                note,
                ..
            }
            | AuditEvent::KeysRevokedUnnamed {
                scope,
                reason,
                note,
                ..
            } => {
                let last = self.sweeps.last();
                if last.is_none_or(|last| last.scope != scope) {
                    self.sweeps.push(Sweep {
                        scope,
                        revocation: Revocation { reason, note },
                        by: actor,
                    });
                }
            }
            AuditEvent::KeyUpdated { key, changes } => self.key(key).change(&changes),
            AuditEvent::KeyDisabled { key } => self.key(key).disabled = true,
            AuditEvent::KeyEnabled { key } => self.key(key).disabled = false,
            AuditEvent::OwnerSuspended { owner, note, .. } => {
                let fate = OwnerFate {
                    is_suspended: true,
                    note,
                    by: actor,
                };
                self.owners.insert(owner, fate);
            }
            AuditEvent::OwnerResumed { owner, .. } => {
                let fate = OwnerFate {
                    is_suspended: false,
                    note: None,
                    by: actor,
                };
                self.owners.insert(owner, fate);
            }
            AuditEvent::KeyspaceUpdated { keyspace, changes } => {
                for change in changes
                    .iter()
                    .filter(|change| change.field == "permissions")
                {
                    let names = change.after.split(", ");
                    let retired = names.filter_map(|name| name.strip_suffix(" (retired)"));
                    let retired = retired.map(str::to_owned).collect();
                    self.retired.insert(keyspace, retired);
                }
            }
            AuditEvent::KeysImported { keys, .. } => self.lost.extend(keys),
            AuditEvent::ImportEnded { keys, .. } => {
                for key in keys {
                    let revocation = Revocation::new(Reason::Cessation);
                    self.key(key).revoke(revocation, actor.clone());
                }
            }
            AuditEvent::KeysPurged { keys } => {
                for key in &keys {
                    self.lost.remove(key);
                }
            }
            // What it means for the extension's records, the extension knows.
            AuditEvent::ExtensionChanged { extension, .. } => {
                *self.extensions.entry(extension).or_default() += 1;
            }
            // They take nothing away from a key that the backup has, or say only how often
            // it may be used.
            AuditEvent::KeyspaceCreated { .. }
            | AuditEvent::DigestsRenewed { .. }
            | AuditEvent::AuditTrimmed { .. }
            | AuditEvent::StoreRestored { .. }
            | AuditEvent::OwnerUpdated { .. }
            | AuditEvent::OwnerQuotaBegun { .. }
            | AuditEvent::ImportChanged { .. }
            | AuditEvent::KeyClaimed { .. }
            // The entry that revoked them was followed, or the backup has it.
            | AuditEvent::RevokedKeysNamed { .. } => {}
            // The effect of an unknown event on a key is not known: the key is
            // disabled.
            #[allow(unreachable_patterns, reason = "for events that are yet to come")]
            other => {
                for key in other.keys() {
                    self.key(key).is_obscure = true;
                }
            }
        }
    }

    /// Adds a key to revoke, whatever the trail says.
    pub(crate) fn revoke(&mut self, key: KeyId, revocation: Revocation, by: Option<String>) {
        self.key(key).revoke(revocation, by);
    }

    fn key(&mut self, key: KeyId) -> &mut KeyFate {
        self.keys.entry(key).or_default()
    }

    fn supersede(&mut self, keys: Vec<KeyId>, actor: Option<&String>) {
        for key in keys {
            let superseded = Revocation::new(Reason::Superseded);
            self.key(key).revoke(superseded, actor.cloned());
        }
    }
}

impl KeyFate {
    /// The first revocation is the one that counts.
    fn revoke(&mut self, revocation: Revocation, by: Option<String>) {
        self.revoked.get_or_insert((revocation, by));
    }

    fn change(&mut self, changes: &[Change]) {
        for change in changes {
            let after = change.after.as_str();
            let items = || after.split(", ").filter(|item| !item.is_empty());
            let is_understood = match change.field.as_str() {
                "permissions" => {
                    self.permissions = Some(items().map(str::to_owned).collect());
                    true
                }
                "expires at" if after == "never" => {
                    self.expiry = Some(None);
                    true
                }
                "expires at" => after.parse().is_ok_and(|at| {
                    self.expiry = Some(Some(at));
                    true
                }),
                "networks" => {
                    let networks: Result<_, _> = items().map(str::parse).collect();
                    networks.is_ok_and(|networks| {
                        self.networks = Some(networks);
                        true
                    })
                }
                field => LEFT_FIELDS.contains(&field),
            };
            self.is_obscure |= !is_understood;
        }
    }
}

/// What a step restricted.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) revoked: u64,
    pub(crate) disabled: u64,
    pub(crate) narrowed: u64,
    /// Keys whose record is damaged; they grant nothing.
    pub(crate) damaged: u64,
}

pub(crate) fn sweep(tx: &mut Tx<'_>, sweep: &Sweep) -> Result<u64, Error> {
    let by = sweep.by.as_deref();
    let many = match &sweep.scope {
        Scope::Owner(owner) => revoke::revoke_owner(tx, owner, &sweep.revocation, AT_ONCE_ALL, by)?,
        Scope::Keyspace(prefix) if tx.find_keyspace(*prefix)?.is_some() => {
            revoke::revoke_keyspace(tx, *prefix, &sweep.revocation, AT_ONCE_ALL, by)?
        }
        // It was made after the backup.
        Scope::Keyspace(_) => return Ok(0),
    };
    Ok(many.newly)
}

pub(crate) fn suspend(tx: &mut Tx<'_>, path: &OwnerPath, fate: &OwnerFate) -> Result<bool, Error> {
    if !fate.is_suspended || tx.owner(path.as_str())?.is_some() {
        return Ok(false);
    }
    owner::suspend(tx, path, fate.note.as_deref(), AT_ONCE, fate.by.as_deref())?;
    Ok(true)
}

pub(crate) fn retire(
    tx: &mut Tx<'_>,
    prefix: Prefix,
    names: &[String],
    actor: Option<&str>,
) -> Result<(), Error> {
    let Some(known) = tx.find_keyspace(prefix)? else {
        return Ok(());
    };
    let active = known.permissions.iter().filter(|known| !known.retired);
    let retired: Vec<_> = active
        .filter(|known| names.contains(&known.name))
        .map(|known| known.name.clone())
        .collect();
    if !retired.is_empty() {
        let update = KeyspaceUpdate::new().retire_permissions(retired);
        keyspace::update(tx, prefix, &update, actor)?;
    }
    Ok(())
}

/// Restricts keys to their state at the end of the trail.
pub(crate) fn narrow(
    tx: &mut Tx<'_>,
    fates: &[(KeyId, KeyFate)],
    actor: Option<&str>,
) -> Result<Taken, Error> {
    let mut taken = Taken::default();
    for (id, fate) in fates {
        match narrow_one(tx, *id, fate, actor, &mut taken) {
            Err(Error::Corrupted(_)) => taken.damaged += 1,
            done => done?,
        }
    }
    Ok(taken)
}

fn narrow_one(
    tx: &mut Tx<'_>,
    id: KeyId,
    fate: &KeyFate,
    actor: Option<&str>,
    taken: &mut Taken,
) -> Result<(), Error> {
    // It was issued after the backup.
    let Some(key) = tx.find_key(id)? else {
        return Ok(());
    };
    let life = Life::from(&key);
    if life.is_over(tx.now()) {
        tx.tell_over();
    }
    if life.revoked(tx.now()).is_some() {
        return Ok(());
    }
    let has_expired = life.expired(tx.now()).is_some();
    if let Some((revocation, by)) = &fate.revoked {
        revoke::revoke(tx, id, revocation, by.as_deref())?;
        taken.revoked += 1;
        return Ok(());
    }
    let keyspace = tx.keyspace_numbered(key.keyspace)?;
    let mut update = KeyUpdate::new();
    let ends = [key.expires_at, fate.expiry.flatten(), fate.until];
    let end = ends.into_iter().flatten().min();
    if let Some(end) = end
        && end <= tx.now()
        && !has_expired
    {
        let revocation = match fate.until {
            Some(until) if until == end => Revocation::new(Reason::Superseded),
            _ => Revocation::default().note("it had expired by the trail of the restore"),
        };
        revoke::revoke(tx, id, &revocation, actor)?;
        taken.revoked += 1;
        return Ok(());
    }
    if end != key.expires_at {
        update.expiry = end.map(Expiry::At);
    }
    if let Some(names) = &fate.permissions {
        let held = keyspace.names(key.permissions).into_iter();
        let gone = held.filter(|name| !names.iter().any(|left| left == name));
        update.withdraw = gone.map(str::to_owned).collect();
    }
    let mut is_closed = fate.disabled || fate.is_obscure;
    if let Some(networks) = &fate.networks {
        match both(&key.networks, networks) {
            Some(networks) if networks == key.networks => {}
            Some(networks) => update.networks = Some(networks),
            // No address is in both lists, and an empty list would allow all.
            None => is_closed = true,
        }
    }
    let is_narrowed =
        update.expiry.is_some() || !update.withdraw.is_empty() || update.networks.is_some();
    if has_expired {
        // It grants nothing, but an extension may go on from it to another key.
        if is_narrowed || is_closed || fate.until.is_some() {
            let why = "it had expired, and the trail of the restore took rights from it";
            revoke::revoke(tx, id, &Revocation::default().note(why), actor)?;
            taken.revoked += 1;
        }
        return Ok(());
    }
    if is_narrowed {
        match update::update(tx, id, &update, actor) {
            Ok(_) => taken.narrowed += 1,
            Err(Error::Conflict(Conflict::Revoked { .. } | Conflict::Expired { .. })) => {
                return Ok(());
            }
            // The keyspace's policy in the backup does not allow the rest.
            Err(Error::Invalid(_)) => is_closed = true,
            Err(error) => return Err(error),
        }
    }
    if is_closed && !key.disabled {
        update::set_disabled(tx, id, true, actor)?;
        taken.disabled += 1;
    }
    Ok(())
}

/// The networks that both lists allow, where an empty list allows all; `None` if there
/// are none.
fn both(left: &[Network], right: &[Network]) -> Option<Vec<Network>> {
    if left.is_empty() || right.is_empty() {
        return Some([left, right].concat());
    }
    let mut both = Vec::new();
    for one in left {
        for other in right {
            let inner = match (one.covers(other), other.covers(one)) {
                (true, _) => other,
                (_, true) => one,
                _ => continue,
            };
            if !both.contains(inner) {
                both.push(*inner);
            }
        }
    }
    (!both.is_empty()).then_some(both)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is not understood of a change may have taken a right away.
    #[test]
    fn a_key_is_closed_by_a_change_that_is_not_understood_whatever_comes_after() {
        let change = |field: &str, after: &str| Change {
            field: field.to_owned(),
            before: String::new(),
            after: after.to_owned(),
        };
        let known = [
            change("name", "none"),
            change("permissions", "read"),
            change("expires at", "never"),
            change("expires at", "2026-01-02T00:00:00Z"),
            change("networks", "10.0.0.0/8"),
        ];
        let mut fate = KeyFate::default();
        fate.change(&known);
        assert!(!fate.is_obscure);
        for unknown in [
            change("scopes", "read"),
            change("expires at", "soon"),
            change("networks", "10.0.0.0/8, home"),
        ] {
            let mut fate = KeyFate::default();
            fate.change(&[unknown]);
            fate.change(&known);
            assert!(fate.is_obscure);
        }
    }

    #[test]
    fn of_two_lists_of_networks_what_both_allow_is_left() {
        let list = |text: &str| -> Vec<Network> {
            text.split_whitespace()
                .map(|net| net.parse().unwrap())
                .collect()
        };
        for (left, right, expected) in [
            ("", "", Some("")),
            ("10.0.0.0/8", "", Some("10.0.0.0/8")),
            ("", "10.0.0.0/8", Some("10.0.0.0/8")),
            ("10.0.0.0/8", "10.1.0.0/16 ::1", Some("10.1.0.0/16")),
            (
                "10.1.0.0/16 ::/0",
                "10.0.0.0/8 fe80::/10",
                Some("10.1.0.0/16 fe80::/10"),
            ),
            ("10.0.0.0/8", "11.0.0.0/8 ::1", None),
        ] {
            let found = both(&list(left), &list(right));
            assert_eq!(found, expected.map(list), "{left} and {right}");
        }
    }
}
