//! What an audit trail says that this crate took away.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;

use gatekey::{AuditEvent, Engine, Invalid, Result, verify_audit_export};

use crate::EXTENSION;

/// What was taken away by the end of a trail.
#[derive(Default)]
pub(crate) struct Taken {
    /// Clients, and whether they are disabled at the end.
    pub(crate) clients: BTreeMap<String, bool>,
    /// Authorizations that were revoked.
    pub(crate) authorizations: BTreeSet<String>,
    /// When authorizations got their newest refresh token: older ones are good no more.
    pub(crate) refreshed: BTreeMap<String, u64>,
    /// Signing keys that were revoked.
    pub(crate) signing_keys: BTreeSet<String>,
}

impl Taken {
    /// Reads exports of a store's audit trail, in their order, and verifies them with the
    /// store's key.
    pub(crate) fn read<R: BufRead>(
        engine: &Engine,
        exports: impl IntoIterator<Item = R>,
    ) -> Result<Self> {
        let key = engine.audit_key();
        let mut taken = Self::default();
        let mut reached: Option<u64> = None;
        for export in exports {
            let span = verify_audit_export(export, &key, |entry| {
                // Two exports may overlap.
                if reached.is_none_or(|reached| entry.seq > reached) {
                    taken.follow(entry.at.unix_ms(), entry.event);
                }
                Ok(())
            })?;
            if let Some(reached) = reached.filter(|reached| span.after.seq > *reached) {
                let why = format!(
                    "it begins after {}, and the one before ends at {reached}",
                    span.after.seq
                );
                let at = span.after.seq.to_string();
                return Err(Invalid::malformed("audit export", &at, why).into());
            }
            reached = reached.max(Some(span.last.seq));
        }
        Ok(taken)
    }

    fn follow(&mut self, at_ms: u64, event: AuditEvent) {
        let AuditEvent::ExtensionChanged {
            extension,
            event,
            subject,
            ..
        } = event
        else {
            return;
        };
        if extension != EXTENSION {
            return;
        }
        match event.as_str() {
            "client_disabled" => drop(self.clients.insert(subject, true)),
            "client_enabled" => drop(self.clients.insert(subject, false)),
            "authorization_revoked" | "token_revoked" | "code_replayed" | "refresh_replayed" => {
                self.authorizations.insert(subject);
            }
            "refreshed" => drop(self.refreshed.insert(subject, at_ms)),
            "signing_key_revoked" => drop(self.signing_keys.insert(subject)),
            _ => {}
        }
    }
}
