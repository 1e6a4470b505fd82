//! The newest messages of local topics, for whoever tells the cloud what they say.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tidegate_model::{Message, Payload, Topic};
use tokio::sync::Notify;

use super::intake::{Intake, Watcher};

/// The largest payload that is kept: a value of 8 KiB, which is all that a cloud takes, and what stands beside it.
const PAYLOAD_BYTES_MAX: usize = 16 << 10;

/// The newest message of a topic, as far as it is kept.
#[derive(Clone, Debug)]
pub(super) enum Seen {
    /// It, without what was said beside its payload.
    Message(Message),
    /// Nothing that a cloud takes.
    TooLarge,
}

impl Seen {
    /// Takes what is to be kept; it does not hold on to memory in which more was read.
    fn of(message: &Message) -> Self {
        if message.payload.as_bytes().len() > PAYLOAD_BYTES_MAX {
            return Self::TooLarge;
        }
        let payload = match message.payload.as_reading() {
            Some(_) => message.payload.clone(),
            None => Payload::bytes(Bytes::copy_from_slice(message.payload.as_bytes())),
        };
        let (topic, publisher) = (message.topic.clone(), message.publisher.clone());
        Self::Message(Message { payload, properties: None, topic, publisher, ..*message })
    }
}

/// Of each topic the newest message, by its place; nothing waits.
#[derive(Debug, Default)]
pub(super) struct Watched {
    newest: Mutex<Newest>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Newest {
    messages: Vec<Option<Seen>>,
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
    pub(super) fn take_new(&self) -> Vec<(usize, Seen)> {
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
        newest.messages[self.place] = Some(Seen::of(message));
        newest.unseen.insert(self.place);
        drop(newest);
        watched.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use tidegate_adapter_api::Refusal;
    use tidegate_model::{Principal, Qos, Timestamp};

    use super::*;

    /// Shows what the test says to whoever watches.
    #[derive(Debug, Default)]
    struct House(Mutex<Vec<Arc<dyn Watcher>>>);

    impl Intake for House {
        fn publish(&self, _: Message, _: Box<dyn FnOnce() + Send>) -> Result<bool, Refusal> {
            Ok(false)
        }

        fn takes_commands(&self, _: &Topic) -> bool {
            true
        }

        fn watch(&self, _: &Topic, watcher: Arc<dyn Watcher>) {
            self.0.lock().push(watcher);
        }
    }

    /// uplink.21: what a shadow cannot have is not kept, however large messages may be; the newest counts.
    #[test]
    fn uplink_21_what_is_too_large_for_a_shadow_is_not_kept() {
        let topic = Topic::new("hall/lamp").unwrap();
        let house = House::default();
        let watched = Watched::start([&topic], &house);
        let shown = |payload: Bytes| {
            house.0.lock()[0].see(&Message {
                topic: topic.clone(),
                payload: Payload::bytes(payload),
                qos: Qos::AtLeastOnce,
                retain: false,
                properties: None,
                publisher: Principal::anonymous(),
                arrival: Timestamp::from_unix_millis(1),
            });
            watched.take_new()
        };
        let large = Bytes::from(vec![b'1'; 1 << 20]);
        assert!(matches!(&shown(large.clone())[..], [(0, Seen::TooLarge)]));
        // It is a part of something larger, which is not held on to.
        let part = large.slice(..PAYLOAD_BYTES_MAX);
        let kept = shown(part.clone());
        let [(0, Seen::Message(message))] = &kept[..] else { panic!("{kept:?}") };
        assert_eq!(message.payload.as_bytes(), &part);
        assert_ne!(message.payload.as_bytes().as_ptr(), part.as_ptr());
        watched.show_all();
        assert_eq!(watched.take_new().len(), 1);
    }
}
