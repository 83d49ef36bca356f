//! What the negotiated features change.

use vhost::VhostBackend;
use vhost::vhost_user::VhostUserFrontend;
use vhost::vhost_user::message::VhostUserConfigFlags;

use crate::common::guest::{Guest, MRG_RXBUF};
use crate::common::link::TestLink;
use crate::common::{CARD, GUEST, NETVM, frame};
use crate::pair;

#[test]
fn config_space_has_each_ends_mac_and_the_mtu() {
    let (_link, mut guest, mut netvm) = pair(MRG_RXBUF, 64);
    for (end, mac) in [(&mut guest, GUEST), (&mut netvm, CARD)] {
        let frontend = &mut end.session().frontend;
        let flags = VhostUserConfigFlags::empty();
        let (_, config) = frontend.get_config(0, 12, flags, &[0; 12]).unwrap();
        assert_eq!(config[..6], mac.octets());
        assert_eq!(config[6..8], [1, 0], "link up, as this frontend cannot be told of changes");
        assert_eq!(config[10..12], 1500_u16.to_le_bytes());
        // A read of any size at any offset is answered, and a write is harmless.
        let (_, config) = frontend.get_config(4, 4, flags, &[0; 4]).unwrap();
        assert_eq!(config[..2], mac.octets()[4..]);
        frontend.set_config(0, VhostUserConfigFlags::WRITABLE, &[9; 6]).unwrap();
        let (_, config) = frontend.get_config(0, 6, flags, &[0; 6]).unwrap();
        assert_eq!(config, mac.octets());
        assert_eq!(frontend.get_queue_num().unwrap(), 2);
        assert_eq!(frontend.get_max_mem_slots().unwrap(), 509);
    }
}

#[test]
fn t54_regions_in_any_order_are_taken_and_overlapping_ones_are_not() {
    let link = TestLink::start();
    for (bases, is_good) in [([0x80_0000, 0], true), ([0, 0x7f_0000], false)] {
        let mut guest = Guest::new(MRG_RXBUF, 64);
        guest.connect(&link.guest_socket());
        let regions = bases.map(|base| {
            let mut region = guest.region();
            region.guest_phys_addr = base;
            region.userspace_addr += base;
            region
        });
        assert_eq!(guest.session().frontend.set_mem_table(&regions).is_ok(), is_good);
        if is_good {
            guest.send(&frame(NETVM, GUEST, 60, 1));
        }
        guest.disconnect();
        link.report_when(|report| !report.guest.connected);
    }
}
