//! Connections that several uplinks share: one has it, the others hand over to it what is to go.
//!
//! Each keeps its queue, its numbers and its books; what is shared is the connection with its limits, and there the
//! priorities decide who goes first.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::link::{Answer, LinkError, LinkEvent, Up};

/// Messages that a passenger may have handed over, those without an answer included.
pub(super) const HANDED_OVER_MAX: usize = 16;

/// As many events can be on their way of the messages that were handed over: each was sent, and answered.
const EVENTS_OF_MESSAGES: usize = 2 * HANDED_OVER_MAX;

/// The place of one uplink on the connection of another.
#[derive(Debug)]
pub struct Seat {
    priority: i32,
    /// Wakes the uplink that has the connection.
    called: Arc<Notify>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What the connection takes, while there is one.
    line: Option<Line>,
    /// Why it takes nothing for now, if it does not.
    held: Option<String>,
    passenger: Option<Passenger>,
    /// The number of the last passenger: what belonged to one before is nobody's.
    ride: u64,
    posts: VecDeque<Post>,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    packet_bytes_max: usize,
}

#[derive(Debug)]
struct Passenger {
    events: mpsc::Sender<LinkEvent>,
    lost: mpsc::Sender<LinkError>,
}

/// A message of a passenger, and under which number it is answered.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) ticket: Ticket,
    pub(super) up: Up,
}

/// Names a message of a passenger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    ride: u64,
    packet: u16,
}

impl Seat {
    /// Makes a place; those with a higher priority go first, and the uplink that has the connection has 0. `called` is the
    /// same for all places of a connection.
    pub fn new(priority: i32, called: Arc<Notify>) -> Self {
        Self { priority, called, state: Mutex::default() }
    }

    /// Returns who goes first: the higher.
    pub fn priority(&self) -> i32 {
        self.priority
    }

    /// Waits until a passenger has come or handed something over. Cancel-safe.
    pub(super) async fn called(&self) {
        self.called.notified().await;
    }

    /// Takes a passenger in place of the one before; returns its number. `events` has room for all that a passenger is
    /// told of [`HANDED_OVER_MAX`] messages.
    pub(super) fn board(
        &self,
        events: mpsc::Sender<LinkEvent>,
        lost: mpsc::Sender<LinkError>,
    ) -> u64 {
        let mut state = self.state.lock();
        state.ride += 1;
        state.posts.clear();
        state.passenger = Some(Passenger { events, lost });
        state.tell_connected();
        state.ride
    }

    /// Takes notice that a passenger has gone.
    pub(super) fn leave(&self, ride: u64) {
        let mut state = self.state.lock();
        if state.ride == ride {
            state.passenger = None;
            state.posts.clear();
        }
        drop(state);
        self.called.notify_one();
    }

    /// Returns whether a passenger is there.
    pub(super) fn is_taken(&self) -> bool {
        self.state.lock().passenger.is_some()
    }

    /// Hands a message over.
    pub(super) fn post(&self, ride: u64, packet: u16, up: Up) -> Result<(), LinkError> {
        let mut state = self.state.lock();
        if state.ride != ride || state.line.is_none() {
            return Err(LinkError::transient("the connection is not there any more"));
        }
        if state.posts.len() >= HANDED_OVER_MAX {
            return Err(LinkError::transient("the connection takes no more messages"));
        }
        state.posts.push_back(Post { ticket: Ticket { ride, packet }, up });
        drop(state);
        self.called.notify_one();
        Ok(())
    }

    /// Takes notice of a connection.
    pub(super) fn connected(&self, packet_bytes_max: usize) {
        let mut state = self.state.lock();
        state.line = Some(Line { packet_bytes_max });
        state.tell_connected();
    }

    /// Takes notice that the connection takes nothing for now, and why, or that it takes messages again. What is under way
    /// keeps its place: its answers are to come.
    pub(super) fn held(&self, reason: Option<&str>) {
        let mut state = self.state.lock();
        state.held = reason.map(str::to_owned);
        let reason = state.held.clone();
        let has_room = |it: &mut Passenger| it.events.capacity() > EVENTS_OF_MESSAGES;
        if let Some(passenger) = state.passenger.take_if(|it| !has_room(it)) {
            // What its messages are told of must not be lost behind so many turns: it boards anew.
            let why = LinkError::transient("the connection is held up and let go too often");
            let _ = passenger.lost.try_send(why);
        }
        state.tell(LinkEvent::Held { reason });
    }

