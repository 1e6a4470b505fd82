//! What Debian's own checker says of a package.

use std::path::Path;

use anyhow::Result;

use crate::process;

/// Runs lintian; whatever it calls an error or a warning fails, but for the reasoned exceptions of
/// `xtask/debian/lintian-overrides` (identity.9).
pub(super) fn lint(package: &Path) -> Result<()> {
    let mut lintian = process::command("lintian");
    // It may run as root here: the package is our own.
    lintian.args(["--allow-root", "--fail-on", "error,warning"]);
    let said = process::read(lintian.arg(package))?;
    print!("{said}");
    println!("lintian finds no error and gives no warning");
    Ok(())
}
