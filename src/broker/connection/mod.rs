//! One MQTT connection: moves bytes and time between a socket, the protocol machine and the broker.

#[cfg(test)]
pub(super) mod fault;
mod input;
mod packets;
mod replies;
mod scram;
mod signal;
mod socket;
mod subscribe;
mod transport;
mod upgrade;

use std::{
    cell::Cell,
    io,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tidegate_adapter_api::{Access, Login};
use tidegate_broker::{Attachment, Disconnect, Due, Superseded, access::AccessFilter};
use tidegate_model::PeerNames;
use tidegate_mqtt::{
    ClientPacket, CloseCause, Connection, Output, ReasonCode, Sent, Settings,
    packet::{Connect, Publish},
};
use tokio::{
    net::TcpStream,
    task::{coop::consume_budget, yield_now},
    time::{sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

pub(crate) use self::transport::Wrapping;
pub use self::upgrade::WebSocketSettings;
use self::{
    input::Input,
    replies::{Replies, Reply},
    scram::Proving,
    signal::Signal,
    subscribe::Subscribing,
    transport::Transport,
};
use super::{
    limits::Limit,
    listener::{ListenerCounters, Opening},
    login::Accounts,
};
use crate::{ingest::Ingest, store::Completion};

/// Bytes that may wait for one client before nothing more is put in.
const OUTPUT_BYTES_MAX: usize = 256 << 10;
/// Bytes that may wait for one client before no more deliveries are put in.
const DELIVERIES_BYTES_MAX: usize = 192 << 10;
/// With as much read at once there is more.
const FLOOD_BYTES: usize = 32 << 10;
/// Deliveries taken from the broker at once.
const DUE_MAX: usize = 64;
/// Answers that may wait for the disk before nothing more is read.
const REPLIES_MAX: usize = 1_024;
/// How often a message that found no room is tried again (MQTT 3.1.1 has no words for it).
const STALL: Duration = Duration::from_millis(250);
/// How long the wall's clock is trusted to go on as it does: the end of a credential is looked at again then.
const CLOCK_LOOK: Duration = Duration::from_secs(60);
/// How long a connection that is being closed may take to read what is left for it.
const LINGER: Duration = Duration::from_secs(2);

thread_local! {
    /// Where deliveries pass through on their way into the output of any connection.
    static DUE: Cell<Vec<Due>> = const { Cell::new(Vec::new()) };
}

/// What each connection may do.
#[derive(Clone, Debug)]
pub struct ConnectionSettings {
    /// Limits and deadlines of the protocol machine.
    pub protocol: Arc<Settings>,
    /// Who may log in by proving a password.
    pub accounts: Arc<Accounts>,
    /// Below which topic a client may have answers, if it asks.
    pub response_topics: Option<AccessFilter>,
}

/// What all connections of an address have around them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) settings: &'a ConnectionSettings,
    pub(super) ingest: &'a Ingest,
    pub(super) access: &'a Access,
    pub(super) counters: &'a ListenerCounters,
}

/// A client that has come, with or without the handshakes below MQTT behind it.
pub(super) struct Arrival {
    transport: Transport,
    /// The names in the certificate that the client has shown.
    names: Option<PeerNames>,
    /// Given back when the client has logged in.
    opening: Opening,
    peer: SocketAddr,
    accepted: Instant,
}

impl Arrival {
    /// Takes a connection as it was accepted.
    pub(super) fn new(stream: TcpStream, peer: SocketAddr, opening: Opening) -> Self {
        // Small packets go out at once; batches are written together anyway.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "Cannot set TCP_NODELAY");
        }
        let transport = Transport::new(stream);
        Self { transport, names: None, opening, peer, accepted: Instant::now() }
    }

    /// Carries out the handshakes below MQTT; `None` if one fails or takes too long.
    pub(super) async fn open(
        self,
        wrapping: &Wrapping,
        around: Surroundings<'_>,
        stop: &CancellationToken,
    ) -> Option<Self> {
        let Self { transport, opening, peer, accepted, .. } = self;
        let deadline = accepted + around.settings.protocol.connect_timeout;
        let opened = tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            () = opening.stranger.sent_away() => {
                opening.stranger.count();
                return None;
            }
            opened = timeout_at(deadline.into(), transport.open(wrapping)) => opened,
        };
        let opened = opened.unwrap_or_else(|_| {
            around.counters.limits.count(Limit::ConnectDeadline);
            Err(io::ErrorKind::TimedOut.into())
        });
        let named = opened.and_then(|transport| {
            let names = transport.socket().peer_names().map_err(io::Error::other)?;
            Ok(Self { transport, names, opening, peer, accepted })
        });
        named
            .inspect_err(|error| {
                around.counters.handshake_failures.fetch_add(1, Ordering::Relaxed);
                debug!(%peer, %error, "The handshake failed");
            })
            .ok()
    }
}

