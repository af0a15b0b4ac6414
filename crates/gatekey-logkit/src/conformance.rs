//! What every log must do, one function for each promise. Each takes a new, empty log, and
//! panics where the promise is broken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gatekey::fleet::{
    Appended, Beat, BodyId, ENTRY_LEN_MAX, Entries, Head, Log, PART_LEN_MAX, READS_LEN_MAX, Seal,
    SnapshotInfo,
};

/// Runs all, each on a new log.
///
/// # Panics
/// Where a promise is broken.
pub fn run<L: Log + ?Sized>(new: impl Fn() -> Arc<L>) {
    a_log_is_founded_once(&*new());
    entries_are_read_in_order_as_they_were_appended(&*new());
    an_append_behind_another_head_is_overtaken(&*new());
    an_append_with_an_older_fence_is_overtaken(&*new());
    of_appends_behind_one_head_one_wins(&new());
    large_entries_and_many_are_carried(&*new());
    a_body_comes_back_as_it_was_put(&*new());
    bodies_of_other_entries_and_logs_are_others(&*new(), &*new());
    a_trim_takes_bodies_with_their_entries(&*new());
    a_wait_ends_with_an_entry_and_with_its_time(&new());
    a_beat_gives_the_head_and_is_seen_by_others(&*new());
    a_beat_sees_every_append_before_it(&new());
    snapshots_are_seen_once_they_are_sealed(&*new());
    a_trim_leaves_what_is_behind_it(&*new());
    a_trim_forgets_servers_that_are_lost(&new());
}

/// An entry of this length, whose seal is this byte.
#[must_use]
pub fn entry(len: usize, byte: u8) -> Vec<u8> {
    let mut entry = vec![0x5a; len];
    entry.extend([byte; 32]);
    entry
}

fn founded<L: Log + ?Sized>(log: &L) -> Head {
    assert!(ok(log.found(&entry(8, 0))));
    Head {
        position: 0,
        seal: Seal::new([0; 32]),
        fence: 0,
    }
}

fn ok<T>(result: gatekey::fleet::LogResult<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("the log does not answer: {error}"),
    }
}

fn append<L: Log + ?Sized>(log: &L, after: &Head, bytes: &[u8]) -> Head {
    match log.append(after, bytes) {
        Appended::Done => Head {
            position: after.position + 1,
            seal: Seal::of(bytes),
            fence: after.fence,
        },
        other => panic!("an append behind the head: {other:?}"),
    }
}

/// What a server of a name says that it can read: all that it may, of every byte.
fn reads_of(node: &str) -> Vec<u8> {
    let bytes = (0..=255).cycle().take(READS_LEN_MAX - node.len());
    node.bytes().chain(bytes).collect()
}

fn beat<L: Log + ?Sized>(log: &L, node: &str, position: u64) -> Head {
    let beat = Beat {
        node: node.to_owned(),
        position,
        lease: Duration::from_millis(1_500),
        reads: reads_of(node),
    };
    ok(log.beat(&beat)).head
}

fn read<L: Log + ?Sized>(log: &L, after: u64) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        match ok(log.read(after + all.len() as u64, 16)) {
            Entries::Found(found) if found.is_empty() => return all,
            Entries::Found(found) => all.extend(found),
            Entries::Trimmed { floor } => panic!("trimmed up to {floor}"),
        }
    }
}

/// There is no log before it is founded, and the first who founds it wins.
///
/// # Panics
/// Where the promise is broken.
pub fn a_log_is_founded_once<L: Log + ?Sized>(log: &L) {
    assert_eq!(ok(log.founding()), None);
    assert!(ok(log.found(&entry(40, 1))), "the first");
    assert!(!ok(log.found(&entry(40, 2))), "the second");
    assert_eq!(ok(log.founding()), Some(entry(40, 1)));
    let head = beat(log, "a", 0);
    assert_eq!((head.position, head.seal), (0, Seal::new([1; 32])));
    assert!(read(log, 0).is_empty());
}

