//! Floods of tickets, codes, refreshes and unknown `kid`s.
//!
//! What must hold, of what anybody can send: nothing is written. Of what a login stands
//! before: the file is bounded by what is alive, the more so the records. And of both:
//! memory stays flat.
//!
//! The flood has a process of its own, so that its memory is told from that of other
//! tests.

use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use gatekey::{Clock as _, ManualClock, Options, SystemClock};
use gatekey_oauth::JwtOptions;
use gatekey_oauth::server::ServerOptions;

use crate::rounds;
use crate::world::{ISSUER, LATER, READ, World};

const CHILD: &str = "GATEKEY_PROOF_OAUTH_FLOOD";
const PHASES: u64 = 4;
/// How many JWTs are remembered.
const SEEN: usize = 100;
const TABLES: [&str; 5] = ["codes", "tickets", "authorizations", "by_client", "ends"];

#[test]
fn a_flood_leaves_memory_flat_and_the_file_bounded_by_what_is_alive() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "flood::the_child"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let told: Vec<&str> = told.lines().filter(|line| line.contains("phase")).collect();
    println!("{}", told.join("\n"));
    assert!(
        output.status.success() && told.len() as u64 == PHASES,
        "{told:?}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The flood itself. Without its variable this is no test.
#[test]
fn the_child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let clock = ManualClock::at(SystemClock.now());
    let engine = Options::new()
        .clock(clock.clone())
        .cache_bytes(1 << 20)
        .resident_bytes(1 << 20)
        .create(&path)
        .unwrap();
    let jwts = JwtOptions::new(ISSUER, ISSUER).remembered(SEEN);
    let w = World::begin(engine, clock, Some(jwts), ServerOptions::new(ISSUER));
    let len = || std::fs::metadata(&path).unwrap().len();
    let (sent, made) = (rounds(1_000, 10_000), rounds(150, 1_000));
    let (mut lens, mut resident) = (Vec::new(), Vec::new());
    for phase in 1..=PHASES {
        let known = w.code();
        let (before, seq) = (len(), w.engine.audit_span().unwrap().last.seq);
        for number in 0..sent {
            send(&w, number);
        }
        assert_eq!(
            w.engine.audit_span().unwrap().last.seq,
            seq,
            "phase {phase}"
        );
        assert_eq!(
            len(),
            before,
            "phase {phase}: what anybody sends is written"
        );
        // Beyond the login: codes, every third of them exchanged, and one that is
        // refreshed each time.
        let mut head = w.redeem(&known).unwrap().unwrap();
        let mut most = 0;
        for number in 0..made {
            let code = w.code();
            if number.is_multiple_of(3) {
                let pair = w.redeem(&code).unwrap().unwrap();
                assert!(w.is_granted(&pair.access));
            }
            w.clock.advance(LATER);
            head = w.refresh(&head.refresh).unwrap().unwrap();
            assert!(w.is_granted(&head.access));
            let codes = w.count("codes");
            most = most.max(codes);
        }
        // One a minute, each good for a minute, and each of some records.
        assert!(most <= 4, "phase {phase}: {most} codes");
        assert!(w.count("tickets") <= 12, "phase {phase}: tickets");
        let alive = usize::try_from(made.div_ceil(3) + 1).unwrap();
        let kept = w.keys();
        assert!(kept <= alive + 1, "phase {phase}: {kept} keys for {alive}");
        let jwts = w.jwts.as_ref().unwrap();
        assert!(jwts.remembered() <= SEEN, "{}", jwts.remembered());
        // All of it ends.
        w.clock.advance(Duration::from_secs(31 * 86_400));
        for _ in 0..alive {
            w.code();
            w.clock.advance(LATER);
        }
        for table in TABLES {
            let count = w.count(table);
            assert!(count <= 40, "phase {phase}: {count} of {table}");
        }
        assert!(w.keys() <= 2, "phase {phase}: {} keys", w.keys());
        // How long the trail is kept the host decides: here, not at all.
        let last = w.engine.audit_span().unwrap().last.seq;
        w.engine.trim_audit(last).unwrap();
        lens.push(len());
        resident.push(resident_set_kib());
        println!(
            "phase {phase}: {} sent, {} made; file {} KiB, {} KiB resident",
            phase * sent,
            phase * made,
            lens.last().unwrap() >> 10,
            resident.last().unwrap()
        );
    }
    assert!(w.engine.check().unwrap().is_sound());
    // The first phase brings what is alive at its height; after it, nothing, but for pages that
    // are free and that the file ends with or not, by when notes of use are written.
    let most = lens.iter().max().unwrap();
    assert!(*most <= lens[0] * 2, "{lens:?} bytes");
    let growth = resident.last().unwrap().saturating_sub(resident[0]);
    assert!(growth < 8 << 10, "{growth} KiB more after the first phase");
}

/// What anybody can send who has never logged in.
fn send(w: &World, number: u64) {
    w.ticket();
    let unknown = BASE64.encode([&number.to_be_bytes()[..], &[7; 24]].concat());
    assert!(w.redeem(&format!("gkc_{unknown}")).unwrap().is_err());
    let forged = BASE64.encode([&number.to_be_bytes()[..], &[7; 64]].concat());
    assert!(w.refresh(&format!("gkr_{forged}")).unwrap().is_err());
    assert_eq!(w.revoke(&forged).unwrap(), 200);
    assert!(w.approve(&format!("{forged}.{unknown}")).unwrap().is_none());
    let header = format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{unknown}"}}"#);
    let signature = BASE64.encode([7; 64]);
    let jwt = format!("{}.{forged}.{signature}", BASE64.encode(header));
    let verdict = w.jwts.as_ref().unwrap().verify(&jwt, &READ).unwrap();
    assert_eq!(verdict.denial().map(gatekey::Denial::code), Some("unknown"));
}

/// What the process holds of memory, as Linux tells it; elsewhere 0.
fn resident_set_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.map_or(0, |number| number.parse().unwrap())
}
