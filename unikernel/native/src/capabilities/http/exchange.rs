//! One request, from its head until its response is out.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::pin::pin;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;

use crate::bindings::http_types::{HttpError, Response};
use crate::capabilities::text::printable;
use crate::host::{executor, platform};

use super::access::{AccessRecord, CLIENT_GONE};
use super::body::{Body, BodyError};
use super::budget::Charge;
use super::connection::{Connection, Gone};
use super::connections::Slot;
use super::head::{Head, Malformed};
use super::matcher::Match;
use super::meaning::Expects;
use super::request::{as_request, route};
use super::response::{Encoded, Own, busy, encode, plain};
use super::server::Shared;
use super::settings::{Failed, Handler, Log};
use super::target::path_and_query;
use super::wait::or;

/// How many characters of what a guest or a client wrote a line of the log holds.
const SHOWN: usize = 1_000;

/// How a handler's work ends.
enum Outcome {
    Ended(Result<Response, Failed>),
    Late,
    Gone,
}

impl<H: Handler, L: Log> Connection<H, L> {
    /// Answers a request; says whether the connection goes on.
    pub async fn answer(&mut self, head: &Head) -> Result<bool, Gone> {
        let shared = self.shared.clone();
        let mut entry = Entry::new(&shared, &self.slot, head);
        let mut body = Body::new(head.framing(), shared.settings.max_body);
        // The head is kept while the handler works, and once more as what the handler gets to see.
        let mut charge = shared.received.charge();
        let has_room = charge.set(2 * head.length()).is_ok();
        let response = match route(&shared, head) {
            Ok(_) if !has_room => busy(),
            Ok(found) => {
                entry.handler = Some(found.handler.clone());
                self.handle(head, found, &mut body, &mut charge).await?
            }
            Err(response) => response,
        };
        // A body that nobody wants is skipped if all of it is there. Who is still sending it gets to know that it need
        // not.
        let is_whole = match &mut body {
            Ok(body) => body.is_whole() || (self.take_buffered(body).is_ok() && body.is_whole()),
            Err(_) => false,
        };
        let goes_on = is_whole && head.meaning.keep_alive && head.method() != "CONNECT" && !self.is_last();
        drop(body);
        let encoded = self.encode(head, response, entry.handler.as_deref(), goes_on);
        self.send(&encoded).await?;
        entry.status = encoded.status;
        entry.bytes = encoded.content;
        Ok(goes_on)
    }

    /// Receives the body and runs the handler, within the limits.
    async fn handle(
        &mut self,
        head: &Head,
        found: Match,
        body: &mut Result<Body, BodyError>,
        charge: &mut Charge,
    ) -> Result<Response, Gone> {
        let shared = self.shared.clone();
        let Some(_place) = Place::take(&shared.running, shared.settings.max_concurrent) else { return Ok(busy()) };
        let received = match body {
            Ok(body) => self.receive(head, body, charge).await?,
            Err(error) => Err(*error),
        };
        let bytes = match (received, body) {
            (Ok(true), Ok(body)) => core::mem::take(&mut body.bytes),
            (Ok(_), _) => return Ok(plain(408, &[])),
            (Err(BodyError::Broken), _) => return Ok(plain(400, &[])),
            (Err(BodyError::TooLarge), _) => return Ok(plain(413, &[])),
            (Err(BodyError::NoRoom), _) => return Ok(busy()),
        };
        let Match { handler, params } = found;
        let Some(request) = as_request(head, params, bytes) else { return Ok(plain(400, &[])) };
        let limit = shared.settings.request_timeout;
        let handling = pin!(async { Outcome::Ended(shared.handler.handle(&handler, request).await) });
        let gone = pin!(async {
            self.wait_until_gone().await;
            Outcome::Gone
        });
        let late = pin!(async {
            executor::sleep(limit).await;
            Outcome::Late
        });
        let (status, reason) = match or(handling, pin!(or(gone, late))).await {
            Outcome::Ended(Ok(response)) => return Ok(response),
            Outcome::Ended(Err(Failed::Error(error))) => {
                (500, format!("the handler returned the error {}", describe(&error)))
            }
            Outcome::Ended(Err(Failed::Ended(reason))) => (500, reason),
            Outcome::Late => (504, format!("no answer within {} seconds", seconds(limit))),
            Outcome::Gone => return Err(Gone),
        };
        log_failure(&*shared.log, head, &handler, &reason);
        Ok(plain(status, &[]))
    }

    /// Receives the body; says whether that was in time.
    async fn receive(
        &mut self,
        head: &Head,
        body: &mut Body,
        charge: &mut Charge,
    ) -> Result<Result<bool, BodyError>, Gone> {
        if let Err(error) = self.take_buffered(body) {
            return Ok(Err(error));
        }
        if !body.is_whole() && head.meaning.expects == Expects::Continue {
            self.send_piece(b"HTTP/1.1 100 Continue\r\n\r\n", 0).await?;
        }
        let limit = self.shared.settings.body_timeout;
        let receiving = async {
            while !body.is_whole() {
                self.receive_more().await?;
                if let Err(error) = self.take_buffered(body) {
                    return Ok(Err(error));
                }
                if charge.set(2 * head.length() + body.bytes.capacity()).is_err() {
                    return Ok(Err(BodyError::NoRoom));
                }
            }
            Ok(Ok(true))
        };
        executor::timeout(limit, receiving).await.unwrap_or(Ok(Ok(false)))
    }

