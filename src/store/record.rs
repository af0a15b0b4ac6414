//! The hot record of a key: what a verification reads, in a fixed layout that
//! is read in place.
//!
//! All numbers are little-endian. The record holds its own table and id, so
//! that its tag, over all before it, binds it to its place.
//!
//! ```text
//!   0  table number (1)        1  version (1)
//!   2  flags: 1 disabled, 2 retiring, 4 revoked, 8 has a quota, 16 has a lineage,
//!     32 has limits of its own
//!   3  digest scheme           4  pepper id
//!   5  suspended: bit n, the owner's ancestor of n + 1 segments is suspended
//!   6  length of the owner     7  number of networks
//!   8  id, 8 bytes
//!  16  revision: the position of the last audit entry about the key
//!  24  keyspace, 4 bytes      28  plan, counted from 1; 0: none
//!  30  reason of revocation   31  number of the import; 0: none
//!  32  permissions, 16 bytes
//!  48  not before, ms         56  expires at, ms; all ones: never
//!  64  retiring until, or revoked at, ms; else 0
//!  72  digest, 32 bytes
//! 104  owner, then 18 bytes a network
//!      lineage, 8 bytes, where its flag is set
//!      tag, 16 bytes
//! ```

use crate::crypto::digest::{Digest, Keyring, TAG_LEN};
use crate::crypto::mac::{Mac, NO_MAC};
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::{KeyId, Prefix};
use crate::model::network::Network;
use crate::model::owner::OwnerPath;
use crate::model::permissions::Permissions;
use crate::model::reason::Reason;
use crate::model::verdict::{Age, Grant, InlinePath, SHORT_OWNER_LEN, Stands};

/// The number of the table in the records' tags.
pub(crate) const TABLE: u8 = 1;
const VERSION: u8 = 1;
pub(crate) const FIXED_LEN: usize = 104;
const NEVER: u64 = u64::MAX;

const FLAG_DISABLED: u8 = 1;
const FLAG_RETIRING: u8 = 2;
const FLAG_REVOKED: u8 = 4;
const FLAG_QUOTA: u8 = 8;
const FLAG_LINEAGE: u8 = 16;
const FLAG_OWN_LIMITS: u8 = 32;

/// The bytes of a lineage, where a record has one.
pub(super) const LINEAGE_LEN: usize = 8;

/// Where a key stands in its life, as stored. What time makes of it is
/// [`Life`](crate::store::life::Life)'s to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Current,
    Retiring { until: Timestamp },
    Revoked { at: Timestamp, reason: Reason },
}

/// What the digest of a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Of a token of gatekey's own.
    Native,
    /// Of what another system keeps of its token, which was not seen yet.
    Unseen,
    /// Of a token of another system, which was seen.
    Seen,
    /// None: the token is to be claimed.
    Unclaimed,
}

impl Scheme {
    const ALL: [Self; 4] = [Self::Native, Self::Unseen, Self::Seen, Self::Unclaimed];

    /// Its number in a record.
    fn code(self) -> u8 {
        match self {
            Self::Native => 1,
            Self::Unseen => 2,
            Self::Seen => 3,
            Self::Unclaimed => 4,
        }
    }

    fn of(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| scheme.code() == code)
    }

    /// Whether the key's token was issued by another system.
    pub(crate) fn is_foreign(self) -> bool {
        self != Self::Native
    }

    /// Whether the key was imported and never used.
    pub(crate) fn is_unseen(self) -> bool {
        matches!(self, Self::Unseen | Self::Unclaimed)
    }
}

/// A hot record read in place.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    fixed: &'a [u8; FIXED_LEN],
    /// What follows the fixed part, to the end of the record or of its slot.
    tail: &'a [u8],
    owner: &'a [u8],
    networks: &'a [[u8; Network::ENCODED_LEN]],
}

/// Where memory has the MAC of a proven token in the place of the digest's first half.
pub(crate) const RESIDENT_MAC: std::ops::Range<usize> = 72..88;

/// What of a record is not kept in memory: the id, which its place tells, the revision, which
/// a verification does not need, and the second half of the digest.
pub(crate) const NOT_RESIDENT: [std::ops::Range<usize>; 2] = [8..24, 88..104];

/// Words of a record that are zero as a rule: the upper half of the permissions, "not
/// before", and since when it is retiring or revoked.
pub(crate) const RARE: [usize; 3] = [40, 48, 64];

