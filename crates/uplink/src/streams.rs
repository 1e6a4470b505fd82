//! The streams of an uplink: their topics and the numbers their readings get.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tidegate_model::Topic;

use crate::{
    keys::{Change, Key, Keys},
    wire::{Input, Malformed, put_number},
};

/// How many streams' numbers are kept under one key.
pub(crate) const PAGE_STREAMS: usize = 64;

/// The stream under whose numbers records are missing whose topic is not known. No topic that
/// telemetry is taken from begins with `$` unless an uplink's `topics` says so.
pub const UNKNOWN_STREAM: &str = "$unknown";

/// Names a stream inside one uplink and epoch; given in the order in which streams first occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u32);

impl StreamId {
    /// Makes the id with this number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    pub(crate) fn get(self) -> u32 {
        self.0
    }

    fn index(self) -> usize {
        usize::try_from(self.0).expect("stream ids fit into memory")
    }

    fn page(self) -> u32 {
        self.0 / u32::try_from(PAGE_STREAMS).expect("a small number")
    }
}

/// Where a stream stands in the batch that is being formed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slot {
    /// The number of the batch that the other members are about.
    pub(crate) batch: u64,
    /// Its place in the batch's list of streams.
    pub(crate) local: u32,
    /// Its last column.
    pub(crate) column: usize,
}

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) topic: Topic,
    /// The number that the next reading gets.
    pub(crate) next: u64,
    /// The number after the last one of a decided batch.
    decided: u64,
    pub(crate) slot: Slot,
}

/// All streams that ever had a number in this epoch.
#[derive(Debug)]
pub(crate) struct Streams {
    ids: HashMap<Topic, StreamId>,
    streams: Vec<Stream>,
    limit: usize,
    /// How many are in the journal.
    saved: usize,
    dirty: BTreeSet<u32>,
}

impl Streams {
    /// Restores the streams from their topics and pages of numbers.
    pub(crate) fn load(
        limit: usize,
        topics: BTreeMap<u32, Topic>,
        pages: &BTreeMap<u32, Vec<u64>>,
    ) -> Result<Self, Malformed> {
        let mut streams = Self {
            ids: HashMap::new(),
            streams: Vec::new(),
            limit,
            saved: topics.len(),
            dirty: BTreeSet::new(),
        };
        for (number, topic) in topics {
            if usize::try_from(number) != Ok(streams.streams.len()) {
                return Err(Malformed);
            }
            let id = streams.insert(topic);
            let numbers = pages.get(&id.page());
            let next = numbers.and_then(|numbers| numbers.get(id.index() % PAGE_STREAMS)).copied();
            let stream = streams.at(id);
            stream.next = next.unwrap_or(1).max(1);
            stream.decided = stream.next;
        }
        Ok(streams)
    }

    /// Returns the stream of `topic`, a new one if need be; `None` if that is one too many.
    #[inline]
    pub(crate) fn id(&mut self, topic: &Topic) -> Option<StreamId> {
        match self.ids.get(topic) {
            Some(id) => Some(*id),
            None if self.streams.len() < self.limit => Some(self.insert(topic.clone())),
            None => None,
        }
    }

    /// Returns the stream for records of unknown topic, whatever the limit.
    pub(crate) fn unknown(&mut self) -> StreamId {
        let topic = Topic::new(UNKNOWN_STREAM).expect("a topic");
        self.ids.get(&topic).copied().unwrap_or_else(|| self.insert(topic))
    }

    pub(crate) fn get(&self, id: StreamId) -> Option<&Stream> {
        self.streams.get(id.index())
    }

    /// Returns a stream that is known to exist.
    #[inline]
    pub(crate) fn at(&mut self, id: StreamId) -> &mut Stream {
        &mut self.streams[id.index()]
    }

    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    /// Takes all numbers given so far as decided.
    pub(crate) fn decide(&mut self, id: StreamId) {
        let stream = self.at(id);
        stream.decided = stream.next;
        self.dirty.insert(id.page());
    }

