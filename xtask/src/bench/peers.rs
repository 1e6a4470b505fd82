//! The other ends: mosquitto as the cloud's broker or as a bridge, and an OPC UA server of asyncua.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::child::Child;
use super::gateway::free_port;
use crate::process;

/// A broker on loopback that keeps nothing.
#[derive(Debug)]
pub(super) struct Mosquitto {
    process: Child,
    pub(super) port: u16,
}

impl Mosquitto {
    /// Starts a broker with its configuration in `folder`; with `bridge_to` it passes all topics on to that port.
    pub(super) fn start(folder: &Path, bridge_to: Option<u16>) -> Result<Self> {
        let bridge = bridge_to.map(|cloud| {
            format!(
                "connection cloud\naddress 127.0.0.1:{cloud}\ntopic # out 1\n\
                 bridge_protocol_version mqttv311\n"
            )
        });
        Self::start_with(folder, &bridge.unwrap_or_default())
    }

    /// Starts a broker with further lines in its configuration.
    pub(super) fn start_with(folder: &Path, more: &str) -> Result<Self> {
        let program =
            process::find("mosquitto").context("mosquitto is missing: `cargo xtask setup`")?;
        let port = free_port()?;
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\n\
             max_queued_messages 0\nset_tcp_nodelay true\nlog_type error\n{more}"
        );
        let file = folder.join(format!("mosquitto-{port}.conf"));
        fs::write(&file, text)?;
        let mut command = process::command(program);
        command.arg("-c").arg(file).stdout(Stdio::null()).stderr(Stdio::null());
        let broker = Self { process: Child::start(&mut command)?, port };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if Instant::now() > deadline {
                bail!("mosquitto does not listen");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(broker)
    }

    /// Returns the processor time that the broker has used.
    pub(super) fn cpu(&self) -> Result<Duration> {
        self.process.cpu()
    }

    /// Returns the resident memory in bytes.
    pub(super) fn rss_bytes(&self) -> Result<u64> {
        self.process.rss_bytes()
    }

    /// Returns the most memory that has been resident, in bytes.
    pub(super) fn peak_bytes(&self) -> Result<u64> {
        self.process.peak_bytes()
    }
}

/// MQTT clients that are there and say nothing; they go when it is dropped.
#[derive(Debug)]
pub(super) struct Idle {
    _process: Child,
    _stdin: ChildStdin,
}

impl Idle {
    /// Connects so many, over TLS with the files of an authority, a certificate and a key if there are any.
    pub(super) fn start(
        python: &Path,
        script: &Path,
        port: u16,
        count: usize,
        files: &[String],
    ) -> Result<Self> {
        let mut command = process::command(python);
        command.arg(script).args([port.to_string(), count.to_string()]).args(files);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Child::start(&mut command)?;
        let (stdin, stdout) = process.pipes().context("the clients have no pipes")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if line.trim() != "ready" {
            bail!("the idle clients said {line:?} instead of \"ready\"");
        }
        Ok(Self { _process: process, _stdin: stdin })
    }
}

/// An OPC UA server whose variables stand still until they are told to run.
#[derive(Debug)]
pub(super) struct Plant {
    _process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    pub(super) port: u16,
}

impl Plant {
    /// Starts a server with `nodes` variables `Device.1`, `Device.2`, ...
    pub(super) fn start(python: &Path, script: &Path, nodes: usize) -> Result<Self> {
        let port = free_port()?;
        let mut command = process::command(python);
        command.arg(script).args([port.to_string(), nodes.to_string()]);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Child::start(&mut command)?;
        let (stdin, stdout) = process.pipes().context("the plant has no pipes")?;
        let mut plant = Self { _process: process, stdin, stdout: BufReader::new(stdout), port };
        plant.expect("ready")?;
        Ok(plant)
    }

    /// Changes every variable ten times a second, or as often as the server manages, for the given time.
    pub(super) fn run(&mut self, time: Duration) -> Result<()> {
        writeln!(self.stdin, "{}", time.as_secs_f64())?;
        self.expect("done")
    }

    fn expect(&mut self, word: &str) -> Result<()> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        if line.trim() != word {
            bail!("the OPC UA server said {line:?} instead of {word:?}");
        }
        Ok(())
    }
}
