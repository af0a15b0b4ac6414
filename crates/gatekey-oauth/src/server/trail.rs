//! After a restore, taking away again what was taken away since the backup.

use std::io::BufRead;

use gatekey::Result;

use crate::server::AuthorizationServer;
use crate::server::clients::set_disabled;
use crate::server::records::readable;
use crate::server::revocation::revoke;
use crate::server::token::find;
use crate::trail::Taken;

/// How many authorizations one transaction looks at.
const PER_TRANSACTION: usize = 256;

/// What [`AuthorizationServer::apply_trail`] took away that was still there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrailApplied {
    /// How many clients were disabled.
    pub clients_disabled: u64,
    /// How many authorizations were revoked.
    pub authorizations_revoked: u64,
    /// How many signing keys were removed: of a server with JWTs.
    pub signing_keys_revoked: u64,
    /// How many clients and authorizations that were to be taken away cannot be read. They are
    /// good for nothing until a repair: call again after it.
    pub unread: u64,
}

impl AuthorizationServer {
    /// After a [`Restore`](gatekey::Restore), takes away again what was taken away since the
    /// backup, by the exports of the audit trail that the restore was given, in their order.
    ///
    /// - A client that is disabled at the end of the trail is disabled.
    /// - An authorization that was revoked is revoked, by whomever: a person, its client, an
    ///   operator, a code or a refresh token that came again.
    /// - An authorization that was refreshed is revoked: its client has a refresh token that the
    ///   backup does not know, and the one that is good by the backup was replaced. The person
    ///   agrees anew.
    /// - A signing key that was revoked is removed, if the server has JWTs.
    ///
    /// Nothing is given: neither a client that was enabled, nor an authorization that was made.
    /// Call it before the server answers requests. Calling it again changes nothing more.
    ///
    /// The exports are verified with the store's key, before anything is changed, and read line
    /// by line. Durable before it returns; one transaction for each client and each 256
    /// authorizations.
    ///
    /// # Errors
    /// Those of [`verify_audit_export`](gatekey::verify_audit_export), and
    /// [`Error::Invalid`](gatekey::Error::Invalid) for an export that begins after the end of
    /// those before it: then nothing was changed. See [`Engine`](gatekey::Engine) for others.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKeyspace};
    /// # use gatekey_oauth::server::{AuthorizationServer, NewClient, ServerOptions};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let at = |name: &str| dir.path().join(name);
    /// use gatekey::{Options, Restore};
    ///
    /// # let engine = Engine::create(at("keys.redb"))?;
    /// # let keyspace = engine.create_keyspace(NewKeyspace::new("acme_at")?.permissions(["read"]))?;
    /// # let options = || ServerOptions::new("https://api.example.com");
    /// # let server = AuthorizationServer::open(&engine, options())?;
    /// # let new = NewClient::public("App", keyspace.prefix, ["read"]);
    /// # let id = server.register(&new.redirect_uri("https://app.example.com/cb"))?.client.id;
    /// let backup = engine.backup(at("monday.redb"))?;
    /// server.disable_client(&id)?;
    /// let mut trail = Vec::new();
    /// engine.export_audit(backup.audit_seq + 1, &mut trail)?;
    /// engine.close()?; // and its file is lost
    ///
    /// let restore = Restore::new(at("monday.redb"), Options::new()).trail(trail.as_slice());
    /// restore.to(at("restored.redb"))?;
    /// let engine = Engine::open(at("restored.redb"))?;
    /// let server = AuthorizationServer::open(&engine, options())?;
    /// assert_eq!(server.apply_trail([trail.as_slice()])?.clients_disabled, 1);
    /// assert!(server.client(&id)?.is_some_and(|client| client.disabled));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn apply_trail<R: BufRead>(
        &self,
        exports: impl IntoIterator<Item = R>,
    ) -> Result<TrailApplied> {
        let extension = &self.shared.extension;
        let taken = Taken::read(extension.engine(), exports)?;
        let mut applied = TrailApplied::default();
        for (client, _) in taken.clients.iter().filter(|(_, disabled)| **disabled) {
            match readable(self.client(client))? {
                Some(Some(found)) if !found.disabled => {
                    set_disabled(extension, client, true)?;
                    applied.clients_disabled += 1;
                }
                Some(_) => {}
                None => applied.unread += 1,
            }
        }
        let revoked = taken.authorizations.iter().map(|id| (id.clone(), None));
        let refreshed = taken.refreshed.iter();
        let refreshed = refreshed.map(|(id, at_ms)| (id.clone(), Some(*at_ms)));
        let ids: Vec<(String, Option<u64>)> = revoked.chain(refreshed).collect();
        for some in ids.chunks(PER_TRANSACTION) {
            let some = some.to_vec();
            let (revoked, unread) = extension.change(move |tx| {
                let (mut revoked, mut unread) = (0, 0);
                for (id, refreshed_at_ms) in &some {
                    let Some(found) = readable(find(tx, id))? else {
                        unread += 1;
                        continue;
                    };
                    let Some(mut found) = found.filter(|it| it.revoked_at_ms.is_none()) else {
                        continue;
                    };
                    // It has the refresh token that was made then, or a newer one.
                    if refreshed_at_ms.is_some_and(|at_ms| found.head.made_at_ms >= at_ms) {
                        continue;
                    }
                    revoke(tx, id, &mut found, "authorization_revoked")?;
                    revoked += 1;
                }
                Ok((revoked, unread))
            })?;
            applied.authorizations_revoked += revoked;
            applied.unread += unread;
        }
        if let Some(jwts) = &self.shared.jwts {
            applied.signing_keys_revoked = jwts.revoke_again(&taken)?;
        }
        Ok(applied)
    }
}