    /// Takes notice that the connection is gone.
    pub(super) fn disconnected(&self, why: &LinkError) {
        let mut state = self.state.lock();
        state.posts.clear();
        state.held = None;
        let was_there = state.line.take().is_some();
        if let Some(passenger) = state.passenger.take_if(|_| was_there) {
            // There is room for one, and there is only one.
            let _ = passenger.lost.try_send(why.clone());
        }
    }

    /// Returns whether a message waits.
    pub(super) fn has_post(&self) -> bool {
        !self.state.lock().posts.is_empty()
    }

    /// Takes the next message, which goes now.
    pub(super) fn take_post(&self) -> Option<Post> {
        let mut state = self.state.lock();
        let post = state.posts.pop_front()?;
        state.tell(LinkEvent::Sent { packet: post.ticket.packet });
        Some(post)
    }

    /// Passes an answer on.
    pub(super) fn answered(&self, ticket: Ticket, answer: Answer) {
        let state = self.state.lock();
        if state.ride == ticket.ride {
            state.tell(LinkEvent::Answered { packet: ticket.packet, answer });
        }
    }
}

impl State {
    fn tell_connected(&self) {
        if let Some(Line { packet_bytes_max }) = self.line {
            self.tell(LinkEvent::Connected {
                keep_alive: None,
                packet_bytes_max,
                receive_max: HANDED_OVER_MAX + 1,
            });
            if let Some(reason) = &self.held {
                self.tell(LinkEvent::Held { reason: Some(reason.clone()) });
            }
        }
    }

    fn tell(&self, event: LinkEvent) {
        if let Some(passenger) = &self.passenger {
            // A passenger that does not listen is gone, or about to be; a message is told of twice at most.
            let _ = passenger.events.try_send(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidegate_uplink::Ack;

    use super::*;

    fn up() -> Up {
        Up {
            topic: "a".into(),
            payload: Bytes::from_static(b"1"),
            content_type: "application/bson",
            content_encoding: None,
            correlation: None,
            is_numbered: true,
            typed: None,
            retain: false,
            said: None,
            expires_in: None,
            path: None,
        }
    }

    /// uplink.1, uplink.26: who shares a connection that is held up is told so, and what is under way has its answer later.
    #[test]
    fn a_passenger_of_a_held_connection_keeps_its_place() {
        let seat = Seat::new(0, Arc::default());
        let (events, mut told) = mpsc::channel(64);
        let (lost, mut is_lost) = mpsc::channel(1);
        let ride = seat.board(events, lost);
        seat.connected(1_024);
        assert!(matches!(told.try_recv(), Ok(LinkEvent::Connected { .. })));
        seat.post(ride, 1, up()).unwrap();
        let ticket = seat.take_post().unwrap().ticket;
        assert!(matches!(told.try_recv(), Ok(LinkEvent::Sent { packet: 1 })));
        seat.held(Some("no room"));
        assert!(matches!(told.try_recv(), Ok(LinkEvent::Held { reason: Some(_) })));
        seat.held(None);
        assert!(matches!(told.try_recv(), Ok(LinkEvent::Held { reason: None })));
        seat.answered(ticket, Answer::Final(Ack::Accepted));
        assert!(matches!(told.try_recv(), Ok(LinkEvent::Answered { packet: 1, .. })));
        assert!(is_lost.try_recv().is_err(), "the connection is there");
    }

    /// uplink.26: a broker that lets go and holds up over and over takes no room from the answers to messages.
    #[test]
    fn a_connection_that_is_held_up_too_often_is_boarded_anew() {
        let seat = Seat::new(0, Arc::default());
        let (events, _told) = mpsc::channel(EVENTS_OF_MESSAGES + 4);
        let (lost, mut is_lost) = mpsc::channel(1);
        seat.board(events, lost);
        seat.connected(1_024);
        for turn in 0..4 {
            assert!(is_lost.try_recv().is_err(), "turn {turn}");
            seat.held((turn % 2 == 0).then_some("no room"));
        }
        assert!(is_lost.try_recv().is_ok() && !seat.is_taken());
    }

    #[test]
    fn who_comes_to_a_held_connection_is_told() {
        let seat = Seat::new(0, Arc::default());
        seat.connected(1_024);
        seat.held(Some("no room"));
        let board = || {
            let (events, mut told) = mpsc::channel(8);
            seat.board(events, mpsc::channel(1).0);
            assert!(matches!(told.try_recv(), Ok(LinkEvent::Connected { .. })));
            told.try_recv().ok()
        };
        assert!(matches!(board(), Some(LinkEvent::Held { reason: Some(_) })));
        // What the next connection takes, nobody has said yet.
        seat.disconnected(&LinkError::transient("gone"));
        seat.connected(1_024);
        assert!(board().is_none());
    }
}
