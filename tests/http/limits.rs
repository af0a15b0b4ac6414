//! What a client is told of limits and quotas: the same instant everywhere, at which its
//! request is granted; all policies, always the same; and which of them refused it.

use std::time::Duration;

use gatekey::http::{Authenticated, Dialect, LimitFields, Rejection, ReportedLimit, presets};
use gatekey::{
    Denial, Engine, KeyUpdate, LevelDefaults, Limit, ManualClock, NewKey, NewKeyspace, Options,
    OwnerUpdate, Quota, Refill, Requirements, Timestamp,
};
use http::Response;
use serde_json::json;

use crate::common::{at, body, carry, header};

/// A quarter of a second behind a second, on a day that is not a month's last.
const NOW_MS: u64 = 1_704_463_200_250;

const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

struct World {
    engine: Engine,
    clock: ManualClock,
    dialect: Dialect,
    key: gatekey::KeyId,
    token: String,
}

impl World {
    fn new(dialect: &Dialect, key: impl FnOnce(NewKey) -> NewKey) -> Self {
        Self::with_defaults(dialect, LevelDefaults::new(), key)
    }

    fn with_defaults(
        dialect: &Dialect,
        defaults: LevelDefaults,
        key: impl FnOnce(NewKey) -> NewKey,
    ) -> Self {
        let clock = ManualClock::at(at(NOW_MS));
        let options = Options::new().clock(clock.clone());
        let engine = options.open_in_memory().unwrap();
        let keyspace = NewKeyspace::new("acme_live").unwrap();
        let keyspace = keyspace.permissions(["write"]).owner_defaults(1, defaults);
        engine.create_keyspace(keyspace).unwrap();
        let new = NewKey::new("acme_live", "umbrella/ingest/etl").unwrap();
        let issued = engine.issue(key(new)).unwrap();
        Self {
            engine,
            clock,
            dialect: dialect.clone(),
            key: issued.key.id,
            token: issued.token.expose().to_owned(),
        }
    }

    fn ask(&self, requirements: &Requirements<'_>) -> Result<Authenticated, Rejection> {
        let headers = carry(&self.dialect, &self.token);
        self.dialect
            .authenticate(&self.engine, &headers, requirements)
    }

    fn is_granted(&self, cost: u32) -> bool {
        self.ask(&Requirements::new().cost(cost)).is_ok()
    }

    /// A response to a request, with a handler that does nothing.
    fn answer(&self, requirements: &Requirements<'_>) -> Response<Vec<u8>> {
        match self.ask(requirements) {
            Ok(authenticated) => {
                let grant = authenticated.into_grant().unwrap();
                let mut response = Response::new(Vec::new());
                let headers = self.dialect.limit_headers(&self.engine, &grant);
                response.headers_mut().extend(headers);
                response
            }
            Err(rejection) => rejection.response(),
        }
    }

    fn cost(&self, cost: u32) -> Response<Vec<u8>> {
        self.answer(&Requirements::new().cost(cost))
    }

    fn until(&self, instant: Timestamp) -> Duration {
        instant.saturating_since(self.clock.now())
    }
}

use gatekey::Clock as _;

fn both() -> Dialect {
    Dialect::builder()
        .limit_fields(LimitFields::Both, ReportedLimit::Tightest)
        .build()
        .unwrap()
}

fn number(response: &Response<Vec<u8>>, name: &str) -> u64 {
    let value = header(response, name).unwrap_or_else(|| panic!("no {name}: {response:?}"));
    value.parse().unwrap()
}

/// The items of a list: a name, and its parameters.
fn items(response: &Response<Vec<u8>>, name: &str) -> Vec<(String, Vec<(String, u64)>)> {
    let list = header(response, name).unwrap_or("");
    let item = |item: &str| {
        let mut parts = item.split(';');
        let name = parts.next().unwrap().trim_matches('"').to_owned();
        let parameters = parts.map(|part| {
            let (name, value) = part.split_once('=').unwrap();
            (name.to_owned(), value.parse().unwrap())
        });
        (name, parameters.collect())
    };
    let items = list.split(", ").filter(|text| !text.is_empty());
    items.map(item).collect()
}

