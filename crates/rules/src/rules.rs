//! All rules of one uplink, in file order, with their memory.

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use tidegate_model::{Reading, Timestamp, Topic};

use crate::{
    Action, Effects, Made, MemoryLimits, Rule, Verdict,
    memory::{Entry, Found, Last, Memory, State},
    plan::Step,
    swinging_door::{Corner, Swung},
    window::{Ended, Taken},
};

/// After the clock was heeded, it is not heeded again for so many microseconds: windows that end one
/// after the other cost one look at all topics.
const PAUSE_MICROS: i64 = 200_000;

/// The clock ends no more once so many readings were made.
const MADE_AT_A_TIME: usize = 256;

/// The rules of one uplink, in file order, and what they remember.
///
/// A reading goes from rule to rule; the first that takes it out, or in which it waits, is the last. What
/// a rule makes goes on through the rules after it, by its own topic, but not into windows and swinging
/// doors.
#[derive(Debug)]
pub struct Rules {
    pub(crate) rules: Vec<Rule>,
    pub(crate) memory: Memory,
    /// The name of each rule, each followed by the one under which it counts late readings.
    names: Vec<Arc<str>>,
    /// Nothing is due by the clock before.
    wake: Option<Timestamp>,
    queue: VecDeque<Queued>,
    forgotten: Vec<Entry>,
}

/// A reading that a rule made, on its way through those after it.
#[derive(Debug)]
struct Queued {
    rule: usize,
    topic: Topic,
    reading: Reading,
}

/// A way through the rules: what of them it needs beside the topic's entry.
struct Walk<'a> {
    rules: &'a [Rule],
    names: &'a [Arc<str>],
    effects: &'a mut Effects,
    queue: &'a mut VecDeque<Queued>,
    wake: &'a mut Option<Timestamp>,
}

/// Returns the number of a rule's name.
fn name(rule: usize) -> usize {
    2 * rule
}

/// Returns the number of the name under which a rule counts late readings.
fn late_name(rule: usize) -> usize {
    2 * rule + 1
}

impl Rules {
    /// Takes the rules in file order, with an empty memory: the first reading of each topic passes.
    pub fn new(rules: Vec<Rule>, limits: MemoryLimits) -> Self {
        let both = |rule: &Rule| [rule.name.to_shared(), format!("{}.late", rule.name).into()];
        Self {
            names: rules.iter().flat_map(both).collect(),
            memory: Memory::new(limits),
            rules,
            wake: None,
            queue: VecDeque::new(),
            forgotten: Vec::new(),
        }
    }

    /// Returns the rules in file order.
    pub fn as_slice(&self) -> &[Rule] {
        &self.rules
    }

    /// Returns the names under which is counted, by number.
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// Decides on the next reading of `topic`. What else comes of it is put into `effects`, which are
    /// emptied first.
    #[inline]
    pub fn decide(&mut self, topic: &Topic, reading: &Reading, effects: &mut Effects) -> Verdict {
        if self.rules.is_empty() {
            return Verdict::Pass;
        }
        effects.made.clear();
        effects.made_in_vain.clear();
        effects.released.clear();
        let verdict = self.walk(topic, reading, 0, false, effects);
        if !self.queue.is_empty() || !self.forgotten.is_empty() {
            self.follow(effects);
        }
        verdict
    }

    /// Returns when to call [`advance`](Self::advance) if no reading comes, or somewhat before.
    pub fn wake(&self) -> Option<Timestamp> {
        self.wake
    }

