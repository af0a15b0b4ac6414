//! JSON, read strictly: an object with a member twice is refused, at any depth.
//!
//! Readers differ in which of two members with one name they take, and an attacker can
//! make a check see one and a use see the other.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// A whole number from 0 on.
    Unsigned(u64),
    /// Any other number, whose value nothing here asks for.
    OtherNumber,
    /// It may be a secret.
    Text(Zeroizing<String>),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads one value; `None` for what is none, has more behind it, or names a member
    /// twice. Nesting is bounded by serde_json, at 128.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// Reads an object.
    pub(crate) fn object(bytes: &[u8]) -> Option<Vec<(String, Self)>> {
        match Self::read(bytes)? {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn unsigned(&self) -> Option<u64> {
        match self {
            Self::Unsigned(number) => Some(*number),
            _ => None,
        }
    }
}

/// The value of a member.
pub(crate) fn member<'a>(members: &'a [(String, Json)], name: &str) -> Option<&'a Json> {
    let mut found = members.iter().filter(|(known, _)| known == name);
    found.next().map(|(_, value)| value)
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reads;
        impl<'de> Visitor<'de> for Reads {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
                Ok(Json::Bool(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
                Ok(Json::Unsigned(value))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
                Ok(Json::OtherNumber)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
                Ok(Json::OtherNumber)
            }

            fn visit_str<E>(self, value: &str) -> Result<Json, E> {
                Ok(Json::Text(Zeroizing::new(value.to_owned())))
            }

            fn visit_string<E>(self, value: String) -> Result<Json, E> {
                Ok(Json::Text(Zeroizing::new(value)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Json::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
                let mut object: Vec<(String, Json)> = Vec::new();
                while let Some((name, value)) = members.next_entry::<String, Json>()? {
                    if object.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom("a member stands twice"));
                    }
                    // What is looked for below is bounded.
                    if object.len() >= MEMBERS_MAX {
                        return Err(A::Error::custom("too many members"));
                    }
                    object.push((name, value));
                }
                Ok(Json::Object(object))
            }
        }
        from.deserialize_any(Reads)
    }
}

/// The most members of one object.
const MEMBERS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_stands_twice_is_refused_at_any_depth() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"b":{"a":1,"a":2}}"#,
            r#"{"b":[{"a":1,"a":2}]}"#,
        ] {
            assert_eq!(Json::read(text.as_bytes()), None, "{text}");
        }
        assert!(Json::read(br#"{"a":{"a":1},"A":2}"#).is_some());
    }

    #[test]
    fn what_is_not_one_value_is_refused() {
        for text in [
            "",
            "{",
            "{}{}",
            "{}x",
            "{'a':1}",
            "{\"a\":1,}",
            "nul",
            "\u{feff}{}",
        ] {
            assert_eq!(Json::read(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Json::read(b"\"\xff\""), None);
        assert_eq!(Json::read(br#""\ud800""#), None);
        assert_eq!(Json::read("[".repeat(100_000).as_bytes()), None);
        let many: Vec<_> = (0..65).map(|n| format!("\"{n}\":1")).collect();
        assert_eq!(
            Json::read(format!("{{{}}}", many.join(",")).as_bytes()),
            None
        );
    }

    #[test]
    fn only_whole_numbers_are_numbers_of_seconds() {
        for (text, number) in [
            ("7", Some(7)),
            ("7.0", None),
            ("7e0", None),
            ("-7", None),
            ("\"7\"", None),
            ("18446744073709551616", None),
        ] {
            assert_eq!(
                Json::read(text.as_bytes()).unwrap().unsigned(),
                number,
                "{text}"
            );
        }
    }
}
