//! Boots the PC once and runs scenarios that show what the rig promises: IOMMU groups, a NIC
//! passed through to a guest under KVM, failures and hangs that are told apart, files that come
//! out, and a clean PC for every scenario.
#![expect(clippy::unwrap_used, reason = "what is not there fails the test")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use netvm_rig::wire::{Mac, frames};
use netvm_rig::{Bundle, Ending, Event, Outcome, Pc, Scenario, run};

const NIC: Mac = Mac([0x52, 0x54, 0x00, 0x12, 0x34, 0x56]);

const GROUPS: &str = r#"
members() { ls "/sys/kernel/iommu_groups/$(group_of "$1")/devices" | tr '\n' ' '; }
nic=$(members 0000:00:03.0)
bridge=$(members 0000:00:1f.0)
[ "$nic" = "0000:00:03.0 " ] && v=pass || v=fail
claim nic-alone $v "$nic"
[ "$bridge" = "0000:00:1f.0 0000:00:1f.2 0000:00:1f.3 " ] && v=pass || v=fail
claim south-bridge-together $v "$bridge"
claim_that interrupts-remapped sh -c 'dmesg | grep -i "enabled irq remapping"'
claim_that nic-has-its-driver test "$(driver_of 0000:00:03.0)" = e1000e
echo under test: $(cat /etc/under-test)
cp /etc/under-test "$OUT/copied"
dd if=/dev/urandom of="$OUT/random" bs=64k count=16
sha256sum < "$OUT/random" > "$OUT/random.sha256"
"#;

const PASSTHROUGH: &str = r#"
bind_vfio 0000:00:03.0 || fail "the NIC is bound to $(driver_of 0000:00:03.0)"
step "A guest with the NIC starts"
GUEST_MEMORY=256 guest-start a -device vfio-pci,host=0000:00:03.0
claim_that lease guest-wait a
claim_that page guest-sh a 'wget -q -O - http://10.0.2.100/'
claim_not elsewhere guest-sh a 'wget -q -T 5 -O - http://10.0.2.2/'
guest-sh a 'exit 7'
[ $? = 7 ] && v=pass || v=fail
claim exit-code-of-the-guest $v "7 expected"
guest-sh a 'dd if=/dev/zero bs=1k count=200 2>/dev/null | tr "\0" x' | wc -c | grep -qx 204800 && v=pass || v=fail
claim long-output $v "204800 bytes"
# Left as it is: the next scenario must find the NIC at its driver and no guest.
"#;

const CLEAN: &str = r#"
claim_that nic-is-back test "$(driver_of 0000:00:03.0)" = e1000e
claim_not no-guest pidof qemu-system-x86_64
"#;

const TWO_GUESTS: &str = r#"
for name in a b; do
    guest-start $name -netdev user,id=n,restrict=on -device virtio-net-pci,netdev=n,mac=02:00:00:00:00:0$name,romfile=
    # One after another: guests that boot at the same time under emulated SVM sometimes die.
    claim_that lease-$name guest-wait $name
    claim_that mac-$name guest-sh $name "grep 02:00:00:00:00:0$name /sys/class/net/eth0/address"
done
guest-stop a
guest-sh a true
[ $? = 125 ] && v=pass || v=fail
claim stopped-guest-is-told-apart $v "125 expected"
claim_that other-guest-goes-on guest-sh b true
"#;

#[test]
fn one_boot_many_scenarios_each_ends_as_it_should() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("boot");
    let bundle = Bundle::new().contents("/etc/under-test", "this build\n", 0o644);
    let scenarios = [
        Scenario::new("groups", GROUPS),
        Scenario::new("passthrough", PASSTHROUGH),
        Scenario::new("clean", CLEAN),
        Scenario::new("fails", "exit 3"),
        Scenario::new("claims-falsely", "claim wrong fail 'as planned'"),
        Scenario::new("hangs", "sleep 1000 & trap '' TERM INT HUP; while :; do sleep 1; done")
            .timeout(Duration::from_secs(3)),
        Scenario::new("two-guests", TWO_GUESTS),
    ];

    let mut steps = Vec::new();
    let outcomes = run(&Pc::default(), &bundle, &scenarios, &folder, |event| {
        println!("{event:?}");
        if let Event::Step { text } = event {
            steps.push(text.clone());
        }
    })
    .unwrap();
    for outcome in &outcomes {
        println!("{}: {:?} in {:?}", outcome.name, outcome.ending, outcome.duration);
    }

    let [groups, passthrough, clean, fails, falsely, hangs, two] = &outcomes[..] else {
        panic!("{} outcomes", outcomes.len());
    };
    passed(groups, 4);
    files_come_out(groups);
    passed(passthrough, 5);
    assert_eq!(steps, ["A guest with the NIC starts"]);
    wire_shows_the_guest(passthrough);
    passed(clean, 2);
    assert_eq!(fails.ending, Ending::Exit(3));
    assert!(!fails.passed());
    assert_eq!(falsely.ending, Ending::Exit(0));
    assert!(!falsely.passed());
    assert_eq!(hangs.ending, Ending::TimedOut);
    assert!(hangs.duration < Duration::from_secs(30), "{:?}", hangs.duration);
    passed(two, 6);
    // Nobody used the NIC then: the capture is there and holds no IPv4.
    let silent = frames(&two.wire).unwrap().filter(|f| f.as_ref().unwrap().ether_type == 0x0800);
    assert_eq!(silent.count(), 0);
}

fn passed(outcome: &Outcome, claims: usize) {
    let log = fs::read_to_string(outcome.log()).unwrap_or_default();
    assert!(
        outcome.passed(),
        "{}: {:?} {:#?}\n{log}",
        outcome.name,
        outcome.ending,
        outcome.claims
    );
    assert_eq!(outcome.claims.len(), claims, "{:#?}", outcome.claims);
}

fn files_come_out(outcome: &Outcome) {
    let read = |name: &str| fs::read(outcome.folder.join(name)).unwrap();
    assert_eq!(read("copied"), b"this build\n");
    assert_eq!(read("random").len(), 1 << 20);
    use sha2::{Digest, Sha256};
    let sum: String = Sha256::digest(read("random")).iter().map(|b| format!("{b:02x}")).collect();
    assert!(String::from_utf8(read("random.sha256")).unwrap().starts_with(&sum));
    let log = fs::read_to_string(outcome.log()).unwrap();
    assert!(log.contains("under test: this build"), "{log}");
}

fn wire_shows_the_guest(outcome: &Outcome) {
    let frames: Vec<_> = frames(&outcome.wire).unwrap().collect::<Result<_, _>>().unwrap();
    let guest = |address: &str| {
        let between = |frame: &&netvm_rig::wire::Frame| {
            let (from, to) = frame.addresses().map_or((None, None), |(a, b)| (Some(a), Some(b)));
            from == "10.0.2.15".parse().ok() && to == address.parse().ok()
        };
        frames.iter().filter(between).count()
    };
    assert!(guest("10.0.2.100") >= 4, "a TCP connection has more than {}", guest("10.0.2.100"));
    assert!(frames.iter().all(|frame| frame.source == NIC
        || frame.destination == NIC
        || frame.destination.0[0] & 1 == 1));
    assert!(frames.iter().any(|frame| frame.source == NIC && frame.ether_type == 0x0806));
}
