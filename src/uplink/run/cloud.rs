//! The connection to the cloud: what goes up, and what becomes of it.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tidegate_model::Properties;
use tidegate_store::Transaction;
use tidegate_uplink::{Ack, Disconnect, Failure, Format, Keys, Outcome, OutcomeId, Turns, bridge};
use tracing::{info, warn};

use super::{ConnectionState, Inbound, Renewal, Run, Ticket, UplinkError, Waiting};
use crate::uplink::{
    connection::{Connection, Kept, Token},
    link::{Answer, LinkError, LinkEvent, Up},
    settings::{Endpoint, MqttVersion},
    switch::SecondQueue,
};

/// Answers are awaited for so long when a connection is given up for one to a preferred broker.
const RETURN_GRACE: Duration = Duration::from_secs(10);
/// What a PUBLISH packet with an outcome holds beside topic, payload and correlation data, at most.
const OUTCOME_OVERHEAD: usize = 128;
/// While connected, the same fault is reported no more often than this.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

impl Run<'_> {
    /// Hands over what may be sent, outcomes first.
    pub(super) fn send(&mut self) {
        self.paced_until = None;
        while self.connection.as_ref().is_some_and(Connection::has_room) {
            let now = self.shared.clock.uptime();
            let ready = self.pace.ready_at(now);
            if ready > now || self.is_leaving() {
                self.paced_until = Some(ready).filter(|_| !self.is_leaving());
                return;
            }
            let Some((token, up)) = self.next_up() else { return };
            self.pace.note_sent(up.topic.len() + up.payload.len());
            self.shared.bytes_sent.fetch_add(up.payload.len() as u64, Ordering::Relaxed);
            if let Some(connection) = &mut self.connection {
                connection.send(token, up);
            }
        }
    }

    /// Returns whether nothing more is to go by this connection.
    fn is_leaving(&self) -> bool {
        self.returning.is_some() || self.renewal != Renewal::None
    }

    /// Takes what goes next: outcomes first, then what the shadow asks, then by priority, where this uplink has 0.
    fn next_up(&mut self) -> Option<(Token, Up)> {
        while let Some((id, outcome)) = self.outbox.poll_send() {
            match self.refuses_outcome(&outcome) {
                None => {
                    let Outcome { topic, payload, correlation } = outcome;
                    return Some((Token::Outcome(id), Up::json(topic, payload, correlation)));
                }
                Some(reason) => self.give_up_outcome(id, &reason),
            }
        }
        if let Some(up) = self.shadow_up() {
            return Some((Token::Shadow, up));
        }
        let urgent = self.passenger_up(|priority| priority > 0);
        if urgent.is_some() {
            return urgent;
        }
        // Equals take turns.
        self.is_own_turn = !self.is_own_turn;
        let equal = |run: &Self| run.passenger_up(|priority| priority == 0);
        let next = if self.is_own_turn {
            self.either_up().or_else(|| equal(self))
        } else {
            equal(self).or_else(|| self.either_up())
        };
        next.or_else(|| self.passenger_up(|priority| priority < 0))
    }

    /// Takes the next message of another uplink that shares the connection, the highest priority first.
    fn passenger_up(&self, is_wanted: impl Fn(i32) -> bool) -> Option<(Token, Up)> {
        let second = self.shared.settings.link.second.as_ref().map(|second| second.passenger);
        let mut places = self.passengers().iter().enumerate();
        let (place, _) = places.find(|(place, seat)| {
            Some(*place) != second && is_wanted(seat.priority()) && seat.has_post()
        })?;
        self.take_post(place)
    }

    fn take_post(&self, place: usize) -> Option<(Token, Up)> {
        let post = self.passengers()[place].take_post()?;
        Some((Token::Passenger(place, post.ticket), post.up))
    }

    /// Takes the next message of this uplink, from either of its queues if it has two.
    fn either_up(&mut self) -> Option<(Token, Up)> {
        let Some(SecondQueue { switch, passenger, .. }) = &self.shared.settings.link.second else {
            return self.own_up();
        };
        let second_is_live = switch.active() == 1;
        let is_live_turn = self.turns.as_ref().is_none_or(Turns::is_first);
        let second_goes_first = second_is_live == is_live_turn;
        let both_wait = self.passengers()[*passenger].has_post() && self.core.has_unsent();
        let next = if second_goes_first {
            self.take_post(*passenger).or_else(|| self.own_up())
        } else {
            self.own_up().or_else(|| self.take_post(*passenger))
        };
        // Whoever waits alone goes for nothing.
        if let (Some(turns), Some((token, _)), true) = (&mut self.turns, &next, both_wait) {
            turns.note(matches!(token, Token::Passenger(..)) == second_is_live);
        }
        next
    }

    /// Takes the next message of this uplink.
    fn own_up(&mut self) -> Option<(Token, Up)> {
        let is_replayed = self.core.is_next_replayed();
        if is_replayed {
            let now = self.shared.clock.uptime();
            let ready = self.replay_pace.ready_at(now);
            if ready > now {
                self.paced_until = Some(ready);
                return None;
            }
        }
        let next = self.core.poll_send()?;
        let publication = next.publication;
        if is_replayed {
            self.replay_pace.note_sent(publication.topic.len() + publication.payload.len());
        }
        let encoding = publication.encoding;
        let up = Up {
            topic: publication.topic,
            payload: publication.payload,
            content_type: encoding.content_type(),
            content_encoding: encoding.content_encoding(),
            correlation: None,
            is_numbered: self.core.settings().format != Format::Raw,
            typed: publication.typed,
            retain: publication.retain && self.shared.settings.link.bridge.retain,
            path: self.path(publication.properties.as_deref()),
            expires_in: self.expires_in(publication.properties.as_deref()),
            said: publication.properties,
        };
        Some((Token::Batch(next.id), up))
    }

    /// Returns the way by which a message leaves, if the far side can be told: of one that goes up as it is, and of
    /// all that relays.
    fn path(&self, properties: Option<&Properties>) -> Option<Arc<str>> {
        let (link, core) = (&self.shared.settings.link, self.core.settings());
        let carries = core.format == Format::Raw || link.bridge.relay;
        (carries && link.version == MqttVersion::V5)
            .then(|| bridge::path_from_here(properties, &core.gateway))
    }

    /// Returns for how many more seconds a message is of use: at least one, as it was when it was decided.
    fn expires_in(&self, properties: Option<&Properties>) -> Option<u32> {
        let expires = properties?.expires?;
        let left = expires.saturating_since(self.shared.clock.steady());
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        Some(u32::try_from(seconds).unwrap_or(u32::MAX).max(1))
    }

    /// Returns why the far side would not take the outcome of a command; `None` if it may.
    fn refuses_outcome(&self, outcome: &Outcome) -> Option<String> {
        let profile = self.core.settings().profile;
        if let Err(refusal) = profile.check_topic(&outcome.topic) {
            return Some(refusal.to_string());
        }
        let correlation = outcome.correlation.as_ref().map_or(0, Bytes::len);
        let size = outcome.topic.len() + outcome.payload.len() + correlation + OUTCOME_OVERHEAD;
        let most = self.packet_bytes_max.min(profile.bounds().payload_bytes);
        (size > most).then(|| format!("{size} bytes are more than the {most} that are taken"))
    }

    /// Lets an outcome go that can never be sent: it must not hold up what comes behind it.
    fn give_up_outcome(&mut self, id: OutcomeId, reason: &str) {
        self.report(reason, "The outcome of a command cannot be sent");
        let Some(change) = self.outbox.handle_ack(id) else { return };
        match self.shared.submit(Transaction::new(), vec![change], None) {
            Ok(token) => self.tickets.push_back((token, Ticket::Nothing)),
            // It is one key; and at the next start it is found again.
            Err(error) => warn!(uplink = %self.name(), %error, "An outcome is not forgotten"),
        }
    }

    /// Begins to connect if it is time.
    pub(super) fn connect(&mut self) {
        if self.connection.is_some() || self.stop_deadline.is_some() {
            return;
        }
        let Ok(endpoint) = self.endpoints.next(self.shared.clock.uptime()) else { return };
        self.connection_number = self.shared.attempts.fetch_add(1, Ordering::Relaxed) + 1;
        self.endpoints.note_attempt(endpoint);
        self.returning = None;
        let kept = self.kept();
        match Connection::open(&self.shared.settings.link, endpoint, kept) {
            Ok(connection) => {
                self.connection = Some(connection);
                self.shared.set_connection(ConnectionState::Connecting);
            }
            Err(error) => self.disconnect(error),
        }
    }

    /// Gives a connection up when a preferred broker is to be tried again, or when it is to be replaced, once what is
    /// under way is answered.
    pub(super) fn return_if_due(&mut self) {
        if self.renewal != Renewal::None {
            return self.renew();
        }
        let now = self.shared.clock.uptime();
        let is_due = self.endpoints.returns_at().is_some_and(|due| due <= now);
        if self.connection.is_none() || !is_due {
            return;
        }
        let deadline = *self.returning.get_or_insert_with(|| Instant::now() + RETURN_GRACE);
        let waits = self.connection.as_ref().is_some_and(Connection::awaits_answers);
        if waits && Instant::now() < deadline {
            return;
        }
        info!(uplink = %self.name(), "Uplink leaves its stand-in to try a preferred broker");
        self.endpoints.note_returning();
        self.forget_connection(&LinkError::transient("a preferred broker is tried again"));
    }

    /// Says good-bye once what is under way is answered, or there is no more time.
    fn renew(&mut self) {
        let deadline = *self.returning.get_or_insert_with(|| Instant::now() + RETURN_GRACE);
        let is_late = Instant::now() >= deadline;
        let Some(connection) = &self.connection else { return };
        if is_late || (self.renewal == Renewal::ExpectAnswers && !connection.awaits_answers()) {
            if self.renewal == Renewal::ExpectAnswers && connection.leave() && !is_late {
                self.renewal = Renewal::ExpectEnd;
                return;
            }
            self.note_renewed();
        }
    }

    /// Lets a connection go that is replaced at once.
    fn note_renewed(&mut self) {
        info!(uplink = %self.name(), "Uplink renews its connection");
        self.endpoints.note_renewing();
        self.forget_connection(&LinkError::transient("it is renewed"));
        self.shared.set_connection(ConnectionState::Connecting);
    }

    pub(super) fn handle_event(
        &mut self,
        event: Result<LinkEvent, LinkError>,
    ) -> Result<(), UplinkError> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        match event {
            Err(_) if self.renewal == Renewal::ExpectEnd => self.note_renewed(),
            Err(error) => self.disconnect(error),
            Ok(LinkEvent::Renew) => self.renewal = Renewal::ExpectAnswers,
            Ok(LinkEvent::Connected { keep_alive, packet_bytes_max, receive_max }) => {
                connection.set_up(receive_max, keep_alive, &self.shared.settings.link);
                self.packet_bytes_max = packet_bytes_max;
                self.core.handle_connected(packet_bytes_max, self.shared.now());
                self.endpoints.note_connected(self.shared.clock.uptime());
                let endpoint = self.endpoint().to_string();
                info!(uplink = %self.name(), %endpoint, "Uplink connected");
                let mut state = self.shared.state.lock();
                state.connections += 1;
                state.last_error = None;
                state.endpoint = Some(endpoint);
                drop(state);
                self.shared.set_connection(ConnectionState::Connected);
                self.passengers().iter().for_each(|seat| seat.connected(packet_bytes_max));
                if let Some(shadow) = &mut self.shadow {
                    shadow.handle_connected();
                }
            }
            Ok(LinkEvent::Sent { packet }) => connection.note_sent(packet),
            Ok(LinkEvent::Answered { packet, answer }) => {
                let token = connection.take_answered(packet);
                self.handle_answer(token, answer)?;
            }
            Ok(LinkEvent::Degraded { reason }) => {
                warn!(uplink = %self.name(), error = %reason, "Uplink does not deliver everything");
                self.shared.state.lock().last_error = Some(reason);
            }
            Ok(LinkEvent::Refused { reason }) => {
                warn!(uplink = %self.name(), error = %reason, "The cloud refuses what it has acknowledged");
                self.shared.refused_late.fetch_add(1, Ordering::Relaxed);
                self.shared.state.lock().last_error = Some(reason);
            }
            Ok(LinkEvent::Held { reason }) => {
                if connection.set_held(reason.is_some()) {
                    self.note_held(reason);
                }
            }
            Ok(LinkEvent::NotSubscribed { reason }) => self.note_unsubscribed(reason),
            Ok(LinkEvent::Subscribed) => self.note_subscribed(),
            Ok(LinkEvent::ShadowSubscribed { refused }) => self.note_shadow_subscribed(refused),
            Ok(LinkEvent::Incoming(incoming)) => self.handle_incoming(incoming)?,
            Ok(LinkEvent::Keep { name, value }) => self.keep(&name, value)?,
            Ok(LinkEvent::Alive) => {}
        }
        Ok(())
    }

    /// Tells that nothing comes down by this connection for now; the same is said once.
    fn note_unsubscribed(&mut self, reason: String) {
        if self.unsubscribed.as_ref() != Some(&reason) {
            warn!(uplink = %self.name(), error = %reason, "Nothing will come down");
        }
        self.shared.state.lock().last_error = Some(reason.clone());
        self.unsubscribed = Some(reason);
    }

    fn note_subscribed(&mut self) {
        let Some(reason) = self.unsubscribed.take() else { return };
        info!(uplink = %self.name(), "Commands come down again");
        let mut state = self.shared.state.lock();
        state.last_error.take_if(|error| *error == reason);
    }

    /// Tells that the far side takes nothing for now, or takes messages again.
    fn note_held(&self, reason: Option<String>) {
        match &reason {
            Some(reason) => {
                warn!(uplink = %self.name(), error = %reason, "Uplink is held up by the cloud");
            }
            None => info!(uplink = %self.name(), "Uplink is no longer held up by the cloud"),
        }
        self.passengers().iter().for_each(|seat| seat.held(reason.as_deref()));
        self.shared.state.lock().last_error = reason;
    }

    /// Writes down what the connection is to remember; it is told when that is durable.
    fn keep(&mut self, name: &[u8], value: Option<Vec<u8>>) -> Result<(), UplinkError> {
        let change = Keys::new(self.name()).keep(name, value);
        let token = self.shared.submit(Transaction::new(), vec![change], None)?;
        self.tickets.push_back((token, Ticket::Kept { connection: self.connection_number }));
        Ok(())
    }

    /// Returns what connections before were to remember, by name.
    fn kept(&self) -> Kept {
        if self.shared.settings.link.dialect.is_none() {
            return Kept::new();
        }
        let prefix = Keys::new(self.name()).kept_prefix();
        let entries = self.shared.entries.lock();
        let own = entries.range(prefix.clone()..).map_while(|(key, value)| {
            key.strip_prefix(prefix.as_slice()).map(|name| (name.to_vec(), value.clone()))
        });
        own.collect()
    }

    fn handle_answer(&mut self, token: Option<Token>, answer: Answer) -> Result<(), UplinkError> {
        if let Some(Token::Passenger(place, ticket)) = token {
            self.passengers()[place].answered(ticket, answer);
            return Ok(());
        }
        let ack = match answer {
            Answer::Final(ack) => ack,
            Answer::Later { reason, pause } => {
                self.disconnect_for(
                    LinkError::transient(format!("not now: {reason}")),
                    pause.unwrap_or_default(),
                );
                return Ok(());
            }
        };
        match token {
            Some(Token::Batch(id)) => {
                if ack != Ack::Accepted {
                    self.report(&format!("{ack:?}"), "The cloud refuses readings");
                }
                self.core.handle_ack(id, ack);
            }
            Some(Token::Outcome(id)) => {
                if ack != Ack::Accepted {
                    self.report(&format!("{ack:?}"), "The cloud refuses the outcome of a command");
                }
                if let Some(change) = self.outbox.handle_ack(id) {
                    let token = self.shared.submit(Transaction::new(), vec![change], None)?;
                    self.tickets.push_back((token, Ticket::Nothing));
                }
            }
            Some(Token::Shadow) => {
                if ack != Ack::Accepted {
                    self.report(&format!("{ack:?}"), "The cloud refuses a request of the shadow");
                }
            }
            Some(Token::Passenger(..)) | None => {}
        }
        Ok(())
    }

    /// Drops the connection with all its state; the core sends again what was not answered.
    pub(super) fn disconnect(&mut self, error: LinkError) {
        self.disconnect_for(error, Duration::ZERO);
    }

    /// As [`disconnect`](Self::disconnect), for so long at least.
    fn disconnect_for(&mut self, error: LinkError, least: Duration) {
        self.forget_connection(&error);
        let now = self.shared.clock.uptime();
        if self.shared.settings.link.seat.is_some() && least.is_zero() {
            // Who has the connection waits; taking the place costs nothing.
            self.endpoints.note_returning();
            self.shared.state.lock().last_error = Some(error.reason);
            self.shared.set_connection(ConnectionState::Connecting);
            return;
        }
        let random = RandomState::new().hash_one(self.connection_number);
        self.endpoints.note_ended(error.failure, now, random, least);
        let pause = self.endpoints.next(now).err().unwrap_or(now).saturating_sub(now);
        let until = self.shared.clock.wall().saturating_add(pause);
        let retry_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        let (endpoint, by_peer) = (self.endpoint(), error.how != Disconnect::Otherwise);
        if error.failure == Failure::Lasting {
            warn!(uplink = %self.name(), %endpoint, error = %error.reason, retry_ms, "Uplink is refused by the cloud");
        } else {
            warn!(uplink = %self.name(), %endpoint, error = %error.reason, by_peer, retry_ms, "Uplink has no connection");
        }
        self.shared.state.lock().last_error = Some(error.reason);
        self.shared.set_connection(ConnectionState::Waiting { until });
    }

    fn forget_connection(&mut self, why: &LinkError) {
        // If the far side closed it, then for the sake of one message, whose uplink alone is concerned.
        let is_shadow = self.note_disconnected_to_shadow(why.how);
        let cause = self.connection.as_mut().and_then(Connection::oldest_unanswered);
        let cause = cause.filter(|_| !is_shadow);
        self.connection = None;
        self.inbound = Inbound::default();
        // They come again.
        self.waiting = Waiting::default();
        self.unsubscribed = None;
        let elsewhere = LinkError { how: Disconnect::Otherwise, ..why.clone() };
        for (place, seat) in self.passengers().iter().enumerate() {
            let is_cause = matches!(cause, Some(Token::Passenger(of, _)) if of == place);
            seat.disconnected(if is_cause { why } else { &elsewhere });
        }
        let is_own = matches!(cause, Some(Token::Batch(_)));
        let why = if is_own { why } else { &elsewhere };
        self.returning = None;
        self.renewal = Renewal::None;
        self.outbox.handle_disconnected();
        self.core.handle_disconnected(why.how, self.shared.now());
        self.shared.state.lock().endpoint = None;
    }

    fn endpoint(&self) -> &Endpoint {
        &self.shared.settings.link.endpoints[self.endpoints.current()]
    }

    /// Reports a fault that may come with every message, once per interval.
    pub(super) fn report(&mut self, error: &str, text: &'static str) {
        self.shared.state.lock().last_error = Some(error.to_owned());
        if self.reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
            self.reported = Some(Instant::now());
            warn!(uplink = %self.name(), %error, "{text}");
        }
    }
}
