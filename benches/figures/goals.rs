//! What the project aims at, by the names of figures.

use std::fmt;
use std::sync::Mutex;

enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

use Goal::{AtLeast, AtMost};

const GOALS: [(&str, Goal); 34] = [
    ("verify_hit_over_floor_1k", AtMost(1.3)),
    ("verify_hit_over_floor_100k", AtMost(1.3)),
    ("verify_hit_over_floor_1m", AtMost(1.2)),
    ("verify_hot_over_floor", AtMost(1.35)),
    ("verify_p99_over_floor", AtMost(1.5)),
    ("verify_p999_over_floor", AtMost(3.0)),
    ("resident_bytes_per_key", AtMost(112.0)),
    ("resident_keys_of_1m", AtLeast(999_900.0)),
    ("verify_many_over_hit_1m", AtMost(0.6)),
    ("open_1m_to_first_verify_ms", AtMost(5.0)),
    ("open_1m_after_kill_ms", AtMost(100.0)),
    ("stats_1m_ms", AtMost(1.0)),
    ("check_1m_s", AtMost(5.0)),
    ("backup_1m_s", AtMost(2.0)),
    ("verify_cold_over_get_hash_and_tag_1m", AtMost(1.1)),
    ("revoke_durable_1_thread_over_redb", AtLeast(0.8)),
    ("batch_issue_per_s", AtLeast(120_000.0)),
    ("batch_issue_10m_per_s", AtLeast(90_000.0)),
    ("open_10m_after_kill_ms", AtMost(1_000.0)),
    ("stats_10m_ms", AtMost(1.0)),
    ("owner_suspend_100k_ms", AtMost(5.0)),
    ("owner_revoke_100k_ms", AtMost(5.0)),
    ("owner_suspend_1m_ms", AtMost(5.0)),
    ("owner_revoke_1m_ms", AtMost(5.0)),
    ("revoke_to_effect_grants", AtMost(0.0)),
    ("quota_first_use_us", AtMost(20.0)),
    ("quota_first_use_of_many_us", AtMost(20.0)),
    ("verify_limited_over_plain", AtMost(1.3)),
    ("verify_three_levels_over_plain", AtMost(1.6)),
    ("verify_quota_over_plain", AtMost(1.15)),
    ("verify_hot_owner_threads_2_speedup", AtLeast(1.0)),
    ("jwt_seen_over_hash_and_1_5_hits", AtMost(1.0)),
    ("jwt_seen_over_bare_ed25519", AtMost(0.1)),
    ("jwt_first_over_bare_ed25519", AtMost(1.1)),
];

/// What was printed.
static FIGURES: Mutex<Vec<(String, f64)>> = Mutex::new(Vec::new());

impl Goal {
    fn is_reached(&self, value: f64) -> bool {
        match *self {
            AtMost(goal) => value <= goal,
            AtLeast(goal) => value >= goal,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AtMost(goal) => write!(f, "at most {goal}"),
            AtLeast(goal) => write!(f, "at least {goal}"),
        }
    }
}

/// Notes a figure that was printed.
pub(crate) fn note(name: &str, value: f64) {
    FIGURES.lock().unwrap().push((name.to_owned(), value));
}

/// Says of each goal whether it was reached.
pub(crate) fn tell() {
    let figures = FIGURES.lock().unwrap();
    let (mut reached, mut measured) = (0, 0);
    for (name, goal) in &GOALS {
        let figure = figures.iter().find(|(known, _)| known == name);
        let outcome = match figure {
            None => "not measured",
            Some((_, value)) if goal.is_reached(*value) => "reached",
            Some(_) => "missed",
        };
        println!("# {outcome}: {name}, {goal} is wanted");
        measured += u32::from(figure.is_some());
        reached += u32::from(outcome == "reached");
    }
    println!("# {reached} of {measured} goals are reached");
}
