//! Known secrets, looked for wherever they could have got to: in whatever can be
//! printed, and in the file, its free pages and its copies.

use std::fmt::{Debug, Display};
use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use gatekey::{
    Engine, KeyFilter, KeyUpdate, NewKey, NewKeyspace, Options, Pepper, Quota, Reason,
    Requirements, Rotation, Verdict,
};
use rand::TryRng;

const PREFIX: &str = "acme_live";
const SECRET_LEN: usize = 43;
const PEPPER: u8 = 1;

/// Renderings of a secret that must not turn up, as text without white space and
/// without case: so that of a list it does not matter how it is laid out.
pub(crate) struct Canary {
    name: String,
    bytes: Vec<u8>,
    texts: Vec<String>,
}

impl Canary {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let mut texts = Vec::new();
        for piece in bytes.chunks_exact(8) {
            let list =
                |print: fn(&u8) -> String, by| piece.iter().map(print).collect::<Vec<_>>().join(by);
            texts.push(list(|byte| format!("{byte}"), ","));
            texts.push(list(|byte| format!("{byte:02x}"), ""));
            texts.push(list(|byte| format!("{byte:x}"), ","));
            texts.push(list(|byte| format!("0x{byte:x}"), ","));
        }
        // A base64 text says the same in each of three places where it can begin.
        for skipped in 0..3 {
            for engine in [STANDARD, URL_SAFE] {
                let text = engine.encode(&bytes[skipped..]);
                texts.push(text[..16].to_lowercase());
            }
        }
        if bytes.is_ascii() {
            let text = std::str::from_utf8(bytes).unwrap().to_lowercase();
            texts.extend((0..=text.len() - 8).map(|at| text[at..at + 8].to_owned()));
        }
        Self {
            name: name.to_owned(),
            bytes: bytes.to_vec(),
            texts,
        }
    }

    fn is_in_text(&self, text: &str) -> bool {
        let text: String = text.split_whitespace().collect();
        let text = text.to_lowercase();
        self.texts.iter().any(|canary| text.contains(canary))
    }

    /// As bytes, or any half of them, or as text.
    fn is_in_bytes(&self, bytes: &[u8]) -> bool {
        let half = self.bytes.len() / 2;
        let is_in = |part: &[u8]| {
            let mut parts = bytes.windows(part.len());
            parts.any(|window| window[0] == part[0] && window == part)
        };
        is_in(&self.bytes[..half])
            || is_in(&self.bytes[half..])
            || self.is_in_text(&String::from_utf8_lossy(bytes))
    }
}

/// What is looked for, and what was shown so far.
#[derive(Default)]
pub(crate) struct Watch {
    canaries: Vec<Canary>,
    texts: usize,
}

impl Watch {
    pub(crate) fn text(&mut self, what: &str, text: &str) {
        self.texts += 1;
        assert!(!text.is_empty(), "{what} shows nothing");
        for canary in &self.canaries {
            assert!(
                !canary.is_in_text(text),
                "{} in {what}: {text}",
                canary.name
            );
        }
    }

    pub(crate) fn debug(&mut self, what: &str, value: &dyn Debug) {
        for text in [
            format!("{value:?}"),
            format!("{value:#?}"),
            format!("{value:x?}"),
            format!("{value:#X?}"),
        ] {
            self.text(what, &text);
        }
    }

    pub(crate) fn both<T: Debug + Display>(&mut self, what: &str, value: &T) {
        self.debug(what, value);
        self.text(what, &value.to_string());
    }
}

pub(crate) fn secret_of(token: &gatekey::Token) -> &[u8] {
    let text = token.expose().as_bytes();
    &text[text.len() - 6 - SECRET_LEN..text.len() - 6]
}

/// The digest in the file's hot record of a key, found by the key's number, which
/// stands in it: see `record.rs`.
fn digest_in(file: &[u8], id: &gatekey::KeyId) -> [u8; 32] {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => byte - b'0',
        b'A'..=b'Z' => byte - b'A' + 10,
        _ => byte - b'a' + 36,
    };
    let text = id.to_string();
    let raw = text
        .bytes()
        .fold(0, |raw, byte| raw * 62 + u64::from(digit(byte)));
    let is_record = |record: &&[u8]| {
        record[..2] == [1, 1] && record[3..5] == [1, PEPPER] && record[8..16] == raw.to_le_bytes()
    };
    let record = file.windows(104).find(is_record);
    record.expect("the record is in the file")[72..]
        .try_into()
        .unwrap()
}

