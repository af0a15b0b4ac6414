//! The tables, how their keys are built, and the envelope of the records that
//! are not hot: `version, bincode, tag`.

use redb::TableDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::crypto::digest::{DIGEST_LEN, Digest, Keyring, TAG_LEN};
use crate::model::clock::Timestamp;
use crate::model::error::{Corruption, Error};
use crate::model::id::KeyId;
use crate::model::owner::OwnerPath;
use crate::store::codec;
use crate::store::lags::Lags;
use crate::store::reach::Reach;

/// The version of the format that this crate writes, and the newest it reads. Opening a
/// store of an older one brings it up to date.
///
/// 2: a version for each kind of record; `state` counts commits, and says where the audit
/// trail begins.
///
/// 3: the counts of keys by state, the index by turn, and the index of held keys; settings
/// of owners; the usage history.
///
/// 4: imports, and keys whose tokens another system issued.
///
/// 5: the networks that keys are used from.
pub(crate) const FORMAT: u32 = 5;

pub(crate) type Bytes = &'static [u8];

/// id -> hot record
pub(crate) const KEYS: TableDefinition<'_, u64, Bytes> = TableDefinition::new("keys");
/// id -> cold record
pub(crate) const COLD: TableDefinition<'_, u64, Bytes> = TableDefinition::new("cold");
/// number -> keyspace
pub(crate) const KEYSPACES: TableDefinition<'_, u32, Bytes> = TableDefinition::new("keyspaces");
/// prefix -> number of the keyspace
pub(crate) const PREFIXES: TableDefinition<'_, &str, u32> = TableDefinition::new("prefixes");
/// path -> owner, for owners that are suspended
pub(crate) const OWNERS: TableDefinition<'_, &str, Bytes> = TableDefinition::new("owners");
/// keyspace, path -> what the owner has of its own in the keyspace
pub(crate) const OWNER_SETTINGS: TableDefinition<'_, (u32, &str), Bytes> =
    TableDefinition::new("owner_settings");
/// keyspace, path -> the number of the owner's quota in the keyspace
pub(crate) const OWNER_QUOTAS: TableDefinition<'_, (u32, &str), Bytes> =
    TableDefinition::new("owner_quotas");
/// owner, keyspace, id -> [`NAMED`]
pub(crate) const BY_OWNER: TableDefinition<'_, Bytes, u8> = TableDefinition::new("by_owner");
/// keyspace, owner, id of a key that may be accepted -> the instant from which it is over
/// (all ones: none), its lineage
pub(crate) const HELD: TableDefinition<'_, Bytes, (u64, u64)> = TableDefinition::new("held");
/// keyspace, id
pub(crate) const BY_KEYSPACE: TableDefinition<'_, (u32, u64), ()> =
    TableDefinition::new("by_keyspace");
/// the instant from which a key is over for good, id
pub(crate) const BY_END: TableDefinition<'_, (u64, u64), ()> = TableDefinition::new("by_end");
/// an instant at which time changes a key's state, other than its end, id
pub(crate) const BY_TURN: TableDefinition<'_, (u64, u64), ()> = TableDefinition::new("by_turn");
/// position -> audit entry
pub(crate) const AUDIT: TableDefinition<'_, u64, Bytes> = TableDefinition::new("audit");
/// position -> audit entry that was trimmed away, and that a revoked key points at
pub(crate) const KEPT: TableDefinition<'_, u64, Bytes> = TableDefinition::new("kept");
/// whom an entry is about (a key's id, or an owner or a keyspace), position of the entry
pub(crate) const BY_KEY: TableDefinition<'_, (u64, u64), ()> = TableDefinition::new("by_key");
/// id -> usage
pub(crate) const USAGE: TableDefinition<'_, u64, Bytes> = TableDefinition::new("usage");
/// keyspace (all ones: none), hour -> what verifications came to
pub(crate) const USAGE_HOURS: TableDefinition<'_, (u32, u32), Bytes> =
    TableDefinition::new("usage_hours");
