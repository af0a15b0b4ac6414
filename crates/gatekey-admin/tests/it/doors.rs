//! The doors: who is let in, and what is left of them.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use gatekey::Engine;
use gatekey_admin::Admin;
use serde_json::{Value, json};

use crate::api::{ADMIN, Api, request, send};
use crate::document::{document, operations};
use crate::hostile::example;

/// Sends a request, and reads the answer: its status and its body.
fn http<S: std::io::Read + std::io::Write>(
    mut stream: S,
    method: &str,
    path: &str,
    head: &str,
    body: &str,
) -> (u16, String) {
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n{head}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    (status, body)
}

const JSON: &str = "Content-Type: application/json\r\n";

#[test]
fn without_an_operator_the_router_of_the_process_answers_401() {
    let engine = Engine::open_in_memory().unwrap();
    let router = Admin::new(engine.clone()).router();
    let reply = send(&router, request("GET", "/v1/stats", &Value::Null, None));
    assert_eq!(
        (reply.status.as_u16(), reply.code().as_str()),
        (401, "unauthenticated")
    );
    engine.close().unwrap();
}

#[test]
fn the_door_of_tcp_asks_for_an_admin_key_and_nothing_is_open_without_its_keyspace() {
    let engine = Engine::open_in_memory().unwrap();
    let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = Admin::new(engine.clone());
    assert!(admin.open_tcp(listener()).is_err());
    assert!(admin.router_with_keys().is_none());
    let api = Api::over(engine.clone());
    let admin = admin.admin_keyspace(ADMIN.parse().unwrap()).unwrap();
    let door = admin.open_tcp(listener()).unwrap();
    let address = door.address().unwrap();
    let ask = |head: &str| {
        http(
            TcpStream::connect(address).unwrap(),
            "GET",
            "/v1/stats",
            head,
            "",
        )
    };
    assert_eq!(ask("").0, 401);
    let (id, token) = api.admin_key(&["read"]);
    assert_eq!(ask(&format!("Authorization: Bearer {token}\r\n")).0, 200);
    // The address is that of the peer; no header changes it.
    api.done(
        "PATCH",
        &format!("/v1/keys/{id}"),
        &json!({"networks": ["192.0.2.0/24"]}),
    );
    let forged = format!("Authorization: Bearer {token}\r\nX-Forwarded-For: 192.0.2.1\r\n");
    assert_eq!(ask(&forged).0, 403);
    api.done(
        "PATCH",
        &format!("/v1/keys/{id}"),
        &json!({"networks": ["127.0.0.0/8"]}),
    );
    assert_eq!(ask(&forged).0, 200);
    door.close();
    assert!(TcpStream::connect(address).is_err());
    engine.close().unwrap();
}

#[test]
fn a_client_that_says_nothing_holds_up_neither_others_nor_the_end() {
    let engine = Engine::open_in_memory().unwrap();
    let admin = Admin::new(engine.clone())
        .admin_keyspace(ADMIN.parse().unwrap())
        .unwrap();
    let door = admin
        .open_tcp(TcpListener::bind("127.0.0.1:0").unwrap())
        .unwrap();
    let address = door.address().unwrap();
    let idle: Vec<TcpStream> = (0..20)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let mut half = TcpStream::connect(address).unwrap();
    half.write_all(b"GET /v1/stats HT").unwrap();
    assert_eq!(
        http(TcpStream::connect(address).unwrap(), "GET", "/", "", "").0,
        401
    );
    let began = std::time::Instant::now();
    door.close();
    assert!(began.elapsed() < Duration::from_secs(60));
    drop((idle, half));
    engine.close().unwrap();
}

