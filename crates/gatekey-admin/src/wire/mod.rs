//! What callers send: the bodies of requests. A member that is not known is refused, and
//! so is one that stands twice.
//!
//! Times are RFC 3339, durations ISO 8601 with days of 24 hours (`P90D`, `PT15M`).

mod care;
mod imports;
mod keys;
mod keyspaces;
mod owners;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use gatekey::Expiry;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::{MapAccessDeserializer, MapDeserializer};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) use keys::revocation;

pub use care::{PurgeRequest, SnapshotRequest, TrimRequest};
pub use imports::{
    ClaimRequest, ForeignKeyRequest, ImportDryRunRequest, ImportKeysRequest, ImportRequest,
    SunsetRequest,
};
pub use keys::{
    BatchRequest, IssueRequest, KeyChanges, Nothing, RevokeRequest, RevokeTokenRequest,
    RotateRequest, TokenRequest, VerifyRequest,
};
pub use keyspaces::{KeyspaceChanges, KeyspaceRequest, RevokeKeyspaceRequest};
pub use owners::{OwnerChanges, ResumeRequest, RevokeOwnerRequest, SuspendRequest};

/// A change of a member that can be absent: left out, it stays; `null` removes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// As it is.
    #[default]
    Keep,
    /// Removed.
    Clear,
    /// Set to a value.
    Set(T),
}

impl<T> Patch<T> {
    /// Whether nothing is changed.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        matches!(self, Self::Keep)
    }

    /// `None` for what stays, `Some(None)` for what is removed.
    #[must_use]
    pub fn change(self) -> Option<Option<T>> {
        match self {
            Self::Keep => None,
            Self::Clear => Some(None),
            Self::Set(value) => Some(Some(value)),
        }
    }
}

impl<T: Serialize> Serialize for Patch<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Keep | Self::Clear => serializer.serialize_none(),
            Self::Set(value) => serializer.serialize_some(value),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(|value| value.map_or(Self::Clear, Self::Set))
    }
}

impl<T: JsonSchema> JsonSchema for Patch<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Option::<T>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Option::<T>::json_schema(generator)
    }
}

/// A duration, as its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

/// As the engine reads and writes the durations of its own types: this one is a part of
/// an [`Expiry`] there.
impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error as _;
        let whole = serde_json::to_value(Expiry::After(self.0)).map_err(S::Error::custom)?;
        whole["after"].serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let after = MapDeserializer::<_, D::Error>::new(std::iter::once(("after", text)));
        match Expiry::deserialize(MapAccessDeserializer::new(after))? {
            Expiry::After(duration) => Ok(Self(duration)),
            _ => Err(D::Error::custom("not a duration")),
        }
    }
}

impl JsonSchema for Span {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "string", "format": "duration" })
    }
}

/// Reads an object. Derived code reads an array too, by position: `["acme_live", "acme"]`
/// would be a key.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let objects: Vec<Object<T>> = Deserialize::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|Object(value)| value).collect())
}

fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|Object(value)| value)
}

fn maybe_object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let object: Option<Object<T>> = Deserialize::deserialize(deserializer)?;
    Ok(object.map(|Object(value)| value))
}

/// Reads an object of which no name stands twice. Of two, readers differ on which counts.
fn unique<'de, D, T>(deserializer: D) -> Result<BTreeMap<String, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Unique<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Unique<T> {
        type Value = BTreeMap<String, T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut read = BTreeMap::new();
            while let Some((name, value)) = map.next_entry()? {
                if read.insert(name, value).is_some() {
                    return Err(A::Error::custom("a name stands twice in one object"));
                }
            }
            Ok(read)
        }
    }

    deserializer.deserialize_map(Unique(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_left_out_stays_and_null_removes_it() {
        let read = |text: &str| serde_json::from_str::<KeyChanges>(text).unwrap().plan;
        assert_eq!(read("{}"), Patch::Keep);
        assert_eq!(read(r#"{"plan": null}"#), Patch::Clear);
        assert_eq!(read(r#"{"plan": "gold"}"#), Patch::Set("gold".to_owned()));
        for text in ["{}", r#"{"plan":null}"#, r#"{"plan":"gold"}"#] {
            let changes: KeyChanges = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&changes).unwrap(), text);
        }
    }

    #[test]
    fn a_duration_is_read_as_the_engine_reads_it() {
        for (text, seconds) in [("P90D", 90 * 86_400), ("PT15M", 900), ("PT0S", 0)] {
            let span: Span = serde_json::from_str(&format!("{text:?}")).unwrap();
            assert_eq!(span.0, Duration::from_secs(seconds));
            assert_eq!(serde_json::to_value(span).unwrap(), text);
        }
        for bad in [
            "90",
            r#""90d""#,
            r#""-P1D""#,
            r#""P1M""#,
            "null",
            r#"{"after": "P1D"}"#,
        ] {
            assert!(serde_json::from_str::<Span>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_array_is_not_read_by_position_where_an_object_is_asked_for() {
        let key = r#"{"keyspace": "a", "owner": "acme"}"#;
        let batch =
            |key: &str| serde_json::from_str::<BatchRequest>(&format!(r#"{{"keys": [{key}]}}"#));
        assert!(batch(key).is_ok());
        assert!(batch(r#"["a", "acme"]"#).is_err());
        let rotate = |changes: &str| {
            serde_json::from_str::<RotateRequest>(&format!(r#"{{"changes": {changes}}}"#))
        };
        assert!(rotate("null").is_ok() && rotate("{}").is_ok());
        assert!(rotate("[]").is_err());
        assert!(serde_json::from_str::<Object<Nothing>>("[]").is_err());
    }

    #[test]
    fn a_name_that_stands_twice_is_refused_at_every_depth() {
        let issue = |more: &str| {
            let text = format!(r#"{{"keyspace": "a", "owner": "acme", {more}}}"#);
            serde_json::from_str::<IssueRequest>(&text)
        };
        assert!(issue(r#""labels": {"a": "1", "b": "2"}"#).is_ok());
        assert!(issue(r#""labels": {"a": "1", "a": "2"}"#).is_err());
        assert!(issue(r#""name": "x", "name": "y""#).is_err());
    }
}