/// day, id -> what verifications came to
pub(crate) const USAGE_DAYS: TableDefinition<'_, (u32, u64), Bytes> =
    TableDefinition::new("usage_days");
/// day, path -> what verifications of the owner's own keys came to
pub(crate) const USAGE_OWNERS: TableDefinition<'_, Bytes, Bytes> =
    TableDefinition::new("usage_owners");
/// id -> the networks that the key is used from, where they are noted
pub(crate) const USAGE_NETWORKS: TableDefinition<'_, u64, Bytes> =
    TableDefinition::new("usage_networks");
/// number -> quota
pub(crate) const QUOTAS: TableDefinition<'_, u64, Bytes> = TableDefinition::new("quotas");
/// name of a request, part -> what was asked for, and what it was answered with
pub(crate) const REQUESTS: TableDefinition<'_, (&[u8; DIGEST_LEN], u16), Bytes> =
    TableDefinition::new("requests");
/// the instant of a request, its name -> how many parts it has
pub(crate) const REQUESTS_BY_TIME: TableDefinition<'_, (u64, &[u8; DIGEST_LEN]), u16> =
    TableDefinition::new("requests_by_time");
/// number -> import
pub(crate) const IMPORTS: TableDefinition<'_, u8, Bytes> = TableDefinition::new("imports");
/// digest of a token of another system -> id of its key
pub(crate) const FOREIGN: TableDefinition<'_, &[u8; DIGEST_LEN], u64> =
    TableDefinition::new("foreign");
/// import, id of a key that was imported and not used yet
pub(crate) const UNSEEN: TableDefinition<'_, (u8, u64), ()> = TableDefinition::new("unseen");
/// import, id of another system -> id of the key
pub(crate) const FOREIGN_IDS: TableDefinition<'_, (u8, &str), u64> =
    TableDefinition::new("foreign_ids");
/// name -> what there is one of
pub(crate) const META: TableDefinition<'_, &str, Bytes> = TableDefinition::new("gatekey");

/// Expands a macro for every table except [`META`], whatever the types of its entries.
/// Opening an older store creates the tables that it lacks.
macro_rules! each_table {
    (|$table:ident| $does:expr) => {
        each_table!(
            |$table| $does;
            KEYS COLD KEYSPACES PREFIXES OWNERS BY_OWNER HELD BY_KEYSPACE BY_END BY_TURN AUDIT
            KEPT BY_KEY USAGE QUOTAS OWNER_SETTINGS OWNER_QUOTAS
            REQUESTS REQUESTS_BY_TIME USAGE_HOURS USAGE_DAYS USAGE_OWNERS USAGE_NETWORKS
            IMPORTS FOREIGN UNSEEN FOREIGN_IDS
        )
    };
    (|$table:ident| $does:expr; $($name:ident)*) => {
        $({
            let $table = $crate::store::tables::$name;
            $does;
        })*
    };
}
pub(crate) use each_table;

/// In [`META`]: the format, as four bytes, little-endian.
pub(crate) const META_FORMAT: &str = "format";
/// In [`META`]: who the store is and how its key is kept. Without a tag, since
/// it is what the tags' key comes from; the seals have tags of their own.
pub(crate) const META_IDENTITY: &str = "identity";
/// In [`META`]: the [`State`].
pub(crate) const META_STATE: &str = "state";
/// In [`META`]: what a copy holds, until its first change.
pub(crate) const META_COPY: &str = "copy";

/// In [`META`]: how far [`BY_KEY`] follows the trail.
pub(crate) const META_INDEXED: &str = "indexed";

/// In [`META`]: where in a fleet's log the file stands. Without it, it is in no fleet.
pub(crate) const META_FLEET: &str = "fleet";

/// In [`BY_OWNER`]: the key is the owner's.
pub(crate) const NAMED: u8 = 0;
/// In [`BY_OWNER`], by versions without an index of held keys: it is over for good, too.
pub(crate) const NAMED_OVER: u8 = 1;

