//! The named steps of a fleet, at which the project's own proofs kill a process. Without the
//! feature `proof` there are none.

#[cfg(feature = "proof")]
pub use armed::stop_at;

/// Notes that a step was reached.
#[inline(always)]
pub(crate) fn reached(step: &'static str) {
    #[cfg(feature = "proof")]
    armed::reached(step);
    #[cfg(not(feature = "proof"))]
    let _ = step;
}

#[cfg(feature = "proof")]
mod armed {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Mutex, PoisonError};

    struct Armed {
        step: String,
        left: u32,
        then: Box<dyn Fn() + Send>,
    }

    static IS_ARMED: AtomicBool = AtomicBool::new(false);
    static ARMED: Mutex<Option<Armed>> = Mutex::new(None);

    /// Calls `then` as this process reaches a step for the nth time from now on. It is called on the
    /// thread that got there, with the locks that it holds.
    pub fn stop_at(step: &str, nth: u32, then: impl Fn() + Send + 'static) {
        let armed = Armed {
            step: step.to_owned(),
            left: nth,
            then: Box::new(then),
        };
        *ARMED.lock().unwrap_or_else(PoisonError::into_inner) = Some(armed);
        IS_ARMED.store(true, Ordering::SeqCst);
    }

    pub(super) fn reached(step: &'static str) {
        if !IS_ARMED.load(Ordering::Relaxed) {
            return;
        }
        let mut armed = ARMED.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(of) = armed.as_mut().filter(|armed| armed.step == step) else {
            return;
        };
        of.left = of.left.saturating_sub(1);
        if of.left == 0 {
            let taken = armed.take();
            drop(armed);
            if let Some(taken) = taken {
                (taken.then)();
            }
        }
    }
}
