//! Operators change keyspaces, plans, levels and owners.

use std::time::Duration;

use gatekey::{KeysPerOwner, LevelDefaults, Limit, Quota, Refill, Setting};

use super::operators::Desk;
use super::*;

/// The fields of the rules of a keyspace, as a form without a change sends them.
fn rules(seen: &str) -> Vec<(&str, &str)> {
    vec![
        ("seen", seen),
        ("description", ""),
        ("per_owner", "many"),
        ("default_life.unit", "86400"),
        ("max_life.unit", "86400"),
        ("max_grace.unit", "3600"),
    ]
}

fn with<'a>(
    mut pairs: Vec<(&'a str, &'a str)>,
    more: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    pairs.retain(|(name, _)| !more.iter().any(|(of, _)| of == name));
    pairs.extend(more);
    pairs
}

/// The limits of a plan, none of which is given but what `more` says.
fn limits<'a>(seen: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut pairs = vec![("seen", seen)];
    for name in [
        "limit0.window",
        "limit1.window",
        "limit2.window",
        "limit3.window",
    ] {
        pairs.push((name, "60"));
    }
    for name in ["limit0.kind", "limit1.kind", "limit2.kind", "limit3.kind"] {
        pairs.push((name, "sliding"));
    }
    with(pairs, more)
}

#[test]
fn a_keyspace_is_created_and_its_rules_are_changed() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let new = with(
        rules(""),
        &[
            ("prefix", "made_here"),
            ("description", "of the console"),
            ("permissions", "read\r\nwrite, order"),
            ("cap", "1,000"),
            ("max_life", "90"),
            ("max_grace", "36"),
        ],
    );
    let made = desk.post(&cookie, "/keyspaces/new", &new);
    assert_eq!(made.location(), "/console/keyspaces/made_here?done=created");
    let keyspace = desk.house.engine.keyspace("made_here").unwrap();
    assert_eq!(keyspace.permissions.len(), 3);
    assert_eq!(
        keyspace.keys_per_owner,
        KeysPerOwner::Many { cap: Some(1_000) }
    );
    assert_eq!(keyspace.max_lifetime, Some(90 * DAY));
    assert_eq!(keyspace.max_grace, Some(Duration::from_secs(36 * 3_600)));
    // The form shows what is there, and one that is sent as it is changes nothing else.
    let form = desk.get(&cookie, "/keyspaces/made_here/edit");
    assert!(form.body.contains("value=\"1000\"") && form.body.contains("value=\"36\""));
    let seen = form.hidden("seen");
    let changed = with(
        rules(&seen),
        &[
            ("description", "changed"),
            ("cap", "1000"),
            ("max_life", "30"),
            ("max_grace", "36"),
            ("permissions", "admin"),
            ("count_retiring", "yes"),
        ],
    );
    let saved = desk.post(&cookie, "/keyspaces/made_here/edit", &changed);
    assert_eq!(saved.location(), "/console/keyspaces/made_here?done=saved");
    let keyspace = desk.house.engine.keyspace("made_here").unwrap();
    assert_eq!(keyspace.max_lifetime, Some(30 * DAY));
    assert_eq!(keyspace.max_grace, Some(Duration::from_secs(36 * 3_600)));
    assert!(keyspace.count_retiring && keyspace.permissions.len() == 4);
    // What cannot be comes back with a reason, and what was filled in.
    let seen = desk
        .get(&cookie, "/keyspaces/made_here/edit")
        .hidden("seen");
    let before = desk.changes();
    for wrong in [
        [("cap", "many"), ("per_owner", "many")],
        [("cap", "-1"), ("per_owner", "many")],
        [("cap", "7"), ("max_life", "18446744073709551615")],
        [("cap", "7"), ("permissions", "not-a-name!")],
        [("cap", "7"), ("per_owner", "refusing")],
    ] {
        let mut more = vec![("description", "typed")];
        more.extend(wrong);
        let pairs = with(rules(&seen), &more);
        let back = desk.post(&cookie, "/keyspaces/made_here/edit", &pairs);
        assert_eq!(back.status, 400, "{wrong:?}");
        assert!(back.body.contains("role=\"alert\""), "{wrong:?}");
        assert!(back.body.contains("value=\"typed\""), "{wrong:?}");
    }
    let taken = desk.post(&cookie, "/keyspaces/new", &new);
    assert_eq!(taken.status, 409);
    assert_eq!(desk.changes(), before);
}

