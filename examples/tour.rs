//! The main job on a real file: make two keyspaces, issue keys, verify them,
//! rotate, close, open again. Every line that it prints is checked; it exits
//! with 1 if one is not as it says.
//!
//! ```text
//! cargo run --release -p gatekey-examples --example tour             # a fresh file, removed at the end
//! cargo run --release -p gatekey-examples --example tour keys.redb   # a new file, which is kept
//! ```
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it is a program with a terminal"
)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs, hint, process};

use gatekey::{
    Clock, Engine, Issued, KeyFilter, KeyId, KeyState, KeysPerOwner, ManualClock, NewKey,
    NewKeyspace, Options, Reason, Requirements, Revocation, Rotation, SystemClock, Token, Verdict,
};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

fn main() -> ExitCode {
    let outcome = match env::args_os().nth(1) {
        Some(path) => on_a_file_to_keep(Path::new(&path)),
        None => on_a_file_to_remove(),
    };
    match outcome {
        Ok(0) => {
            println!("\nEvery line is as expected.");
            return ExitCode::SUCCESS;
        }
        Ok(wrong) => eprintln!("\n{wrong} lines are not as they should be; they are marked BAD."),
        Err(error) => eprintln!("tour: {error}"),
    }
    ExitCode::FAILURE
}

fn on_a_file_to_keep(file: &Path) -> Result<u32, Box<dyn Error>> {
    // In a file of an earlier run the keyspaces would be there already.
    if file.symlink_metadata().is_ok() {
        let file = file.display();
        return Err(format!("{file} exists, and was left as it is: give a new path").into());
    }
    let wrong = walk(file)?;
    println!("The file is kept at {}.", file.display());
    Ok(wrong)
}

fn on_a_file_to_remove() -> Result<u32, Box<dyn Error>> {
    let name = format!("gatekey-tour-{}", process::id());
    let directory: PathBuf = env::temp_dir().join(name);
    fs::create_dir(&directory)?;
    let outcome = walk(&directory.join("keys.redb"));
    fs::remove_dir_all(&directory)?;
    outcome
}

/// The whole of it, on a new file. Says how many lines were wrong.
fn walk(file: &Path) -> Result<u32, Box<dyn Error>> {
    // A server calls `Engine::open(path)`, and has the system's clock. Here
    // hours must pass while you watch, so the clock is moved by hand. It starts
    // a day ago: time in a store never runs back, and a file that was written
    // in the future would stand still until the system's clock is there.
    let clock = ManualClock::at(SystemClock.now().saturating_sub(DAY));
    let options = || Options::new().clock(clock.clone());
    let mut out = Transcript::default();
    println!("gatekey on {}", file.display());
    println!("The clock is moved by hand: it starts a day ago, and hours pass at once.");

    let engine = options().create(file)?;
    make_keyspaces(&engine, &mut out)?;
    let mut cases = issue_keys(&engine, &clock, &mut out)?;
    out.section("Verify: good keys, then each denial; a wrong secret reads as unknown");
    verify_all(&engine, &cases, &mut out)?;
    cases.extend(rotate(&engine, &clock, &mut out)?);
    engine.close()?;

    out.section("The file closed and opened again: all of it holds");
    let engine = options().open(file)?;
    verify_all(&engine, &cases, &mut out)?;
    let active = engine.keys(KeyFilter::new().state(KeyState::Active));
    let owners: Vec<String> = active
        .map(|key| Ok(key?.owner.to_string()))
        .collect::<gatekey::Result<_>>()?;
    let four = format!("{} active keys", owners.len());
    out.line(owners.len() == 4, "listed", &four, &owners.join(", "));
    let report = engine.check()?;
    let keys_and_entries = format!(
        "{} keys, {} audit entries",
        report.keys, report.audit_entries
    );
    out.line(
        report.is_sound(),
        "the store checked",
        "sound",
        &keys_and_entries,
    );

    println!("\n{}", time_one_verification(&engine, &cases)?);
    engine.close()?;
    Ok(out.wrong)
}

