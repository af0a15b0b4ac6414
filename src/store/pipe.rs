//! Work on many records by several threads: some read them, one takes what was read.
//!
//! They are there for a backup, a compaction, a check, a recovery that writes the file anew, and
//! a large batch of new keys, and end with it.

use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Builder;

use redb::{Key, Range, Value};

use crate::crypto::stack::clear_stack;
use crate::model::error::Error;
use crate::store::failure::{OrStore, guarded};

/// How many records are handed over at once, at most, and of how many bytes, but for the last.
pub(super) const PER_CHUNK: u64 = 4096;
const BYTES_PER_CHUNK: usize = 1 << 20;
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

/// The next records of a table, as many as are handed over at once; `None` behind the last.
/// `each` sees every one of them.
pub(super) fn next_chunk<K: Key + 'static, V: Value + 'static>(
    rows: &mut Range<'_, K, V>,
    mut each: impl FnMut(&[u8], &[u8]),
) -> Result<Option<Chunk>, Error> {
    let mut chunk = Chunk::default();
    while chunk.records < PER_CHUNK
        && chunk.bytes.len() < BYTES_PER_CHUNK
        && let Some(row) = rows.next()
    {
        let (key, value) = row.or_store()?;
        let (key, value) = (key.value(), value.value());
        let (key, value) = (K::as_bytes(&key), V::as_bytes(&value));
        each(key.as_ref(), value.as_ref());
        chunk.add(key.as_ref(), value.as_ref());
    }
    Ok((chunk.records > 0).then_some(chunk))
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

/// Does two things of which neither needs the other: the first on a thread of its own, where
/// `apart` and where one can be started, and otherwise before the second. A panic of either is
/// the caller's.
pub(crate) fn beside<F: FnOnce() -> Result<(), Error> + Send>(
    apart: bool,
    first: F,
    second: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    // A model checker knows nothing of threads that it has not started.
    let apart = apart && !cfg!(gatekey_shuttle);
    std::thread::scope(|scope| {
        let (give, given) = sync_channel::<F>(1);
        let run = move || {
            let done = given.recv().map_or(Ok(()), |first| first());
            // It may have drawn tokens, and who gets its memory next is not known.
            clear_stack();
            done
        };
        let builder = Builder::new().name("gatekey-rows".to_owned());
        let thread = apart.then(|| builder.spawn_scoped(scope, run));
        let Some(Ok(thread)) = thread else {
            return first().and_then(|()| second());
        };
        // It waits for this.
        let _ = give.send(first);
        let second = second();
        match thread.join() {
            Ok(first) => first.and(second),
            Err(panic) => resume_unwind(panic),
        }
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
    fn two_things_are_done_beside_each_other_and_an_error_of_either_is_told() {
        let error = |fails: bool| match fails {
            true => Err(Error::Internal("a row")),
            false => Ok(()),
        };
        for apart in [false, true] {
            for (fails, second_fails) in [(false, false), (true, false), (false, true)] {
                let (mut done_by, here) = (None, std::thread::current().id());
                let first = || {
                    done_by = Some(std::thread::current().id());
                    error(fails)
                };
                let done = beside(apart, first, || error(second_fails));
                assert_eq!(done.is_err(), fails || second_fails, "{apart}");
                assert_eq!(done_by.map(|thread| thread != here), Some(apart));
            }
        }
    }

    #[test]
    #[should_panic(expected = "a page")]
    fn a_panic_of_the_first_of_two_is_the_callers() {
        let _ = beside(true, || panic!("a page"), || Ok(()));
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

    /// Whatever a table has, and however long its records are.
    #[test]
    fn a_table_is_read_in_chunks_of_bounded_length() {
        const TABLE: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("rows");
        let memory = redb::backends::InMemoryBackend::new();
        let db = redb::Database::builder()
            .create_with_backend(memory)
            .unwrap();
        let txn = db.begin_write().unwrap();
        {
            let mut table = txn.open_table(TABLE).unwrap();
            let lens = std::iter::repeat_n(3, 10_000).chain(std::iter::repeat_n(100_000, 25));
            for (key, len) in (0..).zip(lens) {
                table.insert(key, vec![7; len].as_slice()).unwrap();
            }
        }
        txn.commit().unwrap();
        let txn = redb::ReadableDatabase::begin_read(&db).unwrap();
        let table = txn.open_table(TABLE).unwrap();
        let mut rows = redb::ReadableTable::iter(&table).unwrap();
        let (mut seen, mut read, mut chunks) = (0, 0, 0);
        while let Some(chunk) = next_chunk(&mut rows, |_, _| seen += 1).unwrap() {
            assert!(chunk.records <= PER_CHUNK, "{} records", chunk.records);
            let len = chunk.bytes.len();
            assert!(len < BYTES_PER_CHUNK + 100_100, "{len} bytes");
            assert_eq!(chunk.iter().count() as u64, chunk.records);
            read += chunk.records;
            chunks += 1;
        }
        assert_eq!((seen, read, chunks), (10_025, 10_025, 5));
    }
}
