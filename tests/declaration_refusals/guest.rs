//! `[[guest]]` and `spare_links`.

use netvm::declaration::parse;

use super::{accept, has_fix, refuse, secure};

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
fn cpu_that_the_host_does_not_have_is_refused_with_its_place() {
    let text = secure(
        "[[guest]]\nname = \"a\"\nlink_cpu = 3\n[[guest]]\nname = \"b\"\n\
         [[guest]]\nname = \"c\"\nlink_cpu = 17\n[[guest]]\nname = \"d\"\nlink_cpu = 1023\n",
    );
    let parsed = parse("netvm.toml", &text).unwrap();
    assert!(parsed.check_cpus(|_| true).is_ok());
    let findings = parsed.check_cpus(|cpu| cpu < 4).unwrap_err();
    let found = findings.problems().iter().map(|problem| {
        assert!(problem.is_error() && has_fix(problem), "{problem:?}");
        (problem.code(), &text[problem.span()])
    });
    let code = "netvm::guest::link_cpu_unusable";
    assert_eq!(found.collect::<Vec<_>>(), [(code, "17"), (code, "1023")]);
    assert!(findings.to_string().starts_with("netvm.toml: 2 errors"), "{findings}");
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
