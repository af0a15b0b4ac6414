//! `owners`, `owner_settings` and `owner_quotas`.

use serde::{Deserialize, Serialize};

use crate::model::owner_settings::Setting;
use crate::store::owner_settings::{OwnerQuota, OwnerSettingsRecord};
use crate::store::stored::keyspace::LimitForm;
use crate::store::stored::quota::AllowanceForm;
use crate::store::stored::{instant, maybe};
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

#[derive(Serialize, Deserialize)]
pub(crate) struct OwnerSettingsForm {
    pub(super) plan: u16,
    pub(super) limits: Option<Vec<LimitForm>>,
    pub(super) quota: SettingForm<AllowanceForm>,
    pub(super) cap: SettingForm<u32>,
    pub(super) revision: u64,
    pub(super) updated_at: u64,
    pub(super) updated_by: Option<String>,
}

/// The first two are encoded as those of an `Option`, which version 1 had.
#[derive(Serialize, Deserialize)]
pub(crate) enum SettingForm<T> {
    Default,
    Own(T),
    Unlimited,
}

impl<T> SettingForm<T> {
    fn of(setting: Setting<T>) -> Self {
        match setting {
            Setting::Default => Self::Default,
            Setting::Unlimited => Self::Unlimited,
            Setting::Own(own) => Self::Own(own),
        }
    }

    fn read<U>(self, read: impl FnOnce(T) -> Option<U>) -> Option<Setting<U>> {
        Some(match self {
            Self::Default => Setting::Default,
            Self::Unlimited => Setting::Unlimited,
            Self::Own(own) => Setting::Own(read(own)?),
        })
    }
}

impl Stored for OwnerSettingsRecord {
    type Form = OwnerSettingsForm;

    /// 3: a limit may be for the fleet. 2: a quota or a cap may be unlimited.
    const VERSION: u8 = 3;

    const FORM_SINCE: u8 = 1;

    /// The oldest that reads it.
    fn version(&self) -> u8 {
        match (self.quota, self.cap) {
            _ if LimitForm::any_for_fleet(self.limits.as_deref()) => Self::VERSION,
            (Setting::Unlimited, _) | (_, Setting::Unlimited) => 2,
            _ => 1,
        }
    }

    fn to_form(&self) -> OwnerSettingsForm {
        OwnerSettingsForm {
            plan: self.plan,
            limits: self.limits.as_deref().map(LimitForm::all_of),
            quota: SettingForm::of(self.quota.map(AllowanceForm::of)),
            cap: SettingForm::of(self.cap),
            revision: self.revision,
            updated_at: self.updated_at.unix_ms(),
            updated_by: self.updated_by.clone(),
        }
    }

    fn from_form(form: OwnerSettingsForm) -> Option<Self> {
        Some(Self {
            plan: form.plan,
            limits: maybe(form.limits, LimitForm::read_all)?,
            quota: form.quota.read(AllowanceForm::read)?,
            cap: form.cap.read(Some)?,
            revision: form.revision,
            updated_at: instant(form.updated_at)?,
            updated_by: form.updated_by,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct OwnerQuotaForm {
    number: u64,
}

impl Stored for OwnerQuota {
    type Form = OwnerQuotaForm;

    fn to_form(&self) -> OwnerQuotaForm {
        OwnerQuotaForm {
            number: self.number,
        }
    }

    fn from_form(form: OwnerQuotaForm) -> Option<Self> {
        Some(Self {
            number: form.number,
        })
    }
}
