//! JWTs that were seen before, on disks that fail.

use std::time::{Duration, Instant};

use gatekey::proof::open_on;
use gatekey::{Engine, Error, KeyId, NewKey, NewKeyspace, Options, Reason};
use gatekey_oauth::{JwtOptions, Jwts, KeyUse};

use crate::disk::{Call, Disk, Fault, How};
use crate::world::{ISSUER, LATER, READ};

/// A call that takes a JWT away.
type TakesAway = fn(&Engine, &Jwts, KeyId) -> gatekey::Result<()>;

const REVOCATIONS: [TakesAway; 3] = [
    |engine, _, key| engine.revoke(key, Reason::KeyCompromise).map(drop),
    |_, jwts, _| {
        let mut keys = jwts.signing_keys().into_iter();
        let current = keys.find(|key| key.usage == KeyUse::Current).unwrap();
        jwts.revoke_signing_key(&current.kid).map(drop)
    },
    |engine, _, _| engine.suspend("acme", None).map(drop),
];

/// What came of a revocation beside a fault.
struct Ran {
    /// How often the disk was read meanwhile.
    reads: u64,
    is_applied: bool,
    /// Whether a JWT that was seen was not answered then.
    is_dark: bool,
}

fn run(what: usize, fault: Option<Fault>) -> Ran {
    let case = format!("revocation {what}, {fault:?}");
    let disk = Disk::default();
    // Without a cache each look at the store reads the disk.
    let engine = open_on(Options::new().cache_bytes(0), disk.clone()).unwrap();
    let new = NewKeyspace::new("acme_live").unwrap();
    engine.create_keyspace(new.permissions(["read"])).unwrap();
    let new = NewKey::new("acme_live", "acme").unwrap();
    let key = engine.issue(new.permissions(["read"])).unwrap();
    let jwts = Jwts::open(&engine, JwtOptions::new(ISSUER, ISSUER)).unwrap();
    let grant = engine.verify(key.token.expose()).unwrap();
    let jwt = jwts.issue(&grant.into_result().unwrap(), None).unwrap();
    let granted = || {
        let verdict = jwts.verify(jwt.expose(), &READ);
        verdict.map(|verdict| verdict.is_granted())
    };
    assert!(granted().unwrap() && jwts.remembered() == 1);

    disk.set_fault(fault);
    let taken = REVOCATIONS[what](&engine, &jwts, key.key.id);
    let reads = disk.calls(Call::Read);
    let then = granted();
    assert!(taken.is_err() || !matches!(then, Ok(true)), "{case}");
    disk.set_fault(None);
    let begun = Instant::now();
    while engine.flush().is_err() || !engine.health().is_well() {
        assert!(begun.elapsed() < LATER, "{case}: {:?}", engine.health());
        std::thread::sleep(Duration::from_millis(1));
    }
    let at_last = granted().unwrap();
    match taken {
        Ok(()) => assert!(!at_last, "{case}"),
        Err(Error::OutcomeUnknown(_)) => {}
        Err(_) => assert!(at_last, "{case}"),
    }
    engine.close().unwrap();
    Ran {
        reads,
        is_applied: taken.is_ok(),
        is_dark: then.is_err(),
    }
}

/// Where a revocation is committed and cannot be read back, nothing is answered from memory.
#[test]
fn a_jwt_that_was_seen_is_not_granted_after_a_revocation_whatever_the_disk_does() {
    let (mut applied, mut dark) = (0, 0);
    for what in 0..REVOCATIONS.len() {
        let reads = run(what, None).reads;
        // What is read last, is read of what was committed.
        let last = (reads.saturating_sub(6)..reads).map(|nth| (Call::Read, nth));
        let writes = (0..2).flat_map(|nth| [(Call::Write, nth), (Call::Sync, nth)]);
        for (call, nth) in last.chain(writes) {
            let fault = Fault {
                call,
                nth,
                how: How::Broken,
                lasts: true,
            };
            let ran = run(what, Some(fault));
            applied += u32::from(ran.is_applied);
            dark += u32::from(ran.is_applied && ran.is_dark);
        }
    }
    println!("{applied} revocations applied; after {dark} of them nothing was answered");
    assert!(dark > 0, "of {applied}");
}
