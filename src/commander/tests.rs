//! The commander between a broker, a journal and adapters that the test plays.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use serde_json::Value;
use tempfile::TempDir;
use tidegate_broker::{Broker, BrokerLimits, access::AccessRules};
use tidegate_mapping::Environment;
use tidegate_model::{
    CommandKind, CommandOutcome, OutcomeKind, Principal, Topic, UplinkName, json,
};
use tidegate_settings::{Format, Issues, Sources, parse};
use tokio::{task::JoinSet, time::timeout};

use super::*;
use crate::{
    clock::Clock,
    config::StoreConfig,
    store::{self, DataDirectory, Store},
    uplink::CommandAck,
};

/// How long anything may take that takes milliseconds; generous, for loaded machines.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long nothing must come; a slow machine can only hide a fault.
const QUIET: Duration = Duration::from_millis(60);
const FAR: &str = "2099-01-01T00:00:00Z";

/// A running commander; each adapter has the points `ADAPTER/a` and `ADAPTER/b`.
struct Rig {
    commands: CommandQueue,
    clouds: mpsc::Sender<IncomingCommand>,
    adapters: HashMap<String, mpsc::Receiver<CommandRequest>>,
    broker: BrokerHandle,
    store: Store,
    task: JoinSet<()>,
    stop: CancellationToken,
    _folder: TempDir,
}

impl Rig {
    fn start(adapters: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(&folder.path().join("data")).unwrap();
        let config = StoreConfig::default();
        let (journal, recovery) = store::open(&directory, &config).unwrap();
        let store = store::spawn("commands test", directory, journal, &recovery, &config).unwrap();
        let core = Broker::new(BrokerLimits::default(), AccessRules::default());
        let broker = BrokerHandle::new(core, store.handle(), Clock::start());
        let names = adapters.iter().map(|name| AdapterName::new(name).unwrap());
        let (senders, receivers): (BTreeMap<_, _>, HashMap<_, _>) = names
            .map(|name| (name, adapter_channel()))
            .map(|(name, (sender, receiver))| {
                ((name.clone(), sender), (name.to_string(), receiver))
            })
            .unzip();
        let (commands, orders) = command_channel();
        let (clouds, from_clouds) = cloud_channel();
        let mut commander = Commander::new(
            orders,
            from_clouds,
            broker.clone(),
            Arc::new(RwLock::new(Arc::new(mapping(adapters)))),
            senders,
            BTreeMap::new(),
            Arc::default(),
        );
        let stop = CancellationToken::new();
        let (mut task, stopped) = (JoinSet::new(), stop.clone());
        task.spawn(async move { commander.run(stopped).await });
        Self { commands, clouds, adapters: receivers, broker, store, task, stop, _folder: folder }
    }

