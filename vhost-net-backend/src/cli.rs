//! The command line of `netvm-link`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::str::FromStr;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, ValueEnum};

use crate::datapath::filter::{Lease, is_host};
use crate::datapath::rate::{CONTROL_PER_SECOND, Limit, Limits};
use crate::mac::MacAddr;
use crate::pin::MAX_CPU;

/// Carries Ethernet frames between one guest and netvm, and nothing else.
///
/// Each end is a vhost-user-net socket that a VMM connects to, as often as it likes; or, for the
/// netvm end, a TAP. Every frame is checked on its way. The process gives up everything it does
/// not need before it accepts a connection.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "netvm-link",
    version,
    max_term_width = 100,
    after_help = EXAMPLES,
    after_long_help = AFTER_HELP
)]
pub struct Cli {
    /// Name of the guest, for logs and reports
    #[arg(long, value_name = "GUEST")]
    pub name: String,

    /// MAC address of the guest's card; frames from the guest must have it as their source
    #[arg(long, value_name = "MAC", value_parser = unicast)]
    pub guest_mac: MacAddr,

    /// MAC address the guest knows as its gateway; the only unicast address it can send to
    #[arg(long, value_name = "MAC", value_parser = unicast)]
    pub netvm_mac: MacAddr,

    /// MAC address of netvm's card at this link
    #[arg(long, value_name = "MAC", value_parser = unicast)]
    pub card_mac: MacAddr,

    /// IP MTU of both cards, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1500,
          value_parser = clap::value_parser!(u16).range(68..=65535 - 14))]
    pub mtu: u16,

    /// Queue pairs each card can have; a driver may use fewer
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=8))]
    pub queue_pairs: u8,

    /// CPUs the link may run on, with commas between them [default: any]. Its packet workers stay
    /// there; without this the kernel moves them as it sees fit
    #[arg(long, value_name = "CPU", value_delimiter = ',', value_parser = cpu)]
    pub pin: Vec<usize>,

    /// What the guest may use as its own.
    #[command(flatten)]
    pub addresses: Addresses,

    /// What may pass in a second.
    #[command(flatten)]
    pub rates: RateOptions,

    /// Socket for the guest's VMM: fd:N (inherited, listening) or a path to create
    #[arg(long, value_name = "SOCKET")]
    pub guest: Place,

    /// What is at netvm's end.
    #[command(flatten)]
    pub netvm: NetvmPlace,

    /// Channel to the supervisor: fd:N, a connected UNIX stream socket. The line `report` is
    /// answered with one line of JSON; end of file ends the link with exit code 0
    #[arg(long, value_name = "fd:N", value_parser = parse_fd)]
    pub control: Option<RawFd>,

    /// User to run as; needs --gid [default: the present one]
    #[arg(long, requires = "gid", value_parser = clap::value_parser!(u32).range(1..))]
    pub uid: Option<u32>,

    /// Group to run as; supplementary groups are given up; needs --uid
    #[arg(long, requires = "uid", value_parser = clap::value_parser!(u32).range(1..))]
    pub gid: Option<u32>,

    /// What to do when a part of the sandbox cannot be had
    #[arg(long, value_enum, default_value_t = SandboxMode::Required)]
    pub sandbox: SandboxMode,

    /// Only this user may connect to the guest end
    #[arg(long, value_name = "UID")]
    pub guest_uid: Option<u32>,

    /// Only this user may connect to the netvm end
    #[arg(long, value_name = "UID")]
    pub netvm_uid: Option<u32>,

    /// Take memory that is not sealed against shrinking from this end's VMM. Such a VMM can crash
    /// this link (older cloud-hypervisor, QEMU without a sealed memfd, huge pages)
    #[arg(long, value_enum, value_name = "END")]
    pub unsealed: Vec<EndName>,
}

/// The guest's addresses. Its link-local IPv6 address in EUI-64 form is always one of them.
#[derive(Args, Clone, Debug)]
pub struct Addresses {
    /// IPv4 or IPv6 address that the guest may send from; repeatable. Without this and --dynamic
    /// nothing in IPv4 comes from the guest but questions to a DHCP server
    #[arg(long, value_name = "ADDRESS", value_parser = host_address)]
    pub address: Vec<IpAddr>,

    /// The guest may also send from the IPv4 address that a DHCP server at the netvm end leases it,
    /// as long as the lease runs
    #[arg(long)]
    pub dynamic: bool,