#[test]
fn a_canary_is_found_in_every_rendering() {
    let digest: Vec<u8> = (0xa0..0xc0).collect();
    let canary = Canary::new("digest", &digest);
    for text in [
        format!("{digest:?}"),
        format!("{digest:#?}"),
        format!("{digest:x?}"),
        format!("{digest:#X?}"),
        digest.iter().map(|byte| format!("{byte:02X}")).collect(),
        STANDARD.encode([&[1], &digest[..]].concat()),
    ] {
        assert!(canary.is_in_text(&text), "{text}");
    }
    assert!(!canary.is_in_text("[1, 2, 3]"));
    let secret = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg";
    let canary = Canary::new("secret", secret);
    assert!(canary.is_in_text("a token: acme_..BCDEFGHI"));
    assert!(canary.is_in_text(&format!("{secret:?}")));
    assert!(canary.is_in_bytes(&[&[0; 99], &secret[..30]].concat()));
    assert!(!canary.is_in_bytes(&[0; 99]));
}

/// A store in which everything is, and its secrets.
pub(crate) struct Full {
    dir: tempfile::TempDir,
    pub(crate) engine: Engine,
    pepper: [u8; 32],
    pub(crate) issued: gatekey::Issued,
}

impl Full {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut pepper = [0; 32];
        rand::rngs::SysRng.try_fill_bytes(&mut pepper).unwrap();
        let engine = options(&pepper)
            .create(dir.path().join("keys.redb"))
            .unwrap();
        let keyspace = NewKeyspace::new(PREFIX).unwrap().permissions(["read"]);
        engine.create_keyspace(keyspace).unwrap();
        let issued = engine.issue(new_key().quota(Quota::new(9))).unwrap();
        Self {
            dir,
            engine,
            pepper,
            issued,
        }
    }

    fn file(&self) -> Vec<u8> {
        fs::read(self.dir.path().join("keys.redb")).unwrap()
    }

    pub(crate) fn watch(&self) -> Watch {
        let digest = digest_in(&self.file(), &self.issued.key.id);
        Watch {
            canaries: vec![
                Canary::new("the secret", secret_of(&self.issued.token)),
                Canary::new("the pepper", &self.pepper),
                Canary::new("the digest", &digest),
            ],
            texts: 0,
        }
    }
}

fn options(pepper: &[u8]) -> Options {
    Options::new()
        .pepper(Pepper::new(PEPPER, pepper).unwrap())
        .resident_bytes(1 << 20)
        .usage_interval(None)
}

fn new_key() -> NewKey {
    NewKey::new(PREFIX, "acme/bot")
        .unwrap()
        .permissions(["read"])
}

#[test]
fn nothing_that_can_be_printed_shows_a_secret_a_digest_or_a_pepper() {
    let store = Full::new();
    let mut watch = store.watch();
    let (engine, issued) = (&store.engine, &store.issued);
    let (key, token) = (issued.key.id, issued.token.expose());
    watch.debug("Engine", engine);
    watch.debug("Options", &options(&store.pepper));
    watch.debug("Pepper", &Pepper::new(PEPPER, store.pepper).unwrap());
    watch.debug("Issued", issued);
    watch.debug("Token", &issued.token);
    watch.both("KeyId", &issued.token.key_id());
    watch.debug("Key", &engine.key(key).unwrap());
    watch.debug("Keyspace", &engine.keyspace(PREFIX).unwrap());
    watch.debug(
        "Page",
        &engine.keys_page(&KeyFilter::new(), None, 9).unwrap(),
    );
    watch.debug("Stats", &engine.stats().unwrap());
    watch.debug("CheckReport", &engine.check().unwrap());
    watch.debug("OwnerState", &engine.suspend("other", Some("why")).unwrap());
    watch.debug("NewKey", &new_key());

    let granted = engine.verify(token).unwrap();
    assert!(granted.is_granted());
    watch.debug("Verdict", &granted);
    let read = Requirements::new().permissions(&["write"]);
    watch.debug("Requirements", &read);
    let mut denials = vec![
        engine.verify_with(token, &read).unwrap(),
        engine.verify(token.replace("live", "test")).unwrap(),
        engine.verify(&token[1..]).unwrap(),
        engine.verify(token.to_uppercase()).unwrap(),
    ];
    let rotation = Rotation::with_grace(Duration::from_secs(60));
    let rotated = engine.rotate(key, rotation).unwrap();
    let new = secret_of(&rotated.token);
    watch.canaries.push(Canary::new("the new secret", new));
    watch.debug("Rotated", &rotated);
    engine.disable(rotated.key.id).unwrap();
    denials.push(engine.verify(rotated.token.expose()).unwrap());
    engine.suspend("acme", None).unwrap();
    denials.push(engine.verify(token).unwrap());
    let revoked = engine.revoke_token(token, Reason::KeyCompromise).unwrap();
    watch.debug("Revoked", &revoked);
    denials.push(engine.verify(token).unwrap());
    assert_eq!(denials.len(), 7);
    for verdict in &denials {
        let Verdict::Denied(denial) = verdict else {
            panic!("{verdict:?}");
        };
        watch.both("Denial", denial);
    }
    let refused = [
        engine.update(key, KeyUpdate::new().name("x")).unwrap_err(),
        engine
            .rotate(rotated.key.id, Rotation::at_once())
            .unwrap_err(),
        engine
            .revoke_token(&token[1..], Reason::Cessation)
            .unwrap_err(),
        options(&[1; 32])
            .open(store.dir.path().join("keys.redb"))
            .unwrap_err(),
        engine
            .backup(store.dir.path().join("keys.redb"))
            .unwrap_err(),
    ];
    for error in &refused {
        watch.both("Error", error);
    }
    watch.debug("AuditEntry", &engine.audit_page(1, 100).unwrap().entries);
    assert!(watch.texts > 100, "only {} texts", watch.texts);
}

