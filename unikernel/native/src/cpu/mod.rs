//! The processor: descriptor tables, interrupts, ports, clocks, random numbers.
