//! A connection with a thread of its own, and calls of it that have a deadline.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gatekey::fleet::LogError;
use postgres::error::SqlState;

use crate::config::Connector;
use crate::session::Session;

/// Why a call has no answer.
#[derive(Debug)]
pub(crate) enum Failed {
    /// It was not sent: nothing was changed.
    NotSent(LogError),
    /// It was sent, and refused: nothing was changed.
    Refused(LogError),
    /// It may have taken effect, now or later.
    Unknown(LogError),
}

impl From<Failed> for LogError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::NotSent(error) | Failed::Refused(error) | Failed::Unknown(error) => error,
        }
    }
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The connection that a thread has, made when it is needed.
pub(crate) struct Connection {
    connector: Arc<Connector>,
    session: Option<Session>,
    /// The turn of the host that the session is with, or was last.
    turn: Arc<AtomicUsize>,
    /// Whether the database has warned since this was last cleared: of a commit that does
    /// not wait for its standby any more, say.
    warned: Arc<AtomicBool>,
}

impl Connection {
    fn session(&mut self) -> Result<&mut Session, Failed> {
        if (self.session.as_ref()).is_none_or(|session| session.client.is_closed()) {
            self.session = None;
            let made = self.connector.connect(&self.warned);
            let (made, turn) = made.map_err(|error| Failed::NotSent(told(&error)))?;
            self.turn.store(turn, Ordering::SeqCst);
            self.session = Some(Session::new(made));
        }
        let missing = || Failed::NotSent(LogError::new("there is no connection"));
        self.session.as_mut().ok_or_else(missing)
    }

    fn pass(&self) {
        self.connector.pass(self.turn.load(Ordering::SeqCst));
    }

    fn run<T>(
        &mut self,
        work: impl FnOnce(&mut Session) -> Result<T, postgres::Error>,
    ) -> Result<T, Failed> {
        self.warned.store(false, Ordering::SeqCst);
        let ran = work(self.session()?);
        let ran = ran.map_err(|error| {
            let is_refused = is_refused(&error);
            if !is_refused {
                // Whatever becomes of it, this connection is not asked again.
                self.session = None;
            }
            match error.code() {
                Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => self.pass(),
                Some(&SqlState::QUERY_CANCELED | &SqlState::LOCK_NOT_AVAILABLE) => {
                    self.connector.doubt(self.turn.load(Ordering::SeqCst));
                }
                _ => {}
            }
            match is_refused {
                true => Failed::Refused(told(&error)),
                false => Failed::Unknown(told(&error)),
            }
        })?;
        match self.warned.swap(false, Ordering::SeqCst) {
            false => Ok(ran),
            true => {
                // As a former primary does.
                self.pass();
                let why = "the database has committed, and warned that its standby may not have it";
                Err(Failed::Unknown(LogError::new(why)))
            }
        }
    }
}

/// Whether the database has rolled the statement back. One that ends the connection may have
/// committed it before.
fn is_refused(error: &postgres::Error) -> bool {
    let ends_the_connection = ["08", "57P", "58", "XX"];
    error.as_db_error().is_some_and(|error| {
        let code = error.code().code();
        !ends_the_connection
            .iter()
            .any(|class| code.starts_with(class))
    })
}

/// An error with what lies beneath it: its own text says little.
fn told(error: &postgres::Error) -> LogError {
    use std::error::Error as _;
    let is_older = [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_COLUMN];
    let text = match (error.as_db_error(), error.source()) {
        (Some(error), _) if is_older.contains(error.code()) => {
            format!("{error}: the tables are of an older version; create the schema again")
        }
        (Some(error), _) => error.to_string(),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    };
    LogError::new(format!("PostgreSQL: {text}"))
}

/// A thread with a connection.
pub(crate) struct Worker {
    connector: Arc<Connector>,
    name: &'static str,
    jobs: Mutex<Option<Jobs>>,
}

/// Where a thread takes its jobs from, and whose turn it was as it connected.
struct Jobs {
    sender: SyncSender<Job>,
    turn: Arc<AtomicUsize>,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Worker({})", self.name)
    }
}

impl Worker {
    pub(crate) fn new(connector: Arc<Connector>, name: &'static str) -> Self {
        Self {
            connector,
            name,
            jobs: Mutex::default(),
        }
    }

    /// Has the thread do something with its connection, and waits for it until the deadline.
    pub(crate) fn call<T: Send + 'static>(
        &self,
        deadline: Duration,
        work: impl FnOnce(&mut Session) -> Result<T, postgres::Error> + Send + 'static,
    ) -> Result<T, Failed> {
        let (answer, answered) = mpsc::sync_channel(1);
        let job: Job = Box::new(move |connection| {
            // Nobody waits any more, where the deadline has passed.
            let _ = answer.send(connection.run(work));
        });
        let turn = self.connector.turn();
        let jobs = self.jobs()?;
        jobs.send(job).map_err(|_| gone(Failed::NotSent))?;
        match answered.recv_timeout(deadline) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => {
                // The thread may hang for as long as the network lets it: another takes over.
                self.connector.pass(turn);
                self.leave();
                let why = format!("the database has not answered in {deadline:?}");
                Err(Failed::Unknown(LogError::new(why)))
            }
            Err(RecvTimeoutError::Disconnected) => {
                self.leave();
                Err(gone(Failed::Unknown))
            }
        }
    }

    fn jobs(&self) -> Result<SyncSender<Job>, Failed> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.connector.turn();
        if let Some(jobs) = &*jobs
            && jobs.turn.load(Ordering::SeqCst) == now
        {
            return Ok(jobs.sender.clone());
        }
        // The thread of another turn does what it has, and ends. To close a connection can
        // take as long as to ask it.
        let (sender, receiver) = mpsc::sync_channel::<Job>(64);
        let (connector, turn) = (self.connector.clone(), Arc::new(AtomicUsize::new(now)));
        let of_connection = turn.clone();
        let thread = std::thread::Builder::new().name(self.name.to_owned());
        let spawned = thread.spawn(move || {
            let mut connection = Connection {
                connector,
                session: None,
                turn: of_connection,
                warned: Arc::default(),
            };
            while let Ok(job) = receiver.recv() {
                job(&mut connection);
            }
        });
        match spawned {
            Ok(_) => Ok(jobs.insert(Jobs { sender, turn }).sender.clone()),
            Err(error) => Err(Failed::NotSent(LogError::new(error.to_string()))),
        }
    }

    fn leave(&self) {
        *self.jobs.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn gone(kind: impl FnOnce(LogError) -> Failed) -> Failed {
    kind(LogError::new("the thread of the connection has ended"))
}
