//! Pages on which the customers of a host manage their own keys.

mod issue;
mod key;
mod list;
mod rotate;
mod usage;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::http::Method;
use gatekey::{Engine, Grant, Timestamp};

use crate::desk::{Desk, Turns};
use crate::look::Look;
use crate::member::Member;
use crate::reply::{Fault, Reply};
use crate::site::{self, Before, Call, Enter, Instead, Route, Site, Who};
use crate::view::{Link, Note};

/// A short-lived token that a host makes for a key: a JWT, for instance.
#[derive(Clone)]
pub struct ShortLived {
    pub(crate) token: zeroize::Zeroizing<String>,
    pub(crate) expires_at: Timestamp,
}

impl ShortLived {
    /// A token, and when it ends.
    pub fn new(token: impl Into<String>, expires_at: Timestamp) -> Self {
        Self {
            token: zeroize::Zeroizing::new(token.into()),
            expires_at,
        }
    }
}

impl fmt::Debug for ShortLived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShortLived(until {}, token withheld)", self.expires_at)
    }
}

type Maker = Arc<dyn Fn(&Grant) -> Result<ShortLived, gatekey::Error> + Send + Sync>;

/// The pages of self-service: a router for the host to mount where it likes.
///
/// The host's own log-in puts a [`Member`] into the extensions of each request. A request
/// without one is answered with 401, and shows nothing.
///
/// ```
/// use axum::body::Body;
/// use axum::http::Request;
/// use axum::{Extension, Router};
/// use gatekey::{Engine, NewKeyspace};
/// use gatekey_console::{Ceiling, Member, SelfService};
/// use tower::ServiceExt as _;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let engine = Engine::open_in_memory()?;
/// engine.ensure_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
/// let keys = Ceiling::new("acme_live".parse()?).permission("read", "Read data");
/// let alice = Member::new("acme".parse()?, "alice@acme.example").may(keys);
/// // A host has a layer here that knows who has logged in.
/// let pages = SelfService::new(engine.clone()).router().layer(Extension(alice));
/// let app = Router::new().nest("/settings/keys", pages);
/// let page = app.oneshot(Request::get("/settings/keys").body(Body::empty())?).await?;
/// assert_eq!(page.status(), 200);
/// # engine.close()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct SelfService {
    engine: Engine,
    look: Look,
    origins: Vec<String>,
    maker: Option<Maker>,
}

impl fmt::Debug for SelfService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SelfService")
            .field("look", &self.look)
            .finish_non_exhaustive()
    }
}

impl SelfService {
    /// The pages over an engine.
    pub fn new(engine: Engine) -> Self {
        Self {
            engine,
            look: Look::new(),
            origins: Vec::new(),
            maker: None,
        }
    }

    /// How the pages look.
    pub fn look(mut self, look: Look) -> Self {
        self.look = look;
        self
    }

    /// Takes forms from an origin that is not the `Host` of the request, as
    /// `https://keys.example.com`: for a server behind a proxy that changes `Host`, where
    /// browsers on plain HTTP are to be served. Browsers on HTTPS need none of this.
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.origins.push(origin.into());
        self
    }

    /// Adds a page that makes a short-lived token of a key, without its token: by a
    /// function of the host's, which gets the grant. Each token is charged to the key as a
    /// request, and stands for no permission that the member may not give.
    ///
    /// With gatekey-oauth: `jwts.issue(grant, None)`, as docs/CONSOLE.md shows.
    pub fn short_lived(
        mut self,
        make: impl Fn(&Grant) -> Result<ShortLived, gatekey::Error> + Send + Sync + 'static,
    ) -> Self {
        self.maker = Some(Arc::new(make));
        self
    }

    /// The router. Nest it under any path.
    pub fn router(&self) -> Router {
        let site = Site::new(self.look.clone(), self.origins.clone(), false);
        let (engine, maker) = (self.engine.clone(), self.maker.clone());
        let turns = Arc::new(Turns::default());
        let enter: Enter<Customer> = Arc::new(move |parts, _| {
            let member = parts.extensions.get::<Member>().ok_or(Fault::Nobody)?;
            Ok(Customer {
                desk: Desk::new(&engine, member.clone(), turns.clone())?,
                maker: maker.clone(),
            })
        });
        let instead: Instead = Arc::new(|_, _| None);
        site::router(&site, routes(), &enter, &instead)
    }
}

/// Who asks for a page of self-service.
pub(crate) struct Customer {
    pub(crate) desk: Desk,
    pub(crate) maker: Option<Maker>,
}

impl Who for Customer {
    fn name(&self) -> String {
        self.desk.member.owner.to_string()
    }

    /// One link a keyspace, where there are several.
    fn nav(call: &Call<Self>, _path: &str) -> Vec<Link> {
        let ceilings = &call.who.desk.member.ceilings;
        if ceilings.len() < 2 {
            return Vec::new();
        }
        let current = call.query.one("keyspace").ok().flatten().map(str::to_owned);
        ceilings
            .iter()
            .map(|ceiling| {
                let prefix = ceiling.keyspace.as_str();
                let title = match ceiling.title.is_empty() {
                    true => prefix.to_owned(),
                    false => ceiling.title.clone(),
                };
                Link::new(list::address(call, prefix), title)
                    .current(current.as_deref() == Some(prefix))
            })
            .collect()
    }
}

pub(crate) type Ask = Call<Customer>;

fn routes() -> Vec<Route<Customer>> {
    let route = |method, path, run| Route { method, path, run };
    vec![
        route(Method::GET, "/", list::list),
        route(Method::GET, "/usage", usage::show),
        route(Method::GET, "/new", issue::form),
        route(Method::POST, "/new", issue::issue),
        route(Method::GET, "/keys/{id}", key::show),
        route(Method::GET, "/keys/{id}/edit", key::edit),
        route(Method::POST, "/keys/{id}/edit", key::update),
        route(Method::GET, "/keys/{id}/rotate", rotate::form),
        route(Method::POST, "/keys/{id}/rotate", rotate::rotate),
        route(Method::GET, "/keys/{id}/steps", rotate::steps),
        route(Method::GET, "/keys/{id}/used", rotate::used),
        route(Method::GET, "/keys/{id}/revoke", key::confirm),
        route(Method::POST, "/keys/{id}/revoke", key::revoke),
        route(Method::GET, "/keys/{id}/short-lived", key::short_lived_form),
        route(Method::POST, "/keys/{id}/short-lived", key::short_lived),
    ]
}

/// The methods and paths of all pages, for the tests that attack each.
#[cfg(test)]
pub(crate) fn paths() -> Vec<(String, &'static str)> {
    let of = |route: Route<Customer>| (route.method.to_string(), route.path);
    routes().into_iter().map(of).collect()
}

impl Ask {
    pub(crate) fn desk(&self) -> &Desk {
        &self.who.desk
    }

    /// What a form with this number made before, as a page.
    fn before(&self, number: &str) -> Option<Result<Reply, Fault>> {
        match self.site.was_sent(&self.desk().member.actor, number) {
            Before::No => None,
            Before::Yes(id) => Some(issue::already(self, &id)),
        }
    }
}

/// A number for a form, so that it is sent once.
pub(crate) fn draw() -> Result<String, gatekey::Error> {
    Ok(crate::number::draw::<16>()?.to_string())
}

/// A note that a token cannot be shown again.
fn cannot_reveal(call: &Ask, is_the_only_one: bool) -> Note {
    let text = match is_the_only_one {
        true => call.t("reveal.text_one"),
        false => call.t("reveal.text"),
    };
    Note::new("info", call.t("reveal.title"), text)
}
