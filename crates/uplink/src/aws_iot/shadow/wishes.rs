//! What the cloud desires, on its way to be commanded: each wish once, in the order of the document.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ring::digest;
use tidegate_model::{Topic, Value, json};

use super::{
    document::{self, Delta, Wish},
    setup::ShadowSettings,
};

/// What the names of entries in the journal begin with.
const KEPT: &str = "shadow/";
/// Commands of which is not known whether they are safe, those of earlier connections included.
const OPEN_MAX: usize = 2 * ShadowSettings::STATES_MAX;
const DIGEST_BYTES: usize = 16;

/// Names a command that was handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShadowOrderId(u64);

/// A command to be carried out at most once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowOrder {
    /// By which the gateway tells when it is safe.
    pub id: ShadowOrderId,
    /// The topic of the point.
    pub topic: Topic,
    /// The command, as JSON with `value` and `id`.
    pub body: Vec<u8>,
}

/// An entry that is to be written down before the commands that come behind it are handed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowNote {
    /// Its name.
    pub name: Vec<u8>,
    /// What it says; nothing if it is to be removed.
    pub value: Option<Vec<u8>>,
}

/// The last wish for a key.
///
/// The service tells of it again with each version until it is reported, so the version in which it was first seen names
/// it: time and digest tell whether it is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    version: u64,
    since_s: u64,
    digest: [u8; DIGEST_BYTES],
    /// Whether its command is safe: then it is never handed out again.
    is_safe: bool,
}

impl Known {
    fn new(version: u64, wish: &Wish) -> Self {
        let mut text = Vec::new();
        json::write_value(&wish.value, &mut text);
        let whole = digest::digest(&digest::SHA256, &text);
        let mut digest = [0; DIGEST_BYTES];
        digest.copy_from_slice(&whole.as_ref()[..DIGEST_BYTES]);
        Self { version, since_s: wish.since_s, digest, is_safe: false }
    }

    fn is_same_wish(&self, other: &Self) -> bool {
        (self.since_s, self.digest) == (other.since_s, other.digest)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes.extend_from_slice(&self.since_s.to_be_bytes());
        bytes.extend_from_slice(&self.digest);
        bytes.push(u8::from(self.is_safe));
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first_chunk()?;
        let (since_s, rest) = rest.split_first_chunk()?;
        let (digest, rest) = rest.split_first_chunk()?;
        let is_safe = match rest {
            [0] => false,
            [1] => true,
            _ => return None,
        };
        let (version, since_s) = (u64::from_be_bytes(*version), u64::from_be_bytes(*since_s));
        Some(Self { version, since_s, digest: *digest, is_safe })
    }
}

/// A wish on its way.
#[derive(Clone, Debug)]
struct Line {
    place: usize,
    value: Value,
    known: Known,
    /// Whether nobody could carry it out when it was looked at: it may have been withdrawn since.
    has_waited: bool,
}

/// What may be commanded now. Complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// This.
    Order(ShadowOrder),
    /// Nothing.
    Nothing,
    /// What has waited, once the service says that it is desired still.
    Confirmed,
}

/// The wishes of a shadow.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// By place.
    known: Vec<Option<Known>>,
    waiting: VecDeque<Line>,
    /// The command that the next one waits for.
    awaited: Option<ShadowOrderId>,
    open: BTreeMap<ShadowOrderId, (usize, Known)>,
    next: u64,
    /// The places of which something else is to be written down.
    dirty: BTreeSet<usize>,
    /// Entries that belong to no key any more, by name.
    gone: Vec<Vec<u8>>,
    /// Whether notes are on their way to the disk: what changes meanwhile is written down together, after them.
    is_noting: bool,
}

