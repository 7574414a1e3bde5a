//! One connection to a Redis: made, and opened with its password and database.

use alloc::format;
use core::net::SocketAddr;
use core::time::Duration;

use crate::capabilities::keyvalue::redis::address::Address;
use crate::capabilities::keyvalue::redis::answers::{Answer, Inbox};
use crate::capabilities::keyvalue::redis::command::Command;
use crate::capabilities::keyvalue::redis::faults::{Fault, is_too_many_clients, is_without_users};
use crate::host::executor::timeout;
use crate::host::platform;
use crate::net::{NetError, TcpStream, resolve};

pub struct Connection {
    pub stream: TcpStream,
    pub inbox: Inbox,
}

impl Connection {
    /// A connection that is ready for commands, within the time of `limit`.
    pub async fn open(address: &Address, limit: Duration) -> Result<Connection, Fault> {
        timeout(limit, async {
            let stream = connect(address, limit).await.map_err(|error| match error {
                NetError::TimedOut => Fault::Silent,
                _ => Fault::Broken(Some(error)),
            })?;
            let mut connection = Connection { stream, inbox: Inbox::default() };
            connection.begin(address).await?;
            Ok(connection)
        })
        .await
        .unwrap_or(Err(Fault::Silent))
    }

    /// Says who asks, and for which database.
    async fn begin(&mut self, address: &Address) -> Result<(), Fault> {
        let password = address.password.as_deref().unwrap_or("").as_bytes();
        let answer = match (&address.username, &address.password) {
            (None, None) => Ok(()),
            (None, Some(_)) => self.command(&[b"AUTH", password]).await,
            (Some(user), _) => match self.command(&[b"AUTH", user.as_bytes(), password]).await {
                Err(Fault::Refused(error)) if is_without_users(&error) => self.command(&[b"AUTH", password]).await,
                answer => answer,
            },
        };
        answer?;
        if address.database != 0 {
            self.command(&[b"SELECT", format!("{}", address.database).as_bytes()]).await?;
        }
        Ok(())
    }

    /// Sends a command to which `OK` is the answer.
    async fn command(&mut self, parts: &[&[u8]]) -> Result<(), Fault> {
        self.stream.write_all(&Command::new(parts).head).await.map_err(|error| Fault::Broken(Some(error)))?;
        match self.inbox.receive(&self.stream).await? {
            Answer::Status(text) if text == b"OK" => Ok(()),
            Answer::Error(error) => Err(Fault::Refused(error)),
            _ => Err(Fault::NotRedis),
        }
    }
}

/// Tries the addresses of the host one after the other.
async fn connect(address: &Address, limit: Duration) -> Result<TcpStream, NetError> {
    let deadline = platform::now() + limit;
    let mut failure = NetError::NoSuchName(address.host.clone());
    for host in resolve(&address.host).await? {
        match TcpStream::connect(SocketAddr::new(host, address.port), deadline.saturating_sub(platform::now())).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

impl Inbox {
    /// The next answer, for which it waits.
    pub async fn receive(&mut self, stream: &TcpStream) -> Result<Answer, Fault> {
        loop {
            match self.next()? {
                Some(Answer::Error(error)) if is_too_many_clients(&error) => return Err(Fault::Broken(None)),
                Some(answer) => return Ok(answer),
                None => {
                    let room = self.room()?;
                    let length = room.len();
                    let received = stream.read(room).await.map_err(|error| Fault::Broken(Some(error)))?;
                    if received == 0 {
                        return Err(Fault::Broken(None));
                    }
                    self.unused(length - received);
                }
            }
        }
    }
}
