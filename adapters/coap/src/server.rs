//! Moves datagrams and time between one socket and one endpoint.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::pin,
    time::{Duration, Instant, SystemTime},
};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use tidegate_adapter_api::{AdapterError, Outcome, PointSet};
use tidegate_coap::{Endpoint, ExchangeId, Output, Peer};
use tidegate_model::Timestamp;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    alarm::Alarm,
    counters::CoapCounters,
    exchange::Memory,
    resource::{Site, Step},
    socket::Socket,
};

/// Largest datagram that UDP carries; what is read is never cut.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// Datagrams taken, and answers given, before the others have their turn.
const BATCH: usize = 64;

/// How long answers under way are waited for when the gateway stops.
const DRAIN: Duration = Duration::from_millis(700);

/// One socket with its endpoint and its resources.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) socket: Socket,
    pub(crate) address: SocketAddr,
    pub(crate) endpoint: Endpoint,
    pub(crate) site: Site,
    pub(crate) points: watch::Receiver<PointSet>,
    pub(crate) counters: CoapCounters,
    pub(crate) memory: Memory,
}

impl Server {
    /// Serves until `shutdown`, then gives the answers that become known within 0.7 s.
    ///
    /// The open receipts are as many as the endpoint has open exchanges, which is bounded.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<(), AdapterError> {
        let mut cancelled = pin!(shutdown.cancelled());
        let mut alarm = Alarm::new();
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        let mut output = Output::with_capacity(BATCH);
        let mut pending = FuturesUnordered::new();
        let mut seen = self.endpoint.stats();
        self.site.set_points(self.points.borrow_and_update().clone());
        loop {
            alarm.set(self.endpoint.poll_timeout());
            tokio::select! {
                // Answers before requests: they make room. Each branch handles a bounded number, and a
                // request that arrives meanwhile waits in the socket.
                biased;
                () = &mut cancelled => break,
                () = &mut alarm => self.endpoint.handle_timeout(Instant::now(), &mut output),
                Some(answered) = pending.next(), if !pending.is_empty() => {
                    self.answer(answered, &mut output);
                    self.answer_ready(&mut pending, &mut output);
                }
                ready = self.socket.readable() => {
                    ready.map_err(|error| self.broken(&error))?;
                    self.take_points();
                    for _ in 0..BATCH {
                        match self.socket.try_receive(&mut buffer) {
                            Ok(received) => {
                                for datagram in received.datagrams(&buffer) {
                                    pending.extend(self.handle(received.peer, datagram, &mut output));
                                }
                            }
                            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                            Err(error) => return Err(self.broken(&error)),
                        }
                    }
                }
            }
            self.send(&mut output);
            let now_seen = self.endpoint.stats();
            self.counters.add(&seen, &now_seen);
            seen = now_seen;
        }
        let mut deadline = pin!(sleep(DRAIN));
        while !pending.is_empty() {
            tokio::select! {
                biased;
                Some(answered) = pending.next() => self.answer(answered, &mut output),
                () = &mut deadline => break,
            }
            self.send(&mut output);
        }
        Ok(())
    }

    /// Takes one datagram; returns the answer to wait for, if the request needs one.
    fn handle(
        &mut self,
        peer: Peer,
        datagram: &[u8],
        output: &mut Output,
    ) -> Option<impl Future<Output = (ExchangeId, Outcome)> + use<>> {
        let now = Instant::now();
        let request = self.endpoint.handle_datagram(now, peer, datagram, output);
        let waiting = request.and_then(|(id, request)| {
            let exchange = || self.memory.exchange(id);
            match self.site.handle(&request, wall_clock(), exchange) {
                Step::Await(receipt) => Some(receipt.map(move |outcome| (id, outcome))),
                Step::Answer(response) => {
                    self.endpoint.respond(now, id, response, output);
                    None
                }
            }
        });
        self.send(output);
        waiting
    }

    fn answer(&mut self, (id, outcome): (ExchangeId, Outcome), output: &mut Output) {
        let response = self.site.outcome(&outcome);
        self.endpoint.respond(Instant::now(), id, response, output);
    }

    /// Gives the answers that are known by now: one sync makes many of them known at once.
    fn answer_ready<F>(&mut self, pending: &mut FuturesUnordered<F>, output: &mut Output)
    where
        F: Future<Output = (ExchangeId, Outcome)>,
    {
        while output.has_room()
            && let Some(Some(answered)) = pending.next().now_or_never()
        {
            self.answer(answered, output);
        }
    }

    /// Sends what is due. What the socket does not take is dropped: a peer that waits repeats its request
    /// and gets the same bytes.
    fn send(&self, output: &mut Output) {
        while let Some(datagram) = output.pop() {
            if self.socket.try_send(&datagram).is_err() {
                self.counters.not_sent.increment();
            }
        }
    }

    fn take_points(&mut self) {
        if self.points.has_changed().unwrap_or(false) {
            self.site.set_points(self.points.borrow_and_update().clone());
        }
    }

    fn broken(&self, error: &io::Error) -> AdapterError {
        AdapterError::Unreachable {
            endpoint: format!("coap://{}", self.address),
            reason: error.to_string(),
        }
    }
}

/// Returns the wall-clock time; a clock before 1970 or after 292 000 is shown as the nearest that can be.
fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
