//! What a route requires of its callers, and the decision over a request.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ::http::request::Parts;
use ::http::{Extensions, HeaderMap, HeaderValue, Request};

use super::drain::DrainLimits;
use super::settlement::Settlement;
use crate::Timestamp;
use crate::engine::handle::Engine;
use crate::http::{Dialect, Presented, Rejection, RejectionReason, Report, SourceFault, call_hook};
use crate::model::error::Error;
use crate::model::id::Prefix;
use crate::model::paid::{Credit, Kept, Paid, Settled};
use crate::model::permissions::Permissions;
use crate::model::requirements::Requirements;
use crate::model::verdict::{Grant, Verdict};

/// So many required permissions cost no allocation for each request.
const NAMES_INLINE: usize = 16;

/// What a layer and its services share.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) engine: Engine,
    pub(super) dialect: Dialect,
    pub(super) permissions: Vec<String>,
    pub(super) permission_mask: Permissions,
    pub(super) keyspace: Option<Prefix>,
    /// A key is required, whatever `optional` and the dialect say.
    pub(super) required: bool,
    /// Anonymous callers pass, whatever the dialect says.
    pub(super) optional: bool,
    pub(super) passes_foreign: bool,
    pub(super) vouched: Option<Arc<Vouched>>,
    pub(super) verifier: Option<Arc<Verifier>>,
    pub(super) cost: u32,
    pub(super) is_settled_later: bool,
    pub(super) source: Option<Arc<Source>>,
    pub(super) on_rejected: Option<Arc<OnRejected>>,
    pub(super) drain: DrainLimits,
    pub(super) no_store: bool,
    pub(super) on_granted: Option<Arc<OnGranted>>,
}

pub(super) type Source =
    dyn Fn(&HeaderMap, &Extensions) -> Result<Option<IpAddr>, SourceFault> + Send + Sync;
/// Verifies credentials that are no tokens, and has no answer to others.
pub(super) type Verifier =
    dyn Fn(&[u8], &Requirements<'_>) -> Option<Result<Verdict, Error>> + Send + Sync;
pub(super) type Vouched = dyn Fn(&Extensions) -> bool + Send + Sync;
pub(super) type OnRejected = dyn Fn(&Rejection, &Parts) + Send + Sync;
pub(super) type OnGranted = dyn Fn(&Grant, &Parts) + Send + Sync;

/// The caller of a request that passes.
pub(super) enum Passed {
    /// The holder of a key, to whom this is reported.
    Granted(Option<Report>),
    /// An anonymous caller.
    Anonymous,
    /// A caller whom another scheme knows, or has yet to judge.
    Elsewhere,
}

/// The decision over a request.
// Nearly all requests are granted. A boxed grant would cost each of them an allocation.
#[allow(clippy::large_enum_variant)]
enum Found {
    Granted(Granted),
    Anonymous,
    /// The credential belongs to another scheme, which an inner layer is to judge.
    Foreign,
    /// Another scheme vouches for the caller.
    Vouched,
}

struct Granted {
    grant: Grant,
    /// What the request has cost by now, in all: as far as the layers know.
    cost: u32,
    /// Where the cost is known after the answer.
    settled: Option<Settled>,
}

/// Tells the handlers that a layer let an anonymous caller pass.
#[derive(Clone)]
pub(super) struct Anonymous {
    #[cfg_attr(not(feature = "axum"), expect(dead_code, reason = "for the extractor"))]
    pub(super) route: Arc<Route>,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthLayer")
            .field("dialect", &self.dialect)
            .field("permissions", &self.permissions)
            .field("permission_mask", &self.permission_mask)
            .field("keyspace", &self.keyspace)
            .field("required", &self.required)
            .field("optional", &self.optional)
            .field("passes_foreign", &self.passes_foreign)
            .field("cost", &self.cost)
            .field("is_settled_later", &self.is_settled_later)
            .finish_non_exhaustive()
    }
}

