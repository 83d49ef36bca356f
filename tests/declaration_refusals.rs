//! One case for each thing that a declaration is refused for: its code, and the text in the file
//! that is pointed at.

use netvm::declaration::{Problem, parse};

/// A declaration that lacks only what `rest` says about keys outside of tables, and tables.
fn secure(rest: &str) -> String {
    format!("scenario = \"secure\"\nnic = [{{ pci = \"0000:00:03.0\" }}]\n{rest}")
}

fn found(text: &str) -> Vec<(&'static str, &str)> {
    let problems = match parse("netvm.toml", text) {
        Ok(parsed) => {
            assert!(parsed.warnings.problems().iter().all(|problem| !problem.is_error()));
            return Vec::new();
        }
        Err(findings) => findings.problems().to_vec(),
    };
    let errors = problems.iter().filter(|problem| problem.is_error());
    errors
        .inspect(|problem| assert!(has_fix(problem), "{problem:?} has no fix"))
        .map(|problem| (problem.code(), &text[problem.span()]))
        .collect()
}

fn has_fix(problem: &Problem) -> bool {
    !problem.fix().is_empty() && !problem.message().is_empty()
}

/// Checks bodies that `secure` completes.
#[track_caller]
fn refuse(body: &str, wanted: &[(&str, &str)]) {
    let text = secure(body);
    assert_eq!(found(&text), wanted, "in:\n{text}");
}

#[track_caller]
fn accept(body: &str) {
    refuse(body, &[]);
}

#[test]
fn syntax_error_is_refused() {
    refuse("spare_links = \n", &[("netvm::toml::syntax", "")]);
    refuse("[network]\ndomain = \"a\"\ndomain = \"b\"", &[("netvm::toml::syntax", "domain")]);
}

#[test]
fn every_syntax_error_is_reported() {
    assert!(found("scenario = \n[netvm]\nvmm = \n").len() >= 2);
}

#[test]
fn unknown_key_is_refused() {
    refuse("gest = []", &[("netvm::key::unknown", "gest")]);
    refuse("[netvm]\nmemry = \"1G\"", &[("netvm::key::unknown", "memry")]);
    refuse("[[guest]]\nname = \"a\"\nip = \"x\"", &[("netvm::key::unknown", "ip")]);
    refuse(
        "[netvm.image]\ninitrd = \"/i\"\nkernel = \"/k\"\ninitramfs = \"/i\"",
        &[("netvm::key::unknown", "initrd")],
    );
}

#[test]
fn unknown_value_is_refused() {
    refuse("[netvm]\nvmm = \"xen\"", &[("netvm::value::unknown", "\"xen\"")]);
    assert_eq!(found("scenario = \"safe\""), [("netvm::value::unknown", "\"safe\"")]);
}

#[test]
fn wrong_type_is_refused() {
    let code = "netvm::value::type";
    refuse("spare_links = \"3\"", &[(code, "\"3\"")]);
    refuse("[netvm]\nmemory = 512", &[(code, "512")]);
    refuse("[uplink]\ndhcp = \"yes\"", &[(code, "\"yes\"")]);
    refuse("[guest]\nname = \"a\"", &[(code, "[guest]")]);
    refuse("network = 3", &[(code, "3")]);
}

#[test]
fn missing_scenario_is_refused() {
    assert_eq!(found("[[nic]]\nclass = \"network\""), [("netvm::scenario::missing", "")]);
}

#[test]
fn secure_without_nic_is_refused() {
    assert_eq!(found("scenario = \"secure\""), [("netvm::nic::none", "\"secure\"")]);
}

#[test]
fn development_with_nic_is_warned_about() {
    let text = "scenario = \"development\"\n[[nic]]\nclass = \"network\"\n[uplink]\n";
    let parsed = parse("netvm.toml", text).unwrap();
    let [warning] = parsed.warnings.problems() else { panic!("{:?}", parsed.warnings) };
    assert_eq!(warning.code(), "netvm::scenario::no_effect");
    assert_eq!(&text[warning.span()], "\"development\"");
    assert!(warning.message().contains("[[nic]], [uplink]"), "{warning}");
}

