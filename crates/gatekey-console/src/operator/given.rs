//! Fields for numbers, durations, limits and quotas, and what forms say of them.

use std::str::FromStr;
use std::time::Duration;

use axum::http::StatusCode;
use gatekey::{Algorithm, Limit, Quota, Refill, bounds};
use gatekey_admin::wire::Patch;

use super::Ask;
use crate::format;
use crate::reply::Fault;
use crate::view::{Choice, Field, Kind};

/// The units of a duration: seconds, and the name of a text.
const UNITS: [(u64, &str); 4] = [
    (86_400, "span.days"),
    (3_600, "span.hours"),
    (60, "span.minutes"),
    (1, "span.seconds"),
];
/// The windows that a form offers, in seconds.
const WINDOWS: [u64; 5] = [1, 10, 60, 900, 3_600];

/// What was sent for a field, or else what is there now.
pub(super) fn sent(call: &Ask, name: &str, now: impl Into<String>) -> String {
    match call.form.all(name).next() {
        Some(sent) => sent.to_owned(),
        None => now.into(),
    }
}

/// Whether the form comes back: then a box without a tick was unticked.
fn is_back(call: &Ask) -> bool {
    !call.form.is_empty()
}

/// One box to tick.
pub(super) fn ticked(call: &Ask, name: &str, value: &str, now: bool) -> bool {
    match is_back(call) {
        true => call.form.has(name, value),
        false => now,
    }
}

/// Says what is wrong with a field, in a form that comes back.
pub(super) fn refuse(call: &Ask, text: &str, label: &str) -> Fault {
    let text = call.with(text, &[&call.t(label)]);
    Fault::Refused(StatusCode::BAD_REQUEST, text)
}

/// A number, if one was given.
pub(super) fn number<T: FromStr>(call: &Ask, name: &str, label: &str) -> Result<Option<T>, Fault> {
    let Some(text) = call.form.one(name)? else {
        return Ok(None);
    };
    let digits: String = text
        .chars()
        .filter(|letter| !matches!(letter, ',' | ' ' | '\u{a0}'))
        .collect();
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse() {
        Ok(number) if is_number => Ok(Some(number)),
        _ => Err(refuse(call, "given.no_number", label)),
    }
}

fn chosen(choices: Vec<Choice>, value: &str) -> Vec<Choice> {
    let mark = |choice: Choice| {
        let is_it = choice.value == value;
        choice.chosen(is_it)
    };
    choices.into_iter().map(mark).collect()
}

/// A choice among some.
pub(super) fn select(name: &str, label: String, choices: Vec<Choice>, value: &str) -> Field {
    Field::new(Kind::Select, name, label).choices(chosen(choices, value))
}

/// A duration: how many of which unit. None may be given.
pub(super) fn span(call: &Ask, name: &str, label: &str, now: Option<Duration>) -> Field {
    let seconds = now.map(|now| now.as_secs());
    let of_unit = |(unit, _): &&(u64, &str)| seconds.is_none_or(|all| all.is_multiple_of(*unit));
    let unit = UNITS.iter().find(of_unit).map_or(1, |(unit, _)| *unit);
    let count = seconds.map_or_else(String::new, |all| (all / unit).to_string());
    let unit_name = format!("{name}.unit");
    let units = UNITS
        .iter()
        .map(|(unit, text)| Choice::new(unit.to_string(), call.t(text)));
    let unit = sent(call, &unit_name, unit.to_string());
    Field::new(Kind::Group, format!("{name}.group"), call.t(label))
        .hint(call.t("span.hint"))
        .fields([
            Field::new(Kind::Number, name, call.t("span.count"))
                .value(sent(call, name, count))
                .max(12),
            select(&unit_name, call.t("span.unit"), units.collect(), &unit),
        ])
}

pub(super) fn span_in(call: &Ask, name: &str, label: &str) -> Result<Option<Duration>, Fault> {
    let Some(count) = number::<u64>(call, name, label)? else {
        return Ok(None);
    };
    let unit: u64 = call
        .form
        .must(&format!("{name}.unit"))?
        .parse()
        .map_err(|_| Fault::Tampered)?;
    if !UNITS.iter().any(|(known, _)| *known == unit) {
        return Err(Fault::Tampered);
    }
    let seconds = count
        .checked_mul(unit)
        .ok_or_else(|| refuse(call, "given.too_long", label))?;
    Ok(Some(Duration::from_secs(seconds)))
}

