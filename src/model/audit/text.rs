//! The audit trail as text, for logs and people. An entry is one line, and has one
//! reading: text that people wrote is in quotes, and lists are in brackets.

use std::fmt::{self, Display, Formatter};

use super::{AuditEntry, AuditEvent, Change, Repair, Scope};

/// As `7 2026-01-01T00:00:00Z "alice" key 01ABcdEFgh revoked for key compromise, note
/// "seen in public"`; `-` stands for a missing actor.
impl Display for AuditEntry {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.seq, self.at)?;
        match &self.actor {
            Some(actor) => write!(f, "{actor:?}")?,
            None => f.write_str("-")?,
        }
        write!(f, " {}", self.event)
    }
}

/// As `name ["a"] -> ["b"]`.
impl Display for Change {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}] -> [{}]", self.field, self.before, self.after)
    }
}

/// As `owner acme/ingest` or `keyspace acme_live`.
impl Display for Scope {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner(owner) => write!(f, "owner {owner}"),
            Self::Keyspace(prefix) => write!(f, "keyspace {prefix}"),
        }
    }
}

/// A number of keys that is counted up to
/// [`KEYS_COUNTED_MAX`](AuditEvent::KEYS_COUNTED_MAX).
struct Counted(u64);

impl Display for Counted {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match AuditEvent::keys_counted(self.0) {
            Some(keys) => write!(f, "{keys}"),
            None => write!(f, "more than {}", AuditEvent::KEYS_COUNTED_MAX),
        }
    }
}

/// One line, without the instant and the actor.
impl Display for AuditEvent {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyspaceCreated { keyspace } => write!(f, "keyspace {keyspace} created"),
            Self::KeyspaceUpdated { keyspace, changes } => {
                write!(f, "keyspace {keyspace} updated: {}", List(changes))
            }
            Self::KeyIssued {
                key,
                keyspace,
                owner,
                superseded,
            } => {
                write!(f, "key {key} issued in {keyspace} to {owner}")?;
                superseding(f, superseded)
            }
            Self::KeyRotated {
                old,
                new,
                retiring_until,
                superseded,
            } => {
                write!(f, "key {old} rotated to {new}")?;
                match retiring_until {
                    Some(until) => write!(f, ", accepted until {until}")?,
                    None => f.write_str(", revoked at once")?,
                }
                superseding(f, superseded)
            }
            Self::KeyRevoked { key, reason, note } => {
                write!(f, "key {key} revoked for {reason}")?;
                noting(f, note.as_deref())
            }
            Self::KeysRevokedUnnamed {
                scope,
                keys,
                reason,
                note,
            } => {
                write!(f, "{} keys of {scope} revoked for {reason}", Counted(*keys))?;
                noting(f, note.as_deref())
            }
            Self::KeysRevoked {
                scope,
                keys,
                reason,
                note,
            } => {
                write!(f, "keys [{}] of {scope} revoked for {reason}", List(keys))?;
                noting(f, note.as_deref())
            }
            Self::KeyUpdated { key, changes } => {
                write!(f, "key {key} updated: {}", List(changes))
            }
            Self::KeyDisabled { key } => write!(f, "key {key} disabled"),
            Self::KeyEnabled { key } => write!(f, "key {key} enabled"),
            Self::OwnerSuspended { owner, keys, note } => {
                write!(f, "owner {owner} suspended with {} keys", Counted(*keys))?;
                noting(f, note.as_deref())
            }
            Self::OwnerResumed { owner, keys } => {
                write!(f, "owner {owner} resumed with {} keys", Counted(*keys))
            }
            Self::AuditTrimmed {
                through,
                kept,
                dropped,
            } => write!(
                f,
                "audit trail trimmed through {through}, {kept} entries kept, {dropped} dropped"
            ),
            Self::StoreRestored { backup, trail } => write!(
                f,
                "store restored from a backup that ends at {backup}, with the trail up to {trail}"
            ),
            Self::TimeSetBack { from, to, revived } => {
                write!(
                    f,
                    "time set back from {from} to {to}, {revived} keys revived"
                )
            }
            Self::OwnerUpdated {
                keyspace,
                owner,
                changes,
            } => {
                write!(f, "owner {owner} updated in {keyspace}: {}", List(changes))
            }
            Self::OwnerQuotaBegun { keyspace, owner } => {
                write!(f, "quota of owner {owner} begun in {keyspace}")
            }
            Self::ExtensionChanged {
                extension,
                event,
                subject,
                note,
            } => {
                write!(f, "{extension} {event} {subject:?}")?;
                noting(f, note.as_deref())
            }
            Self::ImportChanged { import, changes } if changes.is_empty() => {
                write!(f, "import {import} begun")
            }
            Self::ImportChanged { import, changes } => {
                write!(f, "import {import} updated: {}", List(changes))
            }
            Self::KeysImported { import, keys } => {
                write!(f, "keys [{}] imported by {import}", List(keys))
            }
            Self::KeyClaimed { import, key } => write!(f, "key {key} of {import} claimed"),
            Self::RevokedKeysNamed { entry, scope, keys } => {
                let keys = List(keys);
                write!(f, "keys [{keys}] of {scope} were revoked by entry {entry}")
            }
            Self::ImportEnded { import, keys } => {
                write!(
                    f,
                    "keys [{}] of {import} revoked, unused at its sunset",
                    List(keys)
                )
            }
            Self::KeysPurged { keys } => write!(f, "keys [{}] purged", List(keys)),
            Self::KeyReissued { old, new } => write!(f, "key {old} reissued as {new}, unused"),
            Self::StoreRepaired { repairs, .. } => write!(f, "store repaired: {}", List(repairs)),
            Self::AuditBroken { entries } => {
                write!(f, "audit entries [{}] marked as broken", List(entries))
            }
            Self::DigestsRenewed { pepper, keys } => {
                write!(
                    f,
                    "digests of keys [{}] renewed under pepper {pepper}",
                    List(keys)
                )
            }
        }
    }
}

