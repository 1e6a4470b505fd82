//! The tree of files that becomes the package.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::Release;
use crate::places::Places;
use crate::process;

/// A file of the checkout, its place in the package and its mode.
struct Item(&'static str, &'static str, u32);

const DOCUMENTATION: &str = "usr/share/doc/tidegate";

const ITEMS: &[Item] = &[
    Item("systemd/tidegate.service", "usr/lib/systemd/system/tidegate.service", 0o644),
    Item("systemd/sysusers.d/tidegate.conf", "usr/lib/sysusers.d/tidegate.conf", 0o644),
    Item("systemd/tmpfiles.d/tidegate.conf", "usr/lib/tmpfiles.d/tidegate.conf", 0o644),
    Item("systemd/tidegate.toml", "etc/tidegate/tidegate.toml", 0o640),
    Item("docs/config.md", "usr/share/doc/tidegate/config.md", 0o644),
    Item("docs/telemetry-envelope.md", "usr/share/doc/tidegate/telemetry-envelope.md", 0o644),
    Item("xtask/debian/copyright", "usr/share/doc/tidegate/copyright", 0o644),
    Item("xtask/debian/lintian-overrides", "usr/share/lintian/overrides/tidegate", 0o644),
];

/// What dpkg runs when the package comes and goes.
const SCRIPTS: &[&str] = &["postinst", "prerm", "postrm"];

/// Stands in every package and its changelog. The address is a placeholder, which lintian tells from a real one:
/// with another one here, its two lines in `xtask/debian/lintian-overrides` go.
const MAINTAINER: &str = "Tidegate developers <tidegate@localhost>";

/// Kept as the administrator left them when a newer package is installed.
const CONFFILES: &str = "/etc/tidegate/tidegate.toml\n";

/// The manual page, which [`super::trial`] holds against the program's own help.
pub(super) const MANUAL: &str = "xtask/debian/tidegate.1";

/// Fills the empty folder `tree` from the checkout and a built program; returns the bytes that it installs.
pub(super) fn fill(tree: &Path, places: &Places, program: &Path, release: &Release) -> Result<u64> {
    let program = fs::read(program).context("cannot read the built program")?;
    write(tree, "usr/bin/tidegate", &program, 0o755)?;
    for Item(source, destination, mode) in ITEMS {
        let source = places.root.join(source);
        let bytes =
            fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
        write(tree, destination, &bytes, *mode)?;
    }
    copy_folder(&places.root.join("mappings"), tree, "usr/share/tidegate/mappings")?;
    copy_folder(&places.root.join("examples"), tree, &format!("{DOCUMENTATION}/examples"))?;
    let changes = gzip(places.root.join("CHANGELOG.md"))?;
    write(tree, &format!("{DOCUMENTATION}/changelog.gz"), &changes, 0o644)?;
    write_packaging_changes(tree, release)?;
    let libraries = third_party(places)?;
    write(tree, &format!("{DOCUMENTATION}/third-party.txt"), libraries.as_bytes(), 0o644)?;
    let manual = gzip(places.root.join(MANUAL))?;
    write(tree, "usr/share/man/man1/tidegate.1.gz", &manual, 0o644)?;
    // Last, as they tell of all the rest.
    let installed_bytes = size_bytes(tree)?;
    let sums = checksums(tree)?;
    write(tree, "DEBIAN/md5sums", sums.as_bytes(), 0o644)?;
    for script in SCRIPTS {
        let source = places.root.join("xtask/debian").join(script);
        let bytes =
            fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
        write(tree, &format!("DEBIAN/{script}"), &bytes, 0o755)?;
    }
    write(tree, "DEBIAN/conffiles", CONFFILES.as_bytes(), 0o644)?;
    let control = control(release, installed_bytes);
    write(tree, "DEBIAN/control", control.as_bytes(), 0o644)?;
    Ok(installed_bytes)
}

/// Lists every file of the tree as Debian wants it, so that `dpkg --verify` finds changed ones.
fn checksums(tree: &Path) -> Result<String> {
    let mut find = process::command("find");
    find.current_dir(tree).args(["etc", "usr", "-type", "f", "-printf", "%p\n"]);
    let files = process::read(&mut find)?;
    let files: BTreeSet<&str> =
        files.lines().filter(|file| !CONFFILES.contains(&format!("/{file}\n"))).collect();
    process::read(process::command("md5sum").current_dir(tree).args(files))
}

