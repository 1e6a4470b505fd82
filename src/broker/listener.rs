//! The MQTT listeners: accept, count, hand over to a connection.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tidegate_adapter_api::{Access, Door, Gate};
use tidegate_tls::ServerTls;
use tokio::{net::TcpStream, runtime::Handle, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    connection::{self, Arrival, ConnectionSettings, Surroundings, WebSocketSettings, Wrapping},
    limits::{Limit, LimitCounters},
    loops::EventLoops,
    probe,
};
use crate::{ingest::Ingest, memory::Stranger};

/// How long accepting pauses when the system has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How the listeners treat clients.
#[derive(Clone, Debug)]
pub struct MqttSettings {
    /// What each connection may do.
    pub connection: ConnectionSettings,
    /// Most connections.
    pub connections_max: usize,
    /// Most connections from one address.
    pub connections_per_address_max: usize,
    /// Most connections whose handshakes below MQTT are under way; half of them from one address.
    pub handshakes_max: usize,
}

/// An address to listen on, and what clients find there.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The address.
    pub address: SocketAddr,
    /// The handshakes of TLS, if it is spoken there.
    pub tls: Option<Arc<ServerTls>>,
    /// The WebSocket, if MQTT comes in its frames there.
    pub websocket: Option<Arc<WebSocketSettings>>,
    /// Who is let in.
    pub access: Access,
    /// Whether it is listened on yet.
    pub gate: Gate,
}

/// What the listeners have counted.
#[derive(Debug, Default)]
pub struct ListenerCounters {
    /// Connections open now.
    pub open: AtomicUsize,
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections refused because there were too many.
    pub refused: AtomicU64,
    /// Connections whose handshakes below MQTT are under way.
    pub opening: AtomicUsize,
    /// Connections that ended in a handshake of TLS or WebSocket.
    pub handshake_failures: AtomicU64,
    /// Connections closed because the client broke the protocol.
    pub protocol_errors: AtomicU64,
    /// Logins refused.
    pub login_failures: AtomicU64,
    /// Connections that ended in a panic of their task.
    pub panics: AtomicU64,
    /// Bytes of MQTT that have come, without what is around it.
    pub bytes_received: AtomicU64,
    /// Bytes of MQTT that have gone.
    pub bytes_sent: AtomicU64,
    /// Connections that were refused or closed because of a limit.
    pub limits: LimitCounters,
}

/// Bound sockets that take MQTT clients.
#[derive(Debug)]
pub struct MqttListener {
    entrances: Vec<Entrance>,
    settings: MqttSettings,
    ingest: Ingest,
    counters: Arc<ListenerCounters>,
    per_address: Arc<Mutex<HashMap<IpAddr, Used>>>,
    loops: EventLoops,
}

/// Where clients come in, and who they are taken for.
#[derive(Debug)]
struct Entrance {
    address: SocketAddr,
    /// Held by the run that accepts; the next one waits for its end.
    door: tokio::sync::Mutex<Door>,
    wrapping: Wrapping,
    access: Access,
}

/// What one address has.
#[derive(Debug, Default)]
struct Used {
    connections: usize,
    handshakes: usize,
}

impl MqttListener {
    /// Binds every address whose gate is open.
    ///
    /// # Errors
    ///
    /// The address that could not be bound, and why.
    pub fn bind(
        endpoints: Vec<Endpoint>,
        settings: MqttSettings,
        loops: EventLoops,
        ingest: Ingest,
    ) -> Result<Self, (SocketAddr, io::Error)> {
        let mut entrances = Vec::with_capacity(endpoints.len());
        for Endpoint { address, tls, websocket, access, gate } in endpoints {
            let door = Door::bind(address, gate).map_err(|error| (address, error))?;
            let (address, door) = (door.address(), tokio::sync::Mutex::new(door));
            let wrapping = Wrapping { tls, websocket };
            entrances.push(Entrance { address, door, wrapping, access });
        }
        Ok(Self {
            entrances,
            settings,
            ingest,
            counters: Arc::default(),
            per_address: Arc::default(),
            loops,
        })
    }

