//! The steps of the `secure` scenario: links, the NIC to VFIO, netvm.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use vmm_plugin::host::binding;
use vmm_plugin::host::nic::Nic;
use vmm_plugin::host::sysfs::Sysfs;

use crate::declaration::{Declaration, Guest};
use crate::identity;
use crate::leases::Pool;
use crate::plan::{Part, Start, Step};
use crate::platform::{self, Overlay, PlatformError};
use crate::render::{self, RenderError};
use crate::run::paths::RunDir;
use crate::run::process::Identity;
use crate::vmm::{CommandLineError, LinkCard, NetvmVm, Reconnect, VfioDevice, Vmm, netvm_command};

/// How long netvm has from its start to a loaded ruleset, in seconds.
const START_SECONDS: u64 = 120;

/// netvm's kernel command line, before what the declaration adds. A kernel that panics ends its VMM, which ends the run.
const CMDLINE: &str = "console=ttyS0 quiet panic=-1";

/// What the plan is made of besides the declaration.
#[derive(Debug)]
pub struct Parts {
    /// The link's program.
    pub link: PathBuf,
    /// The VMM's program.
    pub binary: PathBuf,
    /// What netvm boots.
    pub kernel: PathBuf,
    /// Its image, to which the configuration is appended.
    pub initramfs: PathBuf,
    /// Who the VMM runs as.
    pub vmm: Identity,
    /// How it is told to connect again, if it is QEMU.
    pub reconnect: Reconnect,
    /// Whether the operator overrode the refusal of interrupts that are not remapped.
    pub unsafe_interrupts: bool,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum SecureError {
    /// The configuration.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// netvm's command line.
    #[error("netvm cannot be started by its VMM")]
    CommandLine(#[from] CommandLineError),
    /// A platform NIC.
    #[error(transparent)]
    Platform(#[from] PlatformError),
}

/// Every step, in order. The NIC leaves the host as late as possible.
pub fn steps(
    declaration: &Declaration,
    sysfs: &Sysfs,
    nics: &[Nic],
    run: &RunDir,
    parts: &Parts,
) -> Result<Vec<Step>, SecureError> {
    let mut steps = common(run);
    steps.push(Step::Directory { path: run.netvm() });
    for path in [run.console(), run.state()] {
        steps.push(Step::Fifo { path, owner: parts.vmm });
    }
    steps.push(Step::Initramfs {
        image: parts.initramfs.clone(),
        files: render::netvm(declaration, &Pool::new(declaration).known(run))?,
        path: run.initramfs(),
    });
    for (guest, index) in declaration.guests.iter().zip(0..) {
        let netvm_end = run.netvm_socket(guest.name.as_str());
        steps.extend([
            Step::Directory { path: run.link(guest.name.as_str()) },
            listen(run, guest),
            Step::Listen { path: netvm_end.clone(), owner: parts.vmm },
        ]);
        let far = [OsString::from("--netvm"), "fd:4".into()];
        let mut argv = link_command(&parts.link, declaration, guest, identity::link(index), &far);
        argv.extend(["--netvm-uid".into(), parts.vmm.uid.to_string().into()]);
        if declaration.netvm.vmm == Vmm::CloudHypervisor {
            argv.extend(["--unsealed".into(), "netvm".into()]);
        }
        argv.extend(["--control".into(), "fd:5".into()]);
        let sockets = vec![run.guest_socket(guest.name.as_str()), netvm_end];
        steps.push(start(Part::Link(guest.name.to_string()), argv, None, sockets));
    }
    let modprobe = |module| {
        let argv = ["modprobe", module].map(OsString::from).to_vec();
        Step::Command { argv, undo: None }
    };
    for (module, bus) in [("vfio-pci", "pci"), ("vfio-platform", "platform")] {
        let used = nics.iter().any(|nic| nic.device.name.bus() == bus);
        if used && !sysfs.exists(format!("/sys/bus/{bus}/drivers/{module}")) {
            steps.push(modprobe(module));
        }
    }
    if parts.unsafe_interrupts {
        // VFIO has a refusal of its own.
        steps.push(modprobe("vfio_iommu_type1"));
        let path = "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts".into();
        steps.push(Step::Setting { path, value: "Y".to_owned() });
    }
    steps.push(Step::Bind { nics: nics.to_vec(), writes: binding::plan(sysfs, nics) });
    let mut granted = Vec::new();
    for group in nics.iter().filter_map(|nic| nic.device.group.as_ref()) {
        let path = group.vfio_path();
        if !granted.contains(&path) {
            granted.push(path.clone());
            steps.push(Step::Grant { path, owner: parts.vmm });
        }
    }
    let overlays = platform::overlays(sysfs, nics, run)?;
    let vm = netvm_vm(declaration, nics, &overlays, run, parts);
    let argv = netvm_command(declaration.netvm.vmm, &vm)?;
    steps.extend(overlays.into_iter().map(Step::Overlay));
    steps.push(start(Part::Netvm, argv, Some(parts.vmm), Vec::new()));
    steps.push(Step::Await { seconds: START_SECONDS });
    Ok(steps)
}

/// What both scenarios begin with.
pub fn common(run: &RunDir) -> Vec<Step> {
    vec![
        Step::Listen { path: run.control(), owner: identity::ROOT },
        Step::Directory { path: run.links() },
    ]
}

/// The guest end of a link.
pub fn listen(run: &RunDir, guest: &Guest) -> Step {
    let owner = guest.user.map_or(identity::ROOT, |uid| Identity { uid, gid: uid });
    Step::Listen { path: run.guest_socket(guest.name.as_str()), owner }
}

/// A process without a control channel of its own is given none.
pub fn start(
    part: Part,
    argv: Vec<OsString>,
    identity: Option<Identity>,
    sockets: Vec<PathBuf>,
) -> Step {
    Step::Start(Start { part, argv, identity, sockets })
}

/// The command line of a link up to its ends' users; `far` is its other end.
pub fn link_command(
    program: &Path,
    declaration: &Declaration,
    guest: &Guest,
    identity: Identity,
    far: &[OsString],
) -> Vec<OsString> {
    let mut argv = vec![program.as_os_str().to_owned()];
    let mut option = |name: &str, value: String| {
        argv.push(name.into());
        argv.push(value.into());
    };
    option("--name", guest.name.to_string());
    option("--guest-mac", guest.mac.to_string());
    option("--netvm-mac", declaration.network.mac.to_string());
    option("--card-mac", guest.card_mac.to_string());
    option("--mtu", declaration.network.mtu.to_string());
    for (name, value) in guest.rate.words() {
        option(name, value);
    }
    if let Some(cpu) = guest.link_cpu {
        option("--pin", cpu.to_string());
    }
    if let Some(address) = guest.address {
        option("--address", address.to_string());
    }
    option("--guest", "fd:3".to_owned());
    option("--guest-uid", guest.user.unwrap_or(0).to_string());
    option("--uid", identity.uid.to_string());
    option("--gid", identity.gid.to_string());
    if guest.vmm == Vmm::CloudHypervisor {
        // Before September 2026 it does not seal its memory; see SECURITY.md.
        option("--unsealed", "guest".to_owned());
    }
    if guest.address.is_none() {
        // A lease that is known already follows when the link is started.
        argv.push("--dynamic".into());
    }
    argv.extend_from_slice(far);
    argv
}

fn netvm_vm(
    declaration: &Declaration,
    nics: &[Nic],
    overlays: &[Overlay],
    run: &RunDir,
    parts: &Parts,
) -> NetvmVm {
    let described = |name: &str| {
        overlays.iter().find_map(|overlay| {
            let (_, symbol) = overlay.nics.iter().find(|(nic, _)| nic == name)?;
            Some((symbol.clone(), overlay.path.clone()))
        })
    };
    let devices = nics.iter().filter_map(|nic| match nic.device.name.pci() {
        Some(address) => Some(VfioDevice::Pci(address)),
        // Every platform NIC has an overlay.
        None => described(&nic.device.name.to_string()).map(|(symbol, overlay)| {
            VfioDevice::Platform { sysfs: nic.device.name.directory(), symbol, overlay }
        }),
    });
    NetvmVm {
        program: parts.binary.clone(),
        memory: declaration.netvm.memory,
        vcpus: declaration.netvm.vcpus,
        kernel: parts.kernel.clone(),
        initramfs: run.initramfs(),
        cmdline: [&[CMDLINE.to_owned()], declaration.netvm.cmdline.as_slice()].concat().join(" "),
        devices: devices.collect(),
        links: declaration
            .guests
            .iter()
            .map(|guest| LinkCard {
                socket: run.netvm_socket(guest.name.as_str()),
                mac: guest.card_mac,
            })
            .collect(),
        mtu: declaration.network.mtu,
        console: run.console(),
        state: run.state(),
        reconnect: parts.reconnect,
    }
}
