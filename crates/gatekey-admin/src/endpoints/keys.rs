//! Keys.

use std::collections::BTreeMap;

use gatekey::{
    Cursor, Error, IdempotencyKey, Issued, Key, KeyFilter, KeyState, Keyspace, NotFound, OwnerPath,
    Prefix, Requirements,
};

use super::keyspaces::{AFTER, LIMIT};
use super::owners;
use super::trail::FROM;
use crate::answers::{self, NamedKey};
use crate::call::{Answer, Call, Endpoint, Parameter, schema_of};
use crate::find::{FoundInText, find_in_text};
use crate::operator::Right;
use crate::problem::Problem;
use crate::schema;
use crate::wire::{
    self, BatchRequest, IssueRequest, KeyChanges, Nothing, RevokeRequest, RevokeTokenRequest,
    RotateRequest, Span, TokenRequest, VerifyRequest,
};

const FILTER: &[Parameter] = &[
    Parameter::new(
        "keyspace",
        "Keys of a keyspace.",
        schema_of::<schema::Prefix>,
    ),
    Parameter::new(
        "owner",
        "Keys of exactly this owner.",
        schema_of::<schema::Owner>,
    ),
    Parameter::new(
        "owner_and_below",
        "Keys of this owner and of all below it.",
        schema_of::<schema::Owner>,
    ),
    Parameter::new("state", "Keys in a state.", schema_of::<schema::KeyState>),
    Parameter::new(
        "expired",
        "Keys that are past their expiry, whatever their state, or all others.",
        schema_of::<bool>,
    ),
    Parameter::new(
        "disabled",
        "Keys that are disabled, whatever their state, or all others.",
        schema_of::<bool>,
    ),
    Parameter::new(
        "suspended",
        "Keys that are suspended with their owner, whatever their state, or all others.",
        schema_of::<bool>,
    ),
    Parameter::new("pepper", "Keys that need a pepper.", schema_of::<u8>),
    Parameter::new(
        "label",
        "Keys with a label: `NAME`, or `NAME=VALUE`. May be given several times.",
        schema_of::<String>,
    )
    .repeated(),
    Parameter::new(
        "name",
        "Keys whose name has this text in it, in letters of either case.",
        schema_of::<String>,
    ),
    Parameter::new(
        "expires_within",
        "Keys that expire, or whose grace ends, within a time.",
        schema_of::<schema::Duration>,
    ),
    AFTER,
    LIMIT,
];

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint::get(
        "/v1/keys",
        "listKeys",
        "List keys",
        schema_of::<answers::Keys>,
        list,
    )
    .query(FILTER),
    Endpoint::post(
        "/v1/keys",
        "issueKey",
        "Issue a key",
        Right::Issue,
        schema_of::<IssueRequest>,
        schema_of::<answers::Issued>,
        issue,
    )
    .creating()
    .repeatable(),
    Endpoint::post(
        "/v1/keys/batch",
        "issueKeys",
        "Issue keys together, or none of them",
        Right::Issue,
        schema_of::<BatchRequest>,
        schema_of::<answers::IssuedBatch>,
        issue_batch,
    )
    .creating()
    .repeatable(),
    Endpoint::post(
        "/v1/keys/find",
        "findKey",
        "Find the key of a token, or of one in a text, in any state",
        Right::Read,
        schema_of::<TokenRequest>,
        schema_of::<NamedKey>,
        find,
    ),
    Endpoint::post(
        "/v1/keys/revoke",
        "revokeToken",
        "Revoke the key of a token",
        Right::Revoke,
        schema_of::<RevokeTokenRequest>,
        schema_of::<schema::Revoked>,
        revoke_token,
    ),
    Endpoint::get(
        "/v1/keys/{id}",
        "showKey",
        "Show a key",
        schema_of::<NamedKey>,
        show,
    ),
    Endpoint::patch(
        "/v1/keys/{id}",
        "updateKey",
        "Change a key",
        Right::Issue,
        schema_of::<KeyChanges>,
        schema_of::<NamedKey>,
        update,
    ),
    Endpoint::post(
        "/v1/keys/{id}/rotate",
        "rotateKey",
        "Replace a key by a new one",
        Right::Issue,
        schema_of::<RotateRequest>,
        schema_of::<answers::Rotated>,
        rotate,
    )
    .creating()
    .maybe_empty()
    .repeatable(),
    Endpoint::post(
        "/v1/keys/{id}/disable",
        "disableKey",
        "Disable a key",
        Right::Revoke,
        schema_of::<Nothing>,
        schema_of::<NamedKey>,
        disable,
    )
    .maybe_empty(),
    Endpoint::post(
        "/v1/keys/{id}/enable",
        "enableKey",
        "Enable a key",
        Right::Issue,
        schema_of::<Nothing>,
        schema_of::<NamedKey>,
        enable,
    )
    .maybe_empty(),
    Endpoint::post(
        "/v1/keys/{id}/revoke",
        "revokeKey",
        "Revoke a key",
        Right::Revoke,
        schema_of::<RevokeRequest>,
        schema_of::<schema::Revoked>,
        revoke,
    )
    .maybe_empty(),
    Endpoint::get(
        "/v1/keys/{id}/history",
        "showHistory",
        "List the audit entries about a key",
        schema_of::<answers::History>,
        history,
    )
    .query(&[FROM, LIMIT]),
    Endpoint::get(
        "/v1/keys/{id}/usage",
        "showKeyUsage",
        "Show how a key was used, from where if that is noted, and what is left to it",
        schema_of::<answers::KeyUsage>,
        usage,
    ),
    Endpoint::post(
        "/v1/verify",
        "verifyToken",
        "Verify a token, and charge its key",
        Right::Read,
        schema_of::<VerifyRequest>,
        schema_of::<answers::Verdict>,
        verify,
    ),
    Endpoint::get(
        "/v1/usage",
        "showUsage",
        "Add up how the keys of an owner or of a keyspace were used",
        schema_of::<answers::UsageTotals>,
        totals,
    )
    .query(&[
        Parameter::new(
            "keyspace",
            "Keys of a keyspace.",
            schema_of::<schema::Prefix>,
        ),
        Parameter::new(
            "owner_and_below",
            "Keys of this owner and of all below it.",
            schema_of::<schema::Owner>,
        ),
    ]),
];