impl Route {
    pub(super) fn new(engine: Engine, dialect: Dialect) -> Self {
        Self {
            engine,
            dialect,
            permissions: Vec::new(),
            permission_mask: Permissions::NONE,
            keyspace: None,
            required: false,
            optional: false,
            passes_foreign: false,
            vouched: None,
            verifier: None,
            cost: 1,
            is_settled_later: false,
            source: None,
            on_rejected: None,
            drain: DrainLimits::DEFAULT,
            no_store: false,
            on_granted: None,
        }
    }

    /// Lets a request pass, or rejects it. Leaves in its extensions what inner layers and
    /// handlers need.
    pub(super) fn admit<B>(
        self: &Arc<Self>,
        request: &mut Request<B>,
    ) -> Result<Passed, Rejection> {
        let found = self.judge(request.headers(), request.extensions());
        self.dialect
            .mark_sensitive(request.headers_mut(), found.is_ok());
        let extensions = request.extensions_mut();
        let found = found?;
        if let Found::Granted(Granted {
            grant,
            cost,
            settled,
        }) = found
        {
            let reported = self.dialect.report_of(&grant);
            let before = extensions.remove::<Paid>();
            let (engine, key) = (self.engine.identity(), grant.key_id());
            let paid = Paid::new(engine, key, cost, settled.clone(), before);
            extensions.insert(paid);
            match settled {
                Some(settled) => {
                    let settlement = Settlement::new(self.engine.clone(), settled);
                    extensions.insert(settlement);
                }
                // One of an outer layer is of another key.
                None => drop(extensions.remove::<Settlement>()),
            }
            extensions.insert(grant);
            return Ok(Passed::Granted(reported));
        }
        if !matches!(found, Found::Vouched) {
            // The grant of an outer layer that reads other headers is not this layer's.
            extensions.remove::<Grant>();
            extensions.remove::<Settlement>();
        }
        let route = self.clone();
        extensions.insert(Anonymous { route });
        Ok(match found {
            Found::Anonymous => Passed::Anonymous,
            _ => Passed::Elsewhere,
        })
    }

    fn judge(&self, headers: &HeaderMap, extensions: &Extensions) -> Result<Found, Rejection> {
        let presented = match self.dialect.credential(headers) {
            Ok(presented) => presented,
            Err(rejection) => {
                let is_foreign = matches!(rejection.reason(), RejectionReason::UnknownScheme);
                return match self.beside(extensions) {
                    Some(found) if is_foreign => Ok(found),
                    _ => Err(rejection),
                };
            }
        };
        let Some(presented) = presented else {
            return match self.vouches(extensions) {
                true => Ok(Found::Vouched),
                false if self.accepts_anonymous() => Ok(Found::Anonymous),
                false => Err(self.dialect.missing()),
            };
        };
        match self.beside(extensions) {
            Some(found) if !self.engine.begins_as_a_token(presented.expose()) => Ok(found),
            _ => self.verify(&presented, headers, extensions),
        }
    }

    fn requires_permissions(&self) -> bool {
        !self.permissions.is_empty() || self.permission_mask != Permissions::NONE
    }

    /// Whether anonymous callers pass. They hold no permissions.
    fn accepts_anonymous(&self) -> bool {
        !self.required
            && !self.requires_permissions()
            && (self.optional || self.dialect.accepts_anonymous())
    }

    fn vouches(&self, extensions: &Extensions) -> bool {
        !self.requires_permissions()
            && (self.vouched.as_ref()).is_some_and(|vouched| vouched(extensions))
    }

    /// The decision over a credential of another scheme, where the route lets it pass.
    fn beside(&self, extensions: &Extensions) -> Option<Found> {
        if self.vouches(extensions) {
            return Some(Found::Vouched);
        }
        (self.passes_foreign && self.accepts_anonymous()).then_some(Found::Foreign)
    }

