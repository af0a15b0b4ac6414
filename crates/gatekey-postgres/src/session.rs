//! A connection, with the statements that it has prepared and what it has heard.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use postgres::error::SqlState;
use postgres::fallible_iterator::FallibleIterator as _;
use postgres::types::{ToSql, Type};
use postgres::{Client, Error, Row, Statement};

/// How long a session waits for notifications before it asks where the log ends. A connection
/// that has been lost without a word hears of nothing.
const ASK_EVERY: Duration = Duration::from_secs(1);

const POSITION: &str = "SELECT position FROM gatekey.head WHERE store = $1";

/// A value, and the type that it is for.
pub(crate) type Given<'a> = (&'a (dyn ToSql + Sync), Type);

/// A connection to the database.
pub(crate) struct Session {
    pub(crate) client: Client,
    /// The statements that are asked for each change.
    prepared: HashMap<&'static str, Statement>,
    heard: Option<Heard>,
}

/// What a session that listens knows of its log.
#[derive(Clone, Copy)]
struct Heard {
    /// The newest position that was heard of.
    position: i64,
    asked_at: Instant,
    /// Where the last wait began that ended by it.
    answered: Option<i64>,
}

impl Session {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            prepared: HashMap::new(),
            heard: None,
        }
    }

    /// Asks by a statement that is prepared once: the database parses and plans it no more.
    pub(crate) fn ask(
        &mut self,
        text: &'static str,
        given: &[Given<'_>],
    ) -> Result<Vec<Row>, Error> {
        match self.ask_prepared(text, given) {
            // It was not run.
            Err(error) if is_not_prepared(&error) => {
                self.prepared.clear();
                self.client.query_typed(text, given)
            }
            asked => asked,
        }
    }

    fn ask_prepared(&mut self, text: &'static str, given: &[Given<'_>]) -> Result<Vec<Row>, Error> {
        let statement = match self.prepared.get(text) {
            Some(statement) => statement.clone(),
            None => {
                let types: Vec<_> = given.iter().map(|(_, of)| of.clone()).collect();
                let statement = self.client.prepare_typed(text, &types)?;
                self.prepared.insert(text, statement.clone());
                statement
            }
        };
        let values: Vec<_> = given.iter().map(|(value, _)| *value).collect();
        self.client.query(&statement, &values)
    }

    /// Asks for a row in one round trip, without preparing a statement first.
    pub(crate) fn one(&mut self, text: &str, given: &[Given<'_>]) -> Result<Option<Row>, Error> {
        Ok(self.client.query_typed(text, given)?.into_iter().next())
    }

    /// Waits until a log has something behind a position, or the time is over.
    pub(crate) fn wait(&mut self, store: &str, after: i64, timeout: Duration) -> Result<(), Error> {
        let begun = Instant::now();
        // Who waits again from there has found nothing: anybody can say anything.
        (self.heard).take_if(|heard| heard.answered == Some(after));
        loop {
            let mut heard = self.heard(store)?;
            if heard.position > after {
                heard.answered = Some(after);
                self.heard = Some(heard);
                return Ok(());
            }
            let left = timeout.saturating_sub(begun.elapsed());
            let until_asked = ASK_EVERY.saturating_sub(heard.asked_at.elapsed());
            let told = {
                let mut told = self.client.notifications();
                told.timeout_iter(left.min(until_asked)).next()?
            };
            let Some(told) = told else {
                if begun.elapsed() >= timeout || self.client.is_closed() {
                    return Ok(());
                }
                continue;
            };
            match read_told(told.payload(), store) {
                Told::Position(position) => heard.position = heard.position.max(position),
                // Where, the next question finds out.
                Told::Something => return Ok(()),
                Told::OfAnother => {}
            }
            self.heard = Some(heard);
        }
    }

    /// What this session has heard of a log. It listens before it asks: what comes between the
    /// two is told.
    fn heard(&mut self, store: &str) -> Result<Heard, Error> {
        if let Some(heard) = self.heard
            && heard.asked_at.elapsed() < ASK_EVERY
        {
            return Ok(heard);
        }
        // Each time: what has cleared a statement may have cleared this too.
        self.client.batch_execute("LISTEN gatekey_fleet")?;
        let asked_at = Instant::now();
        let rows = self.ask(POSITION, &[(&store, Type::TEXT)])?;
        let position = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
        let heard = Heard {
            position,
            asked_at,
            answered: None,
        };
        self.heard = Some(heard);
        Ok(heard)
    }
}

/// What a notification says.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Position(i64),
    /// That the log has grown, by a server that does not say to where.
    Something,
    OfAnother,
}

