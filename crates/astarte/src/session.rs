//! What a device says at the beginning of a connection and after it, and what it must remember (section 9).
//!
//! The far side keeps a session with the device's introspection, its properties and what is queued for it. Whether both
//! still mean the same is known only where the far side says that it has the session *and* a handshake was brought to
//! its end in it. That is noted durably after the handshake and taken back, durably, before each CONNECT: a device that
//! dies in between says everything once more.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use thiserror::Error;
use tidegate_model::{Qos, Timestamp, Topic, TopicFilter, Value};

use crate::{
    Certainty, Content, Device, Incoming, Interfaces, Ownership, PayloadError, PurgeError, Routes,
    decode, encode, read_list,
    refusal::{Doubt, Refused},
    table::{BYTES_MAX, PROPERTIES_MAX, Table},
    write_list,
};

/// What a session remembers, by name.
pub type Kept = BTreeMap<Vec<u8>, Vec<u8>>;

/// Everything about a device that its configuration says.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Who it is.
    pub device: Device,
    /// What it says and hears.
    pub interfaces: Interfaces,
    /// Of and for which topics.
    pub routes: Routes,
}

/// A message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where.
    pub topic: Topic,
    /// What; nothing to unset a property.
    pub payload: Vec<u8>,
    /// How surely.
    pub qos: Qos,
}

/// Something to remember from now on, or to forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// The name under which it is kept.
    pub name: Vec<u8>,
    /// What; `None` to forget.
    pub value: Option<Vec<u8>>,
}

/// What to do next at the beginning of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Subscribe with QoS 2, and say [`Session::step_done`] when that is granted.
    Subscribe(Vec<TopicFilter>),
    /// Publish, and say [`Session::step_done`] when it is released.
    Publish(Message),
    /// Remember this; no answer is awaited.
    Keep(Keep),
    /// Data may go from now on.
    Ready,
    /// The far side does not take this property, as interface and path, with the value that it has; nobody waits for an
    /// answer. It is not said again before the value or the interface changes.
    Refused(String),
}

/// What becomes of a reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Up {
    /// It is published; a property is to be given to [`Session::property_done`] when it has arrived.
    Publish(Message, Option<Property>),
    /// The far side has this value for sure.
    Unchanged,
}

/// A property on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    key: String,
    payload: Vec<u8>,
    /// The how many-eth of the connection it is.
    number: u64,
}

/// Values of one property that are on their way.
#[derive(Debug, Default)]
struct OnTheirWay {
    count: usize,
    /// The number of the latest that has arrived.
    arrived: Option<u64>,
}

/// Why a reading can never go.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UpError {
    /// No way leads from its topic.
    #[error("no map is for this topic")]
    NoWay,
    /// There are too many other properties.
    #[error(
        "there is no room for more properties (at most {PROPERTIES_MAX}, {BYTES_MAX} bytes, and names that fit into a list of 64 KiB)"
    )]
    TooMany,
    /// The list of properties has it between two of them.
    #[error("the path `{0}` of a property holds a `;`")]
    Separator(String),
    /// The topic at the far side would be too long.
    #[error("the topic `{0}` is too long")]
    Topic(String),
    /// The far side has refused this value before.
    #[error("the realm does not take this value of the property {0}")]
    Refused(String),
    /// The far side would not take it.
    #[error("{interface}{path}: {source}")]
    Payload {
        /// The interface.
        interface: String,
        /// The path.
        path: String,
        /// Why.
        source: PayloadError,
    },
}

/// A command that came, and what is to be remembered once it is safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The local topic it is for.
    pub topic: Topic,
    /// What to write; [`Value::Null`] where a property was unset.
    pub value: Value,
    /// What to remember once the command is safe.
    pub keep: Option<Keep>,
}

/// What came down and cannot be used. It is acknowledged all the same: it would only come again.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DownError {
    /// The topic is none of the device's.
    #[error("the topic is none of this device's")]
    Topic,
    /// The device has no such path, or it is not the server's.
    #[error("`{interface}` has no path `{path}` that the server may set")]
    Path {
        /// The interface.
        interface: String,
        /// The path.
        path: String,
    },
    /// There are too many other properties.
    #[error("there is no room for more properties (at most {PROPERTIES_MAX}, {BYTES_MAX} bytes)")]
    TooMany,
    /// No way leads from there.
    #[error("no command is for `{interface}{path}`")]
    NoWay {
        /// The interface.
        interface: String,
        /// The path.
        path: String,
    },
    /// It does not fit the interface.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// The list of properties cannot be read.
    #[error(transparent)]
    Purge(#[from] PurgeError),
}

