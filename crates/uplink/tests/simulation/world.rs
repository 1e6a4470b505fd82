//! A gateway of one uplink, driven step by step.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tidegate_model::{
    AdapterName, Message, Origin, Payload, Presentation, Principal, Properties, Qos, Reading,
    Timestamp, Topic, UplinkName, Value,
};
use tidegate_rules::MemoryLimits;
use tidegate_store::{
    Damage, Item, Journal, JournalOptions, Position, Reader, Seq, TakerId, Transaction, record,
    simulation::{Fate, Random, SimulatedDisk},
};
use tidegate_uplink::{
    BatchLimits, Change, Compression, Core, Disconnect, Format, Ledger, Load, Now, Profile,
    Settings, TimeUnit, TopicTemplate, WhenFull, Write, renew, saved_books,
};

use crate::{
    cloud::{Answer, Cloud, Temper},
    rules::RulePlan,
};

const TAKER: TakerId = TakerId::new(3);
const TOPICS: u64 = 7;
/// A value that is a multiple of this, and not of twice it, is poison.
const POISON: i64 = 1 << 40;

/// What happens in a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) temper: Temper,
    pub(crate) records: u64,
    pub(crate) crash_permille: u64,
    pub(crate) rules: RulePlan,
    pub(crate) with_expiry: bool,
    pub(crate) per_reading: bool,
    pub(crate) damage: bool,
    /// Every so many records one is poison; 0 for none.
    pub(crate) poison_every: u64,
    pub(crate) max_bytes: u64,
    pub(crate) when_full: WhenFull,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            temper: Temper::calm(),
            records: 300,
            crash_permille: 25,
            rules: RulePlan::None,
            with_expiry: false,
            per_reading: false,
            damage: false,
            poison_every: 0,
            max_bytes: 1 << 30,
            when_full: WhenFull::DropOldest,
        }
    }
}

/// Returns whether the clouds that cannot stand poison refuse this value.
pub(crate) fn is_poison(value: &Value) -> bool {
    matches!(value, Value::Integer(number) if *number >= POISON)
}

pub(crate) struct World {
    plan: Plan,
    random: Random,
    disk: SimulatedDisk,
    journal: Journal<SimulatedDisk>,
    reader: Reader<SimulatedDisk>,
    items: Vec<Item>,
    core: Core,
    pub(crate) cloud: Cloud,
    pub(crate) ledger: Ledger,
    queued_bytes: u64,
    is_connected: bool,
    now: Now,
    /// Records appended, durable or not, with their values; the ordinal is the place.
    appended: Vec<i64>,
    next_seq: Seq,
    next_ordinal: u64,
    /// What was durable, in order.
    durable: Vec<(String, i64)>,
    pending: Vec<(String, i64)>,
    /// Writes that the journal has and that are not durable.
    written: Vec<Write>,
    pub(crate) lose_one_item: Option<u64>,
    has_lost: bool,
    pub(crate) stale_boots: u64,
    /// Whether the reader found nothing more the last time.
    has_read_all: bool,
    items_seen: u64,
    boots: u64,
    /// How often it was started anew while readings waited in rules.
    pub(crate) restarts_with_held: u64,
}

impl World {
    pub(crate) fn new(seed: u64, plan: Plan) -> Self {
        let disk = SimulatedDisk::new();
        let (journal, recovery) = Journal::open(disk.clone(), options()).unwrap();
        let now = Now {
            elapsed: Duration::ZERO,
            wall: Timestamp::from_unix_millis(1_772_366_400_000),
            steady: Timestamp::from_unix_millis(1_772_366_400_000),
            wall_is_trusted: true,
        };
        let core = Core::open(settings(&plan, 0), [], now).unwrap();
        Self {
            reader: journal.catalog().reader(TAKER, Position::START),
            plan,
            random: Random::new(seed),
            disk,
            journal,
            items: Vec::new(),
            core,
            cloud: Cloud::default(),
            ledger: Ledger::default(),
            queued_bytes: 0,
            is_connected: false,
            now,
            appended: Vec::new(),
            next_seq: recovery.next_seq,
            next_ordinal: 1,
            durable: Vec::new(),
            pending: Vec::new(),
            written: Vec::new(),
            lose_one_item: None,
            has_lost: false,
            stale_boots: 0,
            has_read_all: false,
            items_seen: 0,
            boots: 0,
            restarts_with_held: 0,
        }
    }

