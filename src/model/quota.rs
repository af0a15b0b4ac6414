//! Quotas: how many requests a key is good for, with an optional refill each day or
//! month.

use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::model::clock::Timestamp;
use crate::model::error::{Error, Invalid};
#[cfg(feature = "serde")]
use crate::model::serialized::Object;

/// When a quota is refilled, in UTC. A refill replaces the remainder; nothing is
/// carried over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Refill {
    /// At midnight.
    Daily,
    /// At midnight before the first of a month.
    Monthly,
    /// At midnight before a day of each month: a billing period. In a month that is
    /// shorter, before its last day. See [`monthly_from`](Self::monthly_from).
    MonthlyFrom(BillingDay),
}

/// The day of the month on which a billing period begins: 1 to 31.
///
/// ```
/// use gatekey::BillingDay;
///
/// assert_eq!(BillingDay::new(15)?.get(), 15);
/// assert!(BillingDay::new(0).is_err() && BillingDay::new(32).is_err());
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(into = "u8"))]
pub struct BillingDay(u8);

impl BillingDay {
    /// A day of the month.
    ///
    /// # Errors
    /// [`Invalid::Malformed`] for a day that is not 1 to 31.
    pub fn new(day: u8) -> Result<Self, Error> {
        Self::checked(day).ok_or_else(|| {
            let why = "a billing period begins on day 1 to 31";
            Invalid::malformed("billing day", &day.to_string(), why).into()
        })
    }

    pub(crate) fn checked(day: u8) -> Option<Self> {
        (1..=31).contains(&day).then_some(Self(day))
    }

    /// The day.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for BillingDay {
    type Error = Error;

    fn try_from(day: u8) -> Result<Self, Error> {
        Self::new(day)
    }
}

impl From<BillingDay> for u8 {
    fn from(day: BillingDay) -> Self {
        day.0
    }
}

impl std::fmt::Display for BillingDay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Read by hand, as what follows, since an error shows a person what to write.
#[cfg(feature = "serde")]
mod reading {
    use std::fmt;

    use serde::de::{EnumAccess, Error, Unexpected, VariantAccess, Visitor};
    use serde::{Deserialize, Deserializer};

    use super::{BillingDay, Refill};
    use crate::model::serialized::Whole;

    impl<'de> Deserialize<'de> for BillingDay {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let day = Whole::new("a day of the month, 1 to 31");
            let day: u8 = deserializer.deserialize_u8(day)?;
            Self::new(day).map_err(D::Error::custom)
        }
    }

    const NAMES: &[&str] = &["daily", "monthly", "monthly_from"];

    impl<'de> Deserialize<'de> for Refill {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_enum("Refill", NAMES, Refills)
        }
    }

    struct Refills;

    impl<'de> Visitor<'de> for Refills {
        type Value = Refill;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(r#""daily", "monthly" or {"monthly_from": 15}"#)
        }

        fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Refill, A::Error> {
            let (Name(at), given) = data.variant()?;
            match at {
                0 => given.unit_variant().map(|()| Refill::Daily),
                1 => given.unit_variant().map(|()| Refill::Monthly),
                _ => given.newtype_variant().map(Refill::MonthlyFrom),
            }
        }
    }

    /// The place of a name among all.
    struct Name(usize);

    impl<'de> Deserialize<'de> for Name {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_identifier(Names)
        }
    }

    struct Names;

    impl Visitor<'_> for Names {
        type Value = Name;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            Refills.expecting(f)
        }

        fn visit_u64<E: Error>(self, at: u64) -> Result<Name, E> {
            let known = usize::try_from(at).ok().filter(|at| *at < NAMES.len());
            known
                .map(Name)
                .ok_or_else(|| E::invalid_value(Unexpected::Unsigned(at), &self))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Name, E> {
            let known = NAMES.iter().position(|name| *name == text);
            known
                .map(Name)
                .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
        }
    }
}

