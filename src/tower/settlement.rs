//! A request whose cost is known after its answer, for the handler to settle.

use std::fmt;
use std::sync::Arc;

use crate::engine::handle::Engine;
use crate::model::charge::Charge;
use crate::model::error::Result;
use crate::model::id::KeyId;

/// Settles a request at what it cost, behind a layer that is
/// [`settled_later`](super::AuthLayer::settled_later): in the request's extensions, and an
/// argument of axum's handlers.
///
/// It is cheap to clone, and all clones settle one request: it can go with the body of an
/// answer, to be settled when that ends. Where nobody settles, the request stays charged at
/// the cost of the layer.
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
pub struct Settlement(Arc<Settled>);

struct Settled {
    engine: Engine,
    key: KeyId,
    /// What the layer charged beyond what was charged before it. `None`: another verifier
    /// knew the credential, and charged nothing that can be settled.
    charge: Option<Charge>,
    /// What layers outside of it have charged.
    before: u32,
    /// Of them, what can be settled too.
    outer: Option<Settlement>,
}

impl Settlement {
    pub(super) fn new(
        engine: Engine,
        key: KeyId,
        charge: Option<Charge>,
        before: u32,
        outer: Option<Self>,
    ) -> Self {
        Self(Arc::new(Settled {
            engine,
            key,
            charge,
            before,
            outer,
        }))
    }

    pub(super) fn is_of(&self, engine: &Engine, key: KeyId) -> bool {
        self.0.key == key && self.0.engine.identity() == engine.identity()
    }

    /// Says what the request cost in all. What it cost more than the layer charged is charged
    /// and never refused; what it cost less is given back. It can be repeated, so that a
    /// long answer is settled as it goes. [`Engine::settle`] has the cases.
    ///
    /// What a layer outside has charged stays charged unless that is settled later, too.
    ///
    /// # Cost
    /// Some hundred nanoseconds, and a commit where a quota has too little in memory, as a
    /// verification.
    ///
    /// # Errors
    /// Those of [`Engine::settle`].
    pub fn settle(&self, cost: u32) -> Result<()> {
        let Settled {
            engine,
            charge,
            before,
            outer,
            ..
        } = &*self.0;
        if let Some(outer) = outer {
            outer.settle(cost.min(*before))?;
        }
        match charge {
            Some(charge) => engine.settle(charge, cost.saturating_sub(*before)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Settlement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settlement")
            .field("charge", &self.0.charge)
            .finish_non_exhaustive()
    }
}
