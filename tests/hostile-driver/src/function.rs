//! A PCI function in sysfs: configuration space and BARs, past every driver.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use vm_memory::{Bytes as _, FileOffset, MmapRegion, VolatileMemory as _};

/// COMMAND (PCI 3.0, 6.2.2): memory is decoded, DMA and messages go out, INTx comes.
const COMMAND: u64 = 4;
const MEMORY_AND_BUS_MASTER: u16 = 1 << 1 | 1 << 2;
/// Where the number of the first capability is.
const CAPABILITIES: u64 = 0x34;

/// A function.
pub struct Function {
    folder: PathBuf,
    config: File,
}

impl Function {
    pub fn open(bdf: &str) -> Result<Self> {
        let folder = PathBuf::from("/sys/bus/pci/devices").join(bdf);
        let path = folder.join("config");
        let config = OpenOptions::new().read(true).write(true).open(&path);
        let config = config.with_context(|| format!("Cannot open {}", path.display()))?;
        Ok(Self { folder, config })
    }

    /// Switches it on, and DMA, which the kernel leaves to drivers.
    pub fn enable(&self) -> Result<()> {
        // A driver has done so, if there is one.
        if !self.folder.join("driver").exists() {
            let enable = self.folder.join("enable");
            fs::write(&enable, "1")
                .with_context(|| format!("Cannot write {}", enable.display()))?;
        }
        self.hear()
    }

    /// As a driver does after it has served INTx, which "interrupt disable" in COMMAND had masked.
    pub fn hear(&self) -> Result<()> {
        self.write(COMMAND, MEMORY_AND_BUS_MASTER)
    }

    /// Two bytes of configuration space.
    pub fn read(&self, offset: u64) -> Result<u16> {
        let mut bytes = [0; 2];
        self.config.read_exact_at(&mut bytes, offset).context("Cannot read its configuration")?;
        Ok(u16::from_le_bytes(bytes))
    }

    /// Writes two bytes of configuration space.
    pub fn write(&self, offset: u64, value: u16) -> Result<()> {
        let written = self.config.write_all_at(&value.to_le_bytes(), offset);
        written.context("Cannot write its configuration")
    }

    /// Where the capability `id` is.
    pub fn capability(&self, id: u8) -> Result<u64> {
        let [mut at, _] = self.read(CAPABILITIES)?.to_le_bytes();
        // As many as fit.
        for _ in 0..48 {
            let [found, next] = self.read(at.into())?.to_le_bytes();
            if found == id && at != 0 {
                return Ok(at.into());
            }
            at = next;
        }
        anyhow::bail!("The function has no capability {id:#x}")
    }

    /// The first `size` bytes of the memory of BAR `number`.
    pub fn bar(&self, number: u8, size: usize) -> Result<Registers> {
        let path = self.folder.join(format!("resource{number}"));
        let what = || format!("Cannot map {}", path.display());
        let file = OpenOptions::new().read(true).write(true).open(&path).with_context(what)?;
        let region = MmapRegion::from_file(FileOffset::new(file, 0), size).with_context(what)?;
        Ok(Registers(region))
    }
}

/// Registers of 32 bits.
pub struct Registers(MmapRegion);

impl Registers {
    pub fn read(&self, offset: usize) -> Result<u32> {
        Ok(self.0.get_slice(offset, 4)?.load(0, Ordering::Relaxed)?)
    }

    pub fn write(&self, offset: usize, value: u32) -> Result<()> {
        Ok(self.0.get_slice(offset, 4)?.store(value, 0, Ordering::Relaxed)?)
    }
}
