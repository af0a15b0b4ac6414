//! Nothing: the package's dependencies are what it is for.
//!
//! Cargo builds a dependency with the features that the selected packages ask for. Packages that
//! are tested by several commands would each time be built on other builds of tokio, hyper and so
//! on. With this package among those selected, all commands ask for the same features.
//! `tests/one_build.py` says which ones are missing here.
