//! `netvm dt`: what can be typed about device trees.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use dt_overlay::survey::KeepAway;

/// What to do with a device tree.
#[derive(Debug, Subcommand)]
pub enum DtCommand {
    /// List the Ethernet controllers of trees, and whether each can be given to a guest
    Survey {
        /// A flattened tree, or a directory of them; this machine's tree if not given
        path: Option<PathBuf>,
        /// Board file for trees that the built-in ones do not know; may be repeated
        #[arg(long = "board", value_name = "FILE")]
        boards: Vec<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make the overlay that keeps a NIC's driver away on the host and puts it behind its IOMMU
    #[command(after_help = "Examples:\n  netvm dt host-overlay ethernet0 --tree zcu102.dtb\n  \
        netvm dt host-overlay ff0e0000.ethernet -o nic.dtbo\n  \
        netvm dt host-overlay /soc/ethernet@20000 --tree board.dtb --stream 0x3c0:0x0")]
    HostOverlay {
        /// The NIC
        #[command(flatten)]
        nic: NicArgs,
        /// Where the overlay goes; its text is printed if not given
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Make the overlay that describes a NIC to its guest
    #[command(
        after_help = "Examples:\n  netvm dt guest-overlay ethernet0 --tree board.dtb -o guest.dtbo\n  \
        netvm dt guest-overlay ethernet0 --vmm standalone --address 0xc000000 --spi 112"
    )]
    GuestOverlay {
        /// The NIC
        #[command(flatten)]
        nic: NicArgs,
        /// Who runs the guest
        #[arg(long, value_enum, default_value = "crosvm")]
        vmm: GuestVmmName,
        /// Where the NIC's registers begin in the guest, for `standalone`
        #[arg(long, value_name = "ADDRESS", value_parser = number, default_value = "0xc000000")]
        address: u64,
        /// The guest's first shared peripheral interrupt for the NIC, for `standalone`
        #[arg(long, value_name = "NUMBER", default_value_t = 112)]
        spi: u32,
        /// Where the overlay goes; its text is printed if not given
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Apply overlays to a tree, in order
    #[command(after_help = "Example:\n  netvm dt apply board.dtb nic.dtbo -o changed.dtb")]
    Apply {
        /// The tree
        base: PathBuf,
        /// The overlays
        #[arg(required = true)]
        overlays: Vec<PathBuf>,
        /// Where the result goes; its text is printed if not given
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Say what a NIC depends on, what would move to the guest, and what would stay
    Explain {
        /// The NIC
        #[command(flatten)]
        nic: NicArgs,
        /// Draw it as SVG
        #[arg(long, conflicts_with = "json")]
        svg: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Which NIC, and what its tree does not say.
#[derive(Args, Clone, Debug)]
pub struct NicArgs {
    /// Path of its node, its name in /aliases, or its name in /sys/bus/platform/devices
    pub nic: String,
    /// The host's tree; this machine's if not given
    #[arg(long, value_name = "FILE")]
    pub tree: Option<PathBuf>,
    /// Board file for a board that the built-in ones do not know
    #[arg(long = "board", value_name = "FILE")]
    pub boards: Vec<PathBuf>,
    /// How the native driver is kept away on the host; as fits the NIC if not given
    #[arg(long, value_enum)]
    pub keep_away: Option<KeepAwayName>,
    /// Path of the IOMMU in front of the NIC, where its node does not say
    #[arg(long, value_name = "PATH")]
    pub iommu: Option<String>,
    /// A stream of the NIC at its IOMMU: as many numbers as that wants, such as 0x12:0x7f80; may be
    /// repeated
    #[arg(long = "stream", value_name = "ID[:MASK]", value_parser = stream)]
    pub streams: Vec<Stream>,
    /// Rate of one of its clocks in Hz; may be repeated
    #[arg(long = "clock", value_name = "NAME=HZ", value_parser = clock)]
    pub clocks: Vec<(String, u32)>,
    /// The NIC's address in the guest
    #[arg(long, value_name = "MAC")]
    pub mac: Option<vhost_net_backend::mac::MacAddr>,
}

/// The numbers of a stream.
#[derive(Clone, Debug)]
pub struct Stream(pub Vec<u32>);

/// Who runs the guest.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum GuestVmmName {
    /// crosvm, which fills in registers and interrupts
    Crosvm,
    /// Another: registers and interrupts as given
    Standalone,
}

/// How the native driver is kept away.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum KeepAwayName {
    /// By another `compatible`, from boot on
    Compatible,
    /// By `driver_override` in sysfs, the node left as it is
    DriverOverride,
}

impl From<KeepAwayName> for KeepAway {
    fn from(name: KeepAwayName) -> Self {
        match name {
            KeepAwayName::Compatible => Self::Compatible,
            KeepAwayName::DriverOverride => Self::DriverOverride,
        }
    }
}

fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "write a number such as 4096 or 0x1000".to_owned())
}

fn stream(text: &str) -> Result<Stream, String> {
    let numbers = text.split(':').map(|part| {
        number(part).and_then(|it| u32::try_from(it).map_err(|_| "larger than 32 bits".to_owned()))
    });
    numbers.collect::<Result<_, _>>().map(Stream)
}

fn clock(text: &str) -> Result<(String, u32), String> {
    let (name, rate) = text.split_once('=').ok_or("write NAME=HZ, such as pclk=125000000")?;
    let rate = number(rate)?;
    let rate = u32::try_from(rate).map_err(|_| "larger than 32 bits".to_owned())?;
    Ok((name.to_owned(), rate))
}
