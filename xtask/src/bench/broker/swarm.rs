//! The clients of a load, all on one thread: they publish, acknowledge, and check that nothing is missing.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::load::Load;
use super::wire::{self, Came, Stamp, Template};

/// Filters in one SUBSCRIBE.
const FILTERS_AT_ONCE: usize = 100;
const READ_BYTES: usize = 256 << 10;
/// How long what is under way may take to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a paced swarm sleeps at most; what is due meanwhile is sent then, each packet by itself.
const NAP: Duration = Duration::from_micros(50);
/// Buckets of how late messages are: each an eighth of a power of two of nanoseconds.
const BUCKETS: usize = 64 * 8;

/// What came of a stretch of load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handled {
    /// Messages that reached a subscriber.
    pub(super) delivered: u64,
    pub(super) elapsed: Duration,
    /// In which 99 of 100 were delivered.
    pub(super) late: Duration,
    /// Messages that never came.
    pub(super) lost: u64,
}

/// Clients of one load with one broker.
#[derive(Debug)]
pub(super) struct Swarm {
    load: Load,
    poll: Poll,
    clients: Vec<Client>,
    publishers: Vec<Publisher>,
    buffer: Vec<u8>,
    start: Instant,
    delivered: u64,
    sent: u64,
    /// Messages that a paced swarm was to have sent.
    paced_since: Instant,
    paced: u64,
    late: Vec<u64>,
}

#[derive(Debug)]
struct Client {
    stream: TcpStream,
    /// A packet whose rest has not come.
    cut: Vec<u8>,
    output: Vec<u8>,
    is_blocked: bool,
    /// Whose number it is among the publishers, if it is one.
    publisher: Option<usize>,
    /// The next number of each publisher that it gets messages of.
    expected: HashMap<u32, u64>,
    answers: usize,
}

#[derive(Debug)]
struct Publisher {
    client: usize,
    template: Template,
    next_number: u64,
    packet_id: u16,
    /// Copies that are not delivered.
    on_the_way: usize,
    /// Messages of QoS 1 and 2 that are not acknowledged.
    unanswered: usize,
}

impl Swarm {
    /// Connects all, subscribers first; `tag` names the part of the topic space, without one nobody answers.
    pub(super) fn join(load: &Load, port: u16, tag: Option<&str>) -> Result<Self> {
        let topic_tag = format!("{}-{}", tag.unwrap_or("relay"), load.name.len());
        let poll = Poll::new()?;
        let now = Instant::now();
        let mut swarm = Self {
            load: *load,
            poll,
            clients: Vec::new(),
            publishers: Vec::new(),
            buffer: vec![0; READ_BYTES],
            start: now,
            delivered: 0,
            sent: 0,
            paced_since: now,
            paced: 0,
            late: vec![0; BUCKETS],
        };
        for number in 0..load.subscribers {
            let client = swarm.connect(port, None)?;
            if tag.is_some() {
                let id = format!("{topic_tag}-subscriber-{number}");
                let filter = load.filter(&topic_tag, number);
                swarm.greet(client, &wire::connect(&id, !load.is_persistent))?;
                swarm.greet(client, &wire::subscribe(&[filter], load.qos))?;
                let idle: Vec<String> = (0..load.idle_filters)
                    .map(|other| Load::idle_filter(&topic_tag, number, other))
                    .collect();
                for filters in idle.chunks(FILTERS_AT_ONCE) {
                    swarm.greet(client, &wire::subscribe(filters, load.qos))?;
                }
            }
        }
        for number in 0..load.publishers {
            let client = swarm.connect(port, Some(number))?;
            if tag.is_some() {
                let id = format!("{topic_tag}-publisher-{number}");
                swarm.greet(client, &wire::connect(&id, true))?;
            }
            let topic = load.topic(&topic_tag, number);
            let template = Template::new(&topic, load.qos, load.payload);
            let publisher = Publisher {
                client,
                template,
                next_number: 0,
                packet_id: 0,
                on_the_way: 0,
                unanswered: 0,
            };
            swarm.publishers.push(publisher);
        }
        Ok(swarm)
    }

