//! The system calls of a traced gateway, in the order in which they began and ended.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use super::wait;

/// One system call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Thread that made it.
    pub(crate) thread: u32,
    /// Name, such as `fdatasync`.
    pub(crate) name: String,
    /// Everything between the parentheses; text is escaped.
    pub(crate) arguments: String,
    /// What it returned, as strace prints it: `0`, `12`, `-1 EAGAIN (…)`.
    pub(crate) result: String,
    /// Place in the trace at which it began.
    pub(crate) began: usize,
    /// Place in the trace at which it ended.
    pub(crate) ended: usize,
}

impl Call {
    /// Returns the bytes that went through the call, all buffers joined.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let is_vectored = self.arguments.contains("iov_base=");
        let mut quoted = self.arguments.split('"');
        let mut before = quoted.next().unwrap_or_default();
        let mut bytes = Vec::new();
        while let (Some(text), Some(after)) = (quoted.next(), quoted.next()) {
            // Addresses are quoted too; a call that is not vectored has one buffer, before its address.
            let is_buffer =
                if is_vectored { before.ends_with("iov_base=") } else { !before.ends_with('(') };
            if is_buffer {
                bytes.extend(unescape(text));
            }
            before = after;
        }
        bytes
    }

    /// Returns whether the bytes that went through the call contain `needle`.
    pub(crate) fn carries(&self, needle: &[u8]) -> bool {
        self.bytes().windows(needle.len()).any(|window| window == needle)
    }

    /// Returns what the call's first descriptor stands for: a path, or `socket:[…]`.
    pub(crate) fn target(&self) -> String {
        let name = self.arguments.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
        name.map_or_else(String::new, |(name, _)| {
            String::from_utf8_lossy(&unescape(name)).into_owned()
        })
    }

    /// Returns whether the call succeeded.
    pub(crate) fn succeeded(&self) -> bool {
        !self.result.starts_with('-') && self.result != "?"
    }
}

/// Undoes strace's `-xx`.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4);
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        match rest {
            [b'\\', b'x', high, low, tail @ ..] => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap_or_default();
                bytes.push(
                    u8::try_from(digit(high) << 4 | digit(low)).expect("two digits make a byte"),
                );
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

/// Reads the whole trace that `strace -f -o FILE` writes, once the process `id` has ended.
#[track_caller]
pub(crate) fn read(file: &Path, id: u32) -> Vec<Call> {
    // strace writes behind; this is the last line about a process.
    let is_last = |line: &str| {
        let about = line.strip_prefix(&id.to_string()).map(str::trim_start);
        about.is_some_and(|rest| rest.starts_with("+++ "))
    };
    let text = wait::until("strace to finish", || {
        fs::read_to_string(file).ok().filter(|text| text.lines().any(is_last))
    });
    parse(&text)
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
