//! What a thread does to the one key of its own owner, turn by turn, so that after each
//! there is one answer on each of its tokens.

use gatekey::{Engine, KeyId, NewKey, Reason, Rotation};

/// Five turns, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Issue,
    /// At once.
    Rotate,
    Disable,
    Enable,
    Revoke,
}

pub(crate) const TURNS: [Turn; 5] = [
    Turn::Issue,
    Turn::Rotate,
    Turn::Disable,
    Turn::Enable,
    Turn::Revoke,
];

/// Takes a turn in the single-active keyspace `one`, and gives the token of a new key.
pub(crate) fn take(
    engine: &Engine,
    owner: &str,
    turn: Turn,
    current: &mut Option<KeyId>,
) -> Option<String> {
    let key = || current.unwrap();
    let (new, token) = match turn {
        Turn::Issue => {
            let issued = engine.issue(NewKey::new("one", owner).unwrap()).unwrap();
            (issued.key.id, issued.token)
        }
        Turn::Rotate => {
            let rotated = engine.rotate(key(), Rotation::at_once()).unwrap();
            (rotated.key.id, rotated.token)
        }
        Turn::Disable => return engine.disable(key()).map(|_| None).unwrap(),
        Turn::Enable => return engine.enable(key()).map(|_| None).unwrap(),
        Turn::Revoke => {
            engine.revoke(key(), Reason::KeyCompromise).unwrap();
            return None;
        }
    };
    *current = Some(new);
    Some(token.expose().to_owned())
}

/// The verdict on each token after so many turns.
pub(crate) fn expected(turns: usize) -> Vec<&'static str> {
    let mut verdicts = Vec::new();
    for turn in TURNS.iter().cycle().take(turns) {
        let last = verdicts.last_mut();
        match (turn, last) {
            (Turn::Issue, _) => verdicts.push("granted"),
            (Turn::Rotate, Some(last)) => {
                *last = "revoked";
                verdicts.push("granted");
            }
            (Turn::Disable, Some(last)) => *last = "disabled",
            (Turn::Enable, Some(last)) => *last = "granted",
            (Turn::Revoke, Some(last)) => *last = "revoked",
            (_, None) => {}
        }
    }
    verdicts
}

/// After how many turns, of those between the acknowledged and the begun, the verdicts
/// on the tokens that are known are as they are seen: from the fewest to the most. A
/// token of a turn that was never taken is unknown.
pub(crate) fn explained(
    seen: &[&str],
    acknowledged: usize,
    begun: usize,
) -> Option<(usize, usize)> {
    let mut counts = (acknowledged..=begun).filter(|turns| {
        let mut expected = expected(*turns);
        expected.resize(expected.len().max(seen.len()), "unknown");
        expected.starts_with(seen)
    });
    let fewest = counts.next()?;
    Some((fewest, counts.next_back().unwrap_or(fewest)))
}
