//! What is left of clients' secrets, codes, tokens and signing keys in a process's memory
//! once they were dropped, with the engine still open.
//!
//! What the host got as its own (the URL with the code, the answer with the tokens) the
//! host wipes here; nothing else may have a copy.
#![cfg(target_os = "linux")]

use std::hint::black_box;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use gatekey::{Clock as _, Engine, ManualClock, NewKeyspace, Options, Pepper, SystemClock};
use gatekey_oauth::server::{
    AuthorizationServer, Authorize, ClientAuth, NewClient, Reply, ServerOptions, TokenRequest,
};
use gatekey_oauth::{JwtOptions, Jwts, Params};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::leftovers::{Task, assert_nothing_is_left, look};
use crate::walk::{CB, CHALLENGE, OWNER, VERIFIER};
use crate::world::{ISSUER, LATER, READ};

const CHILD: &str = "memory::the_process_that_is_looked_into";

const REPEATS: usize = 600;

/// A text as long as it gets: it does not grow, and so leaves no copy.
fn joined(parts: &[&str]) -> Zeroizing<String> {
    Zeroizing::new(parts.concat())
}

fn between<'a>(text: &'a str, before: &str, after: char) -> &'a str {
    let (_, rest) = text.split_once(before).unwrap();
    rest.split(after).next().unwrap()
}

fn decoded(text: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(BASE64.decode(text).unwrap())
}

/// A server, its client, and the process's task.
struct Place {
    engine: Engine,
    clock: ManualClock,
    jwts: Option<Jwts>,
    server: AuthorizationServer,
    client: String,
    secret: Zeroizing<String>,
    task: Task,
}

impl Place {
    fn new(mut task: Task) -> Self {
        let clock = ManualClock::at(SystemClock.now());
        let options = Options::new()
            .pepper(Pepper::new(1, [0x5a; 32]).unwrap())
            .clock(clock.clone())
            .resident_bytes(1 << 20)
            .usage_interval(Duration::from_millis(1))
            .cache_bytes(1 << 20);
        let engine = options.create(task.dir.join("keys.redb")).unwrap();
        let keyspace = NewKeyspace::new("acme_at").unwrap();
        let keyspace = keyspace.permissions(["read", "write"]);
        let keyspace = engine.create_keyspace(keyspace).unwrap().prefix;
        let options = ServerOptions::new(ISSUER);
        let jwts = (task.name == "jwt").then(|| {
            let jwts = Jwts::open(&engine, JwtOptions::new(ISSUER, ISSUER)).unwrap();
            note_seeds(&engine, &mut task);
            jwts
        });
        let server = match &jwts {
            Some(jwts) => AuthorizationServer::with_jwts(&engine, options, jwts.clone()),
            None => AuthorizationServer::open(&engine, options),
        };
        let server = server.unwrap();
        let by_post = ClientAuth::ClientSecretPost;
        let new = NewClient::confidential("App", by_post, keyspace, ["read", "write"]);
        let new = server.register(&new.redirect_uri(CB)).unwrap();
        let secret = joined(&[new.expose_secret().unwrap()]);
        task.note(secret.strip_prefix("gks_").unwrap().as_bytes());
        task.note(&decoded(secret.strip_prefix("gks_").unwrap()));
        Self {
            engine,
            clock,
            jwts,
            server,
            client: new.client.id,
            secret,
            task,
        }
    }

    /// A code, which is noted.
    fn code(&mut self) -> Zeroizing<String> {
        let asked = joined(&[
            "response_type=code&client_id=",
            &self.client,
            "&redirect_uri=",
            CB,
            "&code_challenge_method=S256&code_challenge=",
            CHALLENGE,
        ]);
        let asked = Params::form(asked.as_bytes()).unwrap();
        let Authorize::Consent(consent) = self.server.authorize(&asked, b"session").unwrap() else {
            panic!("refused");
        };
        let (owner, scope) = (OWNER.parse().unwrap(), ["read", "write"]);
        let approved = self
            .server
            .approve(&consent.ticket, b"session", &owner, &scope);
        let url = Zeroizing::new(approved.unwrap().unwrap());
        let code = joined(&[between(&url, "code=", '&')]);
        let text = code.strip_prefix("gkc_").unwrap();
        self.task.note(text.as_bytes());
        self.task.note(&decoded(text));
        code
    }

