//! What an instance has open, by the numbers of its descriptors.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::super::input::Input;
use super::super::output::Output;
use super::super::sync::Mutex;
use super::Context;
use super::errno::Errno;
use super::volume::{Listed, Node};

/// Files and directories that an instance may have open.
const MAX_OPEN: usize = 256;

/// What a descriptor stands for.
#[derive(Clone)]
pub enum Entry {
    /// Standard input; without a source it is at its end.
    Input(Option<Arc<Input>>),
    Output(Arc<Output>),
    File(Arc<File>),
    Directory(Arc<Directory>),
}

/// An open file. The guest's position in it is kept here.
pub struct File {
    pub node: Arc<dyn Node>,
    pub state: Mutex<FileState>,
}

#[derive(Default)]
pub struct FileState {
    pub position: u64,
    pub append: bool,
    pub nonblocking: bool,
}

pub struct Directory {
    pub node: Arc<dyn Node>,
    /// The name of one that was granted.
    pub granted: Option<Vec<u8>>,
    /// What was in it when it was last read from its beginning.
    pub listed: Mutex<Option<Arc<Vec<Listed>>>>,
}

impl Directory {
    pub fn new(node: Arc<dyn Node>, granted: Option<Vec<u8>>) -> Self {
        Directory { node, granted, listed: Mutex::new(None) }
    }
}

pub struct Table {
    entries: BTreeMap<u32, Entry>,
    /// Numbers below `next` whose entries are closed.
    free: BTreeSet<u32>,
    next: u32,
}

impl Table {
    pub fn new(context: &Context) -> Self {
        let mut table = Table { entries: BTreeMap::new(), free: BTreeSet::new(), next: 0 };
        table.add(Entry::Input(context.stdin.clone()));
        table.add(Entry::Output(context.stdout.clone()));
        table.add(Entry::Output(context.stderr.clone()));
        for granted in &context.directories {
            let directory = Directory::new(granted.root.clone(), Some(granted.name.clone()));
            table.add(Entry::Directory(Arc::new(directory)));
        }
        table
    }

    /// `BADF` for a number that is no descriptor.
    pub fn get(&self, number: u32) -> Result<&Entry, Errno> {
        self.entries.get(&number).ok_or(Errno::BADF)
    }

    pub fn file(&self, number: u32) -> Result<&Arc<File>, Errno> {
        match self.entries.get(&number) {
            Some(Entry::File(file)) => Ok(file),
            _ => Err(Errno::BADF),
        }
    }

    /// The same, but that streams have no positions.
    pub fn seekable(&self, number: u32) -> Result<&Arc<File>, Errno> {
        match self.entries.get(&number) {
            Some(Entry::Input(_) | Entry::Output(_)) => Err(Errno::SPIPE),
            _ => self.file(number),
        }
    }

    pub fn directory(&self, number: u32) -> Result<&Arc<Directory>, Errno> {
        match self.entries.get(&number) {
            Some(Entry::Directory(directory)) => Ok(directory),
            _ => Err(Errno::BADF),
        }
    }

    /// `MFILE` where the instance has too much open.
    pub fn check_room(&self) -> Result<(), Errno> {
        let is_open = |entry: &&Entry| matches!(entry, Entry::File(_) | Entry::Directory(_));
        if self.entries.values().filter(is_open).count() >= MAX_OPEN { Err(Errno::MFILE) } else { Ok(()) }
    }

    /// Gives an entry a number: the highest of those that were closed, else the next one, as wasmtime does.
    pub fn add(&mut self, entry: Entry) -> u32 {
        let number = self.free.pop_last().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        self.entries.insert(number, entry);
        number
    }

    pub fn remove(&mut self, number: u32) -> Result<(), Errno> {
        self.entries.remove(&number).ok_or(Errno::BADF)?;
        self.free.insert(number);
        Ok(())
    }

    /// Gives the entry of one number another one, whose entry is closed.
    pub fn renumber(&mut self, number: u32, to: u32) -> Result<(), Errno> {
        self.get(to)?;
        let entry = self.get(number)?.clone();
        if number != to {
            self.entries.remove(&number);
            self.free.insert(number);
            self.entries.insert(to, entry);
        }
        Ok(())
    }
}
