//! A gibibyte that waits while the cloud is away: what it takes on the disk, the start with it, and how fast it goes up.

use std::{
    fs, io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Run,
    figures::Table,
    gateway::{Gateway, Site, free_port},
    load::{Client, Load, Tenths, mqtt::Mqtt},
    peers::Mosquitto,
};

const BACKLOG_BYTES: usize = 1 << 30;
/// Characters of a reading: of 64 that are equally likely, so that they compress to three quarters at best.
const TEXT: usize = 900;
const ALPHABET: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/";
const FILL: Load = Load {
    connections: 4,
    window: 60,
    readings: BACKLOG_BYTES / TEXT,
    time: Duration::from_secs(900),
    rate: None,
};
/// Longest time without progress on the way up.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);

/// Fills the queue of an uplink without a broker, kills the gateway, starts it, and lets the broker come.
pub(super) fn measure(run: &Run<'_>) -> Result<Table> {
    let mut table = Table::default();
    let empty = run.gateway("empty", Site::default())?.ready_after;
    let away = uplink(free_port()?);
    let mut gateway = run.gateway("backlog", Site { more: &away, ..Site::default() })?;
    let begun = Instant::now();
    let answered = super::load::run(FILL, || Noise::connect(gateway.mqtt))?;
    let taken = answered.readings as f64 / begun.elapsed().as_secs_f64();
    let count = answered.readings;
    let bytes = count * TEXT as u64;
    let ratio =
        |of: u64| format!("{} MiB, {:.2} for each byte", of >> 20, of as f64 / bytes as f64);
    table.row(
        "Readings waiting, texts that compress badly",
        "-",
        format!("{count}, {} MiB", bytes >> 20),
    );
    table.row("Taken in and acknowledged from disk", "-", format!("{taken:.0}/s"));
    table.row("Written to storage meanwhile", "1.5", ratio(gateway.written_bytes()?));
    table.row("On the disk", "-", ratio(size(&gateway.data())?));
    let cloud = Mosquitto::start(&run.folder, None)?;
    // So that what is waited for is the start, and not the first pages of the way up.
    gateway.kill_and_start_again()?;
    let shown = format!("{:.2} s (empty: {:.2} s)", seconds(gateway.ready_after), seconds(empty));
    table.row("Start to ready with all of it, after kill -9", "2 s", shown);
    let rss = gateway.rss_bytes()? >> 20;
    gateway.reconfigure(&uplink(cloud.port))?;
    gateway.kill_and_start_again()?;
    let (begun, cpu) = (Instant::now(), gateway.cpu()?);
    drain(&gateway, count)?;
    let elapsed = seconds(begun.elapsed());
    let cpu = seconds(gateway.cpu()?.saturating_sub(cpu)) / count as f64;
    let rate = count as f64 / elapsed;
    table.row("Goes up", "5 times", format!("{rate:.0}/s, {:.1} times what came in", rate / taken));
    table.row("CPU a reading on the way up", "5 µs", format!("{:.1} µs", cpu * 1e6));
    let peak = gateway.peak_bytes()? >> 20;
    table.row(
        "Memory with all of it waiting, at most on the way up",
        "-",
        format!("{rss} MiB, {peak} MiB"),
    );
    table.row("On the disk afterwards", "-", format!("{} MiB", size(&gateway.data())? >> 20));
    Ok(table)
}

fn uplink(port: u16) -> String {
    format!(
        "[store]\nmax-bytes = \"6GiB\"\n[[uplink]]\nname = \"cloud\"\nurl = \"mqtt://127.0.0.1:{port}\"\n\
         topics = [\"hall1/#\"]\ntopic = \"tidegate/{{gateway}}/{{encoding}}\"\nmax-bytes = \"5GiB\"\n\
         format = \"packed\"\ncompress = \"zlib\"\n"
    )
}

fn drain(gateway: &Gateway, count: u64) -> Result<()> {
    let (mut last, mut moved) = (0, Instant::now());
    while last < count {
        thread::sleep(LOOK);
        let delivered = gateway.delivered()?;
        if delivered > last {
            (last, moved) = (delivered, Instant::now());
        }
        ensure!(moved.elapsed() < PATIENCE, "only {last} of {count} readings went up");
    }
    Ok(())
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

/// Returns what the files of a folder take on the disk, in bytes.
fn size(folder: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes += size(&entry.path())?,
            Ok(metadata) => bytes += metadata.blocks() * 512,
            // It is gone meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes)
}

/// A client whose readings are long texts that repeat nothing.
#[derive(Debug)]
struct Noise {
    mqtt: Mqtt,
    state: u64,
}

impl Noise {
    fn connect(port: u16) -> io::Result<Self> {
        let mqtt = Mqtt::connect(port)?;
        // Its own for each connection, whatever else.
        let state = u64::from(std::process::id()) << 32 | u64::from(free_port().unwrap_or(1)) | 1;
        Ok(Self { mqtt, state })
    }

    /// Returns the next 64 bits (xorshift).
    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }
}

impl Client for Noise {
    fn send(&mut self, device: usize, _: Tenths) -> io::Result<()> {
        let mut payload = Vec::with_capacity(TEXT);
        payload.push(b'"');
        while payload.len() < TEXT - 1 {
            let bits = self.next();
            let letters =
                (0..10).map(|place| ALPHABET[usize::from((bits >> (6 * place)) as u8 & 63)]);
            payload.extend(letters);
        }
        payload.truncate(TEXT - 1);
        payload.push(b'"');
        self.mqtt.publish(&format!("hall1/device-{device}/text"), &payload);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.mqtt.flush()
    }

    fn receive(&mut self) -> io::Result<usize> {
        self.mqtt.receive()
    }
}
