//! Builds images from what is installed and reads them back with the cpio program.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use netvm_image::{Compression, ImageError, Initramfs, Kernel};

/// Lists an uncompressed archive with GNU cpio, an independent reader of the format.
fn listing(archive: &Path) -> String {
    let file = fs::File::open(archive).expect("the archive was just written");
    let output =
        Command::new("cpio").args(["-itvn"]).stdin(file).output().expect("cpio is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("all names in the image are UTF-8")
}

fn small_image(kernel: &Kernel) -> Initramfs {
    let mut image = Initramfs::new();
    image
        .busybox()
        .program("nft", "nftables")
        .program("modprobe", "kmod")
        .modules(kernel, ["virtio_net", "virtio-pci"])
        .modules_if_present(kernel, ["vfio_virqfd", "no_such_module"])
        .file("/init", "#!/bin/sh\n", 0o755);
    image
}

#[test]
fn write_twice_gives_the_same_bytes_and_cpio_reads_them() {
    let directory = tempfile::tempdir().unwrap();
    let kernel = Kernel::newest().unwrap();
    let (first, second) = (directory.path().join("1"), directory.path().join("2"));

    let manifest = small_image(&kernel).write(&first).unwrap();
    let again = small_image(&kernel).write(&second).unwrap();

    assert_eq!(manifest, again);
    assert!(fs::read(&first).unwrap() == fs::read(&second).unwrap(), "archives differ");
    let list = listing(&first);
    for wanted in ["dev/console", "usr/sbin/nft", "libc.so.6", "virtio_net.ko", "modules.dep.bin"] {
        assert!(list.contains(wanted), "{wanted} is not in\n{list}");
    }
    assert!(!list.contains("no_such_module"));
    assert!(list.lines().any(|line| line.ends_with("bin -> usr/bin")), "{list}");
    assert!(list.lines().all(|line| line.contains(" 0        0 ") || line.contains("root")));
}

#[test]
fn manifest_names_package_version_and_hash_of_every_installed_file() {
    let directory = tempfile::tempdir().unwrap();
    let kernel = Kernel::newest().unwrap();
    let manifest = small_image(&kernel).write(&directory.path().join("image")).unwrap();

    let nft = manifest.files.iter().find(|file| file.path == "usr/sbin/nft").unwrap();
    assert_eq!(nft.package.as_deref(), Some("nftables"));
    assert!(manifest.packages.contains_key("nftables"));
    let sum = Command::new("sha256sum").arg("/usr/sbin/nft").output().unwrap();
    assert!(String::from_utf8(sum.stdout).unwrap().starts_with(&nft.sha256));
    let unowned: BTreeSet<&str> = manifest
        .files
        .iter()
        .filter(|file| file.package.is_none())
        .map(|file| file.path.rsplit('/').next().unwrap())
        .filter(|name| !name.starts_with("modules."))
        .collect();
    assert_eq!(unowned, BTreeSet::from(["init"]), "every other file comes from a package");
    assert_eq!(manifest.modified().count(), 0);
    assert_eq!(manifest.kernel.as_deref(), Some(kernel.version()));
}

#[test]
fn busybox_applet_of_a_packed_program_is_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let kernel = Kernel::newest().unwrap();
    let manifest = small_image(&kernel).write(&directory.path().join("image")).unwrap();
    assert_eq!(manifest.links.get("usr/bin/sh").map(String::as_str), Some("/bin/busybox"));
    // kmod's modprobe is a link to kmod, and stays one.
    let modprobe = manifest.links.get("usr/sbin/modprobe").unwrap();
    assert!(modprobe.ends_with("kmod"), "{modprobe}");
}

#[test]
fn zstd_image_unpacks_to_the_plain_one() {
    let directory = tempfile::tempdir().unwrap();
    let (plain, packed) = (directory.path().join("plain"), directory.path().join("packed"));
    Initramfs::new().busybox().write(&plain).unwrap();
    Initramfs::new().busybox().compression(Compression::Zstd(3)).write(&packed).unwrap();
    let unpacked = zstd::decode_all(fs::File::open(&packed).unwrap()).unwrap();
    assert!(unpacked == fs::read(&plain).unwrap());
}

#[test]
fn missing_programs_are_named_all_at_once_and_nothing_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image");
    let error = Initramfs::new()
        .program("no-such-program", "package-one")
        .copy("/no/such/file", "/a", Some("package-two"))
        .binary("/no/such/binary")
        .write(&path)
        .unwrap_err();
    assert!(matches!(error, ImageError::Missing(_)));
    let message = error.to_string();
    assert!(
        message.contains("apt-get install --no-install-recommends package-one package-two"),
        "{message}"
    );
    assert!(message.contains("/no/such/binary"), "{message}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn script_instead_of_a_binary_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("script");
    fs::write(&script, "#!/bin/sh\n").unwrap();
    let error = Initramfs::new().binary(&script).write(&directory.path().join("image"));
    assert!(matches!(error, Err(ImageError::Elf { .. })));
}
