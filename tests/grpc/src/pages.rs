//! The programs of docs/OTHER_SERVERS.md, as tests:
//!
//! ```sh
//! cargo test --doc --manifest-path tests/grpc/Cargo.toml
//! ```

#[cfg(doctest)]
#[doc = include_str!("../../../docs/OTHER_SERVERS.md")]
struct OtherServersPage;
