//! Builds every stage in the order of the picture in `ARCHITECTURE.md`, and stops them in the order of the data.

mod adapters;
mod credentials;
mod gates;
mod housekeeping;
mod journal;
mod listeners;
mod push;
mod queues;
mod reload;
mod time;
mod uplinks;

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use thiserror::Error;
use tidegate_adapter_api::{AdapterError, HealthSource, Reach, TopicSpace};
use tidegate_mapping::MappingSet;
use tidegate_model::json;
use tokio::sync::{Notify, mpsc};
use tracing::{info, warn};

use self::{adapters::Adapters, gates::Gates, listeners::Certificates, uplinks::Uplinks};
use crate::{
    broker::{Accounts, BrokerHandle, MqttListener, SysTopics, Topics},
    clock::{self, Clock},
    commander::{CommandOrder, Commander, History, cloud_channel, command_channel},
    config::{Config, Durability},
    control::{Answerer, ControlSocket},
    expiry::ShownCertificate,
    ingest::Ingest,
    jwt,
    listening::Listening,
    memory::{Ceiling, ceiling_within},
    status::Status,
    store::{DirectoryError, Store},
    supervise::{Conditions, Stage},
    time_trust::{Doubt, TimeTrust},
    uplink::{IncomingCommand, UplinkError},
};

