//! The adapters of a configuration: bound first, started last.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use tidegate_adapter_api::{
    Access, Adapter, AdapterContext, CommandRequest, Counters, HealthSource, Intake, PointSet,
    TopicSpace,
};
use tidegate_mapping::MappingSet;
use tidegate_model::{AdapterName, CommandOutcome};
use tokio::sync::{Mutex, mpsc, watch};

use super::{
    StartError,
    gates::Gates,
    listeners::Certificates,
    reload::{PointSenders, PointsOf},
};
use crate::{
    broker::Accounts,
    commander::adapter_channel,
    config::Config,
    ingest::Ingest,
    points,
    supervise::{Conditions, Stage, keep_running},
};

/// What every adapter finds around it.
pub(super) struct Surroundings {
    pub(super) ingest: Ingest,
    pub(super) topics: TopicSpace,
    pub(super) accounts: Arc<Accounts>,
    pub(super) health: HealthSource,
    pub(super) conditions: Conditions,
}

/// Starts one prepared adapter.
type Starter = Box<dyn FnOnce(AdapterContext, Conditions, &mut Stage) + Send>;

struct Prepared {
    name: AdapterName,
    anonymous: bool,
    counters: Counters,
    points_of: PointsOf,
    points: (watch::Sender<PointSet>, watch::Receiver<PointSet>),
    commands: (mpsc::Sender<CommandRequest>, mpsc::Receiver<CommandRequest>),
    start: Starter,
}

/// Adapters whose listeners are bound and which do not run yet.
#[derive(Default)]
pub(super) struct Adapters {
    prepared: Vec<Prepared>,
    coap: Vec<SocketAddr>,
    http: Vec<SocketAddr>,
}

impl Adapters {
    /// Binds every listener of the configuration and prepares its adapters.
    pub(super) fn prepare(
        config: &Config,
        mapping: &MappingSet,
        certificates: &Certificates,
        gates: &Gates,
    ) -> Result<Self, StartError> {
        let mut adapters = Self::default();
        #[cfg(not(feature = "http"))]
        let _ = (certificates, gates);
        #[cfg(feature = "coap")]
        adapters.prepare_coap(config, mapping)?;
        #[cfg(feature = "http")]
        adapters.prepare_http(config, mapping, certificates, gates)?;
        #[cfg(feature = "opcua")]
        adapters.prepare_opcua(config, mapping)?;
        Ok(adapters)
    }

    fn add<A: Adapter>(
        &mut self,
        adapter: A,
        anonymous: bool,
        points_of: PointsOf,
        mapping: &MappingSet,
    ) {
        let name = adapter.name().clone();
        let start: Starter =
            Box::new(move |context, conditions, stage| attend(adapter, context, conditions, stage));
        self.prepared.push(Prepared {
            name,
            anonymous,
            counters: Counters::default(),
            points: watch::channel(points_of(mapping)),
            points_of,
            commands: adapter_channel(),
            start,
        });
    }

    pub(super) fn counters(&self) -> Vec<(String, Counters)> {
        self.prepared
            .iter()
            .map(|prepared| (prepared.name.to_string(), prepared.counters.clone()))
            .collect()
    }

    pub(super) fn coap_addresses(&self) -> Vec<SocketAddr> {
        self.coap.clone()
    }

    pub(super) fn http_addresses(&self) -> Vec<SocketAddr> {
        self.http.clone()
    }

    pub(super) fn command_senders(&self) -> BTreeMap<AdapterName, mpsc::Sender<CommandRequest>> {
        self.prepared
            .iter()
            .map(|prepared| (prepared.name.clone(), prepared.commands.0.clone()))
            .collect()
    }

    /// Takes the senders with which a reload reaches the adapters.
    pub(super) fn take_point_senders(&mut self) -> PointSenders {
        self.prepared
            .iter_mut()
            .map(|prepared| {
                let points_of =
                    std::mem::replace(&mut prepared.points_of, Box::new(|_| PointSet::default()));
                (points_of, prepared.points.0.clone())
            })
            .collect()
    }

