//! Layers behind each other: one rule for all stacks, against a model of it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use gatekey::http::{Carrier, Dialect};
use gatekey::tower::AuthLayer;
use gatekey::{Engine, Grant, Issued, Limit, NewKey, NewKeyspace, Plan, Requirements};
use http::{HeaderName, Request, Response, StatusCode};
use tower::util::BoxCloneSyncService;
use tower::{Layer as _, ServiceExt as _, service_fn};

type Stack = BoxCloneSyncService<Request<String>, Response<Vec<u8>>, Infallible>;

/// What a layer in front leaves for a caller whom it knows.
#[derive(Clone)]
struct Mark;

/// What a route says of who needs a key, in some order.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Required,
    Optional,
    RequiredOptional,
    OptionalRequired,
    Write,
    WriteOptional,
    OptionalWrite,
    NothingRequiredOptional,
    PassForeign,
    RequiredPassForeign,
    Vouched,
    OptionalVouched,
    WriteVouched,
}

const MODES: [Mode; 13] = [
    Mode::Required,
    Mode::Optional,
    Mode::RequiredOptional,
    Mode::OptionalRequired,
    Mode::Write,
    Mode::WriteOptional,
    Mode::OptionalWrite,
    Mode::NothingRequiredOptional,
    Mode::PassForeign,
    Mode::RequiredPassForeign,
    Mode::Vouched,
    Mode::OptionalVouched,
    Mode::WriteVouched,
];

impl Mode {
    fn of(self, auth: AuthLayer) -> AuthLayer {
        let marked = |extensions: &http::Extensions| extensions.get::<Mark>().is_some();
        match self {
            Self::Required => auth.required(),
            Self::Optional => auth.optional(),
            Self::RequiredOptional => auth.required().optional(),
            Self::OptionalRequired => auth.optional().required(),
            Self::Write => auth.permissions(["write"]),
            Self::WriteOptional => auth.permissions(["write"]).optional(),
            Self::OptionalWrite => auth.optional().permissions(["write"]),
            Self::NothingRequiredOptional => auth.permissions::<String>([]).optional(),
            Self::PassForeign => auth.pass_foreign().optional(),
            Self::RequiredPassForeign => auth.required().pass_foreign(),
            Self::Vouched => auth.or_vouched(marked),
            Self::OptionalVouched => auth.or_vouched(marked).optional(),
            Self::WriteVouched => auth.or_vouched(marked).permissions(["write"]),
        }
    }

    fn needs_write(self) -> bool {
        matches!(
            self,
            Self::Write | Self::WriteOptional | Self::OptionalWrite | Self::WriteVouched
        )
    }

    fn lets_nobody_pass(self) -> bool {
        matches!(
            self,
            Self::Optional | Self::PassForeign | Self::OptionalVouched
        )
    }

    fn lets_marked_pass(self) -> bool {
        matches!(self, Self::Vouched | Self::OptionalVouched)
    }
}

#[derive(Debug, Clone, Copy)]
struct Spec {
    /// The first engine, a handle of it with an actor, or the second.
    engine: usize,
    in_bearer: bool,
    mode: Mode,
    cost: u32,
}

/// What a request presents in a header, by the number of its key.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Shown {
    Nothing,
    Key(usize),
    /// Of a keyspace of this engine, but no key's.
    Bad(usize),
    Jwt,
}

struct World {
    engines: [Engine; 2],
    /// Two of the first engine, one of the second; the second one may write.
    keys: [(usize, Issued); 3],
}

const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";

impl World {
    fn new() -> Self {
        let engines = ["one", "two"].map(|prefix| {
            let engine = Engine::open_in_memory().unwrap();
            // Opened by the first request: a window of the clock may end during the test.
            let plan = Plan::new("p").limit(Limit::per_hour(1_000_000).fixed());
            let keyspace = NewKeyspace::new(prefix).unwrap().permissions(["write"]);
            engine
                .create_keyspace(keyspace.plan(plan).default_plan("p"))
                .unwrap();
            engine
        });
        let issue = |engine: usize, prefix: &str, permissions: &[&str]| {
            let new = NewKey::new(prefix, "acme").unwrap();
            let new = new.permissions(permissions.iter().copied());
            (engine, engines[engine].issue(new).unwrap())
        };
        let keys = [
            issue(0, "one", &[]),
            issue(0, "one", &["write"]),
            issue(1, "two", &["write"]),
        ];
        Self { engines, keys }
    }

