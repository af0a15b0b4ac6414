//! JWTs that stand for keys: made from a key, verified with the key looked at live.

use std::fmt;
use std::io::BufRead;
use std::sync::Arc;
use std::time::Duration;

use gatekey::extension::Extension;
use gatekey::{
    Denial, Engine, Error, Grant, Invalid, Key, KeyId, Prefix, Requirements, Result, Timestamp,
    Verdict,
};
use serde_json::json;
use zeroize::Zeroizing;

use crate::EXTENSION;
use crate::algorithm::Algorithm;
use crate::encoding::encode;
use crate::json::{Json, Members, member};
use crate::jws;
use crate::keys::{SigningKeyInfo, SigningKeys};
use crate::seen::{Proof, Seen};
use crate::trail::Taken;

/// The longest lifetime of a JWT.
pub const LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// How JWTs are made and verified.
#[derive(Debug, Clone)]
pub struct JwtOptions {
    issuer: String,
    audience: String,
    algorithm: Algorithm,
    lifetime: Duration,
    seen: usize,
}

impl JwtOptions {
    /// JWTs of an issuer, which is a URL of the server that makes them (RFC 8414, 2), for an
    /// audience, which is usually the URL of the API.
    #[must_use]
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            algorithm: Algorithm::default(),
            lifetime: Duration::from_secs(600),
            seen: 16_384,
        }
    }

    /// What new signing keys sign with; `EdDSA` by default. Keys that exist keep theirs: after a
    /// change, rotate twice.
    #[must_use]
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// How long a JWT is good at most, in whole seconds; ten minutes by default,
    /// [`LIFETIME_MAX`] at most.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// How many JWTs are remembered, so that their signature is verified once; 16,384 by
    /// default, each of 64 bytes. 0: none.
    #[must_use]
    pub fn remembered(mut self, tokens: usize) -> Self {
        self.seen = tokens;
        self
    }

    fn validate(&self) -> Result<()> {
        let malformed = |what, text: &str, why| Err(Invalid::malformed(what, text, why).into());
        for (what, text) in [("issuer", &self.issuer), ("audience", &self.audience)] {
            let is_plain = text
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'"');
            if text.is_empty() || text.len() > 512 || !is_plain {
                return malformed(what, text, "it is not 1 to 512 visible ASCII characters");
            }
        }
        if self.lifetime < Duration::from_secs(1) || self.lifetime > LIFETIME_MAX {
            let text = format!("{:?}", self.lifetime);
            return malformed("lifetime of a JWT", &text, "it is not 1 s to 24 hours");
        }
        Ok(())
    }
}

/// A JWT that was made. `Debug` does not show it, and it is wiped on drop.
#[derive(Clone)]
#[non_exhaustive]
pub struct IssuedJwt {
    token: Zeroizing<String>,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The permissions that it stands for.
    pub scope: Vec<String>,
}

impl IssuedJwt {
    /// The text of the JWT, which is a secret: whoever has it is granted.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.token
    }
}

impl fmt::Debug for IssuedJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedJwt")
            .field("expires_at", &self.expires_at)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// Makes and verifies the JWTs of a store. Cheap to clone.
///
/// A JWT stands for a key. It is good while its signature, its claims and its own expiry
/// are, **and** while its key is: a verification looks at the key live, so revoking,
/// disabling, narrowing or suspending it takes the JWT away too, at the return of that
/// call. Limits and quotas of the key and its owners are charged as for its token.
///
/// ```
/// use gatekey::{Engine, NewKey, NewKeyspace, Reason, Requirements};
/// use gatekey_oauth::{Jwts, JwtOptions};
///
/// let engine = Engine::open_in_memory()?;
/// engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
/// let new = NewKey::new("acme_live", "acme/etl")?.permissions(["read"]);
/// let issued = engine.issue(new)?;
///
/// let options = JwtOptions::new("https://api.example.com", "https://api.example.com");
/// let jwts = Jwts::open(&engine, options)?;
/// let grant = engine.verify(issued.token.expose())?.into_result().map_err(|denial| denial.code());
/// # let grant = grant.unwrap();
/// let jwt = jwts.issue(&grant, None)?;
///
/// const READ: Requirements = Requirements::new().permissions(&["read"]);
/// assert!(jwts.verify(jwt.expose(), &READ)?.is_granted());
/// engine.revoke(issued.key.id, Reason::KeyCompromise)?;
/// assert!(!jwts.verify(jwt.expose(), &READ)?.is_granted());
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Clone)]
pub struct Jwts {
    shared: Arc<Shared>,
}

