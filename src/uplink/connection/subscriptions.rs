//! Which subscriptions are answered: one answer alone does not tell of the others.

use crate::uplink::link::LinkEvent;

/// Whose subscriptions go in a packet. Complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// Those of commands and of what a bridge brings: they go out first.
    Usual,
    /// Those of a shadow: they go in one packet behind these.
    Shadow,
}

/// SUBSCRIBE packets without an answer.
#[derive(Debug)]
pub(super) struct Subscriptions {
    /// Those of the usual ones that are not on their way yet.
    unsent: usize,
    open: Vec<(u16, Whose)>,
    /// Why one of the usual ones was refused.
    refused: Option<String>,
}

impl Subscriptions {
    /// Begins with so many packets of the usual ones to come.
    pub(super) fn new(packets: usize) -> Self {
        Self { unsent: packets, open: Vec::new(), refused: None }
    }

    /// Takes notice that the next packet is on its way.
    pub(super) fn note_sent(&mut self, packet: u16) {
        let whose = if self.unsent > 0 { Whose::Usual } else { Whose::Shadow };
        self.unsent = self.unsent.saturating_sub(1);
        self.open.push((packet, whose));
    }

    /// Takes the answer to a packet, with the reason if one of its filters is refused. Returns what is known by it.
    pub(super) fn take_answered(&mut self, packet: u16, refused: Option<String>) -> LinkEvent {
        let Some(at) = self.open.iter().position(|(open, _)| *open == packet) else {
            return LinkEvent::Alive;
        };
        match self.open.swap_remove(at).1 {
            Whose::Shadow => LinkEvent::ShadowSubscribed { refused },
            Whose::Usual => {
                self.refused = self.refused.take().or(refused);
                let is_usual = |(_, whose): &(u16, Whose)| *whose == Whose::Usual;
                if self.unsent > 0 || self.open.iter().any(is_usual) {
                    return LinkEvent::Alive;
                }
                match self.refused.take() {
                    Some(reason) => LinkEvent::NotSubscribed { reason },
                    None => LinkEvent::Subscribed,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// uplink.41: with more filters than go in one packet, one that is refused counts whichever answer comes last; what
    /// concerns a shadow concerns no commands, nor the other way round.
    #[test]
    fn uplink_41_one_refused_packet_of_several_counts() {
        let refused = || Some("no".to_owned());
        for (first, second) in [(None, refused()), (refused(), None), (None, None)] {
            let mut subscriptions = Subscriptions::new(2);
            subscriptions.note_sent(1);
            let is_refused = first.is_some() || second.is_some();
            assert!(matches!(subscriptions.take_answered(1, first), LinkEvent::Alive));
            subscriptions.note_sent(2);
            subscriptions.note_sent(3);
            let shadow = subscriptions.take_answered(3, refused());
            assert!(matches!(shadow, LinkEvent::ShadowSubscribed { refused: Some(_) }));
            assert!(matches!(subscriptions.take_answered(7, refused()), LinkEvent::Alive));
            match subscriptions.take_answered(2, second) {
                LinkEvent::Subscribed => assert!(!is_refused),
                LinkEvent::NotSubscribed { reason } => assert!(is_refused && reason == "no"),
                other => panic!("{other:?}"),
            }
            subscriptions.note_sent(4);
            let shadow = subscriptions.take_answered(4, None);
            assert!(matches!(shadow, LinkEvent::ShadowSubscribed { refused: None }));
        }
    }
}
