//! A script of every verb, and what a store says of itself after each.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use gatekey::proof::{lagging, open_on, reading_first};
use gatekey::{
    AuditEvent, Engine, Error, Issued, KeyFilter, KeyId, KeyState, KeyUpdate, KeysPerOwner,
    KeyspaceUpdate, Limit, ManualClock, NewKey, NewKeyspace, Options, OwnerUpdate, Pepper, Plan,
    Quota, Reason, Refill, Requirements, Revocation, Rotation, Setting, Timestamp, Usage, Verdict,
};

use crate::disk::Disk;

const START_MS: u64 = 1_767_225_600_000;
const HOUR: Duration = Duration::from_secs(3600);
const OWNERS: [&str; 6] = [
    "acme",
    "acme/ingest",
    "acme/etl",
    "solo",
    "capped",
    "metered",
];
/// Where the keys of the batch stand among the tokens.
const BATCH: std::ops::Range<usize> = 5..25;
/// What the key with a quota is good for.
pub(crate) const QUOTA: u64 = 100;

/// An engine on a disk, and the tokens that it has shown.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) disk: Disk,
    pub(crate) clock: ManualClock,
    pub(crate) tokens: Vec<(KeyId, String)>,
    /// How many requests of the key with the quota were granted.
    pub(crate) spent: u64,
    /// How many peppers its options have.
    peppers: u8,
    is_cold: bool,
}

