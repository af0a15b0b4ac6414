//! Metrics, in the text format of Prometheus.

use std::fmt::{Display, Write as _};

use gatekey::fleet::Status;
use gatekey::{Engine, Error, Metrics, Outcome, Timestamp, Timings};

/// The media type of the text.
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What an engine counts and what its store holds as metrics, in the text format of
/// Prometheus: `/metrics` of the admin API, for a server that has a page of its own for
/// them. docs/METRICS.md lists them.
///
/// No key and no owner is a label. The call reads a few records, and the index of the keys
/// that end within 30 days. It writes nothing.
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
    let mut text = Text::default();
    state(engine, &mut text)?;
    let metrics = engine.metrics()?;
    work(&metrics, engine.now(), &mut text);
    if let Some(status) = &metrics.fleet {
        fleet(status, &mut text);
    }
    Ok(text.0)
}

/// What the store holds.
fn state(engine: &Engine, text: &mut Text) -> Result<(), Error> {
    let stats = engine.stats()?;
    let clock = engine.clock_status()?;
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
        "Counters that made way for those of other organisations.",
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
    Ok(())
}

/// What the engine has done.
fn work(metrics: &Metrics, now: Timestamp, text: &mut Text) {
    verifications(metrics, text);
    text.head(
        "gatekey_keys_expiring",
        "gauge",
        "Keys that expire, or whose grace ends, within a time.",
    );
    for (within, keys) in [("7d", metrics.expiring_7d), ("30d", metrics.expiring_30d)] {
        let labels = format!(r#"{{within="{within}"}}"#);
        text.sample("gatekey_keys_expiring", &labels, keys);
    }
    text.head(
        "gatekey_queue_wait_seconds",
        "histogram",
        "How long changes waited for their transaction.",
    );
    text.histogram("gatekey_queue_wait_seconds", "", &metrics.queue_waits);
    text.head(
        "gatekey_commit_seconds",
        "histogram",
        "How long commits took, with their syncs.",
    );
    text.histogram("gatekey_commit_seconds", "", &metrics.commits);
    text.head(
        "gatekey_sync_seconds",
        "histogram",
        "How long syncs of the file took.",
    );
    text.histogram("gatekey_sync_seconds", "", &metrics.syncs);
    text.one(
        "gatekey_commits_failed_total",
        "counter",
        "Transactions that failed.",
        metrics.commits_failed,
    );
    text.one(
        "gatekey_quota_slices_total",
        "counter",
        "Slices of quotas that were asked of the store, each with a commit.",
        metrics.quota_slices,
    );
    text.one(
        "gatekey_usage_denials_lost_total",
        "counter",
        "Denials that the usage history lacks for want of room.",
        metrics.denials_lost,
    );
    text.one(
        "gatekey_usage_history_bytes",
        "gauge",
        "The bytes of the usage history.",
        metrics.history_bytes,
    );
    text.one(
        "gatekey_usage_history_skipped_total",
        "counter",
        "Rows that the usage history had no room for.",
        metrics.history_skipped,
    );
    text.one(
        "gatekey_usage_unflushed_seconds",
        "gauge",
        "How old the oldest use is that is not in the file yet.",
        metrics.unflushed_for(now).as_secs_f64(),
    );
    text.one(
        "gatekey_backup_last_timestamp_seconds",
        "gauge",
        "When the engine last made a backup; 0 if it has not since it was opened.",
        metrics.last_backup.map_or(0, Timestamp::unix_seconds),
    );
}

/// What a server of a fleet knows of it.
fn fleet(status: &Status, text: &mut Text) {
    let age = status.age.map_or(f64::INFINITY, |age| age.as_secs_f64());
    // Prometheus writes it with a sign.
    let age = match age.is_finite() {
        true => age.to_string(),
        false => "+Inf".to_owned(),
    };
    text.one(
        "gatekey_fleet_fresh",
        "gauge",
        "Whether this server has had news of its fleet within its lease, and so verifies.",
        u8::from(status.is_fresh),
    );
    text.one(
        "gatekey_fleet_age_seconds",
        "gauge",
        "The time since this server last knew everything; +Inf if it never has.",
        age,
    );
    text.one(
        "gatekey_fleet_lease_seconds",
        "gauge",
        "How old its knowledge may be for it to verify.",
        status.lease.as_secs_f64(),
    );
    for (name, kind, help, value) in [
        (
            "gatekey_fleet_position",
            "gauge",
            "The position of the log that this server has applied.",
            status.position,
        ),
        (
            "gatekey_fleet_newest_position",
            "gauge",
            "The newest position that it has heard of.",
            status.newest,
        ),
        (
            "gatekey_fleet_servers",
            "gauge",
            "Servers that beat within their leases, this one included.",
            status.servers,
        ),
        (
            "gatekey_fleet_applied_total",
            "counter",
            "Entries of the log that this server has applied.",
            status.applied,
        ),
        (
            "gatekey_fleet_appended_total",
            "counter",
            "Entries that it has appended.",
            status.appended,
        ),
        (
            "gatekey_fleet_overtaken_total",
            "counter",
            "Appends that came behind one of another server, and ran again.",
            status.overtaken,
        ),
        (
            "gatekey_fleet_unknown_total",
            "counter",
            "Appends that got no answer, and had to be found out.",
            status.unknown,
        ),
        (
            "gatekey_fleet_failures_total",
            "counter",
            "Calls of the log that failed.",
            status.failures,
        ),
    ] {
        text.one(name, kind, help, value);
    }
}

fn verifications(metrics: &Metrics, text: &mut Text) {
    let name = "gatekey_verifications_total";
    text.head(
        name,
        "counter",
        "Verifications, by keyspace and outcome; those of no keyspace have none.",
    );
    for (keyspace, counts) in &metrics.verifications {
        let of_no_key = |of: &Outcome| matches!(of, Outcome::Malformed | Outcome::TooManyAttempts);
        for (outcome, count) in counts.iter().filter(|(of, _)| !of_no_key(of)) {
            let labels = format!(r#"{{keyspace="{keyspace}",outcome="{outcome}"}}"#);
            text.sample(name, &labels, count);
        }
    }
    for outcome in [
        Outcome::Malformed,
        Outcome::TooManyAttempts,
        Outcome::Unknown,
    ] {
        let labels = format!(r#"{{keyspace="",outcome="{outcome}"}}"#);
        text.sample(name, &labels, metrics.unattributed.get(outcome));
    }
    text.one(
        "gatekey_verification_errors_total",
        "counter",
        "Verifications that ended in an error.",
        metrics.errors,
    );
    let name = "gatekey_verification_seconds";
    text.head(
        name,
        "histogram",
        "How long verifications took: from memory, of a sample; with the file, of each.",
    );
    text.histogram(name, r#"way="memory""#, &metrics.memory_times);
    text.histogram(name, r#"way="file""#, &metrics.file_times);
    let name = "gatekey_resident_lookups_total";
    text.head(
        name,
        "counter",
        "Where the keys of proven tokens were found.",
    );
    text.sample(name, r#"{result="hit"}"#, metrics.resident_hits);
    text.sample(name, r#"{result="miss"}"#, metrics.resident_misses);
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

    /// The samples of a histogram. `labels`: without braces.
    fn histogram(&mut self, name: &str, labels: &str, timings: &Timings) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut below = 0;
        for (bound, count) in timings.buckets() {
            below += count;
            let bound = match bound {
                Some(bound) => bound.as_secs_f64().to_string(),
                None => "+Inf".to_owned(),
            };
            let labels = format!(r#"{{{labels}{comma}le="{bound}"}}"#);
            self.sample(&format!("{name}_bucket"), &labels, below);
        }
        let labels = match labels {
            "" => String::new(),
            labels => format!("{{{labels}}}"),
        };
        self.sample(&format!("{name}_sum"), &labels, timings.sum().as_secs_f64());
        self.sample(&format!("{name}_count"), &labels, below);
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        self.sample(name, "", value);
    }
}