    /// Runs until all records are appended and everything is settled.
    pub(crate) fn run(&mut self) {
        while (self.appended.len() as u64) < self.plan.records {
            self.step();
        }
        // From here on the cloud is patient, or nothing would ever end.
        self.plan.temper = Temper { poison: self.plan.temper.poison, ..Temper::calm() };
        self.plan.crash_permille = 0;
        for _ in 0..20_000 {
            self.step();
            if self.is_settled() {
                return;
            }
        }
        panic!("the uplink does not come to rest: {:?} {:?}", self.core.status(), self.ledger);
    }

    fn is_settled(&self) -> bool {
        self.pending.is_empty()
            && self.written.is_empty()
            && self.items.is_empty()
            && self.core.is_idle()
            && self.core.position().ordinal + 1 == self.next_ordinal
            && self.ledger.queued == 0
    }

    fn roll(&mut self, permille: u64) -> bool {
        self.random.below(1_000) < permille
    }

    fn step(&mut self) {
        self.now.elapsed += Duration::from_millis(self.random.below(400));
        self.now.wall = self.now.wall.saturating_add(Duration::from_millis(100));
        self.now.steady = self.now.steady.saturating_add(Duration::from_millis(100));
        if self.roll(self.plan.crash_permille) {
            return self.crash();
        }
        match self.random.below(8) {
            0 | 1 => self.append(),
            2 => self.commit(),
            3 | 4 => self.read(),
            5 => self.write(),
            6 => self.connect_or_send(),
            _ => self.listen(),
        }
        let now = self.now;
        let load = Load { queued_bytes: self.queued_bytes, store_is_tight: false };
        self.core.handle_load(load, now);
        self.core.handle_timeout(now);
        if self.has_read_all && self.items.is_empty() {
            self.core.handle_idle(now);
        }
    }

    fn append(&mut self) {
        let load = Load { queued_bytes: self.queued_bytes, store_is_tight: false };
        if self.appended.len() as u64 >= self.plan.records || self.core.refuses(load) {
            return;
        }
        let mut transaction = Transaction::new();
        for _ in 0..=self.random.below(4) {
            let number = i64::try_from(self.appended.len()).unwrap() + 1;
            let every = self.plan.poison_every;
            let is_poison = every > 0 && number.unsigned_abs() % every == 0;
            let value = if is_poison { POISON + number } else { number };
            let topic = format!("t/{}", self.random.below(TOPICS));
            let mut body = Vec::new();
            record::encode_message(&self.message(&topic, value), &mut body).unwrap();
            if self.random.below(4) == 0 {
                // Somebody else's record lies in between.
                self.next_seq = self.next_seq.next();
            }
            let takers = [(TAKER, self.next_ordinal)];
            transaction.append(self.next_seq, &takers, &body).unwrap();
            self.next_seq = self.next_seq.next();
            self.next_ordinal += 1;
            self.appended.push(value);
            self.pending.push((topic, value));
            self.ledger.note_appended(self.next_ordinal - 1);
            self.queued_bytes += body.len() as u64;
        }
        self.journal.write([&transaction]);
    }

    fn message(&mut self, topic: &str, value: i64) -> Message {
        let arrival = self.now.wall;
        let expires = (self.plan.with_expiry && self.random.below(3) == 0)
            .then(|| arrival.saturating_add(Duration::from_secs(self.random.below(20))));
        let properties = expires.map(|expires| {
            Arc::new(Properties { expires: Some(expires), ..Properties::default() })
        });
        let payload = if self.random.below(2) == 0 {
            Payload::bytes(value.to_string().into_bytes())
        } else {
            let origin = Origin { adapter: AdapterName::new("sim").unwrap() };
            let reading = Reading::new(Value::Integer(value), arrival, origin);
            Payload::reading(reading, Presentation::Envelope)
        };
        Message {
            topic: Topic::new(topic).unwrap(),
            payload,
            qos: Qos::AtLeastOnce,
            retain: false,
            properties,
            publisher: Principal::anonymous(),
            arrival,
        }
    }

