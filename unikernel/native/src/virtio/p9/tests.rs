//! The client against a server in memory, one that does as it should and one that lies.

use super::client::{Carrier, attach};
use super::messages::is_name;
use crate::host::executor::block_on;
use crate::host::wasi::errno::Errno;
use crate::host::wasi::volume::{Kind, Pending};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

fn message(kind: u8, tag: [u8; 2], body: &[u8]) -> Vec<u8> {
    let length = (7 + body.len()) as u32;
    [&length.to_le_bytes()[..], &[kind], &tag, body].concat()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Shares one directory with files, as the protocol's description has it.
#[derive(Default)]
struct Server {
    files: BTreeMap<&'static str, Vec<u8>>,
    /// What each fid stands for; an empty name is the directory.
    fids: Mutex<BTreeMap<u32, &'static str>>,
}

const ROOT: &str = "";

impl Server {
    fn answer(&self, request: &[u8]) -> Vec<u8> {
        assert_eq!(u32_at(request, 0) as usize, request.len());
        let (kind, tag, body) = (request[4], [request[5], request[6]], &request[7..]);
        match self.reply(kind, body) {
            Ok(reply) => message(kind + 1, tag, &reply),
            Err(error) => message(7, tag, &u32::to_le_bytes(error)),
        }
    }

    fn qid(&self, name: &str) -> Vec<u8> {
        let kind = if name == ROOT { 0x80 } else { 0 };
        let path = self.files.keys().position(|key| *key == name).map_or(1, |index| index as u64 + 2);
        [&[kind, 0, 0, 0, 0][..], &path.to_le_bytes()].concat()
    }

    fn reply(&self, kind: u8, body: &[u8]) -> Result<Vec<u8>, u32> {
        let mut fids = self.fids.lock().unwrap();
        let name = |fids: &BTreeMap<u32, &'static str>| fids.get(&u32_at(body, 0)).copied().ok_or(9u32);
        match kind {
            100 => Ok([&8192u32.to_le_bytes()[..], &[8, 0], b"9P2000.L"].concat()),
            104 => {
                fids.insert(u32_at(body, 0), ROOT);
                Ok(self.qid(ROOT))
            }
            110 if body[8] == 0 => {
                let from = name(&fids)?;
                fids.insert(u32_at(body, 4), from);
                Ok([0, 0].into())
            }
            110 => {
                let wanted = &body[12..];
                let known = self.files.keys().find(|key| key.as_bytes() == wanted).ok_or(2u32)?;
                fids.insert(u32_at(body, 4), known);
                Ok([&[1, 0][..], &self.qid(known)].concat())
            }
            24 => {
                let name = name(&fids)?;
                let mode: u32 = if name == ROOT { 0o040755 } else { 0o100644 };
                let size = self.files.get(name).map_or(0, Vec::len) as u64;
                let mut reply = [&0x7ffu64.to_le_bytes()[..], &self.qid(name), &mode.to_le_bytes()].concat();
                reply.extend([0; 8]);
                for number in [1, 0, size, 512, 0, 11, 12, 21, 22, 31, 32, 0, 0, 0, 0] {
                    reply.extend(u64::to_le_bytes(number));
                }
                Ok(reply)
            }
            12 => name(&fids).map(|name| [&self.qid(name)[..], &[0; 4]].concat()),
            116 => {
                let content = self.files.get(name(&fids)?).ok_or(21u32)?;
                let start = (u64_at(body, 4) as usize).min(content.len());
                let end = (start + u32_at(body, 12) as usize).min(content.len());
                let part = &content[start..end];
                Ok([&(part.len() as u32).to_le_bytes()[..], part].concat())
            }
            40 => {
                let mut data = Vec::new();
                for (index, name) in self.files.keys().enumerate().skip(u64_at(body, 4) as usize).take(2) {
                    data.extend(self.qid(name));
                    data.extend((index as u64 + 1).to_le_bytes());
                    data.push(8);
                    data.extend((name.len() as u16).to_le_bytes());
                    data.extend(name.as_bytes());
                }
                Ok([&(data.len() as u32).to_le_bytes()[..], &data].concat())
            }
            120 => fids.remove(&u32_at(body, 0)).map(|_| Vec::new()).ok_or(9),
            _ => Err(95),
        }
    }
}

impl Carrier for Server {
    fn exchange<'a>(&'a self, bytes: &'a (dyn Fn(u16) -> Vec<u8> + Sync), room: usize) -> Pending<'a, Vec<u8>> {
        Box::pin(async move {
            let answer = self.answer(&bytes(3));
            assert!(answer.len() <= room, "an answer of {} bytes in room for {room}", answer.len());
            Ok(answer)
        })
    }
}

fn server() -> Arc<Server> {
    let files = BTreeMap::from([("a.txt", b"hello".to_vec()), ("big", vec![7; 20_000]), ("z", Vec::new())]);
    Arc::new(Server { files, ..Server::default() })
}

#[test]
fn files_are_found_and_read() {
    let server = server();
    block_on(async {
        let root = attach(server.clone()).await.unwrap();
        assert_eq!(root.kind(), Kind::Directory);
        let file = root.child(b"big").await.unwrap();
        assert_eq!(file.kind(), Kind::RegularFile);
        let status = file.status().await.unwrap();
        assert_eq!((status.size, status.modified, status.identity), (20_000, 21_000_000_022, 3));
        assert_eq!(file.read(0, 10).await, Err(Errno::BADF), "it is not open");
        file.open().await.unwrap();
        let mut content = Vec::new();
        loop {
            let part = file.read(content.len() as u64, 1 << 20).await.unwrap();
            if part.is_empty() {
                break;
            }
            content.extend(part);
        }
        assert!(content == vec![7; 20_000]);
    });
}

#[test]
fn a_directory_is_listed_in_parts() {
    let server = server();
    block_on(async {
        let root = attach(server.clone()).await.unwrap();
        root.open().await.unwrap();
        let entries = root.entries().await.unwrap();
        let names: Vec<_> = entries.iter().map(|entry| entry.name.as_slice()).collect();
        assert_eq!(names, [&b"a.txt"[..], b"big", b"z"]);
        assert!(entries.iter().all(|entry| entry.kind == Kind::RegularFile));
    });
}

#[test]
fn errors_of_the_server_are_passed_on() {
    let server = server();
    block_on(async {
        let root = attach(server.clone()).await.unwrap();
        assert_eq!(root.child(b"absent").await.err(), Some(Errno::NOENT));
        assert_eq!(root.target().await, Err(Errno::INVAL));
    });
}

#[test]
fn no_name_leads_out_of_a_directory() {
    let server = server();
    block_on(async {
        let root = attach(server.clone()).await.unwrap();
        for name in [&b".."[..], b".", b"", b"a/../b", b"/etc", b"a\0", &[b'a'; 256]] {
            assert_eq!(root.child(name).await.err(), Some(Errno::NOENT), "{name:?}");
        }
    });
}

#[test]
fn fids_are_given_back() {
    let server = server();
    block_on(async {
        let root = attach(server.clone()).await.unwrap();
        for _ in 0..10_000 {
            root.child(b"z").await.unwrap().open().await.unwrap();
            crate::host::executor::yield_now().await;
        }
        assert!(server.fids.lock().unwrap().len() < 10);
    });
}

/// Answers with whatever it has, in the frame of an answer to what was asked or in none.
struct Liar {
    answers: Mutex<Vec<(bool, Vec<u8>)>>,
}

impl Carrier for Liar {
    fn exchange<'a>(&'a self, bytes: &'a (dyn Fn(u16) -> Vec<u8> + Sync), room: usize) -> Pending<'a, Vec<u8>> {
        Box::pin(async move {
            let request = bytes(1);
            let (framed, lie) = self.answers.lock().unwrap().pop().ok_or(Errno::IO)?;
            let mut answer = match request[4] {
                // The first answers are right, so that the lies come further.
                100 | 104 => server().answer(&request),
                kind if framed => message(kind + 1, [1, 0], &lie),
                _ => lie,
            };
            answer.truncate(room);
            Ok(answer)
        })
    }
}

proptest! {
    #[test]
    fn no_answer_is_too_much(
        lies in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..200)), 0..40)
    ) {
        let liar = Arc::new(Liar { answers: Mutex::new(lies) });
        block_on(async {
            let Ok(root) = attach(liar).await else { return };
            if root.open().await.is_ok()
                && let Ok(entries) = root.entries().await
            {
                assert!(entries.iter().all(|entry| is_name(&entry.name)));
            }
            if let Ok(file) = root.child(b"a.txt").await {
                let _ = file.open().await;
                if let Ok(part) = file.read(5, 100).await {
                    assert!(part.len() <= 100);
                }
                let _ = file.target().await;
                let _ = file.status().await;
            }
        });
    }
}

#[test]
fn a_directory_without_end_is_given_up() {
    struct Endless(Arc<Server>, Vec<u8>);
    impl Carrier for Endless {
        fn exchange<'a>(&'a self, bytes: &'a (dyn Fn(u16) -> Vec<u8> + Sync), room: usize) -> Pending<'a, Vec<u8>> {
            Box::pin(async move {
                let request = bytes(1);
                if request[4] != 40 {
                    return self.0.exchange(bytes, room).await;
                }
                let data: Vec<u8> = self.1.repeat((room - 24) / self.1.len());
                Ok(message(41, [1, 0], &[&(data.len() as u32).to_le_bytes()[..], &data].concat()))
            })
        }
    }
    for name in ["a", &"long".repeat(60)] {
        let entry = [&[0; 21][..], &[8], &(name.len() as u16).to_le_bytes(), name.as_bytes()].concat();
        block_on(async {
            let root = attach(Arc::new(Endless(server(), entry))).await.unwrap();
            root.open().await.unwrap();
            assert_eq!(root.entries().await, Err(Errno::IO));
        });
    }
}
