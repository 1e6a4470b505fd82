//! `tidegate verify`.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use serde_json::{Value, json};
use tidegate_uplink::{
    decoder::Limits,
    verify::{
        Ranges, Seen, StreamKey, Tally, TallyError,
        capture::{first_payload, is_text, read_line},
    },
};

use super::{EX_RED, EX_UNASKED};

/// What stands below the help.
pub(super) const AFTER_HELP: &str = "\
A capture is text with a payload a line: `TOPIC HEX` or `TOPIC BASE64`, JSON with `payload` and `topic`; or
payloads one after the other, as a file or as the files of a folder. The formats `message` and `json` need topics.

What was captured says nothing of what came before its first number of a stream, but with --from-start, nor of
what comes after the last one. The format `raw` has no numbers.

Exit codes:
  0   complete: every number between the first and the last of each stream came, or the gateway told of it
  1   numbers are missing
  2   something could not be read, so that nothing is proven
  64  wrong use

Example:
  mosquitto_sub -V 5 -q 1 -t 'tidegate/#' -F '%t %x' > capture.txt
  tidegate verify capture.txt";

/// A line longer than this is no payload.
const LINE_BYTES_MAX: u64 = 48 << 20;
/// How much of a capture is looked at to tell what it is.
const BEGINNING_BYTES: usize = 512;
/// How many folders may stand inside each other.
const FOLDERS_MAX: usize = 8;
/// How many payloads that cannot be read are told one by one.
const FAULTS_SHOWN: u64 = 10;

/// Arguments of `tidegate verify`.
#[derive(Debug, clap::Args)]
pub(super) struct VerifyArguments {
    /// Captures: files, folders of files, or `-` for standard input, which is also read if there is none.
    files: Vec<PathBuf>,
    /// Count what is missing from number 1 on, not from the first that came.
    #[arg(long)]
    from_start: bool,
    /// Print everything as JSON.
    #[arg(long)]
    json: bool,
    /// How many ranges of missing numbers are listed, of a stream.
    #[arg(long, value_name = "N", default_value_t = 20)]
    list: usize,
}