/// Entries come back as they were, in order, without gaps, from any position.
///
/// # Panics
/// Where the promise is broken.
pub fn entries_are_read_in_order_as_they_were_appended<L: Log + ?Sized>(log: &L) {
    let mut head = founded(log);
    let entries: Vec<_> = (1..=40)
        .map(|byte| entry(usize::from(byte), byte))
        .collect();
    for entry in &entries {
        head = append(log, &head, entry);
    }
    for after in 0..=40 {
        assert_eq!(read(log, after as u64), entries[after..], "behind {after}");
    }
    assert_eq!(beat(log, "a", 40), head);
}

/// An append behind anything but the head changes nothing, and learns the head.
///
/// # Panics
/// Where the promise is broken.
pub fn an_append_behind_another_head_is_overtaken<L: Log + ?Sized>(log: &L) {
    let first = founded(log);
    let head = append(log, &first, &entry(9, 1));
    let other = Head {
        position: 2,
        ..first
    };
    for wrong in [first, other] {
        match log.append(&wrong, &entry(9, 2)) {
            Appended::Overtaken(found) => assert_eq!(found, head),
            other => panic!("behind {wrong:?}: {other:?}"),
        }
    }
    assert_eq!(read(log, 0), [entry(9, 1)]);
}

/// A fence keeps appends out that were sent before it, though they name the head.
///
/// # Panics
/// Where the promise is broken.
pub fn an_append_with_an_older_fence_is_overtaken<L: Log + ?Sized>(log: &L) {
    let old = founded(log);
    let fenced = ok(log.fence());
    assert_eq!((fenced.position, fenced.seal), (0, old.seal));
    assert!(fenced.fence > old.fence);
    match log.append(&old, &entry(9, 1)) {
        Appended::Overtaken(head) => assert_eq!(head, fenced),
        other => panic!("with an older fence: {other:?}"),
    }
    assert!(read(log, 0).is_empty());
    let head = append(log, &fenced, &entry(9, 2));
    assert_eq!(beat(log, "a", 1), head);
}

/// Of appends that race behind one head, one is done and all others are overtaken.
///
/// # Panics
/// Where the promise is broken.
pub fn of_appends_behind_one_head_one_wins<L: Log + ?Sized>(log: &Arc<L>) {
    const THREADS: u8 = 4;
    const EACH: u64 = 25;
    founded(&**log);
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 1..=THREADS {
            let (log, done) = (log.clone(), &done);
            scope.spawn(move || {
                let mut mine = 0;
                let mut head = beat(&*log, "a", 0);
                while mine < EACH {
                    match log.append(&head, &entry(usize::from(thread), thread)) {
                        Appended::Done => {
                            mine += 1;
                            done.fetch_add(1, Ordering::SeqCst);
                            head.position += 1;
                            head.seal = Seal::new([thread; 32]);
                        }
                        Appended::Overtaken(found) => head = found,
                        other => panic!("{other:?}"),
                    }
                }
            });
        }
    });
    let all = read(&**log, 0);
    assert_eq!(all.len() as u64, done.load(Ordering::SeqCst));
    for thread in 1..=THREADS {
        let of_thread = all
            .iter()
            .filter(|it| **it == entry(usize::from(thread), thread));
        assert_eq!(of_thread.count() as u64, EACH, "thread {thread}");
    }
}

/// Entries are as large as an engine makes them, and a read asks for as many as it wants.
///
/// # Panics
/// Where the promise is broken.
pub fn large_entries_and_many_are_carried<L: Log + ?Sized>(log: &L) {
    let mut head = founded(log);
    let large = |byte| entry(ENTRY_LEN_MAX - 32, byte);
    let all: Vec<_> = (1..=36).map(large).chain([entry(0, 99)]).collect();
    for entry in &all {
        head = append(log, &head, entry);
    }
    assert!(read(log, 0) == all);
    match ok(log.read(0, 1)) {
        Entries::Found(found) => assert_eq!(found.len(), 1),
        Entries::Trimmed { .. } => panic!("nothing was trimmed"),
    }
}

