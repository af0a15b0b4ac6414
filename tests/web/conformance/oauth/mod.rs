//! Clients of OAuth 2.0 and of JWTs that others made, against the example server.

mod rust;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gatekey_testkit::tools;
use serde_json::{Value, json};

use crate::client::{Ask, unfollowed, ureq};
use crate::server::{Issued, Server};

/// A person with a browser, who has logged in.
struct Person<'a> {
    server: &'a Server,
    cookie: String,
}

impl<'a> Person<'a> {
    fn new(server: &'a Server, key: &Issued) -> Self {
        let form = Ask {
            body: Some(format!("key={}", key.token)),
            ..Ask::post("/tiered/login")
        };
        let reply = unfollowed(&server.url, &form);
        let cookie = reply.header("set-cookie").unwrap().split(';').next();
        Self {
            server,
            cookie: cookie.unwrap().to_owned(),
        }
    }

    /// Visits a URL of an application's, agrees to all of it or, where its state says so,
    /// denies, and gives the URL that the browser is sent back to.
    fn visit(&self, url: &str) -> String {
        let path = url.strip_prefix(&self.server.url).unwrap();
        let page = ureq(
            &self.server.url,
            &Ask::get(path).header("Cookie", &self.cookie),
        );
        assert_eq!(page.status, 200, "{url}: {page:?}");
        let ticket = page.body.split("name=\"ticket\" value=\"").nth(1).unwrap();
        let ticket = ticket.split('"').next().unwrap();
        let answer = if url.contains("state=deny") {
            "deny"
        } else {
            "allow"
        };
        let form = Ask {
            body: Some(format!("ticket={ticket}&s0=1&s1=1&answer={answer}")),
            ..Ask::post("/tiered/oauth/authorize")
        };
        let reply = unfollowed(&self.server.url, &form.header("Cookie", &self.cookie));
        assert_eq!(reply.status, 303, "{reply:?}");
        reply.header("location").unwrap().to_owned()
    }
}

/// A client that is registered.
struct Registered {
    id: String,
    secret: String,
}

fn register(server: &Server, asked: &Value) -> Registered {
    let reply = server.try_to_administer(Ask::post("/admin/clients").json(asked));
    assert_eq!(reply.status, 200, "{reply:?}");
    let reply = reply.json();
    let text = |name: &str| reply[name].as_str().unwrap_or("").to_owned();
    Registered {
        id: text("client_id"),
        secret: text("client_secret"),
    }
}

fn script(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/oauth");
    folder.join(name)
}

/// The folder below which npm has put a package.
fn modules(package: &Path) -> PathBuf {
    package.ancestors().nth(2).unwrap().to_owned()
}

/// A port that nobody has now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A program of others that runs beside the test, and is ended with it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const CALLBACK: &str = "http://127.0.0.1/callback";

/// Runs a client's script, and visits what it asks a person to visit.
fn drive(command: &mut Command, person: &Person<'_>) -> Vec<String> {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = Running(piped.spawn().unwrap());
    let mut stdin = running.0.stdin.take().unwrap();
    let mut done = Vec::new();
    for line in BufReader::new(running.0.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        match line.split_once(' ') {
            Some(("visit", url)) => writeln!(stdin, "{}", person.visit(url)).unwrap(),
            Some(("done", what)) => done.push(what.to_owned()),
            _ => panic!("{line}"),
        }
    }
    assert!(running.0.wait().unwrap().success(), "after {done:?}");
    done
}

/// What a script takes: the server, and two clients.
fn arguments(server: &Server, auth: &str) -> Vec<String> {
    let web = json!({ "name": "Web", "redirect_uri": CALLBACK, "auth": auth });
    let web = register(server, &web);
    let service = json!({ "name": "Service", "owner": "acme/service" });
    let service = register(server, &service);
    vec![
        format!("{}/tiered", server.url),
        format!("{}/tiered/account", server.url),
        CALLBACK.to_owned(),
        web.id,
        web.secret,
        service.id,
        service.secret,
    ]
}

fn alice(server: &Server) -> Issued {
    let may = json!({ "permissions": ["read", "write"] });
    server.issue("tiered", "acme/alice", &may)
}

fn node_client(package: &str, auth: &str) -> Option<Vec<String>> {
    let (node, package_file) = tools::find("node22").zip(tools::find(package))?;
    let server = Server::start();
    let person = Person::new(&server, &alice(&server));
    let mut command = Command::new(node);
    command
        .arg(script("clients.js"))
        .arg(modules(&package_file));
    command.arg(package).args(arguments(&server, auth));
    Some(drive(&mut command, &person))
}

const ALL: [&str; 7] = [
    "discovery",
    "code",
    "access",
    "refresh",
    "introspection",
    "revocation",
    "credentials",
];

