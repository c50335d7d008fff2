//! A deadline that costs nothing while it keeps being moved away.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::spares::Spares;

/// Timers that a thread keeps, still armed, for later alarms: as many as it has waits at once in a
/// sidecar; more are given back to the allocator.
const SPARES: usize = 256;

thread_local! {
    static SPARE: Spares<Pin<Box<Sleep>>> = const { Spares::new(SPARES) };
}

/// A timer for a deadline that nearly always moves before it comes.
///
/// Arming and disarming a timer of the runtime takes its wheel's lock, twice for each wait. An
/// alarm is armed once and left so, even while nobody holds it: if it fires early for the deadline
/// that it is asked about, it is armed anew. A request thus touches the wheel once in as many
/// requests as fit into its timeout.
#[derive(Debug, Default)]
pub struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready once `deadline` has passed; until then the task is woken at it, or before.
    pub fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| {
            let spare = Spares::take(&SPARE);
            spare.unwrap_or_else(|| Box::pin(sleep_until(deadline)))
        });
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= deadline || super::clock::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(timer) = self.0.take() {
            Spares::keep(&SPARE, timer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rings_at_its_deadline_however_it_was_armed() {
        let start = Instant::now();
        let mut alarm = Alarm::default();
        // Armed for long, asked for less, then for more than it is armed for.
        for seconds in [5, 1, 7] {
            let deadline = Instant::now() + Duration::from_secs(seconds);
            poll_fn(|cx| alarm.poll_until(cx, deadline)).await;
            assert_eq!(Instant::now(), deadline);
        }
        assert_eq!(start.elapsed(), Duration::from_secs(13));
    }

    #[tokio::test(start_paused = true)]
    async fn a_spare_one_is_taken_over_armed() {
        let far = Instant::now() + Duration::from_mins(1);
        let mut first = Alarm::default();
        let poll = |alarm: &mut Alarm, deadline| {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            alarm.poll_until(&mut cx, deadline)
        };
        assert!(poll(&mut first, far).is_pending());
        drop(first);
        let near = Instant::now() + Duration::from_secs(1);
        let mut second = Alarm::default();
        poll_fn(|cx| second.poll_until(cx, near)).await;
        assert_eq!(Instant::now(), near);
        assert!(poll(&mut second, far).is_pending());
        poll_fn(|cx| second.poll_until(cx, far)).await;
        assert_eq!(Instant::now(), far);
    }
}
