//! Owners.

use gatekey::{Error, Key, KeyFilter, KeyState, OwnerPath, Prefix};

use crate::answers;
use crate::call::{Answer, Call, Endpoint, Parameter, schema_of};
use crate::operator::Right;
use crate::problem::Problem;
use crate::schema;
use crate::wire::{self, OwnerChanges, ResumeRequest, RevokeOwnerRequest, SuspendRequest};

const OWNER: Parameter = Parameter::new("owner", "The owner's path.", schema_of::<schema::Owner>);
const KEYSPACE: Parameter = Parameter::new(
    "keyspace",
    "The prefix of a keyspace.",
    schema_of::<schema::Prefix>,
);

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint::get(
        "/v1/owners",
        "showOwner",
        "Show whether an owner is suspended, and how many keys it has",
        schema_of::<answers::Owner>,
        show,
    )
    .query(&[OWNER.required()]),
    Endpoint::post(
        "/v1/owners/suspend",
        "suspendOwner",
        "Suspend an owner and all below it",
        Right::Revoke,
        schema_of::<SuspendRequest>,
        schema_of::<answers::Suspended>,
        suspend,
    ),
    Endpoint::post(
        "/v1/owners/resume",
        "resumeOwner",
        "Resume an owner",
        Right::Issue,
        schema_of::<ResumeRequest>,
        schema_of::<answers::Owner>,
        resume,
    ),
    Endpoint::post(
        "/v1/owners/revoke",
        "revokeOwner",
        "Revoke all keys of an owner and of all below it",
        Right::Revoke,
        schema_of::<RevokeOwnerRequest>,
        schema_of::<answers::Reached>,
        revoke,
    ),
    Endpoint::get(
        "/v1/owners/settings",
        "showOwnerSettings",
        "Show what an owner has of its own in a keyspace",
        schema_of::<schema::OwnerSettings>,
        settings,
    )
    .query(&[KEYSPACE.required(), OWNER.required()]),
    Endpoint::patch(
        "/v1/owners/settings",
        "updateOwnerSettings",
        "Change what an owner has of its own in a keyspace",
        Right::Administer,
        schema_of::<OwnerChanges>,
        schema_of::<schema::OwnerSettings>,
        update,
    ),
];

pub(super) fn path(text: &str) -> Result<OwnerPath, Problem> {
    text.parse()
        .map_err(|error| Problem::from(Error::from(error)))
}

pub(super) fn asked<T: std::str::FromStr<Err: Into<Error>>>(
    call: &Call,
    name: &str,
) -> Result<T, Problem> {
    let missing = || Problem::bad_request(format!("the parameter {name} is missing"));
    call.query.read(name)?.ok_or_else(missing)
}

/// Keys of an owner and below, by a test of each, and damaged ones.
fn count(call: &Call, owner: &OwnerPath, counts: fn(&Key) -> bool) -> Result<(u64, u64), Problem> {
    let (mut keys, mut damaged) = (0, 0);
    for key in call
        .engine
        .keys(KeyFilter::new().owner_and_below(owner.clone()))
    {
        match key {
            Ok(key) => keys += u64::from(counts(&key)),
            Err(Error::Corrupted(_)) => damaged += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok((keys, damaged))
}

fn is_not_revoked(key: &Key) -> bool {
    key.state != KeyState::Revoked
}

fn owner_of(call: &Call, owner: &OwnerPath) -> Result<Answer, Problem> {
    Answer::ok(&answers::Owner {
        state: call.engine.owner(owner.clone())?,
        keys: count(call, owner, is_not_revoked)?.0,
    })
}

fn show(call: &mut Call) -> Result<Answer, Problem> {
    let owner: OwnerPath = asked(call, "owner")?;
    owner_of(call, &owner)
}

fn suspend(call: &mut Call) -> Result<Answer, Problem> {
    let asked: SuspendRequest = call.body()?;
    let owner = path(&asked.owner)?;
    call.guard_owner(&owner)?;
    let state = match asked.dry_run {
        false => call.engine.suspend(owner.clone(), asked.note.as_deref())?,
        true => call.engine.owner(owner.clone())?,
    };
    Answer::ok(&answers::Suspended {
        owner: state,
        keys: count(call, &owner, is_not_revoked)?.0,
        dry_run: asked.dry_run,
    })
}

fn resume(call: &mut Call) -> Result<Answer, Problem> {
    let asked: ResumeRequest = call.body()?;
    let owner = path(&asked.owner)?;
    call.guard_owner(&owner)?;
    call.engine.resume(owner.clone())?;
    owner_of(call, &owner)
}

fn revoke(call: &mut Call) -> Result<Answer, Problem> {
    let asked: RevokeOwnerRequest = call.body()?;
    let owner = path(&asked.owner)?;
    call.guard_owner(&owner)?;
    let reached = match asked.dry_run {
        false => {
            let why = wire::revocation(asked.reason, asked.note);
            answers::RevokedManyOrPlanned::Done(call.engine.revoke_owner(owner, why)?)
        }
        true => {
            let (keys, damaged) = count(call, &owner, |_| true)?;
            let (newly, _) = count(call, &owner, is_not_revoked)?;
            answers::RevokedManyOrPlanned::Planned {
                keys,
                newly,
                damaged,
            }
        }
    };
    Answer::ok(&answers::Reached {
        reached,
        dry_run: asked.dry_run,
    })
}

fn settings(call: &mut Call) -> Result<Answer, Problem> {
    let keyspace: Prefix = asked(call, "keyspace")?;
    let owner: OwnerPath = asked(call, "owner")?;
    Answer::ok(&call.engine.owner_settings(keyspace, owner)?)
}

fn update(call: &mut Call) -> Result<Answer, Problem> {
    let changes: OwnerChanges = call.body()?;
    let keyspace: Prefix = changes
        .keyspace
        .parse()
        .map_err(|error| Problem::from(Error::from(error)))?;
    let owner = path(&changes.owner)?;
    Answer::ok(
        &call
            .engine
            .update_owner(keyspace, owner, changes.update())?,
    )
}
