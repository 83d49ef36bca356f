//! The `[[allow]]` and `[[forward]]` tables: the traffic that netvm lets through.

use std::ops::Range;

use serde::Serialize;

use super::at::At;
use super::check::{Check, Field};
use super::error::Problem;
use super::guest::Draft;
use super::name::HostName;
use super::ports::PortRange;
use super::raw::{RawAllow, RawForward, RawPort};
use super::uplink::Uplink;
use super::{Protocol, Transport};

/// One guest may open connections to another; answers pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Allow {
    /// Who opens the connection: a declared guest or a spare link.
    pub from: HostName,
    /// Who is connected to; another one.
    pub to: HostName,
    /// Which protocol.
    pub protocol: Protocol,
    /// Destination ports, in ascending order and apart; empty: all. Only with TCP and UDP.
    pub ports: Vec<PortRange>,
}

/// A port of netvm's outside address that leads to a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Forward {
    /// Which protocol.
    pub protocol: Transport,
    /// Port of the outside address, not 0.
    pub port: u16,
    /// A guest with a fixed address.
    pub to: HostName,
    /// Port of the guest, not 0.
    pub to_port: u16,
}

/// What rules can name.
pub(super) struct Names<'a> {
    pub drafts: &'a [Draft],
    pub spare_links: u16,
    /// Whether a guest's name was wrong, so that a missing one may be that.
    pub uncertain: bool,
}

impl Names<'_> {
    fn knows(&self, name: &str) -> bool {
        self.drafts.iter().filter_map(Draft::name).any(|at| at.value.as_str() == name)
            || HostName::spare_number(name)
                .is_some_and(|number| (1..=self.spare_links).contains(&number))
    }

    /// Whether the guest has no fixed address for certain.
    fn is_dynamic(&self, name: &HostName) -> bool {
        self.drafts
            .iter()
            .find(|draft| draft.name().is_some_and(|at| at.value == *name))
            .is_none_or(|draft| !draft.has_address())
    }

    fn list(&self) -> String {
        let names: Vec<&str> =
            self.drafts.iter().filter_map(Draft::name).map(|at| at.value.as_str()).collect();
        if names.is_empty() { "none is declared".to_owned() } else { names.join(", ") }
    }
}

/// A key that names a guest.
fn check_reference(
    check: &mut Check,
    names: &Names<'_>,
    table: &Range<usize>,
    key: &str,
    raw: Option<&At<String>>,
) -> Option<At<HostName>> {
    let field = check.plain(table, key, raw);
    let field = check.required(
        field,
        table,
        "netvm::rule::incomplete",
        &format!("This rule has no `{key}`"),
        &format!("write `{key}` with the name of a guest"),
    );
    let At { span, value: text } = field.good()?;
    if !names.knows(text) {
        // With a wrong name among the guests, that one is the likely cause and reported already.
        if !names.uncertain {
            check.report(
                Problem::error(
                    "netvm::rule::unknown_guest",
                    span.clone(),
                    format!("There is no guest named \"{text}\""),
                    "this name",
                )
                .help(format!("write the name of a [[guest]]: {}", names.list())),
            );
        }
        return None;
    }
    let value = text.parse().ok()?;
    Some(At { span: span.clone(), value })
}

/// Validates all `[[allow]]` tables; `None` if one is wrong.
pub(super) fn check_allows(
    check: &mut Check,
    raw: &[At<RawAllow>],
    names: &Names<'_>,
) -> Option<Vec<Allow>> {
    let mut allows: Vec<At<Allow>> = Vec::new();
    for At { span, value: raw } in raw {
        let Some(allow) = check_allow(check, span, raw, names) else { continue };
        if let Some(first) = allows.iter().find(|first| overlap(&first.value, &allow)) {
            check.report(
                Problem::error(
                    "netvm::rule::duplicate_allow",
                    span.clone(),
                    format!("Traffic from {} to {} is allowed twice", allow.from, allow.to),
                    "again here",
                )
                .also(first.span.clone(), "first here")
                .help("remove one of the two [[allow]] tables, or what they have in common"),
            );
        }
        allows.push(At { span: span.clone(), value: allow });
    }
    (allows.len() == raw.len()).then(|| allows.into_iter().map(|at| at.value).collect())
}

fn overlap(one: &Allow, other: &Allow) -> bool {
    let protocols = one.protocol == other.protocol
        || one.protocol == Protocol::Any
        || other.protocol == Protocol::Any;
    let ports = one.ports.is_empty()
        || other.ports.is_empty()
        || one.ports.iter().any(|a| other.ports.iter().any(|b| a.overlaps(*b)));
    one.from == other.from && one.to == other.to && protocols && ports
}

