//! Load: readings sent over several connections, each with a window of unanswered ones.

pub(super) mod coap;
pub(super) mod echo;
pub(super) mod http;
pub(super) mod mqtt;

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long the last answers may take.
const GRACE: Duration = Duration::from_secs(5);

/// How long a look for answers may block, so that a paced sender stays on time.
const LOOK: Duration = Duration::from_millis(2);

/// One connection of a device.
pub(super) trait Client: Send {
    /// Sends one reading of the device `device`, perhaps only with the next [`flush`](Self::flush).
    fn send(&mut self, device: usize, value: Tenths) -> io::Result<()>;

    /// Sends what has been gathered.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Waits for answers, at most a moment, and returns how many readings they acknowledge.
    ///
    /// An answer that is not an acknowledgement is an error.
    fn receive(&mut self) -> io::Result<usize>;
}

/// A temperature in tenths of a degree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tenths(pub(super) u32);

impl std::fmt::Display for Tenths {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}", self.0 / 10, self.0 % 10)
    }
}

/// What to send. The first bound that is met ends it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Connections, each on a thread of its own.
    pub(super) connections: usize,
    /// Unanswered readings of a connection.
    pub(super) window: usize,
    /// Readings of all connections together.
    pub(super) readings: usize,
    /// For how long readings are sent.
    pub(super) time: Duration,
    /// Readings a second of all connections together; without, as many as are answered.
    pub(super) rate: Option<u32>,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    pub(super) readings: u64,
}

/// Devices of one connection; their readings go round robin.
const DEVICES: usize = 16;

/// Sends `load` over clients that `connect` makes, and waits for every answer.
pub(super) fn run<C: Client>(load: Load, connect: impl Fn() -> io::Result<C>) -> Result<Answered> {
    let clients = (0..load.connections).map(|_| connect()).collect::<io::Result<Vec<C>>>()?;
    let counts = thread::scope(|scope| {
        let threads: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(number, client)| scope.spawn(move || drive(load, number, client)))
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<u64>>| {
            thread.join().unwrap_or_else(|_| bail!("a sender panicked"))
        };
        threads.into_iter().map(join).collect::<Result<Vec<u64>>>()
    })?;
    Ok(Answered { readings: counts.iter().sum() })
}

fn drive(load: Load, number: usize, mut client: impl Client) -> Result<u64> {
    let mut walk = Walk::new(number);
    let limit = load.readings / load.connections;
    let (mut sent, mut answered) = (0, 0);
    let start = Instant::now();
    let mut heard = start;
    loop {
        let elapsed = start.elapsed();
        let due = if elapsed >= load.time { sent } else { due(load, elapsed).min(limit) };
        let room = load.window - (sent - answered);
        for _ in 0..room.min(due.saturating_sub(sent)) {
            let (device, value) = walk.step();
            client.send(device, value).context("cannot send")?;
            sent += 1;
        }
        client.flush().context("cannot send")?;
        if sent > answered {
            let count = client.receive().context("no acknowledgement")?;
            answered += count;
            if count > 0 {
                heard = Instant::now();
            } else if heard.elapsed() > GRACE {
                bail!("{} of {sent} readings were not answered", sent - answered);
            }
        } else if elapsed >= load.time || sent == limit {
            return Ok(u64::try_from(answered)?);
        } else {
            heard = Instant::now();
            thread::sleep(LOOK);
        }
    }
}

/// Returns how many readings of one connection should have been sent by now.
fn due(load: Load, elapsed: Duration) -> usize {
    load.rate.map_or(usize::MAX, |rate| {
        let micros = u128::from(rate) * elapsed.as_micros() / 1_000_000;
        usize::try_from(micros).unwrap_or(usize::MAX) / load.connections
    })
}

/// Temperatures that wander by a tenth of a degree, always the same ones.
#[derive(Debug)]
struct Walk {
    seed: u32,
    first: usize,
    next: usize,
    values: [u32; DEVICES],
}

impl Walk {
    fn new(connection: usize) -> Self {
        Self { seed: 2_463_534_242, first: connection * DEVICES, next: 0, values: [215; DEVICES] }
    }

    fn step(&mut self) -> (usize, Tenths) {
        // xorshift32, after Marsaglia.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 17;
        self.seed ^= self.seed << 5;
        let at = self.next;
        self.next = (at + 1) % DEVICES;
        let value = &mut self.values[at];
        *value = (*value + self.seed % 3).saturating_sub(1).clamp(100, 900);
        (self.first + at, Tenths(*value))
    }
}

/// Returns 0 where a read found nothing in time, as sockets with a time limit tell it.
fn or_nothing(read: io::Result<usize>) -> io::Result<usize> {
    match read {
        Err(error) if is_late(&error) => Ok(0),
        Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the gateway hung up")),
        other => other,
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn refused(what: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("the gateway answered {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every second time it is asked, all that is open.
    #[derive(Default)]
    struct Slow {
        open: usize,
        most: usize,
        asked: usize,
    }

    impl Client for &mut Slow {
        fn send(&mut self, _: usize, _: Tenths) -> io::Result<()> {
            self.open += 1;
            self.most = self.most.max(self.open);
            Ok(())
        }

        fn receive(&mut self) -> io::Result<usize> {
            self.asked += 1;
            Ok(if self.asked.is_multiple_of(2) { std::mem::take(&mut self.open) } else { 0 })
        }
    }

    #[test]
    fn the_window_and_the_count_hold() {
        let time = Duration::from_secs(60);
        let load = Load { connections: 1, window: 7, readings: 100, time, rate: None };
        let mut client = Slow::default();
        assert_eq!(drive(load, 0, &mut client).unwrap(), 100);
        assert_eq!(client.most, 7);
    }

    #[test]
    fn a_walk_stays_near_and_repeats() {
        let (mut first, mut second) = (Walk::new(3), Walk::new(3));
        for _ in 0..1_000 {
            let (device, value) = first.step();
            assert_eq!((device, value), second.step());
            assert!((48..64).contains(&device) && (100..=900).contains(&value.0));
        }
        assert_eq!(Tenths(205).to_string(), "20.5");
    }
}