    /// Takes the numbers before `next` as decided, unless more are.
    pub(crate) fn decide_up_to(&mut self, id: StreamId, next: u64) {
        let stream = self.at(id);
        stream.next = stream.next.max(next);
        stream.decided = stream.decided.max(next);
        self.dirty.insert(id.page());
    }

    /// Adds the topics that the journal does not know yet.
    pub(crate) fn save_topics(&mut self, keys: &Keys, changes: &mut Vec<Change>) {
        for stream in &self.streams[self.saved..] {
            let number = u32::try_from(self.saved).expect("ids are 32 bits wide");
            changes.push(keys.put(Key::Topic(number), stream.topic.as_str().into()));
            self.saved += 1;
        }
    }

    /// Adds the decided numbers that changed since the last time.
    pub(crate) fn save_numbers(&mut self, keys: &Keys, changes: &mut Vec<Change>) {
        for page in std::mem::take(&mut self.dirty) {
            let first = usize::try_from(page).expect("pages fit into memory") * PAGE_STREAMS;
            let last = self.streams.len().min(first + PAGE_STREAMS);
            let mut value = Vec::with_capacity(4 * PAGE_STREAMS);
            for stream in &self.streams[first..last] {
                put_number(&mut value, stream.decided);
            }
            changes.push(keys.put(Key::Numbers(page), value));
        }
    }

    fn insert(&mut self, topic: Topic) -> StreamId {
        let id = StreamId(u32::try_from(self.streams.len()).expect("the limit is far below"));
        self.ids.insert(topic.clone(), id);
        self.streams.push(Stream { topic, next: 1, decided: 1, slot: Slot::default() });
        id
    }
}

/// Reads a page of numbers.
pub(crate) fn read_page(value: &[u8]) -> Result<Vec<u64>, Malformed> {
    let mut input = Input::new(value);
    let mut numbers = Vec::new();
    while input.end().is_err() {
        numbers.push(input.number()?);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use tidegate_model::UplinkName;

    use super::*;

    fn topic(text: &str) -> Topic {
        Topic::new(text).unwrap()
    }

    #[test]
    fn decided_numbers_survive_and_open_ones_do_not() {
        let keys = Keys::new(&UplinkName::new("u").unwrap());
        let mut streams = Streams::load(1_000, BTreeMap::new(), &BTreeMap::new()).unwrap();
        for number in 0..100_u64 {
            let id = streams.id(&topic(&format!("t/{number}"))).unwrap();
            streams.at(id).next += number;
            streams.decide(id);
            streams.at(id).next += 5;
        }
        let mut changes = Vec::new();
        streams.save_topics(&keys, &mut changes);
        streams.save_numbers(&keys, &mut changes);
        let (mut topics, mut pages) = (BTreeMap::new(), BTreeMap::new());
        for change in &changes {
            let Change::Put { key, value } = change else { panic!("nothing is deleted") };
            match keys.parse(key).unwrap() {
                Key::Topic(id) => {
                    topics.insert(id, topic(std::str::from_utf8(value).unwrap()));
                }
                Key::Numbers(page) => {
                    pages.insert(page, read_page(value).unwrap());
                }
                other => panic!("{other:?} is no key of streams"),
            }
        }
        assert_eq!(pages.len(), 2);
        let mut loaded = Streams::load(1_000, topics, &pages).unwrap();
        for number in 0..100_u64 {
            let id = loaded.id(&topic(&format!("t/{number}"))).unwrap();
            assert_eq!(loaded.at(id).next, 1 + number);
        }
        let mut again = Vec::new();
        loaded.save_topics(&keys, &mut again);
        loaded.save_numbers(&keys, &mut again);
        assert_eq!(again, []);
    }

    #[test]
    fn the_number_of_streams_is_bounded() {
        let mut streams = Streams::load(2, BTreeMap::new(), &BTreeMap::new()).unwrap();
        assert!(streams.id(&topic("a")).is_some() && streams.id(&topic("b")).is_some());
        assert_eq!(streams.id(&topic("c")), None);
        assert!(streams.id(&topic("a")).is_some());
        assert_eq!(streams.unknown(), streams.unknown());
    }
}
