//! The packet path without sessions, threads and processes: two ends, and turns by hand. The fuzz
//! target `carry` shares it.

use std::fs::File;
use std::sync::Arc;

use vhost_net_backend::datapath::EndId;
use vhost_net_backend::datapath::carry::{Carrier, Cutter, Turn};
use vhost_net_backend::datapath::command::{RingId, RingKind, RingSetup};
use vhost_net_backend::datapath::counters::Counters;
use vhost_net_backend::datapath::filter::{Filter, Rules};
use vhost_net_backend::datapath::packet::Packet;
use vhost_net_backend::datapath::rate::{Limits, Rates};
use vhost_net_backend::datapath::ring::RingLayout;
use vhost_net_backend::end::End;
use vhost_net_backend::end::vhost_user::VhostUserEnd;
use vm_memory::GuestMemoryMmap;

/// A ring nobody kicks or is called for. `base` means nothing to a split one.
pub fn setup(layout: RingLayout, packed: bool, base: u16) -> RingSetup {
    let kick = File::open("/dev/null").expect("it is always there").into();
    RingSetup { layout, packed, base, kick, call: None, error: None }
}

/// An end with these features, and one pair of rings: receive and transmit.
pub fn end(memory: &Arc<GuestMemoryMmap>, features: u64, rings: [RingSetup; 2]) -> End {
    let mut end = VhostUserEnd::default();
    end.set_features(features);
    end.set_memory(memory);
    for (kind, setup) in [RingKind::Receive, RingKind::Transmit].into_iter().zip(rings) {
        end.start(RingId::new(0, kind).expect("there is a first pair"), setup);
    }
    End::VhostUser(end)
}

/// Both ends of a link.
pub struct Direct {
    pub ends: [End; 2],
    pub counters: Counters,
    filter: Filter,
    rates: Rates,
    packet: Packet,
    cutter: Cutter,
}

impl Direct {
    /// Between these ends, the guest's first.
    pub fn of(ends: [End; 2], rules: &Rules) -> Self {
        Self {
            ends,
            counters: Counters::default(),
            filter: Filter::new(rules, 0),
            rates: Rates::new(&Limits::default()),
            packet: Packet::default(),
            cutter: Cutter::default(),
        }
    }

    /// The same with these limits on both directions.
    #[must_use]
    pub fn limited(mut self, limits: &Limits) -> Self {
        self.rates = Rates::new(limits);
        self
    }

    /// Another link, with the buffers of this one.
    pub fn restart(&mut self, ends: [End; 2], rules: &Rules) {
        self.ends = ends;
        self.counters = Counters::default();
        self.filter = Filter::new(rules, 0);
        self.rates = Rates::new(&Limits::default());
    }

    /// Moves frames that come from this end; they do not wait for receive buffers. Nothing happens
    /// when its ring has stopped.
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
        let turn = source.source(0).map(|source| source.carry(&mut carrier, target.sink(0)));
        for end in &mut self.ends {
            end.settle();
        }
        turn.unwrap_or_default()
    }
}
