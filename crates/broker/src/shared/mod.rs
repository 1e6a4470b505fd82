//! Shared subscriptions: groups of sessions, of which one takes each message (MQTT 5.0, section 4.8.2).

mod handover;

pub(crate) use self::handover::end_parts;

use std::{collections::HashMap, num::NonZeroU32};

use slab::Slab;
use tidegate_model::{Message, Qos, TopicFilter};

use crate::{
    core::{Broker, BrokerLimits},
    route::{Subscriber, Target},
    session::{Session, SessionKey, SubscriptionOptions},
};

/// Of the members of a group that can take a message so many are looked at, in turn, to find the least loaded one.
/// In tests it is little, so that groups are large.
const LOOKS_MAX: usize = if cfg!(test) { 4 } else { 64 };

/// Names a group; its place may be another group's later, its number not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupKey {
    place: u32,
    number: NonZeroU32,
}

/// A session in a group, and what it asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) session: SessionKey,
    pub(crate) options: SubscriptionOptions,
}

/// The sessions that share one filter under one name.
#[derive(Debug)]
struct Group {
    number: NonZeroU32,
    /// `$share/<name>/<filter>`.
    name: TopicFilter,
    /// What topics are matched against.
    filter: TopicFilter,
    /// Those with a connection.
    present: Vec<Member>,
    /// Those without.
    absent: Vec<Member>,
    /// Where the next look for the least loaded begins, so that equals take turns.
    next: usize,
}

/// All groups.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: Slab<Group>,
    by_name: HashMap<TopicFilter, usize>,
    numbered: u32,
    /// The groups that match the message which is being routed.
    pub(crate) hits: Vec<usize>,
    /// Why messages of the batch which is being routed found nobody in a group.
    unfit: Vec<Unfit>,
}

/// Why a message finds nobody in a group; what weighs more comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unfit {
    /// It is not kept for those who are not connected.
    Absent,
    /// The rights of a member do not cover the topic.
    Denied(SessionKey),
    /// The queue of a member is full.
    Full(SessionKey),
}

/// A message that is looking for a member of a group.
struct Search<'a> {
    message: &'a Message,
    sessions: &'a Slab<Box<Session>>,
    limits: &'a BrokerLimits,
    /// Whether only members come into question that keep the message on disk.
    must_store: bool,
}

impl Search<'_> {
    fn load(&self, member: &Member) -> usize {
        let session = &self.sessions[member.session.0];
        session.queue.len() + session.inflight.len()
    }

    fn check(&self, member: &Member) -> Result<(), Unfit> {
        let session = &self.sessions[member.session.0];
        let is_stored = member.qos_of(self.message) > Qos::AtMostOnce && session.taker.is_some();
        if !is_stored && (self.must_store || session.link.is_none()) {
            return Err(Unfit::Absent);
        }
        if !session.has_room(self.limits) {
            return Err(Unfit::Full(member.session));
        }
        let may_receive = session.rights.may_receive(&self.message.topic);
        if may_receive { Ok(()) } else { Err(Unfit::Denied(member.session)) }
    }

    /// Returns where the least loaded member stands that can take the message; the first one behind `start`, if
    /// several are.
    fn among(&self, members: &[Member], start: usize) -> Result<usize, Unfit> {
        let start = start.checked_rem(members.len()).unwrap_or(0);
        let (mut best, mut unfit, mut looks) = (None, Unfit::Absent, 0);
        for at in (start..members.len()).chain(0..start) {
            let load = self.load(&members[at]);
            if best.is_none_or(|(least, _)| load < least) {
                match self.check(&members[at]) {
                    Ok(()) => best = Some((load, at)),
                    Err(why) => unfit = unfit.max(why),
                }
            }
            looks += usize::from(best.is_some());
            // Nobody has less than nothing to do.
            if looks >= LOOKS_MAX || best.is_some_and(|(least, _)| least == 0) {
                break;
            }
        }
        best.map(|(_, at)| at).ok_or(unfit)
    }
}

impl Member {
    /// Returns the quality of service at which the member gets a message.
    pub(crate) fn qos_of(&self, message: &Message) -> Qos {
        self.options.qos.min(message.qos)
    }
}

impl Group {
    fn all(&self) -> impl Iterator<Item = &Member> {
        self.present.iter().chain(&self.absent)
    }

    fn remove(&mut self, session: SessionKey) -> Option<Member> {
        [&mut self.present, &mut self.absent].into_iter().find_map(|members| {
            let at = members.iter().position(|member| member.session == session)?;
            Some(members.swap_remove(at))
        })
    }

    fn choose(&mut self, search: &Search<'_>, who: Choice) -> Result<Member, Unfit> {
        let present = search.among(&self.present, self.next);
        let (members, found) = match (present, who) {
            (Err(unfit), Choice::Anyone) => {
                let absent = search.among(&self.absent, self.next);
                (&self.absent, absent.map_err(|other| other.max(unfit)))
            }
            (present, _) => (&self.present, present),
        };
        let at = found?;
        self.next = at + 1;
        Ok(members[at])
    }
}

/// Which members come into question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// Those with a connection; if none of them can, the others.
    Anyone,
    /// Those with a connection.
    Present,
}

/// Returns the filter behind `$share/<name>/`, if there is one.
pub(crate) fn shared_filter(filter: &TopicFilter) -> Option<TopicFilter> {
    let (name, shared) = filter.as_str().strip_prefix("$share/")?.split_once('/')?;
    TopicFilter::new(shared).ok().filter(|_| !name.is_empty())
}