    /// Ends what is over by the wall clock, as much as may be at a time. Call it only when every reading that
    /// arrived so far was handed in. What comes of it is put into `effects`, which are emptied first. Returns whether anything was over.
    pub fn advance(&mut self, wall: Timestamp, effects: &mut Effects) -> bool {
        *effects = Effects::default();
        let mut next: Option<Timestamp> = None;
        let mut due = Vec::new();
        for (id, entry) in self.memory.iter() {
            for (place, rule) in entry.plan.states.iter().enumerate() {
                match deadline(&self.rules[*rule], &entry.states[place]) {
                    Some(at) if at <= wall => due.push((at, &entry.topic, *rule, place, id)),
                    Some(at) => next = Some(next.map_or(at, |next| next.min(at))),
                    None => {}
                }
            }
        }
        due.sort_unstable();
        let due: Vec<_> =
            due.into_iter().map(|(_, _, rule, place, id)| (rule, place, id)).collect();
        let mut ended = 0;
        for (rule, place, id) in &due {
            if self.queue.len() >= MADE_AT_A_TIME {
                break;
            }
            ended += 1;
            let entry = self.memory.at(*id);
            let (topic, state) = (entry.topic.clone(), &mut entry.states[*place]);
            end_by_clock(&self.rules[*rule], *rule, &topic, state, wall, effects, &mut self.queue);
            if let Some(at) = deadline(&self.rules[*rule], state) {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
            self.memory.note_change(*id);
        }
        let pause = Timestamp::from_unix_micros(wall.as_unix_micros().saturating_add(PAUSE_MICROS));
        let all_are_ended = ended == due.len();
        self.wake = if all_are_ended { next.map(|next| next.max(pause)) } else { Some(wall) };
        self.follow(effects);
        ended > 0
    }

    /// Returns how many readings wait, by the number of the name under which they will count.
    pub fn held(&self) -> BTreeMap<usize, u64> {
        let mut held = BTreeMap::new();
        for (_, entry) in self.memory.iter() {
            for (rule, state) in entry.plan.states.iter().zip(&entry.states) {
                let readings = match state {
                    State::Window(state) => state.held(),
                    State::Door(state) => state.held(),
                    State::Anomaly(_) => 0,
                };
                *held.entry(name(*rule)).or_default() += readings;
            }
        }
        held.retain(|_, readings| *readings > 0);
        held
    }

    /// Looks anew when something is due, after the memory was filled.
    pub(crate) fn reset_wake(&mut self) {
        let deadlines = self.memory.iter().flat_map(|(_, entry)| {
            let states = entry.plan.states.iter().zip(&entry.states);
            states.filter_map(|(rule, state)| deadline(&self.rules[*rule], state))
        });
        self.wake = deadlines.min();
    }

    fn walk(
        &mut self,
        topic: &Topic,
        reading: &Reading,
        from: usize,
        is_made: bool,
        effects: &mut Effects,
    ) -> Verdict {
        let Self { rules, memory, names, wake, queue, forgotten } = self;
        let found = memory.touch(topic, rules, forgotten);
        let mut walk = Walk { rules, names, effects, queue, wake };
        match found {
            Found::Entry(id) => {
                let (verdict, has_changed) = walk.run(memory.at(id), reading, from, is_made);
                if has_changed {
                    memory.note_change(id);
                }
                verdict
            }
            Found::Plain(plan) if plan.steps.is_empty() => Verdict::Pass,
            Found::Plain(plan) => {
                let mut entry = Entry::new(topic.clone(), plan, walk.rules);
                walk.run(&mut entry, reading, from, is_made).0
            }
        }
    }

    /// Takes what was made through the rules after the one that made it.
    fn follow(&mut self, effects: &mut Effects) {
        loop {
            while let Some(mut entry) = self.forgotten.pop() {
                end_all(&self.rules, &mut entry, effects, &mut self.queue);
            }
            let Some(Queued { rule, topic, reading }) = self.queue.pop_front() else { return };
            let verdict = self.walk(&topic, &reading, rule + 1, true, effects);
            note_made(verdict, rule, &topic, reading, effects);
        }
    }
}

impl Walk<'_> {
    /// Takes a reading through the rules from `from` on. Returns also whether the entry has changed.
    fn run(
        &mut self,
        entry: &mut Entry,
        reading: &Reading,
        from: usize,
        is_made: bool,
    ) -> (Verdict, bool) {
        let mut current = Cow::Borrowed(reading);
        let mut has_changed = false;
        // The forms of the reading that are to be remembered if it goes out: the one it came in, and others.
        let mut as_it_came = None;
        let mut changed_forms: Vec<(usize, Last)> = Vec::new();
        let mut holder = None;
        for index in 0..entry.plan.steps.len() {
            let step = entry.plan.steps[index];
            let known = &self.rules[step.rule];
            if step.rule < from || (is_made && known.holds()) {
                continue;
            }
            match &known.action {
                Action::Exclude => return (Verdict::Filtered(name(step.rule)), has_changed),
                Action::Thin(thinning) => {
                    let last = || entry.lasts[step.at].as_ref();
                    let compares = thinning.compares();
                    let passes = thinning.admits(&entry.topic, &current)
                        && (!compares || last().is_none_or(|last| thinning.passes(&current, last)));
                    if !passes {
                        return (Verdict::Filtered(name(step.rule)), has_changed);
                    }
                    match &current {
                        _ if !compares => {}
                        Cow::Borrowed(_) => as_it_came = Some(step.at),
                        Cow::Owned(form)
                            if changed_forms.last().is_none_or(|it| it.0 != step.at) =>
                        {
                            changed_forms.push((step.at, Last::from(form)));
                        }
                        Cow::Owned(_) => {}
                    }
                }
                Action::Convert(conversion) => {
                    if let Some(changed) = conversion.apply(&current) {
                        current = Cow::Owned(changed);
                    }
                }
                Action::Anomaly(_) => {
                    has_changed = true;
                    self.judge(entry, step, &mut current);
                }
                Action::Window(_) | Action::SwingingDoor(_) => {
                    has_changed = true;
                    match self.hold(entry, step, &current) {
                        Stay::Held => holder = Some(step.rule),
                        Stay::Late => return (Verdict::Filtered(late_name(step.rule)), true),
                        Stay::Passed => {}
                    }
                    if holder.is_some() {
                        break;
                    }
                }
            }
        }
        if let Some(at) = as_it_came {
            entry.lasts[at] = Some(Last::from(reading));
        }
        has_changed |= as_it_came.is_some() || !changed_forms.is_empty();
        for (at, last) in changed_forms {
            entry.lasts[at] = Some(last);
        }
        let verdict = match (holder, current) {
            (Some(rule), _) => Verdict::Held(name(rule)),
            (None, Cow::Borrowed(_)) => Verdict::Pass,
            (None, Cow::Owned(changed)) => Verdict::Changed(Box::new(changed)),
        };
        (verdict, has_changed)
    }

