//! Events of `tracing`: what is changed and what fails, and no secret. Alone in a process,
//! since what is logged at all is decided once for all threads.

#![allow(clippy::unwrap_used)]

use gatekey::{KeyUpdate, NewKey, NewKeyspace, Options, Pepper, Reason, Revocation, Rotation};
use gatekey_testkit::events::Lines;

#[test]
fn events_say_what_was_changed_and_what_failed_and_hold_no_secret() {
    let log = Lines::default();
    tracing::subscriber::set_global_default(log.clone()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let pepper = "canary pepper, 32 bytes or more of it";
    let options = Options::new().usage_interval(None);
    let options = options.pepper(Pepper::new(1, pepper).unwrap());
    let engine = options.create(&path).unwrap().acting_as("alice").unwrap();
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    engine
        .create_keyspace(keyspace.description("canary"))
        .unwrap();
    let new = || {
        let new = NewKey::new("acme_live", "canary/owner").unwrap();
        new.name("canary")
            .description("canary")
            .label("canary", "canary")
    };
    let first = engine.issue(new()).unwrap();
    let second = engine.rotate(first.key.id, Rotation::at_once()).unwrap();
    let renamed = KeyUpdate::new().name("canary too");
    engine.update(second.key.id, renamed).unwrap();
    engine.suspend("canary/owner", "canary").unwrap();
    // A refusal is no change.
    assert!(
        engine
            .revoke_token("acme_live_canary", Reason::Cessation)
            .is_err()
    );
    let why = Revocation::new(Reason::KeyCompromise).note("canary");
    engine.revoke_token(second.token.expose(), why).unwrap();
    let _ = engine.verify(second.token.expose()).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(engine.issue(new()).is_err());
    let _ = engine.close();

    let log = log.text();
    let lines: Vec<&str> = log.lines().collect();
    for line in [
        "INFO gatekey message=changed seq=1 change=\"KeyspaceCreated\" actor=\"alice\" keys=0"
            .to_owned(),
        format!(
            "INFO gatekey message=changed seq=2 change=\"KeyIssued\" actor=\"alice\" keys=1 key={}",
            first.key.id
        ),
    ] {
        assert!(lines.contains(&line.as_str()), "{line} is not in\n{log}");
    }
    let changed = lines.iter().filter(|line| line.starts_with("INFO"));
    assert_eq!(changed.count(), 6, "{log}");
    let failed = "ERROR gatekey message=the store took no change changes=1 error=";
    assert!(lines.iter().any(|line| line.starts_with(failed)), "{log}");
    for issued in [&first.token, &second.token] {
        let secret = issued.expose();
        let hidden = &secret[secret.len() - 49..];
        assert!(!log.contains(hidden), "{log}");
    }
    assert!(!log.contains("canary"), "{log}");
}