    /// Verifies a token, and charges what no outer layer has charged.
    fn verify(
        &self,
        presented: &Presented<'_>,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Found, Rejection> {
        let source = match &self.source {
            Some(source) => source(headers, extensions)
                .map_err(|fault| self.dialect.source_unknown(fault, presented))?,
            None => None,
        };
        let mut inline = [""; NAMES_INLINE];
        let overflow: Vec<&str>;
        let names = match inline.get_mut(..self.permissions.len()) {
            Some(names) => {
                for (name, required) in names.iter_mut().zip(&self.permissions) {
                    *name = required;
                }
                &*names
            }
            None => {
                overflow = self.permissions.iter().map(String::as_str).collect();
                &overflow
            }
        };
        let mut requirements = Requirements::new()
            .permissions(names)
            .permission_mask(self.permission_mask)
            .cost(self.cost);
        requirements.keyspace = self.keyspace;
        requirements.source = source;
        requirements.is_settled_later = self.is_settled_later;
        let paid = extensions.get::<Paid>();
        if paid.is_some() || self.verifier.is_some() {
            return self.verify_on_credit(presented, &requirements, paid);
        }
        let grant = (self.dialect).verify(&self.engine, presented, &requirements)?;
        Ok(Found::Granted(self.charged_alone(grant)))
    }

    /// Verifies a credential that another verifier may know, or of whose key outer layers may
    /// have charged a part, whichever it proves to be.
    #[inline(never)]
    fn verify_on_credit(
        &self,
        presented: &Presented<'_>,
        requirements: &Requirements<'_>,
        paid: Option<&Paid>,
    ) -> Result<Found, Rejection> {
        let engine = &self.engine;
        let credit = Credit::new(paid, engine.identity());
        let mut is_alone = false;
        let verify = |text: &[u8], asked: &Requirements<'_>| {
            let on_credit = Requirements {
                credit: Some(&credit),
                ..*asked
            };
            let verifier = self.verifier.as_deref();
            let verdict = verifier.and_then(|verifier| verifier(text, &on_credit));
            verdict.unwrap_or_else(|| {
                is_alone = paid.is_none();
                // Nothing was charged before, and what the engine is asked to charge it charges.
                let asked = if is_alone { asked } else { &on_credit };
                engine.verify_with(text, asked)
            })
        };
        let mut grant = self
            .dialect
            .verify_by(engine, presented, requirements, verify)?;
        if is_alone {
            return Ok(Found::Granted(self.charged_alone(grant)));
        }
        let Kept {
            payment,
            is_paid,
            before,
            cost,
        } = credit.keep(grant.key_id());
        let charge = grant.charge.clone();
        let settled = match payment.and_then(|payment| payment.settled.as_ref()) {
            Some(outer) if is_paid => Some(outer.with(charge, before, engine.charges_as())),
            // Where a clone has used what was charged before, this one pays and settles anew.
            None if !self.is_settled_later => None,
            _ => Some(Settled { charge, before }),
        };
        if let Some(Settled { charge, .. }) = &settled {
            grant.charge.clone_from(charge);
        }
        Ok(Found::Granted(Granted {
            grant,
            cost,
            settled,
        }))
    }

    /// What the engine granted a request that nobody else has charged.
    fn charged_alone(&self, grant: Grant) -> Granted {
        let charge = &grant.charge;
        let settled = self.is_settled_later.then(|| Settled {
            charge: charge.clone(),
            before: 0,
        });
        Granted {
            cost: self.cost,
            settled,
            grant,
        }
    }

    /// Reports a rejection to the server.
    pub(super) fn report_rejected(&self, rejection: &Rejection, parts: &Parts) {
        if let Some(hook) = &self.on_rejected {
            call_hook(|| hook(rejection, parts));
        }
    }

    /// Reports a grant to the server.
    pub(super) fn report_granted<B>(&self, passed: &Passed, request: Request<B>) -> Request<B> {
        // A grant that an outer layer left is not this layer's to report.
        let (Passed::Granted(_), Some(hook)) = (passed, &self.on_granted) else {
            return request;
        };
        let (parts, body) = request.into_parts();
        if let Some(grant) = parts.extensions.get::<Grant>() {
            call_hook(|| hook(grant, &parts));
        }
        Request::from_parts(parts, body)
    }

    pub(super) fn vary(&self) -> HeaderValue {
        self.dialect.vary_value()
    }

    /// What limits and quotas are counted by.
    pub(super) fn clock_now(&self) -> Timestamp {
        self.engine.clock_now()
    }
}
