//! `keyspaces`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::keyspace::{KeysPerOwner, Keyspace, PermissionName};
use crate::model::level::LevelDefaults;
use crate::model::limit::{Algorithm, Limit};
use crate::model::plan::Plan;
use crate::store::codec;
use crate::store::stored::quota::AllowanceForm;
use crate::store::stored::{instant, maybe};
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
    pub(super) owner_defaults: Vec<LevelForm>,
    pub(super) max_grace: Option<Duration>,
    pub(super) count_retiring: bool,
}

/// Version 1: its limits all slid, its plans did not say whether they replace, levels had no
/// defaults, and nothing was said of graces.
#[derive(Serialize, Deserialize)]
pub(super) struct KeyspaceForm1 {
    pub(super) id: u32,
    pub(super) revision: u64,
    pub(super) prefix: String,
    pub(super) description: String,
    pub(super) permissions: Vec<PermissionForm>,
    pub(super) keys_per_owner: KeysPerOwnerForm,
    pub(super) default_lifetime: Option<Duration>,
    pub(super) max_lifetime: Option<Duration>,
    pub(super) plans: Vec<PlanForm1>,
    pub(super) default_plan: Option<String>,
    pub(super) created_at: u64,
    pub(super) updated_at: u64,
}

/// What the owners of a level have by default.
#[derive(Serialize, Deserialize)]
pub(super) struct LevelForm {
    pub(super) depth: u8,
    pub(super) plan: Option<String>,
    pub(super) quota: Option<AllowanceForm>,
    pub(super) cap: Option<u32>,
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
    pub(super) replaces_levels_above: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct PlanForm1 {
    pub(super) name: String,
    pub(super) limits: Vec<LimitForm1>,
    pub(super) shared_by_owner: bool,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct LimitForm {
    pub(super) requests: u32,
    pub(super) window_s: u32,
    pub(super) algorithm: AlgorithmForm,
    pub(super) capacity: u32,
}

/// New variants go to the end: the encoding counts them.
#[derive(Serialize, Deserialize)]
pub(crate) enum AlgorithmForm {
    Fixed,
    Sliding,
    Bucket,
    FixedForFleet,
    SlidingForFleet,
    BucketForFleet,
}

/// A limit of version 1: all slid.
#[derive(Serialize, Deserialize)]
pub(super) struct LimitForm1 {
    pub(super) requests: u32,
    pub(super) window_s: u32,
}

impl Stored for Keyspace {
    /// 3: a limit may be for the fleet.
    const VERSION: u8 = 3;

    const FORM_SINCE: u8 = 2;

    type Form = KeyspaceForm;

    /// Where none is, version 2 reads it too.
    fn version(&self) -> u8 {
        let mut plans = self.plans.iter();
        match plans.any(|plan| LimitForm::any_for_fleet(Some(&plan.limits))) {
            true => Self::VERSION,
            false => 2,
        }
    }

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
            owner_defaults: self.owner_defaults.iter().map(LevelForm::of).collect(),
            max_grace: self.max_grace,
            count_retiring: self.count_retiring,
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
        let owner_defaults: Option<_> = (form.owner_defaults.into_iter())
            .map(LevelForm::read)
            .collect();
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
            owner_defaults: owner_defaults?,
            max_grace: form.max_grace,
            count_retiring: form.count_retiring,
        })
    }

    fn decode_older(_: u8, encoded: &[u8]) -> Option<Self> {
        let form: KeyspaceForm1 = codec::decode(encoded)?;
        Self::from_form(KeyspaceForm {
            id: form.id,
            revision: form.revision,
            prefix: form.prefix,
            description: form.description,
            permissions: form.permissions,
            keys_per_owner: form.keys_per_owner,
            default_lifetime: form.default_lifetime,
            max_lifetime: form.max_lifetime,
            plans: form.plans.into_iter().map(PlanForm1::renew).collect(),
            default_plan: form.default_plan,
            created_at: form.created_at,
            updated_at: form.updated_at,
            owner_defaults: Vec::new(),
            max_grace: None,
            count_retiring: false,
        })
    }
}

