//! A device of Astarte: paired over HTTP, connected by MQTT 3.1.1 with a certificate of its own.
//!
//! The client is the one of `tidegate-mqtt`, not rumqttc, over the same way to the far side: QoS 2 in a session that goes
//! on needs packet identifiers that are released before they are used again, and QoS 0 a PINGREQ when the device asks for
//! one (docs/decisions/0027-astarte.md).

mod credentials;
mod down;
mod mqtt;
mod pairing;
#[cfg(test)]
mod tests;

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use tidegate_uplink::Failure;
use tokio::{
    sync::{Notify, mpsc},
    time::timeout,
};
use tracing::{info, warn};

use super::{
    super::{
        link::{LinkError, LinkEvent, Up},
        settings::{AstarteSettings, LinkSettings},
    },
    CONNECT_TIMEOUT, Memory, REQUESTS,
};
use crate::uplink::settings::Endpoint;

use self::{
    credentials::{Credentials, Store},
    mqtt::{Ended, Wire},
    pairing::{BrokerAddress, Pairing},
};

/// Where the broker is, is asked for anew after so long if it cannot be reached.
const BROKER_AGE: Duration = Duration::from_secs(3_600);

/// What the connection is asked to do.
#[derive(Debug)]
pub(super) enum Job {
    /// Publish, under the dialect's own number.
    Publish { packet: u16, up: Up },
    /// A command is safe.
    Acknowledge { packet: u16 },
    /// A command is left to the next connection.
    Withhold { packet: u16 },
    /// Say good-bye.
    Disconnect,
}

/// Hands work over.
#[derive(Debug)]
pub(super) struct Client {
    jobs: mpsc::Sender<Job>,
    next: u16,
}

impl Client {
    pub(super) fn publish(&mut self, up: Up) -> Result<(), LinkError> {
        self.next = self.next.wrapping_add(1);
        let taken = self.jobs.try_send(Job::Publish { packet: self.next, up });
        taken.map_err(|_| LinkError::transient("the connection takes no more messages"))
    }

    pub(super) fn acknowledge(&self, packet: u16) -> Result<(), LinkError> {
        let taken = self.jobs.try_send(Job::Acknowledge { packet });
        taken.map_err(|_| LinkError::transient("the connection takes no more acknowledgements"))
    }

    pub(super) fn withhold(&self, packet: u16) -> Result<(), LinkError> {
        let taken = self.jobs.try_send(Job::Withhold { packet });
        taken.map_err(|_| LinkError::transient("the connection takes no more acknowledgements"))
    }

    pub(super) fn disconnect(&self) -> bool {
        self.jobs.try_send(Job::Disconnect).is_ok()
    }
}

pub(super) fn open(
    device: &Arc<AstarteSettings>,
    settings: &LinkSettings,
    endpoint: usize,
    memory: Memory,
    events: mpsc::Sender<LinkEvent>,
) -> (Client, impl Future<Output = LinkError> + Send + use<>) {
    let (jobs, queue) = mpsc::channel(REQUESTS);
    let driver = Driver {
        device: Arc::clone(device),
        pairing: settings.endpoints[endpoint].clone(),
        settings: settings.clone(),
        events,
    };
    (Client { jobs, next: 0 }, driver.drive(queue, memory))
}

/// One attempt: from what is on disk to the end of the connection.
struct Driver {
    device: Arc<AstarteSettings>,
    pairing: Endpoint,
    settings: LinkSettings,
    events: mpsc::Sender<LinkEvent>,
}

