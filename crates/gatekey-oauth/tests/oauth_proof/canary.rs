//! Known secrets, looked for wherever they could have got to: in whatever can be printed,
//! and in the file, its free pages and its copies.

use std::fmt::{Debug, Display};
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD as BASE64};
use gatekey::{Clock as _, ManualClock, Options, Pepper, SystemClock};
use gatekey_oauth::server::{ServerOptions, TokenRequest};
use gatekey_oauth::{JwtOptions, Jwts};
use serde_json::Value;

use crate::walk::params;
use crate::world::{ISSUER, LATER, World};

/// A secret as bytes, and the texts that show eight bytes of it or more, without white
/// space and without case.
struct Canary {
    name: String,
    bytes: Vec<u8>,
    texts: Vec<String>,
    /// Those of them that a file could have.
    kept: Vec<String>,
}

impl Canary {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let (mut texts, mut kept) = (Vec::new(), Vec::new());
        for piece in bytes.chunks_exact(8) {
            let list =
                |print: fn(&u8) -> String, by| piece.iter().map(print).collect::<Vec<_>>().join(by);
            texts.push(list(|byte| format!("{byte}"), ","));
            kept.push(list(|byte| format!("{byte:02x}"), ""));
            texts.push(list(|byte| format!("{byte:x}"), ","));
            texts.push(list(|byte| format!("0x{byte:x}"), ","));
        }
        // A base64 text says the same in each of three places where it can begin.
        for skipped in 0..3 {
            for engine in [STANDARD, URL_SAFE] {
                let text = engine.encode(&bytes[skipped..]);
                kept.push(text[..16].to_lowercase());
            }
        }
        if bytes.is_ascii() {
            let text = std::str::from_utf8(bytes).unwrap().to_lowercase();
            let at = (0..=text.len() - 12).step_by(6);
            kept.extend(at.map(|at| text[at..at + 12].to_owned()));
        }
        texts.extend(kept.iter().cloned());
        Self {
            name: name.to_owned(),
            bytes: bytes.to_vec(),
            texts,
            kept,
        }
    }

    fn is_in_text(&self, text: &str) -> bool {
        let text = plain(text);
        self.texts.iter().any(|canary| text.contains(canary))
    }

    /// As bytes, or any half of them, or as text.
    fn is_in_bytes(&self, bytes: &[u8]) -> bool {
        self.is_in(&latin(bytes), &plain(&String::from_utf8_lossy(bytes)))
    }

    fn is_in(&self, latin_of: &str, plain_of: &str) -> bool {
        let (head, tail) = self.bytes.split_at(self.bytes.len() / 2);
        let is_text = |canary: &String| plain_of.contains(canary);
        latin_of.contains(&latin(head))
            || latin_of.contains(&latin(tail))
            || self.kept.iter().any(is_text)
    }
}

/// Each byte as a character: so that the search is that of text.
fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn plain(text: &str) -> String {
    let text: String = text.split_whitespace().collect();
    text.to_lowercase()
}

#[derive(Default)]
struct Watch {
    canaries: Vec<Canary>,
    texts: usize,
}

impl Watch {
    /// Looks for a text and for the bytes that it is the base64 of, without its mark.
    fn add(&mut self, name: &str, text: &str) {
        // Base64 may have the mark's last character too; a token's body has not.
        let body = text.strip_prefix("gks_");
        let body = body.unwrap_or_else(|| text.rsplit('_').next().unwrap());
        self.canaries.push(Canary::new(name, body.as_bytes()));
    }

    fn add_code(&mut self, code: &str) {
        let body = code.strip_prefix("gkc_").unwrap();
        self.canaries.push(Canary::new("a code", body.as_bytes()));
        let bytes = BASE64.decode(body).unwrap();
        self.canaries.push(Canary::new("a code's bytes", &bytes));
    }

    /// Of a refresh token the secret alone: its id and its generation are in the file.
    fn add_refresh(&mut self, token: &str) {
        let body = token.strip_prefix("gkr_").unwrap();
        let secret = &BASE64.decode(body).unwrap()[24..56];
        self.canaries
            .push(Canary::new("a refresh token's secret", secret));
        let text = &body.as_bytes()[32..];
        self.canaries.push(Canary::new("a refresh token", text));
    }

    /// Of a JWT the signature: whoever has it can put the rest together.
    fn add_access(&mut self, token: &str) {
        match token.rsplit_once('.') {
            Some((_, signature)) => self
                .canaries
                .push(Canary::new("a JWT", signature.as_bytes())),
            None => self.add("an access token", token),
        }
    }

    fn text(&mut self, what: &str, text: &str) {
        self.texts += 1;
        assert!(!text.is_empty(), "{what} shows nothing");
        for canary in &self.canaries {
            // Not the text: who reads the failure need not know the secret.
            assert!(!canary.is_in_text(text), "{} in {what}", canary.name);
        }
    }

