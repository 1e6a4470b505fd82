//! Commands out of a queue: a connection of their own, which comes and goes beside the one that publishes.
//!
//! The queue is the site's: it is looked at, and never made. What the broker says against it is told and tried again,
//! and nobody else is disturbed. A message is acknowledged when the command is safe, rejected when it is refused, and at
//! most [`OPEN_MAX`] are without an answer; the broker of a connection that publishes does not read while it is short
//! of room, and would not hear of them.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use async_rs::Runtime;
use futures_util::StreamExt as _;
use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions,
        QueueDeclareOptions,
    },
    types::{FieldTable, ShortString},
};
use tidegate_uplink::{DeliveryBounds, decoder::DecodeError};
use tokio::{sync::mpsc, time::timeout};

use super::{
    super::{
        super::{
            link::{Beside, Incoming, LinkError, LinkEvent},
            settings::AmqpQueue,
        },
        CONNECT_TIMEOUT,
    },
    REPLY_SUCCESS,
    far::{Far, link_error},
    line::{Account, Kit, Leash},
    message::routing_key,
};

/// Messages that may be without an answer.
pub(super) const OPEN_MAX: u16 = 32;
/// The first pause before another attempt, which doubles.
const PAUSE_FIRST: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// A good-bye takes no longer.
const GOOD_BYE: Duration = Duration::from_millis(250);
/// What was withheld goes back to the queue after this: at once it would come at once.
const RETURN_AFTER: Duration = Duration::from_secs(10);

/// What is to become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Acknowledge(u16),
    Refuse(u16),
    Withhold(u16),
}

/// Brings commands for as long as the connection beside it lasts.
#[derive(Debug)]
pub(super) struct Commands<'p> {
    far: &'p Far,
    name: String,
    queue: &'p AmqpQueue,
    events: &'p mpsc::Sender<LinkEvent>,
}

/// One connection with what it has delivered.
struct Subscription {
    channel: Channel,
    consumer: Consumer,
    account: Arc<Account>,
    /// The delivery tags of messages without an answer, by the number under which the run knows them.
    open: HashMap<u16, u64>,
    /// What goes back to the queue, and when.
    withheld: Vec<u16>,
    return_at: Option<Instant>,
    // Behind what runs on it.
    _connection: lapin::Connection,
}

impl<'p> Commands<'p> {
    pub(super) fn new(
        far: &'p Far,
        name: &str,
        queue: &'p AmqpQueue,
        events: &'p mpsc::Sender<LinkEvent>,
    ) -> Self {
        Self { far, name: format!("{name} commands"), queue, events }
    }

