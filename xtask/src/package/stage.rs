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
    Item("xtask/debian/postinst", "DEBIAN/postinst", 0o755),
    Item("xtask/debian/prerm", "DEBIAN/prerm", 0o755),
    Item("xtask/debian/postrm", "DEBIAN/postrm", 0o755),
];

const MAINTAINER: &str = "The Tidegate developers <tidegate@localhost>";

/// Kept as the administrator left them when a newer package is installed.
const CONFFILES: &str = "/etc/tidegate/tidegate.toml\n";

/// Fills the empty folder `tree` from the checkout and the `dist` build.
pub(super) fn fill(tree: &Path, places: &Places, release: &Release) -> Result<()> {
    let program =
        fs::read(places.target.join("dist/tidegate")).context("cannot read the dist build")?;
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
    write(tree, "DEBIAN/conffiles", CONFFILES.as_bytes(), 0o644)?;
    // Last, as it states the size of all the rest.
    let control = control(release, &program, size_bytes(tree)?);
    write(tree, "DEBIAN/control", control.as_bytes(), 0o644)
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

fn control(release: &Release, program: &[u8], size_bytes: u64) -> String {
    let Release { version, architecture, .. } = release;
    let libc =
        glibc_needed(program).map_or("libc6".to_owned(), |minor| format!("libc6 (>= 2.{minor})"));
    format!(
        "\
Package: tidegate
Version: {version}
Architecture: {architecture}
Maintainer: {MAINTAINER}
Installed-Size: {}
Depends: {libc}, libgcc-s1, systemd | systemd-standalone-sysusers, systemd | systemd-standalone-tmpfiles
Section: net
Priority: optional
Description: edge gateway that bridges CoAP, OPC UA, HTTP and MQTT
 Tidegate takes readings from field devices, serves them to local MQTT
 clients and forwards them to a cloud broker. What it has acknowledged is
 on disk, and stays there until the cloud has it.
",
        size_bytes.div_ceil(1024)
    )
}

/// Returns the newest minor version of glibc 2 whose symbols the program asks for.
fn glibc_needed(program: &[u8]) -> Option<u32> {
    const MARK: &[u8] = b"GLIBC_2.";
    let starts = program.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK);
    let minors = starts.filter_map(|(at, _)| {
        let digits = program[at + MARK.len()..].iter().take_while(|byte| byte.is_ascii_digit());
        let text: String = digits.map(|byte| char::from(*byte)).collect();
        text.parse().ok()
    });
    minors.max()
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
    use super::*;

    #[test]
    fn the_newest_glibc_symbol_decides() {
        let program = b"\x7fELF\0GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.17\0GLIBC_PRIVATE\0";
        assert_eq!(glibc_needed(program), Some(34));
        assert_eq!(glibc_needed(b"static"), None);
    }

    #[test]
    fn control_states_version_and_size() {
        let release = Release {
            program: "0.1.0".to_owned(),
            version: "0.1.0-1".to_owned(),
            architecture: "arm64".to_owned(),
            epoch: "0".to_owned(),
        };
        let control = control(&release, b"GLIBC_2.36\0", 1025);
        for line in ["Version: 0.1.0-1", "Architecture: arm64", "Installed-Size: 2"] {
            assert!(control.lines().any(|found| found == line), "{line} in {control}");
        }
        assert!(control.contains("libc6 (>= 2.36)"), "{control}");
    }
}
