//! Helpers of the feature `serde`: types that are written as their text, and durations.
//!
//! Stored records do not use them: see [`crate::store::stored`].

use std::fmt::{self, Display, Formatter};
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

/// Writes a type as its text, and reads it by `FromStr`, in every format.
macro_rules! as_text {
    ($type:ty, $expected:literal) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str($crate::model::serialized::Text::new($expected))
            }
        }
    };
}
pub(crate) use as_text;

/// Reads a type from its text.
pub(crate) struct Text<T> {
    expected: &'static str,
    reads: PhantomData<T>,
}

impl<T> Text<T> {
    pub(crate) fn new(expected: &'static str) -> Self {
        Self {
            expected,
            reads: PhantomData,
        }
    }
}

impl<T: FromStr<Err: Display>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// Reads a type that is an object, as one: what derives `Deserialize` would take a list of its
/// members by their place, too. In formats that are not for people it is what its format makes
/// of it.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.is_human_readable() {
            true => deserializer.deserialize_map(Members(PhantomData)),
            false => T::deserialize(deserializer),
        }
        .map(Self)
    }
}

struct Members<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
    type Value = T;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members))
    }
}

/// Reads a whole number; of another, an error says in words which there may be.
pub(crate) struct Whole<T> {
    expected: &'static str,
    reads: PhantomData<T>,
}

impl<T> Whole<T> {
    pub(crate) fn new(expected: &'static str) -> Self {
        Self {
            expected,
            reads: PhantomData,
        }
    }
}

impl<T: TryFrom<u64>> Visitor<'_> for Whole<T> {
    type Value = T;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        let read = T::try_from(number);
        read.map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
    }
}

/// A number of requests or of keys.
struct Count(u32);

const COUNTS: &str = "a whole number, 1 to 4,294,967,295";

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u32(Whole::new(COUNTS)).map(Self)
    }
}

/// Reads a number of requests. Whoever takes it refuses 0.
pub(crate) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    Count::deserialize(deserializer).map(|Count(count)| count)
}

/// The same, where it may be absent.
pub(crate) fn maybe_count<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u32>, D::Error> {
    let count: Option<Count> = Deserialize::deserialize(deserializer)?;
    Ok(count.map(|Count(count)| count))
}

/// Reads a cap on a number of keys. A cap of 0 is no cap: an owner could hold no key.
pub(crate) fn cap<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    match maybe_count(deserializer)? {
        Some(0) => Err(Error::invalid_value(Unexpected::Unsigned(0), &COUNTS)),
        cap => Ok(cap),
    }
}

/// A duration as ISO 8601 has it, with days of 24 hours: `P90D`, `PT1M30S`, `PT0.25S`.
struct Iso(Duration);

impl Display for Iso {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0.as_secs(), self.0.subsec_nanos());
        let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
        let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
        f.write_str("P")?;
        if days > 0 {
            write!(f, "{days}D")?;
        }
        if days > 0 && (hours, minutes, seconds, nanos) == (0, 0, 0, 0) {
            return Ok(());
        }
        f.write_str("T")?;
        if hours > 0 {
            write!(f, "{hours}H")?;
        }
        if minutes > 0 {
            write!(f, "{minutes}M")?;
        }
        match nanos {
            0 if seconds == 0 && hours + minutes > 0 => Ok(()),
            0 => write!(f, "{seconds}S"),
            _ => {
                let fraction = format!("{nanos:09}");
                write!(f, "{seconds}.{}S", fraction.trim_end_matches('0'))
            }
        }
    }
}

impl FromStr for Iso {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WHY: &str = "not a duration of ISO 8601 in days, hours, minutes and seconds";
        // Only the standard's form: the parser reads others too, and signs.
        let standard = text.starts_with('P') && !text.contains(['-', '+']);
        let span: jiff::Span = text.parse().ok().filter(|_| standard).ok_or(WHY)?;
        let exact = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours());
        let exact = exact.ok().and_then(|exact| Duration::try_from(exact).ok());
        exact.map(Self).ok_or(WHY)
    }
}

/// For `#[serde(with)]`.
pub(crate) mod duration {
    use super::{Duration, Iso, Text};

    pub(crate) fn serialize<S: serde::Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Iso(*duration))
    }

    pub(crate) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let text = Text::<Iso>::new("a duration, such as P90D or PT1M30S");
        deserializer
            .deserialize_str(text)
            .map(|Iso(duration)| duration)
    }
}

