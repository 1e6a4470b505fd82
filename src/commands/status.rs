//! `tidegate status`.

use std::{io, process::ExitCode};

use anyhow::Context as _;
use serde_json::Value;

use super::{ConfigArguments, EX_CONFIG, EX_UNAVAILABLE};
use crate::{config, control, expiry};

/// Arguments of `tidegate status`.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Print everything as JSON.
    #[arg(long)]
    json: bool,
    /// Walk the journal and count again; the exit code is 1 if the ledger disagrees.
    #[arg(long)]
    audit: bool,
}

/// Asks the running gateway how it is. The exit code is 1 if the ledger does not balance.
pub(super) fn status(arguments: &StatusArguments) -> anyhow::Result<ExitCode> {
    let path = &arguments.config.config;
    // A gateway that runs can be asked, whatever has become of its files since it started.
    let Some(data_dir) = config::data_dir(path)? else {
        eprintln!(
            "tidegate: {} has errors; see `tidegate check -c {}`",
            path.display(),
            path.display()
        );
        return Ok(ExitCode::from(EX_CONFIG));
    };
    let question = if arguments.audit { "audit" } else { "status" };
    let answer = match control::ask(&data_dir, question) {
        Ok(answer) => answer,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            eprintln!("tidegate: no gateway is running on {}", data_dir.display());
            return Ok(ExitCode::from(EX_UNAVAILABLE));
        }
        Err(error) => return Err(error).context("cannot ask the gateway"),
    };
    let status: Value = serde_json::from_str(&answer).context("the gateway gave no JSON")?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print!("{}", describe(&status));
    }
    let balanced = uplinks(&status).all(|(_, uplink)| {
        uplink["balanced"] == Value::Bool(true) && uplink["audit"]["agrees"] != Value::Bool(false)
    });
    Ok(if balanced { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn uplinks(status: &Value) -> impl Iterator<Item = (&String, &Value)> {
    status["uplinks"].as_object().into_iter().flatten()
}

/// Returns the status for people.
fn describe(status: &Value) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let mut line = |line: std::fmt::Arguments<'_>| {
        writeln!(text, "{line}").expect("a String takes everything")
    };
    let ready = if status["ready"] == Value::Bool(true) { "ready" } else { "NOT READY" };
    line(format_args!(
        "gateway {} {} is {ready}, up {} s, durability {}",
        word(&status["gateway"]),
        word(&status["version"]),
        status["uptime-seconds"],
        word(&status["durability"]),
    ));
    if let Some(reason) = status["not-ready-because"].as_str() {
        line(format_args!("  not ready: {reason}"));
    }
    for (name, uplink) in uplinks(status) {
        describe_uplink(name, uplink, &mut line);
    }
    let store = &status["store"];
    if let Some(damages) = store["damages"].as_u64().filter(|count| *count > 0) {
        line(format_args!(
            "journal: damaged in {damages} places when it was opened, {} bytes kept in quarantine",
            store["quarantined-bytes"]
        ));
    }
    for (reason, count) in status["not-admitted"].as_object().into_iter().flatten() {
        line(format_args!("not admitted, {reason}: {count}"));
    }
    for certificate in status["certificates"].as_array().into_iter().flatten() {
        let left = certificate["days-left"].as_i64().unwrap_or(i64::MAX);
        let ends = match left {
            ..0 => "HAS ENDED on".to_owned(),
            left if left < expiry::WARNED_DAYS => format!("ENDS in {left} days, on"),
            _ => "ends on".to_owned(),
        };
        line(format_args!(
            "certificate of {}, {}: {ends} {}",
            word(&certificate["used-by"]),
            word(&certificate["name"]),
            word(&certificate["not-after"]),
        ));
    }
    let broker = &status["broker"];
    line(format_args!(
        "broker: {} connections, {} sessions, {} subscriptions, {} retained, {} queued",
        broker["connections"],
        broker["sessions"],
        broker["subscriptions"],
        broker["retained"],
        broker["queued"],
    ));
    for (name, part) in status["parts"].as_object().into_iter().flatten() {
        if let Some(error) = part["error"].as_str() {
            line(format_args!("{name}: {error}"));
        }
    }
    if let Some(error) = status["mapping"]["error"].as_str() {
        line(format_args!("mapping files: the last change was not applied:\n{error}"));
    }
    text
}

fn describe_uplink(name: &str, uplink: &Value, line: &mut impl FnMut(std::fmt::Arguments<'_>)) {
    let connected =
        if uplink["connected"] == Value::Bool(true) { "connected" } else { "NOT CONNECTED" };
    line(format_args!("uplink {name}: {connected}{}", reason(&uplink["error"])));
    let verdict = verdict(uplink);
    line(format_args!(
        "  received {} = delivered {} + filtered {} + expired {} + dropped {} + queued {}: {verdict}",
        uplink["received"],
        uplink["delivered"],
        sum(&uplink["filtered"]),
        uplink["expired"],
        sum(&uplink["dropped"]),
        uplink["queued"],
    ));
    for key in ["filtered", "dropped"] {
        for (name, count) in uplink[key].as_object().into_iter().flatten() {
            line(format_args!("    {key} {name}: {count}"));
        }
    }
    if let Some(unreadable) = uplink["unreadable"].as_u64().filter(|count| *count > 0) {
        line(format_args!("    queued, but unreadable: {unreadable}"));
    }
    if let Some(agrees) = uplink["audit"]["agrees"].as_bool() {
        let verdict = if agrees { "agrees" } else { "DISAGREES" };
        let audit = &uplink["audit"];
        line(format_args!(
            "  audit of the journal {verdict}: {} records counted, {} missing{}",
            audit["queued"].as_u64().unwrap_or_default(),
            audit["damaged"].as_u64().unwrap_or_default(),
            reason(&audit["error"]),
        ));
    }
}

/// Returns what the numbers of an uplink say: `balanced` is false if they do not add up, or if they do and
/// some of the records are lost.
fn verdict(uplink: &Value) -> &'static str {
    let number = |key: &str| uplink[key].as_u64().unwrap_or_default();
    let accounted = number("delivered")
        + sum(&uplink["filtered"])
        + number("expired")
        + sum(&uplink["dropped"])
        + number("queued");
    if number("received") != accounted {
        "DOES NOT BALANCE"
    } else if uplink["balanced"] == Value::Bool(true) {
        "balanced"
    } else {
        "RECORDS ARE LOST"
    }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

fn reason(value: &Value) -> String {
    value.as_str().map(|error| format!(" ({error})")).unwrap_or_default()
}

fn sum(value: &Value) -> u64 {
    value.as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum()
}
