//! The task of an uplink: a loop that owns the core, a reader of the journal and the connection.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    io,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use thiserror::Error;
use tidegate_model::json;
use tidegate_store::{Item, Reader, Transaction, TransactionError};
use tidegate_uplink::{
    Backoff, Change, Core, Disconnect, Encoding, Failure, Load, OpenError, Outbox, Outcome,
    OutcomeId, WriteId, decoder::Limits, downlink,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    command::{AckId, CommandAck, IncomingCommand},
    handle::{ConnectionState, Shared, apply},
    link::{Answer, Incoming, LinkError, LinkEvent, Up},
    link_mqtt::{Connection, Token},
    listener::WriteListener,
};
use crate::store::{Completion, JournalFiles};

/// Why a run of an uplink ended. What the cloud or the network does never ends one.
#[derive(Debug, Error)]
pub enum UplinkError {
    /// What the journal keeps for the uplink cannot be read.
    #[error(transparent)]
    State(#[from] OpenError),
    /// The records cannot be read.
    #[error("cannot read the journal")]
    Journal(#[from] io::Error),
    /// A change does not fit into the journal.
    #[error("cannot write to the journal")]
    Change(#[from] TransactionError),
}

impl UplinkError {
    /// Returns whether the same attempt may succeed later without anyone stepping in.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Journal(_))
    }
}

/// Carries one uplink's records to its cloud and commands down.
#[derive(Clone, Debug)]
pub struct UplinkTask {
    shared: Arc<Shared>,
}

impl UplinkTask {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Runs until `shutdown` is cancelled or the store has stopped; one run at a time.
    ///
    /// After the cancellation it sends what has been appended so far and waits for the cloud's
    /// acknowledgements, at most for the grace period of the settings, and not at all without a
    /// connection. A run after one that failed goes on where that one stood.
    ///
    /// # Errors
    ///
    /// [`UplinkError`]. Nothing that the cloud or the network does is one.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), UplinkError> {
        let shared = Arc::clone(&self.shared);
        let mut outcomes = shared.outcomes.lock().await;
        let mut acks = shared.acks.lock().await;
        let mut run = Run::new(&shared)?;
        let ended = run.serve(&mut outcomes, &mut acks, &shutdown).await;
        if let Some(connection) = run.connection.take() {
            connection.close().await;
        }
        run.set_connection(ConnectionState::Idle);
        ended
    }
}

/// What a journal write was for.
#[derive(Clone, Copy, Debug)]
enum Ticket {
    Core(WriteId),
    Outcome { id: OutcomeId, then_acknowledge: Option<AckId> },
    OutcomeGone,
}

/// Records taken from the reader at a time.
const BLOCK_RECORDS: usize = 512;
/// Bytes of records taken from the reader at a time.
const BLOCK_BYTES: usize = 256 << 10;
/// Records handed to the core before the connection gets its turn.
const RECORDS_PER_TURN: usize = 4_096;
/// The journal is looked at no more often than this, so that records come in blocks.
const READ_INTERVAL_MAX: Duration = Duration::from_millis(20);
/// A connection that lasted this long has shown that the far side works.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// While connected, the same fault is reported no more often than this.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

struct Run<'a> {
    shared: &'a Arc<Shared>,
    core: Core,
    outbox: Outbox,
    reader: Reader<JournalFiles>,
    items: VecDeque<Item>,
    listener: Arc<WriteListener>,
    tickets: VecDeque<(u64, Ticket)>,
    next_token: u64,
    durable: watch::Receiver<tidegate_store::Seq>,
    pressure: watch::Receiver<crate::store::Pressure>,
    connection: Option<Connection>,
    connection_number: u64,
    connected_at: Option<Instant>,
    backoff: Backoff,
    retry_at: Instant,
    /// Whether there may be something to read, and from when on it is read.
    may_read: bool,
    read_at: Instant,
    read_interval: Duration,
    stop_deadline: Option<Instant>,
    reported: Option<Instant>,
}

