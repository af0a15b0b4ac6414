//! The audit trail.

use crate::answers;
use crate::call::{Answer, Call, Endpoint, Parameter, schema_of};
use crate::endpoints::keyspaces::LIMIT;
use crate::operator::Right;
use crate::problem::Problem;
use crate::schema;
use crate::wire::TrimRequest;

pub(crate) const FROM: Parameter = Parameter::new(
    "from",
    "The position of the first entry; 0, if left out: the first that is there.",
    schema_of::<u64>,
);

/// The media type of an export.
const TEXT: &str = "text/plain; charset=utf-8";

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint::get(
        "/v1/audit",
        "listAudit",
        "List entries of the audit trail",
        schema_of::<schema::AuditPage>,
        list,
    )
    .query(&[FROM, LIMIT]),
    Endpoint::get(
        "/v1/audit/span",
        "showAuditSpan",
        "Show the first and the newest link of the audit trail",
        schema_of::<schema::AuditSpan>,
        span,
    ),
    Endpoint::get(
        "/v1/audit/export",
        "exportAudit",
        "Export the audit trail, as lines that can be verified without the store",
        schema_of::<schema::AuditSpan>,
        export,
    )
    .query(&[FROM])
    .other(Right::Read, TEXT),
    Endpoint::post(
        "/v1/audit/trim",
        "trimAudit",
        "Remove entries from the beginning of the audit trail",
        Right::Administer,
        schema_of::<TrimRequest>,
        schema_of::<schema::Trimmed>,
        trim,
    ),
    Endpoint::post(
        "/v1/audit/key",
        "showAuditKey",
        "Show the key that exports are verified with. Whoever has it can forge exports",
        Right::Administer,
        schema_of::<crate::wire::Nothing>,
        schema_of::<answers::ExportKey>,
        key,
    )
    .maybe_empty(),
];

fn list(call: &mut Call) -> Result<Answer, Problem> {
    let from = call.query.plain("from")?.unwrap_or(0);
    let limit = call.limit()?;
    Answer::ok(&call.engine.audit_page(from, limit)?)
}

fn span(call: &mut Call) -> Result<Answer, Problem> {
    Answer::ok(&call.engine.audit_span()?)
}

fn export(call: &mut Call) -> Result<Answer, Problem> {
    let from = call.query.plain("from")?.unwrap_or(0);
    // What is refused is refused before the first line.
    call.engine.audit_page(from, 1)?;
    let engine = call.engine.clone();
    Ok(Answer::Stream(
        TEXT,
        Box::new(move |out| {
            let done = engine.export_audit(from, out);
            done.map(drop).map_err(std::io::Error::other)
        }),
    ))
}

fn trim(call: &mut Call) -> Result<Answer, Problem> {
    let asked: TrimRequest = call.body()?;
    Answer::ok(&call.engine.trim_audit(asked.through)?)
}

fn key(call: &mut Call) -> Result<Answer, Problem> {
    let crate::wire::Nothing {} = call.body()?;
    let key = call.engine.audit_key();
    let key = key
        .expose()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Answer::ok(&answers::ExportKey { key })
}
