//! `tidegate status`.

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context as _, anyhow, ensure};
use serde_json::Value;

use super::{ConfigArguments, EX_CONFIG, EX_RED, EX_UNASKED};
use crate::{config, control, expiry};

/// What stands below the help.
pub(super) const AFTER_HELP: &str = "\
Exit codes:
  0   the gateway answers, and every ledger balances
  1   a ledger is red: it does not balance, records are lost, or the audit disagrees
  2   the gateway cannot be asked: none is running, or it does not answer
  64  wrong use
  78  the configuration is wrong

Example:
  tidegate status -c tidegate.toml --audit";

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

/// Asks the running gateway how it is. The exit code is 1 if a ledger is red, and 2 if nobody answers.
pub(super) fn status(arguments: &StatusArguments) -> anyhow::Result<ExitCode> {
    exit_code(arguments).map(ExitCode::from)
}

fn exit_code(arguments: &StatusArguments) -> anyhow::Result<u8> {
    let path = &arguments.config.config;
    // A gateway that runs can be asked, whatever has become of its files since it started.
    let data_dir = match config::data_dir(path) {
        Ok(data_dir) => data_dir,
        Err(error) => {
            eprintln!("tidegate: {error}");
            return Ok(EX_CONFIG);
        }
    };
    let Some(data_dir) = data_dir else {
        eprintln!(
            "tidegate: {} has errors; see `tidegate check -c {}`",
            path.display(),
            path.display()
        );
        return Ok(EX_CONFIG);
    };
    let question = if arguments.audit { "audit" } else { "status" };
    let status = match ask(&data_dir, question) {
        Ok(status) => status,
        // No answer must not look like a red ledger.
        Err(error) => {
            eprintln!("tidegate: {error:#}");
            return Ok(EX_UNASKED);
        }
    };
    let text = if arguments.json {
        serde_json::to_string_pretty(&status)? + "\n"
    } else {
        describe(&status)
    };
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    Ok(if is_sound(&status) { 0 } else { EX_RED })
}

/// Puts a question to the gateway that runs on `data_dir`.
fn ask(data_dir: &Path, question: &str) -> anyhow::Result<Value> {
    let answer = control::ask(data_dir, question).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            anyhow!("no gateway is running on {}", data_dir.display())
        }
        _ => anyhow::Error::new(error).context("cannot ask the gateway"),
    })?;
    let status: Value = serde_json::from_str(&answer).context("the gateway gave no JSON")?;
    ensure!(status["uplinks"].is_object(), "the gateway gave no status: {status}");
    Ok(status)
}

/// Returns whether no ledger is red.
fn is_sound(status: &Value) -> bool {
    uplinks(status).all(|(_, uplink)| {
        uplink["balanced"] == Value::Bool(true) && uplink["audit"]["agrees"] != Value::Bool(false)
    })
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
    describe_clock(&status["clock"], &mut line);
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
    if let Some(text) = describe_flash(&store["flash"]) {
        line(format_args!("{text}"));
    }
    for (reason, count) in status["not-admitted"].as_object().into_iter().flatten() {
        line(format_args!("not admitted, {reason}: {count}"));
    }
    describe_listeners(status, &mut line);
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
        "broker: {} connections, {} sessions, {} subscriptions ({} shared in {} groups), {} retained, {} queued",
        broker["connections"],
        broker["sessions"],
        broker["subscriptions"],
        broker["subscriptions-shared"],
        broker["shared-groups"],
        broker["retained"],
        broker["queued"],
    ));
    describe_queues(broker, &mut line);
    describe_memory(&status["memory"], &mut line);
    describe_troubles(status, &mut line);
    if let Some(error) = status["mapping"]["error"].as_str() {
        line(format_args!("mapping files: the last change was not applied:\n{error}"));
    }
    text
}

