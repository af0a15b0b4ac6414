//! Keys that callers manage themselves, within what their own key may do. See
//! docs/SELF_SERVICE.md.
//!
//! ```sh
//! cargo run -p gatekey-examples --example self_service
//! ```

use std::fmt;

use gatekey::{
    Engine, Error, Expiry, Grant, Issued, Key, KeyFilter, KeyId, KeyUpdate, Network, NewKey,
    NotFound, OwnerPath, Permissions, Reason, Revoked, Rotated, Rotation,
};

/// Why a caller was not served.
#[derive(Debug)]
pub enum Declined {
    /// There is no such key that the caller may manage; whether there is another is not
    /// told. A 404.
    NotYours,
    /// The caller asks for more than its own key may do. A 403.
    MoreThanYours,
    /// The engine failed, or refused.
    Engine(Error),
}

impl From<Error> for Declined {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound(NotFound::Key(_)) => Self::NotYours,
            error => Self::Engine(error),
        }
    }
}

impl fmt::Display for Declined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotYours => f.write_str("there is no such key of yours"),
            Self::MoreThanYours => f.write_str("that is more than your own key may do"),
            Self::Engine(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Declined {}

/// The caller of a request, as its grant tells.
pub struct Caller<'a> {
    engine: Engine,
    grant: &'a Grant,
    owner: OwnerPath,
}

impl<'a> Caller<'a> {
    /// Changes are made in the name of the caller's key.
    pub fn new(engine: &Engine, grant: &'a Grant) -> Result<Self, Declined> {
        Ok(Self {
            engine: engine.acting_as(format!("key {}", grant.key_id()))?,
            grant,
            owner: grant.owner().parse().map_err(Error::from)?,
        })
    }

    /// The one rule: of the caller's keyspace, of its owner or below, and with no
    /// permission that the caller's key has not.
    fn may_manage(&self, key: &Key, active: Permissions) -> bool {
        key.keyspace == self.grant.keyspace()
            && self.owner.covers(&key.owner)
            && self.grant.permissions().contains(key.permissions & active)
    }

    fn active(&self) -> Result<Permissions, Declined> {
        Ok(self.engine.keyspace(self.grant.keyspace())?.active_mask())
    }

    fn managed(&self, id: KeyId) -> Result<Key, Declined> {
        let key = self.engine.key(id)?;
        match self.may_manage(&key, self.active()?) {
            true => Ok(key),
            false => Err(Declined::NotYours),
        }
    }

    /// The keys that the caller may manage.
    pub fn list(&self) -> Result<Vec<Key>, Declined> {
        let active = self.active()?;
        let filter = KeyFilter::new()
            .owner_and_below(self.owner.clone())
            .keyspace(self.grant.keyspace());
        let mut mine = Vec::new();
        for key in self.engine.keys(filter) {
            let key = key?;
            if self.may_manage(&key, active) {
                mine.push(key);
            }
        }
        Ok(mine)
    }

    /// A key with some of the caller's permissions, for its owner or one below. It may be
    /// used from where the caller's key may, has its plan and limits, and ends no later.
    pub fn issue(&self, owner: OwnerPath, permissions: &[&str]) -> Result<Issued, Declined> {
        let keyspace = self.engine.keyspace(self.grant.keyspace())?;
        // There, a new key ends the owner's others, whatever they may do: rotate instead.
        let is_single = keyspace.keys_per_owner.is_single();
        if is_single || !self.owner.covers(&owner) {
            return Err(Declined::MoreThanYours);
        }
        let mask = keyspace.mask(permissions)?;
        if !self.grant.permissions().contains(mask) {
            return Err(Declined::MoreThanYours);
        }
        let own = self.engine.key(self.grant.key_id())?;
        // Its requests would be its own; the caller's quota is for the caller.
        if own.quota.is_some() {
            return Err(Declined::MoreThanYours);
        }
        let mut new = NewKey::new(self.grant.keyspace(), owner)?
            .permission_mask(mask)
            .allow_networks(own.networks);
        if let Some(plan) = own.plan {
            new = new.plan(plan);
        }
        if let Some(limits) = own.limits {
            new = new.limits(limits);
        }
        if let Some(end) = self.ends_at() {
            new = new.expires_at(end);
        }
        Ok(self.engine.issue(new)?)
    }

