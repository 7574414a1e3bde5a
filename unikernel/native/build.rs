//! Links the kernel by link.ld, at fixed addresses. The library and the tests on the host are left as they are.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=link.ld");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let folder = env::var("CARGO_MANIFEST_DIR").expect("cargo sets this");
        println!("cargo:rustc-link-arg-bins=-T{folder}/link.ld");
        println!("cargo:rustc-link-arg-bins=--no-pie"); // uhyve puts an image that can be moved elsewhere
        println!("cargo:rustc-link-arg-bins=--icf=all"); // functions whose code is the same are kept once
        // In the file, segments need not begin with a page: loaders copy them.
        println!("cargo:rustc-link-arg-bins=-zmax-page-size=512");
    }
}