fn filter(call: &Call) -> Result<KeyFilter, Problem> {
    let query = &call.query;
    let mut filter = KeyFilter::new();
    if let Some(prefix) = query.read::<Prefix>("keyspace")? {
        filter = filter.keyspace(prefix);
    }
    let owner = query.read::<OwnerPath>("owner")?;
    let above = query.read::<OwnerPath>("owner_and_below")?;
    filter = match (owner, above) {
        (Some(_), Some(_)) => {
            let why = "owner and owner_and_below exclude each other";
            return Err(Problem::bad_request(why));
        }
        (Some(owner), None) => filter.owner(owner),
        (None, Some(owner)) => filter.owner_and_below(owner),
        (None, None) => filter,
    };
    if let Some(state) = query.text::<KeyState>("state")? {
        filter = filter.state(state);
    }
    if let Some(expired) = query.plain("expired")? {
        filter = filter.expired(expired);
    }
    if let Some(disabled) = query.plain("disabled")? {
        filter = filter.disabled(disabled);
    }
    if let Some(suspended) = query.plain("suspended")? {
        filter = filter.suspended(suspended);
    }
    if let Some(pepper) = query.plain("pepper")? {
        filter = filter.pepper(pepper);
    }
    for label in query.all("label") {
        filter = match label.split_once('=') {
            Some((name, value)) => filter.label(name, value),
            None => filter.has_label(label),
        };
    }
    if let Some(part) = query.text::<String>("name")? {
        filter = filter.name_contains(part);
    }
    if let Some(Span(time)) = query.text("expires_within")? {
        filter = filter.expires_within(time);
    }
    Ok(filter)
}

