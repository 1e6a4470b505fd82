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

/// Waits 1 s, doubling to 60 s, after transient failures; 5 minutes after lasting ones. Each with jitter:
/// between half and all of it, so that a fleet does not return at once.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
}

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
const LASTING: Duration = Duration::from_secs(300);

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// Begins anew, after the far side has shown that it works.
    pub fn reset(&mut self) {
        self.next = FIRST;
    }

    /// Returns how long to wait after `failure`. `random` is any number, a new one each time.
    pub fn after(&mut self, failure: Failure, random: u64) -> Duration {
        let whole = match failure {
            Failure::Lasting => LASTING,
            Failure::Transient => {
                let longer = (self.next * 2).min(LONGEST);
                std::mem::replace(&mut self.next, longer)
            }
        };
        let half = whole / 2;
        let spread = u64::try_from(half.as_millis()).expect("minutes") + 1;
        half + Duration::from_millis(random % spread)
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
}
