//! Trying a finished package out: unpacked in a folder, and installed for real.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::Release;
use crate::places::Places;
use crate::process;

const CONFIG: &str = "etc/tidegate/tidegate.toml";

/// Unpacks the package and runs its program on its own configuration (main.18).
pub(super) fn unpacked(places: &Places, package: &Path, release: &Release) -> Result<()> {
    let tree = places.target.join("debian/unpacked");
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| format!("cannot empty {}", tree.display()))?;
    }
    process::read(process::command("dpkg-deb").arg("--extract").arg(package).arg(&tree))?;
    let program = tree.join("usr/bin/tidegate");
    let version = process::read(process::command(&program).arg("--version"))?;
    ensure!(
        version.split_whitespace().any(|word| word == release.program),
        "the packaged program calls itself {version:?}, not {}",
        release.program
    );
    let mode = fs::metadata(tree.join(CONFIG))
        .context("the configuration is missing")?
        .permissions()
        .mode();
    ensure!(mode & 0o777 == 0o640, "{CONFIG} has mode {mode:o}");
    check(&program, &tree.join(CONFIG))
}

/// Installs the package, looks at what it left, and purges it again; needs root.
///
/// # Errors
///
/// Refuses, with nothing touched, where Tidegate is installed already.
pub(super) fn installed(package: &Path) -> Result<()> {
    ensure!(process::is_root(), "only root can install a package");
    let mut query = process::command("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status}", "tidegate"]);
    let status = process::read(&mut query).unwrap_or_default();
    ensure!(
        status.is_empty() || status == "not-installed",
        "tidegate is {status} here; a trial would purge its data"
    );
    let installed = install_and_look(package);
    let purged = process::run(process::command("dpkg").args(["--purge", "tidegate"]));
    installed.and(purged)?;
    for folder in ["/etc/tidegate", "/var/lib/tidegate"] {
        ensure!(!Path::new(folder).exists(), "{folder} is still there after the purge");
    }
    Ok(())
}

fn install_and_look(package: &Path) -> Result<()> {
    process::run(process::command("dpkg").arg("--install").arg(package))?;
    let uid: u32 = process::read(process::command("id").args(["--user", "tidegate"]))?
        .trim()
        .parse()
        .context("the user tidegate has no number")?;
    let data = fs::metadata("/var/lib/tidegate").context("the data folder is missing")?;
    ensure!(
        data.uid() == uid && data.mode() & 0o777 == 0o700,
        "the data folder is not the gateway's alone"
    );
    let config = Path::new("/").join(CONFIG);
    let mode = fs::metadata(&config).context("the configuration is missing")?.mode();
    ensure!(mode & 0o777 == 0o640, "{} has mode {mode:o}", config.display());
    check(Path::new("/usr/bin/tidegate"), &config)?;
    // As the service would run it: the gateway's user can read what it needs.
    let mut as_user = process::command("setpriv");
    as_user.args([
        "--reuid=tidegate",
        "--regid=tidegate",
        "--init-groups",
        "tidegate",
        "check",
        "-c",
    ]);
    process::run(as_user.arg(&config))
}

fn check(program: &Path, config: &Path) -> Result<()> {
    process::run(process::command(program).args(["check", "-c"]).arg(config))
}
