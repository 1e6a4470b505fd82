//! Readings with known values at a known rate, and the book of those that were acknowledged.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    wait,
    wire::{Hello, Wire},
};

/// Streams that readings go to in turn.
const STREAMS: u16 = 4;
/// From one burst to the next.
const INTERVAL: Duration = Duration::from_millis(100);

/// A client that publishes with QoS 1, until it is stopped, whatever becomes of the gateway.
#[derive(Debug)]
pub(crate) struct Load {
    is_over: Arc<AtomicBool>,
    thread: thread::JoinHandle<Acknowledged>,
}

/// Per topic the values that were acknowledged. Values rise by one from 1 on; those that were not acknowledged may have
/// been taken all the same.
#[derive(Debug, Default)]
pub(crate) struct Acknowledged(BTreeMap<String, Vec<i64>>);

impl Acknowledged {
    /// Returns how many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Returns topics and values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[i64])> {
        self.0.iter().map(|(topic, values)| (topic.as_str(), values.as_slice()))
    }
}

impl Load {
    /// Starts to publish `burst` readings every tenth of a second.
    pub(crate) fn start(port: u16, burst: u16) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_over);
        let thread = thread::spawn(move || publish(port, burst, &until));
        Self { is_over, thread }
    }

    /// Stops, and returns what was acknowledged.
    pub(crate) fn stop(self) -> Acknowledged {
        self.is_over.store(true, Ordering::SeqCst);
        self.thread.join().expect("the load does not fail")
    }
}

fn publish(port: u16, burst: u16, is_over: &AtomicBool) -> Acknowledged {
    let mut acknowledged = Acknowledged::default();
    let mut wire = None;
    let mut next: i64 = 1;
    while !is_over.load(Ordering::SeqCst) {
        let due = Instant::now() + INTERVAL;
        let mut line = wire.take().unwrap_or_else(|| connect(port));
        let messages: Vec<(String, i64)> = (0..burst)
            .map(|place| (format!("plant/{}", place % STREAMS), next + i64::from(place / STREAMS)))
            .collect();
        next += i64::from(burst.div_ceil(STREAMS));
        let mut bytes = Vec::new();
        for ((topic, value), id) in messages.iter().zip(1..) {
            bytes.extend(line.publish_packet(topic.as_bytes(), &value.to_string(), 1, id, &[]));
        }
        line.send(&bytes);
        for _ in &messages {
            let Ok(Some(answer)) = line.read(wait::DEADLINE) else { break };
            assert_eq!((answer.head, answer.body.len()), (0x40, 2), "taken: {answer:?}");
            let id = usize::from(u16::from_be_bytes([answer.body[0], answer.body[1]]));
            let (topic, value) = &messages[id - 1];
            acknowledged.0.entry(topic.clone()).or_default().push(*value);
            if id == messages.len() {
                wire = Some(line);
                break;
            }
        }
        thread::park_timeout(due.saturating_duration_since(Instant::now()));
    }
    acknowledged
}

/// Connects as soon as the gateway listens and answers.
fn connect(port: u16) -> Wire {
    wait::until("the gateway to take the load", || {
        let mut wire = Wire::try_open(port, 4)?;
        wire.send(&Hello { version: 4, client_id: "load", ..Hello::default() }.to_bytes());
        let answer = wire.read(wait::DEADLINE).ok()??;
        (answer.head == 0x20 && answer.body[1] == 0).then_some(wire)
    })
}
