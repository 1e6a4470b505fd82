//! The Python environment of the peers, rebuilt when its list of packages changes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::places::Places;
use crate::process;

/// Debian's Python, for which `python3-venv` is installed.
pub(super) const SYSTEM_PYTHON: &str = "/usr/bin/python3";

const REQUIREMENTS: &str = "tests/support/peers/requirements.txt";

/// Returns the environment's Python; `tests/support` looks for it in the same place.
pub(super) fn ensure(places: &Places) -> Result<PathBuf> {
    let folder = places.cache.join("python");
    let python = folder.join("bin/python");
    let stamp = folder.join("requirements.txt");
    let list = places.root.join(REQUIREMENTS);
    let wanted =
        fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) && works(&python) {
        return Ok(python);
    }
    println!("Installing the Python packages of {REQUIREMENTS}");
    let _ = fs::remove_dir_all(&folder);
    process::run(process::command(SYSTEM_PYTHON).args(["-m", "venv"]).arg(&folder))?;
    let mut pip = process::command(&python);
    // The list is complete; what packages ask for beyond it would only be in each other's way.
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.arg("--requirement");
    process::run(pip.arg(&list))?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(python)
}

/// Returns whether the environment still runs; the system's Python may have moved on.
fn works(python: &Path) -> bool {
    process::succeeds(process::command(python).args(["-c", "import bson, paho.mqtt, pika"]))
}
