//! Who may publish, subscribe and command what: one place for all protocols.

use thiserror::Error;
pub use tidegate_model::Glob;
use tidegate_model::{ClientId, Principal, Topic, TopicFilter, TopicFilterError};

/// A topic filter in which `{principal}` and `{client-id}` stand for the names of whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessFilter(String);

/// Why a text is not an access filter.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AccessFilterError {
    /// Without its braces it is no topic filter.
    #[error(transparent)]
    Filter(#[from] TopicFilterError),
    /// Braces hold something else than the two names, or have no partner.
    #[error("`{text}`: only {{principal}} and {{client-id}} can stand in braces")]
    Placeholder {
        /// The text as it was found.
        text: String,
    },
}

const PRINCIPAL: &str = "{principal}";
const CLIENT_ID: &str = "{client-id}";

impl AccessFilter {
    /// Reads a filter.
    ///
    /// # Errors
    ///
    /// [`AccessFilterError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, AccessFilterError> {
        let plain = text.replace(PRINCIPAL, "x").replace(CLIENT_ID, "x");
        if plain.contains(['{', '}']) {
            return Err(AccessFilterError::Placeholder { text: text.into() });
        }
        TopicFilter::new(&plain)?;
        Ok(Self(text.into()))
    }

    /// Returns the filter for one party; `None` if a name would change its meaning or is missing.
    fn resolve(&self, principal: &Principal, client_id: Option<&ClientId>) -> Option<TopicFilter> {
        let safe = |name: &str| !name.contains(['/', '+', '#', '\0']) && !name.starts_with('$');
        let mut text = self.0.clone();
        if text.contains(PRINCIPAL) {
            text = safe(principal.as_str()).then(|| text.replace(PRINCIPAL, principal.as_str()))?;
        }
        if text.contains(CLIENT_ID) {
            let name = client_id?.as_str();
            text = safe(name).then(|| text.replace(CLIENT_ID, name))?;
        }
        TopicFilter::new(&text).ok()
    }
}

/// One `[[access]]` entry: what it gives to the principals it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessEntry {
    /// To whom.
    pub principal: Glob,
    /// Where they may publish.
    pub publish: Vec<AccessFilter>,
    /// What they may subscribe to.
    pub subscribe: Vec<AccessFilter>,
    /// Which points they may command: filters over topics without `/set` and `/call`.
    pub command: Vec<AccessFilter>,
}

/// All `[[access]]` entries; deny by default once there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessRules {
    entries: Vec<AccessEntry>,
}

impl AccessRules {
    /// Takes the entries.
    pub fn new(entries: Vec<AccessEntry>) -> Self {
        Self { entries }
    }

    /// Returns what one party may do. Keep it: it is made once per connection.
    ///
    /// Without any entry, `anonymous` has every topic but `$…`; a named principal has what entries give.
    pub fn rights(&self, principal: &Principal, client_id: Option<&ClientId>) -> Rights {
        if self.entries.is_empty() && principal.is_anonymous() {
            return Rights {
                publish: Grant::Plain,
                subscribe: Grant::Plain,
                command: Grant::Plain,
            };
        }
        let collect = |filters: fn(&AccessEntry) -> &Vec<AccessFilter>| {
            self.entries
                .iter()
                .filter(|entry| entry.principal.matches(principal.as_str()))
                .flat_map(filters)
                .filter_map(|filter| filter.resolve(principal, client_id))
                .collect()
        };
        Rights {
            publish: Grant::Filters(collect(|entry| &entry.publish)),
            subscribe: Grant::Filters(collect(|entry| &entry.subscribe)),
            command: Grant::Filters(collect(|entry| &entry.command)),
        }
    }
}

/// What one party may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    publish: Grant,
    subscribe: Grant,
    command: Grant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Grant {
    /// The gateway's own parts.
    All,
    /// Every topic but `$…`.
    Plain,
    /// What the filters match.
    Filters(Vec<TopicFilter>),
}

impl Grant {
    fn allows(&self, topic: &Topic) -> bool {
        match self {
            Self::All => true,
            Self::Plain => !topic.is_dollar(),
            Self::Filters(filters) => filters.iter().any(|filter| filter.matches(topic)),
        }
    }