impl Groups {
    /// Returns how many there are.
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    /// Returns the group if it is still there.
    fn known(&mut self, key: GroupKey) -> Option<&mut Group> {
        self.groups.get_mut(key.place as usize).filter(|group| group.number == key.number)
    }

    fn key(&self, place: usize) -> GroupKey {
        let number = self.groups[place].number;
        GroupKey {
            place: u32::try_from(place).expect("there are fewer groups than sessions' filters"),
            number,
        }
    }

    /// Calls the members that the group at a place has.
    pub(crate) fn members(&self, place: usize) -> impl Iterator<Item = &Member> {
        self.groups[place].all()
    }

    /// Moves a member to those with a connection, or to those without.
    fn set_present(&mut self, place: usize, session: SessionKey, is_present: bool) {
        let group = &mut self.groups[place];
        let Some(member) = group.remove(session) else { return };
        if is_present { group.present.push(member) } else { group.absent.push(member) }
    }
}

impl Broker {
    /// Lets a session have messages for a filter, alone or as a member of a group; replaces what it had.
    pub(crate) fn enlist(
        &mut self,
        key: SessionKey,
        filter: &TopicFilter,
        options: SubscriptionOptions,
    ) {
        let Some(shared) = shared_filter(filter) else {
            self.subscriptions.insert(filter, Subscriber::Session(key), options);
            return;
        };
        let Self {
            groups: Groups { groups, by_name, numbered, .. }, sessions, subscriptions, ..
        } = self;
        let place = *by_name.entry(filter.clone()).or_insert_with(|| {
            // Numbers come round after four billion groups; no delivery waits for so long.
            *numbered = numbered.checked_add(1).unwrap_or(1);
            let number = NonZeroU32::new(*numbered).expect("it starts at 1");
            let (present, absent) = (Vec::new(), Vec::new());
            let (name, filter) = (filter.clone(), shared.clone());
            let place = groups.insert(Group { number, name, filter, present, absent, next: 0 });
            subscriptions.insert(&shared, Subscriber::Group(place), options);
            place
        });
        let group = &mut groups[place];
        group.remove(key);
        let session = &mut sessions[key.0];
        let member = Member { session: key, options };
        match session.link {
            Some(_) => group.present.push(member),
            None => group.absent.push(member),
        }
        if !session.groups.contains(&place) {
            session.groups.push(place);
        }
    }

    /// Ends what [`enlist`](Self::enlist) has begun.
    pub(crate) fn strike_off(&mut self, key: SessionKey, filter: &TopicFilter) {
        let Some(&place) = self.groups.by_name.get(filter) else {
            self.subscriptions.remove(filter, &Subscriber::Session(key));
            return;
        };
        self.sessions[key.0].groups.retain(|joined| *joined != place);
        let group = &mut self.groups.groups[place];
        group.remove(key);
        if group.present.is_empty() && group.absent.is_empty() {
            let Group { name, filter, .. } = self.groups.groups.remove(place);
            self.groups.by_name.remove(&name);
            self.subscriptions.remove(&filter, &Subscriber::Group(place));
        }
    }

    /// Tells the groups of a session that it has got a connection, or has lost it.
    pub(crate) fn note_presence(&mut self, key: SessionKey) {
        let Self { groups, sessions, .. } = self;
        let session = &sessions[key.0];
        for place in &session.groups {
            groups.set_present(*place, key, session.link.is_some());
        }
    }

    /// Chooses who takes a message in each of the groups that match it.
    pub(crate) fn collect_shared(
        &mut self,
        index: usize,
        message: &Message,
        targets: &mut Vec<Target>,
    ) {
        let Self { groups, sessions, limits, .. } = self;
        let search = Search { message, sessions, limits, must_store: false };
        let mut hits = std::mem::take(&mut groups.hits);
        for place in hits.drain(..) {
            match groups.groups[place].choose(&search, Choice::Anyone) {
                Ok(member) => {
                    let key = groups.key(place);
                    targets.push(Target::of_member(index, message, &member, key));
                }
                Err(unfit) => groups.unfit.push(unfit),
            }
        }
        groups.hits = hits;
    }

    /// Counts what found nobody in a group.
    pub(crate) fn count_unfit(&mut self) {
        for unfit in std::mem::take(&mut self.groups.unfit) {
            self.note_unfit(unfit);
        }
    }

    /// Forgets what found nobody: it was refused as a whole.
    pub(crate) fn forget_unfit(&mut self) {
        self.groups.unfit.clear();
    }

    fn note_unfit(&mut self, unfit: Unfit) {
        match unfit {
            Unfit::Absent => {}
            Unfit::Denied(key) => {
                self.counters.denied += 1;
                self.sessions[key.0].dropped += 1;
                let principal = self.sessions[key.0].principal.clone();
                self.note_denial(&principal);
            }
            Unfit::Full(key) => {
                self.sessions[key.0].dropped += 1;
                self.counters.dropped_queue_full += 1;
            }
        }
    }

    /// Returns the group from which a session has a record, as far as its subscriptions tell, and the options there.
    pub(crate) fn group_of(
        &self,
        session: &Session,
        message: &Message,
    ) -> Option<(GroupKey, SubscriptionOptions)> {
        let mut joined = session.groups.iter();
        let place =
            *joined.find(|place| self.groups.groups[**place].filter.matches(&message.topic))?;
        let options = session.subscriptions.get(&self.groups.groups[place].name)?;
        Some((self.groups.key(place), *options))
    }
}