/// The record and the step are quoted: both may contain anything.
impl Display for Repair {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            table,
            record,
            done,
        } = self;
        write!(f, "{table} {record:?} {done:?}")
    }
}

fn superseding(f: &mut Formatter<'_>, keys: &[crate::model::id::KeyId]) -> fmt::Result {
    match keys {
        [] => Ok(()),
        keys => write!(f, ", superseding [{}]", List(keys)),
    }
}

fn noting(f: &mut Formatter<'_>, note: Option<&str>) -> fmt::Result {
    match note {
        Some(note) => write!(f, ", note {note:?}"),
        None => Ok(()),
    }
}

/// Items with commas between.
struct List<'a, T>(&'a [T]);

impl<T: Display> Display for List<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (at, item) in self.0.iter().enumerate() {
            write!(f, "{}{item}", if at > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::clock::Timestamp;
    use crate::model::id::KeyId;
    use crate::model::reason::Reason;

    #[test]
    fn an_entry_is_one_line_with_one_reading() {
        let entry = |actor: Option<&str>, event| AuditEntry {
            seq: 7,
            at: Timestamp::from_raw(0),
            actor: actor.map(str::to_owned),
            event,
        };
        let key = KeyId::from_raw(1);
        let revoked = |note: Option<&str>| AuditEvent::KeyRevoked {
            key,
            reason: Reason::KeyCompromise,
            note: note.map(str::to_owned),
        };
        let head = "7 1970-01-01T00:00:00Z";
        let tail = "key 0000000001 revoked for key compromise";
        let text = |actor, event| entry(actor, event).to_string();
        assert_eq!(text(None, revoked(None)), format!("{head} - {tail}"));
        assert_eq!(
            text(Some("-"), revoked(Some("a\", note \"b"))),
            format!(r#"{head} "-" {tail}, note "a\", note \"b""#)
        );
        let forged = format!("alice\" {tail}");
        assert_eq!(
            text(Some(&forged), AuditEvent::KeyEnabled { key }),
            format!(r#"{head} "alice\" {tail}" key 0000000001 enabled"#)
        );
        let changes = vec![
            Change {
                field: "name".to_owned(),
                before: "none".to_owned(),
                after: super::super::quoted("a], labels [none] -> [b"),
            },
            Change {
                field: "permissions".to_owned(),
                before: String::new(),
                after: "read, write".to_owned(),
            },
        ];
        assert_eq!(
            AuditEvent::KeyUpdated { key, changes }.to_string(),
            r#"key 0000000001 updated: name [none] -> ["a], labels [none] -> [b"], permissions [] -> [read, write]"#
        );
    }
}
