//! The decision: a pure function of a record, what the caller requires, and
//! the present. It reads no clock, no store and no secret.

use std::net::IpAddr;

use crate::model::clock::Timestamp;
use crate::model::key::KeyState;
use crate::model::keyspace::Keyspace;
use crate::model::owner::OwnerPath;
use crate::model::permissions::Permissions;
use crate::model::reason::Reason;
use crate::model::requirements::Requirements;
use crate::model::verdict::Denial;
use crate::store::life::Life;
use crate::store::record::View;

/// Decides on a key whose token was proven. `life` is its state, and `held` are the
/// permissions of its record that are not retired; `holds` says whether one is among
/// them, by name. Calls `keyspace` only where one is missing.
#[inline(always)]
pub(crate) fn decide<'k>(
    view: &View<'_>,
    life: &Life,
    held: Permissions,
    requirements: &Requirements<'_>,
    holds: impl Fn(&str) -> bool,
    keyspace: impl FnOnce() -> &'k Keyspace,
    now: Timestamp,
) -> Result<(), Denial> {
    let key = view.id();
    match life.state(now) {
        KeyState::Active | KeyState::Retiring => {}
        KeyState::Revoked => {
            let (at, reason) = life.revoked(now).unwrap_or((now, Reason::Unspecified));
            return Err(Denial::Revoked { key, at, reason });
        }
        KeyState::Suspended => return Err(suspended(view)),
        KeyState::Disabled => return Err(Denial::Disabled { key }),
        KeyState::NotYetValid => {
            return Err(Denial::NotYetValid {
                key,
                not_before: life.not_before,
            });
        }
        KeyState::Expired => {
            let expired_at = life.expired(now).unwrap_or(now);
            return Err(Denial::Expired { key, expired_at });
        }
    }
    if view.has_networks() && !source_is_allowed(view, requirements.source) {
        return Err(Denial::NetworkNotAllowed {
            key,
            source: requirements.source,
        });
    }
    let mut names = requirements.permission_names.iter();
    if held.contains(requirements.permissions) && names.all(|name| holds(name)) {
        return Ok(());
    }
    require_named(view, held, requirements, keyspace())
}

#[cold]
fn suspended(view: &View<'_>) -> Denial {
    // The lowest bit is the shortest suspended path. A record's owner was a
    // path when it was written, and so is each of its ancestors.
    let at = view.suspended().trailing_zeros() as usize;
    let owner: Option<OwnerPath> = view.owner_text().and_then(|owner| owner.parse().ok());
    let ancestor = owner
        .as_ref()
        .and_then(|owner| owner.levels().nth(at)?.parse().ok());
    match ancestor {
        Some(owner) => Denial::Suspended {
            key: view.id(),
            owner,
        },
        // Fail closed: report only what is certain.
        None => Denial::Disabled { key: view.id() },
    }
}

fn source_is_allowed(view: &View<'_>, source: Option<IpAddr>) -> bool {
    // A malformed network allows nothing.
    source.is_some_and(|source| {
        view.networks()
            .flatten()
            .any(|network| network.contains(source))
    })
}

#[cold]
fn require_named(
    view: &View<'_>,
    held: Permissions,
    requirements: &Requirements<'_>,
    keyspace: &Keyspace,
) -> Result<(), Denial> {
    let holds = |name: &&str| {
        let bit = keyspace.required_bit(name);
        bit.is_some_and(|bit| held.contains(bit))
    };
    if held.contains(requirements.permissions) && requirements.permission_names.iter().all(holds) {
        return Ok(());
    }
    let mut missing = requirements.permissions - held;
    let names = keyspace.names(missing).into_iter();
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    let mut undefined: Vec<String> = Vec::new();
    for name in requirements
        .permission_names
        .iter()
        .filter(|name| !holds(name))
    {
        let told = match keyspace.required_bit(name) {
            Some(bit) => {
                missing = missing | bit;
                &mut names
            }
            None => {
                // One that is retired may be required by its bit too.
                names.retain(|known| known != name);
                &mut undefined
            }
        };
        if !told.iter().any(|known| known == name) {
            told.push((*name).to_owned());
        }
    }
    let count = undefined.len();
    names.append(&mut undefined);
    Err(Denial::PermissionMissing {
        key: view.id(),
        missing,
        names,
        undefined: count,
    })
}

