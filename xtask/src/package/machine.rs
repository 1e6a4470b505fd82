//! A Debian machine in a container: the package installed there, its service under a systemd of its own.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::demo;
use crate::places::Places;
use crate::process;
use crate::setup;

/// The machine has so long from its start to its end, the watchdog's 30 s included.
const PATIENCE: Duration = Duration::from_secs(480);

/// What the machine is made of, beside the smallest Debian. No library of the gateway: it needs none.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,mosquitto-clients";

/// Runs in the machine as root; each line `name=value` that it prints is judged by [`EXPECTED`].
const SCRIPT: &str = include_str!("machine.sh");

/// What the service must show (main.18, identity.9, docs/promises.md B6).
const EXPECTED: &[(&str, &str)] = &[
    ("enabled", "enabled"),
    ("active", "active"),
    ("watchdog", "30s"),
    ("answers", "yes"),
    ("loopback", "1"),
    ("beyond", "0"),
    ("stranger", "134"),
    ("anonymous", "135"),
    ("secret", "tidegate 600"),
    ("keys", "root tidegate tidegate tidegate"),
    ("login", "yes"),
    ("restarts", "1"),
    ("watched", "yes"),
    ("upgraded", "active"),
    ("configuration-upgraded", "kept"),
    ("data-upgraded", "kept"),
    ("stopped", "success 0"),
    ("demo", "ended"),
    ("removed", "inactive"),
    ("configuration-removed", "kept"),
    ("data-removed", "kept"),
    ("done", "yes"),
];

/// What the lines of the demo's journal begin with.
const DEMO: &str = "demo: ";

/// The highest score of `systemd-analyze security` that passes.
const EXPOSURE_MAX: f64 = 1.2;

/// Starts the script when the machine is up, and ends the machine when the script has ended.
const UNIT: &str = "\
[Unit]
Description=Trial of the package
After=basic.target

[Service]
Type=oneshot
ExecStart=/trial/run.sh
ExecStopPost=/bin/systemctl --no-block poweroff
";

/// Installs the package in a machine of its own, tries its service, and upgrades to `next`; needs root.
///
/// # Errors
///
/// Says what the service did not show, with everything the machine said.
pub(super) fn service(places: &Places, package: &Path, next: &Path) -> Result<()> {
    ensure!(process::is_root(), "only root can start a machine in a container");
    setup::debian::ensure_packages(&["debootstrap", "systemd-container"])?;
    let machine = bootstrap(places)?;
    let trial = machine.join("trial");
    fs::create_dir_all(&trial).context("cannot make the trial's folder")?;
    for (from, to) in [(package, "tidegate.deb"), (next, "next.deb")] {
        fs::copy(from, trial.join(to)).context("cannot copy the package")?;
    }
    let script = trial.join("run.sh");
    fs::write(&script, SCRIPT).context("cannot write the script")?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))
        .context("cannot make the script executable")?;
    let units = machine.join("etc/systemd/system");
    fs::write(units.join("trial.service"), UNIT).context("cannot write the trial's unit")?;
    let wants = units.join("multi-user.target.wants/trial.service");
    if wants.symlink_metadata().is_err() {
        symlink("../trial.service", &wants).context("cannot enable the trial's unit")?;
    }
    let result = trial.join("result");
    if result.exists() {
        fs::remove_file(&result).context("cannot remove the last result")?;
    }
    boot(&machine)?;
    let said = fs::read_to_string(&result).context("the machine left no result")?;
    judge(&said).with_context(|| format!("the machine said:\n{said}"))
}

/// Makes the machine's files, once.
fn bootstrap(places: &Places) -> Result<PathBuf> {
    let machine = places.target.join("debian/machine");
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let suite = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .context("/etc/os-release names no Debian release")?;
    // Written last, so that a machine that was cut short is made anew.
    let mark = machine.join("made");
    let made_of = format!("{suite} {PACKAGES}");
    if fs::read_to_string(&mark).is_ok_and(|mark| mark == made_of) {
        return Ok(machine);
    }
    if machine.exists() {
        fs::remove_dir_all(&machine).context("cannot remove an unfinished machine")?;
    }
    let mut debootstrap = process::command("debootstrap");
    debootstrap.args(["--variant=minbase", &format!("--include={PACKAGES}"), suite]);
    process::read(debootstrap.arg(&machine))?;
    fs::write(&mark, made_of).context("cannot mark the machine as made")?;
    Ok(machine)
}

/// Runs the machine until it ends.
fn boot(machine: &Path) -> Result<()> {
    let mut nspawn = process::command("systemd-nspawn");
    nspawn.args(["--quiet", "--boot", "--private-network", "--register=no", "--keep-unit"]);
    nspawn.args(["--machine=tidegate-trial", "--console=read-only"]);
    nspawn.arg("--directory").arg(machine);
    let log = fs::File::create(machine.join("trial/console")).context("cannot make the log")?;
    let errors = log.try_clone().context("cannot share the log")?;
    nspawn.stdin(Stdio::null()).stdout(log).stderr(errors);
    let mut child = nspawn.spawn().context("cannot start systemd-nspawn")?;
    let start = Instant::now();
    while child.try_wait().context("cannot wait for systemd-nspawn")?.is_none() {
        if start.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            bail!("the machine did not end within {} s", PATIENCE.as_secs());
        }
        sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn judge(said: &str) -> Result<()> {
    let value = |name: &str| {
        said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::trim)
    };
    for (name, expected) in EXPECTED {
        let found = value(name).unwrap_or("nothing");
        ensure!(found == *expected, "{name}: {found}, not {expected}");
    }
    let demo: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix(DEMO)).collect();
    demo::judge(&demo.join("\n")).context("the demo under the unit's restrictions")?;
    if let Some(left) = value("left") {
        bail!("{left} is still there after the purge");
    }
    let exposure: f64 = value("exposure")
        .and_then(|score| score.parse().ok())
        .context("systemd gave the service no score")?;
    ensure!(exposure <= EXPOSURE_MAX, "the service scores {exposure}, above {EXPOSURE_MAX}");
    println!("the service is installed, upgraded, removed and purged; its exposure is {exposure}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_shows_less_is_refused() {
        let mut lines: Vec<String> =
            EXPECTED.iter().map(|(name, value)| format!("{name}={value}")).collect();
        lines.extend(["exposure=1.1", "demo: 7 received", "demo: missing 0"].map(String::from));
        assert!(judge(&lines.join("\n")).is_ok());
        for at in 0..lines.len() {
            let mut fewer = lines.clone();
            let missing = fewer.remove(at);
            assert!(judge(&fewer.join("\n")).is_err(), "{missing}");
        }
        lines.push("left=/etc/tidegate".into());
        assert!(judge(&lines.join("\n")).is_err());
        let exposed = lines.join("\n").replace("1.1", "1.3").replace("left", "l");
        assert!(judge(&exposed).is_err());
    }
}