fn lineage_len(flags: u8) -> usize {
    if flags & FLAG_LINEAGE == 0 {
        0
    } else {
        LINEAGE_LEN
    }
}

impl<'a> View<'a> {
    /// Splits the tag off, checks it, and reads the rest.
    pub(crate) fn open(
        record: &'a [u8],
        id: KeyId,
        ring: &Keyring,
    ) -> Result<(Self, &'a [u8]), Error> {
        let corrupted = |why| Error::corrupted("keys", id, why);
        let (body, tag) = record
            .split_last_chunk::<TAG_LEN>()
            .ok_or_else(|| corrupted("it is too short"))?;
        if !ring.hot_tag_is_right(body, tag) {
            return Err(corrupted("its tag is wrong"));
        }
        let view = Self::parse(body)
            .ok_or_else(|| corrupted("its layout is not that of a known version"))?;
        if view.id() != id {
            return Err(corrupted("it belongs to another key"));
        }
        Ok((view, body))
    }

    /// Reads a record without its tag; bytes past its end are ignored, so that
    /// it can be read from a padded slot.
    #[inline]
    pub(crate) fn parse(body: &'a [u8]) -> Option<Self> {
        let (fixed, tail) = body.split_first_chunk::<FIXED_LEN>()?;
        let [table, version, flags, scheme, ..] = *fixed;
        let known = FLAG_DISABLED
            | FLAG_RETIRING
            | FLAG_REVOKED
            | FLAG_QUOTA
            | FLAG_LINEAGE
            | FLAG_OWN_LIMITS;
        if (table, version) != (TABLE, VERSION)
            || scheme.wrapping_sub(1) >= 4
            || flags & !known != 0
            || flags & (FLAG_RETIRING | FLAG_REVOKED) == FLAG_RETIRING | FLAG_REVOKED
        {
            return None;
        }
        let (owner, rest) = tail.split_at_checked(usize::from(fixed[6]))?;
        let networks_len = usize::from(fixed[7]) * Network::ENCODED_LEN;
        let (networks, rest) = rest.split_at_checked(networks_len)?;
        let (networks, _) = networks.as_chunks();
        rest.get(..lineage_len(flags))?;
        Some(Self {
            fixed,
            tail,
            owner,
            networks,
        })
    }