#[test]
fn a_plan_is_added_and_changed_by_its_name() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let at = "/keyspaces/acme_live/plan";
    let seen = desk.get(&cookie, at).hidden("seen");
    let new = limits(
        &seen,
        &[
            ("name", "gold"),
            ("limit0.requests", "1,000"),
            ("limit0.window", "3600"),
            ("limit0.kind", "fixed"),
            ("limit2.requests", "10"),
            ("limit2.window", "1"),
            ("limit2.kind", "bucket"),
            ("limit2.burst", "50"),
            ("rule", "shared"),
        ],
    );
    assert_eq!(desk.post(&cookie, at, &new).status, 303);
    let plan = |name: &str| {
        let keyspace = desk.house.engine.keyspace("acme_live").unwrap();
        keyspace.plans.into_iter().find(|plan| plan.name == name)
    };
    let gold = plan("gold").unwrap();
    let wanted = [
        Limit::per_hour(1_000).fixed(),
        Limit::per_second(10).bucket(50),
    ];
    assert_eq!(gold.limits, wanted);
    assert!(gold.shared_by_owner && !gold.replaces_levels_above);
    let shown = desk.get(&cookie, "/keyspaces/acme_live").body;
    assert!(shown.contains("1,000 in 1 hour, fixed window"), "{shown}");
    // A new plan of the name would take its place: that is another form, which says what
    // it reaches, and has the name typed.
    let seen = desk.get(&cookie, at).hidden("seen");
    let before = desk.changes();
    let again = desk.post(&cookie, at, &limits(&seen, &[("name", "gold")]));
    assert_eq!(again.status, 400);
    let form = desk.get(&cookie, "/keyspaces/acme_live/plan?plan=gold");
    assert!(form.body.contains("value=\"1000\"") && form.body.contains("value=\"50\""));
    let seen = form.hidden("seen");
    for (typed, status) in [("", 400), ("Gold", 400), ("gold", 303)] {
        assert_eq!(desk.changes(), before);
        let pairs = limits(
            &seen,
            &[("plan", "gold"), ("typed", typed), ("limit0.requests", "7")],
        );
        assert_eq!(desk.post(&cookie, at, &pairs).status, status, "{typed}");
    }
    let gold = plan("gold").unwrap();
    assert_eq!(gold.limits, [Limit::per_minute(7)]);
    assert!(!gold.shared_by_owner);
    // Limits that cannot be.
    let seen = desk.get(&cookie, at).hidden("seen");
    let before = desk.changes();
    for wrong in [
        [("limit0.requests", "0"), ("limit0.kind", "sliding")],
        [("limit0.requests", "1"), ("limit0.kind", "bucket")],
        [("limit0.requests", "1"), ("limit0.burst", "5")],
        [("limit0.burst", "5"), ("limit0.kind", "bucket")],
        [("limit0.requests", "1"), ("limit0.window", "86400")],
    ] {
        let mut pairs = limits(&seen, &wrong);
        pairs.push(("name", "lead"));
        assert_eq!(desk.post(&cookie, at, &pairs).status, 400, "{wrong:?}");
    }
    assert_eq!(desk.changes(), before);
}