fn check_allow(
    check: &mut Check,
    table: &Range<usize>,
    raw: &RawAllow,
    names: &Names<'_>,
) -> Option<Allow> {
    let from = check_reference(check, names, table, "from", raw.from.as_ref());
    let to = check_reference(check, names, table, "to", raw.to.as_ref());
    let protocol = check.plain(table, "protocol", raw.protocol.as_ref());
    let ports = check_ports(check, table, raw.ports.as_ref());
    if let (Some(from), Some(to)) = (&from, &to)
        && from.value == to.value
    {
        check.report(
            Problem::error(
                "netvm::rule::to_itself",
                to.span.clone(),
                format!("The rule leads from {} to itself", from.value),
                "the same guest",
            )
            .also(from.span.clone(), "as here")
            .help("name another guest; a guest's traffic to itself never leaves it"),
        );
        return None;
    }
    let protocol = protocol.or(Protocol::Any);
    if let (Some(ports), Some(Protocol::Any | Protocol::Icmp)) = (&raw.ports, protocol) {
        check.report(
            Problem::error(
                "netvm::rule::ports_without_protocol",
                ports.span.clone(),
                "Only TCP and UDP have ports",
                "these ports",
            )
            .help("set `protocol` to \"tcp\" or \"udp\" (one table for each), or remove `ports`"),
        );
        return None;
    }
    Some(Allow { from: from?.value, to: to?.value, protocol: protocol?, ports: ports? })
}

fn check_ports(
    check: &mut Check,
    table: &Range<usize>,
    raw: Option<&At<Vec<At<RawPort>>>>,
) -> Option<Vec<PortRange>> {
    let code = "netvm::rule::port";
    let Some(At { span, value: raw }) = raw else {
        return (!check.was_dropped(table, "ports")).then(Vec::new);
    };
    if raw.is_empty() && !check.was_dropped(table, "ports") {
        check.report(
            Problem::error(code, span.clone(), "The list of ports is empty", "nothing here")
                .help("write the ports, or leave `ports` out to allow all of them"),
        );
        return None;
    }
    let mut ports: Vec<PortRange> = Vec::new();
    let mut right = true;
    for At { span, value } in raw {
        let text = match value {
            RawPort::Number(number) => number.to_string(),
            RawPort::Range(text) => text.clone(),
        };
        let refusal = match text.parse::<PortRange>() {
            Ok(range) if ports.iter().any(|other| other.overlaps(range)) => {
                format!("Port {range} is in the list twice")
            }
            Ok(range) => {
                ports.push(range);
                continue;
            }
            Err(reason) => format!("\"{text}\" is not a port: {reason}"),
        };
        right = false;
        check.report(
            Problem::error(code, span.clone(), refusal, "this port")
                .help("write a number such as 443, or a range such as \"8000-8010\""),
        );
    }
    ports.sort();
    right.then_some(ports)
}

/// Validates all `[[forward]]` tables; `None` if one is wrong.
pub(super) fn check_forwards(
    check: &mut Check,
    raw: &[At<RawForward>],
    names: &Names<'_>,
    uplink: Option<Uplink>,
) -> Option<Vec<Forward>> {
    let mut forwards: Vec<At<Forward>> = Vec::new();
    for At { span, value: raw } in raw {
        let Some(forward) = check_forward(check, span, raw, names, uplink) else { continue };
        let same = |first: &&At<Forward>| {
            first.value.port == forward.port && first.value.protocol == forward.protocol
        };
        if let Some(first) = forwards.iter().find(same) {
            check.report(
                Problem::error(
                    "netvm::rule::duplicate_forward",
                    span.clone(),
                    format!("Port {} of {} is forwarded twice", forward.port, forward.protocol),
                    "again here",
                )
                .also(first.span.clone(), "first here")
                .help("a port leads to one guest: remove one of the two, or change its `port`"),
            );
        }
        forwards.push(At { span: span.clone(), value: forward });
    }
    (forwards.len() == raw.len()).then(|| forwards.into_iter().map(|at| at.value).collect())
}

fn check_forward(
    check: &mut Check,
    table: &Range<usize>,
    raw: &RawForward,
    names: &Names<'_>,
    uplink: Option<Uplink>,
) -> Option<Forward> {
    let code = "netvm::rule::incomplete";
    let protocol = check.plain(table, "protocol", raw.protocol.as_ref());
    let fix = "write `protocol = \"tcp\"` or `protocol = \"udp\"`";
    let protocol = check.required(protocol, table, code, "This [[forward]] has no `protocol`", fix);
    let port = check.number(table, "port", raw.port.as_ref(), 1..=u16::MAX, "netvm::rule::port");
    let fix = "write `port`, the one that the outside connects to";
    let port = check.required(port, table, code, "This [[forward]] has no `port`", fix);
    let to_port =
        check.number(table, "to_port", raw.to_port.as_ref(), 1..=u16::MAX, "netvm::rule::port");
    let to = check_reference(check, names, table, "to", raw.to.as_ref());
    if let Some(to) = &to
        && names.is_dynamic(&to.value)
    {
        check.report(
            Problem::error(
                "netvm::rule::forward_to_dynamic",
                to.span.clone(),
                format!("A port cannot lead to {}, whose address is dynamic", to.value),
                "this guest",
            )
            .help("give the guest a fixed `address`"),
        );
    }
    if let (Field::Good(port), Some(Transport::Udp), Some(Uplink::Dhcp)) =
        (&port, protocol.good().map(|at| at.value), uplink)
        && port.value == 68
    {
        check.report(
            Problem::error(
                "netvm::rule::forward_of_dhcp",
                port.span.clone(),
                "UDP port 68 is where netvm gets the answers of the uplink's DHCP server",
                "this port",
            )
            .help("forward another port"),
        );
    }
    let port = port.optional()??;
    Some(Forward {
        protocol: protocol.optional()??,
        port,
        to: to?.value,
        to_port: to_port.or(port)?,
    })
}