/// Fields for as many limits as there may be.
pub(super) fn limits(call: &Ask, now: &[Limit]) -> Vec<Field> {
    let texts = &call.site.look.texts;
    (0..bounds::LIMITS_PER_PLAN_MAX)
        .map(|at| {
            let limit = now.get(at).copied();
            let name = |part: &str| format!("limit{at}.{part}");
            let value =
                |part: &str, now: Option<String>| sent(call, &name(part), now.unwrap_or_default());
            let requests = value("requests", limit.map(|of| of.requests().to_string()));
            let window = limit.map_or(60, |of| of.window().as_secs());
            let mut windows = WINDOWS.to_vec();
            if !windows.contains(&window) {
                windows.push(window);
                windows.sort_unstable();
            }
            let windows = windows.into_iter().map(|seconds| {
                let text = format::span(texts, Duration::from_secs(seconds));
                Choice::new(seconds.to_string(), text)
            });
            let window = value("window", Some(window.to_string()));
            let kinds = ["sliding", "fixed", "bucket"]
                .map(|kind| Choice::new(kind, call.t(&format!("algorithm.{kind}"))));
            let kind = value(
                "kind",
                Some(limit.map_or("sliding", format::algorithm).to_owned()),
            );
            let burst = limit.filter(|of| of.algorithm() == Algorithm::Bucket);
            let burst = value("burst", burst.map(|of| of.capacity().to_string()));
            let is_for_fleet = limit.is_some_and(Limit::is_for_fleet);
            // Who has no fleet is not asked.
            let numbers_of = (is_for_fleet || call.engine().fleet_status().is_some()).then(|| {
                let now = if is_for_fleet { "fleet" } else { "server" };
                let value = value("of", Some(now.to_owned()));
                let choices = ["server", "fleet"]
                    .map(|of| Choice::new(of, call.t(&format!("limits_of.{of}"))));
                select(&name("of"), call.t("limits.of"), choices.to_vec(), &value)
            });
            let label = call.with("limits.one", &[&(at + 1)]);
            let fields = [
                Field::new(Kind::Number, name("requests"), call.t("limits.requests"))
                    .value(requests)
                    .max(12),
                select(
                    &name("window"),
                    call.t("limits.window"),
                    windows.collect(),
                    &window,
                ),
                select(&name("kind"), call.t("limits.kind"), kinds.to_vec(), &kind),
                Field::new(Kind::Number, name("burst"), call.t("limits.burst"))
                    .value(burst)
                    .max(12),
            ];
            Field::new(Kind::Group, name("group"), label)
                .fields(fields.into_iter().chain(numbers_of))
        })
        .collect()
}

/// The limits that a form has: one without a number of requests is left out.
pub(super) fn limits_in(call: &Ask) -> Result<Vec<Limit>, Fault> {
    let mut limits = Vec::new();
    for at in 0..bounds::LIMITS_PER_PLAN_MAX {
        let name = |part: &str| format!("limit{at}.{part}");
        let requests = number::<u32>(call, &name("requests"), "limits.requests")?;
        let burst = number::<u32>(call, &name("burst"), "limits.burst")?;
        let Some(requests) = requests else {
            match burst {
                Some(_) => return Err(refuse(call, "given.missing", "limits.requests")),
                None => continue,
            }
        };
        let seconds = call.form.must(&name("window"))?;
        let seconds = seconds.parse().map_err(|_| Fault::Tampered)?;
        let limit = Limit::new(requests, Duration::from_secs(seconds))?;
        let limit = match (call.form.must(&name("kind"))?, burst) {
            ("sliding", None) => limit,
            ("fixed", None) => limit.fixed(),
            ("bucket", Some(burst)) => limit.bucket(burst),
            ("bucket", None) => return Err(refuse(call, "given.missing", "limits.burst")),
            ("sliding" | "fixed", Some(_)) => {
                return Err(refuse(call, "given.of_a_bucket", "limits.burst"));
            }
            _ => return Err(Fault::Tampered),
        };
        limits.push(match call.form.one(&name("of"))? {
            None | Some("server") => limit,
            Some("fleet") => limit.for_fleet(),
            Some(_) => return Err(Fault::Tampered),
        });
    }
    Ok(limits)
}

/// Fields for limits of one's own, in the place of the plan's.
pub(super) fn own_limits(call: &Ask, now: Option<&[Limit]>) -> Vec<Field> {
    let whose = match now {
        Some(_) => "own",
        None => "plan",
    };
    let whose = sent(call, "limits", whose);
    let choices = ["plan", "own"].map(|of| {
        let text = call.t(&format!("whose_limits.{of}"));
        Choice::new(of, text).chosen(of == whose)
    });
    let first = Field::new(Kind::Radios, "limits", call.t("keyspaces.limits"))
        .choices(choices.to_vec())
        .required();
    let mut fields = vec![first];
    fields.extend(limits(call, now.unwrap_or_default()));
    fields
}

