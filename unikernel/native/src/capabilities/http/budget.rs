//! How much memory clients may take together.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};

/// A number of bytes that is shared.
#[derive(Debug)]
pub struct Budget {
    most: usize,
    used: AtomicUsize,
}

/// There is too little of it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// A part of a budget, given back when it is dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    pub fn new(most: usize) -> Budget {
        Budget { most, used: AtomicUsize::new(0) }
    }

    /// A part of it, nothing so far.
    pub fn charge(self: &Arc<Self>) -> Charge {
        Charge { budget: self.clone(), bytes: 0 }
    }
}

impl Charge {
    /// Makes it so many bytes.
    pub fn set(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let used = &self.budget.used;
        if let Some(more) = bytes.checked_sub(self.bytes) {
            let room = |now: usize| now.checked_add(more).filter(|&then| then <= self.budget.most);
            used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).map_err(|_| NoRoom)?;
        } else {
            used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_budget_are_given_back() {
        let budget = Arc::new(Budget::new(10));
        let mut one = budget.charge();
        let mut other = budget.charge();
        assert_eq!(one.set(7), Ok(()));
        assert_eq!(other.set(4), Err(NoRoom));
        assert_eq!(other.set(3), Ok(()));
        assert_eq!(one.set(8), Err(NoRoom));
        assert_eq!(one.set(6), Ok(()));
        drop(other);
        assert_eq!(one.set(10), Ok(()));
        assert_eq!(one.set(usize::MAX), Err(NoRoom));
    }
}
