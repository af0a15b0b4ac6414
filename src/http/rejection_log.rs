//! Rejections in the server's log, with a bounded number of lines.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::http::request::Parts;

use super::line_writer::LineWriter;
use super::rejection::Rejection;
use crate::model::withheld::withheld;

/// How many lines to stderr may wait.
const QUEUE_MAX: usize = 256;
/// How long [`RejectionLog::flush`] waits for stderr.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// Writes rejections to the server's log: one line for each, up to a number of lines an
/// interval, and one line that counts the others.
///
/// A line holds the method, the path without its query, and the [`Rejection`]. Everything
/// in it that looks like a token is [`withheld`]. Rejections without a line of their own
/// are counted by [`RejectionReason::code`](super::RejectionReason::code). The count is
/// written in the next interval, by [`flush`](Self::flush), or when the log is dropped:
///
/// ```text
/// GET /account: 401: the token is unknown (the token names key 1lZ1doyVZI)
/// and 1,234 more: 1,200 unknown, 34 missing
/// ```
///
/// Counting a rejection costs a lock and an addition.
///
/// In a nested router of axum, the request's path lacks the part that the nest matched:
/// prepend it before [`record`](Self::record).
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use std::time::Duration;
///
/// use gatekey::http::{Dialect, RejectionLog};
/// use http::Request;
///
/// let written = Arc::new(Mutex::new(Vec::new()));
/// let sink = written.clone();
/// let log = RejectionLog::new(2, Duration::from_secs(60), move |line| {
///     sink.lock().unwrap().push(line.to_owned());
/// });
/// let (request, ()) = Request::get("/account").body(()).unwrap().into_parts();
/// for _ in 0..1_236 {
///     log.record(&Dialect::default().missing(), &request);
/// }
/// log.flush();
/// assert_eq!(
///     *written.lock().unwrap(),
///     [
///         "GET /account: 401: no credential was presented",
///         "GET /account: 401: no credential was presented",
///         "and 1,234 more: 1,234 missing",
///     ],
/// );
/// ```
pub struct RejectionLog {
    lines_max: u32,
    interval: Duration,
    write: Box<dyn Fn(&str) + Send + Sync>,
    /// Where `write` only queues.
    writer: Option<Arc<LineWriter>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When the present interval began.
    begun: Option<Instant>,
    lines: u32,
    /// The counts that are not written yet, by code. There are some twenty codes.
    counted: Vec<(&'static str, u64)>,
}

impl fmt::Debug for RejectionLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RejectionLog")
            .field("lines_max", &self.lines_max)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

impl RejectionLog {
    /// A log of at most so many lines an interval. It gives each to `write`, without a
    /// newline. `write` runs in the request: if it blocks, the request waits.
    pub fn new(
        lines_max: u32,
        interval: Duration,
        write: impl Fn(&str) + Send + Sync + 'static,
    ) -> Self {
        Self {
            lines_max,
            interval,
            write: Box::new(write),
            writer: None,
            state: Mutex::default(),
        }
    }

    /// A log of at most 20 lines a second to stderr.
    ///
    /// A thread of its own writes them, so that a full pipe makes no request wait. At most
    /// 256 lines wait for it; the log counts the lines that do not fit, and writes how many
    /// it lost once stderr takes lines again. A closed stderr does no harm.
    ///
    /// ```
    /// use gatekey::http::RejectionLog;
    ///
    /// let log = RejectionLog::to_stderr();
    /// # let _ = log;
    /// ```
    #[must_use]
    pub fn to_stderr() -> Self {
        let writer = Arc::new(LineWriter::new(QUEUE_MAX, std::io::stderr()));
        let queue = writer.clone();
        let write = move |line: &str| queue.write(line);
        let mut log = Self::new(20, Duration::from_secs(1), write);
        log.writer = Some(writer);
        log
    }

    /// Writes a rejection, or counts it. For
    /// [`AuthLayer::on_rejected`](crate::tower::AuthLayer::on_rejected).
    pub fn record(&self, rejection: &Rejection, request: &Parts) {
        self.record_at(rejection, request, Instant::now());
    }

