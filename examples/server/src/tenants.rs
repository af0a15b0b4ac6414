//! `/admin/owners`: what a customer has bought. A tier is an organisation's, and not a
//! key's: see docs/TIERS.md.

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Extension, Json, Router};
use gatekey::{Engine, Grant, Limit, OwnerSettings, OwnerUpdate, Quota, Setting};
use serde::{Deserialize, Deserializer};

use crate::admin::{Failure, blocking};

pub(crate) fn router() -> Router<Engine> {
    Router::new().route("/owners/{keyspace}/{*owner}", get(show).put(update))
}

/// What an operator changes of an owner. What is left out stays as it is; `null` goes back
/// to what its level has by default. Members that are not known are refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    #[serde(default, deserialize_with = "given")]
    plan: Option<Option<String>>,
    /// In the place of the plan's: `[{"requests": 5, "window": "PT2S", "algorithm": "fixed"}]`.
    #[serde(default, deserialize_with = "given")]
    limits: Option<Option<Vec<Limit>>>,
    /// `{"requests": 100000, "refill": "monthly"}`, `"unlimited"`, or null for the default.
    #[serde(default, deserialize_with = "given")]
    quota: Option<Setting<Quota>>,
    /// The most keys; likewise.
    #[serde(default, deserialize_with = "given")]
    cap: Option<Setting<u32>>,
}

/// A member that is there, be it `null`.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl Change {
    fn update(self) -> OwnerUpdate {
        let mut update = OwnerUpdate::new();
        if let Some(plan) = &self.plan {
            update = update.plan(plan.as_deref());
        }
        update = match self.limits {
            None => update,
            Some(None) => update.limits_of_plan(),
            Some(Some(limits)) => update.limits(limits),
        };
        if let Some(quota) = self.quota {
            update = update.quota(quota);
        }
        if let Some(cap) = self.cap {
            update = update.cap(cap);
        }
        update
    }
}

/// Sells, upgrades, downgrades: one transaction that touches no key. When the response is
/// on its way, every request that begins is counted by the new tier.
async fn update(
    State(engine): State<Engine>,
    Extension(by): Extension<Grant>,
    Path((keyspace, owner)): Path<(String, String)>,
    Json(change): Json<Change>,
) -> Result<Json<OwnerSettings>, Failure> {
    let changed = blocking(move || {
        let engine = engine.acting_as(by.owner())?;
        engine.update_owner(keyspace, owner, change.update())
    });
    changed.await.map(Json)
}

async fn show(
    State(engine): State<Engine>,
    Path((keyspace, owner)): Path<(String, String)>,
) -> Result<Json<OwnerSettings>, Failure> {
    let settings = blocking(move || engine.owner_settings(keyspace, owner));
    settings.await.map(Json)
}
