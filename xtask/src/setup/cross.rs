//! A compiler for another architecture: Debian's Rust, its standard library for that architecture, gcc and qemu.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::debian;
use crate::package::Architecture;
use crate::places::Places;
use crate::process;

/// Debian's current Rust; its package `rustc` is as old as the release.
const COMPILER: &str = "rustc-web";

/// The standard library that goes with it. Its package of another architecture cannot be installed beside our own,
/// but it can be unpacked.
const LIBRARY: &str = "libstd-rust-web-dev";

/// Checksums of the packages we know, for machines whose list of the other architecture is behind.
const CHECKSUMS: &str = "xtask/debian/libstd.sha256";

/// What builds and runs programs of another architecture.
#[derive(Debug)]
pub(crate) struct Cross {
    /// The compiler.
    pub(crate) rustc: PathBuf,
    /// The folder with the standard libraries of both architectures.
    pub(crate) sysroot: PathBuf,
    /// Compiles C and links, by a name on the path.
    pub(crate) linker: String,
    /// Runs what was built.
    pub(crate) qemu: PathBuf,
}

/// Installs what is missing.
///
/// # Errors
///
/// Says which packages are missing if this is not root.
pub(crate) fn ensure(places: &Places, architecture: Architecture) -> Result<Cross> {
    let gcc = format!("gcc-{}", architecture.gnu());
    let headers = format!("libc6-dev-{}-cross", architecture.debian());
    debian::ensure_packages(&[COMPILER, &gcc, &headers, "qemu-user-static"])?;
    let mut query = process::command("dpkg-query");
    let version = process::read(query.args(["--show", "--showformat=${Version}", COMPILER]))?;
    let found = |program: &str| {
        process::find(program).with_context(|| format!("{program} is not installed"))
    };
    Ok(Cross {
        rustc: PathBuf::from("/usr/bin/rustc"),
        sysroot: ensure_sysroot(places, architecture, version.trim())?,
        linker: format!("{}-gcc", architecture.gnu()),
        qemu: found(architecture.qemu())?,
    })
}

/// Makes the folder of standard libraries: this machine's by links, the other's unpacked.
fn ensure_sysroot(places: &Places, architecture: Architecture, version: &str) -> Result<PathBuf> {
    let folder = places.cache.join("cross").join(architecture.debian());
    let sysroot = folder.join("sysroot");
    // Written last, so that what was cut short is made anew.
    let stamp = folder.join("version");
    if fs::read_to_string(&stamp).is_ok_and(|unpacked| unpacked == version) {
        return Ok(sysroot);
    }
    println!("Unpacking Rust's standard library {version} for {}", architecture.debian());
    let context = || format!("cannot fill {}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(context)?;
    }
    let made = sysroot.join("lib/rustlib");
    fs::create_dir_all(&made).with_context(context)?;
    let package = download(places, architecture, version, &folder)?;
    let unpacked = folder.join("unpacked");
    process::read(process::command("dpkg-deb").arg("--extract").arg(&package).arg(&unpacked))?;
    let target = architecture.target();
    fs::rename(unpacked.join("usr/lib/rustlib").join(target), made.join(target))
        .with_context(|| format!("{LIBRARY} brought no {target}"))?;
    for entry in fs::read_dir("/usr/lib/rustlib").with_context(context)? {
        let entry = entry.with_context(context)?;
        symlink(entry.path(), made.join(entry.file_name())).with_context(context)?;
    }
    fs::remove_dir_all(&unpacked).with_context(context)?;
    fs::remove_file(&package).with_context(context)?;
    fs::write(&stamp, version).with_context(context)?;
    Ok(sysroot)
}

/// Fetches the package of the library: by its checksum if we know it, else by the lists of its architecture.
fn download(
    places: &Places,
    architecture: Architecture,
    version: &str,
    folder: &Path,
) -> Result<PathBuf> {
    let file = format!("{LIBRARY}_{version}_{}.deb", architecture.debian());
    let known = places.root.join(CHECKSUMS);
    let known =
        fs::read_to_string(&known).with_context(|| format!("cannot read {}", known.display()))?;
    match checksum(&known, &file) {
        Some(checksum) => download_known(checksum, &file, folder)?,
        None => download_listed(architecture, version, folder)?,
    }
    let package = folder.join(&file);
    ensure!(package.exists(), "apt-get left no {file}");
    Ok(package)
}

/// Fetches it from where the compiler's own package lies.
fn download_known(checksum: &str, file: &str, folder: &Path) -> Result<()> {
    let mut print = process::command("apt-get");
    let said = process::read(print.args(["--print-uris", "download", COMPILER]))?;
    let beside = said
        .split('\'')
        .nth(1)
        .and_then(|address| address.rsplit_once('/'))
        .with_context(|| format!("apt-get knows no address of {COMPILER}: {said}"))?
        .0;
    let mut fetch = process::command("/usr/lib/apt/apt-helper");
    fetch.args(["download-file", &format!("{beside}/{file}")]).arg(folder.join(file));
    process::read(fetch.arg(format!("SHA256:{checksum}")))?;
    Ok(())
}

/// Fetches it by lists of packages of our own: the machine's know its own architecture, and stay so.
fn download_listed(architecture: Architecture, version: &str, folder: &Path) -> Result<()> {
    let lists = folder.join("lists");
    fs::create_dir_all(lists.join("partial"))
        .with_context(|| format!("cannot make {}", lists.display()))?;
    let name = architecture.debian();
    let apt_get = |words: &[&str]| {
        let mut apt_get = process::command("apt-get");
        apt_get.current_dir(folder).arg("--option").arg(format!("APT::Architecture={name}"));
        apt_get.arg("--option").arg(format!("APT::Architectures::={name}"));
        apt_get.arg("--option").arg(format!("Dir::State::lists={}", lists.display()));
        apt_get.arg("--option").arg(format!("Dir::Cache={}", folder.display()));
        apt_get.args(["--option", "Dir::State::status=/dev/null"]);
        process::read(apt_get.args(words))
    };
    apt_get(&["update"])?;
    apt_get(&["download", &format!("{LIBRARY}={version}")])?;
    fs::remove_dir_all(&lists).with_context(|| format!("cannot remove {}", lists.display()))
}

/// Returns the checksum of a file in a list as `sha256sum` writes it.
fn checksum<'a>(list: &'a str, file: &str) -> Option<&'a str> {
    list.lines().find_map(|line| line.strip_suffix(file)?.strip_suffix("  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_found_by_the_whole_name() {
        let list = "# comment\n12ab  a_1_arm64.deb\n34cd  a_1_armhf.deb\n";
        assert_eq!(checksum(list, "a_1_armhf.deb"), Some("34cd"));
        assert_eq!(checksum(list, "_1_armhf.deb"), None);
        assert_eq!(checksum(list, "a_2_armhf.deb"), None);
    }
}
