//! Pages on which people manage the API keys of [gatekey](https://docs.rs/gatekey): the
//! customers of a server theirs, its operators all.
//!
//! Two routers for a host that uses axum. The pages are HTML that the server makes; each
//! form works without script. Everything that they load is inside the binary.
//!
//! | router | for | who asks is known by |
//! |---|---|---|
//! | [`Console`] | the operators | the host, which sets an [`Operator`](gatekey_admin::Operator), or an admin key |
//! | [`SelfService`] | the customers of the host | the host, which sets a [`Member`] |
//!
//! docs/CONSOLE.md in the repository shows the pages, how to mount and to theme them, and
//! what they defend.

mod assets;
mod chart;
mod desk;
mod facts;
mod fields;
mod format;
mod look;
mod member;
mod number;
mod operator;
mod reply;
mod self_service;
mod site;
mod texts;
#[allow(unused_qualifications, reason = "askama writes them")]
mod view;

#[cfg(test)]
mod tests;

/// The page of the guide, whose snippets are compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/CONSOLE.md")]
mod page {}

pub use look::{Framed, Look};
pub use member::{Ceiling, Member};
pub use operator::Console;
pub use self_service::{SelfService, ShortLived};
pub use texts::{Texts, TextsError};
