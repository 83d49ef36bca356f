//! What a declaration means when it is right, how its errors look, and that nothing makes it panic.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use miette::{GraphicalReportHandler, GraphicalTheme};
use netvm::declaration::{
    Declaration, DeclarationError, Image, MacAddress, MacRole, Protocol, Scenario, Transport,
    Uplink, load, parse, schema,
};
use netvm::vmm::Vmm;
use proptest::prelude::*;
use vmm_plugin::host::NicSelector;

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn declaration(text: &str) -> Declaration {
    match parse("netvm.toml", text) {
        Ok(parsed) => parsed.declaration,
        Err(findings) => panic!("{:?}", miette::Report::new(findings)),
    }
}

fn example(name: &str) -> Declaration {
    declaration(&fs::read_to_string(in_repository("examples").join(name)).unwrap())
}

#[test]
fn every_example_is_valid_without_warnings() {
    let mut count = 0;
    for entry in fs::read_dir(in_repository("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let parsed =
                load(&path).unwrap_or_else(|error| panic!("{:?}", miette::Report::new(error)));
            assert!(parsed.warnings.is_empty(), "{:?}", miette::Report::new(parsed.warnings));
            count += 1;
        }
    }
    assert!(count >= 6, "only {count} examples");
}

#[test]
fn minimal_declaration_has_the_documented_defaults() {
    let declaration = example("minimal.toml");

    assert_eq!(declaration.scenario, Scenario::Secure);
    assert_eq!(declaration.nics, [NicSelector::Class("network".parse().unwrap())]);
    let netvm = &declaration.netvm;
    assert_eq!((netvm.vmm, netvm.vcpus, netvm.memory.mebibytes()), (Vmm::Qemu, 1, 512));
    assert_eq!((&netvm.image, netvm.user), (&Image::BuiltIn, None));
    let network = &declaration.network;
    assert_eq!(network.subnet.to_string(), "100.127.77.0/24");
    assert_eq!(network.address, Ipv4Addr::new(100, 127, 77, 1));
    assert_eq!((network.domain.as_str(), network.mtu), ("netvm.internal", 1500));
    assert!(network.dns.is_empty());
    assert_eq!(declaration.uplink, Uplink::Dhcp);
    let guest = declaration.guest("work").unwrap();
    assert_eq!(guest.mac, MacAddress::derive(MacRole::Guest, "work"));
    assert_eq!(guest.card_mac, MacAddress::derive(MacRole::Card, "work"));
    assert_eq!((guest.address, guest.vmm, guest.memory.mebibytes()), (None, Vmm::Qemu, 512));
}

#[test]
fn edge_box_says_what_its_file_says() {
    let declaration = example("edge-box.toml");

    assert_eq!(declaration.nics.len(), 2);
    let Uplink::Static { address, gateway } = declaration.uplink else { panic!("DHCP") };
    assert_eq!(address.to_string(), "192.0.2.20/24");
    assert_eq!(gateway, Ipv4Addr::new(192, 0, 2, 1));
    let metrics = &declaration.allows[1];
    assert_eq!((metrics.from.as_str(), metrics.to.as_str()), ("metrics", "web"));
    assert_eq!(metrics.protocol, Protocol::Tcp);
    let ports: Vec<String> = metrics.ports.iter().map(ToString::to_string).collect();
    assert_eq!(ports, ["9100", "9200-9210"]);
    let http = &declaration.forwards[1];
    assert_eq!((http.protocol, http.port, http.to_port), (Transport::Tcp, 80, 8080));
    assert_eq!(declaration.forwards[0].to_port, 443);
    assert_eq!(declaration.dynamic_range(), None);
}

#[test]
fn spare_links_follow_the_declared_guests() {
    let declaration = example("laptop.toml");

    let names: Vec<&str> = declaration.guests.iter().map(|guest| guest.name.as_str()).collect();
    assert_eq!(names, ["browser", "mail", "work", "spare-1", "spare-2"]);
    let spare: Vec<bool> = declaration.guests.iter().map(|guest| guest.spare).collect();
    assert_eq!(spare, [false, false, false, true, true]);
    assert_eq!(declaration.guest("work").unwrap().vmm, Vmm::Qemu);
    assert_eq!(declaration.guest("mail").unwrap().vmm, Vmm::CloudHypervisor);
}

#[test]
fn derived_macs_are_stable_local_unicast_and_all_different() {
    // A change would give every guest another card, and DHCP clients another lease.
    // The first bytes of SHA-256 over "netvm mac\0", role, "\0" and name, as other tools compute it.
    let derived = [MacRole::Netvm, MacRole::Guest, MacRole::Card]
        .map(|role| MacAddress::derive(role, "browser").to_string());
    assert_eq!(derived, ["a2:b5:ea:03:00:59", "6e:ea:be:eb:ca:89", "f2:52:89:c0:f0:93"]);

    let mut macs: Vec<MacAddress> = (0..200)
        .flat_map(|number| {
            let name = format!("guest-{number}");
            [MacAddress::derive(MacRole::Guest, &name), MacAddress::derive(MacRole::Card, &name)]
        })
        .collect();
    assert!(macs.iter().all(|mac| mac.is_locally_administered() && mac.octets()[0] & 1 == 0));
    macs.sort_unstable();
    macs.dedup();
    assert_eq!(macs.len(), 400);
}

