//! Where the demo shows itself: a block that updates in place on a terminal, plain lines elsewhere.

use std::{
    io::{self, IsTerminal as _, Write},
    time::Duration,
};

use super::{picture, snapshot::Snapshot};

/// How often a terminal is drawn, and the gateway looked at.
pub(super) const FRAME: Duration = Duration::from_millis(200);
/// How often a line is written where there is no terminal, in frames.
const FRAMES_PER_LINE: u32 = 5;
/// Taken for a terminal that does not say how large it is.
const SIZE_DEFAULT: Size = Size { columns: 80, rows: 24 };

/// How large a terminal is, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    columns: usize,
    rows: usize,
}

/// Shows snapshots.
pub(super) enum Screen {
    /// In place.
    Terminal {
        /// How many lines of the last picture stand above the cursor.
        drawn: usize,
    },
    /// As one line a second.
    Lines {
        /// How many snapshots came so far.
        frames: u32,
    },
}

impl Screen {
    /// Returns the screen that standard output is.
    pub(super) fn of_stdout() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if io::stdout().is_terminal() && !dumb {
            Self::Terminal { drawn: 0 }
        } else {
            Self::Lines { frames: 0 }
        }
    }

    /// Says where the gateway can be asked, if that is not part of the picture.
    ///
    /// # Errors
    ///
    /// If standard output is closed.
    pub(super) fn begin(&self, http: &str) -> io::Result<()> {
        match self {
            Self::Terminal { .. } => Ok(()),
            Self::Lines { .. } => {
                let mut output = io::stdout().lock();
                writeln!(
                    output,
                    "Tidegate demo, all on this machine: {http}/v1/topics  {http}/metrics"
                )?;
                output.flush()
            }
        }
    }

    /// Shows a snapshot, if it is time for it.
    ///
    /// # Errors
    ///
    /// If nobody looks any more: standard output is closed.
    pub(super) fn show(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let mut output = io::stdout().lock();
        match self {
            Self::Terminal { drawn } => {
                let frame = frame(snapshot, size(), drawn);
                output.write_all(frame.as_bytes())?;
            }
            Self::Lines { frames } => {
                *frames += 1;
                if !frames.is_multiple_of(FRAMES_PER_LINE) {
                    return Ok(());
                }
                writeln!(output, "{}", picture::line(snapshot))?;
            }
        }
        output.flush()
    }

    /// Gives the terminal back as it was, below the last picture.
    pub(super) fn close(&self) {
        if let Self::Terminal { drawn: 1.. } = self {
            // Nobody is left to be told if this fails.
            let _ = io::stdout().write_all(SHOW_CURSOR.as_bytes());
            let _ = io::stdout().flush();
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.close();
    }
}

const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";
/// Holds the terminal's own drawing until [`END_UPDATE`]; those that do not know it go on drawing.
const BEGIN_UPDATE: &str = "\x1b[?2026h";
const END_UPDATE: &str = "\x1b[?2026l";
const ERASE_REST_OF_LINE: &str = "\x1b[K";
const ERASE_BELOW: &str = "\x1b[J";

/// Returns what is written to draw a snapshot over the last one, of which `drawn` lines stand there.
///
/// Lines are overwritten and then erased to their end, never cleared first, so that nothing flickers. The
/// last column stays free: a full line would wrap on some terminals.
fn frame(snapshot: &Snapshot, size: Size, drawn: &mut usize) -> String {
    let mut lines = picture::lines(snapshot, size.columns.saturating_sub(1));
    // One row stays free for the cursor: what scrolls out cannot be drawn again.
    lines.truncate(size.rows.saturating_sub(1));
    let mut frame = String::with_capacity(4_096);
    frame.push_str(BEGIN_UPDATE);
    frame.push_str(HIDE_CURSOR);
    let up = (*drawn).min(size.rows.saturating_sub(1));
    if up > 0 {
        frame.push_str(&format!("\x1b[{up}A\r"));
    }
    for line in &lines {
        frame.push_str(line);
        frame.push_str(ERASE_REST_OF_LINE);
        frame.push_str("\r\n");
    }
    frame.push_str(ERASE_BELOW);
    frame.push_str(END_UPDATE);
    *drawn = lines.len();
    frame
}

fn size() -> Size {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            Size { columns: size.ws_col.into(), rows: size.ws_row.into() }
        }
        _ => SIZE_DEFAULT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal as far as the demo uses one.
    struct Terminal {
        rows: Vec<String>,
        at: usize,
    }

    impl Terminal {
        fn write(&mut self, text: &str) {
            let mut rest = text;
            while let Some(character) = rest.chars().next() {
                if let Some(sequence) = rest.strip_prefix("\x1b[") {
                    let end = sequence.find(|letter: char| letter.is_ascii_alphabetic()).unwrap();
                    let (argument, kind) = (&sequence[..end], &sequence[end..=end]);
                    match kind {
                        "A" => self.at -= argument.parse::<usize>().unwrap(),
                        "J" => self.rows.truncate(self.at),
                        "K" | "h" | "l" => {}
                        other => panic!("{other}"),
                    }
                    rest = &sequence[end + 1..];
                    continue;
                }
                match character {
                    '\n' => self.at += 1,
                    // Every line is written from its beginning and erased behind its end.
                    '\r' => {}
                    _ => {
                        let end = rest.find('\x1b').unwrap();
                        self.rows.resize(self.rows.len().max(self.at + 1), String::new());
                        self.rows[self.at] = rest[..end].to_owned();
                        rest = &rest[end..];
                        continue;
                    }
                }
                rest = &rest[1..];
            }
        }
    }

    fn snapshot(seconds: u64) -> Snapshot {
        Snapshot {
            elapsed: Duration::from_secs(seconds),
            http: "http://127.0.0.1:1".into(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_picture_is_drawn_over_the_last_one() {
        let mut terminal = Terminal { rows: vec!["$ tidegate demo".into()], at: 1 };
        let (mut drawn, size) = (0, Size { columns: 60, rows: 40 });
        for seconds in [1, 2, 300] {
            terminal.write(&frame(&snapshot(seconds), size, &mut drawn));
        }
        assert_eq!(terminal.rows[0], "$ tidegate demo");
        let expected = picture::lines(&snapshot(300), 59);
        assert_eq!(drawn, expected.len());
        let shown: Vec<&str> = terminal.rows[1..].iter().map(String::as_str).collect();
        assert_eq!(shown.join("\n").trim_end(), expected.join("\n").trim_end());
    }

    #[test]
    fn a_picture_never_scrolls() {
        for rows in [1, 2, 5, 24] {
            let (mut drawn, size) = (0, Size { columns: 80, rows });
            for _ in 0..3 {
                let frame = frame(&snapshot(1), size, &mut drawn);
                assert!(frame.matches('\n').count() < rows.max(1) && drawn < rows, "{rows} rows");
            }
        }
    }

    #[test]
    fn a_terminal_that_shrinks_is_not_left_by_the_cursor() {
        let mut drawn = 0;
        frame(&snapshot(1), Size { columns: 80, rows: 40 }, &mut drawn);
        let shrunk = frame(&snapshot(1), Size { columns: 80, rows: 10 }, &mut drawn);
        assert!(shrunk.contains("\x1b[9A"), "{shrunk:?}");
    }
}
