//! A layer in front of axum, tonic, hyper and other tower services. With the
//! feature `tower`; the extractors for axum, with the feature `axum`.
//!
//! [`AuthLayer`] finds the token by a [`Dialect`](crate::http::Dialect), has it
//! verified, puts the [`Grant`](crate::Grant) into the request's extensions, answers
//! refusals itself, and tells callers what is left of their limit on the way out.
//!
#![cfg_attr(feature = "axum", doc = "```")]
#![cfg_attr(not(feature = "axum"), doc = "```ignore")]
//! use axum::{Router, routing::{delete, get, post}};
//! use gatekey::http::{Dialect, RefusalLog};
//! use gatekey::tower::AuthLayer;
//! use gatekey::{Engine, Grant};
//!
//! async fn list(grant: Option<Grant>) -> String {
//!     grant.map_or("public things".into(), |grant| format!("things of {}", grant.owner()))
//! }
//!
//! async fn create(grant: Grant) -> String {
//!     format!("created for {}", grant.owner())
//! }
//!
//! # let engine = Engine::open_in_memory()?;
//! let log = RefusalLog::to_stderr();
//! let auth = AuthLayer::new(engine, Dialect::default())
//!     .on_refused(move |refused, request| log.record(refused, request));
//! let app: Router = Router::new()
//!     .route("/things", get(list).route_layer(auth.clone().optional()))
//!     .route("/things", post(create).route_layer(auth.clone().require(["write"]).cost(5)))
//!     .route("/things/{id}", delete(create).route_layer(auth.require(["write", "admin"])));
//! # let _ = app;
//! # Ok::<(), gatekey::Error>(())
//! ```
//!
//! With `route_layer`, a request whose method no handler takes is a 405, and is neither
//! authenticated nor charged; with `layer` it would be. A CORS layer goes outside, so
//! that a preflight, which presents no key, is answered before.
//!
//! # Verifying in place
//! The verification runs in the call, not on another thread. A key in memory costs
//! less than a microsecond; one that is not, a few, where the system has the file's
//! pages, and a read of the disk otherwise. To hand it to another thread and wait
//! costs more than that: see `docs/DESIGN.md`.
//!
//! # Several layers
//! A layer around a router and another around one of its routes may stand behind each
//! other: each asks for its own requirements, and the inner one charges only what its
//! cost is more than that of the outer one, so that a request is counted once. For that
//! they must be clones of one layer.
//!
//! # gRPC
//! A refusal in gRPC is not an HTTP status, and its routes are methods: [`GrpcLayer`] goes
//! around the services of a server, as those of tonic.

#[cfg(feature = "axum")]
mod extract;
mod grpc;
mod layer;
mod service;

#[cfg(feature = "axum")]
pub use extract::NoGrant;
pub use grpc::{GrpcFuture, GrpcLayer, GrpcService, GrpcStatus};
pub use layer::{AuthLayer, ByDialect, Respond, RespondWith};
pub use service::{AuthFuture, AuthService};