/// What is kept: that both sides mean the same, with the introspection of that time.
const SYNCHRONISED: &[u8] = b"s";
/// What is kept: a property of the device as the far side has it.
const OURS: u8 = b'p';
/// What is kept: a property of the server as it was commanded here.
const THEIRS: u8 = b'c';
/// What is kept: a property of the device that the far side has refused.
const REFUSED: u8 = b'r';
/// What is kept: what sessions that were lost have in common.
const DOUBT: &[u8] = b"d";
/// What asks the far side for everything that it has set.
const EMPTY_CACHE: &str = "emptyCache";
/// Properties that may be on their way at once during a handshake.
const PIPELINED: usize = 32;

/// One connection of a device, beyond MQTT.
#[derive(Debug)]
pub struct Session {
    setup: Arc<Setup>,
    /// Payloads by interface and path.
    ours: Table,
    theirs: Table,
    /// What was ordered of those and is not safe yet, the latest.
    ordered: BTreeMap<String, Option<Vec<u8>>>,
    was_synchronised: bool,
    has_note: bool,
    steps: VecDeque<Step>,
    /// Steps without an answer.
    open: usize,
    on_their_way: BTreeMap<String, OnTheirWay>,
    /// How many values of properties were sent.
    sent: u64,
    certainty: Certainty,
    /// Whether everything is said at the beginning.
    is_whole: bool,
    refused: Refused,
    doubt: Doubt,
    /// Whether properties are said one by one.
    is_careful: bool,
    /// How often the far side was asked for what it has set, and has not answered.
    asked: usize,
}

impl Session {
    /// Takes up what those before it have kept, and what those before it in this process know for sure.
    pub fn new(setup: Arc<Setup>, kept: &Kept, certainty: Certainty) -> Self {
        let of = |kind: u8| {
            let entries = kept.iter().filter_map(move |(name, value)| {
                let key = name.strip_prefix(&[kind])?;
                Some((String::from_utf8(key.to_vec()).ok()?, value.clone()))
            });
            entries.collect::<BTreeMap<_, _>>()
        };
        let note = kept.get(SYNCHRONISED);
        let introspection = setup.interfaces.introspection();
        let doubt = kept.get(DOUBT).map(|doubt| Doubt::read(doubt)).unwrap_or_default();
        Self {
            ours: Table::new(of(OURS)),
            theirs: Table::new(of(THEIRS)),
            ordered: BTreeMap::new(),
            was_synchronised: note.is_some_and(|note| *note == introspection.as_bytes()),
            has_note: note.is_some(),
            steps: VecDeque::new(),
            open: 0,
            on_their_way: BTreeMap::new(),
            sent: 0,
            certainty,
            is_whole: false,
            refused: Refused::new(of(REFUSED)),
            doubt,
            is_careful: false,
            asked: 0,
            setup,
        }
    }

    /// Returns what is to be durable before CONNECT.
    pub fn begin(&mut self) -> Option<Keep> {
        std::mem::take(&mut self.has_note)
            .then(|| Keep { name: SYNCHRONISED.to_vec(), value: None })
    }

    /// Takes notice of CONNACK.
    pub fn connected(&mut self, session_present: bool) {
        self.steps.clear();
        (self.open, self.asked) = (0, 0);
        let had_doubts = self.doubt != Doubt::default();
        let refused = if session_present { None } else { self.doubt.note_lost() };
        if session_present {
            self.doubt = Doubt::default();
        } else {
            self.steps.push_back(Step::Keep(doubt_note(&self.doubt)));
        }
        self.is_careful = self.doubt.is_careful();
        let refused = refused.filter(|key| self.refuse(key));
        self.is_whole = !(session_present && self.was_synchronised);
        if self.is_whole {
            self.hand_shake();
        }
        let introspection = self.setup.interfaces.introspection();
        let note = Keep { name: SYNCHRONISED.to_vec(), value: Some(introspection.into_bytes()) };
        if self.is_careful || (session_present && had_doubts) {
            // Nothing that was said is in doubt any more.
            self.steps.push_back(Step::Keep(Keep { name: DOUBT.to_vec(), value: None }));
        }
        self.steps.extend([Step::Keep(note), Step::Ready]);
        self.steps.extend(refused.map(Step::Refused));
    }

