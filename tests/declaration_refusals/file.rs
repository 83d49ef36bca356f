//! The file as a whole, the scenario, and `[netvm]`.

use netvm::declaration::parse;

use super::{found, refuse};

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
