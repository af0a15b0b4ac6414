//! Something that an owner has of its own, or does not, where its level may have a default.

/// What an owner has in the place of a default of its level: nothing of its own, no bound
/// whatever the default is, or its own.
///
/// `None` and a value convert into it. In JSON it is `null`, `"unlimited"`, or the value.
///
/// ```
/// use gatekey::Setting;
///
/// let at_most = |cap: Setting<u32>| cap.or_default(Some(5));
/// assert_eq!(at_most(None.into()), Some(5));
/// assert_eq!(at_most(7.into()), Some(7));
/// assert_eq!(at_most(Setting::Unlimited), None);
/// assert!(Setting::<u32>::from(None).is_default());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Setting<T> {
    /// As the defaults of its level say.
    #[default]
    Default,
    /// No bound, whatever the defaults of its level say.
    Unlimited,
    /// Its own.
    Own(T),
}

impl<T> Setting<T> {
    /// Whether the defaults of its level hold.
    #[must_use]
    pub const fn is_default(&self) -> bool {
        matches!(self, Self::Default)
    }

    /// Its own, if it has one.
    #[must_use]
    pub fn own(self) -> Option<T> {
        match self {
            Self::Own(own) => Some(own),
            Self::Default | Self::Unlimited => None,
        }
    }

    /// What holds where this is the default of the level; `None`: there is no bound.
    #[must_use]
    pub fn or_default(self, default: Option<T>) -> Option<T> {
        match self {
            Self::Default => default,
            Self::Unlimited => None,
            Self::Own(own) => Some(own),
        }
    }

    /// The same of something else, which its own is made into.
    #[must_use]
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Setting<U> {
        match self {
            Self::Default => Setting::Default,
            Self::Unlimited => Setting::Unlimited,
            Self::Own(own) => Setting::Own(change(own)),
        }
    }
}

impl<T> From<T> for Setting<T> {
    fn from(own: T) -> Self {
        Self::Own(own)
    }
}

impl<T> From<Option<T>> for Setting<T> {
    fn from(own: Option<T>) -> Self {
        own.map_or(Self::Default, Self::Own)
    }
}

/// As the audit trail has it: `none`, `unlimited`, or its own.
impl<T: std::fmt::Display> std::fmt::Display for Setting<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("none"),
            Self::Unlimited => f.write_str(UNLIMITED),
            Self::Own(own) => own.fmt(f),
        }
    }
}

/// How "no bound" is written.
pub(crate) const UNLIMITED: &str = "unlimited";

#[cfg(feature = "serde")]
mod serialized {
    use std::fmt::{self, Formatter};
    use std::marker::PhantomData;

    use serde::de::value::MapAccessDeserializer;
    use serde::de::{Error, IntoDeserializer, MapAccess, Unexpected, Visitor};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Setting, UNLIMITED};

    /// In formats that are not for people, which do not say what comes next.
    #[derive(Serialize, Deserialize)]
    enum Form<T> {
        Default,
        Unlimited,
        Own(T),
    }

    impl<T: Serialize> Serialize for Setting<T> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match (self, serializer.is_human_readable()) {
                (Self::Default, true) => serializer.serialize_none(),
                (Self::Unlimited, true) => serializer.serialize_str(UNLIMITED),
                (Self::Own(own), true) => serializer.serialize_some(own),
                (Self::Default, false) => Form::<&T>::Default.serialize(serializer),
                (Self::Unlimited, false) => Form::<&T>::Unlimited.serialize(serializer),
                (Self::Own(own), false) => Form::Own(own).serialize(serializer),
            }
        }
    }

    impl<'de, T: Deserialize<'de>> Deserialize<'de> for Setting<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            if deserializer.is_human_readable() {
                // As an option, so that a member that is left out is the default.
                return deserializer.deserialize_option(Read(PhantomData));
            }
            Ok(match Form::deserialize(deserializer)? {
                Form::Default => Self::Default,
                Form::Unlimited => Self::Unlimited,
                Form::Own(own) => Self::Own(own),
            })
        }
    }

    struct Read<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Read<T> {
        type Value = Setting<T>;

        fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
            f.write_str("null, \"unlimited\" or a value")
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(Setting::Default)
        }

        fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
            Ok(Setting::Default)
        }

        fn visit_some<D: Deserializer<'de>>(self, some: D) -> Result<Self::Value, D::Error> {
            some.deserialize_any(self)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            match text {
                UNLIMITED => Ok(Setting::Unlimited),
                _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
            }
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
            T::deserialize(number.into_deserializer()).map(Setting::Own)
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
            T::deserialize(number.into_deserializer()).map(Setting::Own)
        }

        fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
            T::deserialize(MapAccessDeserializer::new(members)).map(Setting::Own)
        }
    }
}
