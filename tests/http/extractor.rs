//! Whatever the headers are, the extractor does not panic, allocates no more than
//! they are long, and gives what a second, plain reading of the rules gives.

use gatekey::http::{Dialect, presets};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use crate::common::{DIALECTS, dialect};

/// Header values near what is accepted, and far from it.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let scheme = prop::sample::select(vec![
        "", "Bearer", "bearer", "BEARER", "Basic", "basic", "bAsIc", "Digest", "Bearerx", "ApiKey",
    ]);
    let gap = prop::sample::select(vec!["", " ", "  ", "\t", ","]);
    let rest = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..80),
        "[0-9A-Za-z+/]{0,60}={0,3}".prop_map(String::into_bytes),
        "[0-9a-z_]{0,40}:?[ -~]{0,5}".prop_map(|text| {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD
                .encode(text)
                .into_bytes()
        }),
        proptest::collection::vec(Just(b'A'), 0..20_000),
    ];
    (scheme, gap, rest)
        .prop_map(|(scheme, gap, rest)| [scheme.as_bytes(), gap.as_bytes(), &rest].concat())
}

fn fields() -> impl Strategy<Value = HeaderMap> {
    let name = prop::sample::select(vec![
        "authorization",
        "x-api-key",
        "x-aurorax-api-key",
        "cookie",
    ]);
    proptest::collection::vec((name, value()), 0..4).prop_map(|fields| {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            // What no server would let in is left out.
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(HeaderName::from_static(name), value);
            }
        }
        headers
    })
}

fn input_len(headers: &HeaderMap) -> u64 {
    headers.values().map(|value| value.len() as u64).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_headers_make_it_panic_or_allocate_more_than_they_are_long(
        headers in fields(),
        name in prop::sample::select(DIALECTS.to_vec()),
    ) {
        let dialect = dialect(name);
        let mut outcome = None;
        let used = allocation_counter::measure(|| {
            outcome = Some(dialect.credential(&headers).map(|found| {
                found.map(|presented| presented.expose().len())
            }));
        });
        prop_assert!(used.bytes_total <= input_len(&headers), "{:?}", used);
        if let Some(Ok(Some(len))) = outcome {
            prop_assert!(len > 0);
        }
    }

    #[test]
    fn a_token_is_taken_as_it_is(token in "[!-~]{1,90}", spaces in " {1,3}") {
        let mut headers = HeaderMap::new();
        let text = format!("bEARER{spaces}{token}");
        headers.insert("authorization", HeaderValue::try_from(text).unwrap());
        let dialect = Dialect::default();
        let presented = dialect.credential(&headers).unwrap().unwrap();
        prop_assert_eq!(presented.expose(), token.as_bytes());
    }

    #[test]
    fn a_basic_user_name_ends_at_the_first_colon(user in "[!-9;-~]{1,90}", rest in "[ -~]{0,9}") {
        use base64::Engine as _;
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{rest}"));
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::try_from(format!("Basic {encoded}")).unwrap());
        let dialect = presets::one_codex();
        match dialect.credential(&headers) {
            Ok(Some(presented)) => {
                prop_assert!(rest.is_empty());
                prop_assert_eq!(presented.expose(), user.as_bytes());
            }
            Ok(None) => prop_assert!(false),
            Err(_) => prop_assert!(!rest.is_empty()),
        }
    }
}

#[test]
fn a_bearer_token_and_a_header_of_its_own_allocate_nothing() {
    for (name, field, value) in [
        ("problem_details", "authorization", "Bearer abc"),
        ("pixxel", "authorization", "abc"),
        ("one_codex", "x-api-key", "abc"),
    ] {
        let dialect = dialect(name);
        let mut headers = HeaderMap::new();
        headers.insert(field, HeaderValue::from_static(value));
        let used = allocation_counter::measure(|| {
            assert!(matches!(dialect.credential(&headers), Ok(Some(_))));
        });
        assert_eq!(used.count_total, 0);
    }
}
