//! How instants, durations, numbers and states are written.

use std::time::Duration;

use gatekey::{Algorithm, Key, KeyState, Limit, LimitStatus, OwnerPath, QuotaLeft, Timestamp};

use crate::texts::Texts;
use crate::view::{Cell, class_of};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// Within this time, what happened has happened just now.
const JUST_NOW: Duration = Duration::from_secs(5);
/// Within this time, an expiry is told as soon.
pub(crate) const SOON: Duration = Duration::from_secs(7 * DAY);

/// `1234567` as `1,234,567`.
pub(crate) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A duration in its largest unit that it is whole in, in words.
pub(crate) fn span(texts: &Texts, duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (unit, name) = match seconds {
        0 => (1, "second"),
        _ if seconds.is_multiple_of(DAY) => (DAY, "day"),
        _ if seconds.is_multiple_of(HOUR) => (HOUR, "hour"),
        _ if seconds.is_multiple_of(MINUTE) => (MINUTE, "minute"),
        _ => (1, "second"),
    };
    counted(texts, seconds / unit, name)
}

/// A duration for people, rounded: one of a unit, or two of it or more, else in the next
/// smaller unit. So `30 days` for 29.9 of them, and `36 hours`, not `1 day` or `2 days`.
pub(crate) fn about(texts: &Texts, duration: Duration) -> String {
    let seconds = duration.as_secs();
    let rounded = |unit: u64| seconds.saturating_add(unit / 2) / unit;
    for (unit, name, smaller) in [
        (DAY, "day", HOUR),
        (HOUR, "hour", MINUTE),
        (MINUTE, "minute", 1),
    ] {
        let roughly = rounded(smaller) * smaller;
        if roughly == unit || roughly >= 2 * unit {
            return counted(texts, rounded(unit), name);
        }
    }
    counted(texts, seconds, "second")
}

fn counted(texts: &Texts, count: u64, unit: &str) -> String {
    let form = if count == 1 { "one" } else { "many" };
    texts.with(&format!("time.{unit}_{form}"), &[&number(count)])
}

/// `2026-11-26 13:40 UTC`.
pub(crate) fn instant(at: Timestamp) -> String {
    let iso = at.to_string();
    match (iso.get(..10), iso.get(11..16)) {
        (Some(day), Some(minute)) => format!("{day} {minute} UTC"),
        _ => iso,
    }
}

/// `2026-11-26`.
pub(crate) fn day(at: Timestamp) -> String {
    let iso = at.to_string();
    iso.get(..10).unwrap_or(&iso).to_owned()
}

/// How far an instant is from now.
fn away(texts: &Texts, at: Timestamp, now: Timestamp) -> String {
    match at > now {
        false if now.saturating_since(at) < JUST_NOW => texts.get("time.now"),
        true => texts.with("time.in", &[&about(texts, at.saturating_since(now))]),
        false => texts.with("time.ago", &[&about(texts, now.saturating_since(at))]),
    }
}

/// An instant, with how far it is from now.
pub(crate) fn time(texts: &Texts, at: Timestamp, now: Timestamp) -> Cell {
    Cell::Time {
        iso: at.to_string(),
        text: instant(at),
        hint: away(texts, at, now),
    }
}

/// The last use of a key, which is known to the minute, rounded down: how long ago that is
/// counts from the end of the minute, so that no key seems to be used before it was made.
pub(crate) fn used(texts: &Texts, key: &Key, now: Timestamp) -> Cell {
    let Some(at) = key.usage.last_used else {
        return Cell::Text(texts.get("key.never_used"));
    };
    let end = at.saturating_add(Duration::from_secs(MINUTE)).min(now);
    Cell::Time {
        iso: at.to_string(),
        text: instant(at),
        hint: away(texts, end, now),
    }
}

pub(crate) fn time_or(texts: &Texts, at: Option<Timestamp>, now: Timestamp, none: &str) -> Cell {
    match at {
        Some(at) => time(texts, at, now),
        None => Cell::Text(texts.get(none)),
    }
}

/// The word for a state of a key.
pub(crate) fn state_word(texts: &Texts, state: KeyState) -> String {
    texts.get(&format!("state.{}", class_of(state)))
}

/// The state of a key, by its word and its shape.
pub(crate) fn state(texts: &Texts, state: KeyState) -> Cell {
    Cell::State {
        class: class_of(state),
        word: state_word(texts, state),
    }
}

/// When a key stopped being good for ever, or will by itself.
pub(crate) fn end_of(key: &Key) -> Option<Timestamp> {
    let revoked = key.revoked.as_ref().map(|revoked| revoked.at);
    [key.expires_at, key.retiring_until, revoked]
        .into_iter()
        .flatten()
        .min()
}

/// The name of a key, and its id where that is not its name.
pub(crate) fn name_and_id(key: &Key) -> String {
    match &key.name {
        Some(name) => format!("{name} ({})", key.id),
        None => key.id.to_string(),
    }
}

/// The expiry of a key: with a badge where it is near.
pub(crate) fn expiry(texts: &Texts, key: &Key, now: Timestamp) -> Cell {
    let is_good = matches!(key.state, KeyState::Active | KeyState::Retiring);
    match end_of(key) {
        None => Cell::Text(texts.get("key.never_expires")),
        Some(at) if is_good && at > now && at.saturating_since(now) <= SOON => Cell::Soon {
            iso: at.to_string(),
            text: instant(at),
            hint: away(texts, at, now),
        },
        Some(at) => time(texts, at, now),
    }
}