/// Who has no fleet is asked only of a limit that is a fleet's.
#[test]
fn a_limit_of_the_fleet_is_shown_and_changed() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let at = "/keyspaces/acme_live/plan";
    let form = desk.get(&cookie, at);
    assert!(!form.body.contains("limit0.of"));
    let post = |seen: &str, of: &str, typed: &str| {
        let given = [
            ("plan", typed),
            ("typed", typed),
            ("name", "gold"),
            ("limit0.requests", "7"),
            ("limit0.kind", "fixed"),
            ("limit0.of", of),
        ];
        desk.post(&cookie, at, &limits(seen, &given)).status
    };
    let plan = || {
        let keyspace = desk.house.engine.keyspace("acme_live").unwrap();
        let gold = keyspace.plans.into_iter().find(|plan| plan.name == "gold");
        gold.map(|plan| plan.limits)
    };
    assert_eq!(post(&form.hidden("seen"), "both", ""), 400);
    assert_eq!(plan(), None);
    assert_eq!(post(&form.hidden("seen"), "fleet", ""), 303);
    let limit = Limit::per_minute(7).fixed();
    assert_eq!(plan(), Some(vec![limit.for_fleet()]));
    let shown = desk.get(&cookie, "/keyspaces/acme_live").body;
    assert!(
        shown.contains("7 in 1 minute, fixed window, for the fleet"),
        "{shown}"
    );
    let form = desk.get(&cookie, "/keyspaces/acme_live/plan?plan=gold");
    assert!(form.body.contains("limit0.of") && !form.body.contains("limit1.of"));
    assert!(
        form.body.contains("<option value=\"fleet\" selected"),
        "{}",
        form.body
    );
    assert_eq!(post(&form.hidden("seen"), "server", "gold"), 303);
    assert_eq!(plan(), Some(vec![limit]));
}

#[test]
fn what_reaches_many_is_typed_and_says_how_many() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let keys = [
        desk.house.key("acme", &["read"]),
        desk.house.key("umbrella/x", &["write"]),
    ];
    let granted = |index: usize| {
        let verdict = desk.house.engine.verify(keys[index].token.expose());
        verdict.unwrap().is_granted()
    };
    // The defaults of a level.
    let at = "/keyspaces/acme_live/level";
    assert!(desk.get(&cookie, at).body.contains("Which owners?"));
    let seen = desk.get(&cookie, &format!("{at}?depth=2")).hidden("seen");
    let before = desk.changes();
    let level = |typed: &'static str| {
        let pairs = [
            ("seen", &*seen),
            ("depth", "2"),
            ("plan", "free"),
            ("quota.requests", "10000"),
            ("quota.refill", "from"),
            ("quota.day", "15"),
            ("cap", "3"),
            ("typed", typed),
        ];
        desk.post(&cookie, at, &pairs)
    };
    assert_eq!(level("acme").status, 400);
    assert_eq!(desk.changes(), before);
    assert_eq!(level("acme_live").status, 303);
    let keyspace = desk.house.engine.keyspace("acme_live").unwrap();
    let quota = Quota::new(10_000).refilled(Refill::monthly_from(15).unwrap());
    let wanted = LevelDefaults::new().plan("free").quota(quota).cap(3);
    assert_eq!(keyspace.owner_defaults.get(&2), Some(&wanted));
    // Retiring a permission.
    let at = "/keyspaces/acme_live/retire";
    let form = desk.get(&cookie, at);
    assert!(
        form.body.contains("Keys that this reaches: 2"),
        "{}",
        form.body
    );
    let seen = form.hidden("seen");
    let retire = |typed: &'static str| {
        let pairs = [("seen", &*seen), ("permission", "write"), ("typed", typed)];
        desk.post(&cookie, at, &pairs)
    };
    let before = desk.changes();
    let back = retire("");
    assert_eq!(back.status, 400);
    assert!(back.body.contains("Keys that this reaches: 2"));
    assert_eq!(desk.changes(), before);
    assert_eq!(retire("acme_live").status, 303);
    let keyspace = desk.house.engine.keyspace("acme_live").unwrap();
    assert!(keyspace.permissions[1].retired && !keyspace.permissions[0].retired);
    // The end of all keys.
    let at = "/keyspaces/acme_live/revoke";
    assert!(
        desk.get(&cookie, at)
            .body
            .contains("Keys that this reaches: 2")
    );
    let before = desk.changes();
    let pairs = |typed: &'static str| [("reason", "cessation"), ("typed", typed)];
    assert_eq!(desk.post(&cookie, at, &pairs("acme")).status, 400);
    desk.console.age(Duration::from_secs(6 * 60));
    let asked = desk.post(&cookie, at, &pairs("acme_live"));
    assert_eq!(asked.status, 403, "the admin key is not asked for");
    assert_eq!(desk.changes(), before);
    assert!(granted(0) && granted(1));
    let (_, cookie) = desk.all();
    assert_eq!(desk.post(&cookie, at, &pairs("acme_live")).status, 303);
    assert!(!granted(0) && !granted(1));
}

