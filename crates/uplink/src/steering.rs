//! Which of two queues takes what comes in: live readings beside a backlog, and a stand-in for an uplink that is away.
//!
//! A record goes into one of the two, and stays there: nothing is delivered twice, and each queue has books of its own.

use std::time::Duration;

/// Why there are two queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steering {
    /// What comes in goes past a backlog. Neither queue has precedence.
    LiveFirst {
        /// From when on what waits is a backlog.
        lag: Duration,
    },
    /// The second queue takes what comes in while the uplink of the first has no connection.
    StandIn {
        /// So long the first has no connection before the second steps in.
        after: Duration,
        /// So long the first has one before the second steps back.
        back_after: Duration,
    },
}

/// How a queue and its uplink are doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueView {
    /// Whether there is a connection.
    pub is_connected: bool,
    /// Whether nothing waits.
    pub is_empty: bool,
    /// For how long the oldest record has waited, if one was read.
    pub lag: Duration,
}

/// Decides for two queues.
#[derive(Clone, Debug)]
pub struct Steerer {
    steering: Steering,
    active: usize,
    /// Since when the first has no connection, or has one.
    first_since: Duration,
    first_is_connected: bool,
}

impl Steering {
    /// Returns which queue takes what comes in after a start, if `last` took it before: a stand-in steps in anew.
    pub fn first(self, last: usize) -> usize {
        match self {
            Self::LiveFirst { .. } => last,
            Self::StandIn { .. } => 0,
        }
    }
}

impl Steerer {
    /// Begins with the queue `active`, 0 or 1.
    pub fn new(steering: Steering, active: usize, now: Duration) -> Self {
        Self { steering, active: active.min(1), first_since: now, first_is_connected: false }
    }

    /// Returns which queue takes what comes in, 0 or 1.
    pub fn active(&self) -> usize {
        self.active
    }

    /// Looks at both queues, and returns which takes what comes in from now on.
    pub fn look(&mut self, queues: [QueueView; 2], now: Duration) -> usize {
        if queues[0].is_connected != self.first_is_connected {
            self.first_is_connected = queues[0].is_connected;
            self.first_since = now;
        }
        let lasted = now.saturating_sub(self.first_since);
        let other = 1 - self.active;
        let turns = match self.steering {
            Steering::LiveFirst { lag } => {
                let taking = queues[self.active];
                // While the other has records, too, what comes in waits behind the younger of two backlogs.
                taking.is_connected && taking.lag >= lag && queues[other].is_empty
            }
            Steering::StandIn { after, .. } if self.active == 0 => {
                !queues[0].is_connected && queues[1].is_connected && lasted >= after
            }
            Steering::StandIn { back_after, .. } => {
                queues[0].is_connected && (lasted >= back_after || !queues[1].is_connected)
            }
        };
        if turns {
            self.active = other;
        }
        self.active
    }
}

/// Takes turns between two, of which the first has a share of all turns.
#[derive(Clone, Copy, Debug)]
pub struct Turns {
    /// Above 0, and 1 at most.
    share: f64,
    credit: f64,
}

impl Turns {
    /// Gives the first this share of turns: above 0, and 1 at most; what is beyond is cut off.
    pub fn new(share: f64) -> Self {
        Self { share: share.clamp(0.01, 1.0), credit: 0.0 }
    }

    /// Returns whether the next turn is the first's.
    pub fn is_first(&self) -> bool {
        self.credit + self.share >= 1.0 - f64::EPSILON
    }

    /// Takes notice of who has had a turn while both wanted one.
    pub fn note(&mut self, was_first: bool) {
        self.credit =
            (self.credit + self.share - if was_first { 1.0 } else { 0.0 }).clamp(-1.0, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn queue(is_connected: bool, waiting: u32) -> QueueView {
        QueueView { is_connected, is_empty: waiting == 0, lag: waiting * SECOND }
    }

    /// uplink.1: live readings go past a backlog, from whichever queue has one.
    #[test]
    fn live_readings_go_into_the_queue_without_a_backlog() {
        let mut steerer = Steerer::new(Steering::LiveFirst { lag: 10 * SECOND }, 0, SECOND);
        #[rustfmt::skip]
        let steps = [
            // first            second             takes
            (queue(true, 1),    queue(true, 0),    0),  // what waits a second is no backlog
            (queue(false, 60),  queue(false, 0),   0),  // without a connection nothing is gained
            (queue(true, 60),   queue(true, 0),    1),
            (queue(true, 30),   queue(true, 1),    1),
            (queue(false, 30),  queue(false, 60),  1),
            (queue(true, 30),   queue(true, 60),   1),  // two backlogs: the older is drained first
            (queue(true, 0),    queue(true, 60),   0),
            (queue(true, 1),    queue(true, 0),    0),
        ];
        for (at, (first, second, takes)) in (2..).zip(steps) {
            assert_eq!(steerer.look([first, second], at * SECOND), takes, "step {at}");
        }
    }

    /// uplink.28: a stand-in steps in after a while, and steps back only when the first has lasted.
    #[test]
    fn a_stand_in_neither_hurries_nor_flaps() {
        let steering = Steering::StandIn { after: 60 * SECOND, back_after: 300 * SECOND };
        let mut steerer = Steerer::new(steering, 0, Duration::ZERO);
        let (up, away) = (queue(true, 0), queue(false, 9));
        #[rustfmt::skip]
        let steps = [
            // second  first   second  takes
            (1,        up,     up,     0),
            (100,      away,   up,     0),
            (159,      away,   up,     0),
            (160,      away,   away,   0),  // nobody to step in
            (161,      away,   up,     1),
            (200,      up,     up,     1),
            (499,      up,     up,     1),
            (499,      away,   up,     1),  // it did not last
            (500,      up,     up,     1),
            (799,      up,     up,     1),
            (800,      up,     up,     0),
            (850,      away,   up,     0),
            (910,      away,   up,     1),
            (911,      up,     up,     1),
            (912,      up,     away,   0),  // whoever has a connection
        ];
        for (second, first, other, takes) in steps {
            let taken = steerer.look([first, other], second * SECOND);
            assert_eq!(taken, takes, "second {second}");
        }
    }

    /// uplink.1: a share of live to backlog holds over any stretch.
    #[test]
    fn turns_are_shared_out() {
        for (share, firsts) in [(1.0, 100), (0.75, 75), (0.5, 50), (0.1, 10)] {
            let mut turns = Turns::new(share);
            let mut count = 0;
            for _ in 0..100 {
                let is_first = turns.is_first();
                count += i32::from(is_first);
                turns.note(is_first);
            }
            assert!((firsts - 1..=firsts + 1).contains(&count), "{share}: {count}");
        }
    }
}
