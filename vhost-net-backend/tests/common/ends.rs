//! Two guests, linked by hand.

use vhost_net_backend::datapath::command::RingSetup;
use vhost_net_backend::datapath::filter::Rules;

use super::direct::{Direct, end, setup};
use super::driver::Driver;
use super::guest::{Guest, RING_PACKED};
use super::{GUEST, GUEST_ADDRESS, NETVM};

fn rings<R: Driver>(guest: &Guest<R>) -> [RingSetup; 2] {
    // Of a packed ring, where the device writes next, and its wrap counter.
    [&guest.rx, &guest.tx]
        .map(|ring| setup(ring.layout(), R::FEATURES == RING_PACKED, (ring.base() >> 16) as u16))
}

impl Direct {
    /// Between a guest and netvm.
    pub fn new<G: Driver, N: Driver>(guest: &Guest<G>, netvm: &Guest<N>) -> Self {
        let rules = Rules {
            guest: GUEST,
            netvm: NETVM,
            mtu: 9000,
            addresses: vec![GUEST_ADDRESS.into()],
            dynamic: false,
            lease: None,
        };
        let guest = end(&guest.memory, guest.features, rings(guest));
        let netvm = end(&netvm.memory, netvm.features, rings(netvm));
        Self::of([guest, netvm], &rules)
    }
}
