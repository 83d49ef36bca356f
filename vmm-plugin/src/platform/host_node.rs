//! What the host's device tree says about a device.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Properties are shorter than this, in bytes.
const LONGEST: u64 = 4096;

/// A device's node in the host's tree: what a guest's needs of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostNode {
    /// `compatible`, most specific first.
    pub compatible: Vec<String>,
    /// `reg-names`, in the order of `reg`; may be empty.
    pub region_names: Vec<String>,
    /// `interrupt-names`, in the order of `interrupts`; may be empty.
    pub interrupt_names: Vec<String>,
    /// It has `dma-coherent`.
    pub dma_coherent: bool,
}

/// A node that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct HostNodeError {
    path: PathBuf,
    source: io::Error,
}

impl HostNode {
    /// Reads a node as the kernel shows it: `of_node` in the device's directory below
    /// `/sys/bus/platform/devices`.
    ///
    /// # Errors
    /// There is no `compatible`, or a property is no list of names.
    pub fn read(of_node: &Path) -> Result<Self, HostNodeError> {
        let names = |property: &str, needed: bool| {
            let path = of_node.join(property);
            match strings(&path) {
                Ok(names) => Ok(names),
                Err(error) if error.kind() == io::ErrorKind::NotFound && !needed => Ok(Vec::new()),
                Err(source) => Err(HostNodeError { path, source }),
            }
        };
        Ok(Self {
            compatible: names("compatible", true)?,
            region_names: names("reg-names", false)?,
            interrupt_names: names("interrupt-names", false)?,
            dma_coherent: of_node.join("dma-coherent").exists(),
        })
    }
}

/// A property's strings, each ending with a zero byte (Devicetree 0.4, 2.2.4).
fn strings(path: &Path) -> io::Result<Vec<String>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).ok().filter(|text| text.len() as u64 <= LONGEST);
    let names = text.as_deref().and_then(|text| text.strip_suffix('\0'));
    let names = names.ok_or_else(|| io::Error::other("this is no list of names"))?;
    Ok(names.split('\0').map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use std::fs::write;

    use super::*;

    #[test]
    fn node_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let node = directory.path();
        write(node.join("compatible"), b"nvidia,tegra234-mgbe\0snps,dwxgmac\0").unwrap();
        write(node.join("reg-names"), b"hypervisor\0mac\0xpcs\0").unwrap();
        write(node.join("dma-coherent"), b"").unwrap();
        let host = HostNode::read(node).unwrap();
        assert_eq!(host.compatible, ["nvidia,tegra234-mgbe", "snps,dwxgmac"]);
        assert_eq!(host.region_names, ["hypervisor", "mac", "xpcs"]);
        assert_eq!(host.interrupt_names, [] as [&str; 0]);
        assert!(host.dma_coherent);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let node = directory.path();
        assert!(HostNode::read(node).unwrap_err().to_string().contains("compatible"));
        for wrong in [&b"no end"[..], b"\xff\0", &[b'a'; 5000]] {
            write(node.join("compatible"), wrong).unwrap();
            HostNode::read(node).unwrap_err();
        }
    }
}