/// A request that ends before it says so is not done, even where what came of its body is whole.
#[test]
fn a_request_that_is_cut_off_changes_nothing() {
    let (api, id, token) = Api::with_key();
    let (_, key) = api.admin_key(&["read", "issue", "revoke", "administer"]);
    let admin = Admin::new(api.engine.clone())
        .admin_keyspace(ADMIN.parse().unwrap())
        .unwrap();
    let door = admin
        .open_tcp(TcpListener::bind("127.0.0.1:0").unwrap())
        .unwrap();
    let address = door.address().unwrap();
    let send = |text: &str, is_whole: bool| {
        let mut stream = TcpStream::connect(address).unwrap();
        // A server that refuses a request early has no use for the rest.
        let _ = stream.write_all(text.as_bytes());
        if !is_whole {
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let head = |method: &str, path: &str| {
        let path = path.replace("{id}", &id).replace("{prefix}", "acme_live");
        format!(
            "{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\
             Authorization: Bearer {key}\r\n{JSON}"
        )
    };
    let before = api.state();
    for (method, path, operation) in operations(&document()) {
        let head = head(&method, &path);
        let mut requests = vec![
            head.clone(),
            format!("{head}X-Long: {}\r\n\r\n", "a".repeat(1 << 20)),
            format!("{head}{}\r\n", "X-Many: 1\r\n".repeat(10_000)),
        ];
        if operation["requestBody"].is_object() {
            let body = example(operation["operationId"].as_str().unwrap(), &token).to_string();
            let len = body.len();
            requests.extend([
                format!("{head}Content-Length: {}\r\n\r\n{body}", len + 1),
                format!("{head}Transfer-Encoding: chunked\r\n\r\n{len:x}\r\n{body}\r\n"),
                // Two lengths, of which a proxy in front may see another one.
                format!(
                    "{head}Content-Length: {len}\r\nContent-Length: {}\r\n\r\n{body}",
                    len + 1
                ),
            ]);
        }
        for request in requests {
            let answer = send(&request, false);
            let shown = &request[..request.len().min(300)];
            let is_refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
            assert!(is_refused, "{shown}: {answer}");
        }
    }
    assert_eq!(api.state(), before);
    // Whole, it is done.
    let body = r#"{"prefix": "whole"}"#;
    let head = head("POST", "/v1/keyspaces");
    let whole = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    let answer = send(&whole, true);
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    door.close();
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::Path;
    use std::process::Command;

    use super::*;

    fn ask(path: &Path, method: &str, to: &str, body: &str) -> (u16, String) {
        http(UnixStream::connect(path).unwrap(), method, to, JSON, body)
    }

    #[test]
    fn the_socket_is_its_owners_alone_and_the_trail_has_the_user() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.redb.sock");
        let engine = Engine::open_in_memory().unwrap();
        let door = Admin::new(engine.clone()).open_socket(&path).unwrap();
        let meta = std::fs::symlink_metadata(&path).unwrap();
        assert!(meta.file_type().is_socket());
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "nothing is left beside"
        );
        let (status, body) = ask(&path, "POST", "/v1/keyspaces", r#"{"prefix": "acme"}"#);
        assert_eq!(status, 201, "{body}");
        let entry = engine.audit(0).last().unwrap().unwrap();
        let user = std::os::unix::fs::MetadataExt::uid(&meta);
        assert_eq!(
            entry.actor.as_deref(),
            Some(format!("unix:{user}").as_str())
        );
        door.close();
        assert!(!path.exists());
        engine.close().unwrap();
    }

    #[test]
    fn a_socket_that_was_left_behind_is_replaced_and_another_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(UnixStream::connect(&path).is_err());
        let engine = Engine::open_in_memory().unwrap();
        let door = Admin::new(engine.clone()).open_socket(&path).unwrap();
        assert_eq!(ask(&path, "GET", "/v1/health", "").0, 200);
        door.close();
        let file = folder.path().join("precious");
        std::fs::write(&file, "data").unwrap();
        std::os::unix::fs::symlink(&file, &path).unwrap();
        for taken in [&file, &path] {
            assert!(Admin::new(engine.clone()).open_socket(taken).is_err());
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "data");
        let long = folder.path().join("l".repeat(120));
        assert!(Admin::new(engine.clone()).open_socket(long).is_err());
        engine.close().unwrap();
    }

    /// Only where the tests run as root, who alone can become another user.
    #[test]
    fn another_user_is_refused_even_where_the_mode_would_let_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let engine = Engine::open_in_memory().unwrap();
        let admin = Admin::new(engine.clone());
        let curl = |path: &Path| {
            let output = Command::new("setpriv")
                .args([
                    "--reuid=65534",
                    "--clear-groups",
                    "curl",
                    "--silent",
                    "--max-time",
                    "20",
                ])
                .args(["--write-out", " %{http_code}", "--unix-socket"])
                .arg(path)
                .arg("http://admin/v1/health")
                .output();
            let output = output.ok()?;
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let open = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        open(folder.path(), 0o755);
        let door = admin.open_socket(&path).unwrap();
        let id = Command::new("id").arg("-u").output().unwrap();
        if id.stdout != b"0\n" || curl(&path).is_none() {
            eprintln!("left out: this takes root, setpriv and curl");
            return;
        }
        assert_eq!(
            curl(&path).unwrap().trim(),
            "000",
            "the mode keeps others out"
        );
        open(&path, 0o666);
        let told = curl(&path).unwrap();
        assert!(
            told.ends_with(" 403") && told.contains("user_not_allowed"),
            "{told}"
        );
        door.close();
        let door = admin.allow_user(65_534).open_socket(&path).unwrap();
        open(&path, 0o666);
        assert!(curl(&path).unwrap().ends_with(" 200"));
        door.close();
        engine.close().unwrap();
    }

    /// The client of a backup goes away in the middle of it: nothing is left, and the next
    /// one is made.
    #[test]
    fn a_client_that_goes_away_in_a_backup_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let room = folder.path().join("room");
        std::fs::create_dir(&room).unwrap();
        let path = folder.path().join("s.sock");
        let engine = Engine::create(folder.path().join("keys.redb")).unwrap();
        let door = Admin::new(engine.clone())
            .backup_dir(&room)
            .open_socket(&path)
            .unwrap();
        for _ in 0..3 {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream
                .write_all(b"GET /v1/backup HTTP/1.1\r\nHost: a\r\n\r\n")
                .unwrap();
            let mut first = [0; 64];
            stream.read_exact(&mut first).unwrap();
            assert!(first.starts_with(b"HTTP/1.1 200"));
        }
        assert_eq!(std::fs::read_dir(&room).unwrap().count(), 0);
        door.close();
        engine.close().unwrap();
    }
}
