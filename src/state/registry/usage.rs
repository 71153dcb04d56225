//! When API keys are used, and from where.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use super::entry::LastUse;

/// A key that was not used for so long should have been revoked; in seconds.
const LONG: i64 = 30 * 86_400;

/// How many networks of a key are remembered.
const NETWORKS: usize = 16;

/// When a key was last used; updated on the hot path.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// Seconds since 1970; 0: never.
    at: AtomicI64,
    /// The network of the last use; 0: none.
    network: AtomicU64,
    places: Mutex<Places>,
    /// Set while the last use has not been written to the store.
    pub(super) fresh: AtomicBool,
}

#[derive(Debug, Default)]
struct Places {
    address: Option<IpAddr>,
    /// The networks from which the key was used, the last one first.
    networks: Vec<u64>,
}

/// What somebody should look at when a credential is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnusualUse {
    /// It was used before, but never from this network, as far as is remembered.
    NewNetwork,
    /// It was not used since then, for at least 30 days.
    LongUnused(Timestamp),
    /// It was replaced then, and has ended.
    Replaced(Timestamp),
}

impl Usage {
    /// Records a use of the key. Cheap: takes the lock once a second, and when the network is another than that of the use
    /// before.
    pub(crate) fn note(&self, now: Timestamp, address: IpAddr) -> Option<UnusualUse> {
        let (second, network) = (now.as_second(), network(address));
        let before = self.at.swap(second, Ordering::Relaxed);
        let moved = self.network.swap(network, Ordering::Relaxed) != network;
        if before == second && !moved {
            return None;
        }
        let is_new = self.places.lock().unwrap_or_else(PoisonError::into_inner).visit(address, network);
        self.fresh.store(true, Ordering::Release);
        if before > 0 && second.saturating_sub(before) >= LONG {
            return Timestamp::from_second(before).ok().map(UnusualUse::LongUnused);
        }
        is_new.then_some(UnusualUse::NewNetwork)
    }

    /// Returns when and from where the key was last used.
    pub(crate) fn last(&self) -> Option<LastUse> {
        let at = Timestamp::from_second(self.at.load(Ordering::Relaxed)).ok().filter(|at| at.as_second() > 0)?;
        let address = self.places.lock().unwrap_or_else(PoisonError::into_inner).address;
        Some(LastUse { at, address: address? })
    }

    /// Learns of a use that another node, or an earlier process on this one, recorded.
    pub(super) fn learn(&self, last: LastUse) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let network = network(last.address);
        if !places.networks.contains(&network) {
            places.networks.push(network);
            places.networks.truncate(NETWORKS);
        }
        if last.at.as_second() > self.at.load(Ordering::Relaxed) {
            self.at.store(last.at.as_second(), Ordering::Relaxed);
            places.address = Some(last.address);
        }
    }
}

impl Places {
    /// Returns whether the key was used before, and never from here.
    fn visit(&mut self, address: IpAddr, network: u64) -> bool {
        self.address = Some(address);
        let known = self.networks.iter().position(|known| *known == network);
        let is_first = self.networks.is_empty();
        match known {
            Some(position) => self.networks[..=position].rotate_right(1),
            None => {
                self.networks.insert(0, network);
                self.networks.truncate(NETWORKS);
            }
        }
        known.is_none() && !is_first
    }
}

/// The /24 of an IPv4 address, or the /48 of an IPv6 address, which is what one site gets (RFC 6177 §2); never 0.
fn network(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(u32::from(address) >> 8) | 1 << 63,
        IpAddr::V6(address) => (Ipv6Addr::to_bits(address) >> 80) as u64 | 1 << 62,
    }
}

#[cfg(test)]
mod tests {
    use super::UnusualUse::{LongUnused, NewNetwork};
    use super::*;

    #[test]
    fn what_is_unusual_is_noticed_once() {
        let usage = Usage::default();
        let at = |second: i64| Timestamp::from_second(1_795_000_000 + second).unwrap();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        for (second, from, unusual) in [
            // The first use is not unusual.
            (0, "203.0.113.7", None),
            (0, "203.0.113.200", None),
            (0, "198.51.100.7", Some(NewNetwork)),
            (0, "203.0.113.7", None),
            (1, "198.51.100.9", None),
            (1, "2001:db8:1::1", Some(NewNetwork)),
            (2, "2001:db8:1:ffff::1", None),
            (3, "::ffff:203.0.113.9", None),
            (3 + LONG, "203.0.113.9", Some(LongUnused(at(3)))),
            (3 + LONG, "203.0.113.9", None),
        ] {
            assert_eq!(usage.note(at(second), address(from)), unusual, "{second} {from}");
        }
        assert_eq!(usage.last(), Some(LastUse { at: at(3 + LONG), address: address("203.0.113.9") }));
        // What another node knows is not new here.
        usage.learn(LastUse { at: at(1), address: address("192.0.2.1") });
        assert_eq!(usage.note(at(4 + LONG), address("192.0.2.2")), None);
        // Of very many networks, those of the last uses are remembered.
        for network in 0..100_u8 {
            let from = IpAddr::from([10, 0, network, 1]);
            assert_eq!(usage.note(at(5 + LONG), from), Some(NewNetwork));
        }
        assert_eq!(usage.note(at(6 + LONG), address("10.0.99.2")), None);
        assert_eq!(usage.note(at(7 + LONG), address("10.0.0.2")), Some(NewNetwork));
    }
}
