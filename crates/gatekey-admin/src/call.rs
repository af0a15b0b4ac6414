//! A request as an endpoint gets it, and what it answers.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use axum::body::Bytes;
use axum::http::StatusCode;
use gatekey::{Engine, Key, KeyFilter, KeyId, Keyspace, OwnerPath, Prefix};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::answers::NamedKey;
use crate::operator::{Operator, Right};
use crate::problem::Problem;
use crate::query::Query;
use crate::wire::Object;

/// A form, for the document.
pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

pub(crate) fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// A parameter of a query.
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) schema: SchemaOf,
    pub(crate) is_required: bool,
    pub(crate) is_repeated: bool,
}

impl Parameter {
    pub(crate) const fn new(name: &'static str, about: &'static str, schema: SchemaOf) -> Self {
        Self {
            name,
            about,
            schema,
            is_required: false,
            is_repeated: false,
        }
    }

    pub(crate) const fn required(self) -> Self {
        Self {
            is_required: true,
            ..self
        }
    }

    pub(crate) const fn repeated(self) -> Self {
        Self {
            is_repeated: true,
            ..self
        }
    }
}

/// What an endpoint answers with, for the document.
pub(crate) enum Reply {
    Json(u16, SchemaOf),
    /// Something else, of a media type.
    Other(&'static str),
}

/// One method of one path.
pub(crate) struct Endpoint {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    /// Its name in the document, which clients are generated with.
    pub(crate) id: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) right: Right,
    pub(crate) query: &'static [Parameter],
    pub(crate) body: Option<SchemaOf>,
    /// Whether a body may be left out.
    pub(crate) may_be_empty: bool,
    /// Whether it takes an idempotency key.
    pub(crate) is_repeatable: bool,
    pub(crate) reply: Reply,
    /// Runs where a thread may block: the engine is synchronous.
    pub(crate) run: fn(&mut Call) -> Result<Answer, Problem>,
}

impl Endpoint {
    pub(crate) const fn get(
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        reply: SchemaOf,
        run: fn(&mut Call) -> Result<Answer, Problem>,
    ) -> Self {
        Self {
            method: "GET",
            path,
            id,
            summary,
            right: Right::Read,
            query: &[],
            body: None,
            may_be_empty: false,
            is_repeatable: false,
            reply: Reply::Json(200, reply),
            run,
        }
    }

    pub(crate) const fn post(
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        right: Right,
        body: SchemaOf,
        reply: SchemaOf,
        run: fn(&mut Call) -> Result<Answer, Problem>,
    ) -> Self {
        Self {
            method: "POST",
            right,
            body: Some(body),
            ..Self::get(path, id, summary, reply, run)
        }
    }

    pub(crate) const fn patch(
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        right: Right,
        body: SchemaOf,
        reply: SchemaOf,
        run: fn(&mut Call) -> Result<Answer, Problem>,
    ) -> Self {
        Self {
            method: "PATCH",
            ..Self::post(path, id, summary, right, body, reply, run)
        }
    }

    pub(crate) const fn query(self, query: &'static [Parameter]) -> Self {
        Self { query, ..self }
    }

    pub(crate) const fn creating(self) -> Self {
        let reply = match self.reply {
            Reply::Json(_, schema) => Reply::Json(201, schema),
            other => other,
        };
        Self { reply, ..self }
    }

    pub(crate) const fn repeatable(self) -> Self {
        Self {
            is_repeatable: true,
            ..self
        }
    }

    pub(crate) const fn maybe_empty(self) -> Self {
        Self {
            may_be_empty: true,
            ..self
        }
    }

    pub(crate) const fn other(self, right: Right, kind: &'static str) -> Self {
        Self {
            right,
            reply: Reply::Other(kind),
            ..self
        }
    }
}

/// What the requests of one API share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    /// The keyspace of admin keys, whose keys only who administers may touch.
    pub(crate) admin: Option<Prefix>,
    pub(crate) backup_dir: PathBuf,
    /// Held while a backup is made and sent.
    pub(crate) backup: Mutex<()>,
}

impl Shared {
    /// One at a time: each takes as much room as the store.
    pub(crate) fn one_backup(&self) -> Result<MutexGuard<'_, ()>, Problem> {
        self.backup.try_lock().map_err(|_| {
            let why = "another backup is being made";
            Problem::new(StatusCode::CONFLICT, "backup_under_way", why)
        })
    }
}

/// What is written where the client reads.
pub(crate) type Stream = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