/// Says whether a captured stream is complete. The exit code is 1 if numbers are missing.
pub(super) fn verify(arguments: &VerifyArguments) -> anyhow::Result<ExitCode> {
    let mut reader = Captures { tally: Tally::new(Tally::RANGES_MAX), payloads: 0, faults: 0 };
    match reader.read_all(&arguments.files) {
        Ok(()) => {}
        Err(error) => {
            eprintln!("tidegate: {error:#}");
            return Ok(EX_UNASKED.into());
        }
    }
    let start = arguments.from_start.then_some(1);
    let report = Report::new(&reader, start);
    let mut output = io::stdout().lock();
    if arguments.json {
        let report = report.to_json(&reader, start, arguments.list);
        writeln!(output, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        report.print(&reader, start, arguments.list, &mut output)?;
    }
    Ok(ExitCode::from(match (reader.faults, report.missing) {
        (0, 0) if report.readings > 0 => 0,
        (0, 1..) => EX_RED,
        _ => EX_UNASKED,
    }))
}

/// Reads captures into a tally.
struct Captures {
    tally: Tally,
    payloads: u64,
    /// How many payloads could not be read.
    faults: u64,
}

impl Captures {
    fn read_all(&mut self, files: &[PathBuf]) -> anyhow::Result<()> {
        if files.is_empty() {
            return self.read_from(io::stdin().lock(), "standard input");
        }
        files.iter().try_for_each(|path| match path.to_str() {
            Some("-") => self.read_from(io::stdin().lock(), "standard input"),
            _ => self.read_path(path, 0),
        })
    }

    fn read_path(&mut self, path: &Path, depth: usize) -> anyhow::Result<()> {
        let shown = path.display();
        if !path.is_dir() {
            let file = File::open(path).with_context(|| format!("cannot open {shown}"))?;
            return self.read_from(file, &shown.to_string());
        }
        anyhow::ensure!(depth < FOLDERS_MAX, "{shown} lies in more than {FOLDERS_MAX} folders");
        let entries = path.read_dir().with_context(|| format!("cannot read {shown}"))?;
        let mut paths = entries
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<Vec<PathBuf>>>()
            .with_context(|| format!("cannot read {shown}"))?;
        paths.sort();
        let mut below = paths.iter().filter(|path| !path.is_symlink());
        below.try_for_each(|path| self.read_path(path, depth + 1))
    }

    fn read_from(&mut self, input: impl Read, name: &str) -> anyhow::Result<()> {
        let mut input = BufReader::with_capacity(1 << 16, input);
        let beginning = input.fill_buf().with_context(|| format!("cannot read {name}"))?;
        let beginning = &beginning[..beginning.len().min(BEGINNING_BYTES)];
        let is_text = is_text(beginning);
        let read = if is_text { Self::read_lines } else { Self::read_payloads };
        read(self, &mut input, name)
    }

    fn read_lines(&mut self, input: &mut impl BufRead, name: &str) -> anyhow::Result<()> {
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let read = input.take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
            if read.with_context(|| format!("cannot read {name}"))? == 0 {
                break;
            }
            anyhow::ensure!(
                (line.len() as u64) < LINE_BYTES_MAX,
                "line {number} of {name} is longer than {LINE_BYTES_MAX} bytes"
            );
            let place = || format!("line {number} of {name}");
            match std::str::from_utf8(&line).map(read_line) {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(captured))) => {
                    self.take(&captured.payload, captured.topic.as_deref(), place)?;
                }
                Ok(Err(error)) => self.fault(&place(), &error),
                Err(error) => self.fault(&place(), &error),
            }
        }
        Ok(())
    }

    /// Reads payloads that follow each other.
    fn read_payloads(&mut self, input: &mut impl BufRead, name: &str) -> anyhow::Result<()> {
        let limits = Limits::OWN;
        let (mut buffer, mut at) = (Vec::new(), 0_u64);
        let mut wanted = 1 << 20;
        loop {
            let missing = (wanted as u64).saturating_sub(buffer.len() as u64);
            input
                .take(missing)
                .read_to_end(&mut buffer)
                .with_context(|| format!("cannot read {name}"))?;
            let is_end = buffer.len() < wanted;
            let mut taken = 0;
            loop {
                let rest = &buffer[taken..];
                let place = || format!("byte {} of {name}", at + taken as u64);
                match first_payload(rest, &limits) {
                    Ok(Some(length)) => {
                        self.take(&rest[..length], None, place)?;
                        taken += length;
                    }
                    Ok(None) if is_end && rest.is_empty() => return Ok(()),
                    Ok(None) if is_end => {
                        self.fault(&place(), &"the last payload is cut off");
                        return Ok(());
                    }
                    Ok(None) => break,
                    // Where the next payload begins is not known.
                    Err(error) => {
                        self.fault(&place(), &error);
                        return Ok(());
                    }
                }
            }
            // Where none was complete, more is needed; the limits end this.
            wanted = if taken == 0 { 2 * wanted } else { wanted };
            buffer.drain(..taken);
            at += taken as u64;
        }
    }

    fn take(
        &mut self,
        payload: &[u8],
        topic: Option<&str>,
        place: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        self.payloads += 1;
        match self.tally.take(payload, topic) {
            Ok(()) => Ok(()),
            Err(error @ TallyError::TooMany { .. }) => Err(error.into()),
            Err(error) => {
                self.fault(&place(), &error);
                Ok(())
            }
        }
    }

    fn fault(&mut self, place: &str, error: &dyn std::fmt::Display) {
        self.faults += 1;
        if self.faults <= FAULTS_SHOWN {
            eprintln!("tidegate: {place}: {error}");
        }
    }
}

/// The sums.
struct Report {
    readings: u64,
    streams: usize,
    twice: u64,
    missing: u64,
    gaps: u64,
    /// How many streams begin later than at 1.
    late: usize,
}

