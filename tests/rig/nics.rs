//! Cards to pass through, one after the other: whatever QEMU emulates, each alone in its IOMMU
//! group and on a network of its own.

use netvm_rig::{Pc, Scenario};

/// What a card is plugged into.
enum Slot {
    /// A PCI Express root port.
    Port,
    /// A bridge from PCI Express to PCI.
    Bridge,
}

/// A model of a card.
struct Card {
    /// QEMU's name for it.
    model: &'static str,
    /// More of QEMU's options.
    options: &'static str,
    slot: Slot,
    /// Vendor and device, as sysfs has them.
    id: &'static str,
    /// Its native driver: the one that the guest is to use.
    driver: &'static str,
    /// All registers that its driver uses for frames can be mapped into the guest: neither ports
    /// nor less than a page.
    direct: bool,
    /// An address at which QEMU's model reads though the driver did not tell it to, or nothing.
    stray: &'static str,
}

const fn card(model: &'static str, slot: Slot, id: &'static str, driver: &'static str) -> Card {
    Card { model, options: "", slot, id, driver, direct: true, stray: "" }
}

const CARDS: [Card; 9] = [
    card("e1000e", Slot::Port, "8086:10d3", "e1000e"),
    card("e1000", Slot::Bridge, "8086:100e", "e1000"),
    Card { direct: false, ..card("rtl8139", Slot::Bridge, "10ec:8139", "8139cp") },
    // It reads two buffers a frame where the driver says one; the second one's address is what is
    // left of a command that configured the card (bytes 16 to 19: 00 40 fa 86).
    Card { stray: "0x86fa4000", ..card("i82559er", Slot::Bridge, "8086:1209", "e100") },
    card("vmxnet3", Slot::Port, "15ad:07b0", "vmxnet3"),
    Card {
        options: ",iommu_platform=on",
        ..card("virtio-net-pci", Slot::Port, "1af4:1041", "virtio_net")
    },
    Card { direct: false, ..card("tulip", Slot::Bridge, "1011:0019", "tulip") },
    Card { direct: false, ..card("pcnet", Slot::Bridge, "1022:2000", "pcnet32") },
    // The controller is what is passed through, with the card behind it.
    card("usb-net", Slot::Port, "1b36:000d", "cdc_ether"),
];

/// What the outside sends, and how much it takes: 10 MiB of which no eight bytes are the same.
const SEND: &str = "seq 1000000 2310719";
const SUM: &str = "2780235a7efadb4742a56965dc1c3640";
const TAKE: &str = "sh -c 'head -c 10485760 | md5sum'";

/// A PC with all cards.
pub fn pc() -> Pc {
    let devices =
        CARDS.iter().enumerate().flat_map(|(index, card)| card.arguments(index)).collect();
    Pc { nics: Vec::new(), devices, ..Pc::default() }
}

/// One scenario for each card.
pub fn scenarios() -> Vec<Scenario> {
    let scenario = |(index, card): (usize, &Card)| {
        let Card { model, id, driver, direct, stray, .. } = card;
        let network = network(index);
        let known = format!(
            "id={id} driver={driver} outside=10.0.{network}.100 sum={SUM} direct={direct} \
             stray={stray}"
        );
        let script = format!("{known}\n{}", include_str!("nic.sh"));
        netvm::demo::scenario_of(&format!("nic-{model}"), &script).timeout(super::LIMIT)
    };
    CARDS.iter().enumerate().map(scenario).collect()
}

/// The third number of a card's network.
fn network(index: usize) -> usize {
    20 + index
}

impl Card {
    fn arguments(&self, index: usize) -> Vec<String> {
        let Card { model, options, .. } = self;
        let (number, network, place) = (index + 1, network(index), index + 4);
        let netdev = format!(
            "user,id=n{number},net=10.0.{network}.0/24,restrict=on,\
             guestfwd=tcp:10.0.{network}.100:81-cmd:{SEND},\
             guestfwd=tcp:10.0.{network}.100:82-cmd:{TAKE}"
        );
        let above = match self.slot {
            Slot::Port => format!(
                "pcie-root-port,id=above{number},bus=pcie.0,addr={place:#x},chassis={number},\
                 slot={number}"
            ),
            Slot::Bridge => {
                format!("pcie-pci-bridge,id=above{number},bus=pcie.0,addr={place:#x}")
            }
        };
        let usb = *model == "usb-net";
        let bus = if usb { "usb.0".to_owned() } else { format!("above{number}") };
        // A bridge's place 0 is its hot-plug controller's.
        let address = match self.slot {
            _ if usb => "",
            Slot::Port => ",addr=0",
            Slot::Bridge => ",addr=1",
        };
        let mut devices = vec![above];
        if usb {
            devices.push(format!("qemu-xhci,id=usb,bus=above{number},addr=0"));
        }
        // Not a local one (bit 1 of the first byte): Linux would call a USB card with that usb0.
        let mac = format!("50:54:00:12:35:{number:02x}");
        devices.push(format!("{model},netdev=n{number},mac={mac},bus={bus}{address}{options}"));
        let devices = devices.into_iter().flat_map(|device| ["-device".to_owned(), device]);
        ["-netdev".to_owned(), netdev].into_iter().chain(devices).collect()
    }
}