    /// Takes what has come of a body.
    fn take_buffered(&mut self, body: &mut Body) -> Result<(), BodyError> {
        let count = body.take(self.buffer.unread())?;
        self.buffer.consume(count);
        Ok(())
    }

    /// The handler's response as it is sent, or a 500 in its place where it can't be.
    fn encode(&self, head: &Head, response: Response, handler: Option<&str>, goes_on: bool) -> Encoded {
        let connection = match (goes_on, head.is_http_11) {
            (false, _) => "Connection: close\r\n",
            (true, false) => "Connection: keep-alive\r\n",
            (true, true) => "",
        };
        let cors = &self.shared.settings.cors;
        let own = Own {
            is_head: head.method() == "HEAD",
            cors: cors.lines(head.field("origin")),
            cors_is_the_guests: cors.is_off(),
            connection,
            date: &self.shared.date(),
        };
        encode(response, &own).unwrap_or_else(|reason| {
            let reason = format!("the response can't be sent: {reason}");
            log_failure(&*self.shared.log, head, handler.unwrap_or("-"), &reason);
            own_answer(plain(500, &[]), &own)
        })
    }

    /// Answers what could not be parsed.
    pub async fn refuse(&mut self, malformed: Malformed) -> Result<(), Gone> {
        let status = match malformed {
            Malformed::BadRequest => 400,
            Malformed::TargetTooLong => 414,
            Malformed::HeaderTooLong => 431,
            Malformed::UnknownVersion => 505,
        };
        self.answer_unparsed(plain(status, &[])).await
    }

    /// Answers a request whose head finds no room.
    pub async fn refuse_for_room(&mut self) -> Result<(), Gone> {
        self.answer_unparsed(busy()).await
    }

    async fn answer_unparsed(&mut self, response: Response) -> Result<(), Gone> {
        let cors = &self.shared.settings.cors;
        let own = Own {
            is_head: false,
            cors: cors.lines(None),
            cors_is_the_guests: cors.is_off(),
            connection: "Connection: close\r\n",
            date: &self.shared.date(),
        };
        let encoded = own_answer(response, &own);
        let sent = self.send(&encoded).await;
        if self.shared.log.wants_access() {
            self.shared.log.access(&AccessRecord {
                client: self.slot.client.clone(),
                method: "-".into(),
                path: "-".into(),
                status: encoded.status,
                bytes: encoded.content,
                time: Duration::ZERO,
                handler: None,
            });
        }
        sent
    }
}

/// An answer of the server's own, which can always be sent.
fn own_answer(response: Response, own: &Own<'_>) -> Encoded {
    encode(response, own).unwrap_or_else(|_| Encoded { status: 500, first: Vec::new(), rest: Vec::new(), content: 0 })
}

/// A handler's error as the interface names it, and what it carries.
fn describe(error: &HttpError) -> String {
    match error {
        HttpError::InvalidUrl(text) => format!("invalid-url: {text}"),
        HttpError::TimeoutError(text) => format!("timeout-error: {text}"),
        HttpError::ProtocolError(text) => format!("protocol-error: {text}"),
        HttpError::StatusError(status) => format!("status-error: {status}"),
        HttpError::UnexpectedError(text) => format!("unexpected-error: {text}"),
    }
}

/// A number of seconds without zeros at its end.
fn seconds(time: Duration) -> String {
    let text = format!("{}.{:06}", time.as_secs(), time.subsec_micros());
    text.trim_end_matches('0').trim_end_matches('.').into()
}

/// The path as it was sent, without the query, which may hold secrets.
fn path_of(head: &Head) -> String {
    let uri = path_and_query(head.target()).unwrap_or_default();
    uri.split('?').next().unwrap_or_default().into()
}

fn log_failure(log: &impl Log, head: &Head, handler: &str, reason: &str) {
    let path = printable(&path_of(head), SHOWN);
    log.error(&format!("{} {path} {}: {}", head.method(), printable(handler, SHOWN), printable(reason, SHOWN)));
}

/// A place among the requests that may be under way at once.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(running: &'a AtomicUsize, most: usize) -> Option<Place<'a>> {
        let one_more = |now: usize| (now < most).then_some(now + 1);
        running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok().map(|_| Place(running))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the access log says of a request, written when this is dropped: when its response is out, or nobody is there
/// for it any more.
struct Entry<'a, H: Handler, L: Log> {
    shared: &'a Shared<H, L>,
    slot: Arc<Slot>,
    head: &'a Head,
    began: Duration,
    status: u16,
    bytes: usize,
    handler: Option<Arc<str>>,
}

impl<'a, H: Handler, L: Log> Entry<'a, H, L> {
    fn new(shared: &'a Shared<H, L>, slot: &Arc<Slot>, head: &'a Head) -> Self {
        slot.is_answering.store(true, Ordering::Relaxed);
        let began = if shared.log.wants_access() { platform::now() } else { Duration::ZERO };
        Entry { shared, slot: slot.clone(), head, began, status: CLIENT_GONE, bytes: 0, handler: None }
    }
}

impl<H: Handler, L: Log> Drop for Entry<'_, H, L> {
    fn drop(&mut self) {
        self.slot.is_answering.store(false, Ordering::Relaxed);
        if self.shared.log.wants_access() {
            self.shared.log.access(&AccessRecord {
                client: self.slot.client.clone(),
                method: self.head.method().into(),
                path: path_of(self.head),
                status: self.status,
                bytes: self.bytes,
                time: platform::now().saturating_sub(self.began),
                handler: self.handler.take(),
            });
        }
    }
}
