//! How people write values.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use gatekey::{Limit, Refill, Setting, Timestamp};
use gatekey_admin::wire::Patch;

/// A time: `90d`, `1h30m`, `P90D`; `none` where a bound is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Option<Duration>);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            text => duration(text).map(|time| Self(Some(time))),
        }
    }
}

impl Time {
    /// The time, where `none` is not one.
    pub(crate) fn some(self) -> Result<Duration, String> {
        self.0.ok_or_else(|| "none is no time here".to_owned())
    }

    pub(crate) fn patch(self) -> Patch<gatekey_admin::wire::Span> {
        match self.0 {
            Some(time) => Patch::Set(gatekey_admin::wire::Span(time)),
            None => Patch::Clear,
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    if text.starts_with('P') {
        let span: Result<gatekey_admin::wire::Span, _> =
            serde_json::from_value(serde_json::Value::String(text.to_owned()));
        return span.map(|span| span.0).map_err(|error| error.to_string());
    }
    let refuse = || format!("{text:?} is no time: write 90d, 12h, 30m, 45s or P90D");
    let (mut seconds, mut rest) = (0_u64, text);
    if rest.is_empty() {
        return Err(refuse());
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .ok_or_else(refuse)?;
        let (number, unit) = rest.split_at_checked(digits).ok_or_else(refuse)?;
        let count: u64 = number.parse().map_err(|_| refuse())?;
        let each = match unit.chars().next() {
            Some('w') => 7 * 86_400,
            Some('d') => 86_400,
            Some('h') => 3_600,
            Some('m') => 60,
            Some('s') => 1,
            _ => return Err(refuse()),
        };
        let part = count.checked_mul(each);
        seconds = part
            .and_then(|part| seconds.checked_add(part))
            .ok_or_else(refuse)?;
        rest = unit.get(1..).unwrap_or("");
    }
    Ok(Duration::from_secs(seconds))
}

/// When a key ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expiry(pub(crate) gatekey::Expiry);

impl FromStr for Expiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self(gatekey::Expiry::Never));
        }
        if let Ok(time) = duration(text) {
            return Ok(Self(gatekey::Expiry::After(time)));
        }
        let instant: Result<Timestamp, _> = text.parse();
        instant.map(|at| Self(gatekey::Expiry::At(at))).map_err(|_| {
            format!("{text:?} is neither a time (90d), nor an instant (2026-12-01T00:00:00Z), nor never")
        })
    }
}

/// `NAME=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label(pub(crate) String, pub(crate) String);

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
        Ok(Self(name.to_owned(), value.to_owned()))
    }
}

/// `60/1m,1000/1h`, `none` for no limit, `plan` for the plan's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limits(pub(crate) Option<Vec<Limit>>);

impl FromStr for Limits {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(Some(Vec::new()))),
            "plan" => Ok(Self(None)),
            text => {
                let limits: Result<_, _> = text.split(',').map(limit).collect();
                limits.map(|limits| Self(Some(limits)))
            }
        }
    }
}

/// `60/1m`, `60/1m:fixed`, `60/1m:bucket=90`; with `:fleet` at the end, for the fleet.
fn limit(text: &str) -> Result<Limit, String> {
    match text.strip_suffix(":fleet") {
        Some(text) => limit_of_server(text).map(Limit::for_fleet),
        None => limit_of_server(text),
    }
}

fn limit_of_server(text: &str) -> Result<Limit, String> {
    let (rate, kind) = text.split_once(':').unwrap_or((text, "sliding"));
    let (requests, window) = rate.split_once('/').ok_or("write 60/1m")?;
    let requests = requests.parse().map_err(|_| "write 60/1m".to_owned())?;
    // `60/m` is `60/1m`.
    let window = match window.starts_with(|c: char| c.is_ascii_digit()) {
        true => duration(window)?,
        false => duration(&format!("1{window}"))?,
    };
    let limit = Limit::new(requests, window).map_err(|error| error.to_string())?;
    match kind.split_once('=').unwrap_or((kind, "")) {
        ("sliding", "") => Ok(limit),
        ("fixed", "") => Ok(limit.fixed()),
        ("bucket", burst) => {
            let burst = burst
                .parse()
                .map_err(|_| "write 60/1m:bucket=90".to_owned())?;
            Ok(limit.bucket(burst))
        }
        _ => Err(format!(
            "{kind:?} is none of sliding, fixed and bucket=N, with :fleet behind it for the fleet"
        )),
    }
}

