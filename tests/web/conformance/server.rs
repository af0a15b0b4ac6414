//! The real server, on a port of the loopback.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::client::{Ask, Reply, ureq};

pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    admin: String,
}

/// A key, as the server's own interface gives it.
pub(crate) struct Issued {
    pub(crate) id: String,
    pub(crate) token: String,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(&[], Stdio::null())
    }

    /// With arguments, and something that takes its log.
    pub(crate) fn start_with(arguments: &[&str], stderr: Stdio) -> Self {
        Self::spawn(Command::new(BINARY).args(arguments).stderr(stderr))
    }

    /// Behind proxies with these addresses.
    pub(crate) fn start_behind(proxies: &str) -> Self {
        let mut command = Command::new(BINARY);
        Self::spawn(
            command
                .env("TRUSTED_PROXIES", proxies)
                .stderr(Stdio::null()),
        )
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut told = |what: &str| {
            let line = lines.next().unwrap().unwrap();
            line.strip_prefix(what).unwrap().to_owned()
        };
        Self {
            url: told("listening on "),
            admin: told("admin key: "),
            child,
        }
    }

    /// A request of the operator's, whatever comes of it.
    pub(crate) fn try_to_administer(&self, ask: Ask<'_>) -> Reply {
        // As a proxy on this host passes it on, where the server is behind one.
        let ask = ask.header("X-Forwarded-For", "127.0.0.1");
        ureq(&self.url, &ask.bearer(&self.admin))
    }

    /// The header of the operator's requests.
    pub(crate) fn admin_header(&self) -> String {
        format!("Authorization: Bearer {}", self.admin)
    }

    fn administer(&self, ask: Ask<'_>) -> Reply {
        let reply = self.try_to_administer(ask);
        assert!(reply.status < 300, "{reply:?}");
        reply
    }

    /// Its address, without the scheme.
    pub(crate) fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    /// Tells it to stop, as a supervisor does, and waits for its end.
    #[cfg(unix)]
    pub(crate) fn terminate(mut self) -> std::process::ExitStatus {
        // The shell's own: not every system has a program of that name.
        let command = format!("kill -TERM {}", self.child.id());
        let told = Command::new("sh").args(["-c", &command]).status();
        assert!(told.unwrap().success());
        self.child.wait().unwrap()
    }

    /// Issues a key. `more` is added to what is asked for.
    pub(crate) fn issue(&self, keyspace: &str, owner: &str, more: &Value) -> Issued {
        let mut asked = json!({ "keyspace": keyspace, "owner": owner });
        asked
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        Issued::of(
            &self
                .administer(Ask::post("/admin/keys").json(&asked))
                .json(),
        )
    }

    /// Changes what an owner has bought.
    pub(crate) fn sell(&self, keyspace: &str, owner: &str, change: &Value) -> Value {
        let path = format!("/admin/owners/{keyspace}/{owner}");
        let ask = Ask {
            method: "PUT",
            ..Ask::get(&path)
        };
        self.administer(ask.json(change)).json()
    }

    pub(crate) fn rotate(&self, key: &Issued, grace: u64) -> Issued {
        let path = format!("/admin/keys/{}/rotate", key.id);
        let ask = Ask::post(&path).json(&json!({ "grace": grace }));
        Issued::of(&self.administer(ask).json())
    }

    pub(crate) fn revoke(&self, key: &Issued) {
        let path = format!("/admin/keys/{}", key.id);
        self.administer(Ask {
            method: "DELETE",
            ..Ask::get(&path)
        });
    }

    pub(crate) fn show(&self, key: &Issued) -> Value {
        let path = format!("/admin/keys/{}", key.id);
        self.administer(Ask::get(&path)).json()
    }
}

impl Issued {
    fn of(answer: &Value) -> Self {
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        Self {
            id: text("id"),
            token: text("token"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The example server, which is built with these tests.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_example-server");
