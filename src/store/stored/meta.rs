//! What there is one of: the identity, the state, the mark of a copy, and how far the
//! index of the trail goes.

use serde::{Deserialize, Serialize};

use crate::crypto::digest::{Digest, Seal, Tag};
use crate::model::clock::Timestamp;
use crate::store::codec;
use crate::store::history::Indexed;
use crate::store::identity::{Identity, StoredKey};
use crate::store::lags::{Became, Lag, Lags, Whose};
use crate::store::mark::Mark;
use crate::store::reach::Reach;
use crate::store::stored::audit::ReasonForm;
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

/// The state where no key lags, which versions that know no lags read too.
#[derive(Serialize, Deserialize)]
pub(super) struct StateForm3 {
    second: StateForm2,
    reach_at: u64,
    reach_id: u64,
}

/// The state where keys lag behind the suspension or resumption of an owner alone: whoever
/// does not know of that must not read it.
#[derive(Serialize, Deserialize)]
pub(super) struct StateForm4 {
    third: StateForm3,
    lags: Vec<LagForm4>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct LagForm4 {
    owner: String,
    is_suspended: bool,
    seq: u64,
    after: Option<Vec<u8>>,
}

/// The state where keys lag behind a revocation: whoever does not know of that must not read
/// it.
#[derive(Serialize, Deserialize)]
pub(crate) struct StateForm {
    third: StateForm3,
    lags: Vec<LagForm>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct LagForm {
    whose: WhoseForm,
    became: BecameForm,
    seq: u64,
    after: Option<Vec<u8>>,
}

/// New variants go to the end: the encoding counts them.
#[derive(Serialize, Deserialize)]
pub(super) enum WhoseForm {
    Owner(String),
    Keyspace(u32, String),
}

/// New variants go to the end: the encoding counts them.
#[derive(Serialize, Deserialize)]
pub(super) enum BecameForm {
    Suspended,
    Resumed,
    Revoked {
        at: u64,
        reason: ReasonForm,
        actor: Option<String>,
    },
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

    fn read(self, lags: impl IntoIterator<Item = Option<Lag>>) -> Option<State> {
        let StateForm2 {
            first,
            commits,
            audit_floor_seq,
            audit_floor_hash,
        } = self.second;
        let lags: Option<Vec<Lag>> = lags.into_iter().collect();
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

impl LagForm4 {
    /// `None` where it does not say all that there is to say.
    fn of(lag: &Lag) -> Option<Self> {
        let (Whose::Owner(owner), is_suspended) = (&lag.whose, lag.is_suspension()?) else {
            return None;
        };
        Some(Self {
            owner: owner.as_str().to_owned(),
            is_suspended,
            seq: lag.seq,
            after: lag.after.clone(),
        })
    }

    fn read(self) -> Option<Lag> {
        Some(Lag {
            whose: Whose::Owner(self.owner.parse().ok()?),
            became: match self.is_suspended {
                true => Became::Suspended,
                false => Became::Resumed,
            },
            seq: self.seq,
            after: self.after,
        })
    }
}

impl StateForm4 {
    /// `None` where a state of this version does not say all that there is to say.
    fn of(state: &State) -> Option<Self> {
        let lags: Option<Vec<LagForm4>> = state.lags.iter().map(LagForm4::of).collect();
        Some(Self {
            third: StateForm3::of(state),
            lags: lags?,
        })
    }
}

impl LagForm {
    fn of(lag: &Lag) -> Self {
        Self {
            whose: match &lag.whose {
                Whose::Owner(owner) => WhoseForm::Owner(owner.as_str().to_owned()),
                Whose::Keyspace(number, prefix) => {
                    WhoseForm::Keyspace(*number, prefix.as_str().to_owned())
                }
            },
            became: match &lag.became {
                Became::Suspended => BecameForm::Suspended,
                Became::Resumed => BecameForm::Resumed,
                Became::Revoked { at, reason, actor } => BecameForm::Revoked {
                    at: at.unix_ms(),
                    reason: ReasonForm::of(*reason),
                    actor: actor.clone(),
                },
            },
            seq: lag.seq,
            after: lag.after.clone(),
        }
    }

    /// `None` where it cannot be read, and for a keyspace that was suspended: none is.
    fn read(self) -> Option<Lag> {
        let lag = Lag {
            whose: match self.whose {
                WhoseForm::Owner(owner) => Whose::Owner(owner.parse().ok()?),
                WhoseForm::Keyspace(number, prefix) => {
                    Whose::Keyspace(number, prefix.parse().ok()?)
                }
            },
            became: match self.became {
                BecameForm::Suspended => Became::Suspended,
                BecameForm::Resumed => Became::Resumed,
                BecameForm::Revoked { at, reason, actor } => Became::Revoked {
                    at: instant(at)?,
                    reason: reason.read()?,
                    actor,
                },
            },
            seq: self.seq,
            after: self.after,
        };
        let is_of_owner = matches!(lag.whose, Whose::Owner(_));
        (is_of_owner || lag.is_suspension().is_none()).then_some(lag)
    }
}

impl Stored for State {
    const VERSION: u8 = 5;
    type Form = StateForm;

    fn to_form(&self) -> StateForm {
        StateForm {
            third: StateForm3::of(self),
            lags: self.lags.iter().map(LagForm::of).collect(),
        }
    }

    fn version(&self) -> u8 {
        match (self.lags.is_empty(), self.lags.has_revocation()) {
            (true, _) => 3,
            (false, false) => 4,
            (false, true) => Self::VERSION,
        }
    }

    fn from_form(form: StateForm) -> Option<Self> {
        form.third.read(form.lags.into_iter().map(LagForm::read))
    }

    fn encode_onto(&self, bytes: &mut Vec<u8>) -> Option<()> {
        match self.version() {
            3 => codec::encode_onto(&StateForm3::of(self), bytes),
            4 => codec::encode_onto(&StateForm4::of(self)?, bytes),
            _ => codec::encode_onto(&self.to_form(), bytes),
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
            3 => return codec::decode::<StateForm3>(encoded)?.read([]),
            4 => {
                let StateForm4 { third, lags } = codec::decode(encoded)?;
                return third.read(lags.into_iter().map(LagForm4::read));
            }
            _ => return None,
        };
        let Reach { at, id } = Reach::through(Timestamp::MIN);
        let third = StateForm3 {
            second,
            reach_at: at.unix_ms(),
            reach_id: id,
        };
        third.read([])
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
