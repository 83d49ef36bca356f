//! dtc and fdtoverlay (package device-tree-compiler) as the reference.

pub mod crosvm;

use std::io::Write as _;
use std::process::{Command, Stdio};

use dt_overlay::Tree;

/// Compiles source text; `-@` gives it symbols and fixups.
pub fn compile(source: &str) -> Vec<u8> {
    dtc(source.as_bytes(), &["-q", "-@", "-I", "dts", "-O", "dtb"]).0
}

/// What dtc writes, and what it says.
pub fn dtc(input: &[u8], arguments: &[&str]) -> (Vec<u8>, String) {
    let mut dtc = Command::new("dtc")
        .args(arguments)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("dtc runs: package device-tree-compiler");
    let mut stdin = dtc.stdin.take().expect("it was piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = dtc.wait_with_output().expect("dtc ends");
    writer.join().expect("the writer ends").expect("dtc reads its input");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    (output.stdout, said)
}

/// What libfdt makes of the two; `Err` is what it says.
pub fn fdtoverlay(base: &[u8], overlay: &[u8]) -> Result<Vec<u8>, String> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("base"), base).expect("base is written");
    std::fs::write(path("overlay"), overlay).expect("overlay is written");
    let output = Command::new("fdtoverlay")
        .arg("-i")
        .arg(path("base"))
        .arg("-o")
        .arg(path("out"))
        .arg(path("overlay"))
        .output()
        .expect("fdtoverlay runs: package device-tree-compiler");
    if output.status.success() {
        Ok(std::fs::read(path("out")).expect("fdtoverlay wrote it"))
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Both applied, compared byte for byte after sorting.
pub fn apply_like_libfdt(base: &Tree, overlay: &Tree) -> Tree {
    let ours = dt_overlay::apply(base, overlay).expect("our apply");
    let theirs = fdtoverlay(&base.to_dtb(), &overlay.to_dtb()).expect("libfdt's apply");
    let theirs = Tree::parse(&theirs).expect("libfdt's tree is read");
    assert_eq!(ours.normalised().to_dtb(), theirs.normalised().to_dtb());
    ours
}
