//! From selectors to devices.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod machine;

use machine::Machine;
use vmm_plugin::host::{NicSelector, resolve, resolve_all};

const PC: &str = "
    group 3 type=DMA
    group 9 type=DMA
    pci 0000:00:03.0 8086:10d3 020000 group=3 driver=e1000e net=eth0 reset=pm
    pci 0000:00:04.0 8086:10d3 020000 driver=e1000e net=eth1 reset=pm
    pci 0000:00:05.0 8086:2723 028000 driver=iwlwifi net=wlan0 reset=flr
    pci 0000:00:14.0 1b36:000d 0c0330 group=9 driver=xhci_hcd
    pci 0000:00:1d.0 8086:2934 0c0300 driver=uhci_hcd
    usb 2-1 046d:c077 on=0000:00:1d.0 product=Mouse
    usb 1-1 046d:c31c on=0000:00:14.0 product=Keyboard
    usb 1-2 0bda:8153 on=0000:00:14.0 product=LAN net=eth2
    platform fe300000.ethernet compatible=rockchip,rk3568-gmac driver=rk_gmac-dwmac net=eth3
";

fn selector(text: &str) -> NicSelector {
    serde_json::from_str(text).unwrap()
}

#[track_caller]
fn error(text: &str) -> String {
    let machine = Machine::new(PC);
    resolve(&machine.sysfs(), &selector(text)).unwrap_err().to_string()
}

#[test]
fn pci_address_resolves_with_its_facts() {
    let machine = Machine::new(PC);
    let nic = resolve(&machine.sysfs(), &selector(r#"{"pci": "0000:00:03.0"}"#)).unwrap();
    assert_eq!(nic.device.driver.as_deref(), Some("e1000e"));
    assert_eq!(nic.device.netdevs, ["eth0"]);
    assert_eq!(nic.device.reset_methods, Some(vec!["pm".to_owned()]));
    let group = nic.device.group.unwrap();
    assert_eq!((group.number, group.members.len()), (3, 1));
    assert_eq!(nic.device.driver_override, None);
}

#[test]
fn class_with_one_member_resolves() {
    let machine = Machine::new(PC);
    let nic = resolve(&machine.sysfs(), &selector(r#"{"class": "wireless"}"#)).unwrap();
    assert_eq!(nic.device.name.to_string(), "0000:00:05.0");
}

#[test]
fn several_matches_list_what_to_write() {
    let text = error(r#"{"id": "8086:10d3"}"#);
    assert!(text.contains("2 devices match id = \"8086:10d3\""), "{text}");
    assert!(text.contains("pci = \"0000:00:03.0\"  # "), "{text}");
    assert!(text.contains("pci = \"0000:00:04.0\"  # "), "{text}");
    assert!(!text.contains("0000:00:05.0"), "{text}");
}

#[test]
fn no_match_lists_network_devices_only() {
    let text = error(r#"{"pci": "0000:07:00.0"}"#);
    assert!(text.contains("No device matches pci = \"0000:07:00.0\""), "{text}");
    for candidate in ["pci = \"0000:00:05.0\"", "platform = \"fe300000.ethernet\""] {
        assert!(text.contains(candidate), "{text}");
    }
    assert!(!text.contains("0000:00:14.0"), "{text}");
}

#[test]
fn usb_resolves_to_its_controller_and_names_the_others() {
    let machine = Machine::new(PC);
    let nic = resolve(&machine.sysfs(), &selector(r#"{"usb": "0bda:8153"}"#)).unwrap();
    assert_eq!(nic.device.name.to_string(), "0000:00:14.0");
    assert_eq!(nic.device.netdevs, ["eth2"]);
    let usb = nic.usb.unwrap();
    assert_eq!(usb.nic, "1-2 [0bda:8153] LAN");
    assert_eq!(usb.others, ["1-1 [046d:c31c] Keyboard"]);
}

#[test]
fn usb_without_match_lists_usb_devices() {
    let text = error(r#"{"usb": "0bda:0000"}"#);
    assert!(text.contains("usb = \"046d:c31c\""), "{text}");
}

#[test]
fn platform_name_resolves_with_compatible() {
    let machine = Machine::new(PC);
    let nic = resolve(&machine.sysfs(), &selector(r#"{"platform": "fe300000.ethernet"}"#));
    let device = nic.unwrap().device;
    assert_eq!(device.label.as_deref(), Some("rockchip,rk3568-gmac"));
    assert_eq!(device.driver.as_deref(), Some("rk_gmac-dwmac"));
}

#[test]
fn same_device_twice_is_refused_with_every_other_error() {
    let machine = Machine::new(PC);
    let selectors =
        [r#"{"pci": "0000:00:05.0"}"#, r#"{"class": "0280"}"#, r#"{"id": "ffff:ffff"}"#]
            .map(selector);
    let errors = resolve_all(&machine.sysfs(), &selectors).unwrap_err();
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(texts[0].contains("are the same device, 0000:00:05.0"), "{texts:?}");
}

#[test]
fn selector_with_two_keys_or_hostile_text_is_refused() {
    for text in [
        r#"{"pci": "0000:00:03.0", "class": "network"}"#,
        r#"{"pci": "../0000:00:03.0"}"#,
        r#"{"platform": "../../x"}"#,
        r#"{"bus": "1"}"#,
        "{}",
    ] {
        assert!(serde_json::from_str::<NicSelector>(text).is_err(), "{text}");
    }
}