fn write(tree: &Path, destination: &str, bytes: &[u8], mode: u32) -> Result<()> {
    let path = tree.join(destination);
    let folder = path.parent().expect("a file in the tree stands in a folder");
    create_folders(tree, folder)?;
    fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(&path, Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", path.display()))
}

/// Creates `folder` and its parents from `tree` down with the mode that packages use, whatever the umask.
fn create_folders(tree: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for level in folder.ancestors().take_while(|level| level.starts_with(tree)) {
        fs::set_permissions(level, Permissions::from_mode(0o755))
            .with_context(|| format!("cannot set the mode of {}", level.display()))?;
    }
    Ok(())
}

fn copy_folder(source: &Path, tree: &Path, destination: &str) -> Result<()> {
    let context = || format!("cannot read {}", source.display());
    if !source.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(source).with_context(context)? {
        let entry = entry.with_context(context)?;
        let name = entry.file_name();
        let destination = format!("{destination}/{}", name.to_string_lossy());
        if entry.file_type().with_context(context)?.is_dir() {
            copy_folder(&entry.path(), tree, &destination)?;
        } else {
            let bytes = fs::read(entry.path()).with_context(context)?;
            write(tree, &destination, &bytes, 0o644)?;
        }
    }
    Ok(())
}

/// Writes the changelog that Debian asks for beside the program's own, and refers to that.
fn write_packaging_changes(tree: &Path, release: &Release) -> Result<()> {
    let Release { version, epoch, .. } = release;
    let mut date = process::command("date");
    date.args(["--utc", "--rfc-email", "--date", &format!("@{epoch}")]);
    let date = process::read(date.env("LC_ALL", "C"))?;
    let text = format!(
        "tidegate ({version}) stable; urgency=medium\n\n  * Changes are listed in changelog.gz.\n\n -- {MAINTAINER}  {date}"
    );
    let plain = tree.join(DOCUMENTATION).join("changelog.Debian");
    fs::write(&plain, text).with_context(|| format!("cannot write {}", plain.display()))?;
    let packed = gzip(plain.clone())?;
    fs::remove_file(&plain).with_context(|| format!("cannot remove {}", plain.display()))?;
    write(tree, &format!("{DOCUMENTATION}/changelog.Debian.gz"), &packed, 0o644)
}

fn gzip(file: PathBuf) -> Result<Vec<u8>> {
    let mut gzip = process::command("gzip");
    let output = gzip
        .args(["-9", "--no-name", "--stdout"])
        .arg(file)
        .output()
        .context("cannot start gzip")?;
    ensure!(output.status.success(), "gzip failed: {}", output.status);
    Ok(output.stdout)
}

/// Lists the libraries inside the program with their licences and homes.
fn third_party(places: &Places) -> Result<String> {
    let mut tree = places.cargo();
    tree.args(["tree", "--locked", "--package", "tidegate", "--edges", "normal"]);
    tree.args(["--prefix", "none", "--no-dedupe", "--format", "{p}\t{l}\t{r}"]);
    let listed = process::read(&mut tree)?;
    let mut text =
        String::from("Libraries inside the program: name, version, licence, source.\n\n");
    let rows: BTreeSet<&str> = listed.lines().filter(|line| !line.contains("(/")).collect();
    for row in rows {
        text.push_str(row);
        text.push('\n');
    }
    Ok(text)
}

/// Describes the package. The program is static, so that it depends on no library.
fn control(release: &Release, installed_bytes: u64) -> String {
    let Release { version, architecture, .. } = release;
    format!(
        "\
Package: tidegate
Version: {version}
Architecture: {}
Maintainer: {MAINTAINER}
Installed-Size: {}
Depends: systemd | systemd-standalone-sysusers, systemd | systemd-standalone-tmpfiles
Section: net
Priority: optional
Description: edge gateway that bridges CoAP, OPC UA, HTTP and MQTT
 Tidegate takes readings from field devices, serves them to local MQTT
 clients and forwards them to a cloud broker. What it has acknowledged is
 on disk, and stays there until the cloud has it.
",
        architecture.debian(),
        installed_bytes.div_ceil(1024)
    )
}

fn size_bytes(folder: &Path) -> Result<u64> {
    let context = || format!("cannot read {}", folder.display());
    let mut sum = 0;
    for entry in fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        let metadata = entry.metadata().with_context(context)?;
        sum += if metadata.is_dir() { size_bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::super::Architecture;
    use super::*;

    #[test]
    fn control_states_version_architecture_and_size() {
        let release = Release {
            program: "0.1.0".to_owned(),
            version: "0.1.0-1".to_owned(),
            architecture: Architecture::Arm64,
            epoch: "0".to_owned(),
        };
        let control = control(&release, 1025);
        for line in ["Version: 0.1.0-1", "Architecture: arm64", "Installed-Size: 2"] {
            assert!(control.lines().any(|found| found == line), "{line} in {control}");
        }
        assert!(!control.contains("libc6"), "{control}");
    }
}
