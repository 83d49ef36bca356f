//! Network namespaces with netvm's own files running in one of them.
//!
//! The image is unpacked into a directory and netvm's `run` started there by chroot, in its own
//! network, process and mount namespaces: the programs, scripts and rendered files are those that
//! a booted netvm runs. Cards are veth pairs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use netvm_image::config::{self, Config};
use netvm_image::state::State;

/// How long anything may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// The MAC address of netvm's NIC, the end of the wire in netvm.
pub const NIC_MAC: &str = "52:54:00:00:00:99";

/// Why these tests cannot run here, if they cannot.
pub fn unavailable() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    let name = format!("nv{}-probe", std::process::id());
    let made = Command::new("ip").args(["netns", "add", &name]).output();
    let _ = Command::new("ip").args(["netns", "del", &name]).output();
    match made {
        Err(error) => Some(format!("ip cannot be run: {error}")),
        Ok(output) if !output.status.success() => {
            Some(format!("no network namespaces: {}", String::from_utf8_lossy(&output.stderr)))
        }
        Ok(_) => None,
    }
}

/// A named network namespace, deleted when dropped.
pub struct Namespace(String);

impl Namespace {
    fn new(name: String) -> Namespace {
        host(&["netns", "add", &name]);
        let namespace = Namespace(name);
        namespace.ok("ip link set lo up");
        namespace
    }

    fn command(&self, command: &str) -> Command {
        let mut process = Command::new("ip");
        process.args(["netns", "exec", &self.0]);
        process.args(["sh", "-c", command]).stdin(Stdio::null());
        process
    }

    /// Runs a shell command to its end.
    pub fn run(&self, command: &str) -> Output {
        self.command(command).output().expect("ip can be run, as probed")
    }

    /// Runs a shell command that must succeed; returns what it printed.
    pub fn ok(&self, command: &str) -> String {
        let output = self.run(command);
        let error = String::from_utf8_lossy(&output.stderr);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{command} in {}: {error}{text}", self.0);
        text
    }

    /// Whether a shell command succeeds.
    pub fn succeeds(&self, command: &str) -> bool {
        self.run(command).status.success()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Only what this test started in it; every one of them, since a name is used once.
        if let Ok(output) = Command::new("ip").args(["netns", "pids", &self.0]).output() {
            for pid in String::from_utf8_lossy(&output.stdout).split_whitespace() {
                let _ = Command::new("kill").args(["-9", pid]).output();
            }
        }
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

fn host(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("ip can be run, as probed");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments:?}: {error}");
}

/// netvm, its guests by index, and the outside world.
pub struct Network {
    pub netvm: Namespace,
    pub guests: Vec<Namespace>,
    pub outside: Namespace,
    processes: Vec<Child>,
    directory: tempfile::TempDir,
}

impl Network {
    /// Cards and cables; netvm is not running yet. The outside has 192.0.2.1/24 on `wire`.
    pub fn new(config: &Config) -> Network {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = |role: &str| format!("nv{}-{count}-{role}", std::process::id());
        let network = Network {
            netvm: Namespace::new(name("netvm")),
            guests: config
                .links
                .iter()
                .map(|link| Namespace::new(name(link.name.as_str())))
                .collect(),
            outside: Namespace::new(name("wire")),
            processes: Vec::new(),
            directory: tempfile::tempdir().expect("the temporary directory is writable"),
        };
        for (index, (link, guest)) in config.links.iter().zip(&network.guests).enumerate() {
            // Other names than netvm's own, in an order that is not the links'.
            let card = format!("card{}", config.links.len() - index);
            network.netvm.ok(&format!(
                "ip link add {card} address {} type veth peer name eth0 address {} netns {}",
                link.card_mac, link.guest_mac, guest.0
            ));
            guest.ok("ip link set eth0 up");
        }
        network.netvm.ok(&format!(
            "ip link add eth0 address {NIC_MAC} type veth peer name wire netns {}",
            network.outside.0
        ));
        network.outside.ok("ip address add 192.0.2.1/24 dev wire && ip link set wire up");
        unpack(&network.root());
        for file in config::render(config).expect("the test's configuration is valid") {
            let path = network.root().join(&file.path);
            fs::create_dir_all(path.parent().expect("it is below etc/netvm"))
                .and_then(|()| fs::write(path, &file.contents))
                .expect("the temporary directory is writable");
        }
        network
    }

