//! The newest messages of local topics, for whoever tells the cloud what they say.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tidegate_model::{Message, Topic};
use tokio::sync::Notify;

use super::intake::{Intake, Watcher};

/// Of each topic the newest message, by its place; nothing waits.
#[derive(Debug, Default)]
pub(super) struct Watched {
    newest: Mutex<Newest>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Newest {
    messages: Vec<Option<Message>>,
    /// The places whose messages nobody has looked at.
    unseen: BTreeSet<usize>,
}

impl Watched {
    /// Watches topics from now on.
    pub(super) fn start<'t>(
        topics: impl IntoIterator<Item = &'t Topic>,
        intake: &dyn Intake,
    ) -> Arc<Self> {
        let watched = Arc::new(Self::default());
        for (place, topic) in topics.into_iter().enumerate() {
            watched.newest.lock().messages.push(None);
            intake.watch(topic, Arc::new(Slot { watched: Arc::downgrade(&watched), place }));
        }
        watched
    }

    /// Waits until there may be something new. Cancel-safe.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Has all messages count as new, for somebody who has seen none.
    pub(super) fn show_all(&self) {
        let mut newest = self.newest.lock();
        let all = newest.messages.iter().enumerate();
        let known = all.filter(|(_, message)| message.is_some()).map(|(place, _)| place).collect();
        newest.unseen = known;
    }

    /// Takes the messages that are new since the last time.
    pub(super) fn take_new(&self) -> Vec<(usize, Message)> {
        let mut newest = self.newest.lock();
        let unseen = std::mem::take(&mut newest.unseen);
        let new = unseen
            .into_iter()
            .filter_map(|place| newest.messages[place].clone().map(|message| (place, message)));
        new.collect()
    }
}

/// Where the messages of one topic go.
#[derive(Debug)]
struct Slot {
    watched: Weak<Watched>,
    place: usize,
}

impl Watcher for Slot {
    fn see(&self, message: &Message) {
        let Some(watched) = self.watched.upgrade() else { return };
        let mut newest = watched.newest.lock();
        newest.messages[self.place] = Some(message.clone());
        newest.unseen.insert(self.place);
        drop(newest);
        watched.changed.notify_one();
    }
}
