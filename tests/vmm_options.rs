//! Every command line that netvm can print has only options, sub-options and values that its VMM
//! knows: tests/options has them, from the VMMs' own sources.
//!
//! A line of such a file is an option and what follows it: nothing; one value (`<text>`,
//! `<number>`, `<size>`, `<path>`, or `<one|of|these>`); or a list, whose words are separated by
//! commas. A list may have a first word in brackets, `[q35]` or `[<path>]`; then words that have a
//! value, `key` or, if only some are known, `key=one|of|these`; and words without one, `+word`.
//! `...` after the option: it may come more than once. Several lines of one option are
//! alternatives.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::ffi::OsString;

use netvm::declaration::{MacAddress, MacRole, Memory};
use netvm::vmm::{
    GuestLink, LinkCard, NetvmVm, Reconnect, VfioDevice, Vmm, guest_flags, netvm_command,
};

const TABLES: [(Vmm, &str); 4] = [
    (Vmm::CloudHypervisor, include_str!("options/cloud-hypervisor.txt")),
    (Vmm::Crosvm, include_str!("options/crosvm.txt")),
    (Vmm::Minivmm, include_str!("options/minivmm.txt")),
    (Vmm::Qemu, include_str!("options/qemu.txt")),
];

/// What follows an option.
enum Form<'a> {
    Nothing,
    Value(&'a str),
    List { head: Option<&'a str>, words: Vec<&'a str> },
}

#[derive(Default)]
struct Flag<'a> {
    repeated: bool,
    forms: Vec<Form<'a>>,
}

struct Table<'a> {
    vmm: Vmm,
    flags: BTreeMap<&'a str, Flag<'a>>,
}

impl<'a> Table<'a> {
    fn new(vmm: Vmm, text: &'a str) -> Self {
        let mut flags: BTreeMap<&str, Flag<'_>> = BTreeMap::new();
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            let mut words = line.split(' ').collect::<Vec<_>>();
            let flag = words.remove(0);
            let form = match words.first().copied() {
                None => Form::Nothing,
                Some(kind) if kind.starts_with('<') => Form::Value(kind),
                Some(first) => match first.strip_prefix('[').and_then(|f| f.strip_suffix(']')) {
                    Some(head) => Form::List { head: Some(head), words: words.split_off(1) },
                    None => Form::List { head: None, words },
                },
            };
            let entry = flags.entry(flag.trim_end_matches("...")).or_default();
            entry.repeated = flag.ends_with("...");
            entry.forms.push(form);
        }
        Self { vmm, flags }
    }

    fn of(vmm: Vmm) -> Table<'static> {
        let (_, text) = TABLES.into_iter().find(|(other, _)| *other == vmm).unwrap();
        Table::new(vmm, text)
    }

    /// Goes through options and their values, and says which is wrong.
    fn check(&self, arguments: &[OsString]) -> Result<(), String> {
        let mut seen = Vec::new();
        let mut arguments = arguments.iter().map(|argument| argument.to_str().unwrap());
        while let Some(name) = arguments.next() {
            let flag = self.flags.get(name).ok_or_else(|| format!("no option {name}"))?;
            if seen.contains(&name) && !flag.repeated {
                return Err(format!("{name} comes twice"));
            }
            seen.push(name);
            if matches!(flag.forms[..], [Form::Nothing]) {
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("nothing follows {name}"))?;
            let fits = |form: &Form<'_>| self.fits(form, value);
            let wrong: Vec<_> = flag.forms.iter().map(fits).filter_map(Result::err).collect();
            if wrong.len() == flag.forms.len() {
                return Err(format!("{name} {value}: {}", wrong.join("; or ")));
            }
        }
        Ok(())
    }

    fn fits(&self, form: &Form<'_>, value: &str) -> Result<(), String> {
        let (head, known) = match form {
            Form::Nothing => return Err("takes no value".to_owned()),
            Form::Value(kind) => return value_fits(kind, value),
            Form::List { head, words } => (head, words),
        };
        let mut words = self.split(value).into_iter();
        if let Some(head) = head {
            let first = words.next().unwrap_or_default();
            if head.starts_with('<') {
                value_fits(head, &first)?;
            } else if first != *head {
                return Err(format!("{first} is not {head}"));
            }
        }
        let mut given: Vec<String> = Vec::new();
        for word in words {
            let (key, value) = match word.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (word.as_str(), None),
            };
            if given.iter().any(|other| other == key) {
                return Err(format!("{key} comes twice"));
            }
            given.push(key.to_owned());
            let fits = known.iter().any(|known| match (known.split_once('='), value) {
                (None, None) => known.strip_prefix('+') == Some(key),
                (None, Some(_)) => *known == key,
                (Some((name, values)), Some(value)) => {
                    name == key && values.split('|').any(|known| known == value)
                }
                (Some(_), None) => false,
            });
            if !fits {
                return Err(format!("{word} is not known"));
            }
        }
        Ok(())
    }

    /// The words of a list. QEMU reads two commas as one that does not separate.
    fn split(&self, list: &str) -> Vec<String> {
        let list = match self.vmm {
            Vmm::Qemu => list.replace(",,", "\0"),
            _ => list.to_owned(),
        };
        list.split(',').map(|word| word.replace('\0', ",")).collect()
    }
}

