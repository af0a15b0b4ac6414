//! `gatekey import`: each source, a run that was cut off, and what is told of each row.

use serde_json::Value;

use crate::program::{Place, Ran};

/// SHA-256 of `abc`, and SHA-512 of it.
const SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const SHA512: &str = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";

fn place() -> Place {
    let (place, ..) = Place::with_key();
    place
}

fn import(place: &Place, format: &str, source: &str, more: &[&str]) -> Ran {
    let file = place.path().join("source");
    std::fs::write(&file, source).unwrap();
    let file = file.to_str().unwrap();
    let mut args = vec![
        "--json",
        "import",
        "--format",
        format,
        file,
        "--keyspace",
        "acme_live",
    ];
    args.extend(more);
    place.run(&args)
}

fn lines(ran: &Ran) -> Vec<Value> {
    ran.stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The key of a token.
fn found(place: &Place, token: &str) -> Value {
    let ran = place.run_with(&["--json", "find"], token);
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.json()
}

#[test]
fn each_source_says_whose_a_key_is_what_it_may_do_and_when_it_ends() {
    let any = [
        "--lengths",
        "1-64",
        "--below",
        "org",
        "--source-permissions",
    ];
    for (format, source, token, owner) in [
        (
            "unkey",
            format!(r#"[{{"id": "k", "hash": {{"value": "{SHA256}"}}, "externalId": "u1", "permissions": ["read"], "expires": 1924992000000, "enabled": false}}]"#),
            "abc",
            "org/u1",
        ),
        (
            "sanctum",
            format!("id,tokenable_type,tokenable_id,token,abilities,expires_at\n7,App\\Models\\User,9,{SHA256},\"[\"\"read\"\",\"\"*\"\"]\",2031-01-01 00:00:00\n"),
            "7|abc",
            "org/user-9",
        ),
        (
            "drf",
            format!("id,hashed_key,owner,expiry_date,revoked\nAb.x,sha512$${SHA512},u1,2031-01-01 00:00:00+00,t\n"),
            "abc",
            "org/u1",
        ),
        (
            "better-auth",
            "{\"id\": \"k\", \"key\": \"ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0\", \"userId\": \"u1\", \"expiresAt\": \"2031-01-01T00:00:00Z\", \"enabled\": false}\n".to_owned(),
            "abc",
            "org/u1",
        ),
        (
            "litellm",
            format!("token,user_id,team_id,key_alias,expires,blocked\n{SHA256},u1,team-a,etl,2031-01-01 00:00:00,t\n"),
            "abc",
            "org/team-a",
        ),
        (
            "sha256",
            format!("hash,owner,permissions,expires_at,disabled\n{SHA256},u1,read,2031-01-01T00:00:00Z,1\n"),
            "abc",
            "org/u1",
        ),
    ] {
        let place = place();
        let mut more = any.to_vec();
        if format == "litellm" {
            more.extend(["--starts-with", ""]);
        }
        let ran = import(&place, format, &source, &more);
        assert_eq!(ran.code, 0, "{format}: {ran:?}");
        let totals = lines(&ran).pop().unwrap();
        assert_eq!((&totals["rows"], &totals["imported"]), (&1.into(), &1.into()), "{format}");
        let key = found(&place, token);
        assert_eq!(key["owner"], owner, "{format}");
        assert_eq!(key["expires_at"], "2031-01-01T00:00:00Z", "{format}");
        assert_eq!(key["disabled"], format != "sanctum", "{format}");
        assert_eq!(key["labels"]["imported_from"], format);
        if ["unkey", "sanctum", "sha256"].contains(&format) {
            assert_eq!(key["permission_names"], serde_json::json!(["read"]), "{format}");
        }
        let check = place.done(&["--json", "check"]);
        assert_eq!(check.json()["is_sound"], true);
    }
}

#[test]
fn a_dry_run_tells_of_each_row_and_changes_nothing() {
    let place = place();
    let source = format!(
        "hash,owner,permissions\n{SHA256},u1,read\n{SHA256},u2,read\n{other},u3,fly\nnonsense,u4,read\n\
         $2b$12$abcdefghijklmnopqrstuv,u5,read\n{third},,read\n{fourth},a b,read\n",
        other = "1".repeat(64),
        third = "2".repeat(64),
        fourth = "3".repeat(64),
    );
    let more = ["--source-permissions", "--dry-run"];
    let before = place.done(&["--json", "stats"]).stdout;
    let ran = import(&place, "sha256", &source, &more);
    assert_eq!(ran.code, 4, "{ran:?}");
    let lines = lines(&ran);
    let (totals, rows) = lines.split_last().unwrap();
    let mut told: Vec<(u64, &str)> = rows
        .iter()
        .map(|row| {
            (
                row["row"].as_u64().unwrap(),
                row["outcome"].as_str().unwrap(),
            )
        })
        .collect();
    told.sort_unstable();
    let outcomes: Vec<&str> = told.iter().map(|(_, outcome)| *outcome).collect();
    assert_eq!(
        outcomes,
        [
            "imported", "refused", "refused", "refused", "passed", "refused", "refused"
        ]
    );
    assert_eq!(
        (&totals["imported"], &totals["dry_run"]),
        (&1.into(), &true.into())
    );
    assert!(
        !ran.stdout.contains(SHA256) && !ran.stderr.contains(SHA256),
        "no hash is shown"
    );
    assert_eq!(place.done(&["--json", "stats"]).stdout, before);
    assert_eq!(place.done(&["--json", "import", "status"]).stdout, "");
}

/// `TokenForm` says whose a token of gatekey's own is; of these nothing says it.
#[test]
fn tokens_that_begin_as_those_of_the_keyspace_are_counted_and_told() {
    let place = place();
    let told = |ran: &Ran| {
        let said = ran
            .stderr
            .lines()
            .find(|line| line.contains("begin as those"));
        said.map(str::to_owned)
    };
    let alike = "acme_live_of-the-old-system-01\nacme_live_of-the-old-system-02\n\
                 acme_liver_of-the-old-system-03\nlive_acme_live_of-the-old-system\n";
    for more in [&["--owner", "u", "--dry-run"][..], &["--owner", "u"]] {
        let ran = import(&place, "plain", alike, more);
        assert_eq!(ran.code, 0, "{ran:?}");
        let said = told(&ran).unwrap_or_else(|| panic!("{ran:?}"));
        let begins = "2 tokens begin as those of keyspace acme_live do";
        assert!(said.starts_with(begins), "{said}");
        assert!(!ran.stderr.contains("of-the-old-system"), "{ran:?}");
    }
    let other = "live_acme_live_of-another-system\n";
    let ran = import(&place, "plain", other, &["--owner", "u"]);
    assert_eq!((ran.code, told(&ran)), (0, None), "{ran:?}");
    // Where the source keeps a hash, it says how its tokens begin.
    let hashed = format!("hash,start,owner\n{SHA256},acme_live_x,u\n");
    let ran = import(&place, "sha256", &hashed, &["--lengths", "1-64"]);
    assert!(
        told(&ran).is_some_and(|said| said.starts_with("1 tokens begin")),
        "{ran:?}"
    );
}

#[test]
fn a_weak_token_is_taken_only_where_somebody_says_so() {
    let place = place();
    let owner = ["--owner", "u"];
    assert_eq!(import(&place, "plain", "short-token\n", &owner).code, 4);
    assert_eq!(place.run_with(&["verify"], "short-token").code, 7);
    let weak = ["--owner", "u", "--allow-weak", "--name", "weak"];
    assert_eq!(import(&place, "plain", "short-token\n", &weak).code, 0);
    assert_eq!(place.run_with(&["verify"], "short-token").code, 0);
}

/// Killed at any moment, and run again until it is done: each key is there once.
#[test]
fn an_import_that_was_killed_goes_on_where_it_was() {
    let place = place();
    let rows: String = (0..20_000)
        .map(|n| format!("a-token-of-the-old-gateway-{n:05}\n"))
        .collect();
    let file = place.path().join("tokens");
    std::fs::write(&file, rows).unwrap();
    let file = file.to_str().unwrap();
    let args = [
        "import",
        "--format",
        "plain",
        file,
        "--keyspace",
        "acme_live",
        "--owner",
        "many",
    ];
    let mut random = 0x9e37_79b9_u64;
    for _ in 0..6 {
        let _ = place.killed_within(&args, &mut random, 2_500_000);
        let check = place.run(&["check", "--json"]);
        assert_eq!(
            (check.code, check.json()["is_sound"].clone()),
            (0, true.into()),
            "{check:?}"
        );
    }
    let ran = place.done(&args);
    assert!(ran.stdout.contains("20000"), "{ran:?}");
    let status = place.done(&["--json", "import", "status"]).json();
    assert_eq!(
        (&status["keys"], &status["unseen"]),
        (&20_000.into(), &20_000.into())
    );
    for n in [0, 4_999, 5_000, 19_999] {
        let token = format!("a-token-of-the-old-gateway-{n:05}");
        assert_eq!(place.run_with(&["verify"], &token).code, 0);
    }
    let owner = place.done(&["--json", "owner", "show", "many"]).json();
    assert_eq!(owner["keys"], 20_000);
}
