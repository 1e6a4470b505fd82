//! A gateway to be measured: its files, its process, and what the kernel and its metrics say of it.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::child::Child;
use crate::process;

/// Longest wait for something that takes milliseconds when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

const RECEIVED: &str = "tidegate_messages_received_total";
const DELIVERED: &str = "tidegate_uplink_delivered_total{uplink=\"cloud\"}";
const CONNECTED: &str = "tidegate_uplink_connected{uplink=\"cloud\"}";

/// Every reading goes to `hall1/<device>/temperature` as a double with a unit, whatever protocol brings it.
const MAPPING: &str = r#"
[[coap]]
resource = "/sensors/{device}/temperature"
payload = "text"
type = "float"
unit = "Cel"
topic = "hall1/{device}/temperature"

[[http]]
path = "/ingest/{device}"
payload = "text"
type = "float"
unit = "Cel"
topic = "hall1/{device}/temperature"
"#;

const OPCUA_MAPPING: &str = r#"
[[opcua]]
server = "plant"
node = "nsu=urn:example:plant;s=Device.{n}"
topic = "hall1/device-{n}/temperature"
sampling = "100ms"
unit = "Cel"
"#;

/// What a gateway is connected to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Site<'a> {
    /// Port of the cloud's broker; without one there is no uplink.
    pub(super) cloud: Option<u16>,
    /// Port of the OPC UA server.
    pub(super) plant: Option<u16>,
    /// Acknowledges before the disk has a message, which follows within 200 ms.
    pub(super) seldom_synced: bool,
    /// Further tables of its configuration.
    pub(super) more: &'a str,
    /// A program that runs it, and that program's own words; none: it runs by itself.
    pub(super) runner: &'a [&'a str],
}

/// A running gateway in a folder of its own, removed with it.
#[derive(Debug)]
pub(super) struct Gateway {
    process: Child,
    binary: PathBuf,
    folder: PathBuf,
    pub(super) mqtt: u16,
    pub(super) coap: u16,
    pub(super) http: u16,
    /// From the start of the process to `READY=1`.
    pub(super) ready_after: Duration,
}

impl Gateway {
    /// Starts `binary` on an empty store in `folder`, which must not exist, and waits until it is ready.
    pub(super) fn start(binary: &Path, folder: PathBuf, site: Site<'_>) -> Result<Self> {
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let (mqtt, coap, http) = (free_port()?, free_udp_port()?, free_port()?);
        fs::write(folder.join("tidegate.toml"), config(site, mqtt, coap, http))?;
        let opcua = site.plant.map_or("", |_| OPCUA_MAPPING);
        fs::write(folder.join("mapping.toml"), format!("{MAPPING}{opcua}"))?;
        let (process, ready_after) = launch(binary, &folder, site.runner)?;
        let binary = binary.to_owned();
        let gateway = Self { process, binary, folder, mqtt, coap, http, ready_after };
        if site.cloud.is_some() {
            gateway.wait_for(CONNECTED, 1)?;
        }
        Ok(gateway)
    }

    /// Kills it where it stands, and starts it again on the same data.
    pub(super) fn kill_and_start_again(&mut self) -> Result<()> {
        self.process.kill();
        (self.process, self.ready_after) = launch(&self.binary, &self.folder, &[])?;
        Ok(())
    }

    /// Lets it end in order, and returns all that it and its runner have said.
    pub(super) fn end(mut self) -> Result<String> {
        self.process.end(PATIENCE)?;
        Ok(log(&self.folder))
    }

    /// Returns the processor time that the gateway has used.
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

    /// Replaces the configuration by one with these further tables, in one step.
    pub(super) fn reconfigure(&self, more: &str) -> Result<()> {
        let (aside, file) = (self.folder.join("new"), self.folder.join("tidegate.toml"));
        fs::write(
            &aside,
            config(Site { more, ..Site::default() }, self.mqtt, self.coap, self.http),
        )?;
        fs::rename(aside, file).context("cannot replace the configuration")
    }

    /// Returns how many messages have entered the broker.
    pub(super) fn received(&self) -> Result<u64> {
        self.metric(RECEIVED)
    }

    /// Returns how many times the journal was synced.
    pub(super) fn commits(&self) -> Result<u64> {
        self.metric("tidegate_store_commits")
    }

    /// Returns how many bytes of payload went to the cloud.
    pub(super) fn bytes_sent(&self) -> Result<u64> {
        let mut status = process::command(&self.binary);
        status.args(["status", "--json", "-c"]).arg(self.folder.join("tidegate.toml"));
        let text = process::read(&mut status)?;
        let (_, rest) = text.split_once("\"bytes-sent\":").context("status tells no bytes-sent")?;
        let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
        digits.parse().context("bytes-sent is no number")
    }