/// The numbers of the tables in the records' tags; 1 is [`crate::store::record::TABLE`].
#[derive(Clone, Copy)]
pub(crate) enum Tagged {
    Cold = 2,
    Keyspace = 3,
    Owner = 4,
    Usage = 5,
    State = 6,
    Quota = 7,
    Request = 8,
    Copy = 12,
    Kept = 13,
    OwnerSettings = 14,
    OwnerQuota = 15,
    Indexed = 21,
    Counts = 22,
    Extension = 23,
    Fleet = 24,
    Import = 25,
    UsageHours = 31,
    UsageDays = 32,
    UsageOwners = 33,
    HistoryState = 34,
    UsageNetworks = 35,
}

impl Tagged {
    fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Keyspace => "keyspaces",
            Self::Owner => "owners",
            Self::Usage => "usage",
            Self::State | Self::Copy | Self::Indexed | Self::Counts | Self::Fleet => "gatekey",
            Self::HistoryState => "gatekey",
            Self::UsageHours => "usage_hours",
            Self::UsageDays => "usage_days",
            Self::UsageOwners => "usage_owners",
            Self::UsageNetworks => "usage_networks",
            Self::Quota => "quotas",
            Self::Request => "requests",
            Self::Extension => "extension",
            Self::Kept => "kept",
            Self::OwnerSettings => "owner_settings",
            Self::OwnerQuota => "owner_quotas",
            Self::Import => "imports",
        }
    }
}

/// A record in an envelope, through a form private to the store: see
/// [`stored`](crate::store::stored). A record whose fields change gets the next
/// version, and reads the older ones.
pub(crate) trait Stored: Sized {
    /// The newest version.
    const VERSION: u8 = 1;

    /// The oldest version whose form is that of the newest: it had fewer values.
    const FORM_SINCE: u8 = Self::VERSION;

    /// What is encoded: the fields in the order of the format.
    type Form: Serialize + DeserializeOwned;

    fn to_form(&self) -> Self::Form;

    /// The version that is written, and that [`encode`](Stored::encode) is of: the newest.
    fn version(&self) -> u8 {
        Self::VERSION
    }

    /// `None` where the form is not that of any record.
    fn from_form(form: Self::Form) -> Option<Self>;

    /// Reads the encoding of a version with an older form; `None` where there was none, or where it
    /// does not decode.
    fn decode_older(version: u8, encoded: &[u8]) -> Option<Self> {
        let _ = (version, encoded);
        None
    }

    /// The record as it is stored, without its version and its tag; `None` where it is over the
    /// limit.
    fn encode(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.encode_onto(&mut bytes)?;
        Some(bytes)
    }

    /// Adds the same to what is there.
    fn encode_onto(&self, bytes: &mut Vec<u8>) -> Option<()> {
        codec::encode_onto(&self.to_form(), bytes)
    }

    /// Reads what [`encode`](Stored::encode) wrote in this or an older version, or says why not.
    fn decode(version: u8, encoded: &[u8]) -> Result<Self, &'static str> {
        let decoded = match version {
            same if (Self::FORM_SINCE..=Self::VERSION).contains(&same) => {
                codec::decode(encoded).and_then(Self::from_form)
            }
            older if (1..Self::FORM_SINCE).contains(&older) => Self::decode_older(older, encoded),
            _ => return Err("its version is unknown"),
        };
        decoded.ok_or("it does not decode")
    }
}

/// Puts a record into its envelope.
pub(crate) fn seal<T: Stored>(
    ring: &Keyring,
    table: Tagged,
    key: &[u8],
    value: &T,
) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(64);
    seal_onto(ring, table, key, value, &mut bytes)?;
    Ok(bytes)
}