#[test]
fn netvm_out_of_range_is_refused() {
    refuse("[netvm]\nmemory = \"64M\"", &[("netvm::vm::memory", "\"64M\"")]);
    refuse("[netvm]\nmemory = \"2048G\"", &[("netvm::vm::memory", "\"2048G\"")]);
    refuse("[netvm]\nmemory = \"512\"", &[("netvm::vm::memory", "\"512\"")]);
    refuse("[netvm]\nmemory = \"+5M\"", &[("netvm::vm::memory", "\"+5M\"")]);
    refuse("[netvm]\nmemory = \"99999999999G\"", &[("netvm::vm::memory", "\"99999999999G\"")]);
    refuse("[netvm]\nvcpus = 0", &[("netvm::vm::vcpus", "0")]);
    refuse("[netvm]\nvcpus = 65", &[("netvm::vm::vcpus", "65")]);
    refuse("[netvm]\nuser = -1", &[("netvm::vm::user", "-1")]);
    refuse("[netvm]\nuser = 4294967295", &[("netvm::vm::user", "4294967295")]);
}

#[test]
fn relative_path_is_refused() {
    let code = "netvm::path::not_absolute";
    refuse("[netvm]\nvmm_binary = \"qemu\"", &[(code, "\"qemu\"")]);
    let image = "[netvm.image]\nkernel = \"vmlinuz\"\ninitramfs = \"./i\"";
    refuse(image, &[(code, "\"vmlinuz\""), (code, "\"./i\"")]);
}

#[test]
fn incomplete_image_is_refused() {
    refuse("[netvm.image]\nkernel = \"/k\"", &[("netvm::image::incomplete", "[netvm.image]")]);
}

#[test]
fn strange_cmdline_and_modules_are_refused() {
    let code = "netvm::vm::cmdline";
    refuse("[netvm]\ncmdline = \"a\\nb\"", &[(code, "\"a\\nb\"")]);
    let long = format!("\"{}\"", "a".repeat(1025));
    refuse(&format!("[netvm]\ncmdline = {long}"), &[(code, &long)]);
    refuse(
        "[netvm]\nmodules = [\"e1000e\", \"../x\", \"-r\"]",
        &[("netvm::vm::module", "\"../x\""), ("netvm::vm::module", "\"-r\"")],
    );
}

/// A declaration with these [[nic]] tables.
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

#[test]
fn name_that_is_no_host_name_is_refused() {
    let long = "a".repeat(64);
    for name in ["", "Work", "a b", "a.b", "a_b", "-a", "a-", "123", "é", "a/b", &long] {
        let quoted = format!("\"{name}\"");
        refuse(&format!("[[guest]]\nname = {quoted}"), &[("netvm::guest::name", &quoted)]);
    }
    refuse("[[guest]]\n", &[("netvm::guest::unnamed", "[[guest]]")]);
    accept(&format!("[[guest]]\nname = \"{}\"", "a".repeat(63)));
}

#[test]
fn reserved_name_is_refused() {
    for name in ["netvm", "host", "localhost", "gateway", "spare-1", "spare-007"] {
        let quoted = format!("\"{name}\"");
        let body = format!("[[guest]]\nname = {quoted}");
        refuse(&body, &[("netvm::guest::reserved_name", &quoted)]);
    }
    accept("[[guest]]\nname = \"spare-wheel\"");
}

#[test]
fn duplicate_names_macs_and_addresses_are_refused() {
    refuse(
        "[[guest]]\nname = \"a\"\nmac = \"02:00:00:00:00:01\"\naddress = \"100.127.77.9\"\n\
         [[guest]]\nname = \"a\"\nmac = \"02:00:00:00:00:01\"\naddress = \"100.127.77.9\"\n",
        &[
            ("netvm::guest::duplicate_name", "\"a\""),
            ("netvm::guest::duplicate_mac", "\"02:00:00:00:00:01\""),
            ("netvm::guest::duplicate_address", "\"100.127.77.9\""),
        ],
    );
}

#[test]
fn unusable_cpu_of_a_link_is_refused() {
    let with = |cpu: &str| format!("[[guest]]\nname = \"a\"\nlink_cpu = {cpu}");
    for number in ["-1", "1024", "65536"] {
        refuse(&with(number), &[("netvm::guest::link_cpu", number)]);
    }
    refuse(&with("\"3\""), &[("netvm::value::type", "\"3\"")]);
    accept(&with("0"));
    accept(&with("1023"));
}

