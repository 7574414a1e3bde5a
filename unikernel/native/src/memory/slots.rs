//! Numbered places in a range of addresses, and those of them that are kept for the next user with what is in them.

/// At most `WORDS` times 64 slots, of which at most `IDLE` are kept.
#[derive(Debug)]
pub struct Slots<const WORDS: usize, const IDLE: usize> {
    /// A bit that is set stands for a slot that is in use or kept.
    taken: [u64; WORDS],
    /// Kept slots; the first `idle_count` are meant.
    idle: [Idle; IDLE],
    idle_count: usize,
}

/// A slot that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    pub slot: usize,
    /// How many pages are mapped there.
    pub pages: usize,
}

impl<const WORDS: usize, const IDLE: usize> Slots<WORDS, IDLE> {
    pub const fn new() -> Self {
        Slots { taken: [0; WORDS], idle: [Idle { slot: 0, pages: 0 }; IDLE], idle_count: 0 }
    }

    /// Takes a slot that nothing is in. None where all are taken.
    pub fn take(&mut self) -> Option<usize> {
        let word = self.taken.iter().position(|&word| word != u64::MAX)?;
        let slot = word * 64 + self.taken[word].trailing_ones() as usize;
        self.taken[word] |= 1 << (slot % 64);
        Some(slot)
    }

    /// Gives an empty slot back.
    pub fn give(&mut self, slot: usize) {
        self.taken[slot / 64] &= !(1 << (slot % 64));
    }

    /// Keeps a slot for the next user. False where enough are kept: it is the caller's to empty and to give back.
    pub fn keep(&mut self, idle: Idle) -> bool {
        let room = self.idle_count < IDLE;
        if room {
            self.idle[self.idle_count] = idle;
            self.idle_count += 1;
        }
        room
    }

    /// Takes the slot that was kept last.
    pub fn take_idle(&mut self) -> Option<Idle> {
        self.idle_count = self.idle_count.checked_sub(1)?;
        Some(self.idle[self.idle_count])
    }
}

#[cfg(test)]
mod tests {
    use super::{Idle, Slots};

    #[test]
    fn the_lowest_free_slot_is_taken_until_there_is_none() {
        let mut slots = Slots::<2, 1>::new();
        assert!((0..128).all(|slot| slots.take() == Some(slot)));
        assert_eq!(slots.take(), None);
        slots.give(70);
        slots.give(3);
        assert_eq!((slots.take(), slots.take(), slots.take()), (Some(3), Some(70), None));
    }

    #[test]
    fn a_kept_slot_is_still_taken_and_so_many_are_kept() {
        let mut slots = Slots::<1, 2>::new();
        let kept: Vec<Idle> = (0..3).map(|pages| Idle { slot: slots.take().unwrap(), pages }).collect();
        assert_eq!(kept.iter().map(|&idle| slots.keep(idle)).collect::<Vec<_>>(), [true, true, false]);
        assert_eq!(slots.take(), Some(3));
        assert_eq!((slots.take_idle(), slots.take_idle(), slots.take_idle()), (Some(kept[1]), Some(kept[0]), None));
    }
}
