//! Access that is taken away while threads verify, refresh, redeem and introspect: nothing
//! that starts after the call's return is granted.
//!
//! The long form is a million verifications after a return, of what was granted just
//! before and is remembered.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gatekey::{
    Clock as _, Engine, KeyUpdate, ManualClock, Options, Reason, Requirements, SystemClock,
};
use gatekey_oauth::server::{ServerOptions, TokenRequest};
use gatekey_oauth::{JwtOptions, Jwts};
use serde_json::Value;

use crate::rounds;
use crate::walk::OWNER;
use crate::world::{ISSUER, Pair, READ, WRITE, World};

const VERIFIERS: usize = 4;

/// How far a call reaches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// The access token.
    Token,
    /// All that comes of the authorization.
    Family,
    /// All that the client or the owner could get.
    All,
}

struct Take {
    name: &'static str,
    reach: Reach,
    call: fn(&World, &Taken),
}

/// What is taken away.
struct Taken {
    /// The refresh token before the head.
    old: String,
    pair: Pair,
    /// The code that it all came of.
    code: String,
    authorization: String,
    key: gatekey::KeyId,
}

const TAKES: [Take; 12] = [
    Take {
        name: "the authorization is revoked",
        reach: Reach::Family,
        call: |w, t| assert!(w.server.revoke_authorization(&t.authorization).unwrap()),
    },
    Take {
        name: "the client revokes its refresh token",
        reach: Reach::Family,
        call: |w, t| assert_eq!(w.revoke(&t.pair.refresh).unwrap(), 200),
    },
    Take {
        name: "the client revokes its access token",
        reach: Reach::Token,
        call: |w, t| assert_eq!(w.revoke(&t.pair.access).unwrap(), 200),
    },
    Take {
        name: "the code is presented again",
        reach: Reach::Family,
        call: |w, t| assert!(w.redeem(&t.code).unwrap().is_err()),
    },
    Take {
        name: "an old refresh token is presented",
        reach: Reach::Family,
        call: |w, t| assert!(w.refresh(&t.old).unwrap().is_err()),
    },
    Take {
        name: "the key is revoked",
        reach: Reach::Token,
        call: |w, t| drop(w.engine.revoke(t.key, Reason::KeyCompromise).unwrap()),
    },
    Take {
        name: "the key is disabled",
        reach: Reach::Token,
        call: |w, t| drop(w.engine.disable(t.key).unwrap()),
    },
    Take {
        name: "the key is narrowed",
        reach: Reach::Token,
        call: |w, t| {
            let narrow = KeyUpdate::new().remove_permissions(["read"]);
            drop(w.engine.update(t.key, narrow).unwrap());
        },
    },
    Take {
        name: "all keys of the owner are revoked",
        reach: Reach::Family,
        call: |w, _| {
            w.engine.revoke_owner("acme", Reason::Cessation).unwrap();
        },
    },
    Take {
        name: "the owner is suspended",
        reach: Reach::All,
        call: |w, _| drop(w.engine.suspend(OWNER, None).unwrap()),
    },
    Take {
        name: "an owner above is suspended",
        reach: Reach::All,
        call: |w, _| drop(w.engine.suspend("acme", None).unwrap()),
    },
    Take {
        name: "the client is disabled",
        reach: Reach::All,
        call: |w, _| drop(w.server.disable_client(&w.app.id).unwrap().unwrap()),
    },
];

/// Only for JWTs.
const SIGNING: Take = Take {
    name: "the signing key is revoked",
    reach: Reach::Token,
    call: |w, _| {
        let jwts = w.jwts.as_ref().unwrap();
        let keys = jwts.signing_keys();
        let current = keys
            .iter()
            .find(|key| key.usage == gatekey_oauth::KeyUse::Current);
        assert!(jwts.revoke_signing_key(&current.unwrap().kid).unwrap());
    },
};

