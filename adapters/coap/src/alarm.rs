//! A timer that is set again for free as long as the deadline only moves away.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// Wakes its task at a deadline that changes with every datagram.
///
/// The timer below is only touched when the deadline moves nearer; when it fires too early, it is set to
/// the deadline of that moment.
#[derive(Debug)]
pub(crate) struct Alarm {
    sleep: Pin<Box<Sleep>>,
    deadline: Option<Instant>,
    armed: bool,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        Self { sleep: Box::pin(sleep_until(Instant::now())), deadline: None, armed: false }
    }

    /// Sets the deadline, or none.
    pub(crate) fn set(&mut self, deadline: Option<std::time::Instant>) {
        self.deadline = deadline.map(Instant::from_std);
        if let Some(deadline) = self.deadline
            && (!self.armed || deadline < self.sleep.deadline())
        {
            self.sleep.as_mut().reset(deadline);
            self.armed = true;
        }
    }
}

/// Resolves when the deadline has passed; never without one. Cancel-safe.
impl Future for &mut Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let alarm = &mut **self;
        while let Some(deadline) = alarm.deadline {
            if alarm.sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            if deadline <= Instant::now() {
                alarm.armed = false;
                return Poll::Ready(());
            }
            alarm.sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{advance, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_last_deadline_counts() {
        let start = Instant::now();
        let at = |seconds| Some((start + Duration::from_secs(seconds)).into_std());
        let mut alarm = Alarm::new();
        assert!(timeout(Duration::from_secs(1), &mut alarm).await.is_err(), "no deadline");
        alarm.set(at(10));
        alarm.set(at(30));
        (&mut alarm).await;
        assert_eq!(start.elapsed().as_secs(), 30);
        alarm.set(at(50));
        alarm.set(at(40));
        (&mut alarm).await;
        assert_eq!(start.elapsed().as_secs(), 40);
        alarm.set(at(60));
        alarm.set(None);
        advance(Duration::from_secs(100)).await;
        assert!(timeout(Duration::from_secs(1), &mut alarm).await.is_err(), "taken back");
    }
}