impl Report {
    fn new(captures: &Captures, start: Option<i64>) -> Self {
        let tally = &captures.tally;
        let seen = || tally.streams().map(|(_, seen)| seen);
        let is_late = |seen: &&Seen| seen.span().is_some_and(|(first, _)| first > 1);
        Self {
            readings: tally.readings(),
            streams: tally.streams().len(),
            twice: seen().map(|seen| seen.twice).sum(),
            missing: seen().map(|seen| seen.missing(start).count()).sum(),
            gaps: seen().map(|seen| seen.gaps().count()).sum(),
            late: seen().filter(is_late).count(),
        }
    }

    fn print(
        &self,
        captures: &Captures,
        start: Option<i64>,
        list: usize,
        output: &mut impl Write,
    ) -> io::Result<()> {
        for (key, seen) in captures.tally.streams() {
            let missing = seen.missing(start);
            if !missing.is_empty() {
                let (name, numbers) = (describe(key), listed(&missing, list));
                writeln!(output, "missing {} of {name}: {numbers}", missing.count())?;
            }
            let gaps = seen.gaps();
            if !gaps.is_empty() {
                let (name, numbers) = (describe(key), listed(&gaps, list));
                writeln!(output, "told as gaps {} of {name}: {numbers}", gaps.count())?;
            }
        }
        let Self { readings, streams, twice, missing, gaps, .. } = self;
        let word = match (captures.faults, missing) {
            (0, 0) if *readings > 0 => "complete",
            (0, 1..) => "incomplete",
            _ => "not proven",
        };
        writeln!(
            output,
            "{word}: {readings} readings of {streams} streams; missing {missing}, came twice {twice}, told as gaps {gaps}, \
             unreadable payloads {}",
            captures.faults
        )?;
        if self.late > 0 && start.is_none() {
            let late = self.late;
            writeln!(
                output,
                "{late} streams begin later than at 1; --from-start counts what is before as missing"
            )?;
        }
        Ok(())
    }

    fn to_json(&self, captures: &Captures, start: Option<i64>, list: usize) -> Value {
        let streams = captures.tally.streams().map(|(key, seen)| {
            let (missing, gaps) = (seen.missing(start), seen.gaps());
            json!({
                "gateway": key.gateway.as_deref(),
                "uplink": key.uplink.as_deref(),
                "epoch": key.epoch,
                "n": &*key.stream,
                "first": seen.span().map(|(first, _)| first),
                "last": seen.span().map(|(_, last)| last),
                "received": seen.received.count(),
                "twice": seen.twice,
                "missing": missing.count(),
                "missing-ranges": missing.iter().take(list).collect::<Vec<_>>(),
                "gaps": gaps.count(),
                "gap-ranges": gaps.iter().take(list).collect::<Vec<_>>(),
            })
        });
        json!({
            "complete": captures.faults == 0 && self.missing == 0 && self.readings > 0,
            "payloads": captures.payloads,
            "unreadable": captures.faults,
            "readings": self.readings,
            "twice": self.twice,
            "missing": self.missing,
            "gaps": self.gaps,
            "gaps-by-reason": captures.tally.reasons().collect::<std::collections::BTreeMap<_, _>>(),
            "streams": streams.collect::<Vec<Value>>(),
        })
    }
}

fn describe(key: &StreamKey) -> String {
    let StreamKey { gateway, uplink, epoch, stream } = key;
    match (gateway, uplink) {
        (Some(gateway), Some(uplink)) => {
            format!("{stream} (gateway {gateway}, uplink {uplink}, epoch {epoch})")
        }
        _ => format!("{stream} (epoch {epoch})"),
    }
}

fn listed(ranges: &Ranges, list: usize) -> String {
    let shown = ranges.iter().take(list).map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    let mut text = shown.collect::<Vec<String>>().join(", ");
    if ranges.len() > list {
        text += &format!(", and {} ranges more", ranges.len() - list);
    }
    text
}

#[cfg(test)]
mod tests;
