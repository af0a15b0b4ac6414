//! Keyspaces.

use gatekey::{Cursor, Error, Prefix};

use crate::answers;
use crate::call::{Answer, Call, Endpoint, Parameter, schema_of};
use crate::operator::Right;
use crate::problem::Problem;
use crate::schema;
use crate::wire::{self, KeyspaceChanges, KeyspaceRequest, RevokeKeyspaceRequest};

pub(crate) const AFTER: Parameter = Parameter::new(
    "after",
    "From where to go on: `next` of the page before.",
    schema_of::<schema::Cursor>,
);
pub(crate) const LIMIT: Parameter = Parameter::new(
    "limit",
    "How many to list at most, up to 1,000; 100 if left out.",
    schema_of::<u16>,
);

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint::get(
        "/v1/keyspaces",
        "listKeyspaces",
        "List all keyspaces",
        schema_of::<answers::Keyspaces>,
        list,
    ),
    Endpoint::post(
        "/v1/keyspaces",
        "createKeyspace",
        "Create a keyspace",
        Right::Administer,
        schema_of::<KeyspaceRequest>,
        schema_of::<schema::Keyspace>,
        create,
    )
    .creating(),
    Endpoint::get(
        "/v1/keyspaces/{prefix}",
        "showKeyspace",
        "Show a keyspace",
        schema_of::<schema::Keyspace>,
        show,
    ),
    Endpoint::patch(
        "/v1/keyspaces/{prefix}",
        "updateKeyspace",
        "Change a keyspace",
        Right::Administer,
        schema_of::<KeyspaceChanges>,
        schema_of::<schema::Keyspace>,
        update,
    ),
    Endpoint::post(
        "/v1/keyspaces/{prefix}/revoke",
        "revokeKeyspace",
        "Revoke all keys of a keyspace",
        Right::Revoke,
        schema_of::<RevokeKeyspaceRequest>,
        schema_of::<answers::Reached>,
        revoke,
    ),
    Endpoint::get(
        "/v1/keyspaces/{prefix}/owners",
        "listOwnerSettings",
        "List the owners that have settings of their own in a keyspace",
        schema_of::<answers::Owners>,
        owners,
    )
    .query(&[AFTER, LIMIT]),
];

fn prefix(call: &Call) -> Result<Prefix, Problem> {
    call.segment
        .parse()
        .map_err(|error| Problem::from(Error::from(error)))
}

fn list(call: &mut Call) -> Result<Answer, Problem> {
    Answer::ok(&answers::Keyspaces {
        keyspaces: call.engine.keyspaces()?,
    })
}

fn create(call: &mut Call) -> Result<Answer, Problem> {
    let asked: KeyspaceRequest = call.body()?;
    Answer::created(&call.engine.create_keyspace(asked.keyspace()?)?)
}

fn show(call: &mut Call) -> Result<Answer, Problem> {
    Answer::ok(&call.engine.keyspace(prefix(call)?)?)
}

fn update(call: &mut Call) -> Result<Answer, Problem> {
    let changes: KeyspaceChanges = call.body()?;
    let update = changes.update()?;
    Answer::ok(&call.engine.update_keyspace(prefix(call)?, update)?)
}

fn revoke(call: &mut Call) -> Result<Answer, Problem> {
    let asked: RevokeKeyspaceRequest = call.body()?;
    let prefix = prefix(call)?;
    call.guard_keyspace(prefix)?;
    let reached = match asked.dry_run {
        false => {
            let why = wire::revocation(asked.reason, asked.note);
            answers::RevokedManyOrPlanned::Done(call.engine.revoke_keyspace(prefix, why)?)
        }
        true => {
            call.engine.keyspace(prefix)?;
            let stats = call.engine.stats()?;
            let counts = stats.keyspaces.get(&prefix).copied().unwrap_or_default();
            answers::RevokedManyOrPlanned::Planned {
                keys: counts.total(),
                newly: counts.total().saturating_sub(counts.revoked),
                damaged: 0,
            }
        }
    };
    Answer::ok(&answers::Reached {
        reached,
        dry_run: asked.dry_run,
    })
}

fn owners(call: &mut Call) -> Result<Answer, Problem> {
    let limit = call.limit()?;
    let after: Option<Cursor> = call.query.read("after")?;
    let page = call
        .engine
        .owner_settings_page(prefix(call)?, after.as_ref(), limit)?;
    Answer::ok(&answers::Owners {
        owners: page.owners,
        damaged: page.damaged,
        next: page.next,
    })
}
