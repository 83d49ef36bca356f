//! The command line: what can be typed. What it does is in the module named after each command.

pub mod dt;
pub mod run;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use vmm_plugin::host::preflight::{Override, Overrides};

use crate::exit;
use crate::vmm::Vmm;

/// Gives a host's physical NIC to a guest of its own, netvm, and links every other guest to it.
#[derive(Debug, Parser)]
#[command(
    name = "netvm",
    version,
    arg_required_else_help = true,
    after_help = exit::TABLE,
    after_long_help = long_help(),
    max_term_width = 100
)]
pub struct Cli {
    /// Where a running netvm keeps its sockets, its journal and its lock
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "NETVM_RUN_DIR",
        default_value = "/run/netvm"
    )]
    pub run_dir: PathBuf,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

fn long_help() -> String {
    format!(
        "Examples:\n  \
         netvm check                    what would stand in the way, without touching anything\n  \
         netvm plan                     every step that `up` would take, in order\n  \
         netvm up                       do it, stay in the foreground, undo it on SIGTERM\n  \
         netvm flags browser --vmm qemu what to add to that guest's command line\n  \
         netvm status                   the NIC, netvm, every link and its counters\n  \
         netvm recover                  after a crash: the NIC back to its host driver\n  \
         netvm bench --quick            what links carry on this machine\n\n{}",
        exit::TABLE
    )
}

/// Where the declaration is.
#[derive(Args, Clone, Debug)]
pub struct DeclarationFile {
    /// The declaration to read
    #[arg(
        id = "declaration",
        short = 'f',
        long = "declaration",
        value_name = "FILE",
        env = "NETVM_DECLARATION",
        default_value = "/etc/netvm/netvm.toml"
    )]
    pub path: PathBuf,
}

/// What to work on and which refusals to override.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// The declaration
    #[command(flatten)]
    pub declaration: DeclarationFile,
    /// Where `netvm image build` left netvm's image
    #[command(flatten)]
    pub image: ImageDir,
    /// Refusals to override
    #[command(flatten)]
    pub overrides: OverrideFlags,
}

/// Refusals of preflight that the operator may decide to ignore; each is printed and journaled.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Overrides (recorded in the journal)")]
pub struct OverrideFlags {
    /// Go on although a guest may be able to inject interrupts into the host
    #[arg(long)]
    pub allow_unsafe_interrupts: bool,
    /// Take a NIC that the host uses: the host loses that network
    #[arg(long)]
    pub take_from_host: bool,
    /// Give away a device that cannot be reset
    #[arg(long)]
    pub allow_no_reset: bool,
    /// Go on although pcie_acs_override makes groups look smaller than they are
    #[arg(long)]
    pub allow_acs_override: bool,
    /// Take the NIC that carries this very SSH session
    #[arg(long)]
    pub cut_me_off: bool,
}

impl From<OverrideFlags> for Overrides {
    fn from(flags: OverrideFlags) -> Self {
        [
            (flags.allow_unsafe_interrupts, Override::AllowUnsafeInterrupts),
            (flags.take_from_host, Override::TakeFromHost),
            (flags.allow_no_reset, Override::AllowNoReset),
            (flags.allow_acs_override, Override::AllowAcsOverride),
            (flags.cut_me_off, Override::CutMeOff),
        ]
        .into_iter()
        .filter_map(|(given, name)| given.then_some(name))
        .collect()
    }
}

