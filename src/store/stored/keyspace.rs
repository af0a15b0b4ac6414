//! `keyspaces`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::keyspace::{KeysPerOwner, Keyspace, PermissionName};
use crate::model::limit::Limit;
use crate::model::plan::Plan;
use crate::store::stored::instant;
use crate::store::tables::Stored;

#[derive(Serialize, Deserialize)]
pub(crate) struct KeyspaceForm {
    pub(super) id: u32,
    pub(super) revision: u64,
    pub(super) prefix: String,
    pub(super) description: String,
    pub(super) permissions: Vec<PermissionForm>,
    pub(super) keys_per_owner: KeysPerOwnerForm,
    pub(super) default_lifetime: Option<Duration>,
    pub(super) max_lifetime: Option<Duration>,
    pub(super) plans: Vec<PlanForm>,
    pub(super) default_plan: Option<String>,
    pub(super) created_at: u64,
    pub(super) updated_at: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct PermissionForm {
    pub(super) name: String,
    pub(super) retired: bool,
}

/// New variants go to the end: the encoding counts them.
#[derive(Serialize, Deserialize)]
pub(super) enum KeysPerOwnerForm {
    SingleSuperseding,
    SingleRefusing,
    Many { cap: Option<u32> },
}

#[derive(Serialize, Deserialize)]
pub(super) struct PlanForm {
    pub(super) name: String,
    pub(super) limits: Vec<LimitForm>,
    pub(super) shared_by_owner: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct LimitForm {
    pub(super) requests: u32,
    pub(super) window_s: u32,
}

impl Stored for Keyspace {
    type Form = KeyspaceForm;

    fn to_form(&self) -> KeyspaceForm {
        let permission = |known: &PermissionName| PermissionForm {
            name: known.name.clone(),
            retired: known.retired,
        };
        KeyspaceForm {
            id: self.id,
            revision: self.revision,
            prefix: self.prefix.as_str().to_owned(),
            description: self.description.clone(),
            permissions: self.permissions.iter().map(permission).collect(),
            keys_per_owner: match self.keys_per_owner {
                KeysPerOwner::SingleSuperseding => KeysPerOwnerForm::SingleSuperseding,
                KeysPerOwner::SingleRefusing => KeysPerOwnerForm::SingleRefusing,
                KeysPerOwner::Many { cap } => KeysPerOwnerForm::Many { cap },
            },
            default_lifetime: self.default_lifetime,
            max_lifetime: self.max_lifetime,
            plans: self.plans.iter().map(PlanForm::of).collect(),
            default_plan: self.default_plan.clone(),
            created_at: self.created_at.unix_ms(),
            updated_at: self.updated_at.unix_ms(),
        }
    }

    /// What makes the types is checked here. What a keyspace may be is the rule of the
    /// change that writes it: a rule that becomes stricter must not close a store.
    fn from_form(form: KeyspaceForm) -> Option<Self> {
        let permission = |known: PermissionForm| PermissionName {
            name: known.name,
            retired: known.retired,
        };
        let plans: Option<_> = form.plans.into_iter().map(PlanForm::read).collect();
        Some(Self {
            id: form.id,
            revision: form.revision,
            prefix: form.prefix.parse().ok()?,
            description: form.description,
            permissions: form.permissions.into_iter().map(permission).collect(),
            keys_per_owner: match form.keys_per_owner {
                KeysPerOwnerForm::SingleSuperseding => KeysPerOwner::SingleSuperseding,
                KeysPerOwnerForm::SingleRefusing => KeysPerOwner::SingleRefusing,
                KeysPerOwnerForm::Many { cap } => KeysPerOwner::Many { cap },
            },
            default_lifetime: form.default_lifetime,
            max_lifetime: form.max_lifetime,
            plans: plans?,
            default_plan: form.default_plan,
            created_at: instant(form.created_at)?,
            updated_at: instant(form.updated_at)?,
        })
    }
}

impl PlanForm {
    fn of(plan: &Plan) -> Self {
        let limit = |limit: &Limit| LimitForm {
            requests: limit.requests(),
            window_s: limit.window_s(),
        };
        Self {
            name: plan.name.clone(),
            limits: plan.limits.iter().map(limit).collect(),
            shared_by_owner: plan.shared_by_owner,
        }
    }

    fn read(self) -> Option<Plan> {
        let limit = |form: LimitForm| {
            let window = Duration::from_secs(form.window_s.into());
            Limit::new(form.requests, window).ok()
        };
        let limits: Option<_> = self.limits.into_iter().map(limit).collect();
        Some(Plan {
            name: self.name,
            limits: limits?,
            shared_by_owner: self.shared_by_owner,
        })
    }
}
