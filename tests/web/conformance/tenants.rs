//! Tiers are an organisation's: sold, changed under load, and explained.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::client::{Ask, ureq};
use crate::server::Server;

#[test]
fn every_key_of_an_organisation_shares_its_tier() {
    let server = Server::start();
    let keys = ["umbrella/ingest/etl", "umbrella/web", "umbrella"]
        .map(|owner| server.issue("tiered", owner, &json!({})));
    let ask = |key: usize| {
        let ask = Ask::get("/tiered/account").bearer(&keys[key].token);
        ureq(&server.url, &ask)
    };
    for (used, key) in [0, 1, 2, 1, 0].into_iter().enumerate() {
        let reply = ask(key);
        assert_eq!(reply.number("x-ratelimit-limit"), 1_000);
        assert_eq!(reply.number("x-ratelimit-remaining"), 999 - used as u64);
    }
    // What was used of the hour is counted on.
    let sold = server.sell("tiered", "umbrella", &json!({ "plan": "pro" }));
    assert_eq!(sold["plan"], "pro");
    assert_eq!(sold["updated_by"], "operator");
    let reply = ask(1);
    assert_eq!(reply.number("x-ratelimit-limit"), 10_000);
    assert_eq!(reply.number("x-ratelimit-remaining"), 10_000 - 6);
    // Another organisation has what it had.
    let other = server.issue("tiered", "umbrella2/web", &json!({}));
    let reply = ureq(
        &server.url,
        &Ask::get("/tiered/account").bearer(&other.token),
    );
    assert_eq!(reply.number("x-ratelimit-limit"), 1_000);
    // Back to what its level has by default; and a tier that there is not.
    let gone = server.sell("tiered", "umbrella", &json!({ "plan": null }));
    assert_eq!(gone["plan"], json!(null));
    assert_eq!(ask(2).number("x-ratelimit-limit"), 1_000);
    for (change, status) in [
        (json!({ "plan": "platinum" }), 400),
        (json!({ "tier": "pro" }), 422),
        (
            json!({ "limits": [{ "requests": 0, "window": "PT1S" }] }),
            422,
        ),
    ] {
        let put = Ask {
            method: "PUT",
            ..Ask::get("/admin/owners/tiered/umbrella")
        };
        let reply = server.try_to_administer(put.json(&change));
        assert_eq!(reply.status, status, "{change}: {reply:?}");
    }
}

/// A customer runs against its limit from several threads, by several keys, while it is sold
/// four times as much. A request that begins after the call has returned is counted by the
/// new tier; and of what was served, every request has a number of its own, from the first to
/// the last: none was counted twice, and none was lost.
#[test]
fn a_customer_that_is_upgraded_under_load_has_its_new_limit_at_once() {
    const BEFORE: u64 = 100;
    const AFTER: u64 = 400;
    let server = Server::start();
    let tier = |requests: u64| {
        let limit = json!({ "requests": requests, "window": "PT1H", "algorithm": "fixed" });
        server.sell("tiered", "umbrella", &json!({ "limits": [limit] }))
    };
    tier(BEFORE);
    let keys: Vec<_> = (0..4)
        .map(|at| server.issue("tiered", &format!("umbrella/p{at}/etl"), &json!({})))
        .collect();
    let is_upgraded = AtomicBool::new(false);
    let served = Mutex::new(Vec::new());
    let half = Mutex::new(0_u64);
    std::thread::scope(|scope| {
        for key in &keys {
            let (is_upgraded, served, half, url) = (&is_upgraded, &served, &half, &server.url);
            scope.spawn(move || {
                let mut refused_after = 0;
                // All that is sold is used up, and then refused for good.
                while refused_after < 3 {
                    let is_after = is_upgraded.load(Ordering::SeqCst);
                    let ask = Ask::get("/tiered/account").bearer(&key.token);
                    let reply = ureq(url, &ask);
                    let limit = reply.number("x-ratelimit-limit");
                    assert!(!is_after || limit == AFTER, "{reply:?}");
                    match reply.status {
                        200 => {
                            let number = limit - reply.number("x-ratelimit-remaining");
                            served.lock().unwrap().push(number);
                            *half.lock().unwrap() += 1;
                        }
                        429 => refused_after += u32::from(is_after),
                        _ => panic!("{reply:?}"),
                    }
                }
            });
        }
        while *half.lock().unwrap() < BEFORE / 2 {
            std::thread::yield_now();
        }
        tier(AFTER);
        is_upgraded.store(true, Ordering::SeqCst);
    });
    let mut served = served.into_inner().unwrap();
    served.sort_unstable();
    assert_eq!(served, (1..=AFTER).collect::<Vec<_>>());
}

/// The page that customers read says what is.
#[test]
fn the_page_of_the_tiers_says_what_holds() {
    let server = Server::start();
    let page = ureq(&server.url, &Ask::get("/tiered/tiers"));
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/markdown; charset=utf-8")
    );
    let rows = page.body.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let name = cells.next()?.to_ascii_lowercase();
        let number = |cell: &str| cell.trim_end_matches(" |").replace(',', "").parse().ok();
        let hour: Option<u64> = number(cells.next()?);
        let burst: u64 = number(cells.next()?)?;
        Some((name, hour, burst))
    });
    let rows: Vec<_> = rows.collect();
    assert_eq!(
        rows,
        [
            ("free".to_owned(), Some(1_000), 50),
            ("pro".to_owned(), Some(10_000), 200),
            ("enterprise".to_owned(), None, 1_000),
        ]
    );
    for (name, hour, burst) in rows {
        let key = server.issue("tiered", &name, &json!({}));
        server.sell("tiered", &name, &json!({ "plan": name }));
        let reply = ureq(&server.url, &Ask::get("/tiered/account").bearer(&key.token));
        let limit = hour.unwrap_or(burst);
        assert_eq!(reply.number("x-ratelimit-limit"), limit, "{name}");
        assert_eq!(reply.number("x-ratelimit-remaining"), limit - 1, "{name}");
    }
}
