//! Whether there are enough links and addresses for all guests.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Serialize;

use super::LINKS_MAX;
use super::check::Check;
use super::error::Problem;
use super::guest::Draft;
use super::network::Network;
use super::raw::RawDeclaration;

/// Addresses from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AddressRange {
    /// Lowest address.
    pub first: Ipv4Addr,
    /// Highest address, not below `first`.
    pub last: Ipv4Addr,
}

impl AddressRange {
    /// How many addresses there are, at least one.
    pub fn count(self) -> u32 {
        // A range inside a subnet of /16 at most does not come near the limit of the type.
        (self.last.to_bits() - self.first.to_bits()).saturating_add(1)
    }
}

/// The longest run of host addresses in `subnet` that are not `taken`; the lowest of equals.
pub(super) fn longest_free_run(
    subnet: Ipv4Net,
    taken: impl Iterator<Item = Ipv4Addr>,
) -> Option<AddressRange> {
    let broadcast = subnet.broadcast().to_bits();
    let mut edges: Vec<u32> =
        taken.filter(|address| subnet.contains(address)).map(Ipv4Addr::to_bits).collect();
    edges.extend([subnet.network().to_bits(), broadcast]);
    edges.sort_unstable();
    let mut longest: Option<AddressRange> = None;
    for pair in edges.windows(2) {
        if pair[1] - pair[0] < 2 {
            continue;
        }
        let run = AddressRange {
            first: Ipv4Addr::from_bits(pair[0] + 1),
            last: Ipv4Addr::from_bits(pair[1] - 1),
        };
        if longest.is_none_or(|longest| run.count() > longest.count()) {
            longest = Some(run);
        }
    }
    longest
}

/// Reports more links than there can be, and more dynamic guests than addresses for them.
pub(super) fn check_capacity(
    check: &mut Check,
    raw: &RawDeclaration,
    drafts: &[Draft],
    spare_links: u16,
    network: Option<&Network>,
) {
    let links = drafts.len() + usize::from(spare_links);
    // The one that is too many, or the number of spare links.
    let place = |index: usize| {
        let guest = raw.guest.get(index).map(|at| at.span.clone());
        guest.or_else(|| raw.spare_links.as_ref().map(|at| at.span.clone())).unwrap_or(0..0)
    };
    if links > usize::from(LINKS_MAX) {
        check.report(
            Problem::error(
                "netvm::guest::too_many_links",
                place(usize::from(LINKS_MAX)),
                format!("{links} links are declared, and one netvm has {LINKS_MAX} at most"),
                "too many",
            )
            .help("remove guests or spare links"),
        );
    }
    let Some(network) = network else { return };
    let fixed = drafts.iter().filter_map(Draft::address).chain([network.address]);
    let dynamic: Vec<usize> = drafts
        .iter()
        .enumerate()
        .filter_map(|(index, draft)| (!draft.has_address()).then_some(index))
        .collect();
    let wanted = dynamic.len() + usize::from(spare_links);
    let run = longest_free_run(network.subnet, fixed);
    let free = run.map_or(0, |run| usize::try_from(run.count()).unwrap_or(usize::MAX));
    if wanted > free {
        let first_without = dynamic.get(free).copied().unwrap_or(drafts.len());
        check.report(
            Problem::error(
                "netvm::network::too_small",
                place(first_without),
                format!(
                    "{wanted} dynamic addresses are needed, and {} has {free} in one run between \
                     the fixed ones",
                    network.subnet
                ),
                "no address for this one",
            )
            .help("set a larger `subnet` in [network], or put fixed addresses at its start"),
        );
    }
}
