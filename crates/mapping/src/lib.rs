//! The mapping language: parse with spans, compile at load, apply to readings.
//!
//! A mapping file says which address of a device becomes which topic, and what happens to the value on the way.
//! [`MappingSet::compile`] reads the trees of all files and notes every problem with its place. What it returns
//! is a set of pure functions: same reading, same files, same message. Nothing here opens a file, knows the time
//! or has state.
//!
//! Upward, an [`Entry`] turns a reading and its captures into a topic and a reading ([`Entry::apply`]), and
//! [`MappingSet::match_mqtt`] finds the entry for a topic that an old device publishes to. Downward,
//! [`MappingSet::command_target`] finds the address behind a topic and [`Entry::check_command`] says whether a
//! value may be written there.
//!
//! ```
//! use tidegate_mapping::{Applied, Environment, MappingSet};
//! use tidegate_model::{AdapterName, Captures, Origin, Reading, Timestamp, Value};
//! use tidegate_settings::{Format, Issues, Sources, parse};
//!
//! let text = r#"
//!     [[coap]]
//!     resource = "/sensors/{room}/temperature"
//!     transform = "value / 10"
//!     topic = "hall1/{room}/temperature"
//! "#;
//! let mut sources = Sources::default();
//! let file = sources.add("sensors.toml", text);
//! let mut issues = Issues::default();
//! let tree = parse(file, Format::Toml, text, &mut issues).expect("the syntax is right");
//! let set = MappingSet::compile(&[tree], &Environment::default(), &mut issues).expect("all is well");
//!
//! let entry = &set.entries()[0];
//! let captures = Captures::new(["boiler".into()]);
//! let origin = Origin { adapter: AdapterName::new("coap").expect("a name") };
//! let reading = Reading::new(Value::Integer(217), Timestamp::from_unix_millis(0), origin);
//! match entry.apply(&captures, reading) {
//!     Applied::Message { topic, reading, .. } => {
//!         assert_eq!(topic.as_str(), "hall1/boiler/temperature");
//!         assert_eq!(reading.value, Value::Double(21.7));
//!     }
//!     other => panic!("{other:?}"),
//! }
//! ```

mod apply;
mod clash;
mod command;
mod entry;
mod envelope;
mod payload;
mod read;
mod set;
mod topic;

pub use apply::{Applied, Fault, LeftOut};
pub use command::{Callable, CommandRefusal, CommandTarget, Writable};
pub use entry::{Address, Entry, NodeAddressPattern};
pub use payload::{Inlet, PayloadError};
pub use set::{Environment, MappingSet};
pub use tidegate_expression as expression;
pub use topic::{RenderError, TopicPattern, TopicTemplate};

#[cfg(test)]
mod tests;
