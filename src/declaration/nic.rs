//! The `[[nic]]` tables: which cards move into netvm.

use std::ops::Range;
use std::str::FromStr;

use vmm_plugin::host::NicSelector;
use vmm_plugin::host::ids::PciClass;

use super::at::At;
use super::check::Check;
use super::error::Problem;
use super::netvm::Netvm;
use super::raw::RawNic;
use crate::vmm::Vmm;

/// Validates all `[[nic]]` tables; `None` if one is wrong.
pub(super) fn check_nics(
    check: &mut Check,
    raw: &[At<RawNic>],
    netvm: Option<&Netvm>,
) -> Option<Vec<NicSelector>> {
    let mut nics: Vec<At<NicSelector>> = Vec::new();
    for raw in raw {
        let Some(nic) = check_nic(check, raw) else { continue };
        if let Some(netvm) = netvm
            && matches!(nic.value, NicSelector::Platform(_))
            && netvm.vmm != Vmm::Crosvm
        {
            check.report(
                Problem::error(
                    "netvm::nic::vmm",
                    nic.span.clone(),
                    format!("{} cannot give a platform device to a guest", netvm.vmm),
                    "a platform device",
                )
                .help("set `vmm = \"crosvm\"` in [netvm], or declare a PCI or USB card"),
            );
        }
        if let Some(first) = nics.iter().find(|first| first.value == nic.value) {
            check.report(
                Problem::error(
                    "netvm::nic::duplicate",
                    nic.span.clone(),
                    format!("The card with {} is declared twice", nic.value),
                    "again here",
                )
                .also(first.span.clone(), "first here")
                .help("remove one of the two [[nic]] tables"),
            );
        }
        nics.push(nic);
    }
    (nics.len() == raw.len()).then(|| nics.into_iter().map(|nic| nic.value).collect())
}

fn check_nic(check: &mut Check, raw: &At<RawNic>) -> Option<At<NicSelector>> {
    let At { span, value: raw } = raw;
    let keys = [
        ("pci", &raw.pci),
        ("id", &raw.id),
        ("class", &raw.class),
        ("usb", &raw.usb),
        ("platform", &raw.platform),
    ];
    let written: Vec<(&str, &At<String>)> =
        keys.into_iter().filter_map(|(key, at)| Some((key, at.as_ref()?))).collect();
    match written[..] {
        [(key, at)] => {
            let value = parse_nic(check, key, at)?;
            Some(At { span: at.span.clone(), value })
        }
        [] => {
            if !keys.iter().any(|(key, _)| check.was_dropped(span, key)) {
                check.report(unnamed(span.clone()));
            }
            None
        }
        [(first_key, first), (key, second), ..] => {
            check.report(
                Problem::error(
                    "netvm::nic::ambiguous",
                    second.span.clone(),
                    format!("This [[nic]] is named both by `{first_key}` and by `{key}`"),
                    "second name",
                )
                .also(first.span.clone(), "first name")
                .help("keep exactly one of them; write another [[nic]] for another card"),
            );
            None
        }
    }
}

fn unnamed(table: Range<usize>) -> Problem {
    Problem::error(
        "netvm::nic::unnamed",
        table,
        "This [[nic]] does not say which card it is",
        "missing here",
    )
    .help("write one of `pci`, `id`, `class`, `usb` and `platform`")
}

fn parse_nic(check: &mut Check, key: &str, at: &At<String>) -> Option<NicSelector> {
    match key {
        "pci" => {
            let fix = "write it as lspci -D shows it, such as \"0000:00:03.0\"";
            parse(check, at, "a PCI address", fix).map(NicSelector::Pci)
        }
        "id" => {
            let fix = "write it as lspci -n shows it, such as \"8086:10d3\"";
            parse(check, at, "a PCI vendor and device", fix).map(NicSelector::Id)
        }
        "usb" => {
            let fix = "write it as lsusb shows it, such as \"0bda:8153\"";
            parse(check, at, "a USB vendor and product", fix).map(NicSelector::Usb)
        }
        "class" => parse_class(check, at).map(NicSelector::Class),
        _ => {
            let fix = "write it as /sys/bus/platform/devices shows it, such as \
                       \"6800000.ethernet\"";
            parse(check, at, "the name of a platform device", fix).map(NicSelector::Platform)
        }
    }
}

fn parse<T: FromStr>(check: &mut Check, at: &At<String>, what: &str, fix: &str) -> Option<T> {
    let parsed = at.value.parse().ok();
    if parsed.is_none() {
        check.report(
            Problem::error(
                "netvm::nic::syntax",
                at.span.clone(),
                format!("\"{}\" is not {what}", at.value),
                "this value",
            )
            .help(fix),
        );
    }
    parsed
}

fn parse_class(check: &mut Check, at: &At<String>) -> Option<PciClass> {
    let fix = "write \"network\", \"ethernet\", \"wireless\", or hex digits such as \"0280\"";
    let class: PciClass = parse(check, at, "a PCI class", fix)?;
    // Base class 02 (PCI 3.0, appendix D); a class is at least a base class.
    if !class.to_string().starts_with("02") {
        check.report(
            Problem::error(
                "netvm::nic::class",
                at.span.clone(),
                format!("PCI class {class} is not one of network cards"),
                "not a network class",
            )
            .help("write \"network\", or a class that begins with 02"),
        );
        return None;
    }
    Some(class)
}
