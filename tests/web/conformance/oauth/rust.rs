//! The crate `oauth2`.

use oauth2::basic::BasicClient;
use oauth2::{
    AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, HttpRequest, HttpResponse,
    IntrospectionUrl, PkceCodeChallenge, RedirectUrl, Scope, TokenIntrospectionResponse as _,
    TokenResponse as _, TokenUrl,
};
use serde_json::json;

use super::{CALLBACK, Person, alice, register};
use crate::client::{Ask, ureq};
use crate::server::Server;

/// As the crate is given an HTTP client.
fn http(request: HttpRequest) -> Result<HttpResponse, ureq::Error> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .build()
        .into();
    let (parts, mut body) = agent.run(request)?.into_parts();
    Ok(http::Response::from_parts(parts, body.read_to_vec()?))
}

#[test]
fn the_crate_oauth2_gets_a_token_and_refreshes_it() {
    let server = Server::start();
    let person = Person::new(&server, &alice(&server));
    let web = json!({ "name": "Web", "redirect_uri": CALLBACK, "auth": "client_secret_basic" });
    let web = register(&server, &web);
    let at = |path: &str| format!("{}/tiered/oauth/{path}", server.url);
    let client = BasicClient::new(ClientId::new(web.id))
        .set_client_secret(ClientSecret::new(web.secret))
        .set_auth_uri(AuthUrl::new(at("authorize")).unwrap())
        .set_token_uri(TokenUrl::new(at("token")).unwrap())
        .set_introspection_url(IntrospectionUrl::new(at("introspect")).unwrap())
        .set_redirect_uri(RedirectUrl::new(CALLBACK.to_owned()).unwrap());
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let ask = client.authorize_url(CsrfToken::new_random);
    let ask = ask.add_scope(Scope::new("read".to_owned()));
    let (url, state) = ask.set_pkce_challenge(challenge).url();
    let back = oauth2::url::Url::parse(&person.visit(url.as_str())).unwrap();
    let part = |name: &str| {
        let mut parts = back.query_pairs().filter(|(known, _)| known == name);
        parts.next().unwrap().1.into_owned()
    };
    assert_eq!(part("state"), *state.secret());
    let code = client.exchange_code(AuthorizationCode::new(part("code")));
    let tokens = code.set_pkce_verifier(verifier).request(&http).unwrap();
    let account = Ask::get("/tiered/account").bearer(tokens.access_token().secret());
    assert_eq!(ureq(&server.url, &account).json()["owner"], "acme/alice");
    let told = client
        .introspect(tokens.access_token())
        .request(&http)
        .unwrap();
    assert!(told.active());
    let refreshed = client
        .exchange_refresh_token(tokens.refresh_token().unwrap())
        .request(&http);
    assert!(refreshed.unwrap().refresh_token().is_some());
}