    fn commit(&mut self) {
        self.journal.commit().unwrap();
        self.durable.append(&mut self.pending);
        self.has_read_all = false;
        for write in std::mem::take(&mut self.written) {
            self.core.handle_written(write.id, self.now);
            if let Some(moved) = write.moved {
                self.ledger.note_moved(moved.records, moved.held, &moved.outcomes);
                self.queued_bytes -= moved.bytes;
                self.journal.release(moved.needed.seq.next()).unwrap();
            }
        }
    }

    fn read(&mut self) {
        for _ in 0..=self.random.below(40) {
            if !self.core.wants_items() {
                return;
            }
            if self.items.is_empty() {
                self.items = self.reader.next_block(16, 4_096).unwrap();
                self.items.reverse();
                self.has_read_all = self.items.is_empty();
            }
            let Some(item) = self.items.pop() else { return };
            self.items_seen += 1;
            if self.lose_one_item == Some(self.items_seen) {
                self.lose_one_item = None;
                self.has_lost = true;
                continue;
            }
            self.core.handle_item(&item, self.now);
        }
    }

    fn write(&mut self) {
        while let Some(write) = self.core.poll_write() {
            let mut transaction = Transaction::new();
            for change in &write.changes {
                put(&mut transaction, change);
            }
            self.journal.write([&transaction]);
            self.written.push(write);
        }
    }

    fn connect_or_send(&mut self) {
        if !self.is_connected {
            if self.roll(self.plan.temper.connected_permille) {
                self.is_connected = true;
                self.core.handle_connected(usize::MAX, self.now);
            }
            return;
        }
        while let Some(message) = self.core.poll_send() {
            self.cloud.send(message);
        }
    }

    fn listen(&mut self) {
        if !self.is_connected {
            return;
        }
        for _ in 0..4 {
            match self.cloud.step(&self.plan.temper, &mut self.random) {
                None => {}
                Some(Answer::Acks(id, ack)) => self.core.handle_ack(id, ack),
                Some(Answer::Closes) => {
                    self.cloud.disconnect(&mut self.random);
                    self.is_connected = false;
                    // It is a while until the next attempt.
                    self.now.elapsed += Duration::from_secs(30);
                    self.core.handle_disconnected(Disconnect::Closed, self.now);
                    return;
                }
            }
        }
        // A patient observer's deadline: what was lost is sent again on another connection.
        if self.core.status().in_flight > 0 && self.random.below(10) == 0 {
            self.cloud.disconnect(&mut self.random);
            self.is_connected = false;
            self.core.handle_disconnected(Disconnect::Otherwise, self.now);
        }
    }

