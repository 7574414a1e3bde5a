//! Random numbers of the processor.
use core::arch::asm;

use super::features;

/// How often an instruction is tried that has no number at hand: Intel's manual says ten times.
const TRIES: usize = 10;

/// Fills the bytes with the processor's random numbers: RDSEED's, or RDRAND's. False where the processor has none, or
/// they have run out; what is in `into` then is not random.
pub fn fill(into: &mut [u8]) -> bool {
    let (seeds, randoms) = (features::RDSEED.is_there(), features::RDRAND.is_there());
    into.chunks_mut(8).all(|chunk| {
        let Some(number) = number(seeds, randoms) else { return false };
        chunk.copy_from_slice(&number.to_le_bytes()[..chunk.len()]);
        true
    })
}

/// Of those of the two instructions that the processor has.
fn number(seeds: bool, randoms: bool) -> Option<u64> {
    (0..TRIES)
        .filter(|_| seeds)
        .find_map(|_| rdseed())
        .or_else(|| (0..TRIES).filter(|_| randoms).find_map(|_| rdrand()))
}

fn rdseed() -> Option<u64> {
    let (number, success): (u64, u8);
    // SAFETY: the caller has seen that the processor has this instruction.
    unsafe { asm!("rdseed {}", "setc {}", out(reg) number, out(reg_byte) success, options(nomem, nostack)) };
    (success == 1).then_some(number)
}

fn rdrand() -> Option<u64> {
    let (number, success): (u64, u8);
    // SAFETY: the caller has seen that the processor has this instruction.
    unsafe { asm!("rdrand {}", "setc {}", out(reg) number, out(reg_byte) success, options(nomem, nostack)) };
    (success == 1).then_some(number)
}