/// The same, behind what is there.
pub(crate) fn seal_onto<T: Stored>(
    ring: &Keyring,
    table: Tagged,
    key: &[u8],
    value: &T,
    bytes: &mut Vec<u8>,
) -> Result<(), Error> {
    let start = bytes.len();
    bytes.push(value.version());
    let encoded = value.encode_onto(bytes);
    encoded.ok_or(Error::Internal(
        "a record is over the limit of its encoding",
    ))?;
    let tag = ring.tag(table as u8, key, bytes.get(start..).unwrap_or_default());
    bytes.extend(tag);
    Ok(())
}

/// Takes a record out of its envelope. Nothing is decoded before the tag is
/// found to be right.
pub(crate) fn unseal<T: Stored>(
    ring: &Keyring,
    table: Tagged,
    key: &[u8],
    bytes: &[u8],
) -> Result<T, Error> {
    let corrupted = |why: &str| Error::corrupted(table.name(), key.escape_ascii(), why);
    let (body, tag) = bytes
        .split_last_chunk::<TAG_LEN>()
        .ok_or_else(|| corrupted("it is too short"))?;
    if !ring.tag_is_right(table as u8, key, body, tag) {
        return Err(corrupted("its tag is wrong"));
    }
    let (version, encoded) = body.split_first().ok_or_else(|| corrupted("it is empty"))?;
    T::decode(*version, encoded).map_err(corrupted)
}

/// What changes with every commit and there is one of.
#[derive(Clone)]
pub(crate) struct State {
    /// The position of the last audit entry; 0 for none.
    pub(crate) audit_seq: u64,
    /// The hash of the last audit entry.
    pub(crate) audit_hash: Digest,
    /// The newest instant that was committed: time never runs behind it.
    pub(crate) clock: Timestamp,
    pub(crate) next_keyspace: u32,
    /// How many keys that are not revoked are hashed under each pepper.
    pub(crate) digests: Vec<(u8, u64)>,
    /// How many transactions were committed: after a commit whose outcome is unknown,
    /// the number in the file tells it.
    pub(crate) commits: u64,
    /// The position of the last audit entry that was trimmed away; 0 for none.
    pub(crate) audit_floor_seq: u64,
    /// Its hash, on which the first entry that is left follows.
    pub(crate) audit_floor_hash: Digest,
    /// As of where in time keys are counted by state.
    pub(crate) reach: Reach,
    /// The owners whose keys lag behind them.
    pub(crate) lags: Lags,
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            audit_seq: 0,
            audit_hash: [0; 32],
            clock: Timestamp::MIN,
            next_keyspace: 0,
            digests: Vec::new(),
            commits: 0,
            audit_floor_seq: 0,
            audit_floor_hash: [0; 32],
            reach: Reach::through(Timestamp::MIN),
            lags: Lags::default(),
        }
    }

    pub(crate) fn count_digest(&mut self, pepper: u8, by: i64) {
        match self.digests.iter_mut().find(|(id, _)| *id == pepper) {
            Some((_, count)) => *count = count.saturating_add_signed(by),
            None => self.digests.push((pepper, u64::try_from(by).unwrap_or(0))),
        }
    }
}

/// An owner that is suspended.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct OwnerRecord {
    pub(crate) suspended_at: Timestamp,
    pub(crate) suspended_by: Option<String>,
    pub(crate) note: Option<String>,
}

/// The key of [`BY_OWNER`]. `/` stands as 1 and the path ends with 0, so that
/// the keys of a path and of all below it are one range.
pub(crate) fn owner_index_key(owner: &OwnerPath, keyspace: u32, id: KeyId) -> Vec<u8> {
    // The path, its end, the keyspace and the id.
    let mut key = Vec::with_capacity(owner.as_str().len() + 13);
    push_owner_index_key(&mut key, owner, keyspace, id);
    key
}

/// The same, behind what is there.
pub(crate) fn push_owner_index_key(key: &mut Vec<u8>, owner: &OwnerPath, keyspace: u32, id: KeyId) {
    key.extend(ordered(owner.as_str()));
    key.push(0);
    key.extend(keyspace.to_be_bytes());
    key.extend(id.raw().to_be_bytes());
}

