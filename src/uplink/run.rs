//! One run of an uplink: a loop that owns the core, a reader of the journal and the connection.

mod cloud;
mod commands;
mod inbound;
mod records;
mod shadow;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use tidegate_store::{Item, QueueReader, SpillEntry, Transaction};
use tidegate_uplink::{Core, Endpoints, Keys, Outbox, OutcomeId, Pace, Shadow, Turns, WriteId};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::{commands::Waiting, inbound::Inbound};
use super::{
    command::{AckId, Settled},
    connection::Connection,
    handle::ConnectionState,
    link::{LinkError, LinkEvent},
    outcome::Told,
    seat::Seat,
    shared::Shared,
    spill::{Copied, Spiller},
    task::UplinkError,
};
use crate::store::JournalFiles;

/// The journal is looked at no more often than this, so that records come in blocks.
const READ_INTERVAL_MAX: Duration = Duration::from_millis(20);

/// What is to be done when a write is durable; a write may have several tickets.
#[derive(Clone, Copy, Debug)]
enum Ticket {
    /// The core is told.
    Core(WriteId),
    /// An outcome may be sent.
    Outcome(OutcomeId),
    /// A command is refused, and its sender will hear of it.
    Refuse(AckId),
    /// What a connection is to remember is safe.
    Kept { connection: u64 },
    /// Records are in a file of their own, or need none.
    Spilled(Copied),
    /// Such a file may be removed.
    Passed(SpillEntry),
    /// What the shadow is to remember is safe.
    Noted,
    /// Nothing; a stop waits for it.
    Nothing,
}

/// How far the replacement of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Renewal {
    /// There is none.
    None,
    /// Nothing more is sent, and answers are awaited.
    ExpectAnswers,
    /// The good-bye is said.
    ExpectEnd,
}

/// One run of the task of an uplink.
pub(super) struct Run<'a> {
    shared: &'a Arc<Shared>,
    core: Core,
    outbox: Outbox,
    reader: QueueReader<JournalFiles>,
    spiller: Spiller,
    items: VecDeque<Item>,
    /// Until when what was read waits, as it is not known yet how its stamps are to be taken.
    items_wait_until: Option<Instant>,
    tickets: VecDeque<(u64, Ticket)>,
    durable: watch::Receiver<tidegate_store::Seq>,
    pressure: watch::Receiver<crate::store::Pressure>,
    connection: Option<Connection>,
    /// What the connection has brought to be published here.
    inbound: Inbound,
    /// Commands that it has brought and nobody has room for.
    waiting: Waiting,
    /// Why none come by this connection, if the far side does not let us have them.
    unsubscribed: Option<String>,
    /// The shadow at the cloud, if there is one.
    shadow: Option<Shadow>,
    /// The number of the last connection.
    connection_number: u64,
    endpoints: Endpoints,
    pace: Pace,
    /// The same for what has waited for a connection.
    replay_pace: Pace,
    /// Whether this uplink goes first among equals next.
    is_own_turn: bool,
    /// How turns are shared out with its second queue.
    turns: Option<Turns>,
    /// The largest packet that the far side takes.
    packet_bytes_max: usize,
    /// When the next message may go, if one waits for that.
    paced_until: Option<Duration>,
    /// Until when answers are awaited before a connection is given up for a better one.
    returning: Option<Instant>,
    /// How far a connection is on its way to be replaced by another like it.
    renewal: Renewal,
    /// Whether there may be something to read, and from when on it is read.
    may_read: bool,
    read_at: Instant,
    read_interval: Duration,
    stop_deadline: Option<Instant>,
    reported: Option<Instant>,
}

