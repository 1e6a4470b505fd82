//! Messages that were missed: asked for again, or told as lost (OPC 10000-4, section 5.14.6).

use opcua::{
    client::{Session, UARequest as _, services::Republish},
    types::{NotificationMessage, StatusCode},
};
use tracing::warn;

use super::Publisher;
use crate::{services::ServiceError, stretches::Why, table::SubscriptionId};

/// Messages that cannot be had.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost {
    /// The server no longer has them, or there were too many to ask for.
    gone: u64,
    /// They break the limits.
    too_large: u64,
}

impl Publisher<'_> {
    /// Asks for missed messages again, in order; returns how many cannot be had.
    pub(super) async fn fetch(
        &mut self,
        subscription: SubscriptionId,
        given_up: u32,
        missing: Vec<u32>,
    ) -> Result<Lost, ServiceError> {
        let mut lost = Lost { gone: given_up.into(), too_large: 0 };
        if given_up > 0 {
            self.shared.table().open_stretches(subscription, Why::Dropped);
        }
        for number in missing {
            match republish(self.session, subscription, number).await {
                Ok(message) if message.sequence_number == number => {
                    self.shared.counted.messages_republished.increment();
                    self.pass_on(subscription, message).await;
                    continue;
                }
                Ok(_) => lost.gone += 1,
                Err(error) if error.is_too_large() => lost.too_large += 1,
                Err(error) if is_about_message(error) => lost.gone += 1,
                Err(error) => return Err(error),
            }
            // Before the first newer sample, which a message that is still there may hold.
            self.shared.table().open_stretches(subscription, Why::Dropped);
        }
        Ok(lost)
    }

    /// Tells that messages were lost. The new subscription begins with the present values; with those that are too
    /// large it would begin in the same way, so that then the old one goes on.
    pub(super) async fn tell(
        &mut self,
        subscription: SubscriptionId,
        Lost { gone, too_large }: Lost,
    ) {
        if too_large > 0 {
            self.shared.counted.messages_too_large.add(too_large);
            warn!(adapter = %self.name, messages = too_large, "Messages of the server were larger than the limits allow, their values are missing");
        }
        if gone > 0 {
            self.shared.counted.messages_lost.add(gone);
            warn!(adapter = %self.name, messages = gone, "Messages of the server were lost, subscribing anew");
            self.give_up(subscription).await;
        }
    }

    /// Fetches what was sent while there was no connection, for subscriptions that live on.
    pub(crate) async fn catch_up(&mut self) -> Result<(), ServiceError> {
        let subscriptions = self.shared.table().subscription_ids();
        for subscription in subscriptions {
            while let Some(expected) = self.expected(subscription) {
                match republish(self.session, subscription, expected).await {
                    Ok(message) if message.sequence_number == expected => {
                        self.shared.counted.messages_republished.increment();
                        self.pass_on(subscription, message).await;
                    }
                    Ok(_) => break,
                    Err(error) if is_about_message(error) => break,
                    Err(ServiceError(StatusCode::BadSubscriptionIdInvalid)) => {
                        self.give_up(subscription).await;
                        break;
                    }
                    Err(error) => return Err(error),
                }
                while !self.deliveries.has_room() {
                    self.deliveries.advance(self.intake).await;
                }
            }
        }
        Ok(())
    }

    fn expected(&self, subscription: SubscriptionId) -> Option<u32> {
        self.shared.table().subscription_mut(subscription).map(|known| known.sequence.expected())
    }
}

/// Whether the server no longer has the message, or never keeps any.
fn is_about_message(error: ServiceError) -> bool {
    [
        StatusCode::BadMessageNotAvailable,
        StatusCode::BadServiceUnsupported,
        StatusCode::BadNotImplemented,
    ]
    .contains(&error.0)
}

async fn republish(
    session: &Session,
    subscription: SubscriptionId,
    number: u32,
) -> Result<NotificationMessage, ServiceError> {
    let response = Republish::new(subscription, number, session).send(session.channel()).await?;
    Ok(response.notification_message)
}
