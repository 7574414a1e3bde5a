use alloc::string::ToString;
use alloc::vec::Vec;

use super::*;
use crate::host::executor::{block_on, sleep};
use crate::host::sync::{Mutex, Notify};

/// The launcher's end of a port, in memory.
#[derive(Default)]
struct Pipe {
    to_machine: Mutex<Vec<u8>>,
    from_machine: Mutex<Vec<u8>>,
    ended: Mutex<bool>,
    changed: Notify,
}

impl Pipe {
    fn send(&self, text: &str) {
        self.to_machine.lock().extend_from_slice(text.as_bytes());
        self.changed.notify();
    }

    fn end(&self) {
        *self.ended.lock() = true;
        self.changed.notify();
    }
}

impl Port for Pipe {
    fn read<'a>(&'a self, into: &'a mut [u8]) -> Pending<'a, usize> {
        Box::pin(async move {
            loop {
                let changed = self.changed.notified();
                let mut bytes = core::mem::take(&mut *self.to_machine.lock());
                if !bytes.is_empty() || *self.ended.lock() {
                    let rest = bytes.split_off(bytes.len().min(into.len()));
                    into[..bytes.len()].copy_from_slice(&bytes);
                    *self.to_machine.lock() = rest;
                    return bytes.len();
                }
                changed.await;
            }
        })
    }

    fn write<'a>(&'a self, bytes: &'a [u8]) -> Pending<'a, bool> {
        self.from_machine.lock().extend_from_slice(bytes);
        Box::pin(async { true })
    }
}

const BOOT: &str = "{\"boot\":{\"env\":{},\"args\":[\"a\"],\"values\":{},\"volumes\":[],\"network\":null,\"time\":0,\
                    \"seed\":\"\",\"options\":{},\"channel\":false}}\n";

#[test]
fn boot_is_taken_in_whatever_pieces_it_comes() {
    block_on(async {
        let pipe = Arc::new(Pipe::default());
        let mut reader = Reader::new(pipe.clone());
        let task = spawn(async move { reader.boot().await });
        for piece in BOOT.as_bytes().chunks(7) {
            pipe.send(core::str::from_utf8(piece).unwrap());
            sleep(Duration::ZERO).await;
        }
        assert_eq!(task.await.unwrap().args, ["a"]);
    });
}

#[test]
fn what_is_no_boot_ends_the_machine_with_one_line() {
    let begin = "the launcher and the image don't understand each other: ";
    for (line, end) in [
        ("{\"ping\":1}\n", "another message where 'boot' belongs; build it again"),
        ("?\n", "a message can't be read: it is not JSON, at byte 1; build it again"),
        ("", "the launcher has gone; build it again"),
    ] {
        let pipe = Arc::new(Pipe::default());
        pipe.send(line);
        pipe.end();
        let error = block_on(async { Reader::new(pipe).boot().await }).unwrap_err();
        assert_eq!(error, begin.to_string() + end);
    }
}

#[test]
fn pings_are_answered_and_signals_are_passed_on_also_behind_what_is_no_message() {
    block_on(async {
        let pipe = Arc::new(Pipe::default());
        let launcher = Launcher::new(Some(pipe.clone()));
        let signals = Arc::new(Signals::default());
        pipe.send("{\"ping\":7}\nnonsense\n{\"signal\":15}\n");
        let task = spawn(Reader::new(pipe.clone()).obey(launcher.clone(), signals.clone()));
        assert_eq!(timeout(Duration::from_secs(10), signals.first()).await, Ok(15));
        pipe.end();
        timeout(Duration::from_secs(10), task).await.unwrap();
        launcher.out().await;
        let said = String::from_utf8(pipe.from_machine.lock().clone()).unwrap();
        assert!(said.starts_with("{\"pong\":7,\"at\":"), "{said}");
    });
}
