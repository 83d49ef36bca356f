//! From a declaration and the host's facts to a plan, or to the reasons why not. Nothing is changed.

use std::io;
use std::path::{Path, PathBuf};

use netvm_image::Manifest;
use vmm_plugin::host::environment::{Environment, Wanted};
use vmm_plugin::host::network::NetworkError;
use vmm_plugin::host::nic::{Nic, ResolveError, resolve_all};
use vmm_plugin::host::preflight::{self, Override, Overrides, Report};
use vmm_plugin::host::sysfs::Sysfs;

use crate::declaration::{Declaration, Image, Scenario};
use crate::leases::Pool;
use crate::plan::Plan;
use crate::run::paths::RunDir;
use crate::secure::SecureError;
use crate::status::{DeclaredLink, Fixed, NicStatus};
use crate::vmm::{Reconnect, Vmm};
use crate::{development, identity, platform, secure};

/// Everything that `netvm check`, `plan` and `up` work on.
#[derive(Debug)]
pub struct Prepared {
    /// The NICs that the declaration means.
    pub nics: Vec<Nic>,
    /// What preflight found about them.
    pub report: Report,
    /// What else is missing: programs, images, rights. Not to be overridden.
    pub missing: Vec<Missing>,
    /// The steps; empty if something is missing.
    pub plan: Plan,
    /// What `netvm status` shows of it.
    pub fixed: Fixed,
}

impl Prepared {
    /// Whether `up` would refuse.
    pub fn refused(&self) -> bool {
        self.report.refused() || !self.missing.is_empty()
    }
}

/// Something that has to be there before anything is done.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Missing {
    /// What is missing.
    pub what: String,
    /// What to do.
    pub action: String,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "REFUSED    {}\n{:16}-> {}", self.what, "", self.action)
    }
}

/// Why there is nothing to work on.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The declared NICs are not there, or not one each.
    #[error("The declared NICs cannot be found:\n{}", list(.0))]
    Resolve(Vec<ResolveError>),
    /// The host's network cannot be looked at, so it is not known what taking the NIC would end.
    #[error("Cannot look at the host's network")]
    Network(#[from] NetworkError),
    /// There is no way to start netvm as declared.
    #[error(transparent)]
    Secure(#[from] SecureError),
}

fn list(errors: &[ResolveError]) -> String {
    errors.iter().map(|error| format!("  {error}")).collect::<Vec<_>>().join("\n")
}

/// What was typed besides the declaration.
#[derive(Debug)]
pub struct Options<'a> {
    /// Where the run will keep its files.
    pub run: &'a RunDir,
    /// Where the built-in image is.
    pub image_dir: &'a Path,
    /// Refusals to override.
    pub overrides: &'a Overrides,
}

/// Looks at the host and plans.
pub fn prepare(
    declaration: &Declaration,
    sysfs: &Sysfs,
    options: &Options<'_>,
) -> Result<Prepared, PrepareError> {
    let secure = declaration.scenario == Scenario::Secure;
    let selectors = if secure { declaration.nics.as_slice() } else { &[] };
    let nics = resolve_all(sysfs, selectors).map_err(PrepareError::Resolve)?;
    let vmm = identity::vmm(sysfs, declaration.netvm.user);
    let report = if secure {
        let wanted = Wanted {
            guest_memory: declaration.netvm.memory.bytes(),
            // `netvm up` lifts the limit before it starts the VMM.
            vmm_is_root: rustix::process::geteuid().is_root(),
        };
        let environment = Environment::read(sysfs, &nics, wanted)?;
        preflight::run(sysfs, &nics, &environment, options.overrides)
    } else {
        Report::default()
    };
    let mut missing = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push(Missing {
            what: "this process is not root".to_owned(),
            action: "run it with sudo".to_owned(),
        });
    }
    let link = program(None, "netvm-link", &mut missing);
    let (steps, missing) = if secure {
        let binary = program(
            declaration.netvm.vmm_binary.as_deref(),
            declaration.netvm.vmm.program(),
            &mut missing,
        );
        let image = image(declaration, options.image_dir, &mut missing);
        if !sysfs.exists("/dev/kvm") {
            missing.push(Missing {
                what: "there is no /dev/kvm".to_owned(),
                action: "turn virtualisation on in the firmware and load kvm-intel or kvm-amd"
                    .into(),
            });
        } else if !identity::may_use_kvm(sysfs, vmm) {
            missing.push(Missing {
                what: format!("uid {}, gid {} may not use /dev/kvm", vmm.uid, vmm.gid),
                action: "chown root:kvm /dev/kvm && chmod 660 /dev/kvm, as udev does".into(),
            });
        }
        let described = platform::overlays(sysfs, &nics, options.run);
        if let Err(error) = &described {
            missing.push(Missing {
                what: error.to_string(),
                action: "netvm dt explain NIC says what it depends on".to_owned(),
            });
        }
        match (link, binary, image) {
            (Some(link), Some(binary), Some((kernel, initramfs))) if described.is_ok() => {
                let reconnect = qemu_reconnect(&binary, declaration.netvm.vmm);
                let unsafe_interrupts = report.findings.iter().any(|finding| {
                    finding.overridden
                        && finding.overridable == Some(Override::AllowUnsafeInterrupts)
                });
                let parts = secure::Parts {
                    link,
                    binary,
                    kernel,
                    initramfs,
                    vmm,
                    reconnect,
                    unsafe_interrupts,
                };
                (secure::steps(declaration, sysfs, &nics, options.run, &parts)?, missing)
            }
            _ => (Vec::new(), missing),
        }
    } else {
        for (name, _) in development::PROGRAMS {
            program(None, name, &mut missing);
        }
        match link {
            Some(link) => (development::steps(declaration, options.run, &link), missing),
            None => (Vec::new(), missing),
        }
    };
    let fixed = fixed(declaration, &nics, options.overrides);
    Ok(Prepared {
        nics,
        report,
        missing,
        plan: Plan { steps, pool: Pool::new(declaration) },
        fixed,
    })
}

