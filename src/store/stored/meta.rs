//! What there is one of: the identity, the state, the mark of a copy, and how far the
//! index of the trail goes.

use serde::{Deserialize, Serialize};

use crate::crypto::digest::{Digest, Seal, Tag};
use crate::model::clock::Timestamp;
use crate::store::codec;
use crate::store::history::Indexed;
use crate::store::identity::{Identity, StoredKey};
use crate::store::lags::{Lag, Lags};
use crate::store::mark::Mark;
use crate::store::reach::Reach;
use crate::store::stored::instant;
use crate::store::tables::{State, Stored};

/// The state in stores of format 1.
#[derive(Serialize, Deserialize)]
pub(super) struct StateForm1 {
    audit_seq: u64,
    audit_hash: Digest,
    clock: u64,
    next_keyspace: u32,
    digests: Vec<(u8, u64)>,
}

/// The state in stores of format 2.
#[derive(Serialize, Deserialize)]
pub(super) struct StateForm2 {
    first: StateForm1,
    commits: u64,
    audit_floor_seq: u64,
    audit_floor_hash: Digest,
}

/// The state where no owner lags, which versions that know no lags read too.
#[derive(Serialize, Deserialize)]
pub(super) struct StateForm3 {
    second: StateForm2,
    reach_at: u64,
    reach_id: u64,
}

/// The state where owners lag: whoever does not know of that must not read it.
#[derive(Serialize, Deserialize)]
pub(crate) struct StateForm {
    third: StateForm3,
    lags: Vec<LagForm>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct LagForm {
    owner: String,
    is_suspended: bool,
    seq: u64,
    after: Option<Vec<u8>>,
}

impl StateForm3 {
    fn of(state: &State) -> Self {
        Self {
            second: StateForm2 {
                first: StateForm1 {
                    audit_seq: state.audit_seq,
                    audit_hash: state.audit_hash,
                    clock: state.clock.unix_ms(),
                    next_keyspace: state.next_keyspace,
                    digests: state.digests.clone(),
                },
                commits: state.commits,
                audit_floor_seq: state.audit_floor_seq,
                audit_floor_hash: state.audit_floor_hash,
            },
            reach_at: state.reach.at.unix_ms(),
            reach_id: state.reach.id,
        }
    }

    fn read(self, lags: Vec<LagForm>) -> Option<State> {
        let StateForm2 {
            first,
            commits,
            audit_floor_seq,
            audit_floor_hash,
        } = self.second;
        let lags: Option<Vec<Lag>> = lags.into_iter().map(LagForm::read).collect();
        Some(State {
            audit_seq: first.audit_seq,
            audit_hash: first.audit_hash,
            clock: instant(first.clock)?,
            next_keyspace: first.next_keyspace,
            digests: first.digests,
            commits,
            audit_floor_seq,
            audit_floor_hash,
            reach: Reach {
                at: instant(self.reach_at)?,
                id: self.reach_id,
            },
            lags: Lags::new(lags?),
        })
    }
}

impl LagForm {
    fn of(lag: &Lag) -> Self {
        Self {
            owner: lag.owner.as_str().to_owned(),
            is_suspended: lag.is_suspended,
            seq: lag.seq,
            after: lag.after.clone(),
        }
    }

    fn read(self) -> Option<Lag> {
        Some(Lag {
            owner: self.owner.parse().ok()?,
            is_suspended: self.is_suspended,
            seq: self.seq,
            after: self.after,
        })
    }
}

impl Stored for State {
    const VERSION: u8 = 4;
    type Form = StateForm;

    fn to_form(&self) -> StateForm {
        StateForm {
            third: StateForm3::of(self),
            lags: self.lags.iter().map(LagForm::of).collect(),
        }
    }

    fn version(&self) -> u8 {
        match self.lags.is_empty() {
            true => 3,
            false => Self::VERSION,
        }
    }

    fn from_form(form: StateForm) -> Option<Self> {
        form.third.read(form.lags)
    }

    fn encode(&self) -> Option<Vec<u8>> {
        match self.lags.is_empty() {
            true => codec::encode(&StateForm3::of(self)),
            false => codec::encode(&self.to_form()),
        }
    }

    fn decode_older(version: u8, encoded: &[u8]) -> Option<Self> {
        let none = Self::new();
        let second = match version {
            1 => StateForm2 {
                first: codec::decode(encoded)?,
                commits: none.commits,
                audit_floor_seq: none.audit_floor_seq,
                audit_floor_hash: none.audit_floor_hash,
            },
            2 => codec::decode(encoded)?,
            3 => return codec::decode::<StateForm3>(encoded)?.read(Vec::new()),
            _ => return None,
        };
        let Reach { at, id } = Reach::through(Timestamp::MIN);
        let third = StateForm3 {
            second,
            reach_at: at.unix_ms(),
            reach_id: id,
        };
        third.read(Vec::new())
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct IdentityForm {
    store_id: [u8; 16],
    key: KeyForm,
}

/// New variants go to the end: the encoding counts them.
#[derive(Serialize, Deserialize)]
pub(super) enum KeyForm {
    Plain([u8; 32]),
    Sealed(Vec<SealForm>),
}

#[derive(Serialize, Deserialize)]
pub(super) struct SealForm {
    pepper: u8,
    sealed: Digest,
    tag: Tag,
}

/// Without an envelope, since no tag can cover it: its version is the format's.
impl Stored for Identity {
    type Form = IdentityForm;

    fn to_form(&self) -> IdentityForm {
        let seal = |seal: &Seal| SealForm {
            pepper: seal.pepper,
            sealed: seal.sealed,
            tag: seal.tag,
        };
        IdentityForm {
            store_id: self.store_id,
            key: match &self.key {
                StoredKey::Plain(key) => KeyForm::Plain(*key),
                StoredKey::Sealed(seals) => KeyForm::Sealed(seals.iter().map(seal).collect()),
            },
        }
    }

    fn from_form(form: IdentityForm) -> Option<Self> {
        let seal = |form: SealForm| Seal {
            pepper: form.pepper,
            sealed: form.sealed,
            tag: form.tag,
        };
        Some(Self {
            store_id: form.store_id,
            key: match form.key {
                KeyForm::Plain(key) => StoredKey::Plain(key),
                KeyForm::Sealed(seals) => StoredKey::Sealed(seals.into_iter().map(seal).collect()),
            },
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct MarkForm {
    commits: u64,
    counts: Vec<(String, u64)>,
    contents: Digest,
}

impl Stored for Mark {
    type Form = MarkForm;

    fn to_form(&self) -> MarkForm {
        MarkForm {
            commits: self.commits,
            counts: self.counts.clone(),
            contents: self.contents,
        }
    }

    fn from_form(form: MarkForm) -> Option<Self> {
        Some(Self {
            commits: form.commits,
            counts: form.counts,
            contents: form.contents,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct IndexedForm {
    through: u64,
}

impl Stored for Indexed {
    type Form = IndexedForm;

    fn to_form(&self) -> IndexedForm {
        IndexedForm {
            through: self.through,
        }
    }

    fn from_form(form: IndexedForm) -> Option<Self> {
        Some(Self {
            through: form.through,
        })
    }
}
