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

/// A quota by itself, without what is left of it.
#[derive(Serialize, Deserialize)]
pub(crate) struct AllowanceForm {
    pub(super) requests: u64,
    pub(super) refill: Option<RefillForm>,
}

/// New variants go to the end: the encoding counts them.
#[derive(Serialize, Deserialize)]
pub(super) enum RefillForm {
    Daily,
    Monthly,
}

impl AllowanceForm {
    pub(super) fn of(quota: Quota) -> Self {
        Self {
            requests: quota.requests,
            refill: quota.refill.map(RefillForm::of),
        }
    }

    pub(super) fn read(self) -> Option<Quota> {
        let quota = Quota {
            requests: self.requests,
            refill: self.refill.map(|refill| match refill {
                RefillForm::Daily => Refill::Daily,
                RefillForm::Monthly => Refill::Monthly,
            }),
        };
        quota.validate().ok()?;
        Some(quota)
    }
}

impl RefillForm {
    fn of(refill: Refill) -> Self {
        match refill {
            Refill::Daily => Self::Daily,
            Refill::Monthly => Self::Monthly,
        }
    }
}

impl Stored for QuotaRecord {
    type Form = QuotaForm;

    fn to_form(&self) -> QuotaForm {
        QuotaForm {
            requests: self.quota.requests,
            refill: self.quota.refill.map(RefillForm::of),
            remaining: self.remaining,
            refills_at: self.refills_at.unix_ms(),
            keys: self.keys,
            revision: self.revision,
        }
    }

    fn from_form(form: QuotaForm) -> Option<Self> {
        let allowance = AllowanceForm {
            requests: form.requests,
            refill: form.refill,
        };
        Some(Self {
            quota: allowance.read()?,
            remaining: form.remaining,
            refills_at: instant(form.refills_at)?,
            keys: form.keys,
            revision: form.revision,
        })
    }
}
