//! Which frames (pages of physical memory) are free: one bit for each.

/// Bytes of a frame, and of a page.
pub const PAGE: u64 = 4096;

const BITS: usize = u64::BITS as usize;

/// How many words of bits there must be for memory that ends at `top`.
pub const fn words_for(top: u64) -> usize {
    top.div_ceil(PAGE).div_ceil(BITS as u64) as usize
}

/// The free frames, by their number: the physical address divided by [`PAGE`].
///
/// Single frames are taken from the top and rows of them from the bottom, so that rows stay possible.
#[derive(Debug)]
pub struct Frames<'a> {
    /// A bit that is set stands for a free frame.
    bits: &'a mut [u64],
    free: usize,
    total: usize,
    /// No word above this one has a free frame.
    highest: usize,
}

impl<'a> Frames<'a> {
    /// No frame is free at first.
    pub fn new(bits: &'a mut [u64]) -> Self {
        bits.fill(0);
        Frames { bits, free: 0, total: 0, highest: 0 }
    }

    /// How many frames are free.
    pub fn free(&self) -> usize {
        self.free
    }

    /// How many frames there are, free or not.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Adds the frames that lie wholly within these addresses.
    pub fn add(&mut self, start: u64, end: u64) {
        let (mut frame, end) = (start.div_ceil(PAGE) as usize, ((end / PAGE) as usize).min(self.bits.len() * BITS));
        while frame < end {
            let word = &mut self.bits[frame / BITS];
            // As many bits of this word as are within the range.
            let count = (BITS - frame % BITS).min(end - frame);
            let range = u64::MAX >> (BITS - count) << (frame % BITS);
            let new = (range & !*word).count_ones() as usize;
            *word |= range;
            self.total += new;
            self.free += new;
            self.highest = self.highest.max(frame / BITS);
            frame += count;
        }
    }

    /// Takes one frame. Returns its address.
    pub fn take(&mut self) -> Option<u64> {
        let word = (0..=self.highest).rev().find(|&word| self.bits.get(word).is_some_and(|&bits| bits != 0));
        self.highest = word.unwrap_or(0);
        let word = word?;
        let frame = word * BITS + self.bits[word].ilog2() as usize;
        self.bits[word] &= !bit(frame);
        self.free -= 1;
        Some(frame as u64 * PAGE)
    }

    /// Takes so many frames in a row. Returns the address of the first one.
    pub fn take_row(&mut self, count: usize) -> Option<u64> {
        if count == 0 || count > self.free {
            return None;
        }
        let end = (self.highest + 1).min(self.bits.len()) * BITS;
        let (mut frame, mut found) = (0, 0);
        while frame < end {
            if frame % BITS == 0 && self.bits[frame / BITS] == 0 {
                (frame, found) = (frame + BITS, 0);
                continue;
            }
            found = if self.bits[frame / BITS] & bit(frame) == 0 { 0 } else { found + 1 };
            frame += 1;
            if found == count {
                for taken in frame - count..frame {
                    self.bits[taken / BITS] &= !bit(taken);
                }
                self.free -= count;
                return Some((frame - count) as u64 * PAGE);
            }
        }
        None
    }

    /// Gives frames back, from this address on.
    ///
    /// # Panics
    /// Where one of them was not taken: somebody would share it.
    pub fn give(&mut self, address: u64, count: usize) {
        let first = (address / PAGE) as usize;
        for frame in first..first + count {
            assert!(self.bits[frame / BITS] & bit(frame) == 0, "frame {frame:#x} is given back twice");
            self.give_back(frame);
        }
    }

    fn give_back(&mut self, frame: usize) {
        self.bits[frame / BITS] |= bit(frame);
        self.highest = self.highest.max(frame / BITS);
        self.free += 1;
    }
}

fn bit(frame: usize) -> u64 {
    1 << (frame % BITS)
}

#[cfg(test)]
mod tests {
    use super::{Frames, PAGE, words_for};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn only_whole_frames_are_added_and_each_once() {
        let mut bits = vec![0; words_for(100 * PAGE)];
        let mut frames = Frames::new(&mut bits);
        frames.add(PAGE + 1, 4 * PAGE - 1);
        frames.add(2 * PAGE, 3 * PAGE);
        assert_eq!((frames.free(), frames.total()), (1, 1));
        assert_eq!(frames.take(), Some(2 * PAGE));
        assert_eq!(frames.take(), None);
    }

    #[test]
    fn single_frames_come_from_the_top_and_rows_from_the_bottom() {
        let mut bits = vec![0; words_for(200 * PAGE)];
        let mut frames = Frames::new(&mut bits);
        frames.add(3 * PAGE, 200 * PAGE);
        assert_eq!(frames.take(), Some(199 * PAGE));
        assert_eq!(frames.take_row(130), Some(3 * PAGE));
        assert_eq!(frames.take_row(66), Some(133 * PAGE));
        assert_eq!(frames.take(), None);
    }

    #[test]
    fn a_row_has_no_gap() {
        let mut bits = vec![0; words_for(64 * PAGE)];
        let mut frames = Frames::new(&mut bits);
        frames.add(0, 5 * PAGE);
        frames.add(6 * PAGE, 12 * PAGE);
        assert_eq!(frames.take_row(6), Some(6 * PAGE));
        assert_eq!(frames.take_row(6), None);
        assert_eq!(frames.take_row(5), Some(0));
    }

    #[test]
    #[should_panic(expected = "given back twice")]
    fn what_is_free_is_not_given_back() {
        let mut bits = vec![0; 1];
        let mut frames = Frames::new(&mut bits);
        frames.add(0, 2 * PAGE);
        frames.give(PAGE, 1);
    }

    proptest! {
        /// Whatever is taken and given: nobody shares a frame, and all are there in the end.
        #[test]
        fn nobody_shares_a_frame(steps in prop::collection::vec((0usize..8, any::<prop::sample::Index>()), 1..200)) {
            let mut bits = vec![0; words_for(150 * PAGE)];
            let mut frames = Frames::new(&mut bits);
            frames.add(0, 70 * PAGE);
            frames.add(75 * PAGE, 150 * PAGE);
            let mut rows: Vec<(u64, usize)> = Vec::new();
            let mut taken = BTreeSet::new();
            for (count, index) in steps {
                let row = match count {
                    0 if !rows.is_empty() => {
                        let (first, count) = rows.swap_remove(index.index(rows.len()));
                        frames.give(first, count);
                        (0..count as u64).for_each(|frame| assert!(taken.remove(&(first + frame * PAGE))));
                        continue;
                    }
                    0 | 1 => frames.take().map(|frame| (frame, 1)),
                    _ => frames.take_row(count).map(|frame| (frame, count)),
                };
                if let Some((first, count)) = row {
                    (0..count as u64).for_each(|frame| assert!(taken.insert(first + frame * PAGE)));
                    rows.push((first, count));
                }
                prop_assert_eq!(frames.free() + taken.len(), 145);
            }
            prop_assert!(taken.iter().all(|frame| frame / PAGE < 70 || (75..150).contains(&(frame / PAGE))));
        }
    }
}
