//! Free text: what people write is taken, and nothing that a reader would not see, or
//! would see in another place.

use gatekey::{
    Engine, Error, Invalid, KeyUpdate, KeyspaceUpdate, NewKey, NewKeyspace, OwnerPath, Reason,
    Revocation, Rotation,
};

use crate::common::Store;

/// Everything that takes free text, with the kind that its refusal names.
fn put(engine: &Engine, text: &str) -> Vec<(&'static str, Result<(), Error>)> {
    let new = || NewKey::new("acme_live", "acme").unwrap();
    let key = engine.issue(new()).unwrap().key.id;
    let keyspace = NewKeyspace::new("other").unwrap().description(text);
    let change = KeyspaceUpdate::new().description(text);
    let update = KeyUpdate::new;
    let rotation = |changes| Rotation::at_once().changing(changes);
    vec![
        ("actor", engine.acting_as(text).map(drop)),
        ("description", engine.create_keyspace(keyspace).map(drop)),
        (
            "description",
            engine.update_keyspace("acme_live", change).map(drop),
        ),
        ("name", engine.issue(new().name(text)).map(drop)),
        (
            "description",
            engine.issue(new().description(text)).map(drop),
        ),
        ("label name", engine.issue(new().label(text, "x")).map(drop)),
        (
            "label value",
            engine.issue(new().label("x", text)).map(drop),
        ),
        ("name", engine.update(key, update().name(text)).map(drop)),
        (
            "description",
            engine.update(key, update().description(text)).map(drop),
        ),
        (
            "label name",
            engine.update(key, update().label(text, "x")).map(drop),
        ),
        (
            "label value",
            engine.update(key, update().label("x", text)).map(drop),
        ),
        ("note", engine.suspend("acme/none", Some(text)).map(drop)),
        (
            "name",
            engine
                .rotate(
                    engine.issue(new()).unwrap().key.id,
                    rotation(update().name(text)),
                )
                .map(drop),
        ),
        (
            "note",
            engine
                .revoke(key, Revocation::new(Reason::Cessation).note(text))
                .map(drop),
        ),
        (
            "note",
            engine
                .revoke_owner("acme/none", Revocation::default().note(text))
                .map(drop),
        ),
    ]
}

#[test]
fn what_cannot_be_seen_is_refused_wherever_text_is_taken() {
    for hidden in [
        "\u{200e}",
        "\u{200f}",
        "\u{61c}",
        "\u{200b}",
        "\u{200d}",
        "\u{202e}",
        "\u{2066}",
        "\u{ad}",
        "\u{2060}",
        "\u{feff}",
        "\u{3164}",
        "\u{e0041}",
        "\u{fe0f}",
        "\u{2028}",
        "\n",
    ] {
        let store = Store::new(0, false);
        store.keyspace("acme_live");
        let text = format!("adm{hidden}in");
        for (what, result) in put(&store.engine, &text) {
            assert!(
                matches!(
                    &result,
                    Err(Error::Invalid(Invalid::Malformed(gatekey::ParseError { what: named, why, .. })))
                        if *named == what && why.starts_with("it has U+")
                ),
                "{text:?} as {what}: {result:?}"
            );
        }
        assert!(format!("acme/{text}").parse::<OwnerPath>().is_err());
        store.assert_sound();
    }
}

#[test]
fn what_people_write_is_taken_wherever_text_is() {
    for text in [
        "Z\u{fc}rich, \u{6771}\u{4eac}",
        "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}",
        "team \u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467} \u{2764}\u{fe0f}",
    ] {
        let store = Store::new(0, false);
        store.keyspace("acme_live");
        for (what, result) in put(&store.engine, text) {
            result.unwrap_or_else(|error| panic!("{text:?} as {what}: {error}"));
        }
        store.assert_sound();
    }
}
