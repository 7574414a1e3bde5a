//! What the processor can, and what of it is switched on. Intel's manual, volume 2, has what CPUID tells.
use core::arch::x86_64::{__cpuid_count, CpuidResult};

use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use x86_64::registers::model_specific::{Efer, EferFlags};

use super::give_up_with;

/// Where CPUID tells of a feature: the leaf, the register of it, and the bit.
pub struct Feature(u32, fn(&CpuidResult) -> u32, u32);

const EBX: fn(&CpuidResult) -> u32 = |leaf| leaf.ebx;
const ECX: fn(&CpuidResult) -> u32 = |leaf| leaf.ecx;
const EDX: fn(&CpuidResult) -> u32 = |leaf| leaf.edx;

pub const SSE3: Feature = Feature(1, ECX, 0);
pub const SSSE3: Feature = Feature(1, ECX, 9);
pub const CMPXCHG16B: Feature = Feature(1, ECX, 13);
pub const SSE4_1: Feature = Feature(1, ECX, 19);
pub const SSE4_2: Feature = Feature(1, ECX, 20);
pub const X2APIC: Feature = Feature(1, ECX, 21);
pub const POPCNT: Feature = Feature(1, ECX, 23);
pub const RDRAND: Feature = Feature(1, ECX, 30);
const HYPERVISOR: Feature = Feature(1, ECX, 31);
const APIC: Feature = Feature(1, EDX, 9);
const FXSR: Feature = Feature(1, EDX, 24);
const SMEP: Feature = Feature(7, EBX, 7);
pub const RDSEED: Feature = Feature(7, EBX, 18);
const SMAP: Feature = Feature(7, EBX, 20);
const UMIP: Feature = Feature(7, ECX, 2);
const NX: Feature = Feature(0x8000_0001, EDX, 20);

/// Its counter's rate: a ratio (eax, ebx), and the Hertz that it is of (ecx).
const COUNTER: u32 = 0x15;
/// The rate of its counter in kHz (eax), as some hypervisors tell it; VMware began with that.
const HYPERVISOR_COUNTER: u32 = 0x4000_0010;

impl Feature {
    /// Whether the processor has it.
    pub fn is_there(&self) -> bool {
        let Feature(number, register, bit) = self;
        register(&leaf(*number)) >> bit & 1 == 1
    }
}

/// What CPUID tells in a leaf; zeros where there is no such leaf.
fn leaf(number: u32) -> CpuidResult {
    let last = __cpuid_count(number & 0xf000_0000, 0).eax;
    if number <= last { __cpuid_count(number, 0) } else { CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 } }
}

/// The rate of the time stamp counter in kHz, where the hypervisor or the processor tells it.
pub(super) fn counter_khz() -> Option<u64> {
    if HYPERVISOR.is_there()
        && let khz @ 1.. = leaf(HYPERVISOR_COUNTER).eax
    {
        return Some(khz.into());
    }
    let CpuidResult { eax, ebx, ecx, .. } = leaf(COUNTER);
    let hertz = (u64::from(ecx) * u64::from(ebx)).checked_div(eax.into())?;
    Some(hertz / 1000).filter(|&khz| khz > 0)
}

/// Refuses a processor that lacks what the kernel, or compiled modules (`slight_py/ahead.py` has their flags), need, and
/// switches on: SSE for modules, no execution of data, no writing to what is read-only, also for the kernel. AVX stays
/// off: modules are compiled without it, so that they run on every machine.
pub(super) fn enable() {
    let needed = [
        ("NX", NX),
        ("FXSR", FXSR),
        ("SSE3", SSE3),
        ("SSSE3", SSSE3),
        ("SSE4.1", SSE4_1),
        ("SSE4.2", SSE4_2),
        ("POPCNT", POPCNT),
        ("APIC", APIC),
    ];
    if let Some((name, _)) = needed.iter().find(|(_, feature)| !feature.is_there()) {
        give_up_with(format_args!(
            "this processor has no {name}, which compiled modules and this kernel need: give the machine another one \
             (QEMU: -cpu max or -cpu host)"
        ));
    }
    let mut control = Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE;
    control.set(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, SMEP.is_there());
    control.set(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, SMAP.is_there());
    control.set(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, UMIP.is_there());
    // SAFETY: the processor has what is switched on, and the kernel, which uses neither floating point nor memory of
    // user mode, goes on as before. Nothing was mapped as read-only or without execution yet.
    unsafe {
        Efer::update(|flags| flags.insert(EferFlags::NO_EXECUTE_ENABLE));
        Cr0::update(|flags| {
            flags.remove(Cr0Flags::EMULATE_COPROCESSOR | Cr0Flags::TASK_SWITCHED);
            flags.insert(Cr0Flags::MONITOR_COPROCESSOR | Cr0Flags::NUMERIC_ERROR | Cr0Flags::WRITE_PROTECT);
        });
        Cr4::update(|flags| flags.insert(control));
    }
}