    fn covers(&self, wanted: &TopicFilter) -> bool {
        match self {
            Self::All => true,
            Self::Plain => !wanted.as_str().starts_with('$'),
            Self::Filters(filters) => filters.iter().any(|filter| filter.covers(wanted)),
        }
    }
}

impl Rights {
    /// Returns the rights of the gateway's own parts, which need none.
    pub fn all() -> Self {
        Self { publish: Grant::All, subscribe: Grant::All, command: Grant::All }
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
}

/// Returns the topic of the point that a message on `topic` commands, if it is a command topic.
pub fn command_target(topic: &Topic) -> Option<Topic> {
    let text = topic.as_str();
    let target = text.strip_suffix("/set").or_else(|| text.strip_suffix("/call"))?;
    Topic::new(target).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Entry<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str]);

    fn rules(entries: &[Entry<'_>]) -> AccessRules {
        let filters =
            |texts: &[&str]| texts.iter().map(|text| AccessFilter::parse(text).unwrap()).collect();
        AccessRules::new(
            entries
                .iter()
                .map(|(principal, publish, subscribe, command)| AccessEntry {
                    principal: Glob::new(principal),
                    publish: filters(publish),
                    subscribe: filters(subscribe),
                    command: filters(command),
                })
                .collect(),
        )
    }

    fn rights(rules: &AccessRules, principal: &str) -> Rights {
        rules.rights(&Principal::new(principal).unwrap(), Some(&ClientId::new("c1").unwrap()))
    }

    /// main.8: what `docs/config.md` says about `anonymous` and named principals.
    #[test]
    fn anonymous_may_all_until_the_first_entry() {
        let none = AccessRules::default();
        let topic = |text| Topic::new(text).unwrap();
        assert!(rights(&none, "anonymous").may_publish(&topic("a/b")));
        assert!(rights(&none, "anonymous").may_publish(&topic("a/b/set")));
        assert!(!rights(&none, "anonymous").may_publish(&topic("$SYS/x")));
        assert!(!rights(&none, "press-7").may_publish(&topic("a/b")));
        let some = rules(&[("press-*", &["hall1/{principal}/#"], &[], &[])]);
        assert!(!rights(&some, "anonymous").may_publish(&topic("a/b")));
    }

    #[test]
    fn placeholders_stand_for_one_name_and_nothing_else() {
        let rules = rules(&[
            (
                "press-*",
                &["hall1/{principal}/#", "by/{client-id}"],
                &["hall1/{principal}/+/set"],
                &[],
            ),
            ("operators", &[], &["hall1/#"], &["hall1/+/setpoint"]),
        ]);
        let topic = |text| Topic::new(text).unwrap();
        let filter = |text| TopicFilter::new(text).unwrap();
        let press = rights(&rules, "press-7");
        assert!(press.may_publish(&topic("hall1/press-7/temperature")));
        assert!(press.may_publish(&topic("by/c1")));
        assert!(!press.may_publish(&topic("hall1/press-8/temperature")));
        assert!(
            !press.may_publish(&topic("hall1/press-7/setpoint/set")),
            "commands take their own right"
        );
        assert!(press.may_subscribe(&filter("hall1/press-7/+/set")));
        assert!(!press.may_subscribe(&filter("hall1/+/+/set")));
        let tricky = rights(&rules, "press-+");
        assert!(!tricky.may_publish(&topic("hall1/press-7/temperature")));
        let operator = rights(&rules, "operators");
        assert!(operator.may_publish(&topic("hall1/press-7/setpoint/set")));
        assert!(!operator.may_publish(&topic("hall1/press-7/setpoint")));
        assert!(
            operator.may_subscribe(&filter("hall1/#")) && !operator.may_subscribe(&filter("#"))
        );
    }

    #[test]
    fn wrong_filters_are_refused() {
        assert!(matches!(
            AccessFilter::parse("a/{name}"),
            Err(AccessFilterError::Placeholder { .. })
        ));
        assert!(matches!(AccessFilter::parse("a/#/b"), Err(AccessFilterError::Filter(_))));
    }
}
