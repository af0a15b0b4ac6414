//! The axum router, by way of `../examples/oauth.rs`: an application with a login of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../examples/oauth.rs"]
#[allow(dead_code)]
mod application;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gatekey::{Engine, NewKeyspace};
use gatekey_oauth::router::{OauthRouter, Person, local, to_login};
use gatekey_oauth::server::{
    AuthorizationServer, ClientAuth, NewClient, RegisteredClient, ServerOptions,
};
use gatekey_oauth::{JwtOptions, Jwts};
use serde_json::{Value, json};
use tower::ServiceExt as _;

const URL: &str = "https://app.example.com";
const CB: &str = "https://reader.example.com/cb";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const PKCE: &str =
    "code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256";
const FORM: &str = "application/x-www-form-urlencoded";

/// An answer: status, headers, body.
#[derive(Debug)]
struct Said(u16, HeaderMap, String);

impl Said {
    fn header(&self, name: &str) -> &str {
        self.1.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.2).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

async fn ask(app: &Router, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Said {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(body.to_owned())).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    Said(parts.status.as_u16(), parts.headers, body)
}

/// What a page has in a hidden field.
fn ticket(page: &Said) -> String {
    let found = page.2.split("name=\"ticket\" value=\"").nth(1);
    let found = found.unwrap_or_else(|| panic!("{page:?}"));
    found.split('"').next().unwrap().to_owned()
}

fn part<'a>(url: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = url
        .split_once('?')?
        .1
        .split('&')
        .filter_map(|pair| pair.split_once('='));
    pairs
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
}

fn reader(server: &AuthorizationServer) -> String {
    let new = NewClient::public("Reader", "acme_at".parse().unwrap(), ["read", "write"]);
    server.register(&new.redirect_uri(CB)).unwrap().client.id
}

fn query(client: &str, more: &str) -> String {
    let cb = "https%3A%2F%2Freader.example.com%2Fcb";
    format!(
        "/oauth/authorize?response_type=code&client_id={client}&redirect_uri={cb}&state=s%201&{PKCE}{more}"
    )
}