fn make_keyspaces(engine: &Engine, out: &mut Transcript) -> gatekey::Result<()> {
    out.section("Two keyspaces");
    let single = engine.create_keyspace(NewKeyspace::new("aurorax_live")?.single_active())?;
    let right = single.keys_per_owner == KeysPerOwner::SingleSuperseding;
    let rule = "a new key makes the old one invalid";
    out.line(right, "aurorax_live", "one key an owner", rule);

    let four = ["read", "write", "admin", "webhook"];
    let many = engine.create_keyspace(NewKeyspace::new("ai_live")?.permissions(four))?;
    let names = many.names(many.active_mask());
    let right = many.keys_per_owner == KeysPerOwner::Many { cap: None } && names == four;
    out.line(right, "ai_live", "several keys", &names.join(", "));
    Ok(())
}

/// A token, what is asked of it, and what the answer must be.
struct Case(&'static str, String, Requirements<'static>, &'static str);

/// Issues keys, brings some of them into trouble, and says what the token of
/// each must come to from then on.
fn issue_keys(
    engine: &Engine,
    clock: &ManualClock,
    out: &mut Transcript,
) -> gatekey::Result<Vec<Case>> {
    out.section(
        "Issue (state at the moment of issue): a token is seen once, only its hash is kept",
    );
    // The audit trail says in whose name a change was made.
    let admin = engine.acting_as("tour")?;
    let mut issue = |new: NewKey| -> gatekey::Result<(KeyId, String)> {
        let Issued { key, token, .. } = admin.issue(new)?;
        let right = token.expose().starts_with(key.keyspace.as_str());
        let state = key.state.to_string();
        out.line(right, key.owner.as_str(), &state, &shortened(&token));
        Ok((key.id, token.expose().to_owned()))
    };
    let dashboard = NewKey::new("aurorax_live", "aurora/dashboard")?;
    let ai = |owner: &str| NewKey::new("ai_live", owner).map(|key| key.permissions(["read"]));

    let (_, older) = issue(dashboard.clone())?;
    let (_, newest) = issue(dashboard)?;
    let (_, writer) = issue(ai("acme/ingest/etl-bot")?.permissions(["write"]))?;
    let (_, office) = issue(ai("acme/office")?.allow_network("192.0.2.0/24".parse()?))?;
    let (_, leaked) = issue(ai("acme/leaked")?)?;
    let (_, unpaid) = issue(ai("initech/reports/nightly")?)?;
    let (paused_id, paused) = issue(ai("acme/paused")?)?;
    let (_, tomorrow) = issue(ai("acme/tomorrow")?.not_before(clock.now().saturating_add(DAY)))?;
    let (_, brief) = issue(ai("acme/brief")?.expires_in(HOUR))?;

    let why = Revocation::new(Reason::KeyCompromise).note("seen in a public repository");
    admin.revoke_token(&leaked, why)?;
    admin.suspend("initech", Some("unpaid"))?;
    admin.disable(paused_id)?;
    clock.advance(HOUR);

    // The token of another store has the right form, and an id unknown here.
    let other = Engine::open_in_memory()?;
    other.create_keyspace(NewKeyspace::new("ai_live")?)?;
    let foreign = other.issue(NewKey::new("ai_live", "acme")?)?.token;
    let foreign = foreign.expose().to_owned();

    const ASK: Requirements<'_> = Requirements::new();
    let write = ASK.permissions(&["write"]);
    let admin = ASK.permissions(&["admin", "webhook"]);
    let inside = ASK.source([192, 0, 2, 7].into());
    let outside = ASK.source([198, 51, 100, 7].into());
    Ok(vec![
        Case("an owner's newest key", newest, ASK, "granted"),
        Case("with a permission it has", writer.clone(), write, "granted"),
        Case("from its network", office.clone(), inside, "granted"),
        Case("no token", "let me in".to_owned(), ASK, "malformed"),
        Case("one typo", with_a_typo(&writer), ASK, "malformed"),
        Case("of another store", foreign, ASK, "unknown"),
        Case("a wrong secret", guess(&writer), ASK, "unknown"),
        Case("an owner's older key", older, ASK, "revoked"),
        Case("leaked", leaked, ASK, "revoked"),
        Case("its owner is suspended", unpaid, ASK, "suspended"),
        Case("disabled", paused, ASK, "disabled"),
        Case("good from tomorrow on", tomorrow, ASK, "not_yet_valid"),
        Case("issued for an hour", brief, ASK, "expired"),
        Case("from elsewhere", office, outside, "network_not_allowed"),
        Case("permissions it lacks", writer, admin, "permission_missing"),
    ])
}

/// Rotates with a grace: both keys are good, then only the new one.
fn rotate(
    engine: &Engine,
    clock: &ManualClock,
    out: &mut Transcript,
) -> gatekey::Result<Vec<Case>> {
    out.section("Rotate with a grace of an hour: both keys are good, then only the new one");
    let old = engine.issue(NewKey::new("ai_live", "acme/rotating")?)?;
    let new = engine.rotate(old.key.id, Rotation::with_grace(HOUR))?;
    let pair = |the_old, old_is, the_new| {
        let ask = Requirements::new();
        let old = Case(the_old, old.token.expose().to_owned(), ask, old_is);
        let new = Case(the_new, new.token.expose().to_owned(), ask, "granted");
        vec![old, new]
    };
    let in_grace = pair("in the grace: the old", "granted", "in the grace: the new");
    verify_all(engine, &in_grace, out)?;
    clock.advance(HOUR);
    let after = pair("after it: the old", "revoked", "after it: the new");
    verify_all(engine, &after, out)?;
    Ok(after)
}

/// Verifies tokens as a server does, and shows what each came to.
fn verify_all(engine: &Engine, cases: &[Case], out: &mut Transcript) -> gatekey::Result<()> {
    for Case(what, token, asks, expected) in cases {
        // An error here would be the store's, and say nothing of the token.
        let (is, more) = match engine.verify_with(token, asks)? {
            Verdict::Granted(grant) => {
                let until = grant.retiring_until().map(|at| format!(", until {at}"));
                let (key, until) = (grant.key_id(), until.unwrap_or_default());
                ("granted", format!("key {key} of {}{until}", grant.owner()))
            }
            Verdict::Denied(denial) => (denial.code(), denial.to_string()),
        };
        out.line(is == *expected, what, is, &more);
    }
    Ok(())
}

/// Times the good tokens among the cases, over and over.
fn time_one_verification(engine: &Engine, cases: &[Case]) -> Result<String, Box<dyn Error>> {
    const ROUNDS: usize = 1001;
    const PER_ROUND: u16 = 100;
    let good = cases.iter().filter(|case| case.3 == "granted").cycle();
    let mut rounds_ns = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let started = Instant::now();
        for Case(_, token, asks, _) in good.clone().take(PER_ROUND.into()) {
            let verdict = engine.verify_with(hint::black_box(token), asks)?;
            if !hint::black_box(verdict).is_granted() {
                return Err("a good token was refused while it was timed".into());
            }
        }
        rounds_ns.push(started.elapsed().as_nanos() / u128::from(PER_ROUND));
    }
    rounds_ns.sort_unstable();
    let median_ns = rounds_ns.get(ROUNDS / 2).ok_or("nothing was timed")?;
    let build = match cfg!(debug_assertions) {
        true => "a debug build, which is slow: use --release",
        false => "a release build",
    };
    Ok(format!(
        "One verification took {median_ns} ns: the median of {ROUNDS} rounds of {PER_ROUND}, one thread,\n\
         {build}, so few keys that they stay in the processor's cache.\n\
         benches/ measures a million keys."
    ))
}

