//! The packet path without sessions, threads and processes: two ends, and turns by hand.

use rustix::event::{EventfdFlags, eventfd};
use vhost_net_backend::datapath::EndId;
use vhost_net_backend::datapath::carry::{Carrier, Cutter, Turn};
use vhost_net_backend::datapath::command::{RingId, RingKind, RingSetup};
use vhost_net_backend::datapath::counters::Counters;
use vhost_net_backend::datapath::filter::{Filter, Rules};
use vhost_net_backend::datapath::packet::Packet;
use vhost_net_backend::datapath::rate::{Limits, Rates};
use vhost_net_backend::end::End;
use vhost_net_backend::end::vhost_user::VhostUserEnd;

use super::driver::Driver;
use super::guest::{Guest, RING_PACKED};
use super::{GUEST, GUEST_ADDRESS, NETVM};

/// Both ends of a link.
pub struct Direct {
    pub ends: [End; 2],
    pub counters: Counters,
    filter: Filter,
    rates: Rates,
    packet: Packet,
    cutter: Cutter,
}

fn setup<R: Driver>(ring: &R) -> RingSetup {
    let kick = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let packed = R::FEATURES == RING_PACKED;
    // Of a packed ring, where the device writes next, and its wrap counter.
    let base = if packed { (ring.base() >> 16) as u16 } else { 0 };
    RingSetup { layout: ring.layout(), packed, base, kick, call: None, error: None }
}

fn end<R: Driver>(guest: &Guest<R>) -> End {
    let mut end = VhostUserEnd::default();
    end.set_features(guest.features);
    end.set_memory(&guest.memory);
    end.start(RingId::new(0, RingKind::Receive).unwrap(), setup(&guest.rx));
    end.start(RingId::new(0, RingKind::Transmit).unwrap(), setup(&guest.tx));
    End::VhostUser(end)
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
        Self {
            ends: [end(guest), end(netvm)],
            counters: Counters::default(),
            filter: Filter::new(&rules, 0),
            rates: Rates::new(&Limits::default()),
            packet: Packet::default(),
            cutter: Cutter::default(),
        }
    }

    /// Moves frames that come from this end; they do not wait for receive buffers.
    pub fn turn(&mut self, from: EndId) -> Turn {
        let [guest, netvm] = &mut self.ends;
        let (source, target) = match from {
            EndId::Guest => (guest, netvm),
            EndId::Netvm => (netvm, guest),
        };
        let mut carrier = Carrier {
            from,
            filter: &mut self.filter,
            rates: &mut self.rates,
            packet: &mut self.packet,
            cutter: &mut self.cutter,
            counters: &self.counters,
            now: 0,
            patient: false,
        };
        let turn = source.source(0).unwrap().carry(&mut carrier, target.sink(0));
        for end in &mut self.ends {
            end.settle();
        }
        turn
    }
}
