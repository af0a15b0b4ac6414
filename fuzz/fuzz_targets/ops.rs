//! What it checks: the model of `tests/it/model`, the steps drawn from the bytes.
#![no_main]

#[path = "../../tests/it/common.rs"]
#[allow(dead_code, reason = "the model needs little of it")]
mod common;

#[path = "../../tests/it/model"]
#[allow(
    dead_code,
    reason = "sequences are drawn here, and failures are not shrunk"
)]
mod model {
    mod compare;
    mod limits;
    pub(crate) mod op;
    mod plain;
    mod text;
    mod verbs;
    pub(crate) mod world;
}

use model::op::{self, Case};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Four bytes make a step: so what the fuzzer cuts, repeats or moves are steps.
const STEP_LEN: usize = 4;
const STEPS_MAX: usize = 80;

/// Draws a value from four bytes: proptest's own way to read from bytes halves
/// what is left at every choice, and there would be nothing left for most steps.
fn draw<T>(strategy: impl Strategy<Value = T>, bytes: [u8; STEP_LEN]) -> T {
    let seed = [bytes; 8].concat();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    strategy.new_tree(&mut runner).unwrap().current()
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (words, _) = bytes.as_chunks();
    let Some((setting, steps)) = words.split_first() else {
        return;
    };
    let steps = steps.iter().take(STEPS_MAX);
    let case = Case {
        setting: draw(op::setting(), *setting),
        ops: steps.map(|bytes| draw(op::op(), *bytes)).collect(),
    };
    let tally = std::cell::RefCell::default();
    let done = model::world::World::new(&case.setting, &tally).run(&case);
    assert!(done.is_ok(), "{done:?}\nin the sequence\n{case:?}");
});
