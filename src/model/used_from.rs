//! From where keys are used: networks of one size, as they are noted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::clock::Timestamp;
use crate::model::network::{Network, nat64};

/// For how many days a network is kept after the last on which the key was used from it.
pub(crate) const DAYS_KEPT: u32 = 90;

/// The most networks that are kept of a key.
pub(crate) const NETWORKS_MAX: usize = 16;

/// A network that a key was used from, of those that
/// [`Options::note_networks`](crate::Options::note_networks) has noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct UsedFrom {
    /// The network: a `/24` of IPv4 or a `/48` of IPv6.
    pub network: Network,
    /// When the key was first used from it, of what is kept.
    pub first: Timestamp,
    /// When the last day begins on which it was, in UTC.
    pub last_day: Timestamp,
}

/// The network that an address is noted as: the `/24` of an IPv4 address, the `/48` of
/// another. These are the smallest that are routed by themselves between providers, so
/// an address that its provider changes within one is not told as another.
///
/// A number: below 2^24 for IPv4, and 2^48 and the bits of the network for IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SourceNet(u64);

const V6: u64 = 1 << 48;

impl SourceNet {
    /// The address of an IPv4 client that reaches the server as one of IPv6 counts as IPv4,
    /// as it does in [`Network::contains`].
    #[inline]
    pub(crate) fn of(address: IpAddr) -> Self {
        let v6 = match address {
            IpAddr::V4(v4) => return Self::of_v4(v4),
            IpAddr::V6(v6) => v6,
        };
        match v6.to_ipv4_mapped().or_else(|| nat64(v6)) {
            Some(v4) => Self::of_v4(v4),
            None => Self(V6 | high_bits(v6)),
        }
    }

    #[inline]
    fn of_v4(address: Ipv4Addr) -> Self {
        Self(u64::from(address.to_bits() >> 8))
    }

    pub(crate) const fn raw(self) -> u64 {
        self.0
    }

    /// `None` where it is the number of no network.
    pub(crate) fn from_raw(raw: u64) -> Option<Self> {
        (raw < 1 << 24 || (V6..V6 << 1).contains(&raw)).then_some(Self(raw))
    }

    pub(crate) fn network(self) -> Network {
        match u32::try_from(self.0) {
            Ok(v4) => Network::prefix_of(Ipv4Addr::from_bits(v4 << 8).into(), 24),
            Err(_) => {
                let bits = u128::from(self.0 ^ V6) << 80;
                Network::prefix_of(Ipv6Addr::from_bits(bits).into(), 48)
            }
        }
    }
}

fn high_bits(address: Ipv6Addr) -> u64 {
    let [a, b, c, ..] = address.segments();
    u64::from(a) << 32 | u64::from(b) << 16 | u64::from(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_noted_as_the_network_that_it_is_routed_by() {
        for (address, network) in [
            ("192.0.2.77", "192.0.2.0/24"),
            ("0.0.0.1", "0.0.0.0/24"),
            ("255.255.255.255", "255.255.255.0/24"),
            ("::ffff:192.0.2.77", "192.0.2.0/24"),
            ("64:ff9b::192.0.2.77", "192.0.2.0/24"),
            // No translator makes its hosts those of a network inside.
            ("64:ff9b::10.0.0.1", "64:ff9b::/48"),
            ("2001:db8:77:1::1", "2001:db8:77::/48"),
            ("ffff:ffff:ffff:ffff::", "ffff:ffff:ffff::/48"),
            ("::1", "::/48"),
        ] {
            let net = SourceNet::of(address.parse().unwrap());
            assert_eq!(net.network().to_string(), network, "{address}");
            assert_eq!(SourceNet::from_raw(net.raw()), Some(net), "{address}");
        }
        for raw in [1 << 24, V6 - 1, V6 << 1, u64::MAX] {
            assert_eq!(SourceNet::from_raw(raw), None, "{raw}");
        }
    }
}
