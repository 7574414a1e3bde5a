//! Memory: frames, page tables, the heap, stacks with guard pages, memories of guests, code.
