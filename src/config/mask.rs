//! Keeps secrets that stand in a file, against the rules or by a slip, out of what is shown of it.

use std::ops::Range;

use tidegate_settings::{Issue, Issues, Sources, nearest};

/// What stands for a secret in messages.
const MASK: &str = "…";

/// Keys of a secret's place, which are no secret.
const PLACES: [&str; 3] = ["credential", "file", "env"];

/// Returns the issues without the secrets that their words repeat.
pub(super) fn mask_issues(issues: Issues, sources: &Sources) -> Issues {
    let mut secrets: Vec<&str> = Vec::new();
    for id in sources.ids() {
        let text = sources.text(id);
        secrets.extend(
            secret_ranges(text).into_iter().map(|range| text[range].trim_matches(['"', '\''])),
        );
    }
    secrets.retain(|secret| !secret.is_empty());
    // The longest first, lest a part of one is masked and the rest remains.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    if secrets.is_empty() {
        return issues;
    }
    let mask = |text: &str| {
        secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, MASK))
    };
    issues.map(|issue| Issue {
        message: mask(&issue.message),
        label: issue.label.as_deref().map(mask),
        hint: issue.hint.as_deref().map(mask),
        ..issue
    })
}

/// Returns the text with every letter of a secret replaced by one of as many bytes: places stay the same.
pub(super) fn mask_text(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut seen = 0;
    for range in secret_ranges(text) {
        if range.start < seen {
            continue;
        }
        masked.push_str(&text[seen..range.start]);
        masked.extend(text[range.clone()].chars().map(|letter| {
            match (letter, letter.len_utf8()) {
                ('\r' | '\n', _) => letter,
                (_, 1) => '*',
                (_, 2) => '×',
                (_, 3) => '•',
                _ => '\u{1F512}',
            }
        }));
        seen = range.end;
    }
    masked.push_str(&text[seen..]);
    masked
}

/// Finds the values of keys that sound like secrets, and what stands before the `@` of a URL.
///
/// This looks at letters, not at the tree, for it must work where the syntax is broken.
fn secret_ranges(text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Some(word) = next_word(text, at) {
        at = word.end;
        if text[at..].starts_with("://") {
            ranges.extend(user_information(text, at + "://".len()));
        } else if sounds_secret(&text[word.clone()]) {
            let found = value_after(text, word);
            at = found.last().map_or(at, |range| range.end);
            ranges.extend(found);
        }
    }
    ranges
}

fn next_word(text: &str, from: usize) -> Option<Range<usize>> {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    let start = from + text[from..].find(is_letter)?;
    let len = text[start..].find(|letter| !is_letter(letter)).unwrap_or(text.len() - start);
    Some(start..start + len)
}

fn sounds_secret(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    let parts = ["password", "passwd", "passphrase", "secret", "token", "pwd"];
    word == "pass"
        || word == "key"
        || word.ends_with("access-key")
        // Under which key an authorizer looks for a token is no secret.
        || (parts.iter().any(|part| word.contains(part))
            && !word.starts_with("allow-")
            && word != "token-key")
        || nearest(&word, ["password"]).is_some()
}

fn user_information(text: &str, start: usize) -> Option<Range<usize>> {
    let authority = &text[start..];
    let end = authority.find(['/', '"', '\'', '?', '#', '\r', '\n']);
    let authority = &authority[..end.unwrap_or(authority.len())];
    authority.rfind('@').map(|at| start..start + at)
}

/// Finds the value of the key at `word`, if it is one.
fn value_after(text: &str, word: Range<usize>) -> Vec<Range<usize>> {
    let Some(value) = skip_separator(text, word.end) else { return Vec::new() };
    let rest = &text[value..];
    match rest.chars().next() {
        Some('{') => values_in_braces(text, value + 1),
        Some(quote @ ('"' | '\'')) => {
            let triple: String = [quote; 3].iter().collect();
            let (open, close) =
                if rest.starts_with(&triple) { (3, triple) } else { (1, quote.to_string()) };
            let end =
                closing(&rest[open..], &close).map_or(rest.len(), |end| open + end + close.len());
            // Without its closing quote a text of one line ends with the line.
            let line = rest.find('\n').unwrap_or(rest.len());
            one(value..value + if open == 1 { end.min(line) } else { end })
        }
        Some('|' | '>') => {
            let line_start = text[..word.start].rfind('\n').map_or(0, |at| at + 1);
            one(value..block_end(text, value, word.start - line_start))
        }
        Some(_) => {
            let line = &rest[..rest.find(['\n', '\r']).unwrap_or(rest.len())];
            let line = &line[..line.find(" #").unwrap_or(line.len())];
            one(value..value + line.trim_end().len())
        }
        None => Vec::new(),
    }
}

fn one(range: Range<usize>) -> Vec<Range<usize>> {
    Vec::from([range])
}

/// Skips a closing quote of the key, spaces and the `=` or `:`, and spaces in the line.
fn skip_separator(text: &str, from: usize) -> Option<usize> {
    let rest = &text[from..];
    let trimmed = rest.trim_start_matches(['"', '\'']).trim_start_matches([' ', '\t']);
    let value = trimmed.strip_prefix(['=', ':'])?.trim_start_matches([' ', '\t']);
    if value.starts_with(['\n', '\r', '#', '/']) || value.is_empty() {
        return None;
    }
    Some(text.len() - value.len())
}

/// Finds the values in a table in braces that do not say where a secret is; all of it if it is no table.
fn values_in_braces(text: &str, from: usize) -> Vec<Range<usize>> {
    let end = from + text[from..].find(['}', '\n']).unwrap_or(text.len() - from);
    let mut ranges = Vec::new();
    let mut is_table = text[from..end].trim().is_empty();
    let mut at = from;
    while let Some(word) = next_word(text, at).filter(|word| word.end <= end) {
        at = word.end;
        let Some(value) = skip_separator(text, word.end).filter(|value| *value < end) else {
            continue;
        };
        is_table = true;
        let rest = &text[value..end];
        let len = match rest.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                closing(&rest[1..], &quote.to_string()).map_or(rest.len(), |end| end + 2)
            }
            _ => rest.find(',').unwrap_or(rest.len()),
        };
        at = value + len;
        if !PLACES.contains(&&text[word]) {
            ranges.push(value..value + rest[..len].trim_end().len());
        }
    }
    if !is_table {
        let line = text[from..].find('\n').unwrap_or(text.len() - from);
        ranges.push(from - 1..from + line);
    }
    ranges
}

/// Finds the closing quote, which no backslash precedes.
fn closing(text: &str, quote: &str) -> Option<usize> {
    text.match_indices(quote).map(|(at, _)| at).find(|at| !text[..*at].ends_with('\\'))
}

/// Returns where the lines end that are indented deeper than `indentation`.
fn block_end(text: &str, from: usize, indentation: usize) -> usize {
    let mut end = from;
    for (number, line) in text[from..].split_inclusive('\n').enumerate() {
        let depth = line.len() - line.trim_start().len();
        if number > 0 && !line.trim().is_empty() && depth <= indentation {
            break;
        }
        end += line.len();
    }
    from + text[from..end].trim_end().len()
}