    /// Says a property no more; returns whether it was said so far.
    fn refuse(&mut self, key: &str) -> bool {
        let (Some(payload), Some(version)) =
            (self.ours.get(key).cloned(), version_of(&self.setup.interfaces, key))
        else {
            return false;
        };
        self.ours.remove(key);
        let entry = Refused::entry(version, &payload);
        let value = self.refused.insert(key, entry.clone()).then_some(entry);
        let refused = Keep { name: name(REFUSED, key), value };
        let gone = Keep { name: name(OURS, key), value: None };
        self.steps.extend([Step::Keep(refused), Step::Keep(gone)]);
        true
    }

    /// Takes those properties up again whose interfaces have changed since they were refused.
    fn take_up_refused(&mut self) {
        let interfaces = &self.setup.interfaces;
        for (key, payload) in self.refused.take_other_versions(|key| version_of(interfaces, key)) {
            self.steps.push_back(Step::Keep(Keep { name: name(REFUSED, &key), value: None }));
            if self.ours.has_room(&key, payload.len()) && self.ours.may_list(&key) {
                let kept = Keep { name: name(OURS, &key), value: Some(payload.clone()) };
                self.steps.push_back(Step::Keep(kept));
                self.ours.insert(key, payload);
            }
        }
    }

    fn hand_shake(&mut self) {
        self.take_up_refused();
        let Setup { device, interfaces, .. } = &*self.setup;
        let has_properties = interfaces.have_properties();
        let consumer = device.control("consumer/properties");
        let consumer = has_properties.then(|| TopicFilter::new(&consumer).ok()).flatten();
        let servers = interfaces.of_server().filter_map(|name| device.filter(name.as_str()));
        let filters: Vec<TopicFilter> = consumer.into_iter().chain(servers).collect();
        if !filters.is_empty() {
            self.steps.push_back(Step::Subscribe(filters));
        }
        let mut publish = |topic: &str, payload: Vec<u8>| {
            if let Ok(topic) = Topic::new(topic) {
                let message = Message { topic, payload, qos: Qos::ExactlyOnce };
                self.steps.push_back(Step::Publish(message));
            }
        };
        publish(device.base(), interfaces.introspection().into_bytes());
        if !has_properties {
            return;
        }
        // What the device no longer has is not told any more.
        let gone: Vec<String> =
            self.ours.keys().filter(|key| !is_property_of(interfaces, key)).cloned().collect();
        let has = |key: &&String| !gone.contains(key);
        publish(&device.control(EMPTY_CACHE), b"1".to_vec());
        let list = write_list(self.ours.keys().filter(has).map(String::as_str));
        publish(&device.control("producer/properties"), list);
        // The suspect first, if there is one.
        let suspect = self.ours.get_key_value(self.doubt.suspect());
        let others = self.ours.iter().filter(|(key, _)| *key != self.doubt.suspect());
        for (key, payload) in suspect.into_iter().chain(others).filter(|(key, _)| has(key)) {
            let Ok(topic) = Topic::new(&format!("{}/{key}", device.base())) else { continue };
            let message = Message { topic, payload: payload.clone(), qos: Qos::ExactlyOnce };
            if self.is_careful {
                self.steps.push_back(Step::Keep(doubt_note(&self.doubt.try_out(key))));
            }
            self.steps.push_back(Step::Publish(message));
            // What is taken lets the next question be answered.
            if let (true, Ok(topic)) = (self.is_careful, Topic::new(&device.control(EMPTY_CACHE))) {
                let message = Message { topic, payload: b"1".to_vec(), qos: Qos::ExactlyOnce };
                self.steps.push_back(Step::Publish(message));
            }
        }
        for key in gone {
            self.ours.remove(&key);
            self.steps.push_back(Step::Keep(Keep { name: name(OURS, &key), value: None }));
        }
    }

    /// Returns what may be done now, if anything.
    pub fn next_step(&mut self) -> Option<Step> {
        let is_property =
            |step: &Step| matches!(step, Step::Publish(message) if self.is_property(message));
        let may = match self.steps.front()? {
            _ if self.is_asking() => false,
            step if is_property(step) && !self.is_careful => self.open < PIPELINED,
            _ => self.open == 0,
        };
        let step = if may { self.steps.pop_front() } else { None }?;
        match &step {
            Step::Subscribe(_) => self.open += 1,
            Step::Publish(message) => {
                self.open += 1;
                self.asked += usize::from(self.is_question(message));
            }
            Step::Ready if self.is_whole => self.certainty.ascertain_all(),
            Step::Keep(_) | Step::Ready | Step::Refused(_) => {}
        }
        Some(step)
    }

