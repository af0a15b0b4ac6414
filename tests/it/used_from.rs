//! The networks that keys are used from, and the hint of a new one.

use std::time::Duration;

use gatekey::{
    Credential, Engine, ForeignHash, ForeignKey, Hint, HintRule, Issued, KeyId, ManualClock,
    NewImport, NewKey, NewKeyspace, Options, Permissions, Reason, Requirements, Verdict,
};

const DAY: Duration = Duration::from_secs(86_400);

struct Place {
    engine: Engine,
    clock: ManualClock,
}

fn from(address: &str) -> Requirements<'static> {
    Requirements::new().source(address.parse().unwrap())
}

impl Place {
    fn new() -> Self {
        Self::with(|options| options)
    }

    fn with(change: impl FnOnce(Options) -> Options) -> Self {
        let clock = ManualClock::at("2026-01-01T12:00:00Z".parse().unwrap());
        let options = Options::new().usage_interval(1_000 * DAY);
        let options = options.note_networks(true).clock(clock.clone());
        let engine = change(options).open_in_memory().unwrap();
        let keyspace = NewKeyspace::new("acme").unwrap().permissions(["read"]);
        engine.create_keyspace(keyspace).unwrap();
        Self { engine, clock }
    }

    fn issue(&self) -> Issued {
        let new = NewKey::new("acme", "acme/ingest").unwrap();
        self.engine.issue(new).unwrap()
    }

    fn verify(&self, issued: &Issued, requirements: &Requirements<'_>) -> Verdict {
        let token = issued.token.expose();
        self.engine.verify_with(token, requirements).unwrap()
    }

    fn used(&self, issued: &Issued, address: &str) {
        assert!(self.verify(issued, &from(address)).is_granted());
    }

    /// The networks of a key, with how many days ago it was last used from each.
    fn networks(&self, id: KeyId) -> Vec<(String, u64)> {
        self.engine.flush().unwrap();
        let now = self.engine.now();
        let told = self.engine.networks_of(id).unwrap().into_iter();
        told.map(|used| {
            let ago = now.unix_ms() - used.last_day.unix_ms();
            (used.network.to_string(), ago / 86_400_000)
        })
        .collect()
    }

    fn named(&self, id: KeyId) -> Vec<String> {
        let networks = self.networks(id).into_iter();
        networks.map(|(network, _)| network).collect()
    }

    fn hints(&self, id: KeyId) -> Vec<Hint> {
        self.engine.flush().unwrap();
        let mut hints = self.engine.hints_of(id).unwrap();
        hints.retain(|hint| hint.rule == HintRule::NewNetwork);
        hints
    }

    /// The networks that hints tell, with how many are new and how many are not.
    fn told(&self, issued: &Issued) -> Vec<(String, u64, u64)> {
        let told = |hint: Hint| (hint.network.unwrap().to_string(), hint.count, hint.usual);
        self.hints(issued.key.id).into_iter().map(told).collect()
    }
}

#[test]
fn a_key_that_is_used_from_a_new_network_is_told_for_two_days() {
    // In memory, and from the file.
    for bytes in [1 << 20, 0] {
        let place = Place::with(|options| options.resident_bytes(bytes));
        let key = place.issue();
        place.used(&key, "192.0.2.1");
        place.clock.advance(7 * DAY - Duration::from_secs(1));
        place.used(&key, "192.0.2.77");
        place.used(&key, "198.51.100.1");
        assert_eq!(place.told(&key), [], "its networks are not known yet");
        place.clock.advance(Duration::from_secs(1));
        let since = place.engine.now();
        place.used(&key, "203.0.113.9");
        place.clock.advance(DAY / 24);
        place.used(&key, "203.0.113.10");
        assert_eq!(place.told(&key), [("203.0.113.0/24".into(), 1, 2)]);
        assert_eq!(place.hints(key.key.id)[0].since, Some(since));
        let [hint] = &place.hints(key.key.id)[..] else {
            panic!("one hint");
        };
        let page = place.engine.hints(None, 10).unwrap().hints;
        assert!(page.contains(hint), "{page:?}");
        place.clock.advance(DAY / 24);
        place.used(&key, "2001:db8:7::1");
        let both = [
            ("2001:db8:7::/48".into(), 2, 2),
            ("203.0.113.0/24".into(), 2, 2),
        ];
        assert_eq!(place.told(&key), both, "the newest first");
        place.clock.advance(DAY);
        assert_eq!(place.told(&key).len(), 2);
        place.clock.advance(DAY);
        place.used(&key, "203.0.113.9");
        assert_eq!(place.told(&key), []);
    }
}

#[test]
fn only_grants_with_a_source_are_noted_and_only_where_the_option_is_on() {
    let place = Place::with(|options| options.note_networks(false));
    let key = place.issue();
    place.used(&key, "192.0.2.1");
    assert_eq!(place.named(key.key.id), [""; 0]);

    let place = Place::new();
    let (key, revoked) = (place.issue(), place.issue());
    assert!(place.verify(&key, &Requirements::new()).is_granted());
    let may_not = from("192.0.2.1").permissions(&["read"]);
    assert!(!place.verify(&key, &may_not).is_granted());
    place
        .engine
        .revoke(revoked.key.id, Reason::Cessation)
        .unwrap();
    assert!(!place.verify(&revoked, &from("192.0.2.1")).is_granted());
    for issued in [&key, &revoked] {
        assert_eq!(place.named(issued.key.id), [""; 0]);
    }
    place.used(&key, "192.0.2.1");
    assert_eq!(place.named(key.key.id), ["192.0.2.0/24"]);
    assert_eq!(place.told(&key), [], "its first network is not new");
}