impl LevelForm {
    fn of((depth, defaults): (&usize, &LevelDefaults)) -> Self {
        Self {
            depth: u8::try_from(*depth).unwrap_or(u8::MAX),
            plan: defaults.plan.clone(),
            quota: defaults.quota.map(AllowanceForm::of),
            cap: defaults.cap,
        }
    }

    fn read(self) -> Option<(usize, LevelDefaults)> {
        let defaults = LevelDefaults {
            plan: self.plan,
            quota: maybe(self.quota, AllowanceForm::read)?,
            cap: self.cap,
        };
        Some((usize::from(self.depth), defaults))
    }
}

impl PlanForm {
    fn of(plan: &Plan) -> Self {
        Self {
            name: plan.name.clone(),
            limits: LimitForm::all_of(&plan.limits),
            shared_by_owner: plan.shared_by_owner,
            replaces_levels_above: plan.replaces_levels_above,
        }
    }

    fn read(self) -> Option<Plan> {
        Some(Plan {
            name: self.name,
            limits: LimitForm::read_all(self.limits)?,
            shared_by_owner: self.shared_by_owner,
            replaces_levels_above: self.replaces_levels_above,
        })
    }
}

impl PlanForm1 {
    fn renew(self) -> PlanForm {
        let renew = |limit: LimitForm1| LimitForm {
            requests: limit.requests,
            window_s: limit.window_s,
            algorithm: AlgorithmForm::Sliding,
            capacity: limit.requests,
        };
        PlanForm {
            name: self.name,
            limits: self.limits.into_iter().map(renew).collect(),
            shared_by_owner: self.shared_by_owner,
            replaces_levels_above: false,
        }
    }
}

impl LimitForm {
    /// Whether any of a list's limits is for the fleet.
    pub(super) fn any_for_fleet(limits: Option<&[Limit]>) -> bool {
        limits.is_some_and(|limits| limits.iter().any(|limit| limit.is_for_fleet()))
    }

    pub(super) fn all_of(limits: &[Limit]) -> Vec<Self> {
        let of = |limit: &Limit| Self {
            requests: limit.requests(),
            window_s: limit.window_s(),
            algorithm: match (limit.algorithm(), limit.is_for_fleet()) {
                (Algorithm::Fixed, false) => AlgorithmForm::Fixed,
                (Algorithm::Sliding, false) => AlgorithmForm::Sliding,
                (Algorithm::Bucket, false) => AlgorithmForm::Bucket,
                (Algorithm::Fixed, true) => AlgorithmForm::FixedForFleet,
                (Algorithm::Sliding, true) => AlgorithmForm::SlidingForFleet,
                (Algorithm::Bucket, true) => AlgorithmForm::BucketForFleet,
            },
            capacity: limit.capacity(),
        };
        limits.iter().map(of).collect()
    }

    pub(super) fn read_all(forms: Vec<Self>) -> Option<Vec<Limit>> {
        let read = |form: Self| {
            let (algorithm, is_for_fleet) = match form.algorithm {
                AlgorithmForm::Fixed => (Algorithm::Fixed, false),
                AlgorithmForm::Sliding => (Algorithm::Sliding, false),
                AlgorithmForm::Bucket => (Algorithm::Bucket, false),
                AlgorithmForm::FixedForFleet => (Algorithm::Fixed, true),
                AlgorithmForm::SlidingForFleet => (Algorithm::Sliding, true),
                AlgorithmForm::BucketForFleet => (Algorithm::Bucket, true),
            };
            let limit = Limit::stored(form.requests, form.window_s, algorithm, form.capacity)?;
            Some(match is_for_fleet {
                true => limit.for_fleet(),
                false => limit,
            })
        };
        forms.into_iter().map(read).collect()
    }
}
