//! How fast an uplink may send, where the far side bounds it.

use std::time::Duration;

/// What a far side takes from one connection. `None`: as much as comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Messages a second, and at once.
    pub messages: Option<u32>,
    /// Bytes a second, and at once; of payloads, topics and 64 for each message.
    pub bytes: Option<u32>,
}

/// Two token buckets that hold a second's worth each.
///
/// A message may go while both hold something; a large one may leave a bucket in debt, which is to be filled first.
#[derive(Clone, Debug)]
pub struct Pace {
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
}

/// What a message costs beside its payload and topic, in bytes.
const OVERHEAD: usize = 64;

#[derive(Clone, Debug)]
struct Bucket {
    rate: f64,
    tokens: f64,
    at: Duration,
}

impl Bucket {
    fn new(rate: u32, now: Duration) -> Self {
        let rate = f64::from(rate.max(1));
        Self { rate, tokens: rate, at: now }
    }

    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.rate).min(self.rate);
        self.at = self.at.max(now);
    }

    /// Returns when a whole token is there, at the latest.
    fn ready_at(&self) -> Duration {
        self.at + Duration::from_secs_f64((1.0 - self.tokens).max(0.0) / self.rate)
    }
}

impl Pace {
    /// Begins with full buckets.
    pub fn new(rates: Rates, now: Duration) -> Self {
        let bucket = |rate: Option<u32>| rate.map(|rate| Bucket::new(rate, now));
        Self { messages: bucket(rates.messages), bytes: bucket(rates.bytes) }
    }

    /// Returns when the next message may go; `now` or earlier means at once.
    pub fn ready_at(&mut self, now: Duration) -> Duration {
        let buckets = [&mut self.messages, &mut self.bytes];
        let ready = buckets.into_iter().flatten().map(|bucket| {
            bucket.fill(now);
            bucket.ready_at()
        });
        ready.max().unwrap_or(now)
    }

    /// Takes notice of a message with so many bytes of payload and topic.
    pub fn note_sent(&mut self, bytes: usize) {
        if let Some(bucket) = &mut self.messages {
            bucket.tokens -= 1.0;
        }
        if let Some(bucket) = &mut self.bytes {
            #[expect(clippy::cast_precision_loss, reason = "sizes of messages are small")]
            let bytes = (bytes + OVERHEAD) as f64;
            bucket.tokens -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends as fast as the pace allows for `span`, and returns how many messages went.
    fn send_for(span: Duration, rates: Rates, bytes: usize) -> usize {
        let mut pace = Pace::new(rates, Duration::ZERO);
        let (mut now, mut sent) = (Duration::ZERO, 0);
        loop {
            let ready = pace.ready_at(now);
            now = now.max(ready);
            if now > span {
                return sent;
            }
            pace.note_sent(bytes);
            sent += 1;
        }
    }

    /// uplink.21: never more than a second's worth above the rate, and not less than the rate.
    #[test]
    fn a_burst_and_then_the_rate() {
        let ten = Duration::from_secs(10);
        let messages = Rates { messages: Some(100), bytes: None };
        let sent = send_for(ten, messages, 50);
        assert!((1_095..=1_101).contains(&sent), "{sent}");
        let bytes = Rates { messages: None, bytes: Some(524_288) };
        let sent = send_for(ten, bytes, 100_000 - OVERHEAD);
        assert!((55..=59).contains(&sent), "{sent}: 11 seconds' worth and one in debt");
        let both = Rates { messages: Some(5), bytes: Some(524_288) };
        assert!((50..=56).contains(&send_for(ten, both, 100_000)));
    }

    #[test]
    fn without_rates_nothing_waits() {
        let mut pace = Pace::new(Rates::default(), Duration::ZERO);
        for _ in 0..1_000 {
            pace.note_sent(1 << 20);
        }
        assert_eq!(pace.ready_at(Duration::from_secs(7)), Duration::from_secs(7));
    }
}
