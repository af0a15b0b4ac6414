//! The way of a verification for a text that is no token of gatekey's own: it may be one that
//! another system issued, and whose key was imported.

use std::time::Instant;

use crate::crypto::digest::digests_equal;
use crate::crypto::foreign::Known;
use crate::engine::prove::Proven;
use crate::engine::shared::Core;
use crate::engine::verify::{ROUNDS_MAX, never_settled};
use crate::memory::tally::Way;
use crate::memory::usage::Renewal;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, NotFound};
use crate::model::id::KeyId;
use crate::model::outcome::Outcome;
use crate::model::permissions::Permissions;
use crate::model::reason::Reason;
use crate::model::requirements::Requirements;
use crate::model::verdict::{Denial, Verdict};
use crate::store::foreign::{Foreign, Found};
use crate::store::hot::HotCopy;
use crate::store::record::Scheme;
use crate::store::snapshot::Snapshot;
use crate::sync::atomic::Ordering;

/// What was found of a text in the newest snapshot.
pub(super) enum Looked<'t, 'c> {
    /// No key has it.
    Denied(Denial),
    Proven(Found<'t>, Proven<'c>),
}

/// Whether the record that an index names is that of the token. This is the only place that
/// decides it, as `engine/prove.rs` is for tokens of gatekey's own.
fn is_proven(found: &Found<'_>, copy: &HotCopy) -> bool {
    copy.view().is_some_and(|view| {
        view.id() == found.id
            && matches!(view.scheme(), Scheme::Unseen | Scheme::Seen)
            && view.pepper() == found.pepper
            && digests_equal(&found.digest, view.digest())
    })
}

impl Core {
    /// Verifies a text that is no token of gatekey's own.
    #[cold]
    #[inline(never)]
    pub(super) fn verify_foreign(
        &self,
        text: &[u8],
        requirements: &Requirements<'_>,
    ) -> Result<Verdict, Error> {
        // An engine that has just come back has set the flag before it said so: a text is
        // malformed where there is no such key *after* that was asked.
        let has_none = || !self.has_foreign.load(Ordering::Acquire);
        if has_none() {
            self.must_be_open()?;
            if has_none() {
                self.notes.count_unattributed(Outcome::Malformed);
                return Ok(Verdict::Denied(Denial::Malformed));
            }
        }
        let mut begun = None;
        let verdict = self.answer_foreign(text, requirements, &mut begun);
        if let Some(begun) = begun {
            self.notes.read_file(begun.elapsed());
        }
        verdict
    }

    fn answer_foreign(
        &self,
        text: &[u8],
        requirements: &Requirements<'_>,
        begun: &mut Option<Instant>,
    ) -> Result<Verdict, Error> {
        let mut copy = HotCopy::new();
        for _ in 0..ROUNDS_MAX {
            let (found, proven) = match self.look_for_foreign(text, &mut copy, begun)? {
                Looked::Denied(denial) => {
                    self.notes.count_unattributed(Outcome::of_denial(&denial));
                    return Ok(Verdict::Denied(denial));
                }
                Looked::Proven(found, proven) => (found, proven),
            };
            if let Some(denial) = self.ended(&found, &proven, requirements) {
                return self.deny(&proven.view, denial, Way::File);
            }
            let left = requirements.beyond_paid(self.identity(), found.id);
            let Some(verdict) = self.conclude(&proven, None, &left, Way::File)? else {
                continue;
            };
            if verdict.is_granted() {
                requirements.note_granted(self.identity(), found.id);
                self.note_foreign(&found, &proven);
            }
            return Ok(verdict);
        }
        Err(never_settled())
    }

    /// Finds the key of a text, and proves that the text is its token. Notes when that began,
    /// where the text has the shape of an import; else there is nothing to find.
    pub(super) fn look_for_foreign<'t, 'c>(
        &'c self,
        text: &'t [u8],
        copy: &'c mut HotCopy,
        begun: &mut Option<Instant>,
    ) -> Result<Looked<'t, 'c>, Error> {
        let mut begin = || {
            begun.get_or_insert_with(Instant::now);
            self.look_home()
        };
        let found = loop {
            let published = self.published.load();
            let snapshot = published.as_ref().ok_or_else(|| self.unavailable())?;
            match snapshot.foreign(text, copy, &mut begin) {
                Err(_) if self.is_replaced(snapshot) => {}
                found => break found?,
            }
        };
        let found = match found {
            Foreign::Shapeless => return Ok(Looked::Denied(Denial::Malformed)),
            Foreign::Unknown => return Ok(Looked::Denied(Denial::Unknown)),
            Foreign::Found(found) => found,
        };
        let copy: &'c HotCopy = copy;
        let Some(view) = copy.view().filter(|_| is_proven(&found, copy)) else {
            return Ok(Looked::Denied(Denial::Unknown));
        };
        let entry = self.entry_of(&view)?;
        let proven = Proven::new(view, entry, Permissions::ALL);
        Ok(Looked::Proven(found, proven))
    }

    /// The key of a token of another system, in any state.
    pub(super) fn find_foreign(&self, text: &[u8], snapshot: &Snapshot) -> Result<KeyId, Error> {
        let mut copy = HotCopy::new();
        match snapshot.foreign(text, &mut copy, &mut || Ok(()))? {
            Foreign::Found(found) if is_proven(&found, &copy) => Ok(found.id),
            _ => Err(NotFound::Token.into()),
        }
    }

    /// Whether a text is the token of a key that was imported. Where that is not known, it is
    /// taken for one, and its verification is the error.
    #[cfg(feature = "tower")]
    pub(super) fn is_foreign_token(&self, text: &[u8]) -> bool {
        let found = self.read(|snapshot| self.find_foreign(text, snapshot));
        !matches!(found, Err(Error::NotFound(_)))
    }

    /// Whether the sunset of its import has ended a key that was never used. A flush revokes
    /// it; this is the answer until then.
    pub(super) fn ended(
        &self,
        found: &Found<'_>,
        proven: &Proven<'_>,
        requirements: &Requirements<'_>,
    ) -> Option<Denial> {
        let sunset: Timestamp = found.sunset?;
        let keyspace = requirements.keyspace;
        if keyspace.is_some_and(|prefix| prefix != proven.entry.prefix) {
            return None;
        }
        let present = self.present();
        if present.at < sunset {
            return None;
        }
        let denial = Denial::Revoked {
            key: found.id,
            at: sunset,
            reason: Reason::Cessation,
        };
        self.hold_time(&denial, present);
        Some(denial)
    }

    /// Notes that a key was seen for the first time, or has a digest under an older pepper.
    fn note_foreign(&self, found: &Found<'_>, proven: &Proven<'_>) {
        let view = &proven.view;
        let is_new = !view.scheme().is_unseen() && found.pepper >= self.signing_pepper();
        if is_new || self.notes.awaits_renewal(found.id) {
            return;
        }
        let (pepper, new) = Known::text(found.part).sign(self.ring());
        self.notes.renew(Renewal {
            id: found.id,
            old: found.digest,
            pepper,
            new,
        });
    }
}