impl<'a> Run<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>) -> Result<Self, UplinkError> {
        shared.settle_files()?;
        let entries = shared.entries.lock();
        let pairs = || entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        let core = Core::open(shared.settings.core.clone(), pairs(), shared.now())?;
        let outbox = Outbox::open(&shared.settings.core.name, pairs())?;
        let now = Instant::now();
        let interval = shared.settings.core.batch.age / 10;
        drop(entries);
        let link = &shared.settings.link;
        Ok(Self {
            shared,
            reader: shared.reader(core.position()),
            spiller: Spiller::new(),
            core,
            outbox,
            items: VecDeque::new(),
            items_wait_until: None,
            tickets: VecDeque::new(),
            durable: shared.store.durable_seq(),
            pressure: shared.store.pressure(),
            connection: None,
            inbound: Inbound::default(),
            waiting: Waiting::default(),
            unsubscribed: None,
            shadow: shadow::open(shared),
            connection_number: 0,
            endpoints: Endpoints::new(
                if link.seat.is_some() { 1 } else { link.endpoints.len() },
                link.pauses,
            ),
            pace: Pace::new(link.rates, shared.clock.uptime()),
            replay_pace: Pace::new(link.replay_rates, shared.clock.uptime()),
            is_own_turn: false,
            turns: link.second.as_ref().map(|second| second.turns),
            packet_bytes_max: usize::MAX,
            paced_until: None,
            returning: None,
            renewal: Renewal::None,
            may_read: true,
            read_at: now,
            read_interval: interval.clamp(Duration::from_millis(1), READ_INTERVAL_MAX),
            stop_deadline: None,
            reported: None,
        })
    }

    pub(super) async fn serve(
        &mut self,
        told: &mut mpsc::Receiver<Told>,
        acks: &mut mpsc::Receiver<Settled>,
        shutdown: &CancellationToken,
    ) -> Result<(), UplinkError> {
        loop {
            self.work()?;
            let all_told = told.is_empty() || !self.outbox.has_room();
            if self.shared.writes.have_failed() || (all_told && self.is_done()) {
                return Ok(());
            }
            let wake = self.wake_at();
            // Every pass does all the work that is due, so no branch starves another.
            tokio::select! {
                biased;
                () = shutdown.cancelled(), if self.stop_deadline.is_none() => {
                    self.stop_deadline = Some(Instant::now() + self.shared.settings.grace);
                    self.may_read = true;
                    self.read_at = Instant::now();
                }
                event = next_event(&mut self.connection) => self.handle_event(event)?,
                () = self.shared.writes.changed() => {}
                changed = self.durable.changed(), if !self.may_read => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    self.may_read = true;
                }
                Some(told) = told.recv(), if self.outbox.has_room() => self.tell(told, None)?,
                Some(settled) = acks.recv() => self.settle(settled),
                permit = self.shared.commands.reserve(), if !self.waiting.is_empty() => {
                    self.waiting.hand_on(permit.ok());
                }
                () = self.inbound.settled() => {}
                () = self.shared.watched.changed() => {}
                Ok(()) = self.pressure.changed() => {}
                () = called(&self.shared.settings.link.passengers) => {}
                () = self.shared.is_over.notified() => {}
                () = self.shared.settings.link.renewed.notified() => {
                    self.endpoints.note_renewed(self.shared.clock.uptime());
                }
                copied = self.spiller.copied() => self.register(copied)?,
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
    }

    /// Does everything that is due without waiting, but for the disk.
    fn work(&mut self) -> Result<(), UplinkError> {
        self.take_written();
        self.look_after_files()?;
        self.check_load();
        self.read()?;
        let now = self.shared.now();
        self.core.handle_timeout(now);
        if self.has_read_all() {
            self.core.handle_idle(now);
        }
        if self.stop_deadline.is_some() && !self.may_read && self.items.is_empty() {
            self.core.flush();
        }
        self.submit_writes()?;
        self.return_if_due();
        self.settle_inbound();
        self.look_after_shadow()?;
        self.send();
        self.connect();
        let mut state = self.shared.state.lock();
        state.core = self.core.status();
        state.outcomes_waiting = self.outbox.len();
        Ok(())
    }

    /// Ends the connection, if there is one, with a good-bye.
    pub(super) async fn close(mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }

    fn take_written(&mut self) {
        let durable = self.shared.book_durable();
        while let Some((_, ticket)) = self.tickets.pop_front_if(|(token, _)| *token <= durable) {
            match ticket {
                Ticket::Core(id) => self.core.handle_written(id, self.shared.now()),
                Ticket::Outcome(id) => self.outbox.handle_written(id),
                Ticket::Refuse(ack) => self.refuse(ack),
                Ticket::Kept { connection } if connection == self.connection_number => {
                    if let Some(connection) = &self.connection {
                        connection.note_kept();
                    }
                }
                Ticket::Spilled(copied) => self.spiller.note_settled(copied, self.shared),
                Ticket::Passed(entry) => self.shared.forget_file(&entry),
                Ticket::Noted => {
                    if let Some(shadow) = &mut self.shadow {
                        shadow.handle_noted();
                    }
                }
                Ticket::Kept { .. } | Ticket::Nothing => {}
            }
        }
    }

    fn submit_writes(&mut self) -> Result<(), UplinkError> {
        while let Some(write) = self.core.poll_write() {
            let token = self.shared.submit(Transaction::new(), write.changes, write.moved)?;
            self.tickets.push_back((token, Ticket::Core(write.id)));
        }
        Ok(())
    }

    /// Spills what is old, and lets files go that the cursor has passed.
    fn look_after_files(&mut self) -> Result<(), UplinkError> {
        let needed = self.shared.books.lock().needed;
        for entry in self.shared.spilled.take_passed(needed) {
            let change = Keys::new(self.name()).spill(entry.number, None);
            let token = self.shared.submit(Transaction::new(), vec![change], None)?;
            self.shared.passing.lock().push(entry);
            self.tickets.push_back((token, Ticket::Passed(entry)));
        }
        if self.stop_deadline.is_none() {
            let is_connected = self.connection.as_ref().is_some_and(Connection::is_up);
            self.spiller.look(self.shared, is_connected, self.store_is_tight());
        }
        Ok(())
    }

    fn store_is_tight(&self) -> bool {
        self.pressure.borrow().bytes > 0
    }

    /// Writes down that there is a file, before anybody relies on it.
    fn register(&mut self, copied: Option<Copied>) -> Result<(), UplinkError> {
        let Some(copied) = copied else { return Ok(()) };
        let Some(entry) = copied.entry else {
            // There was nothing to copy, and there is nothing to write down.
            self.spiller.note_settled(copied, self.shared);
            return Ok(());
        };
        let change = Keys::new(self.name()).spill(entry.number, Some(entry.encode()));
        let token = self.shared.submit(Transaction::new(), vec![change], None)?;
        self.tickets.push_back((token, Ticket::Spilled(copied)));
        Ok(())
    }

    /// Returns whether a stop has nothing more to wait for.
    fn is_done(&self) -> bool {
        let Some(deadline) = self.stop_deadline else { return false };
        let is_up = self.connection.as_ref().is_some_and(Connection::is_up);
        let is_settled = !self.may_read
            && self.items.is_empty()
            && self.core.is_idle()
            && self.outbox.is_empty()
            && self.inbound.is_settled()
            // Who shares the connection stops at the same time, and has it until then.
            && !self.passengers().iter().any(|seat| seat.is_taken())
            && self.tickets.is_empty()
            // What was appended a moment ago cannot be read before it is durable.
            && !self.shared.has_queued();
        // Without a connection only what is being written is waited for.
        let has_written = !is_up && self.tickets.is_empty();
        is_settled || has_written || Instant::now() >= deadline
    }

    /// Returns whether the core was handed all that could be read a moment ago.
    fn has_read_all(&self) -> bool {
        !self.may_read && self.items.is_empty()
    }

    /// Returns when something is due, at the latest.
    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let uptime = self.shared.clock.uptime();
        let at = |due: Duration| now + due.saturating_sub(uptime);
        let mut wake = now + Duration::from_secs(3_600);
        if self.connection.is_none() && self.stop_deadline.is_none() {
            wake = wake.min(self.endpoints.next(uptime).map_or_else(at, |_| now));
        }
        if let Some(ready) = self.paced_until {
            wake = wake.min(at(ready));
        }
        if self.stop_deadline.is_none() && self.shared.has_queued() {
            wake = self.spiller.wake_at().map_or(wake, |due| wake.min(due));
        }
        let returns_at = self.endpoints.returns_at().map(at);
        wake = returns_at.filter(|_| self.returning.is_none()).map_or(wake, |due| wake.min(due));
        wake = self.returning.map_or(wake, |due| wake.min(due));
        wake = self.inbound.wake_at().map_or(wake, |due| wake.min(due));
        let shadow = self.shadow.as_ref().and_then(|shadow| shadow.poll_timeout(uptime));
        wake = shadow.map(at).map_or(wake, |due| wake.min(due));
        if let Some(deadline) = self.stop_deadline {
            wake = wake.min(deadline);
        }
        if self.core.wants_items() {
            if !self.items.is_empty() {
                wake = wake.min(self.items_wait_until.unwrap_or(now));
            } else if self.may_read {
                wake = wake.min(self.read_at);
            }
        }
        let idle = self.core.poll_idle().filter(|_| self.has_read_all());
        if let Some(due) = self.core.poll_timeout().into_iter().chain(idle).min() {
            wake = wake.min(at(due));
        }
        wake
    }

    fn passengers(&self) -> &'a [Arc<Seat>] {
        &self.shared.settings.link.passengers
    }

    fn name(&self) -> &tidegate_model::UplinkName {
        &self.shared.settings.core.name
    }
}

impl Drop for Run<'_> {
    /// However the run has ended, its connection is gone.
    fn drop(&mut self) {
        let why = LinkError::transient("the uplink that has the connection has stopped");
        self.passengers().iter().for_each(|seat| seat.disconnected(&why));
        self.shared.set_connection(ConnectionState::Idle);
    }
}

/// Waits until an uplink that shares the connection has handed something over.
async fn called(passengers: &[Arc<Seat>]) {
    match passengers.first() {
        Some(seat) => seat.called().await,
        None => std::future::pending().await,
    }
}

async fn next_event(connection: &mut Option<Connection>) -> Result<LinkEvent, LinkError> {
    match connection {
        Some(connection) => connection.next().await,
        None => std::future::pending().await,
    }
}