/// What is said of a file that is damaged, each byte of the record in its turn,
/// and of one that is opened with another pepper.
#[test]
fn what_is_said_of_a_damaged_record_shows_none_of_it() {
    let store = Full::new();
    let mut watch = store.watch();
    let Full {
        dir,
        engine,
        pepper,
        issued,
    } = store;
    engine.close().unwrap();
    let path = dir.path().join("keys.redb");
    watch.both("Error", &options(&[1; 32]).open(&path).unwrap_err());
    watch.both("Error", &Options::new().open(&path).unwrap_err());
    let whole = fs::read(&path).unwrap();
    let digest = digest_in(&whole, &issued.key.id);
    let at = whole.windows(32).position(|bytes| bytes == digest).unwrap();
    let mut corrupted = 0;
    for byte in at - 72..at + 32 + 8 + 16 {
        let mut damaged = whole.clone();
        damaged[byte] ^= 0x10;
        fs::write(&path, damaged).unwrap();
        let engine = options(&pepper).open(&path).unwrap();
        if let Err(error) = engine.verify(issued.token.expose()) {
            watch.both("Error", &error);
            corrupted += 1;
        }
        if let Err(error) = engine.key(issued.key.id) {
            watch.both("Error", &error);
        }
        watch.debug("CheckReport", &engine.check().unwrap());
        drop(engine);
    }
    assert_eq!(corrupted, 72 + 32 + 8 + 16);
}

/// The digest of a key that was purged may stand in a free page until the page is
/// written anew: this prints whether it does. The secret and the pepper never were
/// in the file.
#[test]
fn neither_secret_nor_pepper_is_ever_in_the_file_or_in_a_copy_of_it() {
    let store = Full::new();
    let mut watch = store.watch();
    let digest = watch.canaries.pop().unwrap();
    let engine = &store.engine;
    let mut looked = 0;
    let mut look = |watch: &Watch, path: &Path| {
        let bytes = fs::read(path).unwrap();
        for canary in &watch.canaries {
            assert!(
                !canary.is_in_bytes(&bytes),
                "{} in step {looked}",
                canary.name
            );
        }
        looked += 1;
        digest.is_in_bytes(&bytes)
    };
    let path = store.dir.path().join("keys.redb");
    let copy = store.dir.path().join("copy.redb");
    // The control: what is there is found.
    assert!(look(&watch, &path), "the digest is not found in the file");

    let _ = engine.verify(store.issued.token.expose()).unwrap();
    look(&watch, &path);
    let rotated = engine
        .rotate(store.issued.key.id, Rotation::at_once())
        .unwrap();
    let new = secret_of(&rotated.token);
    watch.canaries.push(Canary::new("the new secret", new));
    look(&watch, &path);
    engine.backup(&copy).unwrap();
    assert!(look(&watch, &copy), "the digest is not in the backup");
    engine
        .revoke_token(rotated.token.expose(), Reason::Cessation)
        .unwrap();
    look(&watch, &path);
    // A key ended this millisecond is kept.
    std::thread::sleep(Duration::from_millis(2));
    assert_eq!(engine.purge(Duration::ZERO).unwrap().keys, 2);
    let purged = look(&watch, &path);
    fs::remove_file(&copy).unwrap();
    engine.backup(&copy).unwrap();
    let in_copy = look(&watch, &copy);
    store.engine.close().unwrap();
    let closed = look(&watch, &path);
    println!(
        "the digest of a purged key: in the file {purged}, closed {closed}, in a copy {in_copy}"
    );
    assert!(
        !in_copy,
        "a copy is made of what is there, not of free pages"
    );
}
