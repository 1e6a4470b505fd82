//! The system calls of the packaged program, held against the filter of its unit (identity.10).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::trial::{Running, free_port};
use crate::demo;
use crate::places::Places;
use crate::process;

const UNIT: &str = "systemd/tidegate.service";

/// How long the gateway may take, slowed by strace, for each thing that is asked of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Calls outside the filter whose refusal does no harm: the C library asks for limits it can do without.
const REFUSED_HARMLESSLY: &[&str] = &["prlimit64", "sched_setaffinity"];

/// Runs the demo, with all four protocols and an uplink, then a gateway with TLS whose accounts change, and fails if
/// either makes a call that the unit forbids.
pub(super) fn stay_inside_the_filter(places: &Places, program: &Path) -> Result<()> {
    let unit = places.root.join(UNIT);
    let unit =
        fs::read_to_string(&unit).with_context(|| format!("cannot read {}", unit.display()))?;
    let allowed = allowed(&unit, &members)?;
    ensure!(
        allowed.contains("fdatasync") && !allowed.contains("mount"),
        "the unit's filter was read wrongly: {allowed:?}"
    );
    let folder = places.target.join("debian/calls");
    let context = || format!("cannot make {}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(context)?;
    }
    fs::create_dir_all(&folder).with_context(context)?;
    let mut made = run_demo(program, &folder.join("demo"))?;
    made.extend(run_tls(program, &folder)?);
    let harmless: BTreeSet<String> =
        REFUSED_HARMLESSLY.iter().map(|call| (*call).to_owned()).collect();
    let outside: Vec<&String> =
        made.iter().filter(|call| !allowed.contains(*call) && !harmless.contains(*call)).collect();
    ensure!(outside.is_empty(), "the unit's filter forbids {outside:?}");
    println!("{} system calls are made, all inside the unit's filter", made.len());
    Ok(())
}

/// Reads `SystemCallFilter=` of a unit: a list, then what is taken out of it again.
fn allowed(unit: &str, members: &dyn Fn(&str) -> Result<Vec<String>>) -> Result<BTreeSet<String>> {
    let mut allowed = BTreeSet::new();
    for filter in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (sets, is_refusal) = match filter.strip_prefix('~') {
            Some(sets) => (sets, true),
            None => (filter, false),
        };
        for set in sets.split_whitespace() {
            for call in expand(set, members)? {
                if is_refusal {
                    allowed.remove(&call);
                } else {
                    allowed.insert(call);
                }
            }
        }
    }
    Ok(allowed)
}

/// Returns the calls of a set, those of the sets inside it included; a call stands for itself.
fn expand(set: &str, members: &dyn Fn(&str) -> Result<Vec<String>>) -> Result<BTreeSet<String>> {
    let mut calls = BTreeSet::new();
    let mut open = vec![set.to_owned()];
    // systemd's sets contain each other in no circle.
    while let Some(name) = open.pop() {
        if name.starts_with('@') {
            open.extend(members(&name)?);
        } else {
            calls.insert(name);
        }
    }
    Ok(calls)
}

/// Asks systemd what a set contains.
fn members(set: &str) -> Result<Vec<String>> {
    let mut analyze = process::command("systemd-analyze");
    let said = process::read(analyze.args(["--no-pager", "syscall-filter", set]))?;
    let lines = said.lines().skip(1).map(str::trim);
    let members = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(members.map(str::to_owned).collect())
}

/// Returns the program under strace, which lists in `list` which calls it made, as its direct parent's child.
fn traced(program: &Path, list: &Path) -> Command {
    let mut strace = process::command("strace");
    strace.args(["-D", "-f", "-qq", "-c", "-U", "name", "-o"]).arg(list).arg(program);
    strace
}

/// Waits for the list, which is written after the program's end.
fn listed(list: &Path) -> Result<BTreeSet<String>> {
    let start = Instant::now();
    loop {
        let text = fs::read_to_string(list).unwrap_or_default();
        if text.trim_end().ends_with("total") {
            return Ok(calls(&text));
        }
        ensure!(start.elapsed() < PATIENCE, "strace did not finish {}", list.display());
        sleep(Duration::from_millis(50));
    }
}

