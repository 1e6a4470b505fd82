//! Proof of life: each part is asked, and answers when its task is polled.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The questions to one part. One that blocks its thread or never gives up its turn does not answer.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    asked: Notify,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_running: bool,
    /// Since when a question is open.
    open_since: Option<Instant>,
    #[cfg(test)]
    is_to_panic: bool,
}

impl Pulse {
    /// Runs the part, and answers for it in between.
    pub(super) async fn run<T>(&self, part: impl Future<Output = T>) -> T {
        self.state.lock().is_running = true;
        let _ended = Ended(self);
        let mut part = Box::pin(part);
        loop {
            // The part gives up its turn whenever it waits; then there is time to answer.
            tokio::select! {
                biased;
                ended = &mut part => return ended,
                () = self.asked.notified() => self.answer(),
            }
        }
    }

    /// Asks, unless a question is open, and returns how long that has been. A part that does not run
    /// is not asked.
    pub(super) fn ask(&self) -> Duration {
        let mut state = self.state.lock();
        if !state.is_running {
            return Duration::ZERO;
        }
        let since = *state.open_since.get_or_insert_with(Instant::now);
        drop(state);
        self.asked.notify_one();
        since.elapsed()
    }

    fn answer(&self) {
        let mut state = self.state.lock();
        state.open_since = None;
        #[cfg(test)]
        let is_to_panic = std::mem::take(&mut state.is_to_panic);
        drop(state);
        #[cfg(test)]
        assert!(!is_to_panic, "the test wants it");
    }

    #[cfg(test)]
    pub(super) fn is_running(&self) -> bool {
        self.state.lock().is_running
    }

    #[cfg(test)]
    pub(super) fn is_asked(&self) -> bool {
        self.state.lock().open_since.is_some()
    }

    /// Makes the part panic as soon as it is polled.
    #[cfg(test)]
    pub(super) fn sabotage(&self) {
        self.state.lock().is_to_panic = true;
        self.asked.notify_one();
    }
}

/// Notes the end of a run, however it comes.
struct Ended<'p>(&'p Pulse);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.is_running = false;
        state.open_since = None;
    }
}
