//! The link daemon; see `netvm-link --help`.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use clap::Parser;
use vhost_net_backend::cli::{Cli, EndName, Place};
use vhost_net_backend::control::listener::{EndListener, listen};
use vhost_net_backend::end::tap::{self, TapEnd};
use vhost_net_backend::inherited;
use vhost_net_backend::link::{Link, LinkConfig, NetvmConfig, VhostUserConfig};
use vhost_net_backend::logging;
use vhost_net_backend::pin;
use vhost_net_backend::sandbox::{self, Identity, Incomplete};

/// Exit codes; the others are 0 for success and clap's 2 for a wrong command line.
const FAILED: u8 = 1;
const SANDBOX_INCOMPLETE: u8 = 3;

type BoxError = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = cli.validate() {
        error.exit();
    }
    logging::init();
    // A process in which a thread has panicked is of no use to anybody, but looks alive.
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!("{panic}");
        std::process::abort();
    }));
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut source = error.source();
            eprintln!("netvm-link: {error}");
            while let Some(error) = source {
                eprintln!("  because: {error}");
                source = error.source();
            }
            ExitCode::from(if error.is::<Incomplete>() { SANDBOX_INCOMPLETE } else { FAILED })
        }
    }
}

fn run(cli: Cli) -> Result<(), BoxError> {
    let control = cli.control.map(inherited::take).transpose()?.map(UnixStream::from);
    let guest = inherit(&cli.guest)?;
    let netvm = cli.netvm.netvm.as_ref().map(inherit).transpose()?;
    let tap = cli.netvm.tap.as_ref().map(inherit).transpose()?;
    inherited::close_others()?;
    let unsealed = |end| cli.unsealed.contains(&end);
    let socket =
        |inherited: Option<OwnedFd>, place: &Place, uid| -> Result<EndListener, BoxError> {
            let listener = match (inherited, place) {
                (Some(listener), _) => listener,
                (None, Place::Name(path)) => listen(path)?,
                (None, Place::Fd(_)) => unreachable!("inherit takes every fd:N"),
            };
            Ok(EndListener::new(listener, uid)?)
        };
    let guest = VhostUserConfig {
        listener: socket(guest, &cli.guest, cli.guest_uid)?,
        unsealed: unsealed(EndName::Guest),
    };
    let netvm = match (&cli.netvm.netvm, &cli.netvm.tap) {
        (Some(place), _) => NetvmConfig::VhostUser(VhostUserConfig {
            listener: socket(netvm.flatten(), place, cli.netvm_uid)?,
            unsealed: unsealed(EndName::Netvm),
        }),
        (None, Some(place)) => {
            let tap = match tap.flatten() {
                Some(tap) => tap,
                None => tap::open(&place.to_string())?,
            };
            NetvmConfig::Tap(TapEnd::new(tap)?)
        }
        (None, None) => unreachable!("clap asks for one of --netvm and --tap"),
    };
    pin::pin(&cli.pin)?;
    let identity = cli.uid.zip(cli.gid).map(|(uid, gid)| Identity { uid, gid });
    let sandbox_missing = sandbox::enter(cli.sandbox, identity)?;
    let link = Link::start(LinkConfig {
        name: cli.name,
        guest_mac: cli.guest_mac,
        netvm_mac: cli.netvm_mac,
        card_mac: cli.card_mac,
        mtu: cli.mtu,
        queue_pairs: usize::from(cli.queue_pairs),
        addresses: cli.addresses.address,
        dynamic: cli.addresses.dynamic,
        lease: cli.addresses.lease,
        limits: cli.rates.limits(),
        guest,
        netvm,
        sandbox_missing,
    })?;
    Ok(link.run(control)?)
}

/// Takes the descriptor, if the place is one.
fn inherit(place: &Place) -> Result<Option<OwnedFd>, inherited::InheritError> {
    match place {
        Place::Fd(number) => inherited::take(*number).map(Some),
        Place::Name(_) => Ok(None),
    }
}
