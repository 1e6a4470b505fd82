//! What a broker of AMQP 0.9.1 has taken, and what it has given back.
//!
//! A message that no queue takes is returned, and confirmed behind that like any other. The client library hangs
//! what was returned on the next message that is confirmed, and on any of them if several are confirmed at once: a message
//! that went nowhere would count as delivered. So what was returned is told by what it says, and a message counts once
//! its own return cannot be on its way any more (docs/decisions/0031-amqp.md).

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmed {
    /// It is in every queue that it was for.
    Taken,
    /// No queue is there for it.
    Returned {
        /// In the broker's words.
        reason: String,
    },
    /// It could not be taken now.
    Declined,
}

/// A message that came back.
#[derive(Clone, Debug)]
pub struct Returned<'m> {
    /// Its routing key.
    pub key: &'m str,
    /// What it says.
    pub payload: &'m [u8],
    /// Why, in the broker's words.
    pub reason: String,
}

/// Messages without a final answer, by the order in which they were sent.
#[derive(Debug, Default)]
pub struct Confirms {
    sent: BTreeMap<u64, Sent>,
    /// How many of them the broker has not confirmed.
    awaited: usize,
    /// Confirmations that are looked at together.
    lot: u64,
    /// The last lot in which a message was confirmed while nothing returned was left over.
    clear: Option<u64>,
}

#[derive(Debug)]
struct Sent {
    key: Arc<str>,
    payload: Bytes,
    returned: Option<String>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    ExpectConfirmation,
    /// Taken, and whether its return would have been seen by now.
    Taken {
        lot: u64,
        is_clear: bool,
    },
    Declined,
}

impl Confirms {
    /// Takes notice of a message on its way; numbers rise.
    pub fn note_sent(&mut self, number: u64, key: Arc<str>, payload: Bytes) {
        let state = State::ExpectConfirmation;
        self.sent.insert(number, Sent { key, payload, returned: None, state });
        self.awaited += 1;
    }

    /// Returns whether every message has its answer.
    pub fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Takes the confirmation of a message, with whatever message came back beside it.
    ///
    /// Returns whether what came back had been sent.
    #[must_use]
    pub fn handle(&mut self, number: u64, is_taken: bool, returned: Option<Returned<'_>>) -> bool {
        let lot = self.lot;
        let is_clear = returned.is_none();
        if let Some(sent) = self.sent.get_mut(&number)
            && sent.state == State::ExpectConfirmation
        {
            self.awaited -= 1;
            sent.state = if is_taken { State::Taken { lot, is_clear } } else { State::Declined };
        }
        if is_clear {
            self.clear = Some(lot);
        }
        returned.is_none_or(|returned| self.note_returned(returned))
    }

    fn note_returned(&mut self, returned: Returned<'_>) -> bool {
        let mut like_it = self.sent.values_mut().filter(|sent| {
            sent.returned.is_none()
                && *sent.key == *returned.key
                && sent.payload == returned.payload
        });
        let Some(sent) = like_it.next() else { return false };
        sent.returned = Some(returned.reason);
        true
    }

    /// Returns what is final now, in the order of sending.
    ///
    /// It is to be called when all confirmations that were there have been handed in: a message confirmed in a later lot
    /// was confirmed later.
    pub fn settle(&mut self) -> Vec<(u64, Confirmed)> {
        let (clear, all_confirmed) = (self.clear, self.awaited == 0);
        let is_final = |sent: &Sent| match sent.state {
            State::ExpectConfirmation => None,
            State::Declined => Some(Confirmed::Declined),
            State::Taken { lot, is_clear } => match &sent.returned {
                Some(reason) => Some(Confirmed::Returned { reason: reason.clone() }),
                // Returned messages are handed over in order, each before its confirmation: none is left where one
                // is confirmed alone, or all are confirmed.
                None => (is_clear || all_confirmed || clear.is_some_and(|clear| clear > lot))
                    .then_some(Confirmed::Taken),
            },
        };
        let settled: Vec<_> = self
            .sent
            .iter()
            .filter_map(|(number, sent)| Some((*number, is_final(sent)?)))
            .collect();
        for (number, _) in &settled {
            self.sent.remove(number);
        }
        self.lot += 1;
        settled
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const NO_ROUTE: &str = "312 NO_ROUTE";

    fn returned(key: &str) -> Option<Returned<'_>> {
        Some(Returned { key, payload: b"x", reason: NO_ROUTE.to_owned() })
    }

