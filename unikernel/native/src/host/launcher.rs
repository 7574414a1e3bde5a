//! The launcher at the other end of the control channel, or what stands for it where there is none: the console, and the
//! words of the command line.

mod words;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use core::pin::Pin;
use core::time::Duration;

use super::control::{self, Boot, ControlError, Lines, Message, Said};
use super::executor::{spawn, timeout};
use super::output::{Output, Sink};
use super::signals::Signals;
use super::{log, platform};

/// How long a launcher may take to answer `hello`.
const ANSWER: Duration = Duration::from_secs(60);

/// What a port gives, in its own time.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A stream of bytes to and from the launcher.
pub trait Port: Send + Sync + 'static {
    /// Reads some bytes: none where nobody is at the other end any more.
    fn read<'a>(&'a self, into: &'a mut [u8]) -> Pending<'a, usize>;

    /// Writes all bytes. False where nobody is at the other end any more.
    fn write<'a>(&'a self, bytes: &'a [u8]) -> Pending<'a, bool>;
}

impl Sink for Arc<dyn Port> {
    async fn write(&mut self, bytes: &[u8]) -> bool {
        Port::write(&**self, bytes).await
    }
}

/// Whom the machine tells what happens.
pub struct Launcher {
    /// What is on its way to the launcher; None where there is only a console.
    sent: Option<Arc<Output>>,
}

impl Launcher {
    /// None for a machine without a control channel.
    pub fn new(port: Option<Arc<dyn Port>>) -> Arc<Self> {
        let sent = port.map(|port| {
            let output = Arc::new(Output::default());
            spawn(output.clone().pump(port)).detach();
            output
        });
        Arc::new(Launcher { sent })
    }

    /// Sends a message. Where there is no channel, mistakes and where it serves go to the log, and nothing else is said.
    pub fn say(&self, said: &Said<'_>) {
        match (&self.sent, said) {
            (Some(output), said) => {
                let at = (!matches!(said, Said::Hello { .. })).then(platform::now);
                match control::encode(said, at) {
                    Ok(line) => output.log(&line),
                    Err(ControlError(error)) => log::error(&format!("the launcher can't be told: {error}")),
                }
            }
            (None, Said::Errors(lines)) => {
                for line in *lines {
                    log::line(&format!("slight-py: error: {line}"));
                }
            }
            (None, Said::Serving { address, .. }) => log::info(&format!("serving at {address}")),
            (None, _) => {}
        }
    }

    /// Waits until all is out that was said.
    pub async fn out(&self) {
        if let Some(output) = &self.sent {
            output.out().await;
        }
    }
}

/// The launcher's words, a message at a time.
pub struct Reader {
    port: Arc<dyn Port>,
    lines: Lines,
    received: alloc::collections::VecDeque<vec::Vec<u8>>,
}

/// Nobody is at the other end any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone;

impl Reader {
    pub fn new(port: Arc<dyn Port>) -> Self {
        Reader { port, lines: Lines::default(), received: Default::default() }
    }

    /// The next message, waited for.
    async fn next(&mut self) -> Result<Result<Message, ControlError>, Gone> {
        loop {
            if let Some(line) = self.received.pop_front() {
                return Ok(control::from_launcher(&line));
            }
            let mut buffer = vec![0; 16 << 10];
            let count = self.port.read(&mut buffer).await;
            if count == 0 {
                return Err(Gone);
            }
            match self.lines.feed(&buffer[..count.min(buffer.len())]) {
                Ok(lines) => self.received.extend(lines),
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    /// The answer to `hello`. Fails with a line that says what to do.
    pub async fn boot(&mut self) -> Result<Boot, String> {
        let answer = timeout(ANSWER, self.next()).await;
        let wrong = match answer {
            Err(_) => format!("the launcher has not answered within {} seconds", ANSWER.as_secs()),
            Ok(Err(Gone)) => "the launcher has gone".into(),
            Ok(Ok(Ok(Message::Boot(boot)))) => return Ok(*boot),
            Ok(Ok(Ok(_))) => "another message where 'boot' belongs".into(),
            Ok(Ok(Err(ControlError(error)))) => error,
        };
        Err(format!("the launcher and the image don't understand each other: {wrong}; build it again"))
    }

    /// Does what the launcher says, until it is gone.
    pub async fn obey(mut self, launcher: Arc<Launcher>, signals: Arc<Signals>) {
        while let Ok(message) = self.next().await {
            match message {
                Ok(Message::Signal(number)) => signals.raise(number),
                Ok(Message::Ping(number)) => launcher.say(&Said::Pong(number)),
                Ok(Message::Resume(resume)) => {
                    platform::set_wall(resume.time);
                    platform::add_entropy(&resume.seed);
                }
                Ok(Message::Boot(_)) => log::warning("the launcher said what can't be understood: a second 'boot'"),
                Err(ControlError(error)) => {
                    log::warning(&format!("the launcher said what can't be understood: {error}"));
                }
            }
        }
    }
}

pub use words::from_command_line;

#[cfg(all(test, feature = "std"))]
mod tests;
