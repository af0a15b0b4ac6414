//! The way of a request: where it may come from, who asks, what page answers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use askama::Template as _;
use axum::Router;
use axum::body::{self, Bytes};
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{OriginalUri, RawPathParams, Request};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::request::Parts;
use axum::http::{Method, Response, StatusCode};
use axum::routing::{MethodFilter, get, on};
use http_body::Body as _;

use crate::assets::Assets;
use crate::fields::Fields;
use crate::look::{Framed, Look};
use crate::reply::{Body, Fault, Page, Reply};
use crate::view::{Actions, Blocks, Document, Form, Head, Link, Main, Nav, Note};

/// The longest form, in bytes: a page of keys that are picked is below.
const FORM_MAX: usize = 64 << 10;
/// How long a form may take.
const FORM_TIME: Duration = Duration::from_secs(30);
/// How many forms that were sent are remembered.
const SENT_MAX: usize = 10_000;

/// The policy of every page. Nothing inline, nothing of another origin, in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

/// What all pages share.
pub(crate) struct Site {
    pub(crate) look: Look,
    assets: Assets,
    /// Origins that forms may come from, where the server does not see its own name.
    origins: Vec<String>,
    /// Whether those who look at the pages are told how the store failed.
    is_for_operators: bool,
    sent: Mutex<Sent>,
}

/// Forms that were sent, by whom and their number, with what they made.
#[derive(Default)]
struct Sent {
    made: BTreeMap<(String, String), String>,
    order: VecDeque<(String, String)>,
}

/// What a form with a number has made.
pub(crate) enum Before {
    No,
    Yes(String),
}

impl Site {
    pub(crate) fn new(look: Look, origins: Vec<String>, is_for_operators: bool) -> Arc<Self> {
        let assets = Assets::new(&look);
        Arc::new(Self {
            look,
            assets,
            origins,
            is_for_operators,
            sent: Mutex::default(),
        })
    }

    /// Whether the form with this number was sent before by the same actor.
    pub(crate) fn was_sent(&self, actor: &str, number: &str) -> Before {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        match sent.made.get(&(actor.to_owned(), number.to_owned())) {
            Some(made) => Before::Yes(made.clone()),
            None => Before::No,
        }
    }

    /// Remembers what a form made.
    pub(crate) fn sent(&self, actor: &str, number: &str, made: String) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (actor.to_owned(), number.to_owned());
        sent.order.push_back(name.clone());
        sent.made.insert(name, made);
        if sent.order.len() > SENT_MAX
            && let Some(oldest) = sent.order.pop_front()
        {
            sent.made.remove(&oldest);
        }
    }
}

/// A request, for the function of a page.
pub(crate) struct Call<W> {
    pub(crate) site: Arc<Site>,
    /// The path that the pages are mounted under, without a slash at its end.
    pub(crate) base: String,
    /// The variable part of the path.
    pub(crate) segment: String,
    pub(crate) query: Fields,
    pub(crate) form: Fields,
    /// Who asks.
    pub(crate) who: W,
}

impl<W> Call<W> {
    pub(crate) fn t(&self, name: &str) -> String {
        self.site.look.texts.get(name)
    }

    pub(crate) fn with(&self, name: &str, values: &[&dyn std::fmt::Display]) -> String {
        self.site.look.texts.with(name, values)
    }

    /// An address below the base.
    pub(crate) fn at(&self, path: &str) -> String {
        match path {
            "/" if !self.base.is_empty() => self.base.clone(),
            path => format!("{}{path}", self.base),
        }
    }

    /// What a fault says in a form that comes back.
    pub(crate) fn problem(&self, fault: &Fault) -> (String, String) {
        let title = match fault {
            // A question, or a mistake that is shown at its field.
            Fault::Field { .. } => self.t("form.open"),
            Fault::Confirm | Fault::Mistyped => self.t(&format!("fault_title.{}", fault.name())),
            _ => self.t("form.problem"),
        };
        let text = fault
            .detail()
            .unwrap_or_else(|| self.t(&format!("fault.{}", fault.name())));
        (title, text)
    }

    /// A form that comes back, with what was wrong: above it, and at the field.
    pub(crate) fn again(&self, form: Form, fault: &Fault) -> Form {
        let (title, text) = self.problem(fault);
        match fault {
            Fault::Field { name, .. } => form
                .problem_at(name, &text)
                .problem(title, self.t("form.look_below")),
            _ => form.problem(title, text),
        }
    }

    /// A note that a redirect left, by its name in the query.
    pub(crate) fn done(&self) -> Option<Note> {
        let name = self.query.one("done").ok().flatten()?;
        let is_name = name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        let text = format!("done.{name}");
        let said = self.t(&text);
        (is_name && said != text).then(|| Note::new("good", said, ""))
    }
}

