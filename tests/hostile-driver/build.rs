//! Keeps the program small: it is unpacked into the memory of guests.

fn main() {
    println!("cargo::rustc-link-arg-bins=-Wl,--strip-debug");
    println!("cargo::rerun-if-changed=build.rs");
}