    fn ask(
        &self,
        call: fn(&AuthorizationServer, TokenRequest<'_>) -> gatekey::Result<Reply>,
        more: &[&str],
    ) -> (u16, Zeroizing<String>) {
        let (id, secret) = (self.client.as_str(), self.secret.as_str());
        let mut parts = vec!["client_id=", id, "&client_secret=", secret, "&"];
        parts.extend(more);
        let form = joined(&parts);
        let params = Params::form(form.as_bytes()).unwrap();
        let request = TokenRequest {
            params: &params,
            authorization: None,
        };
        let reply = call(&self.server, request).unwrap();
        (reply.status, Zeroizing::new(reply.body))
    }

    /// The tokens of an answer, which are noted: access and refresh.
    fn tokens(&mut self, more: &[&str]) -> [Zeroizing<String>; 2] {
        let (status, body) = self.ask(AuthorizationServer::token, more);
        assert_eq!(status, 200);
        let access = joined(&[between(&body, "\"access_token\":\"", '"')]);
        let refresh = joined(&[between(&body, "\"refresh_token\":\"", '"')]);
        match access.rsplit_once('.') {
            Some((_, signature)) => {
                self.task.note(signature.as_bytes());
                self.task.note(&decoded(signature));
            }
            None => self
                .task
                .note(&access.as_bytes()[access.len() - 49..access.len() - 6]),
        }
        // Its id and its generation are no secrets.
        self.task.note(&refresh.as_bytes()[4 + 32..4 + 74]);
        let bytes = decoded(refresh.strip_prefix("gkr_").unwrap());
        self.task.note(&bytes[24..56]);
        [access, refresh]
    }

    fn is_granted(&self, access: &str) -> bool {
        let verdict = match &self.jwts {
            Some(jwts) => jwts.verify(access, &READ).unwrap(),
            None => self.engine.verify_with(access, &READ).unwrap(),
        };
        verdict.is_granted()
    }
}

/// Notes the private keys.
fn note_seeds(engine: &Engine, task: &mut Task) {
    let extension = engine.extension("oauth").unwrap();
    let page = extension.read(|view| view.page("signing_keys", &[], None, 10));
    for (kid, record) in page.unwrap() {
        let kid = String::from_utf8(kid).unwrap();
        let stored: Value = serde_json::from_slice(&record.bytes).unwrap();
        let sealed = BASE64.decode(stored["sealed"].as_str().unwrap()).unwrap();
        let purpose = format!("signing key {kid}");
        task.note(&extension.unseal(&purpose, &sealed).unwrap());
    }
}

/// The child's part, in a process of its own. Without its variable this is no test.
#[test]
fn the_process_that_is_looked_into() {
    let Some(task) = Task::given() else {
        return;
    };
    let mut place = Place::new(task);
    let exchange = ["grant_type=authorization_code&redirect_uri=", CB, "&code="];
    let code = place.code();
    let [cb, verifier] = ["&code_verifier=", VERIFIER];
    let wrong = [&exchange[..], &[&code, cb, CHALLENGE]].concat();
    assert_eq!(place.ask(AuthorizationServer::token, &wrong).0, 400);
    let right = [&exchange[..], &[&code, cb, verifier]].concat();
    let [access, refresh] = place.tokens(&right);
    assert!(place.is_granted(&access) && place.is_granted(&access));
    place.clock.advance(LATER);
    let renew = "grant_type=refresh_token&refresh_token=";
    let [_, next] = place.tokens(&[renew, &refresh]);
    // A retry unseals the answer.
    let [newest, _] = place.tokens(&[renew, &refresh]);
    // The engine's own thread leads some of these, while it writes what was used.
    for _ in 0..REPEATS {
        assert_eq!(
            place.ask(AuthorizationServer::token, &[renew, &refresh]).0,
            200
        );
        assert!(place.is_granted(&newest));
    }
    for token in [&newest, &next] {
        let asked = place.ask(AuthorizationServer::introspect, &["token=", token]);
        assert!(asked.1.contains("\"active\":true"));
    }
    if let Some(jwts) = &place.jwts {
        jwts.rotate_signing_keys().unwrap();
        note_seeds(&place.engine, &mut place.task);
    }
    let unused = place.code();
    let revoked = place.ask(AuthorizationServer::revoke, &["token=", &newest]);
    assert!(revoked.0 == 200 && !place.is_granted(&newest));
    if place.task.name == "leak" {
        std::mem::forget(black_box(unused.as_str().to_owned()));
    }
    drop((code, access, refresh, next, newest, unused));
    let Place {
        engine,
        jwts,
        server,
        secret,
        task,
        ..
    } = place;
    drop((jwts, server, secret));
    task.be_looked_at();
    engine.close().unwrap();
}

#[test]
fn a_code_that_is_left_in_memory_is_found() {
    let [_, later] = look(CHILD, "leak");
    assert!(later.iter().any(|found| !found.on_stack && found.len == 43));
}

#[test]
fn of_codes_tokens_and_clients_secrets_nothing_is_left_in_memory() {
    assert_nothing_is_left(CHILD, "tokens");
}

#[test]
fn of_jwts_and_signing_keys_nothing_is_left_in_memory() {
    assert_nothing_is_left(CHILD, "jwt");
}
