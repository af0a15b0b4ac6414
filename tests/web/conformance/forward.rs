//! Reverse proxies that ask the server before they pass a request on: the real ones,
//! configured as docs/FORWARD_AUTH.md says.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gatekey_testkit::tools;
use serde_json::json;

use crate::client::{Ask, Reply, curl, ureq};
use crate::server::{Issued, Server};

/// An application that knows no keys: it answers with the headers that reach it.
fn application() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut body = 0;
            for line in reader.by_ref().lines() {
                match line {
                    Ok(line) if !line.is_empty() => {
                        if let Some((name, value)) = line.split_once(": ")
                            && name.eq_ignore_ascii_case("content-length")
                        {
                            body = value.parse().unwrap();
                        }
                        writeln!(head, "{line}").unwrap();
                    }
                    _ => break,
                }
            }
            // What is left unread would reset the connection.
            std::io::copy(&mut reader.take(body), &mut std::io::sink()).unwrap();
            let length = head.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
                 Connection: close\r\n\r\n{head}"
            );
        }
    });
    port
}

struct Proxy {
    child: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a proxy by the block of its configuration in the page, with this test's ports
/// in the place of the page's.
fn start(program: &str, server: &Server, arguments: fn(&Path) -> Vec<String>) -> Option<Proxy> {
    tools::find("curl")?;
    let program_path = tools::find(program)?;
    let page = gatekey_testkit::root().join("docs/FORWARD_AUTH.md");
    let page = std::fs::read_to_string(page).unwrap();
    let block = page
        .split("```")
        .find_map(|block| block.strip_prefix(&format!("{program}\n")))
        .unwrap_or_else(|| panic!("no block for {program}"));
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let folder = tempfile::tempdir().unwrap();
    let text = block
        .replace("127.0.0.1:8080", &format!("127.0.0.1:{port}"))
        .replace("127.0.0.1:9000", server.address())
        .replace("127.0.0.1:3000", &format!("127.0.0.1:{}", application()))
        .replace("FOLDER", folder.path().to_str().unwrap())
        .replace(":PORT", &format!(":{port}"));
    std::fs::write(folder.path().join("configuration.yml"), text).unwrap();
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let mut arguments = arguments(folder.path());
    for argument in &mut arguments {
        *argument = argument.replace("PORT", &port.to_string());
    }
    let child = Command::new(program_path)
        .args(arguments)
        .current_dir(folder.path())
        .env("HOME", folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::from(log.try_clone().unwrap()))
        .stderr(Stdio::from(log))
        .spawn()
        .unwrap();
    let proxy = Proxy {
        child,
        url: format!("http://127.0.0.1:{port}"),
        _folder: folder,
    };
    let begun = Instant::now();
    loop {
        // Traefik listens before it knows its routes, and says 404 until then.
        if TcpStream::connect(("127.0.0.1", port)).is_ok()
            && ureq(&proxy.url, &Ask::get("/things")).status != 404
        {
            return Some(proxy);
        }
        if begun.elapsed() > Duration::from_secs(120) {
            let log = std::fs::read_to_string(proxy._folder.path().join("log"));
            panic!("{program} does not start: {}", log.unwrap_or_default());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn status(proxy: &Proxy, ask: &Ask<'_>) -> u16 {
    ureq(&proxy.url, ask).status
}

/// What is the same behind each of them.
fn holds(server: &Server, proxy: &Proxy, name: &str) {
    let reader = server.issue("tiered", "acme/etl", &json!({ "permissions": ["read"] }));
    let writer = server.issue(
        "tiered",
        "acme",
        &json!({ "permissions": ["read", "write"] }),
    );
    let ask = |path, key: &Issued| Ask::get(path).bearer(&key.token);
    let post = |path, key: &Issued| Ask::post(path).bearer(&key.token);

    let passed = ureq(&proxy.url, &ask("/things?page=2", &reader));
    assert_eq!(passed.status, 200, "{name}: {passed:?}");
    let head = passed.body.to_ascii_lowercase();
    for line in [
        "get /things?page=2 http/1.1",
        "x-gatekey-result: granted",
        "x-gatekey-owner: acme/etl",
        &format!("x-gatekey-key: {}", reader.id.to_ascii_lowercase()),
        "x-gatekey-keyspace: tiered",
        "x-gatekey-permissions: read",
    ] {
        assert_eq!(
            head.matches(&format!("{line}\n")).count(),
            1,
            "{name}: {line} in {head}"
        );
    }
    assert!(!head.contains("authorization"), "{name}: {head}");
    assert!(!passed.body.contains(&reader.token), "{name}");

    // Refusals.
    let missing = ureq(&proxy.url, &Ask::get("/things"));
    assert_eq!(missing.status, 401, "{name}: {missing:?}");
    assert!(
        missing
            .header("www-authenticate")
            .is_some_and(|told| told.starts_with("Bearer"))
    );
    assert_eq!(
        status(proxy, &Ask::get("/things").bearer("nonsense")),
        401,
        "{name}"
    );
    assert_eq!(status(proxy, &post("/things", &reader)), 403, "{name}");
    assert_eq!(status(proxy, &post("/things", &writer)), 200, "{name}");
    let with_body = post("/things", &writer).json(&json!({ "a": "b".repeat(10_000) }));
    assert_eq!(status(proxy, &with_body), 200, "{name}");
    let twice = ask("/things", &writer).header("Authorization", "Bearer x");
    assert_eq!(status(proxy, &twice), 400, "{name}");
    assert_eq!(
        status(proxy, &post("/things/..%2Fother", &writer)),
        400,
        "{name}"
    );

    // A limit is a limit, and not a fault of the server.
    let asked = json!({ "permissions": ["read"], "quota": 1 });
    let limited = server.issue("tiered", "acme", &asked);
    assert_eq!(status(proxy, &ask("/things", &limited)), 200, "{name}");
    let exhausted = ureq(&proxy.url, &ask("/things", &limited));
    assert_eq!(exhausted.status, 429, "{name}: {exhausted:?}");

    // An identity of the client's own making.
    for header in [
        "X-Gatekey-Owner",
        "X_Gatekey_Owner",
        "x-gatekey_permissions",
    ] {
        for key in [Some(&reader), None] {
            let ask = Ask::get("/things").header(header, "root");
            let ask = match key {
                Some(key) => ask.bearer(&key.token),
                None => ask,
            };
            let reply: Reply = ureq(&proxy.url, &ask);
            assert!(!reply.body.contains("root"), "{name}: {header} {reply:?}");
            // Caddy takes those away that it would take for one of its own.
            let is_taken_away = name == "Caddy" && header.contains('_');
            let passes = if key.is_some() { 200 } else { 401 };
            let expected = if is_taken_away { passes } else { 400 };
            assert_eq!(reply.status, expected, "{name}: {header} {reply:?}");
        }
    }
    // Headers that `Connection` names are for the next hop, and taken away by it.
    let hop =
        ask("/things", &writer).header("Connection", "close, X-Gatekey-Owner, X-Gatekey-Result");
    let reply = curl(&proxy.url, &hop);
    assert_eq!(reply.status, 200, "{name}: {reply:?}");
    let head = reply.body.to_ascii_lowercase();
    for line in ["x-gatekey-owner: acme\n", "x-gatekey-result: granted\n"] {
        assert!(head.contains(line), "{name}: {line} in {head}");
    }
    // What the client says of its own request, the proxy overrules.
    for (method, target) in [
        ("X-Original-Method", "X-Original-URI"),
        ("X-Forwarded-Method", "X-Forwarded-Uri"),
    ] {
        let lie = post("/things", &reader)
            .header(method, "GET")
            .header(target, "/public");
        let told = status(proxy, &lie);
        assert!(told == 403 || told == 400, "{name}: {method} {told}");
    }
    server.revoke(&reader);
    assert_eq!(
        status(proxy, &ask("/things", &reader)),
        401,
        "{name}: at once"
    );
}

#[test]
fn behind_nginx() {
    let server = Server::start();
    let arguments = |folder: &Path| {
        let folder = folder.to_str().unwrap();
        let path = format!("{folder}/configuration.yml");
        ["-p", folder, "-c", &path, "-e", "stderr"]
            .map(str::to_owned)
            .to_vec()
    };
    if let Some(proxy) = start("nginx", &server, arguments) {
        holds(&server, &proxy, "nginx");
    }
}

#[test]
fn behind_caddy() {
    let server = Server::start();
    let arguments = |folder: &Path| {
        let path = folder
            .join("configuration.yml")
            .to_str()
            .unwrap()
            .to_owned();
        ["run", "--adapter", "caddyfile", "--config", &path]
            .map(str::to_owned)
            .to_vec()
    };
    if let Some(proxy) = start("caddy", &server, arguments) {
        holds(&server, &proxy, "Caddy");
    }
}

#[test]
fn behind_traefik() {
    let server = Server::start();
    let arguments = |folder: &Path| {
        let path = folder
            .join("configuration.yml")
            .to_str()
            .unwrap()
            .to_owned();
        vec![
            "--entrypoints.web.address=127.0.0.1:PORT".to_owned(),
            format!("--providers.file.filename={path}"),
        ]
    };
    if let Some(proxy) = start("traefik", &server, arguments) {
        holds(&server, &proxy, "Traefik");
    }
}

/// As Envoy asks, which none of the others does: by the path of the request itself.
#[test]
fn what_envoy_asks_is_answered_for_every_path() {
    let server = Server::start();
    let reader = server.issue("tiered", "acme", &json!({ "permissions": ["read"] }));
    let at = |ask: Ask<'_>, told| {
        let reply = ureq(&server.url, &ask.bearer(&reader.token));
        assert_eq!(reply.status, told, "{reply:?}");
    };
    for path in ["/auth/envoy/", "/auth/envoy/things", "/auth/envoy/a/b?c=d"] {
        at(Ask::get(path), 200);
        at(Ask::post(path), 403);
    }
    at(Ask::get("/auth/envoy/..%2Fnginx"), 400);
    at(Ask::get("/auth/envoyx/things"), 404);
}
