//! Writing lines without waiting for their reader.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Writes lines on a thread of its own. A reader that reads nothing, as of a full pipe,
/// holds up that thread alone: the queue is bounded, and lines that do not fit are counted.
pub(super) struct LineWriter {
    /// `None` where the system could not start the thread.
    queue: Option<SyncSender<Message>>,
    lost: Arc<AtomicU64>,
}

enum Message {
    Line(String),
    /// Answered once all lines before it are written.
    Flush(SyncSender<()>),
}

impl LineWriter {
    /// At most so many lines wait.
    pub(super) fn new(lines_max: usize, out: impl Write + Send + 'static) -> Self {
        let (queue, messages) = sync_channel(lines_max);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = lost.clone();
        let thread = thread::Builder::new().name("gatekey-log".to_owned());
        let started = thread.spawn(move || run(&messages, &counted, out));
        Self {
            queue: started.is_ok().then_some(queue),
            lost,
        }
    }

    /// Queues a line, given without its end, or counts it as lost.
    pub(super) fn write(&self, line: &str) {
        let queued = (self.queue.as_ref())
            .is_some_and(|queue| queue.try_send(Message::Line(format!("{line}\n"))).is_ok());
        if !queued {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all lines are written, for at most so long.
    pub(super) fn flush(&self, time: Duration) {
        let Some(queue) = &self.queue else { return };
        let begun = Instant::now();
        let left = || time.saturating_sub(begun.elapsed());
        let (written, is_written) = sync_channel(1);
        let mut message = Message::Flush(written);
        while let Err(TrySendError::Full(back)) = queue.try_send(message) {
            if left().is_zero() {
                return;
            }
            message = back;
            thread::sleep(Duration::from_millis(1));
        }
        let _ = is_written.recv_timeout(left());
    }
}

/// The thread. What cannot be written, as to a closed pipe, is lost.
fn run(messages: &Receiver<Message>, lost: &AtomicU64, mut out: impl Write) {
    for message in messages {
        let count = lost.swap(0, Ordering::Relaxed);
        if count > 0 {
            let _ = out.write_all(format!("({count} lines lost: the log was full)\n").as_bytes());
        }
        match message {
            // In one piece, so that lines of several processes do not mix.
            Message::Line(line) => drop(out.write_all(line.as_bytes())),
            Message::Flush(written) => {
                let _ = out.flush();
                let _ = written.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Takes nothing until it is opened.
    struct Stuck {
        opened: Option<Receiver<()>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if let Some(opened) = self.opened.take() {
                opened.recv().unwrap();
            }
            self.written.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_reads_nothing_holds_up_no_writer_and_lost_lines_are_counted() {
        let (open, opened) = sync_channel(1);
        let written = Arc::new(Mutex::new(Vec::new()));
        let stuck = Stuck {
            opened: Some(opened),
            written: written.clone(),
        };
        let writer = Arc::new(LineWriter::new(4, stuck));
        let queue = writer.clone();
        let caller = thread::spawn(move || {
            for line in 0..1_000 {
                queue.write(&line.to_string());
            }
        });
        // Generous: whoever waits for the reader waits for ever.
        let begun = Instant::now();
        while !caller.is_finished() {
            assert!(begun.elapsed() < Duration::from_secs(120), "a caller waits");
            thread::sleep(Duration::from_millis(1));
        }
        writer.flush(Duration::from_millis(1));
        assert!(written.lock().unwrap().is_empty());
        open.send(()).unwrap();
        // Generous: it waits for the thread alone.
        writer.flush(Duration::from_secs(120));
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let (mut lines, mut lost) = (0, 0);
        for line in text.lines() {
            match line.strip_prefix('(').and_then(|rest| rest.split_once(' ')) {
                Some((count, _)) => lost += count.parse::<u64>().unwrap(),
                None => lines += 1,
            }
        }
        assert_eq!(lines + lost, 1_000, "{text}");
        assert!((4..=6).contains(&lines), "{text}");
    }
}
