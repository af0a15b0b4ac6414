//! What only the crate itself can make: limits that are reached, and grants under
//! a limit. The rest is in `tests/http`.

use serde_json::{Value, json};

use super::*;
use crate::model::counter::{Counted, Counter};
use crate::model::limit::Left as _;
use crate::model::limit::Level;
use crate::model::verdict::{Standing, Stands};
use crate::{Denial, Grant, KeyId, Limit, LimitStatus, NewKey, NewKeyspace, Timestamp};

const NOW_MS: u64 = 1_640_000_000_000;

/// A limit of which so much was requested at [`NOW_MS`].
fn counted(limit: Limit, cost: u32) -> Counted {
    let now = Timestamp::from_unix_ms(NOW_MS).unwrap();
    let mut counter = Counter::default();
    counter.add(limit, cost.into(), now);
    counter.counted(limit, Level::Key, now)
}

fn charged(limit: Limit, cost: u32) -> LimitStatus {
    counted(limit, cost).status()
}

fn rate_limited(dialect: &Dialect, limit: Limit, wait_ms: Option<u64>) -> Rejection {
    dialect
        .denied(Denial::RateLimited {
            key: KeyId::from_raw(7),
            status: charged(limit, limit.requests()),
            retry_after: wait_ms.map(std::time::Duration::from_millis),
        })
        .at(Timestamp::from_unix_ms(NOW_MS).unwrap())
}

fn body(response: &::http::Response<Vec<u8>>) -> Value {
    serde_json::from_slice(response.body()).unwrap()
}

fn header<'r>(response: &'r ::http::Response<Vec<u8>>, name: &str) -> Option<&'r str> {
    response
        .headers()
        .get(name)
        .map(|value| value.to_str().unwrap())
}

#[test]
fn a_limit_that_is_reached_reads_as_in_the_text_of_the_tiers() {
    let refused = rate_limited(
        &presets::tiered_bearer(),
        Limit::per_hour(1_000).fixed(),
        Some(3_599_001),
    );
    let response = refused.response();
    assert_eq!(response.status(), 429);
    assert_eq!(
        body(&response),
        json!({
            "error": "rate_limit_exceeded",
            "message": "Rate limit exceeded. Try again in 3600 seconds.",
        })
    );
    assert_eq!(header(&response, "retry-after"), Some("3600"));
    assert_eq!(header(&response, "cache-control"), Some("no-store"));
    assert_eq!(header(&response, "x-ratelimit-limit"), Some("1000"));
    assert_eq!(header(&response, "x-ratelimit-remaining"), Some("0"));
    // An hour after the first request, not at the end of an hour of the clock.
    assert_eq!(header(&response, "x-ratelimit-reset"), Some("1640003600"));
    assert_eq!(header(&response, "ratelimit"), None);
    assert_eq!(header(&response, "www-authenticate"), None);
}

#[test]
fn a_limit_that_is_reached_is_a_429_in_every_dialect() {
    for dialect in [
        Dialect::problem_details(),
        presets::aurorax(),
        presets::pixxel(),
        presets::tiered_bearer(),
        presets::one_codex(),
        presets::ai_platform(),
    ] {
        let response = rate_limited(&dialect, Limit::per_second(50), Some(1)).response();
        assert_eq!(response.status(), 429);
        assert_eq!(header(&response, "retry-after"), Some("1"));
        assert_eq!(header(&response, "cache-control"), Some("no-store"));
    }
}

#[test]
fn a_cost_that_is_never_admitted_is_not_told_to_wait() {
    let response = rate_limited(&presets::tiered_bearer(), Limit::per_hour(1), None).response();
    assert_eq!(response.status(), 429);
    assert_eq!(header(&response, "retry-after"), None);
    assert_eq!(body(&response)["message"], "Rate limit exceeded.");
}

