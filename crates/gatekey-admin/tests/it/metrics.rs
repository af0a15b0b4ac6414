//! Metrics, as Prometheus reads them.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::api::Api;

fn metrics(api: &Api) -> String {
    api.ask("GET", "/metrics", &Value::Null).text()
}

#[test]
fn metrics_count_keys_by_keyspace_and_name_neither_a_key_nor_an_owner() {
    let (api, id, _) = Api::with_key();
    for days in ["P3D", "P20D", "P60D"] {
        let expiry = json!({"after": days});
        let new = json!({"keyspace": "acme_live", "owner": "acme", "expiry": expiry});
        api.done("POST", "/v1/keys", &new);
    }
    let text = metrics(&api);
    for line in [
        "gatekey_up 1",
        r#"gatekey_keys{keyspace="acme_live",state="active"} 4"#,
        r#"gatekey_keys{keyspace="acme_live",state="revoked"} 0"#,
        r#"gatekey_keys_expiring{within="7d"} 1"#,
        r#"gatekey_keys_expiring{within="30d"} 2"#,
        "gatekey_backup_last_timestamp_seconds 0",
    ] {
        assert!(
            text.lines().any(|known| known == line),
            "{line} is not in\n{text}"
        );
    }
    assert!(!text.contains(&id) && !text.contains("ingest"), "{text}");
    let function = gatekey_admin::metrics(&api.engine).unwrap();
    assert!(
        !function.contains("gatekey_backup"),
        "a host makes backups of its own"
    );
}

/// Left out where there is no promtool; the gate has one.
#[test]
fn promtool_finds_no_fault_in_the_metrics() {
    let (api, _, _) = Api::with_key();
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        assert!(
            std::env::var_os("GATEKEY_TOOLS").is_none(),
            "promtool is missing"
        );
        eprintln!("left out: this takes promtool");
        return;
    };
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(metrics(&api).as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.is_empty(), "{told}");
}