    /// Starts them all.
    pub(super) fn start(self, around: &Surroundings, stage: &mut Stage) {
        for prepared in self.prepared {
            let context = AdapterContext {
                points: prepared.points.1,
                reach: around.ingest.reach(&prepared.name),
                intake: Intake::new(prepared.name, Arc::new(around.ingest.clone())),
                commands: prepared.commands.1,
                topics: around.topics.clone(),
                access: Access::new(Arc::clone(&around.accounts) as _, prepared.anonymous),
                health: around.health.clone(),
                counters: prepared.counters,
                shutdown: stage.stop_token(),
            };
            (prepared.start)(context, around.conditions.clone(), stage);
        }
    }
}

/// Runs an adapter, and answers its commands while no run does.
fn attend<A: Adapter>(
    adapter: A,
    context: AdapterContext,
    conditions: Conditions,
    stage: &mut Stage,
) {
    let stop = context.shutdown.clone();
    let name = format!("adapter {}", adapter.name());
    let (is_running, runs) = watch::channel(true);
    // One run at a time: the next begins when the one before has ended.
    let running = Arc::new(Mutex::new((adapter, context)));
    stage.spawn(refuse_between_runs(Arc::clone(&running), runs));
    stage.spawn(keep_running(name, stop, conditions, move || {
        let running = Arc::clone(&running);
        let run = Run::begin(is_running.clone());
        async move {
            let (adapter, context) = &mut *running.lock().await;
            let result = adapter.run(context).await;
            drop(run);
            result
        }
    }));
}

/// One run of an adapter; when it is dropped, also by a panic, the run has ended.
struct Run(watch::Sender<bool>);