/// What someone would present who knows a key's id and the form of a token: the
/// secret is made up, and the checksum after it is right.
fn guess(token: &str) -> String {
    gatekey_testkit::forge::resealed(token, |body| {
        let secret_at = body.len().saturating_sub(43);
        body.replace_range(secret_at.., &"x".repeat(43));
    })
}

/// The token with one character of its secret changed: its checksum tells.
fn with_a_typo(token: &str) -> String {
    let at = token.len().saturating_sub(10);
    let changed = |(place, letter)| match (place == at, letter) {
        (true, 'x') => 'y',
        (true, _) => 'x',
        (false, letter) => letter,
    };
    token.chars().enumerate().map(changed).collect()
}

/// A token with the first three characters of its secret, of 43.
fn shortened(token: &Token) -> String {
    let text = token.expose();
    let shown = text.len().saturating_sub(40 + 6);
    format!("{}...", text.get(..shown).unwrap_or(""))
}

/// Prints lines in columns, and counts those that are wrong.
#[derive(Default)]
struct Transcript {
    wrong: u32,
}

impl Transcript {
    fn section(&mut self, title: &str) {
        println!("\n{title}");
    }

    fn line(&mut self, right: bool, what: &str, is: &str, more: &str) {
        let mark = if right { "ok " } else { "BAD" };
        println!("  {mark} {what:<25} {is:<20} {more}");
        self.wrong += u32::from(!right);
    }
}
