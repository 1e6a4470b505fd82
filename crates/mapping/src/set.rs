//! All entries of all mapping files.

use tidegate_model::{AdapterName, Captures, NodePattern, PathPattern, Topic};
use tidegate_settings::{Issues, Node, Span, TableReader};

use crate::entry::{Address, Entry};
use crate::read::{self, Draft};
use crate::topic::{Decoding, TopicIndex};
use crate::{CommandTarget, TopicPattern, clash};

/// What mapping files refer to beside themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// The names of the configured OPC UA servers.
    pub opcua_servers: Vec<AdapterName>,
    /// Which load of the mappings this is.
    pub generation: u64,
}

/// The checked entries of all mapping files: a set of functions, without state.
#[derive(Debug)]
pub struct MappingSet {
    entries: Vec<Entry>,
    generation: u64,
    mqtt: TopicIndex,
    commands: TopicIndex,
    /// By the number of the entry: its topic, backwards, and where its captures stand in the address.
    inverses: Vec<Option<Inverse>>,
}

/// How the captures of a topic become captures of an address.
#[derive(Clone, Debug)]
pub(crate) struct Inverse {
    pub(crate) topic: TopicPattern,
    /// For each capture of the address its place among those of the topic.
    pub(crate) order: Vec<usize>,
}

impl MappingSet {
    /// Reads and checks the trees of all files. Notes every problem in `issues`; `None` if there was an error.
    ///
    /// Entries are numbered in the order of the files, and in one file `[[coap]]`, `[[http]]`, `[[opcua]]` and
    /// `[[mqtt]]` one after the other.
    pub fn compile(files: &[Node], environment: &Environment, issues: &mut Issues) -> Option<Self> {
        let errors_before = issues.error_count();
        let mut drafts = Vec::new();
        let mut complete = true;
        for file in files {
            let Some(table) = TableReader::root(file, issues) else {
                complete = false;
                continue;
            };
            // What stands where the syntax is broken was guessed.
            complete &= !issues.has_damage(file.span.source);
            complete &= read::file(table, environment, &mut drafts, issues);
        }
        report_clashes(&drafts, issues);
        if !complete || issues.error_count() > errors_before {
            return None;
        }
        let mut set = Self {
            entries: Vec::with_capacity(drafts.len()),
            generation: environment.generation,
            mqtt: TopicIndex::default(),
            commands: TopicIndex::default(),
            inverses: Vec::with_capacity(drafts.len()),
        };
        for draft in drafts {
            set.push(draft);
        }
        Some(set)
    }

    /// Returns every entry; each stands at its own number.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns the entry with this number.
    pub fn entry(&self, index: u32) -> Option<&Entry> {
        self.entries.get(usize::try_from(index).ok()?)
    }

    /// Returns which load of the mappings this is.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Finds the `[[mqtt]]` entry for a topic that a client published to: the one with most literal levels.
    ///
    /// The topics of mapped messages must not be handed in: what a `[[mqtt]]` entry gives is never the input of
    /// another. Costs nothing if there is no `[[mqtt]]` entry, else one look-up for each level.
    #[inline]
    pub fn match_mqtt(&self, topic: &Topic) -> Option<(&Entry, Captures)> {
        let entry = self.entry(self.mqtt.find(topic)?)?;
        let Address::Mqtt(filter) = &entry.address else { return None };
        Some((entry, filter.matches(topic)?))
    }

    /// Finds the entry behind a topic, given without `/set` or `/call`, that is writable or has a method.
    ///
    /// Only the spelling that the gateway itself gives a topic is found, so that a rule about a topic cannot be
    /// passed by with another one.
    pub fn command_target(&self, topic: &Topic) -> Option<CommandTarget<'_>> {
        let index = self.commands.find(topic)?;
        let inverse = self.inverses.get(usize::try_from(index).ok()?)?.as_ref()?;
        let found = inverse.topic.captures_of(topic, Decoding::Exact)?;
        let captures = inverse.order.iter().filter_map(|place| found.get(*place)).map(Box::from);
        Some(CommandTarget { entry: self.entry(index)?, captures: Captures::new(captures) })
    }

    fn push(&mut self, draft: Draft) {
        let mut entry = draft.entry;
        entry.index = u32::try_from(self.entries.len()).expect("files are smaller than that");
        if let Address::Mqtt(filter) = &entry.address {
            self.mqtt.insert(filter, entry.index);
        }
        if let Some(inverse) = &draft.inverse {
            self.commands.insert(&inverse.topic, entry.index);
        }
        self.inverses.push(draft.inverse);
        self.entries.push(entry);
    }
}

fn report_clashes(drafts: &[Draft], issues: &mut Issues) {
    const LEVELS: &str = "give one of them more literal levels than the other, or remove one";
    let mut coap: Vec<(&PathPattern, Span)> = Vec::new();
    let mut http: Vec<(&PathPattern, Span)> = Vec::new();
    let mut mqtt: Vec<(&TopicPattern, Span)> = Vec::new();
    let mut nodes: Vec<(&AdapterName, Vec<(&NodePattern, Span)>)> = Vec::new();
    for draft in drafts {
        match &draft.entry.address {
            Address::Coap(pattern) => coap.push((pattern, draft.address_span)),
            Address::Http(pattern) => http.push((pattern, draft.address_span)),
            Address::Mqtt(pattern) => mqtt.push((pattern, draft.address_span)),
            // Its methods are not its values: an object may have several.
            Address::OpcUa(address) if address.method.is_some() => {}
            Address::OpcUa(address) => {
                let claim = (&address.node, draft.address_span);
                match nodes.iter_mut().find(|(server, _)| **server == address.server) {
                    Some((_, claims)) => claims.push(claim),
                    None => nodes.push((&address.server, vec![claim])),
                }
            }
        }
    }
    clash::report(&coap, "resource", LEVELS, issues);
    clash::report(&http, "path", LEVELS, issues);
    clash::report(&mqtt, "topic", LEVELS, issues);
    for (_, claims) in nodes {
        const CHARACTERS: &str =
            "give one of them more literal characters than the other, or make them one entry";
        clash::report(&claims, "node", CHARACTERS, issues);
    }
    let writable: Vec<(&TopicPattern, Span)> = drafts
        .iter()
        .filter_map(|draft| Some((&draft.inverse.as_ref()?.topic, draft.topic_span)))
        .collect();
    const TOPICS: &str = "a command would have two targets: give them different topics";
    clash::report(&writable, "writable topic", TOPICS, issues);
}