fn world(is_jwt: bool) -> World {
    let clock = ManualClock::at(SystemClock.now());
    let engine: Engine = Options::new()
        .clock(clock.clone())
        .open_in_memory()
        .unwrap();
    let jwts = is_jwt.then(|| JwtOptions::new(ISSUER, ISSUER));
    // Without a window each refresh rotates.
    let options = ServerOptions::new(ISSUER).refresh_window(Duration::ZERO);
    World::begin(engine, clock, jwts, options)
}

/// Whether introspection tells of a token that it may do something.
fn may(w: &World, token: &str, what: &str) -> bool {
    let params = w.request(&[("token", token)]);
    let reply = w.server.introspect(TokenRequest {
        params: &params,
        authorization: None,
    });
    let body: Value = serde_json::from_str(&reply.unwrap().body).unwrap();
    let scope = body["scope"].as_str().unwrap_or("");
    body["active"] == true && scope.split(' ').any(|name| name == what)
}

fn is_active(w: &World, access: &str) -> bool {
    may(w, access, "read")
}

#[derive(Default)]
struct Tally {
    /// Verifications that began after the return, of a token that is remembered.
    warm: AtomicU64,
    /// Those that prove all of it, and introspections.
    others: AtomicU64,
    /// What was granted of what began after the return.
    granted: AtomicU64,
}

/// Notes that the call has returned, also where it panicked: threads wait for it.
struct Returned<'a>(&'a AtomicBool);

impl Drop for Returned<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// One call beside threads that do all that a client and an API do.
fn round(w: &World, take: &Take, each: u64, tally: &Tally) {
    let code = w.code();
    let old = w.redeem(&code).unwrap().unwrap().refresh;
    let pair = w.refresh(&old).unwrap().unwrap();
    let key = w.key_of(&pair.access);
    let taken = Taken {
        authorization: w.authorization_of(&pair.access),
        old,
        code,
        key,
        pair: pair.clone(),
    };
    let is_racing = take.reach >= Reach::Family;
    let codes: Vec<String> = match take.reach {
        Reach::All => (0..12).map(|_| w.code()).collect(),
        _ => Vec::new(),
    };
    assert!(w.is_granted(&pair.access) && is_active(w, &pair.access));
    // Nothing in memory, so that each verification proves all of it.
    let cold = JwtOptions::new(ISSUER, ISSUER).remembered(0);
    let cold = w
        .jwts
        .as_ref()
        .map(|_| Jwts::open(&w.engine, cold).unwrap());
    let is_taken = AtomicBool::new(false);
    let granted = |is_granted: bool| {
        tally
            .granted
            .fetch_add(u64::from(is_granted), Ordering::Relaxed);
    };
    let made: Vec<String> = std::thread::scope(|scope| {
        for _ in 0..VERIFIERS {
            let (is_taken, pair, cold) = (&is_taken, &pair, &cold);
            scope.spawn(move || {
                let (mut warm, mut others) = (0, 0);
                for turn in 0_u64.. {
                    if warm == each {
                        break;
                    }
                    let was_taken = is_taken.load(Ordering::SeqCst);
                    let (is_granted, count) = match (turn % 32, cold) {
                        (0, _) => (is_active(w, &pair.access), &mut others),
                        (16, Some(cold)) => {
                            let verdict = cold.verify(&pair.access, &READ).unwrap();
                            (verdict.is_granted(), &mut others)
                        }
                        _ => (w.is_granted(&pair.access), &mut warm),
                    };
                    granted(was_taken && is_granted);
                    *count += u64::from(was_taken);
                }
                tally.warm.fetch_add(warm, Ordering::Relaxed);
                tally.others.fetch_add(others, Ordering::Relaxed);
            });
        }
        let mut makers = Vec::new();
        if is_racing {
            let is_taken = &is_taken;
            let mut head = pair.refresh.clone();
            makers.push(scope.spawn(move || {
                let mut made = Vec::new();
                loop {
                    let was_taken = is_taken.load(Ordering::SeqCst);
                    match w.refresh(&head).unwrap() {
                        Ok(pair) => {
                            granted(was_taken);
                            made.push(pair.access);
                            head = pair.refresh;
                        }
                        Err(_) if was_taken => return made,
                        Err(_) => {}
                    }
                }
            }));
        }
        for some in codes.chunks(4) {
            let is_taken = &is_taken;
            makers.push(scope.spawn(move || {
                let mut made = Vec::new();
                for code in some {
                    let was_taken = is_taken.load(Ordering::SeqCst);
                    if let Ok(pair) = w.redeem(code).unwrap() {
                        granted(was_taken);
                        made.push(pair.access);
                    }
                }
                made
            }));
        }
        {
            let _returned = Returned(&is_taken);
            (take.call)(w, &taken);
        }
        makers
            .into_iter()
            .flat_map(|maker| maker.join().unwrap())
            .collect()
    });
    let granted = tally.granted.load(Ordering::Relaxed);
    assert_eq!(granted, 0, "{} granted after {}", granted, take.name);
    // What was made beside the call was taken away by it.
    for access in &made {
        assert!(!w.is_granted(access), "{}: made meanwhile", take.name);
        assert!(!is_active(w, access), "{}", take.name);
    }
    w.engine.resume(OWNER).unwrap();
    w.engine.resume("acme").unwrap();
    w.server.enable_client(&w.app.id).unwrap();
    // All of it ends, so that rounds do not add up.
    w.clock.advance(Duration::from_secs(31 * 86_400));
}

