//! `cold` and `usage`: what of a key no verification reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::clock::Timestamp;
use crate::model::id::KeyId;
use crate::model::key::ColdRecord;
use crate::store::codec;
use crate::store::read::UsageRecord;
use crate::store::stored::keyspace::LimitForm;
use crate::store::stored::{instant, key_id, maybe};
use crate::store::tables::Stored;

#[derive(Serialize, Deserialize)]
pub(crate) struct ColdForm {
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) created_at: u64,
    pub(super) created_by: Option<String>,
    pub(super) predecessor: Option<u64>,
    pub(super) successor: Option<u64>,
    pub(super) quota: Option<u64>,
    pub(super) limits: Option<Vec<LimitForm>>,
    pub(super) foreign_id: Option<String>,
}

/// Version 2: without an id of another system.
#[derive(Serialize, Deserialize)]
pub(super) struct ColdForm2 {
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) created_at: u64,
    pub(super) created_by: Option<String>,
    pub(super) predecessor: Option<u64>,
    pub(super) successor: Option<u64>,
    pub(super) quota: Option<u64>,
    pub(super) limits: Option<Vec<LimitForm>>,
}

/// Version 1: without limits of its own.
#[derive(Serialize, Deserialize)]
pub(super) struct ColdForm1 {
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) created_at: u64,
    pub(super) created_by: Option<String>,
    pub(super) predecessor: Option<u64>,
    pub(super) successor: Option<u64>,
    pub(super) quota: Option<u64>,
}

impl Stored for ColdRecord {
    /// 4: a limit may be for the fleet.
    const VERSION: u8 = 4;

    const FORM_SINCE: u8 = 3;

    type Form = ColdForm;

    /// Where none is, version 3 reads it too.
    fn version(&self) -> u8 {
        match LimitForm::any_for_fleet(self.limits.as_deref()) {
            true => Self::VERSION,
            false => 3,
        }
    }

    fn to_form(&self) -> ColdForm {
        ColdForm {
            name: self.name.clone(),
            description: self.description.clone(),
            labels: self.labels.clone(),
            created_at: self.created_at.unix_ms(),
            created_by: self.created_by.clone(),
            predecessor: self.predecessor.map(KeyId::raw),
            successor: self.successor.map(KeyId::raw),
            quota: self.quota,
            limits: self.limits.as_deref().map(LimitForm::all_of),
            foreign_id: self.foreign_id.clone(),
        }
    }

    fn from_form(form: ColdForm) -> Option<Self> {
        Some(Self {
            name: form.name,
            description: form.description,
            labels: form.labels,
            created_at: instant(form.created_at)?,
            created_by: form.created_by,
            predecessor: maybe(form.predecessor, key_id)?,
            successor: maybe(form.successor, key_id)?,
            quota: form.quota,
            limits: maybe(form.limits, LimitForm::read_all)?,
            foreign_id: form.foreign_id,
        })
    }

    fn decode_older(version: u8, encoded: &[u8]) -> Option<Self> {
        if version == 2 {
            let form: ColdForm2 = codec::decode(encoded)?;
            return Self::from_form(ColdForm {
                name: form.name,
                description: form.description,
                labels: form.labels,
                created_at: form.created_at,
                created_by: form.created_by,
                predecessor: form.predecessor,
                successor: form.successor,
                quota: form.quota,
                limits: form.limits,
                foreign_id: None,
            });
        }
        let form: ColdForm1 = codec::decode(encoded)?;
        Self::from_form(ColdForm {
            name: form.name,
            description: form.description,
            labels: form.labels,
            created_at: form.created_at,
            created_by: form.created_by,
            predecessor: form.predecessor,
            successor: form.successor,
            quota: form.quota,
            limits: None,
            foreign_id: None,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct UsageForm {
    pub(super) last_used: Option<u64>,
    pub(super) count: u64,
}

impl Stored for UsageRecord {
    type Form = UsageForm;

    fn to_form(&self) -> UsageForm {
        UsageForm {
            last_used: self.last_used.map(Timestamp::unix_ms),
            count: self.count,
        }
    }

    fn from_form(form: UsageForm) -> Option<Self> {
        Some(Self {
            last_used: maybe(form.last_used, instant)?,
            count: form.count,
        })
    }
}