    fn is_property(&self, message: &Message) -> bool {
        let topic = self.setup.device.read_topic(message.topic.as_str());
        matches!(topic, Some(Incoming::Data { .. }))
    }

    fn is_question(&self, message: &Message) -> bool {
        message.topic.as_str() == self.setup.device.control(EMPTY_CACHE)
    }

    /// Returns whether the next step waits for the far side to say what it has set.
    pub fn is_asking(&self) -> bool {
        self.is_careful && self.asked > 0
    }

    /// Goes on although the far side has not said what it has set: it may be slow.
    pub fn ask_no_more(&mut self) {
        self.asked = 0;
    }

    /// Takes notice that a step was answered.
    pub fn step_done(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// Returns what is to be published for a reading.
    ///
    /// # Errors
    ///
    /// [`UpError`]: it can never go.
    pub fn up(&mut self, topic: &str, value: &Value, time: Timestamp) -> Result<Up, UpError> {
        let place = self.setup.routes.up(topic).ok_or(UpError::NoWay)?;
        let (name, path) = (place.interface.as_str(), place.path);
        let resolved = self.setup.interfaces.resolve(name, &path);
        let (interface, target) = resolved.ok_or(UpError::NoWay)?;
        let payload = encode(interface, target, value, time).map_err(|source| {
            UpError::Payload { interface: name.to_owned(), path: path.clone(), source }
        })?;
        let far = self.setup.device.topic(name, &path);
        let far = far.ok_or_else(|| UpError::Topic(format!("{name}{path}")))?;
        let property = (interface.content() == Content::Properties).then(|| Property {
            key: format!("{name}{path}"),
            payload: payload.clone(),
            number: self.sent,
        });
        if let Some(property) = &property {
            if self.refused.has(&property.key, interface.version(), &property.payload) {
                return Err(UpError::Refused(property.key.clone()));
            }
            let has = self.ours.get(&property.key).map_or(&[][..], Vec::as_slice);
            if has == property.payload && self.certainty.has(&property.key) {
                return Ok(Up::Unchanged);
            }
            if property.key.contains(';') {
                return Err(UpError::Separator(path));
            }
            let has_room = self.ours.has_room(&property.key, property.payload.len());
            if !has_room || !self.ours.may_list(&property.key) {
                return Err(UpError::TooMany);
            }
            self.on_their_way.entry(property.key.clone()).or_default().count += 1;
            self.sent += 1;
            self.certainty.doubt(&property.key);
        }
        let qos = interface.qos(target.mapping());
        Ok(Up::Publish(Message { topic: far, payload, qos }, property))
    }

    /// Takes notice that a property has arrived, and returns what is to be remembered.
    pub fn property_done(&mut self, property: Property) -> impl Iterator<Item = Keep> + use<> {
        let Property { key, payload, number } = property;
        let mut is_latest = true;
        if let Some(others) = self.on_their_way.get_mut(&key) {
            // They arrive in order; how that is told need not be.
            is_latest = others.arrived.is_none_or(|arrived| arrived < number);
            others.arrived = others.arrived.max(Some(number));
            others.count -= 1;
            if others.count == 0 {
                self.on_their_way.remove(&key);
                self.certainty.ascertain(&key);
            }
        }
        let kept = name(OURS, &key);
        let was_refused = self.refused.remove(&key);
        let refused = was_refused.then(|| Keep { name: name(REFUSED, &key), value: None });
        let value = (!payload.is_empty()).then_some(payload);
        match value.clone().filter(|_| is_latest) {
            Some(payload) => self.ours.insert(key, payload),
            None if is_latest => self.ours.remove(&key),
            None => {}
        }
        is_latest.then_some(Keep { name: kept, value }).into_iter().chain(refused)
    }

    /// Reads what came down: the commands that it stands for, none if it says nothing new.
    ///
    /// # Errors
    ///
    /// [`DownError`]: it cannot be used; acknowledge and forget it.
    pub fn down(&mut self, topic: &str, payload: &[u8]) -> Result<Vec<Order>, DownError> {
        match self.setup.device.read_topic(topic).ok_or(DownError::Topic)? {
            Incoming::ConsumerProperties => {
                self.asked = self.asked.saturating_sub(1);
                self.purge(payload)
            }
            Incoming::OtherControl => Ok(Vec::new()),
            Incoming::Data { interface, path } => self.data(interface, path, payload),
        }
    }

    fn data(&mut self, name: &str, path: &str, payload: &[u8]) -> Result<Vec<Order>, DownError> {
        let resolved = self.setup.interfaces.resolve(name, path);
        let resolved = resolved.filter(|(it, _)| it.ownership() == Ownership::Server);
        let (interface, target) = resolved
            .ok_or_else(|| DownError::Path { interface: name.to_owned(), path: path.to_owned() })?;
        let data = decode(interface, target, payload)?;
        let key = format!("{name}{path}");
        let keep = (interface.content() == Content::Properties).then(|| Keep {
            name: self::name(THEIRS, &key),
            value: data.value.is_some().then(|| payload.to_vec()),
        });
        let latest = match self.ordered.get(&key) {
            Some(ordered) => ordered.as_ref(),
            None => self.theirs.get(&key),
        };
        if let Some(keep) = &keep
            && keep.value.as_ref() == latest
        {
            // Every synchronisation says all properties once more; they are no new commands.
            return Ok(Vec::new());
        }
        if keep.is_some() && !self.theirs.has_room(&key, payload.len()) {
            return Err(DownError::TooMany);
        }
        let topic = self.setup.routes.down(name, path).ok_or_else(|| DownError::NoWay {
            interface: name.to_owned(),
            path: path.to_owned(),
        })?;
        if let Some(keep) = &keep {
            self.ordered.insert(key, keep.value.clone());
        }
        Ok(vec![Order { topic, value: data.value.unwrap_or(Value::Null), keep }])
    }

    fn purge(&self, payload: &[u8]) -> Result<Vec<Order>, DownError> {
        let set = read_list(payload)?;
        let gone = self.theirs.keys().filter(|key| !set.contains(*key));
        let orders = gone.filter_map(|key| {
            let (interface, path) = key.split_at(key.find('/')?);
            let topic = self.setup.routes.down(interface, path)?;
            let keep = Some(Keep { name: name(THEIRS, key), value: None });
            Some(Order { topic, value: Value::Null, keep })
        });
        Ok(orders.collect())
    }

    /// Takes notice that a command is left to the next connection, with what was to be remembered: said again, it is one.
    pub fn order_withheld(&mut self, keep: &Keep) {
        let Some((&THEIRS, key)) = keep.name.split_first() else { return };
        let key = String::from_utf8_lossy(key);
        if self.ordered.get(&*key) == Some(&keep.value) {
            self.ordered.remove(&*key);
        }
    }

    /// Takes notice that a command is safe, with what was to be remembered then.
    pub fn order_done(&mut self, keep: &Keep) {
        let Some((&THEIRS, key)) = keep.name.split_first() else { return };
        let key = String::from_utf8_lossy(key).into_owned();
        if self.ordered.get(&key) == Some(&keep.value) {
            self.ordered.remove(&key);
        }
        match &keep.value {
            Some(value) => self.theirs.insert(key, value.clone()),
            None => self.theirs.remove(&key),
        }
    }
}

/// Returns whether a key stands for a property that the device may set.
fn is_property_of(interfaces: &Interfaces, key: &str) -> bool {
    let Some(at) = key.find('/') else { return false };
    let (name, path) = key.split_at(at);
    interfaces.resolve(name, path).is_some_and(|(interface, _)| {
        interface.content() == Content::Properties && interface.ownership() == Ownership::Device
    })
}

/// Returns the version of the interface of a property that the device may set.
fn version_of(interfaces: &Interfaces, key: &str) -> Option<(u32, u32)> {
    let (interface, _) = key.split_at(key.find('/')?);
    let interface = interfaces.get(interface).filter(|_| is_property_of(interfaces, key))?;
    Some(interface.version())
}

fn doubt_note(doubt: &Doubt) -> Keep {
    Keep { name: DOUBT.to_vec(), value: Some(doubt.write()) }
}

fn name(kind: u8, key: &str) -> Vec<u8> {
    [&[kind][..], key.as_bytes()].concat()
}
