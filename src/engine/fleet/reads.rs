//! What a server can read: by it the others know with which pepper they may sign.

use std::time::Duration;

use crate::crypto::digest::{Keyring, PepperCheck};
use crate::model::log::Node;
use crate::store::tables::FORMAT;

/// The version of what [`Reads::encode`] makes.
const VERSION: u8 = 1;

/// What a server can read, as it says with each heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reads {
    /// The newest format of records and entries.
    pub(super) format: u32,
    /// Its peppers, the newest first: the id of each, and what the others compare.
    pub(super) peppers: Vec<(u8, PepperCheck)>,
}

/// With which pepper a server of a fleet signs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Choice {
    /// Whether one was chosen.
    pub(super) is_made: bool,
    /// A newer one that all servers have, and since when that was so each time.
    newer: Option<(u8, Duration)>,
}

impl Reads {
    pub(super) fn of(ring: &Keyring) -> Self {
        Self {
            format: FORMAT,
            peppers: ring.pepper_checks().to_vec(),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend(self.format.to_le_bytes());
        for (id, check) in &self.peppers {
            bytes.push(*id);
            bytes.extend(check);
        }
        bytes
    }

    /// The ids of its peppers, the newest first.
    pub(super) fn ids(&self) -> Vec<u8> {
        self.peppers.iter().map(|(id, _)| *id).collect()
    }

    /// `None` where it is of a later version, or none.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&VERSION, rest) = bytes.split_first()? else {
            return None;
        };
        let (format, rest) = rest.split_first_chunk()?;
        let (peppers, []) = rest.as_chunks::<9>() else {
            return None;
        };
        let pepper = |&[id, a, b, c, d, e, f, g, h]: &[u8; 9]| (id, [a, b, c, d, e, f, g, h]);
        Some(Self {
            format: u32::from_le_bytes(*format),
            peppers: peppers.iter().map(pepper).collect(),
        })
    }
}

/// A server that beats, and says that it reads older formats alone. One that says so in a later
/// way reads this one.
pub(super) fn reads_no(format: u32, nodes: &[Node]) -> Option<&Node> {
    let is_older = |node: &&Node| {
        let reads = Reads::decode(&node.beat.reads);
        !node.is_over() && reads.is_some_and(|reads| reads.format < format)
    };
    nodes.iter().find(is_older)
}

/// The newest of a server's peppers, which come newest first, that every server has which
/// beats. The outer `None` where the answer is not of now: it does not have what this server
/// has just said.
pub(super) fn shared_pepper(own: &Reads, name: &str, nodes: &[Node]) -> Option<Option<u8>> {
    let living: Vec<_> = nodes.iter().filter(|node| !node.is_over()).collect();
    let said = own.encode();
    let is_own = |node: &&Node| node.beat.node == name && node.beat.reads == said;
    if !living.iter().any(is_own) {
        return None;
    }
    let of_others = living.iter().map(|node| Reads::decode(&node.beat.reads));
    let of_others: Vec<_> = of_others.collect();
    let all_have = |pepper: &&(u8, PepperCheck)| {
        let has = |reads: &Option<Reads>| {
            (reads.as_ref()).is_some_and(|reads| reads.peppers.contains(pepper))
        };
        of_others.iter().all(has)
    };
    let shared = own.peppers.iter().find(all_have);
    Some(shared.map(|(id, _)| *id))
}

impl Choice {
    /// Takes an answer of the log: the newest pepper that all servers have, at a steady
    /// instant. Gives the one to sign with, which is never older than `signing` once a
    /// choice is made: what was signed is read by all who can be fresh.
    ///
    /// `used` is the newest with which keys are signed already: it signs at once. A newer one signs once all
    /// servers have had it for a lease, so that none was away for a moment.
    pub(super) fn take(
        &mut self,
        (shared, at): (Option<u8>, Duration),
        lease: Duration,
        (signing, used, oldest): (u8, Option<u8>, u8),
    ) -> u8 {
        if !self.is_made {
            self.is_made = true;
            return used.or(shared).unwrap_or(oldest);
        }
        if let Some(used) = used.filter(|used| *used > signing) {
            self.newer = None;
            return used;
        }
        self.newer = match (shared, self.newer) {
            (Some(shared), Some((newer, since))) if shared == newer => Some((newer, since)),
            (Some(shared), _) if shared > signing => Some((shared, at)),
            _ => None,
        };
        match self.newer {
            Some((newer, since)) if at.saturating_sub(since) >= lease => {
                self.newer = None;
                newer
            }
            _ => signing,
        }
    }
}