impl<'a> Run<'a> {
    fn new(shared: &'a Arc<Shared>) -> Result<Self, UplinkError> {
        let entries = shared.entries.lock();
        let pairs = || entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        let core = Core::open(shared.settings.core.clone(), pairs(), shared.now())?;
        let outbox = Outbox::open(&shared.settings.core.name, pairs())?;
        let now = Instant::now();
        let interval = shared.settings.core.batch.age / 10;
        Ok(Self {
            shared,
            reader: shared.store.reader(shared.taker, core.position()),
            core,
            outbox,
            items: VecDeque::new(),
            listener: Arc::default(),
            tickets: VecDeque::new(),
            next_token: 1,
            durable: shared.store.durable_seq(),
            pressure: shared.store.pressure(),
            connection: None,
            connection_number: 0,
            connected_at: None,
            backoff: Backoff::default(),
            retry_at: now,
            may_read: true,
            read_at: now,
            read_interval: interval.clamp(Duration::from_millis(1), READ_INTERVAL_MAX),
            stop_deadline: None,
            reported: None,
        })
    }

    async fn serve(
        &mut self,
        outcomes: &mut mpsc::Receiver<Outcome>,
        acks: &mut mpsc::Receiver<AckId>,
        shutdown: &CancellationToken,
    ) -> Result<(), UplinkError> {
        loop {
            self.work()?;
            if self.listener.has_failed() || self.is_done() {
                return Ok(());
            }
            let wake = self.wake_at();
            let listener = Arc::clone(&self.listener);
            // Every pass does all the work that is due, so no branch starves another.
            tokio::select! {
                biased;
                () = shutdown.cancelled(), if self.stop_deadline.is_none() => {
                    self.stop_deadline = Some(Instant::now() + self.shared.settings.grace);
                    self.may_read = true;
                    self.read_at = Instant::now();
                }
                event = next_event(&mut self.connection) => self.handle_event(event)?,
                () = listener.changed() => {}
                changed = self.durable.changed(), if !self.may_read => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    self.may_read = true;
                }
                Some(outcome) = outcomes.recv(), if self.outbox.has_room() => {
                    self.push_outcome(outcome, None)?;
                }
                Some(ack) = acks.recv() => self.acknowledge(ack),
                Ok(()) = self.pressure.changed() => {}
                () = self.shared.is_over.notified() => {}
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
    }

    /// Does everything that is due without waiting, but for the disk.
    fn work(&mut self) -> Result<(), UplinkError> {
        self.take_written();
        self.check_load();
        self.read()?;
        let now = self.shared.now();
        self.core.handle_timeout(now);
        if self.stop_deadline.is_some() && !self.may_read && self.items.is_empty() {
            self.core.flush();
        }
        self.submit_writes()?;
        self.send();
        self.connect();
        let mut state = self.shared.state.lock();
        state.core = self.core.status();
        state.outcomes_waiting = self.outbox.len();
        Ok(())
    }

    fn take_written(&mut self) {
        let durable = self.listener.durable();
        while self.tickets.front().is_some_and(|(token, _)| *token <= durable) {
            let Some((_, ticket)) = self.tickets.pop_front() else { return };
            match ticket {
                Ticket::Core(id) => {
                    if let Some(moved) = self.core.handle_written(id, self.shared.now()) {
                        self.shared.note_moved(&moved);
                    }
                }
                Ticket::Outcome { id, then_acknowledge } => {
                    self.outbox.handle_written(id);
                    if let Some(ack) = then_acknowledge {
                        self.acknowledge(ack);
                    }
                }
                Ticket::OutcomeGone => {}
            }
        }
    }

    fn check_load(&mut self) {
        let load = Load {
            queued_bytes: self.shared.queued_bytes(),
            store_is_tight: self.pressure.borrow().bytes > 0,
        };
        self.core.handle_load(load, self.shared.now());
    }

    /// Hands records to the core while it wants them.
    fn read(&mut self) -> Result<(), UplinkError> {
        let is_due = self.may_read && Instant::now() >= self.read_at;
        if !self.core.wants_items() || (self.items.is_empty() && !is_due) {
            return Ok(());
        }
        // The reader waits for the disk, and batches are compressed on the way.
        if tokio::runtime::Handle::current().runtime_flavor()
            == tokio::runtime::RuntimeFlavor::MultiThread
        {
            tokio::task::block_in_place(|| self.read_turn())
        } else {
            self.read_turn()
        }
    }

    fn read_turn(&mut self) -> Result<(), UplinkError> {
        let now = self.shared.now();
        for _ in 0..RECORDS_PER_TURN {
            if !self.core.wants_items() {
                return Ok(());
            }
            if self.items.is_empty() {
                self.items = self.reader.next_block(BLOCK_RECORDS, BLOCK_BYTES)?.into();
            }
            let Some(item) = self.items.pop_front() else {
                self.may_read = false;
                self.read_at = Instant::now() + self.read_interval;
                return Ok(());
            };
            self.core.handle_item(&item, now);
        }
        Ok(())
    }

    fn submit_writes(&mut self) -> Result<(), UplinkError> {
        while let Some(write) = self.core.poll_write() {
            self.submit(write.changes, Ticket::Core(write.id))?;
        }
        Ok(())
    }

    fn submit(&mut self, changes: Vec<Change>, ticket: Ticket) -> Result<(), UplinkError> {
        let mut transaction = Transaction::new();
        apply(changes, &mut self.shared.entries.lock(), &mut transaction)?;
        let token = self.next_token;
        self.next_token += 1;
        self.tickets.push_back((token, ticket));
        let listener = Arc::clone(&self.listener);
        self.shared.store.submit(transaction, Completion::Shared(listener, token));
        Ok(())
    }

    fn send(&mut self) {
        while let Some(connection) = self.connection.as_mut().filter(|link| link.has_room()) {
            let (token, up) = if let Some((id, outcome)) = self.outbox.poll_send() {
                (Token::Outcome(id), outcome_up(outcome))
            } else if let Some(next) = self.core.poll_send() {
                let publication = next.publication;
                let encoding = publication.encoding;
                let up = Up {
                    topic: publication.topic,
                    payload: publication.payload,
                    content_type: encoding.content_type(),
                    content_encoding: encoding.content_encoding(),
                    correlation: None,
                };
                (Token::Batch(next.id), up)
            } else {
                return;
            };
            self.shared.bytes_sent.fetch_add(up.payload.len() as u64, Ordering::Relaxed);
            if let Err(error) = connection.send(token, up) {
                return self.disconnect(error);
            }
        }
    }

    /// Begins to connect if it is time.
    fn connect(&mut self) {
        if self.connection.is_some()
            || self.stop_deadline.is_some()
            || Instant::now() < self.retry_at
        {
            return;
        }
        self.connection_number += 1;
        self.connection = Some(Connection::open(&self.shared.settings.link));
        self.set_connection(ConnectionState::Connecting);
    }

    fn handle_event(&mut self, event: Result<LinkEvent, LinkError>) -> Result<(), UplinkError> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        match event {
            Err(error) => self.disconnect(error),
            Ok(LinkEvent::Connected { packet_bytes_max, receive_max }) => {
                connection.set_up(receive_max, self.shared.settings.link.keep_alive);
                self.core.handle_connected(packet_bytes_max, self.shared.now());
                self.connected_at = Some(Instant::now());
                let mut state = self.shared.state.lock();
                state.connections += 1;
                state.last_error = None;
                drop(state);
                self.set_connection(ConnectionState::Connected);
                info!(uplink = %self.name(), "Uplink connected");
            }
            Ok(LinkEvent::Sent { packet }) => connection.note_sent(packet),
            Ok(LinkEvent::Answered { packet, answer }) => {
                let token = connection.take_answered(packet);
                self.handle_answer(token, answer)?;
            }
            Ok(LinkEvent::NotSubscribed { reason }) => {
                warn!(uplink = %self.name(), error = %reason, "No commands will come down");
                self.shared.state.lock().last_error = Some(reason);
            }
            Ok(LinkEvent::Incoming(incoming)) => self.handle_incoming(incoming)?,
            Ok(LinkEvent::Alive) => {}
        }
        Ok(())
    }