/// How long `RateLimit` tells to wait: for the longest of what has too little left.
fn told_by_the_draft(response: &Response<Vec<u8>>, cost: u64) -> u64 {
    let waits = items(response, "ratelimit").into_iter();
    let waits = waits.filter_map(|(_, parameters)| {
        let of = |name: &str| parameters.iter().find(|(known, _)| known == name);
        let short = of("r").unwrap().1 < cost;
        short.then(|| of("t").unwrap().1)
    });
    waits.max().unwrap()
}

/// Of every algorithm, of a quota, and of what is above the key; and of a clock that is
/// corrected meanwhile.
#[test]
fn what_is_told_agrees_and_a_request_at_that_instant_is_granted() {
    let second = Limit::per_second(5);
    let hour = Limit::per_hour(20);
    let cases: [(&str, &[Limit], Option<Quota>); 9] = [
        ("fixed", &[Limit::per_hour(20).fixed()], None),
        ("sliding", &[hour], None),
        ("bucket", &[Limit::per_minute(20).bucket(3)], None),
        ("a slow bucket", &[Limit::per_hour(7).bucket(3)], None),
        ("three", &[second, Limit::per_minute(9), hour.fixed()], None),
        ("daily", &[], Some(Quota::new(4).refilled(Refill::Daily))),
        (
            "monthly",
            &[],
            Some(Quota::new(4).refilled(Refill::Monthly)),
        ),
        (
            "both",
            &[second],
            Some(Quota::new(11).refilled(Refill::Daily)),
        ),
        // The quota is used up at the instant at which the limit is.
        (
            "at once",
            &[second],
            Some(Quota::new(5).refilled(Refill::Daily)),
        ),
    ];
    for (name, limits, quota) in cases {
        let world = World::new(&both(), |key| {
            let key = if limits.is_empty() {
                key
            } else {
                key.limits(limits.to_vec())
            };
            quota.into_iter().fold(key, NewKey::quota)
        });
        let mut refused = 0;
        for step in 0..400_u64 {
            world.clock.advance(Duration::from_millis(step * 37 % 900));
            let cost = if step % 5 == 0 { 2 } else { 1 };
            let response = world.cost(cost);
            if response.status() == 200 {
                continue;
            }
            refused += 1;
            let now = world.clock.now();
            let wait = number(&response, "retry-after");
            assert_eq!(told_by_the_draft(&response, cost.into()), wait, "{name}");
            // The reset is an instant in whole seconds, the wait whole seconds from now.
            let reset = number(&response, "x-ratelimit-reset");
            let told_ms = now.unix_ms() + wait * 1000;
            assert!(reset * 1000 < told_ms + 1000, "{name}: {reset} {told_ms}");
            assert!(told_ms < reset * 1000 + 1000, "{name}: {reset} {told_ms}");
            // And the engine's own.
            let granted_at = match world
                .engine
                .verify_with(&world.token, &Requirements::new().cost(cost))
            {
                Ok(verdict) => match verdict.into_result().unwrap_err() {
                    Denial::RateLimited { retry_after, .. } => {
                        now.saturating_add(retry_after.unwrap())
                    }
                    Denial::QuotaExhausted { refills_at, .. } => refills_at.unwrap(),
                    other => panic!("{other}"),
                },
                Err(error) => panic!("{error}"),
            };
            assert_eq!(granted_at.unix_ms().div_ceil(1000), reset, "{name}");
            let exact = world.until(granted_at);
            assert_eq!(exact.as_millis().div_ceil(1000), u128::from(wait), "{name}");
            // Not a millisecond before, and then: by each of the three.
            world
                .clock
                .advance(exact.checked_sub(Duration::from_millis(1)).unwrap());
            assert!(!world.is_granted(cost), "{name}: granted before");
            match step % 3 {
                0 => world.clock.set(granted_at),
                1 => world.clock.set(at(told_ms)),
                _ => world.clock.set(at(reset * 1000)),
            }
            assert!(
                world.is_granted(cost),
                "{name}: refused at the told instant"
            );
        }
        assert!(refused > 3, "{name}: {refused}");
    }
}