/// What people call a key: its name, or else its id.
pub(crate) fn name_of(key: &Key) -> String {
    match &key.name {
        Some(name) => name.clone(),
        None => key.id.to_string(),
    }
}

/// The first so many segments of a path.
pub(crate) fn first_segments(path: &str, count: usize) -> &str {
    let end = path.match_indices('/').nth(count.saturating_sub(1));
    end.and_then(|(end, _)| path.get(..end)).unwrap_or(path)
}

/// Whose limit or quota it is, of a key of an owner.
fn level(texts: &Texts, owner: &OwnerPath, level: gatekey::Level) -> String {
    match level {
        gatekey::Level::Key => texts.get("level.key"),
        gatekey::Level::Owner(depth) => {
            let owner = first_segments(owner.as_str(), usize::from(depth));
            texts.with("level.owner", &[&owner])
        }
        _ => texts.get("level.other"),
    }
}

fn percent(left: u64, all: u64) -> u64 {
    match all {
        0 => 0,
        all => (left.min(all).saturating_mul(100)) / all,
    }
}

/// The name of what counts a limit, in forms and texts.
pub(crate) const fn algorithm(limit: Limit) -> &'static str {
    match limit.algorithm() {
        Algorithm::Fixed => "fixed",
        Algorithm::Bucket => "bucket",
        _ => "sliding",
    }
}

/// A limit, for people: `1,000 in 1 hour, sliding window`, perhaps `, for the fleet`.
pub(crate) fn one_limit(texts: &Texts, limit: Limit) -> String {
    let window = span(texts, limit.window());
    let requests = number(u64::from(limit.requests()));
    let kind = match limit.algorithm() {
        Algorithm::Bucket => {
            let capacity = number(u64::from(limit.capacity()));
            texts.with("limits.burst_of", &[&capacity])
        }
        _ => texts.get(&format!("algorithm.{}", algorithm(limit))),
    };
    let text = match limit.is_for_fleet() {
        true => "limits.text_of_fleet",
        false => "limits.text",
    };
    texts.with(text, &[&requests, &window, &kind])
}

/// Limits, for people, one behind the other.
pub(crate) fn limits(texts: &Texts, limits: &[Limit]) -> String {
    let all: Vec<String> = limits.iter().map(|of| one_limit(texts, *of)).collect();
    match all.is_empty() {
        true => texts.get("plan.no_limit"),
        false => all.join("; "),
    }
}

/// What is left of a limit, named by its level and window.
pub(crate) fn limit(texts: &Texts, owner: &OwnerPath, status: &LimitStatus) -> (String, Cell) {
    let limit = status.limit();
    let name = texts.with(
        "usage.limit",
        &[
            &span(texts, limit.window()),
            &level(texts, owner, status.level()),
        ],
    );
    let (left, all) = (u64::from(status.remaining()), u64::from(limit.capacity()));
    let cell = Cell::Meter {
        percent: percent(left, all),
        text: texts.with("usage.left", &[&number(left), &number(all)]),
    };
    (name, cell)
}

/// What is left of a quota, named by its level.
pub(crate) fn quota(texts: &Texts, owner: &OwnerPath, left: &QuotaLeft) -> (String, Cell) {
    let status = left.status();
    let name = texts.with("usage.quota", &[&level(texts, owner, left.level())]);
    let all = status.quota.requests();
    let mut text = texts.with("usage.left", &[&number(status.remaining), &number(all)]);
    if let Some(at) = status.refills_at {
        text.push_str(&texts.with("usage.refills", &[&instant(at)]));
    }
    let cell = Cell::Meter {
        percent: percent(status.remaining, all),
        text,
    };
    (name, cell)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_durations_are_written_for_people() {
        let texts = Texts::english();
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1_234_567), "1,234,567");
        assert_eq!(span(&texts, Duration::from_secs(90 * DAY)), "90 days");
        assert_eq!(span(&texts, Duration::from_secs(HOUR)), "1 hour");
        assert_eq!(span(&texts, Duration::from_secs(90)), "90 seconds");
        for (seconds, text) in [
            (0, "0 seconds"),
            (59, "59 seconds"),
            (60, "1 minute"),
            (119, "119 seconds"),
            (121, "2 minutes"),
            (3_590, "1 hour"),
            (90 * MINUTE, "90 minutes"),
            (23 * HOUR + 50 * MINUTE, "1 day"),
            (DAY + 5, "1 day"),
            (36 * HOUR, "36 hours"),
            (48 * HOUR - 5, "2 days"),
            (30 * DAY - 2 * HOUR, "30 days"),
            (29 * DAY + 11 * HOUR, "29 days"),
        ] {
            assert_eq!(about(&texts, Duration::from_secs(seconds)), text);
        }
        let at: Timestamp = "2026-11-26T13:40:59.250Z".parse().unwrap();
        assert_eq!(instant(at), "2026-11-26 13:40 UTC");
        let now = at.saturating_add(Duration::from_secs(3 * HOUR));
        let cell = time(&texts, at, now).to_string();
        assert!(cell.contains("3 hours ago"), "{cell}");
        assert!(time(&texts, at, at).to_string().contains("just now"));
    }
}
