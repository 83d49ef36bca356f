//! Dynamic addresses outlive a netvm and a link: guests go on using what was leased to them. A new netvm that did
//! not know would drop their packets as spoofed until they renew, and so would a new link.
//!
//! What a netvm said it leased is hostile input: it is kept only to tell the next netvm and the links, and only where
//! the declaration makes sense of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use netvm_image::config::KnownLease;
use netvm_image::state::Lease;

use crate::declaration::{AddressRange, Declaration, Scenario};
use crate::run::paths::RunDir;

/// Largest file that is read.
const FILE_MAX: u64 = 64 * 1024;

/// The leases of dynamic guests, by guest's name.
pub type Known = BTreeMap<String, KnownLease>;

/// The declared dynamic guests, and the addresses that are for them.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    /// None: no guest is dynamic.
    range: Option<AddressRange>,
    /// MAC address and name.
    guests: Vec<(String, String)>,
    /// Whether the host leases the addresses itself.
    development: bool,
}

impl Pool {
    /// That of a declaration.
    pub fn new(declaration: &Declaration) -> Self {
        let dynamic = declaration.guests.iter().filter(|guest| guest.address.is_none());
        Self {
            range: declaration.dynamic_range(),
            guests: dynamic.map(|guest| (guest.mac.to_string(), guest.name.to_string())).collect(),
            development: declaration.scenario == Scenario::Development,
        }
    }

    /// What was leased as far as files tell: an earlier netvm's leases, or those of the host's own DHCP server.
    pub fn known(&self, run: &RunDir) -> Known {
        if self.development {
            self.sensible(&of_dnsmasq(&read(&run.development_leases())))
        } else {
            self.reported(
                &serde_json::from_slice::<Vec<Lease>>(&read(&run.leases())).unwrap_or_default(),
            )
        }
    }

    /// What netvm says that it leased.
    pub fn reported(&self, leases: &[Lease]) -> Known {
        let known = |lease: &Lease| {
            let Lease { address, expires, .. } = *lease;
            (lease.mac.to_string(), KnownLease { address, expires })
        };
        self.sensible(&leases.iter().map(known).collect::<Vec<_>>())
    }

    /// The leases that belong to a declared dynamic guest, are of its range, and clash with no other.
    fn sensible(&self, leases: &[(String, KnownLease)]) -> Known {
        let Some(range) = self.range else { return Known::new() };
        let mut taken = BTreeSet::new();
        let mut known = Known::new();
        for (mac, name) in &self.guests {
            let Some((_, lease)) = leases.iter().find(|(leased, _)| leased == mac) else {
                continue;
            };
            if (range.first..=range.last).contains(&lease.address) && taken.insert(lease.address) {
                known.insert(name.clone(), *lease);
            }
        }
        known
    }
}

/// Writes `leases` to `path`, in one step.
pub fn save(path: &Path, leases: &[Lease]) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec(leases)?)?;
    fs::rename(new, path)
}

/// Reads a file of leases; one that is missing or too large has none.
fn read(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut bytes));
    if read.is_ok_and(|read| read as u64 <= FILE_MAX) { bytes } else { Vec::new() }
}

/// MAC addresses and leases in dnsmasq's file: a line for each with its end, MAC address, IP address, name and client
/// id.
fn of_dnsmasq(bytes: &[u8]) -> Vec<(String, KnownLease)> {
    let lease = |line: &str| {
        let mut words = line.split(' ');
        let (expires, mac, address) = (words.next()?, words.next()?, words.next()?);
        let lease = KnownLease { address: address.parse().ok()?, expires: expires.parse().ok()? };
        Some((mac.to_owned(), lease))
    };
    String::from_utf8_lossy(bytes).lines().filter_map(lease).collect()
}

/// The words that tell a link what its guest has leased; none for a lease that is over.
pub fn words(lease: &KnownLease) -> Option<[String; 2]> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let left = match lease.expires {
        0 => u64::from(u32::MAX),
        expires => expires.saturating_sub(now).min(u64::from(u32::MAX) - 1),
    };
    (left > 0).then(|| ["--lease".to_owned(), format!("{},{left}", lease.address)])
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

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
    fn a_dynamic_guests_address_is_kept() {
        let declaration = declaration();
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::new(directory.path());
        let pool = Pool::new(&declaration);
        assert!(pool.known(&run).is_empty());
        save(&run.leases(), &[lease(&declaration, "b", "100.127.77.167")]).unwrap();
        let known = pool.known(&run);
        assert_eq!(known["b"].address, Ipv4Addr::new(100, 127, 77, 167));
        assert_eq!(known.len(), 1);
    }

    #[test]
    fn leases_that_the_declaration_contradicts_are_not_kept() {
        let declaration = declaration();
        let pool = Pool::new(&declaration);
        let leases = [
            lease(&declaration, "a", "100.127.77.167"),
            lease(&declaration, "b", "10.0.0.1"),
            lease(&declaration, "c", "100.127.77.10"),
        ];
        assert!(pool.reported(&leases).is_empty());
        let twice = [
            lease(&declaration, "b", "100.127.77.167"),
            lease(&declaration, "c", "100.127.77.167"),
        ];
        assert_eq!(pool.reported(&twice).len(), 1);
    }

    #[test]
    fn a_damaged_file_is_no_lease() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::new(directory.path());
        for text in ["[{".to_owned(), "[]".repeat(1 << 16)] {
            fs::write(run.leases(), text).unwrap();
            assert!(Pool::new(&declaration()).known(&run).is_empty());
        }
    }

    #[test]
    fn a_link_is_told_the_seconds_that_are_left() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let address = Ipv4Addr::new(100, 127, 77, 167);
        let told = |expires| words(&KnownLease { address, expires });
        assert_eq!(told(0).unwrap()[1], "100.127.77.167,4294967295");
        assert_eq!(told(u64::MAX).unwrap()[1], "100.127.77.167,4294967294");
        let [option, value] = told(now + 600).unwrap();
        let left: u64 = value.split_once(',').unwrap().1.parse().unwrap();
        assert_eq!(option, "--lease");
        assert!((590..=600).contains(&left), "{left}");
        assert_eq!(told(now - 1), None);
    }

    #[test]
    fn the_hosts_own_leases_are_read_in_development() {
        let text = "scenario = \"development\"\nguest = [{ name = \"a\" }]\n";
        let declaration = crate::declaration::parse("netvm.toml", text).unwrap().declaration;
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::new(directory.path());
        let mac = declaration.guests[0].mac;
        let text = format!("7 {mac} 100.127.77.107 c *\n\nduid 00:01\n5 x 1.2.3.4 a *\n");
        fs::write(run.development_leases(), text).unwrap();
        let known = Pool::new(&declaration).known(&run);
        assert_eq!((known.len(), known["a"].expires), (1, 7));
        assert_eq!(known["a"].address, Ipv4Addr::new(100, 127, 77, 107));
    }
}