    fn debug(&mut self, what: &str, value: &dyn Debug) {
        for text in [
            format!("{value:?}"),
            format!("{value:#?}"),
            format!("{value:x?}"),
            format!("{value:#X?}"),
        ] {
            self.text(what, &text);
        }
    }

    fn both<T: Debug + Display>(&mut self, what: &str, value: &T) {
        self.debug(what, value);
        self.text(what, &value.to_string());
    }

    fn bytes(&self, what: &str, bytes: &[u8]) {
        let (latin, plain) = (latin(bytes), plain(&String::from_utf8_lossy(bytes)));
        for canary in &self.canaries {
            assert!(!canary.is_in(&latin, &plain), "{} in {what}", canary.name);
        }
    }
}

/// The private keys, as the server itself opens them.
fn signing_seeds(w: &World) -> Vec<Vec<u8>> {
    let extension = w.engine.extension("oauth").unwrap();
    let page = extension.read(|view| view.page("signing_keys", &[], None, 10));
    let seeds = page.unwrap().into_iter().map(|(kid, record)| {
        let kid = String::from_utf8(kid).unwrap();
        let stored: Value = serde_json::from_slice(&record.bytes).unwrap();
        let sealed = BASE64.decode(stored["sealed"].as_str().unwrap()).unwrap();
        let purpose = format!("signing key {kid}");
        extension.unseal(&purpose, &sealed).unwrap().to_vec()
    });
    seeds.collect()
}

#[test]
fn a_canary_is_found_in_every_rendering() {
    let seed: Vec<u8> = (0xa0..0xc0).collect();
    let canary = Canary::new("seed", &seed);
    for text in [
        format!("{seed:?}"),
        format!("{seed:#?}"),
        format!("{seed:x?}"),
        format!("{seed:#X?}"),
        BASE64.encode(&seed),
        STANDARD.encode([&[1], &seed[..]].concat()),
    ] {
        assert!(canary.is_in_text(&text), "{text}");
    }
    assert!(canary.is_in_bytes(&[&[0; 99], &seed[..20]].concat()));
    assert!(!canary.is_in_bytes(&[0; 99]));
}

