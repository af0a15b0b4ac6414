//! Where the database is, and how to reach it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gatekey::fleet::{LogError, LogResult};
use postgres::config::Host;
use postgres::error::Severity;
use postgres::{Client, NoTls};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::log::{PostgresLog, SCHEMA};
use crate::worker::Worker;

/// Where the database is, and how to reach it.
///
/// The text is that of libpq: `postgres://user:password@host:5432/database?sslmode=require`, or
/// `host=db user=gatekey dbname=gatekey`. With several hosts, the one that takes writes is
/// used; after a call without an answer in time, the next is tried first. With
/// `sslmode=require`, the server's certificate is verified, with its name, against the system's
/// roots or [`root_certificates`](Config::root_certificates). `sslmode=prefer`, the
/// default, speaks TLS where the server does. `sslmode=disable` is for a unix socket or
/// the same host.
#[derive(Clone)]
#[must_use]
pub struct Config {
    postgres: postgres::Config,
    roots: Vec<CertificateDer<'static>>,
    deadline: Duration,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the password.
        f.debug_struct("Config")
            .field("hosts", &self.postgres.get_hosts())
            .field("database", &self.postgres.get_dbname())
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Reads the address of a database.
    ///
    /// # Errors
    /// The text is no address. The error does not repeat it, since it may have a password.
    ///
    /// ```
    /// use gatekey_postgres::Config;
    ///
    /// assert!(Config::new("postgres://gatekey@localhost/gatekey").is_ok());
    /// assert!(Config::new("http://localhost").is_err());
    /// ```
    pub fn new(address: &str) -> LogResult<Self> {
        let bad = |_| LogError::new("the address of the database is not one of PostgreSQL");
        let mut postgres: postgres::Config = address.parse().map_err(bad)?;
        if postgres.get_application_name().is_none() {
            postgres.application_name("gatekey");
        }
        if postgres.get_hosts().len() > 1 {
            postgres.target_session_attrs(postgres::config::TargetSessionAttrs::ReadWrite);
        }
        Ok(Self {
            postgres,
            roots: Vec::new(),
            deadline: Duration::from_secs(5),
        })
    }

    /// The password, in the place of one in the address.
    ///
    /// ```
    /// # use gatekey_postgres::Config;
    /// let config = Config::new("postgres://gatekey@localhost/gatekey")?;
    /// assert!(!config.has_password());
    /// assert!(config.password("of a secret manager").has_password());
    /// # Ok::<(), gatekey::fleet::LogError>(())
    /// ```
    pub fn password(mut self, password: &str) -> Self {
        self.postgres.password(password);
        self
    }

    /// Whether there is a password, of the address or given. An address with one should not
    /// stand where others can read it, as in arguments.
    ///
    /// See [`password`](Self::password) for an example.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.postgres.get_password().is_some()
    }

    /// Trusts these certificates, as PEM, in the place of the system's.
    ///
    /// # Errors
    /// There is none in the text.
    ///
    /// ```no_run
    /// # use gatekey_postgres::Config;
    /// let config = Config::new("postgres://db.internal/gatekey?sslmode=require")?
    ///     .root_certificates(include_bytes!("lib.rs"))?;
    /// # Ok::<(), gatekey::fleet::LogError>(())
    /// ```
    pub fn root_certificates(mut self, pem: &[u8]) -> LogResult<Self> {
        let read = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        self.roots = read.map_err(|error| LogError::new(error.to_string()))?;
        match self.roots.is_empty() {
            true => Err(LogError::new("there is no certificate in the text")),
            false => Ok(self),
        }
    }

    /// How long a call may take, 5 seconds by default.
    ///
    /// ```
    /// # use gatekey_postgres::Config;
    /// use std::time::Duration;
    ///
    /// let config = Config::new("postgres://localhost")?.deadline(Duration::from_secs(2));
    /// # Ok::<(), gatekey::fleet::LogError>(())
    /// ```
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Creates the tables, in a schema named `gatekey`, where they are not there yet.
    ///
    /// Servers need no right to do so. What they need is in `gatekey.sql` of this package:
    /// grant it to a role of theirs.
    ///
    /// # Errors
    /// The database does not answer, or refuses.
    ///
    /// ```no_run
    /// # use gatekey_postgres::Config;
    /// Config::new("postgres://postgres@localhost/gatekey")?.create_schema()?;
    /// # Ok::<(), gatekey::fleet::LogError>(())
    /// ```
    pub fn create_schema(&self) -> LogResult<()> {
        let worker = Worker::new(Arc::new(self.connector()?), "gatekey-schema");
        let made = worker.call(self.deadline, |session| {
            session.client.batch_execute(SCHEMA)
        });
        made.map_err(LogError::from)
    }

    /// A log of a name, of 1 to 64 bytes. The database is asked when the log is.
    ///
    /// # Errors
    /// The name is none, or the system's certificates cannot be read.
    ///
    /// ```
    /// # use gatekey_postgres::Config;
    /// let log = Config::new("postgres://gatekey@localhost/gatekey")?.open("production")?;
    /// # Ok::<(), gatekey::fleet::LogError>(())
    /// ```
    pub fn open(self, name: &str) -> LogResult<PostgresLog> {
        if !(1..=64).contains(&name.len()) {
            return Err(LogError::new("the name of a log is 1 to 64 bytes"));
        }
        let connector = Arc::new(self.connector()?);
        Ok(PostgresLog::new(connector, name, self.deadline))
    }

    fn connector(&self) -> LogResult<Connector> {
        let mut postgres = self.postgres.clone();
        postgres
            .connect_timeout(self.deadline)
            .tcp_user_timeout(self.deadline)
            .keepalives_idle(Duration::from_secs(10));
        let tls = match postgres.get_ssl_mode() {
            postgres::config::SslMode::Disable => None,
            _ => Some(self.tls()?),
        };
        Ok(Connector {
            hosts: each_host(&postgres),
            turn: AtomicUsize::new(0),
            doubted: Mutex::default(),
            tls,
            deadline: self.deadline,
        })
    }

    fn tls(&self) -> LogResult<MakeRustlsConnect> {
        let mut roots = rustls::RootCertStore::empty();
        let given = match self.roots.is_empty() {
            false => self.roots.clone(),
            true => rustls_native_certs::load_native_certs().certs,
        };
        roots.add_parsable_certificates(given);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| LogError::new(error.to_string()))?;
        let config = versions.with_root_certificates(roots).with_no_client_auth();
        Ok(MakeRustlsConnect::new(config))
    }
}

