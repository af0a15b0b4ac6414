//! Slices of the quotas of many tokens, taken in one commit before they are asked for one by
//! one.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use super::path_of;
use crate::change::quota::{self, Of};
use crate::crypto::token;
use crate::engine::charge::Who;
use crate::engine::shared::Core;
use crate::memory::quota::Name;
use crate::memory::registry::Entry;
use crate::model::error::Error;
use crate::model::requirements::Requirements;
use crate::store::hot::HotCopy;
use crate::store::life::Life;
use crate::store::record::View;

/// For how many tokens slices are taken at a time: few enough for what the first have taken to
/// be in memory as they are asked for.
const AT_ONCE: usize = 1000;

thread_local! {
    /// Whether a request of this thread has waited for a slice since this was last asked.
    pub(super) static WAITED: Cell<bool> = const { Cell::new(false) };
}

impl Core {
    /// Whether a request of this thread has waited for a slice since this was last asked.
    pub(in crate::engine) fn has_waited_for_slice() -> bool {
        WAITED.replace(false)
    }

    /// Takes slices of the quotas of which the next tokens will need more than memory has. Says
    /// how many tokens it has looked at, and whether there were such quotas. What fails here, each
    /// token meets in its turn.
    #[cold]
    pub(in crate::engine) fn take_slices_ahead<T: AsRef<[u8]>>(
        &self,
        tokens: &[T],
        requirements: &Requirements<'_>,
    ) -> (usize, bool) {
        let tokens = tokens.get(..AT_ONCE).unwrap_or(tokens);
        if requirements.cost == 0 || self.home.refuse_fork().is_err() {
            return (tokens.len(), false);
        }
        let mut lacking = BTreeMap::new();
        for token in tokens {
            let _ = self.note_lacking(token.as_ref(), requirements, &mut lacking);
        }
        let is_lacking = !lacking.is_empty();
        if is_lacking {
            let _ = self.take_slices(lacking, requirements.cost);
        }
        (tokens.len(), is_lacking)
    }

    /// Notes of which quotas a token will need what memory lacks, if it is a good one.
    fn note_lacking(
        &self,
        text: &[u8],
        requirements: &Requirements<'_>,
        lacking: &mut BTreeMap<Name, Of>,
    ) -> Result<(), Error> {
        let Some(parts) = token::parse(text) else {
            return Ok(());
        };
        let mut copy = HotCopy::new();
        self.copy_from_file(parts.id, &mut copy)?;
        let of_none = |view: View<'_>| {
            let entry = self.registry.get(view.keyspace());
            !view.has_quota() && !entry.is_some_and(Entry::charges_owners)
        };
        if copy.view().is_none_or(of_none) {
            return Ok(());
        }
        let Some(proven) = self.prove_copy(&copy, &parts)? else {
            return Ok(());
        };
        let (view, entry, held) = (&proven.view, proven.entry, proven.held);
        let present = self.present();
        let life = Life::from(view);
        if Self::decide(view, entry, &life, held, requirements, present.at).is_err() {
            return Ok(());
        }
        self.with_levels(Who::has(view), entry, |levels| {
            for quota in levels.quotas.iter() {
                let (name, cost) = (quota.purse, requirements.cost.into());
                if !lacking.contains_key(&name) && self.quotas.lacks(name, cost, present.clock) {
                    let of = match quota.depth {
                        0 => Of::Key(view.id()),
                        depth => Of::Owner(view.keyspace(), path_of(view.owner(), depth)?),
                    };
                    lacking.insert(name, of);
                }
            }
            Ok(())
        })
    }

    /// Waits for a durable commit.
    fn take_slices(&self, lacking: BTreeMap<Name, Of>, cost: u32) -> Result<(), Error> {
        let count = u64::try_from(lacking.len()).unwrap_or(u64::MAX);
        self.counters.quota_slices.fetch_add(count, Relaxed);
        let (quotas, clock) = (self.quotas.clone(), self.clock.now());
        self.quotas.fetch_ahead(|| {
            self.mutate(move |tx| quota::take_slices(tx, &quotas, &lacking, cost.into(), clock))
        })
    }
}