    fn judge(&mut self, entry: &mut Entry, step: Step, current: &mut Cow<'_, Reading>) {
        let (Action::Anomaly(anomaly), State::Anomaly(state)) =
            (&self.rules[step.rule].action, &mut entry.states[step.at])
        else {
            return;
        };
        let rule_name = &self.names[name(step.rule)];
        let judged = state.judge(anomaly, rule_name, &entry.topic, current);
        if let Some(marked) = judged.marked {
            *current = Cow::Owned(marked);
        }
        if let Some((topic, reading)) = judged.event {
            self.queue.push_back(Queued { rule: step.rule, topic, reading });
        }
    }

    /// Hands a reading to a rule in which readings wait.
    fn hold(&mut self, entry: &mut Entry, step: Step, reading: &Reading) -> Stay {
        let known = &self.rules[step.rule];
        let stay = match (&known.action, &mut entry.states[step.at]) {
            (Action::Window(window), State::Window(state)) => {
                let mut ended = Ended::default();
                let taken = state.take(window, &entry.topic, reading, &mut ended);
                queue_ended(step.rule, ended, self.effects, self.queue);
                match taken {
                    Taken::Held => Stay::Held,
                    Taken::Late => Stay::Late,
                    Taken::Passed => Stay::Passed,
                }
            }
            (Action::SwingingDoor(door), State::Door(state)) => {
                let (swung, Corner { made, released }) = state.take(door, reading);
                self.effects.release(name(step.rule), released);
                if let Some(corner) = made {
                    // It comes before the reading, so it meets the rules behind before it, too.
                    let (verdict, _) = self.run(entry, &corner, step.rule + 1, true);
                    note_made(verdict, step.rule, &entry.topic, corner, self.effects);
                }
                if swung == Swung::Held { Stay::Held } else { Stay::Passed }
            }
            _ => Stay::Passed,
        };
        if let Some(at) = deadline(known, &entry.states[step.at]) {
            *self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
        }
        stay
    }
}

/// What became of a reading in a rule in which readings wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stay {
    Held,
    Late,
    Passed,
}

fn deadline(rule: &Rule, state: &State) -> Option<Timestamp> {
    match (&rule.action, state) {
        (Action::Window(window), State::Window(state)) => state.deadline(window),
        (Action::SwingingDoor(door), State::Door(state)) => state.deadline(door),
        _ => None,
    }
}

fn end_by_clock(
    known: &Rule,
    rule: usize,
    topic: &Topic,
    state: &mut State,
    wall: Timestamp,
    effects: &mut Effects,
    queue: &mut VecDeque<Queued>,
) {
    match (&known.action, state) {
        (Action::Window(window), State::Window(state)) => {
            let mut ended = Ended::default();
            state.advance(window, topic, wall, &mut ended);
            queue_ended(rule, ended, effects, queue);
        }
        (Action::SwingingDoor(door), State::Door(state)) => {
            queue_corner(rule, topic, state.advance(door, wall), effects, queue);
        }
        _ => {}
    }
}

/// Sends all that waits of a topic that is forgotten.
fn end_all(rules: &[Rule], entry: &mut Entry, effects: &mut Effects, queue: &mut VecDeque<Queued>) {
    for (rule, state) in entry.plan.states.iter().zip(&mut entry.states) {
        match (&rules[*rule].action, state) {
            (Action::Window(window), State::Window(state)) => {
                let mut ended = Ended::default();
                state.end_all(window, &entry.topic, &mut ended);
                queue_ended(*rule, ended, effects, queue);
            }
            (_, State::Door(state)) => {
                queue_corner(*rule, &entry.topic, state.end(), effects, queue);
            }
            _ => {}
        }
    }
}

fn queue_ended(rule: usize, ended: Ended, effects: &mut Effects, queue: &mut VecDeque<Queued>) {
    effects.release(name(rule), ended.released);
    queue.extend(ended.made.into_iter().map(|(topic, reading)| Queued { rule, topic, reading }));
}

fn queue_corner(
    rule: usize,
    topic: &Topic,
    corner: Corner,
    effects: &mut Effects,
    queue: &mut VecDeque<Queued>,
) {
    effects.release(name(rule), corner.released);
    let made = corner.made.map(|reading| Queued { rule, topic: topic.clone(), reading });
    queue.extend(made);
}

/// Notes what became of a reading that `rule` made.
fn note_made(
    verdict: Verdict,
    rule: usize,
    topic: &Topic,
    reading: Reading,
    effects: &mut Effects,
) {
    let reading = match verdict {
        Verdict::Filtered(by) => return effects.made_in_vain.push((name(rule), by)),
        Verdict::Changed(changed) => *changed,
        Verdict::Pass | Verdict::Held(_) => reading,
    };
    effects.made.push(Made { name: name(rule), topic: topic.clone(), reading });
}
