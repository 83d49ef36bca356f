//! `[network]` and `[uplink]`.

use netvm::declaration::{Problem, parse};

use super::{accept, refuse, secure};

#[test]
fn unusable_subnet_is_refused() {
    let cases = [
        ("netvm::network::subnet", "100.64.1.0"),
        ("netvm::network::subnet", "fd00::/64"),
        ("netvm::network::host_bits", "10.0.0.5/24"),
        ("netvm::network::size", "10.0.0.0/8"),
        ("netvm::network::size", "10.0.0.0/31"),
        ("netvm::network::not_private", "8.8.8.0/24"),
        ("netvm::network::not_private", "127.0.0.0/24"),
        ("netvm::network::not_private", "224.0.0.0/24"),
        ("netvm::network::not_private", "169.254.0.0/16"),
        ("netvm::network::not_private", "0.0.0.0/16"),
    ];
    for (code, subnet) in cases {
        let quoted = format!("\"{subnet}\"");
        refuse(&format!("[network]\nsubnet = {quoted}"), &[(code, &quoted)]);
    }
}

#[test]
fn network_values_are_checked() {
    let code = "netvm::network::address";
    refuse("[network]\naddress = \"100.127.77\"", &[(code, "\"100.127.77\"")]);
    refuse("[network]\naddress = \"100.127.78.1\"", &[(code, "\"100.127.78.1\"")]);
    refuse("[network]\naddress = \"100.127.77.255\"", &[(code, "\"100.127.77.255\"")]);
    refuse("[network]\ndomain = \"a..b\"", &[("netvm::network::domain", "\"a..b\"")]);
    refuse("[network]\ndomain = \"a b\"", &[("netvm::network::domain", "\"a b\"")]);
    refuse("[network]\nmtu = 500", &[("netvm::network::mtu", "500")]);
    let code = "netvm::network::dns";
    refuse(
        "[network]\ndns = [\"dns.example\", \"9.9.9.9\", \"9.9.9.9\", \"100.127.77.1\"]",
        &[(code, "\"dns.example\""), (code, "\"9.9.9.9\""), (code, "\"100.127.77.1\"")],
    );
    refuse("[network]\ndns = [\"224.0.0.1\"]", &[(code, "\"224.0.0.1\"")]);
}

#[test]
fn uplink_is_dhcp_or_fixed() {
    let fixed = "address = \"192.168.1.20/24\"\ngateway = \"192.168.1.1\"\n";
    accept(&format!("[uplink]\n{fixed}"));
    accept(&format!("[uplink]\ndhcp = false\n{fixed}"));
    accept("[uplink]\ndhcp = true");
    let both = format!("[uplink]\ndhcp = true\n{fixed}");
    refuse(&both, &[("netvm::uplink::both", "\"192.168.1.20/24\"")]);
    let code = "netvm::uplink::incomplete";
    refuse("[uplink]\ndhcp = false", &[(code, "false")]);
    refuse("[uplink]\naddress = \"192.168.1.20/24\"", &[(code, "\"192.168.1.20/24\"")]);
    refuse("[uplink]\ngateway = \"192.168.1.1\"", &[(code, "\"192.168.1.1\"")]);
}

#[test]
fn unusable_uplink_address_is_refused() {
    let cases = [
        ("netvm::uplink::address", "192.168.1.20", "192.168.1.1", "192.168.1.20"),
        ("netvm::uplink::address", "192.168.1.0/24", "192.168.1.1", "192.168.1.0/24"),
        ("netvm::uplink::address", "127.0.0.1/8", "127.0.0.2", "127.0.0.1/8"),
        ("netvm::uplink::address", "10.0.0.1/32", "10.0.0.2", "10.0.0.1/32"),
        ("netvm::uplink::gateway", "192.168.1.20/24", "router", "router"),
        ("netvm::uplink::gateway", "192.168.1.20/24", "192.168.2.1", "192.168.2.1"),
        ("netvm::uplink::gateway", "192.168.1.20/24", "192.168.1.20", "192.168.1.20"),
        ("netvm::uplink::overlap", "100.127.77.9/25", "100.127.77.1", "100.127.77.9/25"),
        ("netvm::uplink::overlap", "100.64.0.5/10", "100.64.0.1", "100.64.0.5/10"),
    ];
    for (code, address, gateway, place) in cases {
        let body = format!("[uplink]\naddress = \"{address}\"\ngateway = \"{gateway}\"");
        refuse(&body, &[(code, &format!("\"{place}\""))]);
    }
}

#[test]
fn fixed_uplink_without_dns_is_warned_about() {
    let uplink = "[uplink]\naddress = \"192.168.1.20/24\"\ngateway = \"192.168.1.1\"\n";
    let codes = |body: &str| -> Vec<&str> {
        let parsed = parse("netvm.toml", &secure(body)).unwrap();
        parsed.warnings.problems().iter().map(Problem::code).collect()
    };
    assert_eq!(codes(uplink), ["netvm::uplink::no_dns"]);
    assert!(codes(&format!("{uplink}[network]\ndns = [\"9.9.9.9\"]")).is_empty());
}
