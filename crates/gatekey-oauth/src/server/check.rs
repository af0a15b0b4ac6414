//! Whether the server's records agree with each other and with the keys that they name.

use std::collections::BTreeSet;

use gatekey::extension::{ExtensionView, Flaw, Follower, PAGE_MAX};
use gatekey::{Error, Key, Result};
use serde::de::DeserializeOwned;

use crate::encoding::encode;
use crate::server::records::{
    AUTHORIZATION, AUTHORIZATIONS, AuthorizationRecord, BY_CLIENT, CLIENTS, CODE, CODES,
    ClientRecord, CodeRecord, ENDS, TICKET, TICKETS, by_client, decode, end_key, readable,
};
use crate::server::token::LABEL;

/// Has nothing in memory: all that it does is to check.
pub(super) struct Check;

impl Follower for Check {
    fn begin(&self, _: &ExtensionView<'_>) -> Result<()> {
        Ok(())
    }

    fn follow(&self, _: &[gatekey::extension::Changed<'_>]) {}

    fn check(&self, view: &ExtensionView<'_>) -> Result<Vec<Flaw>> {
        let mut flaws = Flaws {
            view,
            found: Vec::new(),
            ends: BTreeSet::new(),
        };
        flaws.look_at_ends()?;
        flaws.look_at_clients()?;
        flaws.look_at_codes()?;
        flaws.look_at_authorizations()?;
        flaws.look_at_index()?;
        Ok(flaws.found)
    }
}

struct Flaws<'a, 'b> {
    view: &'a ExtensionView<'b>,
    found: Vec<Flaw>,
    /// When records go, as the queue of what ends has it.
    ends: BTreeSet<Vec<u8>>,
}

impl Flaws<'_, '_> {
    fn find(&mut self, table: &str, key: &[u8], problem: impl Into<String>) {
        // Keys are ids, or hashes of what is secret.
        let name = match std::str::from_utf8(key) {
            Ok(name) if name.chars().all(|letter| letter.is_ascii_graphic()) => name.to_owned(),
            _ => encode(key),
        };
        self.found.push(Flaw {
            record: format!("{table} {name}"),
            problem: problem.into(),
        });
    }

    /// Each record of a table that is not damaged.
    fn each(
        &mut self,
        table: &str,
        mut look: impl FnMut(&mut Self, &[u8], &[u8], u8) -> Result<()>,
    ) -> Result<()> {
        let mut from = Vec::new();
        loop {
            let page = self.view.page(table, &from, None, PAGE_MAX)?;
            let is_last = page.len() < PAGE_MAX;
            for (key, record) in page {
                look(self, &key, &record.bytes, record.version)?;
                from = [key.as_slice(), &[0]].concat();
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Each record of a table that can be read, the others being flaws.
    fn each_read<T: DeserializeOwned>(
        &mut self,
        table: &str,
        mut look: impl FnMut(&mut Self, &[u8], &T) -> Result<()>,
    ) -> Result<()> {
        self.each(table, |flaws, key, bytes, version| {
            match decode::<T>(version, bytes) {
                Ok(record) => look(flaws, key, &record)?,
                Err(_) => flaws.find(table, key, "it cannot be read"),
            }
            Ok(())
        })
    }

    /// Whether there is a record; a damaged one is there.
    fn has(&self, table: &str, key: &[u8]) -> Result<bool> {
        match self.view.get(table, key) {
            Err(Error::Corrupted(_)) => Ok(true),
            found => found.map(|found| found.is_some()),
        }
    }

    /// Each end is that of a record; the record says the same, or [`look_at_end`] finds it.
    ///
    /// [`look_at_end`]: Self::look_at_end
    fn look_at_ends(&mut self) -> Result<()> {
        self.each(ENDS, |flaws, key, _, _| {
            let named = match key.get(8..).and_then(<[u8]>::split_first) {
                Some((&CODE, key)) => flaws.has(CODES, key)?,
                Some((&TICKET, key)) => flaws.has(TICKETS, key)?,
                Some((&AUTHORIZATION, key)) => flaws.has(AUTHORIZATIONS, key)?,
                _ => false,
            };
            if !named {
                flaws.find(ENDS, key, "there is no record that it is the end of");
            }
            flaws.ends.insert(key.to_vec());
            Ok(())
        })
    }

    /// Without its end, a record stays for ever.
    fn look_at_end(&mut self, table: &str, at_ms: u64, kind: u8, key: &[u8]) {
        if !self.ends.contains(&end_key(at_ms, kind, key)) {
            self.find(table, key, "nothing notes when it goes");
        }
    }

    fn look_at_clients(&mut self) -> Result<()> {
        self.each_read(CLIENTS, |_, _, _: &ClientRecord| Ok(()))
    }

    fn look_at_codes(&mut self) -> Result<()> {
        self.each_read(CODES, |flaws, key, code: &CodeRecord| {
            flaws.look_at_end(CODES, code.ends_at_ms, CODE, key);
            Ok(())
        })
    }

    fn look_at_authorizations(&mut self) -> Result<()> {
        self.each_read(AUTHORIZATIONS, |flaws, id, found: &AuthorizationRecord| {
            flaws.look_at_end(AUTHORIZATIONS, found.ends_at_ms, AUTHORIZATION, id);
            if !flaws.has(BY_CLIENT, &by_client(&found.client, id))? {
                let why = "it is not listed with its client, which disabled would leave it";
                flaws.find(AUTHORIZATIONS, id, why);
            }
            let client = match flaws.view.get(CLIENTS, found.client.as_bytes()) {
                Err(Error::Corrupted(_)) => return Ok(()),
                client => client?,
            };
            let Some(client) = client else {
                flaws.find(AUTHORIZATIONS, id, "there is no such client");
                return Ok(());
            };
            let client = decode::<ClientRecord>(client.version, &client.bytes);
            let is_disabled = client.is_ok_and(|client| client.disabled);
            for key in [Some(&found.key), found.previous_key.as_ref()] {
                flaws.look_at_key(id, found, is_disabled, key)?;
            }
            Ok(())
        })
    }

    fn look_at_key(
        &mut self,
        id: &[u8],
        found: &AuthorizationRecord,
        client_is_disabled: bool,
        key: Option<&String>,
    ) -> Result<()> {
        let Some(name) = key else {
            return Ok(());
        };
        let Ok(named) = name.parse() else {
            self.find(AUTHORIZATIONS, id, "it names no key");
            return Ok(());
        };
        let mut next = Some(named);
        while let Some(named) = next.take() {
            // One that is damaged was found before; one that was purged is over.
            let Some(Some(key)) = readable(self.view.find_key(named))? else {
                return Ok(());
            };
            let label = key.labels.get(LABEL).map(String::as_bytes);
            if name == &named.to_string() && label != Some(id) {
                let why = format!("its key {name} is not labelled as its own");
                self.find(AUTHORIZATIONS, id, why);
            }
            self.look_at_state(id, found, client_is_disabled, &key);
            // What it was rotated to, by whomever, is taken away with it.
            next = key.successor;
        }
        Ok(())
    }

    fn look_at_state(
        &mut self,
        id: &[u8],
        found: &AuthorizationRecord,
        client_is_disabled: bool,
        key: &Key,
    ) {
        let name = key.id;
        let is_over = key.revoked.is_some() || key.expired;
        if found.revoked_at_ms.is_some() && !is_over {
            let why = format!("it was revoked, and its key {name} was not");
            self.find(AUTHORIZATIONS, id, why);
        }
        if client_is_disabled && !is_over && !key.disabled {
            let why = format!("its client is disabled, and its key {name} is not");
            self.find(AUTHORIZATIONS, id, why);
        }
    }

    fn look_at_index(&mut self) -> Result<()> {
        self.each(BY_CLIENT, |flaws, key, _, _| {
            let at = key.iter().position(|byte| *byte == 0);
            let id = at.and_then(|at| key.get(at + 1..)).unwrap_or(&[]);
            if id.is_empty() || !flaws.has(AUTHORIZATIONS, id)? {
                flaws.find(BY_CLIENT, key, "there is no such authorization");
            }
            Ok(())
        })
    }
}
