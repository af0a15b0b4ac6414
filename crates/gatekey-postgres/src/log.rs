//! The log: one statement for each call.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gatekey::Timestamp;
use gatekey::fleet::{
    Appended, Beat, Beaten, BodyId, Entries, Head, Log, LogError, LogResult, Node, Seal,
    SnapshotInfo,
};
use postgres::types::Type;
use postgres::{Error, Row};

use crate::config::Connector;
use crate::session::{Given, Session};
use crate::worker::{Failed, Worker};

pub(crate) const SCHEMA: &str = include_str!("../gatekey.sql");

/// The most bytes of entries that one read gives, but for a single entry.
const READ_BYTES_MAX: i64 = 16 << 20;

/// How many rows a trim deletes at once, of at most a megabyte each.
const CLEARED_AT_ONCE: i64 = 256;

const FOUND: &str = "
INSERT INTO gatekey.head (store, position, seal, fence, floor, founding)
VALUES ($1, 0, $2, 0, 0, $3) ON CONFLICT DO NOTHING";

const FOUNDING: &str = "SELECT founding FROM gatekey.head WHERE store = $1";

/// A question that only a primary answers. A former one may read: it would call all servers gone
/// that beat elsewhere, and may have what nobody else has, where the wait for its standby was
/// cancelled. It cannot write. Where no server has beaten, the name is empty, and there is
/// nothing to write.
macro_rules! of_primary {
    ($select:literal) => {
        concat!(
            "WITH own AS (
                UPDATE gatekey.node SET position = position WHERE store = $1 AND node = $2
                RETURNING node
            ) ",
            $select
        )
    };
}

const HEAD: &str = of_primary!(
    "SELECT position, seal, fence, (SELECT count(*) FROM own) FROM gatekey.head WHERE store = $1"
);

// The condition is in the update: of two that race, the second sees what the first has
// written, and updates nothing.
const APPEND: &str = "
WITH moved AS (
    UPDATE gatekey.head SET position = position + 1, seal = $5
    WHERE store = $1 AND position = $2 AND seal = $3 AND fence = $4
    RETURNING position
), put AS (
    INSERT INTO gatekey.log (store, position, body)
    SELECT $1, position, $6 FROM moved RETURNING position
)
SELECT position, pg_notify('gatekey_fleet', $1 || ' ' || position)::text FROM put";

// Whoever puts a part again, puts the same.
const PUT_BODY: &str = "
INSERT INTO gatekey.body (store, after, id, part, body)
VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";

const BODY: &str = "
SELECT body FROM gatekey.body WHERE store = $1 AND after = $2 AND id = $3 AND part = $4";

const FENCE: &str = "
UPDATE gatekey.head SET fence = fence + 1 WHERE store = $1
RETURNING position, seal, fence";

const READ: &str = "
SELECT position, body FROM (
    SELECT position, body, sum(octet_length(body)) OVER (ORDER BY position) AS bytes
    FROM (
        SELECT position, body FROM gatekey.log
        WHERE store = $1 AND position > $2 ORDER BY position LIMIT $3
    ) AS next
) AS counted
WHERE bytes <= $4 OR position = $2 + 1 ORDER BY position";

const RAISE: &str = "
UPDATE gatekey.head SET floor = greatest(floor, least($2, position - 1))
WHERE store = $1 RETURNING floor";

const FLOOR: &str = "SELECT floor FROM gatekey.head WHERE store = $1";

// The head is read by the statement that writes, after it began.
const BEAT: &str = "
WITH beaten AS (
    INSERT INTO gatekey.node (store, node, position, lease_ms, reads, beaten_at)
    VALUES ($1, $2, $3, $4, $5, clock_timestamp())
    ON CONFLICT (store, node) DO UPDATE SET
        position = excluded.position, lease_ms = excluded.lease_ms,
        reads = excluded.reads, beaten_at = excluded.beaten_at
    RETURNING beaten_at
)
SELECT head.position, head.seal, head.fence,
    (extract(epoch FROM beaten.beaten_at) * 1000)::bigint,
    1 + (SELECT count(*) FROM gatekey.node AS other
        WHERE other.store = $1 AND other.node <> $2
        AND beaten.beaten_at - other.beaten_at <= other.lease_ms * interval '1 ms')