/// The bytes of a path, in an order in which what is below a path follows on it.
fn ordered(path: &str) -> impl Iterator<Item = u8> + '_ {
    path.bytes().map(|byte| if byte == b'/' { 1 } else { byte })
}

/// The range of [`BY_OWNER`] that an owner, and all below it where `below`,
/// takes up: from the first key to before the second.
pub(crate) fn owner_index_range(owner: &OwnerPath, below: bool) -> (Vec<u8>, Vec<u8>) {
    let start: Vec<u8> = ordered(owner.as_str()).collect();
    range_of(&start, below)
}

fn range_of(start: &[u8], below: bool) -> (Vec<u8>, Vec<u8>) {
    let end_byte = if below { 2 } else { 1 };
    ([start, &[0]].concat(), [start, &[end_byte]].concat())
}

/// The key of [`HELD`]: the keyspace, the path as in [`BY_OWNER`], and the id.
pub(crate) fn held_key(keyspace: u32, owner: &OwnerPath, id: KeyId) -> Vec<u8> {
    let mut key = Vec::with_capacity(owner.as_str().len() + 13);
    push_held_key(&mut key, keyspace, owner, id);
    key
}

/// The same, behind what is there.
pub(crate) fn push_held_key(key: &mut Vec<u8>, keyspace: u32, owner: &OwnerPath, id: KeyId) {
    key.extend(keyspace.to_be_bytes());
    key.extend(ordered(owner.as_str()));
    key.push(0);
    key.extend(id.raw().to_be_bytes());
}

/// The range of [`HELD`] for a keyspace and an owner, and all below it where `below`.
pub(crate) fn held_range(keyspace: u32, owner: &str, below: bool) -> (Vec<u8>, Vec<u8>) {
    let mut start = keyspace.to_be_bytes().to_vec();
    start.extend(ordered(owner));
    range_of(&start, below)
}

/// The range of [`HELD`] for a keyspace, with both its ends.
pub(crate) fn held_in(keyspace: u32) -> (Vec<u8>, Vec<u8>) {
    let from = keyspace.to_be_bytes();
    (from.to_vec(), [from.as_slice(), &[0xff]].concat())
}

/// The keyspace, the owner and the id in a key of [`HELD`].
pub(crate) fn held_parts(key: &[u8]) -> Option<(u32, &[u8], KeyId)> {
    let (keyspace, rest) = key.split_first_chunk::<4>()?;
    let (owner, id) = rest.split_last_chunk::<8>()?;
    Some((
        u32::from_be_bytes(*keyspace),
        owner,
        KeyId::from_raw(u64::from_be_bytes(*id)),
    ))
}

/// The keyspace and the id at the end of a key of [`BY_OWNER`].
pub(crate) fn owner_index_parts(key: &[u8]) -> Option<(&[u8], u32, KeyId)> {
    let (rest, id) = key.split_last_chunk::<8>()?;
    let (owner, keyspace) = rest.split_last_chunk::<4>()?;
    Some((
        owner,
        u32::from_be_bytes(*keyspace),
        KeyId::from_raw(u64::from_be_bytes(*id)),
    ))
}

