#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use gatekey::Engine;

use super::*;
use crate::EXTENSION;

fn keys_of(engine: &Engine) -> Arc<SigningKeys> {
    let extension = engine.extension(EXTENSION).unwrap();
    SigningKeys::open(&extension, Algorithm::EdDsa).unwrap()
}

/// The header is in the hash also where it is not gone over.
#[test]
fn the_hash_of_a_token_is_over_all_of_it() {
    let engine = Engine::open_in_memory().unwrap();
    let keys = keys_of(&engine);
    keys.rotate(Algorithm::EdDsa, Duration::from_secs(60))
        .unwrap();
    let ring = keys.ring.load();
    let headers = ring.signers.values().map(|(signer, _)| &*signer.header);
    assert_eq!(headers.clone().count(), 3);
    let foreign = jws::header_of("another", "EdDSA");
    let headers: Vec<&str> = headers.chain(["", ".", &foreign]).collect();
    let mut texts = BTreeSet::new();
    for header in &headers {
        let rests = [
            "",
            ".",
            ".payload.signature",
            ".payload.signaturf",
            ".qayload.signature",
        ];
        texts.extend(rests.map(|rest| format!("{header}{rest}")));
        // A part of it, or more than it.
        texts.extend(header.char_indices().map(|(at, _)| header[..at].to_owned()));
        texts.extend(
            headers
                .iter()
                .map(|next| format!("{header}{next}.payload.signature")),
        );
    }
    let hash = |text: &String| *keys.hash(text.as_bytes()).as_bytes();
    let hashes: BTreeSet<_> = texts.iter().map(hash).collect();
    assert_eq!(hashes.len(), texts.len());
    assert!(texts.iter().all(|text| hashes.contains(&hash(text))));

    // Of another store each is another.
    let elsewhere = Engine::open_in_memory().unwrap();
    let elsewhere = keys_of(&elsewhere);
    let mut others = texts
        .iter()
        .map(|text| *elsewhere.hash(text.as_bytes()).as_bytes());
    assert!(others.all(|hash| !hashes.contains(&hash)));
}

/// What is remembered under a key's header is not lost when keys are rotated.
#[test]
fn a_rotation_changes_no_hash() {
    let engine = Engine::open_in_memory().unwrap();
    let keys = keys_of(&engine);
    let headers: Vec<String> = {
        let ring = keys.ring.load();
        ring.signers
            .values()
            .map(|(signer, _)| signer.header.clone())
            .collect()
    };
    let hashes = || -> Vec<_> {
        let texts = headers
            .iter()
            .map(|header| format!("{header}.payload.signature"));
        texts.map(|text| keys.hash(text.as_bytes())).collect()
    };
    let before = hashes();
    keys.rotate(Algorithm::EdDsa, Duration::from_secs(60))
        .unwrap();
    assert_eq!(hashes(), before);
}
