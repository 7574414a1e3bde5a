//! A Redis as the machine asks it: over one connection, on which the commands of many guests are under way at once.
//! Redis answers them in their order.
//!
//! The connection is made when there is something to ask, and kept. One that broke is replaced: a command that was under
//! way is then sent a second time if it may be, and is an error otherwise. Nothing waits for longer than its time limit.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::pin::pin;
use core::time::Duration;

use futures_channel::oneshot::Canceled;
use futures_util::future::{Either, select};

use crate::capabilities::keyvalue::errors::StoreError;
use crate::capabilities::keyvalue::redis::address::Address;
use crate::capabilities::keyvalue::redis::answers::{Answer, Inbox};
use crate::capabilities::keyvalue::redis::calls::Calls;
use crate::capabilities::keyvalue::redis::command::Command;
use crate::capabilities::keyvalue::redis::connection::Connection;
use crate::capabilities::keyvalue::redis::faults::{Fault, describe_answer};
use crate::host::executor::{Task, sleep_until, spawn, timeout};
use crate::host::platform::now;
use crate::host::sync::{Mutex, Notify};
use crate::net::TcpStream;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Making a connection.
    pub connect: Duration,
    /// A command, with all it waits for.
    pub command: Duration,
}

impl Default for Times {
    fn default() -> Times {
        Times { connect: Duration::from_secs(3), command: Duration::from_secs(10) }
    }
}

/// Values from this length on are sent as they lie in memory, in bytes; shorter ones are gathered in one piece.
const LONG: usize = 16 * 1024;

pub struct Client {
    shared: Arc<Shared>,
    /// What sends and receives, once there is something to. Dropping it ends the connection.
    task: Mutex<Option<Task<()>>>,
}

struct Shared {
    address: Address,
    place: String,
    times: Times,
    calls: Mutex<Calls>,
    /// There is a command to send.
    asked: Notify,
    /// Commands were sent.
    sent: Notify,
}

impl Client {
    pub fn new(address: Address, times: Times) -> Client {
        let shared = Shared {
            place: address.place(),
            address,
            times,
            calls: Mutex::new(Calls::default()),
            asked: Notify::new(),
            sent: Notify::new(),
        };
        Client { shared: Arc::new(shared), task: Mutex::new(None) }
    }

    /// Redis's answer to a command, which is no error. A `repeatable` one is sent a second time where the connection
    /// broke: it may be answered or not, and asking twice changes nothing.
    pub async fn run(&self, command: Command, repeatable: bool) -> Result<Answer, StoreError> {
        let shared = &self.shared;
        let deadline = now() + shared.times.command;
        let answer = shared.calls.lock().add(command, repeatable, deadline, &shared.place)?;
        self.task.lock().get_or_insert_with(|| spawn(shared.clone().serve()));
        shared.asked.notify();
        match timeout(shared.times.command, answer).await {
            Ok(Ok(Ok(Answer::Error(error)))) => Err(describe_answer(&error, &shared.place)),
            Ok(Ok(outcome)) => outcome,
            // Nothing answers any more.
            Ok(Err(Canceled)) => Err(Fault::Broken(None).describe(&shared.place)),
            Err(_) => Err(Fault::Silent.describe(&shared.place)),
        }
    }

    /// What a command is told whose answer makes no sense.
    pub fn not_redis(&self) -> StoreError {
        Fault::NotRedis.describe(&self.shared.place)
    }
}

impl Shared {
    /// Makes connections as they are needed, one after the other.
    async fn serve(self: Arc<Self>) {
        loop {
            self.wait_for_calls().await;
            match Connection::open(&self.address, self.times.connect).await {
                Ok(connection) => {
                    let fault = self.exchange(connection).await;
                    self.calls.lock().disconnected(&fault, &self.place);
                }
                Err(fault) => self.calls.lock().not_connected(&fault, &self.place),
            }
        }
    }

    async fn wait_for_calls(&self) {
        loop {
            let asked = self.asked.notified();
            if self.calls.lock().has_waiting() {
                return;
            }
            asked.await;
        }
    }

    /// Sends commands and receives their answers, until something ends the connection.
    async fn exchange(&self, connection: Connection) -> Fault {
        let Connection { stream, mut inbox } = connection;
        // Sending comes first: a connection that ends at once has then had a command, which counts as tried.
        let sending = pin!(self.send(&stream));
        let receiving = pin!(self.receive(&stream, &mut inbox));
        let watching = pin!(self.watch());
        let ended = match select(select(sending, receiving), watching).await {
            Either::Left((Either::Left((ended, _)) | Either::Right((ended, _)), _)) | Either::Right((ended, _)) => {
                ended
            }
        };
        match ended {
            Err(fault) => fault,
        }
    }

    async fn send(&self, stream: &TcpStream) -> Result<Infallible, Fault> {
        let broken = |error| Fault::Broken(Some(error));
        loop {
            let asked = self.asked.notified();
            let batch = self.calls.lock().next_batch();
            if batch.is_empty() {
                asked.await;
                continue;
            }
            self.sent.notify();
            let mut gathered: Vec<u8> = Vec::new();
            for command in batch {
                gathered.extend_from_slice(&command.head);
                if let Some(value) = &command.value {
                    if value.len() < LONG {
                        gathered.extend_from_slice(value);
                    } else {
                        stream.write_all(&gathered).await.map_err(broken)?;
                        stream.write_all(value).await.map_err(broken)?;
                        gathered.clear();
                    }
                    gathered.extend_from_slice(b"\r\n");
                }
            }
            stream.write_all(&gathered).await.map_err(broken)?;
        }
    }

    async fn receive(&self, stream: &TcpStream, inbox: &mut Inbox) -> Result<Infallible, Fault> {
        loop {
            let answer = inbox.receive(stream).await?;
            self.calls.lock().answer(answer)?;
        }
    }

    /// Ends when the oldest command that was sent has had no answer in time.
    async fn watch(&self) -> Result<Infallible, Fault> {
        loop {
            let sent = self.sent.notified();
            let deadline = self.calls.lock().deadline();
            match deadline {
                None => sent.await,
                Some(deadline) if deadline <= now() => return Err(Fault::Silent),
                Some(deadline) => sleep_until(deadline).await,
            }
        }
    }
}