impl Run {
    fn begin(is_running: watch::Sender<bool>) -> Self {
        is_running.send_replace(true);
        Self(is_running)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

/// Refuses the commands of an adapter from the end of a run to the beginning of the next: whoever sent them need
/// not wait out a pause that may be longer than they live. Ends when there will be no further run.
async fn refuse_between_runs<A>(
    running: Arc<Mutex<(A, AdapterContext)>>,
    mut runs: watch::Receiver<bool>,
) {
    while runs.wait_for(|is_running| !is_running).await.is_ok() {
        let (_, context) = &mut *running.lock().await;
        loop {
            tokio::select! {
                biased;
                changed = runs.wait_for(|is_running| *is_running) => match changed {
                    Ok(_) => break,
                    Err(_) => return,
                },
                Some(request) = context.commands.recv() => {
                    let reason = "the adapter is not running; its condition in status says why";
                    request.reply.send(CommandOutcome::refused(reason));
                }
            }
        }
    }
}

#[cfg(feature = "coap")]
mod coap {
    //! CoAP devices.

    use tidegate_adapter_coap::{CoapAdapter, CoapSettings};
    use tidegate_model::AdapterName;

    use super::{Adapters, Config, MappingSet, StartError, points};

    impl Adapters {
        pub(super) fn prepare_coap(
            &mut self,
            config: &Config,
            mapping: &MappingSet,
        ) -> Result<(), StartError> {
            let Some(listener) = &config.coap else { return Ok(()) };
            let limits = &config.limits.coap;
            let settings = CoapSettings {
                body_bytes_max: super::bytes(limits.max_body),
                duplicate_lifetime: limits.dedup_lifetime,
                duplicates_max: limits.dedup_entries,
                ..CoapSettings::listening_on(listener.listen.clone())
            };
            let name = AdapterName::new("coap").expect("the word is a name");
            let adapter = CoapAdapter::bind(name, settings)
                .map_err(|error| StartError::of_adapter("CoAP", error))?;
            self.coap = adapter.local_addrs();
            self.add(adapter, listener.anonymous, Box::new(points::coap), mapping);
            Ok(())
        }
    }
}

#[cfg(feature = "http")]
mod http {
    //! HTTP devices and clients.

    use tidegate_adapter_http::{Encrypted, HttpAdapter, HttpSettings};
    use tidegate_model::AdapterName;

    use super::{Adapters, Certificates, Config, Gates, MappingSet, StartError, points};
    use crate::listening::Protocol;

    impl Adapters {
        pub(super) fn prepare_http(
            &mut self,
            config: &Config,
            mapping: &MappingSet,
            certificates: &Certificates,
            gates: &Gates,
        ) -> Result<(), StartError> {
            let Some(listener) = &config.http else { return Ok(()) };
            let (limits, net) = (&config.limits.http, &config.limits.net);
            let encrypted = listener.tls.as_ref().zip(certificates.http.clone());
            let settings = HttpSettings {
                gate: gates.of(Protocol::Http),
                encrypted: encrypted.map(|(config, tls)| Encrypted {
                    listen: config.listen.clone(),
                    tls,
                    gate: gates.of(Protocol::Https),
                }),
                connections_max: net.max_connections,
                connections_per_address_max: net.max_connections_per_address,
                handshakes_max: net.max_handshakes,
                header_deadline: limits.header_deadline,
                body_deadline: limits.body_deadline,
                idle_deadline: limits.idle_deadline,
                write_deadline: limits.write_deadline,
                header_bytes_max: super::bytes(limits.max_header_bytes),
                header_count_max: limits.max_header_count,
                body_bytes_max: super::bytes(limits.max_body_bytes),
                ..HttpSettings::listening_on(listener.listen.clone())
            };
            let name = AdapterName::new("http").expect("the word is a name");
            let adapter = HttpAdapter::bind(name, settings)
                .map_err(|error| StartError::of_adapter("HTTP", error))?;
            self.http = adapter.local_addrs();
            self.add(adapter, listener.anonymous, Box::new(points::http), mapping);
            Ok(())
        }
    }
}

#[cfg(feature = "opcua")]
mod opcua {
    //! OPC UA servers as devices.

    use tidegate_adapter_opcua::{
        Endpoint, Limits, OpcUaAdapter, OpcUaSettings, Security, UserLogin,
    };

    use super::{Adapters, Config, MappingSet, StartError, points};
    use crate::config::{OpcUaConfig, OpcUaLogin, OpcUaSecurity};

    impl Adapters {
        pub(super) fn prepare_opcua(
            &mut self,
            config: &Config,
            mapping: &MappingSet,
        ) -> Result<(), StartError> {
            for server in &config.opcua {
                let name = server.name.clone();
                let adapter = OpcUaAdapter::new(settings(server, config)?);
                self.add(
                    adapter,
                    false,
                    Box::new(move |mapping| points::opcua(mapping, &name)),
                    mapping,
                );
            }
            Ok(())
        }
    }

    fn settings(server: &OpcUaConfig, config: &Config) -> Result<OpcUaSettings, StartError> {
        let limits = &config.limits.opcua;
        Ok(OpcUaSettings {
            name: server.name.clone(),
            endpoint: Endpoint::new(server.endpoint.as_str())
                .map_err(|error| StartError::Setting(error.to_string()))?,
            security: match server.security {
                OpcUaSecurity::None => Security::None,
                OpcUaSecurity::Sign => Security::Sign,
                OpcUaSecurity::SignAndEncrypt => Security::SignAndEncrypt,
            },
            user: match &server.login {
                OpcUaLogin::Anonymous => None,
                OpcUaLogin::Password { username, password } => Some(UserLogin {
                    name: username.clone(),
                    password: password.expose().to_owned(),
                }),
            },
            rebrowse: server.rebrowse,
            pki_directory: config.gateway.data_dir.join("pki"),
            application_uri: format!("urn:{}:tidegate", config.gateway.id),
            limits: Limits {
                max_message: super::bytes(limits.max_message),
                max_chunks: limits.max_chunks,
                max_array: limits.max_array,
                max_string: super::bytes(limits.max_string),
            },
        })
    }
}

/// Returns a size as a number of bytes in memory.
fn bytes(size: tidegate_settings::ByteSize) -> usize {
    usize::try_from(size.get()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