FROM gatekey.head AS head, beaten WHERE head.store = $1";

// The condition is in the statement that deletes: of a server that beats meanwhile, it is
// checked again.
const FORGET_LOST: &str = "
DELETE FROM gatekey.node AS node USING gatekey.head AS head
WHERE node.store = $1 AND head.store = $1 AND node.position < head.floor
AND clock_timestamp() - node.beaten_at > 2 * node.lease_ms * interval '1 ms'";

const NODES: &str = of_primary!(
    "SELECT node, position, lease_ms,
        greatest(0, extract(epoch FROM clock_timestamp() - beaten_at) * 1000)::bigint, reads,
        (SELECT count(*) FROM own)
    FROM gatekey.node WHERE store = $1 ORDER BY node"
);

/// A log of a [fleet](gatekey::fleet) in PostgreSQL, made by [`Config::open`](crate::Config::open).
#[derive(Debug)]
pub struct PostgresLog {
    store: Arc<str>,
    deadline: Duration,
    /// The name of the server that beats by this log.
    own: Mutex<Option<String>>,
    /// Appends and fences.
    changes: Worker,
    /// Reads and heartbeats.
    asks: Worker,
    /// Waits.
    waits: Worker,
}

impl PostgresLog {
    pub(crate) fn new(connector: Arc<Connector>, store: &str, deadline: Duration) -> Self {
        Self {
            store: store.into(),
            deadline,
            own: Mutex::default(),
            changes: Worker::new(connector.clone(), "gatekey-pg-1"),
            asks: Worker::new(connector.clone(), "gatekey-pg-2"),
            waits: Worker::new(connector, "gatekey-pg-3"),
        }
    }

    fn own(&self) -> MutexGuard<'_, Option<String>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask<T: Send + 'static>(
        &self,
        worker: &Worker,
        work: impl FnOnce(&mut Session, &str) -> Result<T, Error> + Send + 'static,
    ) -> LogResult<T> {
        let store = self.store.clone();
        let asked = worker.call(self.deadline, move |session| work(session, &store));
        asked.map_err(LogError::from)
    }

    /// Asks the primary. Column `written` is how many rows were written: a database that does not
    /// know the server that beats by this log has written none, and what it says is of no account.
    fn ask_primary(&self, text: &'static str, written: usize) -> LogResult<Vec<Row>> {
        let own = self.own().clone();
        let asked = own.clone().unwrap_or_default();
        let rows = self.ask(&self.changes, move |session, store| {
            session.ask(text, &[(&store, Type::TEXT), (&asked, Type::TEXT)])
        })?;
        if let Some(own) = own
            && rows.first().map_or(Ok(0), |row| get::<i64>(row, written))? == 0
        {
            let why = format!("it does not know that {own} beats; the next heartbeat tells it");
            return Err(LogError::new(why));
        }
        Ok(rows)
    }

    fn head(&self) -> LogResult<Head> {
        let rows = self.ask_primary(HEAD, 3)?;
        head_of(rows.first().ok_or_else(no_log)?)
    }
}

fn no_log() -> LogError {
    LogError::new("there is no log of this name in the database")
}

fn to_db(position: u64) -> LogResult<i64> {
    i64::try_from(position).map_err(|_| LogError::new("a position is too large"))
}

fn from_db(number: i64) -> LogResult<u64> {
    u64::try_from(number).map_err(|_| LogError::new("a number in the database is negative"))
}

fn get<'r, T: postgres::types::FromSql<'r>>(row: &'r Row, at: usize) -> LogResult<T> {
    row.try_get(at)
        .map_err(|error| LogError::new(format!("PostgreSQL: {error}")))
}

