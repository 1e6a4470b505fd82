//! Topics made from captures, and captures found in topics.

mod encoding;
mod index;
mod pattern;
mod pieces;
mod template;

pub(crate) use index::TopicIndex;
pub use pattern::TopicPattern;
pub(crate) use pattern::{Decoding, Wildcards};
pub(crate) use pieces::names_in;
pub use template::{RenderError, TopicTemplate};

#[cfg(test)]
mod tests;
