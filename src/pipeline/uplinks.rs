//! The uplinks of a configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tidegate_broker::UplinkRoute;
use tidegate_model::{Principal, Topic, UplinkName};
use tidegate_rules::{MemoryLimits, Selector};
use tidegate_settings::ByteSize;
use tidegate_store::{Position, Recovery, TakerId, Transaction};
use tidegate_tls::{ClientTls, TlsError};
use tidegate_uplink::{bridge::Bridge, decoder::Limits};
use tokio::sync::{Notify, mpsc};
use tracing::{info, warn};

use super::{
    StartError,
    credentials::{LinkCredentials, client_setup, headers, login, token},
    queues::{self, Pair, Queue, Queues},
};
use crate::{
    broker::BrokerHandle,
    config::{self, Config, EndpointConfig, UplinkConfig, UplinkTls},
    ingest::Ingest,
    store::Completion,
    supervise::{Conditions, Failure, Stage, keep_running},
    time_trust::TimeTrust,
    uplink::{
        self, AmqpQueue, AmqpTarget, AstarteSettings, CommandRoute, Dialect, Endpoint,
        FleetSettings, HttpTarget, IncomingCommand, LinkSettings, MqttVersion, OutcomeSender,
        Replaceable, Seat, SecondQueue, SparkplugB, UplinkContext, UplinkError, UplinkHandle,
        UplinkSettings, WebSocketRequest, board_commands, hub_commands,
    },
};

/// How long a stop may take to deliver what is under way; part of the whole stop's grace.
const GRACE: Duration = Duration::from_secs(3);

/// Hosts of a dialect show what is now: readings are decided, and sent, that much after they came at most.
const DIALECT_AGE: Duration = Duration::from_millis(100);

/// Uplinks that run.
pub(super) struct Uplinks {
    pub(super) handles: Vec<UplinkHandle>,
    pub(super) credentials: LinkCredentials,
}

/// Returns what a device of Astarte is told, if the uplink is one.
fn device(
    uplink: &UplinkConfig,
    config: &Config,
) -> Result<Option<Arc<AstarteSettings>>, TlsError> {
    let Some(device) = &uplink.astarte else { return Ok(None) };
    let tls = UplinkTls { trust: device.trust.clone(), identity: None, alpn: Vec::new() };
    Ok(Some(Arc::new(AstarteSettings {
        setup: Arc::clone(&device.setup),
        trust: client_setup(&tls)?.trust,
        folder: config.gateway.data_dir.join("astarte").join(uplink.name.as_str()),
        certainty: tidegate_astarte::Certainty::default(),
    })))
}

/// Returns how one broker is connected to.
fn endpoint(
    uplink: &UplinkConfig,
    endpoint: &EndpointConfig,
    downlink: &Limits,
) -> Result<Endpoint, TlsError> {
    let tls = endpoint.tls.as_ref();
    let tls = tls.map(|tls| client_setup(tls).and_then(ClientTls::new).map(Arc::new));
    Ok(Endpoint {
        host: endpoint.url.host().to_string(),
        port: endpoint.url.port(),
        tls: tls.transpose()?,
        websocket: endpoint
            .url
            .websocket_path()
            .map(|path| WebSocketRequest { path: path.into(), ..WebSocketRequest::default() }),
        http: endpoint.url.http_target().map(|(path, query)| HttpTarget {
            path: path.to_owned(),
            query: query.map(str::to_owned),
            token: Replaceable::new(token(endpoint)),
        }),
        amqp: endpoint.url.vhost().map(|vhost| AmqpTarget {
            vhost,
            exchange: uplink.link.exchange.clone(),
            commands: amqp_queue(uplink, downlink),
        }),
        login: Replaceable::new(login(uplink, endpoint)),
    })
}

/// Returns the queue out of which commands come over AMQP, if any do.
fn amqp_queue(uplink: &UplinkConfig, downlink: &Limits) -> Option<AmqpQueue> {
    let name = uplink.commands.as_ref()?.queue.clone()?;
    Some(AmqpQueue { name, payload_bytes_max: downlink.wire.min(AmqpQueue::PAYLOAD_BYTES_MAX) })
}

impl Uplinks {
    /// Returns what all links believe and show, once.
    pub(super) fn take_credentials(&mut self) -> LinkCredentials {
        std::mem::take(&mut self.credentials)
    }

    /// Returns the ways in for outcomes, by the name of the uplink.
    pub(super) fn outcomes(&self) -> BTreeMap<String, OutcomeSender> {
        self.handles.iter().map(|handle| (handle.name().to_string(), handle.outcomes())).collect()
    }
}

