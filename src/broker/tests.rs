//! A listener whose logins the test decides.

mod ends;
mod panics;
mod subscribe;

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;
use tempfile::TempDir;
use tidegate_adapter_api::{Access, Authenticator, Gate, Login, LoginResult};
use tidegate_broker::{
    Broker, BrokerLimits, Source,
    access::{AccessEntry, AccessFilter, AccessRules, Glob},
};
use tidegate_mapping::MappingSet;
use tidegate_model::{CredentialId, Message, Payload, Principal, Qos, Topic};
use tidegate_settings::Issues;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    Accounts, BrokerHandle, ConnectionSettings, Endpoint, EventLoops, ListenerCounters,
    MqttListener, MqttSettings, ThrottleSettings,
};
use crate::{
    clock::Clock,
    commander::command_channel,
    config::StoreConfig,
    exchanges::Exchanges,
    ingest::{Ingest, Reaches},
    jwt::Issuers,
    store::{self, Completion, DataDirectory, Store},
};

/// How long anything may take that takes milliseconds; generous, for loaded machines.
const PATIENCE: Duration = Duration::from_secs(30);

/// CONNECT of MQTT 5: clean start, client `c`, user `u` with password `p`.
const CONNECT: &[u8] = b"\x10\x14\0\x04MQTT\x05\xC2\0\0\0\0\x01c\0\x01u\0\x01p";
/// SUBSCRIBE of MQTT 5 to `t` with quality of service 0.
const SUBSCRIBE: &[u8] = b"\x82\x07\0\x01\0\0\x01t\0";
const NOT_AUTHORIZED: u8 = 0x87;

/// Finds every password right, as late as the test wants.
struct Slow {
    is_known: AtomicBool,
    asked: Notify,
    go_on: Notify,
}

impl Authenticator for Slow {
    fn login<'a>(
        &'a self,
        name: &'a str,
        _password: &'a [u8],
        _from: IpAddr,
    ) -> Pin<Box<dyn Future<Output = LoginResult> + Send + 'a>> {
        Box::pin(async move {
            self.asked.notify_one();
            self.go_on.notified().await;
            Ok(Login::new(Principal::new(name).unwrap(), CredentialId::new([7; 16])))
        })
    }

    fn is_good(&self, _login: &Login) -> bool {
        self.is_known.load(Ordering::SeqCst)
    }
}

/// A listener with a broker behind it.
struct Rig {
    logins: Arc<Slow>,
    broker: BrokerHandle,
    address: SocketAddr,
    counters: Arc<ListenerCounters>,
    client: TcpStream,
    store: Store,
    task: JoinSet<()>,
    stop: CancellationToken,
    _folder: TempDir,
}

impl Rig {
    /// Starts it, and lets a client send its CONNECT.
    async fn start() -> Self {
        Self::start_with(BrokerLimits::default()).await
    }

    async fn start_with(limits: BrokerLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(&folder.path().join("data")).unwrap();
        let config = StoreConfig::default();
        let (journal, recovery) = store::open(&directory, &config).unwrap();
        let store = store::spawn("broker test", directory, journal, &recovery, &config).unwrap();
        let core = Broker::new(limits, AccessRules::default());
        let broker = BrokerHandle::new(core, store.handle(), Clock::start());
        let mapping = MappingSet::compile(&[], &Default::default(), &mut Issues::default());
        let mapping = Arc::new(RwLock::new(Arc::new(mapping.unwrap())));
        let (commands, _) = command_channel();
        let exchanges = Exchanges::recover([].into_iter(), 1 << 20, broker.clock().steady());
        let ingest = Ingest::new(broker.clone(), mapping, commands, exchanges, Reaches::new());
        let logins = Arc::new(Slow {
            is_known: AtomicBool::new(true),
            asked: Notify::new(),
            go_on: Notify::new(),
        });
        let endpoint = Endpoint {
            address: "127.0.0.1:0".parse().unwrap(),
            tls: None,
            websocket: None,
            access: Access::new(Arc::clone(&logins) as _, false),
            gate: Gate::always_open(),
        };
        let throttle = ThrottleSettings { failures: 5, delay_max: PATIENCE };
        let settings = MqttSettings {
            connection: ConnectionSettings {
                protocol: Arc::new(tidegate_mqtt::Settings::default()),
                accounts: Arc::new(Accounts::new([], Issuers::default(), throttle)),
                response_topics: None,
            },
            connections_max: 10,
            connections_per_address_max: 10,
            handshakes_max: 10,
        };
        let loops = EventLoops::start(1).unwrap();
        let listener =
            Arc::new(MqttListener::bind(vec![endpoint], settings, loops, ingest).unwrap());
        let address = listener.local_addresses()[0];
        let counters = listener.counters();
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(listener.run(stop.clone()));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(CONNECT).await.unwrap();
        Self { logins, broker, address, counters, client, store, task, stop, _folder: folder }
    }

