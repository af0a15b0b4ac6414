//! Signatures of others: RFC 7515, 7638, 8037, and Wycheproof.

use serde_json::Value;

use super::*;

const ED25519: &str = include_str!("../../tests/vectors/wycheproof/ed25519_test.json");
#[cfg(feature = "aws-lc")]
const JWS: &str = include_str!("../../tests/vectors/wycheproof/json_web_signature_test.json");

/// The public key of a JWK, if it is of an algorithm of ours.
fn public_of(jwk: &Value) -> Option<PublicKey> {
    let bytes = |name: &str| decode(jwk[name].as_str().unwrap()).unwrap();
    match jwk["kty"].as_str().unwrap() {
        "OKP" => {
            let key = bytes("x").try_into().unwrap();
            let key = ed25519_dalek::VerifyingKey::from_bytes(&key).unwrap();
            Some(PublicKey::EdDsa(Box::new(key)))
        }
        #[cfg(feature = "aws-lc")]
        "EC" if jwk["crv"] == "P-256" => {
            let point = [&[4][..], &bytes("x"), &bytes("y")].concat();
            Some(PublicKey::Es256(point.try_into().unwrap()))
        }
        #[cfg(feature = "aws-lc")]
        "RSA" => Some(PublicKey::Rs256 {
            n: bytes("n"),
            e: bytes("e"),
        }),
        _ => None,
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn ed25519_is_that_of_wycheproof() {
    let file: Value = serde_json::from_str(ED25519).unwrap();
    let (mut right, mut wrong) = (0, 0);
    for group in file["testGroups"].as_array().unwrap() {
        let key = public_of(&group["publicKeyJwk"]).unwrap();
        for test in group["tests"].as_array().unwrap() {
            let [message, signature] = ["msg", "sig"].map(|name| hex(test[name].as_str().unwrap()));
            let is_right = test["result"] == "valid";
            assert_eq!(key.verifies(&message, &signature), is_right, "{test}");
            *if is_right { &mut right } else { &mut wrong } += 1;
        }
    }
    assert!(right > 50 && wrong > 50, "{right} {wrong}");
}

/// RFC 8037, appendix A: the key, its thumbprint, and the signed example.
#[test]
fn ed25519_in_a_token_is_that_of_rfc_8037() {
    let seed = decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
    let key = PrivateKey::read(crate::Algorithm::EdDsa, &seed).unwrap();
    let public = key.public().unwrap();
    assert_eq!(
        public.jwk()["x"],
        "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    );
    assert_eq!(
        public.thumbprint(),
        "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    );
    let signed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = key.sign(signed.as_bytes()).unwrap();
    let expected =
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert_eq!(encode(&signature), expected);
    let token = format!("{signed}.{expected}");
    let parts = split(&token).unwrap();
    assert_eq!(
        parts.verified(&public, "EdDSA").unwrap(),
        b"Example of Ed25519 signing"
    );
    // The algorithm is the key's, whatever the header says.
    for other in ["none", "ES256", "HS256", "RS256", "eddsa", ""] {
        assert_eq!(parts.verified(&public, other), None);
    }
    // It has no `kid` and no `typ`: none of ours.
    assert!(parts.header().is_none());
}

/// RFC 7638, 3.1, and RFC 7515, A.2 and A.3.
#[cfg(feature = "aws-lc")]
#[test]
fn rsa_and_ecdsa_in_a_token_are_those_of_rfc_7515() {
    let rsa = public_of(&json!({"kty": "RSA", "e": "AQAB", "n":
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"}));
    assert_eq!(
        rsa.unwrap().thumbprint(),
        "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    );
    let payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let rs256 = public_of(&json!({"kty": "RSA", "e": "AQAB", "n":
        "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"})).unwrap();
    let token = format!(
        "eyJhbGciOiJSUzI1NiJ9.{payload}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
    );
    assert!(split(&token).unwrap().verified(&rs256, "RS256").is_some());
    let es256 = public_of(&json!({"kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}))
    .unwrap();
    let token = format!(
        "eyJhbGciOiJFUzI1NiJ9.{payload}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    );
    let parts = split(&token).unwrap();
    assert!(parts.verified(&es256, "ES256").is_some());
    assert!(parts.verified(&rs256, "RS256").is_none());
    assert!(parts.verified(&es256, "RS256").is_none());
}

/// All of Wycheproof's tokens, each with its key: of those that are good, those of our
/// algorithms verify; of the others, none.
#[cfg(feature = "aws-lc")]
#[test]
fn the_tokens_of_wycheproof_are_judged_as_it_says() {
    let file: Value = serde_json::from_str(JWS).unwrap();
    let (mut right, mut wrong) = (0, 0);
    for group in file["testGroups"].as_array().unwrap() {
        let jwk = match &group["public"] {
            Value::Null => &group["private"],
            public => public,
        };
        let Some(key) = public_of(jwk) else { continue };
        let own = key.algorithm().name();
        for test in group["tests"].as_array().unwrap() {
            let token = test["jws"].as_str().unwrap();
            let verified = || {
                let parts = split(token)?;
                let header = decode(parts.header)?;
                let header = Json::object(&header)?;
                // What a header of ours cannot have.
                if header
                    .iter()
                    .any(|(name, _)| !["alg", "kid"].contains(&&**name))
                {
                    return None;
                }
                parts.verified(&key, member(&header, "alg")?.text()?)
            };
            // A key that is bound to another algorithm, or is no signing key, is none of ours.
            let is_own = jwk["alg"].as_str().is_none_or(|alg| alg == own)
                && jwk["use"].as_str().is_none_or(|usage| usage == "sig")
                && jwk["key_ops"]
                    .as_array()
                    .is_none_or(|ops| ops.contains(&json!("verify")));
            let is_right = test["result"] == "valid" && is_own;
            if is_own {
                assert_eq!(
                    verified().is_some(),
                    is_right,
                    "{} {test}",
                    group["comment"]
                );
                *if is_right { &mut right } else { &mut wrong } += 1;
            }
        }
    }
    assert!(right >= 10 && wrong > 250, "{right} {wrong}");
}

fn pair() -> (PrivateKey, PublicKey) {
    let key = PrivateKey::read(crate::Algorithm::EdDsa, &[7; 32]).unwrap();
    let public = key.public().unwrap();
    (key, public)
}

#[test]
fn a_flip_of_any_bit_of_a_token_is_refused() {
    let (key, public) = pair();
    let token = sign(&key, &header_of("kid", "EdDSA"), br#"{"exp":7}"#).unwrap();
    let verified = |token: &[u8]| {
        let parts = split(std::str::from_utf8(token).ok()?)?;
        let header = parts.header()?;
        parts.verified(&public, &header.alg)
    };
    assert_eq!(verified(token.as_bytes()).unwrap(), br#"{"exp":7}"#);
    for bit in 0..token.len() * 8 {
        let mut bad = token.as_bytes().to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(verified(&bad), None, "bit {bit}");
    }
    for cut in 0..token.len() {
        assert_eq!(verified(&token.as_bytes()[..cut]), None, "{cut}");
    }
    for more in [".", "=", "A", "\n", " "] {
        assert_eq!(
            verified(format!("{}{more}", *token).as_bytes()),
            None,
            "{more:?}"
        );
    }
}

/// Each of these is signed as it is, and the header alone is wrong.
#[test]
fn a_header_that_this_crate_does_not_write_is_refused() {
    let (key, _) = pair();
    let signed = |header: &str| {
        let signed = format!("{}.{}", encode(header.as_bytes()), encode(b"{}"));
        let signature = key.sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", encode(&signature))
    };
    let good = r#"{"alg":"EdDSA","kid":"k","typ":"at+jwt"}"#;
    assert!(split(&signed(good)).unwrap().header().is_some());
    for header in [
        r#"{"alg":"EdDSA","kid":"k"}"#,
        r#"{"alg":"EdDSA","typ":"at+jwt"}"#,
        r#"{"kid":"k","typ":"at+jwt"}"#,
        r#"{"alg":"EdDSA","kid":"k","typ":"JWT"}"#,
        r#"{"alg":"EdDSA","kid":"k","typ":"at+JWT"}"#,
        r#"{"alg":["EdDSA"],"kid":"k","typ":"at+jwt"}"#,
        r#"{"alg":"EdDSA","kid":7,"typ":"at+jwt"}"#,
        r#"{"alg":"EdDSA","kid":"k","typ":"at+jwt","crit":[]}"#,
        r#"{"alg":"EdDSA","kid":"k","typ":"at+jwt","b64":false}"#,
        r#"{"alg":"EdDSA","kid":"k","typ":"at+jwt","jwk":{}}"#,
        r#"{"alg":"EdDSA","kid":"k","typ":"at+jwt","jku":"https://a.example"}"#,
        r#"{"alg":"EdDSA","kid":"k","typ":"at+jwt","x5u":"https://a.example"}"#,
        r#"{"alg":"EdDSA","alg":"EdDSA","kid":"k","typ":"at+jwt"}"#,
        r#"{"alg":"none","alg":"EdDSA","kid":"k","typ":"at+jwt"}"#,
        r#"["alg"]"#,
        "",
    ] {
        let token = signed(header);
        assert!(split(&token).unwrap().header().is_none(), "{header}");
    }
}
