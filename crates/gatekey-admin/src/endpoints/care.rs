//! The care of the store.

use axum::http::StatusCode;
use gatekey::{Error, Key, KeyFilter, Timestamp};

use crate::answers;
use crate::call::{Answer, Call, Endpoint, schema_of};
use crate::operator::Right;
use crate::problem::Problem;
use crate::schema;
use crate::wire::{Nothing, PurgeRequest, Span};

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint::get(
        "/v1/health",
        "showHealth",
        "Show whether the store takes changes",
        schema_of::<schema::Health>,
        health,
    ),
    Endpoint::get(
        "/v1/stats",
        "showStats",
        "Show what the store holds",
        schema_of::<schema::Stats>,
        stats,
    ),
    Endpoint::get(
        "/v1/peppers",
        "listPeppers",
        "List the peppers, and how many keys need each",
        schema_of::<answers::Peppers>,
        peppers,
    ),
    Endpoint::get(
        "/v1/clock",
        "showClock",
        "Show whether the clock is right",
        schema_of::<schema::ClockStatus>,
        clock,
    ),
    Endpoint::post(
        "/v1/check",
        "checkStore",
        "Walk the whole store, and name what does not agree",
        Right::Administer,
        schema_of::<Nothing>,
        schema_of::<answers::Checked>,
        check,
    )
    .maybe_empty(),
    Endpoint::post(
        "/v1/repair",
        "repairStore",
        "Remove or rebuild what is damaged",
        Right::Administer,
        schema_of::<Nothing>,
        schema_of::<answers::Repaired>,
        repair,
    )
    .maybe_empty(),
    Endpoint::post(
        "/v1/purge",
        "purgeKeys",
        "Remove keys that ended long ago",
        Right::Administer,
        schema_of::<PurgeRequest>,
        schema_of::<answers::PurgedOrPlanned>,
        purge,
    ),
    Endpoint::post(
        "/v1/compact",
        "compactStore",
        "Make the file as small as its content",
        Right::Administer,
        schema_of::<Nothing>,
        schema_of::<schema::Compacted>,
        compact,
    )
    .maybe_empty(),
    Endpoint::get(
        "/v1/backup",
        "backUp",
        "Make a backup, and send it",
        schema_of::<Nothing>,
        backup,
    )
    .other(Right::Administer, "application/octet-stream"),
    Endpoint::get(
        "/v1/openapi.json",
        "showDocument",
        "Show this document",
        schema_of::<serde_json::Map<String, serde_json::Value>>,
        document,
    ),
    Endpoint::get(
        "/metrics",
        "showMetrics",
        "Show metrics, in the text format of Prometheus",
        schema_of::<Nothing>,
        metrics,
    )
    .other(Right::Read, crate::metrics::MEDIA_TYPE),
];

fn health(call: &mut Call) -> Result<Answer, Problem> {
    Answer::ok(&call.engine.health())
}

fn stats(call: &mut Call) -> Result<Answer, Problem> {
    Answer::ok(&call.engine.stats()?)
}

fn peppers(call: &mut Call) -> Result<Answer, Problem> {
    Answer::ok(&answers::Peppers {
        peppers: call.engine.peppers()?,
    })
}

fn clock(call: &mut Call) -> Result<Answer, Problem> {
    Answer::ok(&call.engine.clock_status()?)
}

fn check(call: &mut Call) -> Result<Answer, Problem> {
    let Nothing {} = call.body()?;
    let report = call.engine.check()?;
    Answer::ok(&answers::Checked {
        is_sound: report.is_sound(),
        report,
    })
}

fn repair(call: &mut Call) -> Result<Answer, Problem> {
    let Nothing {} = call.body()?;
    Answer::ok(&answers::Repaired {
        report: call.engine.repair()?,
    })
}

/// When a key ended, or will: the first of its ends.
fn end_of(key: &Key) -> Option<Timestamp> {
    let revoked = key.revoked.as_ref().map(|revoked| revoked.at);
    [revoked, key.expires_at, key.retiring_until]
        .into_iter()
        .flatten()
        .min()
}

fn purge(call: &mut Call) -> Result<Answer, Problem> {
    let asked: PurgeRequest = call.body()?;
    let Span(age) = asked.age;
    if !asked.dry_run {
        let purged = answers::PurgedKeys::Done(call.engine.purge(age)?);
        return Answer::ok(&answers::PurgedOrPlanned {
            purged,
            dry_run: false,
        });
    }
    let before = call.engine.now().saturating_sub(age);
    let (mut keys, mut damaged) = (0, 0);
    for key in call.engine.keys(KeyFilter::new()) {
        match key {
            Ok(key) => keys += u64::from(end_of(&key).is_some_and(|end| end < before)),
            Err(Error::Corrupted(_)) => damaged += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Answer::ok(&answers::PurgedOrPlanned {
        purged: answers::PurgedKeys::Planned { keys, damaged },
        dry_run: true,
    })
}

fn compact(call: &mut Call) -> Result<Answer, Problem> {
    let Nothing {} = call.body()?;
    Answer::ok(&call.engine.compact()?)
}

fn backup(call: &mut Call) -> Result<Answer, Problem> {
    let shared = call.shared.clone();
    let _making = shared.one_backup()?;
    let failed = |error: std::io::Error| {
        let text = format!("no room for a backup: {error}");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "backup_failed", text)
    };
    // A folder of the process's own, that nobody else can enter.
    let folder = tempfile::Builder::new()
        .prefix(".gatekey-backup-")
        .tempdir_in(&shared.backup_dir)
        .map_err(failed)?;
    let path = folder.path().join("store");
    call.engine.backup(&path)?;
    let file = std::fs::File::open(&path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    // Without a name, nothing of it is left once it is sent or the process ends.
    drop(folder);
    Ok(Answer::File(file, bytes))
}

fn document(_: &mut Call) -> Result<Answer, Problem> {
    Ok(Answer::Json(
        StatusCode::OK,
        crate::openapi::openapi().into_bytes(),
    ))
}

fn metrics(call: &mut Call) -> Result<Answer, Problem> {
    let text = crate::metrics::metrics(&call.engine)?;
    Ok(Answer::Text(crate::metrics::MEDIA_TYPE, text))
}
