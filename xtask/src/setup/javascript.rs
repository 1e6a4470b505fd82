//! The JavaScript packages of the peers, installed anew when their list changes.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::places::Places;
use crate::process;

const PEERS: &str = "tests/support/peers";

/// The packages, and what they pull in by version and checksum.
const FILES: [&str; 2] = ["package.json", "package-lock.json"];

/// Returns the folder that holds `node_modules`; `tests/support` looks for it in the same place.
pub(super) fn ensure(places: &Places) -> Result<PathBuf> {
    let folder = places.cache.join("javascript");
    // Written last, so that what was cut short is made anew.
    let stamp = folder.join("installed");
    let mut wanted = String::new();
    for file in FILES {
        let list = places.root.join(PEERS).join(file);
        wanted += &fs::read_to_string(&list)
            .with_context(|| format!("cannot read {}", list.display()))?;
    }
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(folder);
    }
    println!("Installing the JavaScript packages of {PEERS}");
    let context = || format!("cannot fill {}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(context)?;
    }
    fs::create_dir_all(&folder).with_context(context)?;
    for file in FILES {
        fs::copy(places.root.join(PEERS).join(file), folder.join(file)).with_context(context)?;
    }
    let npm = process::find("npm").context("npm is not installed")?;
    let mut npm = process::command(npm);
    npm.current_dir(&folder).args([
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--silent",
    ]);
    process::run(&mut npm)?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(folder)
}
