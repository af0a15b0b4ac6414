//! Restoring a backup without un-revoking a key.

use std::collections::BTreeMap;
use std::fmt;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use crate::change::restore::{self, Fates, KeyFate};
use crate::crypto::digest::digests_equal;
use crate::engine::handle::Engine;
use crate::engine::options::Options;
use crate::model::audit::AuditEvent;
use crate::model::audit::link::Link;
use crate::model::bounds;
use crate::model::error::{Conflict, Error, Invalid, Result};
use crate::model::id::KeyId;
use crate::model::key::Revocation;
use crate::store::aside::Aside;
use crate::store::check::CheckReport;
use crate::store::export::verify_with;

/// How many keys one transaction narrows.
const PER_TRANSACTION: usize = 1000;

/// Creates a store from a backup, and applies again every restriction made since the
/// backup.
///
/// A backup by itself un-revokes every key revoked after it was taken. A restore copies
/// the backup to another name, applies restrictions to the copy, and only then gives it
/// the target's name: no engine can open it before. The restrictions come from an
/// export of the audit trail since the backup ([`Engine::export_audit`]), from a list
/// of keys, or from both.
///
/// # What a trail brings back
/// The trail is verified with the store's key, and must continue the backup. Keys in the
/// backup end up with what both the backup and the end of the trail allow:
/// - keys that were revoked, superseded or rotated are revoked again, with reason, note
///   and actor; a key in the grace of a rotation expires when its grace ends;
/// - keys that were disabled are disabled, owners that were suspended are suspended;
/// - shortened expiries, withdrawn or retired permissions and narrowed networks are
///   applied again;
/// - a key that has expired, and from which the trail took anything, is revoked;
/// - a key is disabled where the trail does not say enough about how it was changed.
///
/// A restore does not repeat what widened a right: keys issued or rotated to (see
/// [`Restored::lost`]), keyspaces, permissions, later expiries, keys enabled, owners
/// resumed. Names, labels, plans, quotas and their remainders are as in the backup.
///
/// The store's audit trail goes on from the backup's, with an entry that names both
/// ends of what was applied. `docs/RESTORE.md` has the steps.
///
/// ```
/// # use gatekey::{Engine, NewKey, NewKeyspace, Reason};
/// use gatekey::{Options, Restore};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let at = |name: &str| dir.path().join(name);
/// let engine = Engine::create(at("keys.redb"))?;
/// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
/// let leaked = engine.issue(NewKey::new("acme_live", "acme")?)?;
/// let backup = engine.backup(at("monday.redb"))?;
/// engine.revoke(leaked.key.id, Reason::KeyCompromise)?;
/// let mut trail = Vec::new();
/// engine.export_audit(backup.audit_seq + 1, &mut trail)?;
/// engine.close()?; // and its file is lost
///
/// let restored = Restore::new(at("monday.redb"), Options::new())
///     .trail(trail.as_slice())
///     .acting_as("alice")
///     .to(at("restored.redb"))?;
/// assert_eq!(restored.revoked, 1);
/// let engine = Engine::open(at("restored.redb"))?;
/// assert!(!engine.verify(leaked.token.expose())?.is_granted());
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[must_use]
pub struct Restore<'a> {
    backup: PathBuf,
    options: Options,
    trail: Vec<Box<dyn BufRead + 'a>>,
    revoked: Vec<(KeyId, Revocation)>,
    actor: Option<String>,
}

impl fmt::Debug for Restore<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restore")
            .field("backup", &self.backup)
            .field("exports", &self.trail.len())
            .field("revoked", &self.revoked.len())
            .finish_non_exhaustive()
    }
}

/// The result of a restore: see [`Restore::to`].
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Restored {
    /// The end of the backup's audit trail.
    pub backup: Link,
    /// The end of the applied trail; the same as `backup` without a trail.
    pub trail: Link,
    /// How many keys were revoked.
    pub revoked: u64,
    /// How many keys were disabled.
    pub disabled: u64,
    /// How many keys got an earlier expiry, fewer permissions or narrower networks.
    pub narrowed: u64,
    /// How many owners were suspended.
    pub suspended: u64,
    /// How many of the keys to be restricted are damaged in the backup; they grant
    /// nothing.
    pub damaged: u64,
    /// The keys that, by the trail, were issued or rotated to since the backup and not
    /// purged. The store does not know their tokens.
    pub lost: Vec<KeyId>,
    /// How many changes of each [extension](crate::extension::Extension) the trail has. They are not
    /// applied: what they took away the extension takes away again, by a call of its own.
    pub extensions: BTreeMap<String, u64>,
    /// The report of [`Engine::check`] on the store, from before it got its name.
    pub report: CheckReport,
}

impl<'a> Restore<'a> {
    /// Starts a restore of a backup, or of any closed store, with the options (peppers,
    /// clock, memory) that open it.
    pub fn new(backup: impl Into<PathBuf>, options: Options) -> Self {
        Self {
            backup: backup.into(),
            options,
            trail: Vec::new(),
            revoked: Vec::new(),
            actor: None,
        }
    }

    /// Adds an export of the audit trail. With several, add them in order: the first
    /// begins at or before the backup's end, each other one at or before the end of an
    /// earlier one.
    pub fn trail(mut self, export: impl BufRead + 'a) -> Self {
        self.trail.push(Box::new(export));
        self
    }

