//! The command, on a board made up for it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use dt_overlay::Tree;

use super::{board, compile};

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        compile(board(), &dir.path().join("board.dtb"));
        Self { dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn dt(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_netvm"))
            .arg("dt")
            .args(arguments)
            .current_dir(self.path())
            .output()
            .expect("netvm runs")
    }

    /// What it prints; it must succeed.
    fn says(&self, arguments: &[&str]) -> String {
        let output = self.dt(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Why it refuses, in one line; its exit status.
    fn refuses(&self, arguments: &[&str]) -> (String, Option<i32>) {
        let output = self.dt(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        let text = String::from_utf8_lossy(&output.stderr).replace("\n  │ ", " ");
        let words: Vec<_> = text.split_whitespace().collect();
        (words.join(" "), output.status.code())
    }
}

#[test]
fn survey_prints_a_line_a_nic() {
    let bench = Bench::new();
    let table = bench.says(&["survey", "board.dtb"]);
    assert!(table.contains("/ethernet@ff0e0000") && table.contains("macb"), "{table}");
    assert!(table.contains("1 trees, 3 NICs, 0 trees without any"), "{table}");
    fs::create_dir(bench.path().join("more")).expect("a directory");
    fs::copy(bench.path().join("board.dtb"), bench.path().join("more/b.dtb")).expect("a copy");
    assert!(bench.says(&["survey", "."]).contains("2 trees, 6 NICs"));
}

#[test]
fn survey_prints_json() {
    let bench = Bench::new();
    let json: serde_json::Value =
        serde_json::from_str(&bench.says(&["survey", "board.dtb", "--json"])).expect("JSON");
    let nics = &json[0]["nics"];
    assert_eq!(nics[0]["device"], "ff0e0000.ethernet");
    assert_eq!(nics[0]["verdict"]["answer"], "passable");
    assert_eq!(nics[1]["verdict"]["cause"], "disabled");
    assert_eq!(nics[2]["verdict"]["cause"], "composite");
}

#[test]
fn overlays_are_written_and_apply_as_libfdt_applies_them() {
    let bench = Bench::new();
    let tree = ["--tree", "board.dtb"];
    bench.says(&[&["host-overlay", "ethernet0", "-o", "host.dtbo"], &tree[..]].concat());
    bench.says(&["apply", "board.dtb", "host.dtbo", "-o", "ours.dtb"]);
    let status = Command::new("fdtoverlay")
        .args(["-i", "board.dtb", "-o", "theirs.dtb", "host.dtbo"])
        .current_dir(bench.path())
        .status();
    assert!(status.expect("fdtoverlay runs").success());
    let read = |name: &str| {
        let file = fs::read(bench.path().join(name)).expect("it was written");
        Tree::parse(&file).expect("a tree").normalised()
    };
    assert_eq!(read("ours.dtb"), read("theirs.dtb"));
    // The guest's overlay does not depend on whether the host's tree was changed already.
    let guest = |tree: &str| bench.says(&["guest-overlay", "ff0e0000.ethernet", "--tree", tree]);
    assert_eq!(guest("board.dtb"), guest("ours.dtb"));
    assert!(guest("board.dtb").contains("nic_ff0e0000_ethernet"));
    let words = ["guest-overlay", "ethernet0", "--vmm", "standalone", "--address", "0xd000000"];
    assert!(bench.says(&[&words, &tree[..]].concat()).contains("ethernet@d000000"));
}

#[test]
fn explain_says_what_moves_and_what_stays() {
    let bench = Bench::new();
    let words = bench.says(&["explain", "ethernet0", "--tree", "board.dtb"]);
    let (moves, stays) = words.split_once("Stays with the host").expect("both");
    assert!(moves.contains("registers 0xff0e0000") && moves.contains("SPI 63"), "{words}");
    assert!(stays.contains("resets: /clock-controller@3000000 [32]"), "{words}");
    assert!(stays.contains("netvm,passthrough"), "{words}");
    let svg = bench.says(&["explain", "ethernet0", "--tree", "board.dtb", "--svg"]);
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    assert!(svg.contains("iommu@2000000") && svg.contains("0xff0e0000 + 0x1000"), "{svg}");
}

#[test]
fn what_is_wrong_is_named_and_nothing_written() {
    let bench = Bench::new();
    let file = fs::read(bench.path().join("board.dtb")).expect("it is there");
    fs::write(bench.path().join("short.dtb"), &file[..200]).expect("writable");
    let other = "/dts-v1/; /plugin/; / { compatible = \"other,board\"; }; &nic { a; };";
    fs::write(bench.path().join("other.dts"), other).expect("writable");
    compile(&bench.path().join("other.dts"), &bench.path().join("other.dtbo"));
    let bad = fs::read_to_string(board()).expect("it is there").replace("<&cru 31>", "<&cru>");
    fs::write(bench.path().join("bad.dts"), bad).expect("writable");
    compile(&bench.path().join("bad.dts"), &bench.path().join("bad.dtb"));
    for (arguments, what, status) in [
        (
            &["host-overlay", "ethernet0", "--tree", "short.dtb"][..],
            "\"short.dtb\": Not a valid flattened device tree: it says that it has",
            1,
        ),
        (&["survey", "none.dtb"], "\"none.dtb\": No such file or directory", 1),
        (
            &["host-overlay", "eth7", "--tree", "board.dtb"],
            "\"board.dtb\": eth7: no such NIC; the tree's are /ethernet@ff0e0000,",
            1,
        ),
        (
            &["host-overlay", "/ethernet@ff0f0000", "--tree", "board.dtb"],
            "\"board.dtb\": /ethernet@ff0f0000 cannot be given to a guest: it is disabled",
            3,
        ),
        (
            &["guest-overlay", "ethernet0", "--tree", "bad.dtb"],
            "/ethernet@ff0e0000: property clocks:",
            3,
        ),
        (
            &["apply", "board.dtb", "other.dtbo"],
            "\"other.dtbo\": The overlay is for other,board, the tree is of maker,board",
            1,
        ),
        (
            &["host-overlay", "ethernet0", "--tree", "board.dtb", "--stream", "5"],
            "/ethernet@ff0e0000: property iommus: the tree says already",
            1,
        ),
    ] {
        let write = ["-o", "out"];
        let with_output = [arguments, if arguments[0] == "survey" { &[] } else { &write }].concat();
        let (text, code) = bench.refuses(&with_output);
        assert!(text.contains(what), "{arguments:?}: {text}");
        assert_eq!(code, Some(status), "{text}");
        assert!(!bench.path().join("out").exists(), "{arguments:?}");
    }
}