    /// Brings commands until nobody listens any more, which it returns.
    pub(super) async fn bring(&self, orders: &mut mpsc::Receiver<Order>) -> LinkError {
        let mut pause = PAUSE_FIRST;
        let mut last = 0;
        loop {
            // lapin's connection goes first, then what it runs on.
            let (leash, kit) = Leash::new();
            let subscribed = timeout(CONNECT_TIMEOUT, self.subscribe((&leash, kit))).await;
            let subscribed = subscribed
                .unwrap_or_else(|_| Err(LinkError::transient("the far side does not answer")));
            let ended = match subscribed {
                Ok(subscription) => {
                    pause = PAUSE_FIRST;
                    if self.events.send(LinkEvent::Subscribed).await.is_err() {
                        return unheard();
                    }
                    match self.serve(subscription, orders, &mut last).await {
                        Ok(ended) => ended,
                        Err(unheard) => return unheard,
                    }
                }
                Err(error) => error,
            };
            drop(leash);
            let reason =
                format!("no commands out of the queue `{}`: {}", self.queue.name, ended.reason);
            if self.events.send(LinkEvent::NotSubscribed { reason }).await.is_err() {
                return unheard();
            }
            rest(pause, orders).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn subscribe(
        &self,
        (leash, kit): (&Leash, Runtime<Kit>),
    ) -> Result<Subscription, LinkError> {
        let account = Arc::new(Account::default());
        let bounds = DeliveryBounds {
            body_bytes: self.queue.payload_bytes_max as u64,
            open: OPEN_MAX.into(),
        };
        let connection = self.far.connect(&self.name, (leash, kit), Some(bounds), &account).await?;
        let queue: ShortString = self.queue.name.as_str().into();
        let opened = async {
            let channel = connection.create_channel().await?;
            let there = QueueDeclareOptions { passive: true, ..Default::default() };
            channel.queue_declare(queue.clone(), there, FieldTable::default()).await?;
            channel.basic_qos(OPEN_MAX, BasicQosOptions::default()).await?;
            let (tag, options) = ("commands".into(), BasicConsumeOptions::default());
            let consumer =
                channel.basic_consume(queue, tag, options, FieldTable::default()).await?;
            Ok((channel, consumer))
        };
        let (channel, consumer) = match opened.await {
            Ok(opened) => opened,
            Err(error) => {
                // It may be tried often, and each time the broker's log would wonder.
                let _ = timeout(GOOD_BYE, connection.close(REPLY_SUCCESS, "OK".into())).await;
                return Err(link_error(&error));
            }
        };
        Ok(Subscription {
            channel,
            consumer,
            account,
            open: HashMap::new(),
            withheld: Vec::new(),
            return_at: None,
            _connection: connection,
        })
    }

    /// Hands on what comes until that ends, and returns why; `last` is the number of the last message.
    ///
    /// # Errors
    ///
    /// If nobody listens.
    async fn serve(
        &self,
        mut subscription: Subscription,
        orders: &mut mpsc::Receiver<Order>,
        last: &mut u16,
    ) -> Result<LinkError, LinkError> {
        loop {
            let return_at = subscription.return_at.unwrap_or_else(Instant::now);
            let answered = tokio::select! {
                // Few come before those that came are answered.
                biased;
                delivery = subscription.consumer.next() => match delivery {
                    Some(Ok(delivery)) => {
                        *last = last.wrapping_add(1);
                        let incoming = self.incoming(&mut subscription, *last, delivery);
                        let told = self.events.send(LinkEvent::Incoming(incoming)).await;
                        told.map_err(|_| unheard())?;
                        continue;
                    }
                    Some(Err(error)) => return Ok(link_error(&error)),
                    None => {
                        let reason = "the broker has ended the subscription, as it does when a queue is deleted";
                        return Ok(LinkError::transient(reason));
                    }
                },
                order = orders.recv() => match order {
                    Some(order) => subscription.carry_out(order).await,
                    None => return Err(unheard()),
                },
                () = tokio::time::sleep_until(return_at.into()), if subscription.return_at.is_some() => {
                    subscription.give_back().await
                }
            };
            if let Err(error) = answered {
                return Ok(link_error(&error));
            }
        }
    }

    /// Makes of a delivery what the run understands.
    fn incoming(
        &self,
        subscription: &mut Subscription,
        packet: u16,
        delivery: Delivery,
    ) -> Incoming {
        let tag = delivery.delivery_tag;
        subscription.open.insert(packet, tag);
        let emptied = subscription.account.take_emptied(tag);
        let (properties, key) = (delivery.properties, delivery.routing_key);
        let said = |text: &Option<ShortString>| {
            let text = text.as_ref().map(ShortString::to_string);
            text.filter(|text| !text.is_empty())
        };
        let coding = said(properties.content_encoding());
        // The name of the zlib format in MIME and HTTP (RFC 9110, section 8.4.1.2).
        let coding =
            coding.map(|coding| if coding == "deflate" { "zlib".to_owned() } else { coding });
        let fault = emptied.map(|bytes| DecodeError::TooLarge {
            bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
            limit: self.queue.payload_bytes_max,
        });
        let beside = Beside { id: said(properties.message_id()), fault };
        Incoming {
            topic: routing_key(key.as_str()).into(),
            payload: delivery.data.into(),
            packet: Some(packet),
            retained: false,
            content_type: said(properties.content_type()),
            content_encoding: coding,
            reply_to: None,
            said: None,
            beside: Some(Box::new(beside)),
        }
    }
}

impl Subscription {
    /// Tells the broker what has become of a message, unless it is of a connection before this one.
    async fn carry_out(&mut self, order: Order) -> lapin::Result<()> {
        match order {
            Order::Acknowledge(packet) => {
                let Some(tag) = self.settle(packet) else { return Ok(()) };
                self.channel.basic_ack(tag, BasicAckOptions::default()).await
            }
            Order::Refuse(packet) => {
                let Some(tag) = self.settle(packet) else { return Ok(()) };
                self.channel.basic_reject(tag, BasicRejectOptions { requeue: false }).await
            }
            Order::Withhold(packet) => {
                if self.open.contains_key(&packet) {
                    self.withheld.push(packet);
                    self.return_at.get_or_insert_with(|| Instant::now() + RETURN_AFTER);
                }
                Ok(())
            }
        }
    }

    /// Gives back to the queue what was withheld.
    async fn give_back(&mut self) -> lapin::Result<()> {
        self.return_at = None;
        for packet in std::mem::take(&mut self.withheld) {
            if let Some(tag) = self.settle(packet) {
                self.channel.basic_reject(tag, BasicRejectOptions { requeue: true }).await?;
            }
        }
        Ok(())
    }

    fn settle(&mut self, packet: u16) -> Option<u64> {
        let tag = self.open.remove(&packet)?;
        self.account.note_settled();
        Some(tag)
    }
}

/// Waits; what belongs to a connection that is gone is of no use.
async fn rest(pause: Duration, orders: &mut mpsc::Receiver<Order>) {
    let over = tokio::time::sleep(pause);
    tokio::pin!(over);
    loop {
        tokio::select! {
            () = &mut over => return,
            Some(_) = orders.recv() => {}
        }
    }
}

fn unheard() -> LinkError {
    LinkError::transient("nobody listens")
}
