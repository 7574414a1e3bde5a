//! Waiting for one of several things.

use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;

/// What the first of two futures gives that is done; the other one is dropped. The second is not looked at where the
/// first is done at once.
pub async fn or<T>(first: impl Future<Output = T>, second: impl Future<Output = T>) -> T {
    let (mut first, mut second) = (pin!(first), pin!(second));
    poll_fn(|context| match first.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending => second.as_mut().poll(context),
    })
    .await
}
