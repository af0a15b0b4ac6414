//! Work on many records by several threads: some read them, one takes what was read.
//!
//! They are there for a backup, a compaction and a check alone, and end with it.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Builder;

use crate::model::error::Error;
use crate::store::failure::guarded;

/// How many records are handed over at once.
pub(super) const PER_CHUNK: u64 = 4096;
/// How much of what a reader gives waits to be taken, at most.
const WAITING_MAX: usize = 2;
/// The length that stands before each part.
const LEN: usize = size_of::<u64>();

/// Records as bytes: the key and the value of each, each behind its length.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    pub(super) records: u64,
}

impl Chunk {
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        for part in [key, value] {
            let len = (part.len() as u64).to_le_bytes();
            self.bytes.extend_from_slice(&len);
            self.bytes.extend_from_slice(part);
        }
        self.records += 1;
    }

    /// The keys and values, as they were added.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = self.bytes.as_slice();
        let mut part = move || {
            let (len, behind) = rest.split_first_chunk::<LEN>()?;
            let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
            let (part, behind) = behind.split_at_checked(len)?;
            rest = behind;
            Some(part)
        };
        std::iter::from_fn(move || Some((part()?, part()?)))
    }
}

/// Takes what readers give in turns, until the one whose turn it is has no more. Each reader has
/// a thread of its own, where `apart` and where one can be started.
pub(super) fn in_turns<T, R, const N: usize>(
    readers: [R; N],
    apart: bool,
    mut take: impl FnMut(T) -> Result<(), Error>,
) -> Result<(), Error>
where
    T: Send,
    R: FnMut() -> Result<Option<T>, Error> + Send,
{
    // A model checker knows nothing of threads that it has not started.
    let apart = apart && !cfg!(gatekey_shuttle);
    std::thread::scope(|scope| {
        let mut sources = Vec::with_capacity(N);
        let mut threads = Vec::with_capacity(N);
        for read in readers {
            let (give, given) = sync_channel::<R>(1);
            let (to, from) = sync_channel(WAITING_MAX);
            let run = move || match given.recv() {
                Ok(read) => hand_over(read, &to),
                Err(_) => Ok(()),
            };
            let builder = Builder::new().name("gatekey-reader".to_owned());
            let thread = apart.then(|| builder.spawn_scoped(scope, run));
            let Some(Ok(thread)) = thread else {
                sources.push(Source::Here(read));
                continue;
            };
            // It waits for this.
            let _ = give.send(read);
            threads.push(thread);
            sources.push(Source::Apart(from));
        }
        let taken = take_in_turns(&mut sources, &mut take);
        // Those that wait to hand over more, end.
        drop(sources);
        let mut ended = threads.into_iter().map(|thread| match thread.join() {
            Ok(read) => read,
            Err(_) => Err(Error::Internal("a reader panicked")),
        });
        let read = ended.try_for_each(|read| read);
        taken.and(read)
    })
}

/// Where what is read comes from.
enum Source<T, R> {
    Apart(Receiver<T>),
    Here(R),
}

fn hand_over<T>(
    mut read: impl FnMut() -> Result<Option<T>, Error>,
    to: &SyncSender<T>,
) -> Result<(), Error> {
    while let Some(some) = guarded(&mut read)? {
        if to.send(some).is_err() {
            // Nobody takes more: whoever did says why.
            break;
        }
    }
    Ok(())
}

fn take_in_turns<T, R: FnMut() -> Result<Option<T>, Error>>(
    sources: &mut [Source<T, R>],
    take: &mut impl FnMut(T) -> Result<(), Error>,
) -> Result<(), Error> {
    loop {
        for source in &mut *sources {
            let some = match source {
                Source::Apart(from) => from.recv().ok(),
                Source::Here(read) => read()?,
            };
            match some {
                Some(some) => take(some)?,
                None => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
#[cfg(not(gatekey_shuttle))]
mod tests {
    use super::*;

    fn chunk(number: u64) -> Chunk {
        let mut chunk = Chunk::default();
        chunk.add(&number.to_le_bytes(), &[7; 3]);
        chunk
    }

    /// Two readers of the numbers below a count, in turns; one of them fails at a number.
    fn numbers(
        count: u64,
        fails_at: Option<u64>,
    ) -> [impl FnMut() -> Result<Option<Chunk>, Error> + Send; 2] {
        [0, 1].map(|first| {
            let mut at = first;
            move || {
                if Some(at) == fails_at {
                    return Err(Error::Internal("a number"));
                }
                let number = at;
                at += 2;
                Ok((number < count).then(|| chunk(number)))
            }
        })
    }

    #[test]
    fn chunks_of_several_readers_are_taken_in_order() {
        for apart in [false, true] {
            for count in [0, 1, 2, 9, 100, 101] {
                let mut taken = Vec::new();
                in_turns(numbers(count, None), apart, |chunk| {
                    taken.push(chunk);
                    Ok(())
                })
                .unwrap();
                assert_eq!(taken, (0..count).map(chunk).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn an_error_of_either_side_ends_both() {
        for apart in [false, true] {
            for at in 0..20 {
                let mut taken = 0;
                let failed = in_turns(numbers(100, Some(at)), apart, |_| {
                    taken += 1;
                    Ok(())
                });
                assert!(matches!(failed, Err(Error::Internal("a number"))));
                assert_eq!(taken, at);

                let mut left = at;
                let failed = in_turns(numbers(100, None), apart, |_| {
                    left = left.checked_sub(1).ok_or(Error::Internal("taken"))?;
                    Ok(())
                });
                assert!(matches!(failed, Err(Error::Internal("taken"))));
            }
        }
    }

    #[test]
    fn a_panic_of_a_reader_is_an_error() {
        let reader = || -> Result<Option<Chunk>, Error> { panic!("a page") };
        let failed = in_turns([reader], true, |_| Ok(()));
        assert!(matches!(failed, Err(Error::Corrupted(_))));
    }

    #[test]
    fn records_come_out_of_a_chunk_as_they_went_in() {
        let mut chunk = Chunk::default();
        let records: [(&[u8], &[u8]); 3] = [(b"a", b""), (b"", b"bc"), (&[0xff; 300], b"d")];
        for (key, value) in records {
            chunk.add(key, value);
        }
        assert_eq!(chunk.records, 3);
        assert!(chunk.iter().eq(records));
        chunk.bytes.pop();
        assert_eq!(chunk.iter().count(), 2);
    }
}