/// A part of a body, of every byte.
fn part_of(len: usize, from: u8) -> Vec<u8> {
    let bytes = (0..=255).cycle().map(|byte: u8| byte.wrapping_add(from));
    bytes.take(len).collect()
}

/// The parts of a body come back bit for bit, in whatever order they were put and asked for,
/// before and after there is an entry. One that was put again is what it was.
///
/// # Panics
/// Where the promise is broken.
pub fn a_body_comes_back_as_it_was_put<L: Log + ?Sized>(log: &L) {
    let head = founded(log);
    let id: BodyId = std::array::from_fn(|at| 0xf8 + u8::try_from(at % 8).unwrap_or(0));
    let parts = [
        part_of(PART_LEN_MAX, 0),
        part_of(PART_LEN_MAX, 7),
        part_of(1, 0),
    ];
    assert_eq!(ok(log.body(0, &id, 0)), None);
    for (number, part) in (0u32..3).zip(&parts).rev() {
        ok(log.put_body(0, &id, number, part));
    }
    let are_there = || {
        for (number, part) in (0..).zip(&parts) {
            assert!(ok(log.body(0, &id, number)).as_ref() == Some(part));
        }
        assert_eq!(ok(log.body(0, &id, 3)), None);
    };
    are_there();
    // Put again, as after an answer that was lost. It is durable, and nothing changes it.
    ok(log.put_body(0, &id, 1, &parts[1]));
    ok(log.put_body(0, &id, 2, b"another"));
    are_there();
    assert!(read(log, 0).is_empty(), "a body is no entry");
    let head = append(log, &head, &entry(60, 1));
    are_there();
    append(log, &head, &entry(60, 2));
    are_there();
    assert!(log.body_len_max() >= ENTRY_LEN_MAX);
}

/// Bodies behind other positions, of other ids and of other logs are others.
///
/// # Panics
/// Where the promise is broken.
pub fn bodies_of_other_entries_and_logs_are_others<L: Log + ?Sized>(log: &L, other: &L) {
    founded(log);
    founded(other);
    let body = |log: &L, after, id: u8, part| ok(log.body(after, &[id; 16], part));
    ok(log.put_body(5, &[1; 16], 0, b"of the first"));
    ok(log.put_body(5, &[2; 16], 0, b"of the second"));
    ok(log.put_body(6, &[1; 16], 0, b"behind another"));
    ok(other.put_body(5, &[1; 16], 0, b"of another log"));
    assert_eq!(body(log, 5, 1, 0).as_deref(), Some(&b"of the first"[..]));
    assert_eq!(body(log, 5, 2, 0).as_deref(), Some(&b"of the second"[..]));
    assert_eq!(body(log, 6, 1, 0).as_deref(), Some(&b"behind another"[..]));
    assert_eq!(
        body(other, 5, 1, 0).as_deref(),
        Some(&b"of another log"[..])
    );
    assert_eq!(body(log, 6, 2, 0), None);
    assert_eq!(body(log, 5, 1, 1), None);
    assert_eq!(body(other, 5, 2, 0), None);
    assert_eq!(body(other, 6, 1, 0), None);
}

