//! A chart of usage, as SVG: a bar for each day or hour, granted below, denied above it. It
//! has no script and loads nothing, so that a page with a strict policy can show it.

use std::fmt::Write as _;

use gatekey::{Timestamp, UsageBin};

/// The media type of a chart.
pub(crate) const MEDIA_TYPE: &str = "image/svg+xml";

const WIDTH: u64 = 720;
const HEIGHT: u64 = 180;
/// Around the bars.
const LEFT: u64 = 64;
const TOP: u64 = 28;
const BOTTOM: u64 = 24;

/// A length, with two digits after the point.
fn length(hundredths: u64) -> String {
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// Draws bins of so many milliseconds, from one instant to before another.
pub(crate) fn draw(bins: &[UsageBin], from: Timestamp, to: Timestamp, bin_ms: u64) -> String {
    let first = from.unix_ms() / bin_ms;
    let slots = (to.unix_ms().div_ceil(bin_ms))
        .saturating_sub(first)
        .clamp(1, 10_000);
    let highest = bins.iter().map(|bin| bin.counts.total()).max();
    let highest = highest.unwrap_or(0).max(1);
    let (granted, denied) = bins.iter().fold((0_u64, 0_u64), |(granted, denied), bin| {
        (
            granted.saturating_add(bin.counts.granted()),
            denied.saturating_add(bin.counts.denied()),
        )
    });
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" font-family=\"sans-serif\" \
         font-size=\"11\">\n\
         <title>{granted} granted, {denied} denied, {from} to {to}</title>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
         <g fill=\"#1b1b1b\">\n\
         <text x=\"{LEFT}\" y=\"16\">granted {granted}</text>\n\
         <text x=\"{}\" y=\"16\">denied {denied} (striped)</text>\n\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{highest}</text>\n\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\">0</text>\n\
         <text x=\"{LEFT}\" y=\"{}\">{from}</text>\n\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{to}</text>\n\
         </g>\n\
         <defs><pattern id=\"denied\" width=\"4\" height=\"4\" patternUnits=\"userSpaceOnUse\">\
         <rect width=\"4\" height=\"4\" fill=\"#b3261e\"/>\
         <path d=\"M0 4L4 0\" stroke=\"#ffffff\"/></pattern></defs>\n",
        LEFT + 200,
        LEFT - 6,
        TOP + 8,
        LEFT - 6,
        HEIGHT - BOTTOM,
        HEIGHT - 6,
        WIDTH - 8,
        HEIGHT - 6,
    );
    let (width, height) = (WIDTH - LEFT - 8, HEIGHT - TOP - BOTTOM);
    // Hundredths of a unit; products of counts need more than 64 bits.
    let scaled = |count: u64| -> u64 {
        let scaled = u128::from(count) * u128::from(height * 100) / u128::from(highest);
        u64::try_from(scaled).unwrap_or(0)
    };
    let step = width * 100 / slots;
    let bar = (step * 8 / 10).max(10);
    for bin in bins {
        let slot = (bin.begins_at.unix_ms() / bin_ms).saturating_sub(first);
        if slot >= slots {
            continue;
        }
        let x = LEFT * 100 + slot * step;
        let (good, bad) = (scaled(bin.counts.granted()), scaled(bin.counts.denied()));
        let base = (HEIGHT - BOTTOM) * 100;
        for (tall, top, fill) in [
            (good, base.saturating_sub(good), "#2b6cb0"),
            (bad, base.saturating_sub(good + bad), "url(#denied)"),
        ] {
            if tall > 0 {
                // A String takes every write.
                let _ = writeln!(
                    svg,
                    "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{fill}\">\
                     <title>{}: {} granted, {} denied</title></rect>",
                    length(x),
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
    let _ = writeln!(
        svg,
        "<path d=\"M{LEFT} {TOP}V{}H{}\" fill=\"none\" stroke=\"#767676\"/>\n</svg>",
        HEIGHT - BOTTOM,
        WIDTH - 8
    );
    svg
}
