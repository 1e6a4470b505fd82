//! Which of several brokers to connect to: the preferred one while it is well, others while it is not.

use std::time::Duration;

use crate::backoff::{Backoff, Failure, Pauses};

/// After so long on another broker the preferred ones are tried again.
const RETURN_AFTER: Duration = Duration::from_secs(600);
/// The most that becomes of [`RETURN_AFTER`] as it doubles with every return that did not last.
const RETURN_AFTER_MAX: Duration = Duration::from_secs(4 * 3_600);

/// The brokers of an uplink, the preferred first, and how each has been doing.
///
/// A broker that fails rests for a time that grows ([`Backoff`]), and meanwhile the next one is tried. What works is
/// stayed with: only after ten minutes a preferred broker is tried again, and later and later if it does not last, so
/// that the connection does not go back and forth.
#[derive(Clone, Debug)]
pub struct Endpoints {
    pauses: Pauses,
    each: Vec<Endpoint>,
    /// The one that is connected to, or was last.
    current: usize,
    /// Since when there is a connection.
    connected: Option<Duration>,
    return_after: Duration,
    /// Whether the last connection was given up for a better one.
    is_returning: bool,
    /// Whether what brokers are shown was replaced since the attempt began.
    is_outdated: bool,
}

#[derive(Clone, Debug)]
struct Endpoint {
    backoff: Backoff,
    rests_until: Duration,
    /// Whether it rests for something that does not pass by itself.
    needs_help: bool,
}

impl Endpoint {
    /// Rests no longer than `until` if it has refused what was replaced.
    fn note_renewed(&mut self, until: Duration) {
        if self.needs_help {
            self.rests_until = self.rests_until.min(until);
        }
    }
}

impl Endpoints {
    /// Makes a list of `count` brokers; there is at least one.
    pub fn new(count: usize, pauses: Pauses) -> Self {
        let endpoint = Endpoint {
            backoff: Backoff::new(pauses),
            rests_until: Duration::ZERO,
            needs_help: false,
        };
        Self {
            pauses,
            each: vec![endpoint; count.max(1)],
            current: 0,
            connected: None,
            return_after: RETURN_AFTER,
            is_returning: false,
            is_outdated: false,
        }
    }

    /// Returns which broker to try next.
    ///
    /// # Errors
    ///
    /// When to ask again, while all of them rest.
    pub fn next(&self, now: Duration) -> Result<usize, Duration> {
        let rested = self.each.iter().position(|endpoint| endpoint.rests_until <= now);
        rested.ok_or_else(|| {
            self.each.iter().map(|endpoint| endpoint.rests_until).min().unwrap_or(now)
        })
    }

    /// Takes notice of an attempt.
    pub fn note_attempt(&mut self, endpoint: usize) {
        self.current = endpoint.min(self.each.len() - 1);
        self.connected = None;
        self.is_outdated = false;
    }

    /// Takes notice that the attempt has led to a connection.
    pub fn note_connected(&mut self, now: Duration) {
        self.connected = Some(now);
    }

    /// Takes notice that the attempt or the connection has ended, and that the broker rests for `least` at least.
    /// `random` is any number, a new one each time.
    pub fn note_ended(&mut self, failure: Failure, now: Duration, random: u64, least: Duration) {
        let lasted = self.connected.take().map(|since| now.saturating_sub(since));
        let is_stable = lasted.is_some_and(|lasted| lasted >= self.pauses.stable_after);
        let endpoint = &mut self.each[self.current];
        if is_stable {
            endpoint.backoff.reset();
        }
        endpoint.needs_help = failure == Failure::Lasting;
        endpoint.rests_until = now + endpoint.backoff.after(failure, random).max(least);
        if std::mem::take(&mut self.is_outdated) {
            // What it refused may have been the old.
            self.each
                .iter_mut()
                .for_each(|endpoint| endpoint.note_renewed(now + self.pauses.first));
        }
        if std::mem::take(&mut self.is_returning) || (self.current == 0 && lasted.is_some()) {
            // Whoever cannot stay is returned to later and later.
            let doubled = (self.return_after * 2).min(RETURN_AFTER_MAX);
            let lasted_long = lasted.is_some_and(|lasted| lasted >= RETURN_AFTER);
            self.return_after = if lasted_long { RETURN_AFTER } else { doubled };
        }
    }

    /// Returns when a connection to another than the preferred broker is to be given up for a better one.
    pub fn returns_at(&self) -> Option<Duration> {
        let since = self.connected.filter(|_| self.current > 0)?;
        let better = self.each[..self.current].iter().map(|endpoint| endpoint.rests_until).min()?;
        Some((since + self.return_after).max(better))
    }

    /// Takes notice that the connection was given up for a better one: it may be taken up again at once.
    pub fn note_returning(&mut self) {
        self.connected = None;
        self.is_returning = true;
        self.each[self.current].backoff.reset();
    }

    /// Takes notice that the connection was given up for another to the same broker, at once: that is no failure.
    pub fn note_renewing(&mut self) {
        self.connected = None;
        self.each[self.current].backoff.reset();
    }

    /// Takes notice that what brokers are shown was replaced: those that refused it are tried after the first pause.
    pub fn note_renewed(&mut self, now: Duration) {
        self.is_outdated = true;
        self.each.iter_mut().for_each(|endpoint| endpoint.note_renewed(now + self.pauses.first));
    }

