//! Says where the binary under test will be, which cargo tells only to the tests of its own crate: two directories above the
//! one that every build script has (target/PROFILE/build/NAME/out).

use std::env;
use std::path::PathBuf;

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo gives a build script its directory"));
    let profile = out.ancestors().nth(3).expect("it is in target/PROFILE/build");
    println!("cargo::rustc-env=STEADFAST={}", profile.join("steadfast").display());
    println!("cargo::rerun-if-changed=build.rs");
}
