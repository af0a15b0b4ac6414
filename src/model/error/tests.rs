use super::*;

fn failure() -> StoreFailure {
    StoreFailure::new("No space left on device", None)
}

/// What an operator or a caller reads says what happened, and what to do about it.
#[test]
fn an_error_reads_as_a_sentence_that_says_what_to_do() {
    let key: KeyId = "01ABcdEFgh".parse().unwrap();
    let instant = Timestamp::MIN;
    let open = |reason| Error::Open {
        path: "keys.redb".into(),
        reason,
    };
    let texts = [
        (
            open(OpenError::InUse),
            "cannot open the store at keys.redb: another engine has the store open; \
             only one at a time may",
        ),
        (
            open(OpenError::Exists),
            "cannot open the store at keys.redb: the file exists already; call open to open it",
        ),
        (
            open(OpenError::Options("two peppers have the id 1".to_owned())),
            "cannot open the store at keys.redb: invalid option: two peppers have the id 1",
        ),
        (
            open(OpenError::Corrupted("page 7".to_owned())),
            "cannot open the store at keys.redb: the store is corrupted: page 7; if the file is \
             a copy made while the store was open, it mixes pages of several commits: make \
             copies with Engine::backup",
        ),
        (
            Error::OutcomeUnknown(failure()),
            "the commit failed (No space left on device), and its outcome is unknown; read the \
             state again once the store takes changes",
        ),
        (
            Error::NeedsReopen,
            "the store's file was removed or replaced, so the engine takes no more changes; put \
             the file back, or close the engine and open the store again",
        ),
        (
            Error::FailedClosed { since: instant },
            "the store has taken no changes since 1970-01-01T00:00:00Z, longer than \
             fail_closed_after allows, so no token is verified",
        ),
        (
            Error::Conflict(Conflict::TimeNotAhead {
                now: instant,
                to: instant,
            }),
            "time cannot be set back to 1970-01-01T00:00:00Z: the engine's present is \
             1970-01-01T00:00:00Z",
        ),
        (
            Error::Conflict(Conflict::AnotherRequest),
            "the idempotency key belongs to another request; use a new one for this request",
        ),
        (
            Error::Conflict(Conflict::AlreadyAnswered { key }),
            "the request was answered before, with key 01ABcdEFgh, which may be in use; if nobody \
             has its token, revoke the key and repeat the request under a new idempotency key",
        ),
        (
            Error::Batch {
                index: 3,
                source: Box::new(Error::NotFound(NotFound::Key(key))),
            },
            "item 3 of the batch: there is no key 01ABcdEFgh; nothing of the batch was applied",
        ),
    ];
    for (error, text) in texts {
        assert_eq!(error.to_string(), text);
        assert_eq!(format!("{error:?}"), text, "and Debug prints the same");
    }
}
