//! What a person should look at.

use crate::model::clock::Timestamp;
use crate::model::id::{KeyId, Prefix};
use crate::model::network::Network;
use crate::model::owner::OwnerPath;

/// Something about a key that a person should look at, from
/// [`Engine::hints`](crate::Engine::hints). It is no verdict: nothing is refused for it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Hint {
    /// Which rule is true of the key.
    pub rule: HintRule,
    /// The key.
    pub key: KeyId,
    /// Its keyspace.
    pub keyspace: Prefix,
    /// Its owner.
    pub owner: OwnerPath,
    /// Since when: see the rule.
    pub since: Option<Timestamp>,
    /// How often: see the rule.
    pub count: u64,
    /// How often it is usual; 0 where the rule does not compare.
    pub usual: u64,
    /// The network that [`HintRule::NewNetwork`] is about.
    pub network: Option<Network>,
}

/// A rule by which a [`Hint`] is given. Days are those of UTC; recently is on the present
/// day or the one before.
///
/// ```
/// use gatekey::HintRule;
///
/// for rule in HintRule::ALL {
///     println!("{}: {}", rule.code(), rule.text());
/// }
/// assert_eq!(HintRule::RevokedKeyTried.code(), "revoked_key_tried");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum HintRule {
    /// A revoked key was denied recently. `since`: its revocation; `count`: how often.
    RevokedKeyTried,
    /// A key was granted recently, and in none of the 30 days before. `since`: when it was
    /// last granted before, if that is known; `count`: how often it was granted recently.
    DormantKeyUsed,
    /// A key was granted on one of these days 5 times as often as on the median of the days
    /// on which it was used of the 28 before, of which there are at least 7; and at least
    /// 100 times. `since`: that day; `count` and `usual`: how often, and the median.
    UnusualRate,
    /// A key that was rotated was granted recently, and its grace ends within 3 days.
    /// `since`: when it ends; `count`: how often it was granted.
    OldKeyInUse,
    /// A good key was issued over 90 days ago, and not granted for 90 days. `since`: when it
    /// was last granted, or `None` if never; `count`: how often it ever was.
    Unused,
    /// A key was recently granted from a network for the first time, and its networks had
    /// been noted for 7 days by then: see
    /// [`Options::note_networks`](crate::Options::note_networks). Each such network has a hint.
    /// `network`: which; `since`: its first use; `count`: how many such networks the key
    /// has; `usual`: how many others.
    NewNetwork,
}

impl HintRule {
    /// All rules that this version knows.
    pub const ALL: [Self; 6] = [
        Self::RevokedKeyTried,
        Self::DormantKeyUsed,
        Self::UnusualRate,
        Self::OldKeyInUse,
        Self::Unused,
        Self::NewNetwork,
    ];

    /// A stable name.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::RevokedKeyTried => "revoked_key_tried",
            Self::DormantKeyUsed => "dormant_key_used",
            Self::UnusualRate => "unusual_rate",
            Self::OldKeyInUse => "old_key_in_use",
            Self::Unused => "unused",
            Self::NewNetwork => "new_network",
        }
    }

    /// The rule, as a sentence for a person.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::RevokedKeyTried => "revoked, and still tried today or yesterday",
            Self::DormantKeyUsed => "used today or yesterday, after 30 days or more without a use",
            Self::UnusualRate => {
                "used 5 times as often as on the median day of the last 28, and 100 times or more"
            }
            Self::OldKeyInUse => {
                "rotated, still used today or yesterday, and its grace ends within 3 days"
            }
            Self::Unused => "issued over 90 days ago, and not used for 90 days",
            Self::NewNetwork => "used today or yesterday from a network that is new for it",
        }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for HintRule {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

/// A page of hints, and from where to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HintPage {
    /// The hints about the keys of this page, in the order of the keys.
    pub hints: Vec<Hint>,
    /// From where to go on; `None`: these were the last keys.
    pub next: Option<crate::model::filter::Cursor>,
}