#[cfg(test)]
#[cfg(not(gatekey_shuttle))]
mod tests {
    use super::*;
    use crate::model::log::Beat;
    use crate::{NewKey, NewKeyspace, Options, Pepper};

    fn reads(peppers: &[u8]) -> Reads {
        let pepper = |id: &u8| (*id, [*id; 8]);
        Reads {
            format: 1,
            peppers: peppers.iter().map(pepper).collect(),
        }
    }

    fn node(name: &str, reads: Vec<u8>) -> Node {
        Node {
            beat: Beat {
                node: name.to_owned(),
                position: 0,
                lease: Duration::from_secs(3),
                reads,
            },
            age: Duration::ZERO,
        }
    }

    #[test]
    fn a_pepper_is_shared_that_all_have_who_beat() {
        let own = reads(&[3, 2]);
        let said = || node("a", own.encode());
        let b = |peppers: &[u8]| node("b", reads(peppers).encode());
        let gone = |node: Node| Node {
            age: Duration::from_secs(4),
            ..node
        };
        let other_secret = {
            let peppers = vec![(3, [9; 8]), (2, [2; 8])];
            node("b", Reads { format: 1, peppers }.encode())
        };
        let cases = [
            (vec![said()], Some(Some(3))),
            (vec![said(), b(&[2, 1])], Some(Some(2))),
            (vec![said(), b(&[4, 3])], Some(Some(3))),
            (vec![said(), b(&[1])], Some(None)),
            (vec![said(), gone(b(&[1]))], Some(Some(3))),
            (vec![said(), other_secret], Some(Some(2))),
            (vec![said(), node("b", Vec::new())], Some(None)),
            (vec![said(), node("b", vec![9; 10])], Some(None)),
            // What a former primary answers, or one of before this server.
            (vec![], None),
            (vec![gone(said()), b(&[3])], None),
            (vec![node("a", reads(&[2]).encode())], None),
            (vec![b(&[3, 2])], None),
        ];
        for (nodes, wanted) in cases {
            assert_eq!(shared_pepper(&own, "a", &nodes), wanted, "{nodes:?}");
        }
    }

    /// The answers come one a second, of a server with peppers 3, 2 and 1 and a lease of 2 s.
    #[test]
    fn a_newer_pepper_signs_once_all_have_had_it_for_a_lease_and_no_older_one_again() {
        let signs = |used: Option<u8>, answers: &[Option<u8>]| {
            let (mut choice, mut signing) = (Choice::default(), 3);
            let signs = |(second, shared): (u64, &Option<u8>)| {
                let answer = (*shared, Duration::from_secs(second));
                signing = choice.take(answer, Duration::from_secs(2), (signing, used, 1));
                signing
            };
            (0..).zip(answers).map(signs).collect::<Vec<_>>()
        };
        let [one, two, three] = [Some(1), Some(2), Some(3)];
        assert_eq!(signs(None, &[three]), [3]);
        assert_eq!(signs(None, &[one, one]), [1, 1]);
        assert_eq!(signs(None, &[None, None]), [1, 1]);
        assert_eq!(signs(one, &[two, two, two, two]), [1, 1, 1, 2]);
        assert_eq!(
            signs(one, &[two, two, one, two, two, two]),
            [1, 1, 1, 1, 1, 2]
        );
        assert_eq!(
            signs(one, &[two, two, None, two, two, two]),
            [1, 1, 1, 1, 1, 2]
        );
        assert_eq!(
            signs(one, &[two, two, three, three, three]),
            [1, 1, 1, 1, 3]
        );
        // A server that lacks it cannot be fresh, or is not any more.
        assert_eq!(signs(two, &[one, one, None]), [2, 2, 2]);
        // Another server signs with it already.
        let mut choice = Choice::default();
        let mut take = |used| choice.take((one, Duration::ZERO), Duration::MAX, (1, used, 1));
        assert_eq!([take(one), take(two), take(one)], [1, 2, 1]);
        assert_eq!(
            signs(one, &[two, two, two, two, one, None]),
            [1, 1, 1, 2, 2, 2]
        );
    }

