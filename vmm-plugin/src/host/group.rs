//! IOMMU groups: what the hardware can tell apart, and so the unit that is given away.

use std::path::PathBuf;

use serde::Serialize;

use super::address::DeviceName;
use super::sysfs::Sysfs;

/// One IOMMU group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Its number in this boot, as in `/dev/vfio/NUMBER`.
    pub number: u32,
    /// Its default domain: `DMA`, `DMA-FQ` or `identity`; `None` on kernels that do not say.
    pub domain: Option<String>,
    /// Every device in it, sorted.
    pub members: Vec<DeviceName>,
    /// Address ranges the platform keeps for itself.
    pub reserved: Vec<ReservedRegion>,
    /// Made by VFIO's "no IOMMU" mode, which protects nothing.
    pub noiommu: bool,
}

/// A line of `reserved_regions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReservedRegion {
    /// First IOVA.
    pub first: u64,
    /// Last IOVA, included.
    pub last: u64,
    /// `direct`, `direct-relaxable`, `reserved` or `msi`.
    pub kind: String,
}

impl Group {
    /// The directory of group `number`.
    #[must_use]
    pub fn directory(number: u32) -> PathBuf {
        PathBuf::from(format!("/sys/kernel/iommu_groups/{number}"))
    }

    /// The file that VFIO offers for the group once all its members are ready.
    #[must_use]
    pub fn vfio_path(&self) -> PathBuf {
        let prefix = if self.noiommu { "noiommu-" } else { "" };
        PathBuf::from(format!("/dev/vfio/{prefix}{}", self.number))
    }

    /// The device's group; `None` when it is in none.
    #[must_use]
    pub fn of(sysfs: &Sysfs, device: &DeviceName) -> Option<Self> {
        let directory = sysfs.device_directory(device).ok()?;
        let number = sysfs.link_name(directory.join("iommu_group"))?;
        Some(Self::read(sysfs, number.parse().ok()?))
    }

    /// Group `number` as sysfs shows it.
    #[must_use]
    pub fn read(sysfs: &Sysfs, number: u32) -> Self {
        let directory = Self::directory(number);
        let mut members: Vec<DeviceName> = sysfs
            .entries(directory.join("devices"))
            .iter()
            .filter_map(|name| DeviceName::of_member(name))
            .collect();
        members.sort();
        let reserved = sysfs.text(directory.join("reserved_regions"));
        Self {
            number,
            domain: sysfs.text(directory.join("type")),
            members,
            reserved: reserved
                .iter()
                .flat_map(|text| text.lines())
                .filter_map(parse_region)
                .collect(),
            noiommu: sysfs.text(directory.join("name")).as_deref() == Some("vfio-noiommu"),
        }
    }
}

fn parse_region(line: &str) -> Option<ReservedRegion> {
    let number = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    let mut words = line.split_whitespace();
    Some(ReservedRegion {
        first: number(words.next()?)?,
        last: number(words.next()?)?,
        kind: words.next()?.to_owned(),
    })
}
