//! The adapter: its listeners, and the tasks that serve them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tidegate_adapter_api::{
    Adapter, AdapterContext, AdapterError, CommandRequest, Door, Gate, Keep,
};
use tidegate_model::{AdapterName, CommandOutcome};
use tidegate_tls::ServerTls;
use tokio::{sync::Mutex, task::JoinSet};
use tracing::info;

use crate::{
    api,
    body::BodyLimits,
    connection::Shared,
    idempotency::Keys,
    listener::{Capacity, accept},
    site::Site,
    stream::Deadlines,
};

/// Where the adapter listens with TLS.
#[derive(Clone, Debug)]
pub struct Encrypted {
    /// The TCP addresses; port 0 lets the system choose.
    pub listen: Vec<SocketAddr>,
    /// The handshakes.
    pub tls: Arc<ServerTls>,
    /// Whether those addresses beyond loopback are listened on.
    pub gate: Gate,
}

/// Where the adapter listens, and its limits.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// The TCP addresses in the clear; port 0 lets the system choose.
    pub listen: Vec<SocketAddr>,
    /// Whether those addresses beyond loopback are listened on.
    pub gate: Gate,
    /// Where TLS is spoken.
    pub encrypted: Option<Encrypted>,
    /// Most connections in all (`limits.net.max-connections`).
    pub connections_max: usize,
    /// Most connections from one address (`limits.net.max-connections-per-address`).
    pub connections_per_address_max: usize,
    /// Most connections whose handshake is under way, half of them from one address (`limits.net.max-handshakes`).
    pub handshakes_max: usize,
    /// From the first byte of a head, or the start of a connection, to the end of the head
    /// (`limits.http.header-deadline`).
    pub header_deadline: Duration,
    /// For the whole body (`limits.http.body-deadline`).
    pub body_deadline: Duration,
    /// From an answer to the next request (`limits.http.idle`).
    pub idle_deadline: Duration,
    /// For an answer to a peer that does not read (`limits.http.write-deadline`).
    pub write_deadline: Duration,
    /// Most bytes of a head (`limits.http.max-header-bytes`).
    pub header_bytes_max: usize,
    /// Most fields of a head (`limits.http.max-header-count`).
    pub header_count_max: usize,
    /// Most bytes of a body (`limits.http.max-body`).
    pub body_bytes_max: usize,
}

impl HttpSettings {
    /// Returns the settings for these addresses, with the limits of `docs/fault-catalogue.md`.
    pub fn listening_on(listen: Vec<SocketAddr>) -> Self {
        Self {
            listen,
            gate: Gate::always_open(),
            encrypted: None,
            connections_max: 10_000,
            connections_per_address_max: 1_000,
            handshakes_max: 1_000,
            header_deadline: Duration::from_secs(10),
            body_deadline: Duration::from_secs(30),
            idle_deadline: Duration::from_secs(60),
            write_deadline: Duration::from_secs(30),
            header_bytes_max: 16 << 10,
            header_count_max: 100,
            body_bytes_max: 1 << 20,
        }
    }
}

/// Where clients come in.
#[derive(Clone, Debug)]
struct Entrance {
    address: SocketAddr,
    /// Held by the run that accepts; the next one waits for its end.
    door: Arc<Mutex<Door>>,
    tls: Option<Arc<ServerTls>>,
}

/// Serves HTTP devices and clients.
#[derive(Debug)]
pub struct HttpAdapter {
    name: AdapterName,
    settings: HttpSettings,
    entrances: Vec<Entrance>,
    /// Outlives a run that failed: the next one must know the keys of the one before.
    keys: Option<Arc<Keys>>,
}

impl HttpAdapter {
    /// Binds all addresses whose gates are open, so that one in use is found before anything is served.
    ///
    /// # Errors
    ///
    /// [`AdapterError::Bind`] names the first address that cannot be had.
    pub fn bind(name: AdapterName, settings: HttpSettings) -> Result<Self, AdapterError> {
        let plain = settings.listen.iter().map(|address| (*address, &settings.gate, None));
        let encrypted = settings.encrypted.iter().flat_map(|encrypted| {
            let Encrypted { listen, tls, gate } = encrypted;
            listen.iter().map(move |address| (*address, gate, Some(Arc::clone(tls))))
        });
        let bind = |(address, gate, tls): (SocketAddr, &Gate, Option<Arc<ServerTls>>)| {
            let door = Door::bind(address, gate.of_address(address))
                .map_err(|source| AdapterError::Bind { address: address.to_string(), source })?;
            Ok(Entrance { address: door.address(), door: Arc::new(Mutex::new(door)), tls })
        };
        let entrances = plain.chain(encrypted).map(bind).collect::<Result<_, _>>()?;
        Ok(Self { name, settings, entrances, keys: None })
    }

    /// Returns the addresses in the order of the settings, those with TLS last.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.entrances.iter().map(|entrance| entrance.address).collect()
    }

    fn shared(&mut self, context: &AdapterContext) -> Arc<Shared> {
        let recalled = || Arc::new(Keys::new(context.intake.recall(Keep::All)));
        let keys = Arc::clone(self.keys.get_or_insert_with(recalled));
        let settings = &self.settings;
        let body =
            BodyLimits { bytes_max: settings.body_bytes_max, deadline: settings.body_deadline };
        let site = Arc::new(Site::new(context, body, keys));
        Arc::new(Shared {
            router: api::router(site.clone()),
            site,
            deadlines: Deadlines {
                header: settings.header_deadline,
                idle: settings.idle_deadline,
                write: settings.write_deadline,
            },
            header_bytes_max: settings.header_bytes_max,
            header_count_max: settings.header_count_max,
            handshakes: Capacity::new(settings.handshakes_max, settings.handshakes_max.div_ceil(2)),
            shutdown: context.shutdown.clone(),
        })
    }
}

impl Adapter for HttpAdapter {
    fn name(&self) -> &AdapterName {
        &self.name
    }

    async fn run(&mut self, context: &mut AdapterContext) -> Result<(), AdapterError> {
        let shared = self.shared(context);
        let settings = &self.settings;
        let capacity =
            Capacity::new(settings.connections_max, settings.connections_per_address_max);
        let mut listeners = JoinSet::new();
        for Entrance { address, door, tls } in self.entrances.clone() {
            info!(adapter = %self.name, %address, tls = tls.is_some(), "HTTP is served");
            let (shared, capacity) = (shared.clone(), capacity.clone());
            listeners.spawn(async move {
                accept(door.lock_owned().await, tls, shared, capacity).await;
            });
        }
        loop {
            tokio::select! {
                // The end of a listener, a panic or the shutdown, is what matters.
                biased;
                ended = listeners.join_next() => match ended {
                    None => return Ok(()),
                    Some(Ok(())) => {}
                    Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
                },
                Some(request) = context.commands.recv() => refuse(request),
            }
        }
    }
}

/// HTTP devices are clients here: nothing can be written to them.
fn refuse(request: CommandRequest) {
    request.reply.send(CommandOutcome::refused(
        "not supported: an HTTP path of the gateway takes no commands",
    ));
}