/// Reads what `strace -c -U name` writes: the names stand between two rules.
fn calls(list: &str) -> BTreeSet<String> {
    let names = list.lines().map(str::trim).skip_while(|line| !line.starts_with("--")).skip(1);
    names.take_while(|line| !line.starts_with("--")).map(str::to_owned).collect()
}

fn run_demo(program: &Path, list: &Path) -> Result<BTreeSet<String>> {
    let summary = process::read(traced(program, list).args(["demo", "--for", "10s"]))?;
    demo::judge(&summary)?;
    listed(list)
}

/// Runs a gateway with TLS, logs in, gives it a second account, and logs in with that.
fn run_tls(program: &Path, folder: &Path) -> Result<BTreeSet<String>> {
    let mut init = process::command(program);
    process::read(init.current_dir(folder).args(["cert", "init", "--dir", "certs"]))?;
    let port = free_port()?;
    let config = folder.join("tls.toml");
    let mut text = format!(
        "[gateway]\nid = \"calls\"\ndata-dir = \"data\"\nmappings = []\n\n[mqtt]\nlisten = []\n\n\
         [mqtt.tls]\nlisten = [\"127.0.0.1:{port}\"]\ncert = \"certs/server.pem\"\n\
         key = {{ file = \"certs/server.key\" }}\n\n\
         [[access]]\nprincipal = \"*\"\npublish = [\"calls/#\"]\n\n"
    );
    text += &account(program, folder, "first")?;
    fs::write(&config, &text).context("cannot write a configuration")?;
    let list = folder.join("tls");
    let mut run = traced(program, &list);
    run.current_dir(folder).args(["run", "-c"]).arg(&config);
    run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let gateway = Running(run.spawn().context("cannot start strace")?);
    log_in(folder, port, "first")?;
    text += &account(program, folder, "second")?;
    fs::write(&config, &text).context("cannot write a configuration")?;
    log_in(folder, port, "second")?;
    gateway.stop()?;
    listed(&list)
}

/// Makes an account and returns its table.
fn account(program: &Path, folder: &Path, name: &str) -> Result<String> {
    let password = folder.join("password");
    fs::write(&password, name).context("cannot write a password")?;
    let mut add = process::command(program);
    add.current_dir(folder).args(["user", "add", name, "--secrets", "secrets"]);
    process::read(add.stdin(fs::File::open(&password).context("cannot read the password")?))
}

/// Publishes over TLS until the gateway takes it.
fn log_in(folder: &Path, port: u16, name: &str) -> Result<()> {
    let program: PathBuf = process::find("mosquitto_pub").context("mosquitto_pub is missing")?;
    let start = Instant::now();
    loop {
        let mut publish = process::command(&program);
        publish.args(["-V", "5", "-h", "localhost", "-p", &port.to_string(), "-q", "1"]);
        publish.args(["-t", "calls/a", "-m", "1", "-u", name, "-P", name, "--cafile"]);
        let Err(error) = process::read(publish.arg(folder.join("certs/ca.pem"))) else {
            return Ok(());
        };
        if start.elapsed() > PATIENCE {
            bail!("the gateway did not let `{name}` in: {error:#}");
        }
        sleep(Duration::from_millis(250));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_a_set_less_other_sets() {
        let members = |set: &str| -> Result<Vec<String>> {
            let names: &[&str] = match set {
                "@service" => &["read", "@files", "@resources"],
                "@files" => &["open", "chown"],
                "@resources" => &["setpriority"],
                _ => bail!("{set}"),
            };
            Ok(names.iter().map(|name| (*name).to_owned()).collect())
        };
        let unit = "[Service]\nSystemCallFilter=@service\nSystemCallFilter=~@resources chown\n";
        let allowed = allowed(unit, &members).unwrap();
        assert_eq!(allowed.into_iter().collect::<Vec<_>>(), ["open", "read"]);
    }

    #[test]
    fn calls_stand_between_two_rules() {
        let list = "syscall\n----------------\nread\nfutex\n----------------\ntotal\n";
        assert_eq!(calls(list).into_iter().collect::<Vec<_>>(), ["futex", "read"]);
    }
}
