use std::time::Duration;

use super::*;
use crate::model::id::KeyId;
use crate::model::limit::Limit;
use crate::model::quota::Quota;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_raw(1_767_225_600_000 + ms)
}

fn status(level: Level, limit: Limit, remaining: u32) -> LimitStatus {
    LimitStatus {
        limit,
        level,
        remaining,
        resets_at: at(50_000),
    }
}

/// What is read a moment after the charge may have room again.
#[test]
fn a_limit_that_refused_is_told_as_refusing_whatever_is_read_of_it_later() {
    let (minute, hour) = (Limit::per_minute(10), Limit::per_hour(10));
    let admits = |status| LimitAllowance {
        status,
        refuses: false,
        admits_at: Some(at(0)),
    };
    let limits = vec![
        admits(status(Level::Owner(1), minute, 5)),
        admits(status(Level::Key, hour, 5)),
        LimitAllowance::refusing(status(Level::Key, minute, 0), Some(at(7_000))),
        admits(status(Level::Key, minute, 5)),
    ];
    let read = Allowances {
        at: at(0),
        cost: 3,
        limits,
        quotas: Vec::new(),
    };
    for (retry_after, admits_at, resets_at) in [
        (Some(Duration::from_secs(20)), Some(at(20_000)), at(20_000)),
        (None, None, at(50_000)),
    ] {
        let mut told = read.clone();
        told.note(&Denial::RateLimited {
            key: KeyId::from_raw(1),
            status: status(Level::Key, minute, 1),
            retry_after,
        });
        assert_eq!(told.limits[..3], read.limits[..3]);
        let refused = told.limits[3];
        assert!(refused.refuses);
        assert_eq!(refused.admits_at, admits_at);
        let left = (refused.status.remaining, refused.status.resets_at);
        assert_eq!(left, (1, resets_at));
    }
}

#[test]
fn a_quota_that_refused_is_told_as_too_little_whatever_is_read_of_it_later() {
    let quota = |level, remaining, refills_at| QuotaAllowance {
        level,
        quota: Quota::new(100),
        remaining,
        owed: 0,
        refills_at,
    };
    let read = [
        quota(Level::Owner(1), 10, None),
        quota(Level::Key, 10, None),
        quota(Level::Owner(2), 1, Some(at(5))),
    ];
    let noted = |level| {
        let mut told = Allowances {
            at: at(0),
            cost: 3,
            limits: Vec::new(),
            quotas: read.to_vec(),
        };
        told.note(&Denial::QuotaExhausted {
            key: KeyId::from_raw(1),
            level,
            refills_at: Some(at(9)),
        });
        assert!(told.quotas.iter().any(|quota| told.is_short(quota)));
        told.quotas
    };
    let of_key = noted(Level::Key);
    assert_eq!(of_key[1], quota(Level::Key, 2, Some(at(9))));
    assert_eq!((of_key[0], of_key[2]), (read[0], read[2]));
    // What is read later and says more is kept.
    assert_eq!(noted(Level::Owner(2))[..], read[..]);
}