    /// Returns the addresses, in order; with the ports that the system chose, where they were bound.
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.entrances.iter().map(|entrance| entrance.address).collect()
    }

    /// Returns the event loops that connections live on.
    pub fn event_loops(&self) -> impl Iterator<Item = &Handle> {
        self.loops.handles()
    }

    /// Returns the counters.
    pub fn counters(&self) -> Arc<ListenerCounters> {
        Arc::clone(&self.counters)
    }

    /// Takes clients until `stop` is cancelled, then lets every connection say good-bye.
    ///
    /// May be called again after a panic, which ends the connections of the run before.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut accepting = JoinSet::new();
        for index in 0..self.entrances.len() {
            accepting.spawn(Arc::clone(&self).accept(index, stop.clone()));
        }
        while let Some(ended) = accepting.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }

    async fn accept(self: Arc<Self>, index: usize, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        let mut door = self.entrances[index].door.lock().await;
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    match ended {
                        Ok(Some(guest)) => self.serve(index, guest, &mut connections, &stop),
                        Ok(None) => {}
                        Err(error) if error.is_panic() => warn!("A connection's task panicked"),
                        Err(_) => {}
                    }
                    continue;
                }
                accepted = door.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.let_in(index, stream, peer, &mut connections, &stop),
                Err(error) => {
                    debug!(%error, "Cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(door);
        while connections.join_next().await.is_some() {}
    }

    /// Gives a connection its place, and its handshakes below MQTT if it needs some.
    fn let_in(
        self: &Arc<Self>,
        index: usize,
        stream: TcpStream,
        peer: SocketAddr,
        connections: &mut JoinSet<Option<Guest>>,
        stop: &CancellationToken,
    ) {
        let is_plain = self.entrances[index].wrapping.is_plain();
        let places = self.take_place(peer.ip()).and_then(|place| {
            let handshake = if is_plain { None } else { Some(self.take_handshake(peer.ip())?) };
            let stranger = self.ingest.broker().ceiling().stranger();
            Ok((place, Opening { _handshake: handshake, stranger }))
        });
        let (place, opening) = match places {
            Ok(places) => places,
            Err(limit) => {
                self.counters.refused.fetch_add(1, Ordering::Relaxed);
                self.counters.limits.count(limit);
                debug!(%peer, limit = limit.key(), "Connection refused, there are too many");
                return;
            }
        };
        let silence = self.settings.connection.protocol.keep_alive_max_s;
        if let Err(error) = probe::watch(&stream, Duration::from_secs(silence.into())) {
            debug!(%peer, %error, "Cannot have the peer probed");
        }
        let arrival = Arrival::new(stream, peer, opening);
        if is_plain {
            return self.serve(index, Guest { arrival, place }, connections, stop);
        }
        // Their computations would keep the connections of an event loop waiting.
        let (shared, stop) = (Arc::clone(self), stop.clone());
        connections.spawn(async move {
            let Entrance { wrapping, .. } = &shared.entrances[index];
            let arrival = arrival.open(wrapping, shared.surroundings(index), &stop).await?;
            Some(Guest { arrival, place })
        });
    }

    /// Serves a client whose handshakes below MQTT are over, on an event loop.
    fn serve(
        self: &Arc<Self>,
        index: usize,
        guest: Guest,
        connections: &mut JoinSet<Option<Guest>>,
        stop: &CancellationToken,
    ) {
        let (shared, stop) = (Arc::clone(self), stop.clone());
        let Guest { arrival, place } = guest;
        let arrival = Box::new(arrival);
        let (seat, event_loop) = self.loops.seat();
        // Boxed, the task is as large as what it does and no larger.
        let task = Box::pin(async move {
            connection::serve(arrival, shared.surroundings(index), &stop).await;
            drop((place, seat));
            None
        });
        connections.spawn_on(task, event_loop);
    }

    fn surroundings(&self, index: usize) -> Surroundings<'_> {
        Surroundings {
            settings: &self.settings.connection,
            ingest: &self.ingest,
            access: &self.entrances[index].access,
            counters: &self.counters,
        }
    }

    fn take_place(&self, address: IpAddr) -> Result<Place, Limit> {
        let mut per_address = self.per_address.lock();
        let own = per_address.get(&address).map_or(0, |used| used.connections);
        if own >= self.settings.connections_per_address_max {
            return Err(Limit::ConnectionsPerAddress);
        }
        if self.counters.open.load(Ordering::Relaxed) >= self.settings.connections_max {
            return Err(Limit::Connections);
        }
        let used = per_address.entry(address).or_default();
        used.connections += 1;
        self.counters.open.fetch_add(1, Ordering::Relaxed);
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        Ok(Place {
            address,
            per_address: Arc::clone(&self.per_address),
            counters: Arc::clone(&self.counters),
        })
    }

    /// Takes a place among the handshakes for an address that has a [`Place`].
    fn take_handshake(&self, address: IpAddr) -> Result<Handshake, Limit> {
        let handshakes_max = self.settings.handshakes_max;
        let mut per_address = self.per_address.lock();
        let used = per_address.entry(address).or_default();
        let full = used.handshakes >= handshakes_max.div_ceil(2)
            || self.counters.opening.load(Ordering::Relaxed) >= handshakes_max;
        if full {
            return Err(Limit::Handshakes);
        }
        used.handshakes += 1;
        self.counters.opening.fetch_add(1, Ordering::Relaxed);
        Ok(Handshake {
            address,
            per_address: Arc::clone(&self.per_address),
            counters: Arc::clone(&self.counters),
        })
    }
}

/// A client with a place.
struct Guest {
    arrival: Arrival,
    place: Place,
}

/// A connection's place in the counts; given back when it is dropped.
struct Place {
    address: IpAddr,
    per_address: Arc<Mutex<HashMap<IpAddr, Used>>>,
    counters: Arc<ListenerCounters>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counters.open.fetch_sub(1, Ordering::Relaxed);
        let mut per_address = self.per_address.lock();
        if let Some(used) = per_address.get_mut(&self.address) {
            used.connections -= 1;
            if used.connections == 0 {
                per_address.remove(&self.address);
            }
        }
    }
}

/// What a client has until it has logged in; given back when it is dropped, before the [`Place`] of its connection.
#[derive(Debug)]
pub(super) struct Opening {
    /// Held for its place in the counts.
    _handshake: Option<Handshake>,
    /// Tells when it has to go for want of memory.
    pub(super) stranger: Stranger,
}

/// The place of a client that comes over TLS or WebSocket.
#[derive(Debug)]
struct Handshake {
    address: IpAddr,
    per_address: Arc<Mutex<HashMap<IpAddr, Used>>>,
    counters: Arc<ListenerCounters>,
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.counters.opening.fetch_sub(1, Ordering::Relaxed);
        if let Some(used) = self.per_address.lock().get_mut(&self.address) {
            used.handshakes -= 1;
        }
    }
}
