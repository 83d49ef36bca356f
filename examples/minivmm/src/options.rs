//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use vmm_plugin::host::address::PciAddress;

use crate::serial::Line;
use crate::vfio;
use crate::virtio::LinkOptions;

/// A small VMM: boots Linux, passes NICs through with vmm-plugin, and has a card at each link.
///
/// Ends with 0 when the guest switched itself off or wanted to start anew, with 1 when the machine
/// could not be made or broke, with 2 when this command line is wrong.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLE, subcommand_negates_reqs = true)]
pub struct Options {
    /// Something else than a machine.
    #[command(subcommand)]
    pub action: Option<Action>,

    /// The kernel: a vmlinux, or the bzImage that distributions install as vmlinuz.
    #[arg(long, value_name = "FILE", required = true)]
    pub kernel: Option<PathBuf>,

    /// Its initramfs.
    #[arg(long, value_name = "FILE")]
    pub initramfs: Option<PathBuf>,

    /// The kernel's command line.
    #[arg(long, value_name = "TEXT", default_value = "console=ttyS0 panic=-1")]
    pub cmdline: String,

    /// The guest's memory in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    pub memory: u64,

    /// The guest's processors.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub cpus: u8,

    /// A serial port (ttyS0, then ttyS1): `stdio`, or OUTPUT[,in=INPUT] with files or FIFOs
    /// [default: one, stdio].
    #[arg(long = "serial", value_name = "WHERE")]
    pub serials: Vec<Line>,

    /// A card at one end of a link: its vhost-user socket, and the card's address.
    #[arg(long = "link", value_name = "SOCKET,mac=MAC[,mtu=MTU]")]
    pub links: Vec<LinkOptions>,

    /// A NIC that is bound to vfio-pci, as 0000:00:03.0.
    #[arg(long = "vfio", value_name = "BDF", value_parser = vfio::address)]
    pub devices: Vec<PciAddress>,

    /// A socket for commands while the guest runs; `minivmm tell` has them.
    #[arg(long, value_name = "SOCKET")]
    pub api_socket: Option<PathBuf>,
}

/// What minivmm does besides running a machine.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Has a running minivmm do something.
    Tell {
        /// The other's --api-socket.
        socket: PathBuf,
        /// `attach BDF`, `detach BDF`, or `counters`: how often the guest left to each NIC.
        #[arg(required = true)]
        command: Vec<String>,
    },
}

const EXAMPLE: &str = "\
Example:
  minivmm --kernel /boot/vmlinuz --initramfs netvm.cpio --memory 512 --vfio 0000:00:03.0 \\
      --link /run/netvm/links/a/netvm.sock,mac=02:00:00:00:00:01";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// netvm's command lines are checked against that table.
    #[test]
    fn table_of_options_has_all_and_no_others() {
        let table = include_str!("../../../tests/options/minivmm.txt");
        let lines = table.lines().filter_map(|line| line.strip_prefix("--")?.split(' ').next());
        let known: std::collections::BTreeSet<_> =
            lines.map(|flag| flag.trim_end_matches("...")).collect();
        let command = Options::command();
        let flags: std::collections::BTreeSet<_> =
            command.get_arguments().filter_map(|argument| argument.get_long()).collect();
        assert_eq!(flags, known);
    }
}
