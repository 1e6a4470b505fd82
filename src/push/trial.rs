//! How a set on trial fares in this run.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Watches what worked when a set was taken into use.
#[derive(Debug)]
pub(super) struct Watch {
    /// When the trial is over.
    deadline: Instant,
    /// What worked: until when it was last seen to, by what it is called.
    worked: BTreeMap<String, Instant>,
    /// How many runs of parts had ended in a panic.
    panics: u64,
    /// How long something may be down.
    patience: Duration,
}

/// What is to be looked at, at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Health {
    /// Parts and uplinks, and whether they work.
    pub(super) works: BTreeMap<String, bool>,
    /// How many runs of parts have ended in a panic.
    pub(super) panics: u64,
}

impl Watch {
    /// Begins at `now`; what does not work then need not work later.
    pub(super) fn new(
        now: Instant,
        confirm_within: Duration,
        patience: Duration,
        health: Health,
    ) -> Self {
        let worked = health.works.into_iter().filter(|(_, works)| *works);
        Self {
            deadline: now + confirm_within,
            worked: worked.map(|(name, _)| (name, now)).collect(),
            panics: health.panics,
            patience,
        }
    }

    /// Goes on behind a restart at `now`: what worked before it has its time from now on.
    pub(super) fn again(
        now: Instant,
        confirm_within: Duration,
        patience: Duration,
        worked: &[String],
    ) -> Self {
        let worked = worked.iter().map(|name| (name.clone(), now)).collect();
        Self { deadline: now + confirm_within, worked, panics: 0, patience }
    }

    /// Returns what worked at the beginning.
    pub(super) fn names(&self) -> Vec<String> {
        self.worked.keys().cloned().collect()
    }

    /// Returns why the set is to be put back, if it is.
    pub(super) fn look(&mut self, now: Instant, health: &Health) -> Option<String> {
        if health.panics > self.panics {
            return Some("a part of the gateway has panicked since".into());
        }
        for (name, last) in &mut self.worked {
            if health.works.get(name) == Some(&true) {
                *last = now;
            } else if now.saturating_duration_since(*last) >= self.patience {
                let seconds = self.patience.as_secs();
                return Some(format!("the {name} worked before, and has not for {seconds} s"));
            }
        }
        (now >= self.deadline).then(|| "nobody has confirmed it in time".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(works: &[(&str, bool)], panics: u64) -> Health {
        let works = works.iter().map(|(name, works)| ((*name).to_owned(), *works)).collect();
        Health { works, panics }
    }

    /// uplink.31: what worked before must not stay down, what did not may; a panic or the end of the time ends a trial.
    #[test]
    fn uplink_31_a_trial_ends_when_something_breaks_or_nobody_confirms() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let begin = || {
            let works = health(&[("uplink a", true), ("uplink b", false)], 2);
            Watch::new(start, Duration::from_secs(100), Duration::from_secs(10), works)
        };
        let (up, down) = (health(&[("uplink a", true)], 2), health(&[("uplink a", false)], 2));
        let mut watch = begin();
        assert_eq!(watch.look(at(9), &down), None);
        assert_eq!(watch.look(at(11), &up), None);
        assert_eq!(watch.look(at(20), &health(&[], 2)), None, "it was up nine seconds ago");
        assert!(watch.look(at(21), &down).is_some_and(|why| why.contains("uplink a")));
        let mut watch = begin();
        assert_eq!(watch.look(at(99), &up), None);
        assert!(watch.look(at(100), &up).is_some_and(|why| why.contains("confirmed")));
        assert!(begin().look(at(1), &health(&[("uplink a", true)], 3)).is_some());
    }
}
