//! Trying a finished package out: unpacked in a folder, and installed for real.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::program::Program;
use super::stage::MANUAL;
use super::{Release, calls, names};
use crate::demo;
use crate::places::Places;
use crate::process;

const CONFIG: &str = "etc/tidegate/tidegate.toml";

/// How long a gateway may take to be ready; qemu makes it slow.
const READY_PATIENCE: Duration = Duration::from_secs(60);

/// How long a gateway stands idle before its memory is measured.
const IDLE: Duration = Duration::from_secs(5);

/// Unpacks the package and runs its program on its own configuration, as the demo, and on other machines' names.
pub(super) fn unpacked(
    places: &Places,
    package: &Path,
    program: &Program,
    release: &Release,
) -> Result<()> {
    let tree = places.target.join("debian/unpacked");
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| format!("cannot empty {}", tree.display()))?;
    }
    process::read(process::command("dpkg-deb").arg("--extract").arg(package).arg(&tree))?;
    let copy = tree.join("usr/bin/tidegate");
    let version = process::read(program.command(&copy).arg("--version"))?;
    ensure!(
        version.split_whitespace().any(|word| word == release.program),
        "the packaged program calls itself {version:?}, not {}",
        release.program
    );
    let manual = fs::read_to_string(places.root.join(MANUAL)).context("cannot read the manual")?;
    compare_manual(&manual, &process::read(program.command(&copy).arg("--help"))?)?;
    let mode = fs::metadata(tree.join(CONFIG))
        .context("the configuration is missing")?
        .permissions()
        .mode();
    ensure!(mode & 0o777 == 0o640, "{CONFIG} has mode {mode:o}");
    process::run(program.command(&copy).args(["check", "-c"]).arg(tree.join(CONFIG)))?;
    let summary = process::read(program.command(&copy).args(["demo", "--for", "10s"]))?;
    println!("{}", summary.trim_end());
    demo::judge(&summary)?;
    memory(&tree, program)?;
    names::resolve(places, &copy, program)?;
    if program.under().is_empty() { calls::stay_inside_the_filter(places, &copy) } else { Ok(()) }
}

/// Holds the manual page against the program's help: the same commands, in the same order.
fn compare_manual(manual: &str, help: &str) -> Result<()> {
    let described: Vec<&str> =
        manual.lines().filter_map(|line| line.strip_prefix(".SS ")).map(str::trim).collect();
    let offered: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    ensure!(
        described == offered && !offered.is_empty(),
        "the manual page describes {described:?}, the program offers {offered:?}"
    );
    Ok(())
}

/// Runs the gateway on the configuration as it is installed, in a folder of its own, and tells its memory.
fn memory(tree: &Path, program: &Program) -> Result<()> {
    let copy = tree.join("usr/bin/tidegate");
    let shipped = fs::read_to_string(tree.join(CONFIG)).context("cannot read the configuration")?;
    let port = free_port()?;
    let data = tree.join("var/lib/tidegate");
    let text = shipped
        .replace("/var/lib/tidegate", &data.to_string_lossy())
        .replace("127.0.0.1:1883", &format!("127.0.0.1:{port}"));
    ensure!(text != shipped, "the configuration names other places than it did");
    let config = tree.join("etc/tidegate/here.toml");
    fs::write(&config, text).context("cannot write a configuration")?;
    fs::create_dir_all(tree.join("var/lib")).context("cannot make a folder for data")?;
    let mut run = program.command(&copy);
    run.args(["run", "-c"]).arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
    let mut gateway = Running(run.spawn().context("cannot start the gateway")?);
    let start = Instant::now();
    while !process::succeeds(program.command(&copy).args(["status", "-c"]).arg(&config)) {
        if let Some(status) = gateway.0.try_wait().context("cannot wait for the gateway")? {
            bail!("the gateway ended by itself: {status}");
        }
        ensure!(start.elapsed() < READY_PATIENCE, "the gateway is not ready in time");
        sleep(Duration::from_millis(100));
    }
    sleep(IDLE);
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.0.id()))
        .context("the gateway has ended by itself")?;
    let kib = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.map(str::trim).context("the kernel does not tell the memory")
    };
    println!(
        "idle on the installed configuration: VmRSS {}, VmHWM {}{}",
        kib("VmRSS")?,
        kib("VmHWM")?,
        program.under()
    );
    gateway.stop()
}

/// Returns a port that was free a moment ago.
pub(super) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no port is free")?;
    Ok(listener.local_addr().context("the port has no number")?.port())
}

/// A program that is ended when it is forgotten.
pub(super) struct Running(pub(super) Child);

impl Running {
    /// Asks it to stop, and waits until it has.
    pub(super) fn stop(mut self) -> Result<()> {
        process::run(process::command("kill").arg(self.0.id().to_string()))?;
        let status = self.0.wait().context("cannot wait for the gateway")?;
        ensure!(status.success(), "the gateway stopped badly: {status}");
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After `stop` there is nothing left to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
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
    process::run(process::command("/usr/bin/tidegate").args(["check", "-c"]).arg(&config))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_names_each_command_and_no_other() {
        let manual = ".SH COMMANDS\n.SS demo\ntext\n.SS run\ntext\n";
        let help = |commands: &str| {
            format!("Usage\n\nCommands:\n{commands}  help  Print this\n\nOptions:\n  -h  Help\n")
        };
        assert!(compare_manual(manual, &help("  demo  Show\n  run   Run\n")).is_ok());
        assert!(compare_manual(manual, &help("  demo  Show\n")).is_err());
        assert!(compare_manual(manual, &help("  demo  a\n  run  b\n  acl  c\n")).is_err());
        assert!(compare_manual("", "").is_err());
    }
}