    /// What was leased to the guest before this link started: the address and the seconds left,
    /// 4294967295 for ever
    #[arg(long, value_name = "ADDRESS,SECONDS", requires = "dynamic", value_parser = parse_lease)]
    pub lease: Option<Lease>,
}

/// Limits of both directions; up is from the guest.
#[derive(Args, Clone, Copy, Debug)]
pub struct RateOptions {
    /// Bytes a second that the guest may send [default: any number]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub rate_up: Option<u64>,

    /// Bytes a second that the guest may get [default: any number]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub rate_down: Option<u64>,

    /// Frames a second that the guest may send [default: any number]
    #[arg(long, value_name = "FRAMES", value_parser = clap::value_parser!(u64).range(1..))]
    pub frames_up: Option<u64>,

    /// Frames a second that the guest may get [default: any number]
    #[arg(long, value_name = "FRAMES", value_parser = clap::value_parser!(u64).range(1..))]
    pub frames_down: Option<u64>,

    /// Broadcast, multicast, ARP and neighbour discovery frames a second, in each direction
    #[arg(long, value_name = "FRAMES", default_value_t = CONTROL_PER_SECOND,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub rate_control: u64,
}

impl RateOptions {
    /// The limits from the guest and to it.
    pub fn limits(&self) -> [Limits; 2] {
        let control = Limit::control(self.rate_control);
        [(self.rate_up, self.frames_up), (self.rate_down, self.frames_down)].map(
            |(bytes, frames)| Limits {
                bytes: bytes.map(Limit::bytes),
                frames: frames.map(Limit::frames),
                control,
            },
        )
    }
}

impl Cli {
    /// What no single option shows: addresses that are there twice.
    ///
    /// # Errors
    /// Clap's, to be printed with [`clap::Error::exit`].
    pub fn validate(&self) -> Result<(), clap::Error> {
        let wrong = |text: String| Err(Self::command().error(ErrorKind::ValueValidation, text));
        for (name, mac) in [("--netvm-mac", self.netvm_mac), ("--card-mac", self.card_mac)] {
            if mac == self.guest_mac {
                return wrong(format!("{name} is the guest's own address, {mac}"));
            }
        }
        let addresses = &self.addresses.address;
        for (index, address) in addresses.iter().enumerate() {
            if addresses.iter().take(index).any(|earlier| earlier == address) {
                return wrong(format!("--address {address} is given twice"));
            }
        }
        Ok(())
    }
}

/// Exactly one of these.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct NetvmPlace {
    /// Socket for netvm's VMM: fd:N (inherited, listening) or a path to create
    #[arg(long, value_name = "SOCKET")]
    pub netvm: Option<Place>,

    /// A TAP in place of netvm (insecure): fd:N (inherited, with IFF_TAP, IFF_NO_PI and
    /// IFF_VNET_HDR) or an interface name
    #[arg(long, value_name = "TAP")]
    pub tap: Option<Place>,
}

/// Where something is: an inherited descriptor, or a name in the file system or among interfaces.
///
/// ```
/// use vhost_net_backend::cli::Place;
/// assert_eq!("fd:5".parse(), Ok(Place::Fd(5)));
/// assert_eq!("/run/a.sock".parse(), Ok(Place::Name("/run/a.sock".into())));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An inherited descriptor.
    Fd(RawFd),
    /// A path or an interface name.
    Name(PathBuf),
}

/// An end, as named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EndName {
    /// The guest's end.
    Guest,
    /// netvm's end.
    Netvm,
}

/// How much of the sandbox there must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SandboxMode {
    /// All of it, or the link does not start (exit code 3).
    Required,
    /// What can be had; what is missing is named in a warning and in reports.
    Available,
    /// None. For development only.
    Off,
}

const EXAMPLES: &str = "\
Examples:
  netvm-link --name web --guest-mac 52:54:00:00:00:10 --netvm-mac 52:54:00:00:00:01 \\
             --card-mac 52:54:00:00:00:02 --address 100.64.0.2 --guest fd:3 --netvm fd:4 \\
             --control fd:5 --uid 70001 --gid 70001
  netvm-link --name web --guest-mac 52:54:00:00:00:10 --netvm-mac 52:54:00:00:00:01 \\
             --card-mac 52:54:00:00:00:02 --dynamic --guest /run/netvm/web.sock \\
             --tap tap-web --sandbox available";

