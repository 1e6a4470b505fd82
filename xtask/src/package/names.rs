//! Names that the static program resolves, and what it loads for them: nothing (identity.11).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::program::Program;
use crate::places::Places;
use crate::process;

const SCRIPT: &str = "xtask/src/package/names.py";

/// The names that the script's servers have.
const NAMES: &[&str] = &["by-hosts.example", "by-dns.example"];

/// Runs the gateway where `/etc/nsswitch.conf` asks for modules, with servers by names; needs root.
pub(super) fn resolve(places: &Places, copy: &Path, program: &Program) -> Result<()> {
    if !process::is_root() {
        println!("names are not tried: only root can give a program system files of its own");
        return Ok(());
    }
    let folder = places.target.join("debian/names");
    let context = || format!("cannot make {}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(context)?;
    }
    fs::create_dir_all(&folder).with_context(context)?;
    let trace = folder.join("trace");
    let mut unshare = process::command("unshare");
    unshare.args(["--mount", "--net", "--", "/usr/bin/python3"]);
    unshare.arg(places.root.join(SCRIPT)).arg(&folder);
    // As a child of the gateway, so that the script can end that. Under qemu it shows what both open.
    unshare.args(["strace", "-D", "-f", "-qq", "-e", "trace=open,openat,openat2"]);
    unshare.arg("-o").arg(&trace);
    let said = process::read(unshare.args(program.words(copy)))?;
    for name in NAMES {
        let resolved = said.lines().any(|line| line.strip_prefix("resolved ") == Some(name));
        ensure!(resolved, "the gateway did not find {name}; it said:\n{said}");
    }
    let opened = fs::read_to_string(&trace).context("strace left nothing")?;
    ensure!(opened.contains("/etc/resolv.conf"), "the trace does not show how names are found");
    if let Some(library) = opened.lines().find(|line| is_library(line)) {
        anyhow::bail!("a library is loaded: {library}");
    }
    println!("names of the hosts file and of DNS are found, and no library is loaded");
    Ok(())
}

/// Returns whether a traced call opens a shared library, or looks for one.
fn is_library(line: &str) -> bool {
    let path = line.split('"').nth(1).unwrap_or_default();
    let file = path.rsplit('/').next().unwrap_or_default();
    file.ends_with(".so") || file.contains(".so.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_told_from_other_files() {
        #[rustfmt::skip]
        let cases = [
            // call                                                                     library
            (r#"7 openat(AT_FDCWD, "/lib/libnss_mdns4_minimal.so.2", O_RDONLY) = 3"#,  true),
            (r#"7 openat(AT_FDCWD, "/etc/ld.so.cache", O_RDONLY) = -1 ENOENT"#,        true),
            (r#"7 openat(AT_FDCWD, "/lib/libc.so", O_RDONLY) = 3"#,                    true),
            (r#"7 openat(AT_FDCWD, "/etc/resolv.conf", O_RDONLY) = 3"#,                false),
            (r#"7 openat(AT_FDCWD, "/data/a.solid", O_RDONLY) = 3"#,                   false),
            ("7 +++ exited with 0 +++",                                                  false),
        ];
        for (call, expected) in cases {
            assert_eq!(is_library(call), expected, "{call}");
        }
    }
}
