//! The PVH start information, as `xen/include/public/arch-x86/hvm/start_info.h` lays it out.
use core::ffi::{CStr, c_char};

use super::{Loaded, MAX_REGIONS, Region, Vmm, run};
use crate::cpu;

const MAGIC: u32 = 0x336e_c578;
const RAM: u32 = 1;

/// Physical addresses are mapped where they are.
#[repr(C)]
pub struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    acpi: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

#[repr(C)]
struct MemoryMapEntry {
    address: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

/// Where the 32-bit entry goes on.
pub extern "C" fn start(info: *const StartInfo) -> ! {
    cpu::console::use_serial_port(cpu::console::COM1);
    // SAFETY: the loader passes the address of this structure, which is in RAM that nothing has been written to yet, and
    // in the first GiB, which is mapped.
    let info = unsafe { &*info };
    if info.magic != MAGIC || info.version < 1 || info.memory_map_entries == 0 {
        cpu::give_up("this loader gives no PVH start information with a map of the memory");
    }
    // SAFETY: as above, for what the structure points to.
    let entries = unsafe {
        core::slice::from_raw_parts(info.memory_map as *const MemoryMapEntry, info.memory_map_entries as usize)
    };
    let mut regions = [Region { start: 0, end: 0 }; MAX_REGIONS];
    let mut count = 0;
    for entry in entries.iter().filter(|entry| entry.kind == RAM).take(MAX_REGIONS) {
        regions[count] = Region { start: entry.address, end: entry.address.saturating_add(entry.size) };
        count += 1;
    }
    let command_line = match info.command_line {
        0 => c"",
        // SAFETY: as above; the text ends with a zero byte.
        address => unsafe { CStr::from_ptr(address as *const c_char) },
    };
    let Ok(command_line) = command_line.to_str() else { cpu::give_up("the command line is not UTF-8") };
    #[cfg(feature = "trials")]
    cpu::trials::enter_if_asked(command_line);
    run(Loaded { command_line, vmm: Vmm::Pvh, regions: &regions[..count], tsc_khz: None, wall: cpu::rtc::read() })
}