    fn handle_answer(&mut self, token: Option<Token>, answer: Answer) -> Result<(), UplinkError> {
        let ack = match answer {
            Answer::Final(ack) => ack,
            Answer::Later { reason } => {
                self.disconnect(LinkError::transient(format!("not now: {reason}")));
                return Ok(());
            }
        };
        match token {
            Some(Token::Batch(id)) => {
                if ack == tidegate_uplink::Ack::Accepted {
                    self.backoff.reset();
                } else {
                    self.report(&format!("{ack:?}"), "The cloud refuses readings");
                }
                self.core.handle_ack(id, ack);
            }
            Some(Token::Outcome(id)) => {
                if ack != tidegate_uplink::Ack::Accepted {
                    self.report(&format!("{ack:?}"), "The cloud refuses the outcome of a command");
                }
                if let Some(change) = self.outbox.handle_ack(id) {
                    self.submit(vec![change], Ticket::OutcomeGone)?;
                }
            }
            None => {}
        }
        Ok(())
    }

    /// Drops the connection with all its state; the core sends again what was not answered.
    fn disconnect(&mut self, error: LinkError) {
        self.connection = None;
        self.outbox.handle_disconnected();
        self.core.handle_disconnected(error.how, self.shared.now());
        if self.connected_at.take().is_some_and(|at| at.elapsed() >= STABLE_AFTER) {
            self.backoff.reset();
        }
        let random = RandomState::new().hash_one(self.connection_number);
        let pause = self.backoff.after(error.failure, random);
        self.retry_at = Instant::now() + pause;
        let until = self.shared.clock.wall().saturating_add(pause);
        let retry_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        let by_peer = error.how == Disconnect::ByPeer;
        if error.failure == Failure::Lasting {
            warn!(uplink = %self.name(), error = %error.reason, retry_ms, "Uplink is refused by the cloud");
        } else {
            warn!(uplink = %self.name(), error = %error.reason, by_peer, retry_ms, "Uplink has no connection");
        }
        self.shared.state.lock().last_error = Some(error.reason);
        self.set_connection(ConnectionState::Waiting { until });
    }

