//! The connection of another uplink.

use std::{future::Future, sync::Arc};

use tokio::sync::mpsc;

use super::super::{
    link::{LinkError, LinkEvent, Up},
    seat::Seat,
};

/// Hands messages over to the uplink that has the connection.
#[derive(Debug)]
pub(super) struct Client {
    seat: Arc<Seat>,
    ride: u64,
    next: u16,
}

impl Client {
    pub(super) fn publish(&mut self, up: Up) -> Result<(), LinkError> {
        self.next = self.next.wrapping_add(1);
        self.seat.post(self.ride, self.next, up)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.seat.leave(self.ride);
    }
}

pub(super) fn open(
    seat: &Arc<Seat>,
    events: mpsc::Sender<LinkEvent>,
) -> (Client, impl Future<Output = LinkError> + Send + use<>) {
    let (lost, mut is_lost) = mpsc::channel(1);
    let ride = seat.board(events, lost);
    let driver = async move {
        let lost = is_lost.recv().await;
        lost.unwrap_or_else(|| LinkError::transient("another has taken the place"))
    };
    (Client { seat: Arc::clone(seat), ride, next: 0 }, driver)
}
