use std::collections::BTreeSet;
use std::time::Duration;

use super::Denial;
use crate::model::clock::Timestamp;
use crate::model::id::KeyId;
use crate::model::limit::{Level, Limit, LimitStatus};
use crate::model::permissions::Permissions;
use crate::model::reason::Reason;

/// What the server's log says of a denial: the key, and the value that decided.
#[test]
fn each_denial_reads_as_a_sentence_that_says_why() {
    let key: KeyId = "01ABcdEFgh".parse().unwrap();
    let at: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
    let status = LimitStatus {
        limit: Limit::per_minute(60),
        level: Level::Key,
        remaining: 0,
        resets_at: at,
    };
    let rate_limited = |retry_after| Denial::RateLimited {
        key,
        status,
        retry_after,
    };
    let exhausted = |refills_at| Denial::QuotaExhausted {
        key,
        level: Level::Key,
        refills_at,
    };
    let lacks = |names: &[&str], undefined| Denial::PermissionMissing {
        key,
        missing: Permissions::from_bits(0b110),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        undefined,
    };
    let retry_after = Duration::from_millis(1_500);
    let texts = [
        (Denial::Malformed, "the token is malformed"),
        (Denial::Unknown, "the token is unknown"),
        (
            Denial::Revoked {
                key,
                at,
                reason: Reason::KeyCompromise,
            },
            "key 01ABcdEFgh was revoked at 2026-01-31T12:00:00Z (key compromise)",
        ),
        (
            Denial::Suspended {
                key,
                owner: "acme".parse().unwrap(),
            },
            "key 01ABcdEFgh is suspended with acme",
        ),
        (Denial::Disabled { key }, "key 01ABcdEFgh is disabled"),
        (
            Denial::NotYetValid {
                key,
                not_before: at,
            },
            "key 01ABcdEFgh is not valid before 2026-01-31T12:00:00Z",
        ),
        (
            Denial::Expired {
                key,
                expired_at: at,
            },
            "key 01ABcdEFgh expired at 2026-01-31T12:00:00Z",
        ),
        (
            Denial::NetworkNotAllowed {
                key,
                source: "192.0.2.7".parse().ok(),
            },
            "key 01ABcdEFgh may not be used from 192.0.2.7",
        ),
        (
            Denial::NetworkNotAllowed { key, source: None },
            "key 01ABcdEFgh is bound to networks, and the source is unknown",
        ),
        (
            lacks(&["write", "admin"], 0),
            "key 01ABcdEFgh lacks the permissions write, admin",
        ),
        (
            lacks(&["write"], 0),
            "key 01ABcdEFgh lacks the permission write",
        ),
        (lacks(&[], 0), "key 01ABcdEFgh lacks the permissions 0x6"),
        (
            lacks(&["write", "writing"], 1),
            "key 01ABcdEFgh lacks the permissions write, writing; its keyspace does not have writing",
        ),
        (
            rate_limited(Some(retry_after)),
            "key 01ABcdEFgh is over its limit of 60 a minute; it waits for 1.5s",
        ),
        (
            // A quota refuses too, for longer than the limit.
            rate_limited(Some(Duration::from_secs(86_400))),
            "key 01ABcdEFgh is over its limit of 60 a minute; it waits for 86400s",
        ),
        (
            rate_limited(None),
            "key 01ABcdEFgh is over its limit of 60 a minute, and no waiting helps",
        ),
        (
            exhausted(Some(at)),
            "key 01ABcdEFgh has used up its quota until 2026-01-31T12:00:00Z",
        ),
        (exhausted(None), "key 01ABcdEFgh has used up its quota"),
        (
            Denial::RateLimited {
                key,
                status: LimitStatus {
                    level: Level::Owner(1),
                    ..status
                },
                retry_after: Some(retry_after),
            },
            "key 01ABcdEFgh is over its owner's (level 1) limit of 60 a minute; it waits for 1.5s",
        ),
        (
            Denial::QuotaExhausted {
                key,
                level: Level::Owner(2),
                refills_at: None,
            },
            "key 01ABcdEFgh has used up its owner's (level 2) quota",
        ),
        (
            Denial::TooManyAttempts { retry_after },
            "too many attempts from this address have failed; it waits for 1.5s",
        ),
    ];
    let mut codes = BTreeSet::new();
    for (denial, text) in texts {
        assert_eq!(denial.to_string(), text);
        codes.insert(denial.code());
    }
    assert_eq!(codes.len(), 12, "each variant has its text above");
}