#[test]
fn dynamic_range_is_the_longest_run_without_fixed_addresses() {
    let with_fixed = |addresses: &[&str]| {
        let mut text = "scenario = \"secure\"\nspare_links = 1\n[[nic]]\nclass = \"wireless\"\n\
                        [network]\nsubnet = \"10.0.0.0/28\"\n"
            .to_owned();
        for (number, address) in addresses.iter().enumerate() {
            text += &format!("[[guest]]\nname = \"g{number}\"\naddress = \"{address}\"\n");
        }
        let range = declaration(&text).dynamic_range().unwrap();
        (range.first.octets()[3], range.last.octets()[3], range.count())
    };
    assert_eq!(with_fixed(&[]), (2, 14, 13));
    assert_eq!(with_fixed(&["10.0.0.2", "10.0.0.3"]), (4, 14, 11));
    assert_eq!(with_fixed(&["10.0.0.5", "10.0.0.14"]), (6, 13, 8));
    assert_eq!(with_fixed(&["10.0.0.12"]), (2, 11, 10));
}

#[test]
fn schema_in_docs_is_current() {
    let path = in_repository("docs/netvm.schema.json");
    let recorded: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let current: serde_json::Value = serde_json::from_str(&schema()).unwrap();
    assert!(
        recorded == current,
        "{} is stale; run: cargo run -- schema > docs/netvm.schema.json",
        path.display()
    );
}

#[test]
fn schema_describes_every_key_and_allows_no_other() {
    let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
    let tables = schema["$defs"].as_object().unwrap().values().chain([&schema]);
    let mut keys = 0;
    for table in tables.filter(|table| table["type"] == "object") {
        assert_eq!(table["additionalProperties"], false, "{table}");
        for (key, value) in table["properties"].as_object().unwrap() {
            assert!(value["description"].is_string(), "{key} has no description");
            keys += 1;
        }
    }
    assert!(keys > 40, "only {keys} keys");
    assert!(!schema.to_string().contains("null"));
}

#[test]
fn report_looks_as_recorded() {
    let text = fs::read_to_string(in_repository("tests/golden/wrong.toml")).unwrap();
    let findings = parse("netvm.toml", &text).unwrap_err();
    let mut found = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(90)
        .render_report(&mut found, &findings)
        .unwrap();
    let path = in_repository("tests/golden/report.txt");
    if std::env::var_os("NETVM_BLESS").is_some() {
        fs::write(&path, &found).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap();
    assert!(wanted == found, "wanted:\n{wanted}\nfound:\n{found}");
}

#[test]
fn load_of_no_file_or_a_huge_one_fails() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("netvm.toml");
    assert!(matches!(load(&missing), Err(DeclarationError::Unreadable { .. })));
    fs::write(&missing, [0xff, 0xfe]).unwrap();
    assert!(matches!(load(&missing), Err(DeclarationError::Unreadable { .. })));
    fs::write(&missing, "#".repeat(1 << 20)).unwrap();
    assert!(matches!(load(&missing), Err(DeclarationError::TooLarge { .. })));
}

/// Lines that mean something, to be put together at random.
fn line() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "scenario",
        "netvm",
        "vmm",
        "memory",
        "vcpus",
        "image",
        "kernel",
        "cmdline",
        "modules",
        "user",
        "nic",
        "pci",
        "class",
        "platform",
        "subnet",
        "address",
        "domain",
        "dns",
        "mtu",
        "dhcp",
        "gateway",
        "guest",
        "name",
        "mac",
        "from",
        "to",
        "protocol",
        "ports",
        "port",
        "to_port",
        "spare_links",
    ]);
    let value = prop_oneof![
        prop::sample::select(vec![
            "\"secure\"",
            "\"qemu\"",
            "\"a\"",
            "\"spare-1\"",
            "\"tcp\"",
            "\"10.0.0.0/30\"",
            "\"100.127.77.9\"",
            "\"02:00:00:00:00:01\"",
            "\"0000:00:03.0\"",
            "[1, \"2-3\", 1.5]",
            "{ a = 1 }",
            "[{ name = \"a\" }, 3]",
            "true",
            "1979-05-27",
            "9223372036854775807",
        ])
        .prop_map(str::to_owned),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<String>().prop_map(|text| format!("{text:?}")),
    ];
    let header = prop::sample::select(vec![
        "[netvm]",
        "[netvm.image]",
        "[[nic]]",
        "[network]",
        "[uplink]",
        "[[guest]]",
        "[[allow]]",
        "[[forward]]",
        "[guest]",
        "[[netvm]]",
        "[[guest.x]]",
    ]);
    prop_oneof![
        3 => (key, value).prop_map(|(key, value)| format!("{key} = {value}")),
        2 => header.prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

/// Parses, and has errors rendered, which needs every span to be inside of the text.
fn parse_and_render(text: &str) {
    let findings = match parse("netvm.toml", text) {
        Ok(parsed) => parsed.warnings,
        Err(findings) => {
            assert!(findings.problems().iter().any(netvm::declaration::Problem::is_error));
            findings
        }
    };
    for problem in findings.problems() {
        assert!(text.get(problem.span()).is_some(), "{problem:?}");
    }
    let mut rendered = String::new();
    GraphicalReportHandler::new().render_report(&mut rendered, &findings).unwrap();
}

proptest! {
    #[test]
    fn any_text_is_parsed_without_panic(text in any::<String>()) {
        parse_and_render(&text);
    }

    #[test]
    fn any_lines_are_parsed_without_panic(lines in prop::collection::vec(line(), 0..24)) {
        parse_and_render(&lines.join("\n"));
    }
}
