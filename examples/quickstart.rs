//! A first program: a store on a file, a key, a verification, a revocation.
//!
//! ```text
//! cargo run -p gatekey-examples --example quickstart              # makes keys.redb here, or opens it
//! cargo run -p gatekey-examples --example quickstart other.redb   # the same with another file
//! ```
#![allow(clippy::print_stdout, reason = "it is a program with a terminal")]

use gatekey::{Engine, NewKey, NewKeyspace, Reason, Requirements, Verdict};

fn main() -> gatekey::Result<()> {
    let file = std::env::args().nth(1);
    let engine = Engine::open_or_create(file.as_deref().unwrap_or("keys.redb"))?;
    engine.ensure_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;

    let new = NewKey::new("acme_live", "acme/ingest")?.permissions(["read"]);
    let issued = engine.issue(new)?;
    let token = issued.token.expose();
    println!("keep this, it is shown once: {token}");

    let write = Requirements::new().permissions(&["write"]);
    println!("to read:  {}", say(&engine.verify(token)?));
    println!("to write: {}", say(&engine.verify_with(token, &write)?));

    engine.revoke(issued.key.id, Reason::KeyCompromise)?;
    println!("revoked:  {}", say(&engine.verify(token)?));
    engine.close()
}

fn say(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Granted(grant) => format!("granted to {}", grant.owner()),
        Verdict::Denied(denial) => format!("denied: {denial}"),
    }
}
