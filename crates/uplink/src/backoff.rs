//! How long to wait before the next attempt.

use std::time::Duration;

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The same attempt may succeed later by itself.
    Transient,
    /// Somebody has to step in: credentials, rights, identity.
    Lasting,
}

/// How long to wait between attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pauses {
    /// The first; half of it at least, as with all.
    pub first: Duration,
    /// The longest after transient failures.
    pub longest: Duration,
    /// The least once two have failed running; half of the doubled pause where that is longer.
    pub least_after_two: Duration,
    /// A connection that lasted this long has shown that the far side is well.
    pub stable_after: Duration,
}

impl Pauses {
    /// Up to a minute, for far sides that say nothing of it.
    pub const USUAL: Self = Self {
        first: Duration::from_secs(1),
        longest: Duration::from_secs(60),
        least_after_two: Duration::ZERO,
        stable_after: Duration::from_secs(10),
    };
}

/// Waits the first pause, doubling to the longest one, after transient failures; 5 minutes after lasting ones. Each with jitter:
/// between half and all of it, so that a fleet does not return at once.
#[derive(Clone, Debug)]
pub struct Backoff {
    pauses: Pauses,
    next: Duration,
    failures: u32,
}

const LASTING: Duration = Duration::from_secs(300);

impl Default for Backoff {
    fn default() -> Self {
        Self::new(Pauses::USUAL)
    }
}

impl Backoff {
    /// Begins with the shortest pause.
    pub fn new(pauses: Pauses) -> Self {
        Self { pauses, next: pauses.first, failures: 0 }
    }

    /// Begins anew, after the far side has shown that it works.
    pub fn reset(&mut self) {
        *self = Self::new(self.pauses);
    }

    /// Returns how long to wait after `failure`. `random` is any number, a new one each time.
    pub fn after(&mut self, failure: Failure, random: u64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let whole = match failure {
            Failure::Lasting => LASTING,
            Failure::Transient => {
                let longer = (self.next * 2).min(self.pauses.longest);
                std::mem::replace(&mut self.next, longer)
            }
        };
        let half = whole / 2;
        let spread = u64::try_from(half.as_millis()).expect("minutes") + 1;
        let pause = half + Duration::from_millis(random % spread);
        if self.failures < 2 { pause } else { pause.max(self.pauses.least_after_two) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_with_jitter() {
        let mut backoff = Backoff::default();
        for whole in [1, 2, 4, 8, 16, 32, 60, 60] {
            let whole = Duration::from_secs(whole);
            let mut same = backoff.clone();
            assert_eq!(same.after(Failure::Transient, 0), whole / 2);
            for random in [1, 77, u64::MAX] {
                let wait = backoff.clone().after(Failure::Transient, random);
                assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
            }
            backoff.after(Failure::Transient, 5);
        }
        let lasting = backoff.after(Failure::Lasting, u64::MAX);
        assert!(lasting >= Duration::from_secs(150) && lasting <= Duration::from_secs(300));
        backoff.reset();
        assert!(backoff.after(Failure::Transient, 9) <= Duration::from_secs(1));
    }

    /// uplink.32: who bounds the attempts of a client is not asked more often.
    #[test]
    fn after_two_failures_the_least_pause_holds() {
        let pauses = Pauses {
            first: Duration::from_secs(2),
            longest: Duration::from_secs(120),
            least_after_two: Duration::from_secs(11),
            ..Pauses::USUAL
        };
        let mut backoff = Backoff::new(pauses);
        assert_eq!(backoff.after(Failure::Transient, 0), Duration::from_secs(1));
        let waits: Vec<u64> =
            (0..8).map(|_| backoff.after(Failure::Transient, 0).as_secs()).collect();
        assert_eq!(waits, [11, 11, 11, 16, 32, 60, 60, 60]);
    }
}