/// Steps through all that makes or takes a secret, and looks after each: at the file as it
/// is, free pages and all, and at what can be printed.
fn look_everywhere(is_jwt: bool) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let clock = ManualClock::at(SystemClock.now());
    let options = || {
        let pepper = Pepper::new(1, [0x5a; 32]).unwrap();
        Options::new().pepper(pepper).clock(clock.clone())
    };
    let jwts = || is_jwt.then(|| JwtOptions::new(ISSUER, ISSUER));
    let engine = options().create(&path).unwrap();
    let w = World::begin(engine, clock.clone(), jwts(), ServerOptions::new(ISSUER));
    let mut watch = Watch::default();
    watch.add("a client's secret", w.app.secret.as_deref().unwrap());
    if is_jwt {
        let seeds = signing_seeds(&w);
        assert_eq!(seeds.len(), 2);
        for seed in &seeds {
            watch.canaries.push(Canary::new("a signing key", seed));
        }
    }
    let file = |path: &Path| fs::read(path).unwrap();
    // The control: what is in the file is found in it.
    let id = Canary::new("the client's id", w.app.id.as_bytes());
    assert!(id.is_in_bytes(&file(&path)));

    let unused = w.code();
    watch.add_code(&unused);
    watch.bytes("the file with a code", &file(&path));
    let code = w.code();
    watch.add_code(&code);
    let first = w.redeem(&code).unwrap().unwrap();
    watch.add_access(&first.access);
    watch.add_refresh(&first.refresh);
    watch.bytes("the file after an exchange", &file(&path));
    w.clock.advance(LATER);
    let second = w.refresh(&first.refresh).unwrap().unwrap();
    watch.add_access(&second.access);
    watch.add_refresh(&second.refresh);
    // A retry unseals them.
    assert_eq!(w.refresh(&first.refresh).unwrap().unwrap(), second);
    watch.bytes("the file after a refresh", &file(&path));
    let copy = dir.path().join("copy.redb");
    w.engine.backup(&copy).unwrap();
    watch.bytes("a backup", &file(&copy));

    // What can be printed.
    let request = w.request(&[("code", &unused), ("refresh_token", &second.refresh)]);
    let request = TokenRequest {
        params: &request,
        authorization: Some("Basic c2VjcmV0"),
    };
    watch.debug("Params", request.params);
    watch.debug("AuthorizationServer", &w.server);
    watch.debug("Engine", &w.engine);
    watch.debug("Client", &w.server.client(&w.app.id).unwrap());
    let authorization = w.authorization_of(&second.access);
    watch.debug(
        "Authorization",
        &w.server.authorization(&authorization).unwrap(),
    );
    let form = w.request(&[
        ("grant_type", "refresh_token"),
        ("refresh_token", &second.refresh),
    ]);
    let form = TokenRequest {
        params: &form,
        authorization: None,
    };
    let reply = w.server.token(form).unwrap();
    assert!(reply.status == 200 && reply.body.contains(&second.refresh));
    watch.debug("Reply", &reply);
    let form = w.request(&[("token", &second.access)]);
    let form = TokenRequest {
        params: &form,
        authorization: None,
    };
    let told = w.server.introspect(form).unwrap();
    watch.text("what introspection tells", &told.body);
    watch.text("metadata", &w.server.metadata());
    watch.text("resource metadata", &w.server.resource_metadata());
    if let Some(jwts) = &w.jwts {
        watch.debug("Jwts", jwts);
        watch.debug("SigningKeyInfo", &jwts.signing_keys());
        // The public half alone.
        watch.text("the key set", &jwts.jwks());
        let verdict = jwts.verify(&second.access, &crate::world::READ).unwrap();
        watch.debug("Verdict", &verdict);
        let key = w.engine.key(w.key_of(&second.access)).unwrap();
        watch.debug("Key", &key);
        let grant = verdict.into_result().unwrap();
        let issued = jwts.issue(&grant, None).unwrap();
        watch.add_access(issued.expose());
        watch.debug("IssuedJwt", &issued);
        jwts.rotate_signing_keys().unwrap();
        for seed in signing_seeds(&w) {
            watch.canaries.push(Canary::new("a signing key", &seed));
        }
        let retired = jwts.signing_keys();
        let retired = retired
            .iter()
            .find(|key| key.usage == gatekey_oauth::KeyUse::Retired);
        jwts.revoke_signing_key(&retired.unwrap().kid).unwrap();
        watch.bytes("the file after a rotation of signing keys", &file(&path));
    }

    // What is refused.
    let secret = w.app.secret.clone().unwrap();
    for (name, value) in [
        ("code", unused.as_str()),
        ("refresh_token", second.refresh.as_str()),
        ("client_secret", secret.as_str()),
        ("token", second.access.as_str()),
    ] {
        // A secret in the place of all else.
        let all = params(&[
            ("client_id", value),
            ("grant_type", value),
            ("redirect_uri", value),
            ("scope", value),
            (name, value),
        ]);
        watch.debug("Params", &all);
        let request = TokenRequest {
            params: &all,
            authorization: None,
        };
        for reply in [w.server.token(request), w.server.revoke(request)] {
            let reply = reply.unwrap();
            watch.debug("Reply", &reply);
            watch.text("a refusal", &reply.body);
        }
        let asked = w.server.authorize(&all, b"session").unwrap();
        watch.debug("Authorize", &asked);
        watch.debug("no ticket", &w.approve(value).unwrap());
        watch.debug("no client", &w.server.client(value).unwrap());
        if let Some(jwts) = &w.jwts {
            watch.debug("Denial", &jwts.verify(value, &crate::world::READ).unwrap());
        }
    }
    assert!(w.redeem(&code).unwrap().is_err());
    assert_eq!(w.revoke(&second.refresh).unwrap(), 200);
    let trail = w.engine.audit_page(0, 1000).unwrap();
    assert!(trail.entries.len() > 6);
    watch.debug("AuditEntry", &trail.entries);
    watch.debug("CheckReport", &w.engine.check().unwrap());
    // What ends goes, and its pages are free.
    w.clock.advance(std::time::Duration::from_secs(31 * 86_400));
    for _ in 0..4 {
        watch.add_code(&w.code());
    }
    assert_eq!(w.count("authorizations"), 0);
    watch.bytes("the file with free pages", &file(&path));
    let error = {
        // Records that do not decode, in each table.
        let extension = w.engine.extension("oauth").unwrap();
        let held = w.code();
        let tables = ["codes", "clients", "authorizations", "signing_keys"];
        let mut errors = Vec::new();
        for table in tables {
            let spoilt = extension.change(move |tx| {
                for (key, mut record) in tx.page(table, &[], None, 100)? {
                    record.bytes.truncate(record.bytes.len() / 2);
                    tx.put(table, &key, record.version, &record.bytes)?;
                }
                Ok(())
            });
            spoilt.unwrap();
            errors.extend(w.redeem(&held).err());
        }
        watch.debug("CheckReport", &w.engine.check().unwrap());
        if is_jwt {
            errors.extend(Jwts::open(&w.engine, JwtOptions::new(ISSUER, ISSUER)).err());
        }
        errors
    };
    assert!(error.len() > 1, "{error:?}");
    for error in &error {
        watch.both("Error", error);
    }
    w.engine.close().unwrap();
    watch.bytes("the file once closed", &file(&path));
    assert!(watch.texts > 90, "{} texts", watch.texts);
    println!(
        "{} canaries, {} texts, jwt: {is_jwt}",
        watch.canaries.len(),
        watch.texts
    );
}

#[test]
fn no_code_token_or_secret_is_in_the_file_or_in_what_is_printed() {
    look_everywhere(false);
}

#[test]
fn no_signing_key_or_jwt_is_in_the_file_or_in_what_is_printed() {
    look_everywhere(true);
}
