//! A chart of usage, as SVG: a bar for each day or hour, granted below, denied above it. It
//! has no script and loads nothing, so that a page with a strict policy can show it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use gatekey::{OutcomeCounts, Timestamp, UsageBin};

/// The media type of a chart.
pub(crate) const MEDIA_TYPE: &str = "image/svg+xml";

pub(crate) const HOUR_MS: u64 = 3_600_000;
pub(crate) const DAY_MS: u64 = 24 * HOUR_MS;

const WIDTH: u64 = 720;
const HEIGHT: u64 = 180;
/// Around the bars.
const LEFT: u64 = 64;
const TOP: u64 = 28;
const BOTTOM: u64 = 24;
/// Of the bars alone.
const BARS_WIDTH: u64 = WIDTH - LEFT - 8;
const BARS_HEIGHT: u64 = HEIGHT - TOP - BOTTOM;

/// How something was used in a span of time, by the day or by the hour: as numbers, and as
/// a chart.
///
/// ```
/// use gatekey::{Engine, NewKey, NewKeyspace, Timestamp};
/// use gatekey_admin::UsageChart;
///
/// let engine = Engine::open_in_memory()?;
/// engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
/// let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
/// engine.verify(issued.token.expose())?;
/// engine.flush()?;
/// let now = engine.now();
/// let from = now.saturating_sub(std::time::Duration::from_secs(30 * 86_400));
/// let chart = UsageChart::by_day(engine.usage_of_owner("acme", from, now)?, from, now);
/// assert_eq!(chart.total().granted(), 1);
/// assert!(chart.svg().starts_with("<svg"));
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct UsageChart {
    bins: Vec<UsageBin>,
    from: Timestamp,
    to: Timestamp,
    bin_ms: u64,
}

impl UsageChart {
    /// By the day, UTC. Hours are added up to days, and so are the days of several keys. A
    /// day that has begun before `from` counts from its beginning.
    #[must_use]
    pub fn by_day(bins: Vec<UsageBin>, from: Timestamp, to: Timestamp) -> Self {
        Self::new(bins, from, to, DAY_MS)
    }

    /// By the hour: what [`Engine::usage_of_keyspace`](gatekey::Engine::usage_of_keyspace)
    /// gives.
    #[must_use]
    pub fn by_hour(bins: Vec<UsageBin>, from: Timestamp, to: Timestamp) -> Self {
        Self::new(bins, from, to, HOUR_MS)
    }

    fn new(bins: Vec<UsageBin>, from: Timestamp, to: Timestamp, bin_ms: u64) -> Self {
        let begin = |at: Timestamp| at.saturating_sub(Duration::from_millis(at.unix_ms() % bin_ms));
        let mut sums: BTreeMap<Timestamp, UsageBin> = BTreeMap::new();
        for mut bin in bins {
            bin.begins_at = begin(bin.begins_at);
            match sums.get_mut(&bin.begins_at) {
                Some(sum) => sum.counts += bin.counts,
                None => {
                    sums.insert(bin.begins_at, bin);
                }
            }
        }
        Self {
            bins: sums.into_values().collect(),
            from: begin(from),
            to,
            bin_ms,
        }
    }

    /// The days or hours in which there was something, the oldest first.
    #[must_use]
    pub fn bins(&self) -> &[UsageBin] {
        &self.bins
    }

    /// All of them together.
    #[must_use]
    pub fn total(&self) -> OutcomeCounts {
        let mut total = OutcomeCounts::default();
        for bin in &self.bins {
            total += bin.counts;
        }
        total
    }

    /// When the first day or hour of the span begins.
    #[must_use]
    pub fn from(&self) -> Timestamp {
        self.from
    }

    /// The end of the span.
    #[must_use]
    pub fn to(&self) -> Timestamp {
        self.to
    }

    /// The most verifications in one day or hour.
    #[must_use]
    pub fn highest(&self) -> u64 {
        let highest = self.bins.iter().map(|bin| bin.counts.total()).max();
        highest.unwrap_or(0)
    }

