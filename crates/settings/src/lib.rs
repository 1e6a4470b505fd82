//! Files that people write: one tree with spans from TOML or YAML, and a typed reader over it.
//!
//! [`parse`] turns text into a [`Node`]; a [`TableReader`] takes keys out of it with the parsers of
//! [`read`], notes every problem in [`Issues`] and reports the keys that nobody asked for. Nothing here
//! stops at the first fault, and nothing here opens a file.
//!
//! ```
//! use tidegate_settings::{Format, Issues, Sources, TableReader, parse, read};
//!
//! let mut sources = Sources::default();
//! let file = sources.add("pump.toml", "name = 'north'\nspeeed = 7\n");
//! let mut issues = Issues::default();
//! let root = parse(file, Format::Toml, sources.text(file), &mut issues).expect("the syntax is right");
//!
//! let mut pump = TableReader::root(&root, &mut issues).expect("a file is a table");
//! let name = pump.required("name", read::string, &mut issues);
//! let speed = pump.optional("speed", read::integer(0..=3000), &mut issues);
//! pump.finish(&mut issues);
//!
//! assert_eq!(name, Some("north"));
//! assert_eq!(speed, None);
//! let issue = issues.iter().next().expect("one key is unknown");
//! assert_eq!(issue.message, "unknown key `speeed`");
//! assert_eq!(issue.hint.as_deref(), Some("did you mean `speed`?"));
//! ```

mod issue;
mod nearest;
mod node;
mod quantity;
pub mod read;
mod reader;
mod source;
mod syntax;

pub use issue::{Issue, Issues, Related, Severity};
pub use nearest::nearest;
pub use node::{Entry, Key, Node, NodeValue, Table, TableStyle};
pub use quantity::{ByteSize, ByteSizeError, DurationError, format_duration, parse_duration};
pub use reader::TableReader;
pub use source::{Position, SourceId, Sources, Span};
pub use syntax::{DEPTH_MAX, Format, parse};

#[cfg(test)]
mod tests;
