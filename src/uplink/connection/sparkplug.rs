//! An edge node of Sparkplug B: its own client of MQTT, as its data is QoS 0 and counts only once a PINGRESP has come
//! for a PINGREQ sent behind it (promise D29), which rumqttc has no way to ask for (`docs/decisions/0026-sparkplug.md`).
//!
//! The rules of the session are those of `tidegate_sparkplug`; here are the socket, the pings, and the way between
//! readings and their answers.

mod line;
mod node;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tidegate_model::TopicFilter;
use tidegate_sparkplug::{Memory as Catalog, Settings};
use tidegate_uplink::TypedReading;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tracing::warn;

use self::{line::Line, node::Node};
use super::{
    super::{
        link::{LinkError, LinkEvent, Up},
        settings::{CommandRoute, LinkSettings},
        tunnel::Tunnel,
    },
    CONNECT_TIMEOUT, Driver, IN_FLIGHT_MAX, Memory, REQUESTS,
};

/// Below this, commands go to the run; what follows is the local topic.
const COMMANDS: &str = "sparkplug/";
/// Bytes on their way to the broker, beyond which no more readings are taken.
const OUTPUT_BYTES_MAX: usize = 256 << 10;
/// What metrics last were is kept this often, as births after a restart say it.
const VALUES_INTERVAL: Duration = Duration::from_secs(300);
/// A broker has so long to take what was said last.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Readings that are remembered as sent by connections before.
const SENT_BEFORE_MAX: usize = 4 * IN_FLIGHT_MAX as usize;

/// An edge node, over all its connections.
#[derive(Debug)]
pub struct SparkplugB {
    settings: Arc<Settings>,
    left: Mutex<Left>,
}

/// What one connection leaves to the next.
#[derive(Debug, Default)]
struct Left {
    catalog: Option<Catalog>,
    /// Readings that were sent and have had no answer.
    sent: BTreeSet<RowId>,
    /// So many of the next readings may have been sent before, though nobody remembers which.
    doubtful: usize,
}

/// A reading: its topic, and its epoch and number there.
type RowId = (Arc<str>, i64, u64);

impl Left {
    /// Takes notice that a reading is sent; returns whether it was before.
    fn take_sent(&mut self, row: &RowId) -> bool {
        let is_doubtful = self.doubtful > 0;
        self.doubtful = self.doubtful.saturating_sub(1);
        self.sent.remove(row) || is_doubtful
    }

    /// Takes notice of readings that a connection leaves without an answer.
    fn note_unanswered(&mut self, rows: impl ExactSizeIterator<Item = RowId>) {
        if self.sent.len() + rows.len() > SENT_BEFORE_MAX {
            // What has no answer is sent again first, and there is no more of it than this. Most of what is remembered
            // has left the queue another way.
            self.sent.clear();
            self.doubtful = usize::from(IN_FLIGHT_MAX);
        }
        self.sent.extend(rows);
    }
}

impl SparkplugB {
    /// Takes the settings of a node that has had no connection yet.
    pub fn new(settings: Arc<Settings>) -> Self {
        Self { settings, left: Mutex::default() }
    }

    /// Returns where its commands come down for the run, if any may.
    pub fn commands(&self) -> Option<CommandRoute> {
        let filter = TopicFilter::new(&format!("{COMMANDS}#")).expect("a filter");
        self.settings
            .commands
            .then(|| CommandRoute::new(filter).expect("it ends in `/#` and has no other wildcard"))
    }
}

/// What the run asks of the connection.
#[derive(Debug)]
enum Request {
    Row {
        packet: u16,
        topic: Arc<str>,
        /// Absent for what is no reading, which has no place here.
        typed: Option<Arc<TypedReading>>,
    },
    /// A command is safe.
    Settled {
        command: u16,
    },
    Close,
}

/// Hands readings over.
#[derive(Debug)]
pub(super) struct Client {
    requests: mpsc::Sender<Request>,
    next: u16,
}

impl Client {
    pub(super) fn publish(&mut self, up: Up) -> Result<(), LinkError> {
        self.next = self.next.wrapping_add(1);
        let row = Request::Row { packet: self.next, topic: up.topic, typed: up.typed };
        let taken = self.requests.try_send(row);
        taken.map_err(|_| LinkError::transient("the connection takes no more messages"))
    }

    pub(super) fn acknowledge(&self, command: u16) -> Result<(), LinkError> {
        let taken = self.requests.try_send(Request::Settled { command });
        taken.map_err(|_| LinkError::transient("the connection takes no more acknowledgements"))
    }

    /// Asks for the end; returns whether it will come.
    pub(super) fn close(&self) -> bool {
        self.requests.try_send(Request::Close).is_ok()
    }
}