    fn text(&self, shown: Shown) -> Option<String> {
        Some(match shown {
            Shown::Nothing => return None,
            Shown::Key(number) => self.keys[number].1.token.expose().to_owned(),
            Shown::Bad(engine) => format!("{}_nonsense", ["one", "Two"][engine]),
            Shown::Jwt => JWT.to_owned(),
        })
    }

    fn layer(&self, spec: Spec) -> AuthLayer {
        let engine = match spec.engine {
            1 => self.engines[0].acting_as("somebody").unwrap(),
            engine => self.engines[engine / 2].clone(),
        };
        let carrier = match spec.in_bearer {
            true => Carrier::Bearer,
            false => Carrier::Header(HeaderName::from_static("x-key")),
        };
        let dialect = Dialect::builder().carriers([carrier]).build().unwrap();
        let layer = spec
            .mode
            .of(AuthLayer::new(engine, dialect).cost(spec.cost));
        match spec.mode {
            // As it is, a route needs a key.
            Mode::Vouched | Mode::RequiredPassForeign | Mode::Required => layer,
            _ => layer.cost(spec.cost),
        }
    }

    /// What was charged each key, and how often it was used.
    fn tally(&self) -> Vec<(u32, u64)> {
        let of_key = |(engine, issued): &(usize, Issued)| {
            let engine = &self.engines[*engine];
            engine.flush().unwrap();
            let used = engine.key(issued.key.id).unwrap().usage.count;
            let free = Requirements::new().cost(0);
            let grant = engine.verify_with(issued.token.expose(), &free).unwrap();
            let limit = grant.into_result().unwrap().tightest_limit().unwrap();
            (1_000_000 - limit.remaining(), used)
        };
        self.keys.iter().map(of_key).collect()
    }
}

/// What a request, from some layer on, comes to by the rule.
fn expected(
    specs: &[Spec],
    shown: [Shown; 2],
    marked: bool,
    mut grant: Option<usize>,
    paid: &mut [Option<u32>; 3],
) -> Result<Option<usize>, u16> {
    for spec in specs {
        let engine = spec.engine / 2;
        let shown = shown[usize::from(!spec.in_bearer)];
        let is_marked = marked && spec.mode.lets_marked_pass();
        let is_foreign = match shown {
            Shown::Nothing => false,
            Shown::Key(number) => (number == 2) != (engine == 1),
            Shown::Bad(of) => of != engine,
            Shown::Jwt => true,
        };
        match shown {
            Shown::Nothing if is_marked => {}
            Shown::Nothing if spec.mode.lets_nobody_pass() => grant = None,
            _ if is_foreign && is_marked => {}
            _ if is_foreign && spec.mode == Mode::PassForeign => grant = None,
            Shown::Key(number) if !is_foreign => {
                if spec.mode.needs_write() && number == 0 {
                    return Err(403);
                }
                paid[number] = Some(paid[number].unwrap_or(0).max(spec.cost));
                grant = Some(number);
            }
            _ => return Err(401),
        }
    }
    Ok(grant)
}

/// A service that sends a request on, and before it a clone of it.
fn twice(inner: Stack, first: Arc<Mutex<Option<StatusCode>>>) -> Stack {
    BoxCloneSyncService::new(service_fn(move |request: Request<String>| {
        let (inner, first) = (inner.clone(), first.clone());
        async move {
            let clone = inner.clone().oneshot(request.clone()).await?;
            *first.lock().unwrap() = Some(clone.status());
            inner.oneshot(request).await
        }
    }))
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % bound
    }
}

