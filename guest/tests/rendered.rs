//! The rendered files: as expected to the letter, accepted by the programs that read them, and
//! never more than their renderers meant.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use netvm_image::config::{
    Allow, Config, ConfigError, Forward, HostName, KnownLease, Protocol, RenderedFile, Uplink,
    render,
};
use proptest::prelude::*;
use support::{config, link, parse, text};

fn check_golden(name: &str, files: &[RenderedFile]) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for file in files {
        let path = directory.join(file.path.trim_start_matches("etc/netvm/"));
        if update {
            fs::create_dir_all(&directory).expect("the source tree is writable");
            fs::write(&path, &file.contents).expect("the source tree is writable");
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        let actual = String::from_utf8_lossy(&file.contents);
        assert_eq!(actual, expected, "{} (UPDATE_GOLDEN=1 accepts it)", path.display());
    }
}

fn lease(address: &str) -> KnownLease {
    KnownLease { address: parse(address), expires: 1_800_000_000 }
}

/// A configuration with every feature.
fn everything() -> Config {
    let mut config = config();
    config.uplink = Uplink::Static { address: parse("192.0.2.7/24"), gateway: parse("192.0.2.1") };
    config.dns = vec![parse("9.9.9.9"), parse("192.0.2.53")];
    config.nics = vec![parse("52:54:00:12:34:56")];
    config.modules = vec![parse("iwlwifi"), parse("cfg80211")];
    config.links[2].lease = Some(lease("100.64.0.107"));
    let allow =
        |from, to, protocol, ports| Allow { from: parse(from), to: parse(to), protocol, ports };
    config.allow.extend([
        allow("b", "c", Protocol::Udp, vec![5000..=5010, 53..=53, 5005..=6000, 6001..=6001]),
        allow("c", "a", Protocol::Icmp, vec![]),
        allow("a", "c", Protocol::Any, vec![]),
        allow("c", "b", Protocol::Tcp, vec![]),
    ]);
    config.forwards.push(Forward {
        protocol: Protocol::Udp,
        port: 8080,
        to: parse("a"),
        to_port: 53,
    });
    config
}

/// No guest at all.
fn empty() -> Config {
    Config { links: vec![], dynamic_range: None, allow: vec![], forwards: vec![], ..config() }
}

/// `nft -c` in a network namespace of its own; None when that cannot be had here.
fn nft_check(ruleset: &str) -> Option<Result<(), String>> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP: nft -c needs root");
        return None;
    }
    let directory = tempfile::tempdir().ok()?;
    let path = directory.path().join("ruleset.nft");
    fs::write(&path, ruleset).ok()?;
    let output = Command::new("unshare").args(["--net", "nft", "-c", "-f"]).arg(&path).output();
    let output = output.expect("unshare is part of util-linux, which is essential");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    Some(if output.status.success() { Ok(()) } else { Err(error) })
}

fn dnsmasq_check(files: &[RenderedFile]) -> Result<(), String> {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    for name in ["dhcp-hosts", "hosts"] {
        let path = directory.path().join(name);
        fs::write(path, text(files, name)).expect("the temporary directory is writable");
    }
    let main = directory.path().join("dnsmasq.conf");
    let here = directory.path().display().to_string();
    // The account and the script exist in the image only.
    let contents = text(files, "dnsmasq.conf")
        .replace("/etc/netvm", &here)
        .replace("user=dnsmasq", "user=root")
        .replace("group=dnsmasq", "group=root");
    fs::write(&main, contents).expect("the temporary directory is writable");
    let output = Command::new("dnsmasq")
        .arg("--test")
        .arg(format!("--conf-file={}", main.display()))
        .output()
        .expect("dnsmasq is installed");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(error) }
}

#[test]
fn render_small_full_and_empty_configurations_are_as_expected() {
    check_golden("small", &render(&config()).unwrap());
    check_golden("full", &render(&everything()).unwrap());
    check_golden("empty", &render(&empty()).unwrap());
}

