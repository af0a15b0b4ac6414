//! Who a customer is, and what they may have.

use std::time::Duration;

use gatekey::{OwnerPath, Prefix};

/// A customer of the host's, and the most that they may do on the pages of self-service.
///
/// The host makes one for each request, from its own log-in, and puts it into the
/// extensions of the request.
///
/// ```
/// use std::time::Duration;
/// use gatekey_console::{Ceiling, Member};
///
/// const DAY: Duration = Duration::from_secs(86_400);
/// let keys = Ceiling::new("acme_live".parse()?)
///     .permission("read", "Read data")
///     .permission("write", "Create and change data")
///     .keys_max(10)
///     .lifetimes([30 * DAY, 90 * DAY]);
/// let member = Member::new("acme".parse()?, "alice@acme.example").may(keys);
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Member {
    pub(crate) owner: OwnerPath,
    pub(crate) actor: String,
    pub(crate) ceilings: Vec<Ceiling>,
}

impl Member {
    /// A customer who manages the keys of an owner and of those below it. The audit trail
    /// has the changes under `actor`.
    pub fn new(owner: OwnerPath, actor: impl Into<String>) -> Self {
        Self {
            owner,
            actor: actor.into(),
            ceilings: Vec::new(),
        }
    }

    /// Adds a keyspace, and what the customer may have in it. A keyspace that is not
    /// added does not exist for the customer.
    pub fn may(mut self, ceiling: Ceiling) -> Self {
        self.ceilings.retain(|of| of.keyspace != ceiling.keyspace);
        self.ceilings.push(ceiling);
        self
    }
}

/// A purpose that a key may have: its permissions come with it.
#[derive(Debug, Clone)]
pub(crate) struct Purpose {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) permissions: Vec<String>,
}

/// The most that a customer may have in a keyspace.
#[derive(Debug, Clone)]
#[must_use]
pub struct Ceiling {
    pub(crate) keyspace: Prefix,
    pub(crate) title: String,
    pub(crate) permissions: Vec<(String, String)>,
    pub(crate) purposes: Vec<Purpose>,
    pub(crate) keys_max: Option<u64>,
    pub(crate) lifetimes: Vec<Duration>,
    pub(crate) may_never_end: bool,
    pub(crate) plans: Vec<String>,
    pub(crate) graces: Vec<Duration>,
    pub(crate) labels: Vec<String>,
    pub(crate) levels: Vec<String>,
}

/// Unless the host says otherwise: at once, an hour, a day, a week.
const GRACES: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_secs(3_600),
    Duration::from_secs(86_400),
    Duration::from_secs(7 * 86_400),
];

impl Ceiling {
    /// A keyspace in which the customer may have keys without any permission, that live
    /// as long as the keyspace says.
    pub fn new(keyspace: Prefix) -> Self {
        Self {
            keyspace,
            title: String::new(),
            permissions: Vec::new(),
            purposes: Vec::new(),
            keys_max: None,
            lifetimes: Vec::new(),
            may_never_end: false,
            plans: Vec::new(),
            graces: GRACES.to_vec(),
            labels: Vec::new(),
            levels: Vec::new(),
        }
    }

    /// What the pages call the keyspace; its description if not called.
    pub fn title(mut self, text: impl Into<String>) -> Self {
        self.title = text.into();
        self
    }

    /// Adds a permission that keys may have, with what it is good for, in words. A key that
    /// has another permission besides is out of the customer's reach.
    pub fn permission(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.permissions.push((name.into(), text.into()));
        self
    }

    /// Adds a purpose: the customer picks one instead of permissions, and the key gets those
    /// of the purpose, and a label `purpose`. Permissions that are not of the ceiling are
    /// not given.
    pub fn purpose<N: Into<String>>(
        mut self,
        name: impl Into<String>,
        text: impl Into<String>,
        permissions: impl IntoIterator<Item = N>,
    ) -> Self {
        self.purposes.push(Purpose {
            name: name.into(),
            text: text.into(),
            permissions: permissions.into_iter().map(Into::into).collect(),
        });
        self
    }

    /// The most keys that are not over, at the customer's owner and below it; any number
    /// if not called. The keyspace's own caps hold besides, and against other doors.
    pub fn keys_max(mut self, keys: u64) -> Self {
        self.keys_max = Some(keys);
        self
    }

    /// The lifetimes that the customer may choose from; the keyspace's default if not
    /// called.
    pub fn lifetimes(mut self, lifetimes: impl IntoIterator<Item = Duration>) -> Self {
        self.lifetimes = lifetimes.into_iter().collect();
        self
    }

    /// Lets the customer have keys that never expire.
    pub fn may_never_expire(mut self) -> Self {
        self.may_never_end = true;
        self
    }

    /// The plans that the customer may choose from; the keyspace's default if not called.
    pub fn plans<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.plans = names.into_iter().map(Into::into).collect();
        self
    }

    /// How long the old key may work on beside the one that replaces it: at once over, an
    /// hour, a day or a week, if not called. Zero is over at once.
    pub fn graces(mut self, graces: impl IntoIterator<Item = Duration>) -> Self {
        self.graces = graces.into_iter().collect();
        self
    }

    /// The labels that the customer may set, by name.
    pub fn labels<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.labels = names.into_iter().map(Into::into).collect();
        self
    }

    /// Has keys held below the customer's owner: the names of the levels, as `Project` and
    /// `Service account`, each of which the customer fills in.
    pub fn levels<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.levels = names.into_iter().map(Into::into).collect();
        self
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.permissions.iter().map(|(name, _)| name.as_str())
    }
}