/// Starts to connect.
///
/// # Errors
///
/// If the system lacks a descriptor.
pub(super) fn open(
    shared: &Arc<SparkplugB>,
    settings: &LinkSettings,
    endpoint: usize,
    memory: Memory,
    events: mpsc::Sender<LinkEvent>,
) -> Result<(Client, Driver), LinkError> {
    let tunnel = Tunnel::open().map_err(|error| LinkError::transient(error.to_string()))?;
    let (requests, queue) = mpsc::channel(REQUESTS);
    let edge = Edge {
        shared: Arc::clone(shared),
        settings: settings.clone(),
        endpoint,
        tunnel: tunnel.name().to_owned(),
        reached: tunnel.reached(),
        requests: queue,
        events,
    };
    let driver = tunnel.drive(settings.clone(), endpoint, edge.drive(memory));
    Ok((Client { requests, next: 0 }, Box::pin(driver)))
}

/// Returns what the last connection left, or what is kept of those before the start.
fn open_catalog(shared: &SparkplugB, memory: &Memory, settings: &LinkSettings) -> Catalog {
    if let Some(catalog) = shared.left.lock().catalog.take() {
        return catalog;
    }
    let kept = memory.kept.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
    let catalog = Catalog::open(kept, &shared.settings.devices);
    if catalog.is_damaged() {
        let client_id = &settings.client_id;
        warn!(%client_id, "Metrics of before cannot be read, and births begin without them");
    }
    catalog
}

/// One connection, driven to its end.
struct Edge {
    shared: Arc<SparkplugB>,
    settings: LinkSettings,
    endpoint: usize,
    tunnel: String,
    /// Whether the broker is reached.
    reached: watch::Receiver<bool>,
    requests: mpsc::Receiver<Request>,
    events: mpsc::Sender<LinkEvent>,
}

impl Edge {
    async fn drive(mut self, memory: Memory) -> LinkError {
        match self.run(memory).await {
            Ok(()) => LinkError::transient("it was closed"),
            Err(error) => error,
        }
    }

    async fn run(&mut self, memory: Memory) -> Result<(), LinkError> {
        let mut line = Line::open(&self.tunnel, self.settings.version).await?;
        // Sessions are counted by the CONNECT packets that are sent: none is if nobody is there.
        self.reached.wait_for(|reached| *reached).await.map_err(|_| nobody())?;
        let mut node = self.begin(memory).await?;
        let opened = timeout(CONNECT_TIMEOUT, self.connect(&mut node, &mut line)).await;
        opened.map_err(|_| LinkError::transient("the broker does not answer"))??;
        let ended = self.serve(&mut node, &mut line).await;
        if matches!(ended, Ok(()) | Err(End::HostIsGone)) {
            let _ = timeout(LAST_WORDS, line.finish()).await;
        }
        ended.map_err(|end| match end {
            End::HostIsGone => LinkError::transient("the primary host is not there"),
            End::Broken(error) => error,
        })
    }

    /// Begins a session; nobody may hear of a number that a restart would give again.
    async fn begin(&self, mut memory: Memory) -> Result<Node, LinkError> {
        let catalog = open_catalog(&self.shared, &memory, &self.settings);
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        let mut node = Node::new(shared, catalog, &self.settings, self.endpoint, events);
        node.keep_number().await?;
        let durable = memory.durable.wait_for(|durable| *durable > 0).await;
        durable.map_err(|_| nobody())?;
        Ok(node)
    }

    /// Introduces the node and subscribes.
    async fn connect(&self, node: &mut Node, line: &mut Line) -> Result<(), LinkError> {
        let login = self.settings.endpoints[self.endpoint].login.get();
        let will = node.session().will();
        let broker = line.introduce(&self.settings, login.as_ref(), will).await?;
        node.set_broker(broker);
        let filters = node.session().subscriptions();
        line.subscribe(&filters)
    }

    /// Serves until the connection is to be closed, or is broken.
    async fn serve(&mut self, node: &mut Node, line: &mut Line) -> Result<(), End> {
        let others = self.settings.endpoints.len() > 1;
        loop {
            while let Some(packet) = line.take()? {
                node.handle_packet(packet, line).await?;
            }
            node.work(line, others).await?;
            let wake = node.wake_at();
            let takes = node.has_room() && line.waiting() < OUTPUT_BYTES_MAX;
            tokio::select! {
                moved = line.turn() => moved?,
                request = self.requests.recv(), if takes => {
                    let mut next = request;
                    while let Some(request) = next {
                        match request {
                            Request::Row { packet, topic, typed } => {
                                node.take_row(packet, topic, typed).await?;
                            }
                            Request::Settled { command } => node.settle(command, line)?,
                            Request::Close => {
                                node.say_goodbye(line).await?;
                                return Ok(());
                            }
                        }
                        next = self.requests.try_recv().ok();
                    }
                }
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
    }
}

/// Why serving ends.
enum End {
    /// There is no host to serve; the death is said.
    HostIsGone,
    Broken(LinkError),
}

impl From<LinkError> for End {
    fn from(error: LinkError) -> Self {
        Self::Broken(error)
    }
}

fn nobody() -> LinkError {
    LinkError::transient("nobody listens")
}
