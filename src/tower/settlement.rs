//! A request whose cost is known after its answer, for the handler to settle.

use std::fmt;
use std::sync::Arc;

use crate::engine::handle::Engine;
use crate::model::error::Result;
use crate::model::paid::Settled;

/// Settles a request at what it cost, behind a layer that is
/// [`settled_later`](super::AuthLayer::settled_later): in the request's extensions, and an
/// argument of axum's handlers.
///
/// It is cheap to clone, and all clones settle one request: it can go with the body of an
/// answer, to be settled when that ends. Where nobody settles, the request stays charged at
/// the cost of the layer.
///
/// Behind several layers it settles what all of them charged, except those that stand outside
/// of the first that is settled later.
///
#[cfg_attr(feature = "axum", doc = "```")]
#[cfg_attr(not(feature = "axum"), doc = "```ignore")]
/// use axum::{Router, routing::post};
/// use gatekey::http::Dialect;
/// use gatekey::tower::{AuthLayer, Settlement};
/// use gatekey::Engine;
///
/// /// Asks a model, and says how many tokens the answer has.
/// async fn ask(question: &str) -> (String, u32) {
///     (format!("{question}? Yes."), 730)
/// }
///
/// async fn chat(settlement: Settlement, question: String) -> gatekey::Result<String> {
///     let (answer, tokens) = ask(&question).await;
///     settlement.settle(tokens)?;
///     Ok(answer)
/// }
///
/// # let engine = Engine::open_in_memory()?;
/// // An answer has at most 4,000 tokens.
/// let auth = AuthLayer::new(engine, Dialect::default()).cost(4_000).settled_later();
/// let app: Router = Router::new().route("/chat", post(chat).route_layer(auth));
/// # let _ = app;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Clone)]
pub struct Settlement(Arc<(Engine, Settled)>);

impl Settlement {
    pub(super) fn new(engine: Engine, settled: Settled) -> Self {
        Self(Arc::new((engine, settled)))
    }

    /// Says what the request cost in all. What it cost more than the layers charged is charged
    /// and never refused; what it cost less is given back. It can be repeated, so that a
    /// long answer is settled as it goes. [`Engine::settle`] has the cases.
    ///
    /// # Cost
    /// Some hundred nanoseconds, and a commit where a quota has too little in memory, as a
    /// verification.
    ///
    /// # Errors
    /// Those of [`Engine::settle`].
    pub fn settle(&self, cost: u32) -> Result<()> {
        let (engine, Settled { charge, before }) = &*self.0;
        match charge {
            Some(charge) => engine.settle(charge, cost.saturating_sub(*before)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Settlement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settlement")
            .field("charge", &self.0.1.charge)
            .finish_non_exhaustive()
    }
}
