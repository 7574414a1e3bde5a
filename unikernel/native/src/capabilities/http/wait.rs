//! Waiting for one of several things.

use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::Poll;

/// What the first of two futures gives that is done. The second is not looked at where the first is done at once.
///
/// They are pinned by the caller, as a future is large, and would be moved here.
pub fn or<T>(
    mut first: Pin<&mut impl Future<Output = T>>,
    mut second: Pin<&mut impl Future<Output = T>>,
) -> impl Future<Output = T> {
    poll_fn(move |context| match first.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending => second.as_mut().poll(context),
    })
}