/// What is told of a refusal by each field, and what a request at that instant comes to.
fn assert_told(world: &World, name: &str, cost: u32) {
    let response = world.cost(cost);
    assert_eq!(response.status(), 429, "{name}");
    let now_ms = world.clock.now().unix_ms();
    let wait = number(&response, "retry-after");
    assert_eq!(told_by_the_draft(&response, cost.into()), wait, "{name}");
    let reset_ms = number(&response, "x-ratelimit-reset") * 1000;
    let told_ms = now_ms + wait * 1000;
    assert!(
        reset_ms.abs_diff(told_ms) < 1000,
        "{name}: {reset_ms} {told_ms}"
    );
    world.clock.set(at(told_ms.min(reset_ms) - 2_000));
    assert!(!world.is_granted(cost), "{name}: granted before");
    world.clock.set(at(reset_ms));
    assert!(
        world.is_granted(cost),
        "{name}: refused at the told instant"
    );
}

/// Waits of more than two windows, and of more than a refill: for a bucket to drain, for a debt
/// to be paid, for room.
#[test]
fn what_is_told_of_long_waits_agrees_too() {
    let settled = |world: &World, cost: u32| {
        let estimate = Requirements::new().settled_later();
        let granted = world.engine.verify_with(&world.token, &estimate).unwrap();
        let charge = granted.into_result().unwrap();
        world.engine.settle(charge.charge().unwrap(), cost).unwrap();
    };
    let slow = Limit::per_second(1).bucket(50);
    let world = World::new(&both(), |key| key.limits([slow]));
    assert!(world.is_granted(50));
    assert_told(&world, "a bucket that drains for long", 50);

    let tokens = Limit::per_minute(10_000).bucket(10_000);
    let world = World::new(&both(), |key| key.limits([tokens]));
    settled(&world, 60_000);
    assert_told(&world, "a bucket in debt", 1);

    let daily = Quota::new(20).refilled(Refill::Daily);
    for cost in [1, 20] {
        let world = World::new(&both(), |key| key.quota(daily));
        settled(&world, 55);
        assert_told(&world, "a quota in debt", cost);
    }
    let monthly = Quota::new(100).refilled(Refill::Monthly);
    let world = World::new(&both(), |key| key.quota(monthly).limits([slow]));
    settled(&world, 350);
    world.clock.advance(Duration::from_secs(400));
    assert_told(&world, "a quota in debt beside a limit", 1);

    let clock = ManualClock::at(at(NOW_MS));
    let options = Options::new().clock(clock.clone()).limited_keys(1);
    let engine = options.open_in_memory().unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme_live").unwrap())
        .unwrap();
    let issued = |limit| {
        let new = NewKey::new("acme_live", "acme").unwrap().limits([limit]);
        engine.issue(new).unwrap()
    };
    let first = issued(Limit::per_hour(5).fixed());
    assert!(engine.verify(first.token.expose()).unwrap().is_granted());
    let second = issued(Limit::per_second(5));
    let world = World {
        key: second.key.id,
        token: second.token.expose().to_owned(),
        dialect: both(),
        engine: engine.clone(),
        clock,
    };
    assert_told(&world, "no room", 1);
}