impl Failure for UplinkError {
    fn is_transient(&self) -> bool {
        Self::is_transient(self)
    }
}

/// Numbers, counts and starts every uplink, and routes messages to it.
pub(super) async fn start(
    config: &Config,
    recovery: &Recovery,
    ingest: &Ingest,
    time: &TimeTrust,
    commands: &mpsc::Sender<IncomingCommand>,
    conditions: &Conditions,
    stage: &mut Stage,
) -> Result<Uplinks, StartError> {
    let broker = ingest.broker();
    let queues = Queues::of(config, |name| queues::has_backlog(recovery, broker, name));
    let entries = state(&queues.all, recovery, broker).await?;
    let mut handles = Vec::new();
    let mut credentials = LinkCredentials::default();
    let seats = seats(&queues.all);
    let mut received = BTreeMap::new();
    for queue in &queues.all {
        let uplink = &queue.config;
        let taker = {
            let mut core = broker.core();
            let mut transaction = Transaction::new();
            let taker = core.uplink_taker(uplink.name.as_str(), &mut transaction);
            broker.submit(
                &core,
                Some(transaction).filter(|made| !made.is_empty()),
                Completion::None,
            );
            taker
        };
        let mut settings = settings(uplink, config, epoch(recovery, queue.is_second))?;
        settings.branches.clone_from(&queue.branches);
        settings.link.seat = seats.get(uplink.name.as_str()).map(|(_, seat)| Arc::clone(seat));
        let (names, passengers) = passengers(&seats, uplink.name.as_str()).into_iter().unzip();
        settings.link.passengers = passengers;
        settings.link.second = second(queue, names);
        credentials.add(uplink, &settings.link);
        let last = recovery.positions.get(&taker).copied().unwrap_or(Position::START);
        received.insert(uplink.name.to_string(), last.seq);
        let context = UplinkContext {
            store: broker.store().clone(),
            taker,
            received: last,
            entries: entries.clone(),
            clock: broker.clock(),
            time: time.clone(),
            commands: commands.clone(),
            intake: Arc::new(ingest.clone()),
        };
        // Counting what waits reads the disk.
        let made = tokio::task::spawn_blocking(move || uplink::new(settings, context)).await;
        let failed = |source| StartError::Uplink { name: uplink.name.to_string(), source };
        let (_, handle) =
            made.map_err(|panic| StartError::Thread(panic.into()))?.map_err(failed)?;
        handles.push(handle);
    }
    // Before any of them moves anything out of the journal.
    if recovery.state_may_be_stale {
        warn!(
            "The journal lost part of its state: files of spilled records that seem to be nobody's are kept"
        );
    } else {
        forget_spilled(&handles, broker);
    }
    queues::set(&queues.pairs, &received);
    run(&handles, queues.pairs, broker, conditions, stage);
    Ok(Uplinks { handles, credentials })
}

/// Routes messages to the uplinks, and runs them.
fn run(
    handles: &[UplinkHandle],
    pairs: Vec<Pair>,
    broker: &BrokerHandle,
    conditions: &Conditions,
    stage: &mut Stage,
) {
    for handle in handles {
        broker.core().add_uplink(route(handle));
        let (stop, running) = (stage.stop_token(), handle.clone());
        let name = format!("uplink {}", handle.name());
        let shutdown = stop.clone();
        stage.spawn(keep_running(name, stop, conditions.clone(), move || {
            running.task().run(shutdown.clone())
        }));
    }
    if !pairs.is_empty() {
        let (steered, broker) = (handles.to_vec(), broker.clone());
        stage.keep("steering", conditions, move |stop| {
            queues::steer(pairs.clone(), steered.clone(), broker.clone(), stop)
        });
    }
}

/// Returns what an uplink knows of its second queue, if it has one; `passengers` are the names of all on its connection.
fn second(queue: &Queue, passengers: Vec<&str>) -> Option<SecondQueue> {
    let (switch, turns) = queue.second.clone()?;
    let name = UplinkConfig::second_name(&queue.config.name)?;
    let passenger = passengers.iter().position(|passenger| *passenger == name.as_str())?;
    Some(SecondQueue { switch, passenger, turns })
}

