//! Programs that come as Debian packages, installed without leaving a service behind.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::process;

/// A program that the tests start, and the package that brings it.
struct Need {
    program: &'static str,
    package: &'static str,
}

const NEEDS: &[Need] = &[
    Need { program: "mosquitto", package: "mosquitto" },
    Need { program: "mosquitto_pub", package: "mosquitto-clients" },
    // Its program on the path is for its own user and root alone.
    Need { program: "/usr/lib/rabbitmq/bin/rabbitmq-server", package: "rabbitmq-server" },
    Need { program: "tinyproxy", package: "tinyproxy-bin" },
    Need { program: "microsocks", package: "microsocks" },
    Need { program: "coap-client-notls", package: "libcoap3-bin" },
    Need { program: "openssl", package: "openssl" },
    Need { program: "strace", package: "strace" },
    Need { program: "faketime", package: "faketime" },
    // On a machine that runs systemd it is there; a container may lack it.
    Need { program: "systemd-analyze", package: "systemd" },
    Need { program: "curl", package: "curl" },
    Need { program: "python3", package: "python3" },
    Need { program: "node", package: "nodejs" },
    Need { program: "npm", package: "npm" },
    Need { program: "cc", package: "gcc" },
    // Paho's C client is a library, told by its header.
    Need { program: "/usr/include/MQTTClient.h", package: "libpaho-mqtt-dev" },
];

/// What packages would leave running.
const SERVICES: &[(&str, &[&str])] = &[
    ("mosquitto", &["mosquitto.service"]),
    ("rabbitmq-server", &["rabbitmq-server.service", "epmd.service", "epmd.socket"]),
];

/// Decides which services may start while packages are installed.
const POLICY_FILE: &str = "/usr/sbin/policy-rc.d";

/// Keeps the brokers down and lets everything else go its way.
const POLICY: &str = "\
#!/bin/sh
# Placed by Tidegate's `cargo xtask setup` while it installs brokers; safe to remove.
case \"$1\" in mosquitto|mosquitto.service|nats-server|nats-server.service) exit 101 ;; esac
case \"$1\" in rabbitmq-server|rabbitmq-server.service|epmd|epmd.service|epmd.socket) exit 101 ;; esac
exit 0
";

/// Installs the packages that are missing, through sudo if need be.
///
/// # Errors
///
/// Fails with the one command to run if this needs root and cannot become it.
pub(crate) fn ensure() -> Result<()> {
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if process::find("apt-get").is_none() {
        bail!(
            "this machine lacks programs that Debian ships as {list}: install them, then try again"
        );
    }
    if process::is_root() {
        return install(&packages);
    }
    let this = std::env::current_exe().context("cannot find xtask's own program")?;
    if process::succeeds(process::command("sudo").args(["-n", "true"])) {
        return process::run(process::command("sudo").arg("-n").arg(this).arg("system-packages"));
    }
    bail!(
        "the tests need {list}. Run this once, then try again:\n\n    \
         sudo {} system-packages\n\n\
         It installs these packages with apt-get and leaves no service running.",
        this.display()
    )
}

/// Installs those of `packages` that are missing, for the commands that alone need them.
///
/// # Errors
///
/// Names them if this is not root.
pub(crate) fn ensure_packages(packages: &[&str]) -> Result<()> {
    let missing: Vec<_> =
        packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    ensure!(process::is_root(), "this needs the packages {list}: install them, then try again");
    install(&missing)
}

fn is_installed(package: &str) -> bool {
    let mut query = process::command("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status}", package]);
    process::read(&mut query).is_ok_and(|status| status == "installed")
}

/// Installs the packages that are missing; needs root.
pub(crate) fn install_missing() -> Result<()> {
    let packages = missing();
    if packages.is_empty() {
        println!("Nothing to install");
        return Ok(());
    }
    install(&packages)
}

fn missing() -> Vec<&'static str> {
    let has_venv = || {
        let check = ["-c", "import ensurepip, venv"];
        process::succeeds(process::command(super::python::SYSTEM_PYTHON).args(check))
    };
    missing_among(is_there, has_venv)
}

/// Returns whether there is a program of this name, or a file of this path.
fn is_there(program: &str) -> bool {
    let path = Path::new(program);
    if path.is_absolute() { path.is_file() } else { process::find(program).is_some() }
}

fn missing_among(
    is_installed: impl Fn(&str) -> bool,
    has_venv: impl FnOnce() -> bool,
) -> Vec<&'static str> {
    let mut packages: Vec<_> =
        NEEDS.iter().filter(|need| !is_installed(need.program)).map(|need| need.package).collect();
    if !has_venv() {
        packages.push("python3-venv");
    }
    packages
}

fn install(packages: &[&str]) -> Result<()> {
    println!("Installing {}", packages.join(" "));
    let brought = SERVICES.iter().filter(|(package, _)| packages.contains(package));
    let brought: Vec<&str> = brought.flat_map(|(_, services)| services.iter().copied()).collect();
    let policy = if brought.is_empty() { None } else { Policy::place()? };
    let apt_get = |arguments: &[&str]| {
        let mut command = process::command("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments);
        process::run(&mut command)
    };
    apt_get(&["update", "--quiet"])?;
    let install = ["install", "--quiet", "--yes", "--no-install-recommends"];
    apt_get(&[&install, packages].concat())?;
    drop(policy);
    for service in brought {
        retire(service)?;
    }
    let still_missing: Vec<_> =
        packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if !still_missing.is_empty() {
        bail!("still missing after the installation: {}", still_missing.join(" "));
    }
    Ok(())
}

/// Keeps a broker that the tests brought from serving its port now or after the next boot.
fn retire(service: &str) -> Result<()> {
    if process::find("systemctl").is_none() {
        return Ok(());
    }
    let mut disable = process::command("systemctl");
    process::read(disable.args(["disable", service]))?;
    if Path::new("/run/systemd/system").exists() {
        process::run(process::command("systemctl").args(["stop", service]))?;
    }
    Ok(())
}

/// The policy file, for as long as packages are installed.
struct Policy;

impl Policy {
    /// Places the file; leaves one that the administrator placed alone.
    fn place() -> Result<Option<Self>> {
        let created = OpenOptions::new().write(true).create_new(true).mode(0o755).open(POLICY_FILE);
        match created {
            Ok(mut file) => {
                let policy = Self;
                file.write_all(POLICY.as_bytes())
                    .with_context(|| format!("cannot write {POLICY_FILE}"))?;
                Ok(Some(policy))
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot create {POLICY_FILE}")),
        }
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(POLICY_FILE) {
            eprintln!("warning: cannot remove {POLICY_FILE}: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_installed() {
        assert!(missing_among(|_| true, || true).is_empty());
        assert_eq!(missing_among(|program| program != "strace", || true), ["strace"]);
        let all = missing_among(|_| false, || false);
        assert_eq!(all.len(), NEEDS.len() + 1);
        assert!(all.contains(&"mosquitto") && all.contains(&"python3-venv"));
    }
}