/// Who asks, as the pages show it.
pub(crate) trait Who: Send + 'static {
    /// The name at the top of the page.
    fn name(&self) -> String;
    /// The links between the pages, with the one that is current.
    fn nav(call: &Call<Self>, path: &str) -> Vec<Link>
    where
        Self: Sized;
    /// Where a session ends, if it is one of the crate's own.
    fn out(_call: &Call<Self>) -> Option<(String, String)>
    where
        Self: Sized,
    {
        None
    }
}

/// A page: its method, its path, its function.
pub(crate) struct Route<W> {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) run: fn(&Call<W>) -> Result<Reply, Fault>,
}

/// Says who asks, on a thread that may block; or why nobody does.
pub(crate) type Enter<W> = Arc<dyn Fn(&Parts, &'static str) -> Result<W, Fault> + Send + Sync>;

/// What to do instead of a page that was not given, where it is more than to say so.
pub(crate) type Instead = Arc<dyn Fn(&Fault, &Asked) -> Option<Reply> + Send + Sync>;

/// What was asked for, where no page answers.
pub(crate) struct Asked {
    pub(crate) method: Method,
    /// Below the base, with its query.
    pub(crate) path: String,
}

/// The router of a site.
pub(crate) fn router<W: Who>(
    site: &Arc<Site>,
    routes: Vec<Route<W>>,
    enter: &Enter<W>,
    instead: &Instead,
) -> Router {
    let mut router = Router::new();
    for route in routes {
        let filter = match route.method {
            Method::POST => MethodFilter::POST,
            _ => MethodFilter::GET,
        };
        let (site, enter, instead) = (site.clone(), enter.clone(), instead.clone());
        let (path, run) = (route.path, route.run);
        let handler = move |params: Result<RawPathParams, RawPathParamsRejection>,
                            request: Request| {
            let (site, enter, instead) = (site.clone(), enter.clone(), instead.clone());
            async move {
                let served = serve(&site, path, run, &enter, &instead, params, request).await;
                finish(served)
            }
        };
        router = router.route(path, on(filter, handler));
    }
    let assets = site.clone();
    let serve_asset = move |axum::extract::Path(name): axum::extract::Path<String>| {
        let found = assets.assets.serve(&name);
        async move {
            found.unwrap_or_else(|| {
                let mut response = Response::new(body::Body::empty());
                *response.status_mut() = StatusCode::NOT_FOUND;
                finish(response)
            })
        }
    };
    let (unknown, wrong) = (site.clone(), site.clone());
    router
        .route("/assets/{name}", get(serve_asset))
        .fallback(move |request: Request| {
            let site = unknown.clone();
            async move { finish(plain(&site, &base_of(&request, ""), &Fault::NotFound)) }
        })
        .method_not_allowed_fallback(move |request: Request| {
            let site = wrong.clone();
            let fault = Fault::Body(StatusCode::METHOD_NOT_ALLOWED);
            async move { finish(plain(&site, &base_of(&request, ""), &fault)) }
        })
}

/// The headers of every answer but an asset's.
fn finish(mut response: Response<body::Body>) -> Response<body::Body> {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Not `no-referrer`: with that, browsers send `Origin: null` with forms, and a page
        // on plain HTTP, which has no Sec-Fetch-Site, could not be told from another's.
        (header::REFERRER_POLICY, "same-origin"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// What the pages are mounted under: what stands before the path that the router saw.
fn base_of(request: &Request, known: &str) -> String {
    let seen = request.uri().path();
    let whole = request
        .extensions()
        .get::<OriginalUri>()
        .map_or(seen, |OriginalUri(uri)| uri.path());
    let base = match whole.strip_suffix(seen) {
        Some(base) => base,
        // A nested router sees `/` for its own root.
        None if seen == "/" => whole.trim_end_matches('/'),
        None => known,
    };
    match base.starts_with("//") {
        true => String::new(),
        false => base.trim_end_matches('/').to_owned(),
    }
}

/// Whether a request that may change something comes from a page of the same origin.
///
/// Browsers say so by `Sec-Fetch-Site`, which no page can set, on secure origins, and by
/// `Origin` on all.
fn is_of_same_origin(headers: &HeaderMap, origins: &[String]) -> bool {
    let one = |name: &str| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
            _ => Err(()),
        }
    };
    let (Ok(site), Ok(origin), Ok(host)) = (one("sec-fetch-site"), one("origin"), one("host"))
    else {
        return false;
    };
    if let Some(site) = site {
        return site == "same-origin";
    }
    let Some(origin) = origin else {
        return false;
    };
    if origins.iter().any(|of| of == origin) {
        return true;
    }
    let named = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    matches!((named, host), (Some(named), Some(host)) if named.eq_ignore_ascii_case(host))
}

async fn form_of(parts: &Parts, body: body::Body) -> Result<Bytes, Fault> {
    let kind = parts.headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    if body.size_hint().lower() > FORM_MAX as u64 {
        return Err(Fault::Body(StatusCode::PAYLOAD_TOO_LARGE));
    }
    let read = tokio::time::timeout(FORM_TIME, body::to_bytes(body, FORM_MAX)).await;
    let bytes = match read {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) => return Err(Fault::Body(StatusCode::PAYLOAD_TOO_LARGE)),
        Err(_) => return Err(Fault::Body(StatusCode::REQUEST_TIMEOUT)),
    };
    match bytes.is_empty() || kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        true => Ok(bytes),
        false => Err(Fault::Body(StatusCode::UNSUPPORTED_MEDIA_TYPE)),
    }
}

