use std::collections::HashSet;
use std::io::ErrorKind;
use std::mem::discriminant;
use std::time::Duration;

use super::*;
use crate::model::id::{KeyId, Prefix};
use crate::model::owner::OwnerPath;
use crate::model::permissions::Permissions;

fn failure() -> StoreFailure {
    StoreFailure::new("No space left on device", Some(ErrorKind::StorageFull))
}

fn key() -> KeyId {
    "01ABcdEFgh".parse().unwrap()
}

fn prefix() -> Prefix {
    "acme_live".parse().unwrap()
}

fn owner() -> OwnerPath {
    "acme/ingest".parse().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Each text of [`Error`] itself.
fn errors() -> Vec<(Error, &'static str)> {
    let io = || Arc::new(std::io::Error::other("too many threads"));
    vec![
        (
            Error::open(Some(Path::new("keys.redb")), OpenError::ReadOnly),
            "cannot open the store at keys.redb: the file is read-only; let the engine write to \
             it and to its directory",
        ),
        (
            Error::Batch {
                index: 3,
                source: Box::new(Error::NotFound(NotFound::Key(key()))),
            },
            "item 3 of the batch: there is no key 01ABcdEFgh; nothing of the batch was applied",
        ),
        (
            Error::corrupted("keys", key(), "its tag is wrong"),
            "the store is corrupted: record 01ABcdEFgh of table keys: its tag is wrong; run a \
             check, and restore from a backup",
        ),
        (
            Error::OutcomeUnknown(failure()),
            "the commit failed (No space left on device), and its outcome is unknown; read the \
             state again once the store takes changes",
        ),
        (
            Error::Store(failure()),
            "the store failed: No space left on device",
        ),
        (
            Error::NeedsReopen,
            "the store's file was removed or replaced, so the engine takes no more changes; put \
             the file back, or close the engine and open the store again",
        ),
        (
            Error::FailedClosed {
                since: Timestamp::MIN,
            },
            "the store has taken no changes since 1970-01-01T00:00:00Z, longer than \
             fail_closed_after allows, so no token is verified",
        ),
        (
            Error::Log(LogError::new("it does not answer")),
            "the fleet's log failed: it does not answer",
        ),
        (
            Error::NotFresh {
                why: Some(LogError::new("it does not answer")),
            },
            "this server has had no news of the fleet's log for longer than its lease, so no token \
             is verified: it does not answer",
        ),
        (Error::Closed, "the engine is closed; open the store again"),
        (
            Error::Forked,
            "this process is a fork of the one that opened the engine, and cannot use it; open \
             the store after forking or daemonizing, in one process",
        ),
        (
            Error::Entropy("EIO".to_owned()),
            "the operating system's random generator failed: EIO",
        ),
        (
            Error::Thread(io()),
            "cannot start the maintenance thread: too many threads",
        ),
        (
            Error::Internal("a record is over its limits"),
            "internal fault of gatekey, please report it: a record is over its limits",
        ),
    ]
}

/// Each text of [`OpenError`].
fn open_errors() -> Vec<(OpenError, &'static str)> {
    vec![
        (
            OpenError::InUse,
            "another engine, in this process or another, has the store open; close that one first",
        ),
        (
            OpenError::not_a_store("it is too short"),
            "the file is not a gatekey store: it is too short",
        ),
        (
            OpenError::NewerFormat {
                found: 9,
                supported: 1,
            },
            "its format is version 9, and this gatekey reads up to version 1; use a newer gatekey",
        ),
        (
            OpenError::ReadOnly,
            "the file is read-only; let the engine write to it and to its directory",
        ),
        (
            OpenError::MissingDirectory("/srv/keys".into()),
            "the directory /srv/keys does not exist; create it, or correct the path",
        ),
        (
            OpenError::Missing,
            "the file does not exist or is empty; if its volume is mounted and a new store is \
             wanted, call create or open_or_create",
        ),
        (
            OpenError::Exists,
            "the file exists already; call open to open it",
        ),
        (
            OpenError::WrongPepper { id: 2 },
            "the pepper with id 2 has not the bytes that this store knows; give those, or another \
             id to a new pepper",
        ),
        (
            OpenError::UnknownPepper {
                given: vec![3, 4],
                known: vec![1, 2],
            },
            "none of the peppers given (ids [3, 4]) is known to this store (ids [1, 2]); give one \
             that is",
        ),
        (
            OpenError::InFleet,
            "the store is of a fleet; open it with the fleet's log, or let it leave the fleet first",
        ),
        (
            OpenError::NotInFleet,
            "the store is not of this fleet; found the fleet with it, or join with a path at which \
             there is no file",
        ),
        (
            OpenError::MissingPepper { id: 1, keys: 70 },
            "70 keys are still hashed under the pepper with id 1, which was not given; give it as \
             well",
        ),
        (
            OpenError::PepperRequired { known: vec![1] },
            "the store was made with a pepper (ids [1]), and none was given; give it",
        ),
        (
            OpenError::PepperNotExpected,
            "the store was made without a pepper, and one was given; make sure that it is your \
             store, and give none",
        ),
        (
            OpenError::Options("two peppers have the id 1".to_owned()),
            "invalid option: two peppers have the id 1",
        ),
        (
            OpenError::Corrupted("page 7".to_owned()),
            "the store is corrupted: page 7; if the file is a copy made while the store was open, \
             it mixes pages of several commits: make copies with Engine::backup",
        ),
        (
            OpenError::io(std::io::Error::other("an I/O error")),
            "an I/O error",
        ),
        (OpenError::Store(failure()), "No space left on device"),
    ]
}

/// Each text of [`Invalid`], but for those of parsing.
fn refusals() -> Vec<(Invalid, &'static str)> {
    let (keyspace, name) = (prefix(), "wipe".to_owned());
    let (early, late) = (at("2026-01-31T12:00:00Z"), at("2026-02-01T12:00:00Z"));
    vec![
        (
            Invalid::TooMany {
                what: "labels",
                count: 70,
                max: 64,
            },
            "70 labels are more than the 64 allowed",
        ),
        (
            Invalid::Duplicate {
                what: "plan",
                value: "\"free\"".to_owned(),
            },
            "plan \"free\" is given twice",
        ),
        (
            Invalid::UnknownPermission {
                name: name.clone(),
                keyspace,
                known: "read, write".to_owned(),
            },
            "keyspace acme_live has no permission \"wipe\"; it has: read, write",
        ),
        (
            Invalid::UnknownPlan {
                name,
                keyspace,
                known: String::new(),
            },
            "keyspace acme_live has no plan \"wipe\"; it has: none",
        ),
        (
            Invalid::RetiredPermission {
                name: "write".to_owned(),
                keyspace,
            },
            "permission \"write\" of keyspace acme_live is retired for good; ask for another",
        ),
        (
            Invalid::UnknownBits {
                bits: Permissions::from_bits(0b100),
                keyspace,
            },
            "permission bits 0x4 have no active name in keyspace acme_live",
        ),
        (
            Invalid::ExpiryInPast {
                expires_at: early,
                now: late,
            },
            "an expiry of 2026-01-31T12:00:00Z is not in the future (it is 2026-02-01T12:00:00Z)",
        ),
        (
            Invalid::NotBeforeAfterExpiry {
                not_before: late,
                expires_at: early,
            },
            "a key that begins at 2026-02-01T12:00:00Z and expires at 2026-01-31T12:00:00Z is \
             never valid",
        ),
        (
            Invalid::LifetimeTooLong {
                keyspace,
                max: Duration::from_secs(60),
                asked: "never".to_owned(),
            },
            "keyspace acme_live allows a lifetime of at most 60s; never was asked for",
        ),
        (
            Invalid::GraceTooLong {
                keyspace,
                max: Duration::from_secs(60),
                asked: Duration::from_secs(90),
            },
            "keyspace acme_live allows a grace of at most 60s; 90s was asked for",
        ),
        (
            Invalid::TimeOutOfRange("now + 1e20s".to_owned()),
            "now + 1e20s is outside the instants that can be represented (1970 to 9999)",
        ),
    ]
}

/// Each text of [`NotFound`].
fn missing() -> Vec<(NotFound, &'static str)> {
    vec![
        (NotFound::Key(key()), "there is no key 01ABcdEFgh"),
        (
            NotFound::Keyspace(prefix()),
            "there is no keyspace acme_live",
        ),
        (
            NotFound::AuditEntry { seq: 3, first: 7 },
            "audit entry 3 was trimmed away; the trail begins with entry 7",
        ),
        (
            NotFound::Import("unkey".to_owned()),
            "there is no import \"unkey\"",
        ),
        (
            NotFound::ForeignId {
                import: "unkey".to_owned(),
                id: "17".to_owned(),
            },
            "import unkey has no key under the id \"17\"",
        ),
        (NotFound::Token, "the token belongs to no key of this store"),
    ]
}

/// Each text of [`Conflict`].
fn conflicts() -> Vec<(Conflict, &'static str)> {
    let (key, keyspace, owner) = (key(), prefix(), owner());
    let instant = at("2026-01-31T12:00:00Z");
    vec![
        (
            Conflict::Alone,
            "this engine is of no fleet; open it with Options::fleet",
        ),
        (
            Conflict::PrefixTaken(keyspace),
            "keyspace acme_live exists already; choose another prefix",
        ),
        (
            Conflict::KeyspaceDiffers {
                keyspace,
                differences: vec![
                    Difference::new("default plan".to_owned(), "", "free"),
                    Difference::new("maximum grace".to_owned(), "60s", "90s"),
                ],
            },
            "keyspace acme_live exists with other settings. default plan: it has none, you ask \
             for free; maximum grace: it has 60s, you ask for 90s. Change it with \
             update_keyspace, or ask for what it has",
        ),
        (
            Conflict::Revoked { key, at: instant },
            "key 01ABcdEFgh was revoked at 2026-01-31T12:00:00Z, which is final; issue a new one",
        ),
        (
            Conflict::Expired {
                key,
                expired_at: instant,
            },
            "key 01ABcdEFgh expired at 2026-01-31T12:00:00Z; an expired key cannot be changed, \
             issue a new one",
        ),
        (
            Conflict::TimeNotAhead {
                now: instant,
                to: instant,
            },
            "time cannot be set back to 2026-01-31T12:00:00Z: the engine's present is \
             2026-01-31T12:00:00Z",
        ),
        (
            Conflict::Disabled(key),
            "key 01ABcdEFgh is disabled; enable it first",
        ),
        (
            Conflict::AlreadyRotated {
                key,
                successor: "02ABcdEFgh".parse().unwrap(),
            },
            "key 01ABcdEFgh was rotated to 02ABcdEFgh already; rotate that one",
        ),
        (
            Conflict::OwnerHasKey {
                owner: owner.clone(),
                key,
            },
            "owner acme/ingest holds key 01ABcdEFgh already, and the keyspace allows one; rotate \
             or revoke that one",
        ),
        (
            Conflict::OwnerAtCap {
                owner: owner.clone(),
                held: 3,
                cap: 3,
            },
            "owner acme/ingest holds 3 keys and may hold 3; revoke one, or raise the cap",
        ),
        (
            Conflict::OwnerAtCap {
                owner: owner.clone(),
                held: 1,
                cap: 1,
            },
            "owner acme/ingest holds 1 key and may hold 1; revoke one, or raise the cap",
        ),
        (
            Conflict::NoRoomForGrace {
                key,
                owner: owner.clone(),
                held: 3,
                cap: 3,
            },
            "owner acme/ingest holds 3 keys and may hold 3: rotate key 01ABcdEFgh without a grace",
        ),
        (
            Conflict::OwnerHoldsSeveral { keyspace, owner },
            "keyspace acme_live cannot become single-active while owner acme/ingest holds several \
             keys; revoke all but one",
        ),
        (
            Conflict::TooManyKeyspaces(64),
            "the store holds 64 keyspaces, which is the most that it can",
        ),
        (
            Conflict::TooManyOwnerSettings(9),
            "the store holds settings of 9 owners, which is the most that it can; take away those \
             that nobody needs",
        ),
        (
            Conflict::AnotherRequest,
            "the idempotency key belongs to another request; use a new one for this request",
        ),
        (
            Conflict::AlreadyAnswered { key },
            "the request was answered before, with key 01ABcdEFgh, which may be in use; if nobody \
             has its token, revoke the key and repeat the request under a new idempotency key",
        ),
        (
            Conflict::ImportDiffers("unkey".to_owned()),
            "import unkey exists already, and says another thing of its tokens; choose another name",
        ),
        (
            Conflict::TooManyImports(255),
            "the store holds 255 imports, which is the most that it can",
        ),
        (
            Conflict::TokenTaken { key },
            "the token is that of key 01ABcdEFgh already",
        ),
        (
            Conflict::ForeignIdTaken { key },
            "the import has key 01ABcdEFgh under this id already, with another token",
        ),
        (
            Conflict::NotClaimable { key },
            "key 01ABcdEFgh has a token already, and cannot be claimed",
        ),
        (
            Conflict::ImportOver {
                import: "unkey".to_owned(),
                sunset: Timestamp::MIN,
            },
            "import unkey ended at 1970-01-01T00:00:00Z; no key can be imported or claimed any more",
        ),
        (
            Conflict::TargetExists("keys.bak".into()),
            "the target keys.bak exists already, and nothing overwrites it; choose another",
        ),
        (
            Conflict::BackupUnderWay("keys.bak.partial".into()),
            "keys.bak.partial exists: a backup to there is under way, or one was cut off; if none \
             is, remove the file",
        ),
        (
            Conflict::RestoreUnderWay("keys.partial".into()),
            "keys.partial exists: a restore to there is under way, or one was cut off; if none \
             is, remove the file",
        ),
        (
            Conflict::BackupStopped,
            "the backup was stopped by its caller, and nothing is left of it",
        ),
        (
            Conflict::CheckStopped,
            "the check was stopped by its caller, and says nothing of the store",
        ),
    ]
}

/// The variants of a list, each once.
fn variants<E>(texts: &[(E, &str)]) -> usize {
    let variants = texts.iter().map(|(error, _)| discriminant(error));
    variants.collect::<HashSet<_>>().len()
}

fn outer<E: Into<Error>>(texts: Vec<(E, &'static str)>) -> Vec<(Error, &'static str)> {
    let texts = texts.into_iter();
    texts.map(|(error, text)| (error.into(), text)).collect()
}

/// What an operator or a caller reads says what happened, with which value, and what to
/// do about it. A variant without its text above fails the test.
#[test]
fn each_error_reads_as_a_sentence_that_says_what_to_do() {
    let plain = [
        errors(),
        outer(refusals()),
        outer(missing()),
        outer(conflicts()),
    ];
    for (error, text) in plain.concat() {
        assert_eq!(error.to_string(), text);
        assert_eq!(format!("{error:?}"), text, "and Debug prints the same");
    }
    for (reason, text) in open_errors() {
        let error = Error::open(Some(Path::new("keys.redb")), reason);
        let text = format!("cannot open the store at keys.redb: {text}");
        assert_eq!(error.to_string(), text);
    }

    let told = variants(&errors())
        + variants(&open_errors())
        + variants(&refusals())
        + variants(&missing())
        + variants(&conflicts());
    let sources = [
        include_str!("../error.rs"),
        include_str!("conflict.rs"),
        include_str!("invalid.rs"),
    ];
    let count = |text: &str| -> usize {
        sources
            .map(|source| source.matches(text).count())
            .iter()
            .sum()
    };
    let written = count("#[error(") - count("#[error(transparent)]");
    assert_eq!(told, written, "each variant has its text above");
}
