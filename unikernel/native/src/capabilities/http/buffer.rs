//! What a connection has received and nobody has looked at yet.

use alloc::vec::Vec;

use super::budget::{Charge, NoRoom};

/// How many bytes a connection has room for from the beginning: the heads of most requests are shorter.
const INITIAL: usize = 4096;

/// Received bytes, the oldest first.
#[derive(Debug)]
pub struct Buffer {
    storage: Vec<u8>,
    start: usize,
    end: usize,
    charge: Charge,
}

impl Buffer {
    /// An empty one. It grows where there is room in the budget.
    pub fn new(charge: Charge) -> Buffer {
        Buffer { storage: Vec::new(), start: 0, end: 0, charge }
    }

    pub fn unread(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }

    /// Forgets the oldest bytes.
    pub fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start + count);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.storage.len() > INITIAL {
                self.storage = Vec::new(); // one long head is no reason to keep that much
                let _ = self.charge.set(0); // to give back never fails
            }
        }
    }

    /// Where the next bytes that come may be put, at least one. `received` says how many there are.
    pub fn space(&mut self) -> Result<&mut [u8], NoRoom> {
        if self.end == self.storage.len() && self.start > 0 {
            self.storage.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.storage.len() {
            let larger = if self.storage.is_empty() { INITIAL } else { self.storage.len() * 2 };
            self.charge.set(larger)?;
            self.storage.try_reserve_exact(larger - self.storage.len()).map_err(|_| NoRoom)?;
            self.storage.resize(larger, 0);
        }
        Ok(&mut self.storage[self.end..])
    }

    /// So many bytes were put at the start of `space`.
    pub fn received(&mut self, count: usize) {
        self.end = self.storage.len().min(self.end + count);
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::Budget;
    use super::*;
    use alloc::sync::Arc;

    fn put(buffer: &mut Buffer, bytes: &[u8]) -> Result<(), NoRoom> {
        for piece in bytes.chunks(1000) {
            let mut left = piece;
            while !left.is_empty() {
                let space = buffer.space()?;
                let count = left.len().min(space.len());
                space[..count].copy_from_slice(&left[..count]);
                buffer.received(count);
                left = &left[count..];
            }
        }
        Ok(())
    }

    #[test]
    fn bytes_come_out_as_they_went_in_and_use_up_nothing() {
        let budget = Arc::new(Budget::new(4096));
        let mut buffer = Buffer::new(budget.charge());
        for round in 0..100 {
            let bytes: Vec<u8> = (0..3000).map(|at| (at + round) as u8).collect();
            put(&mut buffer, &bytes).unwrap();
            assert_eq!(buffer.unread(), bytes);
            buffer.consume(1);
            assert_eq!(buffer.unread(), &bytes[1..]);
            buffer.consume(2999);
        }
    }

    #[test]
    fn it_grows_up_to_the_budget_and_gives_back_what_it_took() {
        let budget = Arc::new(Budget::new(20_000));
        let mut buffer = Buffer::new(budget.charge());
        assert_eq!(put(&mut buffer, &[7; 16_384]), Ok(()));
        assert_eq!(put(&mut buffer, &[7; 1]), Err(NoRoom));
        assert_eq!(buffer.unread(), &[7; 16_384]);
        buffer.consume(16_384);
        assert_eq!(budget.charge().set(20_000), Ok(()));
    }
}