impl Refill {
    /// Each month, at midnight before a day of it: a customer's billing period. In a
    /// month that is shorter, before its last day: a period from the 31st begins on 28
    /// February, and on 31 March again.
    ///
    /// # Errors
    /// [`Invalid::Malformed`] for a day that is not 1 to 31.
    ///
    /// ```
    /// use gatekey::{Engine, NewKey, NewKeyspace, ManualClock, Options, Quota, Refill};
    ///
    /// let clock = ManualClock::at("2026-01-20T09:00:00Z".parse()?);
    /// let engine = Options::new().clock(clock).open_in_memory()?;
    /// engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// let quota = Quota::new(100_000).refilled(Refill::monthly_from(15)?);
    /// let issued = engine.issue(NewKey::new("acme_live", "acme")?.quota(quota))?;
    /// let refills_at = issued.key.quota.and_then(|quota| quota.refills_at);
    /// assert_eq!(refills_at, Some("2026-02-15T00:00:00Z".parse()?));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn monthly_from(day: u8) -> Result<Self, Error> {
        BillingDay::new(day).map(Self::MonthlyFrom)
    }

    /// The first refill after an instant; never, past the end of time.
    pub(crate) fn after(self, now: Timestamp) -> Timestamp {
        let next = || {
            let today = date_of(now)?;
            match self.day_of_month() {
                None => midnight(today.tomorrow().ok()?),
                Some(day) => {
                    let this_month = in_month(month_of(today), day)?;
                    match today < this_month {
                        true => midnight(this_month),
                        false => midnight(in_month(month_of(today) + 1, day)?),
                    }
                }
            }
        };
        next().unwrap_or(Timestamp::MAX)
    }

    /// The refill that comes so many refills after one; never, past the end of time.
    pub(crate) fn later(self, refill: Timestamp, more: u64) -> Timestamp {
        if more == 0 {
            return refill;
        }
        let then = || match self.day_of_month() {
            None => {
                let days = more.checked_mul(DAY_MS)?;
                let at = refill.unix_ms().checked_add(days)?;
                (at < Timestamp::MAX.unix_ms()).then_some(Timestamp::from_raw(at))
            }
            Some(day) => {
                let month = month_of(date_of(refill)?).checked_add(i64::try_from(more).ok()?)?;
                midnight(in_month(month, day)?)
            }
        };
        then().unwrap_or(Timestamp::MAX)
    }

    /// How many refills there are from one to an instant, both included.
    pub(crate) fn count(self, first: Timestamp, now: Timestamp) -> u64 {
        if first > now {
            return 0;
        }
        let more = match self.day_of_month() {
            None => now.saturating_since(first).as_secs() / (DAY_MS / 1000),
            Some(day) => {
                let months = || {
                    let today = date_of(now)?;
                    let begun = in_month(month_of(today), day)? <= today;
                    let last = month_of(today) - i64::from(!begun);
                    u64::try_from(last - month_of(date_of(first)?)).ok()
                };
                months().unwrap_or(0)
            }
        };
        more + 1
    }

    /// On which day of each month; `None`: every day.
    fn day_of_month(self) -> Option<BillingDay> {
        match self {
            Self::Daily => None,
            Self::Monthly => Some(BillingDay(1)),
            Self::MonthlyFrom(day) => Some(day),
        }
    }
}

const DAY_MS: u64 = 86_400_000;

fn date_of(at: Timestamp) -> Option<Date> {
    let ms = i64::try_from(at.unix_ms()).ok()?;
    let at = jiff::Timestamp::from_millisecond(ms).ok()?;
    Some(at.to_zoned(TimeZone::UTC).date())
}

fn midnight(day: Date) -> Option<Timestamp> {
    let at = day.to_zoned(TimeZone::UTC).ok()?.timestamp();
    let ms = u64::try_from(at.as_millisecond()).ok()?;
    Some(Timestamp::from_raw(ms))
}

/// The months before that of a date, from the year 0 on.
fn month_of(date: Date) -> i64 {
    i64::from(date.year()) * 12 + i64::from(date.month()) - 1
}

/// A day of a month, or the month's last where it is shorter.
fn in_month(month: i64, day: BillingDay) -> Option<Date> {
    let year = i16::try_from(month.div_euclid(12)).ok()?;
    let first = Date::new(year, i8::try_from(month.rem_euclid(12) + 1).ok()?, 1).ok()?;
    let day = i8::try_from(day.0).ok()?.min(first.days_in_month());
    Date::new(year, first.month(), day).ok()
}

impl std::fmt::Display for Refill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Daily => f.pad("daily"),
            Self::Monthly => f.pad("monthly"),
            Self::MonthlyFrom(day) => f.pad(&format!("monthly from day {day}")),
        }
    }
}

/// How many requests a key is good for. A key and its successors by rotation share one.
///
/// ```
/// use gatekey::{Denial, Engine, NewKey, NewKeyspace, Quota, Verdict};
///
/// let engine = Engine::open_in_memory()?;
/// engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
/// let issued = engine.issue(NewKey::new("acme_live", "acme")?.quota(Quota::new(2)))?;
/// let token = issued.token.expose();
/// assert!(engine.verify(token)?.is_granted());
/// assert!(engine.verify(token)?.is_granted());
/// let third = engine.verify(token)?;
/// assert!(matches!(third, Verdict::Denied(Denial::QuotaExhausted { .. })));
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "Object<Given>")
)]
pub struct Quota {
    pub(crate) requests: u64,
    pub(crate) refill: Option<Refill>,
}

