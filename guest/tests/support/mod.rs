//! What several tests need: a configuration, and netvm's image built once a run.

#![expect(dead_code, reason = "no test file uses all of it")]

pub mod netns;

use std::path::Path;

use netvm_image::config::{
    Allow, Config, Forward, HostName, Link, MacAddress, Protocol, RenderedFile, Uplink,
};
use netvm_image::image::{Image, Options, build};

/// A value of the configuration from its text.
pub fn parse<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("the test's own values are valid")
}

/// The guest `name` with cards whose last octet is `octet`.
pub fn link(name: &str, octet: u8, address: Option<&str>) -> Link {
    let mac = |role| MacAddress::new([2, 0, 0, 0, role, octet]).expect("it is unicast");
    Link {
        name: parse(name),
        card_mac: mac(0xca),
        guest_mac: mac(0xee),
        guest_address: address.map(parse),
        lease: None,
    }
}

/// Guests a and b with addresses, c without; a may reach b on TCP port 80; port 8080 leads to b.
pub fn config() -> Config {
    let name = |text: &str| parse::<HostName>(text);
    Config {
        netvm_mac: parse("02:00:00:00:00:01"),
        subnet: parse("100.64.0.0/24"),
        address: parse("100.64.0.1"),
        domain: parse("vm.example"),
        dns: vec![],
        mtu: 1500,
        uplink: Uplink::Dhcp,
        nics: vec![],
        modules: vec![],
        links: vec![
            link("a", 0xa, Some("100.64.0.10")),
            link("b", 0xb, Some("100.64.0.11")),
            link("c", 0xc, None),
        ],
        dynamic_range: Some((parse("100.64.0.100"), parse("100.64.0.199"))),
        allow: vec![Allow {
            from: name("a"),
            to: name("b"),
            protocol: Protocol::Tcp,
            ports: vec![80..=80],
        }],
        forwards: vec![Forward { protocol: Protocol::Tcp, port: 8080, to: name("b"), to_port: 80 }],
    }
}

/// The text of a rendered file.
pub fn text<'a>(files: &'a [RenderedFile], name: &str) -> &'a str {
    let path = format!("etc/netvm/{name}");
    let file = files.iter().find(|file| file.path == path).expect("that file is rendered");
    std::str::from_utf8(&file.contents).expect("rendered files are text")
}

/// netvm's image in `directory`.
pub fn image(directory: &Path) -> Image {
    let options = Options::new(directory).expect("a kernel is installed");
    build(&options, &mut |_| {}).expect("what the image is made of is installed")
}
