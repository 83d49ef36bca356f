//! The command as a user types it, where no PC is needed: exit codes, help, flags, and what the README says.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const DECLARATION: &str = r#"
scenario = "secure"
[netvm]
vmm = "qemu"
[[nic]]
pci = "0000:00:03.0"
[[guest]]
name = "browser"
mac = "02:00:00:00:00:0a"
[[guest]]
name = "files"
address = "100.127.77.10"
"#;

/// A directory with a declaration in it, and a run directory of its own.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new(declaration: &str) -> Self {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        std::fs::write(directory.path().join("netvm.toml"), declaration)
            .expect("the temporary directory is writable");
        Self { directory }
    }

    fn netvm(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_netvm"))
            .args(arguments)
            .env("NETVM_DECLARATION", self.directory.path().join("netvm.toml"))
            .env("NETVM_RUN_DIR", self.directory.path().join("run"))
            .env("NETVM_IMAGE_DIR", self.directory.path().join("image"))
            .env("NO_COLOR", "1")
            .output()
            .expect("netvm runs")
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn wrong_command_line_ends_with_2() {
    let place = Place::new(DECLARATION);
    assert_eq!(place.netvm(&["fly"]).status.code(), Some(2));
    assert_eq!(place.netvm(&["flags", "browser", "--vmm", "bochs"]).status.code(), Some(2));
    assert_eq!(place.netvm(&["--help"]).status.code(), Some(0));
}

#[test]
fn wrong_declaration_ends_with_2_and_shows_every_mistake() {
    let place = Place::new("scenario = \"safe\"\nnick = []\n[[guest]]\nname = \"a b\"\n");
    for command in ["check", "plan", "up"] {
        let output = place.netvm(&[command]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        for word in ["scenario", "nick", "a b"] {
            assert!(stderr(&output).contains(word), "{command}: {word}: {}", stderr(&output));
        }
    }
    assert!(!place.directory.path().join("run/journal").exists());
}

#[test]
fn missing_declaration_is_named() {
    let place = Place::new(DECLARATION);
    let output = place.netvm(&["check", "-f", "/nonexistent/netvm.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("/nonexistent/netvm.toml"), "{}", stderr(&output));
}

#[test]
fn a_nic_that_is_not_there_is_refused_with_3_and_nothing_is_touched() {
    let place = Place::new(&DECLARATION.replace("0000:00:03.0", "fffe:00:03.0"));
    for command in ["check", "up"] {
        let output = place.netvm(&[command]);
        assert_eq!(output.status.code(), Some(3), "{command}: {}", stderr(&output));
        assert!(stderr(&output).contains("fffe:00:03.0"), "{}", stderr(&output));
    }
    assert!(!place.directory.path().join("run/journal").exists());
}

#[test]
fn a_cpu_that_is_not_there_is_refused_with_3_and_its_line() {
    // More CPUs than any machine that runs these tests.
    let place = Place::new(
        &DECLARATION.replace("name = \"browser\"", "name = \"browser\"\nlink_cpu = 1023"),
    );
    for command in ["check", "plan", "up"] {
        let output = place.netvm(&[command]);
        assert_eq!(output.status.code(), Some(3), "{command}: {}", stderr(&output));
        for word in ["link_cpu = 1023", "netvm::guest::link_cpu_unusable", "netvm.toml:9"] {
            assert!(stderr(&output).contains(word), "{command}: {word}: {}", stderr(&output));
        }
    }
    assert!(!place.directory.path().join("run/journal").exists());
}

#[test]
fn status_and_down_of_nothing_end_with_1_and_recover_with_0() {
    let place = Place::new(DECLARATION);
    for command in ["status", "down"] {
        let output = place.netvm(&[command]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(stderr(&output).contains("not running"), "{}", stderr(&output));
    }
    let output = place.netvm(&["recover"]);
    assert_eq!(
        (output.status.code(), stdout(&output).as_str()),
        (Some(0), "Nothing to recover.\n")
    );
}

#[test]
fn a_journal_without_a_run_ends_with_4() {
    let place = Place::new(DECLARATION);
    let run = place.directory.path().join("run");
    std::fs::create_dir(&run).expect("the temporary directory is writable");
    std::fs::write(run.join("journal"), "").expect("the temporary directory is writable");
    for command in ["status", "down", "up"] {
        let output = place.netvm(&[command]);
        assert_eq!(output.status.code(), Some(4), "{command}: {}", stderr(&output));
        assert!(stderr(&output).contains("netvm recover"), "{}", stderr(&output));
    }
}

#[test]
fn flags_are_shell_words_and_the_same_as_the_json_array() {
    let place = Place::new(DECLARATION);
    for vmm in ["qemu", "cloud-hypervisor", "crosvm", "minivmm"] {
        let line = stdout(&place.netvm(&["flags", "browser", "--vmm", vmm]));
        let json = stdout(&place.netvm(&["flags", "browser", "--vmm", vmm, "--json"]));
        let words: Vec<String> = serde_json::from_str(&json).expect("--json prints an array");
        assert_eq!(shlex::split(line.trim()).as_ref(), Some(&words), "{vmm}");
        assert!(line.contains("links/browser/guest.sock"), "{line}");
    }
    let qemu = stdout(&place.netvm(&["flags", "browser", "--memory", "2G"]));
    assert!(qemu.contains("02:00:00:00:00:0a") && qemu.contains("2048M"), "{qemu}");
}

#[test]
fn flags_of_an_unknown_guest_name_the_declared_ones() {
    let output = Place::new(DECLARATION).netvm(&["flags", "nobody"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("browser, files"), "{}", stderr(&output));
}

#[test]
fn man_page_and_completions_know_every_command() {
    let place = Place::new(DECLARATION);
    let man = stdout(&place.netvm(&["man"]));
    let completions = stdout(&place.netvm(&["completions", "bash"]));
    for command in ["check", "plan", "up", "down", "status", "recover", "flags", "image", "demo"] {
        assert!(man.contains(command), "man: {command}");
        assert!(completions.contains(command), "completions: {command}");
    }
}

#[test]
fn readme_declaration_is_valid() {
    let readme = read("README.md");
    let block = readme.split("```toml").nth(1).and_then(|rest| rest.split("```").next());
    let parsed = netvm::declaration::parse("README.md", block.expect("there is a toml block"));
    let parsed = parsed.unwrap_or_else(|findings| panic!("{:?}", miette::Report::new(findings)));
    assert!(parsed.warnings.is_empty());
}

#[test]
fn readme_names_commands_and_paths_that_exist() {
    let readme = read("README.md");
    let place = Place::new(DECLARATION);
    let help = stdout(&place.netvm(&["--help"]));
    for part in readme.split('`').skip(1).step_by(2) {
        let Some(rest) = part.strip_prefix("netvm ") else { continue };
        let Some(command) = rest.split_whitespace().next() else { continue };
        assert!(help.contains(&format!("\n  {command}")), "README: netvm {command}");
    }
    for link in readme.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(repository(link).exists(), "README links to {link}");
    }
    for status in ["0 done", "1 failed", "2 wrong command line", "3 preflight", "4 an earlier run"]
    {
        assert!(readme.contains(status), "README: {status}");
    }
}
