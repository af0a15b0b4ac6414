//! `counts/`, one for each keyspace.

use serde::{Deserialize, Serialize};

use crate::store::counts::Counted;
use crate::store::tables::Stored;

#[derive(Serialize, Deserialize)]
pub(crate) struct CountsForm {
    active: u64,
    retiring: u64,
    not_yet_valid: u64,
    disabled: u64,
    suspended: u64,
    expired: u64,
    revoked: u64,
    over_by_expiry: u64,
}

impl Stored for Counted {
    type Form = CountsForm;

    fn to_form(&self) -> CountsForm {
        CountsForm {
            active: self.active,
            retiring: self.retiring,
            not_yet_valid: self.not_yet_valid,
            disabled: self.disabled,
            suspended: self.suspended,
            expired: self.expired,
            revoked: self.revoked,
            over_by_expiry: self.over_by_expiry,
        }
    }

    fn from_form(form: CountsForm) -> Option<Self> {
        Some(Self {
            active: form.active,
            retiring: form.retiring,
            not_yet_valid: form.not_yet_valid,
            disabled: form.disabled,
            suspended: form.suspended,
            expired: form.expired,
            revoked: form.revoked,
            over_by_expiry: form.over_by_expiry,
        })
    }
}