    /// Adds keys to revoke, whatever the trail says of them. Keys that the backup does
    /// not hold are ignored.
    pub fn revoke(
        mut self,
        keys: impl IntoIterator<Item = KeyId>,
        revocation: impl Into<Revocation>,
    ) -> Self {
        let revocation = revocation.into();
        let keys = keys.into_iter().map(|key| (key, revocation.clone()));
        self.revoked.extend(keys);
        self
    }

    /// Sets the actor that the audit trail records.
    pub fn acting_as(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    /// Creates the store at `target`, where no file may exist.
    ///
    /// Until it is complete, the store has that name with `.restore` appended. The
    /// backup is only read. At the end, the call reads the whole store once more, for
    /// [`Restored::report`].
    ///
    /// # Errors
    /// [`Conflict::TargetExists`], and [`Conflict::RestoreUnderWay`] while the file
    /// that a crash has left exists; [`Error::Open`] where the backup cannot be opened,
    /// or is a store in use. [`Error::Corrupted`] for a trail that was altered or does
    /// not continue this backup, [`Invalid::Malformed`] for one that begins too late,
    /// ends before the backup, or was cut off. After an error, nothing is left under
    /// the name.
    pub fn to(self, target: impl AsRef<Path>) -> Result<Restored> {
        if let Some(actor) = &self.actor {
            bounds::validate_name("actor", actor, bounds::ACTOR_LEN_MAX)?;
        }
        for (_, revocation) in &self.revoked {
            revocation.validate()?;
        }
        let target = target.as_ref();
        let aside = Aside::begin("restore", target, ".restore", Conflict::RestoreUnderWay)?;
        aside.fill_from(&self.backup)?;
        let options = self.options.usage_interval(None).verify_file(true);
        let engine = options.open(aside.partial());
        // An error in the copy is an error in the backup.
        let engine = engine.map_err(|error| match error {
            Error::Open { reason, .. } => Error::open(Some(&self.backup), reason),
            other => other,
        })?;
        let engine = match self.actor {
            Some(actor) => engine.acting_as(actor)?,
            None => engine,
        };
        let restored = apply(&engine, self.trail, self.revoked).and_then(|restored| {
            let report = engine.check()?;
            Ok(Restored { report, ..restored })
        });
        let closed = engine.close();
        let restored = restored?;
        closed?;
        aside.finish()?;
        Ok(restored)
    }
}

fn apply(
    engine: &Engine,
    trail: Vec<Box<dyn BufRead + '_>>,
    revoked: Vec<(KeyId, Revocation)>,
) -> Result<Restored> {
    let backup = engine.audit_span()?.last;
    let mut fates = Fates::default();
    let mut reached = backup;
    for export in trail {
        reached = follow(engine, export, reached, &mut fates)?;
    }
    let actor = engine.actor().map(str::to_owned);
    for (key, revocation) in revoked {
        fates.revoke(key, revocation, actor.clone());
    }
    if let Some(at) = fates.at {
        engine.hold_time(at);
    }
    engine.change(move |tx, actor| {
        let event = AuditEvent::StoreRestored {
            backup,
            trail: reached,
        };
        tx.audit(actor, event)
    })?;

    let mut restored = Restored {
        backup,
        trail: reached,
        revoked: 0,
        disabled: 0,
        narrowed: 0,
        suspended: 0,
        damaged: 0,
        lost: fates.lost.into_iter().collect(),
        extensions: fates.extensions,
        report: CheckReport::default(),
    };
    for sweep in fates.sweeps {
        restored.revoked += engine.change(move |tx, _| restore::sweep(tx, &sweep))?;
    }
    for (path, fate) in fates.owners {
        let is_new = engine.change(move |tx, _| restore::suspend(tx, &path, &fate))?;
        restored.suspended += u64::from(is_new);
    }
    engine.core.bring_left_up()?;
    let keys: Vec<(KeyId, KeyFate)> = fates.keys.into_iter().collect();
    for some in keys.chunks(PER_TRANSACTION) {
        let some = some.to_vec();
        let taken = engine.change(move |tx, actor| restore::narrow(tx, &some, actor))?;
        restored.revoked += taken.revoked;
        restored.disabled += taken.disabled;
        restored.narrowed += taken.narrowed;
        restored.damaged += taken.damaged;
    }
    // Last, since a key's lost permissions are given by names that must still be in
    // use.
    for (prefix, names) in fates.retired {
        engine.change(move |tx, actor| restore::retire(tx, prefix, &names, actor))?;
    }
    Ok(restored)
}

/// Reads an export from a link that must be in it, and returns its end.
fn follow(
    engine: &Engine,
    export: Box<dyn BufRead + '_>,
    reached: Link,
    fates: &mut Fates,
) -> Result<Link> {
    let mut is_met = false;
    let key = engine.audit_key();
    let span = verify_with(
        export,
        key.chain(),
        |link| {
            if link.seq == reached.seq {
                if !digests_equal(&link.hash, &reached.hash) {
                    let why = "the trail does not continue this backup";
                    return Err(Error::corrupted("audit export", link.seq, why));
                }
                is_met = true;
            }
            if link.seq > reached.seq && !is_met {
                return Err(apart("begins", link, reached));
            }
            Ok(())
        },
        |entry| {
            if entry.seq > reached.seq {
                fates.follow(entry);
            }
            Ok(())
        },
    )?;
    match is_met {
        true => Ok(span.last),
        false => Err(apart("ends", span.last, reached)),
    }
}

fn apart(how: &str, at: Link, reached: Link) -> Error {
    let why = format!(
        "it {how} at audit entry {}, and what it is to continue ends at {}",
        at.seq, reached.seq
    );
    Invalid::malformed("audit export", &at.seq.to_string(), why).into()
}
