//! What one party may do.

use tidegate_model::{Topic, TopicFilter};

use super::{Management, set::FilterSet};

/// What one party may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    publish: Grant,
    subscribe: Grant,
    command: Grant,
    manage: Option<Management>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Grant {
    /// The gateway's own parts.
    All,
    /// Every topic but `$…`.
    Plain,
    /// What the filters match.
    Filters(FilterSet),
}

impl Grant {
    fn allows(&self, topic: &Topic) -> bool {
        match self {
            Self::All => true,
            Self::Plain => !topic.is_dollar(),
            Self::Filters(filters) => filters.matches(topic),
        }
    }

    fn covers(&self, wanted: &TopicFilter) -> bool {
        match self {
            Self::All => true,
            Self::Plain => !wanted.as_str().starts_with('$'),
            Self::Filters(filters) => filters.covers(wanted),
        }
    }
}

impl Rights {
    /// Returns the rights of the gateway's own parts, which need none.
    pub fn all() -> Self {
        Self { publish: Grant::All, subscribe: Grant::All, command: Grant::All, manage: None }
    }

    /// Returns those of `anonymous` while there are no entries.
    pub(super) fn plain() -> Self {
        let [publish, subscribe, command] = [Grant::Plain, Grant::Plain, Grant::Plain];
        Self { publish, subscribe, command, manage: None }
    }

    /// Returns those that filters give.
    pub(super) fn of(
        publish: FilterSet,
        subscribe: FilterSet,
        command: FilterSet,
        manage: Option<Management>,
    ) -> Self {
        let [publish, subscribe, command] = [publish, subscribe, command].map(Grant::Filters);
        Self { publish, subscribe, command, manage }
    }

    /// Returns whether a message may be published on `topic`; for `/set` and `/call` topics that takes
    /// the right to command.
    pub fn may_publish(&self, topic: &Topic) -> bool {
        match command_target(topic) {
            Some(target) => self.command.allows(&target),
            None => self.publish.allows(topic),
        }
    }

    /// Returns whether `filter` may be subscribed to: all that it matches must be allowed.
    pub fn may_subscribe(&self, filter: &TopicFilter) -> bool {
        self.subscribe.covers(filter)
    }

    /// Returns whether a message on `topic` may be handed over.
    pub fn may_receive(&self, topic: &Topic) -> bool {
        self.subscribe.allows(topic)
    }

    /// Returns whether the point of `topic` may be commanded.
    pub fn may_command(&self, topic: &Topic) -> bool {
        self.command.allows(topic)
    }

    /// Returns whether this may be done with the gateway itself.
    pub fn may_manage(&self, wanted: Management) -> bool {
        self.manage.is_some_and(|given| given >= wanted)
    }
}

/// Returns the topic of the point that a message on `topic` commands, if it is a command topic.
pub fn command_target(topic: &Topic) -> Option<Topic> {
    let text = topic.as_str();
    let target = text.strip_suffix("/set").or_else(|| text.strip_suffix("/call"))?;
    Topic::new(target).ok()
}