#[tokio::test]
async fn an_application_with_a_login_of_its_own_lets_others_in_by_oauth() {
    let engine = Engine::open_in_memory().unwrap();
    let (app, server) = application::app(&engine, URL).unwrap();
    let client = reader(&server);

    // The client is refused, and finds the server by what it is told.
    let refused = ask(&app, "GET", "/reports", &[], "").await;
    assert_eq!(refused.0, 401);
    let challenge = refused.header("www-authenticate");
    let at = challenge.split("resource_metadata=\"").nth(1).unwrap();
    let at = at.split('"').next().unwrap().strip_prefix(URL).unwrap();
    let resource = ask(&app, "GET", at, &[], "").await.json();
    assert_eq!(resource["authorization_servers"], json!([URL]));
    let metadata = ask(
        &app,
        "GET",
        "/.well-known/oauth-authorization-server",
        &[],
        "",
    )
    .await;
    assert_eq!(metadata.header("content-type"), "application/json");
    let metadata = metadata.json();
    assert_eq!(
        metadata["authorization_endpoint"],
        format!("{URL}/oauth/authorize")
    );

    // The browser logs in, and comes back to where it was.
    let path = query(&client, "&scope=read%20write");
    let sent = ask(&app, "GET", &path, &[], "").await;
    assert_eq!(sent.0, 303);
    let login = sent.header("location").to_owned();
    assert!(
        login.starts_with("/login?next=%2Foauth%2Fauthorize%3F"),
        "{login}"
    );
    let kind = [("content-type", FORM)];
    let wrong = ask(&app, "POST", &login, &kind, "user=alice&password=wrong").await;
    assert_eq!(wrong.0, 403);
    let sent = ask(
        &app,
        "POST",
        &login,
        &kind,
        "user=alice&password=open+sesame",
    )
    .await;
    assert_eq!((sent.0, sent.header("location")), (303, path.as_str()));
    let cookie = sent
        .header("set-cookie")
        .split(';')
        .next()
        .unwrap()
        .to_owned();

    // She sees who asks, and agrees to a part.
    let page = ask(&app, "GET", &path, &[("cookie", &cookie)], "").await;
    assert_eq!(page.0, 200);
    for shown in [
        "Reader",
        "https://reader.example.com",
        "alice",
        "See your reports",
    ] {
        assert!(page.2.contains(shown), "{shown}");
    }
    let body = format!("ticket={}&s0=1&answer=allow", ticket(&page));
    let post = [("content-type", FORM), ("cookie", cookie.as_str())];
    let sent = ask(&app, "POST", "/oauth/authorize", &post, &body).await;
    assert_eq!(sent.0, 303, "{sent:?}");
    let back = sent.header("location").to_owned();
    assert!(back.starts_with(&format!("{CB}?code=")), "{back}");
    assert_eq!(
        (part(&back, "state"), part(&back, "iss")),
        (Some("s%201"), Some("https%3A%2F%2Fapp.example.com"))
    );
    let again = ask(&app, "POST", "/oauth/authorize", &post, &body).await;
    assert_eq!(
        (again.0, again.header("location")),
        (400, ""),
        "a ticket is good once"
    );

    // The client exchanges the code, and is let in.
    let code = part(&back, "code").unwrap();
    let body = format!(
        "grant_type=authorization_code&client_id={client}&code={code}&code_verifier={VERIFIER}\
         &redirect_uri=https%3A%2F%2Freader.example.com%2Fcb"
    );
    let said = ask(&app, "POST", "/oauth/token", &kind, &body).await;
    assert_eq!(said.0, 200, "{said:?}");
    assert_eq!(said.header("cache-control"), "no-store");
    assert_eq!(said.header("access-control-allow-origin"), "*");
    assert_eq!(said.json()["scope"], "read");
    let access = said.json()["access_token"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {access}");
    let reports = ask(&app, "GET", "/reports", &[("authorization", &bearer)], "").await;
    assert_eq!(
        (reports.0, reports.2.as_str()),
        (200, "the reports of alice")
    );
    let body = format!("client_id={client}&token={access}");
    assert_eq!(
        ask(&app, "POST", "/oauth/revoke", &kind, &body).await.0,
        200
    );
    let reports = ask(&app, "GET", "/reports", &[("authorization", &bearer)], "").await;
    assert_eq!(reports.0, 401);
}

/// docs/OAUTH.md shows the application as it is, and it is short.
#[test]
fn the_guide_shows_the_application_in_under_forty_lines() {
    let program = include_str!("../examples/oauth.rs");
    let begin = program.find("// Beyond the login").unwrap();
    let end = program.find("// The end of it.").unwrap();
    let shown = &program[begin..end];
    let lines = shown.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines < 40, "{lines}");
    let guide = include_str!("../../../docs/OAUTH.md");
    let body = shown.split_once('\n').unwrap().1.trim();
    assert!(
        guide.contains(body),
        "docs/OAUTH.md differs from crates/gatekey-oauth/examples/oauth.rs"
    );
}

/// A server whose person comes from a header.
fn bare(issuer: &str) -> (Router, AuthorizationServer, Engine) {
    let engine = Engine::open_in_memory().unwrap();
    let keyspace = NewKeyspace::new("acme_at")
        .unwrap()
        .permissions(["read", "write"]);
    engine.create_keyspace(keyspace).unwrap();
    let jwts = Jwts::open(&engine, JwtOptions::new(issuer, issuer)).unwrap();
    let server = AuthorizationServer::with_jwts(&engine, ServerOptions::new(issuer), jwts).unwrap();
    let oauth = OauthRouter::new(server.clone(), |request| async move {
        let user = request
            .headers
            .get("x-user")
            .map(|user| user.to_str().unwrap().to_owned());
        let user = user.ok_or_else(|| to_login("/login", &request))?;
        let (session, rest) = user.split_once(' ').unwrap();
        let (owner, may) = rest.split_once(' ').unwrap_or((rest, "read write"));
        Ok(Person::new(session, owner.parse().unwrap()).may(may.split(' ')))
    });
    (oauth.build(), server, engine)
}

