//! Networks that a key may be used from.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::model::parse::ParseError;
use ipnet::IpNet;

/// An IPv4 or IPv6 network in CIDR notation; a bare address is a network of one.
///
/// An IPv4 address inside IPv6 (`::ffff:192.0.2.1`) counts as IPv4, on both sides. An
/// address behind a NAT64 of the well-known prefix (`64:ff9b::192.0.2.1`, RFC 6052) is
/// inside a network that contains it, or the global IPv4 address that it stands for.
/// One of the local-use prefix `64:ff9b:1::/48` (RFC 8215) stays an IPv6 address: each
/// network chooses its own prefix length there, and with it the place of the IPv4
/// address. Bits set past the prefix are an error, since they are usually a mistake.
///
/// ```
/// use gatekey::Network;
///
/// let office: Network = "192.0.2.0/24".parse()?;
/// assert!(office.contains("192.0.2.77".parse().unwrap()));
/// assert!(office.contains("::ffff:192.0.2.77".parse().unwrap()));
/// assert!("192.0.2.1/24".parse::<Network>().is_err());
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(IpNet);

impl Network {
    /// The length of a network in a record.
    pub(crate) const ENCODED_LEN: usize = 18;

    /// Whether the address is inside.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.contains(&address)
            || matches!(address, IpAddr::V6(v6) if nat64(v6).is_some_and(|v4| {
                self.0.contains(&IpAddr::V4(v4))
            }))
    }

    /// The network of an address, by a length that its family has: all of it, where the
    /// family has no such length.
    pub(crate) fn prefix_of(address: IpAddr, prefix_len: u8) -> Self {
        Self(IpNet::new(address, prefix_len).map_or_else(|_| address.into(), |net| net.trunc()))
    }

    /// Whether all of another network is inside.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.0.contains(&other.0)
    }

    pub(crate) fn encode(&self) -> [u8; Self::ENCODED_LEN] {
        let mut bytes = [0; Self::ENCODED_LEN];
        let (head, address) = bytes.split_at_mut(2);
        let family = match self.0.addr() {
            IpAddr::V4(v4) => {
                address
                    .iter_mut()
                    .zip(v4.octets())
                    .for_each(|(to, from)| *to = from);
                4
            }
            IpAddr::V6(v6) => {
                address
                    .iter_mut()
                    .zip(v6.octets())
                    .for_each(|(to, from)| *to = from);
                6
            }
        };
        head.copy_from_slice(&[family, self.0.prefix_len()]);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; Self::ENCODED_LEN]) -> Option<Self> {
        let [family, prefix_len, address @ ..] = *bytes;
        let address = match family {
            4 => {
                let (v4, rest) = address.split_first_chunk::<4>()?;
                if rest.iter().any(|byte| *byte != 0) {
                    return None;
                }
                IpAddr::from(*v4)
            }
            6 => IpAddr::from(address),
            _ => return None,
        };
        let net = IpNet::new(address, prefix_len).ok()?;
        (net.trunc() == net).then_some(Self(net))
    }
}

/// Whether an address stands for one of IPv4 under the well-known prefix (RFC 6052, 2.1).
pub(crate) fn is_nat64(address: Ipv6Addr) -> bool {
    address.to_bits() >> 32 == 0x0064_ff9b << 64
}

/// The IPv4 address that one under the well-known prefix stands for. It never stands
/// for a private address (RFC 6052, 3.1): an outside translator must not pass its hosts
/// off as internal ones.
pub(crate) fn nat64(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = Ipv4Addr::from_bits(u32::try_from(address.to_bits() & 0xffff_ffff).ok()?);
    let is_local = v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_unspecified()
        // The shared address space of carriers (RFC 6598).
        || v4.to_bits() >> 22 == 0x6440_0000 >> 22;
    (is_nat64(address) && !is_local).then_some(v4)
}

#[cfg(feature = "serde")]
crate::model::serialized::as_text!(Network, "a network in CIDR notation");

impl FromStr for Network {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let refuse = |why: String| Err(ParseError::new("network", text, why));
        let net: IpNet = match text.parse::<IpNet>() {
            Ok(net) => net,
            Err(_) => match text.parse::<IpAddr>() {
                Ok(address) => IpNet::from(address),
                Err(_) => return refuse("not an address, nor a network in CIDR notation".into()),
            },
        };
        let net = match net {
            IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
                Some(v4) => IpNet::new(IpAddr::V4(v4), v6.prefix_len() - 96).unwrap_or(net),
                None => net,
            },
            _ => net,
        };
        if net.trunc() != net {
            return refuse(format!(
                "it has bits set past its prefix; {} was perhaps meant",
                net.trunc()
            ));
        }
        Ok(Self(net))
    }
}

impl TryFrom<String> for Network {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_round_trip_and_hold_what_they_say() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("2001:db8::/32", "2001:db8:1::1", "2001:db9::1"),
            ("::ffff:192.0.2.0/120", "192.0.2.9", "192.0.3.9"),
            ("0.0.0.0/0", "8.8.8.8", "2001:db8::1"),
            ("192.0.2.0/24", "64:ff9b::192.0.2.7", "64:ff9b::192.0.3.7"),
            ("192.0.2.0/24", "64:ff9b::192.0.2.7", "64:ff9b:1::192.0.2.7"),
            ("64:ff9b::/96", "64:ff9b::192.0.2.7", "192.0.2.7"),
            // No translator outside makes its hosts those of a network of one's own.
            ("10.0.0.0/8", "10.0.0.1", "64:ff9b::10.0.0.1"),
            ("127.0.0.0/8", "127.0.0.1", "64:ff9b::127.0.0.1"),
            ("100.64.0.0/10", "100.127.0.1", "64:ff9b::100.127.0.1"),
            ("::/0", "2001:db8::1", "8.8.8.8"),
        ] {
            let network: Network = text.parse().unwrap();
            assert_eq!(Network::decode(&network.encode()), Some(network), "{text}");
            assert_eq!(network.to_string().parse::<Network>().unwrap(), network);
            assert!(network.contains(inside.parse().unwrap()), "{text} {inside}");
            assert!(
                !network.contains(outside.parse().unwrap()),
                "{text} {outside}"
            );
        }
    }

    #[test]
    fn slips_are_refused() {
        for text in [
            "",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0",
            "fe80::1%eth0",
            "a/8",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
        assert_eq!(Network::decode(&[7; 18]), None);
    }
}
