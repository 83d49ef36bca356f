//! netvm's scripts, ruleset and services for real, in network namespaces: what guests can and
//! cannot do.

mod support;

use netvm_image::config::KnownLease;
use support::netns::{self, Network, unavailable};

macro_rules! skip_unless_available {
    () => {
        if let Some(reason) = unavailable() {
            eprintln!("SKIP: {reason}");
            return;
        }
    };
}

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

// timeout(1), because the wget of a statically linked busybox crashes on its own -T.
const FETCH: &str = "timeout 3 busybox wget -q -O - http://";

/// netvm ready by DHCP, all three guests with their addresses.
fn ready() -> Network {
    let mut network = Network::new(&support::config());
    network.serve_outside("192.0.2.100,192.0.2.150", "--dhcp-option=3,192.0.2.1");
    network.start();
    network.wait_for("\"phase\":\"ready\"");
    for guest in [A, B] {
        network.dhcp(guest);
    }
    network
}

#[test]
fn guests_get_addresses_names_and_the_outside_through_netvm() {
    skip_unless_available!();
    let mut network = ready();
    network.serve_page(|network| &network.outside, 80, "outside-page");

    // Static by MAC, dynamic from the range.
    assert_eq!(network.dhcp(A), "100.64.0.10");
    assert_eq!(network.dhcp(B), "100.64.0.11");
    let dynamic = network.dhcp(C);
    assert!(dynamic.starts_with("100.64.0.1") && dynamic.len() == "100.64.0.1xx".len());
    let state = network.wait_for(&format!("\"address\":\"{dynamic}\",\"name\":\"c\""));
    assert!(state.contains("\"address\":\"192.0.2.1"), "{state}");
    assert!(state.contains("\"gateway\":\"192.0.2.1\""), "{state}");

    for guest in [A, B, C] {
        let page = network.guests[guest].ok(&format!("{FETCH}192.0.2.1/"));
        assert_eq!(page, "outside-page", "guest {guest}");
    }
    // The outside saw netvm's address only.
    let seen = network.outside.ok("ip neighbour show dev wire");
    assert!(!seen.contains("100.64."), "{seen}");

    // DNS: forwarded names, and declared ones.
    // The answer counts, not the status: there is no IPv6 address, which nslookup calls an error.
    let lookup = |name: &str| {
        let output = network.guests[A].run(&format!("busybox nslookup {name} 100.64.0.1"));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(lookup("outside.example").contains("192.0.2.1"));
    assert!(lookup("b.vm.example").contains("100.64.0.11"));
}

#[test]
fn guests_reach_each_other_as_declared_only() {
    skip_unless_available!();
    let mut network = ready();
    network.dhcp(C);
    network.serve_page(|network| &network.guests[B], 80, "page-of-b");
    network.serve_page(|network| &network.guests[B], 81, "other-page-of-b");
    network.serve_page(|network| &network.guests[A], 80, "page-of-a");

    network.wait(
        || network.guests[A].succeeds(&format!("{FETCH}100.64.0.11/")).then_some(()),
        "answer of b",
    );
    assert_eq!(network.guests[A].ok(&format!("{FETCH}100.64.0.11/")), "page-of-b");

    // Without this, c would be silent because its address is not its own yet.
    let c = &network.guests[C];
    network.wait(|| c.succeeds("busybox ping -c 1 -W 1 100.64.0.1").then_some(()), "echo to c");

    let denied = network.counter("denied");
    for (guest, what) in [
        (A, format!("{FETCH}100.64.0.11:81/")),
        (A, "busybox ping -c 1 -W 1 100.64.0.11".to_owned()),
        (B, format!("{FETCH}100.64.0.10/")),
        (B, "busybox ping -c 1 -W 1 100.64.0.10".to_owned()),
        (C, format!("{FETCH}100.64.0.11/")),
    ] {
        assert!(!network.guests[guest].succeeds(&what), "guest {guest}: {what}");
    }
    assert!(network.counter("denied") >= denied + 5, "each attempt is counted");
    // The servers do answer: to themselves.
    assert!(network.guests[B].succeeds(&format!("{FETCH}100.64.0.11:81/")));
    assert!(network.guests[A].succeeds(&format!("{FETCH}100.64.0.10/")));
    network.wait(
        || (!network.state().contains("\"denied\":0")).then_some(()),
        "denied packets in the state",
    );
}

#[test]
fn outside_reaches_declared_forwards_only() {
    skip_unless_available!();
    let mut network = ready();
    network.serve_page(|network| &network.guests[B], 80, "page-of-b");
    let state = network.wait_for("\"phase\":\"ready\"");
    let uplink = state.split("\"address\":\"").nth(1).and_then(|rest| rest.split('/').next());
    let uplink = uplink.unwrap().to_owned();

    network.wait(
        || network.outside.succeeds(&format!("{FETCH}{uplink}:8080/")).then_some(()),
        "answer through the forward",
    );
    assert_eq!(network.outside.ok(&format!("{FETCH}{uplink}:8080/")), "page-of-b");

    // netvm finds the guest by itself, by a question that only that guest's port gets.
    network.netvm.ok("ip neighbour flush dev guests");
    assert!(network.outside.succeeds(&format!("{FETCH}{uplink}:8080/")));

    // A route into the guests' subnet does not help, nor does netvm answer itself.
    network.outside.ok(&format!("ip route add 100.64.0.0/24 via {uplink}"));
    assert!(!network.outside.succeeds(&format!("{FETCH}100.64.0.11/")));
    assert!(!network.outside.succeeds(&format!("{FETCH}{uplink}/")));
    assert!(!network.outside.succeeds(&format!("busybox nslookup b.vm.example {uplink}")));
    assert!(!network.outside.succeeds(&format!("busybox ping -c 1 -W 1 {uplink}")));
}

#[test]
fn spoofed_sources_are_dropped_and_counted() {
    skip_unless_available!();
    let network = ready();
    let a = &network.guests[A];
    assert!(a.succeeds("busybox ping -c 1 -W 2 100.64.0.1"), "the honest one passes");

    let spoofs = [
        // Another guest's address, an unused one, one from outside the subnet.
        "ip address add 100.64.0.11/32 dev eth0 && busybox ping -c 1 -W 1 -I 100.64.0.11 100.64.0.1",
        "ip address add 100.64.0.77/32 dev eth0 && busybox ping -c 1 -W 1 -I 100.64.0.77 100.64.0.1",
        "ip address add 192.0.2.1/32 dev eth0 && busybox ping -c 1 -W 1 -I 192.0.2.1 100.64.0.1",
        // ARP in another guest's name.
        "ip address add 100.64.0.11/32 dev eth0; busybox arping -c 1 -w 1 -U -s 100.64.0.11 -I eth0 100.64.0.11",
        // Another guest's MAC.
        "ip link set eth0 down && ip link set eth0 address 02:00:00:00:ee:0b && \
         ip link set eth0 up && ip route add 100.64.0.1/32 dev eth0 src 100.64.0.10; \
         busybox ping -c 1 -W 1 100.64.0.1",
    ];
    for spoof in spoofs {
        let before = network.counter("spoofed");
        assert!(!a.succeeds(spoof) || spoof.contains("arping"), "{spoof}");
        assert!(network.counter("spoofed") > before, "not counted: {spoof}");
    }
    // netvm still knows who b is.
    assert!(network.guests[B].succeeds("busybox ping -c 1 -W 2 100.64.0.1"));
}

#[test]
fn dhcp_in_the_name_of_another_card_is_dropped() {
    skip_unless_available!();
    let network = ready();
    // Guest a's client asks honestly; on the way out the message names b's card as the client.
    network.guests[A].ok("nft -f - <<END
table netdev forge {
	chain out {
		type filter hook egress device \"eth0\" priority 0;
		udp dport 67 @th,288,48 set 0x02000000ee0b
	}
}
END");
    let before = network.counter("spoofed");
    assert!(!network.guests[A].succeeds("busybox udhcpc -q -n -t 2 -T 1 -i eth0 -s /bin/true"));
    assert!(network.counter("spoofed") > before);
}

#[test]
fn frames_for_other_guests_and_broadcasts_reach_no_guest() {
    skip_unless_available!();
    let network = ready();
    let (a, b) = (&network.guests[A], &network.guests[B]);
    a.ok("ip neighbour replace 100.64.0.11 lladdr 02:00:00:00:ee:0b dev eth0 nud permanent");
    a.ok("ip neighbour replace 100.64.0.55 lladdr 02:00:00:00:77:77 dev eth0 nud permanent");
    // What b sees that is not netvm's own.
    b.ok("nft -f - <<END
table netdev seen {
	counter foreign { }
	chain in {
		type filter hook ingress device \"eth0\" priority 0;
		ether saddr != 02:00:00:00:00:01 counter name foreign
		ip saddr != 100.64.0.1 counter name foreign
		arp saddr ip != 100.64.0.1 counter name foreign
		ether type != { ip, arp } counter name foreign
	}
}
END");
    let unserved = network.counter("unserved");

    for send in [
        "busybox ping -c 2 -W 1 100.64.0.11",
        "busybox ping -c 2 -W 1 100.64.0.55",
        "busybox ping -c 2 -W 1 100.64.0.255",
        "busybox ping -c 2 -W 1 224.0.0.1",
        "busybox arping -c 2 -w 2 -I eth0 100.64.0.11",
        "busybox arping -c 2 -w 2 -U -s 100.64.0.10 -I eth0 100.64.0.10",
    ] {
        a.run(send);
    }

    let foreign = || b.ok("nft list counters");
    assert!(foreign().contains("packets 0 "), "b saw a frame of a: {}", foreign());
    assert!(network.counter("unserved") > unserved);
    // What netvm routes for a is seen, by the same counter.
    a.ok("ip neighbour del 100.64.0.11 dev eth0");
    a.run(&format!("{FETCH}100.64.0.11/"));
    assert!(!foreign().contains("packets 0 "), "{}", foreign());
}

#[test]
fn leased_address_is_the_links_while_the_lease_lasts() {
    skip_unless_available!();
    let network = ready();
    let c = &network.guests[C];
    c.ok("ip address add 100.64.0.100/24 dev eth0");
    assert!(!c.succeeds("busybox ping -c 1 -W 1 100.64.0.1"), "no lease, no address");

    let address = network.dhcp(C);
    network.wait(|| c.succeeds("busybox ping -c 1 -W 1 100.64.0.1").then_some(()), "echo reply");

    // The script is called at release and at expiry alike.
    network.netvm.ok(&format!(
        "cd {root} && mount --bind /dev dev && chroot . /lib/netvm/lease del 02:00:00:00:ee:0c {address} c; umount dev",
        root = network.root().display()
    ));
    assert!(!c.succeeds("busybox ping -c 1 -W 1 100.64.0.1"), "the lease is over");
}

#[test]
fn lease_of_an_earlier_netvm_is_the_links_from_the_start() {
    skip_unless_available!();
    let mut config = support::config();
    let address = support::parse("100.64.0.107");
    // Far enough for any clock: the year 2096.
    config.links[C].lease = Some(KnownLease { address, expires: 4_000_000_000 });
    let mut network = Network::new(&config);
    network.start();
    let c = &network.guests[C];
    c.ok("ip address add 100.64.0.107/24 dev eth0");
    network.wait(|| c.succeeds("busybox ping -c 1 -W 1 100.64.0.1").then_some(()), "echo reply");
    c.ok("ip address replace 100.64.0.108/24 dev eth0; ip address del 100.64.0.107/24 dev eth0");
    assert!(!c.succeeds("busybox ping -c 1 -W 1 100.64.0.1"), "that is not its lease");
}

#[test]
fn overlapping_uplink_is_refused_and_nothing_forwarded() {
    skip_unless_available!();
    let mut network = Network::new(&support::config());
    network.outside.ok("ip address add 100.64.0.200/16 dev wire");
    network.serve_outside("100.64.7.10,100.64.7.20", "--dhcp-option=3,100.64.0.200");
    network.start();
    let state = network.wait_for("\"phase\":\"overlap\"");
    assert!(state.contains("\"forwarding\":false"), "{state}");
    assert!(state.contains("\"uplink\":null"), "{state}");
    assert!(!network.netvm.ok("ip address show dev eth0").contains("100.64.7."));
    // Guests are still served what does not leave netvm.
    assert_eq!(network.dhcp(A), "100.64.0.10");
}

#[test]
fn broken_ruleset_fails_closed_with_every_card_down() {
    skip_unless_available!();
    let mut network = Network::new(&support::config());
    let ruleset = network.root().join("etc/netvm/ruleset.nft");
    let text = std::fs::read_to_string(&ruleset).unwrap();
    std::fs::write(&ruleset, text.replace("policy drop", "policy dorp")).unwrap();
    network.serve_outside("192.0.2.100,192.0.2.150", "--dhcp-option=3,192.0.2.1");
    network.start();

    let state = network.wait_for("\"phase\":\"failed\"");

    assert!(state.contains("\"ruleset\":false,\"forwarding\":false"), "{state}");
    let up = network.netvm.ok("ip -brief link show up");
    assert!(!up.contains("card") && !up.contains("link") && !up.contains("eth0"), "{up}");
}

#[test]
fn lost_cable_stops_forwarding_until_it_is_back() {
    skip_unless_available!();
    let network = ready();
    network.outside.ok("ip link set wire down");
    let state = network.wait_for("\"phase\":\"no-uplink\"");
    assert!(state.contains("no carrier on eth0"), "{state}");
    assert!(state.contains("\"forwarding\":false"), "{state}");
    // The kernel accepts redirects again when forwarding is switched off; netvm does not.
    let redirects = network.netvm.ok("cat /proc/sys/net/ipv4/conf/all/accept_redirects");
    assert_eq!(redirects.trim(), "0");
    network.outside.ok("ip link set wire up");
    let state = network.wait_for("\"phase\":\"ready\"");
    assert!(state.contains("\"forwarding\":true"), "{state}");
}

#[test]
fn static_uplink_without_dhcp_works_and_names_declared_dns() {
    skip_unless_available!();
    let mut config = support::config();
    config.uplink = netvm_image::config::Uplink::Static {
        address: support::parse("192.0.2.7/24"),
        gateway: support::parse("192.0.2.1"),
    };
    config.dns = vec![support::parse("192.0.2.1")];
    config.nics = vec![support::parse(netns::NIC_MAC)];
    let mut network = Network::new(&config);
    network.serve_outside("192.0.2.100,192.0.2.150", "");
    network.start();
    let state = network.wait_for("\"phase\":\"ready\"");
    assert!(state.contains("\"address\":\"192.0.2.7/24\""), "{state}");
    network.dhcp(A);
    // The server outside may still be starting.
    network.wait(
        || {
            let lookup = network.guests[A].run("busybox nslookup outside.example 100.64.0.1");
            String::from_utf8_lossy(&lookup.stdout).contains("192.0.2.1").then_some(())
        },
        "answer by the declared DNS server",
    );
}