const AFTER_HELP: &str = "\
Examples:
  As a supervisor starts it, with sockets it has made, and a user of its own:
    netvm-link --name web --guest-mac 52:54:00:00:00:10 --netvm-mac 52:54:00:00:00:01 \\
               --card-mac 52:54:00:00:00:02 --address 100.64.0.2 --guest fd:3 --netvm fd:4 \\
               --control fd:5 --uid 70001 --gid 70001
  By hand, with a TAP in place of netvm:
    netvm-link --name web --guest-mac 52:54:00:00:00:10 --netvm-mac 52:54:00:00:00:01 \\
               --card-mac 52:54:00:00:00:02 --dynamic --guest /run/netvm/web.sock \\
               --tap tap-web --sandbox available

Environment:
  NETVM_LOG  what to log to standard error: error, warn, info, debug or trace [default: info]

Exit codes:
  0  the supervisor closed the control channel
  1  failed; the reason is on standard error
  2  the command line is wrong
  3  --sandbox required, and a part of the sandbox cannot be had

The process ends by a signal when told to (SIGTERM), or when it finds itself broken (SIGABRT, SIGSYS);
a supervisor should then start it again: guests keep their links, and traffic resumes.";

/// A text that is none of the forms of a [`Place`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither fd:N nor a name")]
pub struct ParsePlaceError(String);

impl FromStr for Place {
    type Err = ParsePlaceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(ParsePlaceError(text.to_owned()));
        }
        match text.strip_prefix("fd:") {
            Some(_) => parse_fd(text).map(Self::Fd).map_err(|_| ParsePlaceError(text.to_owned())),
            None => Ok(Self::Name(text.into())),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fd(number) => write!(f, "fd:{number}"),
            Self::Name(name) => name.display().fmt(f),
        }
    }
}

fn parse_fd(text: &str) -> Result<RawFd, String> {
    text.strip_prefix("fd:")
        .and_then(|number| number.parse().ok())
        .filter(|number| *number > 2)
        .ok_or_else(|| "give fd:N, with the number N of an inherited descriptor above 2".to_owned())
}

fn cpu(text: &str) -> Result<usize, String> {
    let number: usize = text.parse().map_err(|error| format!("{error}"))?;
    if number < MAX_CPU { Ok(number) } else { Err(format!("CPU numbers are below {MAX_CPU}")) }
}

fn host_address(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|error| format!("{error}"))?;
    let usable = match address {
        IpAddr::V4(address) => is_host(address),
        IpAddr::V6(address) => {
            !address.is_multicast() && !address.is_unspecified() && !address.is_loopback()
        }
    };
    if usable { Ok(address) } else { Err(format!("{address} is not the address of one card")) }
}

fn parse_lease(text: &str) -> Result<Lease, String> {
    let (address, seconds) =
        text.split_once(',').ok_or("give an IPv4 address, a comma, and seconds")?;
    let address: Ipv4Addr = address.parse().map_err(|error| format!("{error}"))?;
    let seconds = seconds.parse().map_err(|error| format!("seconds: {error}"))?;
    if is_host(address) {
        Ok(Lease { address, seconds })
    } else {
        Err(format!("{address} is not the address of one card"))
    }
}

