//! The programs in the pages that need a web server, as tests. `src/lib.rs` has the rest.

#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../../README.md")]
struct Readme;

#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../../docs/GUIDE.md")]
struct GuidePage;

#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../../docs/DIALECTS.md")]
struct DialectsPage;

#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../../docs/FORWARD_AUTH.md")]
struct ForwardAuthPage;

#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../../docs/TIERS.md")]
struct TiersPage;
