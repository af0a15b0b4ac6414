//! The limits on everything that a caller can pass in. A call with input over a limit
//! fails with [`Invalid`], before any work, and changes nothing.
//!
//! # Free text
//! Names, descriptions, labels, notes and actors are shown in logs, listings and the
//! audit trail. So they must not contain control characters, line breaks, characters
//! that change the direction of text, or invisible characters (Unicode's
//! `Default_Ignorable_Code_Point`). The joiners U+200C and U+200D are allowed between
//! two letters of a script that joins (Arabic to Sinhala, Myanmar, Khmer, Mongolian),
//! and U+200D between two emoji; the selectors U+FE0E and U+FE0F behind an emoji. Flags
//! that are spelled with tag characters are refused. What is stored already stays, and
//! is looked at again only where it is changed.
//!
//! Those of a type stand on the type: [`OwnerPath::LEN_MAX`](crate::OwnerPath::LEN_MAX),
//! [`Prefix::LEN_MAX`](crate::Prefix::LEN_MAX), [`Pepper::LEN_MIN`](crate::Pepper::LEN_MIN),
//! [`Permissions::COUNT_MAX`](crate::Permissions::COUNT_MAX).

use std::collections::BTreeMap;

use crate::model::error::{Error, Invalid};
use crate::model::text;

/// The longest name of a key, in bytes.
pub const NAME_LEN_MAX: usize = 128;
/// The longest description of a key or a keyspace, in bytes.
pub const DESCRIPTION_LEN_MAX: usize = 1024;
/// The longest note on a revocation or a suspension, in bytes.
pub const NOTE_LEN_MAX: usize = 512;
/// The longest name of an actor, in bytes.
pub const ACTOR_LEN_MAX: usize = 128;
/// The longest name of a permission or a plan, in bytes.
pub const IDENTIFIER_LEN_MAX: usize = 64;
/// The most labels of a key.
pub const LABELS_MAX: usize = 16;
/// The longest name of a label, in bytes.
pub const LABEL_NAME_LEN_MAX: usize = 64;
/// The longest value of a label, in bytes.
pub const LABEL_VALUE_LEN_MAX: usize = 256;
/// The most networks of a key.
pub const NETWORKS_MAX: usize = 16;
/// The most plans of a keyspace.
pub const PLANS_MAX: usize = 64;
/// The most limits of a plan.
pub const LIMITS_PER_PLAN_MAX: usize = 4;
/// The most keys that one batch issues.
pub const BATCH_MAX: usize = 10_000;
/// The most requests under idempotency keys that a store remembers; a batch counts as one
/// for each 128 keys.
pub const REQUESTS_MAX: u64 = 65_536;
/// The most owners of a store that have settings of their own, an owner counted once for
/// each keyspace. All of them are in memory.
pub const OWNER_SETTINGS_MAX: u64 = 1_000_000;
/// The most keyspaces of a store.
pub const KEYSPACES_MAX: usize = 1024;
/// The most imports of a store.
pub const IMPORTS_MAX: usize = 255;
/// The most keys or audit entries in one page of a listing.
pub const PAGE_MAX: usize = 1000;

/// Refuses free text that is too long or has what a reader could not see, or would see
/// in another place: controls, ends of lines, changes of direction, and all that is
/// hidden. [`text`](crate::text) has the rule.
pub(crate) fn validate_text(what: &'static str, text: &str, max: usize) -> Result<(), Error> {
    if text.len() > max {
        return Err(Invalid::malformed(what, text, format!("longer than {max} bytes")).into());
    }
    match text::flaw(text) {
        Some(why) => Err(Invalid::malformed(what, text, why).into()),
        None => Ok(()),
    }
}

/// As [`validate_text`], and not empty.
pub(crate) fn validate_name(what: &'static str, text: &str, max: usize) -> Result<(), Error> {
    if text.is_empty() {
        return Err(Invalid::malformed(what, text, "it is empty").into());
    }
    validate_text(what, text, max)
}

pub(crate) fn validate_count(what: &'static str, count: usize, max: usize) -> Result<(), Error> {
    if count > max {
        return Err(Invalid::TooMany { what, count, max }.into());
    }
    Ok(())
}

pub(crate) fn validate_labels(labels: &BTreeMap<String, String>) -> Result<(), Error> {
    validate_count("labels", labels.len(), LABELS_MAX)?;
    for (name, value) in labels {
        validate_label(name, value)?;
    }
    Ok(())
}

pub(crate) fn validate_label(name: &str, value: &str) -> Result<(), Error> {
    validate_name("label name", name, LABEL_NAME_LEN_MAX)?;
    validate_text("label value", value, LABEL_VALUE_LEN_MAX)
}

/// A name of a permission or a plan: 1 to 64 of `A-Z a-z 0-9 . _ : / -`.
pub(crate) fn validate_identifier(what: &'static str, name: &str) -> Result<(), Error> {
    validate_name(what, name, IDENTIFIER_LEN_MAX)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/-".contains(&byte);
    if !name.bytes().all(allowed) {
        let why = "it has a character that is none of A-Z a-z 0-9 . _ : / -";
        return Err(Invalid::malformed(what, name, why).into());
    }
    Ok(())
}
