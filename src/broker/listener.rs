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
use tidegate_adapter_api::Access;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::connection::{self, ConnectionSettings};
use crate::ingest::Ingest;

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
    /// Connections closed because the client broke the protocol.
    pub protocol_errors: AtomicU64,
    /// Logins refused.
    pub login_failures: AtomicU64,
}

/// Bound sockets that take MQTT clients.
#[derive(Debug)]
pub struct MqttListener {
    sockets: Vec<TcpListener>,
    settings: MqttSettings,
    ingest: Ingest,
    access: Access,
    counters: Arc<ListenerCounters>,
    per_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl MqttListener {
    /// Binds every address.
    ///
    /// # Errors
    ///
    /// The address that could not be bound, and why.
    pub async fn bind(
        addresses: &[SocketAddr],
        settings: MqttSettings,
        ingest: Ingest,
        access: Access,
    ) -> Result<Self, (SocketAddr, io::Error)> {
        let mut sockets = Vec::with_capacity(addresses.len());
        for &address in addresses {
            sockets.push(TcpListener::bind(address).await.map_err(|error| (address, error))?);
        }
        Ok(Self {
            sockets,
            settings,
            ingest,
            access,
            counters: Arc::default(),
            per_address: Arc::default(),
        })
    }

    /// Returns the addresses that were bound, in order.
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect()
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
        for index in 0..self.sockets.len() {
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
        let socket = &self.sockets[index];
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    if ended.is_err_and(|error| error.is_panic()) {
                        warn!("A connection's task panicked");
                    }
                    continue;
                }
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let Some(place) = self.take_place(peer.ip()) else {
                        self.counters.refused.fetch_add(1, Ordering::Relaxed);
                        debug!(%peer, "Connection refused, there are too many");
                        continue;
                    };
                    let shared = Arc::clone(&self);
                    let stop = stop.clone();
                    connections.spawn(async move {
                        let _place = place;
                        connection::serve(
                            stream,
                            peer,
                            &shared.settings.connection,
                            &shared.ingest,
                            &shared.access,
                            &shared.counters,
                            stop,
                        )
                        .await;
                    });
                }
                Err(error) => {
                    debug!(%error, "Cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        while connections.join_next().await.is_some() {}
    }

    fn take_place(&self, address: IpAddr) -> Option<Place> {
        let mut per_address = self.per_address.lock();
        let count = per_address.entry(address).or_insert(0);
        let full = *count >= self.settings.connections_per_address_max
            || self.counters.open.load(Ordering::Relaxed) >= self.settings.connections_max;
        if full {
            if *count == 0 {
                per_address.remove(&address);
            }
            return None;
        }
        *count += 1;
        self.counters.open.fetch_add(1, Ordering::Relaxed);
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        Some(Place {
            address,
            per_address: Arc::clone(&self.per_address),
            counters: Arc::clone(&self.counters),
        })
    }
}

/// A connection's place in the counts; given back when it is dropped.
struct Place {
    address: IpAddr,
    per_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
    counters: Arc<ListenerCounters>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counters.open.fetch_sub(1, Ordering::Relaxed);
        let mut per_address = self.per_address.lock();
        if let Some(count) = per_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                per_address.remove(&self.address);
            }
        }
    }
}
