//! Batches by AMQP 0.9.1, to RabbitMQ: one connection with one channel, over lapin. Commands come by another, which may
//! fail as it likes ([`commands`]).
//!
//! Each message is persistent and `mandatory`, and counts once the broker has confirmed it and has not given it back:
//! then it is in every queue that it is for. Which messages came back is not taken from lapin, which guesses
//! ([`Confirms`]). The socket is the gateway's, and what lapin starts ends with the connection: its queues have no
//! bound of their own, and hold no more than is in flight (docs/decisions/0031-amqp.md).

mod commands;
mod far;
mod line;
mod message;

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
};

use async_rs::Runtime;
use futures_util::StreamExt as _;
use lapin::{
    Channel, Confirmation, Error, Event, ExchangeKind,
    options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions},
    types::FieldTable,
};
use tidegate_uplink::{Ack, Confirmed, Confirms, Profile, Returned};
use tokio::{sync::mpsc, time::timeout};

use self::{
    commands::{Commands, Order},
    far::{FRAME_BYTES_MAX, Far, last_words, link_error},
    line::{Account, Kit, Leash},
    message::Message,
};
use super::{
    super::{
        link::{Answer, LinkError, LinkEvent, Up},
        settings::{AmqpTarget, LinkSettings},
    },
    CONNECT_TIMEOUT, IN_FLIGHT_MAX, REQUESTS,
};

/// The reply code of an orderly end (AMQP 0.9.1, section 1.2).
const REPLY_SUCCESS: u16 = 200;

/// What the connection is asked to do.
#[derive(Debug)]
enum Job {
    Publish(Up),
    Leave,
}

/// Hands messages over, and says what has become of commands.
#[derive(Debug)]
pub(super) struct Client {
    jobs: mpsc::Sender<Job>,
    orders: mpsc::Sender<Order>,
}

impl Client {
    pub(super) fn publish(&mut self, up: Up) -> Result<(), LinkError> {
        let taken = self.jobs.try_send(Job::Publish(up));
        taken.map_err(|_| LinkError::transient("the connection takes no more messages"))
    }

    /// Acknowledges a command.
    pub(super) fn acknowledge(&self, packet: u16) -> Result<(), LinkError> {
        self.order(Order::Acknowledge(packet))
    }

    /// Rejects a command: it does not come again.
    pub(super) fn refuse(&self, packet: u16) -> Result<(), LinkError> {
        self.order(Order::Refuse(packet))
    }

    /// Gives a command back to the queue.
    pub(super) fn withhold(&self, packet: u16) -> Result<(), LinkError> {
        self.order(Order::Withhold(packet))
    }

    fn order(&self, order: Order) -> Result<(), LinkError> {
        let taken = self.orders.try_send(order);
        taken.map_err(|_| LinkError::transient("the connection takes no more acknowledgements"))
    }

    /// Says good-bye; returns whether it could be handed over.
    pub(super) fn leave(&self) -> bool {
        self.jobs.try_send(Job::Leave).is_ok()
    }
}

pub(super) fn open(
    target: &AmqpTarget,
    settings: &LinkSettings,
    endpoint: usize,
    events: mpsc::Sender<LinkEvent>,
) -> (Client, impl Future<Output = LinkError> + Send + use<>) {
    let (jobs, queue) = mpsc::channel(REQUESTS);
    // Far more than may be open.
    let (orders, ordered) = mpsc::channel(REQUESTS);
    let publisher = Publisher {
        far: Far {
            target: target.clone(),
            endpoint: settings.endpoints[endpoint].clone(),
            way: settings.way.clone(),
            heartbeat: u16::try_from(settings.keep_alive.as_secs()).unwrap_or(u16::MAX),
        },
        name: settings.client_id.clone(),
        events,
    };
    (Client { jobs, orders }, publisher.drive(queue, ordered))
}

/// One attempt: from the socket to the end of the connection.
struct Publisher {
    far: Far,
    name: String,
    events: mpsc::Sender<LinkEvent>,
}

impl Publisher {
    async fn drive(
        self,
        jobs: mpsc::Receiver<Job>,
        mut orders: mpsc::Receiver<Order>,
    ) -> LinkError {
        // lapin's connection goes first, then what it runs on.
        let (leash, kit) = Leash::new();
        let opened = timeout(CONNECT_TIMEOUT, self.connect(&leash, kit)).await;
        let opened =
            opened.unwrap_or_else(|_| Err(LinkError::transient("the far side does not answer")));
        let (connection, channel) = match opened {
            Ok(opened) => opened,
            Err(error) => return error,
        };
        let Some(queue) = &self.far.target.commands else {
            return self.run(&connection, channel, jobs).await;
        };
        let commands = Commands::new(&self.far, &self.name, queue, &self.events);
        tokio::select! {
            // What is told of commands comes behind word of the connection.
            biased;
            ended = self.run(&connection, channel, jobs) => ended,
            unheard = commands.bring(&mut orders) => unheard,
        }
    }