fn value_fits(kind: &str, value: &str) -> Result<(), String> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let fits = match kind {
        "<text>" => !value.is_empty(),
        "<number>" => digits(value),
        "<size>" => digits(value.trim_end_matches(['K', 'M', 'G', 'T'])),
        "<path>" => value.starts_with('/'),
        _ => kind.trim_matches(['<', '>']).split('|').any(|known| known == value),
    };
    if fits { Ok(()) } else { Err(format!("{value} is not {kind}")) }
}

const MEMORY: [u32; 4] = [64, 512, 1536, 1 << 20];
const MTUS: [u16; 4] = [1280, 1500, 9000, 65535];
const RECONNECTS: [Reconnect; 2] = [Reconnect::Seconds, Reconnect::Milliseconds];

#[test]
fn guests_flags_are_known() {
    let mut checked = 0;
    for (vmm, text) in TABLES {
        let table = Table::new(vmm, text);
        for memory in MEMORY {
            for mtu in MTUS {
                for vectors in [None, Some(0), Some(4)] {
                    for reconnect in RECONNECTS {
                        let link = GuestLink {
                            name: "browser".parse().unwrap(),
                            socket: "/run/netvm/links/browser/guest.sock".into(),
                            mac: "02:00:00:00:00:01".parse().unwrap(),
                            memory: Memory::from_mebibytes(memory),
                            mtu,
                            vectors,
                            reconnect,
                        };
                        let flags = guest_flags(vmm, &link).unwrap();
                        table.check(&flags).unwrap_or_else(|e| panic!("{vmm}: {e}\n{flags:?}"));
                        checked += 1;
                    }
                }
            }
        }
    }
    assert_eq!(checked, 4 * 4 * 4 * 3 * 2);
}

fn netvm_with(links: usize, devices: &[VfioDevice], mtu: u16, memory: u32) -> NetvmVm {
    let link = |index: usize| LinkCard {
        socket: format!("/run/netvm/links/guest-{index}/netvm.sock").into(),
        mac: MacAddress::derive(MacRole::Card, &format!("guest-{index}")),
    };
    NetvmVm {
        program: "/opt/vmm".into(),
        memory: Memory::from_mebibytes(memory),
        vcpus: 2,
        kernel: "/var/lib/netvm/vmlinuz".into(),
        initramfs: "/run/netvm/initramfs".into(),
        cmdline: "console=ttyS0 quiet panic=-1".to_owned(),
        devices: devices.to_vec(),
        links: (0..links).map(link).collect(),
        mtu,
        console: "/run/netvm/console".into(),
        state: "/run/netvm/state".into(),
        reconnect: Reconnect::Seconds,
    }
}

