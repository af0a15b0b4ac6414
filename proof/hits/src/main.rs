//! Verifies tokens so many times, for callgrind to count the instructions: see run.sh.

use std::time::Duration;

use gatekey::{
    Credential, Engine, ForeignHash, ForeignKey, LevelDefaults, Limit, NewImport, NewKey,
    NewKeyspace, Options, Plan, Quota, Reason, Refill, Requirements,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let way = args.next().ok_or("which way?")?;
    let times: usize = args.next().ok_or("how often?")?.parse()?;
    // Notes are added up while it runs, and written at the end alone.
    let hour = Duration::from_secs(3_600);
    let options = Options::new().usage_interval(hour);
    let engine = options
        .note_networks(way.starts_with("noted"))
        .open_in_memory()?;
    let keyspace = NewKeyspace::new("acme_live")?.permissions(["read", "write"]);
    engine.create_keyspace(with_limits(keyspace, &way))?;
    let mut tokens = Vec::new();
    for at in 0..64 {
        let owner = match &*way {
            "three_levels" => format!("acme/team-{}/bot-{at}", at % 8),
            _ => format!("acme/team-{at}"),
        };
        let key = NewKey::new("acme_live", owner)?.permissions(["read"]);
        let issued = engine.issue(match &*way {
            "quota" | "two_quotas" => key.quota(quota()),
            _ => key,
        })?;
        tokens.push(issued.token.expose().to_owned());
        if way == "revoked" {
            engine.revoke(issued.key.id, Reason::Cessation)?;
        }
    }
    if way == "shapeless" {
        engine.begin_import(NewImport::new("old", ForeignHash::Plain).starts_with("old_"))?;
        let key = NewKey::new("acme_live", "acme")?;
        let foreign = ForeignKey::new(key, Credential::token("old_of_another_system"));
        engine.import_keys("old", vec![foreign])?;
    }
    if matches!(&*way, "malformed" | "shapeless") {
        tokens = vec!["not a token".to_owned()];
    }
    run(&engine, &way, &tokens, times)?;
    // Without the last flush, which would count too.
    std::process::exit(0);
}

fn quota() -> Quota {
    Quota::new(Quota::REQUESTS_MAX).refilled(Refill::Monthly)
}

/// What is charged, and never refused.
fn with_limits(keyspace: NewKeyspace, way: &str) -> NewKeyspace {
    let hourly = Limit::per_hour(u32::MAX).fixed();
    let plan = Plan::new("plan").limit(hourly);
    match way {
        "two_limits" => {
            let plan = plan.limit(Limit::per_second(u32::MAX));
            keyspace.plan(plan).default_plan("plan")
        }
        // With what a key pays for, which has a quota as well.
        "two_quotas" => keyspace.owner_defaults(1, LevelDefaults::new().quota(quota())),
        "two_levels" | "three_levels" => {
            let levels = 1..=if way == "two_levels" { 2 } else { 3 };
            levels.fold(keyspace.plan(plan), |keyspace, level| {
                keyspace.owner_defaults(level, LevelDefaults::new().plan("plan"))
            })
        }
        _ => keyspace,
    }
}

fn run(engine: &Engine, way: &str, tokens: &[String], times: usize) -> gatekey::Result<()> {
    let read = Requirements::new().permissions(&["read"]);
    let from = Requirements::new().source([192, 0, 2, 77].into());
    let mut granted = 0;
    for token in tokens.iter().cycle().take(times) {
        let verdict = match way {
            "permission" => engine.verify_with(token, &read)?,
            "source" | "noted_source" => engine.verify_with(token, &from)?,
            _ => engine.verify(token)?,
        };
        granted += usize::from(verdict.is_granted());
    }
    let expected = match way {
        "revoked" | "malformed" | "shapeless" => 0,
        _ => times,
    };
    assert_eq!(granted, expected);
    Ok(())
}
