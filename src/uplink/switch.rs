//! Which of two queues takes what comes in (`tidegate_uplink::Steering`).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tidegate_uplink::Turns;

/// Says which of two queues takes what comes in.
#[derive(Debug, Default)]
pub struct Switch(AtomicUsize);

impl Switch {
    /// Returns which queue takes, 0 or 1.
    pub fn active(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Turns the switch. To be called with the lock of the broker's core held: whoever asks for both queues under it
    /// finds one that takes, and one that does not.
    pub fn turn(&self, active: usize) {
        self.0.store(active, Ordering::Relaxed);
    }
}

/// The place of an uplink at a switch.
#[derive(Clone, Debug)]
pub struct Branch {
    /// The switch.
    pub switch: Arc<Switch>,
    /// Which of the two queues it is.
    pub place: usize,
}

impl Branch {
    /// Returns whether the queue takes what comes in.
    pub fn is_active(&self) -> bool {
        self.switch.active() == self.place
    }
}

/// The second queue of an uplink, on the same connection.
#[derive(Clone, Debug)]
pub struct SecondQueue {
    /// Which of the two has what is live: the uplink's own is 0.
    pub switch: Arc<Switch>,
    /// Its place among the passengers.
    pub passenger: usize,
    /// How turns are shared out while both have something, live readings first.
    pub turns: Turns,
}