/// A quota as it is deserialised, before it is checked.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    requests: u64,
    #[serde(default)]
    refill: Option<Refill>,
}

#[cfg(feature = "serde")]
impl TryFrom<Object<Given>> for Quota {
    type Error = Error;

    fn try_from(Object(given): Object<Given>) -> Result<Self, Error> {
        let quota = Self {
            requests: given.requests,
            refill: given.refill,
        };
        quota.validate()?;
        Ok(quota)
    }
}

impl Quota {
    /// The most requests of a quota.
    pub const REQUESTS_MAX: u64 = 1 << 53;

    /// A number of requests, without a refill. The engine checks it when it is used: 1
    /// to [`REQUESTS_MAX`](Self::REQUESTS_MAX).
    #[must_use]
    pub const fn new(requests: u64) -> Self {
        Self {
            requests,
            refill: None,
        }
    }

    /// A number of requests a day or a month.
    #[must_use]
    pub const fn refilled(mut self, refill: Refill) -> Self {
        self.refill = Some(refill);
        self
    }

    /// How many requests.
    #[must_use]
    pub const fn requests(self) -> u64 {
        self.requests
    }

    /// When the quota is refilled; `None` for never.
    ///
    /// ```
    /// use gatekey::{Quota, Refill};
    ///
    /// assert_eq!(Quota::new(1_000).refill(), None);
    /// assert_eq!(Quota::new(1_000).refilled(Refill::Daily).refill(), Some(Refill::Daily));
    /// ```
    #[must_use]
    pub const fn refill(self) -> Option<Refill> {
        self.refill
    }

    pub(crate) fn validate(self) -> Result<(), Error> {
        if self.requests == 0 || self.requests > Self::REQUESTS_MAX {
            let why = "the requests are not 1 to 2^53";
            return Err(Invalid::malformed("quota", &self.to_string(), why).into());
        }
        Ok(())
    }

    /// How far ahead the second refill after the next can be.
    pub(crate) fn reach(self) -> Duration {
        const DAY: Duration = Duration::from_secs(86_400);
        match self.refill {
            Some(Refill::Daily) => DAY * 3,
            Some(Refill::Monthly | Refill::MonthlyFrom(_)) => DAY * 93,
            None => Duration::MAX,
        }
    }

    /// When a request of a cost is admitted, if no other comes before, where nothing is
    /// left, so much is owed, and `refills_at` is the next refill. What costs more than
    /// the whole waits for no refill.
    pub(crate) fn covers_at(
        self,
        refills_at: Timestamp,
        owed: u64,
        cost: u64,
    ) -> Option<Timestamp> {
        let spare = self.requests.checked_sub(cost)?;
        // A refill pays what is owed first, and what is left of the debt stays.
        let more = owed.saturating_sub(spare).div_ceil(self.requests.max(1));
        let at = self.refill?.later(refills_at, more);
        (refills_at < Timestamp::MAX && at < Timestamp::MAX).then_some(at)
    }

    /// How much of it is taken into memory at a time.
    pub(crate) fn slice(self) -> u64 {
        (self.requests / 100).clamp(10, 1000)
    }
}

impl std::fmt::Display for Quota {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.refill {
            Some(refill) => write!(f, "{} {refill}", self.requests),
            None => write!(f, "{} in all", self.requests),
        }
    }
}

/// A quota as it is in the store, until it is refilled or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Period {
    pub(crate) number: u64,
    pub(crate) revision: u64,
    pub(crate) refills_at: Timestamp,
}