fn head_of(row: &Row) -> LogResult<Head> {
    let seal: &[u8] = get(row, 1)?;
    let seal = seal.try_into();
    Ok(Head {
        position: from_db(get(row, 0)?)?,
        seal: Seal::new(seal.map_err(|_| LogError::new("a seal in the database is none"))?),
        fence: from_db(get(row, 2)?)?,
    })
}

impl Log for PostgresLog {
    fn found(&self, first: &[u8]) -> LogResult<bool> {
        let (seal, first) = (Seal::of(first), first.to_vec());
        let made = self.ask(&self.changes, move |session, store| {
            session
                .client
                .execute(FOUND, &[&store, &seal.as_bytes().as_slice(), &first])
        })?;
        Ok(made == 1)
    }

    fn founding(&self) -> LogResult<Option<Vec<u8>>> {
        let row = self.ask(&self.asks, |session, store| {
            session.client.query_opt(FOUNDING, &[&store])
        })?;
        row.map(|row| get(&row, 0)).transpose()
    }

    fn append(&self, after: &Head, entry: &[u8]) -> Appended {
        let numbers = to_db(after.position).and_then(|it| Ok((it, to_db(after.fence)?)));
        let (position, fence) = match numbers {
            Ok(numbers) => numbers,
            Err(error) => return Appended::Failed(error),
        };
        let (old, new) = (after.seal, Seal::of(entry));
        let (store, entry) = (self.store.clone(), entry.to_vec());
        let put = self.changes.call(self.deadline, move |session| {
            let (old, new) = (old.as_bytes().as_slice(), new.as_bytes().as_slice());
            let store = &*store;
            let given: [Given<'_>; 6] = [
                (&store, Type::TEXT),
                (&position, Type::INT8),
                (&old, Type::BYTEA),
                (&fence, Type::INT8),
                (&new, Type::BYTEA),
                (&entry, Type::BYTEA),
            ];
            session.ask(APPEND, &given)
        });
        match put {
            Ok(rows) if !rows.is_empty() => Appended::Done,
            Ok(_) => match self.head() {
                Ok(head) => Appended::Overtaken(head),
                Err(error) => Appended::Failed(error),
            },
            Err(Failed::NotSent(error) | Failed::Refused(error)) => Appended::Failed(error),
            Err(Failed::Unknown(error)) => Appended::Unknown(error),
        }
    }

    fn put_body(&self, after: u64, id: &BodyId, part: u32, bytes: &[u8]) -> LogResult<()> {
        let (after, part) = (to_db(after)?, part_to_db(part)?);
        let (id, bytes) = (*id, bytes.to_vec());
        self.ask(&self.changes, move |session, store| {
            let given: [Given<'_>; 5] = [
                (&store, Type::TEXT),
                (&after, Type::INT8),
                (&id.as_slice(), Type::BYTEA),
                (&part, Type::INT4),
                (&bytes, Type::BYTEA),
            ];
            session.one(PUT_BODY, &given).map(drop)
        })
    }

    fn body(&self, after: u64, id: &BodyId, part: u32) -> LogResult<Option<Vec<u8>>> {
        let (after, part, id) = (to_db(after)?, part_to_db(part)?, *id);
        let row = self.ask(&self.asks, move |session, store| {
            let given: [Given<'_>; 4] = [
                (&store, Type::TEXT),
                (&after, Type::INT8),
                (&id.as_slice(), Type::BYTEA),
                (&part, Type::INT4),
            ];
            session.one(BODY, &given)
        })?;
        row.map(|row| get(&row, 0)).transpose()
    }

    fn fence(&self) -> LogResult<Head> {
        let row = self.ask(&self.changes, |session, store| {
            session.client.query_opt(FENCE, &[&store])
        })?;
        head_of(&row.ok_or_else(no_log)?)
    }

