use super::*;
use crate::{Denial, Error};

/// What the server's log says of a rejection.
#[test]
fn each_reason_of_a_rejection_reads_as_a_sentence() {
    let header = || ::http::HeaderName::from_static("x-acme-key");
    for (reason, text) in [
        (RejectionReason::Missing, "no credential was presented"),
        (RejectionReason::Empty, "the credential is empty"),
        (
            RejectionReason::UnknownScheme,
            "the scheme of Authorization is not accepted",
        ),
        (
            RejectionReason::SeveralCredentials,
            "credentials were presented in more than one header",
        ),
        (
            RejectionReason::RepeatedHeader(header()),
            "the header x-acme-key is repeated",
        ),
        (RejectionReason::NotAscii, "the credential is not ASCII"),
        (
            RejectionReason::NotBase64,
            "the Basic credential is not base64",
        ),
        (
            RejectionReason::NoColon,
            "the Basic credential has no colon",
        ),
        (
            RejectionReason::PasswordGiven,
            "the Basic credential has a password",
        ),
        (
            RejectionReason::Denied(Denial::Unknown),
            "the token is unknown",
        ),
        (
            RejectionReason::Foreign,
            "the request is for something of another owner",
        ),
        (
            RejectionReason::UntrustedPeer("192.0.2.7".parse().unwrap()),
            "192.0.2.7 is not a trusted proxy",
        ),
        (
            RejectionReason::IdentityHeader(header()),
            "the client sent the identity header x-acme-key",
        ),
        (
            RejectionReason::UnclearTarget,
            "the proxy did not say clearly which request it asks about",
        ),
        (
            RejectionReason::SourceUnknown(SourceFault::Missing),
            "a proxy did not say where the request comes from",
        ),
        (
            RejectionReason::SourceUnknown(SourceFault::Repeated),
            "a proxy said more than once where the request comes from",
        ),
        (
            RejectionReason::SourceUnknown(SourceFault::NotAnAddress),
            "a proxy gave no address for where the request comes from",
        ),
        (
            RejectionReason::Unavailable(std::sync::Arc::new(Error::Closed)),
            "the token could not be verified: the engine is closed; open the store again",
        ),
        (
            RejectionReason::Failed(std::sync::Arc::new(Error::Closed)),
            "the request failed: the engine is closed; open the store again",
        ),
    ] {
        assert_eq!(reason.to_string(), text);
        assert!(!reason.code().is_empty());
    }
}

/// What a client reads: no more than the kind, and never whether a key exists.
#[test]
fn each_kind_of_answer_has_its_sentence() {
    use AnswerKind::*;
    let sentence = |kind| match kind {
        Missing => "An API key is required.",
        Ambiguous => "The request has more than one credential.",
        Unreadable => "The credential is not in the format that its header asks for.",
        SourceUnknown => "Where the request comes from is not known.",
        Invalid => "The API key is invalid.",
        Expired => "The API key has expired.",
        NetworkNotAllowed => "The API key may not be used from this network.",
        PermissionMissing => "The API key lacks a permission that is required.",
        Foreign => "The API key may not be used for this.",
        BadRequest => "The request has a header or a path that is not passed on.",
        NotForYou => "Only trusted proxies are answered here.",
        RateLimited => "The rate limit is exceeded.",
        QuotaExhausted => "The quota is used up.",
        TooManyAttempts => "Too many attempts have failed.",
        Unavailable => "The service cannot verify API keys now.",
        Failed => "The service failed to do this.",
    };
    let reason = RejectionReason::Missing;
    for kind in AnswerKind::ALL {
        for (status, message) in [
            (::http::StatusCode::IM_A_TEAPOT, sentence(kind)),
            (::http::StatusCode::NOT_FOUND, "There is no such thing."),
        ] {
            let answer = Answer {
                reason: &reason,
                kind,
                status,
                header: "Authorization",
                presented: None,
                scope: None,
                allowances: None,
                reported: ReportedLimit::Tightest,
                at: crate::Timestamp::MIN,
            };
            assert_eq!(answer.message(), message, "{kind:?}");
        }
    }
}

/// What who makes a dialect reads of settings that cannot work.
#[test]
fn each_fault_of_a_dialect_says_what_is_wrong() {
    use ::http::header::{AUTHORIZATION, COOKIE};
    let with = |carriers: Vec<Carrier>| Dialect::builder().carriers(carriers);
    let ok = ::http::StatusCode::OK;
    for (builder, text) in [
        (
            with(vec![]),
            "\"\" is not a valid dialect: it has no carrier",
        ),
        (
            with(vec![Carrier::Bearer, Carrier::Bearer]),
            "\"Bearer\" is not a valid dialect: a carrier is there twice",
        ),
        (
            with(vec![Carrier::Header(COOKIE)]),
            "\"Header(\\\"cookie\\\")\" is not a valid dialect: that header has a meaning of its own",
        ),
        (
            with(vec![Carrier::Header(AUTHORIZATION)]),
            "\"Header(\\\"authorization\\\")\" is not a valid dialect: Authorization as a header \
             of its own is RawAuthorization",
        ),
        (
            with(vec![Carrier::RawAuthorization, Carrier::Bearer]),
            "\"Bearer\" is not a valid dialect: RawAuthorization before it accepts everything",
        ),
        (
            Dialect::builder().status(AnswerKind::Invalid, ok),
            "\"Invalid 200\" is not a valid dialect: a rejection is 4xx, and a failed engine is 5xx",
        ),
        (
            Dialect::builder().challenges([]),
            "\"Missing 401\" is not a valid dialect: a 401 must have a challenge",
        ),
    ] {
        let error = builder.build().err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some(text));
    }
    assert_eq!(
        Challenge::basic("\"").unwrap_err().to_string(),
        "\"\\\"\" is not a valid realm: it has a quote, a backslash, or a character that is not \
         printable ASCII",
    );
}