/// A verb, with its name.
pub(crate) type Verb = (&'static str, fn(&mut World) -> Result<(), Error>);

/// The instant at which a verb of the script runs.
pub(crate) fn instant(at: usize) -> Timestamp {
    let after = Duration::from_secs(at as u64);
    let start = Timestamp::from_unix_ms(START_MS).unwrap();
    start.saturating_add(after)
}

pub(crate) fn options(clock: &ManualClock, peppers: u8) -> Options {
    let mut options = Options::new()
        .clock(clock.clone())
        .resident_bytes(1 << 14)
        .cache_bytes(1 << 20)
        // The flushes of the script are the only ones.
        .usage_interval(Duration::from_secs(86_400));
    // An owner of more keys than that is brought up by the next flush, in steps of it.
    options = lagging(options, 4, false);
    // What an opening writes is in the journal when it returns.
    options = reading_first(options, false);
    for id in 1..=peppers {
        options = options.pepper(Pepper::new(id, [id; 32]).unwrap());
    }
    options
}

/// Opens what stands on a disk, at the instant of a verb.
pub(crate) fn open(disk: &Disk, at: usize) -> Result<Engine, Error> {
    open_on(options(&ManualClock::at(instant(at)), 2), disk.clone())
}

/// The same, read before it is repaired, which the first change does.
pub(crate) fn open_unrepaired(disk: &Disk, at: usize) -> Result<Engine, Error> {
    let options = options(&ManualClock::at(instant(at)), 2).usage_interval(None);
    open_on(reading_first(options, true), disk.clone())
}

impl World {
    /// A new store on a disk, with a pepper.
    pub(crate) fn begin(disk: Disk) -> Result<Self, Error> {
        Self::begin_with(1, disk)
    }

    pub(crate) fn begin_with(peppers: u8, disk: Disk) -> Result<Self, Error> {
        Self::begin_as(peppers, false, disk)
    }

    /// As [`begin`](Self::begin), with nothing kept in memory: every call reads.
    pub(crate) fn begin_cold(disk: Disk) -> Result<Self, Error> {
        Self::begin_as(1, true, disk)
    }

    fn begin_as(peppers: u8, is_cold: bool, disk: Disk) -> Result<Self, Error> {
        let clock = ManualClock::at(instant(0));
        Ok(Self {
            engine: open_on(Self::options(&clock, peppers, is_cold), disk.clone())?,
            disk,
            clock,
            tokens: Vec::new(),
            spent: 0,
            peppers,
            is_cold,
        })
    }

    fn options(clock: &ManualClock, peppers: u8, is_cold: bool) -> Options {
        let options = options(clock, peppers);
        match is_cold {
            true => options.resident_bytes(0).cache_bytes(0),
            false => options,
        }
    }

    /// Runs a verb at its instant.
    pub(crate) fn run(&mut self, at: usize, verb: Verb) -> Result<(), Error> {
        self.clock.set(instant(at + 1));
        (verb.1)(self)
    }

    pub(crate) fn keep(&mut self, issued: &Issued) {
        let token = issued.token.expose().to_owned();
        self.tokens.push((issued.key.id, token));
    }

    pub(crate) fn issue(&mut self, key: NewKey) -> Result<(), Error> {
        let issued = self.engine.acting_as("alice")?.issue(key)?;
        self.keep(&issued);
        Ok(())
    }

    fn rotate(&mut self, at: usize, rotation: Rotation) -> Result<(), Error> {
        let rotated = self.engine.rotate(self.tokens[at].0, rotation)?;
        let token = rotated.token.expose().to_owned();
        self.tokens.push((rotated.key.id, token));
        Ok(())
    }

    pub(crate) fn key(&self, at: usize) -> KeyId {
        self.tokens[at].0
    }
}

/// Every verb, more than once where it can go another way. The position of a token is
/// that of its issue in the script.
pub(crate) const SCRIPT: &[Verb] = &[
    ("create a keyspace", |w| {
        let many = NewKeyspace::new("many")?
            .permissions(["read", "write"])
            .plan(Plan::new("free").limit(Limit::new(1000, HOUR)?));
        w.engine.create_keyspace(many).map(drop)
    }),
    ("create a single-active keyspace", |w| {
        let one = NewKeyspace::new("one")?.single_active();
        w.engine.create_keyspace(one).map(drop)
    }),
    ("create a capped keyspace", |w| {
        let capped = KeysPerOwner::Many { cap: Some(2) };
        let capped = NewKeyspace::new("capped")?.keys_per_owner(capped);
        w.engine.create_keyspace(capped).map(drop)
    }),
    ("issue", |w| {
        w.issue(NewKey::new("many", "acme/ingest")?.permissions(["read", "write"]))
    }),
    ("issue with all that a key can have", |w| {
        w.issue(
            NewKey::new("many", "acme/etl")?
                .permissions(["read"])
                .name("etl")
                .description("the nightly job")
                .label("team", "data")
                .plan("free")
                .allow_network("10.0.0.0/8".parse()?)
                .expires_in(HOUR),
        )
    }),
    ("issue with a quota", |w| {
        let quota = Quota::new(QUOTA).refilled(Refill::Monthly);
        w.issue(NewKey::new("many", "metered")?.quota(quota))
    }),
    ("issue for a single-active owner", |w| {
        w.issue(NewKey::new("one", "solo")?)
    }),
    ("issue in place of another", |w| {
        w.issue(NewKey::new("one", "solo")?)
    }),
    ("issue a batch", |w| {
        let batch = vec![NewKey::new("many", "acme")?; 20];
        for issued in w.engine.issue_batch(batch)? {
            w.keep(&issued);
        }
        Ok(())
    }),
    ("issue below a cap", |w| {
        w.issue(NewKey::new("capped", "capped")?)
    }),
    ("issue at a cap", |w| {
        w.issue(NewKey::new("capped", "capped")?)
    }),
    ("update a keyspace", |w| {
        let update = KeyspaceUpdate::new()
            .description("for all")
            .add_permissions(["admin"])
            .retire_permissions(["write"]);
        w.engine.update_keyspace("many", update).map(drop)
    }),
    ("rotate with a grace", |w| {
        w.rotate(0, Rotation::with_grace(HOUR))
    }),
    ("rotate a single-active key with a grace", |w| {
        w.rotate(4, Rotation::with_grace(HOUR))
    }),
    ("rotate at once", |w| w.rotate(27, Rotation::at_once())),
    ("update a key", |w| {
        let update = KeyUpdate::new()
            .add_permissions(["admin"])
            .name("the new job")
            .remove_label("team")
            .expires_in(2 * HOUR);
        w.engine.update(w.key(1), update).map(drop)
    }),
    ("narrow a key", |w| {
        let update = KeyUpdate::new().remove_permissions(["read"]);
        w.engine.update(w.key(29), update).map(drop)
    }),
    ("spend of a quota", |w| {
        let token = w.tokens[2].1.clone();
        for _ in 0..7 {
            w.spent += u64::from(w.engine.verify(&token)?.is_granted());
        }
        Ok(())
    }),
    ("disable", |w| w.engine.disable(w.key(5)).map(drop)),
    ("enable", |w| w.engine.enable(w.key(5)).map(drop)),
    ("disable another", |w| w.engine.disable(w.key(6)).map(drop)),
    ("suspend", |w| {
        w.engine.suspend("acme", Some("unpaid")).map(drop)
    }),
    ("suspend below", |w| {
        w.engine.suspend("acme/etl", None).map(drop)
    }),
    ("resume", |w| w.engine.resume("acme").map(drop)),
    ("revoke", |w| {
        let leaked = Revocation::new(Reason::KeyCompromise).note("seen in public");
        w.engine
            .acting_as("bob")?
            .revoke(w.key(7), leaked)
            .map(drop)
    }),
    ("revoke by token", |w| {
        let token = w.tokens[8].1.clone();
        w.engine.revoke_token(token, Reason::Cessation).map(drop)
    }),
    ("change a plan", |w| {
        let update = KeyspaceUpdate::new()
            .plan(Plan::new("free").limit(Limit::new(500, HOUR)?))
            .plan(Plan::new("paid").limit(Limit::new(5000, HOUR)?))
            .default_plan("free");
        w.engine.update_keyspace("many", update).map(drop)
    }),
    ("give a quota", |w| {
        let update = KeyUpdate::new().quota(Quota::new(50)).plan("paid");
        w.engine.update(w.key(10), update).map(drop)
    }),
    ("give another a quota", |w| {
        let update = KeyUpdate::new().quota(Quota::new(50));
        w.engine.update(w.key(11), update).map(drop)
    }),
    ("change a quota", |w| {
        let update = KeyUpdate::new().quota(Quota::new(60));
        w.engine.update(w.key(10), update).map(drop)
    }),
    ("rotate a key with a quota, and change it on the way", |w| {
        let changes = KeyUpdate::new().name("rotated").plan("free");
        w.rotate(10, Rotation::with_grace(HOUR).changing(changes))
    }),
    ("leave a quota to the other who shares it", |w| {
        let update = KeyUpdate::new().quota(None);
        w.engine.update(w.key(30), update).map(drop)
    }),
    ("give an owner settings", |w| {
        let update = OwnerUpdate::new()
            .plan("paid")
            .limits([Limit::new(900, HOUR)?])
            .quota(Quota::new(70_000).refilled(Refill::Daily))
            .cap(50);
        let by_alice = w.engine.acting_as("alice")?;
        by_alice.update_owner("many", "acme", update).map(drop)
    }),
    ("change settings of an owner", |w| {
        let update = OwnerUpdate::new()
            .limits_of_plan()
            .quota(Quota::new(80_000));
        w.engine.update_owner("many", "acme", update).map(drop)
    }),
    ("give another owner settings", |w| {
        let update = OwnerUpdate::new().quota(Quota::new(90_000)).cap(60);
        w.engine.update_owner("many", "acme/etl", update).map(drop)
    }),
    ("take an owner's settings away", |w| {
        let nothing = OwnerUpdate::nothing();
        w.engine.update_owner("many", "acme/etl", nothing).map(drop)
    }),
    ("give a key limits of its own", |w| {
        let update = KeyUpdate::new().limits([Limit::new(700, HOUR)?]);
        w.engine.update(w.key(12), update).map(drop)
    }),
    ("take a quota away", |w| {
        let update = KeyUpdate::new().quota(None);
        w.engine.update(w.key(11), update).map(drop)
    }),
    ("flush uses", |w| {
        for (_, token) in &w.tokens[9..14] {
            assert!(w.engine.verify(token)?.is_granted());
        }
        w.engine.flush()
    }),
    ("close, and open with a newer pepper", |w| {
        w.engine.clone().close()?;
        w.peppers *= 2;
        let options = World::options(&w.clock, w.peppers, w.is_cold);
        w.disk = w.disk.found();
        w.engine = open_on(options, w.disk.clone())?;
        Ok(())
    }),
    ("renew digests", |w| {
        for (_, token) in &w.tokens[9..14] {
            assert!(w.engine.verify(token)?.is_granted());
        }
        w.engine.flush()
    }),
    ("revoke an owner", |w| {
        w.engine
            .revoke_owner("acme/etl", Reason::Superseded)
            .map(drop)
    }),
    ("purge", |w| {
        w.engine.purge(Duration::from_secs(2)).map(drop)
    }),
    ("trim the audit trail", |w| {
        let span = w.engine.audit_span()?;
        w.engine
            .acting_as("bob")?
            .trim_audit(span.last.seq - 5)
            .map(drop)
    }),
    ("issue after a purge", |w| {
        w.issue(NewKey::new("one", "solo")?)
    }),
    ("revoke a keyspace", |w| {
        w.engine.revoke_keyspace("one", Reason::Cessation).map(drop)
    }),
    ("put a record of an extension, with its key", |w| {
        let new = NewKey::new("many", "acme")?;
        let issued = w.engine.extension("devices")?.change(move |tx| {
            let issued = tx.issue(&new)?;
            tx.put("devices", b"7", 1, issued.key.id.to_string().as_bytes())?;
            tx.put("places", b"hall", 1, b"7")?;
            tx.audit("device_added", "7", None)?;
            Ok(issued)
        })?;
        w.keep(&issued);
        Ok(())
    }),
    ("remove a record of an extension, and revoke its key", |w| {
        w.engine.extension("devices")?.change(|tx| {
            let record = tx.get("devices", b"7")?.unwrap();
            let key = String::from_utf8(record.bytes).unwrap().parse()?;
            tx.revoke(key, Reason::KeyCompromise)?;
            tx.put("devices", b"7", 2, b"stolen")?;
            tx.remove("places", b"hall")?;
            tx.audit("device_stolen", "7", Some("from the hall"))
        })
    }),
];

/// What a store says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    /// All but what verifications note: uses, and what is left of a quota. Sorted, and
    /// with each key called by its place in the script, so that two runs of it agree.
    facts: Vec<String>,
    /// The verdict on each token.
    pub(crate) verdicts: Vec<&'static str>,
}