    fn read(&self, after: u64, at_most: usize) -> LogResult<Entries> {
        let behind = to_db(after)?;
        let at_most = i64::try_from(at_most).unwrap_or(i64::MAX);
        let rows = self.ask(&self.asks, move |session, store| {
            let given: [Given<'_>; 4] = [
                (&store, Type::TEXT),
                (&behind, Type::INT8),
                (&at_most, Type::INT8),
                (&READ_BYTES_MAX, Type::INT8),
            ];
            session.ask(READ, &given)
        })?;
        let mut found = Vec::with_capacity(rows.len());
        for (row, expected) in rows.iter().zip(after + 1..) {
            if from_db(get(row, 0)?)? != expected {
                break;
            }
            found.push(get(row, 1)?);
        }
        if found.is_empty() {
            // None yet, or they were trimmed away.
            let row = self.ask(&self.asks, |session, store| {
                session.one(FLOOR, &[(&store, Type::TEXT)])
            })?;
            let floor = from_db(get(&row.ok_or_else(no_log)?, 0)?)?;
            if after < floor {
                return Ok(Entries::Trimmed { floor });
            }
        }
        Ok(Entries::Found(found))
    }

    fn wait(&self, after: u64, timeout: Duration) -> LogResult<()> {
        let after = to_db(after)?;
        let (store, deadline) = (self.store.clone(), self.deadline.saturating_add(timeout));
        let waited = self.waits.call(deadline, move |session| {
            session.wait(&store, after, timeout)
        });
        waited.map_err(LogError::from)
    }

    fn beat(&self, beat: &Beat) -> LogResult<Beaten> {
        let (node, position) = (beat.node.clone(), to_db(beat.position)?);
        *self.own() = Some(node.clone());
        let lease = i64::try_from(beat.lease.as_millis()).unwrap_or(i64::MAX);
        let reads = beat.reads.clone();
        let row = self.ask(&self.asks, move |session, store| {
            let given: [Given<'_>; 5] = [
                (&store, Type::TEXT),
                (&node, Type::TEXT),
                (&position, Type::INT8),
                (&lease, Type::INT8),
                (&reads, Type::BYTEA),
            ];
            session.one(BEAT, &given)
        })?;
        let row = row.ok_or_else(no_log)?;
        let at = Timestamp::from_unix_ms(from_db(get(&row, 3)?)?);
        Ok(Beaten {
            head: head_of(&row)?,
            at: at.map_err(|error| LogError::new(error.to_string()))?,
            servers: from_db(get(&row, 4)?)?,
        })
    }

    fn nodes(&self) -> LogResult<Vec<Node>> {
        let rows = self.ask_primary(NODES, 5)?;
        let node = |row: &Row| {
            Ok(Node {
                beat: Beat {
                    node: get(row, 0)?,
                    position: from_db(get(row, 1)?)?,
                    lease: Duration::from_millis(from_db(get(row, 2)?)?),
                    reads: get(row, 4)?,
                },
                age: Duration::from_millis(from_db(get(row, 3)?)?),
            })
        };
        rows.iter().map(node).collect()
    }

    fn forget(&self, node: &str) -> LogResult<()> {
        self.own().take_if(|own| own == node);
        let node = node.to_owned();
        self.ask(&self.asks, move |session, store| {
            let forget = "DELETE FROM gatekey.node WHERE store = $1 AND node = $2";
            session.client.execute(forget, &[&store, &node]).map(drop)
        })
    }

    fn put_part(&self, position: u64, part: u32, bytes: &[u8]) -> LogResult<()> {
        let (position, part) = (to_db(position)?, part_to_db(part)?);
        let bytes = bytes.to_vec();
        self.ask(&self.asks, move |session, store| {
            let put = "INSERT INTO gatekey.part (store, position, part, body)
                VALUES ($1, $2, $3, $4)
                ON CONFLICT (store, position, part) DO UPDATE SET body = excluded.body";
            session
                .client
                .execute(put, &[&store, &position, &part, &bytes])
                .map(drop)
        })
    }

