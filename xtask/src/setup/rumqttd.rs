//! The pinned rumqttd, a broker to compare with: built from source, only where it is measured.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::places::Places;
use crate::process;

const VERSION: &str = "0.20.0";

/// Returns the program, after building it if it is not there.
pub(crate) fn ensure(places: &Places) -> Result<PathBuf> {
    let folder = places.cache.join(format!("rumqttd-{VERSION}"));
    let program = folder.join("bin/rumqttd");
    if program.is_file() {
        return Ok(program);
    }
    println!("Building rumqttd {VERSION}, which takes minutes");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut cargo = places.cargo();
    cargo.env("CARGO_TARGET_DIR", places.cache.join("rumqttd-target"));
    // Without its lock file, whose `metrics` today's compiler refuses.
    cargo.args(["install", "--root"]).arg(&folder);
    process::run(cargo.arg(format!("rumqttd@{VERSION}")))?;
    let _ = fs::remove_dir_all(places.cache.join("rumqttd-target"));
    Ok(program)
}
