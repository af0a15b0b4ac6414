//! Asking the API in the process.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Extension;
use axum::http::{HeaderMap, Request, StatusCode};
use gatekey::fleet::{MemoryLog, Settings};
use gatekey::{Engine, NewKey, Options, Pepper};
use gatekey_admin::{Admin, Operator};
use gatekey_logkit::FaultyLog;
use serde_json::{Value, json};
use tower::ServiceExt as _;

pub(crate) const ADMIN: &str = "acme_admin";

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or("").to_owned()
    }
}

/// An engine, and routers to it.
pub(crate) struct Api {
    pub(crate) engine: Engine,
    /// As an operator with every right.
    pub(crate) router: Router,
    /// As whoever has an admin key.
    pub(crate) keyed: Router,
    /// Where the store has a file.
    _dir: Option<tempfile::TempDir>,
}

impl Api {
    pub(crate) fn new() -> Self {
        Self::over(Engine::open_in_memory().unwrap())
    }

    pub(crate) fn over(engine: Engine) -> Self {
        let admin = Admin::new(engine.clone())
            .admin_keyspace(ADMIN.parse().unwrap())
            .unwrap();
        let all = Operator::with_all_rights("ops");
        Self {
            router: admin.router().layer(Extension(all)),
            keyed: admin.router_with_keys().unwrap(),
            engine,
            _dir: None,
        }
    }

    /// Over the first server of a fleet, and its log.
    pub(crate) fn in_fleet() -> (Self, Arc<FaultyLog>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.redb");
        let pepper = Pepper::new(7, "a pepper for the tests of the API").unwrap();
        let options = Options::new().pepper(pepper);
        options.clone().create(&path).unwrap().close().unwrap();
        let log = FaultyLog::new(Arc::new(MemoryLog::new()));
        let settings = Settings::new(log.clone(), "one");
        let engine = options.fleet(settings).found_fleet(&path).unwrap();
        let api = Self {
            _dir: Some(dir),
            ..Self::over(engine)
        };
        (api, log)
    }

    /// With a keyspace and a key in it.
    pub(crate) fn with_key() -> (Self, String, String) {
        let api = Self::new();
        api.done(
            "POST",
            "/v1/keyspaces",
            &json!({"prefix": "acme_live", "permissions": ["read", "write"]}),
        );
        let asked =
            json!({"keyspace": "acme_live", "owner": "acme/ingest", "permissions": ["read"]});
        let issued = api.done("POST", "/v1/keys", &asked);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (api, text(&issued["key"]["id"]), text(&issued["token"]))
    }

    /// An admin key with some rights.
    pub(crate) fn admin_key(&self, rights: &[&str]) -> (String, String) {
        let new = NewKey::new(ADMIN, "ops/robot").unwrap();
        let issued = self
            .engine
            .issue(new.permissions(rights.iter().copied()))
            .unwrap();
        (issued.key.id.to_string(), issued.token.expose().to_owned())
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Reply {
        send(&self.router, request(method, path, body, None))
    }

    pub(crate) fn ask_with(&self, token: &str, method: &str, path: &str, body: &Value) -> Reply {
        send(&self.keyed, request(method, path, body, Some(token)))
    }

    /// Asks, and demands that it is done.
    pub(crate) fn done(&self, method: &str, path: &str, body: &Value) -> Value {
        let reply = self.ask(method, path, body);
        assert!(
            reply.status.is_success(),
            "{method} {path}: {} {}",
            reply.status,
            reply.text()
        );
        reply.json()
    }

    /// What a request that is refused leaves as it is.
    pub(crate) fn state(&self) -> String {
        let span = self.engine.audit_span().unwrap();
        let keys: Vec<_> = self
            .engine
            .keys(gatekey::KeyFilter::new())
            .map(|key| {
                let mut key = key.unwrap();
                // The admin key that is refused was used all the same.
                (key.usage.last_used, key.usage.count) = (None, 0);
                key
            })
            .collect();
        let keyspaces = self.engine.keyspaces().unwrap();
        format!(
            "{span:?} {keys:?} {keyspaces:?} {:?}",
            self.engine.imports().unwrap()
        )
    }
}

pub(crate) fn request(
    method: &str,
    path: &str,
    body: &Value,
    token: Option<&str>,
) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let body = match body {
        Value::Null => Body::empty(),
        body => {
            request = request.header("content-type", "application/json");
            Body::from(body.to_string())
        }
    };
    request.body(body).unwrap()
}

pub(crate) fn send(router: &Router, request: Request<Body>) -> Reply {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let response = router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Reply {
            status: parts.status,
            headers: parts.headers,
            bytes: bytes.to_vec(),
        }
    })
}
