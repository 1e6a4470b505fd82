//! `cargo xtask bench identity`: what TLS and access rules cost, beside mosquitto where it has the same.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::figures::{Spread, Table};
use super::gateway::{Site, free_port};
use super::load::Load;
use super::peers::{Idle, Mosquitto};
use super::{MQTT, ROUNDS, Run, mqtt};
use crate::process;

/// How long handshakes are made in each round.
const HANDSHAKE_SECONDS: u32 = 3;

/// Connections whose memory is measured; below the 1,000 that one address may have.
const IDLE: usize = 900;

/// What the memory is measured against: what was set up once for all connections is there by then.
const IDLE_BEFORE: usize = 20;

/// How long a process may take until its memory is what it stays.
const SETTLING: Duration = Duration::from_secs(2);

const RULES: [usize; 3] = [10, 1_000, 10_000];

/// How often rules are changed and watched for.
const CHANGES: usize = 20;

/// How long a change of rules is waited for.
const CHANGE_MAX: Duration = Duration::from_secs(10);

/// The files that `tidegate cert` made.
#[derive(Debug)]
struct Certificates(PathBuf);

impl Certificates {
    fn make(binary: &Path, folder: PathBuf) -> Result<Self> {
        let cert = |words: &[&str]| {
            let mut command = process::command(binary);
            command.arg("cert").args(words).arg("--dir").arg(&folder);
            process::read(&mut command).map(drop)
        };
        cert(&["init", "--host", "localhost"])?;
        cert(&["device", "press-7"])?;
        Ok(Self(folder))
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// The table of an encrypted listener of the gateway.
    fn table(&self, port: u16, takes_clients: bool) -> String {
        let (cert, key) = (self.file("server.pem"), self.file("server.key"));
        let mut text = format!(
            "[mqtt.tls]\nlisten = [\"127.0.0.1:{port}\"]\ncert = \"{cert}\"\nkey = {{ file = \"{key}\" }}\n"
        );
        if takes_clients {
            let authority = self.file("ca.pem");
            let _ = write!(
                text,
                "client-ca = \"{authority}\"\n[[principal]]\nname = \"press-7\"\ncertificate = \"CN=press-7\"\n\
                 [[access]]\nprincipal = \"*\"\npublish = [\"#\"]\nsubscribe = [\"#\"]\n"
            );
        }
        text
    }

    /// The same of mosquitto.
    fn lines(&self, takes_clients: bool) -> String {
        let (cert, key) = (self.file("server.pem"), self.file("server.key"));
        let mut text = format!("certfile {cert}\nkeyfile {key}\n");
        if takes_clients {
            let authority = self.file("ca.pem");
            let _ = write!(
                text,
                "cafile {authority}\nrequire_certificate true\nuse_identity_as_username true\n"
            );
        }
        text
    }
}

/// Measures, and returns the table.
pub(super) fn measure(run: &Run<'_>) -> Result<Table> {
    let mut table = Table::default();
    let certificates = Certificates::make(&run.binary, run.folder.join("certificates"))?;
    handshakes(run, &certificates, &mut table)?;
    memory(run, &certificates, &mut table)?;
    rules(run, &mut table)?;
    changes(run, &mut table)?;
    Ok(table)
}

/// Full handshakes by `openssl s_time`, which closes the connection after each.
fn handshakes(run: &Run<'_>, certificates: &Certificates, table: &mut Table) -> Result<()> {
    let port = free_port()?;
    let more = certificates.table(port, false);
    let gateway = run.gateway("handshakes", Site { more: &more, ..Site::default() })?;
    let mosquitto = Mosquitto::start_with(&run.folder, &certificates.lines(false))?;
    for version in ["-tls1_3", "-tls1_2"] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(handshake_round(version, port, || gateway.cpu())?);
            theirs.push(handshake_round(version, mosquitto.port, || mosquitto.cpu())?);
        }
        let name = format!("{}: a full handshake", version.replace("-tls1_", "TLS 1."));
        let micros =
            |rounds: &[(f64, f64)]| Spread::of(rounds.iter().map(|(cpu, _)| *cpu)).micros();
        let rate =
            |rounds: &[(f64, f64)]| Spread::of(rounds.iter().map(|(_, rate)| *rate)).median();
        let shown = |rounds: &[(f64, f64)]| format!("{}, {:.0}/s", micros(rounds), rate(rounds));
        table.row(&format!("{name}, CPU of the gateway"), "-", shown(&ours));
        table.row(&format!("{name}, CPU of mosquitto"), "-", shown(&theirs));
        let ratios = ours.iter().zip(&theirs).map(|((ours, _), (theirs, _))| ours / theirs);
        table.row(&format!("{name}, gateway : mosquitto"), "-", Spread::of(ratios).ratio());
    }
    Ok(())
}

/// Returns the microseconds of processor time of the server a handshake, and handshakes a second.
fn handshake_round(
    version: &str,
    port: u16,
    cpu: impl Fn() -> Result<Duration>,
) -> Result<(f64, f64)> {
    let before = cpu()?;
    let mut command = process::command("openssl");
    command.args(["s_time", "-connect", &format!("127.0.0.1:{port}"), "-new", version]);
    let said = process::read(command.args(["-time", &HANDSHAKE_SECONDS.to_string()]))?;
    // "1834 connections in 3 real seconds, 0 bytes read per connection" is its last line of figures.
    let line = said.lines().rev().find(|line| line.contains("real seconds"));
    let mut words = line.context("openssl tells no connections")?.split_whitespace();
    let count: f64 = words.next().unwrap_or_default().parse().context("no count")?;
    let seconds: f64 = words.nth(2).unwrap_or_default().parse().context("no time")?;
    ensure!(count > 0.0, "openssl made no connection: {said}");
    let used = cpu()?.saturating_sub(before);
    Ok((used.as_secs_f64() * 1e6 / count, count / seconds))
}

