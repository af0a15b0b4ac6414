//! schemathesis, against the router: it sends requests that the document allows and requests
//! that it does not, some with what it has read in answers, and holds each answer against the
//! document.

use std::process::{Command, Output};

use axum::Router;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use gatekey_admin::{Admin, Operator};
use serde_json::json;

use crate::api::Api;

/// What an answer must not be: a failure of the server, one that the document does not have
/// (its status, media type, headers, form), or a success for a request that the document
/// refuses or of which nobody says who asks.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,negative_data_rejection,\
    unsupported_method,allow_header_conformance,ignored_auth,missing_required_header";

/// Not that of a key: it would revoke all admin keys, once it has seen their keyspace.
const KNOWN: &str = "Bearer that-of-the-test";

async fn admit(mut request: Request, next: Next) -> Response {
    let said = request.headers().get("authorization");
    if said.is_some_and(|said| said == KNOWN) {
        let all = Operator::with_all_rights("schemathesis");
        request.extensions_mut().insert(all);
    }
    next.run(request).await
}

/// Serves a router on TCP while a function runs.
fn while_served(router: Router, run: impl FnOnce(&str) -> Output) -> Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let bound = tokio::net::TcpListener::bind("127.0.0.1:0");
    let listener = runtime.block_on(bound).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    served = axum::serve(listener, router) => served.unwrap(),
                    _ = ended => {}
                }
            });
        });
        let output = run(&url);
        drop(end);
        output
    })
}

/// Left out where there is no schemathesis; the gate has one. `GATEKEY_SCHEMATHESIS` is how
/// many seconds it may take, in the place of 40.
#[test]
fn schemathesis_finds_no_failure_and_no_answer_that_the_document_does_not_have() {
    let Some(program) = gatekey_testkit::tools::find("schemathesis") else {
        return;
    };
    let (api, _, _) = Api::with_key();
    let import = json!({"name": "old", "hash": "plain"});
    api.done("POST", "/v1/imports", &import);
    let router = Admin::new(api.engine.clone()).router();
    let router = router.layer(axum::middleware::from_fn(admit));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("openapi.json");
    std::fs::write(&file, gatekey_admin::openapi()).unwrap();
    let seconds = std::env::var("GATEKEY_SCHEMATHESIS").unwrap_or("40".to_owned());
    let before = api.engine.audit_span().unwrap().last.seq;
    let output = while_served(router, |url| {
        Command::new(&program)
            .current_dir(dir.path())
            .arg("run")
            .arg(&file)
            .args(["--url", url])
            .args(["--header", &format!("Authorization: {KNOWN}")])
            .args(["--checks", CHECKS])
            .args(["--max-time", &seconds])
            .args(["--phases", "coverage,fuzzing,stateful"])
            .args(["--generation-database", "none", "--warnings", "off"])
            .args(["--no-color", "--continue-on-failure"])
            .output()
            .unwrap()
    });
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{errors}");
    // How much it reaches depends on the machine; what it asked must be right.
    let (count, _) = told.split_once(" generated, ").unwrap();
    let count = count.rsplit(' ').next().unwrap();
    assert!(count.parse::<u64>().unwrap() > 0, "{told}");
    let changes = api.engine.audit_span().unwrap().last.seq - before;
    assert!(api.engine.check().unwrap().is_sound());
    println!("{changes} changes\n{told}");
}