/// What is wrong with a key of [`BY_OWNER`] that has no parts.
pub(crate) fn short_index_entry(key: &[u8]) -> Corruption {
    Corruption {
        table: "by_owner",
        record: key.escape_ascii().to_string(),
        why: "it is too short".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn key(owner: &str) -> Vec<u8> {
        owner_index_key(&owner.parse().unwrap(), 3, KeyId::from_raw(9))
    }

    #[test]
    fn a_path_and_all_below_it_are_one_range() {
        let acme: OwnerPath = "acme".parse().unwrap();
        let (from, to) = owner_index_range(&acme, true);
        let inside =
            |owner: &str| (from.as_slice()..to.as_slice()).contains(&key(owner).as_slice());
        for owner in ["acme", "acme/a", "acme/z/z", "acme/!"] {
            assert!(inside(owner), "{owner}");
        }
        for owner in ["acm", "acme!", "acme-x", "acmee", "acme.x/a", "b"] {
            assert!(!inside(owner), "{owner}");
        }
        let (from, to) = owner_index_range(&acme, false);
        let exact = |owner: &str| (from.as_slice()..to.as_slice()).contains(&key(owner).as_slice());
        assert!(exact("acme") && !exact("acme/a") && !exact("acme!"));
        assert_eq!(
            owner_index_parts(&key("acme")),
            Some((b"acme\0".as_slice(), 3, KeyId::from_raw(9)))
        );
    }

    #[test]
    fn what_is_damaged_is_named_by_its_table() {
        let ring = Keyring::new(&Zeroizing::new([7; 32]), &[]);
        let named = |tag| match unseal::<OwnerRecord>(&ring, tag, b"key", b"?") {
            Err(Error::Corrupted(corruption)) => corruption.table,
            other => panic!("{:?}", other.map(drop)),
        };
        assert_eq!(named(Tagged::Cold), "cold");
        assert_eq!(named(Tagged::Quota), "quotas");
    }

    #[test]
    fn a_record_of_an_older_version_is_read_and_one_of_a_newer_is_refused() {
        let ring = Keyring::new(&Zeroizing::new([7; 32]), &[]);
        let key = META_STATE.as_bytes();
        // Of format 1: five fields.
        let old = (5_u64, [9_u8; 32], 77_u64, 3_u32, vec![(1_u8, 4_u64)]);
        let sealed = |version: u8| {
            let mut bytes = vec![version];
            bytes.extend(codec::encode(&old).unwrap());
            let tag = ring.tag(Tagged::State as u8, key, &bytes);
            bytes.extend(tag);
            unseal::<State>(&ring, Tagged::State, key, &bytes)
        };
        let state = sealed(1).unwrap();
        assert_eq!((state.audit_seq, state.next_keyspace), (5, 3));
        assert_eq!(state.digests, [(1, 4)]);
        assert_eq!((state.commits, state.audit_floor_seq), (0, 0));
        // Of format 2: three more, and no reach.
        let later = (old.clone(), 8_u64, 2_u64, [6_u8; 32]);
        let sealed_later = {
            let mut bytes = vec![2];
            bytes.extend(codec::encode(&later).unwrap());
            let tag = ring.tag(Tagged::State as u8, key, &bytes);
            bytes.extend(tag);
            unseal::<State>(&ring, Tagged::State, key, &bytes)
        };
        let state = sealed_later.unwrap();
        assert_eq!((state.audit_seq, state.commits), (5, 8));
        assert_eq!((state.audit_floor_seq, state.audit_floor_hash[0]), (2, 6));
        assert_eq!(state.reach, Reach::through(Timestamp::MIN));
        for unknown in [0, State::VERSION + 1, 255] {
            assert!(
                matches!(sealed(unknown), Err(Error::Corrupted(c)) if c.why.contains("version"))
            );
        }
    }

    #[test]
    fn every_single_bit_flip_of_a_sealed_record_is_detected() {
        let ring = Keyring::new(&Zeroizing::new([3; 32]), &[]);
        let owner = OwnerRecord {
            suspended_at: Timestamp::from_raw(77),
            suspended_by: Some("ops".to_owned()),
            note: None,
        };
        let bytes = seal(&ring, Tagged::Owner, b"acme", &owner).unwrap();
        let read = |bytes: &[u8]| unseal::<OwnerRecord>(&ring, Tagged::Owner, b"acme", bytes);
        assert!(read(&bytes).unwrap() == owner);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(read(&bad), Err(Error::Corrupted(_))), "bit {bit}");
        }
        assert!(unseal::<OwnerRecord>(&ring, Tagged::Owner, b"acme2", &bytes).is_err());
        assert!(unseal::<OwnerRecord>(&ring, Tagged::Cold, b"acme", &bytes).is_err());
    }
}