/// What an endpoint answers.
pub(crate) enum Answer {
    Json(StatusCode, Vec<u8>),
    Text(&'static str, String),
    /// A file that has no name any more.
    File(File, u64),
    Stream(&'static str, Stream),
}

impl Answer {
    pub(crate) fn ok(value: &impl Serialize) -> Result<Self, Problem> {
        Self::json(StatusCode::OK, value)
    }

    pub(crate) fn created(value: &impl Serialize) -> Result<Self, Problem> {
        Self::json(StatusCode::CREATED, value)
    }

    fn json(status: StatusCode, value: &impl Serialize) -> Result<Self, Problem> {
        let broken = |_| {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Problem::new(status, "internal", "the answer could not be written")
        };
        let text = serde_json::to_vec(value).map_err(broken)?;
        Ok(Self::Json(status, text))
    }

    /// The content of a file, from its beginning.
    pub(crate) fn copy(mut file: File, out: &mut dyn Write) -> io::Result<()> {
        let mut chunk = vec![0; 1 << 16];
        loop {
            match file.read(&mut chunk)? {
                0 => return Ok(()),
                read => out.write_all(chunk.get(..read).unwrap_or_default())?,
            }
        }
    }
}

/// A request.
pub(crate) struct Call {
    /// Acts in the operator's name.
    pub(crate) engine: Engine,
    pub(crate) operator: Operator,
    pub(crate) shared: std::sync::Arc<Shared>,
    /// The one variable part of the path.
    pub(crate) segment: String,
    pub(crate) query: Query,
    pub(crate) body: Bytes,
    pub(crate) idempotency: Option<String>,
}

impl Call {
    /// The body, as a type; no body is an empty object.
    pub(crate) fn body<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let text: &[u8] = match self.body.as_ref() {
            b"" => b"{}",
            text => text,
        };
        serde_json::from_slice(text)
            .map(|Object(body)| body)
            .map_err(|error| Problem::bad_request(format!("the body: {error}")))
    }

    pub(crate) fn key_id(&self) -> Result<KeyId, Problem> {
        self.segment
            .parse()
            .map_err(|error| Problem::from(gatekey::Error::from(error)))
    }

    /// Refuses to touch a key or a keyspace of admin keys without the right to
    /// administer: whoever may issue could otherwise issue an admin key for themselves.
    pub(crate) fn guard_keyspace(&self, prefix: Prefix) -> Result<(), Problem> {
        match self.shared.admin == Some(prefix) && !self.operator.may(Right::Administer) {
            true => Err(Problem::forbidden(
                "this touches the keyspace of admin keys, which takes the right to administer",
            )),
            false => Ok(()),
        }
    }

    /// The same, for a key.
    pub(crate) fn guard_key(&self, id: KeyId) -> Result<(), Problem> {
        match self.shared.admin.is_some() && !self.operator.may(Right::Administer) {
            true => self.guard_keyspace(self.engine.key(id)?.keyspace),
            false => Ok(()),
        }
    }

    /// The same, for an owner and all below it.
    pub(crate) fn guard_owner(&self, owner: &OwnerPath) -> Result<(), Problem> {
        let Some(admin) = self.shared.admin else {
            return Ok(());
        };
        if self.operator.may(Right::Administer) {
            return Ok(());
        }
        let filter = KeyFilter::new()
            .owner_and_below(owner.clone())
            .keyspace(admin);
        let page = self.engine.keys_page(&filter, None, 1)?;
        match page.keys.is_empty() && page.damaged.is_empty() && page.next.is_none() {
            true => Ok(()),
            false => self.guard_keyspace(admin),
        }
    }

    /// Writes what verifications noted, so that usage is as of now. A store that takes no
    /// change still answers, as of its last flush.
    pub(crate) fn write_usage(&self) {
        let _ = self.engine.flush();
    }

    pub(crate) fn named(&self, key: Key) -> Result<NamedKey, Problem> {
        let keyspace = self.engine.keyspace(key.keyspace)?;
        Ok(NamedKey::of(key, &keyspace))
    }

    /// How many items a page has.
    pub(crate) fn limit(&self) -> Result<usize, Problem> {
        Ok(self.query.plain("limit")?.unwrap_or(100))
    }
}

impl NamedKey {
    pub(crate) fn of(key: Key, keyspace: &Keyspace) -> Self {
        let names = keyspace.names(key.permissions);
        Self {
            permission_names: names.into_iter().map(str::to_owned).collect(),
            key,
        }
    }
}
