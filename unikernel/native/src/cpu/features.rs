//! What the processor can, and what of it is switched on.
use raw_cpuid::CpuId;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use x86_64::registers::model_specific::{Efer, EferFlags};

use super::give_up_with;

/// Refuses a processor that lacks what the kernel, or compiled modules (`slight_py/ahead.py` has their flags), need, and
/// switches on: SSE for modules, no execution of data, no writing to what is read-only, also for the kernel. AVX stays
/// off: modules are compiled without it, so that they run on every machine.
pub(super) fn enable() {
    let id = CpuId::new();
    let basic = id.get_feature_info();
    let basic = |has: fn(&raw_cpuid::FeatureInfo) -> bool| basic.as_ref().is_some_and(has);
    let extended = id.get_extended_processor_and_feature_identifiers();
    let needed = [
        ("NX", extended.is_some_and(|extended| extended.has_execute_disable())),
        ("FXSR", basic(|info| info.has_fxsave_fxstor())),
        ("SSE3", basic(|info| info.has_sse3())),
        ("SSSE3", basic(|info| info.has_ssse3())),
        ("SSE4.1", basic(|info| info.has_sse41())),
        ("SSE4.2", basic(|info| info.has_sse42())),
        ("POPCNT", basic(|info| info.has_popcnt())),
        ("APIC", basic(|info| info.has_apic())),
    ];
    if let Some((name, _)) = needed.iter().find(|(_, there)| !there) {
        give_up_with(format_args!(
            "this processor has no {name}, which compiled modules and this kernel need: give the machine another one \
             (QEMU: -cpu max or -cpu host)"
        ));
    }
    let structured = id.get_extended_feature_info();
    let structured = |has: fn(&raw_cpuid::ExtendedFeatures) -> bool| structured.as_ref().is_some_and(has);
    let mut control = Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE;
    control.set(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, structured(|info| info.has_smep()));
    control.set(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, structured(|info| info.has_smap()));
    control.set(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, structured(|info| info.has_umip()));
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
