//! What happens to a guest for which the machine has no memory left: it is ended, and the machine goes on.
//!
//! The machine notices when the guest, or the host on its behalf, touches memory, where neither can be ended. They go on
//! with what is not to be relied on. So a guest gets no answer to what it asks from then on, is ended when its turn is over,
//! at the next tick of the clock, and what it has said in that turn isn't heard.

use core::future::poll_fn;
use core::pin::Pin;
use core::task::Poll;
use core::time::Duration;

use wasmtime::{Error, Result};

use super::super::{executor, platform};
use super::ended::Ended;

const REASON: &str = "the machine has no memory left for the guest; give it more with --memory";

/// How long a request may wait until there is memory for the guest that answers it, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

/// Waits until there is memory for one more guest. Where there is none for long, the guest's own start has the error.
pub async fn room() {
    if platform::has_room() {
        return;
    }
    let until = platform::now() + PATIENCE;
    while !platform::has_room() && platform::now() < until {
        executor::sleep(PAUSE).await;
    }
}

/// Has a guest at work, and ends it where memory runs short in a turn of its own: whoever calls this drops its work.
pub async fn or_shortage<T>(mut work: Pin<&mut impl Future<Output = Result<T, Ended>>>) -> Result<T, Ended> {
    poll_fn(|context| {
        platform::forget_shortage();
        let outcome = work.as_mut().poll(context);
        if platform::is_short() { Poll::Ready(Err(Ended::Trap(REASON.into()))) } else { outcome }
    })
    .await
}

/// Fails where memory has run short in this turn.
pub(super) fn check() -> Result<()> {
    if platform::is_short() { Err(Error::msg(REASON)) } else { Ok(()) }
}
