//! `[limits] memory-ceiling`: near it the gateway refuses, so that it does not die.
//!
//! What counts is the resident memory of the process, as the system tells it: once a second, and each time about a
//! mebibyte of messages has come in. From 80 % of the ceiling on clients without a session and new retained messages
//! are refused, from 90 % on every message. What waits is delivered all the while, to clients that come back for it
//! too, and below 75 and 85 % the gateway takes them again. From 80 % on few connections may be without a login.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tidegate_model::Message;
use tracing::{info, warn};

use super::{
    resident,
    strangers::{Stranger, Strangers},
};

/// Memory is looked at when so much has come in since the last look.
const LOOK_BYTES: u64 = 1 << 20;
/// What a message takes beside topic and payload, or a little more.
const MESSAGE_BYTES: usize = 512;
/// What a connection takes until its login, or a little more.
const STRANGER_BYTES: u64 = 32 << 10;
/// How often freed memory is given back while memory is tight.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(1);

/// How near the ceiling is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Far.
    Free,
    /// Nothing new is begun.
    Tight,
    /// Nothing is taken.
    Full,
}

impl Pressure {
    /// Returns the percentages of the ceiling at which this begins and ends.
    fn bounds(self) -> (u64, u64) {
        match self {
            Self::Free => (0, 0),
            Self::Tight => (80, 75),
            Self::Full => (90, 85),
        }
    }

    /// Returns what follows from a measurement.
    fn next(self, resident: u64, ceiling: u64) -> Self {
        let percent = resident.saturating_mul(100) / ceiling.max(1);
        let holds = |pressure: Self| {
            let (begin, end) = pressure.bounds();
            percent >= if self >= pressure { end } else { begin }
        };
        [Self::Full, Self::Tight]
            .into_iter()
            .find(|pressure| holds(*pressure))
            .unwrap_or(Self::Free)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Tight => "tight",
            Self::Full => "full",
        }
    }
}

/// The ceiling, how near it is, and what was refused because of it.
#[derive(Debug)]
pub struct Ceiling {
    bytes: u64,
    resident: AtomicU64,
    pressure: AtomicU8,
    /// What has come in since the last look.
    unseen: AtomicU64,
    given_back: Mutex<Option<Instant>>,
    strangers: Arc<Strangers>,
    clients_refused: AtomicU64,
    messages_refused: AtomicU64,
    retained_refused: AtomicU64,
}

impl Ceiling {
    /// Takes the ceiling in bytes.
    pub fn new(bytes: u64) -> Self {
        Self {
            bytes,
            resident: AtomicU64::new(0),
            pressure: AtomicU8::new(Pressure::Free as u8),
            unseen: AtomicU64::new(0),
            given_back: Mutex::new(None),
            strangers: Arc::default(),
            clients_refused: AtomicU64::new(0),
            messages_refused: AtomicU64::new(0),
            retained_refused: AtomicU64::new(0),
        }
    }

    /// Returns how near it was at the last look.
    pub fn pressure(&self) -> Pressure {
        match self.pressure.load(Relaxed) {
            0 => Pressure::Free,
            1 => Pressure::Tight,
            _ => Pressure::Full,
        }
    }

    /// Whether there is room for these messages; if not, that is counted.
    pub fn admits(&self, messages: &[Message]) -> bool {
        let size = |message: &Message| {
            MESSAGE_BYTES + message.topic.as_str().len() + message.payload.size_estimate()
        };
        let bytes = messages.iter().map(size).sum::<usize>() as u64;
        self.note(bytes);
        let is_retained = |message: &Message| message.retain && !message.payload.is_empty();
        match self.pressure() {
            Pressure::Free => true,
            Pressure::Tight if !messages.iter().any(is_retained) => true,
            Pressure::Tight => {
                self.retained_refused.fetch_add(messages.len() as u64, Relaxed);
                false
            }
            Pressure::Full => {
                self.messages_refused.fetch_add(messages.len() as u64, Relaxed);
                false
            }
        }
    }