fn list(call: &mut Call) -> Result<Answer, Problem> {
    let filter = filter(call)?;
    let after: Option<Cursor> = call.query.read("after")?;
    let limit = call.limit()?;
    call.write_usage();
    let page = call.engine.keys_page(&filter, after.as_ref(), limit)?;
    let mut keyspaces: BTreeMap<Prefix, Keyspace> = BTreeMap::new();
    let mut keys = Vec::with_capacity(page.keys.len());
    for key in page.keys {
        let keyspace = match keyspaces.entry(key.keyspace) {
            std::collections::btree_map::Entry::Occupied(found) => found.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(call.engine.keyspace(key.keyspace)?)
            }
        };
        keys.push(NamedKey::of(key, keyspace));
    }
    Answer::ok(&answers::Keys {
        keys,
        damaged: page.damaged,
        next: page.next,
    })
}

fn once(call: &Call) -> Result<Option<gatekey::Idempotent>, Problem> {
    let Some(key) = &call.idempotency else {
        return Ok(None);
    };
    let key: IdempotencyKey = key.parse().map_err(Error::from)?;
    Ok(Some(call.engine.idempotent(key)?))
}

fn issued(call: &Call, issued: Issued) -> Result<answers::Issued, Problem> {
    Ok(answers::Issued {
        token: issued.token.expose().to_owned(),
        key: call.named(issued.key)?,
    })
}

fn prefix(text: &str) -> Result<Prefix, Problem> {
    text.parse()
        .map_err(|error| Problem::from(Error::from(error)))
}

fn issue(call: &mut Call) -> Result<Answer, Problem> {
    let asked: IssueRequest = call.body()?;
    call.guard_keyspace(prefix(&asked.keyspace)?)?;
    let new = asked.key()?;
    let done = match once(call)? {
        Some(once) => once.issue(new)?,
        None => call.engine.issue(new)?,
    };
    Answer::created(&issued(call, done)?)
}

fn issue_batch(call: &mut Call) -> Result<Answer, Problem> {
    let asked: BatchRequest = call.body()?;
    let mut new = Vec::with_capacity(asked.keys.len());
    for (index, key) in asked.keys.into_iter().enumerate() {
        let of_item = |error: Error| {
            Problem::from(Error::Batch {
                index,
                source: Box::new(error),
            })
        };
        let keyspace: Prefix = key
            .keyspace
            .parse()
            .map_err(|error| of_item(Error::from(error)))?;
        call.guard_keyspace(keyspace)?;
        new.push(key.key().map_err(of_item)?);
    }
    let done = match once(call)? {
        Some(once) => once.issue_batch(new)?,
        None => call.engine.issue_batch(new)?,
    };
    let keys: Result<Vec<_>, Problem> = done.into_iter().map(|one| issued(call, one)).collect();
    Answer::created(&answers::IssuedBatch { keys: keys? })
}

fn find_token(call: &Call, token: &str) -> Result<Key, Problem> {
    let found = call.engine.find_by_token(token)?;
    found.ok_or_else(|| Error::from(NotFound::Token).into())
}

fn find(call: &mut Call) -> Result<Answer, Problem> {
    let asked: TokenRequest = call.body()?;
    call.write_usage();
    // As people have it: in what it stood in.
    match find_in_text(&call.engine, &asked.token)? {
        FoundInText::Token(key) => Answer::ok(&call.named(*key)?),
        FoundInText::Ids(_) => Err(Error::from(NotFound::Token).into()),
    }
}

fn revoke_token(call: &mut Call) -> Result<Answer, Problem> {
    let asked: RevokeTokenRequest = call.body()?;
    if call.shared.admin.is_some() && !call.operator.may(Right::Administer) {
        call.guard_keyspace(find_token(call, &asked.token)?.keyspace)?;
    }
    let why = wire::revocation(asked.reason, asked.note);
    Answer::ok(&call.engine.revoke_token(&asked.token, why)?)
}

fn show(call: &mut Call) -> Result<Answer, Problem> {
    let id = call.key_id()?;
    call.write_usage();
    let key = call.engine.key(id)?;
    Answer::ok(&call.named(key)?)
}

fn update(call: &mut Call) -> Result<Answer, Problem> {
    let id = call.key_id()?;
    let changes: KeyChanges = call.body()?;
    call.guard_key(id)?;
    let key = call.engine.update(id, changes.update())?;
    Answer::ok(&call.named(key)?)
}