    async fn connect(
        &self,
        leash: &Leash,
        kit: Runtime<Kit>,
    ) -> Result<(lapin::Connection, Channel), LinkError> {
        let account = Account::none();
        let connection = self.far.connect(&self.name, (leash, kit), None, &account).await?;
        let opened = async {
            let channel = connection.create_channel().await?;
            let exchange = self.far.target.exchange.as_str();
            if !exchange.is_empty() {
                // What is missing is said before anything is sent there.
                let there = ExchangeDeclareOptions { passive: true, ..Default::default() };
                let kind = ExchangeKind::Topic;
                channel
                    .exchange_declare(exchange.into(), kind, there, FieldTable::default())
                    .await?;
            }
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok(channel)
        };
        let channel = opened.await.map_err(|error| link_error(&error))?;
        Ok((connection, channel))
    }

    async fn run(
        &self,
        connection: &lapin::Connection,
        channel: Channel,
        mut jobs: mpsc::Receiver<Job>,
    ) -> LinkError {
        let mut window = Window::new(channel, self.far.target.exchange.clone());
        let Err(ended) = self.serve(connection, &mut window, &mut jobs).await;
        // What was confirmed before the end counts.
        let confirmed = poll_fn(|context| Poll::Ready(window.poll_confirmed(context))).await;
        if let Poll::Ready(Ok(confirmed)) = confirmed
            && let Err(unheard) = self.answer(&mut window, confirmed).await
        {
            return unheard;
        }
        ended
    }

    async fn serve(
        &self,
        connection: &lapin::Connection,
        window: &mut Window,
        jobs: &mut mpsc::Receiver<Job>,
    ) -> Result<Infallible, LinkError> {
        let mut said = pin!(connection.events_listener());
        self.tell(LinkEvent::Connected {
            keep_alive: None,
            packet_bytes_max: Profile::Amqp.bounds().payload_bytes,
            receive_max: usize::from(IN_FLIGHT_MAX),
        })
        .await?;
        loop {
            // Each wake-up takes what there is of one kind; how much a broker may say is bounded.
            tokio::select! {
                biased;
                event = said.next() => self.note(event).await?,
                confirmed = poll_fn(|context| window.poll_confirmed(context)) => {
                    match confirmed {
                        Ok(confirmed) => self.answer(window, confirmed).await?,
                        Err(error) => return Err(last_words(&error, said).await),
                    }
                }
                job = jobs.recv(), if window.declined.is_empty() => match job {
                    Some(Job::Publish(up)) => self.publish(window, up).await?,
                    Some(Job::Leave) => {
                        let _ = connection.close(REPLY_SUCCESS, "OK".into()).await;
                        return Err(LinkError::transient("it was left"));
                    }
                    None => return Err(LinkError::transient("nobody listens")),
                },
            }
        }
    }

    async fn publish(&self, window: &mut Window, up: Up) -> Result<(), LinkError> {
        let packet = window.next_packet();
        self.tell(LinkEvent::Sent { packet }).await?;
        match Message::of(&up, self.far.target.exchange.is_empty(), FRAME_BYTES_MAX as usize) {
            Ok(message) => window.publish(message).await,
            Err(reason) => {
                let answer = Answer::Final(Ack::RefusedTopic { reason });
                self.tell(LinkEvent::Answered { packet, answer }).await?;
            }
        }
        Ok(())
    }

    /// Tells what became of messages. What is to be sent again ends the connection, and everything without an answer goes
    /// again with it, so that is told last, when all others have theirs.
    async fn answer(
        &self,
        window: &mut Window,
        confirmed: Vec<(u64, Confirmation)>,
    ) -> Result<(), LinkError> {
        for (number, became) in window.settle(confirmed)? {
            let answer = match became {
                Confirmed::Taken => Answer::Final(Ack::Accepted),
                Confirmed::Returned { reason } => Answer::Final(Ack::RefusedTopic { reason }),
                Confirmed::Declined => {
                    window.declined.push(number);
                    continue;
                }
            };
            self.tell(LinkEvent::Answered { packet: packet(number), answer }).await?;
        }
        if window.open > 0 {
            return Ok(());
        }
        for number in window.declined.drain(..) {
            let reason = "the broker declines a message: a queue is full, or it cannot write";
            let answer = Answer::Later { reason: reason.to_owned(), pause: None };
            self.tell(LinkEvent::Answered { packet: packet(number), answer }).await?;
        }
        Ok(())
    }