/// How the QEMU at `program` is told to connect again; asked of the program itself.
pub fn qemu_reconnect(program: &Path, vmm: Vmm) -> Reconnect {
    if vmm != Vmm::Qemu {
        return Reconnect::default();
    }
    let output = std::process::Command::new(program).arg("--version").output();
    output.map_or_else(
        |_| Reconnect::default(),
        |output| Reconnect::from_version(&String::from_utf8_lossy(&output.stdout)),
    )
}

/// Finds a program: the one named, or the one beside this one, or the one in PATH.
fn program(named: Option<&Path>, name: &str, missing: &mut Vec<Missing>) -> Option<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(name)));
    let found = match named {
        Some(path) => which::which(path).ok(),
        None => beside.filter(|path| path.is_file()).or_else(|| which::which(name).ok()),
    };
    if found.is_none() {
        let what = named.map_or_else(|| name.to_owned(), |path| path.display().to_string());
        let package = development::PROGRAMS.iter().find(|(program, _)| *program == name);
        missing.push(Missing {
            what: format!("{what} is not there, or not executable"),
            action: match (package, named) {
                (Some((_, package)), _) => format!("apt-get install {package}"),
                (None, Some(_)) => "correct `vmm_binary` in the declaration".to_owned(),
                (None, None) => "install it, or put it into a directory of PATH".to_owned(),
            },
        });
    }
    found
}

/// The kernel and the initramfs that netvm boots.
fn image(
    declaration: &Declaration,
    directory: &Path,
    missing: &mut Vec<Missing>,
) -> Option<(PathBuf, PathBuf)> {
    let (kernel, initramfs, action) = match &declaration.netvm.image {
        Image::BuiltIn => (
            directory.join(netvm_image::image::KERNEL),
            directory.join(netvm_image::image::INITRAMFS),
            "netvm image build",
        ),
        Image::Own { kernel, initramfs } => {
            (kernel.clone(), initramfs.clone(), "correct `image` in the declaration")
        }
    };
    for path in [&kernel, &initramfs] {
        if let Err(error) = readable(path) {
            missing.push(Missing {
                what: format!("netvm's image {}: {error}", path.display()),
                action: action.to_owned(),
            });
            return None;
        }
    }
    if declaration.netvm.image == Image::BuiltIn {
        missing.extend(missing_modules(&declaration.netvm.modules, directory));
    }
    Some((kernel, initramfs))
}

/// Declared modules that the built-in image was not built with.
fn missing_modules(modules: &[String], directory: &Path) -> Option<Missing> {
    if modules.is_empty() {
        return None;
    }
    let manifest = Manifest::read(&directory.join(netvm_image::image::MANIFEST)).ok();
    let absent: Vec<_> = modules
        .iter()
        .filter(|module| !manifest.as_ref().is_some_and(|manifest| manifest.has_module(module)))
        .cloned()
        .collect();
    (!absent.is_empty()).then(|| Missing {
        what: format!("netvm's image is without the declared modules {}", absent.join(", ")),
        action: format!("netvm image build --module {}", modules.join(" --module ")),
    })
}

fn readable(path: &Path) -> io::Result<()> {
    std::fs::File::open(path).map(drop)
}

fn fixed(declaration: &Declaration, nics: &[Nic], overrides: &Overrides) -> Fixed {
    Fixed {
        scenario: match declaration.scenario {
            Scenario::Secure => "secure",
            Scenario::Development => "development",
        }
        .to_owned(),
        pid: std::process::id(),
        nics: nics
            .iter()
            .map(|nic| NicStatus {
                address: nic.device.name.to_string(),
                id: nic.device.ids.as_ref().map(ToString::to_string),
                label: nic.device.label.clone(),
                group: nic.device.group.as_ref().map(|group| group.number),
                host_driver: nic.device.driver.clone(),
            })
            .collect(),
        overrides: overrides.iter().map(ToString::to_string).collect(),
        gateway: declaration.network.address,
        declared: declaration
            .guests
            .iter()
            .map(|guest| DeclaredLink {
                guest: guest.name.to_string(),
                mac: guest.mac.to_string(),
                address: guest.address,
            })
            .collect(),
    }
}