    async fn send(&self, topic: &str, payload: &str) {
        let order = || {
            CommandOrder::new(
                Topic::new(topic).unwrap(),
                CommandKind::Write,
                Bytes::copy_from_slice(payload.as_bytes()),
                Principal::anonymous(),
                CommandOrigin::Local { response: None },
                self.broker.clock().wall(),
            )
        };
        let sending = async {
            while !self.commands.try_send(order()) {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, sending).await.expect("commands are taken");
    }

    /// Sends a command as a shadow does; returns whether it was taken in.
    async fn wish(&self, topic: &str, payload: &str) -> bool {
        let (ack, is_safe) = CommandAck::of_shadow();
        let command = IncomingCommand {
            uplink: UplinkName::new("cloud").unwrap(),
            target: Topic::new(topic).unwrap(),
            kind: CommandKind::Write,
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            plain: None,
            id: None,
            value: Ok(json::parse_value(payload.as_bytes()).unwrap()),
            retained: false,
            reply_to: None,
            ack,
        };
        self.clouds.send(command).await.unwrap();
        timeout(PATIENCE, is_safe).await.expect("it is taken in or not")
    }

    /// Waits for the next command of an adapter.
    async fn next(&mut self, adapter: &str) -> CommandRequest {
        let commands = self.adapters.get_mut(adapter).unwrap();
        timeout(PATIENCE, commands.recv()).await.expect("a command comes").unwrap()
    }

    async fn assert_quiet(&mut self, adapter: &str) {
        let commands = self.adapters.get_mut(adapter).unwrap();
        let next = timeout(QUIET, commands.recv()).await;
        assert!(next.is_err(), "{next:?}");
    }

    /// Waits for an outcome on a topic that `probe` is content with.
    async fn outcome(&self, topic: &str, probe: impl Fn(&Value) -> bool) -> Value {
        let topic = Topic::new(&format!("{topic}/set/result")).unwrap();
        let polling = async {
            loop {
                let last = self.broker.core().last(&topic).map(|last| last.message.payload.clone());
                let last = last.map(|payload| serde_json::from_slice(&payload.to_bytes()).unwrap());
                match last {
                    Some(outcome) if probe(&outcome) => return outcome,
                    _ => tokio::time::sleep(Duration::from_millis(2)).await,
                }
            }
        };
        timeout(PATIENCE, polling).await.expect("an outcome comes")
    }

    async fn stop(mut self) {
        self.stop.cancel();
        self.task.join_next().await.expect("it ran").expect("no panic");
        self.store.stop().unwrap();
    }
}

fn mapping(adapters: &[&str]) -> MappingSet {
    let entry = |(adapter, point): (&str, &str)| {
        format!(
            "[[opcua]]\nserver = \"{adapter}\"\nnode = \"nsu=urn:p;s={point}\"\n\
             topic = \"{adapter}/{point}\"\nwritable = true\n"
        )
    };
    let points = adapters.iter().flat_map(|adapter| [(*adapter, "a"), (*adapter, "b")]);
    let text: String = points.map(entry).collect();
    let (mut sources, mut issues) = (Sources::default(), Issues::default());
    let file = sources.add("points.toml", text.as_str());
    let tree = parse(file, Format::Toml, &text, &mut issues).unwrap();
    let opcua_servers = adapters.iter().map(|name| AdapterName::new(name).unwrap()).collect();
    let environment = Environment { opcua_servers, ..Environment::default() };
    MappingSet::compile(&[tree], &environment, &mut issues).unwrap()
}

fn confirm(request: CommandRequest) {
    request.reply.send(CommandOutcome::new(OutcomeKind::Confirmed));
}

fn value(request: &CommandRequest) -> String {
    request.command.value.to_string()
}

/// main.14: commands for one point keep their order, also where the first one waits for the disk; no other
/// point waits for them.
#[tokio::test]
async fn main_14_a_slow_point_holds_up_itself_only() {
    let mut rig = Rig::start(&["plc7", "oven"]);
    rig.send("plc7/a", r#"{"value":1,"id":"c-1"}"#).await;
    rig.send("plc7/a", "2").await;
    rig.send("plc7/a", r#"{"value":3,"id":"c-3"}"#).await;
    let slow = rig.next("plc7").await;
    assert_eq!(value(&slow), "1");
    rig.assert_quiet("plc7").await;
    rig.send("plc7/b", "4").await;
    rig.send("oven/a", "5").await;
    for (adapter, expected) in [("plc7", "4"), ("oven", "5")] {
        let beside = rig.next(adapter).await;
        assert_eq!(value(&beside), expected);
        confirm(beside);
    }
    confirm(slow);
    for expected in ["2", "3"] {
        let next = rig.next("plc7").await;
        assert_eq!(value(&next), expected);
        rig.assert_quiet("plc7").await;
        confirm(next);
    }
    rig.stop().await;
}

/// main.14: adapters that answer nothing use up their own places only, and say so.
#[tokio::test]
async fn main_14_adapters_that_hang_leave_the_others_their_places() {
    let hanging = ["plc1", "plc2", "plc3", "plc4", "plc5"];
    let mut rig = Rig::start(&[&hanging[..], &["oven"]].concat());
    for adapter in hanging {
        for number in 0..PER_ADAPTER {
            let payload = format!(r#"{{"value":{number},"expires":"{FAR}"}}"#);
            rig.send(&format!("{adapter}/a"), &payload).await;
        }
        rig.send(&format!("{adapter}/b"), "1").await;
        let outcome = rig.outcome(&format!("{adapter}/b"), |_| true).await;
        assert_eq!(outcome["outcome"], "busy");
    }
    rig.send("oven/a", "1").await;
    confirm(rig.next("oven").await);
    rig.outcome("oven/a", |outcome| outcome["outcome"] == "confirmed").await;
    // A place that becomes free is given to the next one.
    confirm(rig.next("plc1").await);
    rig.outcome("plc1/a", |outcome| outcome["outcome"] == "confirmed").await;
    rig.send("plc1/b", "1").await;
    let values = [rig.next("plc1").await, rig.next("plc1").await].map(|next| value(&next));
    assert_eq!(values, ["1", "1"], "of point a, and of point b");
    rig.stop().await;
}

/// uplink.21: what a shadow wishes of an adapter that takes no more is not taken in, so it comes again, under the same id.
#[tokio::test]
async fn uplink_21_a_wish_waits_for_room() {
    let mut rig = Rig::start(&["plc1"]);
    for number in 0..PER_ADAPTER {
        rig.send("plc1/a", &format!(r#"{{"value":{number},"expires":"{FAR}"}}"#)).await;
    }
    let wish = r#"{"value":7,"id":"shadow:plant:1:1:b"}"#;
    // Those before it may not have been looked at.
    rig.send("plc1/b", "1").await;
    assert_eq!(rig.outcome("plc1/b", |_| true).await["outcome"], "busy");
    assert!(!rig.wish("plc1/b", wish).await);
    confirm(rig.next("plc1").await);
    rig.outcome("plc1/a", |outcome| outcome["outcome"] == "confirmed").await;
    assert!(rig.wish("plc1/b", wish).await);
    let values = [rig.next("plc1").await, rig.next("plc1").await].map(|next| value(&next));
    assert_eq!(values, ["1", "7"], "of point a, and of point b");
    rig.stop().await;
}

/// main.14: an id that was used for another point is refused with the reason; nothing is carried out, and
/// the first outcome is not taken for that of the second.
#[tokio::test]
async fn main_14_an_id_used_for_another_point_is_refused() {
    let mut rig = Rig::start(&["plc7"]);
    rig.send("plc7/a", r#"{"value":1,"id":"c-17"}"#).await;
    let first = rig.next("plc7").await;
    for is_under_way in [true, false] {
        rig.send("plc7/b", r#"{"value":2,"id":"c-17"}"#).await;
        let refused = rig.outcome("plc7/b", |_| true).await;
        assert_eq!((&refused["outcome"], &refused["id"]), (&"refused".into(), &"c-17".into()));
        let reason = refused["reason"].as_str().unwrap();
        assert!(reason.contains("on plc7/a/set"), "{is_under_way}: {reason}");
        rig.assert_quiet("plc7").await;
    }
    confirm(first);
    rig.outcome("plc7/a", |outcome| outcome["outcome"] == "confirmed").await;
    rig.send("plc7/b", r#"{"value":2,"id":"c-17"}"#).await;
    rig.assert_quiet("plc7").await;
    rig.stop().await;
}

/// main.14: whoever commanded must not take the end of an adapter for a command that was not carried out.
#[tokio::test]
async fn main_14_an_adapter_that_ends_may_have_carried_out_its_commands() {
    let mut rig = Rig::start(&["plc7"]);
    rig.send("plc7/a", "1").await;
    drop(rig.next("plc7").await);
    let outcome = rig.outcome("plc7/a", |_| true).await;
    assert_eq!(outcome["outcome"], "refused");
    let reason = outcome["reason"].as_str().unwrap();
    assert!(reason.contains("may have been carried out"), "{reason}");
    rig.stop().await;
}