async fn case(world: &World, specs: &[Spec], shown: [Shown; 2], marked: bool, clone_at: usize) {
    let handler = service_fn(|request: Request<String>| async move {
        let grant = request.extensions().get::<Grant>();
        let id = grant.map_or(String::new(), |grant| grant.key_id().to_string());
        Ok::<_, Infallible>(Response::new(id.into_bytes()))
    });
    let first = Arc::new(Mutex::new(None));
    let mut stack = BoxCloneSyncService::new(handler);
    for (at, spec) in specs.iter().enumerate().rev() {
        if at + 1 == clone_at {
            stack = twice(stack, first.clone());
        }
        stack = BoxCloneSyncService::new(world.layer(*spec).layer(stack));
    }
    let mut request = Request::builder();
    if let Some(token) = world.text(shown[0]) {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    if let Some(token) = world.text(shown[1]) {
        request = request.header("x-key", token);
    }
    let mut request = request.body(String::new()).unwrap();
    if marked {
        request.extensions_mut().insert(Mark);
    }
    let before = world.tally();
    let response = stack.oneshot(request).await.unwrap();
    let after = world.tally();

    let about = format!("{specs:?} {shown:?} {marked} {clone_at}");
    let mut charges = [(0, 0); 3];
    let mut count = |paid: [Option<u32>; 3]| {
        for (charge, paid) in charges.iter_mut().zip(paid) {
            charge.0 += paid.unwrap_or(0);
            charge.1 += u64::from(paid.is_some());
        }
    };
    let (front, behind) = specs.split_at(clone_at.min(specs.len()));
    let mut paid = [None; 3];
    let mut result = expected(front, shown, marked, None, &mut paid);
    if let Ok(grant) = result {
        result = expected(behind, shown, marked, grant, &mut paid);
    }
    count(paid);
    if clone_at < specs.len() && first.lock().unwrap().is_some() {
        // The second of the two pays anew for all that is behind.
        let mut paid = [None; 3];
        let _ = expected(behind, shown, marked, None, &mut paid);
        count(paid);
    }
    match result {
        Ok(grant) => {
            assert_eq!(response.status(), 200, "{about}");
            let id = grant.map_or(String::new(), |key| world.keys[key].1.key.id.to_string());
            assert_eq!(String::from_utf8_lossy(response.body()), id, "{about}");
        }
        Err(status) => assert_eq!(response.status(), status, "{about}"),
    }
    for key in 0..3 {
        let charged = after[key].0 - before[key].0;
        // A tally is a use by itself.
        let used = after[key].1 - before[key].1 - 1;
        assert_eq!((charged, used), charges[key], "key {key}: {about}");
    }
}

const SHOWN: [Shown; 7] = [
    Shown::Nothing,
    Shown::Key(0),
    Shown::Key(1),
    Shown::Key(2),
    Shown::Bad(0),
    Shown::Bad(1),
    Shown::Jwt,
];

#[tokio::test]
async fn one_layer_asks_for_the_same_in_whatever_order_it_was_said() {
    let world = World::new();
    for mode in MODES {
        for shown in SHOWN {
            for marked in [false, true] {
                let spec = Spec {
                    engine: 0,
                    in_bearer: true,
                    mode,
                    cost: 3,
                };
                case(&world, &[spec], [shown, Shown::Nothing], marked, 9).await;
            }
        }
    }
}

#[tokio::test]
async fn a_stack_of_layers_keeps_to_the_rule() {
    let world = World::new();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for _ in 0..1_500 {
        let depth = 2 + random.below(3);
        let specs: Vec<Spec> = (0..depth)
            .map(|_| Spec {
                engine: random.below(3),
                in_bearer: random.below(4) > 0,
                // So that most get through the first ones.
                mode: match random.below(3) {
                    0 => MODES[random.below(MODES.len())],
                    1 => Mode::OptionalVouched,
                    _ => Mode::PassForeign,
                },
                cost: [0, 1, 5, 7][random.below(4)],
            })
            .collect();
        let shown = [SHOWN[random.below(7)], SHOWN[random.below(7)]];
        let marked = random.below(3) == 0;
        let clone_at = match random.below(2) {
            0 => 1 + random.below(depth),
            _ => 9,
        };
        case(&world, &specs, shown, marked, clone_at).await;
    }
}

/// A layer of another scheme, as one finds them: it judges the JWT, and passes on the
/// rest.
fn jwt_in_front(inner: Stack) -> Stack {
    BoxCloneSyncService::new(service_fn(move |mut request: Request<String>| {
        let inner = inner.clone();
        async move {
            let value = request.headers().get("authorization");
            let token = value.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
            match token {
                Some(JWT) => {
                    request.extensions_mut().insert(Mark);
                }
                Some(token) if token.starts_with("eyJ") => {
                    let mut response = Response::new(Vec::new());
                    *response.status_mut() = StatusCode::UNAUTHORIZED;
                    return Ok(response);
                }
                _ => {}
            }
            inner.oneshot(request).await
        }
    }))
}

#[tokio::test]
async fn a_jwt_or_a_key_opens_a_route_and_neither_does_not() {
    let (engine, issued) = crate::store();
    let auth = AuthLayer::new(engine, Dialect::default());
    let marked = |extensions: &http::Extensions| extensions.get::<Mark>().is_some();
    let handler = || service_fn(|_: Request<String>| async { Ok(Response::new(b"ok".to_vec())) });
    let key = issued.token.expose();
    let altered = format!("{JWT}x");
    for (layer, [nobody, key_alone]) in [
        (auth.clone().required().or_vouched(marked), [401, 200]),
        (auth.clone().optional().or_vouched(marked), [200, 200]),
    ] {
        let stack = jwt_in_front(BoxCloneSyncService::new(layer.layer(handler())));
        for (token, status) in [
            (None, nobody),
            (Some(key), key_alone),
            (Some(JWT), 200),
            (Some(altered.as_str()), 401),
            (Some("opaque"), 401),
            (Some("acme_live_opaque"), 401),
            // Cut short, it is no other scheme's.
            (Some(&key[..key.len() - 1]), 401),
        ] {
            let request = Request::builder();
            let request = match token {
                Some(token) => request.header("authorization", format!("Bearer {token}")),
                None => request,
            };
            let request = request.body(String::new()).unwrap();
            let response = stack.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), status, "{token:?}");
        }
    }
}

