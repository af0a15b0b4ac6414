//! Secrets on a stack: what a hash, a signature or a seal has worked with stays where it
//! was until later calls write there.
//!
//! A caller's thread goes on and does so soon. The engine's own threads wait for seconds, or end,
//! and lead changes of callers, whose secrets these may be: they clear what they have used.

use std::hint::black_box;

/// How far below its caller a change with all that it hashes goes: 42 KiB were seen where
/// nothing is optimised.
const DEPTH: usize = 96 << 10;

/// Clears what earlier calls have left on this thread's stack. Not for callers' threads,
/// which may have less.
#[inline(never)]
pub(crate) fn clear_stack() {
    black_box(&mut [0_u8; DEPTH]);
}