impl Driver {
    async fn drive(self, jobs: mpsc::Receiver<Job>, memory: Memory) -> LinkError {
        match self.run(jobs, memory).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn run(
        &self,
        jobs: mpsc::Receiver<Job>,
        memory: Memory,
    ) -> Result<std::convert::Infallible, LinkError> {
        let store = Store::new(self.device.folder.clone());
        let pairing =
            Pairing::new(&self.pairing, &self.settings.way, self.device.setup.device.clone());
        let (credentials, broker) = self.prepare(&store, &pairing).await?;
        let wire = Wire {
            device: &self.device,
            settings: &self.settings,
            events: &self.events,
            identity: credentials.identity.clone(),
            broker: broker.clone(),
            is_up: Notify::new(),
            is_renewed: Notify::new(),
        };
        let Ended { error, phase } =
            self.talk(&wire, jobs, memory, &store, &pairing, &credentials).await;
        match phase {
            mqtt::Phase::NotReached { has_moved } => {
                // It is asked for where it has probably moved, and where nothing else helps now and then.
                if has_moved || store.broker_is_older_than(BROKER_AGE).await? {
                    store.forget_broker().await?;
                }
            }
            mqtt::Phase::Refused { by_certificate } => {
                let is_gone = self.renew_if_invalid(&store, &pairing, &credentials).await?;
                if by_certificate && !is_gone {
                    // Another one would fare no better: somebody has to look at it.
                    return Err(LinkError { failure: Failure::Lasting, ..error });
                }
            }
            mqtt::Phase::Accepted => {}
        }
        Err(error)
    }

    /// Keeps a connection, and renews the certificate meanwhile.
    async fn talk(
        &self,
        wire: &Wire<'_>,
        jobs: mpsc::Receiver<Job>,
        memory: Memory,
        store: &Store,
        pairing: &Pairing<'_>,
        credentials: &Credentials,
    ) -> Ended {
        let asks = AtomicBool::new(false);
        let mut talk = pin!(wire.run(jobs, memory));
        let mut renewal = pin!(async {
            wire.is_up.notified().await;
            self.renew_in_time(store, pairing, credentials, &asks).await;
            wire.is_renewed.notify_one();
        });
        let mut is_renewed = false;
        let ended = loop {
            tokio::select! {
                biased;
                ended = &mut talk => break ended,
                () = &mut renewal, if !is_renewed => is_renewed = true,
            }
        };
        if asks.load(Ordering::Relaxed) && !is_renewed {
            // A certificate that was asked for and is not kept would have to be asked for again.
            let _ = timeout(CONNECT_TIMEOUT, renewal).await;
        }
        ended
    }

    /// Returns when there is a new certificate for the next connection.
    async fn renew_in_time(
        &self,
        store: &Store,
        pairing: &Pairing<'_>,
        credentials: &Credentials,
        asks: &AtomicBool,
    ) {
        let since = Instant::now();
        loop {
            tokio::time::sleep(credentials.next_look(now())).await;
            if !credentials.ends_soon(now()) || since.elapsed() < credentials.least() {
                continue;
            }
            asks.store(true, Ordering::Relaxed);
            match self.new_credentials(store, pairing).await {
                Ok(_) => return,
                Err(error) => self.warn_of(&error),
            }
            asks.store(false, Ordering::Relaxed);
        }
    }

    /// Asks for a certificate, if it can be kept, and keeps it.
    async fn new_credentials(
        &self,
        store: &Store,
        pairing: &Pairing<'_>,
    ) -> Result<Credentials, LinkError> {
        store.rehearse().await?;
        let made = pairing.request_certificate().await?;
        store.keep_credentials(&made).await?;
        let device = self.device.setup.device.base();
        info!(device = %device, "Paired with Astarte: a new certificate is kept");
        Ok(made)
    }

    fn warn_of(&self, error: &LinkError) {
        let device = self.device.setup.device.base();
        warn!(device = %device, error = %error.reason, "The certificate for Astarte cannot be renewed yet");
    }

    /// Returns what to show to the broker, and where that is; asks the pairing service for what is missing.
    async fn prepare(
        &self,
        store: &Store,
        pairing: &Pairing<'_>,
    ) -> Result<(Credentials, BrokerAddress), LinkError> {
        let name = self.device.setup.device.base();
        let kept = store.credentials(name).await?;
        self.is_alive().await?;
        let credentials = match kept {
            Some(kept) if !kept.ends_soon(now()) => kept,
            kept => match (self.new_credentials(store, pairing).await, kept) {
                (Ok(made), _) => made,
                // It is good for some time yet.
                (Err(error), Some(kept)) if !kept.has_ended(now()) => {
                    self.warn_of(&error);
                    kept
                }
                (Err(error), _) => return Err(error),
            },
        };
        self.is_alive().await?;
        let broker = match store.broker().await? {
            Some(broker) => broker,
            None => {
                let broker = pairing.broker().await?;
                store.keep_broker(&broker).await?;
                broker
            }
        };
        self.is_alive().await?;
        Ok((credentials, broker))
    }

    /// Forgets a certificate that the broker did not take if the pairing service says that it is not valid; returns
    /// whether it did. An alert alone proves nothing: it may come from anybody on the way, and a new certificate
    /// revokes the one before. One that has just been made is not asked for again.
    async fn renew_if_invalid(
        &self,
        store: &Store,
        pairing: &Pairing<'_>,
        credentials: &Credentials,
    ) -> Result<bool, LinkError> {
        if credentials.is_new() || pairing.verifies(&credentials.certificate).await? {
            return Ok(false);
        }
        let device = self.device.setup.device.base();
        warn!(device = %device, "The certificate for Astarte is no longer taken; a new one will be asked for");
        store.forget_credentials().await?;
        Ok(true)
    }

    /// Tells the run that the attempt goes on.
    async fn is_alive(&self) -> Result<(), LinkError> {
        let told = self.events.send(LinkEvent::Alive).await;
        told.map_err(|_| LinkError::transient("nobody listens"))
    }
}

/// Returns the seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
