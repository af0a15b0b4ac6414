use super::*;
use crate::crypto::digest::tests::bytes;
use crate::model::bounds::NETWORKS_MAX;
use proptest::prelude::*;
use zeroize::Zeroizing;

fn ring() -> Keyring {
    Keyring::new(&Zeroizing::new([3; 32]), &[])
}

fn sample() -> KeyRecord {
    KeyRecord {
        id: KeyId::from_raw(77),
        lineage: KeyId::from_raw(70),
        keyspace: 3,
        plan: 515,
        has_quota: true,
        has_own_limits: false,
        phase: Phase::Retiring {
            until: Timestamp::from_raw(9_000),
        },
        disabled: true,
        suspended: 0b101,
        permissions: Permissions::from_bits(u128::MAX - 5),
        not_before: Timestamp::from_raw(1),
        expires_at: Some(Timestamp::from_raw(8_000)),
        revision: 12,
        pepper: 4,
        scheme: Scheme::Native,
        import: 0,
        digest: [0xab; 32],
        owner: "acme/ingest/etl-bot".parse().unwrap(),
        networks: vec!["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()],
    }
}

fn records() -> impl Strategy<Value = KeyRecord> {
    let phase = prop_oneof![
        Just(Phase::Current),
        any::<u64>().prop_map(|ms| Phase::Retiring {
            until: Timestamp::from_raw(ms)
        }),
        (any::<u64>(), any::<u8>()).prop_map(|(ms, code)| Phase::Revoked {
            at: Timestamp::from_raw(ms),
            reason: Reason::from_code(code)
        }),
    ];
    let place = (
        0..KeyId::from_time(u64::MAX, 1).raw(),
        proptest::option::of(0..KeyId::from_time(u64::MAX, 1).raw()),
        any::<u32>(),
        "[a-z]{1,9}(/[a-z]{1,9}){0,7}",
    );
    let life = (
        any::<u64>(),
        proptest::option::of(0..u64::MAX),
        any::<u64>(),
    );
    let rest = (
        any::<u128>(),
        any::<[bool; 3]>(),
        any::<u16>(),
        any::<u8>(),
        any::<[u8; 32]>(),
    );
    let networks = proptest::collection::vec(
        any::<std::net::Ipv4Addr>().prop_map(|ip| ip.to_string().parse().unwrap()),
        0..=NETWORKS_MAX,
    );
    (phase, place, life, rest, networks).prop_map(
        |(
            phase,
            (id, lineage, keyspace, owner),
            (nb, exp, revision),
            (bits, [disabled, has_quota, has_own_limits], plan, byte, digest),
            networks,
        )| {
            KeyRecord {
                id: KeyId::from_raw(id),
                lineage: KeyId::from_raw(lineage.unwrap_or(id)),
                keyspace,
                plan,
                has_quota,
                has_own_limits,
                phase,
                disabled,
                suspended: byte,
                permissions: Permissions::from_bits(bits),
                not_before: Timestamp::from_raw(nb),
                expires_at: exp.map(Timestamp::from_raw),
                revision,
                pepper: byte,
                scheme: Scheme::ALL[usize::from(byte % 4)],
                import: byte / 2,
                digest,
                owner: owner.parse().unwrap(),
                networks,
            }
        },
    )
}

proptest! {
    #[test]
    fn a_record_reads_back_as_it_was_written(record in records()) {
        let bytes = record.encode(&ring()).unwrap();
        let (view, body) = View::open(&bytes, record.id, &ring()).unwrap();
        prop_assert_eq!(body.len() + TAG_LEN, bytes.len());
        prop_assert_eq!(KeyRecord::from_view(&view).unwrap(), record);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Some(view) = View::parse(&bytes) {
            let _ = KeyRecord::from_view(&view);
        }
    }
}

/// The records of `tests/vectors/records.tsv`, in its order.
fn vectors() -> [KeyRecord; 9] {
    let plain = KeyRecord {
        id: KeyId::from_raw(77),
        lineage: KeyId::from_raw(77),
        keyspace: 0,
        plan: 0,
        has_quota: false,
        has_own_limits: false,
        phase: Phase::Current,
        disabled: false,
        suspended: 0,
        permissions: Permissions::from_bits(1),
        not_before: Timestamp::MIN,
        expires_at: None,
        revision: 3,
        pepper: 0,
        scheme: Scheme::Native,
        import: 0,
        digest: [0xab; 32],
        owner: "acme".parse().unwrap(),
        networks: vec![],
    };
    let at = Timestamp::from_raw(9_000);
    let reason = Reason::KeyCompromise;
    [
        plain.clone(),
        KeyRecord {
            phase: Phase::Retiring { until: at },
            expires_at: Some(Timestamp::from_raw(10_000)),
            revision: 12,
            ..plain.clone()
        },
        KeyRecord {
            phase: Phase::Revoked { at, reason },
            owner: "acme/ingest/etl-bot".parse().unwrap(),
            ..plain.clone()
        },
        KeyRecord {
            disabled: true,
            suspended: 0b101,
            permissions: Permissions::from_bits(1 << 127 | 1),
            pepper: 4,
            ..plain.clone()
        },
        KeyRecord {
            networks: vec![
                "10.0.0.0/8".parse().unwrap(),
                "2001:db8::/32".parse().unwrap(),
            ],
            not_before: Timestamp::from_raw(5),
            keyspace: 0x0102_0304,
            ..plain.clone()
        },
        KeyRecord {
            plan: 0x0102,
            has_quota: true,
            ..plain.clone()
        },
        KeyRecord {
            lineage: KeyId::from_raw(0x0102_0304_0506_0708),
            ..plain.clone()
        },
        KeyRecord {
            lineage: KeyId::from_raw(70),
            has_quota: true,
            owner: "acme/ingest/etl-bot".parse().unwrap(),
            networks: vec!["10.0.0.0/8".parse().unwrap()],
            ..plain.clone()
        },
        KeyRecord {
            plan: 2,
            has_own_limits: true,
            ..plain
        },
    ]
}

#[test]
fn records_are_those_of_another_implementation() {
    let rows: Vec<&str> = include_str!("../../../tests/vectors/records.tsv")
        .lines()
        .filter(|row| !row.starts_with('#'))
        .collect();
    assert_eq!(rows.len(), vectors().len());
    for (row, record) in rows.iter().zip(vectors()) {
        let [name, key, stored] = row.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{row}");
        };
        let key = Zeroizing::new(bytes(key).try_into().unwrap());
        let ring = Keyring::new(&key, &[]);
        assert_eq!(record.encode(&ring).unwrap(), bytes(stored), "{name}");
        let stored = bytes(stored);
        let (view, _) = View::open(&stored, record.id, &ring).unwrap();
        assert_eq!(KeyRecord::from_view(&view).unwrap(), record, "{name}");
    }
}

