//! What rules remember as bytes: saved now and then, so that a restart begins where it was.

use std::sync::Arc;

use tidegate_model::Topic;

use crate::{
    Rules,
    anomaly::AnomalyState,
    memory::{Entry, Last, State},
    plan::Plan,
    swinging_door::DoorState,
    window::WindowState,
    wire::{Input, Malformed, put_bytes, put_number, put_time, put_unit, put_value},
};

const VERSION: u8 = 1;
const WINDOW: u8 = 0;
const DOOR: u8 = 1;
const ANOMALY: u8 = 2;

/// What has changed since the last [`Rules::save`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What is not about single topics; it is always there.
    pub head: Vec<u8>,
    /// What is remembered of topics, by number.
    pub topics: Vec<(u64, Vec<u8>)>,
    /// Numbers under which nothing is remembered any more.
    pub gone: Vec<u64>,
}

/// What became of what was saved. Complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// All of it is there again.
    All,
    /// The rules are others now: what waited is given up, what last went out is forgotten; what is ordinary
    /// stays where the rule for it is the same.
    Renewed,
}

impl Rules {
    /// Returns whether any rule remembers anything at all.
    pub fn remembers(&self) -> bool {
        self.rules.iter().any(|rule| match &rule.action {
            crate::Action::Thin(thinning) => thinning.compares(),
            crate::Action::Exclude | crate::Action::Convert(_) => false,
            _ => true,
        })
    }

    /// Returns how much [`save`](Self::save) would return: topics, and numbers that are gone.
    pub fn changes(&self) -> usize {
        self.memory.changes()
    }

    /// Returns about how many bytes that would be.
    pub fn changed_bytes(&self) -> usize {
        self.memory.dirty_bytes()
    }

    /// Returns what has changed since the last call.
    pub fn save(&mut self) -> Changes {
        let mut head = vec![VERSION];
        put_number(&mut head, self.memory.generation);
        put_number(&mut head, self.rules.len() as u64);
        for rule in &self.rules {
            put_bytes(&mut head, rule.name.as_str().as_bytes());
            head.extend_from_slice(&rule.fingerprint().to_le_bytes());
        }
        let topics = self.memory.take_dirty();
        let topics = topics.into_iter().map(|entry| (entry.slot, encode(entry))).collect();
        Changes { head, topics, gone: self.memory.take_gone() }
    }

    /// Fills the memory, which is empty, with what was saved: the last head, and what is remembered of
    /// each topic, in the order of the numbers.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the bytes were not saved by rules.
    pub fn restore<'s>(
        &mut self,
        head: &[u8],
        topics: impl IntoIterator<Item = (u64, &'s [u8])>,
    ) -> Result<Restored, Malformed> {
        let mut input = Input::new(head);
        if input.byte()? != VERSION {
            return Err(Malformed);
        }
        self.memory.generation = input.number()?;
        // For each rule then: which one it is now, if it is the same.
        let mut now = Vec::new();
        for _ in 0..input.number()? {
            let (name, fingerprint) = (input.text()?, input.fingerprint()?);
            now.push(
                self.rules.iter().position(|rule| {
                    rule.name.as_str() == name && rule.fingerprint() == fingerprint
                }),
            );
        }
        input.end()?;
        let is_same = now.len() == self.rules.len()
            && now.iter().enumerate().all(|(index, now)| *now == Some(index));
        for (slot, bytes) in topics {
            match self.decode(bytes, slot, &now, is_same)? {
                Some(entry) => {
                    let id = self.memory.insert(entry);
                    if !is_same {
                        self.memory.note_change(id);
                    }
                }
                None => self.memory.note_gone(slot),
            }
        }
        self.memory.doom();
        self.reset_wake();
        Ok(if is_same { Restored::All } else { Restored::Renewed })
    }

    /// Reads what is remembered of a topic; `None` if none of it is of use.
    fn decode(
        &self,
        bytes: &[u8],
        slot: u64,
        now: &[Option<usize>],
        is_same: bool,
    ) -> Result<Option<Entry>, Malformed> {
        let mut input = Input::new(bytes);
        let generation = input.number()?;
        let topic = Topic::new(input.text()?).map_err(|_| Malformed)?;
        let plan = Arc::new(Plan::new(&self.rules, &topic));
        let mut entry = Entry::new(topic, plan, &self.rules);
        (entry.slot, entry.generation) = (slot, generation);
        for place in 0..usize::try_from(input.number()?).map_err(|_| Malformed)? {
            let last = if input.byte()? == 0 { None } else { Some(decode_last(&mut input)?) };
            if is_same {
                *entry.lasts.get_mut(place).ok_or(Malformed)? = last;
            }
        }
        for _ in 0..input.number()? {
            let rule = usize::try_from(input.number()?).map_err(|_| Malformed)?;
            let state = decode_state(&mut input)?;
            let Some(rule) = *now.get(rule).ok_or(Malformed)? else { continue };
            let place = entry.plan.states.iter().position(|known| *known == rule);
            if let Some(place) = place
                && (is_same || matches!(state, State::Anomaly(_)))
            {
                entry.states[place] = state;
            }
        }
        input.end()?;
        if generation > self.memory.generation {
            return Err(Malformed);
        }
        Ok(entry.plan.remembers().then_some(entry))
    }
}

fn encode(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + entry.topic.as_str().len());
    put_number(&mut bytes, entry.generation);
    put_bytes(&mut bytes, entry.topic.as_str().as_bytes());
    put_number(&mut bytes, entry.lasts.len() as u64);
    for last in &entry.lasts {
        bytes.push(u8::from(last.is_some()));
        if let Some(last) = last {
            put_value(&mut bytes, &last.value);
            put_unit(&mut bytes, last.unit.as_ref());
            bytes.extend_from_slice(&last.status.code().to_le_bytes());
            put_time(&mut bytes, last.time);
        }
    }
    put_number(&mut bytes, entry.states.len() as u64);
    for (rule, state) in entry.plan.states.iter().zip(&entry.states) {
        put_number(&mut bytes, *rule as u64);
        match state {
            State::Window(state) => {
                bytes.push(WINDOW);
                state.encode(&mut bytes);
            }
            State::Door(state) => {
                bytes.push(DOOR);
                state.encode(&mut bytes);
            }
            State::Anomaly(state) => {
                bytes.push(ANOMALY);
                state.encode(&mut bytes);
            }
        }
    }
    bytes
}

fn decode_last(input: &mut Input<'_>) -> Result<Last, Malformed> {
    Ok(Last {
        value: input.value()?,
        unit: input.unit()?,
        status: input.status()?,
        time: input.time()?,
    })
}

fn decode_state(input: &mut Input<'_>) -> Result<State, Malformed> {
    match input.byte()? {
        WINDOW => WindowState::decode(input).map(State::Window),
        DOOR => DoorState::decode(input).map(State::Door),
        ANOMALY => AnomalyState::decode(input).map(State::Anomaly),
        _ => Err(Malformed),
    }
}
