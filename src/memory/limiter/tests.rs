use std::time::Duration;

use super::*;
use crate::memory::owner_names::{Name, of_key};
use crate::model::clock::Timestamp;
use crate::model::id::KeyId;
use crate::model::limit::Limit;

mod full;

pub(super) fn at(ms: u64) -> Timestamp {
    Timestamp::from_raw(1_767_225_600_000 + ms)
}

fn terms(limits: &[Limit]) -> Arc<Terms> {
    Terms::new(limits, 1)
}

pub(super) fn ask<'a>(name: Name, level: Level, terms: &'a Arc<Terms>, owner: &'a str) -> Ask<'a> {
    Ask {
        name,
        level,
        terms,
        stamp: 0,
        owner: owner.as_bytes(),
    }
}

fn key<'a>(number: u64, terms: &'a Arc<Terms>, owner: &'a str) -> Ask<'a> {
    ask(of_key(KeyId::from_raw(number), 1), Level::Key, terms, owner)
}

pub(super) fn charge(
    limiter: &Limiter,
    asks: &[Ask<'_>],
    cost: u32,
    now: Timestamp,
) -> Result<(), OverLimit> {
    let also = || Ok::<(), ()>(());
    match limiter.charge((asks, &[]), cost, (now, &Home::new()), &mut None, also) {
        Ok(Charged::Admitted) => Ok(()),
        Ok(Charged::OverLimit(refused)) => Err(refused),
        Ok(Charged::Failed(())) | Err(_) => panic!("nothing fails"),
    }
}

fn left(limiter: &Limiter, ask: &Ask<'_>, now: Timestamp) -> u32 {
    let statuses = limiter.look(&[*ask], 0, now, &Home::new()).unwrap();
    statuses[0].status.remaining()
}

#[test]
fn a_request_that_one_level_refuses_is_counted_at_none() {
    let limiter = Limiter::new(100);
    let organisation = terms(&[Limit::per_hour(100)]);
    let small = terms(&[Limit::per_hour(3), Limit::per_minute(50)]);
    let above = ask(Name(7, 7), Level::Owner(1), &organisation, "acme");
    let below = key(1, &small, "acme");
    for _ in 0..3 {
        charge(&limiter, &[above, below], 1, at(0)).unwrap();
    }
    for _ in 0..10 {
        let refused = charge(&limiter, &[above, below], 1, at(0)).unwrap_err();
        assert_eq!(refused.status.level(), Level::Key);
    }
    assert_eq!(left(&limiter, &above, at(0)), 97);
    let home = Home::new();
    let mut standing = None;
    let failed = limiter.charge((&[above], &[]), 1, (at(0), &home), &mut standing, || {
        Err("no quota")
    });
    assert!(matches!(failed, Ok(Charged::Failed("no quota"))) && standing.is_none());
    assert_eq!(left(&limiter, &above, at(0)), 97);
}

#[test]
fn threads_over_many_keys_of_an_organisation_admit_exactly_its_limit() {
    let limiter = Limiter::new(10_000);
    let organisation = terms(&[Limit::per_hour(5_000).fixed()]);
    let own = terms(&[Limit::per_hour(1_000_000)]);
    let granted = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let (limiter, organisation, own, granted) = (&limiter, &organisation, &own, &granted);
            scope.spawn(move || {
                let above = ask(Name(7, 7), Level::Owner(1), organisation, "acme");
                for round in 0..1_000 {
                    let below = key(round * 8 + thread, own, "acme");
                    if charge(limiter, &[above, below], 1, at(0)).is_ok() {
                        granted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(granted.into_inner(), 5_000);
}

#[test]
fn a_refusal_tells_the_longest_wait_of_all_levels() {
    for is_above_longer in [true, false] {
        let limiter = Limiter::new(100);
        let (long, short) = (Limit::per_hour(5).fixed(), Limit::per_minute(5).fixed());
        let (above, below) = match is_above_longer {
            true => (long, short),
            false => (short, long),
        };
        let (above, below) = (terms(&[above]), terms(&[below]));
        let asks = [
            ask(Name(7, 7), Level::Owner(1), &above, "acme"),
            key(1, &below, "acme"),
        ];
        charge(&limiter, &asks, 5, at(0)).unwrap();
        let refused = charge(&limiter, &asks, 1, at(1_000)).unwrap_err();
        assert_eq!(refused.status.limit(), long);
        assert_eq!(refused.retry_after, Some(Duration::from_secs(3_599)));
        assert_eq!(refused.status.resets_at(), at(3_600_000));
        // What no waiting brings is told so, whatever the others say.
        let refused = charge(&limiter, &asks, 6, at(1_000)).unwrap_err();
        assert_eq!(refused.retry_after, None);
    }
}

#[test]
fn counts_carry_over_to_the_limit_that_takes_the_place_of_one_of_its_kind() {
    let limiter = Limiter::new(100);
    let free = terms(&[Limit::per_hour(10), Limit::per_minute(10)]);
    let paid = terms(&[Limit::per_minute(10).fixed(), Limit::per_hour(100)]);
    charge(&limiter, &[key(1, &free, "acme")], 10, at(0)).unwrap();
    assert!(charge(&limiter, &[key(1, &free, "acme")], 1, at(0)).is_err());
    let now = Ask {
        stamp: 1,
        ..key(1, &paid, "acme")
    };
    charge(&limiter, &[now], 10, at(0)).unwrap();
    assert_eq!(left(&limiter, &now, at(0)), 0, "of ten a minute");
    assert_eq!(left(&limiter, &now, at(60_000)), 10);
    let hourly = limiter.look(&[now], 0, at(0), &Home::new()).unwrap()[1].status;
    assert_eq!(hourly.remaining(), 80, "both tens count");
    // A request that was judged by the older terms is counted under the newer.
    charge(&limiter, &[key(1, &free, "acme")], 5, at(60_000)).unwrap();
    assert_eq!(left(&limiter, &now, at(60_000)), 5);
    // And whoever comes after a later change, under what holds then, be it what held once.
    let back = Ask {
        stamp: 2,
        ..key(1, &free, "acme")
    };
    assert_eq!(left(&limiter, &back, at(60_000)), 0, "85 of 10 an hour");
}

#[test]
fn requests_beside_a_change_lose_no_count_of_either_kind() {
    let limiter = Limiter::new(100);
    let old = terms(&[Limit::per_hour(10).fixed()]);
    let new = terms(&[Limit::per_hour(100)]);
    let before = Ask {
        stamp: 4,
        ..key(1, &old, "acme")
    };
    let after = Ask {
        stamp: 5,
        ..key(1, &new, "acme")
    };
    charge(&limiter, &[before], 10, at(0)).unwrap();
    // Some know of the change already, and others do not yet.
    for _ in 0..20 {
        charge(&limiter, &[after], 1, at(0)).unwrap();
        charge(&limiter, &[before], 1, at(0)).unwrap();
    }
    assert_eq!(left(&limiter, &after, at(0)), 60);
    // A key's own limits are of one kind: each request is judged by those that it knows.
    let own = |terms| Ask {
        stamp: Ask::IS_OF_ONE_KIND,
        ..key(2, terms, "acme")
    };
    let fewer = terms(&[Limit::per_hour(50)]);
    charge(&limiter, &[own(&new)], 40, at(0)).unwrap();
    assert_eq!(left(&limiter, &own(&fewer), at(0)), 10);
    assert_eq!(left(&limiter, &own(&new), at(0)), 60);
}

/// Terms that come late are older than those that came before them.
#[test]
fn a_meter_stays_with_the_newest_terms_that_it_has_seen() {
    let limiter = Limiter::new(100);
    let of_kinds = [
        terms(&[Limit::per_hour(10).fixed()]),
        terms(&[Limit::per_minute(100)]),
        terms(&[Limit::per_hour(100)]),
    ];
    let ask = |stamp: u64, terms| Ask {
        stamp,
        ..key(1, terms, "acme")
    };
    charge(&limiter, &[ask(3, &of_kinds[0])], 1, at(0)).unwrap();
    charge(&limiter, &[ask(5, &of_kinds[2])], 40, at(0)).unwrap();
    charge(&limiter, &[ask(4, &of_kinds[1])], 1, at(0)).unwrap();
    assert_eq!(left(&limiter, &ask(5, &of_kinds[2]), at(0)), 59);
}

#[test]
fn who_has_more_than_its_share_loses_what_is_beyond_it_and_no_more() {
    let limiter = Limiter::new(320);
    let plan = terms(&[Limit::per_hour(5)]);
    let above = ask(Name(7, 7), Level::Owner(1), &plan, "big");
    charge(&limiter, &[above], 1, at(0)).unwrap();
    let groups = [
        ("big", 0..199),
        ("middle", 1_000..1_117),
        ("small", 2_000..2_003),
    ];
    for (owner, numbers) in groups.clone() {
        for number in numbers {
            charge(&limiter, &[key(number, &plan, owner)], 1, at(0)).unwrap();
        }
    }
    charge(&limiter, &[key(5_000, &plan, "new")], 1, at(0)).unwrap();
    // Of 300 places, the others have 121, so that 179 of 200 are left.
    assert_eq!(limiter.crowding(), (0, 21));
    assert_eq!(limiter.len(), 300);
    let counts_anew = groups.map(|(owner, numbers)| {
        let anew = numbers.filter(|number| left(&limiter, &key(*number, &plan, owner), at(0)) == 5);
        anew.count()
    });
    assert_eq!(counts_anew, [21, 0, 0]);
    assert_eq!(
        left(&limiter, &above, at(0)),
        4,
        "all keys of the owner count there"
    );
}

/// Keys before projects, and of keys those in which the least counts on.
#[test]
fn who_loses_meters_loses_those_first_that_matter_least() {
    const KEYS: u64 = 70;
    for (others, takes_projects) in [(1, false), (50, false), (120, true)] {
        let limiter = Limiter::new(320);
        let hourly = terms(&[Limit::per_hour(5).fixed()]);
        let project = |number: u64| {
            let name = Name(number.wrapping_mul(0x9E37_79B9_7F4A_7C15), number);
            ask(name, Level::Owner(2), &hourly, "big")
        };
        let above = ask(Name(7, 7), Level::Owner(1), &hourly, "big");
        // The organisation's ends first, then those of its projects, then those of its keys, the
        // last key's before the others'.
        charge(&limiter, &[above], 1, at(0)).unwrap();
        for number in 1..250 {
            charge(&limiter, &[project(number)], 1, at(number)).unwrap();
        }
        for number in (0..KEYS).rev() {
            let key = key(number, &hourly, "big");
            charge(&limiter, &[key], 1, at(1_000 - number)).unwrap();
        }
        for number in 1_000..1_000 + others {
            let owner = format!("new-{number}");
            charge(&limiter, &[key(number, &hourly, &owner)], 1, at(1_000)).unwrap();
        }
        let (refused, evicted) = limiter.crowding();
        let of_keys = evicted.min(KEYS);
        let of_projects = evicted - of_keys;
        assert_eq!((refused, of_projects > 0), (0, takes_projects), "{evicted}");
        let is_anew = |ask: Ask<'_>| left(&limiter, &ask, at(1_000)) == 5;
        let keys = (0..KEYS).filter(|number| is_anew(key(*number, &hourly, "big")));
        assert!(keys.eq(KEYS - of_keys..KEYS));
        let projects = (1..250).filter(|number| is_anew(project(*number)));
        assert!(projects.eq(1..=of_projects));
        assert!(!is_anew(above));
    }
}

#[test]
fn no_organisation_can_crowd_out_another() {
    let limiter = Limiter::new(320);
    let plan = terms(&[Limit::per_hour(5)]);
    let mut refused = 0;
    for number in 0..5_000 {
        refused += u32::from(charge(&limiter, &[key(number, &plan, "big/x")], 1, at(0)).is_err());
        assert!(limiter.len() <= 320);
    }
    assert_eq!(refused, 5_000 - 320, "it has them all, and gets no more");
    for number in 0..150 {
        let owner = format!("small-{number}");
        for _ in 0..5 {
            let known = key(10_000 + number, &plan, &owner);
            charge(&limiter, &[known], 1, at(0)).unwrap();
        }
        // Each is counted for as long as it needs it.
        for before in 0..=number {
            let owner = format!("small-{before}");
            let known = key(10_000 + before, &plan, &owner);
            assert!(charge(&limiter, &[known], 1, at(0)).is_err(), "{before}");
        }
        assert!(limiter.len() <= 320);
    }
    let (refused, evicted) = limiter.crowding();
    assert_eq!(refused, 5_000 - 320);
    assert!((150 - 20..=320).contains(&evicted), "{evicted}");
}

#[test]
fn idle_meters_go_and_busy_ones_stay() {
    let limiter = Limiter::new(10_000);
    let plan = terms(&[Limit::per_minute(5)]);
    let busy = key(0, &plan, "busy");
    for round in 0..40_u64 {
        // Two thirds of a window: what is counted in one still counts in the next.
        let now = at(round * 40_000);
        charge(&limiter, &[busy], u32::from(round % 3 == 0), now).unwrap();
        for number in 0..400 {
            charge(
                &limiter,
                &[key(1 + round * 400 + number, &plan, "acme")],
                1,
                now,
            )
            .unwrap();
        }
        assert!(limiter.len() <= 4_000, "{}", limiter.len());
    }
    assert!(left(&limiter, &busy, at(39 * 40_000)) < 5);
}

#[test]
fn in_a_fork_a_lock_that_is_never_given_back_is_an_error() {
    let limiter = Limiter::new(10);
    let plan = terms(&[Limit::per_minute(100)]);
    let levels = [key(1, &plan, "acme")];
    charge(&limiter, &levels, 1, at(0)).unwrap();
    let home = Home::new();
    let mut held = Held::default();
    limiter.hold(&mut held, (&levels, &[]), &home).unwrap();
    home.leave();
    let charged = limiter.charge((&levels, &[]), 1, (at(0), &home), &mut None, || {
        Ok::<(), ()>(())
    });
    assert!(matches!(charged, Err(Error::Forked)));
    drop(held);
}

/// The charge after the answer is counted where there is a meter, whatever its limit says,
/// and where there is no room for one it is not: what was used was used.
#[test]
fn what_a_request_cost_beyond_is_counted_at_the_levels_that_have_room() {
    let limiter = Limiter::new(1);
    let plan = terms(&[Limit::per_minute(5)]);
    let (known, unknown) = (key(1, &plan, "acme"), key(2, &plan, "acme"));
    charge(&limiter, &[known], 1, at(0)).unwrap();
    let home = Home::new();
    let beyond = |now| {
        let asks = [known, unknown];
        limiter.charge_beyond((&asks, &[]), 7, (now, &home), || Ok::<(), ()>(()))
    };
    assert!(matches!(beyond(at(1_000)), Ok(Ok(()))));
    assert_eq!((limiter.len(), left(&limiter, &known, at(1_000))), (1, 0));
    assert_eq!(left(&limiter, &unknown, at(1_000)), 5);
    // As far as it still counts: of eight, those of a window ago.
    assert_eq!(left(&limiter, &known, at(119_000)), 4);
    assert!(matches!(beyond(at(119_500)), Ok(Ok(()))));
    assert_eq!(left(&limiter, &known, at(119_500)), 0, "in its own window");
    let asks = [known, unknown];
    let failed = limiter.charge_beyond((&asks, &[]), 7, (at(240_000), &home), || Err("no quota"));
    assert!(matches!(failed, Ok(Err("no quota"))));
    assert_eq!(left(&limiter, &known, at(240_000)), 5);
}

#[test]
fn what_is_taken_back_when_it_counts_no_more_makes_no_room_for_more() {
    let limiter = Limiter::new(10);
    let plan = terms(&[Limit::per_minute(5).fixed(), Limit::per_minute(5).bucket(5)]);
    let known = key(1, &plan, "acme");
    let home = Home::new();
    charge(&limiter, &[known], 5, at(0)).unwrap();
    let begun = limiter.begun();
    charge(&limiter, &[known], 5, at(60_000)).unwrap();
    let back = |now| limiter.take_back(known.name, 5, (at(0), begun), now, &home);
    back(at(60_000)).unwrap();
    assert_eq!(left(&limiter, &known, at(60_000)), 0);
    // Nor of a window that the meter has not noticed to be over.
    let looked = limiter.look(&[known], 0, at(125_000), &home).unwrap();
    back(at(125_000)).unwrap();
    assert_eq!(
        looked,
        limiter.look(&[known], 0, at(125_000), &home).unwrap()
    );
}

#[test]
fn what_is_forgotten_is_no_meter_any_more() {
    let limiter = Limiter::new(3);
    let plan = terms(&[Limit::per_minute(5)]);
    for round in 0..5_u64 {
        for number in 0..3 {
            charge(
                &limiter,
                &[key(round * 3 + number, &plan, "acme")],
                5,
                at(0),
            )
            .unwrap();
        }
        assert_eq!(limiter.len(), 3);
        limiter.forget();
        assert_eq!(limiter.len(), 0);
    }
}

/// There the exact clock is read.
#[test]
fn levels_are_not_charged_by_the_coarse_clock_where_a_window_may_end() {
    let limiter = Limiter::new(100);
    let second = terms(&[Limit::per_second(30).fixed()]);
    let hour = terms(&[Limit::per_hour(100).fixed()]);
    let asks = [
        ask(Name(7, 7), Level::Owner(1), &second, "acme"),
        key(1, &hour, "acme"),
    ];
    charge(&limiter, &asks, 1, at(0)).unwrap();
    for (ms, is_charged) in [(0, true), (500, true), (999, false), (1_000, false)] {
        assert_eq!(charge_steadily(&limiter, &asks, at(ms)), is_charged, "{ms}");
    }
    assert_eq!(left(&limiter, &asks[1], at(1_000)), 97);
}

/// Levels that make room for one another, turn by turn, would never be done.
#[test]
fn a_request_that_needs_more_meters_than_there_is_room_for_is_answered() {
    let plan = terms(&[Limit::per_minute(5)]);
    let levels = [
        ask(Name(7, 7), Level::Owner(1), &plan, "acme"),
        ask(Name(8, 8), Level::Owner(2), &plan, "acme/etl"),
        key(1, &plan, "acme/etl"),
    ];
    for (meters_max, owner, busy, is_admitted) in [
        (1, "others", 0, false),
        (3, "others", 0, true),
        // Others that have more than their share lose some.
        (4, "others", 2, true),
        (4, "acme/x", 2, false),
        (5, "acme/x", 2, true),
    ] {
        let limiter = Limiter::new(meters_max);
        // Some are idle at the request, and make way.
        for number in 0..u64::try_from(meters_max).unwrap() {
            let then = at(if number < busy { 170_000 } else { 0 });
            charge(&limiter, &[key(100 + number, &plan, owner)], 5, then).unwrap();
        }
        let charged = charge(&limiter, &levels, 1, at(180_000));
        assert_eq!(charged.is_ok(), is_admitted, "{meters_max}, {owner}");
        assert!(limiter.len() <= meters_max);
    }
}

/// Where nothing was idle a moment ago the meters are not walked, and what a request has
/// stays.
#[test]
fn a_meter_that_counts_nothing_and_stays_needs_no_place() {
    let limiter = Limiter::new(2_049);
    let plan = terms(&[Limit::per_minute(5)]);
    for number in 0..2_047 {
        charge(&limiter, &[key(number, &plan, "acme")], 1, at(0)).unwrap();
    }
    let levels = [
        ask(Name(7, 7), Level::Owner(1), &plan, "acme"),
        key(5_000, &plan, "acme"),
    ];
    charge(&limiter, &levels[..1], 0, at(0)).unwrap();
    assert!(limiter.room.is_sweep_due(limiter.len()));
    charge(&limiter, &levels, 1, at(0)).unwrap();
    assert_eq!(limiter.len(), 2_049);
    assert_eq!(limiter.crowding(), (0, 0));
}

/// Whoever has less than a share keeps that, and the others share the rest.
#[test]
fn a_share_is_what_is_left_of_those_who_have_less() {
    for (counts, target, is_one_new, share) in [
        (vec![320], 300, false, 300),
        (vec![320], 300, true, 299),
        (vec![200, 120], 300, false, 180),
        (vec![120, 200, 3], 300, false, 177),
        (vec![5, 5, 5], 300, false, usize::MAX),
        (vec![100; 40], 300, false, 7),
        (vec![100; 400], 300, true, 1),
        (vec![], 300, true, usize::MAX),
    ] {
        let found = room::share_of(counts.clone(), target, is_one_new);
        assert_eq!(found, share, "{counts:?}, {is_one_new}");
    }
}

fn known<'a>(ask: &Ask<'a>) -> Known<'a> {
    Known {
        terms: None,
        ..ask.known()
    }
}

/// Whether a request of cost 1 is charged by hints alone.
fn charge_steadily(limiter: &Limiter, asks: &[Ask<'_>], now: Timestamp) -> bool {
    let known: Vec<Known<'_>> = asks.iter().map(Ask::known).collect();
    let (home, mut stands) = (Home::new(), Stands::Nowhere);
    let at = (When::coarse(now), &home);
    let charged = limiter.charge_steadily(&known, 1, at, (&mut stands, 0), || true);
    charged.unwrap()
}

/// Whether a request is charged by the hint alone.
fn charge_one(limiter: &Limiter, known: &Known<'_>, cost: u32, now: Timestamp) -> Option<bool> {
    let at = (When::coarse(now), &Home::new());
    let mut stands = Stands::Nowhere;
    let charged = limiter.charge_one(known, cost, at, &mut stands, || true);
    charged.unwrap()
}

#[test]
fn a_hint_that_leads_to_another_charges_nobody() {
    let limiter = Limiter::new(10);
    let plan = terms(&[Limit::per_hour(5).fixed()]);
    let (one, other) = (key(1, &plan, "acme"), key(2, &plan, "acme"));
    charge(&limiter, &[one], 1, at(0)).unwrap();
    charge(&limiter, &[other], 1, at(0)).unwrap();
    assert_eq!(charge_one(&limiter, &known(&one), 1, at(0)), Some(true));
    let place = limiter.hints.get(other.name.0).unwrap();
    limiter.hints.add(one.name.0, place);
    assert_eq!(charge_one(&limiter, &known(&one), 1, at(0)), None);
    assert_eq!(
        (left(&limiter, &one, at(0)), left(&limiter, &other, at(0))),
        (3, 4)
    );
    // Its own is found again, and is known from then on.
    assert_eq!(charge_one(&limiter, &known(&one), 1, at(0)), Some(true));
    // A place that is another's by now is no place of the one before.
    limiter.forget();
    let last = key(3, &plan, "acme");
    charge(&limiter, &[last], 1, at(0)).unwrap();
    charge(&limiter, &[key(4, &plan, "acme")], 1, at(0)).unwrap();
    for gone in [one, other] {
        assert_eq!(charge_one(&limiter, &known(&gone), 1, at(0)), None);
        assert_eq!(left(&limiter, &gone, at(0)), 5);
    }
    assert_eq!(left(&limiter, &last, at(0)), 4);
}

#[test]
fn a_meter_of_another_stamp_is_not_charged_by_the_hint_alone() {
    let limiter = Limiter::new(10);
    let plan = terms(&[Limit::per_hour(5).fixed()]);
    let ask = Ask {
        stamp: 7,
        ..key(1, &plan, "acme")
    };
    charge(&limiter, &[ask], 1, at(0)).unwrap();
    for stamp in [6, 8] {
        let known = Known {
            stamp,
            ..known(&ask)
        };
        assert_eq!(charge_one(&limiter, &known, 1, at(0)), None);
    }
    assert_eq!(charge_one(&limiter, &known(&ask), 4, at(0)), Some(true));
    assert_eq!(charge_one(&limiter, &known(&ask), 1, at(0)), Some(false));
    assert_eq!(left(&limiter, &ask, at(0)), 0);
    // With the same terms it is charged, and is of the later stamp from then on.
    let later = Ask { stamp: 8, ..ask };
    assert_eq!(charge_one(&limiter, &later.known(), 0, at(0)), Some(true));
    assert_eq!(charge_one(&limiter, &known(&later), 0, at(0)), Some(true));
    assert_eq!(charge_one(&limiter, &known(&ask), 0, at(0)), None);
}

/// Meters come and go while others are charged: each charge is counted where it belongs, or
/// the meter was gone.
#[test]
fn places_that_are_used_again_beside_charges_count_for_nobody_else() {
    let limiter = Limiter::new(64);
    let plan = terms(&[Limit::per_hour(1_000_000).fixed()]);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (limiter, plan) = (&limiter, &plan);
            scope.spawn(move || {
                let above = ask(Name(7, 7), Level::Owner(1), plan, "acme");
                for round in 0..2_000_u64 {
                    let now = at(round * 3_600_000);
                    // Idle an hour on, and makes way for those of other threads.
                    let own = key(thread * 1_000_000 + round % 40, plan, "acme");
                    let asks = [above, own];
                    if !charge_steadily(limiter, &asks, now) {
                        let _ = charge(limiter, &asks, 1, now);
                    }
                    assert!(limiter.len() <= 64);
                }
            });
        }
    });
    let places: usize = limiter.shards.iter().map(|shard| lock(shard).len()).sum();
    assert_eq!(places, limiter.len());
    for shard in &limiter.shards {
        for (name, entry) in lock(shard).iter() {
            assert!(limiter.lines.get(entry.place).unwrap().is(*name));
        }
    }
}

/// Two buckets over one window hold different levels: each keeps its own as terms change.
#[test]
fn each_of_two_buckets_keeps_what_it_counted() {
    let limiter = Limiter::new(10);
    let fast = Limit::per_minute(600).bucket(600);
    let slow = |requests| Limit::per_minute(requests).bucket(requests);
    for (number, [before, after]) in [
        (1, [[fast, slow(20)], [fast, slow(30)]]),
        (2, [[slow(20), fast], [slow(30), fast]]),
    ] {
        let (before, after) = (terms(&before), terms(&after));
        let ask = key(number, &before, "acme");
        charge(&limiter, &[ask], 20, at(0)).unwrap();
        charge(&limiter, &[ask], 1, at(1_900)).unwrap_err();
        let ask = Ask {
            terms: &after,
            stamp: 1,
            ..ask
        };
        // Of the 20, not one has drained from the slow one.
        let admitted = (0..40).filter(|_| charge(&limiter, &[ask], 1, at(1_900)).is_ok());
        assert_eq!(admitted.count(), 10);
    }
}

/// What drained at the old rate is not taken back as if it had drained at the new.
#[test]
fn what_was_counted_by_a_faster_bucket_is_not_taken_back() {
    let bucket = |requests| Limit::per_minute(requests).bucket(requests);
    for (from, to, left) in [(1_200, 600, 100), (600, 1_200, 1_100)] {
        let limiter = Limiter::new(10);
        let (before, after) = (terms(&[bucket(from)]), terms(&[bucket(to)]));
        let ask = key(1, &before, "acme");
        charge(&limiter, &[ask], 600, at(0)).unwrap();
        let begun = limiter.begun();
        charge(&limiter, &[ask], 0, at(20_000)).unwrap();
        let ask = Ask {
            terms: &after,
            stamp: 1,
            ..ask
        };
        charge(&limiter, &[ask], 300, at(20_000)).unwrap();
        let (name, home) = (ask.name, Home::new());
        let taken = limiter.take_back(name, 600, (at(0), begun), at(20_000), &home);
        taken.unwrap();
        let found = self::left(&limiter, &ask, at(20_000));
        assert!(found <= left, "{found} of {left}, from {from} to {to}");
    }
}

/// Wherever their meters stand, of two levels that are as tight the upper is told.
#[test]
fn of_levels_that_are_as_tight_the_first_is_told() {
    let plan = terms(&[Limit::per_hour(5).fixed()]);
    let levels = [
        ask(Name(7, 7), Level::Owner(1), &plan, "acme"),
        ask(Name(8, 8), Level::Owner(2), &plan, "acme/etl"),
        key(1, &plan, "acme/etl"),
    ];
    let now = at(0);
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let limiter = Limiter::new(10);
        for level in order {
            charge(&limiter, &[levels[level]], 1, now).unwrap();
        }
        let known = levels.each_ref().map(Ask::known);
        let (home, mut stands) = (Home::new(), Stands::Nowhere);
        let when = (When::coarse(now), &home);
        let charged = limiter.charge_steadily(&known, 1, when, (&mut stands, 1), || true);
        assert!(charged.unwrap());
        let told = stands.told().unwrap();
        let levels = [told.tightest, told.longest].map(|limit| limit.level);
        assert_eq!(levels, [Level::Owner(1); 2], "{order:?}");
    }
}
