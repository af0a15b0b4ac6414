//! What it checks: the model of `tests/it/model`, the steps drawn from the bytes.
#![no_main]

#[path = "../../tests/it/common.rs"]
#[allow(dead_code, reason = "the model needs little of it")]
mod common;

#[path = "../../tests/it/model"]
mod model {
    mod compare;
    pub(crate) mod op;
    mod plain;
    mod text;
    mod verbs;
    pub(crate) mod world;
}

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let rng = TestRng::from_seed(RngAlgorithm::PassThrough, bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let case = model::op::case().new_tree(&mut runner).unwrap().current();
    let tally = std::cell::RefCell::default();
    let done = model::world::World::new(&case.setting, &tally).run(&case);
    assert!(done.is_ok(), "{done:?}\nin the sequence\n{case:?}");
});
