//! The commands that wait for an answer: first until they are sent, then, in the order in which they were sent, until
//! Redis has answered.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use futures_channel::oneshot;

use crate::capabilities::keyvalue::errors::{Kind, StoreError};
use crate::capabilities::keyvalue::redis::answers::Answer;
use crate::capabilities::keyvalue::redis::command::Command;
use crate::capabilities::keyvalue::redis::faults::Fault;

/// How many commands wait at most, those included whose guests have gone. More are refused.
pub const MOST_CALLS: usize = 4096;

/// How many commands go to Redis in one piece, at most.
const BATCH_COMMANDS: usize = 64;

/// How much they may carry together, in bytes. What is larger goes alone.
const BATCH_BYTES: usize = 256 * 1024;

/// How often a command that may be repeated is tried.
const TRIES: u8 = 2;

pub type Outcome = Result<Answer, StoreError>;

/// A command, and where its answer goes. Whoever waits for it may have gone.
pub struct Call {
    pub command: Arc<Command>,
    /// Whether it may be sent a second time when it isn't known whether Redis has had it.
    pub repeatable: bool,
    /// When it has taken too long.
    pub deadline: Duration,
    failures: u8,
    answer: oneshot::Sender<Outcome>,
}

#[derive(Default)]
pub struct Calls {
    waiting: VecDeque<Call>,
    sent: VecDeque<Call>,
}

impl Calls {
    /// Adds a command; what is returned gets its answer.
    pub fn add(
        &mut self,
        command: Command,
        repeatable: bool,
        deadline: Duration,
        place: &str,
    ) -> Result<oneshot::Receiver<Outcome>, StoreError> {
        if self.waiting.len() + self.sent.len() >= MOST_CALLS {
            let text = "Redis has too many commands to answer";
            let notice =
                format!("redis {place}: {MOST_CALLS} commands wait for its answer; look whether it is overloaded");
            return Err(StoreError::with_notice(Kind::Timeout, text, notice));
        }
        let (answer, receiver) = oneshot::channel();
        self.waiting.push_back(Call { command: Arc::new(command), repeatable, deadline, failures: 0, answer });
        Ok(receiver)
    }

    /// Whether anybody waits for a command to be sent.
    pub fn has_waiting(&mut self) -> bool {
        self.waiting.retain(|call| !call.answer.is_canceled());
        !self.waiting.is_empty()
    }

    /// The commands that go out next, which count as sent from now on.
    pub fn next_batch(&mut self) -> Vec<Arc<Command>> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(call) = self.waiting.pop_front() {
            if call.answer.is_canceled() {
                continue;
            }
            bytes += call.command.len();
            if !batch.is_empty() && (bytes > BATCH_BYTES || batch.len() == BATCH_COMMANDS) {
                self.waiting.push_front(call);
                break;
            }
            batch.push(call.command.clone());
            self.sent.push_back(call);
        }
        batch
    }

    /// When the oldest command that was sent has taken too long.
    pub fn deadline(&self) -> Option<Duration> {
        self.sent.front().map(|call| call.deadline)
    }

    /// Hands an answer to whoever waits for it. Fails where nobody has asked.
    pub fn answer(&mut self, answer: Answer) -> Result<(), Fault> {
        let call = self.sent.pop_front().ok_or(Fault::NotRedis)?;
        // It fails where whoever asked has gone.
        let _ = call.answer.send(Ok(answer));
        Ok(())
    }

    /// For a connection that couldn't be made: what waited for it and may not be tried again ends with the fault.
    pub fn not_connected(&mut self, fault: &Fault, place: &str) {
        let waiting = core::mem::take(&mut self.waiting);
        self.waiting = settled(waiting, fault, place, |_, call| match fault {
            Fault::Broken(_) => call.is_tried_again(),
            _ => false,
        });
    }

    /// For a connection that has ended: what was under way, and may not be sent again, ends with the fault.
    pub fn disconnected(&mut self, fault: &Fault, place: &str) {
        let mut again = settled(core::mem::take(&mut self.sent), fault, place, |number, call| match fault {
            Fault::Broken(_) => call.is_tried_again(),
            // Those that were sent after the one that had no answer still have time for one.
            Fault::Silent => call.repeatable,
            // It is the answer to the first one that can't be received.
            Fault::TooLong | Fault::NoMemory(_) => call.repeatable && number > 0,
            Fault::NotRedis | Fault::Refused(_) => false,
        });
        again.append(&mut self.waiting);
        self.waiting = again;
    }
}

impl Call {
    fn is_tried_again(&mut self) -> bool {
        self.failures += 1;
        self.repeatable && self.failures < TRIES
    }
}

/// Those calls that `is_kept` says are to be tried again, by their place in the order; the others are told the fault.
fn settled(
    calls: VecDeque<Call>,
    fault: &Fault,
    place: &str,
    mut is_kept: impl FnMut(usize, &mut Call) -> bool,
) -> VecDeque<Call> {
    let error = fault.describe(place);
    let mut kept = VecDeque::new();
    for (number, mut call) in calls.into_iter().enumerate() {
        if is_kept(number, &mut call) {
            kept.push_back(call);
        } else {
            // It fails where whoever asked has gone.
            let _ = call.answer.send(Err(error.clone()));
        }
    }
    kept
}