/// A limit that is over beside a quota that is refilled later: also where a server asks the
/// engine for itself.
#[test]
fn the_reset_of_a_denial_is_when_the_request_is_admitted() {
    let daily = Quota::new(5).refilled(Refill::Daily);
    let world = World::new(&both(), |key| {
        key.limits([Limit::per_minute(5).fixed()]).quota(daily)
    });
    assert!(world.is_granted(5));
    let asked = Requirements::new();
    let dry = world.engine.dry_run(&world.token, &asked).unwrap();
    let verdict = world.engine.verify_with(&world.token, &asked).unwrap();
    let denial = verdict.into_result().unwrap_err();
    assert_eq!(dry.denial.as_ref(), Some(&denial));
    let Denial::RateLimited {
        status,
        retry_after: Some(wait),
        ..
    } = denial
    else {
        panic!("{denial:?}")
    };
    let now = world.clock.now();
    assert_eq!(status.resets_at(), now.saturating_add(wait));
    let response = both().denied(denial).response();
    let reset = number(&response, "x-ratelimit-reset");
    assert_eq!(reset, status.resets_at().unix_ms().div_ceil(1000));
    let wait_s = number(&response, "retry-after");
    assert_eq!(u128::from(wait_s), wait.as_millis().div_ceil(1000));
    world.clock.set(status.resets_at());
    assert!(world.is_granted(1));
}

/// Nobody is told to come back for what will never be.
#[test]
fn where_no_waiting_helps_no_reset_is_told() {
    let monthly = Quota::new(100).refilled(Refill::Monthly);
    for (name, cost, key) in [
        (
            "a cost above a limit",
            11,
            (Some(Limit::per_hour(10)), None),
        ),
        ("a cost above a quota", 101, (None, Some(monthly))),
        (
            "a quota that is used up",
            3,
            (Some(Limit::per_hour(2)), Some(Quota::new(2))),
        ),
    ] {
        let (limit, quota) = key;
        let world = World::new(&both(), |key| {
            let key = limit
                .into_iter()
                .fold(key, |key, limit| key.limits([limit]));
            quota.into_iter().fold(key, NewKey::quota)
        });
        let response = world.cost(cost);
        assert_eq!(response.status(), 429, "{name}");
        assert_eq!(header(&response, "retry-after"), None, "{name}");
        assert_eq!(header(&response, "x-ratelimit-reset"), None, "{name}");
    }
}

/// By the system's clock, of a short window and a short bucket.
#[test]
fn a_request_at_the_told_instant_is_granted_for_real() {
    for limit in [
        Limit::per_second(3).fixed(),
        Limit::per_second(3),
        Limit::per_second(2).bucket(3),
    ] {
        let engine = Engine::open_in_memory().unwrap();
        let keyspace = NewKeyspace::new("acme_live").unwrap();
        engine.create_keyspace(keyspace).unwrap();
        let new = NewKey::new("acme_live", "acme").unwrap().limits([limit]);
        let token = engine.issue(new).unwrap().token;
        let dialect = both();
        let headers = carry(&dialect, token.expose());
        let ask = || dialect.authenticate(&engine, &headers, &Requirements::new());
        for _ in 0..2 {
            let rejection = loop {
                match ask() {
                    Ok(_) => {}
                    Err(rejection) => break rejection,
                }
            };
            let reset = number(&rejection.response(), "x-ratelimit-reset");
            let until = at(reset * 1000).saturating_since(engine.now());
            std::thread::sleep(until);
            assert!(ask().is_ok(), "{limit}");
        }
    }
}

/// A clock that ran ahead and is corrected: the engine's time stays ahead, the clock that
/// limits are counted by does not.
#[test]
fn what_is_told_is_of_the_clock_also_after_it_was_corrected() {
    let world = World::new(&both(), |key| key.limits([Limit::per_minute(1).fixed()]));
    world.clock.advance(Duration::from_secs(3_600));
    // What is committed holds the engine's time.
    world
        .engine
        .update(world.key, KeyUpdate::new().name("x"))
        .unwrap();
    world.clock.set(at(NOW_MS));
    let granted = world.cost(1);
    assert_eq!(items(&granted, "ratelimit")[0].1[1], ("t".to_owned(), 60));
    let refused = world.cost(1);
    assert_eq!(number(&refused, "retry-after"), 60);
    assert_eq!(items(&refused, "ratelimit")[0].1[1], ("t".to_owned(), 60));
    assert_eq!(number(&refused, "x-ratelimit-reset"), NOW_MS / 1000 + 61);
}