/// For `#[serde(serialize_with)]`, where a duration may be absent.
#[allow(clippy::ref_option)]
pub(crate) fn maybe_duration<S: serde::Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.collect_str(&Iso(*duration)),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_read_as_people_write_them() {
        let day = 86_400;
        for (duration, text) in [
            (Duration::ZERO, "PT0S"),
            (Duration::from_secs(90 * day), "P90D"),
            (Duration::from_secs(90), "PT1M30S"),
            (Duration::from_secs(60), "PT1M"),
            (Duration::from_secs(day + 3_600), "P1DT1H"),
            (Duration::from_secs(3_601), "PT1H1S"),
            (Duration::from_millis(250), "PT0.25S"),
            (Duration::new(day, 1), "P1DT0.000000001S"),
        ] {
            assert_eq!(Iso(duration).to_string(), text);
            assert_eq!(text.parse::<Iso>().unwrap().0, duration);
        }
        assert_eq!(
            "P2W".parse::<Iso>().unwrap().0,
            Duration::from_secs(14 * day)
        );
        for bad in [
            "",
            "P",
            "PT",
            "90",
            "90 days",
            "1h",
            "-P1D",
            "P-1D",
            "PT-1S",
            "+P1D",
            "P1M",
            "P1Y",
            "p1d",
            " P1D",
            "P1D ",
            "PT1",
            "P99999999999D",
            "PT1e3S",
        ] {
            assert!(bad.parse::<Iso>().is_err(), "{bad:?}");
        }
        let _ = Iso(Duration::MAX).to_string();
    }

    #[test]
    fn numbers_and_refills_that_cannot_be_are_refused_in_words() {
        use crate::{LevelDefaults, Limit, Quota};

        fn refused<T: serde::de::DeserializeOwned>(text: &str) -> String {
            let read = serde_json::from_str::<T>(text);
            let told = read.err().map(|error| error.to_string());
            let told = told.unwrap_or_else(|| panic!("{text} is accepted"));
            told.split(" at line").next().unwrap_or_default().to_owned()
        }
        let limit =
            |members: &str| refused::<Limit>(&format!(r#"{{"window": "PT1S", {members}}}"#));
        let counts = "expected a whole number, 1 to 4,294,967,295";
        assert_eq!(
            limit(r#""requests": 4294967296"#),
            format!("invalid value: integer `4294967296`, {counts}")
        );
        for members in [
            r#""requests": -1"#,
            r#""requests": 1.5"#,
            r#""requests": null"#,
            r#""requests": 5, "algorithm": "bucket", "burst": 4294967296"#,
            r#""requests": 5, "algorithm": "bucket", "burst": "9""#,
        ] {
            let told = limit(members);
            assert!(told.ends_with(counts), "{told}");
        }
        for cap in ["0", "4294967296", "-1"] {
            let told = refused::<LevelDefaults>(&format!(r#"{{"cap": {cap}}}"#));
            assert!(told.ends_with(counts), "{told}");
        }
        let refill =
            |refill: &str| refused::<Quota>(&format!(r#"{{"requests": 9, "refill": {refill}}}"#));
        let refills = r#"expected "daily", "monthly" or {"monthly_from": 15}"#;
        assert_eq!(
            refill(r#""weekly""#),
            format!(r#"invalid value: string "weekly", {refills}"#)
        );
        assert_eq!(
            refill(r#"{"weekly_from": 1}"#),
            format!(r#"invalid value: string "weekly_from", {refills}"#)
        );
        assert_eq!(
            refill(r#"{"monthly_from": 300}"#),
            "invalid value: integer `300`, expected a day of the month, 1 to 31"
        );
        assert_eq!(
            refill(r#"{"monthly_from": 32}"#),
            "\"32\" is not a valid billing day: a billing period begins on day 1 to 31"
        );
    }

    proptest! {
        #[test]
        fn every_duration_reads_back(seconds in 0..250_000_000_000_u64, nanos in 0..1_000_000_000_u32) {
            let duration = Duration::new(seconds, nanos);
            let text = Iso(duration).to_string();
            prop_assert_eq!(text.parse::<Iso>().unwrap().0, duration, "{}", text);
        }
    }
}