    fn record_at(&self, rejection: &Rejection, request: &Parts, now: Instant) {
        let (summary, has_line) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let is_over = state
                .begun
                .is_none_or(|begun| now.saturating_duration_since(begun) >= self.interval);
            let mut summary = None;
            if is_over {
                summary = state.take_summary();
                state.begun = Some(now);
                state.lines = 0;
            }
            let has_line = state.lines < self.lines_max;
            match has_line {
                true => state.lines += 1,
                false => state.count(rejection.reason().code()),
            }
            (summary, has_line)
        };
        // Outside of the lock: a slow `write` holds up the requests that have a line, and
        // no others.
        if let Some(summary) = summary {
            (self.write)(&summary);
        }
        if has_line {
            let method = withheld(request.method.as_str());
            let path = withheld(request.uri.path());
            (self.write)(&format!("{method} {path}: {rejection}"));
        }
    }

    /// Writes the count of the rejections that have no line, if there are any. Call it
    /// when the server ends, and every now and then, since after a flood no further
    /// rejection may come.
    ///
    /// A log to stderr then waits up to a second until stderr has taken its lines.
    pub fn flush(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let summary = state.take_summary();
        drop(state);
        if let Some(summary) = summary {
            (self.write)(&summary);
        }
        if let Some(writer) = &self.writer {
            writer.flush(FLUSH_MAX);
        }
    }
}

impl Drop for RejectionLog {
    fn drop(&mut self) {
        self.flush();
    }
}

impl State {
    fn count(&mut self, code: &'static str) {
        match self.counted.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count += 1,
            None => self.counted.push((code, 1)),
        }
    }

    /// The counts since the last summary, the most frequent first.
    fn take_summary(&mut self) -> Option<String> {
        let mut counted = std::mem::take(&mut self.counted);
        if counted.is_empty() {
            return None;
        }
        counted.sort_by_key(|(code, count)| (std::cmp::Reverse(*count), *code));
        let total: u64 = counted.iter().map(|(_, count)| count).sum();
        let mut text = format!("and {} more", grouped(total));
        let mut separator = ':';
        for (code, count) in counted {
            let _ = write!(text, "{separator} {} {code}", grouped(count));
            separator = ',';
        }
        Some(text)
    }
}

/// A number with its thousands separated.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ::http::Request;

    use super::*;
    use crate::Denial;
    use crate::http::Dialect;

    fn request(path: &str) -> Parts {
        Request::get(path).body(()).unwrap().into_parts().0
    }

    fn log(lines_max: u32) -> (RejectionLog, Arc<Mutex<Vec<String>>>) {
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = written.clone();
        let write = move |line: &str| sink.lock().unwrap().push(line.to_owned());
        (
            RejectionLog::new(lines_max, Duration::from_secs(1), write),
            written,
        )
    }

    #[test]
    fn a_flood_is_summed_up_and_the_next_interval_is_told_again() {
        let (log, written) = log(3);
        let begun = Instant::now();
        let (unknown, missing) = (
            Dialect::default().denied(Denial::Unknown),
            Dialect::default().missing(),
        );
        for at in 0..10_000 {
            let refused = if at % 100 == 99 { &missing } else { &unknown };
            log.record_at(
                refused,
                &request("/a"),
                begun + Duration::from_micros(at * 99),
            );
        }
        assert_eq!(written.lock().unwrap().len(), 3);
        let next = begun + Duration::from_secs(1);
        log.record_at(&missing, &request("/b"), next);
        let told = written.lock().unwrap().clone();
        assert_eq!(told[3], "and 9,997 more: 9,897 unknown, 100 missing");
        assert_eq!(told[4], "GET /b: 401: no credential was presented");
        // A clock that stands still, or one refusal alone, has nothing to sum up.
        log.flush();
        drop(log);
        assert_eq!(written.lock().unwrap().len(), 5);
    }

    #[test]
    fn what_was_counted_is_told_when_the_log_ends() {
        let (log, written) = log(0);
        log.record(&Dialect::default().missing(), &request("/a"));
        drop(log);
        assert_eq!(*written.lock().unwrap(), ["and 1 more: 1 missing"]);
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn no_line_holds_a_token() {
        let (log, written) = log(9);
        let secret = "aB3dE6gH9j".repeat(5);
        let path = format!("/admin/keys/acme_1lZ1doyVZI_{secret}?key={secret}");
        let mut parts = request(&path);
        parts.method = secret.parse().unwrap();
        log.record(&Dialect::default().missing(), &parts);
        assert_eq!(
            *written.lock().unwrap(),
            ["(withheld) /admin/keys/acme_1lZ1doyVZI_(withheld): 401: no credential was presented"]
        );
    }
}