/// A key with limits and quotas at three levels.
fn tenant() -> World {
    let world = World::with_defaults(
        &Dialect::default(),
        LevelDefaults::new().quota(Quota::new(1_000).refilled(Refill::Monthly)),
        |key| {
            key.limits([Limit::per_second(3), Limit::per_hour(20).bucket(30)])
                .quota(Quota::new(40))
        },
    );
    let limits = [
        Limit::per_hour(50).fixed(),
        Limit::per_hour(60),
        Limit::new(90, Duration::from_secs(300)).unwrap(),
    ];
    let tier = OwnerUpdate::new().limits(limits);
    world
        .engine
        .update_owner("acme_live", "umbrella", tier)
        .unwrap();
    let daily = Quota::new(25).refilled(Refill::Daily);
    let project = OwnerUpdate::new()
        .quota(daily)
        .limits([Limit::per_minute(12).fixed()]);
    world
        .engine
        .update_owner("acme_live", "umbrella/ingest", project)
        .unwrap();
    world
}

const POLICIES: &str = concat!(
    r#""owner1-hour";q=50;w=3600, "owner1-hour-2";q=60;w=3600, "owner1-300s";q=90;w=300, "#,
    r#""owner2-minute";q=12;w=60, "second";q=3;w=1, "hour";q=20;w=3600, "#,
    r#""owner1-monthly";q=1000, "owner2-daily";q=25;w=86400, "total";q=40"#,
);

/// Granted, refused by each of its limits and quotas, charged nothing, or refused for
/// another reason: the policies are those of the key.
#[test]
fn the_list_of_policies_is_whole_and_the_same_whatever_happened() {
    let world = tenant();
    let mut refused_by = std::collections::BTreeSet::new();
    let mut told = |response: &Response<Vec<u8>>| {
        assert_eq!(header(response, "ratelimit-policy"), Some(POLICIES));
        let names = |field| items(response, field).into_iter().map(|(name, _)| name);
        assert!(names("ratelimit").eq(names("ratelimit-policy")));
        if response.status() == 429 {
            let violated = body(response)["violated-policies"].clone();
            for name in violated.as_array().unwrap() {
                refused_by.insert(name.as_str().unwrap().to_owned());
            }
        }
    };
    for _ in 0..60 {
        told(&world.cost(1));
        told(&world.cost(0));
        let lacking = world.answer(&Requirements::new().permissions(&["write"]));
        assert_eq!(lacking.status(), 403);
        told(&lacking);
        world.clock.advance(Duration::from_secs(30));
    }
    for _ in 0..8 {
        told(&world.cost(1));
    }
    told(&world.cost(1_000_000));
    let all: Vec<&str> = refused_by.iter().map(String::as_str).collect();
    assert_eq!(
        all,
        [
            "hour",
            "owner1-300s",
            "owner1-hour",
            "owner1-hour-2",
            "owner1-monthly",
            "owner2-daily",
            "owner2-minute",
            "second",
            "total",
        ]
    );
    // Nobody else is told: a key that is not known to be good has no limits.
    world
        .engine
        .revoke(world.key, gatekey::Revocation::default())
        .unwrap();
    assert_eq!(header(&world.cost(1), "ratelimit-policy"), None);
    assert_eq!(header(&world.cost(1), "ratelimit"), None);
}