struct Shared {
    extension: Extension,
    options: JwtOptions,
    keys: Arc<SigningKeys>,
    seen: Seen,
}

impl fmt::Debug for Jwts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwts")
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl Jwts {
    /// Opens the signing keys of a store, and makes the first two where it has none. The
    /// store should have a [`Pepper`](gatekey::Pepper): without one, whoever has the file
    /// can sign.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the options, and see [`Engine`].
    pub fn open(engine: &Engine, options: JwtOptions) -> Result<Self> {
        options.validate()?;
        let extension = engine.extension(EXTENSION)?;
        Ok(Self {
            shared: Arc::new(Shared {
                keys: SigningKeys::open(&extension, options.algorithm)?,
                seen: Seen::new(options.seen),
                extension,
                options,
            }),
        })
    }

    /// Makes a JWT for a key that was just granted, for all that the grant permits or, with
    /// `scope`, for these permissions alone. It ends with its lifetime, or with the key
    /// where that is sooner. Nothing is stored.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a permission that the grant does not have, and see [`Engine`].
    pub fn issue(&self, grant: &Grant, scope: Option<&[&str]>) -> Result<IssuedJwt> {
        let Shared { extension, .. } = &*self.shared;
        let keyspace = extension.engine().keyspace(grant.keyspace().as_str())?;
        let held = grant.permissions();
        let within = match scope {
            Some(names) => keyspace.mask(names)?,
            None => held,
        };
        if !held.contains(within) {
            let text = scope.unwrap_or_default().join(" ");
            let why = "the key does not have all of it";
            return Err(Invalid::malformed("scope", &text, why).into());
        }
        let names: Vec<String> = keyspace
            .names(within)
            .into_iter()
            .map(str::to_owned)
            .collect();
        let ends = [grant.expires_at(), grant.retiring_until()];
        let ends = ends.into_iter().flatten().min();
        self.sign(&Claims {
            key: grant.key_id(),
            keyspace: grant.keyspace(),
            owner: grant.owner(),
            client_id: None,
            scope: names,
            ends,
        })
    }

    /// Whose JWTs they are, and for whom.
    pub(crate) fn parties(&self) -> (&str, &str) {
        let options = &self.shared.options;
        (&options.issuer, &options.audience)
    }

    /// A JWT for the key of a client's access token.
    pub(crate) fn issue_for(&self, key: &Key, client: &str, scope: &[String]) -> Result<IssuedJwt> {
        self.sign(&Claims {
            key: key.id,
            keyspace: key.keyspace,
            owner: key.owner.as_str(),
            client_id: Some(client),
            scope: scope.to_vec(),
            ends: key.expires_at,
        })
    }

    fn sign(&self, claims: &Claims<'_>) -> Result<IssuedJwt> {
        let Shared {
            extension, options, ..
        } = &*self.shared;
        let now_s = extension.engine().now().unix_seconds();
        let lifetime_s = now_s.saturating_add(options.lifetime.as_secs());
        // Whole seconds, of which the key is good to the end.
        let end_s = claims
            .ends
            .map_or(lifetime_s, |end| lifetime_s.min(end.unix_seconds()));
        let key = claims.key.to_string();
        let payload = json!({
            "iss": options.issuer, "aud": options.audience,
            "sub": claims.owner, "client_id": claims.client_id.unwrap_or(&key),
            "iat": now_s, "exp": end_s, "jti": encode(&extension.random::<16>()?[..]),
            "scope": claims.scope.join(" "), "key": key, "keyspace": claims.keyspace.as_str(),
        });
        let signer = self.shared.keys.current()?;
        let payload = payload.to_string();
        let token = jws::sign(signer.private(), &signer.header, payload.as_bytes());
        let token = token.ok_or(Error::Internal("a JWT could not be signed"))?;
        if token.len() > jws::LEN_MAX {
            return Err(Invalid::malformed("JWT", "", "it is too long").into());
        }
        let end = i64::try_from(end_s).unwrap_or(i64::MAX);
        Ok(IssuedJwt {
            token,
            expires_at: Timestamp::from_unix_seconds(end)?,
            scope: claims.scope.clone(),
        })
    }

    /// Verifies a JWT against requirements, and decides on its key as
    /// [`Engine::verify_with`] decides on a token: with the same denials, and the same
    /// charges. It may do what its scope says and its key may do, both.
    ///
    /// What is no JWT is [`Denial::Malformed`]. One of another issuer or audience, of a
    /// signing key that is not in the key set, or with a wrong signature is
    /// [`Denial::Unknown`]. One that has ended is [`Denial::Expired`], as a key is.
    ///
    /// # Errors
    /// See [`Engine`]. An error says nothing about the JWT.
    pub fn verify(
        &self,
        token: impl AsRef<[u8]>,
        requirements: &Requirements<'_>,
    ) -> Result<Verdict> {
        let Shared {
            extension,
            seen,
            keys,
            ..
        } = &*self.shared;
        // In this order, and before a proof or a signing key is found: what was removed before
        // this call began is not in this epoch.
        extension.require_current()?;
        let epoch = keys.epoch();
        let token = token.as_ref();
        if token.len() > jws::LEN_MAX {
            return Ok(Verdict::Denied(Denial::Malformed));
        }
        let hashed = seen.token(&keys.hash(token));
        if let Some(proof) = seen.find(&hashed, epoch) {
            return self.decide(&proof, requirements);
        }
        let now = extension.engine().now();
        match self.prove(token, now)? {
            Ok(proof) => {
                seen.put(&hashed, &proof, epoch, now.unix_seconds());
                self.decide(&proof, requirements)
            }
            Err(denial) => Ok(Verdict::Denied(denial)),
        }
    }

    /// The verdict on a JWT whose proof was made now or before: all that may change is
    /// asked here.
    #[inline]
    fn decide(&self, proof: &Proof, requirements: &Requirements<'_>) -> Result<Verdict> {
        let extension = &self.shared.extension;
        // One that ends when no clock of ours can tell does not end.
        let ends_at = i64::try_from(proof.expires_s).ok();
        let ends_at = ends_at.and_then(|end_s| Timestamp::from_unix_seconds(end_s).ok());
        if ends_at.is_some_and(|end| extension.has_come(end)) {
            return self.refuse_ended(proof);
        }
        extension.vouch(proof.key, proof.within, requirements)
    }

    #[cold]
    fn refuse_ended(&self, proof: &Proof) -> Result<Verdict> {
        // Before the caller learns of it: from here on time does not run behind it.
        self.shared.extension.hold_now();
        let seconds = i64::try_from(proof.expires_s).unwrap_or(i64::MAX);
        Ok(Verdict::Denied(Denial::Expired {
            key: proof.key,
            expired_at: Timestamp::from_unix_seconds(seconds)?,
        }))
    }

    /// Verifies all of a JWT that does not change.
    fn prove(&self, token: &[u8], now: Timestamp) -> Result<std::result::Result<Proof, Denial>> {
        let Shared {
            extension,
            options,
            keys,
            ..
        } = &*self.shared;
        let parts = std::str::from_utf8(token).ok().and_then(jws::split);
        let Some(parts) = parts else {
            return Ok(Err(Denial::Malformed));
        };
        let found = keys.find_by_header(parts.header, now);
        let header = match &found {
            // Nearly always.
            Some(_) => None,
            None => match parts.header() {
                Some(header) => Some(header),
                None => return Ok(Err(Denial::Malformed)),
            },
        };
        let found = found.or_else(|| keys.find(&header.as_ref()?.kid, now));
        let payload = found.as_ref().and_then(|signer| {
            let own = signer.public.algorithm().name();
            let alg = header.as_ref().map_or(own, |header| &header.alg);
            parts.verified(&signer.public, alg)
        });
        let Some(payload) = payload else {
            return Ok(Err(Denial::Unknown));
        };
        let claims = Json::object(&payload);
        let read = claims.as_ref();
        let read = read.and_then(|claims| Read::of(claims, options, now.unix_seconds()));
        let Some(read) = read else {
            return Ok(Err(Denial::Unknown));
        };
        // The scope was named in this keyspace, and a bit never gets another name.
        let names = read.scope.split(' ').filter(|name| !name.is_empty());
        let Some(within) = extension.permissions(read.keyspace, names) else {
            return Ok(Err(Denial::Unknown));
        };
        Ok(Ok(Proof {
            expires_s: read.expires_s,
            key: read.key,
            within,
        }))
    }

    /// What a JWT proves, whether or not it has ended and whatever its key is, and the instant
    /// at which it was looked at.
    fn prove_now(&self, token: &str) -> Result<Option<(Proof, Timestamp)>> {
        if token.len() > jws::LEN_MAX {
            return Ok(None);
        }
        let extension = &self.shared.extension;
        extension.require_current()?;
        let now = extension.engine().now();
        let proof = self.prove(token.as_bytes(), now)?.ok();
        Ok(proof.map(|proof| (proof, now)))
    }

    /// The key of a JWT that is good in all but what its key is now.
    pub(crate) fn key_of(&self, token: &str) -> Result<Option<KeyId>> {
        Ok(self.prove_now(token)?.map(|(proof, _)| proof.key))
    }

    /// What a JWT proves that has not ended, whatever its key is now.
    pub(crate) fn good_proof(&self, token: &str) -> Result<Option<Proof>> {
        let Some((proof, now)) = self.prove_now(token)? else {
            return Ok(None);
        };
        if now.unix_seconds() >= proof.expires_s {
            // Before the caller learns of it: from here on time does not run behind it.
            self.shared.extension.hold_now();
            return Ok(None);
        }
        Ok(Some(proof))
    }

    /// How many JWTs are remembered now.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.shared.seen.len()
    }

    /// Exchanges a key's token for a JWT: verifies it, charges the request to it, and makes
    /// a JWT as [`issue`](Self::issue) does. The denial, if the token is not good.
    ///
    /// # Errors
    /// As [`issue`](Self::issue).
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace, Requirements};
    /// # use gatekey_oauth::{Jwts, JwtOptions};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read"]))?;
    /// # let key = engine.issue(NewKey::new("acme_live", "acme")?.permissions(["read"]))?;
    /// # let jwts = Jwts::open(&engine, JwtOptions::new("https://a.example", "https://a.example"))?;
    /// match jwts.exchange(key.token.expose(), &Requirements::new(), Some(&["read"]))? {
    ///     Ok(jwt) => println!("good until {}", jwt.expires_at),
    ///     Err(denial) => println!("401: {}", denial.code()),
    /// }
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn exchange(
        &self,
        token: impl AsRef<[u8]>,
        requirements: &Requirements<'_>,
        scope: Option<&[&str]>,
    ) -> Result<std::result::Result<IssuedJwt, Denial>> {
        let engine = self.shared.extension.engine();
        match engine.verify_with(token, requirements)? {
            Verdict::Granted(grant) => self.issue(&grant, scope).map(Ok),
            Verdict::Denied(denial) => Ok(Err(denial)),
        }
    }

    /// Whether a text has the shape of a JWT. A gatekey token never has: it has no dot.
    #[must_use]
    pub fn is_jwt(text: &str) -> bool {
        jws::split(text).is_some()
    }
}