#[test]
fn what_is_told_of_a_denial_is_of_its_own_instant() {
    let limit = Limit::per_hour(1_000).fixed();
    let key = KeyId::from_raw(7);
    // Long before the system's present.
    let denial = Denial::RateLimited {
        key,
        status: charged(limit, limit.requests()),
        retry_after: Some(std::time::Duration::from_secs(3_600)),
    };
    let response = Dialect::default().denied(denial).response();
    assert_eq!(header(&response, "retry-after"), Some("3600"));
    assert_eq!(header(&response, "ratelimit"), Some(r#""hour";r=0;t=3600"#));
    // One limit is not all policies.
    assert_eq!(header(&response, "ratelimit-policy"), None);
    assert_eq!(header(&response, "x-ratelimit-limit"), None);
    assert_eq!(body(&response)["violated-policies"], json!(["hour"]));
}

#[test]
fn of_limits_that_are_as_tight_the_one_that_resets_later_is_told() {
    let minute = charged(Limit::per_minute(50).fixed(), 50);
    let hour = charged(Limit::per_hour(1_000).fixed(), 1_000);
    for both in [[minute, hour], [hour, minute]] {
        assert_eq!(Standing::of_all(both).unwrap().tightest, hour);
    }
    let wide = charged(Limit::per_hour(10_000).fixed(), 1_000);
    for both in [[wide, hour], [hour, wide]] {
        assert_eq!(Standing::of_all(both).unwrap().longest, hour);
    }
}

/// Many proxies take a response's head of 4,096 bytes at most.
#[test]
fn the_fields_of_as_many_limits_and_quotas_as_there_can_be_are_small() {
    use crate::Quota;
    use crate::Refill;
    use crate::model::allowances::{Allowances, LimitAllowance, QuotaAllowance};
    use limit_fields::{LimitFields, ReportedLimit};

    let now = Timestamp::from_unix_ms(NOW_MS).unwrap();
    let levels = || (1..=8).map(Level::Owner).chain([Level::Key]);
    let odd = Limit::new(u32::MAX, std::time::Duration::from_secs(3_599)).unwrap();
    let limit = |level| LimitAllowance {
        status: LimitStatus {
            level,
            remaining: u32::MAX - 1,
            resets_at: now.saturating_add(std::time::Duration::from_secs(2 * 3_599)),
            ..charged(odd, 1)
        },
        refuses: false,
        admits_at: None,
    };
    let quota = |level| QuotaAllowance {
        level,
        quota: Quota::new(Quota::REQUESTS_MAX).refilled(Refill::monthly_from(31).unwrap()),
        owed: 0,
        remaining: Quota::REQUESTS_MAX - 1,
        refills_at: Some(now.saturating_add(std::time::Duration::from_secs(31 * 86_400))),
    };
    let all = std::sync::Arc::new(Allowances {
        at: now,
        cost: 0,
        limits: levels().flat_map(|level| [limit(level); 4]).collect(),
        quotas: levels().map(quota).collect(),
    });
    let report = LimitFields::Both.of_rejection(ReportedLimit::Tightest, None, Some(&all), all.at);
    let headers: Vec<_> = report.unwrap().headers(now).collect();
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[3..], ["ratelimit-policy", "ratelimit"]);
    for (name, value) in headers {
        let value = value.to_str().unwrap();
        assert!(value.len() <= 1_800, "{name}: {}", value.len());
        if name.as_str().starts_with("ratelimit") {
            // Each policy has a name of its own.
            let items: std::collections::BTreeSet<_> = value
                .split(", ")
                .map(|item| item.split(';').next())
                .collect();
            assert_eq!(items.len(), 45, "{value}");
            // From whichever day of the month.
            assert!(items.contains(&Some(r#""owner8-monthly""#)), "{value}");
            // A number of more digits makes a structured field unreadable as a whole.
            let numbers = value.split(|at: char| !at.is_ascii_digit());
            assert!(numbers.map(str::len).max() <= Some(15), "{value}");
        }
    }
}

#[test]
fn a_grant_shows_the_limit_that_its_dialect_tells_of() {
    let now = Timestamp::from_unix_ms(NOW_MS + 1).unwrap();
    let clock = crate::ManualClock::at(now);
    let engine = crate::Options::new().clock(clock).open_in_memory().unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme").unwrap())
        .unwrap();
    let issued = engine.issue(NewKey::new("acme", "acme").unwrap()).unwrap();
    let grant = engine
        .verify(issued.token.expose())
        .unwrap()
        .into_result()
        .unwrap();
    assert_eq!(Dialect::default().limit_headers(&engine, &grant).count(), 0);

    let grant = Grant {
        limits: Stands::from(Some(Standing {
            tightest: counted(Limit::per_minute(50).fixed(), 49),
            longest: counted(Limit::per_hour(1_000).fixed(), 1),
        })),
        ..grant
    };
    let told = |dialect: &Dialect| -> Vec<(String, String)> {
        dialect
            .limit_headers(&engine, &grant)
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect()
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        told(&presets::tiered_bearer()),
        [
            pair("x-ratelimit-limit", "1000"),
            pair("x-ratelimit-remaining", "999"),
            pair("x-ratelimit-reset", "1640003600"),
        ]
    );
    assert_eq!(
        told(&Dialect::default()),
        // 59.999 s, rounded up. One limit is not all policies.
        [pair("ratelimit", r#""minute";r=1;t=60"#)]
    );
    let both = Dialect::builder()
        .limit_fields(LimitFields::Both, ReportedLimit::Longest)
        .build()
        .unwrap();
    assert_eq!(told(&both).len(), 4);
    let none = Dialect::builder()
        .limit_fields(LimitFields::None, ReportedLimit::Longest)
        .build()
        .unwrap();
    assert_eq!(told(&none), []);
    engine.close().unwrap();
}

#[test]
fn a_refusal_is_small_enough_to_be_returned() {
    assert!(size_of::<Rejection>() <= 128, "{}", size_of::<Rejection>());
}
