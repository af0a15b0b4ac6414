//! Two of the server in a fleet.

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use gatekey::fleet::Settings;
use gatekey::{Options, Pepper};
use serde_json::json;

use crate::client::{Ask, ureq};
use crate::postgres::Postgres;
use crate::server::Server;

#[test]
fn two_servers_with_one_log_accept_each_others_keys_and_deny_them_at_once() {
    let Some(postgres) = Postgres::start(&[]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let secret = b"32 bytes from a secret manager..";
    std::fs::write(at("pepper"), secret).unwrap();
    let options = Options::new().pepper(Pepper::new(1, secret).unwrap());
    options
        .clone()
        .create(at("one.redb"))
        .unwrap()
        .close()
        .unwrap();
    let log = Arc::new(postgres.config().open("gatekey").unwrap());
    let founded = options
        .fleet(Settings::new(log, "one"))
        .found_fleet(at("one.redb"));
    founded.unwrap().close().unwrap();

    let log = postgres.address("postgres", "disable");
    let server = |node: &str| {
        let (file, pepper) = (at(&format!("{node}.redb")), at("pepper"));
        let arguments = [
            &file,
            "127.0.0.1:0",
            "--log",
            &log,
            "--node",
            node,
            "--pepper",
            &pepper,
        ];
        Server::start_with(&arguments, std::process::Stdio::null())
    };
    let (one, two) = (server("one"), server("two"));
    let key = one.issue("pixxel", "org", &json!({}));
    let account = |server: &Server| {
        let ask = Ask::get("/pixxel/account").header("Authorization", &key.token);
        ureq(&server.url, &ask).status
    };
    assert_eq!(account(&one), 200);
    // An issue does not wait for the other, which has it within its wait for the log.
    let begun = Instant::now();
    while account(&two) != 200 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        sleep(Duration::from_millis(10));
    }
    two.revoke(&key);
    assert_eq!((account(&one), account(&two)), (403, 403));
    // The start of the second has not ended the operator's key of the first.
    assert_eq!(one.show(&key)["state"], "revoked");
}