fn rotate(call: &mut Call) -> Result<Answer, Problem> {
    let id = call.key_id()?;
    let asked: RotateRequest = call.body()?;
    call.guard_key(id)?;
    let rotation = asked.rotation();
    let done = match once(call)? {
        Some(once) => once.rotate(id, rotation)?,
        None => call.engine.rotate(id, rotation)?,
    };
    Answer::created(&answers::Rotated {
        token: done.token.expose().to_owned(),
        key: call.named(done.key)?,
        old: call.named(done.old)?,
    })
}

fn disable(call: &mut Call) -> Result<Answer, Problem> {
    let id = call.key_id()?;
    let Nothing {} = call.body()?;
    call.guard_key(id)?;
    let key = call.engine.disable(id)?;
    Answer::ok(&call.named(key)?)
}

fn enable(call: &mut Call) -> Result<Answer, Problem> {
    let id = call.key_id()?;
    let Nothing {} = call.body()?;
    call.guard_key(id)?;
    let key = call.engine.enable(id)?;
    Answer::ok(&call.named(key)?)
}

fn revoke(call: &mut Call) -> Result<Answer, Problem> {
    let id = call.key_id()?;
    let asked: RevokeRequest = call.body()?;
    call.guard_key(id)?;
    let why = wire::revocation(asked.reason, asked.note);
    Answer::ok(&call.engine.revoke(id, why)?)
}

fn history(call: &mut Call) -> Result<Answer, Problem> {
    let id = call.key_id()?;
    let from = call.query.plain("from")?.unwrap_or(0);
    let limit = call.limit()?;
    let entries = call.engine.history(id, from, limit)?;
    let next = match entries.len() < limit {
        true => None,
        false => entries.last().map(|last| last.seq.saturating_add(1)),
    };
    Answer::ok(&answers::History { entries, next })
}

fn usage(call: &mut Call) -> Result<Answer, Problem> {
    let id = call.key_id()?;
    call.write_usage();
    let key = call.engine.key(id)?;
    Answer::ok(&answers::KeyUsage {
        usage: key.usage,
        quota: key.quota,
        limits: call.engine.limits_left(id)?,
        networks: call.engine.networks_of(id)?,
    })
}

fn verify(call: &mut Call) -> Result<Answer, Problem> {
    let asked: VerifyRequest = call.body()?;
    let names: Vec<&str> = asked.permissions.iter().map(String::as_str).collect();
    let mut requirements = Requirements::new().permissions(&names);
    if let Some(keyspace) = &asked.keyspace {
        requirements = requirements.keyspace(prefix(keyspace)?);
    }
    if let Some(source) = asked.source {
        requirements = requirements.source(source);
    }
    if let Some(cost) = asked.cost {
        requirements = requirements.cost(cost);
    }
    let verdict = call.engine.verify_with(&asked.token, &requirements)?;
    Answer::ok(&verdict)
}

fn totals(call: &mut Call) -> Result<Answer, Problem> {
    let mut filter = KeyFilter::new();
    let keyspace = call.query.read::<Prefix>("keyspace")?;
    let owner = call.query.one("owner_and_below");
    if keyspace.is_none() && owner.is_none() {
        let why = "the parameter keyspace or owner_and_below is missing";
        return Err(Problem::bad_request(why));
    }
    if let Some(prefix) = keyspace {
        call.engine.keyspace(prefix)?;
        filter = filter.keyspace(prefix);
    }
    if let Some(owner) = owner {
        filter = filter.owner_and_below(owners::path(owner)?);
    }
    call.write_usage();
    let mut totals = answers::UsageTotals {
        keys: 0,
        used_keys: 0,
        count: 0,
        last_used: None,
        damaged: 0,
    };
    for key in call.engine.keys(filter) {
        match key {
            Ok(key) => {
                totals.keys += 1;
                totals.used_keys += u64::from(key.usage.count > 0);
                totals.count = totals.count.saturating_add(key.usage.count);
                totals.last_used = totals.last_used.max(key.usage.last_used);
            }
            Err(Error::Corrupted(_)) => totals.damaged += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Answer::ok(&totals)
}