    fn handle_incoming(&mut self, incoming: Incoming) -> Result<(), UplinkError> {
        let Some(packet) = incoming.packet else { return Ok(()) };
        let ack = AckId { connection: self.connection_number, packet };
        let settings = &self.shared.settings;
        let target = std::str::from_utf8(&incoming.topic).ok().and_then(|topic| {
            settings.link.commands.as_ref().and_then(|commands| commands.target(topic))
        });
        let Some((target, kind)) = target else {
            debug!(uplink = %self.name(), "The cloud sent something that is no command");
            self.acknowledge(ack);
            return Ok(());
        };
        self.shared.commands_total.fetch_add(1, Ordering::Relaxed);
        let said = downlink::Said {
            content_type: incoming.content_type.as_deref(),
            content_encoding: incoming.content_encoding.as_deref(),
        };
        let value = downlink::decode(&incoming.payload, said, &Limits::DOWNLINK);
        let command = IncomingCommand {
            uplink: settings.core.name.clone(),
            target,
            kind,
            payload: incoming.payload,
            value,
            retained: incoming.retained,
            reply_to: incoming.reply_to,
            ack: CommandAck::new(ack, self.shared.acks_sender.clone()),
        };
        match self.shared.commands.try_send(command) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(command)) => self.answer_busy(&command, ack),
            // Nobody carries out commands any more; the cloud keeps it for the next connection.
            Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }

    /// Answers a command that finds too many others waiting. It is acknowledged once that is durable.
    fn answer_busy(&mut self, command: &IncomingCommand, ack: AckId) -> Result<(), UplinkError> {
        let Some(results) = &self.shared.settings.link.results else { return Ok(()) };
        if !self.outbox.has_room() {
            return Ok(());
        }
        let mut body = Vec::from("{");
        if let Ok(tidegate_model::Value::Document(document)) = &command.value
            && let Some(tidegate_model::Value::String(id)) = document.get("id")
        {
            body.extend_from_slice(b"\"id\":");
            json::write_string(id, &mut body);
            body.push(b',');
        }
        body.extend_from_slice(
            b"\"outcome\":\"busy\",\"reason\":\"too many commands are waiting\",\"time\":\"",
        );
        self.shared.clock.wall().write_rfc3339(&mut body);
        body.extend_from_slice(b"\"}");
        let topic = format!("{results}/{}", command.target).into();
        let outcome = Outcome { topic, payload: body.into(), correlation: None };
        self.push_outcome(outcome, Some(ack))
    }

    fn push_outcome(
        &mut self,
        outcome: Outcome,
        then_acknowledge: Option<AckId>,
    ) -> Result<(), UplinkError> {
        let (id, change) = self.outbox.push(outcome);
        self.submit(vec![change], Ticket::Outcome { id, then_acknowledge })
    }

    fn acknowledge(&mut self, ack: AckId) {
        let Some(connection) = &self.connection else { return };
        if ack.connection != self.connection_number || !connection.is_up() {
            return;
        }
        if let Err(error) = connection.acknowledge(ack.packet) {
            self.disconnect(error);
        }
    }

    /// Returns whether a stop has nothing more to wait for.
    fn is_done(&self) -> bool {
        let Some(deadline) = self.stop_deadline else { return false };
        let is_up = self.connection.as_ref().is_some_and(Connection::is_up);
        let is_settled = !self.may_read
            && self.items.is_empty()
            && self.core.is_idle()
            && self.outbox.is_empty()
            && self.tickets.is_empty()
            // What was appended a moment ago cannot be read before it is durable.
            && !self.shared.has_queued();
        // Without a connection only what is being written is waited for.
        let has_written = !is_up && self.tickets.is_empty();
        is_settled || has_written || Instant::now() >= deadline
    }

    /// Returns when something is due, at the latest.
    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let mut wake = now + Duration::from_secs(3_600);
        if self.connection.is_none() && self.stop_deadline.is_none() {
            wake = wake.min(self.retry_at);
        }
        if let Some(deadline) = self.stop_deadline {
            wake = wake.min(deadline);
        }
        if self.core.wants_items() {
            if !self.items.is_empty() {
                wake = now;
            } else if self.may_read {
                wake = wake.min(self.read_at);
            }
        }
        if let Some(due) = self.core.poll_timeout() {
            wake = wake.min(now + due.saturating_sub(self.shared.clock.uptime()));
        }
        wake
    }

    fn set_connection(&self, connection: ConnectionState) {
        let mut state = self.shared.state.lock();
        state.since = self.shared.clock.wall();
        state.connection = connection;
    }

    /// Reports a fault that may come with every message, once per interval.
    fn report(&mut self, error: &str, text: &'static str) {
        self.shared.state.lock().last_error = Some(error.to_owned());
        if self.reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
            self.reported = Some(Instant::now());
            warn!(uplink = %self.name(), %error, "{text}");
        }
    }

    fn name(&self) -> &tidegate_model::UplinkName {
        &self.shared.settings.core.name
    }
}

async fn next_event(connection: &mut Option<Connection>) -> Result<LinkEvent, LinkError> {
    match connection {
        Some(connection) => connection.next().await,
        None => std::future::pending().await,
    }
}

fn outcome_up(outcome: Outcome) -> Up {
    Up {
        topic: outcome.topic,
        payload: outcome.payload,
        content_type: Encoding::Json.content_type(),
        content_encoding: None,
        correlation: outcome.correlation,
    }
}
