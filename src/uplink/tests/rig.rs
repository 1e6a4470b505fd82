//! An uplink that runs over a journal in a temporary folder.

use std::{future::Future, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tempfile::TempDir;
use tidegate_adapter_api::Refusal;
use tidegate_model::{Message, Payload, Principal, Qos, Timestamp, Topic, TopicFilter, UplinkName};
use tidegate_rules::{MemoryLimits, Selector};
use tidegate_store::{Position, Recovery, Seq, TakerId, Transaction, record};
use tidegate_uplink::{
    BatchLimits, Compression, Format, Pauses, Profile, Rates, Settings, TimeUnit, TopicTemplate,
    WhenFull, bridge::Bridge,
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{PATIENCE, cloud::Cloud};
use crate::{
    clock::Clock,
    config::StoreConfig,
    dial::Way,
    store::{self, Completion, DataDirectory, Store, StoreHandle},
    time_trust::TimeTrust,
    uplink::{
        self, CommandRoute, Endpoint, IncomingCommand, Intake, LinkSettings, MqttVersion, Snapshot,
        UplinkContext, UplinkError, UplinkHandle, UplinkSettings, Watcher,
    },
};

const TAKER: TakerId = TakerId::new(1);
/// Commands that may wait in a rig, so that one more meets a full queue.
pub(super) const COMMANDS_MAX: usize = 2;
/// Messages that may have come down without the test looking at them.
const TAKEN_MAX: usize = 64;

/// A running uplink.
pub(super) struct Rig {
    pub(super) handle: UplinkHandle,
    pub(super) commands: mpsc::Receiver<IncomingCommand>,
    /// What came down to be published here.
    pub(super) taken: mpsc::Receiver<Taken>,
    pub(super) house: Arc<House>,
    store: Store,
    stop: CancellationToken,
    task: JoinSet<Result<(), UplinkError>>,
    next: u64,
    folder: TempDir,
}

/// Returns settings for a cloud: a batch for each reading, nothing comes down.
pub(super) fn settings(port: u16, version: MqttVersion) -> UplinkSettings {
    let topic = TopicTemplate::new("up/{gateway}", "gw", Format::Columns).unwrap();
    let core = Settings {
        gateway: "gw".into(),
        name: UplinkName::new("cloud").unwrap(),
        epoch: 7,
        rules: Vec::new(),
        rule_memory: MemoryLimits::default(),
        format: Format::Columns,
        time_unit: TimeUnit::Millis,
        compression: Compression::None,
        topic,
        batch: BatchLimits { readings: 1, ..BatchLimits::default() },
        when_full: WhenFull::DropOldest,
        max_bytes: Settings::MAX_BYTES_DEFAULT,
        profile: Profile::Mqtt,
        max_age: None,
        recovered: 0,
        streams_max: Settings::STREAMS_MAX_DEFAULT,
    };
    let link = LinkSettings {
        endpoints: vec![endpoint(port)],
        way: Way::default(),
        seat: None,
        passengers: Vec::new(),
        second: None,
        version,
        client_id: "gw-cloud".into(),
        keep_alive: LinkSettings::KEEP_ALIVE_DEFAULT,
        ack_timeout: LinkSettings::ACK_TIMEOUT_DEFAULT,
        in_flight_max: LinkSettings::IN_FLIGHT_MAX,
        rates: Rates::default(),
        replay_rates: Rates::default(),
        pauses: Pauses::USUAL,
        renewed: Default::default(),
        session_expiry: LinkSettings::SESSION_EXPIRY_DEFAULT,
        commands: None,
        results: None,
        dialect: None,
        bridge: Bridge::default(),
        fleet: None,
        shadow: None,
    };
    let selector = Selector::new(vec![TopicFilter::new("#").unwrap()]);
    let downlink = tidegate_uplink::decoder::Limits::DOWNLINK;
    let (branches, grace) = (Vec::new(), Duration::from_secs(3));
    UplinkSettings { selector, branches, core, link, downlink, grace }
}

/// Returns a broker on loopback, without encryption.
pub(super) fn endpoint(port: u16) -> Endpoint {
    Endpoint {
        host: "127.0.0.1".into(),
        port,
        tls: None,
        websocket: None,
        http: None,
        amqp: None,
        login: Default::default(),
    }
}

/// Returns the same with commands, whose outcomes go up below `result`.
pub(super) fn with_commands(mut settings: UplinkSettings) -> UplinkSettings {
    let filter = TopicFilter::new("cmd/gw/#").unwrap();
    settings.link.commands = Some(CommandRoute::new(filter).unwrap());
    settings.link.results = Some(Topic::new("result").unwrap());
    settings
}

/// Returns a message as a client here publishes it.
pub(super) fn message(payload: Vec<u8>) -> Message {
    Message {
        topic: Topic::new("plant/count").unwrap(),
        payload: Payload::bytes(payload),
        qos: Qos::AtLeastOnce,
        retain: false,
        properties: None,
        publisher: Principal::anonymous(),
        arrival: Timestamp::from_unix_micros(1_772_000_000_000_000),
    }
}

/// A message that came down, and what is to be called once it is on disk.
pub(super) struct Taken {
    pub(super) message: Message,
    pub(super) durable: Box<dyn FnOnce() + Send>,
}

/// In place of the broker of the gateway: takes what comes down as the test says.
#[derive(Debug)]
pub(super) struct House {
    taken: mpsc::Sender<Taken>,
    /// What is refused from now on, and why.
    pub(super) refusal: Mutex<Option<Refusal>>,
}

impl House {
    fn new() -> (Arc<Self>, mpsc::Receiver<Taken>) {
        let (taken, receiver) = mpsc::channel(TAKEN_MAX);
        (Arc::new(Self { taken, refusal: Mutex::default() }), receiver)
    }
}

impl Intake for House {
    fn takes_commands(&self, _: &Topic) -> bool {
        true
    }

    fn watch(&self, _: &Topic, _: Arc<dyn Watcher>) {}

    fn publish(
        &self,
        message: Message,
        durable: Box<dyn FnOnce() + Send>,
    ) -> Result<bool, Refusal> {
        if let Some(refusal) = self.refusal.lock().clone() {
            return Err(refusal);
        }
        let is_awaited = message.qos > Qos::AtMostOnce;
        let taken = Taken { message, durable };
        assert!(self.taken.try_send(taken).is_ok(), "the test listens");
        Ok(is_awaited)
    }
}

impl Rig {
    /// Starts an uplink of MQTT 5 to `cloud`.
    pub(super) fn start(cloud: &Cloud) -> Self {
        Self::start_with(settings(cloud.port(), MqttVersion::V5))
    }

    pub(super) fn start_with(settings: UplinkSettings) -> Self {
        Self::start_on(tempfile::tempdir().unwrap(), settings).0
    }

    /// Starts on what is in the folder, and returns what was recovered from there.
    pub(super) fn start_on(folder: TempDir, settings: UplinkSettings) -> (Self, Recovery) {
        Self::start_over(folder, settings, &StoreConfig::default())
    }

    /// Does the same with a store of another size.
    pub(super) fn start_over(
        folder: TempDir,
        settings: UplinkSettings,
        config: &StoreConfig,
    ) -> (Self, Recovery) {
        let directory = DataDirectory::open(&folder.path().join("data")).unwrap();
        let (journal, recovery) = store::open(&directory, config).unwrap();
        let store = store::spawn("uplink test", directory, journal, &recovery, config).unwrap();
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let (house, taken) = House::new();
        let received = recovery.positions.get(&TAKER).copied().unwrap_or(Position::START);
        let state = recovery.state.iter().map(|(key, value)| (key.to_vec(), value.to_vec()));
        let context = UplinkContext {
            store: store.handle(),
            taker: TAKER,
            received,
            entries: state.collect(),
            clock: Clock::start(),
            time: TimeTrust::default(),
            commands: sender,
            intake: Arc::clone(&house) as _,
        };
        let (task, handle) = uplink::new(settings, context).unwrap();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(task.run(stop.clone()));
        let next = received.ordinal + 1;
        let rig = Self { handle, commands, taken, house, store, stop, task: tasks, next, folder };
        (rig, recovery)
    }

    /// Ends the run where it waits, as a panic would: nothing is closed or waited for.
    pub(super) async fn cut_run(&mut self) {
        self.task.abort_all();
        let ended = self.task.join_next().await.expect("it ran");
        assert!(ended.expect_err("it did not end by itself").is_cancelled());
    }

    /// Starts the next run, as the supervisor does.
    pub(super) fn run_again(&mut self) {
        self.task.spawn(self.handle.task().run(self.stop.clone()));
    }

    /// Ends everything where it stands. What was submitted to the journal by then is in the folder.
    pub(super) async fn kill(mut self) -> TempDir {
        if !self.task.is_empty() {
            self.cut_run().await;
        }
        self.store.stop().unwrap();
        self.folder
    }

    /// Returns where the files of the journal are.
    pub(super) fn journal_folder(&self) -> std::path::PathBuf {
        self.folder.path().join("data/journal")
    }

    pub(super) fn store(&self) -> StoreHandle {
        self.store.handle()
    }

    /// Appends records with these values, all on one topic.
    pub(super) fn append(&mut self, values: impl IntoIterator<Item = i64>) {
        for value in values {
            self.append_bytes(value.to_string().into_bytes());
        }
    }

    pub(super) fn append_bytes(&mut self, payload: Vec<u8>) {
        self.append_on("plant/count", payload);
    }

    /// Appends a record of another topic.
    pub(super) fn append_on(&mut self, topic: &str, payload: Vec<u8>) {
        let topic = Topic::new(topic).unwrap();
        self.append_message(&Message { topic, ..message(payload) });
    }

    pub(super) fn append_message(&mut self, message: &Message) {
        let mut body = Vec::new();
        record::encode_message(message, &mut body).unwrap();
        let mut transaction = Transaction::new();
        transaction.append(Seq::new(self.next), &[(TAKER, self.next)], &body).unwrap();
        self.handle.note_appended(self.next, body.len());
        self.next += 1;
        self.store.handle().submit(transaction, Completion::None);
    }

    /// Polls the uplink until `probe` is content, and returns what it saw.
    #[track_caller]
    pub(super) fn until(
        &self,
        what: &str,
        probe: impl Fn(&Snapshot) -> bool,
    ) -> impl Future<Output = Snapshot> {
        let (handle, what) = (self.handle.clone(), what.to_owned());
        async move {
            let probing = async {
                loop {
                    let snapshot = handle.snapshot();
                    if probe(&snapshot) {
                        return snapshot;
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            let probed = tokio::time::timeout(PATIENCE, probing).await;
            probed.unwrap_or_else(|_| panic!("waited for {what}: {:?}", handle.snapshot()))
        }
    }

    /// Waits until so many records are delivered, and none is left.
    pub(super) async fn until_delivered(&self, records: u64) -> Snapshot {
        let is_there = move |snapshot: &Snapshot| snapshot.ledger.outcomes.delivered >= records;
        let snapshot = self.until("deliveries", is_there).await;
        assert_eq!(snapshot.ledger.outcomes.delivered, records, "{:?}", snapshot.ledger);
        assert!(snapshot.ledger.is_balanced(), "{:?}", snapshot.ledger);
        snapshot
    }

    /// Asks the uplink to stop; it first sends what has been appended.
    pub(super) fn ask_to_stop(&self) {
        self.stop.cancel();
    }

    /// Waits for the uplink to end, and stops the store.
    pub(super) async fn stop(self) {
        self.end().await;
    }

    /// Does the same, and returns the folder.
    pub(super) async fn end(mut self) -> TempDir {
        self.stop.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.task.join_next()).await;
        ended.expect("it ends").expect("it ran").expect("no panic").expect("no error");
        self.store.stop().unwrap();
        self.folder
    }
}
