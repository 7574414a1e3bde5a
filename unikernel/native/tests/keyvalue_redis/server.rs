//! A real Redis for tests, and servers that misbehave as a real one rarely does.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const START: Duration = Duration::from_secs(10);

/// redis-server on a free port of 127.0.0.1. It keeps nothing on disk.
pub struct RedisServer {
    pub port: u16,
    options: Vec<String>,
    process: Option<Child>,
}

impl RedisServer {
    pub fn start_with(options: &[&str]) -> RedisServer {
        let options = options.iter().map(|option| option.to_string()).collect();
        let mut server = RedisServer { port: free_port(), options, process: None };
        server.start();
        server
    }

    pub fn new() -> RedisServer {
        RedisServer::start_with(&[])
    }

    /// Starts it, also after `kill`, on the same port. Returns when it takes connections.
    pub fn start(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", "", "--appendonly", "no"]);
        command.args(&self.options).stdin(Stdio::null()).stdout(Stdio::null());
        self.process = Some(command.spawn().expect("redis-server can't be started: apt-get install redis-server"));
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            assert!(begun.elapsed() < START, "redis-server did not start");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub fn restart(&mut self) {
        self.kill();
        self.start();
    }

    /// Has it hang, or go on: `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let id = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    pub fn address(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What redis-cli prints for a command, less the last newline.
    pub fn cli(&self, command: &[&[u8]]) -> Vec<u8> {
        use std::os::unix::ffi::OsStrExt;
        let arguments = command.iter().map(|argument| std::ffi::OsStr::from_bytes(argument));
        let port = self.port.to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout.strip_suffix(b"\n").unwrap_or(&output.stdout).to_vec()
    }

    /// A number of `INFO stats`.
    pub fn statistic(&self, name: &str) -> usize {
        let stats = String::from_utf8(self.cli(&[b"INFO", b"stats"])).unwrap();
        let line = stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.trim().parse().unwrap()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port of 127.0.0.1 that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A server that answers each command with bytes, or by closing the connection, and remembers the commands.
pub struct FakeRedis {
    pub address: String,
    commands: Arc<Mutex<Vec<Vec<Vec<u8>>>>>,
}

impl FakeRedis {
    /// `answer` is called with each command and its number, from 0.
    pub fn new(answer: impl Fn(&[Vec<u8>], usize) -> Option<Vec<u8>> + Send + 'static) -> FakeRedis {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = format!("redis://{}", listener.local_addr().unwrap());
        let commands: Arc<Mutex<Vec<Vec<Vec<u8>>>>> = Arc::default();
        let seen = commands.clone();
        // It ends with the tests: one connection after the other, as the client has one at a time.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while let Some(command) = next_command(&mut reader) {
                    let number = seen.lock().unwrap().len();
                    seen.lock().unwrap().push(command.clone());
                    match answer(&command, number) {
                        Some(bytes) if stream.write_all(&bytes).is_ok() => {}
                        _ => break,
                    }
                }
            }
        });
        FakeRedis { address, commands }
    }

    pub fn commands(&self) -> Vec<Vec<Vec<u8>>> {
        self.commands.lock().unwrap().clone()
    }
}

fn next_command(reader: &mut impl BufRead) -> Option<Vec<Vec<u8>>> {
    let parts = next_number(reader)?;
    let mut command = Vec::new();
    for _ in 0..parts {
        let mut part = vec![0; next_number(reader)? + 2];
        reader.read_exact(&mut part).ok()?;
        part.truncate(part.len() - 2);
        command.push(part);
    }
    Some(command)
}

/// The number of a line, behind its first character.
fn next_number(reader: &mut impl BufRead) -> Option<usize> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    line.get(1..)?.trim().parse().ok()
}