/// Why the gateway cannot start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data directory is in use, unsafe, or cannot be made.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The journal cannot be opened.
    #[error("cannot open the journal")]
    Journal(#[from] tidegate_store::OpenError),
    /// The journal cannot be read.
    #[error("cannot read the journal")]
    Read(#[source] io::Error),
    /// An address cannot be bound.
    #[error("cannot listen on {address} ({protocol})")]
    Listen {
        /// Which protocol.
        protocol: &'static str,
        /// The address as configured.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The control socket cannot be made.
    #[error("cannot make the control socket in {}", .directory.display())]
    Control {
        /// The data directory.
        directory: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What the journal keeps for an uplink cannot be read.
    #[error("cannot start the uplink {name}")]
    Uplink {
        /// Its name.
        name: String,
        /// What is wrong.
        source: UplinkError,
    },
    /// A task of the gateway could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// What was pushed cannot be read.
    #[error(transparent)]
    Push(#[from] crate::push::FolderError),
    /// A stage refused its configuration.
    #[error("{0}")]
    Setting(String),
}

/// Where the gateway listens, for those who start it with port 0.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// MQTT: over TCP, then over TLS, over WebSocket, and over WebSocket and TLS.
    pub mqtt: Vec<SocketAddr>,
    /// CoAP.
    pub coap: Vec<SocketAddr>,
    /// HTTP: in the clear, then over TLS.
    pub http: Vec<SocketAddr>,
}

impl Addresses {
    fn of(mqtt: Option<&MqttListener>, adapters: &Adapters) -> Self {
        Self {
            mqtt: mqtt.map(MqttListener::local_addresses).unwrap_or_default(),
            coap: adapters.coap_addresses(),
            http: adapters.http_addresses(),
        }
    }

    /// Puts the ports that the system chose into the listeners of the configuration.
    fn fill_in(&self, mut listening: Vec<Listening>) -> Vec<Listening> {
        // Both are in the order in which the addresses were bound.
        let bound = self.mqtt.iter().chain(&self.coap).chain(&self.http);
        for (listening, address) in listening.iter_mut().zip(bound) {
            listening.address = *address;
        }
        listening
    }
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    /// Where it listens.
    pub addresses: Addresses,
    /// How it is.
    pub status: Arc<Status>,
    /// The stages in the order of the data: sources first.
    stages: Vec<Stage>,
    store: Store,
    /// Is told when a pushed configuration needs a start.
    restart: Arc<Notify>,
}

impl Gateway {
    /// Starts every stage, later ones first, so that no stage sends into nothing.
    ///
    /// When this returns, the journal is recovered and every listener is bound; whether a cloud or a device
    /// can be reached is another matter.
    ///
    /// # Errors
    ///
    /// [`StartError`] says what is in the way; nothing keeps running.
    pub async fn start(
        config: Config,
        mapping: MappingSet,
        source: reload::Source,
    ) -> Result<Self, StartError> {
        let mut inside = Inside::start(&config, mapping).await?;
        let accounts = listeners::open_accounts(&config);
        let certificates = Certificates::new(&config)?;
        let gates = Gates::new(&config);
        let mut prepared =
            Adapters::prepare(&config, &inside.mapping.read(), &certificates, &gates)?;
        let mqtt =
            listeners::listen_mqtt(&config, &inside.ingest, &accounts, &certificates, &gates)?;
        let addresses = Addresses::of(mqtt.as_ref(), &prepared);
        let listening = addresses.fill_in(gates.listeners(&config));
        announce(&listening, config.store.durability);
        let status = inside.status(&config, &accounts, mqtt.as_ref(), &prepared, listening);
        let (broker, ingest) = (inside.broker, inside.ingest);

        let mut middle = Stage::new("commands");
        let restart = Arc::new(Notify::new());
        let history = Arc::new(inside.history);
        let reloader = Arc::new(reload::Reloader {
            seen: Mutex::new(reload::Seen::of(&source)),
            source,
            broker: broker.clone(),
            ingest: ingest.clone(),
            mapping: Arc::clone(&inside.mapping),
            points: prepared.take_point_senders(),
            accounts: Arc::clone(&accounts),
            expelled: AtomicU64::new(0),
            certificates,
            gates,
            links: inside.uplinks.take_credentials(),
            status: Arc::clone(&status),
        });
        let mut commander = Commander::new(
            inside.orders,
            inside.from_clouds,
            broker.clone(),
            Arc::clone(&inside.mapping),
            prepared.command_senders(),
            inside.uplinks.outcomes(),
            Arc::clone(&history),
        );
        let handles = inside.uplinks.handles;
        let push = push::start(&config, &reloader, &handles, &restart)?;
        let push = push.map(|ways| ways.keep(&mut commander, &mut middle, &status.conditions));
        keep_commander(commander, &mut middle, &status.conditions);

        let around = adapters::Surroundings {
            ingest: ingest.clone(),
            topics: TopicSpace::new(Arc::new(Topics::new(ingest.clone()))),
            accounts: Arc::clone(&accounts),
            health: HealthSource::new(Arc::clone(&status) as _),
            conditions: status.conditions.clone(),
        };
        keep_sys_topics(&config, mqtt.as_ref(), &mut middle, &status);
        let control = (bind_control(&config)?, housekeeping::answerer(&status, push));
        let edges = start_edges(prepared, &around, mqtt, control, &status);
        reloader.expel_at_start();
        let keeper = Arc::new(housekeeping::Keeper {
            broker,
            ingest,
            history,
            reloader,
            status: Arc::clone(&status),
            uplinks: handles,
            clock_notes: Mutex::new(inside.clock_notes),
            journal_bytes_max: config.store.max_bytes.get(),
            store_is_alive: Box::new(inside.store.is_alive()),
        });
        keep_house(keeper, accounts, &mut middle, &status.conditions);
        let stages = vec![edges, middle, inside.links];
        Ok(Self { addresses, status, stages, store: inside.store, restart })
    }

    /// Stops every stage in the order of the data, so that what is under way drains; takes at most `grace`.
    ///
    /// # Errors
    ///
    /// If the journal could not be synced at the end.
    pub async fn stop(self, grace: Duration) -> io::Result<()> {
        *self.status.not_ready.lock() = Some("stopping".into());
        let deadline = Instant::now() + grace;
        for stage in self.stages {
            stage.stop(deadline).await;
        }
        // Waits for the last sync, which a deadline cannot cut short without losing what it is for.
        tokio::task::spawn_blocking(move || self.store.stop())
            .await
            .map_err(io::Error::other)?
            .map(drop)
            .map_err(io::Error::other)
    }

    /// Ends what can be relied on when the broker core has failed: what was handed to the journal reaches the disk.
    ///
    /// # Errors
    ///
    /// If the journal could not be synced at the end.
    pub async fn abandon(self) -> io::Result<()> {
        tokio::task::spawn_blocking(move || self.store.stop())
            .await
            .map_err(io::Error::other)?
            .map(drop)
            .map_err(io::Error::other)
    }

    /// Waits until the broker core fails: somebody has panicked under its lock. Cancel-safe.
    pub async fn core_failed(&self) {
        self.status.broker.failed().await;
    }

    /// Waits until the gateway is to be stopped and started anew, for another configuration. Cancel-safe.
    pub async fn restart_wanted(&self) {
        self.restart.notified().await;
    }

    /// Waits until the journal fails for good. Cancel-safe.
    pub async fn storage_failed(&self) {
        let mut failure = self.store.handle().failure();
        // The sender lives as long as the store.
        let _ = failure.wait_for(Option::is_some).await;
    }
}

/// What is behind the listeners and adapters: it runs before they let anything in.
struct Inside {
    clock: Clock,
    clock_notes: clock::NoteKeeper,
    store: Store,
    history: History,
    broker: BrokerHandle,
    conditions: Conditions,
    mapping: Arc<RwLock<Arc<MappingSet>>>,
    ingest: Ingest,
    orders: mpsc::Receiver<CommandOrder>,
    from_clouds: mpsc::Receiver<IncomingCommand>,
    uplinks: Uplinks,
    links: Stage,
    time: TimeTrust,
}

impl Inside {
    async fn start(config: &Config, mapping: MappingSet) -> Result<Self, StartError> {
        json::set_depth_max(config.limits.json.max_depth);
        let doubt = Doubt::of(&config.gateway.time);
        let journal = journal::open(config, doubt.is_none())?;
        let clock = journal.clock;
        let ceiling = Ceiling::new(ceiling_within(config.limits.memory_ceiling.get()));
        let store = journal.store.handle();
        let broker = BrokerHandle::with_ceiling(journal.core, store, clock, ceiling);
        let conditions = Conditions::default();
        let mapping = Arc::new(RwLock::new(Arc::new(mapping)));
        let (commands, orders) = command_channel();
        let servers = config.opcua.iter().map(|server| server.name.clone());
        let reaches = servers.map(|name| (name, Reach::default())).collect();
        let mappings = Arc::clone(&mapping);
        let ingest = Ingest::new(broker.clone(), mappings, commands, journal.exchanges, reaches);
        let mut links = Stage::new("uplinks");
        let time = time::start(doubt, &journal.recovery, &broker, &conditions, &mut links);
        let (down, from_clouds) = cloud_channel();
        let uplinks = uplinks::start(
            config,
            &journal.recovery,
            &ingest,
            &time,
            &down,
            &conditions,
            &mut links,
        )
        .await?;
        time::forget(&time, &uplinks.handles, &broker);
        Ok(Self {
            clock,
            clock_notes: clock::NoteKeeper::new(&config.gateway.time, journal.clock_note, clock),
            store: journal.store,
            history: journal.history,
            broker,
            conditions,
            mapping,
            ingest,
            orders,
            from_clouds,
            uplinks,
            links,
            time,
        })
    }

    fn status(
        &self,
        config: &Config,
        accounts: &Arc<Accounts>,
        mqtt: Option<&MqttListener>,
        adapters: &Adapters,
        listening: Vec<Listening>,
    ) -> Arc<Status> {
        Arc::new(Status {
            gateway: config.gateway.id.to_string(),
            clock: self.clock,
            durability: config.store.durability,
            store: Box::new(self.store.status()),
            broker: self.broker.clone(),
            time: self.time.clone(),
            ingest: self.ingest.clone(),
            accounts: Arc::clone(accounts),
            mqtt: mqtt.map(MqttListener::counters),
            uplinks: self.uplinks.handles.clone(),
            adapters: adapters.counters(),
            conditions: self.conditions.clone(),
            listening,
            certificates: Mutex::new(ShownCertificate::all_of(config)),
            mapping_error: Mutex::new(None),
            mapping_generation: Mutex::new(self.mapping.read().generation()),
            push: Mutex::new(serde_json::Value::Null),
            not_ready: Mutex::new(None),
        })
    }
}

fn bind_control(config: &Config) -> Result<ControlSocket, StartError> {
    let directory = &config.gateway.data_dir;
    ControlSocket::bind(directory)
        .map_err(|source| StartError::Control { directory: directory.clone(), source })
}

/// Starts what the outside speaks to: last, when everything behind it is there.
fn start_edges(
    adapters: Adapters,
    around: &adapters::Surroundings,
    mqtt: Option<MqttListener>,
    (control, answer): (ControlSocket, Answerer),
    status: &Arc<Status>,
) -> Stage {
    let mut edges = Stage::new("adapters and listeners");
    adapters.start(around, &mut edges);
    if let Some(mqtt) = mqtt.map(Arc::new) {
        for (number, event_loop) in mqtt.event_loops().enumerate() {
            edges.watch(&format!("mqtt-loop-{number}"), &status.conditions, event_loop);
        }
        edges.keep("mqtt", &status.conditions, move |stop| Arc::clone(&mqtt).run(stop));
    }
    let control = Arc::new(control);
    edges.keep("control", &status.conditions, move |stop| {
        Arc::clone(&control).run(Arc::clone(&answer), stop)
    });
    edges
}

fn keep_commander(commander: Commander, stage: &mut Stage, conditions: &Conditions) {
    // One run at a time: the next begins when the one before has ended.
    let commander = Arc::new(tokio::sync::Mutex::new(commander));
    stage.keep("commands", conditions, move |stop| {
        let commander = Arc::clone(&commander);
        async move { commander.lock().await.run(stop).await }
    });
}

fn keep_house(
    keeper: Arc<housekeeping::Keeper>,
    accounts: Arc<Accounts>,
    stage: &mut Stage,
    conditions: &Conditions,
) {
    stage.keep("jwt-keys", conditions, move |stop| jwt::keep_fresh(Arc::clone(&accounts), stop));
    stage.keep("keeper", conditions, move |stop| Arc::clone(&keeper).run(stop));
}

/// Lets the broker tell of itself, where there is an MQTT listener and the configuration wants it.
fn keep_sys_topics(
    config: &Config,
    listener: Option<&MqttListener>,
    stage: &mut Stage,
    status: &Status,
) {
    let interval = config.mqtt.as_ref().and_then(|mqtt| mqtt.broker.sys_interval);
    let Some((listener, interval)) = listener.zip(interval) else { return };
    let (broker, listeners) = (status.broker.clone(), listener.counters());
    let sys = SysTopics { broker, listeners, interval };
    stage.keep("sys-topics", &status.conditions, move |stop| sys.clone().run(stop));
}

/// Says once what a person who looks at the log needs to know.
fn announce(listening: &[Listening], durability: Durability) {
    for Listening { protocol, address, gate, .. } in listening {
        let protocol = protocol.scheme();
        if gate.is_open() {
            info!(protocol, %address, "Listening");
        } else {
            warn!(protocol, %address, "Not listening yet: add a `[[principal]]` who can log in there");
        }
    }
    match durability {
        Durability::Ack => {}
        Durability::Interval(interval) => {
            warn!(
                interval_ms = interval.as_millis(),
                "Acknowledged messages may be lost by a power cut within the interval"
            );
        }
        Durability::Memory => {
            warn!(
                "Acknowledged messages may be lost when the gateway is killed, or by a power cut"
            );
        }
    }
}

impl StartError {
    /// Makes the error of an adapter of `protocol` that could not bind its addresses.
    fn of_adapter(protocol: &'static str, error: AdapterError) -> Self {
        match error {
            AdapterError::Bind { address, source } => Self::Listen { protocol, address, source },
            other => Self::Setting(format!("{protocol}: {other}")),
        }
    }
}

pub use self::reload::Source as ConfigSource;