/// What a VMM can be given as devices: none, one, two functions of one card, a controller beside;
/// for crosvm also devices of a device tree.
fn device_sets(vmm: Vmm) -> Vec<Vec<VfioDevice>> {
    let pci = |address: &str| VfioDevice::Pci(address.parse().unwrap());
    let platform = |symbol: &str| VfioDevice::Platform {
        sysfs: format!("/sys/bus/platform/devices/6800000.{symbol}").into(),
        symbol: symbol.to_owned(),
        overlay: "/run/netvm/overlay.dtbo".into(),
    };
    let mut sets = vec![
        Vec::new(),
        vec![pci("0000:00:03.0")],
        vec![pci("0000:05:00.0"), pci("0000:05:00.1"), pci("10000:e1:1f.7")],
    ];
    if vmm == Vmm::Crosvm {
        sets.push(vec![platform("mgbe0")]);
        sets.push(vec![platform("mgbe0"), pci("0000:00:03.0"), platform("mgbe1")]);
    }
    sets
}

#[test]
fn netvms_command_lines_are_known() {
    let mut checked = 0;
    for (vmm, text) in TABLES {
        let table = Table::new(vmm, text);
        for devices in device_sets(vmm) {
            for links in [0, 1, 2, 27, 28, 29, 31, 60, 200] {
                for (mtu, memory) in MTUS.into_iter().zip(MEMORY) {
                    let mut netvm = netvm_with(links, &devices, mtu, memory);
                    netvm.reconnect = RECONNECTS[links % 2];
                    // Its one bus has so many places.
                    if vmm == Vmm::Minivmm && links + devices.len() > 31 {
                        netvm_command(vmm, &netvm).unwrap_err();
                        continue;
                    }
                    let line = netvm_command(vmm, &netvm).unwrap();
                    let options = options(vmm, &line);
                    table.check(options).unwrap_or_else(|e| panic!("{vmm}: {e}\n{line:?}"));
                    checked += 1;
                }
            }
        }
    }
    assert_eq!(checked, (3 + 5 + 3) * 9 * 4 + (7 + 6 + 5) * 4);
}

/// The options between a program and what is not one: crosvm has a command and a kernel there.
fn options(vmm: Vmm, line: &[OsString]) -> &[OsString] {
    assert_eq!(line[0], "/opt/vmm");
    match vmm {
        Vmm::Crosvm => {
            assert_eq!(line[1], "run");
            let (kernel, options) = line[2..].split_last().unwrap();
            assert_eq!(kernel, "/var/lib/netvm/vmlinuz");
            options
        }
        _ => &line[1..],
    }
}

#[test]
fn unknown_options_are_found() {
    let cases: [(Vmm, &[&str], &str); 14] = [
        (Vmm::CloudHypervisor, &["--nett", "socket=/s"], "no option --nett"),
        (Vmm::CloudHypervisor, &["--net", "vhost_usr=true"], "vhost_usr=true is not known"),
        (Vmm::CloudHypervisor, &["--net", "vhost_user=yes"], "vhost_user=yes is not known"),
        (Vmm::CloudHypervisor, &["--net", "mtu"], "mtu is not known"),
        (Vmm::CloudHypervisor, &["--net", "mtu=1,mtu=2"], "mtu comes twice"),
        (Vmm::CloudHypervisor, &["--serial", "off", "--serial", "off"], "--serial comes twice"),
        (Vmm::Crosvm, &["--net", "tap-name=t"], "no option --net"),
        (Vmm::Crosvm, &["--vfio", "sys,iommu=off"], "sys is not <path>"),
        (Vmm::Crosvm, &["--vhost-user", "type=nett"], "type=nett is not known"),
        (Vmm::Minivmm, &["--serial", "/a", "--serial", "/b,out=/c"], "out=/c is not known"),
        (Vmm::Minivmm, &["--link", "s,mac=02:00:00:00:00:01"], "s is not <path>"),
        (Vmm::Qemu, &["-device", "virtio-net,netdev=n"], "virtio-net is not virtio-net-pci"),
        (Vmm::Qemu, &["-device", "vfio-pci,socket=/a,,b"], "socket=/a,b is not known"),
        (Vmm::Qemu, &["-m"], "nothing follows -m"),
    ];
    for (vmm, arguments, wanted) in cases {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let error = Table::of(vmm).check(&arguments).unwrap_err();
        assert!(error.contains(wanted), "{error}");
    }
}