/// Serves a client until one side ends the connection, on the event loop that it is called on.
///
/// It lives for long and mostly waits: what it keeps meanwhile is one driver, and little else.
pub(super) async fn serve(
    client: Box<Arrival>,
    around: Surroundings<'_>,
    stop: &CancellationToken,
) {
    let peer = client.peer;
    let Some((mut driver, mut transport)) = settle(client, around) else { return };
    // What a panic leaves of the driver is used for one thing only: to tell the broker that the client has gone.
    match AssertUnwindSafe(driver.run(&mut transport, stop)).catch_unwind().await {
        Ok(Ok(())) => transport.finish(),
        Ok(Err(error)) => debug!(%peer, %error, "Connection broke"),
        // The process ends, and the core is to be had no more.
        Err(_) if driver.ingest.broker().has_failed() => return,
        Err(_) => {
            driver.counters.panics.fetch_add(1, Ordering::Relaxed);
            error!(%peer, "The task of a connection panicked, the connection ends");
        }
    }
    driver.leave();
}

/// Brings a client to the event loop that this is called on.
#[expect(
    clippy::boxed_local,
    reason = "the task holds a pointer until it runs, and nothing afterwards"
)]
fn settle(client: Box<Arrival>, around: Surroundings<'_>) -> Option<(Driver<'_>, Transport)> {
    let Arrival { mut transport, names: certificate, opening, peer, accepted } = *client;
    if let Err(error) = transport.move_here() {
        debug!(%peer, %error, "Cannot wait for the socket");
        return None;
    }
    let Surroundings { settings, ingest, access, counters } = around;
    let signal = Signal::new();
    opening.stranger.wake_by(signal.clone());
    let driver = Driver {
        connection: Connection::new(accepted, Arc::clone(&settings.protocol)),
        certificate,
        opening: Some(Box::new(opening)),
        peer,
        login: None,
        arriving: None,
        proving: None,
        input: Input::default(),
        output: Output::with_limit(OUTPUT_BYTES_MAX),
        replies: Replies::new(signal),
        attachment: None,
        stalled: None,
        is_resumed: false,
        behind_stalled: Vec::new(),
        subscribing: None,
        goes_on: false,
        is_held_back: false,
        farewell: None,
        may_have_due: false,
        has_progress: false,
        settings,
        ingest,
        access,
        counters,
    };
    Some((driver, transport))
}

struct Driver<'a> {
    connection: Connection,
    /// The names in the certificate that the client has shown in its handshake.
    certificate: Option<PeerNames>,
    /// The place among those who have not logged in.
    opening: Option<Box<Opening>>,
    /// Where the client comes from.
    peer: SocketAddr,
    /// As whom, and by what, the client has logged in.
    login: Option<Login>,
    /// The first packet of a client that is to be let in.
    arriving: Option<Box<Connect>>,
    /// A proof of a password that is awaited.
    proving: Option<Box<Proving>>,
    /// What was read and is not yet a packet.
    input: Input,
    output: Output,
    replies: Replies,
    attachment: Option<Attachment>,
    /// Whether the client has found its session.
    is_resumed: bool,
    /// A message of a 3.1.1 client that found no room: nothing is read until it does.
    stalled: Option<Box<Publish>>,
    /// What the client sent behind it, or behind a SUBSCRIBE, in the same batch.
    behind_stalled: Vec<ClientPacket>,
    /// A SUBSCRIBE that takes several visits to the broker; nothing is read until it is answered.
    subscribing: Option<Box<Subscribing>>,
    /// Whether a visit to the broker has left something that need not be waited for.
    goes_on: bool,
    /// Whether the client is not read from because we have no room; its keep alive stands still meanwhile.
    is_held_back: bool,
    /// How the client said good-bye.
    farewell: Option<Disconnect>,
    /// Whether the broker may have something: it called, the window has moved, or there was no room.
    may_have_due: bool,
    /// Whether the client has acknowledged something that is not stored yet.
    has_progress: bool,
    settings: &'a ConnectionSettings,
    ingest: &'a Ingest,
    access: &'a Access,
    counters: &'a ListenerCounters,
}