/// How much of a quota is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct QuotaStatus {
    /// The quota.
    pub quota: Quota,
    /// What is left in the store. The engine may hold a slice more in memory, and puts
    /// it back when it closes.
    pub remaining: u64,
    /// The next refill; `None` for never.
    pub refills_at: Option<Timestamp>,
    /// How many requests were used beyond the quota, which only
    /// [`settle`](crate::Engine::settle) can do. What is given back and what is refilled
    /// pays them first.
    #[cfg_attr(feature = "serde", serde(default))]
    pub owed: u64,
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    pub(crate) fn refills() -> impl Strategy<Value = Refill> {
        prop_oneof![
            Just(Refill::Daily),
            Just(Refill::Monthly),
            (1_u8..=31).prop_map(|day| Refill::monthly_from(day).unwrap()),
        ]
    }

    /// From 1970 to some years before the end of time.
    fn instants() -> impl Strategy<Value = Timestamp> {
        (0..253_000_000_000_000_u64).prop_map(Timestamp::from_raw)
    }

    #[test]
    fn a_billing_period_begins_on_its_day_or_on_the_last_of_a_shorter_month() {
        let from = |day| Refill::monthly_from(day).unwrap();
        for (day, now, next) in [
            (15, "2026-01-14T23:59:59.999Z", "2026-01-15T00:00:00Z"),
            (15, "2026-01-15T00:00:00Z", "2026-02-15T00:00:00Z"),
            (15, "2026-12-31T12:00:00Z", "2027-01-15T00:00:00Z"),
            (31, "2026-01-31T00:00:00Z", "2026-02-28T00:00:00Z"),
            (31, "2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z"),
            (31, "2028-02-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            (30, "2028-02-29T00:00:00Z", "2028-03-30T00:00:00Z"),
            (29, "2026-02-28T00:00:00Z", "2026-03-29T00:00:00Z"),
            (1, "2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z"),
        ] {
            assert_eq!(from(day).after(at(now)), at(next), "from {day}, at {now}");
        }
        assert_eq!(from(31).after(Timestamp::MAX), Timestamp::MAX);
    }

    /// A format that is not for people writes a variant's number.
    #[cfg(feature = "serde")]
    #[test]
    fn a_refill_that_there_is_not_is_refused_by_its_number() {
        use serde::Deserialize as _;
        use serde::de::IntoDeserializer as _;
        use serde::de::value::{Error, U32Deserializer};

        let read = |at: u32| {
            let number: U32Deserializer<Error> = at.into_deserializer();
            Refill::deserialize(number)
        };
        assert_eq!(read(0), Ok(Refill::Daily));
        assert_eq!(read(1), Ok(Refill::Monthly));
        let refused = read(3).unwrap_err().to_string();
        assert!(
            refused.starts_with("invalid value: integer `3`"),
            "{refused}"
        );
    }

    proptest! {
        /// A refill is after the instant, at midnight, on its day or on the last of its
        /// month, within the reach, and there is none between.
        #[test]
        fn a_refill_is_the_first_after_an_instant(refill in refills(), now in instants()) {
            let next = refill.after(now);
            let first = (now.unix_ms() / DAY_MS + 1) * DAY_MS;
            let is_one = |at: u64| {
                let date = date_of(Timestamp::from_raw(at)).unwrap();
                match refill {
                    Refill::Daily => true,
                    Refill::Monthly => date.day() == 1,
                    Refill::MonthlyFrom(day) => {
                        let day = i8::try_from(day.get()).unwrap();
                        date.day() == day || date.day() < day && date == date.last_of_month()
                    }
                }
            };
            let expected = (first..).step_by(86_400_000).find(|at| is_one(*at)).unwrap();
            prop_assert_eq!(next.unix_ms(), expected);
            let quota = Quota::new(1).refilled(refill);
            prop_assert!(refill.after(refill.after(next)) <= now.saturating_add(quota.reach()));
        }

        /// Counting refills, and finding one that is so many later, agree with taking them
        /// one after the other.
        #[test]
        fn refills_are_counted_as_they_come(
            refill in refills(), now in instants(), more in 0_u64..60, within in 0..32 * DAY_MS,
        ) {
            let first = refill.after(now);
            let last = (0..more).fold(first, |at, _| refill.after(at));
            prop_assert_eq!(refill.later(first, more), last);
            prop_assert_eq!(refill.count(first, last), more + 1);
            let before_the_next = refill.after(last).unix_ms() - 1;
            let until = before_the_next.min(last.unix_ms() + within);
            prop_assert_eq!(refill.count(first, Timestamp::from_raw(until)), more + 1);
            prop_assert_eq!(refill.count(first, Timestamp::from_raw(first.unix_ms() - 1)), 0);
        }

        /// At the instant that is told, and at no refill before, a request is covered.
        #[test]
        fn a_debt_is_waited_for_as_long_as_it_takes(
            refill in refills(), requests in 1_u64..50, owed in 0_u64..400, cost in 1_u64..60,
        ) {
            let quota = Quota::new(requests).refilled(refill);
            let first = refill.after(at("2026-01-20T00:00:00Z"));
            let told = quota.covers_at(first, owed, cost);
            prop_assert_eq!(told.is_some(), cost <= requests);
            let (mut owed, mut next) = (owed, first);
            for _ in 0..=400 {
                let left = requests.saturating_sub(owed);
                if left >= cost {
                    prop_assert_eq!(told, Some(next));
                    break;
                }
                (owed, next) = (owed.saturating_sub(requests), refill.after(next));
            }
        }
    }
}
