//! A server whose clock jumps while all make changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use gatekey::{Clock, Engine, Error, Issued, NewKey, Reason, Result, SystemClock, Timestamp};

use crate::common::{LONG, Servers, granted, options, settings, until};

const HOUR_MS: i64 = 3_600_000;

/// The system's clock, set wrong by so many milliseconds.
#[derive(Debug, Clone, Default)]
struct Jumping(Arc<AtomicI64>);

impl Jumping {
    fn jump(&self, by_ms: i64) {
        self.0.store(by_ms, Ordering::SeqCst);
    }
}

impl Clock for Jumping {
    fn now(&self) -> Timestamp {
        let now = SystemClock.now().unix_ms().cast_signed();
        let set = now + self.0.load(Ordering::SeqCst);
        Timestamp::from_unix_ms(set.cast_unsigned()).unwrap()
    }

    fn steady(&self) -> Option<Duration> {
        SystemClock.steady()
    }
}

/// Three servers, and the clock of the second.
fn servers() -> (Servers, Jumping) {
    let jumping = Jumping::default();
    let opened = AtomicUsize::new(0);
    let options = |options: gatekey::Options| {
        // The first file is created before it is opened.
        match opened.fetch_add(1, Ordering::SeqCst) {
            2 => options.clock(jumping.clone()),
            _ => options,
        }
    };
    let servers = Servers::with(3, LONG, options, |settings| settings);
    (servers, jumping)
}

fn issue_for(engine: &Engine, life: Duration) -> Result<Issued> {
    let new = NewKey::new("acme_live", "acme").unwrap();
    engine.issue(new.expires_in(life))
}

/// Runs while the two others make changes, which all succeed. It is given how many they have
/// made.
fn while_others_change(servers: &Servers, run: impl FnOnce(&AtomicUsize)) {
    let (is_over, made) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for node in [0, 2] {
            let (is_over, made) = (&is_over, &made);
            scope.spawn(move || {
                let engine = &servers.engines[node];
                while !is_over.load(Ordering::SeqCst) {
                    let issued = issue_for(engine, Duration::from_secs(1_800)).unwrap();
                    assert_eq!(granted(engine, &issued), Some(true));
                    engine.revoke(issued.key.id, Reason::KeyCompromise).unwrap();
                    made.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        // Also where it panics.
        let _end = Ending(&is_over);
        run(&made);
    });
}

struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn more_are_made(made: &AtomicUsize) {
    let before = made.load(Ordering::SeqCst);
    until("others make changes", || {
        made.load(Ordering::SeqCst) > before + 5
    });
}

#[test]
fn a_server_whose_clock_jumps_makes_no_changes_until_it_is_right_and_others_go_on() {
    let (servers, clock) = servers();
    let lasting = issue_for(&servers.engines[0], Duration::from_secs(1_800)).unwrap();
    let ended = issue_for(&servers.engines[0], Duration::from_millis(20)).unwrap();
    let revoked = servers.issue(0, "acme").unwrap();
    servers.engines[2]
        .revoke(revoked.key.id, Reason::KeyCompromise)
        .unwrap();
    std::thread::sleep(Duration::from_millis(30));
    servers.settle();
    let jumping = &servers.engines[1];
    // The one whose clock is ahead must call no key expired: it would stay with that.
    let nothing_is_revived = |by_ms: i64| {
        for (node, engine) in servers.engines.iter().enumerate() {
            assert_eq!(granted(engine, &revoked), Some(false));
            if node != 1 || by_ms <= 0 {
                assert_eq!(granted(engine, &ended), Some(false));
            }
        }
    };
    nothing_is_revived(0);
    while_others_change(&servers, |made| {
        for by_ms in [HOUR_MS, -HOUR_MS, 0, HOUR_MS, -2 * HOUR_MS] {
            more_are_made(made);
            clock.jump(by_ms);
            if by_ms != 0 {
                for _ in 0..20 {
                    let refused = jumping.issue(NewKey::new("acme_live", "acme").unwrap());
                    let error = refused.unwrap_err();
                    assert!(matches!(error, Error::Log(_)), "{error}");
                    let refused = jumping.revoke(lasting.key.id, Reason::KeyCompromise);
                    assert!(matches!(refused, Err(Error::Log(_))));
                }
                more_are_made(made);
                nothing_is_revived(by_ms);
                for node in [0, 2] {
                    assert_eq!(granted(&servers.engines[node], &lasting), Some(true));
                }
                // What others take away meanwhile it denies as they do.
                let other = servers.issue(0, "acme").unwrap();
                servers.engines[0]
                    .revoke(other.key.id, Reason::KeyCompromise)
                    .unwrap();
                assert_eq!(granted(jumping, &other), Some(false));
            }
            clock.jump(0);
            let issued = servers.issue(1, "acme").unwrap();
            jumping
                .revoke(issued.key.id, Reason::KeyCompromise)
                .unwrap();
            nothing_is_revived(0);
        }
    });
    for engine in &servers.engines {
        assert_eq!(granted(engine, &lasting), Some(true));
        // Nobody's time is that of the clock that was wrong.
        let soon = SystemClock.now().saturating_add(Duration::from_secs(60));
        assert!(engine.now() < soon);
    }
    servers.close_equal();
}

/// What a call said to be over stays over while the engine is open: as its time does not run
/// back then, it makes no changes before it was opened anew.
#[test]
fn a_server_that_called_a_key_over_by_a_clock_that_was_ahead_goes_on_once_it_is_opened_anew() {
    let (mut servers, clock) = servers();
    let lasting = issue_for(&servers.engines[0], Duration::from_secs(1_800)).unwrap();
    servers.settle();
    clock.jump(HOUR_MS);
    assert_eq!(granted(&servers.engines[1], &lasting), Some(false));
    clock.jump(0);
    assert_eq!(granted(&servers.engines[1], &lasting), Some(false));
    let error = servers.issue(1, "acme").unwrap_err();
    assert!(matches!(error, Error::Log(_)), "{error}");
    assert!(error.to_string().contains("open it anew"), "{error}");
    for node in [0, 2] {
        servers.issue(node, "acme").unwrap();
        assert_eq!(granted(&servers.engines[node], &lasting), Some(true));
    }
    servers.engines.remove(1).close().unwrap();
    let settings = settings(servers.logs[1].clone(), 1, LONG);
    let options = options().clock(clock).fleet(settings);
    let anew = options.join_fleet(servers.path(1)).unwrap();
    servers.engines.insert(1, anew);
    servers.issue(1, "acme").unwrap();
    assert_eq!(granted(&servers.engines[1], &lasting), Some(true));
    servers.close_equal();
}