    /// Waits until so many messages have entered the broker.
    pub(super) fn wait_for_received(&self, count: u64) -> Result<()> {
        self.wait_for(RECEIVED, count)
    }

    /// Returns how many readings the cloud has acknowledged.
    pub(super) fn delivered(&self) -> Result<u64> {
        self.metric(DELIVERED)
    }

    /// Returns the folder of its journal and files.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Returns what it has had the system write to storage since it was started, in bytes.
    pub(super) fn written_bytes(&self) -> Result<u64> {
        self.process.written_bytes()
    }

    /// Waits until the cloud has acknowledged so many readings.
    pub(super) fn wait_for_delivered(&self, count: u64) -> Result<()> {
        self.wait_for(DELIVERED, count)
    }

    /// Waits until a metric is at least `value`, looking rarely, for a look costs the gateway time too.
    fn wait_for(&self, name: &str, value: u64) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.metric(name)?;
            if found >= value {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{name} stopped at {found}, expected {value}:\n{}", log(&self.folder));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn metric(&self, name: &str) -> Result<u64> {
        let text = self.metrics().context("cannot read the metrics")?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value
            .with_context(|| format!("there is no metric {name}"))?
            .parse()
            .context(name.to_owned())
    }

    fn metrics(&self) -> Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.http))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.process.kill();
        // A folder that stays behind is removed with its parent.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Starts a gateway in its folder, and returns it with the time until it was ready.
fn launch(binary: &Path, folder: &Path, runner: &[&str]) -> Result<(Child, Duration)> {
    let socket = folder.join("notify");
    // One of a gateway before.
    let _ = fs::remove_file(&socket);
    let notices = UnixDatagram::bind(&socket).context("cannot bind a socket")?;
    notices.set_read_timeout(Some(PATIENCE))?;
    let mut command = match runner {
        [] => process::command(binary),
        [runner, words @ ..] => {
            let mut command = process::command(runner);
            command.args(words).arg(binary);
            command
        }
    };
    command.arg("run").arg("-c").arg(folder.join("tidegate.toml"));
    command.env("NOTIFY_SOCKET", socket);
    command.env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
    command.stdout(File::create(folder.join("out"))?).stderr(File::create(folder.join("log"))?);
    let start = Instant::now();
    let process = Child::start(&mut command)?;
    wait_for_ready(&notices, folder)?;
    Ok((process, start.elapsed()))
}

fn wait_for_ready(notices: &UnixDatagram, folder: &Path) -> Result<()> {
    let mut buffer = [0; 4_096];
    loop {
        let length = notices
            .recv(&mut buffer)
            .with_context(|| format!("the gateway is not ready:\n{}", log(folder)))?;
        if String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == "READY=1") {
            return Ok(());
        }
    }
}

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}

fn config(site: Site<'_>, mqtt: u16, coap: u16, http: u16) -> String {
    let mut text = format!(
        "[gateway]\nid = \"bench\"\ndata-dir = \"data\"\nmappings = [\"mapping.toml\"]\n\
         [mqtt]\nlisten = [\"127.0.0.1:{mqtt}\"]\nanonymous = true\n\
         [coap]\nlisten = [\"127.0.0.1:{coap}\"]\nanonymous = true\n\
         [http]\nlisten = [\"127.0.0.1:{http}\"]\nanonymous = true\n"
    );
    if site.seldom_synced {
        text += "[store]\ndurability = \"interval\"\ninterval = \"200ms\"\n";
    }
    if let Some(port) = site.plant {
        text += &format!(
            "[[opcua]]\nname = \"plant\"\nendpoint = \"opc.tcp://127.0.0.1:{port}\"\n\
             security = \"none\"\n"
        );
    }
    if let Some(port) = site.cloud {
        text += &format!(
            "[[uplink]]\nname = \"cloud\"\nurl = \"mqtt://127.0.0.1:{port}\"\n\
             topics = [\"hall1/#\"]\ntopic = \"tidegate/{{gateway}}/{{encoding}}\"\n\
             format = \"columns\"\ncompress = \"zlib\"\n\
             batch = {{ readings = 500, age = \"1s\", bytes = \"64KiB\" }}\n"
        );
    }
    text += site.more;
    text
}

/// Returns a TCP port of 127.0.0.1 that nobody listens on.
pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn free_udp_port() -> Result<u16> {
    Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
