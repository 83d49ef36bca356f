//! Pages of memory, and where they are physically.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result, ensure};
use vm_memory::{Bytes as _, FileOffset, MmapRegion, VolatileMemory as _};

/// Bytes of a page.
pub const SIZE: usize = 4096;

/// Of an entry of pagemap: the page is in memory (Documentation/admin-guide/mm/pagemap.rst).
const PRESENT: u64 = 1 << 63;
/// Its physical page number.
const NUMBER: u64 = (1 << 55) - 1;

/// A page that stays where it is.
pub struct Page {
    region: MmapRegion,
    /// Its physical address: a guest's if this runs in one.
    pub address: u64,
}

impl Page {
    /// A page of zeros.
    pub fn new() -> Result<Self> {
        Self::of(MmapRegion::new(SIZE).context("No memory")?)
    }

    /// The first page of a file in a tmpfs.
    pub fn of_file(file: File) -> Result<Self> {
        Self::of(MmapRegion::from_file(FileOffset::new(file, 0), SIZE).context("Cannot map it")?)
    }

    fn of(region: MmapRegion) -> Result<Self> {
        let page = Self { region, address: 0 };
        // Written, so that it is a page of its own.
        let first: u8 = page.slice()?.load(0, Ordering::Relaxed)?;
        page.slice()?.store(first, 0, Ordering::Relaxed)?;
        let locked = rustix::mm::MlockAllFlags::CURRENT | rustix::mm::MlockAllFlags::FUTURE;
        rustix::mm::mlockall(locked).context("Pages cannot be locked")?;
        let place = u64::try_from(page.region.as_ptr().addr())?;
        let address = Pagemap::open("self")?.address(place)?.context("The page is not there")?;
        Ok(Self { address, ..page })
    }

    fn slice(&self) -> Result<vm_memory::VolatileSlice<'_>> {
        Ok(self.region.get_slice(0, SIZE)?)
    }

    /// Writes `bytes` from offset `at` on.
    pub fn write(&self, at: usize, bytes: &[u8]) -> Result<()> {
        Ok(self.slice()?.write_slice(bytes, at)?)
    }

    /// All of it.
    pub fn read(&self) -> Result<[u8; SIZE]> {
        let mut bytes = [0; SIZE];
        self.slice()?.read_slice(&mut bytes, 0)?;
        Ok(bytes)
    }
}

/// Where the pages of a process are.
pub struct Pagemap(File);

impl Pagemap {
    /// Of process `pid`, or "self".
    pub fn open(pid: &str) -> Result<Self> {
        let path = format!("/proc/{pid}/pagemap");
        Ok(Self(File::open(&path).with_context(|| format!("Cannot open {path}"))?))
    }

    /// The physical address of what is at `place`; `None` when nothing is in memory there.
    pub fn address(&self, place: u64) -> Result<Option<u64>> {
        let size = u64::try_from(SIZE)?;
        let mut entry = [0; 8];
        self.0.read_exact_at(&mut entry, place / size * 8)?;
        let entry = u64::from_ne_bytes(entry);
        ensure!(
            entry & PRESENT == 0 || entry & NUMBER != 0,
            "Physical addresses are hidden: this has to run as root"
        );
        let address = (entry & NUMBER) * size + place % size;
        Ok((entry & PRESENT != 0).then_some(address))
    }
}
