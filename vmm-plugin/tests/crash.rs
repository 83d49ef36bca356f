//! Death after, before and within every single effect of binding, of releasing and of
//! recovering: recovery brings the machine back to exactly what it was.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod kernel;
mod machine;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kernel::{Kernel, MOMENTS, Moment, snapshot, survive};
use machine::Machine;
use vmm_plugin::host::journal::{Journal, Record};
use vmm_plugin::host::recovery::{Recovery, recover};
use vmm_plugin::host::{binding, change};

/// A machine, and the NICs given away.
struct Scene {
    name: &'static str,
    machine: &'static str,
    nics: &'static [&'static str],
}

const SCENES: [Scene; 5] = [
    Scene {
        name: "one NIC with a host driver",
        machine: "group 3 type=DMA
            file /proc/sys/net/ipv4/ip_forward 0
            pci 0000:00:03.0 8086:10d3 020000 group=3 driver=e1000e net=eth0 reset=pm",
        nics: &[r#"{"pci": "0000:00:03.0"}"#],
    },
    Scene {
        name: "two functions of one group",
        machine: "group 3 type=DMA
            file /proc/sys/net/ipv4/ip_forward 0
            pci 0000:01:00.0 8086:1521 020000 group=3 driver=igb reset=flr
            pci 0000:01:00.1 8086:1521 020000 group=3 driver=igb reset=flr",
        nics: &[r#"{"pci": "0000:01:00.0"}"#, r#"{"pci": "0000:01:00.1"}"#],
    },
    Scene {
        name: "no driver, bus mastering left on by firmware",
        machine: "group 3 type=DMA
            file /proc/sys/net/ipv4/ip_forward 0
            pci 0000:00:03.0 8086:10d3 020000 group=3 bus-master",
        nics: &[r#"{"pci": "0000:00:03.0"}"#],
    },
    Scene {
        name: "held by VFIO since boot",
        machine: "group 3 type=DMA
            file /proc/sys/net/ipv4/ip_forward 0
            pci 0000:00:03.0 8086:10d3 020000 group=3 driver=vfio-pci override=vfio-pci reset=flr",
        nics: &[r#"{"pci": "0000:00:03.0"}"#],
    },
    Scene {
        name: "a platform device",
        machine: "group 3 type=DMA
            file /proc/sys/net/ipv4/ip_forward 0
            platform fe300000.ethernet group=3 driver=dwmac net=eth0",
        nics: &[r#"{"platform": "fe300000.ethernet"}"#],
    },
];

/// A machine and the place of its journal.
struct Run {
    machine: Machine,
    _directory: tempfile::TempDir,
    journal: PathBuf,
}

impl Run {
    fn new(scene: &Scene) -> Self {
        let directory = machine::directory();
        Self {
            machine: Machine::new(scene.machine),
            journal: directory.path().join("journal"),
            _directory: directory,
        }
    }

    fn kernel(&self) -> Kernel {
        Kernel::new(self.machine.sysfs())
    }

    fn dying(&self, at: usize, moment: Moment) -> Kernel {
        Kernel::dying(self.machine.sysfs(), at, moment)
    }

    /// What `netvm up` does to a host, through `kernel`.
    fn up(&self, scene: &Scene, kernel: &mut Kernel) -> Journal {
        let sysfs = self.machine.sysfs();
        let nics = self.machine.nics(scene.nics);
        let mut journal = Journal::create(&sysfs, kernel, &self.journal).unwrap();
        let forward = Path::new("/proc/sys/net/ipv4/ip_forward");
        change::write_file(&sysfs, kernel, &mut journal, forward, "1").unwrap();
        let bound = binding::bind(&sysfs, kernel, &mut journal, &nics).unwrap();
        assert_eq!(bound.len(), nics.len());
        if rustix::process::geteuid().is_root() {
            let group = bound[0].vfio_path.clone().unwrap();
            let owner = (4711, 4712);
            change::change_owner(&sysfs, kernel, &mut journal, &group, owner).unwrap();
        }
        let undo = vec!["ip".to_owned(), "link".to_owned()];
        let why = "a TAP".to_owned();
        let record = Record::Command { why, undo };
        journal.append(kernel, record).unwrap();
        journal
    }

    fn recover(&self, kernel: &mut Kernel) -> Recovery {
        recover(&self.machine.sysfs(), kernel, &self.journal).unwrap()
    }
}

/// Recovery of `run` leaves exactly `before`, and a further one does nothing.
#[track_caller]
fn assert_healed(run: &Run, before: &BTreeMap<PathBuf, String>, at: &str) {
    let recovery = run.recover(&mut run.kernel());
    assert!(recovery.complete(), "{at}: {recovery:?}");
    let mut after = snapshot(run.machine.root());
    // Bus mastering that was turned off is not turned on again: the next driver does.
    for (name, text) in &mut after {
        if name.ends_with("config") {
            text.clone_from(&before[name]);
        }
    }
    assert_eq!(&after, before, "{at}");
    assert!(!run.journal.exists(), "{at}");
    let mut again = run.kernel();
    assert_eq!(run.recover(&mut again), Recovery::default(), "{at}");
    assert_eq!(again.effects, 0, "{at}");
}

#[test]
fn bind_and_release_leave_the_machine_as_it_was() {
    for scene in &SCENES {
        let run = Run::new(scene);
        let before = snapshot(run.machine.root());
        let mut kernel = run.kernel();
        let journal = run.up(scene, &mut kernel);
        assert_ne!(snapshot(run.machine.root()), before, "{}", scene.name);
        let recovery = binding::release(&run.machine.sysfs(), &mut kernel, journal).unwrap();
        assert!(recovery.complete(), "{}: {recovery:?}", scene.name);
        assert_eq!(kernel.commands.len(), 1);
        assert_healed(&run, &before, scene.name);
    }
}

#[test]
fn death_at_any_effect_of_binding_is_healed() {
    for scene in &SCENES {
        let before = snapshot(Run::new(scene).machine.root());
        let mut points = 0;
        for at in 0.. {
            let mut died = false;
            for moment in MOMENTS {
                let run = Run::new(scene);
                let mut kernel = run.dying(at, moment);
                died |= survive(|| run.up(scene, &mut kernel)).is_none();
                assert_healed(&run, &before, &format!("{}, {moment:?} {at}", scene.name));
            }
            if !died {
                break;
            }
            points += 1;
        }
        assert!(points >= 6, "{}: only {points} effects", scene.name);
    }
}

#[test]
fn death_at_any_effect_of_release_is_healed() {
    for scene in &SCENES {
        let before = snapshot(Run::new(scene).machine.root());
        let mut points = 0;
        for at in 0.. {
            let mut died = false;
            for moment in MOMENTS {
                let run = Run::new(scene);
                let journal = run.up(scene, &mut run.kernel());
                let mut kernel = run.dying(at, moment);
                let sysfs = run.machine.sysfs();
                let release = || binding::release(&sysfs, &mut kernel, journal).unwrap();
                died |= survive(release).is_none();
                assert_healed(&run, &before, &format!("{}, {moment:?} {at}", scene.name));
            }
            if !died {
                break;
            }
            points += 1;
        }
        assert!(points >= 6, "{}: only {points} effects", scene.name);
    }
}

#[test]
fn death_of_recovery_after_death_of_binding_is_healed() {
    let mut points = 0;
    for scene in &SCENES {
        let before = snapshot(Run::new(scene).machine.root());
        let last = {
            let run = Run::new(scene);
            let mut kernel = run.kernel();
            drop(run.up(scene, &mut kernel));
            kernel.effects
        };
        for (first, cause) in (0..last).flat_map(|at| [(at, Moment::Torn), (at, Moment::After)]) {
            for second in 0.. {
                let run = Run::new(scene);
                let mut kernel = run.dying(first, cause);
                assert!(survive(|| run.up(scene, &mut kernel)).is_none());
                let moment = MOMENTS[(first + second) % MOMENTS.len()];
                let mut kernel = run.dying(second, moment);
                let died = survive(|| run.recover(&mut kernel)).is_none();
                let at = format!("{}, {cause:?} {first}, {moment:?} {second}", scene.name);
                assert_healed(&run, &before, &at);
                points += 1;
                if !died {
                    break;
                }
            }
        }
    }
    assert!(points > 100, "only {points}");
}