    /// Where the image is unpacked.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// Starts netvm.
    pub fn start(&mut self) {
        let root = self.root();
        let root = root.display();
        let console = File::create(self.directory.path().join("console"))
            .expect("the temporary directory is writable");
        let script = format!(
            "mount -t proc proc {root}/proc && mount -t sysfs sysfs {root}/sys && \
             mount --bind /dev {root}/dev && \
             exec chroot {root} /lib/netvm/run /run/netvm/channel"
        );
        let mut netvm = Command::new("ip");
        netvm
            .args(["netns", "exec", &self.netvm.0])
            .args(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", &script])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(console.try_clone().expect("a file can be duplicated"))
            .stderr(console);
        self.processes.push(netvm.spawn().expect("ip can be run, as probed"));
    }

    /// Starts a shell command in a namespace and leaves it running until the test ends.
    pub fn spawn(&mut self, namespace: impl Fn(&Network) -> &Namespace, command: &str) {
        let log = File::create(self.directory.path().join("spawned"))
            .expect("the temporary directory is writable");
        let mut process = namespace(self).command(&format!("exec {command}"));
        process.stdout(Stdio::null()).stderr(log);
        self.processes.push(process.spawn().expect("ip can be run, as probed"));
    }

    /// A DHCP and DNS server outside; `range` is dnsmasq's, `options` more of its arguments.
    pub fn serve_outside(&mut self, range: &str, options: &str) {
        let leases = self.directory.path().join("outside-leases");
        let command = format!(
            "dnsmasq -k --conf-file=/dev/null --user=root --pid-file= --log-facility=- \
             --no-resolv --no-hosts --address=/outside.example/192.0.2.1 --interface=wire \
             --bind-interfaces --no-ping --dhcp-leasefile={} --dhcp-range={range},60 {options}",
            leases.display()
        );
        self.spawn(|network| &network.outside, &command);
    }

    /// A web server with one page, in a guest or outside.
    pub fn serve_page(
        &mut self,
        namespace: impl Fn(&Network) -> &Namespace,
        port: u16,
        page: &str,
    ) {
        let directory = self.directory.path().join(format!("www-{page}"));
        fs::create_dir_all(&directory)
            .and_then(|()| fs::write(directory.join("index.html"), page))
            .expect("the temporary directory is writable");
        self.spawn(namespace, &format!("busybox httpd -f -p {port} -h {}", directory.display()));
    }

    /// The last line of the state channel.
    pub fn state(&self) -> String {
        fs::read_to_string(self.root().join("run/netvm/channel")).unwrap_or_default()
    }

    /// Waits until the state channel says `wanted`, and returns that line.
    pub fn wait_for(&self, wanted: &str) -> String {
        let line = self.wait(|| Some(self.state()).filter(|state| state.contains(wanted)), wanted);
        // What netvm says is what the host accepts.
        State::parse(line.trim_end().as_bytes()).expect("netvm's state is well formed");
        line
    }

    /// Tries until `probe` gives something; shows netvm's console when it does not.
    pub fn wait<T>(&self, probe: impl Fn() -> Option<T>, wanted: &str) -> T {
        let begin = Instant::now();
        loop {
            if let Some(found) = probe() {
                return found;
            }
            if begin.elapsed() > PATIENCE {
                let console = fs::read_to_string(self.directory.path().join("console"));
                panic!(
                    "no {wanted}; state: {}\nconsole:\n{}\nruleset:\n{}",
                    self.state(),
                    console.unwrap_or_default(),
                    self.netvm.ok("nft list ruleset")
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Has a guest ask for an address by DHCP, and returns it.
    pub fn dhcp(&self, guest: usize) -> String {
        let script = self.directory.path().join("udhcpc");
        fs::write(&script, GUEST_UDHCPC)
            .and_then(|()| fs::set_permissions(&script, executable()))
            .expect("the temporary directory is writable");
        let namespace = &self.guests[guest];
        namespace.ok("ip address flush dev eth0");
        namespace.ok(&format!("busybox udhcpc -q -n -t 8 -T 1 -i eth0 -s {}", script.display()));
        let address = namespace.ok("ip -o -4 address show dev eth0");
        let address = address.split_whitespace().nth(3).unwrap_or_default();
        address.split('/').next().unwrap_or_default().to_owned()
    }

    /// Packets that one of netvm's named counters has counted.
    pub fn counter(&self, name: &str) -> u64 {
        let text = self.netvm.ok("nft list counters");
        let mut words = text.split_whitespace().skip_while(|word| *word != name);
        words.nth(3).and_then(|word| word.parse().ok()).expect("the counter is in the ruleset")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// What an ordinary DHCP client does with its lease.
const GUEST_UDHCPC: &str = "#!/bin/sh
case $1 in
bound | renew)
	ip address replace $ip/$mask dev $interface
	ip route replace default via $router
	;;
esac
";

fn executable() -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    fs::Permissions::from_mode(0o755)
}

/// netvm's image, built once for all tests of this run, without the kernel's modules: the running
/// kernel is another one.
fn unpack(root: &Path) {
    static IMAGE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let image = IMAGE.get_or_init(|| {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        super::image(directory.path());
        directory
    });
    fs::create_dir_all(root).expect("the temporary directory is writable");
    let status = Command::new("cpio")
        .args(["-id", "--quiet", "--nonmatching", "usr/lib/modules/*"])
        .current_dir(root)
        .stdin(File::open(image.path().join("initramfs")).expect("the image was just built"))
        .status()
        .expect("cpio is installed");
    assert!(status.success(), "cpio: {status}");
}
