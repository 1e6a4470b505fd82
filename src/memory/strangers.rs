//! Connections that have not logged in: near the memory ceiling only few of them are kept, the newest.
//!
//! They cannot all be refused: a client with a session must be able to come back for what waits for it, and who a
//! connection belongs to is known only after its login. So each that comes while there are as many as may be has the
//! oldest closed; a login takes moments, and whoever stays silent goes first.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use tidegate_broker::Wake;
use tokio::sync::Notify;

/// How many are kept near the ceiling.
pub(super) const STRANGERS_MAX: usize = 32;

/// Those who have not logged in.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    present: Mutex<Present>,
    sent_away: AtomicU64,
}

#[derive(Debug, Default)]
struct Present {
    last: u64,
    /// In the order of their coming.
    by_number: BTreeMap<u64, Entry>,
}

struct Entry {
    call: Arc<Call>,
    wake: Option<Arc<dyn Wake>>,
}

/// How one of them hears that it has to go.
#[derive(Debug, Default)]
struct Call {
    is_sent_away: AtomicBool,
    notify: Notify,
}

/// One who has not logged in; is dropped with the login or the connection.
#[derive(Debug)]
pub struct Stranger {
    number: u64,
    call: Arc<Call>,
    strangers: Arc<Strangers>,
}

impl Strangers {
    /// Takes note of one that has come.
    pub(super) fn come(self: &Arc<Self>) -> Stranger {
        let call = Arc::<Call>::default();
        let mut present = self.present.lock();
        present.last += 1;
        let number = present.last;
        present.by_number.insert(number, Entry { call: Arc::clone(&call), wake: None });
        Stranger { number, call, strangers: Arc::clone(self) }
    }

    /// Sends the oldest away until there are as few as may be near the ceiling.
    pub(super) fn thin_out(&self) {
        let mut present = self.present.lock();
        while present.by_number.len() > STRANGERS_MAX {
            let Some((_, entry)) = present.by_number.pop_first() else { return };
            entry.call.is_sent_away.store(true, Relaxed);
            entry.call.notify.notify_one();
            if let Some(wake) = entry.wake {
                wake.wake();
            }
        }
    }

    /// Returns how many connections were closed for want of memory.
    pub(super) fn sent_away(&self) -> u64 {
        self.sent_away.load(Relaxed)
    }
}

impl Stranger {
    /// Has `wake` called when it has to go, so that it asks [`is_sent_away`](Self::is_sent_away).
    pub fn wake_by(&self, wake: Arc<dyn Wake>) {
        if let Some(entry) = self.strangers.present.lock().by_number.get_mut(&self.number) {
            entry.wake = Some(wake);
        }
    }

    /// Returns whether it has to go.
    pub fn is_sent_away(&self) -> bool {
        self.call.is_sent_away.load(Relaxed)
    }

    /// Waits until it has to go. Cancel-safe.
    pub async fn sent_away(&self) {
        while !self.is_sent_away() {
            self.call.notify.notified().await;
        }
    }

    /// Counts that it goes.
    pub fn count(&self) {
        self.strangers.sent_away.fetch_add(1, Relaxed);
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.strangers.present.lock().by_number.remove(&self.number);
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Entry").field("call", &self.call).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Debug, Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(&self) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn the_oldest_go_and_are_woken() {
        let strangers = Arc::<Strangers>::default();
        let mut guests: Vec<Stranger> = (0..STRANGERS_MAX + 3).map(|_| strangers.come()).collect();
        let bell = Arc::<Bell>::default();
        guests.iter().for_each(|guest| guest.wake_by(bell.clone()));
        // One of the oldest logs in, and is one less.
        drop(guests.remove(1));
        strangers.thin_out();
        let gone: Vec<bool> = guests.iter().map(Stranger::is_sent_away).collect();
        assert_eq!(gone.iter().filter(|gone| **gone).count(), 2);
        assert!(gone[0] && gone[1], "the oldest");
        assert_eq!(bell.0.load(Relaxed), 2, "each is woken once");
        strangers.thin_out();
        assert_eq!(bell.0.load(Relaxed), 2, "there are few enough");
        drop(guests);
        assert!(strangers.present.lock().by_number.is_empty(), "nothing is left of them");
    }

    #[tokio::test]
    async fn who_waits_for_the_call_hears_it() {
        let strangers = Arc::<Strangers>::default();
        let first = strangers.come();
        let others: Vec<Stranger> = (0..STRANGERS_MAX).map(|_| strangers.come()).collect();
        strangers.thin_out();
        first.sent_away().await;
        first.count();
        assert_eq!(strangers.sent_away(), 1);
        assert!(!others.iter().any(Stranger::is_sent_away));
    }
}