    /// The whole chart: an SVG of 720 by 180, with its numbers, on white.
    #[must_use]
    pub fn svg(&self) -> String {
        let total = self.total();
        let (granted, denied) = (total.granted(), total.denied());
        let (from, to, highest) = (self.from, self.to, self.highest());
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" font-family=\"sans-serif\" \
             font-size=\"11\">\n\
             <title>{granted} granted, {denied} denied, {from} to {to}</title>\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
             <g fill=\"#1b1b1b\">\n\
             <text x=\"{LEFT}\" y=\"16\">granted {granted}</text>\n\
             <text x=\"{}\" y=\"16\">denied {denied} (striped)</text>\n\
             <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n\
             <text x=\"{}\" y=\"{}\" text-anchor=\"end\">0</text>\n\
             <text x=\"{LEFT}\" y=\"{}\">{from}</text>\n\
             <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{to}</text>\n\
             </g>\n<g transform=\"translate({LEFT} {TOP})\">\n",
            LEFT + 200,
            LEFT - 6,
            TOP + 8,
            highest.max(1),
            LEFT - 6,
            HEIGHT - BOTTOM,
            HEIGHT - 6,
            WIDTH - 8,
            HEIGHT - 6,
        );
        self.put_bars(&mut svg, "denied");
        let _ = writeln!(
            svg,
            "<path d=\"M0 0V{BARS_HEIGHT}H{BARS_WIDTH}\" fill=\"none\" stroke=\"#767676\"/>\n</g>\n</svg>",
        );
        svg
    }

    /// The bars alone, for a page that has its own words around them: an SVG without a
    /// size, which stretches, hidden from readers of the screen. `id` is an id of the page
    /// that nothing else has, of letters, digits and `-`. The parts have classes to be
    /// coloured by: `bar-granted`, `bar-denied` (the ground of the stripes) and
    /// `bar-stripe`.
    #[must_use]
    pub fn bars(&self, id: &str) -> String {
        let id: String = id
            .chars()
            .filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-')
            .collect();
        let mut svg = format!(
            "<svg viewBox=\"0 0 {BARS_WIDTH} {BARS_HEIGHT}\" preserveAspectRatio=\"none\" \
             aria-hidden=\"true\" focusable=\"false\">\n",
        );
        self.put_bars(&mut svg, &id);
        svg.push_str("</svg>");
        svg
    }

    /// Draws the bars from the origin on.
    fn put_bars(&self, svg: &mut String, id: &str) {
        // A String takes every write.
        let _ = writeln!(
            svg,
            "<defs><pattern id=\"{id}\" width=\"4\" height=\"4\" \
             patternUnits=\"userSpaceOnUse\">\
             <rect class=\"bar-denied\" width=\"4\" height=\"4\" fill=\"#b3261e\"/>\
             <path class=\"bar-stripe\" d=\"M0 4L4 0\" stroke=\"#ffffff\"/></pattern></defs>",
        );
        let first = self.from.unix_ms() / self.bin_ms;
        let slots = (self.to.unix_ms().div_ceil(self.bin_ms))
            .saturating_sub(first)
            .clamp(1, 10_000);
        let highest = self.highest().max(1);
        // Hundredths of a unit; products of counts need more than 64 bits.
        let scaled = |count: u64| -> u64 {
            let scaled = u128::from(count) * u128::from(BARS_HEIGHT * 100) / u128::from(highest);
            u64::try_from(scaled).unwrap_or(0)
        };
        let step = BARS_WIDTH * 100 / slots;
        let bar = (step * 8 / 10).max(10);
        for bin in &self.bins {
            let slot = (bin.begins_at.unix_ms() / self.bin_ms).checked_sub(first);
            let Some(slot) = slot.filter(|slot| *slot < slots) else {
                continue;
            };
            let (good, bad) = (scaled(bin.counts.granted()), scaled(bin.counts.denied()));
            let base = BARS_HEIGHT * 100;
            for (tall, top, fill, class) in [
                (good, base.saturating_sub(good), "#2b6cb0", "bar-granted"),
                (bad, base.saturating_sub(good + bad), "", "bar-striped"),
            ] {
                if tall == 0 {
                    continue;
                }
                let fill = match fill {
                    "" => format!("url(#{id})"),
                    fill => fill.to_owned(),
                };
                let _ = writeln!(
                    svg,
                    "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{fill}\" \
                     class=\"{class}\"><title>{}: {} granted, {} denied</title></rect>",
                    length(slot * step),
                    length(top),
                    length(bar),
                    length(tall),
                    bin.begins_at,
                    bin.counts.granted(),
                    bin.counts.denied(),
                );
            }
        }
    }
}

/// A length, with two digits after the point.
fn length(hundredths: u64) -> String {
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}
