//! What who lacks room for its meters is told.

use super::*;

/// Of the meters that have the places, and not of the asker's own windows.
#[test]
fn a_refusal_for_want_of_room_tells_when_there_is_room() {
    let brief = terms(&[Limit::per_second(9)]);
    for (limit, idle_ms) in [
        (Limit::per_minute(5).fixed(), 60_000),
        // Counts in the window after its own, too.
        (Limit::per_minute(5), 120_000),
        (Limit::per_hour(60).bucket(9), 120_000),
        (Limit::per_hour(5).fixed(), 3_600_000),
    ] {
        for missing in [1, 2] {
            let limiter = Limiter::new(2);
            let long = terms(&[limit, Limit::per_second(9)]);
            for number in [1, 2] {
                charge(&limiter, &[key(number, &long, "acme")], 2, at(0)).unwrap();
            }
            let asks = [
                ask(Name(7, 7), Level::Owner(2), &brief, "acme"),
                key(3, &brief, "acme"),
            ];
            let asks = &asks[..missing];
            let told = |now| charge(&limiter, asks, 1, now).unwrap_err();
            let wait = told(at(0)).retry_after.unwrap();
            let room_at = at(0).saturating_add(wait);
            assert_eq!(room_at, at(idle_ms + 1_000), "{limit}");
            // Shortly before, whoever asks is told the same, and the told instant holds.
            let before = at(idle_ms - 1);
            assert_eq!(told(before).status.resets_at, room_at, "{limit}");
            charge(&limiter, asks, 1, room_at).unwrap();
        }
    }
}

#[test]
fn who_needs_several_places_is_told_when_the_last_of_them_is_free() {
    let plan = terms(&[Limit::per_minute(5).fixed()]);
    let asks = [
        ask(Name(7, 7), Level::Owner(2), &plan, "acme"),
        ask(Name(8, 8), Level::Owner(3), &plan, "acme"),
        key(9, &plan, "acme"),
    ];
    for missing in 1..=3 {
        let limiter = Limiter::new(3);
        // In no order.
        for (number, ms) in [(1, 700), (2, 100), (3, 400)] {
            charge(&limiter, &[key(number, &plan, "acme")], 1, at(ms)).unwrap();
        }
        let refused = charge(&limiter, &asks[..missing], 1, at(900)).unwrap_err();
        let opened_at = [100, 400, 700][missing - 1];
        assert_eq!(refused.status.resets_at, at(61_000 + opened_at));
        charge(&limiter, &asks[..missing], 1, refused.status.resets_at).unwrap();
    }
}

/// Who has meters waits for its own, and others wait for whichever is idle first.
#[test]
fn room_is_told_by_the_meters_of_the_asker() {
    let hour = terms(&[Limit::per_hour(5).fixed()]);
    let minute = terms(&[Limit::per_minute(5).fixed()]);
    let limiter = Limiter::new(2);
    // Of organisations themselves, which lose none to others.
    let of = |number, owner, terms| ask(Name(number, 7), Level::Owner(1), terms, owner);
    charge(&limiter, &[of(1, "acme", &hour)], 1, at(0)).unwrap();
    charge(&limiter, &[of(2, "other", &minute)], 1, at(0)).unwrap();
    for (asker, idle_ms) in [("acme", 3_600_000), ("other", 60_000), ("third", 60_000)] {
        let refused = charge(&limiter, &[of(9, asker, &minute)], 1, at(5)).unwrap_err();
        assert_eq!(refused.status.resets_at, at(idle_ms + 1_000), "{asker}");
    }
}

/// What the request counts in already is no place for what it lacks.
#[test]
fn a_meter_of_the_request_itself_opens_no_place_for_it() {
    let limiter = Limiter::new(2);
    let minute = terms(&[Limit::per_minute(5).fixed()]);
    let hour = terms(&[Limit::per_hour(5).fixed()]);
    let project = ask(Name(7, 7), Level::Owner(2), &minute, "acme");
    charge(&limiter, &[project, key(1, &hour, "acme")], 1, at(0)).unwrap();
    let asks = [project, key(2, &hour, "acme")];
    let refused = charge(&limiter, &asks, 1, at(5)).unwrap_err();
    assert_eq!(refused.status.resets_at, at(3_601_000));
    charge(&limiter, &asks, 1, refused.status.resets_at).unwrap();
}

/// Which meters are idle first is known of a moment ago; when they are is looked up.
#[test]
fn a_meter_that_was_charged_meanwhile_opens_its_place_later() {
    let limiter = Limiter::new(2);
    let bucket = terms(&[Limit::per_minute(60).bucket(60)]);
    let hour = terms(&[Limit::per_hour(5).fixed()]);
    let busy = key(1, &bucket, "acme");
    charge(&limiter, &[busy], 1, at(0)).unwrap();
    charge(&limiter, &[key(2, &hour, "acme")], 1, at(0)).unwrap();
    let lacking = [key(3, &hour, "acme")];
    let told = |now| charge(&limiter, &lacking, 1, now).unwrap_err();
    assert_eq!(told(at(0)).status.resets_at, at(2_000));
    charge(&limiter, &[busy], 50, at(500)).unwrap();
    let resets_at = told(at(600)).status.resets_at;
    assert_eq!(resets_at, at(52_000));
    charge(&limiter, &lacking, 1, resets_at).unwrap();
}

#[test]
fn who_has_more_levels_than_there_are_places_is_told_of_no_wait() {
    let plan = terms(&[Limit::per_minute(5).fixed()]);
    for places in 0..3 {
        let limiter = Limiter::new(places);
        let asks = [
            ask(Name(7, 7), Level::Owner(1), &plan, "acme"),
            ask(Name(8, 8), Level::Owner(2), &plan, "acme"),
            key(9, &plan, "acme"),
        ];
        for cost in [0, 1] {
            let refused = charge(&limiter, &asks, cost, at(0)).unwrap_err();
            assert_eq!(refused.retry_after, None);
        }
        assert_eq!(limiter.crowding(), (2, 0));
    }
}
