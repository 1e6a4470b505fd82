//! Watches nodes of an OPC UA server and writes them: the adapter without the gateway.
//!
//! ```text
//! cargo run -p tidegate-adapter-opcua --example watch -- opc.tcp://127.0.0.1:4840 --security none \
//!     'nsu=urn:example:press;s=Press.{n}.Temperature' 'nsu=urn:example:press;s=Press.{n}.Setpoint'
//! ```
//!
//! Prints a line for each reading. A line `2 7 66.5` on the standard input writes 66.5 to the node of the
//! second pattern whose capture is `7`; captures are separated by commas, `-` is none.

use std::{
    error::Error,
    io::BufRead as _,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tidegate_adapter_api::*;
use tidegate_adapter_opcua::{
    Endpoint, Limits, OpcUaAdapter, OpcUaSettings, REBROWSE_DEFAULT, Security, UserLogin,
};
use tidegate_model::*;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// A gateway that prints what it gets.
#[derive(Default)]
struct Printer {
    readings: AtomicU64,
    quiet: bool,
    /// Receipts come so much later.
    delay: Duration,
}

impl IntakeSink for Printer {
    fn submit(
        &self,
        _: &AdapterName,
        batch: ReadingBatch,
        permit: OwnedSemaphorePermit,
    ) -> Receipt {
        self.readings.fetch_add(batch.readings.len() as u64, Ordering::Relaxed);
        for PointReading { point, captures, reading } in
            batch.readings.iter().filter(|_| !self.quiet)
        {
            let captures = captures.iter().collect::<Vec<_>>().join(",");
            let source = reading.source_time.map_or("-".to_owned(), |time| time.to_string());
            println!("{} [{captures}] {} {} {source}", point.0, reading.value, reading.status);
        }
        if self.delay.is_zero() {
            return Receipt::ready(Outcome::Durable);
        }
        let (sender, receipt) = Receipt::pair();
        let delay = self.delay;
        std::thread::spawn(move || {
            std::thread::sleep(delay);
            sender.resolve(Outcome::Durable);
            drop(permit);
        });
        receipt
    }

    fn refuse_busy(&self, _: &AdapterName, _: &ReadingBatch) -> Refusal {
        Refusal::Busy { retry_after: Duration::from_secs(1) }
    }

    fn last(
        &self,
        _: &Principal,
        _: u64,
        _: PointId,
        _: &Captures,
    ) -> Result<Option<LastMessage>, Refusal> {
        Ok(None)
    }
}

/// What this adapter never asks for.
struct Nothing;

impl TopicSpaceBackend for Nothing {
    fn publish(&self, _: &Principal, _: Publication) -> Receipt {
        Receipt::ready(Outcome::Refused(Refusal::NotAuthorized))
    }

    fn last(&self, _: &Principal, _: &Topic) -> Result<Option<LastMessage>, Refusal> {
        Err(Refusal::NotAuthorized)
    }

    fn list(
        &self,
        _: &Principal,
        _: &TopicFilter,
        _: Option<&Topic>,
        _: usize,
    ) -> Result<Vec<LastMessage>, Refusal> {
        Err(Refusal::NotAuthorized)
    }

    fn subscribe(&self, _: &Principal, _: &TopicFilter, _: usize) -> Result<TopicEvents, Refusal> {
        Err(Refusal::NotAuthorized)
    }
}

impl Authenticator for Nothing {
    fn login<'a>(
        &'a self,
        _: &'a str,
        _: &'a [u8],
        _: IpAddr,
    ) -> Pin<Box<dyn Future<Output = LoginResult> + Send + 'a>> {
        Box::pin(async { Err(LoginRefusal::BadCredentials) })
    }
}

impl Health for Nothing {
    fn not_ready(&self) -> Option<String> {
        None
    }

    fn metrics(&self) -> String {
        String::new()
    }

    fn status(&self, _: &Principal) -> Option<String> {
        None
    }
}

struct Options {
    settings: OpcUaSettings,
    points: PointSet,
    sink: Printer,
}

