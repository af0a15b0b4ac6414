//! `usage_hours`, `usage_days`, `usage_owners`, and how many bytes they have.

use serde::{Deserialize, Serialize};

use crate::model::outcome::Outcome;
use crate::store::tables::Stored;
use crate::store::usage_history::{HistoryRow, HistoryState};

/// What verifications came to, by the number of the outcome, in their order.
#[derive(Serialize, Deserialize)]
pub(crate) struct HistoryRowForm {
    pub(super) counts: Vec<(u8, u64)>,
}

impl Stored for HistoryRow {
    type Form = HistoryRowForm;

    fn to_form(&self) -> HistoryRowForm {
        HistoryRowForm {
            counts: (self.0.some())
                .map(|(outcome, count)| (outcome.number(), count))
                .collect(),
        }
    }

    fn from_form(form: HistoryRowForm) -> Option<Self> {
        let counts = form.counts.into_iter();
        counts
            .map(|(number, count)| Some((Outcome::numbered(number)?, count)))
            .collect::<Option<_>>()
            .map(Self)
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct HistoryStateForm {
    hours: u64,
    days: u64,
    owners: u64,
    skipped: u64,
}

impl Stored for HistoryState {
    type Form = HistoryStateForm;

    fn to_form(&self) -> HistoryStateForm {
        HistoryStateForm {
            hours: self.hours,
            days: self.days,
            owners: self.owners,
            skipped: self.skipped,
        }
    }

    fn from_form(form: HistoryStateForm) -> Option<Self> {
        Some(Self {
            hours: form.hours,
            days: form.days,
            owners: form.owners,
            skipped: form.skipped,
        })
    }
}
