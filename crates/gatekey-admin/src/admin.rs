//! The API of one engine, and its doors.

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use gatekey::{Engine, Error, Prefix};

use crate::api;
use crate::call::Shared;
use crate::doors::{self, Door};
use crate::operator::ensure_admin_keyspace;

/// The admin API of an engine. It opens nothing by itself.
#[derive(Debug, Clone)]
#[must_use]
pub struct Admin {
    engine: Engine,
    admin: Option<Prefix>,
    backup_dir: PathBuf,
    users: Vec<u32>,
}

impl Admin {
    /// The API of an engine. Close doors before the engine: what comes later is answered
    /// with 503.
    pub fn new(engine: Engine) -> Self {
        Self {
            engine,
            admin: None,
            backup_dir: std::env::temp_dir(),
            users: Vec::new(),
        }
    }

    /// Names the keyspace of admin keys, whose keys the door of TCP asks for. It must have
    /// been created by [`ensure_admin_keyspace`], or is now.
    ///
    /// # Errors
    /// As [`ensure_admin_keyspace`].
    pub fn admin_keyspace(mut self, prefix: Prefix) -> Result<Self, Error> {
        self.admin = Some(ensure_admin_keyspace(&self.engine, prefix)?);
        Ok(self)
    }

    /// Sets the folder in which a backup is made before it is sent; the system's folder for
    /// temporary files if not called. It needs room for the whole store.
    pub fn backup_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.backup_dir = folder.into();
        self
    }

    /// Lets another user use the socket, besides the one that runs the server and root.
    /// Such a user has every right. The socket's mode stays 0600: give the user access to
    /// it by the file system's means (an access control list).
    pub fn allow_user(mut self, uid: u32) -> Self {
        self.users.push(uid);
        self
    }

    fn shared(&self) -> Arc<Shared> {
        Arc::new(Shared {
            engine: self.engine.clone(),
            admin: self.admin,
            backup_dir: self.backup_dir.clone(),
            backup: Mutex::new(()),
        })
    }

    /// The door in the process: a router for a host that knows its operators. The host's
    /// own layer puts an [`Operator`](crate::Operator) into the extensions of each request;
    /// a request without one is answered with 401.
    ///
    /// ```
    /// use axum::Extension;
    /// use axum::body::Body;
    /// use axum::http::Request;
    /// use gatekey::Engine;
    /// use gatekey_admin::{Admin, Operator, Right};
    /// use tower::ServiceExt as _;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let engine = Engine::open_in_memory()?;
    /// let alice = Operator::new("alice", [Right::Read]);
    /// let router = Admin::new(engine.clone()).router().layer(Extension(alice));
    /// let response = router.oneshot(Request::get("/v1/stats").body(Body::empty())?).await?;
    /// assert_eq!(response.status(), 200);
    /// # engine.close()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn router(&self) -> Router {
        api::router(&self.shared())
    }

    /// The door for a host's own server: a router that asks each request for an admin key
    /// (`Authorization: Bearer`). With a `ConnectInfo<SocketAddr>` among the extensions of
    /// a request, admin keys may be bound to networks, and failed attempts are counted.
    ///
    /// `None` without [`admin_keyspace`](Self::admin_keyspace).
    #[must_use]
    pub fn router_with_keys(&self) -> Option<Router> {
        let admin = self.admin?;
        Some(doors::keyed(self.router(), &self.engine, admin))
    }

    /// Opens the door that is a unix socket, with mode 0600, on a thread of its own: see
    /// [`socket_beside`](crate::socket_beside) for where the command line looks for it.
    /// The user that runs the server, root, and those of
    /// [`allow_user`](Self::allow_user) may do everything. A socket that a server left
    /// behind is replaced; any other file stays, and is an error.
    ///
    /// # Errors
    /// Those of the system; a path of more than 103 bytes.
    #[cfg(unix)]
    pub fn open_socket(&self, path: impl AsRef<Path>) -> io::Result<Door> {
        doors::open_unix(path.as_ref(), &self.users, self.router())
    }

    /// Opens the door that is TCP, on a thread of its own, for
    /// [admin keys](Self::admin_keyspace). It speaks plain HTTP: bind it to the loopback,
    /// and put a proxy with TLS in front where it is to be reached from elsewhere.
    ///
    /// # Errors
    /// Those of the system, and `InvalidInput` without a keyspace of admin keys.
    pub fn open_tcp(&self, listener: TcpListener) -> io::Result<Door> {
        let missing = || io::Error::new(io::ErrorKind::InvalidInput, "no keyspace of admin keys");
        let router = self.router_with_keys().ok_or_else(missing)?;
        doors::open_tcp(listener, router)
    }
}
