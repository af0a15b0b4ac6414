//! What a check of the engine finds of the server's records: a record that does not agree
//! with the others, or with the key that it names.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)]
mod walk;

use gatekey::extension::ExtensionTx;
use gatekey::{Engine, NewKeyspace, Result};
use gatekey_oauth::server::{AuthorizationServer, NewClient, ServerOptions, TokenRequest};
use serde_json::Value;

use walk::{CB, params, with};

struct World {
    engine: Engine,
    server: AuthorizationServer,
    client: String,
}

fn world() -> World {
    let engine = Engine::open_in_memory().unwrap();
    let keyspace = NewKeyspace::new("acme_at").unwrap().permissions(["read"]);
    let keyspace = engine.create_keyspace(keyspace).unwrap().prefix;
    let options = ServerOptions::new("https://api.example.com");
    let server = AuthorizationServer::open(&engine, options).unwrap();
    let new = NewClient::public("App", keyspace, ["read"]).redirect_uri(CB);
    let client = server.register(&new).unwrap().client.id;
    World {
        engine,
        server,
        client,
    }
}

impl World {
    /// An access token.
    fn access(&self) -> String {
        let code = walk::code(&self.server, &self.client, &["read"]);
        let asked = [("client_id", self.client.as_str())];
        let params = params(&with(&asked, &walk::exchange(&code)));
        let reply = self.server.token(TokenRequest {
            params: &params,
            authorization: None,
        });
        let body: Value = serde_json::from_str(&reply.unwrap().body).unwrap();
        body["access_token"].as_str().unwrap().to_owned()
    }

    fn spoil(&self, mut how: impl FnMut(&mut ExtensionTx<'_, '_>) -> Result<()> + Send + 'static) {
        let extension = self.engine.extension("oauth").unwrap();
        extension.change(move |tx| how(tx)).unwrap();
    }

    /// Changes the only record of a table.
    fn rewrite(&self, table: &'static str, change: impl Fn(&mut Value) + Send + 'static) {
        self.spoil(move |tx| {
            let page = tx.page(table, &[], None, 2)?;
            assert_eq!(page.len(), 1, "{table}");
            for (key, record) in page {
                let mut value = serde_json::from_slice(&record.bytes).unwrap();
                change(&mut value);
                tx.put(table, &key, record.version, value.to_string().as_bytes())?;
            }
            Ok(())
        });
    }

    fn remove(&self, table: &'static str) {
        self.spoil(move |tx| {
            for (key, _) in tx.page(table, &[], None, 100)? {
                tx.remove(table, &key)?;
            }
            Ok(())
        });
    }

    /// What a check finds.
    fn problems(&self) -> Vec<String> {
        let report = self.engine.check().unwrap();
        let findings = report.findings.into_iter();
        let problems = findings.map(|it| format!("{} {}", it.record, it.problem));
        problems.collect()
    }
}

/// What is done to the records, and what must be found.
type Spoil = (fn(&World), &'static [&'static str]);

#[test]
fn a_check_finds_records_that_do_not_agree() {
    let spoils: [Spoil; 8] = [
        (
            |w| w.remove("ends"),
            &["codes", "authorizations", "nothing notes when it goes"],
        ),
        (
            |w| w.remove("by_client"),
            &["authorizations", "not listed with its client"],
        ),
        (
            |w| w.remove("clients"),
            &["authorizations", "there is no such client"],
        ),
        (
            |w| w.remove("authorizations"),
            &["by_client", "ends", "there is no such authorization"],
        ),
        (
            |w| w.remove("tickets"),
            &["ends", "no record that it is the end of"],
        ),
        (
            |w| w.rewrite("codes", |code| code["scope"] = 7.into()),
            &["codes", "cannot be read"],
        ),
        (
            |w| w.rewrite("authorizations", |it| it["revoked_at_ms"] = 7.into()),
            &["authorizations", "it was revoked, and its key"],
        ),
        (
            |w| w.rewrite("clients", |client| client["disabled"] = true.into()),
            &["authorizations", "its client is disabled, and its key"],
        ),
    ];
    for (number, (spoil, expected)) in spoils.into_iter().enumerate() {
        let w = world();
        w.access();
        assert_eq!(w.problems(), [""; 0], "{number}");
        spoil(&w);
        let problems = w.problems().join("\n");
        for text in expected {
            assert!(problems.contains(text), "{number}: {text}: {problems}");
        }
    }
}

#[test]
fn a_check_finds_a_key_that_is_another_authorizations() {
    let w = world();
    w.access();
    let other = w.engine.find_by_token(w.access()).unwrap().unwrap();
    let named = other.id.to_string();
    w.spoil(move |tx| {
        for (key, record) in tx.page("authorizations", &[], None, 9)? {
            let mut value: Value = serde_json::from_slice(&record.bytes).unwrap();
            value["key"] = named.as_str().into();
            let bytes = value.to_string();
            tx.put("authorizations", &key, record.version, bytes.as_bytes())?;
        }
        Ok(())
    });
    let problems = w.problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("is not labelled as its own"));
}

/// All that clients and operators do leaves records that agree: an authorization that was
/// revoked, a client that was disabled and enabled again, keys that were revoked by hand.
#[test]
fn a_check_finds_nothing_where_access_was_taken_away() {
    let w = world();
    let tokens: Vec<String> = (0..4).map(|_| w.access()).collect();
    let key = |at: usize| w.engine.find_by_token(&tokens[at]).unwrap().unwrap();
    let authorization = key(0).labels["oauth_authorization"].clone();
    assert!(w.server.revoke_authorization(&authorization).unwrap());
    let reason = gatekey::Reason::KeyCompromise;
    w.engine.revoke(key(1).id, reason).unwrap();
    w.engine.suspend("acme", None).unwrap();
    w.server.disable_client(&w.client).unwrap();
    assert_eq!(w.problems(), [""; 0]);
    w.server.enable_client(&w.client).unwrap();
    w.engine.resume("acme").unwrap();
    assert_eq!(w.problems(), [""; 0]);
    assert!(w.engine.verify(&tokens[2]).unwrap().is_granted());
    assert!(!w.engine.verify(&tokens[0]).unwrap().is_granted());
}