#[test]
fn every_way_of_a_grant_is_noted() {
    let place = Place::new();
    let engine = &place.engine;
    let keys = [place.issue(), place.issue(), place.issue()];
    let ids = keys.each_ref().map(|issued| issued.key.id);
    let tokens = keys.each_ref().map(|issued| issued.token.expose());
    for verdict in engine.verify_many(&tokens, &from("192.0.2.1")) {
        assert!(verdict.unwrap().is_granted());
    }
    let devices = engine.extension("devices").unwrap();
    for (id, address) in [(ids[0], "198.51.100.1"), (ids[0], "198.51.100.2")] {
        let verdict = devices.vouch(id, Permissions::ALL, &from(address)).unwrap();
        assert!(verdict.is_granted());
    }
    assert_eq!(place.named(ids[0]), ["192.0.2.0/24", "198.51.100.0/24"]);
    assert_eq!(place.named(ids[1]), ["192.0.2.0/24"]);
    assert_eq!(place.named(ids[2]), ["192.0.2.0/24"]);

    let import = NewImport::new("old", ForeignHash::Plain);
    engine.begin_import(import).unwrap();
    let new = NewKey::new("acme", "acme/old").unwrap();
    let token = "sk-of-the-old-system-0001";
    let row = ForeignKey::new(new, Credential::token(token));
    engine.import_keys("old", vec![row]).unwrap();
    let verdict = engine.verify_with(token, &from("203.0.113.1")).unwrap();
    let id = verdict.grant().unwrap().key_id();
    assert_eq!(place.named(id), ["203.0.113.0/24"]);
}

#[test]
fn of_too_many_networks_the_one_used_least_lately_goes_first() {
    let place = Place::new();
    let key = place.issue();
    let id = key.key.id;
    for third in 0..20 {
        place.used(&key, &format!("10.0.{third}.1"));
        place.engine.flush().unwrap();
        place.clock.advance(Duration::from_secs(1));
    }
    let nets = |thirds: &[u8]| -> Vec<String> {
        let net = |third: &u8| format!("10.0.{third}.0/24");
        thirds.iter().map(net).collect()
    };
    let first: Vec<u8> = (0..16).collect();
    assert_eq!(
        place.named(id),
        nets(&first),
        "of one day those that came first"
    );
    place.clock.advance(DAY);
    for third in (0..16).filter(|third| *third != 3) {
        place.used(&key, &format!("10.0.{third}.1"));
    }
    place.used(&key, "10.0.99.1");
    let mut kept: Vec<u8> = (0..16).filter(|third| *third != 3).collect();
    kept.push(99);
    assert_eq!(place.named(id), nets(&kept));
    // Others of one day do not hide it: the key is known for longer than what is kept of it.
    place.clock.advance(7 * DAY);
    for third in 100..116 {
        place.used(&key, &format!("10.0.{third}.1"));
    }
    let told = place.told(&key);
    assert_eq!(told.len(), 16);
    assert!(
        told.iter()
            .all(|(_, new, others)| (*new, *others) == (16, 0))
    );
}

#[test]
fn a_network_is_kept_for_ninety_days_after_its_last_use() {
    let place = Place::new();
    let key = place.issue();
    let id = key.key.id;
    place.used(&key, "192.0.2.1");
    place.used(&key, "198.51.100.1");
    place.clock.advance(60 * DAY);
    place.used(&key, "198.51.100.1");
    place.clock.advance(30 * DAY);
    let both = [("192.0.2.0/24".into(), 90), ("198.51.100.0/24".into(), 30)];
    assert_eq!(place.networks(id), both);
    place.clock.advance(DAY);
    // Told no more before the flush that drops it.
    let told = place.engine.networks_of(id).unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!(place.networks(id), [("198.51.100.0/24".into(), 31)]);
    place.used(&key, "192.0.2.1");
    assert_eq!(place.told(&key), [("192.0.2.0/24".into(), 1, 1)]);
}

#[test]
fn networks_go_with_their_key_and_with_a_backup() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let clock = ManualClock::at("2026-01-01T12:00:00Z".parse().unwrap());
    let options = || {
        let options = Options::new().usage_interval(1_000 * DAY);
        options.note_networks(true).clock(clock.clone())
    };
    let engine = options().create(&path).unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme").unwrap())
        .unwrap();
    let new = NewKey::new("acme", "acme").unwrap().expires_in(DAY);
    let issued = engine.issue(new).unwrap();
    let id = issued.key.id;
    let token = issued.token.expose();
    let _ = engine.verify_with(token, &from("192.0.2.1")).unwrap();
    engine.close().unwrap();
    // Closing has written it, and it is there with the option off.
    let engine = Options::new().clock(clock.clone()).open(&path).unwrap();
    assert_eq!(engine.networks_of(id).unwrap().len(), 1);
    let copy = dir.path().join("copy.redb");
    engine.backup(&copy).unwrap();
    clock.advance(3 * DAY);
    assert_eq!(engine.networks_of(id).unwrap().len(), 1);
    engine.purge(DAY).unwrap();
    assert!(engine.key(id).is_err());
    assert_eq!(engine.networks_of(id).unwrap().len(), 0);
    engine.close().unwrap();
    let engine = options().open(&copy).unwrap();
    assert_eq!(engine.networks_of(id).unwrap().len(), 1);
    engine.close().unwrap();
}
