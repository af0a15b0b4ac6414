//! `owners`.

use serde::{Deserialize, Serialize};

use crate::store::stored::instant;
use crate::store::tables::{OwnerRecord, Stored};

#[derive(Serialize, Deserialize)]
pub(crate) struct OwnerForm {
    suspended_at: u64,
    suspended_by: Option<String>,
    note: Option<String>,
}

impl Stored for OwnerRecord {
    type Form = OwnerForm;

    fn to_form(&self) -> OwnerForm {
        OwnerForm {
            suspended_at: self.suspended_at.unix_ms(),
            suspended_by: self.suspended_by.clone(),
            note: self.note.clone(),
        }
    }

    fn from_form(form: OwnerForm) -> Option<Self> {
        Some(Self {
            suspended_at: instant(form.suspended_at)?,
            suspended_by: form.suspended_by,
            note: form.note,
        })
    }
}
