//! Metrics, in the text format of Prometheus.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use gatekey::{Engine, Error, KeyFilter, bounds};

/// The media type of the text.
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const DAY: Duration = Duration::from_secs(86_400);

/// The state of a store as metrics, in the text format of Prometheus, for a server that
/// has a page of its own for them. `/metrics` of the admin API also has
/// `gatekey_backup_last_timestamp_seconds`.
///
/// No key and no owner is a label. The call reads a few records, and the keys that expire
/// within 30 days.
///
/// # Errors
/// See [`Engine`].
///
/// ```
/// use gatekey::Engine;
///
/// let engine = Engine::open_in_memory()?;
/// let text = gatekey_admin::metrics(&engine)?;
/// assert!(text.contains("\ngatekey_up 1\n"));
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
pub fn metrics(engine: &Engine) -> Result<String, Error> {
    render(engine, None)
}

pub(crate) fn render(engine: &Engine, backed_up_ms: Option<u64>) -> Result<String, Error> {
    let stats = engine.stats()?;
    let clock = engine.clock_status()?;
    let mut text = Text::default();
    text.one(
        "gatekey_up",
        "gauge",
        "Whether the store takes changes.",
        u8::from(stats.health.is_well()),
    );
    let failing = stats
        .health
        .failure()
        .map_or(0, |failure| failure.since().unix_seconds());
    text.one(
        "gatekey_failing_since_timestamp_seconds",
        "gauge",
        "Since when the store takes no changes; 0 if it does.",
        failing,
    );
    text.head("gatekey_keys", "gauge", "Keys, by keyspace and state.");
    for (keyspace, counts) in &stats.keyspaces {
        for (state, count) in [
            ("active", counts.active),
            ("retiring", counts.retiring),
            ("not_yet_valid", counts.not_yet_valid),
            ("disabled", counts.disabled),
            ("suspended", counts.suspended),
            ("expired", counts.expired),
            ("revoked", counts.revoked),
        ] {
            let labels = format!(r#"{{keyspace="{keyspace}",state="{state}"}}"#);
            text.sample("gatekey_keys", &labels, count);
        }
    }
    text.head(
        "gatekey_keys_expiring",
        "gauge",
        "Keys that expire, or whose grace ends, within a time.",
    );
    let (week, month) = expiring(engine)?;
    text.sample("gatekey_keys_expiring", r#"{within="7d"}"#, week);
    text.sample("gatekey_keys_expiring", r#"{within="30d"}"#, month);
    text.head("gatekey_pepper_keys", "gauge", "Keys that need a pepper.");
    for of in engine.peppers()? {
        let labels = format!(r#"{{pepper="{}"}}"#, of.pepper);
        text.sample("gatekey_pepper_keys", &labels, of.keys);
    }
    text.one(
        "gatekey_file_bytes",
        "gauge",
        "The length of the file.",
        stats.file_bytes,
    );
    text.one(
        "gatekey_audit_entries",
        "gauge",
        "Entries of the audit trail.",
        stats.audit_entries,
    );
    text.one(
        "gatekey_resident_keys",
        "gauge",
        "Keys in memory.",
        stats.resident_keys,
    );
    text.one(
        "gatekey_resident_capacity_keys",
        "gauge",
        "How many keys memory has room for.",
        stats.resident_capacity,
    );
    text.one(
        "gatekey_limited_keys",
        "gauge",
        "Keys and owners that are counted for limits.",
        stats.limited_keys,
    );
    text.one(
        "gatekey_limits_refused_for_room_total",
        "counter",
        "Requests refused for want of room for counters.",
        stats.limits_refused_for_room,
    );
    text.one(
        "gatekey_limits_evicted_total",
        "counter",
        "Keys that lost their counters to make room.",
        stats.limits_evicted,
    );
    text.one(
        "gatekey_usage_lost_total",
        "counter",
        "Uses of keys that were not counted for want of room.",
        stats.usage_lost,
    );
    text.one(
        "gatekey_clock_behind_seconds",
        "gauge",
        "How far the clock is behind the store.",
        clock.behind.as_secs_f64(),
    );
    text.one(
        "gatekey_clock_leaps_total",
        "counter",
        "Leaps of the clock.",
        clock.leaps,
    );
    if let Some(ms) = backed_up_ms {
        text.one(
            "gatekey_backup_last_timestamp_seconds",
            "gauge",
            "When this server last made a backup; 0 if it has not.",
            ms / 1000,
        );
    }
    Ok(text.0)
}

/// How many keys end within 7 and within 30 days.
fn expiring(engine: &Engine) -> Result<(u64, u64), Error> {
    let soon = engine.now().saturating_add(7 * DAY);
    let filter = KeyFilter::new().expires_within(30 * DAY);
    let (mut week, mut month) = (0, 0);
    let mut after = None;
    loop {
        let page = engine.keys_page(&filter, after.as_ref(), bounds::PAGE_MAX)?;
        for key in &page.keys {
            let ends = [key.expires_at, key.retiring_until];
            let end = ends.into_iter().flatten().min();
            month += 1;
            week += u64::from(end.is_some_and(|end| end <= soon));
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok((week, month)),
        }
    }
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // A String takes every write.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        self.sample(name, "", value);
    }
}
