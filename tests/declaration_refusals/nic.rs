//! `[[nic]]`.

use super::found;

fn nics(tables: &str) -> String {
    format!("scenario = \"secure\"\n{tables}")
}

#[test]
fn nic_is_named_in_exactly_one_way() {
    let text = nics("[[nic]]\n");
    assert_eq!(found(&text), [("netvm::nic::unnamed", "[[nic]]")]);
    let text = nics("[[nic]]\npci = \"0000:00:03.0\"\nid = \"8086:10d3\"");
    assert_eq!(found(&text), [("netvm::nic::ambiguous", "\"8086:10d3\"")]);
}

#[test]
fn nic_syntax_is_checked() {
    let wrong = [
        ("pci", "00:03.0"),
        ("pci", "0000:00:20.0"),
        ("pci", "0000:00:03.8"),
        ("pci", "0000:00:+3.0"),
        ("pci", "0000:00:03.0/../x"),
        ("id", "8086"),
        ("id", "8086:10d3 "),
        ("usb", "0bda-8153"),
        ("class", "wlan"),
        ("class", "020"),
        ("platform", "../../etc"),
        ("platform", "a/b"),
        ("platform", ""),
    ];
    for (key, value) in wrong {
        let text = nics(&format!("[[nic]]\n{key} = \"{value}\""));
        let quoted = format!("\"{value}\"");
        let platform = key == "platform";
        let text = if platform { text + "\n[netvm]\nvmm = \"crosvm\"" } else { text };
        assert_eq!(found(&text), [("netvm::nic::syntax", quoted.as_str())], "{key}");
    }
}

#[test]
fn nic_of_another_class_is_refused() {
    let text = nics("[[nic]]\nclass = \"0300\"");
    assert_eq!(found(&text), [("netvm::nic::class", "\"0300\"")]);
}

#[test]
fn platform_nic_needs_crosvm() {
    let nic = "[[nic]]\nplatform = \"6800000.ethernet\"\n";
    for vmm in ["cloud-hypervisor", "minivmm", "qemu"] {
        let text = nics(&format!("{nic}[netvm]\nvmm = \"{vmm}\""));
        assert_eq!(found(&text), [("netvm::nic::vmm", "\"6800000.ethernet\"")]);
    }
    assert_eq!(found(&nics(&format!("{nic}[netvm]\nvmm = \"crosvm\""))), []);
}

#[test]
fn duplicate_nic_is_refused() {
    let text = nics("[[nic]]\nid = \"8086:10D3\"\n[[nic]]\nid = \"8086:10d3\"");
    assert_eq!(found(&text), [("netvm::nic::duplicate", "\"8086:10d3\"")]);
}