#[test]
fn render_output_is_accepted_by_nft_and_dnsmasq() {
    for config in [config(), everything(), empty()] {
        let files = render(&config).unwrap();
        dnsmasq_check(&files).unwrap();
        if let Some(result) = nft_check(text(&files, "ruleset.nft")) {
            result.unwrap();
        }
    }
    // The check does check.
    assert!(nft_check("table inet a { chain b { no such rule } }").is_none_or(|r| r.is_err()));
}

#[test]
fn render_as_many_links_as_a_bridge_has_ports_is_accepted_by_nft() {
    let mut config = empty();
    config.subnet = parse("100.64.0.0/16");
    config.links = (0..1023_u16)
        .map(|index| {
            let [high, low] = (index + 2).to_be_bytes();
            let mut link = link(&format!("g{index}"), 0, Some(&format!("100.64.{high}.{low}")));
            let mac = |role| netvm_image::config::MacAddress::new([2, role, 0, 0, high, low]);
            link.card_mac = mac(1).unwrap();
            link.guest_mac = mac(2).unwrap();
            link
        })
        .collect();
    if let Some(result) = nft_check(text(&render(&config).unwrap(), "ruleset.nft")) {
        result.unwrap();
    }
}

#[test]
fn render_contradictions_are_refused() {
    let refused = |change: &dyn Fn(&mut Config)| {
        let mut config = everything();
        change(&mut config);
        render(&config).unwrap_err()
    };
    use ConfigError as E;
    assert!(matches!(refused(&|c| c.subnet = parse("100.64.0.1/24")), E::Subnet(_)));
    assert!(matches!(refused(&|c| c.subnet = parse("100.64.0.0/31")), E::Subnet(_)));
    assert!(matches!(refused(&|c| c.address = parse("100.64.0.255")), E::Outside { .. }));
    assert!(matches!(refused(&|c| c.address = parse("100.64.1.1")), E::Outside { .. }));
    assert!(matches!(refused(&|c| c.address = parse("100.64.0.10")), E::Duplicate { .. }));
    assert!(matches!(refused(&|c| c.address = parse("100.64.0.150")), E::Range(..)));
    assert!(matches!(refused(&|c| c.dynamic_range = None), E::NoRange(_)));
    for address in ["100.64.0.10", "100.64.1.107"] {
        assert!(matches!(refused(&|c| c.links[2].lease = Some(lease(address))), E::Lease(..)));
    }
    assert!(matches!(refused(&|c| c.links[0].lease = Some(lease("100.64.0.107"))), E::Lease(..)));
    assert!(matches!(refused(&|c| c.mtu = 100), E::Mtu(100)));
    assert!(matches!(refused(&|c| c.links[0].name = parse("b")), E::Duplicate { .. }));
    assert!(matches!(refused(&|c| c.links[0].guest_mac = c.netvm_mac), E::Duplicate { .. }));
    assert!(matches!(
        refused(&|c| c.links[0].card_mac = c.links[1].guest_mac),
        E::Duplicate { .. }
    ));
    assert!(matches!(refused(&|c| c.nics = vec![c.links[0].card_mac]), E::Duplicate { .. }));
    assert!(matches!(refused(&|c| c.allow[0].to = parse("nobody")), E::UnknownGuest(_)));
    assert!(matches!(refused(&|c| c.allow[0].to = c.allow[0].from.clone()), E::ToItself(_)));
    assert!(matches!(refused(&|c| c.allow[0].ports = vec![0..=1]), E::Ports(_)));
    assert!(matches!(refused(&|c| c.allow[0].protocol = Protocol::Icmp), E::Ports(_)));
    assert!(matches!(refused(&|c| c.forwards[0].to = parse("c")), E::ForwardToDynamic { .. }));
    assert!(matches!(refused(&|c| c.forwards[0].protocol = Protocol::Any), E::Ports(_)));
    assert!(matches!(refused(&|c| c.forwards[1].protocol = Protocol::Tcp), E::Duplicate { .. }));
    assert!(matches!(refused(&|c| c.dns = vec![parse("100.64.0.9")]), E::Dns(_)));
    assert!(matches!(refused(&|c| c.dns = vec![parse("224.0.0.1")]), E::Dns(_)));
    let uplink = |address: &str, gateway: &str| {
        refused(&|c| {
            c.uplink = Uplink::Static { address: parse(address), gateway: parse(gateway) };
        })
    };
    assert!(matches!(uplink("100.64.9.9/8", "100.1.1.1"), E::Uplink { .. }));
    assert!(matches!(uplink("100.64.0.9/28", "100.64.0.1"), E::Uplink { .. }));
    assert!(matches!(uplink("192.0.2.7/24", "192.0.3.1"), E::Uplink { .. }));
    assert!(matches!(uplink("192.0.2.7/24", "192.0.2.7"), E::Uplink { .. }));
}

