//! Deadlines that wake a task, without a runtime's timers: the crate has no runtime. One
//! thread for the process, which runs only while a task waits.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How many tasks may wait. For one more, the deadline is over at once.
const WAITING_MAX: usize = 16_384;
/// How long the thread stays without a waiting task.
const IDLE: Duration = Duration::from_secs(10);

static WAITING: Mutex<Waiting> = Mutex::new(Waiting {
    wakers: BTreeMap::new(),
    next: 0,
    is_running: false,
});
static CHANGED: Condvar = Condvar::new();

struct Waiting {
    wakers: BTreeMap<(Instant, u64), Waker>,
    next: u64,
    is_running: bool,
}

/// Wakes a task at an instant, unless it is dropped before.
#[derive(Debug)]
pub(super) struct Deadline {
    at: Instant,
    number: Option<u64>,
}

impl Deadline {
    /// A deadline so long from now.
    pub(super) fn after(time: Duration) -> Self {
        let now = Instant::now();
        Self {
            at: now.checked_add(time).unwrap_or(now),
            number: None,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.at
    }

    /// Ready once it is over, or where nothing could wake the task.
    pub(super) fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.is_over() {
            return Poll::Ready(());
        }
        let mut waiting = lock();
        let number = match self.number {
            Some(number) => number,
            None if waiting.wakers.len() >= WAITING_MAX || !waiting.run() => {
                return Poll::Ready(());
            }
            None => {
                waiting.next += 1;
                waiting.next
            }
        };
        self.number = Some(number);
        let is_first = match waiting.wakers.first_key_value() {
            Some(((first, _), _)) => self.at < *first,
            None => true,
        };
        // With the newest waker: the task may have moved.
        waiting
            .wakers
            .insert((self.at, number), context.waker().clone());
        if is_first {
            CHANGED.notify_one();
        }
        Poll::Pending
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            lock().wakers.remove(&(self.at, number));
        }
    }
}

impl Waiting {
    /// Starts the thread unless it runs.
    fn run(&mut self) -> bool {
        if !self.is_running {
            let thread = std::thread::Builder::new().name("gatekey-deadlines".to_owned());
            self.is_running = thread.spawn(wake).is_ok();
        }
        self.is_running
    }
}

fn lock() -> MutexGuard<'static, Waiting> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread: wakes the tasks whose deadline is over, and waits for the next deadline.
fn wake() {
    let mut waiting = lock();
    loop {
        let now = Instant::now();
        let later = waiting.wakers.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut waiting.wakers, later);
        if !due.is_empty() {
            drop(waiting);
            due.into_values().for_each(Waker::wake);
            waiting = lock();
            continue;
        }
        let first = waiting.wakers.first_key_value().map(|((at, _), _)| *at);
        let time = first.map_or(IDLE, |at| at.saturating_duration_since(now));
        let woken = CHANGED.wait_timeout(waiting, time);
        let (guard, timeout) = woken.unwrap_or_else(PoisonError::into_inner);
        waiting = guard;
        if first.is_none() && timeout.timed_out() && waiting.wakers.is_empty() {
            waiting.is_running = false;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc::{Sender, channel};
    use std::task::Wake;

    struct Told(Mutex<Sender<u32>>, u32);

    impl Wake for Told {
        fn wake(self: Arc<Self>) {
            let _ = self.0.lock().unwrap().send(self.1);
        }
    }

    #[test]
    fn tasks_are_woken_in_the_order_of_their_deadlines_and_not_once_they_are_dropped() {
        let (sender, woken) = channel();
        let waker = |number| Waker::from(Arc::new(Told(Mutex::new(sender.clone()), number)));
        let mut deadlines = Vec::new();
        for (number, ms) in [(3, 300), (1, 100), (2, 200), (0, 1)] {
            let mut deadline = Deadline::after(Duration::from_millis(ms));
            // Only the last waker counts.
            for number in [99, number] {
                let waker = waker(number);
                let polled = deadline.poll(&Context::from_waker(&waker));
                if polled.is_ready() {
                    // This thread was held up for longer.
                    waker.wake_by_ref();
                }
            }
            deadlines.push((number, deadline));
        }
        deadlines.retain(|(number, _)| *number != 2);
        let order: Vec<u32> = (0..3)
            .map(|_| woken.recv_timeout(Duration::from_secs(60)).unwrap())
            .filter(|number| *number != 99)
            .collect();
        assert!(order.iter().all(|number| *number != 2), "{order:?}");
        let (_, last) = &deadlines[0];
        assert!(last.is_over() || !order.contains(&3));
    }
}