/// # Signing keys
impl Jwts {
    /// The key set to publish (RFC 7517), as JSON. Let others cache it for no longer than
    /// the time between a rotation and the one before.
    #[must_use]
    pub fn jwks(&self) -> String {
        let now = self.shared.extension.engine().now();
        self.shared.keys.jwks(now)
    }

    /// The signing keys.
    #[must_use]
    pub fn signing_keys(&self) -> Vec<SigningKeyInfo> {
        self.shared.keys.list()
    }

    /// Rotates the signing keys, and returns the `kid` of the one that signs now: the next key
    /// becomes the current one, which was published since the last rotation; the current one
    /// is retired, and its JWTs stay good until they end; a new next key is made. Where the next
    /// key cannot be read, the current one goes on to sign, and the new key is the next.
    ///
    /// # Errors
    /// [`Error::Invalid`] where 32 keys are published, since retired ones stay for
    /// [`LIFETIME_MAX`]; and see [`Engine`].
    pub fn rotate_signing_keys(&self) -> Result<String> {
        let Shared { keys, options, .. } = &*self.shared;
        keys.rotate(options.algorithm, LIFETIME_MAX)
    }

    /// Removes a signing key that is in wrong hands. All JWTs that it signed are denied from
    /// the return of the call on. If it was the current one, the next one signs. `false`:
    /// there is no such key. Also for a key that is damaged, which [`Engine::check`] names.
    ///
    /// # Errors
    /// See [`Engine`].
    pub fn revoke_signing_key(&self, kid: &str) -> Result<bool> {
        let Shared { keys, options, .. } = &*self.shared;
        keys.revoke(options.algorithm, kid)
    }