    /// Cuts the power and starts again from what is on the disk.
    fn crash(&mut self) {
        let fate = match self.random.below(3) {
            0 => Fate::Kept,
            1 => Fate::Dropped,
            _ => Fate::Torn { seed: self.random.next_u64(), block_bytes: 512 },
        };
        self.disk = self.disk.power_cut(fate);
        if self.plan.damage && self.random.below(3) == 0 {
            self.damage();
        }
        let (journal, recovery) = Journal::open(self.disk.clone(), options()).unwrap();
        self.journal = journal;
        self.boots += 1;
        let settings = settings(&self.plan, self.boots);
        let mut state: BTreeMap<Vec<u8>, Vec<u8>> =
            recovery.state.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        let all = recovery.damages.iter().chain(&recovery.unsettled);
        let damages: Vec<&Damage> = all.filter(|damage| damage.may_have_lost()).collect();
        if recovery.state_may_be_stale || !damages.is_empty() {
            // Until this is durable, the next start does it again.
            self.stale_boots += 1;
            let mut transaction = Transaction::new();
            for damage in &damages {
                transaction.settle(damage.id).unwrap();
            }
            let changes =
                renew(&settings.name, pairs(&state), settings.epoch, self.random.next_u64());
            for change in changes.unwrap() {
                put(&mut transaction, &change);
                match change {
                    Change::Put { key, value } => drop(state.insert(key, value)),
                    Change::Delete { key } => drop(state.remove(&key)),
                }
            }
            self.journal.write([&transaction]);
            self.journal.commit().unwrap();
        }
        self.core = Core::open(settings, pairs(&state), self.now).unwrap();
        let books = saved_books(&self.core.settings().name, pairs(&state)).unwrap();
        assert_eq!(self.core.cursor(), books.cursor);
        let reads_from = self.core.position().ordinal;
        assert!((books.needed.ordinal..=books.cursor.ordinal).contains(&reads_from));
        self.has_read_all = false;
        self.restarts_with_held += u64::from(books.held > 0);
        self.cloud.disconnect(&mut self.random);
        self.is_connected = false;
        self.written.clear();
        self.items.clear();
        // What was not durable may have survived; then it counts as durable.
        let received = recovery.positions.get(&TAKER).copied().unwrap_or_default();
        let received_before = self.durable.len();
        let survived = usize::try_from(received.ordinal).unwrap();
        assert!(survived >= received_before || self.plan.damage, "durable records are gone");
        self.durable.append(&mut self.pending);
        self.durable.truncate(survived);
        self.appended.truncate(usize::try_from(received.ordinal).unwrap());
        self.next_ordinal = received.ordinal + 1;
        self.next_seq = recovery.next_seq;
        self.reader = self.journal.catalog().reader(TAKER, self.core.position());
        let audit = self.journal.catalog().reader(TAKER, self.core.cursor()).audit().unwrap();
        self.queued_bytes = audit.bytes;
        self.ledger = Ledger {
            received: received.ordinal,
            outcomes: self.core.totals().clone(),
            queued: audit.records + audit.damaged + books.held,
            held: books.held,
            unreadable: audit.damaged,
        };
        if !self.has_lost {
            assert!(self.ledger.is_balanced(), "after a restart: {:?}", self.ledger);
        }
    }

    /// Changes one byte somewhere in the older half of the newest segment.
    fn damage(&mut self) {
        use tidegate_store::FileSystem as _;
        let mut names = self.disk.list().unwrap();
        names.retain(|name| name.ends_with(".log") || name.contains("segment"));
        names.sort();
        let Some(name) = names.pop() else { return };
        let mut contents = self.disk.contents(&name).unwrap();
        let half = contents.len() as u64 / 2;
        let at = usize::try_from(self.random.below(half.max(1))).unwrap();
        if let Some(byte) = contents.get_mut(at) {
            *byte ^= 0x40;
        }
        self.disk.set_contents(&name, contents);
    }

    /// Returns how many records became durable.
    pub(crate) fn durable_records(&self) -> u64 {
        self.durable.len() as u64
    }

    /// Returns how many of the durable records are poison.
    pub(crate) fn poisonous_records(&self) -> u64 {
        let values = self.durable.iter();
        values.filter(|(_, value)| is_poison(&Value::Integer(*value))).count() as u64
    }

