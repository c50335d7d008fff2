//! Attempts that race: begun one after another, and the first to succeed wins (RFC 8305, "Happy
//! Eyeballs", section 5).
//!
//! Only the order and the waits are here; what an attempt does is its own.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

/// The result of the first of `attempts` to succeed, or of the last to fail; `None` without any. The
/// next is begun when one failed, or when none ended for `stagger`. What still runs is dropped with
/// the end.
pub(super) async fn race<A, T, E>(
    attempts: impl ExactSizeIterator<Item = A>,
    stagger: Duration,
) -> Option<Result<T, E>>
where
    A: Future<Output = Result<T, E>>,
{
    let mut attempts = attempts;
    let mut running = vec![Box::pin(attempts.next()?)];
    loop {
        let ended = first_ended(&mut running);
        let ended = if attempts.len() == 0 {
            Ok(ended.await)
        } else {
            timeout(stagger, ended).await
        };
        let failed = match ended {
            Ok(Ok(won)) => return Some(Ok(won)),
            Ok(Err(error)) => Some(Err(error)),
            Err(_elapsed) => None,
        };
        match attempts.next() {
            Some(next) => running.push(Box::pin(next)),
            None if running.is_empty() => return failed,
            None => {}
        }
    }
}

/// The result of whichever ends first, which is taken out.
async fn first_ended<A: Future>(running: &mut Vec<Pin<Box<A>>>) -> A::Output {
    poll_fn(|cx| {
        for at in 0..running.len() {
            if let Poll::Ready(result) = running[at].as_mut().poll(cx) {
                drop(running.remove(at));
                return Poll::Ready(result);
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::{Instant, sleep};

    use super::*;

    const STAGGER: Duration = Duration::from_millis(60);

    /// After so many milliseconds, accepted or refused.
    type Fate = (u64, bool);

    /// Which of `fates` won and when, in milliseconds, and how many were begun.
    async fn outcome(fates: &[Fate]) -> (Option<Result<usize, usize>>, u128, usize) {
        let (begun, start) = (Cell::new(0), Instant::now());
        let attempts = fates.iter().enumerate().map(|(at, (after, accepted))| {
            begun.set(begun.get() + 1);
            async move {
                sleep(Duration::from_millis(*after)).await;
                if *accepted { Ok(at) } else { Err(at) }
            }
        });
        let won = race(attempts, STAGGER).await;
        (won, start.elapsed().as_millis(), begun.get())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_that_accepts_is_alone() {
        assert_eq!(outcome(&[(5, true), (0, true)]).await, (Some(Ok(0)), 5, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_begins_the_next_at_once() {
        let fates = [(5, false), (5, false), (5, true)];
        assert_eq!(outcome(&fates).await, (Some(Ok(2)), 15, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_begins_the_next_after_the_stagger() {
        let fates = [(9999, true), (9999, true), (5, true)];
        assert_eq!(outcome(&fates).await, (Some(Ok(2)), 125, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_first_may_still_win() {
        let fates = [(70, true), (9999, true)];
        assert_eq!(outcome(&fates).await, (Some(Ok(0)), 70, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn all_refuse_and_the_last_is_told() {
        let fates = [(80, false), (1, false)];
        assert_eq!(outcome(&fates).await, (Some(Err(0)), 80, 2));
        assert_eq!(outcome(&[]).await, (None, 0, 0));
    }
}