    fn connect(&mut self, port: u16, publisher: Option<usize>) -> Result<usize> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let number = self.clients.len();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(number), interest)?;
        self.clients.push(Client {
            stream,
            cut: Vec::new(),
            output: Vec::new(),
            is_blocked: false,
            publisher,
            expected: HashMap::new(),
            answers: 0,
        });
        Ok(number)
    }

    /// Sends a packet and waits for its answer.
    fn greet(&mut self, client: usize, packet: &[u8]) -> Result<()> {
        let answers = self.clients[client].answers + 1;
        self.clients[client].output.extend_from_slice(packet);
        self.clients[client].flush()?;
        let deadline = Instant::now() + PATIENCE;
        while self.clients[client].answers < answers {
            ensure!(Instant::now() < deadline, "no answer to {:#04x}", packet[0]);
            self.look(Some(Duration::from_millis(10)))?;
        }
        Ok(())
    }

    /// Publishes for a time.
    pub(super) fn run(&mut self, time: Duration) -> Result<Handled> {
        let begin = Instant::now();
        let delivered = self.delivered;
        self.late.fill(0);
        (self.paced_since, self.paced) = (begin, 0);
        let mut last = (self.delivered, begin);
        while begin.elapsed() < time {
            let sent = match self.load.rate {
                Some(rate) => self.send_paced(rate)?,
                None => self.send_round()?,
            };
            let wait = match self.load.rate {
                Some(_) => Duration::ZERO,
                None if sent => Duration::ZERO,
                None => Duration::from_millis(10),
            };
            self.look(Some(wait))?;
            if self.load.rate.is_some() {
                std::thread::sleep(NAP);
            }
            if self.delivered > last.0 {
                last = (self.delivered, Instant::now());
            } else if last.1.elapsed() > PATIENCE {
                bail!("nothing was delivered for {PATIENCE:?}");
            }
        }
        Ok(Handled {
            delivered: self.delivered - delivered,
            elapsed: begin.elapsed(),
            late: self.percentile(99),
            lost: 0,
        })
    }

    /// Publishes so many messages, as fast as the windows allow.
    pub(super) fn send(&mut self, messages: u64, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        while self.sent < messages {
            ensure!(Instant::now() < deadline, "{} of {messages} sent", self.sent);
            let any = self.send_round()?;
            let wait = if any { Duration::ZERO } else { Duration::from_millis(10) };
            self.look(Some(wait))?;
        }
        Ok(())
    }

    /// Waits until everything that was sent has come, and returns how much has not.
    pub(super) fn drain(&mut self) -> Result<u64> {
        let all = self.sent * self.load.copies() as u64;
        let deadline = Instant::now() + PATIENCE;
        while self.delivered < all && Instant::now() < deadline {
            self.look(Some(Duration::from_millis(10)))?;
        }
        Ok(all.saturating_sub(self.delivered))
    }

    /// Lets each publisher with room send one write of packets; whether anyone had.
    fn send_round(&mut self) -> Result<bool> {
        let mut any = false;
        for number in 0..self.publishers.len() {
            let batch = self.load.packets_per_write;
            if self.has_room(number, batch) {
                self.publish(number, batch)?;
                any = true;
            }
        }
        Ok(any)
    }

    /// Sends what is due at `rate` messages a second, each by the next publisher.
    fn send_paced(&mut self, rate: u32) -> Result<bool> {
        let due = self.paced_since.elapsed().as_secs_f64() * f64::from(rate);
        let mut any = false;
        while (self.paced as f64) < due {
            let number = usize::try_from(self.paced).context("few")? % self.publishers.len();
            self.paced += 1;
            if self.has_room(number, 1) {
                self.publish(number, 1)?;
                any = true;
            }
        }
        Ok(any)
    }

    fn has_room(&self, number: usize, batch: usize) -> bool {
        let publisher = &self.publishers[number];
        let copies = self.load.copies();
        publisher.on_the_way + batch * copies <= self.load.window * copies
            && publisher.unanswered + batch <= self.load.window
            && !self.clients[publisher.client].is_blocked
    }

    fn publish(&mut self, number: usize, batch: usize) -> Result<()> {
        let sent = wire::stamp_now(self.start);
        let publisher = &mut self.publishers[number];
        let client = &mut self.clients[publisher.client];
        for _ in 0..batch {
            let stamp = Stamp {
                publisher: u32::try_from(number).context("few publishers")?,
                number: publisher.next_number,
                sent,
            };
            publisher.next_number += 1;
            publisher.packet_id = publisher.packet_id.checked_add(1).unwrap_or(1);
            publisher.template.put(&mut client.output, publisher.packet_id, stamp);
        }
        publisher.on_the_way += batch * self.load.copies();
        publisher.unanswered += if self.load.qos == 0 { 0 } else { batch };
        self.sent += batch as u64;
        client.flush()
    }

    /// Waits for what comes, and answers it.
    fn look(&mut self, wait: Option<Duration>) -> Result<()> {
        let mut events = Events::with_capacity(256);
        match self.poll.poll(&mut events, wait) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for event in &events {
            let number = event.token().0;
            if event.is_writable() {
                self.clients[number].is_blocked = false;
                self.clients[number].flush()?;
            }
            if event.is_readable() {
                self.read(number)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, number: usize) -> Result<()> {
        loop {
            let mut buffer = std::mem::take(&mut self.buffer);
            let kept = std::mem::take(&mut self.clients[number].cut);
            buffer[..kept.len()].copy_from_slice(&kept);
            let result = self.clients[number].stream.read(&mut buffer[kept.len()..]);
            let read = match result {
                Ok(0) => bail!("the broker closed the connection of client {number}"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.clients[number].cut = kept;
                    self.buffer = buffer;
                    break;
                }
                Err(error) => return Err(error.into()),
            };
            let is_full = read + kept.len() == buffer.len();
            let taken = self.take(number, &buffer[..kept.len() + read]);
            self.clients[number].cut = buffer[taken?..kept.len() + read].to_vec();
            self.buffer = buffer;
            if !is_full {
                break;
            }
        }
        self.clients[number].flush()
    }

    /// Acts on whole packets and returns how many bytes they were.
    fn take(&mut self, number: usize, input: &[u8]) -> Result<usize> {
        let now = wire::stamp_now(self.start);
        let mut at = 0;
        loop {
            let next = wire::next(&input[at..]);
            let next = next.map_err(|byte| anyhow::anyhow!("unexpected packet {byte:#04x}"))?;
            let Some((came, length)) = next else { return Ok(at) };
            at += length;
            let client = &mut self.clients[number];
            match came {
                Came::Publish { qos, packet_id, stamp } => {
                    let expected = client.expected.entry(stamp.publisher).or_insert(stamp.number);
                    ensure!(
                        stamp.number >= *expected,
                        "message {} of publisher {} came where {expected} was due",
                        stamp.number,
                        stamp.publisher
                    );
                    *expected = stamp.number + 1;
                    self.publishers[stamp.publisher as usize].on_the_way -= 1;
                    match qos {
                        0 => {}
                        1 => client.output.extend(wire::ack(wire::PUBACK, packet_id)),
                        _ => client.output.extend(wire::ack(wire::PUBREC, packet_id)),
                    }
                    self.delivered += 1;
                    self.late[bucket(now.saturating_sub(stamp.sent))] += 1;
                }
                Came::Ack { kind: wire::PUBREC, packet_id } => {
                    client.output.extend(wire::ack(wire::PUBREL, packet_id));
                }
                Came::Ack { kind: wire::PUBREL, packet_id } => {
                    client.output.extend(wire::ack(wire::PUBCOMP, packet_id));
                }
                Came::Ack { .. } => {
                    let publisher = client.publisher.context("an acknowledgement to nobody")?;
                    self.publishers[publisher].unanswered -= 1;
                }
                Came::Answer { kind, code } => {
                    ensure!(code <= 2, "refused: {kind:#04x} {code:#04x}");
                    client.answers += 1;
                }
            }
        }
    }

    fn percentile(&self, percent: u64) -> Duration {
        let all: u64 = self.late.iter().sum();
        let mut seen = 0;
        for (number, count) in self.late.iter().enumerate() {
            seen += count;
            if seen * 100 >= all * percent {
                return upper_end(number);
            }
        }
        Duration::ZERO
    }
}

impl Client {
    fn flush(&mut self) -> Result<()> {
        if self.output.is_empty() || self.is_blocked {
            return Ok(());
        }
        match self.stream.write(&self.output) {
            Ok(written) if written == self.output.len() => self.output.clear(),
            Ok(written) => {
                self.output.drain(..written);
                self.is_blocked = true;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.is_blocked = true,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

fn bucket(late: Duration) -> usize {
    let nanos = u64::try_from(late.as_nanos()).unwrap_or(u64::MAX).max(8);
    let power = nanos.ilog2() as usize;
    let eighth = (nanos >> (power - 3) & 7) as usize;
    (power * 8 + eighth).min(BUCKETS - 1)
}

fn upper_end(bucket: usize) -> Duration {
    let (power, eighth) = (bucket / 8, bucket % 8);
    Duration::from_nanos((8 + eighth as u64 + 1) << power.saturating_sub(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_is_below_its_end() {
        for nanos in [8, 9, 100, 1_000, 123_456, 10_000_000_000] {
            let late = Duration::from_nanos(nanos);
            let end = upper_end(bucket(late));
            assert!(late < end && end <= late * 5 / 4, "{nanos}: {end:?}");
        }
    }
}
