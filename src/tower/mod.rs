//! A layer for axum, tonic, hyper and other tower services. With the feature `tower`; the
//! extractors for axum, with the feature `axum`.
//!
//! [`AuthLayer`] finds the token by a [`Dialect`](crate::http::Dialect), verifies it, puts
//! the [`Grant`](crate::Grant) into the request's extensions, responds to rejected requests
//! itself, and adds to each response how much of the caller's limit remains.
//!
#![cfg_attr(feature = "axum", doc = "```")]
#![cfg_attr(not(feature = "axum"), doc = "```ignore")]
//! use axum::{Router, routing::{delete, get, post}};
//! use gatekey::http::{Dialect, RejectionLog};
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
//! let log = RejectionLog::to_stderr();
//! let auth = AuthLayer::new(engine, Dialect::default())
//!     .on_rejected(move |rejection, request| log.record(rejection, request));
//! let writers = auth.clone().permissions(["write"]);
//! let app: Router = Router::new()
//!     .route("/things", get(list).route_layer(auth.optional()))
//!     .route("/things", post(create).route_layer(writers.clone().cost(5)))
//!     .route("/things/{id}", delete(create).route_layer(writers.permissions(["admin"])));
//! # let _ = app;
//! # Ok::<(), gatekey::Error>(())
//! ```
//!
//! Use `route_layer`: a request whose method no handler takes is then a 405, neither
//! authenticated nor charged. With `layer` it would be both. Put a CORS layer outside, so
//! that it answers preflights, which present no key.
//!
//! # Verifying in place
//! The layer verifies in the call, not on another thread. A key in memory costs less than
//! a microsecond. A key in the file costs a few where the system has its pages in memory,
//! and a read of the disk otherwise. Handing the verification to another thread costs more
//! than that: see `docs/BENCHMARKS.md`.
//!
//! # Several layers
//! Layers may stand behind each other, around a router and around one of its routes, of one
//! engine or of several. One rule holds for all stacks:
//!
//! - **Each layer judges by itself**, by its own requirements. A request that any layer
//!   rejects is rejected.
//! - **A handler sees what the innermost layer found**: its grant, or an anonymous caller.
//!   Where that layer lets a caller pass for whom another scheme vouches, the grant of an
//!   outer layer stays, which may be that of another key's holder.
//! - **A request is counted once.** For one key of one engine, through any of its handles
//!   or clones, a request costs what the dearest layer asks, and is one use: whether the key
//!   is known by its token, by one of an import, or by what another verifier vouches for. A
//!   layer charges what its own cost exceeds the costs that outer layers charged. A request
//!   that is cloned between two layers is two requests: one of them has been paid for.
//!
//! The order of calls on a layer does not matter. A key is required where permissions are
//! required or [`required`](AuthLayer::required) was called. Otherwise, anonymous callers
//! pass where [`optional`](AuthLayer::optional) was called or the dialect accepts them.
//!
//! # Costs that are known after the answer
//! [`settled_later`](AuthLayer::settled_later) charges a request its cost as an estimate, and gives the
//! handler a [`Settlement`], which takes what it cost in the end. Where one layer of a stack is settled
//! later, so is all that the layers behind it charge, with the same settlement. A request that
//! is cloned between two layers has two: each handler settles what its own request cost.
//!
//! # Beside another scheme
//! Callers may come with a key or, for example, with a JWT. Put the other scheme's layer
//! outside: it passes on credentials that are not its own, and leaves a mark in the
//! request's extensions. [`or_vouched`](AuthLayer::or_vouched) lets marked requests pass
//! beside those with a key; a request with neither is rejected. If the other layer must
//! stand inside, [`pass_foreign`](AuthLayer::pass_foreign) leaves to it the credentials
//! that are no token of this engine, on routes where anonymous callers pass.
//!
//! # Caches
//! Every response names in `Vary` the headers that the dialect reads. A response to the
//! holder of a key is `private`, unless the handler says who may store it. Rejections are
//! `no-store`. A response that holds a token needs [`no_store`](crate::http::no_store).
//!
//! A layer outside of this one may add a second line of `Vary`, as tower-http's CORS layer
//! does. That is correct: the lines of a list count as one (RFC 9110, 5.3).
//!
//! # Bodies of rejected requests
//! A client that is still sending may finish, within bounds, before it gets the response:
//! see [`drain`](AuthLayer::drain). [`DrainLayer`] does the same for every response, such
//! as a 404 or 413 of the router, or a rejection by a handler.
//!
//! # Behind a proxy
//! A header that the proxy sets has the client's address: see [`behind`](AuthLayer::behind).
//!
//! # gRPC
//! An error in gRPC is not an HTTP status, and its routes are methods: wrap [`GrpcLayer`]
//! around the services of a server, such as tonic's.

mod deadline;
mod drain;
mod drain_layer;
#[cfg(feature = "axum")]
mod extract;
#[cfg(feature = "axum")]
mod failed;
mod grpc;
mod layer;
mod respond;
mod route;
mod service;
mod settlement;

pub use drain_layer::{DrainBody, DrainFuture, DrainLayer, DrainService};
#[cfg(feature = "axum")]
pub use extract::GrantRejection;
pub use grpc::{GrpcFuture, GrpcLayer, GrpcService, GrpcStatus};
pub use layer::AuthLayer;
pub use respond::{ByDialect, Respond, RespondWith};
pub use service::{AuthFuture, AuthService};
pub use settlement::Settlement;
