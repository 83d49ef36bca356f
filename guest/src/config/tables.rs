//! Tables that netvm's scripts read line by line: words separated by one space.

use super::{Config, Uplink};

/// One link a line: index, guest name, card MAC, guest MAC, guest address or "-".
pub(super) fn links(config: &Config) -> String {
    let mut table = String::new();
    for (index, link) in config.links.iter().enumerate() {
        let address = link.guest_address.map_or_else(|| "-".to_owned(), |a| a.to_string());
        let (name, card, guest) = (&link.name, link.card_mac, link.guest_mac);
        table.push_str(&format!("{index} {name} {card} {guest} {address}\n"));
    }
    table
}

/// One kernel module a line.
pub(super) fn modules(config: &Config) -> String {
    config.modules.iter().map(|module| format!("{}\n", module.as_str())).collect()
}

/// netvm's side of the guests' network: key and value.
pub(super) fn network(config: &Config) -> String {
    format!(
        "address {}\nnetwork {}\nprefix {}\nmac {}\nmtu {}\n",
        config.address,
        config.subnet.network(),
        config.subnet.prefix_len(),
        config.netvm_mac,
        config.mtu
    )
}

/// The uplink: key and value; `nic` and `dns` may repeat.
pub(super) fn uplink(config: &Config) -> String {
    let mut table = match config.uplink {
        Uplink::Dhcp => "mode dhcp\n".to_owned(),
        Uplink::Static { address, gateway } => {
            format!(
                "mode static\naddress {}\nprefix {}\ngateway {gateway}\n",
                address.addr(),
                address.prefix_len()
            )
        }
    };
    for nic in &config.nics {
        table.push_str(&format!("nic {nic}\n"));
    }
    for server in &config.dns {
        table.push_str(&format!("dns {server}\n"));
    }
    table
}