#[tokio::test]
async fn a_page_is_the_sessions_and_the_persons_that_it_was_made_for() {
    let (app, server, _engine) = bare(URL);
    let client = reader(&server);
    let path = query(&client, "");
    let answer = async |from: &[(&str, &str)], more: &str| {
        let page = ask(&app, "GET", &path, &[("x-user", "s1 alice")], "").await;
        let body = format!("ticket={}&s0=1&s1=1&answer=allow{more}", ticket(&page));
        let mut headers = vec![("content-type", FORM)];
        headers.extend(from);
        ask(&app, "POST", "/oauth/authorize", &headers, &body).await
    };
    let alice = ("x-user", "s1 alice");
    let said = answer(&[alice], "").await;
    assert_eq!(said.0, 303, "{said:?}");
    for from in [
        // Another session, another person in this one, nobody.
        &[("x-user", "s2 alice")][..],
        &[("x-user", "s1 mallory")],
        &[],
        // A form on another page.
        &[alice, ("sec-fetch-site", "cross-site")],
        &[alice, ("sec-fetch-site", "same-site")],
    ] {
        let said = answer(from, "").await;
        assert_eq!((said.0, said.header("location")), (400, ""), "{from:?}");
    }
    let said = answer(&[alice, ("sec-fetch-site", "same-origin")], "").await;
    assert_eq!(said.0, 303);
    // Said twice, it is nothing.
    assert_eq!(answer(&[alice], "&answer=deny").await.0, 400);
    // Who may read alone agrees to reading alone, whatever her browser sends.
    let small = ("x-user", "s1 alice read");
    let said = answer(&[small], "").await;
    let code = part(said.header("location"), "code").unwrap().to_owned();
    let body = format!(
        "grant_type=authorization_code&client_id={client}&code={code}&code_verifier={VERIFIER}\
         &redirect_uri={CB}"
    );
    let said = ask(
        &app,
        "POST",
        "/oauth/token",
        &[("content-type", FORM)],
        &body,
    )
    .await;
    assert_eq!(said.json()["scope"], "read");
    let said = answer(&[("x-user", "s1 alice other")], "").await;
    assert_eq!(
        part(said.header("location"), "error"),
        Some("access_denied")
    );
}

#[tokio::test]
async fn who_is_not_logged_in_is_sent_to_no_client() {
    let (app, server, _engine) = bare(URL);
    let client = reader(&server);
    // What the client is told by a redirect, it is told after a login alone.
    for wrong in ["&scope=nothing", "&resource=https://other.example"] {
        let path = query(&client, wrong);
        let said = ask(&app, "GET", &path, &[], "").await;
        assert!(
            said.header("location").starts_with("/login?next="),
            "{said:?}"
        );
        let said = ask(&app, "GET", &path, &[("x-user", "s1 alice")], "").await;
        assert!(
            said.header("location").starts_with(&format!("{CB}?error=")),
            "{said:?}"
        );
        assert_eq!(said.header("referrer-policy"), "no-referrer");
        assert_eq!((said.0, said.header("cache-control")), (303, "no-store"));
    }
    // And a client that nobody knows costs nobody a login.
    for path in [
        query("c_unknown", ""),
        query(&client, "&client_id=c_unknown"),
        query(&client, "").replace("reader.example.com", "evil.example"),
        query(&client, "&redirect_uri=https://evil.example"),
        "/oauth/authorize".to_owned(),
        "/oauth/authorize?%zz".to_owned(),
    ] {
        for headers in [&[][..], &[("x-user", "s1 alice")]] {
            let said = ask(&app, "GET", &path, headers, "").await;
            assert_eq!((said.0, said.header("location")), (400, ""), "{path}");
            assert!(said.header("content-type").starts_with("text/html"));
            assert!(
                said.header("content-security-policy")
                    .contains("frame-ancestors 'none'")
            );
        }
    }
}

