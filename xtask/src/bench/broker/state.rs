//! What clients cost that say nothing, and what is kept for those who come later.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::sides::Side;
use super::wire::{self, Came, Stamp};
use crate::bench::figures::{Spread, Table};

pub(super) const IDLE: &str = "memory of a subscribed idle connection";
pub(super) const RETAINED: &str = "100,000 retained messages to a new `#`";

/// Connections that are there before: what was set up once for all connections is there by then.
const IDLE_BEFORE: usize = 100;
const IDLE_CONNECTIONS: usize = 2_000;
/// How long a process may take until its memory is what it stays.
const SETTLING: Duration = Duration::from_secs(3);

const RETAINED_COUNT: usize = 100_000;
/// Retained messages sent before their acknowledgements are waited for.
const RETAINED_AT_ONCE: usize = 500;
const PATIENCE: Duration = Duration::from_secs(10);

/// Measures the memory of connections that have subscribed to one topic and say nothing.
pub(super) fn idle(sides: &[Side], table: &mut Table) -> Result<()> {
    for side in sides.iter().filter(|side| !side.is_durable()) {
        let connect = |range: std::ops::Range<usize>| -> Result<Vec<Client>> {
            range
                .map(|number| {
                    let mut client = Client::connect(side.port, &format!("idle-{number}"))?;
                    client.subscribe(&format!("idle/{number}"))?;
                    Ok(client)
                })
                .collect()
        };
        let _before = connect(0..IDLE_BEFORE)?;
        thread::sleep(SETTLING);
        let before = side.rss_bytes()?;
        let _more = connect(IDLE_BEFORE..IDLE_BEFORE + IDLE_CONNECTIONS)?;
        thread::sleep(SETTLING);
        let bytes = side.rss_bytes()?.saturating_sub(before) / IDLE_CONNECTIONS as u64;
        let aim = if side.is_measured_by_aims() { "2,500 B" } else { "-" };
        table.row(&format!("{IDLE}: {}", side.name), aim, format!("{bytes} B"));
    }
    Ok(())
}

/// Times a new subscription to `#`, from SUBSCRIBE to the last of the retained messages.
pub(super) fn retained(sides: &[Side], rounds: usize, table: &mut Table) -> Result<()> {
    let sides = || sides.iter().filter(|side| !side.is_durable());
    for side in sides() {
        fill(side).with_context(|| format!("{}: {RETAINED}", side.name))?;
    }
    let mut taken: Vec<(usize, Vec<f64>)> = sides().map(|_| (usize::MAX, Vec::new())).collect();
    for round in 0..rounds {
        for (side, (least, times)) in sides().zip(&mut taken) {
            let mut client = Client::connect(side.port, &format!("late-{round}"))?;
            let start = Instant::now();
            client.subscribe("#")?;
            let came = client.take_all(RETAINED_COUNT)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
            *least = came.min(*least);
        }
    }
    for (side, (least, times)) in sides().zip(&taken) {
        let mut shown = Spread::of(times.iter().copied()).millis();
        if *least < RETAINED_COUNT {
            shown = format!("{least} came");
        }
        let aim = if side.is_measured_by_aims() { "250 ms" } else { "-" };
        table.row(&format!("{RETAINED}: {}", side.name), aim, shown);
    }
    Ok(())
}

fn fill(side: &Side) -> Result<()> {
    let mut client = Client::connect(side.port, "filler")?;
    let payload = [b'.'; 64];
    for first in (0..RETAINED_COUNT).step_by(RETAINED_AT_ONCE) {
        let mut output = Vec::new();
        for number in first..first + RETAINED_AT_ONCE {
            let topic = format!("retained/{}/device-{number}", number / 1_000);
            let packet_id = u16::try_from(number - first + 1).context("few at once")?;
            output.extend(wire::retained(&topic, packet_id, &payload));
        }
        client.stream.write_all(&output)?;
        for _ in 0..RETAINED_AT_ONCE {
            let came = client.next()?;
            ensure!(matches!(came, Came::Ack { kind: wire::PUBACK, .. }), "{came:?} to PUBLISH");
        }
    }
    Ok(())
}

/// A client that waits for what it wants.
#[derive(Debug)]
struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    taken: usize,
    /// Messages that came before the answer to SUBSCRIBE.
    early: usize,
}

impl Client {
    fn connect(port: u16, id: &str) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut client = Self { stream, input: Vec::new(), taken: 0, early: 0 };
        client.stream.write_all(&wire::connect(id, true))?;
        let came = client.next()?;
        ensure!(came == Came::Answer { kind: wire::CONNACK, code: 0 }, "{came:?} to CONNECT");
        Ok(client)
    }

    fn subscribe(&mut self, filter: &str) -> Result<()> {
        self.stream.write_all(&wire::subscribe(&[filter], 0))?;
        loop {
            match self.next()? {
                Came::Answer { kind: wire::SUBACK, code: 0 } => return Ok(()),
                // They may come first (MQTT 3.1.1, section 3.8.4).
                Came::Publish { .. } => self.early += 1,
                came => return Err(anyhow!("{came:?} to SUBSCRIBE")),
            }
        }
    }

    /// Takes messages until there are `count` or nothing comes; returns how many came.
    fn take_all(&mut self, count: usize) -> Result<usize> {
        self.stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut came = std::mem::take(&mut self.early);
        while came < count {
            match self.next() {
                Ok(Came::Publish { .. }) => came += 1,
                Ok(other) => return Err(anyhow!("{other:?} instead of PUBLISH")),
                Err(_) => break,
            }
        }
        Ok(came)
    }

    fn next(&mut self) -> Result<Came> {
        loop {
            let next = wire::next(&self.input[self.taken..]);
            if let Some((came, bytes)) = next.map_err(|byte| anyhow!("packet {byte:#04x}"))? {
                self.taken += bytes;
                return Ok(came);
            }
            self.input.drain(..self.taken);
            self.taken = 0;
            let start = self.input.len();
            self.input.resize(start + (64 << 10), 0);
            let read = self.stream.read(&mut self.input[start..]);
            self.input.truncate(start + read.as_ref().map_or(0, |read| *read));
            ensure!(read? > 0, "the broker closed the connection");
        }
    }
}

// What `next` reads of a payload is there.
const _: () = assert!(Stamp::BYTES <= 64);
