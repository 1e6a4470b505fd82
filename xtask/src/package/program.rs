//! The program of a package: one file that needs no library of the machine it is installed on.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use super::Architecture;
use crate::places::Places;
use crate::process;
use crate::setup::cross::{self, Cross};

/// Makes the C library part of the program, so that it runs on every Linux of its architecture, old or new.
const STATIC: &str = "target-feature=+crt-static";

/// A program that was built, and how it is run here.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    /// What runs it, if this machine cannot by itself.
    qemu: Option<PathBuf>,
}

impl Program {
    /// Builds the program with everything in it, `tidegate demo` included.
    pub(super) fn build(places: &Places, architecture: Architecture) -> Result<Self> {
        let here = Architecture::here()?;
        let program = if architecture == here {
            Self::build_for_here(places)?
        } else {
            Self::build_for_there(places, architecture)?
        };
        // An interpreter is what a program with libraries names; a static one has none.
        let headers =
            process::read(process::command("readelf").arg("--program-headers").arg(&program.path))?;
        ensure!(!headers.contains("INTERP"), "{} is not static", program.path.display());
        Ok(program)
    }

    /// Only the last step, which joins all crates, differs from the ordinary build: libraries are shared with it.
    fn build_for_here(places: &Places) -> Result<Self> {
        let mut cargo = places.cargo();
        cargo.args(["rustc", "--locked", "--profile", "dist", "--package", "tidegate"]);
        process::run(cargo.args(["--bin", "tidegate", "--", "-C", STATIC]))?;
        Ok(Self { path: places.target.join("dist/tidegate"), qemu: None })
    }

    fn build_for_there(places: &Places, architecture: Architecture) -> Result<Self> {
        let Cross { rustc, sysroot, linker, qemu } = cross::ensure(places, architecture)?;
        let target = architecture.target();
        let underscored = target.replace('-', "_");
        let variable = format!("CARGO_TARGET_{}", underscored.to_uppercase());
        let folder = places.cross();
        let mut cargo = places.cargo();
        cargo.env("CARGO_TARGET_DIR", &folder).env("RUSTC", rustc);
        cargo.env(format!("{variable}_LINKER"), &linker).env(format!("CC_{underscored}"), &linker);
        let flags = format!("--sysroot={} -C {STATIC}", sysroot.display());
        cargo.env(format!("{variable}_RUSTFLAGS"), flags).env_remove("RUSTFLAGS");
        cargo.args(["build", "--locked", "--profile", "dist", "--package", "tidegate"]);
        process::run(cargo.args(["--bin", "tidegate", "--target", target]))?;
        let path = folder.join(target).join("dist/tidegate");
        Ok(Self { path, qemu: Some(qemu) })
    }

    /// Returns a command that runs another copy of this program.
    pub(super) fn command(&self, copy: &Path) -> Command {
        let words = self.words(copy);
        let mut command = process::command(words[0]);
        command.args(&words[1..]);
        command
    }

    /// Returns the words that start a copy of this program, for commands that start it themselves.
    pub(super) fn words<'a>(&'a self, copy: &'a Path) -> Vec<&'a OsStr> {
        let qemu = self.qemu.as_deref();
        qemu.into_iter().chain([copy]).map(Path::as_os_str).collect()
    }

    /// Returns what is said of a figure that was measured with more than the program itself.
    pub(super) fn under(&self) -> &'static str {
        if self.qemu.is_some() { ", with qemu's own part" } else { "" }
    }
}
