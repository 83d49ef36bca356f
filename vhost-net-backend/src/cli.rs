//! The command line of `netvm-link`.

use std::fmt;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, ValueEnum};

use crate::mac::MacAddr;

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
             --card-mac 52:54:00:00:00:02 --guest fd:3 --netvm fd:4 --control fd:5 \\
             --uid 70001 --gid 70001
  netvm-link --name web --guest-mac 52:54:00:00:00:10 --netvm-mac 52:54:00:00:00:01 \\
             --card-mac 52:54:00:00:00:02 --guest /run/netvm/web.sock --tap tap-web \\
             --sandbox available";

const AFTER_HELP: &str = "\
Examples:
  As a supervisor starts it, with sockets it has made, and a user of its own:
    netvm-link --name web --guest-mac 52:54:00:00:00:10 --netvm-mac 52:54:00:00:00:01 \\
               --card-mac 52:54:00:00:00:02 --guest fd:3 --netvm fd:4 --control fd:5 \\
               --uid 70001 --gid 70001
  By hand, with a TAP in place of netvm:
    netvm-link --name web --guest-mac 52:54:00:00:00:10 --netvm-mac 52:54:00:00:00:01 \\
               --card-mac 52:54:00:00:00:02 --guest /run/netvm/web.sock --tap tap-web \\
               --sandbox available

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

fn unicast(text: &str) -> Result<MacAddr, String> {
    let mac: MacAddr = text.parse().map_err(|error| format!("{error}"))?;
    if mac.is_unicast() { Ok(mac) } else { Err(format!("{mac} is not the address of one card")) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

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
