//! Command lines of the three VMMs, always as lists of arguments, never as shell text.

use std::fmt;

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A virtual machine monitor that can run netvm and guests.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
#[value(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Vmm {
    /// cloud-hypervisor.
    CloudHypervisor,
    /// crosvm.
    Crosvm,
    /// QEMU.
    Qemu,
}

impl Vmm {
    /// The name that it has in netvm.toml and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Vmm::CloudHypervisor => "cloud-hypervisor",
            Vmm::Crosvm => "crosvm",
            Vmm::Qemu => "qemu",
        }
    }

    /// The usual name of its program, to be found in `PATH`.
    pub fn program(self) -> &'static str {
        match self {
            Vmm::CloudHypervisor => "cloud-hypervisor",
            Vmm::Crosvm => "crosvm",
            Vmm::Qemu => "qemu-system-x86_64",
        }
    }
}

impl fmt::Display for Vmm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