/// Text that tries to be syntax, and text that could be a name.
fn hostile() -> impl Strategy<Value = String> {
    let syntax = "[a-z0-9]{1,4}(\\n|\"|,|;|\\}|\\{|#| |\\$\\(|`|/|\\.\\.|\\\\|=|\\t|\\r|\\x00|é)[a-z0-9 =]{0,8}";
    prop_oneof![1 => syntax, 6 => "[a-z0-9-]{1,63}", 1 => "\\PC{0,20}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn render_hostile_names_are_refused_or_change_no_line_but_their_own(
        first in hostile(),
        second in hostile(),
        domain in hostile(),
    ) {
        let mut config = everything();
        let (Ok(first), Ok(second), Ok(domain)) =
            (first.parse::<HostName>(), second.parse::<HostName>(), domain.parse()) else {
            return Ok(());
        };
        let expected = render(&config).expect("it is valid");
        for rule in &mut config.allow {
            for name in [&mut rule.from, &mut rule.to] {
                match name.as_str() {
                    "a" => *name = first.clone(),
                    "b" => *name = second.clone(),
                    _ => {}
                }
            }
        }
        config.forwards[0].to = second.clone();
        config.forwards[1].to = first.clone();
        config.links[0].name = first;
        config.links[1].name = second;
        config.domain = domain;
        let Ok(files) = render(&config) else {
            // The same name twice.
            return Ok(());
        };
        for (file, expected) in files.iter().zip(&expected) {
            prop_assert_eq!(&file.path, &expected.path);
            let words = |contents: &[u8]| -> Vec<usize> {
                let text = std::str::from_utf8(contents).expect("rendered files are text");
                text.lines().map(|line| line.split([' ', '\t', ',', '=', '/']).count()).collect()
            };
            prop_assert_eq!(words(&file.contents), words(&expected.contents), "{}", file.path);
        }
        // Names do not occur in the ruleset at all.
        prop_assert_eq!(text(&files, "ruleset.nft"), text(&expected, "ruleset.nft"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn render_random_rules_are_accepted_by_nft(
        ports in prop::collection::vec((1_u16.., 1_u16..), 0..12),
        forwards in prop::collection::btree_map(1_u16.., 1_u16.., 0..6),
    ) {
        let mut config = config();
        config.allow[0].ports = ports.iter().map(|(a, b)| *a.min(b)..=*a.max(b)).collect();
        config.forwards = forwards
            .iter()
            .map(|(port, to_port)| Forward {
                protocol: Protocol::Tcp,
                port: *port,
                to: parse("b"),
                to_port: *to_port,
            })
            .collect();
        let files = render(&config).expect("it is valid");
        if let Some(result) = nft_check(text(&files, "ruleset.nft")) {
            prop_assert_eq!(result, Ok(()));
        }
    }
}
