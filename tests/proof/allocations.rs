//! A verification from memory allocates nothing.

use gatekey::{Engine, NewKey, NewKeyspace, Requirements};

#[test]
fn a_hit_allocates_nothing() {
    let engine = Engine::open_in_memory().unwrap();
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    engine
        .create_keyspace(keyspace.permissions(["read"]))
        .unwrap();
    let spec = |at: usize| {
        NewKey::new("acme_live", format!("customer-{at}/api/bot"))
            .unwrap()
            .permissions(["read"])
    };
    let issued = engine.issue_batch((0..200).map(spec).collect()).unwrap();
    let read = Requirements::new().permissions(&["read"]);
    let verify_all = || {
        for issued in &issued {
            let verdict = engine.verify_with(issued.token.expose(), &read).unwrap();
            assert!(verdict.is_granted());
        }
    };
    let cold = allocation_counter::measure(verify_all);
    // From the file, and a thread's first notes of use.
    assert!(cold.count_total > 0, "nothing is counted");
    let hot = allocation_counter::measure(verify_all);
    assert_eq!(hot.count_total, 0);
    engine.close().unwrap();
}
