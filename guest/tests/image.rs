//! netvm's image, built from what is installed.

use std::fs;

use netvm_image::image::{self, Options};

/// Most that the image may take in memory once unpacked, in bytes.
const MAX_UNPACKED: u64 = 120 << 20;

#[test]
fn build_twice_gives_the_same_bytes_and_show_accepts_them() {
    let directory = tempfile::tempdir().unwrap();
    let build = |name: &str| {
        let options = Options::new(directory.path().join(name)).unwrap();
        image::build(&options, &mut |_| {}).unwrap()
    };
    let (first, second) = (build("1"), build("2"));

    assert!(fs::read(&first.initramfs).unwrap() == fs::read(&second.initramfs).unwrap());
    for file in ["vmlinuz", "manifest.json"] {
        let read = |name: &str| fs::read(directory.path().join(name).join(file)).unwrap();
        assert!(read("1") == read("2"), "{file} differs");
    }
    assert_eq!(image::show(&directory.path().join("1")).unwrap(), first);
    let manifest = &first.manifest;
    eprintln!("{} bytes unpacked, {} files", manifest.unpacked, manifest.files.len());
    assert!(manifest.unpacked < MAX_UNPACKED, "{} bytes unpacked", manifest.unpacked);
    for driver in [
        "e1000e",
        "igb",
        "igc",
        "ixgbe",
        "i40e",
        "ice",
        "mlx5_core",
        "bnxt_en",
        "tg3",
        "r8169",
        "atlantic",
        "vmxnet3",
        "virtio_net",
        "r8152",
        "asix",
        "realtek",
    ] {
        let name = format!("/{driver}.ko");
        assert!(manifest.files.iter().any(|file| file.path.ends_with(&name)), "no {driver}");
    }
    for package in ["busybox-static", "dnsmasq-base", "nftables", "iproute2", "kmod"] {
        assert!(manifest.packages.contains_key(package), "no {package}");
    }
}

#[test]
fn show_changed_initramfs_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let image = image::build(&Options::new(directory.path()).unwrap(), &mut |_| {}).unwrap();
    let mut bytes = fs::read(&image.initramfs).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&image.initramfs, bytes).unwrap();

    let error = image::show(directory.path()).unwrap_err();

    assert!(error.to_string().contains("build the image again"), "{error}");
}
