//! Bridges: topics of another broker that come down and are published here, local ones that go up as they are, and
//! what keeps a message from going round for ever.
//!
//! Three things end a ring, each alone (`docs/decisions/0030-bridges.md`): what came in by a bridge goes out by no
//! uplink that is not told to relay, and never by the one that brought it; a message carries the ids of the
//! gateways that it has been through, and one that has been here is neither taken in nor sent out; and after
//! [`HOPS_MAX`] gateways it goes no further.

use std::sync::Arc;

use thiserror::Error;
use tidegate_model::{Message, Principal, Properties, Topic, TopicError, TopicFilter};

use crate::settings::Format;

/// The user property with the ids of the gateways that a message has been through, the first first, with `/` in between.
pub const PATH: &str = "tidegate-path";
/// Through so many gateways a message goes at most.
pub const HOPS_MAX: usize = 16;

/// Why a message goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PathFault {
    /// It has been through this gateway.
    #[error("it has been here before")]
    Loop,
    /// It has been through too many gateways.
    #[error("it has been through {HOPS_MAX} gateways")]
    Hops,
}

/// Returns the gateways that a message has been through.
fn hops(properties: Option<&Properties>) -> impl Iterator<Item = &str> {
    let user = properties.into_iter().flat_map(|properties| &properties.user);
    let paths = user.filter(|(name, _)| &**name == PATH).map(|(_, value)| &**value);
    paths.flat_map(|path| path.split('/')).filter(|hop| !hop.is_empty())
}

/// Says whether a message may go on through this gateway.
///
/// # Errors
///
/// [`PathFault`] if it may not.
pub fn check_path(properties: Option<&Properties>, gateway: &str) -> Result<(), PathFault> {
    let mut count = 0;
    for hop in hops(properties) {
        count += 1;
        if hop == gateway {
            return Err(PathFault::Loop);
        }
    }
    if count >= HOPS_MAX { Err(PathFault::Hops) } else { Ok(()) }
}

/// Returns the value of [`PATH`] with which a message leaves this gateway.
pub fn path_from_here(properties: Option<&Properties>, gateway: &str) -> Arc<str> {
    let mut path = String::new();
    for hop in hops(properties) {
        path.push_str(hop);
        path.push('/');
    }
    path.push_str(gateway);
    path.into()
}

/// Returns the way that a message has come as the properties of one that is made of it; `None` if it has none.
pub fn only_path(properties: Option<&Properties>) -> Option<Properties> {
    let user = properties.into_iter().flat_map(|properties| &properties.user);
    let user: Vec<_> = user.filter(|(name, _)| &**name == PATH).cloned().collect();
    (!user.is_empty()).then(|| Properties { user, ..Properties::default() })
}

/// What an uplink lets through as a bridge; the default takes nothing in and sends nothing out that came in.
#[derive(Clone, Debug, Default)]
pub struct Bridge {
    /// What comes down, by whichever matches first.
    pub inbound: Vec<InRoute>,
    /// How long the topics are on which it is published here.
    pub topic_bytes_max: usize,
    /// Whether retained messages go up as retained.
    pub retain: bool,
    /// Whether what came in by the bridge of another connection goes out.
    pub relay: bool,
    /// Who publishes here what comes down by the uplink's own connection.
    pub own: Option<Principal>,
    /// Who publishes what comes down by others.
    pub others: Vec<Principal>,
}

impl Bridge {
    /// Returns whether a message may go out by this uplink, whose readings are written in `format`.
    ///
    /// Only `raw` carries the way of a message on; what has one and came in by a bridge does not go out otherwise.
    pub fn lets_out(&self, message: &Message, gateway: &str, format: Format) -> bool {
        if self.own.as_ref() == Some(&message.publisher) {
            return false;
        }
        let came_in = self.others.contains(&message.publisher);
        if came_in && !self.relay {
            return false;
        }
        let properties = message.properties.as_deref();
        if format == Format::Raw {
            return check_path(properties, gateway).is_ok();
        }
        !came_in || hops(properties).next().is_none()
    }

    /// Returns the local topic of what came down on `topic`; `None` if it is for no route.
    pub fn local(&self, topic: &str) -> Option<Result<Topic, TopicError>> {
        let far = Topic::new(topic).ok()?;
        self.inbound.iter().find_map(|route| route.local(&far))
    }
}

/// Topics of a far broker that come down, and where they are published here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InRoute {
    filter: TopicFilter,
    strip: Arc<str>,
    before: Arc<str>,
    after: Arc<str>,
}

impl InRoute {
    /// Takes a filter of the far broker, what topics lose at the front, and what stands around the rest here.
    pub fn new(filter: TopicFilter, strip: &str, before: &str, after: &str) -> Self {
        Self { filter, strip: strip.into(), before: before.into(), after: after.into() }
    }

    /// Returns the filter to subscribe to.
    pub fn filter(&self) -> &TopicFilter {
        &self.filter
    }

    /// Returns the topic here, if the route is for `topic`. `a` matches `a/#`, but nothing is left of it behind
    /// `a/`: then there is none.
    fn local(&self, topic: &Topic) -> Option<Result<Topic, TopicError>> {
        if !self.filter.matches(topic) {
            return None;
        }
        let Some(rest) = topic.as_str().strip_prefix(&*self.strip) else {
            return Some(Err(TopicError::Empty));
        };
        Some(Topic::new(&format!("{}{rest}{}", self.before, self.after)))
    }

    /// Returns a filter for all that the route publishes here.
    pub fn local_filter(&self) -> TopicFilter {
        moved(&self.filter, &self.strip, &self.before, &self.after)
    }
}

/// Returns a filter for all topics that come of those that match `filter` when `strip` is taken off and the rest is put
/// between `before` and `after`. Where no filter says just that, it matches more.
pub fn moved(filter: &TopicFilter, strip: &str, before: &str, after: &str) -> TopicFilter {
    let rest = filter.as_str().strip_prefix(strip).unwrap_or(filter.as_str());
    widened(&format!("{before}{rest}{after}"))
}

/// Returns a filter for all topics that a text stands for, in which `+` is any text within a level and `#` any at all.
pub fn widened(text: &str) -> TopicFilter {
    let mut levels = Vec::new();
    for level in text.split('/') {
        if level.contains('#') {
            levels.push("#");
            break;
        }
        levels.push(if level.contains('+') { "+" } else { level });
    }
    let everything = || TopicFilter::new("#").expect("it is a filter");
    TopicFilter::new(&levels.join("/")).unwrap_or_else(|_| everything())
}

#[cfg(test)]
mod tests;
