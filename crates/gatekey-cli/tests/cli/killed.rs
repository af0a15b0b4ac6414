//! A kill at any moment leaves the store sound, and no file that looks whole and is not.

use crate::program::{Place, gatekey, run};

#[test]
fn a_kill_at_any_moment_leaves_the_store_sound() {
    let (place, _, token) = Place::with_key();
    let one = "{\"keyspace\": \"acme_live\", \"owner\": \"many\", \"labels\": {\"a\": \"b\"}}\n";
    let file = place.path().join("batch");
    std::fs::write(&file, one.repeat(300)).unwrap();
    let batch = file.to_str().unwrap();
    let mut issued = 0;
    let mut random = 0x9e37_79b9_u64;
    let rounds = if cfg!(debug_assertions) { 24 } else { 60 };
    for round in 0..rounds {
        let target = format!("copy{round}.redb");
        let asks: [&[&str]; 6] = [
            &["key", "batch", batch],
            &["key", "issue", "acme_live", "--owner", "one"],
            &["backup", &target],
            &["owner", "revoke", "many", "--yes"],
            &["purge", "--age", "0s", "--yes"],
            &["compact"],
        ];
        let args = asks[round % asks.len()];
        let ended = place.killed_within(args, &mut random, 250_000);
        issued += usize::from(ended);
        let check = place.run(&["check", "--json"]);
        assert_eq!(
            (check.code, check.json()["is_sound"].clone()),
            (0, true.into()),
            "{args:?}: {check:?}"
        );
        assert_eq!(place.run_with(&["verify"], &token).code, 0, "{args:?}");
        let copy = place.path().join(&target);
        if copy.exists() {
            let check = run(
                gatekey()
                    .arg("--store")
                    .arg(&copy)
                    .args(["check", "--json"]),
                "",
            );
            assert_eq!(
                check.code, 0,
                "a backup that has its name is whole: {check:?}"
            );
        }
    }
    println!("{issued} of {rounds} commands ended before they were killed");
}
