//! What a thread does to the one key of its own owner, turn by turn, so that after each
//! there is one answer on each of its tokens.

use gatekey::{Engine, KeyFilter, KeyId, NewKey, Reason, Rotation};

use crate::workload::verdict;

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
fn expected(turns: usize) -> Vec<&'static str> {
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

/// What is seen of the keys of an owner.
#[derive(Debug)]
pub(crate) struct Seen {
    /// On each token that is known. That of a turn that was never taken is unknown.
    verdicts: Vec<&'static str>,
    keys: usize,
}

impl Seen {
    pub(crate) fn of<'a>(
        engine: &Engine,
        owner: &str,
        tokens: impl IntoIterator<Item = &'a String>,
    ) -> Self {
        let filter = KeyFilter::new().owner(owner.parse().unwrap());
        let tokens = tokens.into_iter();
        Self {
            verdicts: tokens
                .map(|token| verdict(engine, token).unwrap())
                .collect(),
            keys: engine.keys(filter).map(Result::unwrap).count(),
        }
    }

    /// After how many turns it is so, of those between the acknowledged and the begun. No
    /// turn leaves what the one before it left.
    pub(crate) fn turns(&self, acknowledged: usize, begun: usize) -> Option<usize> {
        (acknowledged..=begun).find(|turns| {
            let mut expected = expected(*turns);
            let keys = expected.len();
            expected.resize(keys.max(self.verdicts.len()), "unknown");
            keys == self.keys && expected.starts_with(&self.verdicts)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(verdicts: &[&'static str], keys: usize) -> Seen {
        Seen {
            verdicts: verdicts.to_vec(),
            keys,
        }
    }

    #[test]
    fn each_number_of_turns_is_told_from_its_neighbours() {
        for turns in 1..20 {
            let verdicts = expected(turns);
            let seen = seen(&verdicts, verdicts.len());
            assert_eq!(seen.turns(turns - 1, turns + 1), Some(turns));
            assert_eq!(
                seen.turns(turns - 1, turns - 1),
                None,
                "{turns}: done early"
            );
            assert_eq!(seen.turns(turns + 1, turns + 1), None, "{turns}: undone");
        }
    }

    #[test]
    fn a_key_whose_token_was_never_heard_counts() {
        assert_eq!(seen(&[], 0).turns(0, 1), Some(0));
        assert_eq!(seen(&[], 1).turns(0, 1), Some(1));
        assert_eq!(seen(&[], 0).turns(1, 1), None);
    }

    #[test]
    fn the_token_of_a_turn_that_was_not_taken_is_unknown() {
        assert_eq!(seen(&["granted", "unknown"], 1).turns(1, 2), Some(1));
        assert_eq!(seen(&["granted", "granted"], 1).turns(1, 2), None);
    }
}
