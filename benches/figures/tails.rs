//! How late the latest hits are, over the floor's own: idle, and beside what a server does as
//! well.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gatekey::{Engine, Reason, Rotation};
use hdrhistogram::Histogram;

use crate::world::{Floor, World, build, spec};
use crate::{POOL, Run, granted, print, warm};

const QUANTILES: [(f64, &str); 4] = [
    (0.5, "p50"),
    (0.99, "p99"),
    (0.999, "p999"),
    (0.9999, "p9999"),
];
const WRITERS: usize = 64;
/// How many of the one, and then of the other: so that the two meet the same hindrances of the
/// machine.
const STRETCH: usize = 2_000;

/// 200,000 keys with the default options; hits and the floor in turns, each reading the clock
/// as often.
pub(crate) fn tails(run: &Run) {
    let nothing: &(dyn Fn(&Engine, &AtomicBool) + Sync) = &|_, _| {};
    let copy = run.path("tails.backup");
    let backups = |engine: &Engine, stop: &AtomicBool| {
        while !stop.load(Ordering::Relaxed) {
            let _ = engine.backup_with(&copy, |_| match stop.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            });
            let _ = std::fs::remove_file(&copy);
        }
    };
    let beside = [
        ("", nothing),
        ("_beside_writes", &writes),
        ("_beside_flushes", &flushes),
        ("_beside_backups", &backups),
    ];
    let names = beside.map(|(beside, _)| QUANTILES.map(|(_, name)| figure(name, beside)));
    let wants = |names: &[String; 4]| run.wants(&names.each_ref().map(String::as_str));
    if !names.iter().any(wants) {
        return;
    }
    let world = build(&run.path("200k.redb"), 200_000);
    let engine = Engine::open(&world.path).unwrap();
    warm(&engine, &world);
    let floor = Floor::new(&world);
    let misses = || engine.metrics().unwrap().resident_misses;
    for ((beside, work), names) in beside.into_iter().zip(names) {
        if !wants(&names) {
            continue;
        }
        let (stop, before) = (AtomicBool::new(false), misses());
        let histograms = std::thread::scope(|scope| {
            scope.spawn(|| work(&engine, &stop));
            let histograms = measure(run, &engine, &world, &floor);
            stop.store(true, Ordering::Relaxed);
            histograms
        });
        eprintln!("{} hits{beside} were read from the file", misses() - before);
        for ((quantile, name), figure) in QUANTILES.into_iter().zip(names) {
            let [hit, bare] = [0, 1].map(|of: usize| histograms[of].value_at_quantile(quantile));
            eprintln!("{name}{beside}: {hit} ns over {bare} ns");
            print(&figure, hit as f64 / bare as f64, "ratio");
        }
    }
    engine.close().unwrap();
}

fn figure(quantile: &str, beside: &str) -> String {
    format!("verify_{quantile}_over_floor{beside}")
}

/// The times of hits and of the floor, in nanoseconds.
fn measure(run: &Run, engine: &Engine, world: &World, floor: &Floor) -> [Histogram<u64>; 2] {
    let mut histograms = [(); 2].map(|()| Histogram::<u64>::new(3).unwrap());
    let count = if run.quick { 600_000 } else { 4_000_000 };
    for from in (0..count).step_by(STRETCH) {
        let hit = |at: usize| granted(engine, world.pool[at % (POOL / 2)]);
        // As many others.
        let bare = |at: usize| floor.check(POOL / 2 + at % (POOL / 2));
        let works: [&dyn Fn(usize); 2] = [&hit, &bare];
        for (work, histogram) in works.into_iter().zip(&mut histograms) {
            for at in from..from + STRETCH {
                let start = Instant::now();
                work(at);
                histogram.record(start.elapsed().as_nanos() as u64).unwrap();
            }
        }
    }
    histograms
}

/// Many threads that issue, rotate and revoke keys.
fn writes(engine: &Engine, stop: &AtomicBool) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let issued = engine.issue(spec(at)).unwrap();
                    let grace = Rotation::with_grace(Duration::from_secs(60));
                    let rotated = engine.rotate(issued.key.id, grace).unwrap();
                    engine.revoke(rotated.key.id, Reason::Cessation).unwrap();
                }
            });
        }
    });
}

/// The uses of all keys that are verified meanwhile, written again and again.
fn flushes(engine: &Engine, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        engine.flush().unwrap();
    }
}