/// What is left of quotas is what is in memory and in the store, before anything of them
/// was spent too, and after they were put back.
#[test]
fn what_is_left_of_quotas_is_exact() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.redb");
    let clock = ManualClock::at(at(NOW_MS));
    let options = || Options::new().clock(clock.clone());
    let engine = options().open_or_create(&path).unwrap();
    let monthly = Quota::new(5_000).refilled(Refill::Monthly);
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    let keyspace = keyspace.owner_defaults(1, LevelDefaults::new().quota(monthly));
    engine.create_keyspace(keyspace).unwrap();
    let new = NewKey::new("acme_live", "acme").unwrap();
    let issued = engine.issue(new.quota(Quota::new(2_000))).unwrap();
    let dialect = Dialect::default();
    let headers = carry(&dialect, issued.token.expose());
    let left = |engine: &Engine, cost: u32| -> Vec<u64> {
        let asked = Requirements::new().cost(cost);
        let grant = dialect.authenticate(engine, &headers, &asked).unwrap();
        let mut response = Response::new(Vec::new());
        let told = dialect.limit_headers(engine, grant.grant().unwrap());
        response.headers_mut().extend(told);
        let items = items(&response, "ratelimit").into_iter();
        items.map(|(_, parameters)| parameters[0].1).collect()
    };
    assert_eq!(left(&engine, 0), [5_000, 2_000]);
    for spent in 1..60 {
        assert_eq!(left(&engine, 1), [5_000 - spent, 2_000 - spent]);
        assert_eq!(left(&engine, 0), [5_000 - spent, 2_000 - spent]);
    }
    // A key that it is rotated to shares what is in memory, before it is used too.
    let rotated = engine
        .rotate(
            issued.key.id,
            gatekey::Rotation::with_grace(Duration::from_secs(50 * 86_400)),
        )
        .unwrap();
    let successor = carry(&dialect, rotated.token.expose());
    let asked = Requirements::new().cost(0);
    let granted = dialect.authenticate(&engine, &successor, &asked).unwrap();
    let mut response = Response::new(Vec::new());
    let told = dialect.limit_headers(&engine, granted.grant().unwrap());
    response.headers_mut().extend(told);
    assert_eq!(
        items(&response, "ratelimit")[1].1[0],
        ("r".to_owned(), 1_941)
    );
    engine.close().unwrap();
    let engine = options().open(&path).unwrap();
    assert_eq!(left(&engine, 0), [4_941, 1_941]);
    assert_eq!(left(&engine, 41), [4_900, 1_900]);
    // Refilled at the first of the month.
    clock.advance(Duration::from_secs(40 * 86_400));
    assert_eq!(left(&engine, 0), [5_000, 1_900]);
    engine.close().unwrap();
}

/// All that refuse are named; the wait is for the last of them.
#[test]
fn of_several_that_are_exceeded_all_are_named_and_the_longest_is_waited_for() {
    let world = tenant();
    world.clock.set(at(NOW_MS));
    let first = world.cost(3);
    assert_eq!(first.status(), 200);
    let refused = world.cost(1);
    assert_eq!(
        body(&refused),
        json!({
            "type": QUOTA_EXCEEDED,
            "title": "Request cannot be satisfied as assigned quota has been exceeded",
            "status": 429,
            "detail": "The rate limit is exceeded.",
            "code": "rate_limit_exceeded",
            "violated-policies": ["second"],
        })
    );
    for _ in 0..3 {
        world.clock.advance(Duration::from_secs(2));
        assert!(world.is_granted(3));
    }
    // The second, the minute of the project, and soon its day.
    let refused = world.cost(1);
    assert_eq!(
        body(&refused)["violated-policies"],
        json!(["owner2-minute", "second"])
    );
    assert_eq!(number(&refused, "retry-after"), 54);
    for _ in 0..4 {
        world.clock.advance(Duration::from_secs(60));
        assert!(world.is_granted(3));
    }
    world.clock.advance(Duration::from_secs(60));
    assert!(world.is_granted(1));
    let refused = world.cost(3);
    assert_eq!(
        body(&refused)["violated-policies"],
        json!(["second", "owner2-daily"])
    );
    // Midnight, and not the next second.
    let midnight = (NOW_MS / 86_400_000 + 1) * 86_400_000;
    let wait = (midnight - world.clock.now().unix_ms()).div_ceil(1000);
    assert_eq!(number(&refused, "retry-after"), wait);
    world.clock.advance(Duration::from_secs(5));
    let refused = world.cost(3);
    assert_eq!(body(&refused)["code"], "quota_exceeded");
    assert_eq!(body(&refused)["violated-policies"], json!(["owner2-daily"]));
    // Where no waiting helps, none is told.
    let never = world.cost(60);
    assert_eq!(header(&never, "retry-after"), None);
}