    fn sent(keys: &[&str]) -> Confirms {
        let mut confirms = Confirms::default();
        for (number, key) in keys.iter().enumerate() {
            confirms.note_sent(number as u64, (*key).into(), Bytes::from_static(b"x"));
        }
        confirms
    }

    fn gone() -> Confirmed {
        Confirmed::Returned { reason: NO_ROUTE.to_owned() }
    }

    /// uplink.26: what came back with the confirmation of another is the one that went nowhere.
    #[test]
    fn what_is_returned_is_told_by_what_it_says() {
        let mut confirms = sent(&["a", "b"]);
        assert!(confirms.handle(0, true, returned("b")));
        // Nothing says yet that the first is not to come back, too.
        assert_eq!(confirms.settle(), []);
        assert!(confirms.handle(1, true, None));
        assert_eq!(confirms.settle(), [(0, Confirmed::Taken), (1, gone())]);
        assert!(confirms.is_empty());
    }

    #[test]
    fn a_confirmation_alone_in_a_later_lot_clears_those_before() {
        let mut confirms = sent(&["a", "b", "c", "d"]);
        assert!(confirms.handle(1, true, returned("c")));
        assert_eq!(confirms.settle(), []);
        assert!(confirms.handle(0, true, None));
        assert_eq!(confirms.settle(), [(0, Confirmed::Taken), (1, Confirmed::Taken)]);
        assert!(confirms.handle(2, true, None));
        assert_eq!(confirms.settle(), [(2, gone())]);
        assert!(confirms.handle(3, false, None));
        assert_eq!(confirms.settle(), [(3, Confirmed::Declined)]);
    }

    #[test]
    fn what_was_never_sent_is_noticed() {
        let mut confirms = sent(&["a"]);
        assert!(!confirms.handle(0, true, returned("b")));
    }

    proptest! {
        /// uplink.26: whatever the broker confirms together, and in whichever order the library goes through that,
        /// what it returned counts as returned and nothing else does.
        #[test]
        fn returns_find_their_messages(
            routed in prop::collection::vec(any::<bool>(), 1..40),
            steps in prop::collection::vec((any::<usize>(), 1..6_usize, any::<bool>(), any::<bool>()), 0..200),
        ) {
            let mut confirms = Confirms::default();
            for number in 0..routed.len() {
                confirms.note_sent(number as u64, "k".into(), Bytes::from(format!("{number}")));
            }
            // The broker: what it may still return, and what it may confirm. The library: what waits to be handed over.
            let mut unreturned: Vec<usize> = (0..routed.len()).filter(|it| !routed[*it]).collect();
            let mut unconfirmed: Vec<usize> = (0..routed.len()).collect();
            let mut waiting: VecDeque<String> = VecDeque::new();
            let mut became = BTreeMap::new();
            let rest = (0..).map(|_| (0, 1, true, true));
            let mut steps = steps.into_iter().chain(rest);
            while !unconfirmed.is_empty() {
                let (index, together, is_return, ends_lot) = steps.next().expect("there are more");
                if is_return && !unreturned.is_empty() {
                    let at = index % unreturned.len();
                    waiting.push_back(unreturned.remove(at).to_string());
                }
                for _ in 0..together {
                    // Whatever is returned is so before it is confirmed.
                    let ready: Vec<usize> =
                        unconfirmed.iter().copied().filter(|it| !unreturned.contains(it)).collect();
                    if ready.is_empty() {
                        break;
                    }
                    let number = ready[index % ready.len()];
                    unconfirmed.retain(|it| *it != number);
                    let back = waiting.pop_front();
                    let back = back.as_ref().map(|payload| Returned {
                        key: "k",
                        payload: payload.as_bytes(),
                        reason: NO_ROUTE.to_owned(),
                    });
                    prop_assert!(confirms.handle(number as u64, true, back));
                }
                if ends_lot {
                    became.extend(confirms.settle());
                }
            }
            became.extend(confirms.settle());
            prop_assert!(confirms.is_empty());
            for (number, routed) in routed.iter().enumerate() {
                let expected = if *routed { Confirmed::Taken } else { gone() };
                prop_assert_eq!(&became[&(number as u64)], &expected, "{}", number);
            }
        }
    }
}
