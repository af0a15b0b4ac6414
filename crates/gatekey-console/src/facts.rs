//! What pages say of a key: those of customers and those of operators alike.

use gatekey::{Key, Keyspace, LimitStatus, Plan, QuotaLeft, Timestamp};

use crate::format;
use crate::site::Call;
use crate::view::{Blocks, Cell, Facts, Link, Note, Shown};

type Row = (String, Cell);

/// A key, as a page tells of it.
pub(crate) struct Of<'a, W> {
    pub(crate) call: &'a Call<W>,
    pub(crate) key: &'a Key,
    pub(crate) keyspace: &'a Keyspace,
    pub(crate) now: Timestamp,
}

impl<W> Of<'_, W> {
    fn permissions(&self) -> Row {
        let names = self.keyspace.names(self.key.permissions);
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let cell = match names.is_empty() {
            true => Cell::Text(self.call.t("key.no_permissions")),
            false => Cell::Chips(names),
        };
        (self.call.t("key.permissions"), cell)
    }

    fn ends(&self) -> Row {
        let texts = &self.call.site.look.texts;
        let cell = format::expiry(texts, self.key, self.now);
        (self.call.t("key.ends"), cell)
    }

    fn id(&self) -> Row {
        (self.call.t("key.id"), Cell::Code(self.key.id.to_string()))
    }

    /// What each page of a key begins with. `places`: whose it is, and where.
    pub(crate) fn first(&self, places: impl IntoIterator<Item = Row>) -> Vec<Row> {
        let (call, key) = (self.call, self.key);
        let texts = &call.site.look.texts;
        let mut rows = vec![
            (call.t("key.state"), format::state(texts, key.state)),
            self.id(),
        ];
        rows.extend(places);
        rows.push(self.permissions());
        let created = format::time(texts, key.created_at, self.now);
        rows.push((call.t("key.created"), created));
        rows.push(self.ends());
        rows
    }

    /// What it ends with, of what the key has. `at` is the address of a key's page.
    pub(crate) fn last(&self) -> Vec<Row> {
        let (call, key) = (self.call, self.key);
        let mut rows = Vec::new();
        if !key.networks.is_empty() {
            let networks = key.networks.iter().map(ToString::to_string).collect();
            rows.push((call.t("key.networks"), Cell::Chips(networks)));
        }
        if !key.labels.is_empty() {
            let labels = key.labels.iter();
            let labels = labels.map(|(name, value)| format!("{name}={value}"));
            rows.push((call.t("key.labels"), Cell::Chips(labels.collect())));
        }
        if let Some(text) = &key.description {
            rows.push((call.t("key.description"), Cell::Text(text.clone())));
        }
        for (id, name) in [
            (key.successor, "key.successor"),
            (key.predecessor, "key.predecessor"),
        ] {
            if let Some(id) = id {
                let href = call.at(&format!("/keys/{id}"));
                let text = id.to_string();
                rows.push((call.t(name), Cell::Id { href, text }));
            }
        }
        rows
    }

    /// How it was used, and what is left for it.
    pub(crate) fn used(&self, limits: &[LimitStatus], quotas: &[QuotaLeft]) -> Facts {
        let (call, key) = (self.call, self.key);
        let texts = &call.site.look.texts;
        let last = format::used(texts, key, self.now);
        let count = Cell::Number(format::number(key.usage.count));
        let mut rows = vec![
            (call.t("key.last_used"), last),
            (call.t("key.requests"), count),
        ];
        let quotas = quotas.iter();
        rows.extend(quotas.map(|left| format::quota(texts, &key.owner, left)));
        let limits = limits.iter();
        rows.extend(limits.map(|status| format::limit(texts, &key.owner, status)));
        Facts {
            heading: call.t("key.usage"),
            rows,
        }
    }

    /// What a page says of a key whose token it shows.
    fn made(&self) -> Vec<Row> {
        let (call, key) = (self.call, self.key);
        let mut rows = vec![
            (call.t("key.name"), Cell::Text(format::name_of(key))),
            self.id(),
            (call.t("key.owner"), Cell::Text(key.owner.to_string())),
            self.permissions(),
        ];
        if let Some(plan) = &key.plan {
            rows.push((call.t("key.plan"), Cell::Text(plan.clone())));
        }
        rows
    }

    /// A page with the key's token, which is shown this once.
    pub(crate) fn token_page(&self, token: &str, stored: String, note: Option<Note>) -> Blocks {
        let mut rows = self.made();
        rows.push(self.ends());
        self.shown(token, "token.label", stored, rows, note)
    }

    /// A page with a short-lived token that stands for the key.
    pub(crate) fn short_lived_page(&self, token: &str, stored: String, ends: Timestamp) -> Blocks {
        let mut rows = self.made();
        let texts = &self.call.site.look.texts;
        let ends = format::time(texts, ends, self.now);
        rows.push((self.call.t("key.ends"), ends));
        self.shown(token, "short.label", stored, rows, None)
    }

    fn shown(
        &self,
        token: &str,
        label: &str,
        stored: String,
        rows: Vec<Row>,
        note: Option<Note>,
    ) -> Blocks {
        let call = self.call;
        let shown = Shown {
            token: zeroize::Zeroizing::new(token.to_owned()),
            label: call.t(label),
            once: call.t("token.once"),
            copy: call.t("token.copy"),
            copied: call.t("token.copied"),
            by_hand: call.t("token.by_hand"),
            stored: Link::new(stored, call.t("token.stored")),
        };
        let mut blocks = Blocks::new();
        if let Some(note) = note {
            blocks.push(&note);
        }
        blocks
            .with(&shown)
            .with(&Facts {
                heading: call.t("token.facts"),
                rows,
            })
            .with(&Note::new(
                "info",
                call.t("token.keep_title"),
                call.t("token.keep_text"),
            ))
    }
}

/// What a plan gives, for people.
pub(crate) fn plan<W>(call: &Call<W>, plan: &Plan) -> String {
    let mut text = format::limits(&call.site.look.texts, &plan.limits);
    if plan.shared_by_owner {
        text = call.with("plan.limits_shared", &[&text]);
    }
    text
}
