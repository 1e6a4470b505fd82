//! Ways between local topics and paths of interfaces.

use std::sync::Arc;

use thiserror::Error;
use tidegate_model::{Captures, PathPattern, Topic};

use crate::{
    Aggregation, Interface, InterfaceName, Ownership,
    endpoint::{Level, is_parameter},
};

/// A way between the topics of a pattern and the paths of an interface, such as `hall1/{press}/temperature` and
/// `/{press}/temperature`. The captures of both are the same, so that each topic has a path of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    interface: InterfaceName,
    /// The topic, with a `/` before it.
    topic: PathPattern,
    path: PathPattern,
    /// For each capture of the path, its place in the topic.
    path_from: Arc<[usize]>,
    /// For each capture of the topic, its place in the path.
    topic_from: Arc<[usize]>,
}

/// A way up: for readings, to an interface of the device.
pub type Route = Way;
/// A way down: for commands, from an interface of the server.
pub type Command = Way;

/// All ways of a device.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    up: Vec<Way>,
    down: Vec<Way>,
}

/// Where a reading goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place<'r> {
    /// The interface.
    pub interface: &'r InterfaceName,
    /// The path.
    pub path: String,
}

/// What is wrong with a way, by the member at fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RouteError {
    /// The topic cannot be one.
    #[error("{0}")]
    Topic(String),
    /// The interface cannot be used for this.
    #[error("{0}")]
    Interface(String),
    /// The interface has no such path.
    #[error("{0}")]
    Path(String),
}

impl Way {
    /// Checks a way against its interface; `ownership` says whether it is one for readings or for commands.
    ///
    /// # Errors
    ///
    /// [`RouteError`] says which part is wrong, and why.
    pub fn new(
        interface: &Interface,
        ownership: Ownership,
        topic: &str,
        path: &str,
    ) -> Result<Self, RouteError> {
        check_owner(interface, ownership)?;
        let topic_error = |problem: &dyn std::fmt::Display| RouteError::Topic(problem.to_string());
        let topic_pattern =
            PathPattern::parse(&format!("/{topic}")).map_err(|error| topic_error(&error))?;
        // Whatever stands for captures is part of a topic already.
        Topic::new(&topic.replace(['{', '}'], "")).map_err(|error| topic_error(&error))?;
        let path_pattern = PathPattern::parse(path)
            .map_err(|error| RouteError::Path(format!("`{path}` is no path: {error}")))?;
        check_path(interface, path)?;
        let path_from = places(&path_pattern, &topic_pattern).map_err(|name| {
            RouteError::Path(format!("the capture `{name}` does not stand in the topic"))
        })?;
        let topic_from = places(&topic_pattern, &path_pattern).map_err(|name| {
            RouteError::Path(format!(
                "the capture `{name}` of the topic is missing: readings of several topics would be mixed"
            ))
        })?;
        Ok(Self {
            interface: interface.name().clone(),
            topic: topic_pattern,
            path: path_pattern,
            path_from,
            topic_from,
        })
    }

    /// Returns the interface.
    pub fn interface(&self) -> &InterfaceName {
        &self.interface
    }

    /// Returns the filter of the topics, a wildcard in the place of each level that has a capture.
    pub fn filter(&self) -> String {
        let levels = self.topic.as_str()[1..].split('/');
        let levels = levels.map(|level| if level.contains('{') { "+" } else { level });
        levels.collect::<Vec<_>>().join("/")
    }

    /// Returns whether some topic or some path would go both ways.
    pub fn meets(&self, other: &Self) -> bool {
        self.topic.overlaps(&other.topic) || self.shares_path(other)
    }

    /// Returns whether both lead to one fixed path.
    fn shares_path(&self, other: &Self) -> bool {
        self.interface == other.interface
            && self.path.names().is_empty()
            && other.path.names().is_empty()
            && self.path.overlaps(&other.path)
    }

    /// Returns whether some path would come down both ways.
    pub fn meets_below(&self, other: &Self) -> bool {
        self.interface == other.interface && self.path.overlaps(&other.path)
    }