/// What is committed is durable, and with a synchronous standby there too, whatever the
/// role or the database has for a default. What waits for more stays as it is.
const SYNCHRONOUS: &str = "SELECT set_config('synchronous_commit', 'on', false) \
    WHERE current_setting('synchronous_commit') IN ('off', 'local')";

/// The same address once for each of its hosts. One that makes no sense is left as it is, for
/// the client to refuse.
fn each_host(all: &postgres::Config) -> Vec<postgres::Config> {
    let (hosts, addrs, ports) = (all.get_hosts(), all.get_hostaddrs(), all.get_ports());
    let count = hosts.len().max(addrs.len());
    let fits = |len: usize| len == 0 || len == count;
    if count < 2
        || !fits(hosts.len())
        || !fits(addrs.len())
        || !(ports.len() == 1 || fits(ports.len()))
    {
        return vec![all.clone()];
    }
    let one = |at: usize| {
        let mut one = without_hosts(all);
        match hosts.get(at) {
            Some(Host::Tcp(name)) => drop(one.host(name)),
            #[cfg(unix)]
            Some(Host::Unix(path)) => drop(one.host_path(path)),
            None => {}
        }
        if let Some(addr) = addrs.get(at) {
            one.hostaddr(*addr);
        }
        if let Some(port) = ports.get(at).or(ports.first()) {
            one.port(*port);
        }
        one
    };
    (0..count).map(one).collect()
}

/// All that an address says beside its hosts: the client's type can add one, and remove none.
fn without_hosts(all: &postgres::Config) -> postgres::Config {
    let mut config = postgres::Config::new();
    all.get_user().map(|user| config.user(user));
    all.get_password().map(|password| config.password(password));
    all.get_dbname().map(|name| config.dbname(name));
    all.get_options().map(|options| config.options(options));
    all.get_application_name()
        .map(|name| config.application_name(name));
    all.get_connect_timeout()
        .map(|timeout| config.connect_timeout(*timeout));
    all.get_tcp_user_timeout()
        .map(|timeout| config.tcp_user_timeout(*timeout));
    all.get_keepalives_interval()
        .map(|interval| config.keepalives_interval(interval));
    all.get_keepalives_retries()
        .map(|retries| config.keepalives_retries(retries));
    config
        .keepalives(all.get_keepalives())
        .keepalives_idle(all.get_keepalives_idle())
        .ssl_mode(all.get_ssl_mode())
        .ssl_negotiation(all.get_ssl_negotiation())
        .target_session_attrs(all.get_target_session_attrs())
        .channel_binding(all.get_channel_binding())
        .load_balance_hosts(all.get_load_balance_hosts());
    config
}

/// What makes connections, all of them to one host as long as it answers: a former primary, or
/// one that the network does not reach any more, answers nothing, and would be tried first
/// for ever.
pub(crate) struct Connector {
    hosts: Vec<postgres::Config>,
    /// Whose turn it is, modulo how many there are.
    turn: AtomicUsize,
    /// Whose statement has waited in vain last, and when.
    doubted: Mutex<Option<(usize, Instant)>>,
    tls: Option<MakeRustlsConnect>,
    deadline: Duration,
}