/// Looks at a store, of which these tokens are known.
pub(crate) fn look(engine: &Engine, tokens: &[(KeyId, String)]) -> Result<Look, Error> {
    let keys = engine
        .keys(KeyFilter::new())
        .collect::<Result<Vec<_>, _>>()?;
    let mut text = String::new();
    let mut hashes = Vec::new();
    let mut line = |fact: &dyn std::fmt::Debug| writeln!(text, "{fact:?}").unwrap();
    for keyspace in engine.keyspaces()? {
        line(&keyspace);
    }
    for key in &keys {
        let mut key = key.clone();
        key.usage = Usage::default();
        if let Some(quota) = &mut key.quota {
            quota.remaining = 0;
        }
        line(&key);
    }
    for owner in OWNERS {
        for keyspace in engine.keyspaces()? {
            let mut settings = engine.owner_settings(keyspace.prefix, owner)?;
            if let Setting::Own(quota) = &mut settings.quota {
                quota.remaining = 0;
            }
            line(&settings);
        }
        line(&engine.owner(owner)?);
    }
    for table in ["devices", "places"] {
        let read = |view: &gatekey::extension::ExtensionView<'_>| view.page(table, &[], None, 9);
        for (key, record) in engine.extension("devices")?.read(read)? {
            let [key, bytes] = [key, record.bytes]
                .map(String::from_utf8)
                .map(Result::unwrap);
            line(&(table, key, record.version, bytes));
        }
    }
    for entry in engine.audit_page(0, 1000)?.entries {
        // The hashes of the trail are those of this store.
        if let AuditEvent::AuditTrimmed { through, .. } = &entry.event {
            hashes.push(format!("{:?}", through.hash));
        }
        line(&entry);
    }
    for hash in hashes {
        text = text.replace(&hash, "(hash)");
    }
    // Keys of which no token is known come from a change whose answer was lost.
    let known: Vec<KeyId> = tokens.iter().map(|(key, _)| *key).collect();
    let lost = keys
        .iter()
        .map(|key| key.id)
        .filter(|key| !known.contains(key));
    let places: HashMap<String, usize> = known
        .iter()
        .copied()
        .chain(lost)
        .enumerate()
        // The keys of the batch are alike, and their order among themselves is random.
        .map(|(at, key)| (key, if BATCH.contains(&at) { BATCH.start } else { at }))
        .map(|(key, place)| (key.to_string(), place))
        .collect();
    let is_mark = |letter: char| !letter.is_ascii_alphanumeric();
    let words = text.split_inclusive(is_mark).map(|word| {
        let name = word.trim_end_matches(is_mark);
        places.get(name).map_or_else(
            || word.to_owned(),
            |place| format!("#{place}{}", &word[name.len()..]),
        )
    });
    let text: String = words.collect();
    let mut facts: Vec<String> = text.lines().map(str::to_owned).collect();
    facts.sort_unstable();
    let verdicts = tokens.iter().map(|(_, token)| verdict(engine, token));
    Ok(Look {
        facts,
        verdicts: verdicts.collect::<Result<_, _>>()?,
    })
}

