//! A client's connection: the order in which its requests are answered, and for how long it is waited for.
//!
//! Requests are answered one after the other. While a handler works, what the client sends is kept, up to READ_AHEAD
//! bytes; requests in it are parsed when their turn comes.

use alloc::sync::Arc;
use core::future::pending;
use core::pin::pin;
use core::sync::atomic::Ordering;
use core::time::Duration;

use crate::host::{executor, platform};
use crate::net::TcpStream;

use super::buffer::Buffer;
use super::connections::Slot;
use super::head::{Head, HeadReader, Malformed, Progress};
use super::response::Encoded;
use super::server::Shared;
use super::settings::{Handler, Log};
use super::wait::or;

/// Up to how many bytes are received while a handler works.
const READ_AHEAD: usize = 64 * 1024;

/// How many requests of a connection are answered before others have their turn.
const IN_A_ROW: usize = 8;

/// How long the rest of a method is waited for that can't be one of the server's. What ends with a space is answered as
/// a method that isn't known; most that doesn't is no HTTP.
const UNKNOWN_METHOD: Duration = Duration::from_millis(500);

/// The client is gone, or is cut off.
#[derive(Debug)]
pub struct Gone;

/// What comes next on a connection.
enum Next {
    Request(Head),
    Refused(Malformed),
    /// The machine has no room for the head.
    NoRoom,
    End,
}

/// What a connection waits for.
enum Event {
    Came(Result<(), Gone>),
    Late,
    Changed,
}

pub struct Connection<H: Handler, L: Log> {
    pub shared: Arc<Shared<H, L>>,
    pub slot: Arc<Slot>,
    pub stream: TcpStream,
    pub buffer: Buffer,
}

impl<H: Handler, L: Log> Connection<H, L> {
    pub fn new(shared: Arc<Shared<H, L>>, slot: Arc<Slot>, stream: TcpStream) -> Self {
        let buffer = Buffer::new(shared.received.charge());
        Connection { shared, slot, stream, buffer }
    }

    /// Answers requests until the connection ends.
    pub async fn run(mut self) {
        let mut in_a_row = 0;
        loop {
            let goes_on = match self.next().await {
                Next::Request(head) => self.answer(&head).await,
                Next::Refused(malformed) => self.refuse(malformed).await.map(|()| false),
                Next::NoRoom => self.refuse_for_room().await.map(|()| false),
                Next::End => Ok(false),
            };
            match goes_on {
                Ok(true) => {}
                Ok(false) => break self.see_off().await,
                Err(Gone) => break self.stream.abort(),
            }
            in_a_row += 1;
            if in_a_row == IN_A_ROW {
                in_a_row = 0;
                executor::yield_now().await;
            }
        }
    }

    async fn next(&mut self) -> Next {
        let idle_until = platform::now() + self.shared.settings.idle_timeout;
        let mut stray_until = None;
        let mut silent_until = None;
        let mut reader = HeadReader::default();
        loop {
            match reader.read(self.buffer.unread()) {
                Progress::Complete(head, length) => {
                    self.buffer.consume(length);
                    return Next::Request(head);
                }
                Progress::Malformed(malformed) => return Next::Refused(malformed),
                Progress::NoRoom => return Next::NoRoom,
                Progress::More => self.buffer.consume(reader.forget_empty_lines()),
            }
            let now = platform::now();
            if is_stray(self.buffer.unread()) {
                if *stray_until.get_or_insert(now + UNKNOWN_METHOD) <= now {
                    return Next::Refused(Malformed::BadRequest);
                }
            } else {
                stray_until = None;
            }
            let changed = self.slot.changed.notified();
            let until = if self.slot.must_close() {
                return Next::End;
            } else if let Some(until) = stray_until {
                until
            } else if !self.slot.is_draining() {
                idle_until
            } else if reader.has_begun() {
                Duration::MAX // the drain timeout bounds it
            } else {
                *silent_until.get_or_insert(now + self.shared.settings.grace)
            };
            if now >= until {
                return Next::End;
            }
            let space = match self.buffer.space() {
                Ok(space) => space,
                Err(_) => return Next::NoRoom,
            };
            let stream = &self.stream;
            let mut count = 0;
            let event = {
                let late = pin!(async {
                    executor::sleep_until(until).await;
                    Event::Late
                });
                let changed = pin!(async {
                    changed.await;
                    Event::Changed
                });
                let came = pin!(async {
                    match stream.read(space).await {
                        Ok(received) if received > 0 => {
                            count = received;
                            Event::Came(Ok(()))
                        }
                        _ => Event::Came(Err(Gone)),
                    }
                });
                or(came, pin!(or(late, changed))).await
            };
            match event {
                Event::Came(Ok(())) => self.count_received(count),
                Event::Came(Err(Gone)) => return Next::End,
                Event::Late | Event::Changed => {}
            }
        }
    }

