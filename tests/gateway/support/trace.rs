//! The system calls of a traced gateway, in the order in which they began and ended.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// One system call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Thread that made it.
    pub(crate) thread: u32,
    /// Name, such as `fdatasync`.
    pub(crate) name: String,
    /// Everything between the parentheses; text as `\x68\x69`, descriptors as `7<path>`.
    pub(crate) arguments: String,
    /// What it returned, as strace prints it: `0`, `12`, `-1 EAGAIN (…)`.
    pub(crate) result: String,
    /// Place in the trace at which it began.
    pub(crate) began: usize,
    /// Place in the trace at which it ended.
    pub(crate) ended: usize,
}

impl Call {
    /// Returns whether the bytes that went through the call contain `needle`.
    pub(crate) fn carries(&self, needle: &[u8]) -> bool {
        let hex: String = needle.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        self.arguments.contains(&hex)
    }

    /// Returns whether the call succeeded.
    pub(crate) fn succeeded(&self) -> bool {
        !self.result.starts_with('-') && self.result != "?"
    }
}

/// Reads the trace that `strace -f -o FILE` has written so far; calls still under way are left out.
#[track_caller]
pub(crate) fn read(file: &Path) -> Vec<Call> {
    parse(&fs::read_to_string(file).expect("strace writes its file"))
}

pub(crate) fn parse(text: &str) -> Vec<Call> {
    let mut open: HashMap<u32, (String, usize)> = HashMap::new();
    let mut calls = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let (Ok(thread), rest) = (thread.parse(), rest.trim_start()) else { continue };
        if let Some(beginning) = rest.strip_suffix("<unfinished ...>") {
            open.insert(thread, (beginning.trim_end().to_owned(), at));
        } else if let Some(resumed) = rest.strip_prefix("<... ") {
            let tail = resumed.split_once(" resumed>").map_or("", |(_, tail)| tail);
            let Some((beginning, began)) = open.remove(&thread) else { continue };
            calls.extend(call(thread, &(beginning + tail), began, at));
        } else {
            calls.extend(call(thread, rest, at, at));
        }
    }
    calls
}

/// Takes `name(arguments) = result` apart; `None` for signals and ends of threads.
fn call(thread: u32, text: &str, began: usize, ended: usize) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let arguments = arguments.trim_end().strip_suffix(')')?;
    let is_name =
        name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_');
    is_name.then(|| Call {
        thread,
        name: name.to_owned(),
        arguments: arguments.to_owned(),
        result: result.to_owned(),
        began,
        ended,
    })
}
