//! A run of steps, and the table it ends with.

use std::fmt::{self, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// One thing that a run does, over the facts `C` that all its steps share.
pub(crate) struct Step<C> {
    /// Short name in the table.
    pub(crate) name: &'static str,
    /// Does it.
    pub(crate) action: fn(&C) -> Result<()>,
}

#[derive(Debug)]
struct Row {
    name: &'static str,
    elapsed: Duration,
    verdict: Verdict,
}

#[derive(Debug)]
enum Verdict {
    Passed,
    Failed,
}

/// Runs all steps in order, also past a failure, and prints the table.
///
/// # Errors
///
/// Fails if any step failed, naming each.
pub(crate) fn run_all<C>(steps: &[&Step<C>], context: &C) -> Result<()> {
    let mut rows = Vec::with_capacity(steps.len());
    for step in steps {
        println!("\n── {} ──", step.name);
        let start = Instant::now();
        let verdict = match (step.action)(context) {
            Ok(()) => Verdict::Passed,
            Err(error) => {
                eprintln!("{} failed: {error:#}", step.name);
                Verdict::Failed
            }
        };
        rows.push(Row { name: step.name, elapsed: start.elapsed(), verdict });
    }
    print!("\n{}", table(&rows));
    let failed: Vec<_> = rows
        .iter()
        .filter(|row| matches!(row.verdict, Verdict::Failed))
        .map(|row| row.name)
        .collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn table(rows: &[Row]) -> String {
    let total: Duration = rows.iter().map(|row| row.elapsed).sum();
    let mut text = format!("{:<16} {:>8}  result\n", "step", "seconds");
    for row in rows {
        let seconds = row.elapsed.as_secs_f64();
        writeln!(text, "{:<16} {seconds:>8.1}  {}", row.name, row.verdict)
            .expect("strings take text");
    }
    writeln!(text, "{:<16} {:>8.1}", "all", total.as_secs_f64()).expect("strings take text");
    text
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => formatter.write_str("passed"),
            Self::Failed => formatter.write_str("FAILED"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn a_failure_is_named_and_stops_no_later_step() {
        type Log = RefCell<Vec<&'static str>>;
        let steps: [Step<Log>; 3] = [
            Step { name: "first", action: |_| bail!("no") },
            Step {
                name: "second",
                action: |log: &Log| {
                    log.borrow_mut().push("second");
                    Ok(())
                },
            },
            Step { name: "third", action: |_| Ok(()) },
        ];
        let log = Log::default();
        let error = run_all(&steps.each_ref(), &log).unwrap_err();
        assert_eq!(error.to_string(), "failed: first");
        assert_eq!(*log.borrow(), ["second"]);
        assert!(run_all(&[&steps[1], &steps[2]], &log).is_ok());
    }

    #[test]
    fn the_table_shows_each_step_and_the_sum() {
        let row =
            |name, seconds, verdict| Row { name, elapsed: Duration::from_secs(seconds), verdict };
        let rows = [row("format", 1, Verdict::Passed), row("tests", 61, Verdict::Failed)];
        let expected = "\
step              seconds  result
format                1.0  passed
tests                61.0  FAILED
all                  62.0
";
        assert_eq!(table(&rows), expected);
    }
}