    fn count_received(&mut self, count: usize) {
        self.buffer.received(count);
        self.slot.received.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Receives more of what the client sends.
    pub async fn receive_more(&mut self) -> Result<(), Gone> {
        let space = self.buffer.space().map_err(|_| Gone)?;
        match self.stream.read(space).await {
            Ok(count) if count > 0 => {
                self.count_received(count);
                Ok(())
            }
            _ => Err(Gone),
        }
    }

    /// Ends when the client is gone, or says no more, which looks the same: nobody may be there who would read the
    /// answer that a handler works on. Requests that come meanwhile are kept.
    pub async fn wait_until_gone(&mut self) {
        while self.buffer.unread().len() < READ_AHEAD {
            if self.receive_more().await.is_err() {
                return;
            }
        }
        pending().await
    }

    /// Whether no request comes after the one that is being answered: the server stops.
    pub fn is_last(&self) -> bool {
        let received = self.slot.received.load(Ordering::Relaxed);
        self.slot.is_last(received - self.buffer.unread().len() as u64)
    }

    /// Sends a response. The client is cut off where it takes nothing of it for too long.
    pub async fn send(&self, response: &Encoded) -> Result<(), Gone> {
        self.send_piece(&response.first, response.rest.len()).await?;
        self.send_piece(&response.rest, 0).await
    }

    /// Sends bytes, behind which so many others wait.
    pub async fn send_piece(&self, mut bytes: &[u8], behind: usize) -> Result<(), Gone> {
        let settings = &self.shared.settings;
        let mut is_stalled = false;
        while !bytes.is_empty() {
            match executor::timeout(settings.send_stall, self.stream.write(bytes)).await {
                Ok(Ok(count)) if count > 0 => bytes = &bytes[count..],
                _ => return Err(Gone),
            }
            if bytes.is_empty() {
                break;
            }
            self.slot.unsent.store(bytes.len() + behind, Ordering::Relaxed);
            if !is_stalled {
                is_stalled = true;
                self.shared.connections.bound_unsent(settings.max_unsent, |line| self.shared.log.warning(line));
            }
        }
        self.slot.unsent.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Says that no answer comes any more, and gives the client time to read the last one: to close a connection while
    /// something comes is to reset it, and what the client hasn't read by then is lost.
    async fn see_off(&self) {
        let finished = pin!(executor::timeout(self.shared.settings.linger, self.stream.finish()));
        let told = pin!(async {
            loop {
                let changed = self.slot.changed.notified();
                if self.slot.is_draining() {
                    return Ok(());
                }
                changed.await;
            }
        });
        let _ = or(finished, told).await; // late or not, that's all the time it has
    }
}

impl<H: Handler, L: Log> Drop for Connection<H, L> {
    fn drop(&mut self) {
        self.shared.connections.remove(&self.slot);
    }
}

/// Whether a request line begins with what is none of the server's methods, and goes on without a space.
fn is_stray(line: &[u8]) -> bool {
    const METHODS: [&[u8]; 7] = [b"GET ", b"POST ", b"PUT ", b"DELETE ", b"PATCH ", b"HEAD ", b"OPTIONS "];
    !line.contains(&b' ') && !METHODS.iter().any(|method| method.starts_with(line))
}