impl Driver<'_> {
    async fn run(&mut self, transport: &mut Transport, stop: &CancellationToken) -> io::Result<()> {
        let mut closing_since: Option<Instant> = None;
        let (mut is_trusted, mut has_flooded) = (false, false);
        let mut alarm = pin!(sleep_until(far_future().into()));
        loop {
            // A client that always has something must not keep a processor from the others.
            consume_budget().await;
            self.end_for_memory();
            self.end_with_credential();
            self.pump();
            if let Some(connect) = self.arriving.take() {
                Box::pin(self.connect(*connect)).await;
                self.pump();
            }
            let was_full = !self.has_room_for_deliveries();
            if !is_trusted && self.attachment.is_some() {
                is_trusted = true;
                self.opening = None;
                transport.trust();
            }
            let unsent = self.output.len();
            transport.write(&mut self.output)?;
            self.note_bytes(&self.counters.bytes_sent, unsent - self.output.len());
            if self.connection.is_closed() {
                let since = *closing_since.get_or_insert_with(Instant::now);
                let is_told = self.output.is_empty() && transport.is_flushed();
                if is_told || since.elapsed() >= LINGER {
                    return Ok(());
                }
            }
            let goes_on = std::mem::take(&mut self.goes_on);
            if std::mem::take(&mut has_flooded) || goes_on {
                // Whoever sends more than is read at once, or has more looked up, waits for those to whom it goes.
                yield_now().await;
            }
            // What was left for want of room is not announced again.
            let goes_on = goes_on || was_full && self.has_room_for_deliveries();
            let reads = !self.connection.is_closed() && self.may_take_input();
            let signal = self.replies.signal();
            // A later deadline leaves it as it is: it rings for nothing then, and is set anew.
            let deadline = self.next_deadline(closing_since).unwrap_or_else(far_future);
            if alarm.is_elapsed() || deadline < alarm.deadline().into_std() {
                alarm.as_mut().reset(deadline.into());
            }
            tokio::select! {
                biased;
                () = stop.cancelled(), if !self.connection.is_closed() => {
                    self.connection.close(ReasonCode::ServerShuttingDown, &mut self.output);
                }
                () = &mut alarm => {
                    self.connection.handle_timeout(Instant::now(), &mut self.output);
                }
                () = signal.notified() => {}
                ready = transport.ready(reads, !self.output.is_empty()) => {
                    if ready?.is_readable() && reads {
                        let input = self.input.buffer();
                        let unread = input.len();
                        let is_open = transport.read(input)?;
                        let read = input.len() - unread;
                        self.note_bytes(&self.counters.bytes_received, read);
                        has_flooded = read >= FLOOD_BYTES;
                        if !is_open {
                            return Ok(());
                        }
                        if self.input.is_empty() {
                            // Bytes that came to nothing: whoever sends them waits for everybody else.
                            yield_now().await;
                        }
                    }
                }
                () = std::future::ready(()), if goes_on => {}
            }
        }
    }

    fn note_bytes(&self, count: &AtomicU64, bytes: usize) {
        if bytes > 0 {
            count.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// Does all that can be done without waiting.
    fn pump(&mut self) {
        if self.subscribing.is_some()
            && self.ingest.broker().store().has_room()
            && let Err(Superseded) = self.go_on_subscribing()
        {
            self.lose_session();
        }
        self.retry_stalled();
        let behind = std::mem::take(&mut self.behind_stalled);
        self.handle_all(behind);
        self.hold_back();
        loop {
            self.take_input();
            let had_to_wait = !self.may_take_input();
            self.release_replies();
            // What an answer has made room for was read long ago, and is not announced again.
            if self.input.is_empty() || !had_to_wait || !self.may_take_input() {
                break;
            }
        }
        self.input.give_back();
        if let Err(Superseded) = self.deliver() {
            self.lose_session();
        }
        self.note_progress();
    }

    /// Acts on the packets that have been read, as far as they may be taken now.
    fn take_input(&mut self) {
        while !self.input.is_empty() && self.may_take_input() {
            let input = self.input.buffer();
            let batch = self.connection.handle_input(Instant::now(), input, &mut self.output);
            if batch.is_empty() {
                break;
            }
            self.handle_all(batch);
            self.hold_back();
        }
    }

    /// Acts on packets in order; those behind a message that found no room wait with it.
    fn handle_all(&mut self, packets: impl IntoIterator<Item = ClientPacket>) {
        for packet in packets {
            // Nothing comes after a good-bye, and how the client went must be known when it is gone.
            let must_wait = self.stalled.is_some() || self.subscribing.is_some();
            if must_wait && !matches!(packet, ClientPacket::Disconnect(_)) {
                self.behind_stalled.push(packet);
            } else {
                self.handle(packet);
            }
        }
    }

    /// Ends a connection whose session has gone: to another connection, or because its credential was withdrawn.
    fn lose_session(&mut self) {
        self.attachment = None;
        let is_known = self.login.as_ref().is_none_or(|login| self.access.is_good(login));
        let reason =
            if is_known { ReasonCode::SessionTakenOver } else { ReasonCode::NotAuthorized };
        self.connection.close(reason, &mut self.output);
    }

    /// Closes the connection of a client that has not logged in when its memory is needed.
    fn end_for_memory(&mut self) {
        let Some(opening) = self.opening.as_ref() else { return };
        if opening.stranger.is_sent_away() && !self.connection.is_closed() {
            opening.stranger.count();
            self.connection.close(ReasonCode::ServerBusy, &mut self.output);
        }
    }

    /// Closes the connection when the time of its credential is over. Its will is published, as for every connection
    /// that the server closes (MQTT 5.0, section 3.1.2.5): it was left while the credential was good.
    fn end_with_credential(&mut self) {
        if self.credential_left() == Some(Duration::ZERO) && !self.connection.is_closed() {
            self.connection.close(ReasonCode::NotAuthorized, &mut self.output);
        }
    }

    /// Returns how long the credential is still good, if it ends.
    fn credential_left(&self) -> Option<Duration> {
        let ends = self.login.as_ref()?.ends?.as_unix_micros();
        let now = self.ingest.broker().clock().wall().as_unix_micros();
        Some(Duration::from_micros(u64::try_from(ends.saturating_sub(now)).unwrap_or(0)))
    }

    /// Stops reading while a message waits for room, or the journal's queue is long.
    fn hold_back(&mut self) {
        let hold = self.stalled.is_some()
            || self.subscribing.is_some()
            || !self.ingest.broker().store().has_room();
        match (hold, self.is_held_back) {
            (true, false) => self.connection.pause(),
            (false, true) => self.connection.resume(Instant::now()),
            _ => return,
        }
        self.is_held_back = hold;
    }

    fn may_take_input(&self) -> bool {
        self.stalled.is_none()
            && self.subscribing.is_none()
            && self.replies.len() < REPLIES_MAX
            && self.output.has_room()
            && self.connection.wants_input()
    }

    fn next_deadline(&self, closing_since: Option<Instant>) -> Option<Instant> {
        let protocol = self.connection.poll_timeout();
        let stall = self.is_held_back.then(|| Instant::now() + STALL);
        let linger = closing_since.map(|since| since + LINGER);
        let credential = self.credential_left().filter(|_| !self.connection.is_closed());
        let credential = credential.map(|left| Instant::now() + left.min(CLOCK_LOOK));
        [protocol, stall, linger, credential].into_iter().flatten().min()
    }

    /// Puts answers into the output whose changes are on disk.
    fn release_replies(&mut self) {
        while let Some(reply) = self.replies.next_ready() {
            match reply {
                Reply::Deliveries(mut due) => self.write_due(&mut due),
                reply => reply.write(&mut self.connection, &mut self.output),
            }
        }
        self.replies.release_memory();
    }

    /// Takes what is due from the broker, as far as there is room.
    fn deliver(&mut self) -> Result<(), Superseded> {
        let is_called = self.replies.signal().take_due();
        self.may_have_due |= is_called;
        let Some(attachment) = self.attachment.filter(|_| self.may_have_due) else { return Ok(()) };
        if is_called {
            // Perhaps because its session has gone: it hears of that even while there is no room for deliveries.
            self.ingest.broker().core().principal(attachment)?;
        }
        let mut due = DUE.take();
        let result = self.deliver_through(attachment, &mut due);
        due.clear();
        DUE.set(due);
        result
    }

    fn deliver_through(
        &mut self,
        attachment: Attachment,
        due: &mut Vec<Due>,
    ) -> Result<(), Superseded> {
        // Until it is known how large they are.
        let mut most = 1;
        while self.has_room_for_deliveries()
            && !self.connection.is_closed()
            && !self.replies.holds_back_deliveries()
        {
            let broker = self.ingest.broker();
            let mut core = broker.core();
            let transaction = core.take_due(attachment, broker.clock().steady(), most, due)?;
            if due.is_empty() {
                // What was due may have expired, and more follow of what is retained.
                self.may_have_due = core.has_due(attachment);
                broker.submit(&core, transaction, Completion::None);
                // Others come first who want the broker, and who live on this event loop.
                self.goes_on |= self.may_have_due;
                return Ok(());
            }
            if transaction.is_some() {
                // The packet identifiers go to disk before the packets go out (promise D7).
                let due = std::mem::take(due);
                let completion = self.replies.await_disk(Reply::Deliveries(due));
                broker.submit(&core, transaction, completion);
                return Ok(());
            }
            drop(core);
            let (count, before) = (due.len(), self.output.len());
            self.write_due(due);
            let each = (self.output.len() - before) / count + 1;
            most =
                (DELIVERIES_BYTES_MAX.saturating_sub(self.output.len()) / each).clamp(1, DUE_MAX);
        }
        Ok(())
    }

    /// Whether deliveries may be put into the output. They leave room there, so that the client is heard meanwhile.
    fn has_room_for_deliveries(&self) -> bool {
        self.output.len() < DELIVERIES_BYTES_MAX
    }

    /// Puts deliveries into the output.
    fn write_due(&mut self, due: &mut Vec<Due>) {
        let now = self.ingest.broker().clock().steady();
        for due in due.drain(..) {
            let sent = replies::write_due(&due, now, &mut self.connection, &mut self.output);
            if let (Sent::TooLarge, Due::Publish { packet_id, .. }) = (sent, due) {
                self.give_up_too_large(packet_id);
            }
        }
    }

    /// Is done with a message that the client cannot be sent.
    fn give_up_too_large(&mut self, packet_id: Option<u16>) {
        let Some(attachment) = self.attachment else { return };
        let broker = self.ingest.broker();
        let mut core = broker.core();
        if let Ok(transaction) = core.unsendable(attachment, packet_id) {
            broker.submit(&core, transaction, Completion::None);
        }
        drop(core);
        self.acknowledged();
    }

    /// Notes that the client is done with a message: there is progress to store, and room in its window.
    fn acknowledged(&mut self) {
        self.has_progress = true;
        self.may_have_due = true;
    }

    /// Stores lazily what the client has acknowledged (promise D6).
    fn note_progress(&mut self) {
        if let Some(attachment) = self.attachment.filter(|_| self.has_progress) {
            self.has_progress = false;
            let broker = self.ingest.broker();
            let mut core = broker.core();
            let transaction = core.take_progress(attachment);
            broker.submit(&core, transaction, Completion::None);
        }
    }

    /// Ends the session's connection when the socket is gone.
    fn leave(&mut self) {
        let peer = self.peer;
        if let Some(cause @ CloseCause::Protocol { .. }) = self.connection.close_cause() {
            self.counters.protocol_errors.fetch_add(1, Ordering::Relaxed);
            debug!(%peer, error = %error_chain(cause), "Client broke the protocol");
        }
        if let Some(limit) = self.connection.close_cause().and_then(Limit::of_cause) {
            self.counters.limits.count(limit);
        }
        let Some(attachment) = self.attachment.take() else { return };
        let broker = self.ingest.broker();
        let how = self.farewell.take().unwrap_or(Disconnect::Abnormal);
        let mut core = broker.core();
        if let Ok(tick) = core.disconnect(attachment, how, broker.clock().steady()) {
            broker.submit_all(&core, tick.transactions, Completion::None);
            drop(core);
            self.ingest.publish_wills(tick.wills);
        }
    }
}

/// A task that is aborted, as with a listener whose accepting has panicked, leaves its session as one whose connection
/// broke: nothing else would ever tell the broker.
impl Drop for Driver<'_> {
    fn drop(&mut self) {
        // The core is to be had no more then, and the process ends.
        if self.attachment.is_some() && !self.ingest.broker().has_failed() {
            self.leave();
        }
    }
}

fn error_chain(cause: &CloseCause) -> String {
    let mut text = cause.to_string();
    let mut source = std::error::Error::source(cause);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Returns a time at which a connection may look whether it has anything to do.
fn far_future() -> Instant {
    Instant::now() + Duration::from_secs(24 * 3600)
}
