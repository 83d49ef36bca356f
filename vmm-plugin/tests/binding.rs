//! Binding and giving back when the kernel, a driver, the device or somebody else gets in the
//! way.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod kernel;
mod machine;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kernel::Kernel;
use machine::Machine;
use vmm_plugin::host::binding::{self, BindError};
use vmm_plugin::host::change::{self, ChangeError};
use vmm_plugin::host::journal::{Journal, JournalError, Record};
use vmm_plugin::host::recovery::{Recovery, recover};
use vmm_plugin::host::{Nic, device};

const PC: &str = "
    group 3 type=DMA
    file /proc/sys/net/ipv4/ip_forward 0
    pci 0000:00:03.0 8086:10d3 020000 group=3 driver=e1000e net=eth0 reset=pm
";
const NIC: &str = "/sys/bus/pci/devices/0000:00:03.0";

struct Run {
    machine: Machine,
    kernel: Kernel,
    directory: tempfile::TempDir,
}

impl Run {
    fn new() -> Self {
        Self::with(PC)
    }

    fn with(text: &str) -> Self {
        let machine = Machine::new(text);
        Self {
            kernel: Kernel::new(machine.sysfs()),
            machine,
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn journal(&self) -> PathBuf {
        self.directory.path().join("journal")
    }

    fn nics(&self) -> Vec<Nic> {
        self.machine.nics(&[r#"{"pci": "0000:00:03.0"}"#])
    }

    fn create(&mut self) -> Journal {
        let path = self.journal();
        Journal::create(&self.machine.sysfs(), &mut self.kernel, &path).unwrap()
    }

    /// Binds; the journal stays, as after a crash.
    fn bind(&mut self) -> Result<(), BindError> {
        let nics = self.nics();
        let mut journal = self.create();
        binding::bind(&self.machine.sysfs(), &mut self.kernel, &mut journal, &nics).map(drop)
    }

    fn recover(&mut self) -> Recovery {
        let path = self.journal();
        recover(&self.machine.sysfs(), &mut self.kernel, &path).unwrap()
    }

    fn driver(&self) -> Option<String> {
        device::driver(&self.machine.sysfs(), &"0000:00:03.0".parse().map(name).unwrap())
    }
}

fn name(address: vmm_plugin::host::PciAddress) -> vmm_plugin::host::DeviceName {
    vmm_plugin::host::DeviceName::Pci(address)
}

#[track_caller]
fn kept(run: &mut Run, why: &str, action: &str) {
    let recovery = run.recover();
    let [failure] = &recovery.failed[..] else {
        panic!("{recovery:?}");
    };
    assert!(failure.why.contains(why), "{failure:?}");
    assert!(failure.action.contains(action), "{failure:?}");
    assert!(run.journal().exists());
}

#[test]
fn bind_writes_exactly_what_the_plan_says() {
    let mut run = Run::new();
    let plan = binding::plan(&run.machine.sysfs(), &run.nics());
    run.bind().unwrap();
    let planned: Vec<(PathBuf, String)> =
        plan.into_iter().map(|step| (step.path, step.value)).collect();
    assert_eq!(run.kernel.writes, planned);
    let files: Vec<&str> = planned.iter().filter_map(|(p, _)| p.to_str()).collect();
    assert_eq!(
        files,
        [
            "/sys/bus/pci/devices/0000:00:03.0/driver_override",
            "/sys/bus/pci/drivers/e1000e/unbind",
            "/sys/bus/pci/drivers_probe",
        ]
    );
    assert!(binding::plan(&run.machine.sysfs(), &run.nics()).is_empty());
}

#[test]
fn bind_without_vfio_driver_changes_nothing() {
    let mut run = Run::new();
    let driver = run.machine.sysfs().path("/sys/bus/pci/drivers/vfio-pci");
    fs::remove_dir_all(driver).unwrap();
    let error = run.bind().unwrap_err();
    assert!(error.to_string().contains("modprobe vfio-pci"), "{error}");
    assert!(run.kernel.writes.is_empty());
}

#[test]
fn bind_that_vfio_does_not_take_is_noticed_and_undone() {
    let mut run = Run::new();
    run.kernel.broken_drivers.push("vfio-pci".to_owned());
    let error = run.bind().unwrap_err();
    assert!(matches!(error, BindError::NotBound { .. }), "{error}");
    assert!(run.recover().complete());
    assert_eq!(run.driver().as_deref(), Some("e1000e"));
}

#[test]
fn bind_when_unbind_hangs_is_reported_and_undone() {
    let mut run = Run::new();
    let unbind = PathBuf::from("/sys/bus/pci/drivers/e1000e/unbind");
    run.kernel.refuses.insert(unbind, io::ErrorKind::TimedOut);
    assert!(matches!(run.bind(), Err(BindError::Write { .. })));
    assert!(run.recover().complete());
    let sysfs = run.machine.sysfs();
    let held = sysfs.text(format!("{NIC}/driver_override"));
    assert_eq!(held.as_deref(), Some("(null)"));
}

#[test]
fn bind_turns_off_bus_mastering_left_on_by_firmware() {
    let text = "group 3 type=DMA
        pci 0000:00:03.0 8086:10d3 020000 group=3 bus-master";
    let mut run = Run::with(text);
    let config = run.machine.sysfs().path(format!("{NIC}/config"));
    let mut expected = fs::read(&config).unwrap();
    assert_eq!(expected[4] & 4, 4);
    run.bind().unwrap();
    expected[4] &= !4;
    assert_eq!(fs::read(&config).unwrap(), expected);
}

#[test]
fn changes_are_undone_last_first() {
    let mut run = Run::new();
    let mut journal = run.create();
    let (sysfs, forward) = (run.machine.sysfs(), Path::new("/proc/sys/net/ipv4/ip_forward"));
    for value in ["1", "2"] {
        change::write_file(&sysfs, &mut run.kernel, &mut journal, forward, value).unwrap();
    }
    drop(journal);
    let recovery = run.recover();
    assert!(recovery.undone[0].ends_with("back to 1"), "{recovery:?}");
    assert!(recovery.undone[1].ends_with("back to 0"), "{recovery:?}");
    assert_eq!(sysfs.text(forward).as_deref(), Some("0"));
}

#[test]
fn release_resets_before_the_host_driver_returns() {
    let mut run = Run::new();
    run.bind().unwrap();
    run.kernel.writes.clear();
    assert!(run.recover().complete());
    let files: Vec<PathBuf> = run.kernel.writes.iter().map(|(p, _)| p.clone()).collect();
    let expected = [
        "/sys/bus/pci/devices/0000:00:03.0/reset",
        "/sys/bus/pci/drivers/vfio-pci/unbind",
        "/sys/bus/pci/devices/0000:00:03.0/driver_override",
        "/sys/bus/pci/drivers/e1000e/bind",
    ];
    assert_eq!(files, expected.map(PathBuf::from));
}

#[test]
fn device_that_cannot_be_reset_stays_away_from_the_host() {
    let mut run = Run::new();
    run.bind().unwrap();
    let reset = PathBuf::from(format!("{NIC}/reset"));
    run.kernel.refuses.insert(reset.clone(), io::ErrorKind::Other);
    kept(&mut run, "cannot be reset", "Power the machine off");
    assert_eq!(run.driver().as_deref(), Some("vfio-pci"));
    run.kernel.refuses.remove(&reset);
    assert!(run.recover().complete());
    assert_eq!(run.driver().as_deref(), Some("e1000e"));
}

#[test]
fn device_that_changed_its_identity_stays_away_from_the_host() {
    for (offset, value) in [(2, 0xd4), (0x0b, 0x0c), (0, 0xff), (0x2c, 0x01)] {
        let mut run = Run::new();
        run.bind().unwrap();
        let config = run.machine.sysfs().path(format!("{NIC}/config"));
        let mut bytes = fs::read(&config).unwrap();
        bytes[offset] = value;
        fs::write(&config, bytes).unwrap();
        kept(&mut run, "is not what it was", "examine the card");
        assert_eq!(run.driver().as_deref(), Some("vfio-pci"));
    }
}

#[test]
fn device_in_use_by_a_vmm_is_not_unbound() {
    let mut run = Run::new();
    run.bind().unwrap();
    run.kernel.writes.clear();
    run.machine.file("/proc/4242/comm", "qemu-system-x86");
    run.machine.link("/proc/4242/fd/11", "/dev/vfio/3");
    kept(&mut run, "still in use by qemu-system-x86 (pid 4242)", "Stop that process");
    assert!(run.kernel.writes.is_empty());
}

#[test]
fn device_that_vanished_is_nothing_to_undo() {
    let mut run = Run::new();
    run.bind().unwrap();
    fs::remove_file(run.machine.sysfs().path(NIC)).unwrap();
    let recovery = run.recover();
    assert!(recovery.complete(), "{recovery:?}");
    assert!(recovery.undone[0].contains("no longer in this machine"));
}

#[test]
fn host_driver_that_is_gone_or_refuses_keeps_the_journal() {
    let mut run = Run::new();
    run.bind().unwrap();
    let directory = run.machine.sysfs().path("/sys/bus/pci/drivers/e1000e");
    fs::remove_dir_all(&directory).unwrap();
    kept(&mut run, "e1000e is not loaded", "modprobe e1000e");
    run.machine.file("/sys/bus/pci/drivers/e1000e/bind", "");
    run.kernel.broken_drivers.push("e1000e".to_owned());
    kept(&mut run, "bound to no driver instead of e1000e", "again");
    run.kernel.broken_drivers.clear();
    assert!(run.recover().complete());
    assert_eq!(run.driver().as_deref(), Some("e1000e"));
}

#[test]
fn journal_of_an_unfinished_run_refuses_a_second_one() {
    let mut run = Run::new();
    run.bind().unwrap();
    let path = run.journal();
    let error = Journal::create(&run.machine.sysfs(), &mut run.kernel, &path).unwrap_err();
    assert!(matches!(error, JournalError::Exists { .. }), "{error}");
    assert!(error.to_string().contains("netvm recover"), "{error}");
}

#[test]
fn journal_of_a_living_process_is_not_recovered() {
    let mut run = Run::new();
    let journal = run.create();
    let error = recover(&run.machine.sysfs(), &mut run.kernel, journal.path()).unwrap_err();
    let own = std::process::id();
    assert!(matches!(error, JournalError::InUse { pid, .. } if pid == own), "{error}");
}

#[test]
fn journal_others_can_write_is_not_followed() {
    let mut run = Run::new();
    run.bind().unwrap();
    let path = run.journal();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o622)).unwrap();
    let open = |path: &Path| Journal::open(path).unwrap_err();
    assert!(matches!(open(&path), JournalError::NotTrusted { .. }));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let link = run.directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(open(&link), JournalError::Io { .. }));
}

#[test]
fn journal_damaged_before_its_end_is_not_followed() {
    let mut run = Run::new();
    run.bind().unwrap();
    let path = run.journal();
    let text = fs::read_to_string(&path).unwrap();
    for damaged in [
        text.replacen("\"device\"", "\"devise\"", 1) + "{\"record\":\"undone\",\"index\":9}\n",
        text.replacen("\"version\":1", "\"version\":2", 1),
        text.lines().skip(1).map(|line| format!("{line}\n")).collect(),
    ] {
        fs::write(&path, damaged).unwrap();
        let error = Journal::open(&path).unwrap_err();
        assert!(matches!(error, JournalError::Corrupt { .. }), "{error}");
    }
}

#[test]
fn journal_of_another_boot_is_put_away_untouched() {
    let mut run = Run::new();
    run.bind().unwrap();
    run.machine.file("/proc/sys/kernel/random/boot_id", "boot-2");
    run.kernel.writes.clear();
    assert!(run.recover().complete());
    assert!(run.kernel.writes.is_empty() && !run.journal().exists());
}

#[test]
fn journal_records_overrides_for_later_readers() {
    use vmm_plugin::host::preflight::Override;
    let mut run = Run::new();
    let mut journal = run.create();
    let note =
        Record::Note { text: "netvm up".to_owned(), overrides: vec![Override::TakeFromHost] };
    journal.append(&mut run.kernel, note.clone()).unwrap();
    drop(journal);
    let journal = Journal::open(&run.journal()).unwrap().unwrap();
    assert_eq!(journal.records()[1], note);
    assert!(journal.pending().is_empty());
}

#[test]
fn file_write_by_somebody_else_is_left_alone() {
    let mut run = Run::new();
    let mut journal = run.create();
    let (sysfs, forward) = (run.machine.sysfs(), Path::new("/proc/sys/net/ipv4/ip_forward"));
    change::write_file(&sysfs, &mut run.kernel, &mut journal, forward, "1").unwrap();
    drop(journal);
    run.machine.file("/proc/sys/net/ipv4/ip_forward", "2");
    let recovery = run.recover();
    assert!(recovery.complete() && recovery.undone[0].contains("left at 2"), "{recovery:?}");
    assert_eq!(sysfs.text(forward).as_deref(), Some("2"));
}

#[test]
fn change_outside_its_files_is_refused_and_not_followed_in_a_journal() {
    let mut run = Run::new();
    let mut journal = run.create();
    let sysfs = run.machine.sysfs();
    for path in ["/etc/passwd", "/sys/../etc/passwd", "sys/x", "/proc/1/mem"] {
        let path = Path::new(path);
        let result = change::write_file(&sysfs, &mut run.kernel, &mut journal, path, "x");
        assert!(matches!(result, Err(ChangeError::Outside { .. })), "{result:?}");
        let owner = (0, 0);
        let result = change::change_owner(&sysfs, &mut run.kernel, &mut journal, path, owner);
        assert!(matches!(result, Err(ChangeError::Outside { .. })), "{result:?}");
    }
    let record = Record::FileWrite {
        path: "/etc/passwd".into(),
        value: "a".to_owned(),
        previous: "b".to_owned(),
    };
    journal.append(&mut run.kernel, record).unwrap();
    drop(journal);
    kept(&mut run, "outside", "by hand");
    assert!(run.kernel.writes.is_empty());
}