/// Removes files with spilled records that no uplink knows: of uplinks that are gone, or left by a crash.
fn forget_spilled(handles: &[UplinkHandle], broker: &BrokerHandle) {
    let known: BTreeMap<TakerId, BTreeSet<u64>> =
        handles.iter().map(|handle| (handle.taker(), handle.spill_numbers())).collect();
    let is_known =
        |taker, number| known.get(&taker).is_some_and(|numbers| numbers.contains(&number));
    match broker.store().catalog().remove_spills_except(is_known) {
        Ok(0) => {}
        Ok(files) => info!(files, "Files of spilled records that nobody needs are removed"),
        Err(error) => warn!(%error, "Files of spilled records that nobody needs cannot be removed"),
    }
}

/// The places of uplinks that share a connection, by their name, with the name of the uplink that has it.
type Seats = BTreeMap<String, (String, Arc<Seat>)>;

fn seats(queues: &[Queue]) -> Seats {
    let mut called: BTreeMap<&str, Arc<Notify>> = BTreeMap::new();
    let uplinks = queues.iter().map(|queue| &queue.config);
    let shared = uplinks.filter_map(|uplink| Some((uplink, uplink.via.as_ref()?)));
    shared
        .map(|(uplink, via)| {
            let called = Arc::clone(called.entry(via.as_str()).or_default());
            let seat = Arc::new(Seat::new(uplink.priority, called));
            (uplink.name.to_string(), (via.to_string(), seat))
        })
        .collect()
}

/// Returns who has places on the connection of an uplink, the highest priority first.
fn passengers<'s>(seats: &'s Seats, carrier: &str) -> Vec<(&'s str, Arc<Seat>)> {
    let on_it = seats.iter().filter(|(_, (via, _))| via == carrier);
    let on_it = on_it.map(|(name, (_, seat))| (name.as_str(), Arc::clone(seat)));
    let mut on_it: Vec<_> = on_it.collect();
    on_it.sort_by_key(|(_, seat)| std::cmp::Reverse(seat.priority()));
    on_it
}

/// Returns the journal's state as the uplinks of this configuration find it.
///
/// Uplinks that the configuration names no more are forgotten, and so is what waited for them, which is said.
/// After damage that may have taken part of the state, every uplink begins another epoch before anything is
/// numbered, so that no number of the old one names two readings.
async fn state(
    queues: &[Queue],
    recovery: &Recovery,
    broker: &BrokerHandle,
) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StartError> {
    let mut entries: BTreeMap<Vec<u8>, Vec<u8>> =
        recovery.state.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    let mut transaction = Transaction::new();
    let names: Vec<&str> = queues.iter().map(|queue| queue.config.name.as_str()).collect();
    let gone = broker.core().retire_uplinks(&names, &mut transaction);
    let failed = |name: &str| {
        let name = name.to_owned();
        move |source| StartError::Uplink { name, source }
    };
    for name in gone {
        warn!(uplink = %name, "The configuration no longer names this uplink; what waited for it is given up");
        if let Ok(uplink) = UplinkName::new(&name) {
            uplink::forget(&uplink, &mut entries, &mut transaction).map_err(failed(&name))?;
        }
    }
    if recovery.state_may_be_stale {
        warn!(
            "The journal lost part of its state; uplinks number their readings anew, in another epoch"
        );
        for queue in queues {
            let (names, epoch) = ([queue.config.name.clone()], epoch(recovery, queue.is_second));
            uplink::renew_epochs(&names, epoch, &mut entries, &mut transaction)
                .map_err(failed("after damage"))?;
        }
    }
    // What an uplink lost is told by its records' own numbers, again and again until the cursor is past it.
    for damage in recovery.damages.iter().chain(&recovery.unsettled) {
        transaction.settle(damage.id).map_err(|error| StartError::Setting(error.to_string()))?;
    }
    if !transaction.is_empty() {
        let stored = broker.store().submit_and_wait(transaction).await;
        stored.map_err(|error| StartError::Setting(error.to_string()))?;
    }
    Ok(entries)
}

/// Returns the epoch of the data directory as the envelope carries it; another one for second queues, as not every
/// format says which queue a number is of.
fn epoch(recovery: &Recovery, is_second: bool) -> i64 {
    let epoch = recovery.epoch.cast_signed() & i64::MAX;
    if is_second { epoch ^ (1 << 62) } else { epoch }
}

fn route(handle: &UplinkHandle) -> UplinkRoute {
    let (selects, refuses, appended) = (handle.clone(), handle.clone(), handle.clone());
    UplinkRoute {
        taker: handle.taker(),
        selects: Arc::new(move |message| selects.selects(message)),
        refuses: Arc::new(move || refuses.is_full()),
        appended: Arc::new(move |ordinal, bytes| appended.note_appended(ordinal, bytes)),
    }
}

