//! The dialects against the public interface, by topic.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bodies;
mod common;
mod extractor;
mod limits;
mod rules;
mod vectors;