#[test]
fn every_single_bit_flip_is_detected() {
    let record = sample();
    let bytes = record.encode(&ring()).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(
            matches!(
                View::open(&bad, record.id, &ring()),
                Err(Error::Corrupted(_))
            ),
            "bit {bit}"
        );
    }
    for len in 0..bytes.len() {
        assert!(View::open(&bytes[..len], record.id, &ring()).is_err());
    }
}

#[test]
fn a_lineage_is_stored_where_it_is_not_the_keys_own_id_and_read_as_that_id_otherwise() {
    let rotated = sample();
    let first = KeyRecord {
        lineage: rotated.id,
        ..rotated.clone()
    };
    let [long, short] = [&rotated, &first].map(|record| record.encode(&ring()).unwrap());
    assert_eq!(long.len(), short.len() + LINEAGE_LEN);
    for (record, bytes) in [(&rotated, &long), (&first, &short)] {
        let (view, body) = View::open(bytes, record.id, &ring()).unwrap();
        assert_eq!(view.lineage(), record.lineage);
        // Without the end of it there is no record.
        assert!(View::parse(&body[..body.len() - 1]).is_none());
    }
    // No key has the id of the lineage.
    let end = long.len() - TAG_LEN;
    let mut forged = long[..end].to_vec();
    forged[end - LINEAGE_LEN..].fill(0xff);
    let tag = ring().hot_tag(&forged);
    forged.extend(tag);
    let (view, _) = View::open(&forged, rotated.id, &ring()).unwrap();
    assert!(matches!(
        KeyRecord::from_view(&view),
        Err(Error::Corrupted(_))
    ));
}