fn when_full(policy: config::WhenFull) -> tidegate_uplink::WhenFull {
    match policy {
        config::WhenFull::DropOldest => tidegate_uplink::WhenFull::DropOldest,
        config::WhenFull::Refuse => tidegate_uplink::WhenFull::Refuse,
    }
}

/// Returns a size in memory; what no memory holds is the most there is.
fn size(size: ByteSize) -> usize {
    usize::try_from(size.get()).unwrap_or(usize::MAX)
}

fn downlink_limits(limits: &config::DownlinkLimits) -> Limits {
    Limits {
        wire: size(limits.max_wire),
        inflated: size(limits.max_inflated),
        ratio: usize::try_from(limits.max_ratio).unwrap_or(usize::MAX),
        depth: limits.max_depth,
        ..Limits::DOWNLINK
    }
}

/// Returns what the core makes of readings in a format.
fn format(format: config::PayloadFormat) -> tidegate_uplink::Format {
    match format {
        config::PayloadFormat::Columns => tidegate_uplink::Format::Columns,
        config::PayloadFormat::Packed => tidegate_uplink::Format::Packed,
        config::PayloadFormat::Message => tidegate_uplink::Format::Message,
        config::PayloadFormat::Json => tidegate_uplink::Format::Json,
        config::PayloadFormat::Raw => tidegate_uplink::Format::Raw,
        config::PayloadFormat::SparkplugB
        | config::PayloadFormat::Astarte
        | config::PayloadFormat::ThingsBoard => tidegate_uplink::Format::Typed,
    }
}

/// What is spoken with a far side, if it is more than topics and payloads.
struct Spoken(Option<Dialect>);

impl Spoken {
    fn new(uplink: &UplinkConfig, config: &Config) -> Result<Self, TlsError> {
        let sparkplug = uplink.sparkplug.as_deref().map(|node| edge_node(node, uplink));
        let board = uplink.thingsboard.as_ref().map(|board| Arc::clone(&board.settings));
        let dialect = sparkplug
            .map(Dialect::SparkplugB)
            .or(device(uplink, config)?.map(Dialect::Astarte))
            .or(uplink.link.hub.clone().map(Replaceable::new).map(Dialect::IotHub))
            .or(board.map(Dialect::ThingsBoard));
        Ok(Self(dialect))
    }

    /// Returns the way of commands, if any may come, and below which topic their outcomes go, if not as answers.
    fn commands(&self) -> (Option<CommandRoute>, Option<Topic>) {
        match &self.0 {
            Some(Dialect::SparkplugB(node)) => (node.commands(), None),
            Some(Dialect::Astarte(device)) => (device.commands(), None),
            Some(Dialect::IotHub(hub)) => hub_commands(&hub.get()).unzip(),
            Some(Dialect::ThingsBoard(board)) => (board_commands(board), None),
            _ => (None, None),
        }
    }
}

/// Returns how the brokers of an uplink are connected to.
fn endpoints(uplink: &UplinkConfig, downlink: &Limits) -> Result<Vec<Endpoint>, TlsError> {
    let each = uplink.link.endpoints.iter().map(|config| {
        let endpoint = endpoint(uplink, config, downlink)?;
        if let Some(request) = &endpoint.websocket {
            request.headers.set(headers(uplink));
            request.signer.set(uplink.link.aws.signer.clone());
        }
        Ok(endpoint)
    });
    each.collect()
}

/// Returns how an uplink is given a certificate by AWS IoT Core, if it is.
fn fleet(uplink: &UplinkConfig, config: &Config) -> Result<Option<Arc<FleetSettings>>, TlsError> {
    let Some(template) = uplink.link.aws.provisioning.clone() else { return Ok(None) };
    let tls = uplink.link.endpoints.iter().filter_map(|endpoint| endpoint.tls.as_ref());
    let folder = config.gateway.data_dir.join("aws-iot-core").join(uplink.name.as_str());
    let setups = tls.map(client_setup).collect::<Result<_, _>>()?;
    Ok(Some(Arc::new(FleetSettings { template, folder, setups })))
}

/// Returns an edge node of Sparkplug B that keeps to what its kind of far side takes.
fn edge_node(node: &tidegate_sparkplug::Settings, uplink: &UplinkConfig) -> Arc<SparkplugB> {
    let bounds = uplink.link.profile.bounds();
    let most = |given: Option<usize>, bound: usize| Some(given.map_or(bound, |it| it.min(bound)));
    Arc::new(SparkplugB::new(Arc::new(tidegate_sparkplug::Settings {
        payload_bytes_max: most(node.payload_bytes_max, bounds.payload_bytes),
        topic_bytes_max: most(node.topic_bytes_max, bounds.topic_bytes),
        ..node.clone()
    })))
}

