//! Heartbeats: by them a server knows that it knows everything.

use std::time::Duration;

use crate::engine::fleet::state::{Fleet, steady};
use crate::engine::shared::Core;
use crate::model::error::{Error, NotFound};
use crate::model::id::KeyId;
use crate::model::log::{Beat, Beaten, LogError, Seal};
use crate::sync::atomic::Ordering;
use crate::sync::lock;

impl Core {
    /// Beats, catches up with what the heartbeat found, and grants from there on: the lease
    /// counts from before the question.
    pub(super) fn beat(&self, fleet: &Fleet) -> Result<(), Error> {
        let seen = match self.beat_once(fleet)? {
            None => self.beat_once(fleet)?,
            seen => seen,
        };
        let Some((t0, beaten)) = seen else {
            let why = "a heartbeat takes longer than the lease: is the database overloaded?";
            return Err(Error::Log(LogError::new(why)));
        };
        self.catch_up(fleet, Some(beaten.head.position))?;
        self.require_same(fleet, &beaten)?;
        fleet.renew(t0);
        self.choose_pepper(fleet)
    }

    /// Beats; gives the moment before, and the answer. `None`: others may not have seen this
    /// server beat all the while. One may have taken access away meanwhile and not have waited
    /// for it, since a log may take the answer first and let the heartbeat be seen later: what
    /// the next heartbeat finds has it.
    fn beat_once(&self, fleet: &Fleet) -> Result<Option<(Duration, Beaten)>, Error> {
        let last = fleet.beaten_at();
        let t0 = steady(&*self.clock);
        let beaten = self.send_beat(fleet, t0)?;
        let now = steady(&*self.clock);
        let since = last.map(|last| now.saturating_sub(last));
        let was_seen = since.is_some_and(|since| since <= fleet.freshness.lease());
        Ok(was_seen.then_some((t0, beaten)))
    }

    /// Where the log ends, from who is its primary now.
    pub(super) fn ask_head(&self, fleet: &Fleet) -> Result<(u64, Seal), Error> {
        let beaten = self.send_beat(fleet, steady(&*self.clock))?;
        Ok((beaten.head.position, beaten.head.seal))
    }

    /// The key of a token, for a change. Another server may have issued what this one does not
    /// know yet.
    pub(in crate::engine) fn find_newest_by_token(&self, text: &[u8]) -> Result<KeyId, Error> {
        let found = match (self.find_by_token(text), self.fleet.as_deref()) {
            (Err(Error::NotFound(NotFound::Token)), Some(fleet)) => {
                self.hear_all(fleet)?;
                self.find_by_token(text)
            }
            (found, _) => found,
        };
        found.map(|(key, _)| key)
    }

    /// Applies all that the log has at a moment after the call. Callers that wait together ask
    /// once, and fail together.
    fn hear_all(&self, fleet: &Fleet) -> Result<(), Error> {
        let called = steady(&*self.clock);
        let mut asked = lock(&fleet.asked_all);
        if asked.0 <= called {
            let begun = steady(&*self.clock);
            let heard = self.ask_head(fleet);
            let heard = heard.and_then(|(position, _)| self.catch_up(fleet, Some(position)));
            *asked = (begun, heard.map(drop));
        }
        asked.1.clone()
    }

    fn send_beat(&self, fleet: &Fleet, t0: Duration) -> Result<Beaten, Error> {
        // Before it is read what this server has.
        fleet.owes_beat.store(false, Ordering::Release);
        let before = fleet.place();
        let decided = fleet.decided();
        let beat = Beat {
            node: fleet.node.clone(),
            position: before.position,
            lease: fleet.freshness.lease(),
            reads: self.reads(),
        };
        let beaten = fleet.log.beat(&beat).map_err(|error| {
            fleet.owes_beat.store(true, Ordering::Release);
            Error::Log(error)
        })?;
        if beaten.head.position < decided {
            // What was applied was durable in the log before the question.
            let why = LogError::new(format!(
                "it went back: it ends with {}, and this server has applied {decided}; see docs/FLEET.md, and restore no database of a fleet without it",
                beaten.head.position
            ));
            fleet.expire(why.clone());
            return Err(Error::Log(why));
        }
        fleet.heard(&beaten, t0);
        self.take_share(fleet, beaten.servers, t0);
        Ok(beaten)
    }

    /// Takes this server's share of what is limited for the fleet, and its slices of quotas,
    /// by how many servers beat.
    /// Before it counts as fresh by the answer that said so.
    fn take_share(&self, fleet: &Fleet, servers: u64, t0: Duration) {
        let mut shares = lock(&fleet.shares);
        if shares.hear(servers, t0) {
            self.registry.divide(servers);
            self.owner_terms.divide(servers);
            self.own_limits.divide(servers);
            self.quotas.divide(servers);
        }
    }

    /// Compares the seals where this server stands at the head that was found: one position
    /// can have two contents if the log has lost its end and grown anew.
    fn require_same(&self, fleet: &Fleet, beaten: &Beaten) -> Result<(), Error> {
        let place = fleet.place();
        if place.position == beaten.head.position && place.seal != beaten.head.seal {
            return Err(fleet.has_another_history(place.position));
        }
        Ok(())
    }
}

impl Fleet {
    /// Grants nothing from now on: the log lost its end, and grew anew.
    pub(super) fn has_another_history(&self, at: u64) -> Error {
        let why = format!(
            "it has another history: its entry {at} is not the one that this server has applied"
        );
        let why = LogError::new(why);
        self.expire(why.clone());
        Error::Log(why)
    }
}