fn take_all_away(is_jwt: bool) {
    let w = world(is_jwt);
    let tally = Tally::default();
    let (each, turns) = (rounds(100, 2_200), rounds(2, 10));
    let begun = Instant::now();
    for _ in 0..turns {
        for take in &TAKES {
            round(&w, take, each, &tally);
        }
        if is_jwt {
            round(&w, &SIGNING, each, &tally);
        }
    }
    let [warm, others, granted] =
        [tally.warm, tally.others, tally.granted].map(AtomicU64::into_inner);
    println!(
        "{warm} verifications after a return, warm, and {others} others, {granted} granted; jwt: {is_jwt}; {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    assert_eq!(granted, 0);
    assert!(warm >= rounds(9_000, 1_000_000), "{warm}");
}

#[test]
fn nothing_that_starts_after_access_was_taken_away_is_granted() {
    take_all_away(false);
}

#[test]
fn no_jwt_is_granted_after_access_was_taken_away() {
    take_all_away(true);
}

/// What was withdrawn from an access token does not come back with the next refresh.
#[test]
fn what_is_narrowed_stays_narrow_in_all_that_comes_of_it() {
    for is_jwt in [false, true] {
        let w = world(is_jwt);
        let pair = w.tokens();
        let write = |access: &str, requirements: &Requirements<'_>| {
            w.denial_of(access, requirements).is_none()
        };
        assert!(write(&pair.access, &WRITE));
        // What the client asks less for is not withdrawn: it may ask for all again.
        let less = w.refresh_for(&pair.refresh, "read").unwrap().unwrap();
        assert!(!write(&less.access, &WRITE) && write(&less.access, &READ));
        let all = w.refresh(&less.refresh).unwrap().unwrap();
        assert!(write(&all.access, &WRITE));

        let narrow = KeyUpdate::new().remove_permissions(["write"]);
        w.engine.update(w.key_of(&all.access), narrow).unwrap();
        assert!(!write(&all.access, &WRITE) && write(&all.access, &READ));
        let refused = w.refresh_for(&all.refresh, "read write").unwrap();
        assert_eq!(refused.unwrap_err(), "invalid_scope");
        // Nor does introspection promise it.
        assert!(!may(&w, &all.refresh, "write") && may(&w, &all.refresh, "read"));
        let mut head = all;
        for _ in 0..3 {
            head = w.refresh(&head.refresh).unwrap().unwrap();
            assert!(!write(&head.access, &WRITE), "jwt: {is_jwt}");
            assert!(write(&head.access, &READ));
        }
        assert!(w.engine.check().unwrap().is_sound());
    }
}
