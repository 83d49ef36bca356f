//! Machines made of files: the sysfs, proc and dev trees that a kernel would show, from a text
//! with one thing a line. `#` begins a comment. Words after the first are arguments,
//! `key=value` or a bare flag.
//!
//! ```text
//! cmdline intel_iommu=on
//! interrupts IR-PCI-MSI IR-IO-APIC
//! iommu dmar0 ecap=f00f5a
//! dmar flags=5                 # or `ivrs flags=2`: ACPI tables
//! group 3 type=DMA direct=0xcd000000-0xcdffffff
//! pci 0000:00:03.0 8086:10d3 020000 group=3 driver=e1000e net=eth0 reset=pm
//! link eth0 up master=br0
//! address eth0 192.0.2.7/24
//! route eth0 default
//! ssh 198.51.100.1 192.0.2.7 eth0
//! usb 1-2 0bda:8153 on=0000:00:14.0 net=eth1
//! disk sda number=8:0 on=0000:00:1f.2
//! mount 8:0 / ext4
//! swap /dev/sda
//! open 4242 qemu /dev/vfio/3
//! file /sys/module/vfio/parameters/enable_unsafe_noiommu_mode Y
//! memlock 8388608
//! guest memory=536870912
//! ```

#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part of it")]

mod config;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use vmm_plugin::host::environment::Architecture;
use vmm_plugin::host::network::{Address, Link, NetworkFacts, Route, SshSession};
use vmm_plugin::host::preflight::{self, Overrides, Report};
use vmm_plugin::host::{Environment, Nic, NicSelector, Sysfs, Wanted, resolve_all};

/// A tree in a directory of its own, removed when dropped.
pub struct Machine {
    root: tempfile::TempDir,
    network: NetworkFacts,
    memlock: Option<u64>,
    wanted: Wanted,
    architecture: Architecture,
}

/// In memory where that is possible: hundreds of machines are made.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Arguments of a line.
struct Words<'a> {
    plain: Vec<&'a str>,
    keyed: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn of(words: &[&'a str]) -> Self {
        let mut plain = Vec::new();
        let mut keyed = BTreeMap::new();
        for word in words {
            match word.split_once('=') {
                Some((key, value)) => drop(keyed.insert(key, value)),
                None => plain.push(*word),
            }
        }
        Self { plain, keyed }
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.keyed.get(key).copied()
    }

    fn has(&self, flag: &str) -> bool {
        self.plain.contains(&flag)
    }
}

impl Machine {
    /// Builds the tree that `text` describes; panics on a line it does not know.
    pub fn new(text: &str) -> Self {
        let mut machine = Self {
            root: directory(),
            network: NetworkFacts::default(),
            memlock: None,
            wanted: Wanted { guest_memory: 256 << 20, vmm_is_root: false },
            architecture: Architecture::X86,
        };
        for directory in ["sys/bus/pci/devices", "sys/bus/platform/devices", "proc"] {
            fs::create_dir_all(machine.root.path().join(directory)).unwrap();
        }
        for driver in ["pci/drivers/vfio-pci", "platform/drivers/vfio-platform"] {
            machine.file(&format!("/sys/bus/{driver}/unbind"), "");
            machine.file(&format!("/sys/bus/{driver}/bind"), "");
        }
        machine.file("/sys/bus/pci/drivers_probe", "");
        machine.file("/sys/bus/platform/drivers_probe", "");
        machine.file("/proc/sys/kernel/random/boot_id", "boot-1\n");
        machine.directory("/dev/vfio");
        machine.add(text);
        machine
    }