    /// Returns the path of a topic.
    fn path_of(&self, levels: &[&str]) -> Option<String> {
        let captures = reorder(&self.topic.matches(levels)?, &self.path_from)?;
        let mut path = String::new();
        for level in self.path.fill(&captures)? {
            path.push('/');
            path.push_str(&level);
        }
        Some(path)
    }

    /// Returns the topic of a path.
    fn topic_of(&self, levels: &[&str]) -> Option<Topic> {
        let captures = reorder(&self.path.matches(levels)?, &self.topic_from)?;
        Topic::new(&self.topic.fill(&captures)?.join("/")).ok()
    }
}

impl Routes {
    /// Takes the ways of readings and of commands; no two of either meet.
    pub fn new(up: Vec<Way>, down: Vec<Way>) -> Self {
        Self { up, down }
    }

    /// Returns whether commands can come.
    pub fn have_commands(&self) -> bool {
        !self.down.is_empty()
    }

    /// Returns where a reading of a topic goes.
    pub fn up(&self, topic: &str) -> Option<Place<'_>> {
        let levels: Vec<&str> = topic.split('/').collect();
        self.up.iter().find_map(|way| {
            let path = way.path_of(&levels)?;
            Some(Place { interface: &way.interface, path })
        })
    }

    /// Returns the local topic that a value at a path of the server is for.
    pub fn down(&self, interface: &str, path: &str) -> Option<Topic> {
        let levels: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let mut ways = self.down.iter().filter(|way| way.interface.as_str() == interface);
        ways.find_map(|way| way.topic_of(&levels))
    }
}

fn check_owner(interface: &Interface, ownership: Ownership) -> Result<(), RouteError> {
    let name = interface.name();
    match (interface.ownership(), ownership) {
        (Ownership::Server, Ownership::Device) => {
            Err(RouteError::Interface(format!("`{name}` is the server's: nothing goes up by it")))
        }
        (Ownership::Device, Ownership::Server) => Err(RouteError::Interface(format!(
            "`{name}` is the device's: nothing comes down by it"
        ))),
        _ => Ok(()),
    }
}

/// Checks that a path with captures is one of the interface's whatever they stand for: literal levels are the
/// endpoint's own, and only its parameters are captures.
fn check_path(interface: &Interface, path: &str) -> Result<(), RouteError> {
    let levels: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
    let fits = |endpoint: &[Level]| {
        endpoint.len() == levels.len()
            && endpoint.iter().zip(&levels).all(|(level, text)| match level {
                Level::Literal(name) => &**name == *text,
                Level::Parameter => is_parameter(text),
            })
    };
    let found = match interface.aggregation() {
        Aggregation::Individual => {
            interface.mappings().iter().any(|mapping| fits(mapping.endpoint.levels()))
        }
        Aggregation::Object => fits(interface.prefix()),
    };
    if found {
        return Ok(());
    }
    let known: Vec<String> = match interface.aggregation() {
        Aggregation::Individual => {
            interface.mappings().iter().take(5).map(|it| format!("`{}`", it.endpoint)).collect()
        }
        Aggregation::Object => {
            let whole = interface.mappings()[0].endpoint.as_str();
            let prefix = whole.rsplit_once('/').map_or(whole, |(prefix, _)| prefix);
            vec![format!("the objects at `{prefix}`")]
        }
    };
    let (name, known) = (interface.name(), known.join(", "));
    Err(RouteError::Path(format!("`{name}` has no path `{path}`; it has {known}")))
}

/// Returns where the captures of a pattern stand in another, or the name of one that does not.
fn places(of: &PathPattern, within: &PathPattern) -> Result<Arc<[usize]>, String> {
    let place = |name| within.names().iter().position(|other| other == name);
    of.names().iter().map(|name| place(name).ok_or_else(|| name.to_string())).collect()
}

fn reorder(captures: &Captures, places: &[usize]) -> Option<Captures> {
    let texts: Option<Vec<Box<str>>> =
        places.iter().map(|place| captures.get(*place).map(Box::from)).collect();
    Some(Captures::new(texts?))
}
