//! Builds the BPF programs and leaves the object in `OUT_DIR/hostfw`.

use aya_build::{Package, Toolchain};

fn main() -> anyhow::Result<()> {
    // The standard library for bpfel-unknown-none is built from source, which
    // a stable compiler only does when asked twice. Set here and nowhere else:
    // it would change how the host's crates compile.
    // SAFETY: a build script's main thread is its only one.
    unsafe { std::env::set_var("RUSTC_BOOTSTRAP", "1") };
    // aya-build watches hostfw-ebpf itself, but nothing of what that is made of.
    println!("cargo:rerun-if-changed=../hostfw-common");
    println!("cargo:rerun-if-changed=../Cargo.lock");
    let root_dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../hostfw-ebpf");
    aya_build::build_ebpf(
        [Package {
            name: "hostfw-ebpf",
            root_dir,
            ..Default::default()
        }],
        Toolchain::Custom("1.95.0"),
    )
}
