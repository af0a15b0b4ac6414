//! The same canaries at the front door: what dialects and the layer say, to the
//! caller and to the server's log.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use gatekey::Requirements;
use gatekey::http::{Dialect, Rejection, presets};
use gatekey::tower::AuthLayer;
use gatekey_testkit::ready;
use http::{HeaderMap, HeaderName, Request, Response};
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::canary::{Full, Watch};

/// How a caller could present a text, rightly and wrongly.
fn presentations(text: &str) -> Vec<HeaderMap> {
    use base64::Engine as _;
    let basic = |pair: String| {
        let pair = base64::engine::general_purpose::STANDARD.encode(pair);
        format!("Basic {pair}")
    };
    let mut all = Vec::new();
    for (name, value) in [
        ("authorization", format!("Bearer {text}")),
        ("authorization", format!("Bearer {text} {text}")),
        ("authorization", format!("Digest {text}")),
        ("authorization", text.to_owned()),
        ("authorization", basic(format!("{text}:"))),
        ("authorization", basic(format!("x:{text}"))),
        ("x-aurorax-api-key", text.to_owned()),
        ("x-api-key", text.to_owned()),
    ] {
        let name: HeaderName = name.parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(name.clone(), value.parse().unwrap());
        all.push(headers.clone());
        headers.append(name, value.parse().unwrap());
        all.push(headers);
    }
    all
}

/// What is presented: a good token, and such as are refused, with its secret.
fn texts(store: &Full) -> Vec<String> {
    let token = store.issued.token.expose();
    vec![
        token.to_owned(),
        token.replace("live", "test"),
        token[1..].to_owned(),
        token.to_uppercase(),
        format!("{token}x"),
    ]
}

fn dialects() -> [Dialect; 6] {
    [
        Dialect::problem_details(),
        presets::aurorax(),
        presets::pixxel(),
        presets::tiered_bearer(),
        presets::one_codex(),
        presets::ai_platform(),
    ]
}

fn show_refused(watch: &mut Watch, refused: &Rejection) {
    watch.both("Refused", refused);
    watch.debug("RejectionReason", refused.reason());
    watch.debug("Answer", &refused.answer());
    let response = refused.response();
    watch.debug("the head of a response", &response.headers());
    let body = String::from_utf8(response.into_body()).unwrap();
    watch.text("the body of a response", &format!("body: {body}"));
}

#[test]
fn no_dialect_repeats_a_secret() {
    let store = Full::new();
    let mut watch = store.watch();
    let write = Requirements::new().permissions(&["write"]);
    let mut refusals = 0;
    for dialect in dialects() {
        watch.debug("Dialect", &dialect);
        for headers in texts(&store).iter().flat_map(|text| presentations(text)) {
            if let Ok(Some(presented)) = dialect.credential(&headers) {
                watch.debug("Presented", &presented);
            }
            match dialect.authenticate(&store.engine, &headers, &write) {
                Ok(authenticated) => watch.debug("Authenticated", &authenticated),
                Err(refused) => {
                    show_refused(&mut watch, &refused);
                    refusals += 1;
                }
            }
        }
    }
    assert!(refusals > 300, "{refusals}");
    store.engine.close().unwrap();
}

/// The layer's own `Debug`, what its hook is told, what the service behind it is
/// given, and what the caller gets.
#[test]
fn neither_the_layer_nor_what_it_passes_on_shows_a_secret() {
    let store = Full::new();
    let mut watch = store.watch();
    for dialect in dialects() {
        let said = Arc::new(Mutex::new(Vec::new()));
        let (hook, inner) = (said.clone(), said.clone());
        let layer =
            AuthLayer::new(store.engine.clone(), dialect).on_rejected(move |refused, parts| {
                let line = format!("{refused} {refused:?} {parts:?}");
                hook.lock().unwrap().push(line);
            });
        watch.debug("AuthLayer", &layer);
        let service = layer.layer(service_fn(move |request: Request<String>| {
            inner.lock().unwrap().push(format!("{request:?}"));
            async { Ok::<_, Infallible>(Response::new(Vec::<u8>::new())) }
        }));
        for headers in presentations(store.issued.token.expose()) {
            // What the dialect does not read is not its to hide.
            let mut request = Request::new(String::new());
            *request.headers_mut() = headers;
            let response = ready(service.clone().oneshot(request)).unwrap();
            watch.debug("Response", &response.headers());
            let body = String::from_utf8_lossy(response.body()).into_owned();
            watch.text("body", &format!("body: {body}"));
        }
        let said = said.lock().unwrap();
        assert_eq!(said.len(), 16);
        let read = |line: &&String| line.contains("Sensitive");
        assert!(said.iter().any(|line| read(&line)));
        for line in said.iter().filter(read) {
            watch.text("what is told to the server", line);
        }
    }
    store.engine.close().unwrap();
}
