//! netvm.toml, the declaration: text to a validated [`Declaration`], or every reason why not.
//!
//! Two layers: the raw one knows keys, TOML types and places in the file; the plain one holds
//! only what is valid as a whole, so nothing that uses it checks anything again.
//!
//! ```
//! use netvm::declaration;
//! let text = r#"
//!     scenario = "secure"
//!     nic = [{ pci = "0000:00:03.0" }]
//!     guest = [{ name = "browser" }]
//! "#;
//! let parsed = declaration::parse("netvm.toml", text).unwrap();
//! assert_eq!(parsed.declaration.guests[0].name.as_str(), "browser");
//!
//! let findings = declaration::parse("netvm.toml", r#"scenario = "secure""#).unwrap_err();
//! assert_eq!(findings.problems()[0].code(), "netvm::nic::none");
//! ```

mod at;
mod check;
mod cpu;
mod error;
mod guest;
mod mac;
mod memory;
mod name;
mod netvm;
mod network;
mod nic;
mod pool;
mod ports;
mod rate;
mod raw;
mod read;
mod rules;
mod schema;
mod uplink;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vmm_plugin::host::NicSelector;

pub use self::error::{DeclarationError, Findings, Problem};
pub use self::guest::Guest;
pub use self::mac::{MacAddress, MacError, MacRole};
pub use self::memory::{Memory, MemoryError};
pub use self::name::{Domain, HostName, NameError};
pub use self::netvm::{Image, Netvm};
pub use self::network::Network;
pub use self::pool::AddressRange;
pub use self::ports::{PortError, PortRange};
pub use self::rate::{BitRate, BitRateError, Rate};
pub use self::rules::{Allow, Forward};
pub use self::schema::schema;
pub use self::uplink::Uplink;

use self::at::At;
use self::check::Check;
use self::guest::{check_guests, finish_guests};
use self::raw::RawDeclaration;
use self::rules::Names;

/// Most links of one netvm, spare ones included.
pub const LINKS_MAX: u16 = 200;

/// Largest file that is read as a declaration, in bytes; 200 guests take a tenth of it.
const FILE_MAX: u64 = 1 << 18;

/// What the machine is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Scenario {
    /// The NIC leaves the host, netvm is the only way out.
    Secure,
    /// No netvm: each link ends in a TAP of the host. Insecure.
    Development,
}

/// What an inter-VM rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP, such as ping.
    Icmp,
    /// Every IP protocol.
    Any,
}

/// What can be forwarded by port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Tcp => "TCP",
            Transport::Udp => "UDP",
        })
    }
}

/// A declaration that is valid as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Declaration {
    /// What the machine is for.
    pub scenario: Scenario,
    /// The guest that owns the NIC; without meaning in [`Scenario::Development`].
    pub netvm: Netvm,
    /// Cards that move into netvm, the uplink first; at least one in [`Scenario::Secure`].
    pub nics: Vec<NicSelector>,
    /// The guests' network.
    pub network: Network,
    /// How netvm gets its outside address.
    pub uplink: Uplink,
    /// One for each link: the declared guests in the order of the file, then the spare links.
    pub guests: Vec<Guest>,
    /// Inter-VM traffic that is allowed.
    pub allows: Vec<Allow>,
    /// Ports of the outside address that lead to guests.
    pub forwards: Vec<Forward>,
}

impl Declaration {
    /// The guest or spare link with this name.
    pub fn guest(&self, name: &str) -> Option<&Guest> {
        self.guests.iter().find(|guest| guest.name.as_str() == name)
    }

    /// The addresses that netvm's DHCP server gives to guests without a fixed one: the longest
    /// run of free addresses. `None` if there is no such guest; long enough for all otherwise.
    pub fn dynamic_range(&self) -> Option<AddressRange> {
        if self.guests.iter().all(|guest| guest.address.is_some()) {
            return None;
        }
        let taken = self.guests.iter().filter_map(|guest| guest.address);
        pool::longest_free_run(self.network.subnet, taken.chain([self.network.address]))
    }
}

/// A declaration and what should be known about it.
#[derive(Debug)]
pub struct Parsed {
    /// What the file says.
    pub declaration: Declaration,
    /// Warnings, possibly none.
    pub warnings: Findings,
    /// Where guests' links are given a CPU: see [`Parsed::check_cpus`].
    cpus: Vec<At<u16>>,
}

/// Reads and validates the file at `path`.
///
/// # Errors
///
/// The file cannot be read, is too large, or is wrong.
pub fn load(path: &Path) -> Result<Parsed, DeclarationError> {
    let unreadable = |source| DeclarationError::Unreadable { path: path.to_owned(), source };
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(FILE_MAX + 1).read_to_string(&mut text))
        .map_err(unreadable)?;
    if u64::try_from(text.len()).is_ok_and(|length| length > FILE_MAX) {
        return Err(DeclarationError::TooLarge { path: path.to_owned(), limit: FILE_MAX });
    }
    parse(&path.to_string_lossy(), &text)
        .map_err(|findings| DeclarationError::Invalid(Box::new(findings)))
}

