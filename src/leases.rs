//! Dynamic addresses outlive a netvm: its guests go on using what the one before leased to them, and a new netvm
//! that did not know would drop their packets as spoofed until they renew.
//!
//! What a netvm said it leased is hostile input: it is kept only to tell the next netvm, and only where the
//! declaration makes sense of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use netvm_image::config::KnownLease;
use netvm_image::state::Lease;

use crate::declaration::Declaration;

/// Largest file that is read.
const FILE_MAX: usize = 64 * 1024;

/// The leases of dynamic guests, by guest's name.
pub type Known = BTreeMap<String, KnownLease>;

/// Writes `leases` to `path`, in one step.
pub fn save(path: &Path, leases: &[Lease]) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec(leases)?)?;
    fs::rename(new, path)
}

/// Reads what an earlier run saved; a file that is missing or makes no sense is no lease.
pub fn load(path: &Path, declaration: &Declaration) -> Known {
    let bytes = fs::read(path).unwrap_or_default();
    if bytes.len() > FILE_MAX {
        return Known::new();
    }
    sensible(&serde_json::from_slice::<Vec<Lease>>(&bytes).unwrap_or_default(), declaration)
}

/// The leases that belong to a declared dynamic guest, are of its range, and clash with no other.
fn sensible(leases: &[Lease], declaration: &Declaration) -> Known {
    let Some(range) = declaration.dynamic_range() else { return Known::new() };
    let mut taken = BTreeSet::new();
    let mut known = Known::new();
    for guest in declaration.guests.iter().filter(|guest| guest.address.is_none()) {
        let mac = guest.mac.to_string();
        let lease = leases.iter().find(|lease| lease.mac.to_string() == mac);
        let Some(Lease { address, expires, .. }) = lease else { continue };
        if (range.first..=range.last).contains(address) && taken.insert(*address) {
            let lease = KnownLease { address: *address, expires: *expires };
            known.insert(guest.name.to_string(), lease);
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declaration() -> Declaration {
        let text = r#"
            scenario = "secure"
            nic = [{ pci = "0000:00:03.0" }]
            guest = [{ name = "a", address = "100.127.77.10" }, { name = "b" }, { name = "c" }]
        "#;
        crate::declaration::parse("netvm.toml", text).unwrap().declaration
    }

    fn lease(declaration: &Declaration, guest: &str, address: &str) -> Lease {
        let mac = declaration.guest(guest).unwrap().mac.to_string();
        let text = format!(r#"{{"mac":"{mac}","address":"{address}","name":"x","expires":9}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn save_and_load_keep_a_dynamic_guests_address() {
        let declaration = declaration();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leases.json");
        assert!(load(&path, &declaration).is_empty());
        save(&path, &[lease(&declaration, "b", "100.127.77.167")]).unwrap();
        let known = load(&path, &declaration);
        assert_eq!(known["b"].address, std::net::Ipv4Addr::new(100, 127, 77, 167));
        assert_eq!(known.len(), 1);
    }

    #[test]
    fn leases_that_the_declaration_contradicts_are_not_kept() {
        let declaration = declaration();
        let leases = [
            lease(&declaration, "a", "100.127.77.167"),
            lease(&declaration, "b", "10.0.0.1"),
            lease(&declaration, "c", "100.127.77.10"),
        ];
        assert!(sensible(&leases, &declaration).is_empty());
        let twice = [
            lease(&declaration, "b", "100.127.77.167"),
            lease(&declaration, "c", "100.127.77.167"),
        ];
        assert_eq!(sensible(&twice, &declaration).len(), 1);
    }

    #[test]
    fn a_damaged_file_is_no_lease() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leases.json");
        fs::write(&path, "[{").unwrap();
        assert!(load(&path, &declaration()).is_empty());
    }
}