fn settings(
    uplink: &UplinkConfig,
    config: &Config,
    epoch: i64,
) -> Result<UplinkSettings, StartError> {
    let wrong = |reason: &dyn std::fmt::Display| {
        StartError::Setting(format!("uplink {}: {reason}", uplink.name))
    };
    let gateway: Arc<str> = config.gateway.id.as_str().into();
    let format = format(uplink.format);
    let template = uplink.topic.fill("{encoding}", "{topic}");
    let core = tidegate_uplink::Settings {
        topic: tidegate_uplink::TopicTemplate::new(&template, &gateway, format)
            .map_err(|error| wrong(&error))?
            .stripping(uplink.bridge.strip.as_str()),
        gateway,
        name: uplink.name.clone(),
        epoch,
        rules: uplink.rules.clone(),
        rule_memory: MemoryLimits::default(),
        format,
        time_unit: uplink.time_unit,
        compression: uplink.compression,
        batch: tidegate_uplink::BatchLimits {
            readings: uplink.batch.readings,
            age: if uplink.format.is_dialect() { DIALECT_AGE } else { uplink.batch.age },
            bytes: size(uplink.batch.bytes),
            wire_bytes: uplink.batch.wire_bytes.map(size),
            metering_step: uplink.batch.metering_step.map(size),
        },
        when_full: when_full(uplink.waiting.when_full),
        max_bytes: uplink.waiting.max_bytes.get(),
        profile: uplink.link.profile,
        max_age: uplink.waiting.max_age,
        // Told when it is known what number the uplink has among the takers.
        recovered: 0,
        streams_max: tidegate_uplink::Settings::STREAMS_MAX_DEFAULT,
    };
    let commands = uplink.commands.as_ref();
    let route = commands.map(|commands| CommandRoute::new(commands.filter.clone())).transpose();
    let route = route.map_err(|error| wrong(&error))?;
    let spoken = Spoken::new(uplink, config).map_err(|error| wrong(&error))?;
    let (own_route, own_results) = spoken.commands();
    let downlink = downlink_limits(&config.limits.downlink);
    let link = LinkSettings {
        endpoints: endpoints(uplink, &downlink).map_err(|error| {
            let hint = "without `ca`, the authorities of the operating system are believed";
            StartError::Setting(format!("uplink {}: {error} ({hint})", uplink.name))
        })?,
        way: uplink.link.way.clone(),
        seat: None,
        passengers: Vec::new(),
        second: None,
        version: match uplink.link.version {
            config::MqttVersion::V3 => MqttVersion::V3_1_1,
            config::MqttVersion::V5 => MqttVersion::V5,
        },
        client_id: uplink.client_id.clone(),
        keep_alive: uplink.link.keep_alive,
        ack_timeout: uplink.link.ack_timeout,
        in_flight_max: uplink.link.in_flight_max,
        rates: uplink.link.rates,
        replay_rates: uplink.waiting.replay,
        pauses: uplink.link.profile.bounds().pauses,
        renewed: Arc::default(),
        session_expiry: uplink.link.session_expiry,
        commands: route.or(own_route),
        results: commands.map(|commands| commands.results.clone()).or(own_results),
        dialect: spoken.0,
        bridge: bridge(uplink, config),
        fleet: fleet(uplink, config).map_err(|error| wrong(&error))?,
        shadow: uplink.shadow.clone().filter(|_| uplink.via.is_none()),
    };
    let selector = Selector::new(uplink.topics.clone());
    Ok(UplinkSettings { selector, branches: Vec::new(), core, link, downlink, grace: GRACE })
}

/// Returns what comes down by an uplink to be published here, and what of that goes out by it.
fn bridge(uplink: &UplinkConfig, config: &Config) -> Bridge {
    let carrier = uplink.via.as_ref().unwrap_or(&uplink.name);
    let bridges = config.uplinks.iter().filter(|uplink| !uplink.bridge.inbound.is_empty());
    let (own, others): (Vec<_>, Vec<_>) =
        bridges.map(|bridge| &bridge.name).partition(|name| *name == carrier);
    Bridge {
        inbound: uplink.bridge.inbound.iter().map(|inbound| inbound.route.clone()).collect(),
        topic_bytes_max: size(config.limits.mqtt.max_topic_bytes),
        retain: uplink.bridge.retain,
        relay: uplink.bridge.relay,
        own: own.first().map(|name| Principal::uplink(name)),
        others: others.into_iter().map(Principal::uplink).collect(),
    }
}
