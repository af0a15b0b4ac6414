//! JSON, read strictly: an object with a member twice is refused, at any depth.
//!
//! Readers differ in which of two members with one name they take, and an attacker can
//! make a check see one and a use see the other.

use std::fmt;
use std::ops::Deref;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

/// A value, whose texts are those of what was read, where they stand there as they are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json<'a> {
    Null,
    Bool(bool),
    /// A whole number from 0 on.
    Unsigned(u64),
    /// Any other number, whose value nothing here asks for.
    OtherNumber,
    Text(Text<'a>),
    List(Vec<Json<'a>>),
    Object(Members<'a>),
}

/// The members of an object, in their order.
pub(crate) type Members<'a> = Vec<(Text<'a>, Json<'a>)>;

/// A text, which may be a secret.
#[derive(Debug, Clone)]
pub(crate) enum Text<'a> {
    Read(&'a str),
    /// It was written with escapes.
    Made(Zeroizing<String>),
}

impl Text<'_> {
    pub(crate) fn into_owned(self) -> Zeroizing<String> {
        match self {
            Self::Read(text) => Zeroizing::new(text.to_owned()),
            Self::Made(text) => text,
        }
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Read(text) => text,
            Self::Made(text) => text,
        }
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<'a> Json<'a> {
    /// Reads one value; `None` for what is none, has more behind it, or names a member
    /// twice. Nesting is bounded by serde_json, at 128.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// Reads an object.
    pub(crate) fn object(bytes: &'a [u8]) -> Option<Members<'a>> {
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
pub(crate) fn member<'j, 'a>(members: &'j Members<'a>, name: &str) -> Option<&'j Json<'a>> {
    let mut found = members.iter().filter(|(known, _)| **known == *name);
    found.next().map(|(_, value)| value)
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reads;
        impl<'de> Visitor<'de> for Reads {
            type Value = Json<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Json<'de>, E> {
                Ok(Json::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
                Ok(Json::Bool(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
                Ok(Json::Unsigned(value))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Json<'de>, E> {
                Ok(Json::OtherNumber)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Json<'de>, E> {
                Ok(Json::OtherNumber)
            }

            fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Json<'de>, E> {
                Ok(Json::Text(Text::Read(value)))
            }

            fn visit_str<E>(self, value: &str) -> Result<Json<'de>, E> {
                let value = Zeroizing::new(value.to_owned());
                Ok(Json::Text(Text::Made(value)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json<'de>, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Json::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json<'de>, A::Error> {
                let mut object: Members<'de> = Vec::new();
                while let Some((name, value)) = members.next_entry::<Json<'de>, Json<'de>>()? {
                    let Json::Text(name) = name else {
                        return Err(A::Error::custom("a name is no text"));
                    };
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