#[test]
fn oauth4webapi_does_all_that_it_can() {
    if let Some(done) = node_client("oauth4webapi", "client_secret_basic") {
        assert_eq!(done, ALL);
    }
}

#[test]
fn openid_client_does_all_that_it_can() {
    if let Some(done) = node_client("openid-client", "client_secret_basic") {
        let (last, first) = ALL.split_last().unwrap();
        assert_eq!(done, [first, &["denied", last]].concat());
    }
}

#[test]
fn passport_logs_a_person_in() {
    if let Some(done) = node_client("passport-oauth2", "client_secret_post") {
        assert_eq!(done, ["code", "access"]);
    }
}

#[test]
fn authlib_and_requests_oauthlib_do_all_that_they_can() {
    let Some(python) = tools::find("authlib-python") else {
        return;
    };
    for (name, expected) in [
        ("Authlib", &ALL[1..]),
        (
            "requests-oauthlib",
            &["code", "access", "refresh", "credentials"],
        ),
    ] {
        let server = Server::start();
        let person = Person::new(&server, &alice(&server));
        let mut command = Command::new(&python);
        command.arg(script("clients.py")).arg(name);
        command.args(arguments(&server, "client_secret_basic"));
        assert_eq!(drive(&mut command, &person), expected, "{name}");
    }
}

/// The requests of the text, by curl, with its members in its order and no other.
#[test]
fn curl_sends_what_the_text_says() {
    if tools::find("curl").is_none() {
        return;
    }
    let server = Server::start();
    let person = Person::new(&server, &alice(&server));
    let cb = "https://app.example.com/cb";
    let client = register(&server, &json!({ "name": "App", "redirect_uri": cb }));
    let url = format!(
        "{}/tiered/oauth/authorize?client_id={}&redirect_uri={cb}&response_type=code&scope=read%20write",
        server.url, client.id
    );
    let back = person.visit(&url);
    let code = back
        .strip_prefix("https://app.example.com/cb?code=")
        .unwrap();
    let code = code.split('&').next().unwrap();
    let body = format!(
        "{{\n  \"client_id\": \"{}\",\n  \"client_secret\": \"{}\",\n  \"code\": \"{code}\",\n  \
         \"grant_type\": \"authorization_code\",\n  \"redirect_uri\": \"{cb}\"\n}}",
        client.id, client.secret
    );
    let curl = |arguments: &[&str]| {
        let output = Command::new("curl")
            .args(["--silent", "--show-error"])
            .args(arguments)
            .output();
        let output = output.unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|_| panic!("{error}"))
    };
    let token = format!("{}/tiered/oauth/token", server.url);
    let json = "Content-Type: application/json";
    let said = curl(&["-X", "POST", &token, "-H", json, "--data", &body]);
    assert_eq!(said["scope"], "read write", "{said}");
    let bearer = format!(
        "Authorization: Bearer {}",
        said["access_token"].as_str().unwrap()
    );
    let account = format!("{}/tiered/account", server.url);
    assert_eq!(curl(&["-H", &bearer, &account])["owner"], "acme/alice");
}