    /// After a restore, removes again the signing keys that were revoked since the backup, by
    /// the exports of the audit trail that the restore was given; returns how many.
    /// [`AuthorizationServer::apply_trail`] does it for a server with JWTs.
    ///
    /// [`AuthorizationServer::apply_trail`]: crate::server::AuthorizationServer::apply_trail
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// # use gatekey::Engine;
    /// # use gatekey_oauth::{Jwts, JwtOptions};
    /// # let engine = Engine::open_in_memory()?;
    /// # let jwts = Jwts::open(&engine, JwtOptions::new("https://a.example", "https://a.example"))?;
    /// let mut export = Vec::new();
    /// engine.export_audit(0, &mut export)?;
    /// assert_eq!(jwts.apply_trail([export.as_slice()])?, 0);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn apply_trail<R: BufRead>(&self, exports: impl IntoIterator<Item = R>) -> Result<u64> {
        let taken = Taken::read(self.shared.extension.engine(), exports)?;
        self.revoke_again(&taken)
    }

    pub(crate) fn revoke_again(&self, taken: &Taken) -> Result<u64> {
        let mut revoked = 0;
        for kid in &taken.signing_keys {
            revoked += u64::from(self.revoke_signing_key(kid)?);
        }
        Ok(revoked)
    }
}