async fn serve<W: Who>(
    site: &Arc<Site>,
    path: &'static str,
    run: fn(&Call<W>) -> Result<Reply, Fault>,
    enter: &Enter<W>,
    instead: &Instead,
    params: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Response<body::Body> {
    let base = base_of(&request, "");
    let asked = Asked {
        method: request.method().clone(),
        path: request
            .uri()
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .to_owned(),
    };
    let (parts, body) = request.into_parts();
    let is_change = parts.method == Method::POST;
    if is_change && !is_of_same_origin(&parts.headers, &site.origins) {
        return plain(site, &base, &Fault::CrossOrigin);
    }
    let segment = match params {
        // The host may have mounted the pages under a path with parts of its own.
        Ok(params) => params.iter().last().map(|(_, value)| value.to_owned()),
        Err(_) => return plain(site, &base, &Fault::NotFound),
    };
    let form = match is_change {
        true => match form_of(&parts, body).await {
            Ok(form) => form,
            Err(fault) => return plain(site, &base, &fault),
        },
        false => Bytes::new(),
    };
    let (site, enter, instead) = (site.clone(), enter.clone(), instead.clone());
    let fallback = (site.clone(), base.clone());
    // Changes wait for the disk.
    let done = tokio::task::spawn_blocking(move || {
        let who = match enter(&parts, path) {
            Ok(who) => who,
            Err(fault) => {
                return match instead(&fault, &asked) {
                    Some(reply) => bare(&site, &base, reply),
                    None => plain(&site, &base, &fault),
                };
            }
        };
        let call = Call {
            site,
            base,
            segment: segment.unwrap_or_default(),
            query: Fields::parse(parts.uri.query().unwrap_or("").as_bytes()),
            form: Fields::parse(&form),
            who,
        };
        match run(&call) {
            Ok(reply) => respond(&call, path, reply),
            Err(fault) => match instead(&fault, &asked) {
                Some(reply) => respond(&call, path, reply),
                None => {
                    let page = fault_page(&call.site, &call.base, &fault);
                    respond(&call, path, page.into())
                }
            },
        }
    });
    match done.await {
        Ok(response) => response,
        Err(_) => {
            let (site, base) = fallback;
            plain(
                &site,
                &base,
                &Fault::Engine(gatekey::Error::Internal("a page ended in a fault")),
            )
        }
    }
}

/// A page about a fault.
fn fault_page(site: &Site, base: &str, fault: &Fault) -> Page {
    let texts = &site.look.texts;
    let title = texts.get(&format!("fault_title.{}", fault.name()));
    let mut text = texts.get(&format!("fault.{}", fault.name()));
    if let Some(detail) = fault.detail()
        && (site.is_for_operators || !fault.is_of_the_store())
    {
        text = format!("{text} {detail}");
    }
    let mut blocks = Blocks::new().with(&Note::new("bad", title.clone(), text));
    if !matches!(fault, Fault::Nobody) {
        let home = match base {
            "" => "/",
            base => base,
        };
        blocks.push(&Actions {
            label: texts.get("nav.actions"),
            links: vec![Link::new(home, texts.get("nav.back"))],
        });
    }
    Page::new(title, blocks).status(fault.status())
}

/// A page for whoever is not known, without links to others.
fn plain(site: &Site, base: &str, fault: &Fault) -> Response<body::Body> {
    let page = fault_page(site, base, fault);
    bare(site, base, page.into())
}

pub(crate) fn bare(site: &Site, base: &str, reply: Reply) -> Response<body::Body> {
    send(site, base, "", "", reply)
}

fn respond<W: Who>(call: &Call<W>, path: &str, reply: Reply) -> Response<body::Body> {
    let links = W::nav(call, path);
    let nav = Nav {
        label: call.t("nav.label"),
        links: &links,
        out: W::out(call),
    };
    let nav = nav.render().unwrap_or_default();
    send(&call.site, &call.base, &nav, &call.who.name(), reply)
}

fn send(site: &Site, base: &str, nav: &str, who: &str, reply: Reply) -> Response<body::Body> {
    let mut response = match reply.body {
        Body::Page(page) => framed(site, base, nav, who, &page),
        Body::See(path) => {
            let mut response = Response::new(body::Body::empty());
            *response.status_mut() = StatusCode::SEE_OTHER;
            let target = match (base, path.as_str()) {
                ("", path) => path.to_owned(),
                (base, "/") => base.to_owned(),
                (base, path) => match path.strip_prefix("/?") {
                    Some(query) => format!("{base}?{query}"),
                    None => format!("{base}{path}"),
                },
            };
            if let Ok(target) = HeaderValue::try_from(target) {
                response.headers_mut().insert(header::LOCATION, target);
            }
            response
        }
        Body::File { name, media, body } => {
            let mut response = Response::new(body);
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
            let kept = format!("attachment; filename=\"{name}\"");
            if let Ok(kept) = HeaderValue::try_from(kept) {
                headers.insert(header::CONTENT_DISPOSITION, kept);
            }
            response
        }
        Body::Plain(word) => {
            let mut response = Response::new(body::Body::from(word));
            let kind = HeaderValue::from_static("text/plain; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
    };
    for (name, value) in reply.headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

fn framed(site: &Site, base: &str, nav: &str, who: &str, page: &Page) -> Response<body::Body> {
    let asset = |stem: &str, end: &str| {
        let name = site.assets.name(stem, end)?;
        Some(format!("{base}/assets/{name}"))
    };
    let styles = [asset("console", "css"), asset("host", "css")];
    let script = asset("console", "js").unwrap_or_default();
    let head = Head {
        styles: styles.into_iter().flatten().collect(),
        script: &script,
    };
    let main = Main {
        title: &page.title,
        blocks: &page.blocks.html,
    };
    let (head, main) = match (head.render(), main.render()) {
        (Ok(head), Ok(main)) if !page.blocks.is_broken() => (head, main),
        _ => return failed(),
    };
    let texts = &site.look.texts;
    let lang = texts.get("lang");
    let html = match &site.look.layout {
        Some(layout) => layout(&Framed {
            lang,
            title: escaped(&page.title),
            head,
            nav: nav.to_owned(),
            main,
        }),
        None => {
            let document = Document {
                lang: &lang,
                title: &page.title,
                brand: &site.look.brand,
                home: if base.is_empty() { "/" } else { base },
                logo: asset("logo", "img"),
                head: &head,
                nav,
                main: &main,
                skip: texts.get("nav.skip"),
                foot: texts.get("nav.foot"),
                who: who.to_owned(),
            };
            match document.render() {
                Ok(html) => html,
                Err(_) => return failed(),
            }
        }
    };
    let mut response = Response::new(body::Body::from(html));
    *response.status_mut() = page.status;
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// A template that cannot be written: a fault of this crate's.
fn failed() -> Response<body::Body> {
    let mut response = Response::new(body::Body::empty());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

fn escaped(text: &str) -> String {
    askama::filters::escape(text, askama::filters::Html)
        .map_or_else(|_| String::new(), |text| text.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_form_is_taken_from_the_same_origin_alone() {
        let host = ("host", "keys.example.com");
        for (taken, pairs) in [
            (true, vec![host, ("sec-fetch-site", "same-origin")]),
            (false, vec![host, ("sec-fetch-site", "same-site")]),
            (false, vec![host, ("sec-fetch-site", "cross-site")]),
            (false, vec![host, ("sec-fetch-site", "none")]),
            // An older browser, or plain HTTP.
            (true, vec![host, ("origin", "http://keys.example.com")]),
            (true, vec![host, ("origin", "https://KEYS.example.com")]),
            (false, vec![host, ("origin", "https://evil.example.com")]),
            (
                false,
                vec![host, ("origin", "https://keys.example.com:8443")],
            ),
            (
                false,
                vec![host, ("origin", "https://keys.example.com.evil.org")],
            ),
            (false, vec![host, ("origin", "null")]),
            (false, vec![host]),
            // What no browser sends.
            (
                false,
                vec![
                    host,
                    ("origin", "http://keys.example.com"),
                    ("origin", "null"),
                ],
            ),
            (
                false,
                vec![
                    host,
                    ("sec-fetch-site", "same-origin"),
                    ("sec-fetch-site", "cross-site"),
                ],
            ),
            (false, vec![("origin", "http://keys.example.com")]),
            // A host behind a proxy that renames it.
            (
                true,
                vec![
                    ("host", "10.0.0.7"),
                    ("origin", "https://console.example.com"),
                ],
            ),
        ] {
            let origins = ["https://console.example.com".to_owned()];
            assert_eq!(
                is_of_same_origin(&headers(&pairs), &origins),
                taken,
                "{pairs:?}"
            );
        }
    }
}