/// Reads a notification: the name of a log, and the position of its newest entry.
fn read_told(payload: &str, store: &str) -> Told {
    let position = match payload.strip_prefix(store) {
        Some("") => return Told::Something,
        Some(rest) => rest.strip_prefix(' ').and_then(|it| it.parse().ok()),
        None => None,
    };
    position.map_or(Told::OfAnother, Told::Position)
}

/// Whether the database does not have a statement any more, or not as it was prepared: a
/// pooler between may have cleared it, and so does a change of the tables.
fn is_not_prepared(error: &Error) -> bool {
    let codes = [
        SqlState::INVALID_SQL_STATEMENT_NAME,
        SqlState::DUPLICATE_PSTATEMENT,
        SqlState::FEATURE_NOT_SUPPORTED,
    ];
    error.code().is_some_and(|code| codes.contains(code))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use postgres::NoTls;
    use postgres::types::Type;

    use super::{Session, Told, read_told};
    use crate::server::Postgres;

    #[test]
    fn a_notification_says_to_where_a_log_has_grown() {
        assert_eq!(read_told("a", "a"), Told::Something);
        assert_eq!(read_told("a 17", "a"), Told::Position(17));
        for of_another in ["", "b 17", "ab 17", "a b 17", "a17", "a ", "a 17 "] {
            assert_eq!(read_told(of_another, "a"), Told::OfAnother, "{of_another}");
        }
        assert_eq!(read_told("a b 17", "a b"), Told::Position(17));
    }

    fn session(postgres: &Postgres) -> Session {
        let address = postgres.address("postgres", "disable");
        Session::new(postgres::Client::connect(&address, NoTls).unwrap())
    }

    #[test]
    fn a_statement_that_the_database_does_not_have_any_more_is_asked_all_the_same() {
        let Some(postgres) = Postgres::start(&[]) else {
            return;
        };
        let mut session = session(&postgres);
        let ask = |session: &mut Session| {
            let rows = session.ask("SELECT $1::bigint + 1", &[(&41_i64, Type::INT8)]);
            rows.unwrap()[0].get::<_, i64>(0)
        };
        let prepared = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%+ 1'";
        for _ in 0..3 {
            assert_eq!(ask(&mut session), 42);
            assert_eq!(ask(&mut session), 42);
            let count = session.client.query_one(prepared, &[]).unwrap();
            assert_eq!(count.get::<_, i64>(0), 1);
            session.client.batch_execute("DEALLOCATE ALL").unwrap();
            assert_eq!(ask(&mut session), 42);
        }
        let failed = session.ask("SELECT 1 / $1::bigint", &[(&0_i64, Type::INT8)]);
        assert!(failed.is_err());
    }

    #[test]
    fn a_wait_ends_by_what_is_told_of_its_own_log_behind_a_position() {
        const AT_ONCE: Duration = Duration::from_secs(60);
        const NEVER: Duration = Duration::from_millis(150);
        let Some(postgres) = Postgres::start(&[]) else {
            return;
        };
        postgres.sql("INSERT INTO gatekey.head VALUES ('a', 3, '', 0, 0, '')");
        let mut session = session(&postgres);
        let mut is_told = |after, timeout: Duration| {
            let begun = Instant::now();
            session.wait("a", after, timeout).unwrap();
            let took = begun.elapsed();
            assert!(timeout == NEVER || took < timeout, "{took:?}");
            took < timeout
        };
        let tell = |payload: &str| {
            postgres.sql(&format!("SELECT pg_notify('gatekey_fleet', '{payload}')"));
        };
        // Where the log ends, it has asked.
        assert!(is_told(2, AT_ONCE));
        assert!(!is_told(3, NEVER));
        // Also what was told before the wait; and what was heard, stays so.
        postgres.sql("UPDATE gatekey.head SET position = 5");
        tell("a 5");
        tell("a 4");
        assert!(is_told(3, AT_ONCE));
        assert!(is_told(4, AT_ONCE));
        tell("a 2");
        tell("b 9");
        assert!(!is_told(5, NEVER));
        assert!(is_told(3, NEVER));
        // A server of before says no position.
        tell("a");
        assert!(is_told(5, AT_ONCE));
        // What the table does not have is believed once.
        tell("a 900");
        assert!(is_told(5, AT_ONCE));
        assert!(!is_told(5, NEVER));
        // What was told to nobody, it asks for.
        postgres.sql("UPDATE gatekey.head SET position = 7");
        assert!(is_told(5, AT_ONCE));
    }
}