/// What a JWT will say.
struct Claims<'a> {
    key: KeyId,
    keyspace: Prefix,
    owner: &'a str,
    /// The key's id where the key is not a client's.
    client_id: Option<&'a str>,
    scope: Vec<String>,
    /// When its key ends.
    ends: Option<Timestamp>,
}

/// What a JWT says, of which each member has its type and is ours.
struct Read<'a> {
    key: KeyId,
    keyspace: Prefix,
    scope: &'a str,
    expires_s: u64,
}

impl<'a> Read<'a> {
    fn of(claims: &'a Members<'_>, options: &JwtOptions, now_s: u64) -> Option<Self> {
        let text = |name| member(claims, name).and_then(Json::text);
        let is_for_us = match member(claims, "aud")? {
            Json::Text(audience) => **audience == *options.audience,
            Json::List(all) => all.iter().any(|one| one.text() == Some(&options.audience)),
            _ => false,
        };
        let begins_s = match member(claims, "nbf") {
            Some(begins) => begins.unsigned()?,
            None => 0,
        };
        member(claims, "iat")?.unsigned()?;
        let is_ours = text("iss") == Some(&options.issuer) && is_for_us && begins_s <= now_s;
        (is_ours && !text("sub")?.is_empty()).then_some(())?;
        Some(Self {
            key: text("key")?.parse().ok()?,
            keyspace: text("keyspace")?.parse().ok()?,
            scope: text("scope")?,
            expires_s: member(claims, "exp")?.unsigned()?,
        })
    }
}

#[cfg(test)]
mod tests;
