//! A store that fails under the pages: a page that says so, and nothing lost.

use gatekey::proof::open_on;
use gatekey::{KeyFilter, KeyState, Options};
use gatekey_admin::Operator;

use super::operators::{Desk, borrowed, concrete, form};
use super::*;
use crate::Console;

#[allow(dead_code)]
#[path = "../../../../tests/proof/disk.rs"]
mod disk;

use disk::{Call, Disk, Fault, How};

fn broken(call: Call) -> Option<Fault> {
    let how = How::Broken;
    let (nth, lasts) = (0, true);
    Some(Fault {
        call,
        nth,
        how,
        lasts,
    })
}

fn on(disk: &Disk) -> House {
    let options = Options::new().usage_interval(None);
    House::over(open_on(options, disk.clone()).unwrap())
}

/// Lets the disk be well again, and waits until the store takes changes: it looks again
/// by itself, and when it is asked for a change.
fn heal(disk: &Disk, house: &House) {
    disk.set_fault(None);
    let begun = std::time::Instant::now();
    while house.engine.flush().is_err() || !house.engine.health().is_well() {
        assert!(begun.elapsed().as_secs() < 60, "the store does not recover");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn good_keys(house: &House) -> usize {
    let keys = house.engine.keys(KeyFilter::new().state(KeyState::Active));
    keys.map(Result::unwrap).count()
}

/// A page is there, or says that the store cannot be reached; it never ends in a fault.
fn assert_tells(seen: &Seen, place: &str) {
    match seen.status.as_u16() {
        200 | 303 | 400 | 401 | 403 | 404 | 409 => {}
        503 => assert!(
            seen.body.contains("cannot be reached now")
                || seen.body.contains("It is not known whether that was done"),
            "{place}: {}",
            seen.body
        ),
        other => panic!("{place}: {other}: {}", seen.body),
    }
}

/// Each page of both kinds, while each kind of call to the disk fails.
#[test]
fn every_page_says_that_the_store_fails_and_is_back_when_it_is_well() {
    for call in [Call::Read, Call::Write, Call::SetSize, Call::Sync] {
        let disk = Disk::default();
        let desk = Desk::of(on(&disk));
        let (_, cookie) = desk.all();
        let key = desk.house.key("acme", &["read"]);
        let member = desk.house.pages("acme", House::ceiling());
        let pairs = form(&key);
        let mut failed = 0;
        disk.set_fault(broken(call));
        for (method, path) in crate::operator::paths() {
            // A backup has files of its own.
            if matches!(path, "/logout" | "/login" | "/store/backup") {
                continue;
            }
            let at = concrete(path, &key);
            let seen = match method.as_str() {
                "POST" => desk.post(&cookie, &at, &borrowed(&pairs)),
                _ => desk.get(
                    &cookie,
                    &format!("{}?owner=acme&keyspace=acme_live", at.trim_end_matches('/')),
                ),
            };
            assert_tells(&seen, &format!("{call:?} {method} {path}"));
            failed += usize::from(seen.status == 503);
        }
        for (method, path) in crate::self_service::paths() {
            let at = format!(
                "/settings/keys{}",
                path.replace("{id}", &key.key.id.to_string())
            );
            let seen = match method.as_str() {
                "POST" => post(&member, &at, &borrowed(&pairs)),
                _ => get(
                    &member,
                    &format!("{}?keyspace=acme_live", at.trim_end_matches('/')),
                ),
            };
            assert_tells(&seen, &format!("{call:?} {method} {path}"));
            failed += usize::from(seen.status == 503);
        }
        if matches!(call, Call::Write | Call::Sync) {
            assert!(failed > 3, "{call:?}: no page has failed");
        }
        heal(&disk, &desk.house);
        assert_eq!(desk.get(&cookie, "/store").status, 200, "{call:?}");
        let page = get(&member, "/settings/keys?show=all");
        assert_eq!(page.status, 200, "{call:?}");
        assert!(
            page.body.contains(&key.key.id.to_string()),
            "{call:?}: the key is lost"
        );
        desk.house.engine.close().unwrap();
    }
}

/// A form whose store fails: the customer is told, and sends it again when all is well. It
/// makes one key, and its token is shown.
#[test]
fn a_form_that_failed_is_sent_again_and_done_once() {
    for call in [Call::Write, Call::Sync] {
        for nth in 0..4 {
            let disk = Disk::default();
            let house = on(&disk);
            let before = house.key("acme", &["read"]);
            let pages = house.pages("acme", House::ceiling());
            let number = get(&pages, "/settings/keys/new?keyspace=acme_live").hidden("number");
            let fault = broken(call).map(|fault| Fault { nth, ..fault });
            disk.set_fault(fault);
            let seen = post(&pages, "/settings/keys/new", &House::wish(&number));
            heal(&disk, &house);
            let token = match seen.shows_a_token() {
                // The fault came later than the commit.
                true => seen.token(),
                false => {
                    assert_eq!(seen.status, 503, "{call:?} {nth}: {}", seen.body);
                    assert_tells(&seen, &format!("{call:?} {nth}"));
                    // The customer sees no word of the server's disk.
                    assert!(!seen.body.contains("commit") && !seen.body.contains("I/O"));
                    let again = post(&pages, "/settings/keys/new", &House::wish(&number));
                    assert!(again.shows_a_token(), "{call:?} {nth}: {}", again.body);
                    again.token()
                }
            };
            let granted = |token: &str| house.engine.verify(token).unwrap().is_granted();
            assert!(
                granted(&token) && granted(before.token.expose()),
                "{call:?} {nth}"
            );
            assert_eq!(good_keys(&house), 2, "{call:?} {nth}");
            assert!(house.engine.check().unwrap().is_sound());
            house.engine.close().unwrap();
        }
    }
}

/// An operator is told what the store says, and that a change may be there.
#[test]
fn an_operator_is_told_what_failed() {
    let disk = Disk::default();
    let house = on(&disk);
    let key = house.key("acme", &["read"]);
    let root = Operator::with_all_rights("root");
    let console = Console::new(house.engine.clone()).router();
    let console = console.layer(Extension(root));
    let at = format!("/keys/{}", key.key.id);
    let seen = get(&console, &format!("{at}/revoke")).hidden("seen");
    disk.set_fault(broken(Call::Sync));
    let pairs = [("seen", &*seen), ("reason", "cessation")];
    let failed = post(&console, &format!("{at}/revoke"), &pairs);
    assert_eq!(failed.status, 503);
    assert!(
        failed.body.contains("the commit failed") || failed.body.contains("the store failed"),
        "{}",
        failed.body
    );
    // Not the form again, as for what was refused.
    assert_tells(&failed, "revoke");
    assert!(
        !failed.body.contains("That did not work"),
        "{}",
        failed.body
    );
    // The pages that only look go on, and say that no change is taken.
    let store = get(&console, "/store");
    assert!(
        store.body.contains("The store takes no changes"),
        "{}",
        store.body
    );
    heal(&disk, &house);
    let again = post(&console, &format!("{at}/revoke"), &pairs);
    // Done now; or it was done before, and the form says that the key has changed.
    assert!(matches!(again.status.as_u16(), 303 | 409), "{}", again.body);
    assert!(
        !house
            .engine
            .verify(key.token.expose())
            .unwrap()
            .is_granted()
    );
    house.engine.close().unwrap();
}