/// Of two quotas that are used up, the one that is refilled last is waited for, whichever
/// stands above.
#[test]
fn of_two_quotas_the_one_that_is_refilled_last_is_told() {
    let (daily, monthly) = (Refill::Daily, Refill::Monthly);
    for (above, own) in [(daily, monthly), (monthly, daily)] {
        let defaults = LevelDefaults::new().quota(Quota::new(3).refilled(above));
        let quota = Quota::new(3).refilled(own);
        let world = World::with_defaults(&both(), defaults, |key| key.quota(quota));
        assert!(world.is_granted(3));
        let refused = world.cost(1);
        let names = [format!("owner1-{above}"), own.to_string()];
        assert_eq!(body(&refused)["violated-policies"], json!(names));
        // February.
        let reset = number(&refused, "x-ratelimit-reset");
        assert_eq!(at(reset * 1000).to_string(), "2024-02-01T00:00:00Z");
        world.clock.set(at(reset * 1000));
        assert!(world.is_granted(1));
    }
}

/// A quota that refuses is what `X-RateLimit-*` tell, and not a limit that would not.
#[test]
fn x_fields_of_a_quota_that_refuses_are_the_quotas() {
    for (quota, reset) in [
        (Quota::new(1).refilled(Refill::Daily), true),
        (Quota::new(1), false),
    ] {
        let world = World::new(&presets::tiered_bearer(), |key| {
            key.limits([Limit::per_hour(1_000).fixed()]).quota(quota)
        });
        let granted = world.cost(1);
        assert_eq!(number(&granted, "x-ratelimit-limit"), 1_000);
        assert_eq!(number(&granted, "x-ratelimit-remaining"), 999);
        let refused = world.cost(1);
        assert_eq!(body(&refused)["error"], "quota_exceeded");
        assert_eq!(number(&refused, "x-ratelimit-limit"), 1);
        assert_eq!(number(&refused, "x-ratelimit-remaining"), 0);
        assert_eq!(header(&refused, "x-ratelimit-reset").is_some(), reset);
        assert_eq!(header(&refused, "retry-after").is_some(), reset);
    }
}

/// Whatever fields a dialect has, and at whichever level: the limits and quotas of owners are
/// charged by a way of their own.
#[test]
fn what_refused_is_named_without_fields_that_say_what_is_left() {
    let of_owner = |update: OwnerUpdate, fields| {
        let dialect = Dialect::builder()
            .limit_fields(fields, ReportedLimit::Tightest)
            .build()
            .unwrap();
        let world = World::new(&dialect, |key| key);
        world
            .engine
            .update_owner("acme_live", "umbrella", update)
            .unwrap();
        assert!(world.is_granted(2));
        body(&world.cost(1))["violated-policies"].clone()
    };
    for fields in [
        LimitFields::XRateLimit,
        LimitFields::RateLimit,
        LimitFields::None,
    ] {
        let limit = OwnerUpdate::new().limits([Limit::per_hour(2).fixed()]);
        assert_eq!(
            of_owner(limit, fields),
            json!(["owner1-hour"]),
            "{fields:?}"
        );
        let quota = OwnerUpdate::new().quota(Quota::new(2).refilled(Refill::Daily));
        assert_eq!(
            of_owner(quota, fields),
            json!(["owner1-daily"]),
            "{fields:?}"
        );
    }
}
