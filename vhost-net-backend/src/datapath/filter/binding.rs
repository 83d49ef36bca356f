//! The dynamic IPv4 address of a guest: bound by the DHCP acknowledgement that netvm sends.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::ipv4;

/// Expiry times have 32 bits, in units of 2^30 ns (1.07 s): 146 years since the machine started.
const TICK_SHIFT: u32 = 30;

/// The lease time that means "for ever" (RFC 2131, 3.3).
const FOREVER: u32 = u32::MAX;

/// The address that a guest holds now, and until when. All workers of a link share it.
///
/// Address and time are one word, so that no reader ever sees the one without the other.
#[derive(Debug, Default)]
pub(super) struct Binding {
    /// The address in the upper half, the tick at which it ends in the lower; 0: none.
    word: AtomicU64,
}

impl Binding {
    /// Binds `address` for `seconds` from `now` (ns). An address that no guest can have ends the
    /// binding instead.
    pub(super) fn bind(&self, address: Ipv4Addr, seconds: u32, now: u64) {
        if !ipv4::is_host(address) {
            return self.unbind();
        }
        let end = match seconds {
            FOREVER => u64::MAX,
            _ => now.saturating_add(u64::from(seconds) * 1_000_000_000),
        };
        // Rounded up, so that a client never outlives its binding here.
        let tick = u32::try_from((end >> TICK_SHIFT) + 1).unwrap_or(u32::MAX);
        self.word.store(u64::from(address.to_bits()) << 32 | u64::from(tick), Relaxed);
    }

    /// A copy that is shared with nobody.
    #[cfg(test)]
    pub(super) fn detached(&self) -> Self {
        Self { word: AtomicU64::new(self.word.load(Relaxed)) }
    }

    /// Ends the binding.
    pub(super) fn unbind(&self) {
        self.word.store(0, Relaxed);
    }

    /// Whether the guest holds `address` at `now` (ns).
    #[inline]
    pub(super) fn holds(&self, address: u32, now: u64) -> bool {
        let word = self.word.load(Relaxed);
        address != 0 && word >> 32 == u64::from(address) && now >> TICK_SHIFT < word & 0xffff_ffff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 7);
    const SECOND: u64 = 1_000_000_000;

    fn holds(binding: &Binding, now: u64) -> bool {
        binding.holds(ADDRESS.to_bits(), now)
    }

    #[test]
    fn lease_ends_no_sooner_than_it_says_and_at_most_two_ticks_later() {
        let binding = Binding::default();
        assert!(!holds(&binding, 0));
        for start in [0, 5 * SECOND, u64::from(u32::MAX) * SECOND] {
            binding.bind(ADDRESS, 600, start);
            assert!(holds(&binding, start));
            assert!(holds(&binding, start + 600 * SECOND));
            assert!(!holds(&binding, start + 603 * SECOND));
            assert!(!binding.holds(ADDRESS.to_bits() + 1, start));
        }
        binding.unbind();
        assert!(!holds(&binding, 0) && !binding.holds(0, 0));
    }

    #[test]
    fn the_longest_leases_neither_overflow_nor_end() {
        let binding = Binding::default();
        for (seconds, now) in [(FOREVER, 0), (FOREVER - 1, 0), (FOREVER, 1 << 60)] {
            binding.bind(ADDRESS, seconds, now);
            assert!(holds(&binding, now + 100 * 365 * 86_400 * SECOND));
        }
        binding.bind(ADDRESS, 1, u64::MAX);
        binding.bind(ADDRESS, 0, 0);
        assert!(!holds(&binding, 2 * SECOND));
    }

    #[test]
    fn an_address_that_no_guest_can_have_is_not_bound() {
        for address in [
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::BROADCAST,
            Ipv4Addr::LOCALHOST,
            Ipv4Addr::new(224, 0, 0, 1),
            Ipv4Addr::new(0, 1, 2, 3),
        ] {
            let binding = Binding::default();
            binding.bind(ADDRESS, 600, 0);
            binding.bind(address, 600, 0);
            assert!(!binding.holds(address.to_bits(), 0) && !holds(&binding, 0), "{address}");
        }
    }
}