fn unicast(text: &str) -> Result<MacAddr, String> {
    let mac: MacAddr = text.parse().map_err(|error| format!("{error}"))?;
    if mac.is_unicast() { Ok(mac) } else { Err(format!("{mac} is not the address of one card")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMON: &[&str] = &[
        "netvm-link",
        "--name=a",
        "--guest-mac=52:54:00:00:00:10",
        "--netvm-mac=52:54:00:00:00:01",
        "--card-mac=52:54:00:00:00:02",
    ];

    fn parse(rest: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(COMMON.iter().chain(rest))
    }

    #[test]
    fn definition_is_consistent_and_every_option_has_help() {
        let command = Cli::command();
        command.clone().debug_assert();
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{}", argument.get_id());
        }
    }

    #[test]
    fn supervisor_form_is_parsed() {
        let cli = parse(&["--guest=fd:3", "--netvm=fd:4", "--control=fd:5", "--uid=7", "--gid=8"])
            .unwrap();
        assert_eq!(cli.guest, Place::Fd(3));
        assert_eq!(cli.netvm.netvm, Some(Place::Fd(4)));
        assert_eq!(cli.control, Some(5));
        assert_eq!((cli.uid, cli.gid), (Some(7), Some(8)));
        assert_eq!((cli.mtu, cli.sandbox), (1500, SandboxMode::Required));
        assert_eq!(cli.queue_pairs, 1);
    }

    #[test]
    fn cpus_are_a_list_of_numbers() {
        let pin = |value: &str| parse(&["--guest=fd:3", "--netvm=fd:4", "--pin", value]);
        assert_eq!(pin("3").unwrap().pin, [3]);
        assert_eq!(pin("0,2,4").unwrap().pin, [0, 2, 4]);
        for bad in ["", "-1", "a", "1-2", "1,", "1024", "99999999999999999999"] {
            assert!(pin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_leases_and_rates_are_parsed() {
        let ends = ["--guest=fd:3", "--netvm=fd:4"];
        let with = |rest: &[&str]| parse(&[&ends[..], rest].concat());
        let cli = with(&["--address=100.64.0.2", "--address=fd00::2"]).unwrap();
        assert_eq!(cli.addresses.address.len(), 2);
        assert_eq!(cli.rates.limits(), [Limits::default(); 2]);
        let cli = with(&["--dynamic", "--lease=100.64.0.9,600"]).unwrap();
        let lease = Lease { address: Ipv4Addr::new(100, 64, 0, 9), seconds: 600 };
        assert_eq!(cli.addresses.lease, Some(lease));
        let rates = ["--rate-up=1000000", "--frames-down=5000", "--rate-control=10"];
        let [up, down] = with(&rates).unwrap().rates.limits();
        assert_eq!((up.bytes, up.frames), (Some(Limit::bytes(1_000_000)), None));
        assert_eq!((down.bytes, down.frames), (None, Some(Limit::frames(5000))));
        assert_eq!((up.control, down.control), (Limit::control(10), Limit::control(10)));
        for bad in [
            "--lease=100.64.0.9,600",
            "--address=224.0.0.1",
            "--address=0.0.0.0",
            "--address=255.255.255.255",
            "--address=127.0.0.1",
            "--address=ff02::1",
            "--address=::",
            "--address=a",
            "--rate-up=0",
            "--frames-up=-1",
            "--rate-control=0",
        ] {
            assert!(with(&[bad]).is_err(), "{bad}");
        }
        for bad in ["1.2.3.4", "1.2.3.4,", "1.2.3.4,4294967296", "224.0.0.1,5", ",5"] {
            assert!(with(&["--dynamic", "--lease", bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn l22_addresses_that_are_there_twice_are_refused() {
        let validate = |netvm: &str, card: &str, addresses: &[&str]| {
            let mut words = vec!["netvm-link", "--name=a", "--guest-mac=52:54:00:00:00:10"];
            words.extend(["--netvm-mac", netvm, "--card-mac", card, "--guest=fd:3", "--tap=t"]);
            words.extend(addresses);
            Cli::try_parse_from(words).unwrap().validate()
        };
        let (netvm, card, guest) = ("52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:10");
        assert!(validate(netvm, card, &["--address=100.64.0.2", "--address=100.64.0.3"]).is_ok());
        assert!(validate(guest, card, &[]).is_err());
        assert!(validate(netvm, guest, &[]).is_err());
        assert!(validate(netvm, card, &["--address=100.64.0.2", "--address=100.64.0.2"]).is_err());
    }

    #[test]
    fn exactly_one_of_netvm_and_tap_is_needed() {
        assert!(parse(&["--guest=fd:3"]).is_err());
        assert!(parse(&["--guest=fd:3", "--netvm=fd:4", "--tap=tap0"]).is_err());
        assert!(parse(&["--guest=fd:3", "--tap=tap0"]).is_ok());
    }

    #[test]
    fn bad_values_are_refused() {
        let ends = ["--guest=fd:3", "--netvm=fd:4"];
        let refused = |option: &str| {
            let mut rest = ends.to_vec();
            rest.push(option);
            assert!(parse(&rest).is_err(), "{option}");
        };
        refused("--queue-pairs=0");
        refused("--queue-pairs=9");
        refused("--mtu=67");
        refused("--mtu=65536");
        refused("--control=fd:2");
        refused("--control=5");
        refused("--uid=0");
        refused("--uid=7");
        refused("--unsealed=both");
        assert!(parse(&["--guest=fd:x", "--netvm=fd:4"]).is_err());
        assert!(Cli::try_parse_from(["netvm-link", "--guest-mac=ff:ff:ff:ff:ff:ff"]).is_err());
    }
}