    fn seal_snapshot(&self, snapshot: &SnapshotInfo) -> LogResult<()> {
        let (position, parts) = (to_db(snapshot.position)?, part_to_db(snapshot.parts)?);
        self.ask(&self.asks, move |session, store| {
            let seal = "INSERT INTO gatekey.snapshot (store, position, parts) VALUES ($1, $2, $3)
                ON CONFLICT (store, position) DO UPDATE SET parts = excluded.parts";
            session
                .client
                .execute(seal, &[&store, &position, &parts])
                .map(drop)
        })
    }

    fn snapshots(&self) -> LogResult<Vec<SnapshotInfo>> {
        let rows = self.ask(&self.asks, |session, store| {
            let all =
                "SELECT position, parts FROM gatekey.snapshot WHERE store = $1 ORDER BY position";
            session.client.query(all, &[&store])
        })?;
        let info = |row: &Row| {
            Ok(SnapshotInfo {
                position: from_db(get(row, 0)?)?,
                parts: u32::try_from(get::<i32>(row, 1)?).unwrap_or(0),
            })
        };
        rows.iter().map(info).collect()
    }

    fn part(&self, position: u64, part: u32) -> LogResult<Option<Vec<u8>>> {
        let (position, part) = (to_db(position)?, part_to_db(part)?);
        let row = self.ask(&self.asks, move |session, store| {
            let one = "SELECT part.body FROM gatekey.part AS part
                JOIN gatekey.snapshot AS snapshot USING (store, position)
                WHERE store = $1 AND position = $2 AND part.part = $3 AND $3 < snapshot.parts";
            session.client.query_opt(one, &[&store, &position, &part])
        })?;
        row.map(|row| get(&row, 0)).transpose()
    }

    fn trim(&self, through: u64) -> LogResult<()> {
        let through = to_db(through.min(u64::from(u32::MAX) << 16))?;
        let row = self.ask(&self.asks, move |session, store| {
            let given: [Given<'_>; 2] = [(&store, Type::TEXT), (&through, Type::INT8)];
            session.one(RAISE, &given)
        })?;
        if let Some(row) = row {
            let floor: i64 = get(&row, 0)?;
            // An entry goes before its body.
            self.clear("log", "position", floor.saturating_add(1))?;
            self.clear("body", "after", floor)?;
            self.clear("snapshot", "position", floor.min(through))?;
            self.clear("part", "position", floor.min(through))?;
        }
        // By itself: a heartbeat waits for no trim.
        self.ask(&self.asks, |session, store| {
            session.client.execute(FORGET_LOST, &[&store]).map(drop)
        })
    }
}

impl PostgresLog {
    /// Deletes the rows below a number, the lowest first and few at a time: no statement takes longer than
    /// its deadline, and heartbeats come between.
    fn clear(&self, table: &str, column: &str, below: i64) -> LogResult<()> {
        let text: Arc<str> = format!(
            "WITH gone AS (DELETE FROM gatekey.{table} WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM gatekey.{table} WHERE store = $1 AND {column} < $2
                ORDER BY {column} LIMIT $3)) RETURNING 1)
            SELECT count(*) FROM gone"
        )
        .into();
        loop {
            let text = text.clone();
            let row = self.ask(&self.asks, move |session, store| {
                let given: [Given<'_>; 3] = [
                    (&store, Type::TEXT),
                    (&below, Type::INT8),
                    (&CLEARED_AT_ONCE, Type::INT8),
                ];
                session.one(&text, &given)
            })?;
            let gone: i64 = row.map_or(Ok(0), |row| get(&row, 0))?;
            if gone < CLEARED_AT_ONCE {
                return Ok(());
            }
        }
    }
}

fn part_to_db(part: u32) -> LogResult<i32> {
    i32::try_from(part).map_err(|_| LogError::new("the number of a part is too large"))
}
