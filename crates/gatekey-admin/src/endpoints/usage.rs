//! The usage history: as numbers, and as a chart.

use std::time::Duration;

use gatekey::{KeyId, Prefix, Timestamp};
use serde::Serialize;

use super::owners;
use crate::answers;
use crate::call::{Answer, Call, Endpoint, Parameter, schema_of};
use crate::chart::{self, UsageChart};
use crate::operator::Right;
use crate::problem::Problem;
use crate::schema;
use crate::wire::Nothing;

/// Of a span whose beginning is not given.
const SPAN_DAYS: u64 = 30;

const WHOSE: &[Parameter] = &[
    Parameter::new("key", "Of a key.", schema_of::<schema::KeyId>),
    Parameter::new(
        "owner_and_below",
        "Of the keys of this owner and of all below it.",
        schema_of::<schema::Owner>,
    ),
    Parameter::new(
        "keyspace",
        "Of the keys of a keyspace.",
        schema_of::<schema::Prefix>,
    ),
    Parameter::new(
        "unattributed",
        "`true`: of what belongs to no keyspace, since it was malformed or unknown.",
        schema_of::<bool>,
    ),
    Parameter::new(
        "from",
        "What begins at this instant or later; 30 days before `to`, if not given.",
        schema_of::<schema::Timestamp>,
    ),
    Parameter::new(
        "to",
        "What begins before this instant; now, if not given.",
        schema_of::<schema::Timestamp>,
    ),
    Parameter::new(
        "by",
        "`day`, or of a keyspace `hour`. `day`, if not given.",
        schema_of::<By>,
    ),
];

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint::get(
        "/v1/usage/history",
        "showUsageHistory",
        "Show how a key, an owner or a keyspace was used, by the day or the hour",
        schema_of::<answers::UsageHistory>,
        history,
    )
    .query(WHOSE),
    Endpoint::get(
        "/v1/usage/chart",
        "drawUsage",
        "Draw the same as a chart",
        schema_of::<Nothing>,
        draw,
    )
    .query(WHOSE)
    .other(Right::Read, chart::MEDIA_TYPE),
    Endpoint::get(
        "/v1/hints",
        "listHints",
        "List what a person should look at: see the rule of each",
        schema_of::<answers::Hints>,
        hints,
    )
    .query(HINT_QUERY),
];

const HINT_QUERY: &[Parameter] = &[
    Parameter::new(
        "after",
        "From where to go on: `next` of the page before.",
        schema_of::<schema::Cursor>,
    ),
    Parameter::new(
        "limit",
        "How many keys to look at, 1 to 1000; 1000, if not given.",
        schema_of::<u64>,
    ),
];

fn hints(call: &mut Call) -> Result<Answer, Problem> {
    let after = call.query.read("after")?;
    let limit = call.query.plain("limit")?.unwrap_or(1000);
    call.write_usage();
    let page = call.engine.hints(after.as_ref(), limit)?;
    let shown = |hint: gatekey::Hint| answers::ShownHint {
        text: hint.rule.text(),
        hint,
    };
    Answer::ok(&answers::Hints {
        hints: page.hints.into_iter().map(shown).collect(),
        next: page.next,
    })
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum By {
    Day,
    Hour,
}

impl By {
    fn ms(self) -> u64 {
        match self {
            Self::Day => chart::DAY_MS,
            Self::Hour => chart::HOUR_MS,
        }
    }
}

struct Found {
    chart: UsageChart,
    by: By,
}

fn find(call: &Call) -> Result<Found, Problem> {
    let query = &call.query;
    let key = query.read::<KeyId>("key")?;
    let owner = query.one("owner_and_below").map(owners::path).transpose()?;
    let keyspace = query.read::<Prefix>("keyspace")?;
    let unattributed = query.plain::<bool>("unattributed")?.unwrap_or(false);
    let by = query.text::<By>("by")?.unwrap_or(By::Day);
    let to = query.read("to")?.unwrap_or_else(|| call.engine.now());
    let span = Duration::from_millis(SPAN_DAYS * chart::DAY_MS);
    let from: Timestamp = query
        .read("from")?
        .unwrap_or_else(|| to.saturating_sub(span));
    if from > to {
        return Err(Problem::bad_request("`from` is after `to`"));
    }
    call.write_usage();
    let engine = &call.engine;
    // A day that has begun before `from` counts from its beginning.
    let from = from.saturating_sub(Duration::from_millis(from.unix_ms() % by.ms()));
    let bins = match (key, owner, keyspace, unattributed, by) {
        (Some(key), None, None, false, By::Day) => {
            engine.key(key)?;
            engine.usage_of_key(key, from, to)?
        }
        (None, Some(owner), None, false, By::Day) => engine.usage_of_owner(owner, from, to)?,
        (None, None, Some(prefix), false, _) => engine.usage_of_keyspace(Some(prefix), from, to)?,
        (None, None, None, true, _) => engine.usage_of_keyspace(None, from, to)?,
        (Some(_), None, None, false, By::Hour) | (None, Some(_), None, false, By::Hour) => {
            let why = "keys and owners have days, and no hours";
            return Err(Problem::bad_request(why));
        }
        _ => {
            let why = "one of key, owner_and_below, keyspace and unattributed must be given";
            return Err(Problem::bad_request(why));
        }
    };
    let chart = match by {
        By::Day => UsageChart::by_day(bins, from, to),
        By::Hour => UsageChart::by_hour(bins, from, to),
    };
    Ok(Found { chart, by })
}

fn history(call: &mut Call) -> Result<Answer, Problem> {
    let Found { chart, by } = find(call)?;
    let total = chart.total();
    Answer::ok(&answers::UsageHistory {
        by,
        from: chart.from(),
        to: chart.to(),
        granted: total.granted(),
        denied: total.denied(),
        bins: chart.bins().to_vec(),
    })
}

fn draw(call: &mut Call) -> Result<Answer, Problem> {
    Ok(Answer::Text(chart::MEDIA_TYPE, find(call)?.chart.svg()))
}