#[test]
fn an_owner_gets_limits_and_a_quota_of_its_own() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let key = desk.house.key("acme", &["read"]);
    let at = "/owners/settings?owner=acme&keyspace=acme_live";
    let settings = || {
        desk.house
            .engine
            .owner_settings("acme_live", "acme")
            .unwrap()
    };
    let send = |seen: &str, more: &[(&'static str, &'static str)]| {
        let mut pairs = limits(
            seen,
            &[
                ("owner", "acme"),
                ("keyspace", "acme_live"),
                ("quota.refill", "monthly"),
            ],
        );
        pairs.extend(more);
        desk.post(&cookie, "/owners/settings", &pairs)
    };
    let seen = desk.get(&cookie, at).hidden("seen");
    let own = [
        ("limits", "own"),
        ("limit1.requests", "5"),
        ("quota.requests", "100"),
        ("cap", "2"),
    ];
    assert_eq!(send(&seen, &own).status, 303);
    let of = settings();
    assert_eq!(of.limits, Some(vec![Limit::per_minute(5)]));
    assert_eq!(
        of.quota.own().unwrap().quota,
        Quota::new(100).refilled(Refill::Monthly)
    );
    // Another form that was open meanwhile.
    assert_eq!(send(&seen, &[("limits", "plan")]).status, 409);
    assert_eq!(settings().cap, Setting::Own(2));
    // A use, and a change of something else: the quota is not filled anew.
    assert!(
        desk.house
            .engine
            .verify(key.token.expose())
            .unwrap()
            .is_granted()
    );
    let form = desk.get(&cookie, at);
    assert!(form.body.contains("value=\"100\""), "{}", form.body);
    let seen = form.hidden("seen");
    let more = [
        ("limits", "own"),
        ("limit1.requests", "5"),
        ("quota.requests", "100"),
        ("cap", "9"),
    ];
    assert_eq!(send(&seen, &more).status, 303);
    assert_eq!(settings().cap, Setting::Own(9));
    let left = desk.house.engine.quotas_left(key.key.id).unwrap();
    assert_eq!(left[0].status().remaining, 99);
    let page = desk.get(&cookie, "/owners/one?owner=acme").body;
    assert!(page.contains("5 in 1 minute, sliding window"), "{page}");
    assert!(page.contains("100, every month"), "{page}");
    assert!(
        desk.get(&cookie, "/owners")
            .body
            .contains("100, every month")
    );
    // No quota and no cap, whatever the keyspace says; not beside a number.
    let seen = desk.get(&cookie, at).hidden("seen");
    let both = [
        ("limits", "plan"),
        ("quota.requests", "100"),
        ("unlimited", "quota"),
    ];
    assert_eq!(send(&seen, &both).status, 400);
    assert!(settings().quota.own().is_some());
    let boundless = [
        ("limits", "plan"),
        ("unlimited", "quota"),
        ("unlimited", "cap"),
    ];
    assert_eq!(send(&seen, &boundless).status, 303);
    let of = settings();
    let unlimited = (Setting::Unlimited, Setting::Unlimited);
    assert_eq!((of.quota.map(drop), of.cap.map(drop)), unlimited);
    let page = desk.get(&cookie, "/owners/one?owner=acme").body;
    assert!(page.contains("Unlimited"), "{page}");
    let form = desk.get(&cookie, at);
    assert_eq!(form.body.matches(" checked").count(), 3, "{}", form.body);
    // All of it taken away again.
    let seen = form.hidden("seen");
    assert_eq!(send(&seen, &[("limits", "plan")]).status, 303);
    assert!(settings().is_empty());
    // Words where a number belongs.
    let seen = desk.get(&cookie, at).hidden("seen");
    for wrong in [
        ("cap", "ten"),
        ("quota.requests", "1e9"),
        ("quota.day", "15"),
    ] {
        let mut more = vec![("limits", "plan"), ("quota.requests", "5")];
        more.retain(|(name, _)| *name != wrong.0);
        more.push(wrong);
        let back = send(&seen, &more);
        assert_eq!(back.status, 400, "{wrong:?}");
        assert!(back.body.contains("role=\"alert\""));
    }
    assert!(settings().is_empty());
}

