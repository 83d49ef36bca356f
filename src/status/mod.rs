//! What `netvm status` tells, and how it is gathered from the parts.

mod report;
pub(crate) mod svg;
mod table;

use std::net::Ipv4Addr;
use std::time::Instant;

use netvm_image::state::State;
use serde::{Deserialize, Serialize};
use vhost_net_backend::report::LinkReport;

use crate::run::machine::Machine;
use crate::run::supervisor::Told;

pub use svg::{Drawing, Row};

/// The whole state of a running `netvm up`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Status {
    /// What does not change while it runs.
    #[serde(flatten)]
    pub fixed: Fixed,
    /// netvm; absent in the `development` scenario.
    pub netvm: Option<NetvmStatus>,
    /// One for each declared guest and spare link, in order.
    pub links: Vec<LinkStatus>,
}

/// What is known from the start.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Fixed {
    /// `secure` or `development`.
    pub scenario: String,
    /// The pid of `netvm up`.
    pub pid: u32,
    /// The NICs that were given away.
    pub nics: Vec<NicStatus>,
    /// The refusals that were overridden.
    pub overrides: Vec<String>,
    /// netvm's address on the guests' subnet.
    pub gateway: Ipv4Addr,
    /// What each link was declared as.
    pub declared: Vec<DeclaredLink>,
}

/// A NIC that netvm has.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct NicStatus {
    /// Where it is: BDF or platform name.
    pub address: String,
    /// PCI vendor and device, such as `8086:10d3`; absent for a platform device.
    pub id: Option<String>,
    /// What people call it, if that is known.
    pub label: Option<String>,
    /// Its IOMMU group.
    pub group: Option<u32>,
    /// The host driver that it goes back to.
    pub host_driver: Option<String>,
}

/// netvm as it runs.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct NetvmStatus {
    /// The pid of its VMM.
    pub pid: Option<u32>,
    /// What it says about itself; untrusted.
    pub state: Option<State>,
    /// How old that is, in seconds.
    pub age_seconds: Option<u64>,
    /// Lines on the state channel that were not understood.
    pub rejected_lines: u64,
}

/// A link as declared.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DeclaredLink {
    /// Its guest.
    pub guest: String,
    /// The guest's MAC.
    pub mac: String,
    /// The guest's address; absent = dynamic.
    pub address: Option<Ipv4Addr>,
}

/// A link as it runs.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LinkStatus {
    /// Its guest.
    pub guest: String,
    /// The pid of its process.
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u32,
    /// What it counts; absent if it did not answer in time.
    pub report: Option<LinkReport>,
}

/// Asks every part.
pub fn collect(fixed: &Fixed, machine: &mut Machine, told: &Told) -> Status {
    let reports = report::ask(&mut machine.links);
    let links = machine
        .links
        .iter()
        .zip(reports)
        .map(|(link, report)| LinkStatus {
            guest: link.guest.clone(),
            pid: link.process.as_ref().map(|process| process.id()),
            restarts: link.restarts,
            report,
        })
        .collect();
    let netvm = machine.netvm.as_ref().map(|process| {
        let (state, heard) = told.state.clone().unzip();
        NetvmStatus {
            pid: Some(process.id()),
            state,
            age_seconds: heard
                .flatten()
                .map(|heard| Instant::now().duration_since(heard).as_secs()),
            rejected_lines: told.rejected,
        }
    });
    Status { fixed: fixed.clone(), netvm, links }
}

impl Status {
    /// The address of a guest: as declared, or as leased.
    pub fn address_of(&self, declared: &DeclaredLink) -> Option<Ipv4Addr> {
        declared.address.or_else(|| {
            let leases = &self.netvm.as_ref()?.state.as_ref()?.leases;
            leases.iter().find(|lease| lease.mac.to_string() == declared.mac).map(|l| l.address)
        })
    }
}
