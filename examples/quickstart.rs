//! The main job on a real file: make two keyspaces, issue keys, verify them,
//! rotate, close, open again. Every line that it prints is checked; it exits
//! with 1 if one is not as it says.
//!
//! ```text
//! cargo run --release --example quickstart           # a fresh file, removed at the end
//! cargo run --release --example quickstart keys.db   # keeps the file
//! ```
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it is a program with a terminal"
)]

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use gatekey::{
    Clock, Engine, Grant, Issued, KeyFilter, KeyState, KeysPerOwner, ManualClock, NewKey,
    NewKeyspace, Options, Reason, Requirements, Revocation, Rotation, SystemClock, Token, Verdict,
};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const ASK: Requirements<'_> = Requirements::new();

fn main() -> ExitCode {
    match run() {
        Ok(0) => {
            println!("\nAll of it is as it says.");
            ExitCode::SUCCESS
        }
        Ok(wrong) => {
            eprintln!("\n{wrong} lines are not as they should be: look for BAD.");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Says how many lines were not as they should be.
fn run() -> Result<u32, Box<dyn Error>> {
    let place = Place::choose(std::env::args_os().skip(1).collect())?;
    let mut out = Transcript { wrong: 0 };

    // A server uses `Engine::open(path)`, which takes the system's clock. This
    // program wants hours to pass while you watch, so it moves a clock by hand.
    // The clock starts a day ago: time in a store never runs backwards, and a
    // file that is kept should be good for the system's clock afterwards.
    let clock = ManualClock::at(SystemClock.now().saturating_sub(DAY));
    let open = || Options::new().clock(clock.clone()).open(&place.file);

    let engine = open()?;
    println!("gatekey, on {}", place.file.display());

    make_keyspaces(&engine, &mut out)?;
    let mut cases = issue_keys(&engine, &clock, &mut out)?;

    out.section("Verify: what is good, and each way of not being good");
    present(&engine, &cases, &mut out)?;

    cases.extend(rotate(&engine, &clock, &mut out)?);

    out.section("Close the file, open it again: all of it holds");
    engine.close()?;
    let engine = open()?;
    present(&engine, &cases, &mut out)?;
    let report = engine.check()?;
    let found = format!(
        "{} keys, {} audit entries, {} findings",
        report.keys, report.audit_entries, report.findings_total
    );
    out.line(
        report.is_sound(),
        "a walk of the whole store",
        "sound",
        &found,
    );
    let active = engine
        .keys(KeyFilter::new().state(KeyState::Active))
        .count();
    out.line(active == 4, "keys that are active", &active.to_string(), "");

    let timed = time_one_verification(&engine, &cases)?;
    println!("\n{timed}");
    engine.close()?;
    if place.scratch.is_none() {
        println!("The file is kept: {}", place.file.display());
    }
    Ok(out.wrong)
}

fn make_keyspaces(engine: &Engine, out: &mut Transcript) -> gatekey::Result<()> {
    out.section("Two keyspaces");
    let single = engine.create_keyspace(
        NewKeyspace::new("aurorax_live")?
            .description("Dashboards: a new key makes the old one invalid")
            .single_active(),
    )?;
    let is_single = single.keys_per_owner == KeysPerOwner::SingleSuperseding;
    let more = "a new key makes the old one invalid";
    out.line(is_single, single.prefix.as_str(), "one key an owner", more);

    let many = engine.create_keyspace(
        NewKeyspace::new("ai_live")?
            .description("The AI API")
            .permissions(["read", "write", "admin", "webhook"]),
    )?;
    let is_many = many.keys_per_owner == KeysPerOwner::Many { cap: None };
    let names = many.names(many.active_mask()).join(", ");
    let is_many = is_many && names == "read, write, admin, webhook";
    out.line(is_many, many.prefix.as_str(), "several an owner", &names);
    Ok(())
}

/// Issues the keys, brings some of them into trouble, and says what each should
/// answer from then on.
fn issue_keys(
    engine: &Engine,
    clock: &ManualClock,
    out: &mut Transcript,
) -> gatekey::Result<Vec<Case>> {
    out.section("Issue: the token is shown once, and only its hash is kept");
    // Changes are made in somebody's name, which the audit trail keeps.
    let admin = engine.by("quickstart")?;
    let mut issue = |new: NewKey| -> gatekey::Result<Issued> {
        let issued = admin.issue(new)?;
        let parsed = issued
            .token
            .expose()
            .starts_with(issued.key.keyspace.as_str());
        let owner = issued.key.owner.as_str();
        let state = issued.key.state.to_string();
        out.line(parsed, owner, &state, &shortened(&issued.token));
        Ok(issued)
    };
    let ai =
        |owner: &str| Ok::<_, gatekey::Error>(NewKey::new("ai_live", owner)?.permissions(["read"]));

    let superseded = issue(NewKey::new("aurorax_live", "aurora/dashboard")?)?;
    let dashboard = issue(NewKey::new("aurorax_live", "aurora/dashboard")?)?;
    let writer = issue(ai("acme/ingest/etl-bot")?.permissions(["write"]))?;
    let office = issue(ai("acme/office")?.allow_network("192.0.2.0/24".parse()?))?;
    let leaked = issue(ai("acme/leaked")?)?;
    let unpaid = issue(ai("initech/reports/nightly")?)?;
    let paused = issue(ai("acme/paused")?)?;
    let tomorrow = issue(ai("acme/tomorrow")?.not_before(clock.now().saturating_add(DAY)))?;
    let brief = issue(ai("acme/brief")?.expires_in(HOUR))?;

    let why = Revocation::new(Reason::KeyCompromise).note("seen in a public repository");
    admin.revoke(leaked.key.id, why)?;
    admin.suspend("initech", Some("unpaid"))?;
    admin.disable(paused.key.id)?;
    clock.advance(HOUR);

    // A token of another store has the right form, and an id unknown here.
    let other = Engine::open_in_memory()?;
    other.create_keyspace(NewKeyspace::new("ai_live")?)?;
    let foreign = other.issue(NewKey::new("ai_live", "acme")?)?;

    let inside = ASK.source([192, 0, 2, 7].into());
    let outside = ASK.source([198, 51, 100, 7].into());
    let write = ASK.permission_names(&["write"]);
    let admin = ASK.permission_names(&["admin", "webhook"]);
    let text = |issued: &Issued| issued.token.expose().to_owned();
    Ok(vec![
        Case::new("the owner's newest key", text(&dashboard), ASK, "granted"),
        Case::new("with a permission it has", text(&writer), write, "granted"),
        Case::new("from its network", text(&office), inside, "granted"),
        Case::new("no token at all", "let me in".into(), ASK, "malformed"),
        Case::new(
            "one typo",
            text(&writer).replace('_', "-"),
            ASK,
            "malformed",
        ),
        Case::new("another store's token", text(&foreign), ASK, "unknown"),
        Case::new(
            "a guessed secret",
            guess(writer.token.expose()),
            ASK,
            "unknown",
        ),
        Case::new("the owner's older key", text(&superseded), ASK, "revoked"),
        Case::new("a leaked key", text(&leaked), ASK, "revoked"),
        Case::new("its owner is suspended", text(&unpaid), ASK, "suspended"),
        Case::new("a disabled key", text(&paused), ASK, "disabled"),
        Case::new(
            "good from tomorrow on",
            text(&tomorrow),
            ASK,
            "not_yet_valid",
        ),
        Case::new("issued for an hour", text(&brief), ASK, "expired"),
        Case::new(
            "from elsewhere",
            text(&office),
            outside,
            "network_not_allowed",
        ),
        Case::new(
            "permissions it lacks",
            text(&writer),
            admin,
            "permission_missing",
        ),
    ])
}

/// Rotates with a grace: both keys are good, then only the new one.
fn rotate(
    engine: &Engine,
    clock: &ManualClock,
    out: &mut Transcript,
) -> gatekey::Result<Vec<Case>> {
    out.section("Rotate with a grace of an hour");
    let old = engine.issue(NewKey::new("ai_live", "acme/rotating")?.permissions(["read"]))?;
    let new = engine.rotate(old.key.id, Rotation::with_grace(HOUR))?;
    let (old, new) = (old.token.expose(), new.token.expose());
    let pair = |what_old, what_new, old_is| {
        vec![
            Case::new(what_old, old.to_owned(), ASK, old_is),
            Case::new(what_new, new.to_owned(), ASK, "granted"),
        ]
    };
    let in_grace = pair(
        "in the grace: the old key",
        "in the grace: the new key",
        "granted",
    );
    let after = pair("after it: the old key", "after it: the new key", "revoked");

    present(engine, &in_grace, out)?;
    clock.advance(HOUR);
    present(engine, &after, out)?;
    Ok(after)
}

/// A token, what is asked of it, and what the answer must be.
struct Case {
    what: &'static str,
    token: String,
    asks: Requirements<'static>,
    expected: &'static str,
}

impl Case {
    fn new(
        what: &'static str,
        token: String,
        asks: Requirements<'static>,
        expected: &'static str,
    ) -> Self {
        Self {
            what,
            token,
            asks,
            expected,
        }
    }
}

/// Verifies each token as a server would, and shows what came of it.
fn present(engine: &Engine, cases: &[Case], out: &mut Transcript) -> gatekey::Result<()> {
    for case in cases {
        // An `Err` here is the store's fault, and no verdict on the token.
        let (is, more) = match engine.verify_with(&case.token, &case.asks)? {
            Verdict::Granted(grant) => ("granted", describe(&grant)),
            Verdict::Denied(denial) => (denial.code(), denial.to_string()),
        };
        out.line(is == case.expected, case.what, is, &more);
    }
    Ok(())
}

fn describe(grant: &Grant) -> String {
    let mut text = format!("key {} of {}", grant.key_id(), grant.owner());
    if let Some(until) = grant.retiring_until() {
        text.push_str(&format!(", retiring until {until}"));
    }
    text
}

/// The median over many rounds of the same few good tokens: a best case.
fn time_one_verification(engine: &Engine, cases: &[Case]) -> Result<String, Box<dyn Error>> {
    const ROUNDS: usize = 1001;
    const PER_ROUND: u32 = 100;
    let good: Vec<_> = cases
        .iter()
        .filter(|case| case.expected == "granted")
        .collect();
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let started = Instant::now();
        for case in good.iter().cycle().take(PER_ROUND as usize) {
            let verdict = engine.verify_with(std::hint::black_box(&case.token), &case.asks)?;
            if !std::hint::black_box(verdict).is_granted() {
                return Err("a token that was good a moment ago is refused".into());
            }
        }
        rounds.push(started.elapsed() / PER_ROUND);
    }
    rounds.sort_unstable();
    let median = rounds.get(ROUNDS / 2).ok_or("nothing was timed")?;
    let build = if cfg!(debug_assertions) {
        "debug build: use --release"
    } else {
        "release build"
    };
    Ok(format!(
        "One verification took {} ns (median of {ROUNDS} rounds of {PER_ROUND}; one thread, {build}).\n\
         With so few keys all is in the processor's caches; benches/ has a million.",
        median.as_nanos()
    ))
}

/// What somebody would present who knows a key's id and how tokens are made:
/// the checksum at the end is right, the secret is not.
fn guess(token: &str) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let head = token.get(..token.len().saturating_sub(49)).unwrap_or(token);
    let body = format!("{head}{}", "guess".repeat(9).get(..43).unwrap_or(""));
    let mut rest = crc32fast::hash(body.as_bytes()) as usize;
    let mut check = ['0'; 6];
    for digit in check.iter_mut().rev() {
        *digit = char::from(DIGITS[rest % 62]);
        rest /= 62;
    }
    body + &String::from_iter(check)
}

/// A token with all but the first three characters of its secret left out.
fn shortened(token: &Token) -> String {
    let text = token.expose();
    let shown = text.get(..text.len().saturating_sub(46)).unwrap_or("");
    format!("{shown}...")
}

/// Lines in columns, each of which is right or not.
struct Transcript {
    wrong: u32,
}

impl Transcript {
    fn section(&mut self, title: &str) {
        println!("\n{title}");
    }

    fn line(&mut self, is_right: bool, what: &str, is: &str, more: &str) {
        let mark = if is_right { "ok " } else { "BAD" };
        println!("  {mark} {what:<26} {is:<20} {more}");
        self.wrong += u32::from(!is_right);
    }
}

/// Where the file goes.
struct Place {
    file: PathBuf,
    scratch: Option<Scratch>,
}

impl Place {
    fn choose(args: Vec<OsString>) -> Result<Self, Box<dyn Error>> {
        let [] = args.as_slice() else {
            let [path] = args.as_slice() else {
                return Err("usage: quickstart [path of a new file]".into());
            };
            let file = PathBuf::from(path);
            // It would find its keyspaces taken. Nothing is overwritten.
            if file.symlink_metadata().is_ok() {
                let shown = file.display();
                return Err(
                    format!("{shown} exists, and is left as it is: name a new file").into(),
                );
            }
            return Ok(Self {
                file,
                scratch: None,
            });
        };
        let name = format!("gatekey-quickstart-{}", std::process::id());
        let scratch = Scratch::create(&std::env::temp_dir().join(name))?;
        Ok(Self {
            file: scratch.0.join("keys.redb"),
            scratch: Some(scratch),
        })
    }
}

/// A directory that is removed at the end, however it ends.
struct Scratch(PathBuf);

impl Scratch {
    fn create(path: &Path) -> std::io::Result<Self> {
        fs::create_dir(path)?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Where it cannot be removed, a few kilobytes stay in the temporary
        // directory, which the system clears.
        let _ = fs::remove_dir_all(&self.0);
    }
}