#[test]
fn a_form_of_a_keyspace_that_another_changed_meanwhile_says_so() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let old = desk
        .get(&cookie, "/keyspaces/acme_live/edit")
        .hidden("seen");
    let update = gatekey::KeyspaceUpdate::new().description("by another");
    desk.house
        .engine
        .update_keyspace("acme_live", update)
        .unwrap();
    let before = desk.changes();
    let mine = with(
        rules(&old),
        &[
            ("description", "mine"),
            ("typed", "acme_live"),
            ("permission", "read"),
        ],
    );
    let plan = limits(&old, &[("plan", "free"), ("typed", "free")]);
    let mut level = mine.clone();
    level.extend([("depth", "1"), ("quota.refill", "never")]);
    for (page, pairs) in [
        ("edit", &mine),
        ("retire", &mine),
        ("plan", &plan),
        ("level", &level),
    ] {
        let seen = desk.post(&cookie, &format!("/keyspaces/acme_live/{page}"), pairs);
        assert_eq!(seen.status, 409, "{page}: {}", seen.body);
        assert!(seen.body.contains("This has changed meanwhile"));
    }
    assert_eq!(desk.changes(), before);
}

#[test]
fn keyspaces_and_owners_are_changed_by_who_administers_alone() {
    let desk = Desk::new();
    let key = desk.admin_key(&["read", "issue", "revoke"]);
    let cookie = desk.log_in(&key);
    let before = desk.changes();
    for page in [
        "new",
        "acme_live/edit",
        "acme_live/retire",
        "acme_live/plan",
        "acme_live/level",
    ] {
        let at = format!("/keyspaces/{page}");
        assert_eq!(desk.get(&cookie, &at).status, 403, "{page}");
        let pairs = with(
            rules("0"),
            &[("prefix", "other"), ("typed", "acme_live"), ("depth", "1")],
        );
        assert_eq!(desk.post(&cookie, &at, &pairs).status, 403, "{page}");
    }
    // The keys of operators are not theirs to end.
    let pairs = [("reason", "cessation"), ("typed", "ops")];
    assert_eq!(
        desk.post(&cookie, "/keyspaces/ops/revoke", &pairs).status,
        403
    );
    assert_eq!(desk.changes(), before);
    let page = desk.get(&cookie, "/keyspaces/acme_live").body;
    assert!(
        !page.contains("/edit\"") && !page.contains("/plan\""),
        "{page}"
    );
}

#[test]
fn suspended_owners_are_listed_also_without_keys_and_page_by_page() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    for number in 0..60 {
        let owner = format!("org-{number:02}");
        desk.house.engine.suspend(owner.as_str(), "unpaid").unwrap();
    }
    let page = desk.get(&cookie, "/owners");
    assert!(page.body.contains("org-00") && page.body.contains("org-49"));
    assert!(!page.body.contains("org-50"));
    let at = page
        .body
        .find("/console/owners?suspended=")
        .expect("no next page");
    let next = page.body[at..].split('"').next().unwrap();
    let next = desk.get(&cookie, next.strip_prefix("/console").unwrap());
    assert!(next.body.contains("org-50") && next.body.contains("org-59"));
    assert!(!next.body.contains("org-49"));
}
