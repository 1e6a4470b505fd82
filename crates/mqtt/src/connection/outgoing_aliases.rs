//! Numbers that we use in place of topics towards a client that takes them (MQTT 5.0, section 3.3.2.3.4).

use std::{collections::HashMap, num::NonZeroU16};

use tidegate_model::Topic;

use crate::frame::Naming;

/// Topics shorter than this gain nothing: an alias takes three bytes.
const TOPIC_BYTES_MIN: usize = 4;
/// How often at most a topic is passed by before another takes its alias.
const CREDIT_MAX: u8 = 15;

/// The aliases that we have set on this connection.
///
/// When all are in use, topics that come often keep theirs: every message on a topic without an alias takes credit
/// from one that has an alias, in turn, and one without credit gives it up.
#[derive(Debug, Default)]
pub(super) struct OutgoingAliases {
    maximum: u16,
    slots: Vec<Slot>,
    by_topic: HashMap<Topic, u16>,
    /// Whose turn it is to lose credit.
    turn: u16,
}

#[derive(Debug)]
struct Slot {
    topic: Topic,
    credit: u8,
}

impl OutgoingAliases {
    pub(super) fn new(maximum: u16) -> Self {
        Self { maximum, ..Self::default() }
    }

    /// Returns how the topic of the next message is best named. Nothing has changed until [`note`](Self::note) says
    /// that it was named so.
    #[inline]
    pub(super) fn propose(&self, topic: &Topic) -> Naming {
        if self.maximum == 0 || topic.as_str().len() < TOPIC_BYTES_MIN {
            return Naming::Whole;
        }
        if let Some(&at) = self.by_topic.get(topic) {
            return Naming::ByAlias(alias(at));
        }
        let free = u16::try_from(self.slots.len()).unwrap_or(u16::MAX);
        if free < self.maximum {
            return Naming::WithAlias(alias(free));
        }
        match self.slots[usize::from(self.turn)].credit {
            0 => Naming::WithAlias(alias(self.turn)),
            _ => Naming::Whole,
        }
    }

    /// Takes notice of how the topic was named in a message that goes to the client.
    #[inline]
    pub(super) fn note(&mut self, topic: &Topic, naming: Naming) {
        if self.maximum == 0 || topic.as_str().len() < TOPIC_BYTES_MIN {
            return;
        }
        match naming {
            Naming::ByAlias(alias) => {
                let slot = &mut self.slots[usize::from(alias.get() - 1)];
                slot.credit = CREDIT_MAX.min(slot.credit + 1);
            }
            Naming::WithAlias(alias) => self.set(alias.get() - 1, topic),
            Naming::Whole => {
                if let Some(slot) = self.slots.get_mut(usize::from(self.turn)) {
                    slot.credit = slot.credit.saturating_sub(1);
                    self.turn = (self.turn + 1) % self.maximum;
                }
            }
        }
    }

    fn set(&mut self, at: u16, topic: &Topic) {
        let slot = Slot { topic: topic.clone(), credit: 1 };
        self.by_topic.insert(topic.clone(), at);
        match self.slots.get_mut(usize::from(at)) {
            Some(old) => {
                let old = std::mem::replace(old, slot);
                self.by_topic.remove(&old.topic);
                self.turn = (at + 1) % self.maximum;
            }
            None => self.slots.push(slot),
        }
    }
}

/// Returns the alias of a place: they begin with 1.
fn alias(at: u16) -> NonZeroU16 {
    NonZeroU16::MIN.saturating_add(at)
}