/// Where netvm's built-in image is kept.
#[derive(Args, Clone, Debug)]
pub struct ImageDir {
    /// Where netvm's built-in image is kept
    #[arg(
        id = "image-dir",
        long = "image-dir",
        value_name = "DIR",
        env = "NETVM_IMAGE_DIR",
        default_value = "/var/lib/netvm/image"
    )]
    pub path: PathBuf,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look at the host and say what would stand in the way; changes nothing
    ///
    /// Prints one line a finding: what was looked at, what was found, what to do about it. Ends with
    /// status 3 if `up` would refuse.
    Check {
        /// What to look at
        #[command(flatten)]
        target: Target,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print every step that `up` would take, in order; changes nothing
    Plan {
        /// What to plan for
        #[command(flatten)]
        target: Target,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Give the NIC to netvm, start the links, and stay in the foreground until told to stop
    ///
    /// Tells systemd when it is ready (Type=notify). On SIGTERM, SIGINT or `netvm down` everything is
    /// undone in reverse and the NIC goes back to its host driver.
    Up {
        /// What to bring up
        #[command(flatten)]
        target: Target,
    },
    /// Ask the running `netvm up` to undo everything and wait until it has
    Down,
    /// Show the NIC, netvm, its uplink and leases, and every link with its counters
    Status {
        /// Print JSON
        #[arg(long, conflicts_with = "svg")]
        json: bool,
        /// Draw the topology as SVG
        #[arg(long)]
        svg: bool,
        /// Show it again every two seconds until interrupted
        #[arg(short, long, conflicts_with_all = ["json", "svg"])]
        watch: bool,
    },
    /// After a crash: bring the NIC back to its host driver from the journal; may be run at any time
    Recover {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print what to add to a guest's VMM command line
    ///
    /// The words are quoted for a shell: `qemu-system-x86_64 ... $(netvm flags browser --vmm qemu)` needs
    /// `eval` around it; a program reads `--json`.
    #[command(
        after_help = "Examples:\n  netvm flags browser --vmm qemu\n  netvm flags browser --json"
    )]
    Flags {
        /// The guest, as the declaration names it (a spare link: spare-1, spare-2, ...)
        guest: String,
        /// The declaration
        #[command(flatten)]
        declaration: DeclarationFile,
        /// The VMM that will run the guest; as the declaration says if not given
        #[arg(long, value_enum)]
        vmm: Option<Vmm>,
        /// The guest's memory; as the declaration says if not given
        #[arg(long, value_name = "SIZE")]
        memory: Option<String>,
        /// Print a JSON array of words
        #[arg(long)]
        json: bool,
    },
    /// Build netvm's image from installed Debian packages, or show what is in it
    Image {
        /// Build or show
        #[command(subcommand)]
        command: ImageCommand,
    },
    /// Show the whole thing at work in an emulated PC; touches neither this host nor its network
    Demo {
        /// Where captures, logs and the drawing of the topology go
        #[arg(long, value_name = "DIR", default_value = "netvm-demo")]
        out: PathBuf,
        /// Where netvm's image is kept or built
        #[arg(long, value_name = "DIR", env = "NETVM_DEMO_CACHE", default_value = "target/demo")]
        cache: PathBuf,
        /// netvm's VMM; what is not in QEMU's package must be built beside `netvm`.
        #[arg(long, value_name = "VMM", default_value = "qemu")]
        vmm: Vmm,
    },
    /// Measure what links carry on this machine, and what they cost
    ///
    /// Starts real links between guests without a VMM and drives frames through them: frames and bytes a second, CPU
    /// per frame, latency, wake-ups and memory. Touches neither the host's network nor a running netvm. As root the
    /// links have their whole sandbox, and a tap with a bridge is measured beside them.
    #[command(
        after_help = "Examples:\n  netvm bench --quick                      a look, in ten seconds\n  \
        netvm bench --svg bench.svg              everything, and a drawing of it\n  \
        netvm bench --only throughput --sizes 64 --ring packed --seconds 5\n  \
        netvm bench --json > before.json         to compare with later"
    )]
    Bench {
        /// What to measure
        #[command(flatten)]
        options: crate::bench::Options,
    },
    /// Look at device trees: NICs of boards, and overlays that give one to a guest; changes nothing
    Dt {
        /// What to do
        #[command(subcommand)]
        command: dt::DtCommand,
    },
    /// Print the JSON schema of the declaration
    Schema,
    /// Print shell completions
    #[command(
        after_help = "Example:\n  netvm completions bash > /usr/share/bash-completion/completions/netvm"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the man page
    #[command(after_help = "Example:\n  netvm man | man -l -")]
    Man,
}

/// What to do with netvm's image.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Build the image; the same package versions give the same bytes
    Build {
        /// Where it goes
        #[command(flatten)]
        image: ImageDir,
        /// Kernel version, as in /lib/modules; the newest installed one if not given
        #[arg(long, value_name = "VERSION")]
        kernel: Option<String>,
        /// A kernel module to add, with those it needs; may be repeated
        #[arg(long = "module", value_name = "NAME")]
        modules: Vec<String>,
    },
    /// Show the packages, versions and hashes that the image was built from
    Show {
        /// Where it is
        #[command(flatten)]
        image: ImageDir,
        /// Print the manifest as JSON
        #[arg(long)]
        json: bool,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_argument_has_a_help_text() {
        fn look(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{argument} of {}", command.get_name());
            }
            command.get_subcommands().for_each(look);
        }
        look(&Cli::command());
    }
}