    /// A new token in the place of a key's, which the old one's holder is not asked for:
    /// so the rule holds here above all.
    pub fn rotate(&self, id: KeyId) -> Result<Rotated, Declined> {
        let old = self.managed(id)?;
        let own = self.engine.key(self.grant.key_id())?;
        if is_looser(&old, &own) {
            return Err(Declined::MoreThanYours);
        }
        // Given as they were looked at: an operator may widen the key meanwhile.
        let permissions = old.permissions & self.grant.permissions();
        let mut changes = KeyUpdate::new()
            .set_permission_mask(permissions)
            .networks(old.networks)
            .plan(old.plan.as_deref());
        changes = match old.limits {
            Some(limits) => changes.limits(limits),
            None => changes.limits_of_plan(),
        };
        if let Some(end) = self.ends_at()
            && old.expires_at.is_none_or(|expires_at| expires_at > end)
        {
            changes = changes.expiry(Expiry::At(end));
        }
        let rotation = Rotation::at_once().changing(changes);
        Ok(self.engine.rotate(id, rotation)?)
    }

    /// Revokes a key for good.
    pub fn revoke(&self, id: KeyId) -> Result<Revoked, Declined> {
        let key = self.managed(id)?;
        // The token before the last rotation works until its grace is over: it goes too.
        if let Some(old) = key.predecessor {
            match self.managed(old) {
                Ok(_) => drop(self.engine.revoke(old, Reason::Cessation)?),
                Err(Declined::NotYours) => {}
                Err(declined) => return Err(declined),
            }
        }
        Ok(self.engine.revoke(id, Reason::Cessation)?)
    }

    /// When the caller's own key ends: by its expiry, or its grace.
    fn ends_at(&self) -> Option<gatekey::Timestamp> {
        let ends = [self.grant.expires_at(), self.grant.retiring_until()];
        ends.into_iter().flatten().min()
    }
}

/// Whether a token of `key` would have fewer bounds than the caller's own key has.
fn is_looser(key: &Key, own: &Key) -> bool {
    let inside = |networks: &[Network]| networks.iter().all(|one| own.networks.contains(one));
    let anywhere = key.networks.is_empty() || !inside(&key.networks);
    let limited = match &own.limits {
        Some(limits) => !limits.is_empty(),
        None => own.plan.is_some(),
    };
    (anywhere && !own.networks.is_empty())
        || (limited && (&key.plan, &key.limits) != (&own.plan, &own.limits))
        || (key.quota.is_none() && own.quota.is_some())
}

#[expect(clippy::print_stdout, reason = "it is for people")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::open_in_memory()?;
    let keyspace = gatekey::NewKeyspace::new("acme_live")?.permissions(["read", "admin"]);
    engine.create_keyspace(keyspace)?;
    let new = |permissions: &[&'static str]| {
        let new = NewKey::new("acme_live", "acme")?;
        engine.issue(new.permissions(permissions.iter().copied()))
    };
    let (reader, admin) = (new(&["read"])?, new(&["read", "admin"])?);
    let verdict = engine.verify(reader.token.expose())?;
    let grant = verdict.grant().ok_or("the reader is denied")?;
    let caller = Caller::new(&engine, grant)?;
    match caller.rotate(admin.key.id) {
        Err(declined) => println!("rotating the admin's key: {declined}"),
        Ok(_) => return Err("a reader holds an admin's token".into()),
    }
    let bot = caller.issue("acme/bot".parse()?, &["read"])?;
    println!("issued {} to {}", bot.key.id, bot.key.owner);
    for key in caller.list()? {
        println!("{} of {} is {}", key.id, key.owner, key.state);
    }
    engine.close()?;
    Ok(())
}