    async fn note(&self, event: Option<Event>) -> Result<(), LinkError> {
        match event {
            Some(Event::ConnectionBlocked(reason)) => {
                let reason = format!("the broker takes nothing for now: {reason}");
                self.tell(LinkEvent::Held { reason: Some(reason) }).await
            }
            Some(Event::ConnectionUnblocked) => self.tell(LinkEvent::Held { reason: None }).await,
            Some(Event::Error(error)) => Err(link_error(&error)),
            Some(_) => Ok(()),
            None => Err(LinkError::transient("the connection has ended")),
        }
    }

    async fn tell(&self, event: LinkEvent) -> Result<(), LinkError> {
        let told = self.events.send(event).await;
        told.map_err(|_| LinkError::transient("nobody listens"))
    }
}

type Publishing = Pin<Box<dyn Future<Output = lapin::Result<Confirmation>> + Send>>;

/// What is in flight.
struct Window {
    channel: Channel,
    exchange: String,
    /// The number of the last message.
    last: u64,
    publishing: Vec<(u64, Publishing)>,
    confirms: Confirms,
    /// How many messages have been sent whose end is not known.
    open: usize,
    /// What the broker would not take now.
    declined: Vec<u64>,
    /// Why nothing more will be confirmed.
    failed: Option<Error>,
}

impl Window {
    fn new(channel: Channel, exchange: String) -> Self {
        Self {
            channel,
            exchange,
            last: 0,
            publishing: Vec::new(),
            confirms: Confirms::default(),
            open: 0,
            declined: Vec::new(),
            failed: None,
        }
    }

    fn next_packet(&mut self) -> u16 {
        self.last += 1;
        packet(self.last)
    }

    async fn publish(&mut self, message: Message) {
        let Message { key, payload, properties } = message;
        self.open += 1;
        self.confirms.note_sent(self.last, key.as_str().into(), payload.clone());
        let (channel, exchange) = (self.channel.clone(), self.exchange.as_str().into());
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let mut publishing: Publishing = Box::pin(async move {
            let sent = channel.basic_publish(exchange, key, options, &payload, properties).await?;
            sent.await
        });
        // Messages go in the order in which they are first asked for; what comes of it is asked again.
        let asked = poll_fn(|context| Poll::Ready(publishing.as_mut().poll(context))).await;
        let publishing = match asked {
            Poll::Pending => publishing,
            Poll::Ready(at_once) => Box::pin(std::future::ready(at_once)),
        };
        self.publishing.push((self.last, publishing));
    }

    /// Takes all confirmations that are there: whatever had one before the last of these is among them.
    fn poll_confirmed(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<lapin::Result<Vec<(u64, Confirmation)>>> {
        let mut confirmed = Vec::new();
        loop {
            let before = confirmed.len();
            let failed = &mut self.failed;
            self.publishing.retain_mut(|(number, publishing)| {
                match publishing.as_mut().poll(context) {
                    Poll::Pending => true,
                    Poll::Ready(Ok(confirmation)) => {
                        confirmed.push((*number, confirmation));
                        false
                    }
                    Poll::Ready(Err(error)) => {
                        failed.get_or_insert(error);
                        false
                    }
                }
            });
            if confirmed.len() == before {
                break;
            }
        }
        // What was confirmed before it failed counts.
        match self.failed.take_if(|_| confirmed.is_empty()) {
            Some(error) => Poll::Ready(Err(error)),
            None if confirmed.is_empty() => Poll::Pending,
            None => Poll::Ready(Ok(confirmed)),
        }
    }

    /// Returns what is final by what is confirmed now.
    fn settle(
        &mut self,
        confirmed: Vec<(u64, Confirmation)>,
    ) -> Result<Vec<(u64, Confirmed)>, LinkError> {
        for (number, confirmation) in confirmed {
            let is_taken = confirmation.is_ack();
            let back = confirmation.take_message();
            let returned = back.as_ref().map(|back| Returned {
                key: back.delivery.routing_key.as_str(),
                payload: &back.delivery.data,
                reason: format!(
                    "no queue takes it: {} {} for the key `{}` at the exchange `{}`",
                    back.reply_code,
                    back.reply_text,
                    back.delivery.routing_key,
                    back.delivery.exchange,
                ),
            });
            if !self.confirms.handle(number, is_taken, returned) {
                return Err(LinkError::transient("the broker returned what it was not sent"));
            }
        }
        let settled = self.confirms.settle();
        self.open = self.open.saturating_sub(settled.len());
        Ok(settled)
    }
}

/// Returns the number by which the run knows a message; far fewer are in flight than there are.
fn packet(number: u64) -> u16 {
    u16::try_from(number & u64::from(u16::MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_round() {
        assert_eq!([packet(1), packet(65_535), packet(65_536), packet(65_537)], [1, 65_535, 0, 1]);
    }
}