    #[test]
    fn nothing_is_written_that_a_server_cannot_read_and_that_server_stays_fresh() {
        use crate::fleet::{Log as _, MemoryLog, Settings};
        let dir = tempfile::tempdir().unwrap();
        let log = std::sync::Arc::new(MemoryLog::new());
        let settings = || Settings::new(log.clone(), "new");
        let pepper = || Pepper::new(1, [1; 32]).unwrap();
        let options = || Options::new().usage_interval(None).pepper(pepper());
        let path = dir.path().join("keys.redb");
        options().create(&path).unwrap().close().unwrap();
        let engine = options().fleet(settings()).found_fleet(&path).unwrap();
        let create = |prefix: &str| engine.create_keyspace(NewKeyspace::new(prefix).unwrap());
        let own = Reads::of(engine.core.ring());
        let beat = |format: Option<u32>, lease: u64| {
            let reads = format.map(|format| {
                Reads {
                    format,
                    ..own.clone()
                }
                .encode()
            });
            let beat = Beat {
                node: "old".to_owned(),
                position: 0,
                lease: Duration::from_secs(lease),
                reads: reads.unwrap_or_default(),
            };
            log.beat(&beat).unwrap();
        };
        beat(Some(FORMAT - 1), 60);
        let refused = create("acme_live").unwrap_err().to_string();
        assert!(
            refused.contains("\"old\" does not read format"),
            "{refused}"
        );
        assert_eq!(engine.fleet_status().unwrap().position, 0);
        // It is gone.
        beat(Some(FORMAT - 1), 0);
        create("acme_live").unwrap();
        // It is dark by now.
        beat(Some(FORMAT - 1), 60);
        create("acme_test").unwrap();
        engine.close().unwrap();
        // Nor does it keep one from writing that was started again.
        for (format, prefix) in [
            (Some(FORMAT - 1), "acme_three"),
            (Some(FORMAT + 1), "acme_one"),
            (None, "acme_two"),
        ] {
            beat(format, 60);
            let engine = options().fleet(settings()).open(&path).unwrap();
            let created = engine.create_keyspace(NewKeyspace::new(prefix).unwrap());
            created.unwrap();
            engine.close().unwrap();
        }
    }

    #[test]
    fn what_a_server_reads_comes_back_as_it_was_said() {
        let all: Vec<u8> = (0..=255).rev().collect();
        for peppers in [&[][..], &[1], &all] {
            let reads = reads(peppers);
            let bytes = reads.encode();
            assert!(bytes.len() <= crate::model::log::READS_LEN_MAX);
            assert_eq!(Reads::decode(&bytes), Some(reads));
        }
        for bad in [
            &[][..],
            &[VERSION],
            &[VERSION, 1, 2, 3],
            &[2, 1, 0, 0, 0],
            &[VERSION; 6],
        ] {
            assert_eq!(Reads::decode(bad), None);
        }
    }

    /// The digest is of the pepper that signed as the token was seen.
    #[test]
    fn a_renewal_of_before_another_pepper_signed_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.redb");
        let pepper = |id: u8| Pepper::new(id, [id; 32]).unwrap();
        let one = || Options::new().usage_interval(None).pepper(pepper(1));
        let engine = one().create(&path).unwrap();
        let keyspace = NewKeyspace::new("acme_live").unwrap();
        engine.create_keyspace(keyspace).unwrap();
        let key = NewKey::new("acme_live", "acme").unwrap();
        let token = engine.issue(key).unwrap().token;
        engine.close().unwrap();

        let engine = one().pepper(pepper(2)).open(&path).unwrap();
        let is_granted = || engine.verify(token.expose()).unwrap().is_granted();
        let keys = || -> Vec<_> {
            let of = |it: &crate::PepperKeys| (it.pepper, it.keys);
            engine.peppers().unwrap().iter().map(of).collect()
        };
        assert!(is_granted());
        engine.core.ring().sign_with(1);
        engine.flush().unwrap();
        assert!(is_granted());
        assert_eq!(keys(), [(1, 1)]);
        engine.core.ring().sign_with(2);
        assert!(is_granted());
        engine.flush().unwrap();
        assert!(is_granted());
        assert_eq!(keys(), [(2, 1)]);
    }
}
