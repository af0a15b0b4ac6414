//! The pages under attack, without a browser. SECURITY.md has a row for each attack.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod attacks;
mod customers;
mod docs;
mod events;
mod failing;
mod find;
mod fleet;
mod forms;
mod limits;
mod operators;
mod owners;
mod rotations;
mod routes;
mod rules;
mod sessions;
mod usage;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::{Extension, Router};
use gatekey::{Engine, Issued, NewKey, NewKeyspace};
use tower::ServiceExt as _;

use crate::{Ceiling, Member, SelfService};

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

/// What a page answered.
#[derive(Debug)]
struct Seen {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Seen {
    fn location(&self) -> &str {
        self.headers["location"].to_str().unwrap()
    }

    /// The value of a hidden field.
    fn hidden(&self, name: &str) -> String {
        let marker = format!("name=\"{name}\" value=\"");
        let at = self.body.find(&marker).expect("the form has no such field");
        self.body[at + marker.len()..]
            .split('"')
            .next()
            .unwrap()
            .to_owned()
    }

    /// The token that a page shows.
    fn token(&self) -> String {
        let marker = "<textarea id=\"token\"";
        let at = self.body.find(marker).expect("the page shows no token");
        self.body[at..].split(['>', '<']).nth(2).unwrap().to_owned()
    }

    fn shows_a_token(&self) -> bool {
        self.body.contains("id=\"token\"")
    }
}

fn send(router: &Router, request: Request<Body>) -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let response = router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 16 << 20).await.unwrap();
        Seen {
            status: parts.status,
            headers: parts.headers,
            // A backup is no text.
            body: String::from_utf8_lossy(&bytes).into_owned(),
        }
    })
}

fn get(router: &Router, path: &str) -> Seen {
    send(router, Request::get(path).body(Body::empty()).unwrap())
}

fn encoded(pairs: &[(&str, &str)]) -> String {
    let mut out = form_urlencoded::Serializer::new(String::new());
    out.extend_pairs(pairs);
    out.finish()
}

/// A form as a browser sends it from a page of the same origin.
fn post(router: &Router, path: &str, pairs: &[(&str, &str)]) -> Seen {
    let request = Request::post(path)
        .header("host", "keys.example.com")
        .header("sec-fetch-site", "same-origin")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(encoded(pairs)))
        .unwrap();
    send(router, request)
}

/// An engine, and the pages of self-service under `/settings/keys`.
struct House {
    engine: Engine,
}

impl House {
    fn new() -> Self {
        Self::over(Engine::open_in_memory().unwrap())
    }

    fn over(engine: Engine) -> Self {
        let new = NewKeyspace::new("acme_live")
            .unwrap()
            .permissions(["read", "write", "admin"])
            .plan(gatekey::Plan::new("free"))
            .plan(gatekey::Plan::new("enterprise"));
        engine.create_keyspace(new).unwrap();
        let other = NewKeyspace::new("secret_ks").unwrap().permissions(["read"]);
        engine.create_keyspace(other).unwrap();
        Self { engine }
    }

    fn ceiling() -> Ceiling {
        Ceiling::new("acme_live".parse().unwrap())
            .permission("read", "Read")
            .permission("write", "Write")
            .lifetimes([30 * DAY, 90 * DAY])
            .plans(["free"])
            .labels(["team"])
            .keys_max(5)
    }

    fn pages(&self, owner: &str, ceiling: Ceiling) -> Router {
        let member = Member::new(owner.parse().unwrap(), format!("user of {owner}")).may(ceiling);
        let pages = SelfService::new(self.engine.clone()).router();
        Router::new().nest("/settings/keys", pages.layer(Extension(member)))
    }

    fn key(&self, owner: &str, permissions: &[&'static str]) -> Issued {
        let new = NewKey::new("acme_live", owner).unwrap();
        let new = new.permissions(permissions.iter().copied());
        self.engine.issue(new).unwrap()
    }

    /// The position of the last change.
    fn changes(&self) -> u64 {
        self.engine.audit_span().unwrap().last.seq
    }

    /// What a form for a new key sends when nothing is tampered with.
    fn wish(number: &str) -> Vec<(&str, &str)> {
        vec![
            ("keyspace", "acme_live"),
            ("number", number),
            ("name", "robot"),
            ("permission", "read"),
            ("life", "2592000"),
            ("plan", "free"),
        ]
    }
}
