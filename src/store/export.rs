//! Exports of the audit trail, and their verification without the store.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{BufRead, Read as _};

use crate::crypto::digest::{ChainKey, DIGEST_LEN};
use crate::model::audit::link::{AuditSpan, Link};
use crate::model::audit::{AuditEntry, AuditEvent};
use crate::model::error::{Error, Invalid, Result, StoreFailure};
use crate::model::hex::{Hex, unhex};
use crate::store::codec;
use crate::store::read::decode_audit_with;

/// The first line of an export.
const HEADING: &str = "gatekey audit trail 1";
/// The longest line that is read, in bytes: an entry of the longest encoding.
const LINE_LEN_MAX: u64 = 4 * codec::LEN_MAX as u64;

/// The key that verifies exports of a store's audit trail without the store.
///
/// It derives from the store's key, and reveals neither that key nor any token. But its
/// holder can forge entries that verify: give it to the party that verifies an export,
/// not to the one that delivers it. It is wiped from memory on drop, and `Debug` does
/// not show it.
pub struct AuditKey(ChainKey);

impl AuditKey {
    /// Makes a key from the bytes that [`expose`](AuditKey::expose) returned.
    ///
    /// ```
    /// # use gatekey::Engine;
    /// use gatekey::AuditKey;
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// let mut export = Vec::new();
    /// engine.export_audit(0, &mut export)?;
    /// let kept: [u8; 32] = *engine.audit_key().expose();
    /// // Later, on the auditor's machine:
    /// let span = gatekey::verify_audit_export(&export[..], &AuditKey::new(kept), |_| Ok(()))?;
    /// assert_eq!(span.entries(), 0);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn new(bytes: [u8; DIGEST_LEN]) -> Self {
        Self(ChainKey::new(bytes))
    }

    pub(crate) fn of(key: ChainKey) -> Self {
        Self(key)
    }

    pub(crate) fn chain(&self) -> &ChainKey {
        &self.0
    }

    /// Returns its bytes, to keep where exports are verified.
    #[must_use]
    pub fn expose(&self) -> &[u8; DIGEST_LEN] {
        self.0.expose()
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuditKey(withheld)")
    }
}

/// Reads an export of [`Engine::export_audit`](crate::Engine::export_audit), verifies
/// each entry, and calls `each` with it; then returns the span of the trail that it
/// covers.
///
/// It needs no store. If nobody who could write the export has the key, `Ok` proves:
/// the entries are the store's, none was altered, none is missing between
/// [`after`](AuditSpan::after) and [`last`](AuditSpan::last), and none was inserted.
/// For damaged entries the export has only the positions, and a later entry, written by
/// [`Engine::repair`](crate::Engine::repair), marks each; the function does not call
/// `each` for them. Compare `after` with the `last` of the previous export, and `last`
/// with a link saved elsewhere: an export alone cannot show that nothing comes after
/// it. Without the key, only the links can be compared.
///
/// Reads the export once, line by line.
///
/// # Errors
/// [`Error::Corrupted`] names the first entry that does not follow the one before it;
/// [`Invalid::Malformed`] for a text that is not an export, or is cut off;
/// [`Error::Store`] where it cannot be read. An error of `each` ends the call.
///
/// ```
/// # use gatekey::{Engine, NewKeyspace};
/// # let engine = Engine::open_in_memory()?;
/// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
/// let mut export = Vec::new();
/// engine.export_audit(0, &mut export)?;
/// let key = engine.audit_key();
///
/// let span = gatekey::verify_audit_export(export.as_slice(), &key, |entry| {
///     println!("{} {:?} {:?}", entry.at, entry.actor, entry.event);
///     Ok(())
/// })?;
/// assert_eq!((span.after.seq, span.last.seq), (0, 1));
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
pub fn verify_audit_export(
    export: impl BufRead,
    key: &AuditKey,
    each: impl FnMut(AuditEntry) -> Result<()>,
) -> Result<AuditSpan> {
    verify_with(export, &key.0, |_| Ok(()), each)
}

/// As [`verify_audit_export`]; `each_link` is called with each place before the entry
/// that follows on it, from the one after which the export begins.
pub(crate) fn verify_with(
    mut export: impl BufRead,
    key: &ChainKey,
    mut each_link: impl FnMut(Link) -> Result<()>,
    mut each: impl FnMut(AuditEntry) -> Result<()>,
) -> Result<AuditSpan> {
    let mut line = String::new();
    let mut number = 0;
    let mut next = |line: &mut String| -> Result<()> {
        number += 1;
        line.clear();
        let read = export.by_ref().take(LINE_LEN_MAX).read_line(line);
        read.map_err(|error| failed(&error))?;
        match line.pop() {
            Some('\n') => Ok(()),
            // Also the line that was cut off.
            _ => Err(malformed(number, "it ends before its last line")),
        }
    };
    next(&mut line)?;
    if line != HEADING {
        return Err(malformed(1, "its first line is not that of an export"));
    }
    next(&mut line)?;
    let after: Link = match line.strip_prefix("after ") {
        Some(link) => link.parse()?,
        None => return Err(malformed(2, "it does not say after what it begins")),
    };
    let mut last = after;
    // Positions that the export says are broken, and that no entry has marked yet.
    let mut broken = BTreeSet::new();
    loop {
        each_link(last)?;
        next(&mut line)?;
        if let Some(link) = line.strip_prefix("last ") {
            if let Some(seq) = broken.first() {
                let why = "the export says that it is broken, and no entry marks it so";
                return Err(Error::corrupted("audit", seq, why));
            }
            return match link.parse::<Link>()? == last {
                true => Ok(AuditSpan::new(after, last)),
                false => Err(malformed(number, "it does not end where it says")),
            };
        }
        let seq = last.seq + 1;
        if let Some(link) = line.strip_prefix("broken ") {
            last = link.parse()?;
            if last.seq != seq {
                let why = format!("it is not the entry with position {seq}");
                return Err(malformed(number, &why));
            }
            broken.insert(seq);
            continue;
        }
        let entry = line.split_once(' ').and_then(|(named, hex)| {
            let is_next = named.parse() == Ok(seq);
            is_next.then(|| unhex(hex)).flatten()
        });
        let Some(bytes) = entry else {
            let why = format!("it is not the entry with position {seq}");
            return Err(malformed(number, &why));
        };
        let (entry, hash) = decode_audit_with(key, &last.hash, seq, &bytes)?;
        last = Link::new(seq, hash);
        if let AuditEvent::AuditBroken { entries } = &entry.event {
            for marked in entries {
                broken.remove(marked);
            }
        }
        each(entry)?;
    }
}

/// The lines of an export, each with its end.
pub(crate) struct Lines;

impl Lines {
    pub(crate) fn first(after: Link) -> String {
        format!("{HEADING}\nafter {after}\n")
    }

    /// An entry as it is stored, its hash behind it.
    pub(crate) fn entry(seq: u64, stored: &[u8]) -> String {
        format!("{seq} {}\n", Hex(stored))
    }

    /// An entry that cannot be read, and on what the next follows.
    pub(crate) fn broken(link: Link) -> String {
        format!("broken {link}\n")
    }

    pub(crate) fn last(last: Link) -> String {
        format!("last {last}\n")
    }
}

pub(crate) fn failed(error: &std::io::Error) -> Error {
    let text = format!("the export of the audit trail: {error}");
    Error::Store(StoreFailure::new(text, Some(error.kind())))
}

fn malformed(line: u64, why: &str) -> Error {
    Invalid::malformed("audit export", &format!("line {line}"), why).into()
}
