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
//! costs more than that: see `docs/BENCHMARKS.md`.
//!
//! # Several layers
//! Layers may stand behind each other, around a router and around one of its routes, of one
//! engine or of several. One rule holds for all stacks:
//!
//! - **Each layer judges by itself**, with its own requirements, and what any of them
//!   refuses is refused.
//! - **A handler sees what the innermost layer found**: its grant, or nobody. Where that
//!   layer lets a caller pass for whom another scheme vouches, the grant of a layer in front
//!   stays, which may be of another key's holder.
//! - **A request is counted once.** Of one key of one engine, whichever handle or clone of
//!   it the layers have, the request costs what the dearest of them asks, and is one use.
//!   A layer charges what its own cost is more than those in front have charged already.
//!   A request that is cloned between two layers is two requests: one of them is paid for.
//!
//! What a layer asks for does not depend on the order in which it was said: permissions
//! need a key, [`required`](AuthLayer::required) needs one, and only where neither was
//! said does [`optional`](AuthLayer::optional), or the dialect, let nobody pass.
//!
//! # Beside another scheme
//! Callers who may come with a key or with a JWT: the other scheme's layer stands in
//! front, passes on what is not its own, and leaves a mark in the request's extensions.
//! [`or_vouched`](AuthLayer::or_vouched) lets pass, beside keys, what is so marked; nobody
//! passes with neither. Where the other layer must stand behind,
//! [`pass_foreign`](AuthLayer::pass_foreign) leaves to it what is no token of this
//! engine's, on routes where anonymous callers pass.
//!
//! # Caches
//! Every answer says in `Vary` in which headers the dialect looks for a token. What is made
//! for the holder of a key is `private`, unless the handler says itself who may store it;
//! refusals are `no-store`. An answer that holds a token needs
//! [`no_store`](crate::http::no_store).
//!
//! # Bodies of refused requests
//! A client that is still sending is let finish before it is told of the refusal, within
//! bounds: see [`drain`](AuthLayer::drain).
//!
//! # Behind a proxy
//! The address of a request's sender stands in a header of the proxy's: see
//! [`behind`](AuthLayer::behind).
//!
//! # gRPC
//! A refusal in gRPC is not an HTTP status, and its routes are methods: [`GrpcLayer`] goes
//! around the services of a server, as those of tonic.

mod charge;
mod deadline;
mod drain;
#[cfg(feature = "axum")]
mod extract;
#[cfg(feature = "axum")]
mod failed;
mod grpc;
mod layer;
mod service;

#[cfg(feature = "axum")]
pub use extract::NoGrant;
pub use grpc::{GrpcFuture, GrpcLayer, GrpcService, GrpcStatus};
pub use layer::{AuthLayer, ByDialect, Respond, RespondWith};
pub use service::{AuthFuture, AuthService};