    /// Whether there is room for a client that has no session; if not, that is counted.
    pub fn admits_client(&self) -> bool {
        let admits = self.pressure() == Pressure::Free;
        self.clients_refused.fetch_add(u64::from(!admits), Relaxed);
        admits
    }

    /// Takes note of a connection that has come and has not logged in. Near the ceiling others have to go for it.
    pub fn stranger(&self) -> Stranger {
        let stranger = self.strangers.come();
        self.note(STRANGER_BYTES);
        if self.pressure() > Pressure::Free {
            self.strangers.thin_out();
        }
        stranger
    }

    /// Notes what comes in, and looks when that is much.
    fn note(&self, bytes: u64) {
        if self.unseen.fetch_add(bytes, Relaxed) + bytes >= LOOK_BYTES {
            self.look();
        }
    }

    /// Measures. Blocks for some milliseconds at most, and only where memory is tight.
    pub fn look(&self) {
        self.unseen.store(0, Relaxed);
        let Some(mut now) = resident() else { return };
        let before = self.pressure();
        if before.next(now, self.bytes) > Pressure::Free && self.give_back() {
            now = resident().unwrap_or(now);
        }
        let after = before.next(now, self.bytes);
        self.resident.store(now, Relaxed);
        let last = self.pressure.swap(after as u8, Relaxed);
        if after > Pressure::Free {
            self.strangers.thin_out();
        }
        if (last == Pressure::Free as u8) != (after == Pressure::Free) {
            self.tell(after, now);
        }
    }

    /// Gives freed memory back to the system, unless that was done just now.
    fn give_back(&self) -> bool {
        let mut last = self.given_back.lock();
        let is_due = last.is_none_or(|last| last.elapsed() >= GIVE_BACK_EVERY);
        if is_due {
            *last = Some(Instant::now());
            tidegate_heap::give_back();
        }
        is_due
    }

    fn tell(&self, pressure: Pressure, resident: u64) {
        let ceiling = self.bytes;
        if pressure == Pressure::Free {
            info!(resident, ceiling, "Memory is free again");
        } else {
            warn!(resident, ceiling, "Memory is tight, clients and messages are refused");
        }
    }

    /// Returns how things are, for the status.
    pub fn to_json(&self) -> Value {
        json!({
            "ceiling-bytes": self.bytes,
            "resident-bytes": self.resident.load(Relaxed),
            "pressure": self.pressure().word(),
            "refused": {
                "connections": self.strangers.sent_away(),
                "clients": self.clients_refused.load(Relaxed),
                "messages": self.messages_refused.load(Relaxed),
                "retained": self.retained_refused.load(Relaxed),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// broker.12: what is refused is taken again only when there is clearly room.
    #[test]
    fn broker_12_pressure_rises_and_falls_apart() {
        use Pressure::{Free, Free as F, Full, Tight};
        #[rustfmt::skip]
        let cases = [
            (F,     79,  Free),  (F,     80, Tight), (F,     89, Tight), (F,    90, Full),
            (Tight, 75,  Tight), (Tight, 74, Free),  (Tight, 90, Full),
            (Full,  85,  Full),  (Full,  84, Tight), (Full,  75, Tight), (Full, 74, Free),
            (Full,  300, Full),
        ];
        for (before, resident, expected) in cases {
            assert_eq!(before.next(resident, 100), expected, "{before:?} at {resident} %");
        }
    }

    #[test]
    fn the_real_memory_is_compared_with_the_ceiling() {
        let low = Ceiling::new(1 << 20);
        assert!(low.admits_client(), "it has not looked yet");
        low.look();
        assert_eq!(low.pressure(), Pressure::Full);
        assert!(!low.admits_client());
        let json = low.to_json();
        assert_eq!(json["refused"]["clients"], 1);
        assert!(json["resident-bytes"].as_u64() > Some(1 << 20), "{json}");
        let high = Ceiling::new(1 << 50);
        high.look();
        assert_eq!(high.pressure(), Pressure::Free);
    }
}