#[tokio::test]
async fn what_is_passed_on_for_others_has_no_grant() {
    let (engine, issued) = crate::store();
    // A key of another system that was imported is the engine's own, unlike a JWT of its shape.
    let old = gatekey::NewImport::new("old", gatekey::ForeignHash::Plain);
    engine.begin_import(old).unwrap();
    let moved = gatekey::ForeignKey::new(
        NewKey::new("acme_live", "acme/moved").unwrap(),
        gatekey::Credential::token("op-4f1c9a30b7d2e856"),
    );
    engine.import_keys("old", vec![moved]).unwrap();
    let auth = AuthLayer::new(engine, Dialect::default())
        .pass_foreign()
        .optional();
    let who = |grant: Option<Grant>| async move {
        grant.map_or("nobody".to_owned(), |grant| grant.owner().to_owned())
    };
    let needs_one = |grant: Grant| async move { grant.owner().to_owned() };
    let app = axum::Router::new()
        .route("/open", axum::routing::get(who))
        .route("/needs", axum::routing::get(needs_one))
        .layer(auth);
    let key = format!("bearer {}", issued.token.expose());
    let jwt = format!("Bearer {JWT}");
    for (value, open, needs) in [
        (key.as_str(), 200, 200),
        (jwt.as_str(), 200, 401),
        ("Bearer op-4f1c9a30b7d2e856", 200, 200),
        ("Bearer op-0000000000000000", 200, 401),
        ("Negotiate abc", 200, 401),
        ("Bearer acme_live_cut", 401, 401),
        ("Bearer ACME_LIVE_cut", 401, 401),
        ("Bearer \"acme_live_cut\"", 401, 401),
        ("Bearer", 401, 401),
    ] {
        for (path, status) in [("/open", open), ("/needs", needs)] {
            let request = Request::builder().uri(path).header("authorization", value);
            let request = request.body(Body::empty()).unwrap();
            let response = app.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), status, "{path} {value}");
            // What somebody else may have judged is nobody else's to see.
            let is_private = response.headers()["cache-control"] == "private";
            assert_eq!(is_private, status == 200, "{path} {value}");
        }
    }
}
