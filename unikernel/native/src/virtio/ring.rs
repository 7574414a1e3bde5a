//! A virtqueue that owns the buffers which the device has. What the device says about them is checked.

use super::hal::Heap;
use alloc::boxed::Box;
use core::mem::ManuallyDrop;
use core::ops::Range;
use core::sync::atomic::{Ordering, fence};
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::Transport;

/// The device says something that can't be, or has no such queue. It isn't used any more then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// Buffers of one exchange with the device, all of them on the heap.
pub(super) struct Buffers {
    /// What the device reads: this part of this buffer, which is not empty.
    pub(super) reads: Option<(Box<[u8]>, Range<usize>)>,
    /// What the device writes to, which is not empty either.
    pub(super) writes: Option<Box<[u8]>>,
}

/// `SIZE` is that of the queue: a power of two, and no more than the device allows.
pub(super) struct Ring<const SIZE: usize> {
    // Neither is ever freed: a device that was not reset may still write to them.
    queue: ManuallyDrop<Box<VirtQueue<Heap, SIZE>>>,
    buffers: ManuallyDrop<Box<[Option<Buffers>]>>,
    /// Whether the device has to be told of what was added.
    pending: bool,
    /// Whether it has to be told even where it says that it needn't be.
    eager: bool,
}

// SAFETY: there is one processor, and the ring's pointers lead to memory that belongs to it.
unsafe impl<const SIZE: usize> Send for Ring<SIZE> {}

impl<const SIZE: usize> Ring<SIZE> {
    pub(super) fn new(transport: &mut impl Transport, index: u16, eager: bool) -> Result<Ring<SIZE>, Broken> {
        let queue = new_queue(transport, index)?;
        let buffers = ManuallyDrop::new((0..SIZE).map(|_| None).collect());
        Ok(Ring { queue: ManuallyDrop::new(queue), buffers, pending: false, eager })
    }

    /// Whether an exchange of so many buffers can be added.
    pub(super) fn has_room(&self, buffers: usize) -> bool {
        self.queue.available_desc() >= buffers
    }

    /// Gives the device the buffers of an exchange. Gives them back where there is no room or they are empty.
    pub(super) fn add(&mut self, mut buffers: Buffers) -> Result<(), Buffers> {
        if !buffers.can_be_lent() {
            return Err(buffers);
        }
        // SAFETY: the buffers are on the heap, and stay in `self.buffers`, untouched, until `pop_used` has given them
        // back.
        let token = buffers.lend(|reads, writes| unsafe { self.queue.add(reads, writes) });
        match token {
            Ok(token) if usize::from(token) < SIZE => {
                self.buffers[usize::from(token)] = Some(buffers);
                // The device looks at the queue after it has asked to be told, and we look at that after we have added
                // to the queue: at least one of us sees what the other has written.
                fence(Ordering::SeqCst);
                self.pending |= self.eager || self.queue.should_notify();
                Ok(())
            }
            _ => Err(buffers),
        }
    }

    /// The buffers of the next exchange that the device is done with, and how many bytes it wrote, which is not more
    /// than there was room for.
    pub(super) fn take(&mut self) -> Result<Option<(Buffers, usize)>, Broken> {
        let Some(token) = self.queue.peek_used() else { return Ok(None) };
        let mut buffers = self.buffers.get_mut(usize::from(token)).and_then(Option::take).ok_or(Broken)?;
        // SAFETY: these are the buffers that were added when the queue gave this token.
        let length = buffers.lend(|reads, writes| unsafe { self.queue.pop_used(token, reads, writes) });
        let Ok(length) = length else {
            // The device says something else by now, and may still have them.
            core::mem::forget(buffers);
            return Err(Broken);
        };
        let length = length as usize;
        match &buffers.writes {
            Some(buffer) if length > buffer.len() => Err(Broken),
            Some(_) => Ok(Some((buffers, length))),
            // uhyve counts what it has read.
            None => Ok(Some((buffers, 0))),
        }
    }

    /// Whether `take` has something to give.
    pub(super) fn has_used(&self) -> bool {
        self.queue.can_pop()
    }

    /// Whether the device has to be told now of what was added; forgets that.
    pub(super) fn take_pending(&mut self) -> bool {
        core::mem::take(&mut self.pending)
    }

    /// Whether the device is to interrupt when it is done with an exchange. `has_used` tells of those it was done with
    /// before.
    pub(super) fn set_interrupts(&mut self, wanted: bool) {
        self.queue.set_dev_notify(wanted);
        // What the device adds before it sees this, `has_used` sees.
        fence(Ordering::SeqCst);
    }
}

/// A queue on the heap: one has kilobytes, and the kernel's stack is small. It passes over the stack of this function
/// alone.
#[inline(never)]
fn new_queue<const SIZE: usize>(
    transport: &mut impl Transport,
    index: u16,
) -> Result<Box<VirtQueue<Heap, SIZE>>, Broken> {
    // Without indirect descriptors, as no exchange has more than two buffers, and without event indices: flags silence
    // the device just as well, for as long as one likes.
    VirtQueue::new(transport, index, false, false).map(Box::new).map_err(|_| Broken)
}

impl Buffers {
    /// Whether there is something to read or to write, and each lies within its buffer.
    fn can_be_lent(&self) -> bool {
        let part = |(buffer, part): &(Box<[u8]>, Range<usize>)| part.start < part.end && part.end <= buffer.len();
        let reads = self.reads.as_ref().is_none_or(part);
        let writes = self.writes.as_ref().is_none_or(|buffer| !buffer.is_empty());
        reads && writes && (self.reads.is_some() || self.writes.is_some())
    }

    /// The buffers in the form that virtio-drivers wants, always the same for the same buffers.
    fn lend<R>(&mut self, work: impl for<'a> FnOnce(&'a [&'a [u8]], &'a mut [&'a mut [u8]]) -> R) -> R {
        let reads = self.reads.as_ref().map(|(buffer, part)| &buffer[part.clone()]);
        let mut writes = self.writes.as_deref_mut();
        let reads = reads.as_ref().map(core::slice::from_ref).unwrap_or_default();
        let writes = writes.as_mut().map(core::slice::from_mut).unwrap_or_default();
        work(reads, writes)
    }
}

#[cfg(test)]
mod tests;