fn basic(client: &RegisteredClient) -> String {
    let pair = format!("{}:{}", client.client.id, client.expose_secret().unwrap());
    format!("Basic {}", STANDARD.encode(pair))
}

#[tokio::test]
async fn clients_are_read_by_their_media_type_and_once() {
    let (app, server, _engine) = bare(URL);
    let keyspace = "acme_at".parse().unwrap();
    let by = ClientAuth::ClientSecretBasic;
    let service = NewClient::service("S", by, keyspace, ["read"], "acme/s".parse().unwrap());
    let service = server.register(&service).unwrap();
    let header = basic(&service);
    let token = async |kind: &str, authorization: &[&str], body: &str| {
        let mut headers: Vec<_> = authorization
            .iter()
            .map(|it| ("authorization", *it))
            .collect();
        headers.push(("content-type", kind));
        ask(&app, "POST", "/oauth/token", &headers, body).await
    };
    let form = "grant_type=client_credentials";
    let json = r#"{"grant_type":"client_credentials"}"#;
    for (kind, body) in [
        (FORM, form),
        ("Application/X-WWW-Form-Urlencoded; charset=UTF-8", form),
        ("application/json", json),
        ("application/json;charset=utf-8", json),
    ] {
        let said = token(kind, &[&header], body).await;
        assert_eq!(said.0, 200, "{kind}: {said:?}");
        assert!(Jwts::is_jwt(said.json()["access_token"].as_str().unwrap()));
    }
    for (kind, body) in [
        ("text/plain", form),
        ("application/jsonp", json),
        ("multipart/form-data", form),
        (FORM, json),
        ("application/json", form),
        (
            FORM,
            "grant_type=client_credentials&grant_type=client_credentials",
        ),
        (
            "application/json",
            r#"{"grant_type":["client_credentials"]}"#,
        ),
    ] {
        let said = token(kind, &[&header], body).await;
        assert_eq!(
            (said.0, &said.json()["error"]),
            (400, &json!("invalid_request")),
            "{kind} {body}"
        );
        assert_eq!(said.header("cache-control"), "no-store");
    }
    let said = token(FORM, &[&header, &header], form).await;
    assert_eq!(said.json()["error"], "invalid_request");
    let said = token(FORM, &["Bearer x"], form).await;
    assert_eq!(
        (
            said.0,
            said.header("www-authenticate").starts_with("Basic ")
        ),
        (401, true)
    );
    let long = format!("{form}&x={}", "a".repeat(20_000));
    assert_eq!(token(FORM, &[&header], &long).await.0, 413);
    for path in ["/oauth/token", "/oauth/revoke", "/oauth/introspect"] {
        assert_eq!(ask(&app, "GET", path, &[], "").await.0, 405, "{path}");
    }
    let access = token(FORM, &[&header], form).await.json();
    let headers = [("authorization", header.as_str()), ("content-type", FORM)];
    let body = format!("token={}", access["access_token"].as_str().unwrap());
    let told = ask(&app, "POST", "/oauth/introspect", &headers, &body).await;
    assert_eq!(told.json()["active"], true);
    // Pages of other origins have no secret, and learn of no token.
    assert_eq!(told.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn an_issuer_with_a_path_is_served_below_it() {
    let (app, server, _engine) = bare("https://api.example.com/v1");
    let metadata = ask(
        &app,
        "GET",
        "/.well-known/oauth-authorization-server/v1",
        &[],
        "",
    )
    .await;
    let metadata = metadata.json();
    for (name, path) in [
        ("jwks_uri", "/v1/oauth/jwks.json"),
        ("token_endpoint", "/v1/oauth/token"),
        ("introspection_endpoint", "/v1/oauth/introspect"),
        ("revocation_endpoint", "/v1/oauth/revoke"),
        ("authorization_endpoint", "/v1/oauth/authorize"),
    ] {
        assert_eq!(metadata[name], format!("https://api.example.com{path}"));
        let method = if name == "jwks_uri" || name == "authorization_endpoint" {
            "GET"
        } else {
            "POST"
        };
        assert_ne!(ask(&app, method, path, &[], "").await.0, 404, "{path}");
    }
    let keys = ask(&app, "GET", "/v1/oauth/jwks.json", &[], "").await;
    assert_eq!(keys.header("content-type"), "application/jwk-set+json");
    assert_eq!(keys.json()["keys"].as_array().unwrap().len(), 2);
    let resource = ask(
        &app,
        "GET",
        "/.well-known/oauth-protected-resource/v1",
        &[],
        "",
    )
    .await;
    assert_eq!(resource.json()["resource"], "https://api.example.com/v1");
    // A page's client asks before it sends.
    let asked = ask(
        &app,
        "OPTIONS",
        "/v1/oauth/token",
        &[("origin", "https://spa.example")],
        "",
    )
    .await;
    assert_eq!(
        (asked.0, asked.header("access-control-allow-origin")),
        (204, "*")
    );
    assert!(
        asked
            .header("access-control-allow-headers")
            .contains("authorization")
    );
    assert_eq!(asked.header("access-control-allow-credentials"), "");
    // A resource at another origin is not this router's to describe.
    let engine = Engine::open_in_memory().unwrap();
    let options = ServerOptions::new(URL).resource("https://other.example");
    let elsewhere = AuthorizationServer::open(&engine, options).unwrap();
    let nobody = |request| async move { Err(to_login("/login", &request)) };
    let app = OauthRouter::new(elsewhere, nobody).build();
    assert_eq!(
        ask(
            &app,
            "GET",
            "/.well-known/oauth-protected-resource",
            &[],
            ""
        )
        .await
        .0,
        404
    );
    drop(server);
}

#[tokio::test]
async fn a_store_that_fails_is_a_503_and_the_application_is_told() {
    let engine = Engine::open_in_memory().unwrap();
    let server = AuthorizationServer::open(&engine, ServerOptions::new(URL)).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = told.clone();
    let nobody = |request| async move { Err(to_login("/login", &request)) };
    let oauth = OauthRouter::new(server, nobody);
    let app = oauth
        .on_error(move |error| telling.lock().unwrap().push(error.to_string()))
        .build();
    engine.close().unwrap();
    let kind = [("content-type", FORM)];
    let said = ask(
        &app,
        "POST",
        "/oauth/token",
        &kind,
        "client_id=c_x&grant_type=refresh_token",
    )
    .await;
    assert_eq!(
        (said.0, &said.json()["error"]),
        (503, &json!("temporarily_unavailable"))
    );
    let said = ask(&app, "GET", "/oauth/authorize?client_id=c_x", &[], "").await;
    assert_eq!((said.0, said.header("location")), (503, ""));
    assert_eq!(told.lock().unwrap().len(), 2);
}

#[test]
fn a_login_leads_to_no_other_origin() {
    for path in ["/", "/oauth/authorize?x=//y", "/a:b"] {
        assert_eq!(local(path), path);
    }
    for elsewhere in [
        "",
        "x",
        "//evil.example",
        "/\\evil.example",
        "\\/evil.example",
        "https://evil.example",
        "javascript:alert(1)",
        "/\r\nset-cookie: x",
        "/ x",
        "/\u{e4}",
        " /x",
        "/\t/evil.example",
    ] {
        assert_eq!(local(elsewhere), "/", "{elsewhere:?}");
    }
}

#[test]
fn debug_of_a_person_shows_no_session() {
    let person = Person::new("hidden", "acme/alice".parse().unwrap()).named("Alice");
    let text = format!("{person:?}");
    assert!(
        text.contains("acme/alice") && text.contains("Alice"),
        "{text}"
    );
    let bytes = format!("{:?}", b"hidden");
    assert!(
        !text.contains("hidden") && !text.contains(bytes.trim_matches(['[', ']'])),
        "{text}"
    );
}