    fn u64_at(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.fixed[at..at + 8]);
        u64::from_le_bytes(bytes)
    }

    fn flags(&self) -> u8 {
        self.fixed[2]
    }

    pub(crate) fn pepper(&self) -> u8 {
        self.fixed[4]
    }

    pub(crate) fn suspended(&self) -> u8 {
        self.fixed[5]
    }

    /// What its digest is.
    pub(crate) fn scheme(&self) -> Scheme {
        Scheme::of(self.fixed[3]).unwrap_or(Scheme::Unclaimed)
    }

    /// The number of the import that the key is of; 0: none.
    pub(crate) fn import(&self) -> u8 {
        self.fixed[31]
    }

    pub(crate) fn id(&self) -> KeyId {
        KeyId::from_raw(self.u64_at(8))
    }

    /// The id of the first key of the line of rotations that the key stands in; its own
    /// where it came of none.
    pub(crate) fn lineage(&self) -> KeyId {
        let at = self.owner.len() + self.networks.as_flattened().len();
        let stored = self.tail.get(at..).and_then(<[u8]>::first_chunk);
        match stored {
            Some(stored) if self.flags() & FLAG_LINEAGE != 0 => {
                KeyId::from_raw(u64::from_le_bytes(*stored))
            }
            _ => self.id(),
        }
    }

    pub(crate) fn keyspace(&self) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.fixed[24..28]);
        u32::from_le_bytes(bytes)
    }

    pub(crate) fn has_quota(&self) -> bool {
        self.flags() & FLAG_QUOTA != 0
    }

    /// Whether its cold record has limits in the place of its plan's.
    pub(crate) fn has_own_limits(&self) -> bool {
        self.flags() & FLAG_OWN_LIMITS != 0
    }

    /// The number of the plan, counted from 1; 0: none.
    pub(crate) fn plan(&self) -> u16 {
        u16::from_le_bytes([self.fixed[28], self.fixed[29]])
    }

    pub(crate) fn permissions(&self) -> Permissions {
        Permissions::from_bits(u128::from(self.u64_at(32)) | u128::from(self.u64_at(40)) << 64)
    }

    pub(crate) fn not_before(&self) -> Timestamp {
        Timestamp::from_raw(self.u64_at(48))
    }

    pub(crate) fn expires_at(&self) -> Option<Timestamp> {
        let ms = self.u64_at(56);
        (ms != NEVER).then_some(Timestamp::from_raw(ms))
    }

    pub(crate) fn disabled(&self) -> bool {
        self.flags() & FLAG_DISABLED != 0
    }

    pub(crate) fn phase(&self) -> Phase {
        let at = Timestamp::from_raw(self.u64_at(64));
        if self.flags() & FLAG_REVOKED != 0 {
            Phase::Revoked {
                at,
                reason: Reason::from_code(self.fixed[30]),
            }
        } else if self.flags() & FLAG_RETIRING != 0 {
            Phase::Retiring { until: at }
        } else {
            Phase::Current
        }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.u64_at(16)
    }

    /// Of a record from the file: memory has a [MAC](Self::resident_mac) instead.
    pub(crate) fn digest(&self) -> &Digest {
        // 104 - 72 = 32, so that the chunk is always there.
        self.fixed.last_chunk().unwrap_or(&[0; 32])
    }

    /// Of a record from memory: the MAC of its token, if that was seen.
    #[inline]
    pub(crate) fn resident_mac(&self) -> &Mac {
        self.digest().first_chunk().unwrap_or(&NO_MAC)
    }

    /// The owner's path; bytes, since reading it as text costs a walk over it.
    pub(crate) fn owner(&self) -> &'a [u8] {
        self.owner
    }

    /// The owner's path where it is short, with whatever follows it in the
    /// record: a copy of known length costs a fifth of one whose length must be
    /// looked up, and of a slot that much is always there.
    pub(crate) fn short_owner(&self) -> Option<(u8, &'a [u8; SHORT_OWNER_LEN])> {
        let len = self.fixed[6];
        let bytes = self.tail.first_chunk()?;
        (usize::from(len) <= SHORT_OWNER_LEN).then_some((len, bytes))
    }

    /// The grant of a key that is good, and that holds the permissions `held`.
    #[inline(always)]
    pub(crate) fn grant(
        &self,
        held: Permissions,
        keyspace: Prefix,
        owner: InlinePath,
        limits: Stands,
    ) -> Grant {
        Grant {
            key: self.id(),
            keyspace,
            owner,
            permissions: held,
            expires_at: self.expires_at(),
            retiring_until: match self.phase() {
                Phase::Retiring { until } => Some(until),
                Phase::Current | Phase::Revoked { .. } => None,
            },
            limits,
            #[cfg(feature = "http")]
            allowances: None,
            charge: None,
            age: Age::default(),
        }
    }

    pub(crate) fn owner_text(&self) -> Option<&'a str> {
        std::str::from_utf8(self.owner).ok()
    }

    pub(crate) fn networks(&self) -> impl Iterator<Item = Option<Network>> + 'a {
        self.networks.iter().map(Network::decode)
    }

    pub(crate) fn has_networks(&self) -> bool {
        !self.networks.is_empty()
    }
}

/// A hot record taken out, to be changed and written again.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KeyRecord {
    pub(crate) id: KeyId,
    /// The id of the first key of the line of rotations that the key stands in.
    pub(crate) lineage: KeyId,
    pub(crate) keyspace: u32,
    pub(crate) plan: u16,
    pub(crate) has_quota: bool,
    /// Whether its cold record has limits in the place of its plan's.
    pub(crate) has_own_limits: bool,
    pub(crate) phase: Phase,
    pub(crate) disabled: bool,
    pub(crate) suspended: u8,
    pub(crate) permissions: Permissions,
    pub(crate) not_before: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) revision: u64,
    pub(crate) pepper: u8,
    pub(crate) scheme: Scheme,
    /// The number of the import that the key is of; 0: none.
    pub(crate) import: u8,
    pub(crate) digest: Digest,
    pub(crate) owner: OwnerPath,
    pub(crate) networks: Vec<Network>,
}

