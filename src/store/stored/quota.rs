//! `quotas`.

use serde::{Deserialize, Serialize};

use crate::model::clock::Timestamp;
use crate::model::quota::{BillingDay, Quota, Refill};
use crate::store::codec;
use crate::store::quota::QuotaRecord;
use crate::store::stored::{instant, maybe};
use crate::store::tables::Stored;

/// Each version has the fields of the one before, and another behind them.
#[derive(Serialize, Deserialize)]
pub(crate) struct QuotaForm {
    pub(super) first: QuotaFormV1,
    pub(super) owed: u64,
    pub(super) given_until: Option<u64>,
}

/// Version 1, in which nothing can be owed.
#[derive(Serialize, Deserialize)]
pub(super) struct QuotaFormV1 {
    pub(super) requests: u64,
    pub(super) refill: Option<RefillForm>,
    pub(super) remaining: u64,
    pub(super) refills_at: u64,
    pub(super) keys: u32,
    pub(super) revision: u64,
}

/// Version 2, of whose refill no clock was ahead: with what is owed.
type QuotaFormV2 = (QuotaFormV1, u64);

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
    /// The day.
    MonthlyFrom(u8),
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
            refill: match self.refill {
                None => None,
                Some(refill) => Some(refill.read()?),
            },
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
            Refill::MonthlyFrom(day) => Self::MonthlyFrom(day.get()),
        }
    }

    fn read(self) -> Option<Refill> {
        Some(match self {
            Self::Daily => Refill::Daily,
            Self::Monthly => Refill::Monthly,
            Self::MonthlyFrom(day) => Refill::MonthlyFrom(BillingDay::checked(day)?),
        })
    }
}

impl Stored for QuotaRecord {
    /// 2: what is owed. 3: until when what is left was given.
    const VERSION: u8 = 3;

    type Form = QuotaForm;

    /// The newest where that is needed alone: servers of a fleet need not all know it.
    fn version(&self) -> u8 {
        self.given_until.map_or(2, |_| Self::VERSION)
    }

    fn encode_onto(&self, bytes: &mut Vec<u8>) -> Option<()> {
        let form = self.to_form();
        match form.given_until {
            Some(_) => codec::encode_onto(&form, bytes),
            None => codec::encode_onto::<QuotaFormV2>(&(form.first, form.owed), bytes),
        }
    }

    fn to_form(&self) -> QuotaForm {
        QuotaForm {
            first: QuotaFormV1 {
                requests: self.quota.requests,
                refill: self.quota.refill.map(RefillForm::of),
                remaining: self.remaining,
                refills_at: self.refills_at.unix_ms(),
                keys: self.keys,
                revision: self.revision,
            },
            owed: self.owed,
            given_until: self.given_until.map(Timestamp::unix_ms),
        }
    }

    fn from_form(form: QuotaForm) -> Option<Self> {
        let first = form.first;
        let allowance = AllowanceForm {
            requests: first.requests,
            refill: first.refill,
        };
        Some(Self {
            quota: allowance.read()?,
            remaining: first.remaining,
            owed: form.owed,
            refills_at: instant(first.refills_at)?,
            given_until: maybe(form.given_until, instant)?,
            keys: first.keys,
            revision: first.revision,
        })
    }

    fn decode_older(version: u8, encoded: &[u8]) -> Option<Self> {
        let (first, owed): QuotaFormV2 = match version {
            1 => (codec::decode(encoded)?, 0),
            _ => codec::decode(encoded)?,
        };
        Self::from_form(QuotaForm {
            first,
            owed,
            given_until: None,
        })
    }
}
