//! The corpora of the fuzz targets, through the functions that the targets run:
//! what once was found stays mended, and no corpus rots.

use std::path::PathBuf;

use gatekey::proof::fuzz;

/// Runs every file of a corpus, and says how many there are.
fn replay(target: &str, run: fn(&[u8])) -> usize {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut files: Vec<PathBuf> = std::fs::read_dir(corpus)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    for file in &files {
        {
            println!("{}", file.display());
        }
        run(&std::fs::read(file).unwrap());
    }
    files.len()
}

#[test]
fn every_token_of_the_corpus_keeps_what_the_target_claims() {
    assert!(replay("token", fuzz::token) >= 18);
}

#[cfg(feature = "http")]
#[test]
fn every_header_of_the_corpus_keeps_what_the_target_claims() {
    assert!(replay("headers", fuzz::headers) >= 4);
}

#[test]
fn every_record_of_the_corpus_keeps_what_the_target_claims() {
    // What serde sets aside at most for a list that says it is long is 1 MiB.
    let bounded = |bytes: &[u8]| {
        let taken = allocation_counter::measure(|| fuzz::record(bytes));
        assert!(taken.bytes_max <= 4 << 20, "{taken:?}");
    };
    assert!(replay("record", bounded) >= 9);
}

#[test]
fn every_entry_of_the_corpus_keeps_what_the_target_claims() {
    let bounded = |bytes: &[u8]| {
        let taken = allocation_counter::measure(|| fuzz::entry(bytes));
        assert!(
            taken.bytes_max <= fuzz::entry_bytes_max(bytes.len()),
            "{taken:?}"
        );
    };
    assert!(replay("entry", bounded) >= 13);
}

#[test]
fn every_damaged_store_of_the_corpus_keeps_what_the_target_claims() {
    assert!(replay("store", fuzz::store) >= 8);
}
