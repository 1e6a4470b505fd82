//! The brokers that are loaded in turn.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::load::Load;
use crate::bench::Run;
use crate::bench::child::Child;
use crate::bench::gateway::{Gateway, Site, free_port};
use crate::bench::peers::Mosquitto;
use crate::process;
use crate::setup;

/// The gateway as it comes: acknowledged is on disk.
const DURABLE: &str = "gateway-durable";
/// Nothing on disk, as with the peers.
pub(super) const IN_MEMORY: &str = "[store]\ndurability = \"memory\"\n";
/// One client has what is meant for all.
pub(super) const LIMITS: &str = "[limits]\nmemory-ceiling = \"512MiB\"\n[limits.net]\nmax-connections-per-address = 10000\n\
                      [limits.mqtt]\nretained-per-principal = 100000\nmax-sessions-per-principal = 10000\n";

/// Starts a side of a name.
type Start = fn(&Run<'_>, &'static str) -> Result<Side>;

/// A running broker.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) name: &'static str,
    pub(super) port: u16,
    process: Process,
    most_qos: u8,
}

#[derive(Debug)]
enum Process {
    Gateway(Gateway),
    Mosquitto(Mosquitto),
    Other(Child),
}

impl Side {
    /// Starts the gateway, in memory mode and as it comes, and its peers, as far as they are wanted.
    pub(super) fn start_all(run: &Run<'_>, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<Self>> {
        let starts: [(&'static str, Start); 5] = [
            ("gateway", |run, name| Self::gateway(run, name, IN_MEMORY)),
            (DURABLE, |run, name| Self::gateway(run, name, "")),
            ("mosquitto", mosquitto),
            ("nats-server", nats),
            ("rumqttd", rumqttd),
        ];
        starts
            .into_iter()
            .filter(|(name, _)| is_wanted(name))
            .map(|(name, start)| start(run, name))
            .collect()
    }

    fn gateway(run: &Run<'_>, name: &'static str, more: &str) -> Result<Self> {
        let more = &format!("{more}{LIMITS}");
        let gateway = run.gateway(name, Site { more, ..Site::default() })?;
        Ok(Self { name, port: gateway.mqtt, process: Process::Gateway(gateway), most_qos: 2 })
    }

    /// Whether the side can take the load, and whether it tells something there.
    pub(super) fn takes(&self, load: &Load) -> bool {
        load.qos <= self.most_qos && (!self.is_durable() || load.qos > 0)
    }

    /// Whether it is the gateway as it comes, which differs only where something is to be kept.
    pub(super) fn is_durable(&self) -> bool {
        self.name == DURABLE
    }

    /// Whether the aims are about this side: the gateway in memory mode.
    pub(super) fn is_measured_by_aims(&self) -> bool {
        self.name == "gateway"
    }

    /// Returns the processor time that the broker has used.
    pub(super) fn cpu(&self) -> Result<Duration> {
        match &self.process {
            Process::Gateway(gateway) => gateway.cpu(),
            Process::Mosquitto(mosquitto) => mosquitto.cpu(),
            Process::Other(child) => child.cpu(),
        }
    }

    /// Returns the resident memory in bytes.
    pub(super) fn rss_bytes(&self) -> Result<u64> {
        match &self.process {
            Process::Gateway(gateway) => gateway.rss_bytes(),
            Process::Mosquitto(mosquitto) => mosquitto.rss_bytes(),
            Process::Other(child) => child.rss_bytes(),
        }
    }

    /// Returns the most memory that has been resident, in bytes.
    pub(super) fn peak_bytes(&self) -> Result<u64> {
        match &self.process {
            Process::Gateway(gateway) => gateway.peak_bytes(),
            Process::Mosquitto(mosquitto) => mosquitto.peak_bytes(),
            Process::Other(child) => child.peak_bytes(),
        }
    }
}

fn mosquitto(run: &Run<'_>, name: &'static str) -> Result<Side> {
    let mosquitto = Mosquitto::start(&run.folder, None)?;
    Ok(Side { name, port: mosquitto.port, process: Process::Mosquitto(mosquitto), most_qos: 2 })
}

/// Starts the NATS server with its MQTT port; the version of Debian 12 has no QoS 2.
fn nats(run: &Run<'_>, name: &'static str) -> Result<Side> {
    setup::debian::ensure_packages(&["nats-server"])?;
    let program = process::find("nats-server")
        .context("nats-server is missing: it is a package of Debian")?;
    let (port, own) = (free_port()?, free_port()?);
    let folder = run.folder.join("nats");
    fs::create_dir_all(&folder)?;
    let text = format!(
        "server_name: bench\nlisten: \"127.0.0.1:{own}\"\njetstream {{ store_dir: \"{}\" }}\n\
         mqtt {{ listen: \"127.0.0.1:{port}\" }}\nmax_pending: 256MB\n",
        folder.display()
    );
    start(name, program, &["-c"], run.folder.join("nats.conf"), &text, port, 1)
}

fn rumqttd(run: &Run<'_>, name: &'static str) -> Result<Side> {
    let port = free_port()?;
    let text = format!(
        "id = 0\n[router]\nid = 0\nmax_connections = 10000\nmax_outgoing_packet_count = 200\n\
         max_segment_size = 104857600\nmax_segment_count = 10\n\
         [v4.1]\nname = \"bench\"\nlisten = \"127.0.0.1:{port}\"\nnext_connection_delay_ms = 0\n\
         [v4.1.connections]\nconnection_timeout_ms = 60000\nmax_payload_size = 20480\n\
         max_inflight_count = 100\ndynamic_filters = true\n"
    );
    let program = setup::rumqttd::ensure(run.places)?;
    start(name, program, &["-q", "-c"], run.folder.join("rumqttd.toml"), &text, port, 2)
}

fn start(
    name: &'static str,
    program: PathBuf,
    words: &[&str],
    file: PathBuf,
    text: &str,
    port: u16,
    most_qos: u8,
) -> Result<Side> {
    fs::write(&file, text)?;
    let mut command = process::command(program);
    command.args(words).arg(file).stdout(Stdio::null()).stderr(Stdio::null());
    let process = Process::Other(Child::start(&mut command)?);
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if Instant::now() > deadline {
            bail!("{name} does not listen");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(Side { name, port, process, most_qos })
}
