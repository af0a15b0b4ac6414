//! Five products, each with another idea of what a customer's keys are.

use std::time::Duration;

use gatekey::{Error, Limit, NewKeyspace, OwnerPath, Plan, Quota, Refill};
use gatekey_console::{Ceiling, Member};

const DAY: Duration = Duration::from_secs(86_400);

/// A product.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// Where its pages are: `/PATH/keys`.
    pub path: &'static str,
    /// Its name.
    pub brand: &'static str,
    /// What is peculiar to it.
    pub text: &'static str,
    /// Its own colours.
    pub style: &'static str,
}

/// The five.
pub const PRESETS: [Preset; 5] = [
    Preset {
        path: "aurorax",
        brand: "AuroraX",
        text: "one key at a time; requesting a new one ends the old one",
        style: "",
    },
    Preset {
        path: "pixxel",
        brand: "Pixxel",
        text: "keys of service accounts below the projects of an organisation",
        style: ":root { --gk-accent: #7a2f8f; --gk-accent-text: #fff }",
    },
    Preset {
        path: "tiered",
        brand: "Example API",
        text: "named keys that expire, each in a tier",
        style: "",
    },
    Preset {
        path: "one-codex",
        brand: "One Codex",
        text: "one key, regenerated from the settings; short-lived JWTs beside it",
        style: "",
    },
    Preset {
        path: "ai",
        brand: "AI platform",
        text: "keys by purpose, with permissions and a rotation in four steps",
        style: "",
    },
];

/// The keyspaces of the five.
pub fn keyspaces() -> Result<Vec<NewKeyspace>, Error> {
    let tier = |name: &str, second, hour| {
        Plan::new(name)
            .limit(Limit::per_second(second))
            .limit(Limit::per_hour(hour).fixed())
    };
    Ok(vec![
        NewKeyspace::new("aurorax")?
            .description("AuroraX")
            .permissions(["read", "write"])
            .single_active(),
        NewKeyspace::new("pixxel")?
            .description("Pixxel")
            .permissions(["read", "order"]),
        NewKeyspace::new("tiered")?
            .description("Example API")
            .permissions(["read", "write"])
            .plan(tier("free", 50, 1_000))
            .plan(tier("pro", 200, 10_000))
            .plan(Plan::new("enterprise").limit(Limit::per_second(1_000)))
            .default_plan("free"),
        NewKeyspace::new("onecodex")?
            .description("One Codex")
            .permissions(["read", "write"])
            .single_active(),
        NewKeyspace::new("ai_live")?
            .description("AI platform")
            .permissions(["read", "write", "admin", "webhook"])
            .max_lifetime(90 * DAY)
            .max_grace(7 * DAY)
            .owner_defaults(
                1,
                gatekey::LevelDefaults::new()
                    .quota(Quota::new(1_000_000).refilled(Refill::Monthly)),
            ),
    ])
}

/// What a customer of a product may do.
pub fn member(path: &str, owner: OwnerPath) -> Result<Member, Error> {
    let ceiling = match path {
        "aurorax" => Ceiling::new("aurorax".parse()?)
            .title("Your API key")
            .permission("read", "Search and read")
            .permission("write", "Change the data that you own")
            .may_never_expire(),
        "pixxel" => Ceiling::new("pixxel".parse()?)
            .title("Service accounts")
            .levels(["Project", "Service account"])
            .permission("read", "Search and read")
            .permission("order", "Order images")
            .lifetimes([90 * DAY, 365 * DAY])
            .labels(["environment"])
            .keys_max(50),
        "tiered" => Ceiling::new("tiered".parse()?)
            .title("API keys")
            .permission("read", "Read users")
            .permission("write", "Create and change users")
            .lifetimes([30 * DAY, 90 * DAY, 365 * DAY])
            .plans(["free", "pro"])
            .keys_max(10),
        "one-codex" => Ceiling::new("onecodex".parse()?)
            .title("Your API key")
            .permission("read", "Read samples and analyses")
            .permission("write", "Upload samples")
            .may_never_expire(),
        _ => Ceiling::new("ai_live".parse()?)
            .title("API keys")
            .permission("read", "Can read data and generate content")
            .permission("write", "Can create and update resources")
            .permission("webhook", "Can manage webhooks")
            .purpose(
                "Development",
                "For testing and development.",
                ["read", "write"],
            )
            .purpose(
                "Production",
                "For live applications.",
                ["read", "write", "webhook"],
            )
            .purpose("Read-only", "For monitoring and analytics.", ["read"])
            .lifetimes([30 * DAY, 90 * DAY])
            .keys_max(20),
    };
    let actor = format!("customer {owner}");
    // An actor's name has room for less than an owner's.
    let actor = actor.chars().take(100).collect::<String>();
    Ok(Member::new(owner, actor).may(ceiling))
}
