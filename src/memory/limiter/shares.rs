//! The bound of a limit that is for a fleet: each server counts its share of it, by as many
//! servers as it has heard of last.

use proptest::prelude::*;

use super::tests::{ask, at, charge};
use super::*;
use crate::memory::owner_names::of_key;
use crate::model::counter::tests::{bound, limits, requests};
use crate::model::id::KeyId;

/// The most servers that there are in a case.
const SERVERS: usize = 4;

proptest! {
    #[test]
    fn a_fleet_admits_no_more_than_the_largest_shares_of_its_servers(
        limit in limits(), requests in requests(),
        heard in proptest::collection::vec((0_usize..SERVERS, 1_u64..6, any::<bool>()), 200),
    ) {
        let (limit, window) = (limit.for_fleet(), limit.window_ms());
        let name = of_key(KeyId::from_raw(1), 1);
        let limiters = [(); SERVERS].map(|()| Limiter::new(1));
        // By how many each divides: it hears of another number while it counts.
        let mut terms = [(); SERVERS].map(|()| (3, 0, Terms::new(&[limit], 3)));
        let (mut now, mut admitted, mut divided) = (0, Vec::new(), Vec::new());
        for ((step, cost), (server, by, hears)) in requests.into_iter().zip(heard) {
            now += step * window / 1000;
            let (divides_by, stamp, terms) = &mut terms[server];
            if hears && let Some(new) = terms.divided(by) {
                (*divides_by, *stamp, *terms) = (by, *stamp + 1, new);
            }
            divided.push((now, server, *divides_by));
            let asks = [Ask { stamp: *stamp, ..ask(name, Level::Key, terms, "acme") }];
            let cost = cost % 7;
            if charge(&limiters[server], &asks, cost, at(now)).is_ok() {
                admitted.push((now, server, u64::from(cost)));
            }
        }
        // In every interval: the sum of what the largest share of each admits.
        for (from, (start, ..)) in admitted.iter().enumerate() {
            let (mut sum, mut served) = (0, [false; SERVERS]);
            for (end, server, cost) in admitted.iter().skip(from) {
                sum += cost;
                served[*server] = true;
                let most = |of: usize| {
                    let its = divided.iter().filter(|(at, server, _)| {
                        *server == of && start <= at && at <= end
                    });
                    let fewest = its.map(|(.., by)| *by).min().unwrap_or(1);
                    bound(limit.share(fewest), end - start)
                };
                let of_each = (0..SERVERS).filter(|of| served[*of]).map(most);
                if let Some(most) = of_each.sum::<Option<u64>>() {
                    prop_assert!(sum * window <= most, "{sum} in {} ms", end - start);
                }
            }
        }
    }

    /// As long as no server comes or goes: no more than the limit says, where each server has
    /// at least one of it.
    #[test]
    fn the_shares_of_all_servers_are_no_more_than_the_limit(
        limit in limits(), servers in 1_u64..200,
    ) {
        let share = limit.for_fleet().share(servers);
        prop_assert!(!share.is_for_fleet());
        for (share, all) in [
            (share.requests(), limit.requests()),
            (share.capacity(), limit.capacity()),
        ] {
            let (share, all) = (u64::from(share), u64::from(all));
            prop_assert!(share >= 1);
            prop_assert!(share * servers <= all.max(servers));
            prop_assert!((share + 1) * servers > all);
        }
        prop_assert_eq!(limit.share(servers), limit);
    }
}