/// Validates `text`, which findings call `name`.
///
/// # Errors
///
/// Everything that is wrong, at once.
pub fn parse(name: &str, text: &str) -> Result<Parsed, Findings> {
    let reading = read::read(text);
    let mut check = Check::new(reading.problems, reading.dropped);
    let declaration = reading.raw.and_then(|raw| validate(&mut check, &raw));
    let failed = check.has_errors();
    let findings = Findings::new(name, text, check.problems);
    match declaration {
        Some((declaration, cpus)) if !failed => {
            Ok(Parsed { declaration, warnings: findings, cpus })
        }
        _ => Err(findings),
    }
}

/// Looks at everything, whatever is wrong, so that all of it is reported. Returns the CPUs in it
/// besides.
fn validate(check: &mut Check, raw: &RawDeclaration) -> Option<(Declaration, Vec<At<u16>>)> {
    let root = 0..0;
    let scenario = check.plain(&root, "scenario", raw.scenario.as_ref());
    let scenario = check.required(
        scenario,
        &root,
        "netvm::scenario::missing",
        "The declaration has no `scenario`",
        "begin the file with `scenario = \"secure\"`",
    );
    let netvm = netvm::check_netvm(check, raw.netvm.as_ref());
    let nics = nic::check_nics(check, &raw.nic, netvm.as_ref());
    let network = network::check_network(check, raw.network.as_ref());
    let uplink = uplink::check_uplink(check, raw.uplink.as_ref(), network.as_ref());
    let drafts = check_guests(check, &raw.guest, network.as_ref());
    let spare_links = check.number(
        &root,
        "spare_links",
        raw.spare_links.as_ref(),
        0..=LINKS_MAX,
        "netvm::guest::spare_links",
    );
    let names = Names {
        drafts: &drafts,
        spare_links: spare_links.good().map_or(0, |at| at.value),
        uncertain: check.was_dropped(&root, "guest")
            || drafts.iter().any(|draft| draft.name().is_none()),
    };
    let allows = rules::check_allows(check, &raw.allow, &names);
    let forwards = rules::check_forwards(check, &raw.forward, &names, uplink);
    pool::check_capacity(check, raw, &drafts, names.spare_links, network.as_ref());
    check_scenario(check, raw, scenario.good());
    let netvm = netvm?;
    let cpus = drafts.iter().filter_map(|draft| draft.link_cpu().cloned()).collect();
    let declaration = Declaration {
        scenario: scenario.optional()??,
        guests: finish_guests(drafts, spare_links.or(0)?, &netvm)?,
        netvm,
        nics: nics?,
        network: network?,
        uplink: uplink?,
        allows: allows?,
        forwards: forwards?,
    };
    Some((declaration, cpus))
}

/// What the scenario needs, and what has no effect in it.
fn check_scenario(check: &mut Check, raw: &RawDeclaration, scenario: Option<&At<Scenario>>) {
    let Some(At { span, value: scenario }) = scenario else { return };
    match scenario {
        Scenario::Secure if raw.nic.is_empty() && !check.was_dropped(&(0..0), "nic") => {
            check.report(
                Problem::error(
                    "netvm::nic::none",
                    span.clone(),
                    "The secure scenario needs a network card for netvm",
                    "secure, but there is no [[nic]]",
                )
                .help("add a [[nic]] table, such as `[[nic]]` and `class = \"network\"`"),
            );
        }
        Scenario::Secure => warn_without_dns(check, raw),
        Scenario::Development => {
            let idle: Vec<&str> = [
                ("[[nic]]", !raw.nic.is_empty()),
                ("[uplink]", raw.uplink.is_some()),
                ("[[allow]]", !raw.allow.is_empty()),
                ("[[forward]]", !raw.forward.is_empty()),
            ]
            .into_iter()
            .filter_map(|(table, present)| present.then_some(table))
            .collect();
            if !idle.is_empty() {
                check.report(
                    Problem::error(
                        "netvm::scenario::no_effect",
                        span.clone(),
                        format!("The development scenario ignores {}", idle.join(", ")),
                        "no netvm here",
                    )
                    .warning()
                    .help("the card stays with the host, and nothing filters the guests' traffic"),
                );
            }
        }
    }
}

/// A fixed uplink brings no DNS servers with it.
fn warn_without_dns(check: &mut Check, raw: &RawDeclaration) {
    let address = raw.uplink.as_ref().and_then(|uplink| uplink.value.address.as_ref());
    let dns = raw.network.as_ref().is_some_and(|network| {
        !network.value.dns.is_empty() || check.was_dropped(&network.span, "dns")
    });
    if let Some(At { span, .. }) = address
        && !dns
    {
        check.report(
            Problem::error(
                "netvm::uplink::no_dns",
                span.clone(),
                "With a fixed uplink and no DNS server, guests can resolve their own names only",
                "no DHCP server names one",
            )
            .warning()
            .help("set `dns` in [network], such as `dns = [\"9.9.9.9\"]`"),
        );
    }
}