/// `NAME=LIMITS`.
#[derive(Debug, Clone)]
pub(crate) struct PlanOf(pub(crate) gatekey::Plan);

impl FromStr for PlanOf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, limits) = text.split_once('=').ok_or("write NAME=LIMITS")?;
        let Limits(limits) = limits.parse()?;
        let plan = gatekey::Plan::new(name);
        Ok(Self(
            limits
                .unwrap_or_default()
                .into_iter()
                .fold(plan, gatekey::Plan::limit),
        ))
    }
}

/// `1000`, `1000/day`, `1000/month`, or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quota(pub(crate) Option<gatekey::Quota>);

impl FromStr for Quota {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        let (requests, refill) = text.split_once('/').unwrap_or((text, ""));
        let refuse = || "write 1000, 1000/day, 1000/month or none".to_owned();
        let quota = gatekey::Quota::new(requests.parse().map_err(|_| refuse())?);
        match refill {
            "" => Ok(Self(Some(quota))),
            "day" => Ok(Self(Some(quota.refilled(Refill::Daily)))),
            "month" => Ok(Self(Some(quota.refilled(Refill::Monthly)))),
            _ => Err(refuse()),
        }
    }
}

/// A quota of an owner's own: `none` for the default of its level, `unlimited` for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OwnerQuota(pub(crate) Setting<gatekey::Quota>);

impl FromStr for OwnerQuota {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "unlimited" => Ok(Self(Setting::Unlimited)),
            text => match text.parse() {
                Ok(Quota(quota)) => Ok(Self(quota.into())),
                Err(_) => Err("write 1000, 1000/day, 1000/month, unlimited or none".to_owned()),
            },
        }
    }
}

/// A number of keys, `unlimited`, or `none` for the default of the level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cap(pub(crate) Setting<u32>);

impl FromStr for Cap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(Setting::Default)),
            "unlimited" => Ok(Self(Setting::Unlimited)),
            text => match text.parse() {
                Ok(cap) if cap > 0 => Ok(Self(Setting::Own(cap))),
                _ => Err("write a number from 1 on, unlimited or none".to_owned()),
            },
        }
    }
}

/// How many keys an owner may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PerOwner(pub(crate) gatekey::KeysPerOwner);

impl FromStr for PerOwner {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        use gatekey::KeysPerOwner::{Many, SingleRefusing, SingleSuperseding};
        Ok(Self(match text {
            "many" => Many { cap: None },
            "single" => SingleSuperseding,
            "single-refusing" => SingleRefusing,
            text => match text.parse() {
                Ok(cap) if cap > 0 => Many { cap: Some(cap) },
                _ => return Err("write many, a number, single or single-refusing".to_owned()),
            },
        }))
    }
}

/// Why something is taken away: a name with `-` or `_`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reason(pub(crate) gatekey::Reason);

impl FromStr for Reason {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = serde_json::Value::String(text.replace('-', "_"));
        match serde_json::from_value(name) {
            Ok(reason) if !matches!(reason, gatekey::Reason::Other { .. }) => Ok(Self(reason)),
            _ => Err("there is no such reason".to_owned()),
        }
    }
}

/// `ID=FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PepperFile {
    id: u8,
    file: PathBuf,
}

impl FromStr for PepperFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, file) = text.split_once('=').ok_or("write ID=FILE")?;
        let id = id.parse().map_err(|_| "the id is a number from 1 to 255")?;
        Ok(Self {
            id,
            file: file.into(),
        })
    }
}

