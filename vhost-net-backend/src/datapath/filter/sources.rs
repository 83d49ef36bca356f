//! The addresses that are the guest's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::Rules;
use super::binding::Binding;
use crate::mac::MacAddr;

/// Every address that the guest may send from. Clones share the dynamic one.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    /// The first static IPv4 address, or 0: nearly always the only one.
    v4: u32,
    more_v4: Arc<[u32]>,
    /// None: the guest's IPv4 addresses are static.
    dynamic: Option<Arc<Binding>>,
    /// The link-local address that follows from the MAC address.
    link_local: u128,
    v6: Arc<[u128]>,
}

impl Sources {
    /// The addresses that `rules` give the guest; a lease among them counts from `now` (ns).
    pub(super) fn new(rules: &Rules, now: u64) -> Self {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for address in &rules.addresses {
            match address {
                IpAddr::V4(address) => v4.push(address.to_bits()),
                IpAddr::V6(address) => v6.push(address.to_bits()),
            }
        }
        let dynamic = rules.dynamic.then(|| {
            let binding = Binding::default();
            if let Some(lease) = rules.lease {
                binding.bind(lease.address, lease.seconds, now);
            }
            Arc::new(binding)
        });
        let first = if v4.is_empty() { 0 } else { v4.remove(0) };
        Self {
            v4: first,
            more_v4: v4.into(),
            dynamic,
            link_local: link_local(rules.guest).to_bits(),
            v6: v6.into(),
        }
    }

    /// The same addresses, but with a dynamic one that is shared with nobody.
    #[cfg(test)]
    pub(super) fn detached(&self) -> Self {
        let dynamic = self.dynamic.as_ref().map(|binding| Arc::new(binding.detached()));
        Self { dynamic, ..self.clone() }
    }

    /// Whether an IPv4 address, as a number, is the guest's at `now` (ns).
    #[inline]
    pub(super) fn holds_v4(&self, address: u32, now: u64) -> bool {
        (address == self.v4 && address != 0) || self.holds_other_v4(address, now)
    }

    #[inline]
    fn holds_other_v4(&self, address: u32, now: u64) -> bool {
        self.dynamic.as_ref().is_some_and(|binding| binding.holds(address, now))
            || self.more_v4.contains(&address)
    }

    /// Whether an IPv6 address, as a number, is the guest's.
    #[inline]
    pub(super) fn holds_v6(&self, address: u128) -> bool {
        address == self.link_local || self.v6.contains(&address)
    }

    /// Whether netvm decides about the IPv4 address.
    #[inline]
    pub(super) const fn is_dynamic(&self) -> bool {
        self.dynamic.is_some()
    }

    /// netvm leased the guest an address for `seconds`.
    pub(super) fn bind(&self, address: Ipv4Addr, seconds: u32, now: u64) {
        if let Some(binding) = &self.dynamic {
            binding.bind(address, seconds, now);
        }
    }

    /// The guest has no dynamic address any more.
    pub(super) fn unbind(&self) {
        if let Some(binding) = &self.dynamic {
            binding.unbind();
        }
    }
}

/// The link-local address made from a MAC address (RFC 4291, appendix A).
pub(super) fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.octets();
    let pair = u16::from_be_bytes;
    Ipv6Addr::new(0xfe80, 0, 0, 0, pair([a ^ 2, b]), pair([c, 0xff]), pair([0xfe, d]), pair([e, f]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_address_flips_the_universal_bit() {
        let mac = MacAddr::new([0x50, 0x54, 0, 0x12, 0x34, 0x56]);
        assert_eq!(link_local(mac).to_string(), "fe80::5254:ff:fe12:3456");
    }
}