    async fn wait_until_asked(&self) {
        timeout(PATIENCE, self.logins.asked.notified()).await.expect("the client is checked");
    }

    /// Removes the account, as a reload of the configuration does: first from the book, then from the core.
    fn remove_account(&self) {
        self.logins.is_known.store(false, Ordering::SeqCst);
        self.broker.core().expel(|_, _| false, self.broker.clock().steady());
    }

    /// Returns all that the client hears until it is cut off, or, if it is not, of a packet of the type `first`.
    async fn heard(&mut self, first: u8) -> Vec<u8> {
        let mut heard = Vec::new();
        let reading = async {
            while heard.first() != Some(&first)
                && self.client.read_buf(&mut heard).await.unwrap() > 0
            {}
        };
        timeout(PATIENCE, reading).await.expect("the client is answered");
        heard
    }

    /// Publishes messages on `t`, of so many bytes each.
    fn publish(&self, count: usize, bytes: usize) {
        for _ in 0..count {
            let message = Message {
                topic: Topic::new("t").unwrap(),
                payload: Payload::bytes(vec![b'.'; bytes]),
                qos: Qos::AtMostOnce,
                retain: false,
                properties: None,
                publisher: Principal::anonymous(),
                arrival: self.broker.clock().wall(),
            };
            self.broker.publish(vec![message], Source::Gateway, || Completion::None).unwrap();
        }
    }

    async fn stop(mut self) {
        self.stop.cancel();
        drop(self.client);
        self.task.join_next().await.expect("it ran").expect("no panic");
        self.store.stop().unwrap();
    }
}

/// identity.4: a login that was checked before its account was removed, and finished after, comes too late.
#[tokio::test]
async fn identity_4_a_login_does_not_outlive_its_account() {
    let mut rig = Rig::start().await;
    rig.wait_until_asked().await;
    rig.remove_account();
    rig.logins.go_on.notify_one();
    let connack = rig.heard(0x20).await;
    assert_eq!(connack[..4], [0x20, 3, 0, NOT_AUTHORIZED], "{connack:02X?}");
    assert_eq!(rig.broker.core().summary().sessions, 0);
    rig.stop().await;
}

/// identity.4: one that was finished just before is cut off.
#[tokio::test]
async fn identity_4_a_connection_does_not_outlive_its_account() {
    let mut rig = Rig::start().await;
    rig.wait_until_asked().await;
    rig.logins.go_on.notify_one();
    let connack = rig.heard(0x20).await;
    assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:02X?}");
    rig.remove_account();
    let disconnect = rig.heard(0xE0).await;
    assert_eq!(disconnect[..], [0xE0, 1, NOT_AUTHORIZED], "{disconnect:02X?}");
    assert_eq!(rig.broker.core().summary().sessions, 0);
    rig.stop().await;
}

fn everybody_may_everything() -> AccessRules {
    let everything = || vec![AccessFilter::parse("#").unwrap()];
    AccessRules::new(vec![AccessEntry {
        principal: Glob::new("*"),
        publish: everything(),
        subscribe: everything(),
        command: Vec::new(),
        manage: None,
    }])
}