impl Wishes {
    /// Takes up what the journal holds under the names of [`ShadowNote`]; what belongs to no key any more is removed.
    /// `era` is any number.
    pub(super) fn new<'k>(
        settings: &ShadowSettings,
        kept: impl Iterator<Item = (&'k [u8], &'k [u8])>,
        era: u64,
    ) -> Self {
        let count = settings.states().len();
        let names = (0..count).map(|place| (name(settings, place), place));
        let places: BTreeMap<Vec<u8>, usize> = names.collect();
        // What an earlier machine has handed out has other names.
        let next = era >> 1;
        let mut wishes = Self { known: vec![None; count], next, ..Self::default() };
        for (name, value) in kept.filter(|(name, _)| name.starts_with(KEPT.as_bytes())) {
            match (places.get(name), Known::decode(value)) {
                (Some(place), Some(known)) => wishes.known[*place] = Some(known),
                _ => wishes.gone.push(name.to_vec()),
            }
        }
        wishes
    }

    /// Takes all that is desired and not reported: what waits and is not among it was withdrawn. What is known, and safe
    /// or under way, is not taken again.
    pub(super) fn take(&mut self, delta: Delta) {
        let wished: BTreeSet<usize> = delta.wishes.iter().map(|wish| wish.place).collect();
        self.waiting.retain(|line| wished.contains(&line.place));
        self.waiting.iter_mut().for_each(|line| line.has_waited = false);
        for wish in delta.wishes {
            let place = wish.place;
            let mut new = Known::new(delta.version, &wish);
            match self.known[place].filter(|known| known.is_same_wish(&new)) {
                Some(known) if known.is_safe || self.is_under_way(place, &known) => continue,
                Some(known) => new = known,
                None => {
                    self.known[place] = Some(new);
                    self.dirty.insert(place);
                }
            }
            // The newest wins.
            self.waiting.retain(|line| line.place != place);
            self.waiting.push_back(Line {
                place,
                value: wish.value,
                known: new,
                has_waited: false,
            });
        }
    }

    /// Takes notice that a value is reported now: to wish for it is nothing any more.
    pub(super) fn handle_reported(&mut self, place: usize, value: &Value) {
        self.waiting.retain(|line| line.place != place || !document::is_same(&line.value, value));
    }

    fn is_under_way(&self, place: usize, known: &Known) -> bool {
        let waits = self.waiting.iter().any(|line| line.place == place && line.known == *known);
        let awaited = self.awaited.and_then(|id| self.open.get(&id));
        waits || awaited.is_some_and(|(at, awaited)| *at == place && awaited == known)
    }

    /// Takes all that is to be written down, unless the last of it is not durable yet: so it is no more than one note for
    /// each key, however fast wishes change.
    pub(super) fn poll_notes(&mut self, settings: &ShadowSettings) -> Vec<ShadowNote> {
        if self.is_noting || !self.has_notes() {
            return Vec::new();
        }
        self.is_noting = true;
        let gone = std::mem::take(&mut self.gone);
        let gone = gone.into_iter().map(|name| ShadowNote { name, value: None });
        let known = std::mem::take(&mut self.dirty).into_iter().map(|place| ShadowNote {
            name: name(settings, place),
            value: self.known[place].as_ref().map(Known::encode),
        });
        gone.chain(known).collect()
    }

    /// Takes notice that the notes that were taken are durable.
    pub(super) fn handle_noted(&mut self) {
        self.is_noting = false;
    }

    fn has_notes(&self) -> bool {
        !self.dirty.is_empty() || !self.gone.is_empty()
    }

    /// Returns the next command that somebody can carry out, once the one before is safe: so they are carried out in the
    /// order of the document.
    pub(super) fn poll_order(
        &mut self,
        settings: &ShadowSettings,
        is_heard: impl Fn(&Topic) -> bool,
    ) -> Next {
        if self.awaited.is_some() || self.has_notes() {
            return Next::Nothing;
        }
        let mut next = None;
        for (at, line) in self.waiting.iter_mut().enumerate() {
            if is_heard(&settings.states()[line.place].topic) {
                next = next.or(Some(at));
            } else {
                line.has_waited = true;
            }
        }
        let Some(next) = next else { return Next::Nothing };
        if self.waiting[next].has_waited {
            return Next::Confirmed;
        }
        self.waiting.remove(next).map_or(Next::Nothing, |line| self.order(line, settings))
    }

    fn order(&mut self, line: Line, settings: &ShadowSettings) -> Next {
        self.next += 1;
        let id = ShadowOrderId(self.next);
        self.awaited = Some(id);
        self.open.insert(id, (line.place, line.known));
        if self.open.len() > OPEN_MAX {
            self.open.pop_first();
        }
        let state = &settings.states()[line.place];
        let Known { version, since_s, .. } = line.known;
        let name = format!("shadow:{}:{version}:{since_s}:{}", settings.shown_name(), state.key);
        let mut body = Vec::from(r#"{"value":"#);
        json::write_value(&line.value, &mut body);
        body.extend_from_slice(br#","id":"#);
        json::write_string(&name, &mut body);
        body.push(b'}');
        Next::Order(ShadowOrder { id, topic: state.topic.clone(), body })
    }

    /// Returns how many wishes wait, for those before them or for somebody who can carry them out.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Returns whether those that wait do so because nobody can carry them out.
    pub(super) fn is_unheard(&self) -> bool {
        self.awaited.is_none() && !self.has_notes() && !self.waiting.is_empty()
    }

    /// Takes notice that a command will not be forgotten any more, or was answered. Returns whether that is new.
    pub(super) fn handle_safe(&mut self, id: ShadowOrderId) -> bool {
        let Some((place, order)) = self.open.remove(&id) else { return false };
        if self.awaited == Some(id) {
            self.awaited = None;
        }
        if let Some(known) = &mut self.known[place]
            && *known == order
        {
            known.is_safe = true;
            self.dirty.insert(place);
        }
        true
    }

    /// Takes notice that nobody took a command; those behind it wait for the next look at the document. Returns
    /// whether that is to be had.
    pub(super) fn handle_withheld(&mut self, id: ShadowOrderId) -> bool {
        self.open.remove(&id);
        if self.awaited != Some(id) {
            return false;
        }
        self.awaited = None;
        self.waiting.clear();
        true
    }

    /// Forgets what is on its way; all of it is told again.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.awaited = None;
    }
}

fn name(settings: &ShadowSettings, place: usize) -> Vec<u8> {
    format!("{KEPT}{}{}", settings.prefix(), settings.states()[place].key).into_bytes()
}