impl KeyRecord {
    pub(crate) fn from_view(view: &View<'_>) -> Result<Self, Error> {
        let corrupted = |why| Error::corrupted("keys", view.id(), why);
        Ok(Self {
            id: view.id(),
            lineage: KeyId::checked(view.lineage().raw())
                .ok_or_else(|| corrupted("its lineage is not a key's id"))?,
            keyspace: view.keyspace(),
            plan: view.plan(),
            has_quota: view.has_quota(),
            has_own_limits: view.has_own_limits(),
            phase: view.phase(),
            disabled: view.disabled(),
            suspended: view.suspended(),
            permissions: view.permissions(),
            not_before: view.not_before(),
            expires_at: view.expires_at(),
            revision: view.revision(),
            pepper: view.pepper(),
            scheme: view.scheme(),
            import: view.import(),
            digest: *view.digest(),
            owner: view
                .owner_text()
                .and_then(|owner| owner.parse().ok())
                .ok_or_else(|| corrupted("its owner is not a path"))?,
            networks: view
                .networks()
                .collect::<Option<_>>()
                .ok_or_else(|| corrupted("a network in it is not one"))?,
        })
    }

    /// The record as it is stored, with its tag.
    pub(crate) fn encode(&self, ring: &Keyring) -> Result<Vec<u8>, Error> {
        let owner_len = self.owner.as_str().len();
        let mut bytes = Vec::with_capacity(
            FIXED_LEN + owner_len + self.networks.len() * Network::ENCODED_LEN + 8 + TAG_LEN,
        );
        self.encode_onto(ring, &mut bytes)?;
        Ok(bytes)
    }

    /// The same, behind what is there.
    pub(crate) fn encode_onto(&self, ring: &Keyring, bytes: &mut Vec<u8>) -> Result<(), Error> {
        let start = bytes.len();
        let owner = self.owner.as_str().as_bytes();
        let lengths = (u8::try_from(owner.len()), u8::try_from(self.networks.len()));
        let (Ok(owner_len), Ok(networks_len)) = lengths else {
            return Err(Error::Internal("a key record is over its limits"));
        };
        let (phase_flag, phase_at, reason) = match self.phase {
            Phase::Current => (0, 0, 0),
            Phase::Retiring { until } => (FLAG_RETIRING, until.unix_ms(), 0),
            Phase::Revoked { at, reason } => (FLAG_REVOKED, at.unix_ms(), reason.code()),
        };
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        let flags = phase_flag
            | flag(self.disabled, FLAG_DISABLED)
            | flag(self.has_quota, FLAG_QUOTA)
            | flag(self.lineage != self.id, FLAG_LINEAGE)
            | flag(self.has_own_limits, FLAG_OWN_LIMITS);
        bytes.extend([TABLE, VERSION, flags, self.scheme.code()]);
        bytes.extend([self.pepper, self.suspended, owner_len, networks_len]);
        bytes.extend(self.id.raw().to_le_bytes());
        bytes.extend(self.revision.to_le_bytes());
        bytes.extend(self.keyspace.to_le_bytes());
        bytes.extend(self.plan.to_le_bytes());
        bytes.extend([reason, self.import]);
        bytes.extend(self.permissions.bits().to_le_bytes());
        bytes.extend(self.not_before.unix_ms().to_le_bytes());
        bytes.extend(
            self.expires_at
                .map_or(NEVER, Timestamp::unix_ms)
                .to_le_bytes(),
        );
        bytes.extend(phase_at.to_le_bytes());
        bytes.extend(self.digest);
        bytes.extend(owner);
        for network in &self.networks {
            bytes.extend(network.encode());
        }
        if flags & FLAG_LINEAGE != 0 {
            bytes.extend(self.lineage.raw().to_le_bytes());
        }
        let tag = ring.hot_tag(bytes.get(start..).unwrap_or_default());
        bytes.extend(tag);
        Ok(())
    }

    /// When the key stops being good for ever, where that is known: revoked,
    /// out of grace, or expired.
    pub(crate) fn ends_at(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Revoked { at, .. } => Some(at),
            Phase::Retiring { until } => Some(self.expires_at.map_or(until, |at| at.min(until))),
            Phase::Current => self.expires_at,
        }
    }

    /// The instants, other than [`ends_at`](Self::ends_at), at which time alone changes the
    /// key's state: it becomes valid; or its grace ends after it has expired.
    pub(crate) fn turns_at(&self) -> [Option<Timestamp>; 2] {
        let start = Some(self.not_before).filter(|start| *start > Timestamp::MIN);
        match (self.phase, self.expires_at) {
            (Phase::Revoked { .. }, _) => [None, None],
            (Phase::Retiring { until }, Some(expires_at)) if expires_at < until => {
                [start, Some(until)]
            }
            (Phase::Retiring { .. } | Phase::Current, _) => [start, None],
        }
    }
}

/// The digest is left out.
impl std::fmt::Debug for KeyRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRecord")
            .field("id", &self.id)
            .field("owner", &self.owner)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