#[test]
fn a_record_moved_to_another_id_or_store_is_detected() {
    let record = sample();
    let bytes = record.encode(&ring()).unwrap();
    assert!(View::open(&bytes, KeyId::from_raw(78), &ring()).is_err());
    let other = Keyring::new(&Zeroizing::new([4; 32]), &[]);
    assert!(View::open(&bytes, record.id, &other).is_err());
}

#[test]
fn debug_shows_no_digest() {
    let text = format!("{:?}", sample());
    assert!(!text.contains("171") && !text.contains("ab, ab"), "{text}");
}

#[test]
fn a_layout_of_another_version_or_with_flags_unknown_is_not_read() {
    let body = sample().encode(&ring()).unwrap();
    let body = &body[..body.len() - TAG_LEN];
    assert!(View::parse(body).is_some());
    // Table, version.
    for at in [0, 1] {
        let mut other = body.to_vec();
        other[at] += 1;
        assert!(View::parse(&other).is_none(), "byte {at}");
    }
    for scheme in 0..=u8::MAX {
        let mut other = body.to_vec();
        other[3] = scheme;
        assert_eq!(View::parse(&other).is_some(), Scheme::of(scheme).is_some());
    }
    for flags in 0..=u8::MAX {
        let mut other = body.to_vec();
        other[2] = flags;
        let known = flags & 0xc0 == 0;
        let phases = (flags & FLAG_RETIRING != 0) as u8 + (flags & FLAG_REVOKED != 0) as u8;
        let reads = View::parse(&other).is_some();
        assert_eq!(reads, known && phases < 2, "flags {flags:#x}");
    }
}

#[test]
fn a_view_gives_the_owner_and_the_length_that_were_written() {
    let owners = [
        "a".to_owned(),
        "o".repeat(48),
        "o".repeat(49),
        "o".repeat(63),
    ];
    let first = KeyId::from_raw(70);
    for (owner, lineage) in owners.iter().flat_map(|o| [(o, first), (o, sample().id)]) {
        for networks in [vec![], sample().networks] {
            let record = KeyRecord {
                lineage,
                owner: owner.parse().unwrap(),
                networks: networks.clone(),
                ..sample()
            };
            let bytes = record.encode(&ring()).unwrap();
            let (view, body) = View::open(&bytes, record.id, &ring()).unwrap();
            assert_eq!(view.owner(), owner.as_bytes());
            // As in its slot in memory, where much follows.
            let mut slot = body.to_vec();
            slot.resize(FIXED_LEN + 300, 0);
            let view = View::parse(&slot).unwrap();
            assert_eq!(view.lineage(), lineage);
            let short = view
                .short_owner()
                .map(|(len, bytes)| bytes[..len.into()].to_vec());
            match owner.len() {
                ..=SHORT_OWNER_LEN => assert_eq!(short.unwrap(), owner.as_bytes()),
                _ => assert_eq!(short, None),
            }
        }
    }
}

#[test]
fn a_key_ends_when_it_is_revoked_out_of_grace_or_expired() {
    let at = Timestamp::from_raw;
    let reason = Reason::Unspecified;
    for (phase, expires_at, end) in [
        (Phase::Current, None, None),
        (Phase::Current, Some(at(5)), Some(at(5))),
        (Phase::Retiring { until: at(3) }, None, Some(at(3))),
        (Phase::Retiring { until: at(3) }, Some(at(5)), Some(at(3))),
        (Phase::Retiring { until: at(7) }, Some(at(5)), Some(at(5))),
        (
            Phase::Revoked { at: at(9), reason },
            Some(at(5)),
            Some(at(9)),
        ),
    ] {
        let record = KeyRecord {
            phase,
            expires_at,
            ..sample()
        };
        assert_eq!(record.ends_at(), end, "{record:?}");
    }
    assert!(format!("{:?}", sample()).contains("acme/ingest/etl-bot"));
}
