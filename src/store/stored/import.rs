//! `imports`.

use serde::{Deserialize, Serialize};

use crate::model::import::{ForeignHash, Shape};
use crate::store::import::{ImportCounts, ImportRecord};
use crate::store::stored::{instant, maybe};
use crate::store::tables::Stored;

#[derive(Serialize, Deserialize)]
pub(crate) struct ImportForm {
    pub(super) name: String,
    pub(super) hash: HashForm,
    pub(super) after_bar: bool,
    pub(super) starts_with: String,
    pub(super) len_min: u16,
    pub(super) len_max: u16,
    pub(super) sunset: Option<u64>,
    pub(super) created_at: u64,
    pub(super) created_by: Option<String>,
    pub(super) keys: u64,
    pub(super) unseen: u64,
    pub(super) hashed: u64,
}

/// New variants go to the end: the encoding counts them.
#[derive(Serialize, Deserialize)]
pub(super) enum HashForm {
    Plain,
    Sha256,
    Sha512,
    Other,
}

impl Stored for ImportRecord {
    type Form = ImportForm;

    fn to_form(&self) -> ImportForm {
        ImportForm {
            name: self.name.clone(),
            hash: match self.hash {
                ForeignHash::Plain => HashForm::Plain,
                ForeignHash::Sha256 => HashForm::Sha256,
                ForeignHash::Sha512 => HashForm::Sha512,
                ForeignHash::Other => HashForm::Other,
            },
            after_bar: self.shape.after_bar,
            starts_with: self.shape.starts_with.clone(),
            len_min: self.shape.len_min,
            len_max: self.shape.len_max,
            sunset: self.sunset.map(crate::model::clock::Timestamp::unix_ms),
            created_at: self.created_at.unix_ms(),
            created_by: self.created_by.clone(),
            keys: self.counts.keys,
            unseen: self.counts.unseen,
            hashed: self.counts.hashed,
        }
    }

    fn from_form(form: ImportForm) -> Option<Self> {
        Some(Self {
            name: form.name,
            hash: match form.hash {
                HashForm::Plain => ForeignHash::Plain,
                HashForm::Sha256 => ForeignHash::Sha256,
                HashForm::Sha512 => ForeignHash::Sha512,
                HashForm::Other => ForeignHash::Other,
            },
            shape: Shape {
                after_bar: form.after_bar,
                starts_with: form.starts_with,
                len_min: form.len_min,
                len_max: form.len_max,
            },
            sunset: maybe(form.sunset, instant)?,
            created_at: instant(form.created_at)?,
            created_by: form.created_by,
            counts: ImportCounts {
                keys: form.keys,
                unseen: form.unseen,
                hashed: form.hashed,
            },
        })
    }
}