/// broker.20: a client that takes everything at once gets everything: what did not fit into one write is not left
/// lying until something else happens.
#[tokio::test]
async fn broker_20_nothing_waits_behind_a_full_write() {
    const MESSAGES: usize = 9_000;
    const PAYLOAD: usize = 1_000;
    const PUBLISH_BYTES: usize = 1 + 2 + 3 + 1 + PAYLOAD;
    let mut rig = Rig::start().await;
    rig.broker.core().set_rules(everybody_may_everything());
    rig.logins.go_on.notify_one();
    let connack = rig.heard(0x20).await;
    assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:02X?}");
    rig.client.write_all(SUBSCRIBE).await.unwrap();
    let suback = rig.heard(0x90).await;
    assert_eq!(suback[..], [0x90, 4, 0, 1, 0, 0], "{suback:02X?}");
    rig.publish(MESSAGES, PAYLOAD);
    let mut received = vec![0; MESSAGES * PUBLISH_BYTES];
    timeout(PATIENCE, rig.client.read_exact(&mut received)).await.expect("no stall").unwrap();
    let packets = received.chunks_exact(PUBLISH_BYTES);
    assert!(packets.into_iter().all(|packet| packet[0] == 0x30 && packet[6] == 0));
    rig.stop().await;
}

/// broker.12: a burst that is longer than a queue does not fill the queue of a client that takes it as it comes.
#[tokio::test]
async fn broker_12_a_burst_waits_for_those_to_whom_it_goes() {
    const MESSAGES: usize = 30_000;
    const PAYLOAD: usize = 100;
    let mut rig = Rig::start().await;
    rig.broker.core().set_rules(everybody_may_everything());
    rig.logins.go_on.notify_one();
    rig.heard(0x20).await;
    rig.client.write_all(SUBSCRIBE).await.unwrap();
    rig.heard(0x90).await;
    let mut publisher = TcpStream::connect(rig.address).await.unwrap();
    let mut connect = CONNECT.to_vec();
    let client_id = connect.iter().position(|byte| *byte == b'c').unwrap();
    connect[client_id] = b'd';
    publisher.write_all(&connect).await.unwrap();
    rig.logins.go_on.notify_one();
    let mut connack = [0; 64];
    assert!(publisher.read(&mut connack).await.unwrap() > 4);
    assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:02X?}");
    let publish = [b"\x30\x68\0\x01t\0".as_slice(), &[b'.'; PAYLOAD]].concat();
    let burst = publish.repeat(MESSAGES);
    let mut received = vec![0; burst.len()];
    let (sent, came) = timeout(PATIENCE, async {
        tokio::join!(publisher.write_all(&burst), rig.client.read_exact(&mut received))
    })
    .await
    .expect("everything comes");
    sent.unwrap();
    came.unwrap();
    assert_eq!(rig.broker.core().counters().dropped_queue_full, 0);
    rig.stop().await;
}

/// identity.4: the connection of a client that does not read ends with its account too.
#[tokio::test]
async fn identity_4_who_does_not_read_does_not_outlive_its_account() {
    let mut rig = Rig::start().await;
    rig.broker.core().set_rules(everybody_may_everything());
    rig.logins.go_on.notify_one();
    rig.heard(0x20).await;
    rig.client.write_all(SUBSCRIBE).await.unwrap();
    rig.heard(0x90).await;
    // More than sockets hold.
    rig.publish(9_000, 1_500);
    let (mut before, mut queued) = (usize::MAX, rig.broker.core().summary().queued);
    while before != queued {
        tokio::time::sleep(Duration::from_millis(50)).await;
        (before, queued) = (queued, rig.broker.core().summary().queued);
    }
    assert!(queued > 0, "all of it found room in the sockets");
    rig.remove_account();
    let ended = async {
        while rig.counters.open.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, ended).await.expect("the connection ends");
    rig.stop().await;
}
