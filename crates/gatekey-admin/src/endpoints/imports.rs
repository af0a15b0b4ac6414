//! Keys of other systems.

use gatekey::{ForeignKey, ImportedKey};

use crate::answers::{self, ImportedRow};
use crate::call::{Answer, Call, Endpoint, schema_of};
use crate::operator::Right;
use crate::problem::Problem;
use crate::schema;
use crate::wire::{
    ClaimRequest, ForeignKeyRequest, ImportDryRunRequest, ImportKeysRequest, ImportRequest, Patch,
    SunsetRequest,
};

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint::get(
        "/v1/imports",
        "listImports",
        "List imports, and how many of their keys were not seen yet",
        schema_of::<answers::Imports>,
        list,
    ),
    Endpoint::post(
        "/v1/imports",
        "beginImport",
        "Begin an import, or find the one of that name",
        Right::Administer,
        schema_of::<ImportRequest>,
        schema_of::<schema::Import>,
        begin,
    ),
    Endpoint::post(
        "/v1/imports/keys",
        "importKeys",
        "Import keys, and say of each what became of it",
        Right::Administer,
        schema_of::<ImportKeysRequest>,
        schema_of::<answers::ImportedKeys>,
        import_keys,
    ),
    Endpoint::post(
        "/v1/imports/dry-run",
        "tryImport",
        "Say what an import of keys would come to",
        Right::Administer,
        schema_of::<ImportDryRunRequest>,
        schema_of::<answers::ImportedKeys>,
        dry_run,
    ),
    Endpoint::post(
        "/v1/imports/sunset",
        "setSunset",
        "Set the instant from which keys that were never used are revoked",
        Right::Administer,
        schema_of::<SunsetRequest>,
        schema_of::<schema::Import>,
        sunset,
    ),
    Endpoint::post(
        "/v1/imports/claim",
        "claimKey",
        "Give a key of an import the token that its holder has",
        Right::Administer,
        schema_of::<ClaimRequest>,
        schema_of::<answers::NamedKey>,
        claim,
    ),
];

fn list(call: &mut Call) -> Result<Answer, Problem> {
    call.write_usage();
    Answer::ok(&answers::Imports {
        imports: call.engine.imports()?,
    })
}

fn begin(call: &mut Call) -> Result<Answer, Problem> {
    let asked: ImportRequest = call.body()?;
    Answer::ok(&call.engine.begin_import(asked.import())?)
}

/// Gives the keys that can be read to `run`, and its answers their places between those of the
/// others.
fn rows(
    keys: Vec<ForeignKeyRequest>,
    run: impl FnOnce(Vec<ForeignKey>) -> gatekey::Result<Vec<ImportedKey>>,
) -> Result<Answer, Problem> {
    let mut readable = Vec::with_capacity(keys.len());
    let read: Vec<Option<ImportedKey>> = keys
        .into_iter()
        .map(|key| match key.foreign() {
            Ok(key) => {
                readable.push(key);
                None
            }
            Err(error) => Some(ImportedKey::Refused(error)),
        })
        .collect();
    let mut told = run(readable)?.into_iter();
    let rows = read
        .into_iter()
        .filter_map(|read| read.or_else(|| told.next()));
    Answer::ok(&answers::ImportedKeys {
        keys: rows.map(ImportedRow::of).collect(),
    })
}

fn import_keys(call: &mut Call) -> Result<Answer, Problem> {
    let asked: ImportKeysRequest = call.body()?;
    let engine = call.engine.clone();
    rows(asked.keys, |keys| engine.import_keys(&asked.import, keys))
}

fn dry_run(call: &mut Call) -> Result<Answer, Problem> {
    let asked: ImportDryRunRequest = call.body()?;
    let engine = call.engine.clone();
    let import = asked.import.import();
    rows(asked.keys, |keys| engine.import_dry_run(import, keys))
}

fn sunset(call: &mut Call) -> Result<Answer, Problem> {
    let asked: SunsetRequest = call.body()?;
    let sunset = match asked.sunset {
        Patch::Keep => return Err(Problem::bad_request("the body: missing field `sunset`")),
        Patch::Clear => None,
        Patch::Set(instant) => Some(instant),
    };
    Answer::ok(&call.engine.set_sunset(&asked.import, sunset)?)
}

fn claim(call: &mut Call) -> Result<Answer, Problem> {
    let asked: ClaimRequest = call.body()?;
    let key = call.engine.claim(&asked.import, &asked.id, &asked.token)?;
    Answer::ok(&call.named(key)?)
}

impl ImportedRow {
    fn of(row: ImportedKey) -> Self {
        let done = |outcome, id| Self {
            outcome,
            id: Some(id),
            code: None,
            detail: None,
        };
        match row {
            ImportedKey::Imported(id) => done(answers::Outcome::Imported, id),
            ImportedKey::Present(id) => done(answers::Outcome::Present, id),
            ImportedKey::Refused(error) => {
                let problem = Problem::from(error);
                Self {
                    outcome: answers::Outcome::Refused,
                    id: None,
                    code: Some(problem.code().to_owned()),
                    detail: Some(problem.detail().to_owned()),
                }
            }
            _ => Self {
                outcome: answers::Outcome::Refused,
                id: None,
                code: None,
                detail: None,
            },
        }
    }
}
