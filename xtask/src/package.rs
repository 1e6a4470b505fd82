//! `cargo xtask package`: a Debian package for each architecture, and the proof that they work.

mod architecture;
mod calls;
mod lint;
mod machine;
mod names;
mod program;
mod stage;
mod trial;

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

pub(crate) use self::architecture::Architecture;
use self::program::Program;
use crate::places::Places;
use crate::process;
use crate::setup::debian;

/// How far a finished package is tried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trial {
    /// Unpacked into a folder, its program run from there.
    Unpack,
    /// Also installed and purged on this machine, as root.
    Install,
    /// Also installed, run as a service, upgraded, removed and purged in a Debian of its own, as root.
    Service,
}

/// Which packages, and what becomes of them.
#[derive(Debug)]
pub(crate) struct Options {
    /// None stands for this machine's architecture.
    pub(crate) architectures: Option<Vec<Architecture>>,
    pub(crate) trial: Trial,
}

/// What a package says about itself.
#[derive(Debug)]
struct Release {
    /// Version of the program.
    program: String,
    /// Version of the package: Debian's spelling of it, and the packaging's own number.
    version: String,
    architecture: Architecture,
    /// Time of the commit, so that one commit gives one package, byte for byte.
    epoch: String,
}

/// A finished package.
#[derive(Debug)]
struct Package {
    path: PathBuf,
    /// What it takes on disk once it is installed.
    installed_bytes: u64,
}

impl Options {
    /// Reads the words behind `cargo xtask package`.
    ///
    /// # Errors
    ///
    /// Names the first word that is wrong.
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self { architectures: None, trial: Trial::Unpack };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--arch" => {
                    let name = words.next().context("--arch needs a name")?;
                    options.architectures = Some(match *name {
                        "all" => Architecture::ALL.to_vec(),
                        name => vec![Architecture::named(name).with_context(|| {
                            format!("`{name}` is not amd64, arm64, armhf or all")
                        })?],
                    });
                }
                "--try-install" => options.trial = Trial::Install,
                "--try-service" => options.trial = Trial::Service,
                word => bail!("unknown option `{word}`"),
            }
        }
        Ok(options)
    }
}

/// Builds packages and tries them out; prints where they are and how large.
pub(crate) fn run(places: &Places, options: &Options) -> Result<()> {
    let _lock = places.lock()?;
    places.adopt_target()?;
    build_and_try(places, options)
}

/// As [`run`], for a caller that holds the lock.
pub(crate) fn build_and_try(places: &Places, options: &Options) -> Result<()> {
    let here = Architecture::here()?;
    let architectures = options.architectures.clone().unwrap_or_else(|| vec![here]);
    ensure!(
        options.trial == Trial::Unpack || architectures.contains(&here),
        "only a package for {} can be installed here",
        here.debian()
    );
    debian::ensure_packages(&["binutils", "lintian", "strace"])?;
    for architecture in architectures {
        let start = Instant::now();
        let program = Program::build(places, architecture)?;
        let built_s = start.elapsed().as_secs();
        let release = Release::of(places, architecture)?;
        let package = build(places, &program, &release)?;
        println!(
            "{}: {} bytes, {} bytes installed, program built in {built_s} s",
            package.path.display(),
            fs::metadata(&package.path).context("cannot find the package")?.len(),
            package.installed_bytes,
        );
        lint::lint(&package.path)?;
        trial::unpacked(places, &package.path, &program, &release)?;
        if architecture == here {
            match options.trial {
                Trial::Unpack => {}
                Trial::Install => trial::installed(&package.path)?,
                Trial::Service => {
                    let next = build(places, &program, &release.next())?;
                    machine::service(places, &package.path, &next.path)?;
                }
            }
        }
    }
    Ok(())
}

fn build(places: &Places, program: &Program, release: &Release) -> Result<Package> {
    let folder = places.target.join("debian");
    let tree = folder.join("tree");
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| format!("cannot empty {}", tree.display()))?;
    }
    let installed_bytes = stage::fill(&tree, places, &program.path, release)?;
    let Release { version, architecture, epoch, .. } = release;
    let path = folder.join(format!("tidegate_{version}_{}.deb", architecture.debian()));
    let mut build = process::command("dpkg-deb");
    build.args(["--root-owner-group", "--build"]).arg(&tree).arg(&path);
    process::read(build.env("SOURCE_DATE_EPOCH", epoch))?;
    Ok(Package { path, installed_bytes })
}

impl Release {
    fn of(places: &Places, architecture: Architecture) -> Result<Self> {
        let package_id = process::read(places.cargo().args(["pkgid", "--package", "tidegate"]))?;
        let (_, program) = package_id
            .trim()
            .rsplit_once(['#', '@'])
            .context("Cargo names no version of tidegate")?;
        let mut git = process::command("git");
        git.current_dir(&places.root).args(["log", "-1", "--format=%ct"]);
        Ok(Self {
            program: program.to_owned(),
            // Debian sorts what follows `~` before the release itself.
            version: format!("{}-1", program.replace('-', "~")),
            architecture,
            epoch: process::read(&mut git)?.trim().to_owned(),
        })
    }

    /// Returns a release with the same program whose package is newer.
    fn next(&self) -> Self {
        Self {
            program: self.program.clone(),
            version: format!("{}.1", self.version),
            architecture: self.architecture,
            epoch: self.epoch.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_name_architectures_and_one_trial() {
        let options = Options::parse(&[]).unwrap();
        assert!(options.architectures.is_none() && options.trial == Trial::Unpack);
        let options = Options::parse(&["--arch", "armhf", "--try-service"]).unwrap();
        assert_eq!(options.architectures, Some(vec![Architecture::Armhf]));
        assert_eq!(options.trial, Trial::Service);
        let options = Options::parse(&["--arch", "all"]).unwrap();
        assert_eq!(options.architectures, Some(Architecture::ALL.to_vec()));
        for wrong in [&["--arch"][..], &["--arch", "mips"], &["--quick"]] {
            assert!(Options::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
