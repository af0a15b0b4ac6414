//! What a layer requires by name and by mask.

use std::convert::Infallible;

use gatekey::http::Dialect;
use gatekey::tower::AuthLayer;
use gatekey::{Engine, NewKey, NewKeyspace, Permissions};
use http::{Request, Response};
use tower::{Layer as _, ServiceExt as _, service_fn};

/// What another scheme leaves in a request.
#[derive(Clone)]
struct Vouched;

async fn status(layer: AuthLayer, token: Option<&str>) -> u16 {
    let inner = service_fn(|_: Request<String>| async {
        Ok::<_, Infallible>(Response::new(Vec::<u8>::new()))
    });
    let mut request = Request::builder().extension(Vouched);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(String::new()).unwrap();
    let response = layer.layer(inner).oneshot(request).await.unwrap();
    response.status().as_u16()
}

#[tokio::test]
async fn masks_and_any_number_of_names_are_required_together() {
    let engine = Engine::open_in_memory().unwrap();
    let names: Vec<String> = (0..40).map(|number| format!("p{number}")).collect();
    let new = NewKeyspace::new("acme").unwrap().permissions(names.clone());
    let keyspace = engine.create_keyspace(new).unwrap();
    let key = |names: &[String]| {
        let new = NewKey::new("acme", "owner").unwrap();
        let new = new.permissions(names.iter().map(String::as_str));
        engine.issue(new).unwrap().token.expose().to_owned()
    };
    let (all, most) = (key(&names), key(&names[..39]));
    let layer = || AuthLayer::new(engine.clone(), Dialect::default());
    // Each number of names, about those that cost no allocation too; the last is the one
    // that the second key lacks.
    for count in [1, 2, 15, 16, 17, 40] {
        let layer = layer().permissions(names[40 - count..].iter().map(String::as_str));
        assert_eq!(status(layer.clone(), Some(&all)).await, 200, "{count}");
        assert_eq!(status(layer, Some(&most)).await, 403, "{count}");
    }
    let last = keyspace.mask(["p39"]).unwrap();
    let first = keyspace.mask(["p0"]).unwrap();
    for (layer, statuses, vouched) in [
        (layer().permission_mask(first), [200, 200], 401),
        (layer().permission_mask(last), [200, 403], 401),
        // Each call requires more.
        (
            layer().permission_mask(last).permission_mask(first),
            [200, 403],
            401,
        ),
        (
            layer().permission_mask(first).permissions(["p39"]),
            [200, 403],
            401,
        ),
        (
            layer().permissions(["p39"]).permission_mask(first),
            [200, 403],
            401,
        ),
        (layer().permission_mask(Permissions::NONE), [200, 200], 200),
    ] {
        for (token, expected) in [&all, &most].into_iter().zip(statuses) {
            let found = status(layer.clone(), Some(token)).await;
            assert_eq!(found, expected, "{layer:?}");
        }
        // Anonymous callers hold no permissions, and another scheme's are unknown.
        let layer = layer.optional();
        assert_eq!(status(layer.clone(), None).await, 401, "{layer:?}");
        let layer = layer.or_vouched(|extensions| extensions.get::<Vouched>().is_some());
        assert_eq!(status(layer.clone(), None).await, vouched, "{layer:?}");
    }
}