impl PepperFile {
    /// Its bytes, without the newline at the end that an editor leaves.
    pub(crate) fn read(&self) -> Result<gatekey::Pepper, String> {
        let shown = self.file.display();
        let bytes = std::fs::read(&self.file).map_err(|error| format!("{shown}: {error}"))?;
        let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        gatekey::Pepper::new(self.id, text).map_err(|error| format!("{shown}: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("90d", 90 * 86_400),
            ("2w", 14 * 86_400),
            ("1h30m", 5_400),
            ("0s", 0),
            ("P1D", 86_400),
            ("PT15M", 900),
        ] {
            let Time(time) = text.parse().unwrap();
            assert_eq!(time, Some(Duration::from_secs(seconds)), "{text}");
        }
        for bad in [
            "",
            "90",
            "d",
            "1y",
            "-1d",
            "1d ",
            "1.5h",
            "99999999999999999w",
            "P1M",
        ] {
            assert!(bad.parse::<Time>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn limits_and_quotas_are_read_as_people_write_them() {
        let limits = |text: &str| text.parse::<Limits>().map(|Limits(limits)| limits);
        assert_eq!(limits("60/1m"), Ok(Some(vec![Limit::per_minute(60)])));
        assert_eq!(limits("60/m,5/s:fixed").unwrap().unwrap().len(), 2);
        assert_eq!(
            limits("9/1h:bucket=20"),
            Ok(Some(vec![Limit::per_hour(9).bucket(20)]))
        );
        let of_fleet = [
            Limit::per_minute(60).for_fleet(),
            Limit::per_hour(9).bucket(20).for_fleet(),
        ];
        assert_eq!(
            limits("60/1m:fleet,9/1h:bucket=20:fleet"),
            Ok(Some(of_fleet.to_vec()))
        );
        assert_eq!(limits("none"), Ok(Some(vec![])));
        assert_eq!(limits("plan"), Ok(None));
        for bad in [
            "",
            "60",
            "60/",
            "x/1m",
            "0/1m",
            "60/1m:leaky",
            "60/1m:bucket",
            "60/1m:fleet:fixed",
            "60/1m,",
        ] {
            assert!(limits(bad).is_err(), "{bad:?}");
        }
        let Quota(quota) = "1000/month".parse().unwrap();
        assert_eq!(
            quota,
            Some(gatekey::Quota::new(1000).refilled(Refill::Monthly))
        );
        assert!("1000/year".parse::<Quota>().is_err());
    }

    #[test]
    fn what_an_owner_has_is_its_own_unlimited_or_the_default_of_its_level() {
        let cap = |text: &str| text.parse::<Cap>().map(|Cap(cap)| cap);
        let quota = |text: &str| text.parse::<OwnerQuota>().map(|OwnerQuota(quota)| quota);
        assert_eq!(cap("7"), Ok(Setting::Own(7)));
        assert_eq!(quota("7"), Ok(Setting::Own(gatekey::Quota::new(7))));
        assert_eq!(cap("unlimited"), Ok(Setting::Unlimited));
        assert_eq!(quota("unlimited"), Ok(Setting::Unlimited));
        assert_eq!(cap("none"), Ok(Setting::Default));
        assert_eq!(quota("none"), Ok(Setting::Default));
        for bad in ["", "0", "-1", "endless"] {
            assert!(cap(bad).unwrap_err().contains("unlimited"), "{bad:?}");
        }
        assert!(quota("endless").unwrap_err().contains("unlimited"));
    }

    #[test]
    fn an_expiry_is_a_time_an_instant_or_never() {
        let read = |text: &str| text.parse::<Expiry>().map(|Expiry(expiry)| expiry);
        assert_eq!(read("never"), Ok(gatekey::Expiry::Never));
        assert_eq!(
            read("1d"),
            Ok(gatekey::Expiry::After(Duration::from_secs(86_400)))
        );
        assert!(matches!(
            read("2026-12-01T00:00:00Z"),
            Ok(gatekey::Expiry::At(_))
        ));
        for bad in ["", "tomorrow", "2026-12-01", "-1d"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