/// Resident memory of subscribed, idle connections.
fn memory(run: &Run<'_>, certificates: &Certificates, table: &mut Table) -> Result<()> {
    let script = run.plant.with_file_name("idle.py");
    let files = ["ca.pem", "press-7.pem", "press-7.key"].map(|name| certificates.file(name));
    for (name, files) in [("over TLS", &files[..]), ("over TCP", &[])] {
        let is_encrypted = !files.is_empty();
        let port = free_port()?;
        let more = if is_encrypted { certificates.table(port, true) } else { String::new() };
        let gateway =
            run.gateway(&format!("memory-{port}"), Site { more: &more, ..Site::default() })?;
        let port = if is_encrypted { port } else { gateway.mqtt };
        let ours = per_connection(run, &script, port, files, || gateway.rss_bytes())?;
        drop(gateway);
        let lines = if is_encrypted { certificates.lines(true) } else { String::new() };
        let mosquitto = Mosquitto::start_with(&run.folder, &lines)?;
        let theirs = per_connection(run, &script, mosquitto.port, files, || mosquitto.rss_bytes())?;
        let shown = format!("{ours:.0} B; mosquitto {theirs:.0} B; {:.2}", ours / theirs);
        table.row(&format!("Memory of an idle connection {name}, {IDLE} of them"), "-", shown);
    }
    Ok(())
}

fn per_connection(
    run: &Run<'_>,
    script: &Path,
    port: u16,
    files: &[String],
    rss: impl Fn() -> Result<u64>,
) -> Result<f64> {
    let few = Idle::start(&run.python, script, port, IDLE_BEFORE, files)?;
    thread::sleep(SETTLING);
    let before = rss()?;
    let many = Idle::start(&run.python, script, port, IDLE, files)?;
    thread::sleep(SETTLING);
    let after = rss()?;
    drop((few, many));
    Ok(after.saturating_sub(before) as f64 / IDLE as f64)
}

/// A message's cost among few and many rules, the rule that lets it through the last of all.
fn rules(run: &Run<'_>, table: &mut Table) -> Result<()> {
    let gateways = RULES.map(|count| {
        let mut more = String::new();
        for number in (1..=count).rev() {
            let _ = write!(
                more,
                "[[access]]\nprincipal = \"anonymous\"\npublish = [\"hall{number}/+/temperature\"]\n"
            );
        }
        run.gateway(&format!("rules-{count}"), Site { more: &more, ..Site::default() })
    });
    let gateways = gateways.into_iter().collect::<Result<Vec<_>>>()?;
    let mut costs = vec![Vec::new(); RULES.len()];
    // Short and many, for a difference of a few percent is looked for.
    let load = Load { time: Duration::from_secs(1), ..MQTT };
    for _ in 0..2 * ROUNDS {
        for (gateway, costs) in gateways.iter().zip(&mut costs) {
            let cost = mqtt(gateway, load, false)?;
            costs.push(cost.cpu.as_secs_f64() * 1e6 / cost.readings.max(1) as f64);
        }
    }
    for (count, costs) in RULES.iter().zip(&costs) {
        let shown = Spread::of(costs.iter().copied()).micros();
        table.row(&format!("MQTT QoS 1, flat out, among {count} rules: CPU a message"), "-", shown);
    }
    let ratios = costs[2].iter().zip(&costs[0]).map(|(many, few)| many / few);
    table.row("… 10,000 rules : 10 rules", "1.20", Spread::of(ratios).ratio());
    Ok(())
}

/// From the file that is replaced to the first request that feels it.
fn changes(run: &Run<'_>, table: &mut Table) -> Result<()> {
    let rule = |topic: &str| {
        format!(
            "[[access]]\nprincipal = \"anonymous\"\npublish = [\"{topic}\"]\nsubscribe = [\"#\"]\n"
        )
    };
    let [few, many] = ["a", "b"].map(rule);
    let gateway = run.gateway("changes", Site { more: &many, ..Site::default() })?;
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, gateway.http))?;
    stream.set_read_timeout(Some(CHANGE_MAX))?;
    let mut taken = Vec::with_capacity(CHANGES);
    for number in 0..CHANGES {
        // Looks come four times a second: each change falls at another moment between them.
        thread::sleep(Duration::from_millis(700 + 37 * number as u64));
        let (text, wanted) = if number % 2 == 0 { (&few, 201) } else { (&many, 403) };
        gateway.reconfigure(text)?;
        let start = Instant::now();
        while publish(&mut stream)? != wanted {
            ensure!(start.elapsed() < CHANGE_MAX, "change {number} was not felt");
            thread::sleep(Duration::from_millis(5));
        }
        taken.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let shown = Spread::of(taken.into_iter()).millis();
    table.row("From a changed [[access]] to the first request that feels it", "1 s", shown);
    Ok(())
}

/// Publishes on topic `a` and returns the status.
fn publish(stream: &mut TcpStream) -> Result<u16> {
    stream.write_all(
        b"POST /v1/topics/a HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\ncontent-length: 1\r\n\r\n1",
    )?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 2_048]);
    loop {
        let length = stream.read(&mut buffer)?;
        ensure!(length > 0, "the gateway closed the connection");
        answer.extend(&buffer[..length]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let wanted = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let wanted: usize = wanted.map_or(Ok(0), str::parse).context("a length is a number")?;
        if body.len() >= wanted {
            let status = head.split(' ').nth(1).context("an answer has a status")?;
            return status.parse().context("a status is a number");
        }
    }
}