/// Looks at a copy of a world's store, at the instant of a verb: the questions would
/// leave notes in the store itself, which a later flush writes.
pub(crate) fn look_at_copy(world: &World, at: usize) -> Look {
    let engine = open(&Disk::of(world.disk.live()), at).unwrap();
    look(&engine, &world.tokens).unwrap()
}

impl Look {
    /// Where the two differ, in all that both know of.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        let mut verdicts = self.verdicts.iter().zip(&other.verdicts).enumerate();
        if let Some((at, (one, other))) = verdicts.find(|(_, (one, other))| one != other) {
            return Some(format!("token {at} is {one}, not {other}"));
        }
        if self.facts == other.facts {
            return None;
        }
        let only = |one: &Self, other: &Self| {
            let fact = one.facts.iter().find(|fact| !other.facts.contains(fact));
            fact.cloned().unwrap_or_default()
        };
        Some(format!(
            "{}\nis not\n{}",
            only(self, other),
            only(other, self)
        ))
    }
}

/// The verdict on a token from inside its networks, and nothing charged for it.
pub(crate) fn verdict(engine: &Engine, token: &str) -> Result<&'static str, Error> {
    let asked = Requirements::new().source("10.1.2.3".parse().unwrap());
    Ok(match engine.verify_with(token, &asked.cost(0))? {
        Verdict::Granted(_) => "granted",
        Verdict::Denied(denial) => denial.code(),
    })
}

/// Asserts what must hold in every store, whatever became of the last change.
pub(crate) fn assert_sound(engine: &Engine, place: &str) {
    let report = engine.check().unwrap();
    assert!(report.is_sound(), "{place}: {report:#?}");
    let Ok(one) = engine.keyspace("one") else {
        return;
    };
    for state in [KeyState::Active, KeyState::Retiring] {
        let filter = KeyFilter::new()
            .keyspace(one.prefix)
            .owner("solo".parse().unwrap())
            .state(state);
        assert!(
            engine.keys(filter).count() <= 1,
            "{place}: two are {state:?}"
        );
    }
}