fn options() -> Result<Options, Box<dyn Error>> {
    let name = AdapterName::new("server")?;
    let mut settings = OpcUaSettings {
        name: name.clone(),
        endpoint: Endpoint::new(&std::env::args().nth(1).ok_or("give an endpoint")?)?,
        security: Security::default(),
        user: None,
        rebrowse: REBROWSE_DEFAULT,
        pki_directory: std::env::temp_dir().join("tidegate-watch-pki"),
        application_uri: "urn:localhost:tidegate-watch".to_owned(),
        limits: Limits::default(),
    };
    let (mut sampling, mut deadband, mut patterns) = (None, None, Vec::new());
    let mut sink = Printer::default();
    let mut arguments = std::env::args().skip(2);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--security" => settings.security = value()?.parse()?,
            "--user" => {
                let (name, password) = (value()?, value()?);
                settings.user = Some(UserLogin { name, password });
            }
            "--pki" => settings.pki_directory = value()?.into(),
            "--rebrowse-ms" => settings.rebrowse = Duration::from_millis(value()?.parse()?),
            "--sampling-ms" => sampling = Some(Duration::from_millis(value()?.parse()?)),
            "--receipt-ms" => sink.delay = Duration::from_millis(value()?.parse()?),
            "--deadband" => deadband = Some(value()?.parse()?),
            "--quiet" => sink.quiet = true,
            _ => patterns.push(NodePattern::parse(&argument)?),
        }
    }
    let points = patterns.into_iter().zip(1..).map(|(node, id)| Point {
        id: PointId(id),
        address: PointAddress::OpcUa(OpcUaPoint {
            server: name.clone(),
            node,
            sampling,
            deadband,
            unit: None,
            writable: true,
            method: None,
        }),
    });
    let points = PointSet::new(points.collect(), 1);
    Ok(Options { settings, points, sink })
}

/// Turns lines of the standard input into commands.
fn read_commands(commands: &mpsc::Sender<CommandRequest>) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let mut words = line.splitn(3, ' ');
        let (Some(Ok(point)), Some(captures), Some(value)) =
            (words.next().map(str::parse), words.next(), words.next())
        else {
            println!("write POINT CAPTURES VALUE");
            continue;
        };
        let captures =
            Captures::new(captures.split(',').filter(|text| *text != "-").map(Box::from));
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let now = Timestamp::from_unix_micros(now.as_micros().try_into().unwrap_or(i64::MAX));
        let expires = now.saturating_add(Duration::from_secs(10));
        let value = json::parse_value(value.as_bytes()).unwrap_or_else(|_| Value::string(value));
        let command = Command { id: None, kind: CommandKind::Write, value, expires };
        let (reply, outcome) = CommandReply::pair();
        let request =
            CommandRequest { point: PointId(point), generation: 1, captures, command, reply };
        if commands.blocking_send(request).is_err() {
            return;
        }
        println!("{line}: {:?}", outcome.blocking_recv());
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let filter = std::env::var("RUST_LOG")
        .unwrap_or_else(|_| "warn,tidegate_adapter_opcua=info,opcua=off".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let Options { settings, points, sink } = options()?;
    let sink = Arc::new(sink);
    let (_keep, points) = watch::channel(points);
    let (commands, receiver) = mpsc::channel(64);
    std::thread::spawn(move || read_commands(&commands));
    let shutdown = CancellationToken::new();
    let mut context = AdapterContext {
        points,
        intake: Intake::new(settings.name.clone(), sink.clone()),
        commands: receiver,
        reach: Reach::default(),
        topics: TopicSpace::new(Arc::new(Nothing)),
        access: Access::new(Arc::new(Nothing), false),
        health: HealthSource::new(Arc::new(Nothing)),
        counters: Counters::default(),
        shutdown: shutdown.clone(),
    };
    let counters = context.counters.clone();
    let mut adapter = OpcUaAdapter::new(settings);
    let serve = async {
        while let Err(error) = adapter.run(&mut context).await {
            println!("run ended: {error} (transient: {})", error.is_transient());
            tokio::time::sleep(Duration::from_secs(if error.is_transient() { 1 } else { 30 }))
                .await;
        }
    };
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
        shutdown.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = serve => {}
        () = stop => {}
    }
    for sample in counters.samples() {
        println!("{} {} {}", sample.name, sample.reason, sample.value);
    }
    println!("readings {}", sink.readings.load(Ordering::Relaxed));
    Ok(())
}