/// A trim removes the bodies of the entries that it removes, with those that no entry names,
/// and no other.
///
/// # Panics
/// Where the promise is broken.
pub fn a_trim_takes_bodies_with_their_entries<L: Log + ?Sized>(log: &L) {
    let mut head = founded(log);
    for byte in 1..=10 {
        // Of the entry that comes next, and of an append that was overtaken.
        for id in [byte, 100 + byte] {
            for part in 0..3 {
                ok(log.put_body(head.position, &[id; 16], part, &[id; 40]));
            }
        }
        head = append(log, &head, &entry(4, byte));
    }
    // Of an append that is still to come.
    ok(log.put_body(10, &[11; 16], 0, b"next"));
    let is_there = |after: u8| {
        let of = |id: u8, part| ok(log.body(after.into(), &[id; 16], part)).is_some();
        let ids = [after + 1, 101 + after];
        let found = ids.map(|id| [0, 1, 2].map(|part| of(id, part)));
        let is_whole = found == [[true; 3]; 2];
        assert!(is_whole || found == [[false; 3]; 2], "behind {after}");
        is_whole
    };
    let there = || (0..10).filter(|after| is_there(*after)).collect::<Vec<_>>();
    assert_eq!(there(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    ok(log.trim(6));
    assert_eq!(there(), [6, 7, 8, 9]);
    // One that was on its way all the while goes with the next trim.
    ok(log.put_body(2, &[3; 16], 0, b"late"));
    ok(log.trim(3));
    assert_eq!(ok(log.body(2, &[3; 16], 0)), None);
    assert_eq!(there(), [6, 7, 8, 9]);
    // The last entry stays, and so its body.
    ok(log.trim(99));
    assert_eq!(there(), [9]);
    let next = ok(log.body(10, &[11; 16], 0));
    assert_eq!(next.as_deref(), Some(&b"next"[..]));
}

/// A wait ends soon after an entry was appended, and at the latest with its time.
///
/// # Panics
/// Where the promise is broken.
pub fn a_wait_ends_with_an_entry_and_with_its_time<L: Log + ?Sized>(log: &Arc<L>) {
    let head = founded(&**log);
    ok(log.wait(0, Duration::from_millis(20)));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            // It may end early: whoever waits asks again.
            while read(&**log, 0).is_empty() {
                ok(log.wait(0, Duration::from_secs(20)));
            }
        });
        append(&**log, &head, &entry(3, 1));
        assert!(waits.join().is_ok());
    });
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "it slept through an entry"
    );
}

/// A server that beats is seen with what it said, and its age grows.
///
/// # Panics
/// Where the promise is broken.
pub fn a_beat_gives_the_head_and_is_seen_by_others<L: Log + ?Sized>(log: &L) {
    let head = founded(log);
    let head = append(log, &head, &entry(3, 7));
    assert_eq!(beat(log, "a", 1), head);
    assert_eq!(beat(log, "b", 0), head);
    assert_eq!(beat(log, "b", 1), head);
    std::thread::sleep(Duration::from_millis(30));
    beat(log, "a", 1);
    let mut nodes = ok(log.nodes());
    nodes.sort_by(|a, b| a.beat.node.cmp(&b.beat.node));
    let names: Vec<_> = nodes
        .iter()
        .map(|it| (&*it.beat.node, it.beat.position))
        .collect();
    assert_eq!(names, [("a", 1), ("b", 1)]);
    assert!(
        nodes
            .iter()
            .all(|it| it.beat.lease == Duration::from_millis(1_500))
    );
    for node in &nodes {
        assert_eq!(node.beat.reads, reads_of(&node.beat.node));
    }
    assert!(nodes[1].age >= Duration::from_millis(25), "{nodes:?}");
    assert!(nodes[0].age < nodes[1].age, "{nodes:?}");
    // Both are counted, and one whose lease is over is not.
    let servers = |node: &str, ms| {
        let lease = Duration::from_millis(ms);
        let node = node.to_owned();
        let position = 1;
        ok(log.beat(&Beat {
            node,
            position,
            lease,
            reads: Vec::new(),
        }))
        .servers
    };
    assert_eq!(servers("a", 1_500), 2);
    assert_eq!(servers("b", 1), 2);
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(servers("a", 1_500), 1);
    ok(log.forget("a"));
    assert_eq!(ok(log.nodes()).len(), 1);
}

/// A heartbeat that begins after an append was done finds it.
///
/// # Panics
/// Where the promise is broken.
pub fn a_beat_sees_every_append_before_it<L: Log + ?Sized>(log: &Arc<L>) {
    let mut head = founded(&**log);
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for byte in 1..=60 {
                head = append(&**log, &head, &entry(2, byte));
                done.store(head.position, Ordering::SeqCst);
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while done.load(Ordering::SeqCst) < 60 {
                    let before = done.load(Ordering::SeqCst);
                    let found = beat(&**log, "a", 0).position;
                    assert!(found >= before, "{found} after {before}");
                }
            });
        }
    });
}

