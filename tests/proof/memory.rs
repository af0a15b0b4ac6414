//! What is left of secrets in a process's memory once they were dropped: another
//! process looks, byte by byte, at what a core dump would hold.
#![cfg(target_os = "linux")]

use std::hint::black_box;

use gatekey::{NewKey, NewKeyspace, Options, Pepper, Reason, Requirements, Rotation, Token};
use rand::TryRng;
use zeroize::Zeroizing;

use crate::leftovers::{Found, Task, assert_nothing_is_left, look};

const CHILD: &str = "memory::the_process_that_is_looked_into";
const PREFIX: &str = "acme_live";
const SECRET_LEN: usize = 43;

/// The child's part, in a process of its own: each secret that it handles it
/// writes down masked, drops everything, and waits to be looked at. Without its
/// variable this is no test.
#[test]
fn the_process_that_is_looked_into() {
    let Some(mut task) = Task::given() else {
        return;
    };
    let mut bytes = Zeroizing::new(vec![0; 32]);
    rand::rngs::SysRng.try_fill_bytes(&mut bytes).unwrap();
    task.note(&bytes);
    let options = || {
        Options::new()
            .pepper(Pepper::new(1, &bytes).unwrap())
            .resident_bytes(1 << 20)
            .cache_bytes(1 << 20)
    };
    let file = task.dir.join("keys.redb");
    let engine = options().create(&file).unwrap();
    let keyspace = NewKeyspace::new(PREFIX).unwrap();
    engine.create_keyspace(keyspace).unwrap();
    let new = || NewKey::new(PREFIX, "acme/bot").unwrap();
    let name = task.name.clone();
    let mut note = |token: &Token| task.note(secret_of(token));

    let issued = engine.issue(new()).unwrap();
    note(&issued.token);
    let id = issued.key.id;
    match name.as_str() {
        "leak" => std::mem::forget(black_box(issued.token.expose().to_owned())),
        "leave" => leave_on_the_stack(secret_of(&issued.token)),
        "issue" => {
            for issued in engine.issue_batch(vec![new(); 3]).unwrap() {
                note(&issued.token);
            }
        }
        "verify" => {
            for _ in 0..3 {
                assert!(engine.verify(issued.token.expose()).unwrap().is_granted());
            }
            let many = [issued.token.expose()];
            let verdicts = engine.verify_many(&many, &Requirements::new());
            assert!(verdicts.iter().all(Result::is_ok));
        }
        "change" => {
            let rotated = engine.rotate(id, Rotation::at_once()).unwrap();
            note(&rotated.token);
            let token = rotated.token.expose();
            engine.revoke_token(token, Reason::KeyCompromise).unwrap();
        }
        _ => unreachable!("{name}"),
    }
    drop(issued);
    drop(bytes);
    task.be_looked_at();
    engine.close().unwrap();
}

/// A copy that nobody wipes, in a frame that is gone.
#[inline(never)]
fn leave_on_the_stack(secret: &[u8]) {
    let mut copies = [[0; 64]; 32];
    for copy in &mut copies {
        copy[..SECRET_LEN].copy_from_slice(secret);
    }
    black_box(&copies);
}

fn secret_of(token: &Token) -> &[u8] {
    let text = token.expose().as_bytes();
    &text[text.len() - 6 - SECRET_LEN..text.len() - 6]
}

fn is_whole(found: &Found) -> bool {
    // The first is the pepper.
    found.secret == 1 && found.len == SECRET_LEN
}

#[test]
fn a_secret_that_is_left_in_memory_is_found() {
    let [at_once, later] = look(CHILD, "leak");
    let is_found = |found: &Found| is_whole(found) && !found.on_stack;
    assert!(at_once.iter().any(is_found), "{at_once:#?}");
    assert!(later.iter().any(is_found), "{later:#?}");
}

#[test]
fn a_secret_that_is_left_on_the_stack_is_found_until_the_stack_is_used() {
    let [at_once, later] = look(CHILD, "leave");
    let is_found = |found: &Found| is_whole(found) && found.on_stack;
    assert!(at_once.iter().any(is_found), "{at_once:#?}");
    assert!(later.is_empty(), "{later:#?}");
}

#[test]
fn of_a_token_that_was_issued_nothing_is_left_in_memory() {
    assert_nothing_is_left(CHILD, "issue");
}

#[test]
fn of_a_token_that_was_verified_nothing_is_left_in_memory() {
    assert_nothing_is_left(CHILD, "verify");
}

#[test]
fn of_a_token_that_was_rotated_and_revoked_nothing_is_left_in_memory() {
    assert_nothing_is_left(CHILD, "change");
}
