use super::*;
use crate::{Limit, NewKey, NewKeyspace, Options, Plan};

const PROXY: &str = "127.0.0.1";

struct World {
    engine: Engine,
    token: String,
}

impl World {
    fn new() -> Self {
        let options = Options::new().failed_attempts(Limit::per_hour(2));
        let engine = options.open_in_memory().unwrap();
        let new = NewKeyspace::new("acme_live").unwrap();
        engine
            .create_keyspace(
                new.permissions(["read", "write"])
                    .plan(Plan::new("one").limit(Limit::per_hour(1))),
            )
            .unwrap();
        let new = NewKey::new("acme_live", "acme/etl").unwrap();
        let issued = engine.issue(new.permissions(["read", "write"])).unwrap();
        let token = issued.token.expose().to_owned();
        Self { engine, token }
    }

    fn all(&self) -> [ForwardAuth; 3] {
        let engine = || self.engine.clone();
        [
            ForwardAuth::nginx(engine(), Dialect::default()),
            ForwardAuth::forwarded(engine(), Dialect::default()),
            ForwardAuth::envoy(engine(), Dialect::default(), "/check"),
        ]
    }
}

/// As each proxy would ask, with more headers.
fn ask(method: &str, path: &str, more: &[(&str, &str)]) -> Parts {
    let mut request = ::http::Request::builder()
        .method(method)
        .uri(format!("/check{path}"))
        .header("x-original-method", method)
        .header("x-original-uri", path)
        .header("x-forwarded-method", method)
        .header("x-forwarded-uri", path);
    for (name, value) in more {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn status(forward: &ForwardAuth, peer: &str, parts: &Parts) -> (u16, u16) {
    let response = forward.answer(peer.parse().unwrap(), parts);
    let told = response
        .headers()
        .get(STATUS)
        .map(|status| status.to_str().unwrap());
    let told = told.map_or(200, |status| status.parse().unwrap());
    assert_eq!(response.headers()["cache-control"], "no-store");
    (response.status().as_u16(), told)
}

#[test]
fn every_pass_has_every_identity_header_and_none_is_empty() {
    let world = World::new();
    let bearer = format!("Bearer {}", world.token);
    for forward in world.all() {
        let forward = forward.anonymous(true);
        for (more, result, owner) in [
            (
                vec![("authorization", bearer.as_str())],
                "granted",
                "acme/etl",
            ),
            (vec![], "anonymous", "-"),
        ] {
            let response = forward.answer(PROXY.parse().unwrap(), &ask("GET", "/a", &more));
            assert_eq!(response.status(), 200);
            let headers = response.headers();
            assert_eq!(headers[RESULT], result);
            assert_eq!(headers[OWNER], owner);
            for name in [OWNER, KEY, KEYSPACE, PERMISSIONS] {
                assert!(!headers[name].is_empty());
            }
        }
    }
}

#[test]
fn a_header_that_an_application_may_take_for_ours_is_refused() {
    let world = World::new();
    let bearer = format!("Bearer {}", world.token);
    for name in [
        "x-gatekey-owner",
        "X_Gatekey_Owner",
        "x.gatekey.owner",
        "x-gatekey_owner",
        "x-gatekey",
        "x-gatekey-made-up",
        "x_gatekey~owner",
    ] {
        for forward in world.all() {
            let more = [("authorization", bearer.as_str()), (name, "root")];
            let (_, told) = status(&forward, PROXY, &ask("GET", "/a", &more));
            assert_eq!(told, 400, "{name}");
        }
    }
    for name in ["x-gatekeyowner", "x-gate-key", "gatekey-owner"] {
        let more = [("authorization", bearer.as_str()), (name, "root")];
        assert_eq!(
            status(&world.all()[0], PROXY, &ask("GET", "/a", &more)).0,
            200,
            "{name}"
        );
    }
}

#[test]
fn nginx_is_told_nothing_that_it_makes_a_500_of() {
    let world = World::new();
    let [nginx, forwarded, _] = world.all();
    let limited = world
        .engine
        .issue(NewKey::new("acme_live", "acme").unwrap().plan("one"))
        .unwrap();
    let limited = format!("Bearer {}", limited.token.expose());
    let good = ("authorization", limited.as_str());
    assert_eq!(status(&nginx, PROXY, &ask("GET", "/", &[good])), (200, 200));
    assert_eq!(status(&nginx, PROXY, &ask("GET", "/", &[good])), (403, 429));
    assert_eq!(
        status(&forwarded, PROXY, &ask("GET", "/", &[good])),
        (429, 429)
    );
    let twice = [good, good];
    assert_eq!(status(&nginx, PROXY, &ask("GET", "/", &twice)), (403, 400));
    assert_eq!(
        status(&forwarded, PROXY, &ask("GET", "/", &twice)),
        (400, 400)
    );
    assert_eq!(status(&nginx, PROXY, &ask("GET", "/", &[])), (401, 401));
    let refused = nginx.answer(PROXY.parse().unwrap(), &ask("GET", "/", &[]));
    assert_eq!(refused.headers()["www-authenticate"], "Bearer");
    let needs_more = nginx.clone().permissions_for(|_| &["write"]);
    assert_eq!(
        status(&needs_more, PROXY, &ask("GET", "/", &[good])),
        (403, 403)
    );
    // An engine that cannot answer is no refusal of the client's.
    world.engine.clone().close().unwrap();
    assert_eq!(status(&nginx, PROXY, &ask("GET", "/", &[good])), (503, 503));
}

#[test]
fn nobody_but_a_trusted_proxy_is_believed_or_answered() {
    let world = World::new();
    let bearer = format!("Bearer {}", world.token);
    let good = [("authorization", bearer.as_str())];
    for forward in world.all() {
        for stranger in ["192.0.2.1", "10.0.0.1", "2001:db8::1", "::ffff:192.0.2.1"] {
            assert_eq!(status(&forward, stranger, &ask("GET", "/a", &good)).0, 403);
        }
        for proxy in ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(status(&forward, proxy, &ask("GET", "/a", &good)).0, 200);
        }
        let forward = forward.trusting(["192.0.2.0/24".parse().unwrap()]);
        assert_eq!(status(&forward, PROXY, &ask("GET", "/a", &good)).0, 403);
        assert_eq!(
            status(&forward, "192.0.2.1", &ask("GET", "/a", &good)).0,
            200
        );
    }
}

#[test]
fn permissions_go_by_what_the_proxy_was_asked_for_where_that_reads_one_way() {
    let world = World::new();
    let new = NewKey::new("acme_live", "acme").unwrap();
    let reader = world.engine.issue(new.permissions(["read"])).unwrap();
    let bearer = format!("Bearer {}", reader.token.expose());
    let good = ("authorization", bearer.as_str());
    for forward in world.all() {
        let forward =
            forward
                .anonymous(true)
                .permissions_for(|asked| match (asked.method(), asked.path()) {
                    (_, "/public") => &[],
                    ("GET", path) if path.starts_with("/things/") => &["read"],
                    _ => &["write"],
                });
        for (method, path, told) in [
            ("GET", "/things/1?x=/public", 200),
            ("GET", "/things/caf%C3%A9%20au%20lait", 200),
            ("POST", "/things/1", 403),
            ("GET", "/admin", 403),
            ("get", "/things/1", 403),
            ("GET", "/things/../admin", 400),
            ("GET", "/things/./1", 400),
            ("GET", "/things//1", 400),
            ("GET", "//things/1", 400),
            ("GET", "/things/%2e%2e/admin", 400),
            ("GET", "/things/..%2Fadmin", 400),
            ("GET", "/things/%5c..%5cadmin", 400),
            ("GET", "/things/%252e", 400),
            ("GET", "/things/..;/admin", 400),
            ("GET", "/thing%73/1", 400),
            ("GET", "/things/%00", 400),
            ("GET", "/things/%zz", 400),
            ("GET", "/things/%", 400),
        ] {
            let (_, status) = status(&forward, PROXY, &ask(method, path, &[good]));
            assert_eq!(status, told, "{method} {path} {forward:?}");
        }
        for name in [
            "x-http-method-override",
            "X_HTTP_Method",
            "x-method-override",
            "x-original-url",
            "X_Rewrite_URL",
        ] {
            let more = [good, (name, "DELETE")];
            let (_, told) = status(&forward, PROXY, &ask("GET", "/things/1", &more));
            assert_eq!(told, 400, "{name}");
        }
        assert_eq!(status(&forward, PROXY, &ask("GET", "/public", &[])).1, 200);
        // The type of a request's own target cannot hold a `#`: Envoy refuses it itself.
        if !matches!(forward.asker, Asker::Envoy { .. }) {
            for target in ["/public#/../admin", "/public#", "/things/1#x"] {
                let mut parts = ask("GET", "/public", &[good]);
                for name in ["x-original-uri", "x-forwarded-uri"] {
                    parts.headers.insert(name, target.parse().unwrap());
                }
                assert_eq!(status(&forward, PROXY, &parts).1, 400, "{target}");
            }
        }
        assert_eq!(
            status(&forward, PROXY, &ask("GET", "/things/1", &[])).1,
            401
        );
    }
}

#[test]
fn a_proxy_that_does_not_say_what_it_was_asked_for_or_says_it_twice_is_refused() {
    let world = World::new();
    let bearer = format!("Bearer {}", world.token);
    let good = ("authorization", bearer.as_str());
    let [nginx, forwarded, envoy] = world
        .all()
        .map(|forward| forward.permissions_for(|_| &["read"]));
    for (forward, method, path) in [
        (&nginx, "x-original-method", "x-original-uri"),
        (&forwarded, "x-forwarded-method", "x-forwarded-uri"),
    ] {
        for (name, value) in [(method, "GET"), (path, "/b")] {
            let (_, told) = status(forward, PROXY, &ask("GET", "/a", &[good, (name, value)]));
            assert_eq!(told, 400, "{name} twice");
            let mut parts = ask("GET", "/a", &[good]);
            parts.headers.remove(name);
            assert_eq!(status(forward, PROXY, &parts).1, 400, "no {name}");
        }
    }
    let mut parts = ask("GET", "/a", &[good]);
    parts.uri = "/elsewhere".parse().unwrap();
    assert_eq!(status(&envoy, PROXY, &parts).1, 400);
}

#[test]
fn failed_attempts_count_by_the_last_hop_that_is_no_proxy() {
    let world = World::new();
    let bad = ("authorization", "Bearer nonsense");
    let from = |forward: &ForwardAuth, hops: &[&str]| {
        let mut more = vec![bad];
        more.extend(hops.iter().map(|hop| ("x-forwarded-for", *hop)));
        status(forward, PROXY, &ask("GET", "/a", &more)).1
    };
    let [_, forwarded, _] = world.all();
    for _ in 0..2 {
        assert_eq!(
            from(&forwarded, &["198.51.100.7, 192.0.2.9, 127.0.0.1"]),
            401
        );
    }
    // What the client wrote before it does not make it another.
    assert_eq!(from(&forwarded, &["203.0.113.1, 192.0.2.9"]), 429);
    assert_eq!(from(&forwarded, &["203.0.113.1", "192.0.2.9:4711"]), 429);
    assert_eq!(from(&forwarded, &["198.51.100.7"]), 401);
    // What is no address does not make guessing free; the proxy's own host is a source too.
    assert_eq!(from(&forwarded, &["192.0.2.9, unknown"]), 400);
    for told in [401, 401, 429] {
        assert_eq!(from(&forwarded, &["127.0.0.1"]), told);
    }
    // Its configuration does not send the header.
    assert_eq!(from(&forwarded, &[]), 401);
    // Who presents nothing guesses nothing.
    let nobody = ask("GET", "/a", &[("x-forwarded-for", "unknown")]);
    assert_eq!(status(&forwarded, PROXY, &nobody).1, 401);
}

#[test]
fn a_hook_that_prints_a_refused_request_prints_no_token() {
    let world = World::new();
    let printed = Arc::new(std::sync::Mutex::new(String::new()));
    for forward in world.all() {
        let sink = printed.clone();
        let forward = forward
            .permissions_for(|_| &["admin"])
            .on_rejected(move |_, parts| *sink.lock().unwrap() = format!("{parts:?}"));
        let bearer = format!("Bearer {}", world.token);
        let parts = ask("GET", "/a", &[("authorization", &bearer)]);
        assert_eq!(status(&forward, PROXY, &parts).1, 403);
        let printed = std::mem::take(&mut *printed.lock().unwrap());
        assert!(printed.contains("x-original-uri"), "{printed}");
        assert!(!printed.contains(&world.token), "{printed}");
    }
}

#[test]
fn preflights_pass_where_that_is_asked_for() {
    let world = World::new();
    let more = [
        ("origin", "https://a.example"),
        ("access-control-request-method", "GET"),
    ];
    for forward in world.all() {
        let parts = ask("OPTIONS", "/a", &more);
        assert_eq!(status(&forward, PROXY, &parts).1, 401);
        let forward = forward.preflights(true);
        assert_eq!(status(&forward, PROXY, &parts).1, 200);
        assert_eq!(status(&forward, PROXY, &ask("GET", "/a", &more)).1, 401);
        assert_eq!(
            status(&forward, PROXY, &ask("OPTIONS", "/a", &more[..1])).1,
            401
        );
    }
}

/// The log of a server names what was asked for, and not the path at which proxies ask.
#[test]
fn a_log_names_the_original_request_without_what_looks_like_a_token() {
    let world = World::new();
    let secret = "aB3dE6gH9j".repeat(5);
    let path = format!("/keys/acme_1lZ1doyVZI_{secret}?key={secret}");
    for forward in world.all() {
        let written = Arc::new(std::sync::Mutex::new(Vec::new()));
        let sink = written.clone();
        let log =
            crate::http::RejectionLog::new(9, std::time::Duration::from_secs(60), move |line| {
                sink.lock().unwrap().push(line.to_owned());
            });
        let forward = forward.on_rejected(move |rejection, request| log.record(rejection, request));
        let _ = status(&forward, PROXY, &ask("DELETE", &path, &[]));
        // Nobody else is believed.
        let _ = status(&forward, "192.0.2.9", &ask("DELETE", "/a", &[]));
        let written = written.lock().unwrap();
        assert_eq!(
            written[0],
            "DELETE /keys/acme_1lZ1doyVZI_(withheld): 401: no credential was presented"
        );
        assert_eq!(
            written[1],
            "DELETE /check/a: 403: 192.0.2.9 is not a trusted proxy"
        );
    }
}