/// A keyspace that names no permission.
#[cfg(any(test, feature = "proof"))]
pub(crate) fn nameless() -> Result<Keyspace, crate::Error> {
    Ok(Keyspace {
        id: 0,
        revision: 1,
        prefix: "acme".parse()?,
        description: String::new(),
        permissions: Vec::new(),
        keys_per_owner: crate::model::keyspace::KeysPerOwner::Many { cap: None },
        default_lifetime: None,
        max_lifetime: None,
        plans: Vec::new(),
        default_plan: None,
        owner_defaults: std::collections::BTreeMap::new(),
        max_grace: None,
        count_retiring: false,
        created_at: Timestamp::MIN,
        updated_at: Timestamp::MIN,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::digest::Keyring;
    use crate::model::id::KeyId;
    use crate::store::record::{KeyRecord, Phase};
    use zeroize::Zeroizing;

    const NOW: Timestamp = Timestamp::from_raw(1_000);

    fn good() -> KeyRecord {
        KeyRecord {
            id: KeyId::from_raw(7),
            lineage: KeyId::from_raw(7),
            keyspace: 0,
            plan: 0,
            has_quota: false,
            has_own_limits: false,
            phase: Phase::Current,
            disabled: false,
            suspended: 0,
            permissions: Permissions::from_bits(0b01),
            not_before: Timestamp::MIN,
            expires_at: None,
            revision: 0,
            pepper: 0,
            scheme: crate::store::record::Scheme::Native,
            import: 0,
            digest: [0; 32],
            owner: "acme/ingest/etl-bot".parse().unwrap(),
            networks: vec![],
        }
    }

    fn verdict(record: &KeyRecord, requirements: &Requirements<'_>) -> &'static str {
        let ring = Keyring::new(&Zeroizing::new([0; 32]), &[]);
        let bytes = record.encode(&ring).unwrap();
        let (view, _) = View::open(&bytes, record.id, &ring).unwrap();
        let (life, held) = (Life::from(&view), view.permissions());
        let keyspace = nameless().unwrap();
        let decision = decide(
            &view,
            &life,
            held,
            requirements,
            |_| false,
            || &keyspace,
            NOW,
        );
        match decision {
            Ok(()) => "granted",
            Err(denial) => denial.code(),
        }
    }

    /// One fault each, in the order of precedence.
    type Fault = (&'static str, fn(&mut KeyRecord));

    fn faults() -> Vec<Fault> {
        vec![
            ("revoked", |r| {
                r.phase = Phase::Revoked {
                    at: NOW,
                    reason: Reason::KeyCompromise,
                };
            }),
            ("suspended", |r| r.suspended = 0b10),
            ("disabled", |r| r.disabled = true),
            ("not_yet_valid", |r| {
                r.not_before = Timestamp::from_raw(1_001);
            }),
            ("expired", |r| r.expires_at = Some(NOW)),
            ("network_not_allowed", |r| {
                r.networks = vec!["10.0.0.0/8".parse().unwrap()];
            }),
            ("permission_missing", |r| r.permissions = Permissions::NONE),
        ]
    }

    #[test]
    fn of_every_two_faults_the_first_in_order_is_told() {
        let asked = Requirements::new()
            .permission_mask(Permissions::from_bits(0b01))
            .source("192.0.2.1".parse().unwrap());
        assert_eq!(verdict(&good(), &asked), "granted");
        let faults = faults();
        for (at, (first, break_first)) in faults.iter().enumerate() {
            for (_, break_second) in faults.iter().skip(at) {
                let mut record = good();
                break_second(&mut record);
                break_first(&mut record);
                assert_eq!(verdict(&record, &asked), *first);
            }
        }
    }

    #[test]
    fn a_key_is_good_to_the_last_millisecond_before_its_end() {
        let mut record = good();
        record.expires_at = Some(Timestamp::from_raw(1_001));
        assert_eq!(verdict(&record, &Requirements::new()), "granted");
        record.expires_at = Some(NOW);
        assert_eq!(verdict(&record, &Requirements::new()), "expired");
        record.expires_at = None;
        record.not_before = NOW;
        assert_eq!(verdict(&record, &Requirements::new()), "granted");
        record.phase = Phase::Retiring {
            until: Timestamp::from_raw(1_001),
        };
        assert_eq!(verdict(&record, &Requirements::new()), "granted");
        record.phase = Phase::Retiring { until: NOW };
        assert_eq!(verdict(&record, &Requirements::new()), "revoked");
    }

    #[test]
    fn the_shortest_suspended_path_is_named() {
        let mut record = good();
        record.suspended = 0b110;
        let ring = Keyring::new(&Zeroizing::new([0; 32]), &[]);
        let bytes = record.encode(&ring).unwrap();
        let (view, _) = View::open(&bytes, record.id, &ring).unwrap();
        let held = view.permissions();
        let life = Life::from(&view);
        let names = || -> &Keyspace { panic!("nothing is asked for by name") };
        let asked = Requirements::new();
        let denial = decide(&view, &life, held, &asked, |_| true, names, NOW).unwrap_err();
        assert_eq!(
            denial,
            Denial::Suspended {
                key: record.id,
                owner: "acme/ingest".parse().unwrap()
            }
        );
    }

    #[test]
    fn a_key_bound_to_networks_needs_a_source_inside_one() {
        let mut record = good();
        record.networks = vec![
            "10.0.0.0/8".parse().unwrap(),
            "2001:db8::/32".parse().unwrap(),
        ];
        let from =
            |text: &str| verdict(&record, &Requirements::new().source(text.parse().unwrap()));
        assert_eq!(
            verdict(&record, &Requirements::new()),
            "network_not_allowed"
        );
        assert_eq!(from("10.1.2.3"), "granted");
        assert_eq!(from("::ffff:10.1.2.3"), "granted");
        assert_eq!(from("2001:db8::7"), "granted");
        assert_eq!(from("11.0.0.1"), "network_not_allowed");
    }

    #[test]
    fn a_name_that_cannot_be_resolved_is_held_by_nobody() {
        let asked = Requirements::new().permissions(&["read"]);
        assert_eq!(verdict(&good(), &asked), "permission_missing");
    }

    #[test]
    fn a_name_that_is_held_is_not_looked_up() {
        let record = good();
        let ring = Keyring::new(&Zeroizing::new([0; 32]), &[]);
        let bytes = record.encode(&ring).unwrap();
        let (view, _) = View::open(&bytes, record.id, &ring).unwrap();
        let (life, held) = (Life::from(&view), view.permissions());
        let names = || -> &Keyspace { panic!("the name is held") };
        let asked = Requirements::new().permissions(&["read", "list"]);
        assert!(decide(&view, &life, held, &asked, |_| true, names, NOW).is_ok());
        let keyspace = nameless().unwrap();
        let holds = |name: &str| name == "read";
        let denial = decide(&view, &life, held, &asked, holds, || &keyspace, NOW).unwrap_err();
        assert_eq!(denial.code(), "permission_missing");
    }

    /// The exact clock is read only for a state that turns soon, so that one that does not
    /// must be the same for a while.
    #[test]
    fn a_state_that_does_not_turn_soon_is_the_same_within_a_minute() {
        let current = Life::from(&good());
        let after = |seconds: u64| NOW.saturating_add(std::time::Duration::from_secs(seconds));
        let instants = [
            Timestamp::MIN,
            NOW,
            Timestamp::from_raw(NOW.unix_ms() + 1),
            after(60),
            Timestamp::from_raw(after(60).unix_ms() + 1),
            after(3600),
            Timestamp::MAX,
        ];
        let phases = instants.into_iter().flat_map(|at| {
            let reason = Reason::Unspecified;
            [Phase::Retiring { until: at }, Phase::Revoked { at, reason }]
        });
        let mut calm = 0;
        for phase in phases.chain([Phase::Current]) {
            for not_before in instants {
                for expires_at in instants.map(Some).into_iter().chain([None]) {
                    let life = Life {
                        phase,
                        not_before,
                        expires_at,
                        ..current
                    };
                    let first = life.state(NOW);
                    let later = [Timestamp::from_raw(NOW.unix_ms() + 1), after(1), after(60)];
                    let changes = later.iter().any(|now| life.state(*now) != first);
                    assert!(!changes || life.turns_soon(NOW), "{life:?}");
                    calm += usize::from(!life.turns_soon(NOW));
                    for now in instants {
                        let state = life.state(now);
                        let over = matches!(state, KeyState::Revoked | KeyState::Expired);
                        // What is not valid yet may be over by its record, and is not by
                        // its state.
                        if state != KeyState::NotYetValid {
                            assert_eq!(life.is_over(now), over, "{life:?} at {now:?}");
                        }
                    }
                }
            }
        }
        // Five of the seven instants are not soon.
        assert_eq!(calm, (5 + 7 + 1) * 5 * (5 + 1));
        assert!(!current.turns_soon(NOW));
    }
}
