//! The connection that is made with the claim: two questions, and their answers.

use std::{pin::Pin, time::Duration};

use rumqttc::{AsyncClient, QoS};
use tidegate_uplink::{
    Disconnect, Failure, FleetAnswer, FleetRefusal, FleetRequest, FleetTemplate,
};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::super::{
    super::{
        link::{LinkError, LinkEvent},
        settings::LinkSettings,
        tunnel::Tunnel,
    },
    EVENTS, v4,
};

/// From CONNECT to SUBACK; each step is less than the run has patience for.
const OPEN_DEADLINE: Duration = Duration::from_secs(20);
/// An answer comes within seconds or not at all.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);
const LEAVE_DEADLINE: Duration = Duration::from_millis(250);

/// Why there is no connection.
#[derive(Debug)]
pub(super) struct OpenError {
    pub(super) error: LinkError,
    /// Whether the far side was reached and did not let us in.
    pub(super) is_refusal: bool,
}

/// A connection of MQTT 3.1.1 without a session.
pub(super) struct Claim {
    mqtt: AsyncClient,
    driver: Pin<Box<dyn Future<Output = LinkError> + Send>>,
    inbox: mpsc::Receiver<LinkEvent>,
    /// Whether the driver has ended.
    is_over: bool,
}

impl Claim {
    /// Connects, and subscribes to `filters` if there are any.
    pub(super) async fn open(
        settings: LinkSettings,
        endpoint: usize,
        filters: &[String],
    ) -> Result<Self, OpenError> {
        let other = |error| OpenError { error, is_refusal: false };
        let tunnel =
            Tunnel::open().map_err(|error| other(LinkError::transient(error.to_string())))?;
        let reached = tunnel.reached();
        let opening = v4::Opening {
            login: None,
            filters: filters.iter().map(|filter| v4::at_least_once(filter)).collect(),
            keeps_session: false,
            tunnel: tunnel.name(),
        };
        let (events, inbox) = mpsc::channel(EVENTS);
        let (mqtt, driver) = v4::open(&settings, opening, events, std::convert::identity);
        let driver = Box::pin(tunnel.drive(settings, endpoint, driver));
        let mut claim = Self { mqtt, driver, inbox, is_over: false };
        let opened = timeout(OPEN_DEADLINE, claim.expect_subscribed(!filters.is_empty())).await;
        let opened = opened.unwrap_or_else(|_| Err(LinkError::transient("it does not answer")));
        opened.map_err(|error| OpenError { is_refusal: is_refusal(&error, &reached), error })?;
        Ok(claim)
    }

    async fn expect_subscribed(&mut self, has_filters: bool) -> Result<(), LinkError> {
        let mut is_connected = false;
        loop {
            match self.next().await? {
                LinkEvent::Connected { .. } if !has_filters => return Ok(()),
                LinkEvent::Connected { .. } => is_connected = true,
                LinkEvent::NotSubscribed { reason } => {
                    return Err(LinkError {
                        failure: Failure::Lasting,
                        ..LinkError::transient(reason)
                    });
                }
                LinkEvent::Subscribed if is_connected => return Ok(()),
                _ => {}
            }
        }
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask(
        &mut self,
        template: &FleetTemplate,
        request: FleetRequest<'_>,
    ) -> Result<Result<FleetAnswer, FleetRefusal>, LinkError> {
        let (topic, body) = template.request(request);
        let asked = self.mqtt.try_publish(topic, QoS::AtLeastOnce, false, body);
        asked.map_err(|_| LinkError::transient("the connection takes no more messages"))?;
        let answered = timeout(ANSWER_DEADLINE, self.expect_answer(template, request)).await;
        answered.unwrap_or_else(|_| {
            let what = match request {
                FleetRequest::Certificate(_) => "a certificate",
                FleetRequest::Thing(_) => "the thing",
            };
            Err(LinkError::transient(format!("AWS IoT Core does not answer who asks for {what}")))
        })
    }

    async fn expect_answer(
        &mut self,
        template: &FleetTemplate,
        request: FleetRequest<'_>,
    ) -> Result<Result<FleetAnswer, FleetRefusal>, LinkError> {
        loop {
            let LinkEvent::Incoming(incoming) = self.next().await? else { continue };
            if let Some(packet) = incoming.packet {
                v4::acknowledge(&self.mqtt, packet)?;
            }
            let topic = std::str::from_utf8(&incoming.topic).unwrap_or_default();
            if let Some(answer) = template.read(request, topic, &incoming.payload) {
                return Ok(answer);
            }
        }
    }

    async fn next(&mut self) -> Result<LinkEvent, LinkError> {
        tokio::select! {
            biased;
            Some(event) = self.inbox.recv() => Ok(event),
            error = &mut self.driver => {
                self.is_over = true;
                Err(error)
            }
        }
    }

    /// Says good-bye.
    pub(super) async fn leave(mut self) {
        if !self.is_over && self.mqtt.try_disconnect().is_ok() {
            let gone = async { while self.next().await.is_ok() {} };
            let _ = timeout(LEAVE_DEADLINE, gone).await;
        }
    }
}

/// Returns whether a far side that was reached did not let us in: it said so, or closed without a word, as AWS IoT Core
/// does to certificates that it does not know. One that is slow, or unwell and says that, has not decided.
fn is_refusal(error: &LinkError, reached: &watch::Receiver<bool>) -> bool {
    let is_closed = matches!(error.how, Disconnect::Closed | Disconnect::ByPeer);
    error.failure == Failure::Lasting || (*reached.borrow() && is_closed)
}

impl From<OpenError> for LinkError {
    fn from(error: OpenError) -> Self {
        error.error
    }
}
