//! `cargo xtask package`: a Debian package of this machine's architecture, and the proof that it works.

mod machine;
mod stage;
mod trial;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::places::Places;
use crate::process;

/// How far the finished package is tried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trial {
    /// Unpacked into a folder, its program run from there.
    Unpack,
    /// Also installed and purged on this machine, as root.
    Install,
    /// Also installed, run as a service and purged in a Debian of its own, as root.
    Service,
}

/// What the package says about itself.
#[derive(Debug)]
struct Release {
    /// Version of the program.
    program: String,
    /// Version of the package: Debian's spelling of it, and the packaging's own number.
    version: String,
    architecture: String,
    /// Time of the commit, so that one commit gives one package, byte for byte.
    epoch: String,
}

/// Builds the package and tries it out; prints where it is.
pub(crate) fn run(places: &Places, trial: Trial) -> Result<()> {
    let _lock = places.lock()?;
    places.adopt_target()?;
    build_and_try(places, trial)
}

/// As [`run`], for a caller that holds the lock.
pub(crate) fn build_and_try(places: &Places, trial: Trial) -> Result<()> {
    let mut cargo = places.cargo();
    process::run(cargo.args(["build", "--locked", "--profile", "dist", "--package", "tidegate"]))?;
    let release = Release::of(places)?;
    let package = build(places, &release)?;
    trial::unpacked(places, &package, &release)?;
    match trial {
        Trial::Unpack => {}
        Trial::Install => trial::installed(&package)?,
        Trial::Service => machine::service(places, &package)?,
    }
    println!("{}", package.display());
    Ok(())
}

fn build(places: &Places, release: &Release) -> Result<PathBuf> {
    let folder = places.target.join("debian");
    let tree = folder.join("tree");
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| format!("cannot empty {}", tree.display()))?;
    }
    stage::fill(&tree, places, release)?;
    let Release { version, architecture, epoch, .. } = release;
    let package = folder.join(format!("tidegate_{version}_{architecture}.deb"));
    let mut build = process::command("dpkg-deb");
    build.args(["--root-owner-group", "--build"]).arg(&tree).arg(&package);
    process::read(build.env("SOURCE_DATE_EPOCH", epoch))?;
    Ok(package)
}

impl Release {
    fn of(places: &Places) -> Result<Self> {
        let package_id = process::read(places.cargo().args(["pkgid", "--package", "tidegate"]))?;
        let (_, program) = package_id
            .trim()
            .rsplit_once(['#', '@'])
            .context("Cargo names no version of tidegate")?;
        let architecture = process::read(process::command("dpkg").arg("--print-architecture"))?;
        let mut git = process::command("git");
        git.current_dir(&places.root).args(["log", "-1", "--format=%ct"]);
        Ok(Self {
            program: program.to_owned(),
            // Debian sorts what follows `~` before the release itself.
            version: format!("{}-1", program.replace('-', "~")),
            architecture: architecture.trim().to_owned(),
            epoch: process::read(&mut git)?.trim().to_owned(),
        })
    }
}
