//! What JWTs and OAuth cost: a JWT beside the token of its key, the hash of its text and a
//! bare verification of its signature; exchanges of codes and refreshes, durable.

use std::hint::black_box;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ed25519_dalek::{Signature, VerifyingKey};
use gatekey::{Engine, NewKeyspace};
use gatekey_oauth::server::{
    AuthorizationServer, Authorize, NewClient, ServerOptions, TokenRequest,
};
use gatekey_oauth::{JwtOptions, Jwts, Params};
use serde_json::Value;

use crate::world::{READ, spec};
use crate::{BATCH, Run, each_by, granted, median, print};

const URL: &str = "https://api.example.com";
const CALLBACK: &str = "https://app.example.com/cb";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const KEYS: usize = 50_000;
/// How many of the keys have a JWT.
const JWTS: usize = 4_096;

pub(crate) fn oauth(run: &Run) {
    jwts(run);
    durable(run);
}

/// Keys, the JWTs of some, and what a bare verification of each needs.
struct Place {
    engine: Engine,
    tokens: Vec<String>,
    jwts: Vec<String>,
    signatures: Vec<Signature>,
    key: VerifyingKey,
}

impl Place {
    fn new() -> (Self, Jwts) {
        let engine = Engine::open_in_memory().unwrap();
        let keyspace = NewKeyspace::new("acme_live").unwrap();
        let keyspace = keyspace.permissions(["read", "write"]);
        engine.create_keyspace(keyspace).unwrap();
        let mut tokens = Vec::with_capacity(KEYS);
        for from in (0..KEYS).step_by(BATCH) {
            let issued = engine.issue_batch((from..from + BATCH).map(spec).collect());
            let issued = issued.unwrap();
            tokens.extend(issued.iter().map(|key| key.token.expose().to_owned()));
        }
        // So much room that no two of them push each other out.
        let options = JwtOptions::new(URL, URL).lifetime(Duration::from_secs(86_400));
        let makes = Jwts::open(&engine, options.remembered(16 * JWTS)).unwrap();
        tokens.truncate(JWTS);
        let jwts: Vec<String> = tokens
            .iter()
            .map(|token| {
                let grant = engine.verify_with(token, &READ).unwrap();
                let grant = grant.into_result().unwrap();
                makes.issue(&grant, None).unwrap().expose().to_owned()
            })
            .collect();
        let signatures = jwts.iter().map(|jwt| {
            let (_, signature) = jwt.rsplit_once('.').unwrap();
            Signature::from_slice(&BASE64.decode(signature).unwrap()).unwrap()
        });
        let set: Value = serde_json::from_str(&makes.jwks()).unwrap();
        let header = jwts[0].split('.').next().unwrap();
        let header: Value = serde_json::from_slice(&BASE64.decode(header).unwrap()).unwrap();
        let mut set = set["keys"].as_array().unwrap().iter();
        let key = set.find(|key| key["kid"] == header["kid"]).unwrap();
        let key = BASE64.decode(key["x"].as_str().unwrap()).unwrap();
        let place = Self {
            key: VerifyingKey::from_bytes(&key.try_into().unwrap()).unwrap(),
            signatures: signatures.collect(),
            engine,
            tokens,
            jwts,
        };
        (place, makes)
    }

    fn jwt(&self, at: usize) -> &str {
        &self.jwts[at % JWTS]
    }

    fn verify(&self, jwts: &Jwts, at: usize) {
        let verdict = jwts.verify(black_box(self.jwt(at)), &READ).unwrap();
        assert!(black_box(&verdict).is_granted());
    }

    fn hash(&self, at: usize) {
        black_box(blake3::keyed_hash(
            &[7; 32],
            black_box(self.jwt(at)).as_bytes(),
        ));
    }

    fn hit(&self, at: usize) {
        granted(&self.engine, &self.tokens[at % JWTS]);
    }

    fn signature(&self, at: usize) {
        let (signed, _) = self.jwt(at).rsplit_once('.').unwrap();
        let signature = black_box(&self.signatures[at % JWTS]);
        let verified = self.key.verify_strict(signed.as_bytes(), signature);
        assert!(black_box(verified).is_ok());
    }
}

fn jwts(run: &Run) {
    let names = [
        "jwt_seen_ns",
        "jwt_seen_over_hash_and_1_5_hits",
        "jwt_seen_over_bare_ed25519",
        "jwt_first_over_bare_ed25519",
    ];
    if !run.wants(&names) {
        return;
    }
    let (place, seen) = Place::new();
    let first = Jwts::open(&place.engine, JwtOptions::new(URL, URL).remembered(0)).unwrap();
    let kinds: [(usize, &dyn Fn(usize)); 5] = [
        (10_000, &|at| place.verify(&seen, at)),
        (10_000, &|at| place.hash(at)),
        (10_000, &|at| place.hit(at)),
        (500, &|at| place.signature(at)),
        (500, &|at| place.verify(&first, at)),
    ];
    for at in 0..2 * JWTS {
        place.verify(&seen, at);
        place.hit(at);
    }
    let mut figures = [const { Vec::new() }; 4];
    for round in 0..run.rounds() {
        let mut ns = [0.0; 5];
        // Each of them begins the round in its turn.
        for turn in 0..kinds.len() {
            let number = (round + turn) % kinds.len();
            let (calls, work) = kinds[number];
            let from = round * 10_000 + number * 1_000;
            let start = Instant::now();
            (from..from + calls).for_each(work);
            ns[number] = start.elapsed().as_nanos() as f64 / calls as f64;
        }
        let [seen, hash, hit, bare, first] = ns;
        let of_round = [seen, seen / (hash + 1.5 * hit), seen / bare, first / bare];
        for (figures, figure) in figures.iter_mut().zip(of_round) {
            figures.push(figure);
        }
    }
    for ((name, figures), unit) in names
        .iter()
        .zip(&mut figures)
        .zip(["ns", "ratio", "ratio", "ratio"])
    {
        print(name, median(figures), unit);
    }
}