#[test]
fn unusable_rate_is_refused() {
    let with = |rate: &str| format!("[[guest]]\nname = \"a\"\nrate = {{ {rate} }}");
    let code = "netvm::guest::rate";
    for text in ["100", "100M", "0kbit", "-1Mbit", "1001Gbit", "fast"] {
        let quoted = format!("\"{text}\"");
        refuse(&with(&format!("up = {quoted}")), &[(code, &quoted)]);
        refuse(&with(&format!("down = {quoted}")), &[(code, &quoted)]);
    }
    for key in ["up_frames", "down_frames", "control_frames"] {
        for number in ["0", "-1", "1000000001"] {
            let body = with(&format!("{key} = {number}"));
            refuse(&body, &[("netvm::guest::rate_frames", number)]);
        }
        refuse(&with(&format!("{key} = \"5\"")), &[("netvm::value::type", "\"5\"")]);
    }
    refuse(&with("upp = \"1Mbit\""), &[("netvm::key::unknown", "upp")]);
    accept(&with("up = \"100Mbit\", down = \"1Gbit\", up_frames = 1, control_frames = 50"));
    accept("[[guest]]\nname = \"a\"\n[guest.rate]\nup = \"500kbit\"");
}

#[test]
fn unusable_mac_is_refused() {
    let wrong = [
        "01:00:00:00:00:01",
        "ff:ff:ff:ff:ff:ff",
        "00:00:00:00:00:00",
        "02:00:00:00:00",
        "02:00:00:00:00:01:02",
        "02-00-00-00-00-01",
        "+2:00:00:00:00:01",
    ];
    for mac in wrong {
        let quoted = format!("\"{mac}\"");
        let body = format!("[[guest]]\nname = \"a\"\nmac = {quoted}");
        refuse(&body, &[("netvm::guest::mac", &quoted)]);
    }
    accept("[[guest]]\nname = \"a\"\nmac = \"52:54:00:12:34:56\"");
    accept("[[guest]]\nname = \"a\"\nmac = \"00:1b:21:00:00:01\"");
}

#[test]
fn mac_of_netvm_is_refused() {
    let parsed = parse("netvm.toml", &secure("[[guest]]\nname = \"a\"")).unwrap();
    let guest = &parsed.declaration.guests[0];
    let spare =
        parse("netvm.toml", &secure("spare_links = 2")).unwrap().declaration.guests[1].clone();
    for mac in [parsed.declaration.network.mac, guest.card_mac, spare.mac, spare.card_mac] {
        let quoted = format!("\"{mac}\"");
        let body = format!("[[guest]]\nname = \"a\"\nmac = {quoted}");
        refuse(&body, &[("netvm::guest::mac_of_netvm", &quoted)]);
    }
    // What is derived for one guest cannot be declared for another.
    let body = format!("[[guest]]\nname = \"a\"\n[[guest]]\nname = \"b\"\nmac = \"{}\"", guest.mac);
    refuse(&body, &[("netvm::guest::duplicate_mac", &format!("\"{}\"", guest.mac))]);
}

#[test]
fn unusable_guest_address_is_refused() {
    let cases = [
        ("netvm::guest::address", "100.127.77"),
        ("netvm::guest::address_outside", "10.0.0.5"),
        ("netvm::guest::address_unusable", "100.127.77.0"),
        ("netvm::guest::address_unusable", "100.127.77.255"),
        ("netvm::guest::address_of_netvm", "100.127.77.1"),
    ];
    for (code, address) in cases {
        let quoted = format!("\"{address}\"");
        refuse(&format!("[[guest]]\nname = \"a\"\naddress = {quoted}"), &[(code, &quoted)]);
    }
}

#[test]
fn guest_memory_and_user_are_checked() {
    let guest = "[[guest]]\nname = \"a\"\n";
    refuse(&format!("{guest}memory = \"1M\""), &[("netvm::vm::memory", "\"1M\"")]);
    refuse(&format!("{guest}user = -5"), &[("netvm::vm::user", "-5")]);
}