/// The suite that the Model Context Protocol has for authorization servers.
#[test]
fn the_suite_of_mcp_for_authorization_servers_passes() {
    let (Some(node), Some(package)) = (tools::find("node22"), tools::find("mcp-conformance"))
    else {
        return;
    };
    let server = Server::start();
    let person = Person::new(&server, &alice(&server));
    let client = json!({ "name": "Suite", "redirect_uri": CALLBACK, "public": true });
    let client = register(&server, &client);
    let program = std::fs::canonicalize(package).unwrap();
    let program = program.parent().unwrap().join("dist/index.js");
    let port = free_port().to_string();
    let issuer = format!("{}/tiered", server.url);
    let mut command = Command::new(node);
    command
        .arg(program)
        .args(["authorization", "--url", &issuer]);
    command.args([
        "--client-id",
        &client.id,
        "--port",
        &port,
        "--resource",
        &issuer,
    ]);
    let mut running = Running(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut told = Vec::new();
    for line in BufReader::new(running.0.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if line.starts_with(&format!("{issuer}/oauth/authorize?")) {
            let back = person.visit(&line);
            let at = format!("http://127.0.0.1:{port}");
            let path = back.strip_prefix(&at).unwrap();
            // It says so before it listens.
            let begun = Instant::now();
            while TcpStream::connect(at.trim_start_matches("http://")).is_err() {
                assert!(begun.elapsed() < Duration::from_secs(60), "nobody listens");
                std::thread::sleep(Duration::from_millis(20));
            }
            assert_eq!(ureq(&at, &Ask::get(path)).status, 200);
        }
        told.push(line);
    }
    let told = told.join("\n");
    assert!(running.0.wait().unwrap().success(), "{told}");
    assert!(told.contains("authorization-code-grant"), "{told}");
    assert!(!told.contains("FAILURE"), "{told}");
}

#[test]
fn pyjwt_and_jose_verify_our_jwts_by_our_key_set() {
    let server = Server::start();
    let key = server.issue("onecodex", "lab", &json!({ "permissions": ["read"] }));
    let exchange = Ask::post("/one-codex/jwt").header("X-API-Key", &key.token);
    let jwt = ureq(&server.url, &exchange).json()["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let issuer = format!("{}/one-codex", server.url);
    let keys = format!("{issuer}/jwks.json");
    assert_verified_elsewhere([&jwt, &keys, &issuer, "EdDSA"]);
}

/// Our JWTs of other algorithms.
#[cfg(feature = "aws-lc")]
#[test]
fn pyjwt_and_jose_verify_es256_and_rs256_by_our_key_set() {
    use gatekey::{Engine, NewKey, NewKeyspace, Requirements};
    use gatekey_oauth::{Algorithm, JwtOptions, Jwts};

    const ISSUER: &str = "https://api.example.com";
    for algorithm in [Algorithm::Es256, Algorithm::Rs256] {
        let engine = Engine::open_in_memory().unwrap();
        engine
            .create_keyspace(NewKeyspace::new("lab").unwrap())
            .unwrap();
        let key = engine.issue(NewKey::new("lab", "lab").unwrap()).unwrap();
        let options = JwtOptions::new(ISSUER, ISSUER).algorithm(algorithm);
        let jwts = Jwts::open(&engine, options).unwrap();
        let jwt = jwts.exchange(key.token.expose(), &Requirements::new(), None);
        let jwt = jwt.unwrap().unwrap();
        let keys = serve(jwts.jwks());
        assert_verified_elsewhere([jwt.expose(), &keys, ISSUER, algorithm.name()]);
    }
}

/// A URL at which there is a key set, for as long as the test runs.
#[cfg(feature = "aws-lc")]
fn serve(set: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            assert!(lines.take_while(|line| !line.is_empty()).count() > 1);
            let len = set.len();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
            write!(stream, "{head}\r\nContent-Length: {len}\r\n\r\n{set}").unwrap();
        }
    });
    url
}

/// Asserts that a JWT of the owner `lab` is good for PyJWT and jose, by the key set at a
/// URL, and with another signature is not.
fn assert_verified_elsewhere(arguments: [&str; 4]) {
    let python = tools::find("authlib-python").map(|python| {
        let mut command = Command::new(python);
        command.arg(script("keys.py"));
        (command, None)
    });
    let node = tools::find("node22")
        .zip(tools::find("jose"))
        .map(|(node, jose)| {
            let mut command = Command::new(node);
            command.arg(script("keys.js"));
            (command, Some(modules(&jose)))
        });
    for (mut command, folder) in python.into_iter().chain(node) {
        let output = command.args(arguments).args(folder).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        let problems = String::from_utf8_lossy(&output.stderr);
        assert_eq!(told, "lab\nrefused\n", "{}: {problems}", arguments[3]);
    }
}

/// The page for consent in Chromium: with the keyboard alone, without a script, checked by
/// axe-core, and framed by nobody.
#[test]
fn the_page_for_consent_is_accessible_and_works_without_a_script() {
    let (Some(node), Some(playwright), Some(_), Some(chromium)) = (
        tools::find("node22"),
        tools::find("playwright-core"),
        tools::find("axe-core"),
        tools::find("chromium"),
    ) else {
        return;
    };
    let server = Server::start();
    let key = alice(&server);
    let client = json!({ "name": "Reports & <more>", "redirect_uri": CALLBACK });
    let client = register(&server, &client);
    let port = free_port();
    let url = format!(
        "{}/tiered/oauth/authorize?response_type=code&client_id={}\
         &redirect_uri=http%3A%2F%2F127.0.0.1%3A{port}%2Fcallback",
        server.url, client.id
    );
    let output = Command::new(node)
        .arg(script("page.js"))
        .arg(modules(&playwright))
        .arg(chromium)
        .args([&url, &key.token, &port.to_string()])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    let mut lines = told.lines();
    let code = lines.next().and_then(|line| line.strip_prefix("code "));
    let code = code.unwrap_or_else(|| panic!("{told}{error}"));
    assert_eq!(
        lines.collect::<Vec<_>>(),
        ["access_denied", "unframed"],
        "{told}{error}"
    );
    // She took one box away.
    let exchange = Ask::post("/tiered/oauth/token").json(&json!({
        "client_id": client.id,
        "client_secret": client.secret,
        "code": code,
        "grant_type": "authorization_code",
        "redirect_uri": format!("http://127.0.0.1:{port}/callback"),
    }));
    let said = ureq(&server.url, &exchange);
    assert_eq!(said.json()["scope"], "read", "{said:?}");
}
