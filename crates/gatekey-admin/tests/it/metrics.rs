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
    let (api, id, token) = Api::with_key();
    for text in [&token, &token, &token, "not a token", "nor this"] {
        let _ = api.engine.verify(text).unwrap();
    }
    let revoked = json!({"keyspace": "acme_live", "owner": "acme"});
    let revoked = api.done("POST", "/v1/keys", &revoked);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let path = format!("/v1/keys/{}/revoke", text(&revoked["key"]["id"]));
    api.done("POST", &path, &json!({}));
    let _ = api.engine.verify(text(&revoked["token"])).unwrap();
    for days in ["P3D", "P20D", "P60D"] {
        let expiry = json!({"after": days});
        let new = json!({"keyspace": "acme_live", "owner": "acme", "expiry": expiry});
        api.done("POST", "/v1/keys", &new);
    }
    let text = metrics(&api);
    for line in [
        "gatekey_up 1",
        r#"gatekey_keys{keyspace="acme_live",state="active"} 4"#,
        r#"gatekey_keys{keyspace="acme_live",state="revoked"} 1"#,
        r#"gatekey_keys_expiring{within="7d"} 1"#,
        r#"gatekey_keys_expiring{within="30d"} 2"#,
        "gatekey_backup_last_timestamp_seconds 0",
        r#"gatekey_verifications_total{keyspace="acme_live",outcome="granted"} 3"#,
        r#"gatekey_verifications_total{keyspace="acme_live",outcome="revoked"} 1"#,
        r#"gatekey_verifications_total{keyspace="",outcome="malformed"} 2"#,
        r#"gatekey_verification_seconds_count{way="file"} 2"#,
        r#"gatekey_resident_lookups_total{result="hit"} 2"#,
        r#"gatekey_resident_lookups_total{result="miss"} 2"#,
    ] {
        assert!(
            text.lines().any(|known| known == line),
            "{line} is not in\n{text}"
        );
    }
    assert!(!text.contains(&id) && !text.contains("ingest"), "{text}");
    let function = gatekey_admin::metrics(&api.engine).unwrap();
    let names = |text: &str| -> Vec<String> {
        let types = text.lines().filter(|line| line.starts_with("# TYPE"));
        types.map(str::to_owned).collect()
    };
    assert_eq!(names(&function), names(&text));
}

/// Left out where there is no promtool; the gate has one.
#[test]
fn promtool_finds_no_fault_in_the_metrics() {
    let (api, _) = Api::in_fleet();
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

const DASHBOARD: &str = include_str!("../../../../docs/grafana.json");
const PAGE: &str = include_str!("../../../../docs/METRICS.md");

/// The names of metrics in a text.
fn names_in(text: &str) -> std::collections::BTreeSet<String> {
    let is_of_name = |char: char| char.is_ascii_alphanumeric() || char == '_';
    text.split(|char| !is_of_name(char))
        .filter(|word| word.starts_with("gatekey_"))
        .map(str::to_owned)
        .collect()
}

/// The names that are served, with those of the parts of a histogram.
fn served(api: &Api) -> std::collections::BTreeSet<String> {
    let text = metrics(api);
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let name = |line: &str| line.split(['{', ' ']).next().unwrap().to_owned();
    samples.map(name).collect()
}

#[test]
fn every_query_of_the_dashboard_names_metrics_and_labels_that_exist() {
    let (api, _) = Api::in_fleet();
    let (text, served) = (metrics(&api), served(&api));
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut queries = 0;
    for panel in panels {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{panel}");
        for target in targets {
            let query = target["expr"].as_str().unwrap();
            queries += 1;
            let names = names_in(query);
            assert!(!names.is_empty(), "{query}");
            for name in names {
                assert!(served.contains(&name), "{name}, in {query}, is no metric");
            }
            for matcher in query.split(['{', ',']).filter(|part| part.contains("=\"")) {
                let label = matcher.split('=').next().unwrap().trim_end_matches('!');
                assert!(text.contains(&format!("{label}=\"")), "{label}, in {query}");
            }
        }
    }
    assert!(queries > 20, "{queries}");
}

/// Each metric with its kind stands in a table of docs/METRICS.md, and no other does.
#[test]
fn the_page_lists_every_metric() {
    let (api, _) = Api::in_fleet();
    let text = metrics(&api);
    let kinds: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split_once(' ').unwrap())
        .collect();
    assert!(kinds.len() > 25);
    for (name, kind) in &kinds {
        assert!(
            PAGE.contains(&format!("| `{name}` | {kind} |")),
            "{name} {kind} is not in docs/METRICS.md"
        );
    }
    let rows = PAGE.lines().filter(|line| line.starts_with("| `gatekey_"));
    assert_eq!(rows.count(), kinds.len());
}

#[test]
fn usage_is_told_by_day_and_by_hour_and_drawn() {
    let (api, id, token) = Api::with_key();
    for text in [&token, &token, "not a token"] {
        let _ = api.engine.verify(text).unwrap();
    }
    api.done("POST", &format!("/v1/keys/{id}/disable"), &json!({}));
    let _ = api.engine.verify(&token).unwrap();
    let ask = |query: &str| api.done("GET", &format!("/v1/usage/history?{query}"), &Value::Null);
    let counts = json!({"granted": 2, "disabled": 1});
    for query in [
        format!("key={id}"),
        "owner_and_below=acme".to_owned(),
        "keyspace=acme_live".to_owned(),
        "keyspace=acme_live&by=hour".to_owned(),
    ] {
        let answer = ask(&query);
        assert_eq!(answer["bins"][0]["counts"], counts, "{query}");
        assert_eq!(
            (&answer["granted"], &answer["denied"]),
            (&json!(2), &json!(1))
        );
        let chart = api.ask("GET", &format!("/v1/usage/chart?{query}"), &Value::Null);
        assert_eq!(chart.headers["content-type"], "image/svg+xml");
        let svg = chart.text();
        assert!(
            svg.contains("<title>2 granted, 1 denied, ") && svg.ends_with("</svg>\n"),
            "{svg}"
        );
        assert_eq!(svg.matches("<rect x=").count(), 2, "{svg}");
        assert!(!svg.contains("script") && !svg.contains(&id), "{svg}");
    }
    let nobodys = ask("unattributed=true");
    assert_eq!(nobodys["bins"][0]["counts"]["malformed"], 1);
    let before = ask("keyspace=acme_live&to=2020-01-02T00:00:00Z");
    assert_eq!(before["bins"], json!([]));
    for query in [
        "",
        "key=0000000000&keyspace=acme_live",
        &format!("key={id}&by=hour"),
        "keyspace=acme_live&by=minute",
        "keyspace=acme_live&from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z",
        "keyspace=acme_live&from=yesterday",
        "unattributed=maybe",
        "unattributed=true&keyspace=acme_live",
    ] {
        for path in ["history", "chart"] {
            let reply = api.ask("GET", &format!("/v1/usage/{path}?{query}"), &Value::Null);
            assert_eq!(reply.status, 400, "{query}: {}", reply.text());
        }
    }
    let none = api.ask("GET", "/v1/usage/history?keyspace=nowhere", &Value::Null);
    assert_eq!(none.status, 404);
}