#[test]
fn more_guests_than_addresses_are_refused() {
    let guests = "[[guest]]\nname = \"a\"\n[[guest]]\nname = \"b\"\n";
    let code = "netvm::network::too_small";
    // A /30 has two hosts, and netvm is one of them.
    refuse(&format!("{guests}[network]\nsubnet = \"10.0.0.0/30\""), &[(code, "[[guest]]")]);
    refuse("spare_links = 2\n[network]\nsubnet = \"10.0.0.0/30\"", &[(code, "2")]);
    accept(&format!("{guests}[network]\nsubnet = \"10.0.0.0/29\""));
    // Six hosts: netvm, one fixed in the middle of the other five, and three dynamic.
    let split = "spare_links = 3\n[[guest]]\nname = \"a\"\naddress = \"10.0.0.4\"\n\
                 [network]\nsubnet = \"10.0.0.0/29\"";
    refuse(split, &[(code, "3")]);
    accept(&split.replace("10.0.0.4", "10.0.0.2"));
}

#[test]
fn more_links_than_one_netvm_has_are_refused() {
    refuse("spare_links = 201", &[("netvm::guest::spare_links", "201")]);
    refuse("spare_links = -1", &[("netvm::guest::spare_links", "-1")]);
    refuse(
        "spare_links = 200\n[[guest]]\nname = \"a\"",
        &[("netvm::guest::too_many_links", "200")],
    );
    accept("spare_links = 199\n[[guest]]\nname = \"a\"");
}

const TWO_GUESTS: &str =
    "[[guest]]\nname = \"a\"\n[[guest]]\nname = \"b\"\naddress = \"100.127.77.9\"\n";

#[track_caller]
fn refuse_rule(rule: &str, wanted: &[(&str, &str)]) {
    refuse(&format!("{TWO_GUESTS}{rule}"), wanted);
}

#[test]
fn rule_with_unknown_guest_is_refused() {
    let code = "netvm::rule::unknown_guest";
    refuse_rule("[[allow]]\nfrom = \"a\"\nto = \"c\"", &[(code, "\"c\"")]);
    refuse_rule("[[allow]]\nfrom = \"netvm\"\nto = \"b\"", &[(code, "\"netvm\"")]);
    refuse_rule("[[allow]]\nfrom = \"spare-1\"\nto = \"b\"", &[(code, "\"spare-1\"")]);
    accept(&format!("spare_links = 1\n{TWO_GUESTS}[[allow]]\nfrom = \"spare-1\"\nto = \"b\""));
    refuse_rule("[[forward]]\nprotocol = \"tcp\"\nport = 80\nto = \"c\"", &[(code, "\"c\"")]);
}

#[test]
fn rule_to_a_guest_with_a_wrong_name_is_not_reported_twice() {
    refuse(
        "[[guest]]\nname = \"a\"\n[[guest]]\nname = \"B\"\n[[allow]]\nfrom = \"a\"\nto = \"B\"",
        &[("netvm::guest::name", "\"B\"")],
    );
}

#[test]
fn rule_to_itself_is_refused() {
    refuse_rule("[[allow]]\nfrom = \"a\"\nto = 'a'", &[("netvm::rule::to_itself", "'a'")]);
}

#[test]
fn incomplete_rule_is_refused() {
    let code = "netvm::rule::incomplete";
    refuse_rule("[[allow]]", &[(code, "[[allow]]"), (code, "[[allow]]")]);
    let three = [(code, "[[forward]]"); 3];
    refuse_rule("[[forward]]", &three);
}

#[test]
fn ports_are_checked() {
    let rule = "[[allow]]\nfrom = \"a\"\nto = \"b\"\nprotocol = \"tcp\"\n";
    let code = "netvm::rule::port";
    refuse_rule(
        &format!("{rule}ports = [0, 65536, -1]"),
        &[(code, "0"), (code, "65536"), (code, "-1")],
    );
    refuse_rule(
        &format!("{rule}ports = [\"9-8\", \"x\", \"1-\"]"),
        &[(code, "\"9-8\""), (code, "\"x\""), (code, "\"1-\"")],
    );
    refuse_rule(&format!("{rule}ports = [80, \"70-90\"]"), &[(code, "\"70-90\"")]);
    refuse_rule(&format!("{rule}ports = []"), &[(code, "[]")]);
    refuse_rule(&format!("{rule}ports = [80, true]"), &[("netvm::value::type", "true")]);
}