impl Connector {
    /// Whose turn it is: a connection of another turn is not used any more.
    pub(crate) fn turn(&self) -> usize {
        self.turn.load(Ordering::SeqCst)
    }

    /// Gives the next host its turn, where it is still that one's.
    pub(crate) fn pass(&self, turn: usize) {
        if self.hosts.len() > 1 {
            self.take(turn, turn.wrapping_add(1));
        }
    }

    /// Notes that a statement has waited in vain: as one does beside many others, and each does at
    /// a primary that has lost its standby. The second within four deadlines gives the next host
    /// its turn.
    pub(crate) fn doubt(&self, turn: usize) {
        let now = Instant::now();
        let mut doubted = self.doubted.lock().unwrap_or_else(PoisonError::into_inner);
        let before = doubted.replace((turn, now));
        let is_second = |(of, at)| of == turn && now.duration_since(at) < self.deadline * 4;
        if before.is_some_and(is_second) {
            *doubted = None;
            self.pass(turn);
        }
    }

    fn take(&self, turn: usize, next: usize) {
        let order = Ordering::SeqCst;
        let _ = self.turn.compare_exchange(turn, next, order, order);
    }

    /// Makes a connection, and gives the turn that it is of.
    pub(crate) fn connect(
        &self,
        warned: &Arc<AtomicBool>,
    ) -> Result<(Client, usize), postgres::Error> {
        let turn = self.turn();
        let mut made = self.connect_to(turn, warned);
        for next in 1..self.hosts.len() {
            let next = turn.wrapping_add(next);
            if made.is_ok() {
                break;
            }
            made = self.connect_to(next, warned);
            if made.is_ok() {
                self.take(turn, next);
            }
        }
        made
    }

    /// Makes a connection to the host whose turn that is. A warning of the database is noted.
    fn connect_to(
        &self,
        turn: usize,
        warned: &Arc<AtomicBool>,
    ) -> Result<(Client, usize), postgres::Error> {
        let mut config = self.hosts[turn % self.hosts.len()].clone();
        let warned = warned.clone();
        config.notice_callback(move |notice| {
            // Not by its text, which is in the database's language.
            let is_harmless = matches!(
                notice.parsed_severity(),
                Some(Severity::Debug | Severity::Info | Severity::Log | Severity::Notice)
            );
            if !is_harmless {
                warned.store(true, Ordering::SeqCst);
            }
        });
        let mut client = match &self.tls {
            Some(tls) => config.connect(tls.clone())?,
            None => config.connect(NoTls)?,
        };
        // A statement ends in the database before its caller stops to wait, but for the wait
        // of a commit for its standby, which nothing bounds.
        let ms = (self.deadline / 2).as_millis();
        client.batch_execute(&format!(
            "SET statement_timeout = {ms}; SET lock_timeout = {ms}; SET idle_in_transaction_session_timeout = {ms}; {SYNCHRONOUS}"
        ))?;
        Ok((client, turn))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::Config;
    use crate::server::Postgres;

    #[test]
    fn a_connection_waits_until_a_commit_is_durable_whatever_the_default_is() {
        let defaults = ["off", "local", "on", "remote_apply"];
        let Some(mut postgres) = Postgres::start(&["synchronous_commit=off"]) else {
            return;
        };
        for (default, waits) in defaults.into_iter().zip(["on", "on", "on", "remote_apply"]) {
            postgres.stop();
            postgres.run(&[&format!("synchronous_commit={default}")]);
            let connector = postgres.config().connector().unwrap();
            let (mut client, _) = connector.connect(&Arc::default()).unwrap();
            let shown = client.query_one("SHOW synchronous_commit", &[]).unwrap();
            assert_eq!(shown.get::<_, String>(0), waits, "{default}");
        }
    }

    #[test]
    fn a_warning_of_the_database_is_noted_and_a_notice_is_not() {
        let Some(postgres) = Postgres::start(&[]) else {
            return;
        };
        let warned = Arc::new(AtomicBool::new(false));
        let connector = postgres.config().connector().unwrap();
        let (mut client, _) = connector.connect(&warned).unwrap();
        for (level, is_noted) in [("NOTICE", false), ("INFO", false), ("WARNING", true)] {
            let raise = format!("DO $$ BEGIN RAISE {level} 'it is late'; END $$");
            client.batch_execute(&raise).unwrap();
            assert_eq!(warned.load(Ordering::SeqCst), is_noted, "{level}");
        }
    }

    #[test]
    fn the_second_statement_that_waits_in_vain_gives_the_next_host_its_turn() {
        let config = Config::new("host=a,b user=u dbname=d sslmode=disable").unwrap();
        let connector = config.connector().unwrap();
        connector.doubt(0);
        assert_eq!(connector.turn(), 0);
        connector.doubt(0);
        assert_eq!(connector.turn(), 1);
        // Of a connection that was made before.
        connector.doubt(0);
        connector.doubt(1);
        assert_eq!(connector.turn(), 1);
    }
}