/// Says what is wrong with the wall clock, or was.
fn describe_clock(clock: &Value, line: &mut impl FnMut(std::fmt::Arguments<'_>)) {
    if clock["trusted"] == Value::Bool(false) {
        line(format_args!("clock: NOT TRUSTED, nothing expires by it until it is"));
    } else if let Some(seconds) = clock["corrected-by-seconds"].as_f64() {
        line(format_args!("clock: right; times from before were corrected by {seconds:.0} s"));
    }
}

/// Says how much is written to the medium, and how long it bears that if the configuration says what it bears.
fn describe_flash(flash: &Value) -> Option<String> {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let per_day = mib(flash["per-day-bytes"].as_u64()?);
    let total = mib(flash["written-bytes"].as_u64()?);
    let mut text = format!("flash: {per_day} MiB a day, {total} MiB since the start");
    if let Some(years) = flash["endurance-years"].as_f64() {
        text += &format!("; the medium bears that for {years} years");
    }
    Some(text)
}

/// Says that memory is tight, if it is.
fn describe_memory(memory: &Value, line: &mut impl FnMut(std::fmt::Arguments<'_>)) {
    if memory["pressure"] != "free" {
        line(format_args!(
            "MEMORY IS {}: {} of {} bytes; refused so far: {}",
            word(&memory["pressure"]).to_uppercase(),
            memory["resident-bytes"],
            memory["ceiling-bytes"],
            memory["refused"],
        ));
    }
}

/// Says what was dropped, and for whom most waits.
fn describe_queues(broker: &Value, line: &mut impl FnMut(std::fmt::Arguments<'_>)) {
    for (reason, count) in broker["dropped"].as_object().into_iter().flatten() {
        if let Some(count) = count.as_u64().filter(|count| *count > 0) {
            line(format_args!("  dropped, {reason}: {count}"));
        }
    }
    for session in broker["longest-queues"].as_array().into_iter().flatten() {
        let is_connected = session["connected"] == Value::Bool(true);
        line(format_args!(
            "  {:?} of {:?}{}: {} queued ({} bytes), {} in flight, {} dropped",
            word(&session["client-id"]),
            word(&session["principal"]),
            if is_connected { "" } else { ", not connected" },
            session["queued"],
            session["queued-bytes"],
            session["in-flight"],
            session["dropped"],
        ));
    }
}

/// Says who was not let in, and what does not run as it should.
fn describe_troubles(status: &Value, line: &mut impl FnMut(std::fmt::Arguments<'_>)) {
    let push = &status["push"];
    if push["trial"].is_object() {
        let (set, until) = (&push["trial"]["set"], word(&push["trial"]["until"]));
        line(format_args!("push: set {set} is on trial until {until}"));
    } else if push["last"]["what"] == "returned" {
        let (set, why) = (&push["last"]["set"], word(&push["last"]["reason"]));
        line(format_args!("push: set {set} was put back: {why}"));
    }
    for (reason, count) in status["logins"]["refused"].as_object().into_iter().flatten() {
        if let Some(count) = count.as_u64().filter(|count| *count > 0) {
            line(format_args!("logins refused, {reason}: {count}"));
        }
    }
    for (issuer, keys) in status["jwt"].as_object().into_iter().flatten() {
        if let Some(error) = keys["error"].as_str() {
            line(format_args!("keys of {issuer}: {} there, {error}", keys["keys"]));
        }
    }
    for (name, part) in status["parts"].as_object().into_iter().flatten() {
        if let Some(error) = part["error"].as_str() {
            line(format_args!("{name}: {error}"));
        }
    }
}

/// Says where the gateway listens, and how safe that is.
fn describe_listeners(status: &Value, line: &mut impl FnMut(std::fmt::Arguments<'_>)) {
    for listener in status["listeners"].as_array().into_iter().flatten() {
        let is = |key: &str| listener[key] == Value::Bool(true);
        let note = match () {
            () if !is("open") => "NOT OPEN YET: nobody could log in there, add a `[[principal]]`",
            () if is("exposed") => "NOT ENCRYPTED: others on the network can read passwords",
            () if is("anonymous") => "open to everybody on this machine",
            () => "open",
        };
        line(format_args!(
            "{}://{}: {note}",
            word(&listener["protocol"]),
            word(&listener["address"])
        ));
    }
}

fn describe_uplink(name: &str, uplink: &Value, line: &mut impl FnMut(std::fmt::Arguments<'_>)) {
    let connected =
        if uplink["connected"] == Value::Bool(true) { "connected" } else { "NOT CONNECTED" };
    let takes =
        if uplink["takes"] == Value::Bool(false) { ", another takes what comes in" } else { "" };
    line(format_args!("uplink {name}: {connected}{}{takes}", reason(&uplink["error"])));
    let verdict = verdict(uplink);
    let made = match sum(&uplink["made"]) {
        0 => String::new(),
        made => format!(" + made {made}"),
    };
    line(format_args!(
        "  received {}{made} = delivered {} + filtered {} + expired {} + dropped {} + queued {}: {verdict}",
        uplink["received"],
        uplink["delivered"],
        sum(&uplink["filtered"]),
        uplink["expired"],
        sum(&uplink["dropped"]),
        uplink["queued"],
    ));
    for key in ["made", "filtered", "dropped"] {
        for (name, count) in uplink[key].as_object().into_iter().flatten() {
            line(format_args!("    {key} {name}: {count}"));
        }
    }
    if let Some(held) = uplink["held"].as_u64().filter(|count| *count > 0) {
        line(format_args!("    queued, in rules: {held}"));
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
    if number("received") + sum(&uplink["made"]) != accounted {
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

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{BufRead as _, BufReader, Write as _},
        os::unix::net::UnixListener,
    };

    use super::*;

    /// Returns the exit code of `tidegate status` when a gateway gives `answer`; none runs without one.
    fn check(answer: Option<&str>, config: &str) -> u8 {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tidegate.toml");
        fs::write(&file, config).unwrap();
        let data_dir = folder.path().join("data");
        fs::create_dir(&data_dir).unwrap();
        let config = ConfigArguments { config: file };
        let arguments = StatusArguments { config, json: false, audit: false };
        let Some(answer) = answer else { return exit_code(&arguments).unwrap() };
        let listener = UnixListener::bind(control::path(&data_dir)).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                BufReader::new(&stream).read_line(&mut String::new()).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            });
            exit_code(&arguments).unwrap()
        })
    }

    /// uplink.1, uplink.28, uplink.32: people see which of two queues takes, and that the clock is in doubt.
    #[test]
    fn what_people_have_to_know_of_queues_and_clock_is_told() {
        let of = |clock: Value| {
            let queue = |takes| serde_json::json!({"connected": true, "takes": takes});
            let uplinks = serde_json::json!({"cloud": queue(false), "spare": queue(true)});
            describe(&serde_json::json!({"clock": clock, "uplinks": uplinks}))
        };
        let doubtful = of(serde_json::json!({"trusted": false}));
        assert!(doubtful.contains("clock: NOT TRUSTED"), "{doubtful}");
        assert!(doubtful.contains("uplink cloud: connected, another takes what comes in\n"));
        assert!(doubtful.contains("uplink spare: connected\n"));
        let right = of(serde_json::json!({"trusted": true, "corrected-by-seconds": 3_600.4}));
        assert!(right.contains("clock: right; times from before were corrected by 3600 s"));
        let always = of(serde_json::json!({"trusted": true, "corrected-by-seconds": null}));
        assert!(!always.contains("clock:"), "{always}");
    }

    /// main.16: the exit code of a red ledger says nothing else.
    #[test]
    fn the_exit_code_tells_a_red_ledger_from_a_gateway_that_does_not_answer() {
        const SITE: &str = "[gateway]\nid = \"gw\"\ndata-dir = \"data\"\n";
        let of = |uplink: &str| format!("{{\"uplinks\":{{\"cloud\":{uplink}}}}}\n");
        let audited =
            |agrees| of(&format!("{{\"balanced\":true,\"audit\":{{\"agrees\":{agrees}}}}}"));
        #[rustfmt::skip]
        let cases = [
            // answer                                  configuration   code
            (Some(of("{\"balanced\":true}")),          SITE,           0),
            (Some(audited(true)),                      SITE,           0),
            (Some(of("{\"balanced\":false}")),         SITE,           EX_RED),
            (Some(of("{}")),                           SITE,           EX_RED),
            (Some(audited(false)),                     SITE,           EX_RED),
            (None,                                     SITE,           EX_UNASKED),
            (Some(String::new()),                      SITE,           EX_UNASKED),
            (Some("ledger\n".into()),                  SITE,           EX_UNASKED),
            (Some("{\"error\":\"unknown\"}\n".into()), SITE,           EX_UNASKED),
            (None,                                     "[gateway",     EX_CONFIG),
        ];
        for (answer, config, code) in cases {
            assert_eq!(check(answer.as_deref(), config), code, "{answer:?}");
        }
    }
}
