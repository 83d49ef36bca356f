//! The host's network facts, from a real kernel: a network namespace of its own with a bridge,
//! a VLAN, addresses and routes.

use std::net::IpAddr;
use std::process::Command;

use vmm_plugin::host::Sysfs;
use vmm_plugin::host::network::NetworkFacts;

/// Runs [`inside`] in a new user and network namespace.
#[test]
fn facts_of_a_network_namespace_are_read() {
    let probe = Command::new("unshare").args(["-rn", "ip", "link"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        println!("SKIP: no unprivileged network namespaces, or no `unshare` and `ip` here");
        return;
    }
    let output = Command::new("unshare")
        .arg("-rn")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "inside", "--ignored", "--nocapture"])
        .env("SSH_CONNECTION", "203.0.113.9 50000 192.0.2.7 22")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{errors}");
}

#[test]
#[ignore = "needs a namespace of its own: facts_of_a_network_namespace_are_read runs it"]
fn inside() {
    for command in [
        "link add nic type veth peer name far",
        "link add br0 type bridge",
        "link set nic master br0",
        "address add 192.0.2.7/24 dev br0",
        "address add 2001:db8::7/64 dev br0 nodad",
        "link set nic up",
        "link set far up",
        "link set br0 up",
        "route add default via 192.0.2.1",
        "route add 203.0.113.0/24 via 192.0.2.2",
        "route add 198.51.100.0/24 nexthop via 192.0.2.3 nexthop via 192.0.2.4",
    ] {
        let status = Command::new("ip").args(command.split(' ')).status().unwrap();
        assert!(status.success(), "ip {command}");
    }
    let vlan = "link add link br0 name br0.7 type vlan id 7".split(' ');
    let vlan = Command::new("ip").args(vlan).status().unwrap().success();
    let facts = NetworkFacts::read(&Sysfs::default()).unwrap();
    let link = |name: &str| facts.link(name).unwrap();
    let bridge = link("br0");
    assert!(bridge.up && link("nic").up);
    assert_eq!(bridge.kind.as_deref(), Some("bridge"));
    assert_eq!(link("nic").master, Some(bridge.index));
    if vlan {
        assert_eq!(link("br0.7").lower, Some(bridge.index));
        assert_eq!(link("br0.7").kind.as_deref(), Some("vlan"));
    } else {
        println!("SKIP in part: this kernel has no VLANs");
    }
    assert!(!bridge.xdp);

    let mut stack: Vec<&str> =
        facts.stack(link("nic").index).iter().map(|l| l.name.as_str()).collect();
    stack.sort_unstable();
    stack.retain(|name| *name != "br0.7");
    assert_eq!(stack, ["br0", "nic"], "the veth peer is not built on it");

    let addresses: Vec<IpAddr> = facts
        .addresses
        .iter()
        .filter(|a| a.link == bridge.index && !a.is_link_local())
        .map(|a| a.address)
        .collect();
    for address in ["192.0.2.7", "2001:db8::7"] {
        assert!(addresses.contains(&address.parse().unwrap()), "{addresses:?}");
    }
    let routes: Vec<_> = facts.routes.iter().filter(|r| r.link == bridge.index).collect();
    assert_eq!(routes.iter().filter(|r| r.default).count(), 1, "{routes:?}");
    let by_gateway = routes.iter().filter(|r| r.gateway && !r.default).count();
    assert_eq!(by_gateway, 3, "one, and one with two next hops: {routes:?}");

    let ssh = facts.ssh.unwrap();
    assert_eq!(ssh.client, "203.0.113.9".parse::<IpAddr>().unwrap());
    assert_eq!(ssh.route, Some(bridge.index));
}
