//! What an instance has open, by the numbers of its descriptors.

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

/// An entry for each number up to the highest that was given out; none for those that are closed.
pub struct Table(Vec<Option<Entry>>);

impl Table {
    pub fn new(context: &Context) -> Self {
        let mut table = Table(Vec::new());
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
        self.0.get(number as usize).and_then(Option::as_ref).ok_or(Errno::BADF)
    }

    pub fn file(&self, number: u32) -> Result<&Arc<File>, Errno> {
        match self.get(number)? {
            Entry::File(file) => Ok(file),
            _ => Err(Errno::BADF),
        }
    }

    /// The same, but that streams have no positions.
    pub fn seekable(&self, number: u32) -> Result<&Arc<File>, Errno> {
        match self.get(number)? {
            Entry::Input(_) | Entry::Output(_) => Err(Errno::SPIPE),
            _ => self.file(number),
        }
    }

    pub fn directory(&self, number: u32) -> Result<&Arc<Directory>, Errno> {
        match self.get(number)? {
            Entry::Directory(directory) => Ok(directory),
            _ => Err(Errno::BADF),
        }
    }

    /// `MFILE` where the instance has too much open.
    pub fn check_room(&self) -> Result<(), Errno> {
        let is_open = |entry: &&Option<Entry>| matches!(entry, Some(Entry::File(_) | Entry::Directory(_)));
        if self.0.iter().filter(is_open).count() >= MAX_OPEN { Err(Errno::MFILE) } else { Ok(()) }
    }

    /// Gives an entry a number: the highest of those that were closed, else the next one, as wasmtime does.
    pub fn add(&mut self, entry: Entry) -> u32 {
        let at = self.0.iter().rposition(Option::is_none).unwrap_or_else(|| {
            self.0.push(None);
            self.0.len() - 1
        });
        self.0[at] = Some(entry);
        at as u32
    }

    pub fn remove(&mut self, number: u32) -> Result<(), Errno> {
        self.get(number)?;
        self.0[number as usize] = None;
        Ok(())
    }

    /// Gives the entry of one number another one, whose entry is closed.
    pub fn renumber(&mut self, number: u32, to: u32) -> Result<(), Errno> {
        self.get(to)?;
        self.get(number)?;
        if number != to {
            self.0[to as usize] = self.0[number as usize].take();
        }
        Ok(())
    }
}