    /// Adds what `text` describes.
    pub fn add(&mut self, text: &str) {
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            if let Some((verb, rest)) = words.split_first() {
                self.line(verb, rest);
            }
        }
    }

    fn line(&mut self, verb: &str, rest: &[&str]) {
        let words = Words::of(rest);
        match verb {
            "cmdline" => self.file("/proc/cmdline", &rest.join(" ")),
            "interrupts" => {
                let line = |chip: &&str| format!(" 24:  0  0  {chip}  2-edge  nic\n");
                let table: String = rest.iter().map(line).collect();
                self.file("/proc/interrupts", &format!("  CPU0 CPU1\n{table}"));
            }
            "iommu" => {
                let directory = format!("/sys/class/iommu/{}/intel-iommu", words.plain[0]);
                self.file(&format!("{directory}/ecap"), words.get("ecap").unwrap());
            }
            "dmar" => self.acpi("DMAR", 37, &words),
            "ivrs" => self.acpi("IVRS", 36, &words),
            "group" => self.group(&words),
            "pci" => self.pci(&words),
            "platform" => self.platform(&words),
            "usb" => self.usb(&words),
            "disk" => self.disk(&words),
            "mount" => {
                let [number, point, kind] = words.plain[..] else {
                    panic!("mount NUMBER POINT TYPE");
                };
                let line = format!("26 1 {number} / {point} rw - {kind} /dev/x rw\n");
                self.append("/proc/self/mountinfo", &line);
            }
            "swap" => {
                self.append("/proc/swaps", "Filename Type Size Used Priority\n");
                self.append("/proc/swaps", &format!("{} partition 1 0 -2\n", rest[0]));
            }
            "open" => {
                let [pid, command, file] = words.plain[..] else {
                    panic!("open PID COMMAND FILE");
                };
                self.file(&format!("/proc/{pid}/comm"), command);
                self.link(&format!("/proc/{pid}/fd/9"), file);
            }
            "file" => self.file(rest[0], &rest[1..].join(" ")),
            "memlock" => self.memlock = rest[0].parse().ok(),
            "guest" => {
                self.wanted.vmm_is_root = words.has("root");
                if let Some(memory) = words.get("memory") {
                    self.wanted.guest_memory = memory.parse().unwrap();
                }
            }
            "arm" => self.architecture = Architecture::Arm,
            "link" => self.interface(&words),
            "address" => {
                let (address, prefix) = rest[1].split_once('/').unwrap();
                let address = Address {
                    link: self.index(rest[0]),
                    address: address.parse().unwrap(),
                    prefix: prefix.parse().unwrap(),
                };
                self.network.addresses.push(address);
            }
            "route" => {
                let route = Route {
                    link: self.index(rest[0]),
                    default: words.has("default"),
                    gateway: words.has("gateway"),
                };
                self.network.routes.push(route);
            }
            "ssh" => {
                self.network.ssh = Some(SshSession {
                    client: rest[0].parse().unwrap(),
                    server: rest[1].parse().unwrap(),
                    route: rest.get(2).map(|name| self.index(name)),
                });
            }
            other => panic!("no such line: {other}"),
        }
    }

    fn acpi(&self, name: &str, offset: usize, words: &Words<'_>) {
        let mut table = vec![0u8; 48];
        table[offset] = words.get("flags").unwrap().parse().unwrap();
        self.bytes(&format!("/sys/firmware/acpi/tables/{name}"), &table);
    }

    fn group(&self, words: &Words<'_>) {
        let directory = format!("/sys/kernel/iommu_groups/{}", words.plain[0]);
        self.directory(&format!("{directory}/devices"));
        if let Some(domain) = words.get("type") {
            self.file(&format!("{directory}/type"), domain);
        }
        if let Some(name) = words.get("name") {
            self.file(&format!("{directory}/name"), name);
        }
        let mut regions = "0x00000000fee00000 0x00000000feefffff msi\n".to_owned();
        for kind in ["direct", "direct-relaxable"] {
            if let Some((first, last)) = words.get(kind).and_then(|r| r.split_once('-')) {
                regions.push_str(&format!("{first} {last} {kind}\n"));
            }
        }
        self.file(&format!("{directory}/reserved_regions"), &regions);
    }

    fn pci(&mut self, words: &Words<'_>) {
        let [address, ids, class] = words.plain[..3] else {
            panic!("pci ADDRESS VENDOR:DEVICE CLASS");
        };
        let parent = match words.get("under") {
            Some(parent) => self.real("pci", parent),
            None => "/sys/devices/pci0000:00".to_owned(),
        };
        let directory = format!("{parent}/{address}");
        let (vendor, device) = ids.split_once(':').unwrap();
        self.file(&format!("{directory}/vendor"), &format!("0x{vendor}"));
        self.file(&format!("{directory}/device"), &format!("0x{device}"));
        self.file(&format!("{directory}/class"), &format!("0x{class}"));
        self.file(&format!("{directory}/revision"), "0x01");
        let config = config::space(ids, class, |key| match words.get(key) {
            Some(value) => Some(value),
            None => words.has(key).then_some(""),
        });
        self.bytes(&format!("{directory}/config"), &config);
        if let Some(count) = words.get("vfs") {
            self.file(&format!("{directory}/sriov_numvfs"), count);
        }
        if let Some(methods) = words.get("reset") {
            self.file(&format!("{directory}/reset"), "");
            let methods = methods.replace(',', " ");
            self.file(&format!("{directory}/reset_method"), &methods);
        }
        if words.has("old-reset") {
            self.file(&format!("{directory}/reset"), "");
        }
        if words.has("rom") {
            self.file(&format!("{directory}/rom"), "");
        }
        if words.has("rdma") {
            self.directory(&format!("{directory}/infiniband/mlx5_0"));
        }
        let bar = "0xfebc0000 0xfebdffff 0x40200\n0xc040 0xc05f 0x40101\n";
        self.file(&format!("{directory}/resource"), bar);
        self.common("pci", address, &directory, words);
    }

    fn platform(&mut self, words: &Words<'_>) {
        let name = words.plain[0];
        let directory = format!("/sys/devices/platform/{name}");
        self.directory(&directory);
        if let Some(compatible) = words.get("compatible") {
            let file = format!("{directory}/of_node/compatible");
            self.bytes(&file, format!("{compatible}\0other\0").as_bytes());
        }
        self.common("platform", name, &directory, words);
    }

    /// What devices of both buses have.
    fn common(&mut self, bus: &str, name: &str, directory: &str, words: &Words<'_>) {
        self.link(&format!("/sys/bus/{bus}/devices/{name}"), directory);
        let held = words.get("override").unwrap_or("(null)");
        self.file(&format!("{directory}/driver_override"), held);
        if let Some(driver) = words.get("driver") {
            self.file(&format!("/sys/bus/{bus}/drivers/{driver}/unbind"), "");
            self.file(&format!("/sys/bus/{bus}/drivers/{driver}/bind"), "");
            let target = format!("/sys/bus/{bus}/drivers/{driver}");
            self.link(&format!("{directory}/driver"), &target);
        }
        if let Some(group) = words.get("group") {
            let target = format!("/sys/kernel/iommu_groups/{group}");
            self.link(&format!("{directory}/iommu_group"), &target);
            self.link(&format!("{target}/devices/{name}"), directory);
            if words.get("driver").is_some_and(|d| d.starts_with("vfio-")) {
                self.file(&format!("/dev/vfio/{group}"), "");
            }
        }
        if let Some(net) = words.get("net") {
            self.netdev(net, directory);
        }
    }

    fn netdev(&mut self, name: &str, directory: &str) {
        self.directory(&format!("{directory}/net/{name}"));
        let target = format!("{directory}/net/{name}");
        self.link(&format!("/sys/class/net/{name}"), &target);
        self.index(name);
    }

    fn usb(&mut self, words: &Words<'_>) {
        let [name, ids] = words.plain[..2] else {
            panic!("usb NAME VENDOR:PRODUCT");
        };
        let controller = self.real("pci", words.get("on").unwrap());
        let directory = format!("{controller}/usb1/{name}");
        let (vendor, product) = ids.split_once(':').unwrap();
        self.file(&format!("{directory}/idVendor"), vendor);
        self.file(&format!("{directory}/idProduct"), product);
        if let Some(product) = words.get("product") {
            self.file(&format!("{directory}/product"), product);
        }
        self.link(&format!("/sys/bus/usb/devices/{name}"), &directory);
        if let Some(net) = words.get("net") {
            self.netdev(net, &directory);
        }
    }

    fn disk(&mut self, words: &Words<'_>) {
        let name = words.plain[0];
        let directory = match words.get("on") {
            Some(controller) => format!("{}/ata1/block/{name}", self.real("pci", controller)),
            None => format!("/sys/devices/virtual/block/{name}"),
        };
        self.directory(&directory);
        self.link(&format!("/sys/class/block/{name}"), &directory);
        if let Some(number) = words.get("number") {
            self.link(&format!("/sys/dev/block/{number}"), &directory);
        }
        if let Some(slave) = words.get("slave") {
            let target = fs::canonicalize(self.sysfs().path(format!("/sys/class/block/{slave}")));
            let target = target.unwrap();
            let target = target.strip_prefix(self.root.path().canonicalize().unwrap());
            let target = format!("/{}", target.unwrap().display());
            self.link(&format!("{directory}/slaves/{slave}"), &target);
        }
    }

    fn interface(&mut self, words: &Words<'_>) {
        let index = self.index(words.plain[0]);
        let master = words.get("master").map(|name| self.index(name));
        let lower = words.get("lower").map(|name| self.index(name));
        let link = self.network.links.iter_mut().find(|l| l.index == index);
        let link = link.unwrap();
        link.up = words.has("up");
        link.xdp = words.has("xdp");
        link.kind = words.get("kind").map(str::to_owned);
        link.master = master;
        link.lower = lower;
    }

    /// The index of the interface called `name`, made when there is none.
    fn index(&mut self, name: &str) -> u32 {
        if let Some(link) = self.network.link(name) {
            return link.index;
        }
        let index = u32::try_from(self.network.links.len() + 2).unwrap();
        self.network.links.push(Link { index, name: name.to_owned(), ..Link::default() });
        index
    }

    fn real(&self, bus: &str, name: &str) -> String {
        let link = format!("/sys/bus/{bus}/devices/{name}");
        let real = self.sysfs().real(link).unwrap_or_else(|| panic!("no {name}"));
        real.display().to_string()
    }

    pub fn directory(&self, path: &str) {
        fs::create_dir_all(self.sysfs().path(path)).unwrap();
    }

    pub fn file(&self, path: &str, text: &str) {
        self.bytes(path, format!("{text}\n").as_bytes());
    }

    pub fn bytes(&self, path: &str, bytes: &[u8]) {
        let path = self.sysfs().path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn append(&self, path: &str, text: &str) {
        let before = fs::read_to_string(self.sysfs().path(path)).unwrap_or_default();
        self.bytes(path, format!("{before}{text}").as_bytes());
    }

    /// A relative link below `/sys`, as the kernel makes them; an absolute one elsewhere.
    pub fn link(&self, path: &str, target: &str) {
        let link = self.sysfs().path(path);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        let depth = Path::new(path).components().count() - 2;
        let target = match path.starts_with("/sys/") {
            true => {
                let up: PathBuf = std::iter::repeat_n(Component::ParentDir, depth).collect();
                up.join(target.trim_start_matches('/'))
            }
            false => PathBuf::from(target),
        };
        symlink(target, link).unwrap();
    }

    pub fn sysfs(&self) -> Sysfs {
        Sysfs::new(self.root.path())
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The NICs that selectors in JSON stand for.
    pub fn nics(&self, selectors: &[&str]) -> Vec<Nic> {
        let parse = |text: &&str| serde_json::from_str::<NicSelector>(text).unwrap();
        let selectors: Vec<NicSelector> = selectors.iter().map(parse).collect();
        resolve_all(&self.sysfs(), &selectors).unwrap()
    }

    pub fn environment(&self, nics: &[Nic]) -> Environment {
        let network = self.network.clone();
        Environment {
            architecture: self.architecture,
            memlock: self.memlock,
            ..Environment::with_network(&self.sysfs(), nics, self.wanted, network)
        }
    }

    /// Preflight of the PCI functions `addresses`.
    pub fn preflight(&self, addresses: &[&str], overrides: &Overrides) -> Report {
        let selectors: Vec<String> =
            addresses.iter().map(|address| format!("{{\"pci\": \"{address}\"}}")).collect();
        let selectors: Vec<&str> = selectors.iter().map(String::as_str).collect();
        let nics = self.nics(&selectors);
        preflight::run(&self.sysfs(), &nics, &self.environment(&nics), overrides)
    }
}