/// A snapshot is not seen before it is sealed, and then with all its parts.
///
/// # Panics
/// Where the promise is broken.
pub fn snapshots_are_seen_once_they_are_sealed<L: Log + ?Sized>(log: &L) {
    founded(log);
    let parts = [vec![1; 1 << 20], vec![2; 77]];
    for (number, part) in (0..).zip(&parts) {
        ok(log.put_part(5, number, part));
    }
    // Put again, as after a failure.
    ok(log.put_part(5, 0, &parts[0]));
    assert!(ok(log.snapshots()).is_empty());
    assert_eq!(ok(log.part(5, 0)), None);
    let info = SnapshotInfo {
        position: 5,
        parts: 2,
    };
    ok(log.seal_snapshot(&info));
    assert_eq!(ok(log.snapshots()), [info]);
    for (number, part) in (0..).zip(&parts) {
        assert_eq!(ok(log.part(5, number)).as_ref(), Some(part));
    }
    assert_eq!(ok(log.part(5, 2)), None);
    assert_eq!(ok(log.part(6, 0)), None);
}

/// A trim removes entries and older snapshots, and neither the founding entry nor the last.
///
/// # Panics
/// Where the promise is broken.
pub fn a_trim_leaves_what_is_behind_it<L: Log + ?Sized>(log: &L) {
    let mut head = founded(log);
    for byte in 1..=10 {
        head = append(log, &head, &entry(4, byte));
    }
    for position in [2, 6] {
        ok(log.put_part(position, 0, b"part"));
        ok(log.seal_snapshot(&SnapshotInfo { position, parts: 1 }));
    }
    ok(log.trim(6));
    for after in 0..6 {
        match ok(log.read(after, 16)) {
            Entries::Trimmed { floor } => assert_eq!(floor, 6),
            Entries::Found(found) => panic!("behind {after}: {} entries", found.len()),
        }
    }
    assert_eq!(read(log, 6).len(), 4);
    let left: Vec<_> = ok(log.snapshots()).iter().map(|it| it.position).collect();
    assert_eq!(left, [6]);
    assert_eq!(ok(log.founding()), Some(entry(8, 0)));
    // The last entry stays: the next follows on its seal.
    ok(log.trim(99));
    assert_eq!(read(log, 9).len(), 1);
    assert_eq!(beat(log, "a", 10), head);
    append(log, &head, &entry(4, 11));
}

/// A trim forgets servers that have been gone for twice their leases and are behind it, and
/// no others. One that beats is there again, also where it beats while the log is trimmed.
///
/// # Panics
/// Where the promise is broken.
pub fn a_trim_forgets_servers_that_are_lost<L: Log + ?Sized>(log: &Arc<L>) {
    let mut head = founded(&**log);
    for byte in 1..=8 {
        head = append(&**log, &head, &entry(4, byte));
    }
    let says = |node: &str, position, lease_ms| {
        ok(log.beat(&Beat {
            node: node.to_owned(),
            position,
            lease: Duration::from_millis(lease_ms),
            reads: Vec::new(),
        }));
    };
    let names = || {
        let mut names: Vec<_> = (ok(log.nodes()).into_iter())
            .map(|it| it.beat.node)
            .collect();
        names.sort();
        names
    };
    says("behind", 3, 60_000);
    says("gone", 6, 1);
    says("lost", 5, 1);
    says("there", 8, 60_000);
    std::thread::sleep(Duration::from_millis(30));
    ok(log.trim(6));
    assert_eq!(names(), ["behind", "gone", "there"]);
    says("lost", 5, 60_000);
    ok(log.trim(6));
    assert_eq!(names().len(), 4);
    // Who beats again while it is being forgotten is waited for.
    for _ in 0..30 {
        says("lost", 5, 1);
        std::thread::sleep(Duration::from_millis(4));
        std::thread::scope(|scope| {
            scope.spawn(|| ok(log.trim(6)));
            says("lost", 5, 60_000);
        });
        assert!(names().iter().any(|name| name == "lost"));
    }
}
