//! The machine: its processors, memory, IOMMU and network cards, as QEMU's arguments.

use std::ffi::OsString;
use std::time::Duration;

/// A network card of the PC, with a network outside of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// QEMU's name for the card's network: letters, digits and hyphens.
    pub id: String,
    /// QEMU's device model with its options: "e1000e", "vmxnet3",
    /// "virtio-net-pci,iommu_platform=on".
    pub model: String,
    /// Slot on bus 0, 3 to 29: slot 3 is 0000:00:03.0.
    pub slot: u8,
    /// Whether the card is behind a PCIe root port in that slot (it is 0000:BUS:00.0 then, in a
    /// group of its own and with a bus reset).
    pub root_port: bool,
    /// Its Ethernet address, "52:54:00:12:34:56".
    pub mac: String,
    /// The network outside is 10.0.N.0/24: gateway .2, name server .3, web server .100, and .15
    /// is the first address that DHCP gives.
    pub network: u8,
}

impl Nic {
    /// The usual card: e1000e at 0000:00:03.0 on 10.0.2.0/24.
    #[must_use]
    pub fn first() -> Nic {
        Nic {
            id: "n0".into(),
            model: "e1000e".into(),
            slot: 3,
            root_port: false,
            mac: "52:54:00:12:34:56".into(),
            network: 2,
        }
    }

    /// The name of its capture in a folder of captures.
    pub(crate) fn capture(&self, index: usize) -> String {
        if index == 0 { "wire.pcap".into() } else { format!("wire-{}.pcap", self.id) }
    }

    fn arguments(&self, index: usize, out: &mut Vec<OsString>) {
        let Nic { id, model, slot, mac, network, .. } = self;
        // restrict=on: nothing leaves; the server below is all there is.
        out.extend(strings([
            "-netdev",
            &format!(
                "user,id={id},net=10.0.{network}.0/24,restrict=on,\
                 guestfwd=tcp:10.0.{network}.100:80-cmd:busybox httpd -i -h outside"
            ),
            "-object",
            &format!("filter-dump,id=all-{id},netdev={id},file={}", self.capture(index)),
        ]));
        let place = if self.root_port {
            let chassis = index + 1;
            let port = format!(
                "pcie-root-port,id=port-{id},bus=pcie.0,addr={slot:#x},chassis={chassis},\
                 slot={chassis}"
            );
            out.extend(strings(["-device", &port]));
            format!("bus=port-{id},addr=0")
        } else {
            format!("bus=pcie.0,addr={slot:#x}")
        };
        let device = format!("{model},id=card-{id},netdev={id},mac={mac},{place}");
        out.extend(strings(["-device", &device]));
    }
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pc {
    /// Memory in MiB; the unpacked [`Bundle`](crate::Bundle) and all guests come out of it.
    pub memory_mib: u32,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Whether there is an IOMMU.
    pub iommu: bool,
    /// Whether the IOMMU remaps interrupts; without it, assignment of devices is unsafe.
    pub intremap: bool,
    /// The network cards, the first at the place where most scenarios expect it.
    pub nics: Vec<Nic>,
    /// More arguments for QEMU, one string each: "-device", "qemu-xhci,id=xhci,addr=6", ...
    pub devices: Vec<String>,
    /// More words for the kernel's command line.
    pub append: String,
    /// How long the boot may take before the PC is given up.
    pub boot_timeout: Duration,
}

impl Default for Pc {
    /// 4 GiB, 2 CPUs, an IOMMU with interrupt remapping, and [`Nic::first`].
    fn default() -> Pc {
        Pc {
            memory_mib: 4096,
            cpus: 2,
            iommu: true,
            intremap: true,
            nics: vec![Nic::first()],
            devices: Vec::new(),
            append: String::new(),
            boot_timeout: Duration::from_secs(180),
        }
    }
}

impl Pc {
    /// QEMU's arguments without the kernel and the archive. Paths are relative to the folder that
    /// QEMU runs in; the control channel is file descriptor 3.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let mut out = strings([
            "-no-user-config",
            "-nodefaults",
            "-display",
            "none",
            "-no-reboot",
            // KVM of an unknown machine proves nothing until a guest has run in it: always TCG.
            "-accel",
            "tcg,thread=multi",
            "-machine",
            "q35,kernel-irqchip=split,usb=off",
            "-cpu",
            // Without fsgsbase: QEMU 7.2's emulation of nested SVM now and then mixes up the GS bases of
            // a guest and of the PC. This made it rarer, it does not cure it.
            "max,+svm,+npt,-fsgsbase",
            "-smp",
            &self.cpus.to_string(),
            "-m",
            &self.memory_mib.to_string(),
            "-chardev",
            "file,id=console,path=console.log",
            "-serial",
            "chardev:console",
            "-chardev",
            "stdio,id=control,signal=off",
            "-serial",
            "chardev:control",
            "-chardev",
            "socket,id=qmp,fd=3",
            "-mon",
            "chardev=qmp,mode=control",
            "-fsdev",
            "local,id=share,path=.,security_model=none,multidevs=remap",
            "-device",
            "virtio-9p-pci,fsdev=share,mount_tag=share,bus=pcie.0,addr=0x1e",
        ]);
        if self.iommu {
            let intremap = if self.intremap { "on" } else { "off" };
            let iommu = format!("intel-iommu,intremap={intremap},caching-mode=on,aw-bits=48");
            // The IOMMU has to exist before the devices it translates for.
            out.splice(0..0, strings(["-device", &iommu]));
        }
        for (index, nic) in self.nics.iter().enumerate() {
            nic.arguments(index, &mut out);
        }
        out.extend(self.devices.iter().map(OsString::from));
        out
    }

    /// The kernel's command line.
    pub(crate) fn command_line(&self) -> String {
        // Calibration and mitigations cost seconds in an emulated PC and prove nothing there.
        let base = "console=ttyS0 panic=-1 quiet nokaslr mitigations=off no_timer_check \
                    random.trust_cpu=on intel_iommu=on iommu=pt sysrq_always_enabled";
        format!("{base} {}", self.append).trim_end().to_owned()
    }
}

fn strings<const N: usize>(words: [&str; N]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(pc: &Pc) -> String {
        let words: Vec<String> =
            pc.arguments().iter().map(|word| word.to_string_lossy().into_owned()).collect();
        words.join(" ")
    }

    #[test]
    fn arguments_second_card_behind_a_root_port_has_its_own_network_and_capture() {
        let second = Nic {
            id: "n1".into(),
            slot: 4,
            root_port: true,
            mac: "52:54:00:12:34:57".into(),
            network: 3,
            ..Nic::first()
        };
        let line = joined(&Pc { nics: vec![Nic::first(), second], ..Pc::default() });
        assert!(
            line.contains("e1000e,id=card-n0,netdev=n0,mac=52:54:00:12:34:56,bus=pcie.0,addr=0x3")
        );
        assert!(line.contains("pcie-root-port,id=port-n1,bus=pcie.0,addr=0x4,chassis=2,slot=2"));
        assert!(line.contains("net=10.0.3.0/24,restrict=on,guestfwd=tcp:10.0.3.100:80"));
        assert!(line.contains("netdev=n1,file=wire-n1.pcap"));
    }

    #[test]
    fn arguments_no_iommu_leaves_the_device_out() {
        assert!(!joined(&Pc { iommu: false, ..Pc::default() }).contains("intel-iommu"));
        let line = joined(&Pc { intremap: false, ..Pc::default() });
        assert!(line.starts_with("-device intel-iommu,intremap=off,"), "{line}");
    }
}