    pub(crate) fn check_at_the_end(&self) {
        let (ledger, cloud) = (&self.ledger, &self.cloud);
        assert!(ledger.is_balanced(), "{ledger:?}");
        assert_eq!(ledger.queued, 0);
        assert_eq!(ledger.received, self.next_ordinal - 1);
        let audit = self.journal.catalog().reader(TAKER, self.core.cursor()).audit().unwrap();
        assert_eq!(audit.records, ledger.queued, "the audit agrees");
        // What was decided in an epoch that ended may never have been sent in it.
        if !self.plan.per_reading && self.stale_boots == 0 {
            cloud.check_numbers();
        }
        if self.plan.rules.makes() {
            return self.check_what_rules_made();
        }
        // In each stream the values come in the order in which they were appended, each at most once.
        let mut last: BTreeMap<&str, i64> = BTreeMap::new();
        for ((_, stream, _), reading) in &cloud.readings {
            let Value::Integer(value) = reading.value else {
                panic!("only integers were appended")
            };
            let value = if value >= POISON { value - POISON } else { value };
            let before = last.insert(stream, value).unwrap_or(0);
            if self.stale_boots > 0 {
                // Epochs have no order here.
                continue;
            }
            assert!(before < value, "{stream}: {value} comes after {before}");
        }
        assert!(cloud.readings.len() as u64 >= ledger.outcomes.delivered);
        let accounted = ledger.outcomes.total();
        assert_eq!(accounted, self.next_ordinal - 1, "every record is accounted for");
        let there: BTreeSet<i64> = cloud.readings.values().map(|it| integer(&it.value)).collect();
        let missing = self.durable.iter().filter(|(_, value)| !there.contains(value)).count();
        assert!(missing as u64 <= accounted - ledger.outcomes.delivered, "{missing} are missing");
        if ledger.outcomes.total() == ledger.outcomes.delivered && self.stale_boots == 0 {
            let mut durable: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
            for (topic, value) in &self.durable {
                durable.entry(topic).or_default().push(*value);
            }
            for (topic, values) in durable {
                let there: Vec<i64> = cloud
                    .readings
                    .iter()
                    .filter(|((_, stream, _), _)| stream == topic)
                    .map(|(_, reading)| integer(&reading.value))
                    .collect();
                assert_eq!(there, values, "{topic}");
            }
        }
    }
}

impl World {
    /// Checks the figures of windows against the books, and that only what was appended is told.
    fn check_what_rules_made(&self) {
        let (outcomes, cloud) = (&self.ledger.outcomes, &self.cloud);
        assert!(cloud.readings.len() as u64 >= outcomes.delivered);
        assert_eq!(outcomes.total(), self.next_ordinal - 1 + outcomes.made_total());
        let mut counted = 0;
        for ((_, stream, _), reading) in &cloud.readings {
            if stream.ends_with("/count") {
                counted += u64::try_from(integer(&reading.value)).unwrap();
            }
        }
        let summed_up = outcomes.filtered.get("sum").copied().unwrap_or_default();
        let lost = outcomes.dropped.values().sum::<u64>();
        if self.plan.rules == RulePlan::Holding && self.stale_boots == 0 && lost == 0 {
            assert_eq!(counted, summed_up, "each reading of a window is in one figure");
        } else {
            assert!(counted < self.next_ordinal, "no reading is in two figures");
        }
    }
}

fn pairs(state: &BTreeMap<Vec<u8>, Vec<u8>>) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
    state.iter().map(|(key, value)| (key.as_slice(), value.as_slice()))
}

fn put(transaction: &mut Transaction, change: &Change) {
    match change {
        Change::Put { key, value } => transaction.put(key, value).unwrap(),
        Change::Delete { key } => transaction.delete(key).unwrap(),
    }
}

fn integer(value: &Value) -> i64 {
    match value {
        Value::Integer(number) => *number,
        other => panic!("only integers were appended, not {other}"),
    }
}

fn options() -> JournalOptions {
    JournalOptions { segment_bytes: 8_192, ..JournalOptions::new(0x5eed) }
}

fn settings(plan: &Plan, boots: u64) -> Settings {
    // Other batches after every start: what was decided before goes out in the shape of now.
    let is_tight = boots % 2 == 1;
    let format = match (plan.per_reading, is_tight) {
        (true, _) => Format::Message,
        (false, true) => Format::Packed,
        (false, false) => Format::Columns,
    };
    let wire_bytes = is_tight.then_some(220);
    let topic = if plan.per_reading { "up/{topic}" } else { "up/{encoding}" };
    Settings {
        gateway: "gw".into(),
        name: UplinkName::new("cloud").unwrap(),
        epoch: 7,
        rules: plan.rules.at(boots),
        rule_memory: MemoryLimits { topics: 4, bytes: 1 << 20 },
        format,
        time_unit: TimeUnit::Millis,
        compression: Compression::default(),
        topic: TopicTemplate::new(topic, "gw", format).unwrap(),
        batch: BatchLimits { readings: 9, bytes: 1_024, wire_bytes, ..BatchLimits::default() },
        when_full: plan.when_full,
        max_bytes: plan.max_bytes,
        profile: Profile::Mqtt,
        max_age: None,
        recovered: 0,
        streams_max: 1_000,
    }
}