/// What a form says of limits of one's own. Some that were filled in beside "as the plan
/// says" are refused, unless they are those that the form showed.
pub(super) fn own_limits_in(call: &Ask, now: Option<&[Limit]>) -> Result<Patch<Vec<Limit>>, Fault> {
    let limits = limits_in(call)?;
    match call.form.must("limits")? {
        "own" if now == Some(&limits) => Ok(Patch::Keep),
        "own" => Ok(Patch::Set(limits)),
        "plan" if limits.is_empty() || now.is_some() => Ok(Patch::Clear),
        "plan" => Err(refuse(call, "limits.not_of_plan", "keyspaces.limits")),
        _ => Err(Fault::Tampered),
    }
}

/// What was given, or nothing any more.
pub(super) fn patch<T>(value: Option<T>) -> Patch<T> {
    value.map_or(Patch::Clear, Patch::Set)
}

/// What a form says of a quota. One that it leaves as it is stays as full as it is.
pub(super) fn quota_change(call: &Ask, now: Option<Quota>) -> Result<Patch<Quota>, Fault> {
    let quota = quota_in(call)?;
    Ok(match quota == now {
        true => Patch::Keep,
        false => patch(quota),
    })
}

/// Fields for a quota.
pub(super) fn quota(call: &Ask, now: Option<Quota>) -> Field {
    let refill = match now.and_then(Quota::refill) {
        None => "never",
        Some(Refill::Daily) => "daily",
        Some(Refill::MonthlyFrom(_)) => "from",
        Some(_) => "monthly",
    };
    let day = match now.and_then(Quota::refill) {
        Some(Refill::MonthlyFrom(day)) => day.get().to_string(),
        _ => String::new(),
    };
    let requests = now.map_or_else(String::new, |quota| quota.requests().to_string());
    let refills = ["monthly", "from", "daily", "never"]
        .map(|refill| Choice::new(refill, call.t(&format!("refill.{refill}"))));
    let is_new = now.is_none();
    let refill = sent(
        call,
        "quota.refill",
        if is_new { "monthly" } else { refill },
    );
    Field::new(Kind::Group, "quota.group", call.t("owner.quota"))
        .hint(call.t("quota.hint"))
        .fields([
            Field::new(Kind::Number, "quota.requests", call.t("limits.requests"))
                .value(sent(call, "quota.requests", requests))
                .max(20),
            select(
                "quota.refill",
                call.t("quota.refill"),
                refills.to_vec(),
                &refill,
            ),
            Field::new(Kind::Number, "quota.day", call.t("quota.day"))
                .value(sent(call, "quota.day", day))
                .max(2),
        ])
}

pub(super) fn quota_in(call: &Ask) -> Result<Option<Quota>, Fault> {
    let Some(requests) = number::<u64>(call, "quota.requests", "owner.quota")? else {
        return Ok(None);
    };
    let quota = Quota::new(requests);
    let day = number::<u8>(call, "quota.day", "quota.day")?;
    Ok(Some(match (call.form.must("quota.refill")?, day) {
        ("never", None) => quota,
        ("daily", None) => quota.refilled(Refill::Daily),
        ("monthly", None) => quota.refilled(Refill::Monthly),
        ("from", Some(day)) => quota.refilled(Refill::monthly_from(day)?),
        ("from", None) => return Err(refuse(call, "given.missing", "quota.day")),
        ("never" | "daily" | "monthly", Some(_)) => {
            return Err(refuse(call, "given.of_a_day", "quota.day"));
        }
        _ => return Err(Fault::Tampered),
    }))
}

/// The most keys: a number, or none.
pub(super) fn cap(call: &Ask, now: Option<u32>) -> Field {
    let now = now.map_or_else(String::new, |cap| cap.to_string());
    Field::new(Kind::Number, "cap", call.t("owner.cap"))
        .hint(call.t("owner.cap_hint"))
        .value(sent(call, "cap", now))
        .max(12)
}

/// A quota, for people: `10,000, monthly`.
pub(super) fn quota_text(call: &Ask, quota: Quota) -> String {
    let refill = match quota.refill() {
        None => call.t("refill.never"),
        Some(Refill::Daily) => call.t("refill.daily"),
        Some(Refill::MonthlyFrom(day)) => call.with("refill.from_day", &[&day.get()]),
        Some(_) => call.t("refill.monthly"),
    };
    call.with("quota.text", &[&format::number(quota.requests()), &refill])
}