#[test]
fn ports_without_tcp_or_udp_are_refused() {
    let code = "netvm::rule::ports_without_protocol";
    let rule = "[[allow]]\nfrom = \"a\"\nto = \"b\"\nports = [80]\n";
    refuse_rule(rule, &[(code, "[80]")]);
    refuse_rule(&format!("{rule}protocol = \"icmp\""), &[(code, "[80]")]);
}

#[test]
fn duplicate_allow_is_refused() {
    let rule = |more: &str| format!("[[allow]]\nfrom = \"a\"\nto = \"b\"\n{more}\n");
    let code = "netvm::rule::duplicate_allow";
    let tcp = rule("protocol = \"tcp\"\nports = [80, \"90-99\"]");
    refuse_rule(&(tcp.clone() + &tcp), &[(code, "[[allow]]")]);
    refuse_rule(&(tcp.clone() + &rule("")), &[(code, "[[allow]]")]);
    let overlapping = rule("protocol = \"tcp\"\nports = [95]");
    refuse_rule(&(tcp.clone() + &overlapping), &[(code, "[[allow]]")]);
    let other_port = rule("protocol = \"tcp\"\nports = [443]");
    refuse_rule(&(tcp.clone() + &other_port), &[]);
    refuse_rule(&(tcp + &rule("protocol = \"udp\"")), &[]);
}

#[test]
fn forward_is_checked() {
    let forward = |port: &str, to: &str| {
        format!("[[forward]]\nprotocol = \"udp\"\nport = {port}\nto = \"{to}\"\n")
    };
    refuse_rule(&forward("0", "b"), &[("netvm::rule::port", "0")]);
    refuse_rule(&(forward("53", "b") + "to_port = 70000"), &[("netvm::rule::port", "70000")]);
    refuse_rule(&forward("53", "a"), &[("netvm::rule::forward_to_dynamic", "\"a\"")]);
    refuse_rule(&forward("68", "b"), &[("netvm::rule::forward_of_dhcp", "68")]);
    let twice = forward("53", "b") + &forward("53", "b");
    refuse_rule(&twice, &[("netvm::rule::duplicate_forward", "[[forward]]")]);
    let other = forward("53", "b") + &forward("53", "b").replace("udp", "tcp");
    refuse_rule(&other, &[]);
}

#[test]
fn forward_to_spare_link_is_refused() {
    let body = format!(
        "spare_links = 1\n{TWO_GUESTS}[[forward]]\nprotocol = \"tcp\"\nport = 1\nto = \"spare-1\""
    );
    refuse(&body, &[("netvm::rule::forward_to_dynamic", "\"spare-1\"")]);
}

#[test]
fn wrong_address_is_not_taken_for_a_dynamic_one() {
    let body = "[[guest]]\nname = \"a\"\naddress = 5\n\
                [[forward]]\nprotocol = \"tcp\"\nport = 1\nto = \"a\"";
    refuse(body, &[("netvm::value::type", "5")]);
    refuse(
        &body.replace('5', "\"10.0.0.5\""),
        &[("netvm::guest::address_outside", "\"10.0.0.5\"")],
    );
}

#[test]
fn errors_of_every_table_are_reported_at_once() {
    let text = "scenario = \"secur\"\n\
                spare_links = 500\n\
                [netvm]\nvcpus = 0\nmemry = \"1G\"\n\
                [[nic]]\npci = \"x\"\n\
                [network]\nmtu = 1\n\
                [uplink]\ndhcp = 1\n\
                [[guest]]\nname = \"a\"\nmac = \"x\"\n\
                [[allow]]\nfrom = \"a\"\nto = \"a\"\n\
                [[forward]]\nprotocol = \"tcp\"\nport = 0\nto = \"a\"\n";
    assert_eq!(
        found(text),
        [
            ("netvm::value::unknown", "\"secur\""),
            ("netvm::guest::spare_links", "500"),
            ("netvm::vm::vcpus", "0"),
            ("netvm::key::unknown", "memry"),
            ("netvm::nic::syntax", "\"x\""),
            ("netvm::network::mtu", "1"),
            ("netvm::value::type", "1"),
            ("netvm::guest::mac", "\"x\""),
            ("netvm::rule::to_itself", "\"a\""),
            ("netvm::rule::port", "0"),
            ("netvm::rule::forward_to_dynamic", "\"a\""),
        ]
    );
}