    /// Returns the broker that is connected to, or was last.
    pub fn current(&self) -> usize {
        self.current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// uplink.32: another password is tried at once, and a far side that was away is not asked sooner for it.
    #[test]
    fn what_was_refused_is_tried_again_when_it_was_replaced() {
        let mut endpoints = Endpoints::new(2, Pauses::USUAL);
        endpoints.note_attempt(0);
        endpoints.note_ended(Failure::Lasting, Duration::ZERO, 0, Duration::ZERO);
        endpoints.note_attempt(1);
        endpoints.note_ended(Failure::Transient, Duration::ZERO, 0, 60 * SECOND);
        assert_eq!(endpoints.next(SECOND), Err(60 * SECOND));
        endpoints.note_renewed(SECOND);
        assert_eq!(endpoints.next(SECOND), Err(2 * SECOND));
        assert_eq!(endpoints.next(2 * SECOND), Ok(0));
    }

    /// uplink.32: a password that is replaced while the old one is being refused is not left waiting.
    #[test]
    fn what_is_refused_while_it_is_replaced_is_tried_again() {
        let mut endpoints = Endpoints::new(1, Pauses::USUAL);
        endpoints.note_attempt(0);
        endpoints.note_renewed(SECOND);
        endpoints.note_ended(Failure::Lasting, 2 * SECOND, 0, Duration::ZERO);
        assert_eq!(endpoints.next(2 * SECOND), Err(3 * SECOND));
        endpoints.note_attempt(0);
        endpoints.note_ended(Failure::Lasting, 3 * SECOND, 0, Duration::ZERO);
        assert!(endpoints.next(60 * SECOND).is_err(), "the new one is refused, too");
    }

    /// uplink.32: short connections are no success, however many messages went through.
    #[test]
    fn a_single_broker_is_tried_less_and_less_often_until_it_lasts() {
        let mut endpoints = Endpoints::new(1, Pauses::USUAL);
        let mut now = Duration::ZERO;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert_eq!(endpoints.next(now), Ok(0));
            endpoints.note_attempt(0);
            endpoints.note_connected(now);
            now += 9 * SECOND;
            endpoints.note_ended(Failure::Transient, now, u64::MAX, Duration::ZERO);
            let until = endpoints.next(now).unwrap_err();
            pauses.push((until - now).as_millis());
            now = until;
        }
        assert!(pauses.is_sorted() && pauses[0] <= 1_000 && pauses[7] >= 30_000, "{pauses:?}");
        endpoints.note_attempt(0);
        endpoints.note_connected(now);
        now += Pauses::USUAL.stable_after;
        endpoints.note_ended(Failure::Transient, now, 0, Duration::ZERO);
        assert!(endpoints.next(now).unwrap_err() - now <= SECOND, "it was well in between");
    }

    /// uplink.28: others step in at once, and the preferred one is returned to, but not back and forth.
    #[test]
    fn another_steps_in_and_the_preferred_one_is_returned_to() {
        let mut endpoints = Endpoints::new(3, Pauses::USUAL);
        let mut now = Duration::ZERO;
        for failing in [0, 1] {
            assert_eq!(endpoints.next(now), Ok(failing));
            endpoints.note_attempt(failing);
            endpoints.note_ended(Failure::Lasting, now, 0, Duration::ZERO);
        }
        assert_eq!(endpoints.next(now), Ok(2));
        endpoints.note_attempt(2);
        assert_eq!(endpoints.returns_at(), None, "there is no connection yet");
        endpoints.note_connected(now);
        let mut stays = Vec::new();
        for _ in 0..5 {
            let returns_at = endpoints.returns_at().unwrap();
            stays.push(returns_at - now);
            now = returns_at;
            endpoints.note_returning();
            assert_eq!(endpoints.next(now), Ok(0));
            endpoints.note_attempt(0);
            endpoints.note_connected(now);
            now += SECOND;
            endpoints.note_ended(Failure::Transient, now, 0, Duration::ZERO);
            // The second is tried too, and does not answer.
            if endpoints.next(now) == Ok(1) {
                endpoints.note_attempt(1);
                endpoints.note_ended(Failure::Transient, now, 0, Duration::ZERO);
            }
            assert_eq!(endpoints.next(now), Ok(2), "it works");
            endpoints.note_attempt(2);
            endpoints.note_connected(now);
        }
        assert!(stays[0] >= RETURN_AFTER && stays.is_sorted(), "{stays:?}");
        assert!(stays[4] >= 8 * RETURN_AFTER, "{stays:?}");
    }

    #[test]
    fn while_all_rest_the_first_that_has_rested_is_next() {
        let mut endpoints = Endpoints::new(2, Pauses::USUAL);
        endpoints.note_attempt(0);
        endpoints.note_ended(Failure::Lasting, Duration::ZERO, 0, Duration::ZERO);
        endpoints.note_attempt(1);
        endpoints.note_ended(Failure::Transient, Duration::ZERO, 0, Duration::ZERO);
        let until = endpoints.next(Duration::ZERO).unwrap_err();
        assert!(until <= SECOND);
        assert_eq!(endpoints.next(until), Ok(1));
    }
}