/// A server over a file, and one public client.
struct Served {
    server: AuthorizationServer,
    client: String,
}

impl Served {
    fn new(run: &Run) -> Self {
        let engine = Engine::create(run.path("oauth.redb")).unwrap();
        let keyspace = NewKeyspace::new("acme_at").unwrap().permissions(["read"]);
        let keyspace = engine.create_keyspace(keyspace).unwrap().prefix;
        // Without a window each refresh makes a head.
        let options = ServerOptions::new(URL)
            .code_lifetime(Duration::from_secs(600))
            .refresh_window(Duration::ZERO);
        let server = AuthorizationServer::open(&engine, options).unwrap();
        let new = NewClient::public("App", keyspace, ["read"]).redirect_uri(CALLBACK);
        let client = server.register(&new).unwrap().client.id;
        Self { server, client }
    }

    fn code(&self, person: usize) -> String {
        let query = format!(
            "response_type=code&client_id={}&redirect_uri={CALLBACK}\
             &code_challenge={CHALLENGE}&code_challenge_method=S256",
            self.client
        );
        let params = Params::form(query.as_bytes()).unwrap();
        let Authorize::Consent(consent) = self.server.authorize(&params, b"session").unwrap()
        else {
            panic!("refused");
        };
        let owner = format!("customer-{person}/alice").parse().unwrap();
        let url = self
            .server
            .approve(&consent.ticket, b"session", &owner, &["read"]);
        let url = url.unwrap().unwrap();
        let (_, code) = url.split_once("code=").unwrap();
        code.split('&').next().unwrap().to_owned()
    }

    fn ask(&self, more: &str) -> String {
        let body = format!("client_id={}&{more}", self.client);
        let params = Params::form(body.as_bytes()).unwrap();
        let reply = self.server.token(TokenRequest {
            params: &params,
            authorization: None,
        });
        let reply = reply.unwrap();
        assert_eq!(reply.status, 200);
        let said: Value = serde_json::from_str(&reply.body).unwrap();
        said["refresh_token"].as_str().unwrap().to_owned()
    }

    fn exchange(&self, code: &str) -> String {
        self.ask(&format!(
            "grant_type=authorization_code&redirect_uri={CALLBACK}&code={code}\
             &code_verifier={VERIFIER}"
        ))
    }

    fn refresh(&self, token: &str) -> String {
        self.ask(&format!("grant_type=refresh_token&refresh_token={token}"))
    }

    /// What `work` gives for each number below `count`, by many threads, and how many a
    /// second that were.
    fn all<T: Send>(
        &self,
        threads: usize,
        count: usize,
        work: impl Fn(&Self, usize) -> T + Sync,
    ) -> (Vec<T>, f64) {
        let (done, time) = each_by(threads, count, |number| work(self, number));
        (done, count as f64 / time.as_secs_f64())
    }
}

fn durable(run: &Run) {
    let names = [
        ("oauth_exchange_durable_1_thread_per_s", 1),
        ("oauth_exchange_durable_64_threads_per_s", 64),
        ("oauth_refresh_durable_1_thread_per_s", 1),
        ("oauth_refresh_durable_64_threads_per_s", 64),
    ];
    if !run.wants(&names.map(|(name, _)| name)) {
        return;
    }
    let served = Served::new(run);
    let many = |threads: usize| match (threads, run.quick) {
        (1, true) => 300,
        (1, false) => 1_500,
        (_, true) => 1_920,
        (_, false) => 9_600,
    };
    let mut heads = Vec::new();
    for (name, threads) in &names[..2] {
        let count = many(*threads);
        let (codes, _) = served.all(64, count, Served::code);
        let (made, per_s) = served.all(*threads, count, |served, number| {
            served.exchange(&codes[number])
        });
        heads = made;
        print(name, per_s, "1/s");
    }
    for (name, threads) in &names[2..] {
        // Each thread has an authorization of its own, which it refreshes again and again.
        let each = many(*threads) / threads;
        let (_, chains_per_s) = served.all(*threads, *threads, |served, number| {
            let mut head = heads[heads.len() - 1 - threads - number].clone();
            for _ in 0..each {
                head = served.refresh(&head);
            }
        });
        print(name, chains_per_s * each as f64, "1/s");
    }
}
