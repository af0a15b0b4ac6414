//! `quotas`.

use serde::{Deserialize, Serialize};

use crate::model::quota::{Quota, Refill};
use crate::store::quota::QuotaRecord;
use crate::store::stored::instant;
use crate::store::tables::Stored;

#[derive(Serialize, Deserialize)]
pub(crate) struct QuotaForm {
    pub(super) requests: u64,
    pub(super) refill: Option<RefillForm>,
    pub(super) remaining: u64,
    pub(super) refills_at: u64,
    pub(super) keys: u32,
    pub(super) revision: u64,
}

/// New variants go to the end: the encoding counts them.
#[derive(Serialize, Deserialize)]
pub(super) enum RefillForm {
    Daily,
    Monthly,
}

impl Stored for QuotaRecord {
    type Form = QuotaForm;

    fn to_form(&self) -> QuotaForm {
        QuotaForm {
            requests: self.quota.requests,
            refill: self.quota.refill.map(|refill| match refill {
                Refill::Daily => RefillForm::Daily,
                Refill::Monthly => RefillForm::Monthly,
            }),
            remaining: self.remaining,
            refills_at: self.refills_at.unix_ms(),
            keys: self.keys,
            revision: self.revision,
        }
    }

    fn from_form(form: QuotaForm) -> Option<Self> {
        let quota = Quota {
            requests: form.requests,
            refill: form.refill.map(|refill| match refill {
                RefillForm::Daily => Refill::Daily,
                RefillForm::Monthly => Refill::Monthly,
            }),
        };
        quota.validate().ok()?;
        Some(Self {
            quota,
            remaining: form.remaining,
            refills_at: instant(form.refills_at)?,
            keys: form.keys,
            revision: form.revision,
        })
    }
}
