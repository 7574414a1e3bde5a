//! Hermit's boot information, from uhyve or from Hermit's own loader.
use core::time::Duration;

use dtoolkit::{Node, Property, fdt::Fdt};
use hermit_entry::boot_info::{BootInfo as HermitInfo, PlatformInfo, RawBootInfo};

use super::{Loaded, Region, Vmm, run};
use crate::cpu;

/// A device tree is at most this long: uhyve has 16 KiB for it.
const MAX_DEVICE_TREE: usize = 1 << 20;

/// Where the 64-bit entry goes on.
pub extern "C" fn start(info: &'static RawBootInfo) -> ! {
    let info = HermitInfo::from(*info);
    let uhyve = matches!(info.platform_info, PlatformInfo::Uhyve { .. });
    match info.hardware_info.serial_port_base {
        _ if uhyve => cpu::console::use_uhyve(),
        Some(port) => cpu::console::use_serial_port(port.get()),
        None => {}
    }
    let range = &info.hardware_info.phys_addr_range;
    let tree = info.hardware_info.device_tree.map(|address| device_tree(address.get()));
    let (khz, wall) = match info.platform_info {
        PlatformInfo::Uhyve { cpu_freq, boot_time, .. } => {
            let nanoseconds = u64::try_from(boot_time.unix_timestamp_nanos()).ok();
            (cpu_freq.map(|khz| khz.get()), nanoseconds.map(Duration::from_nanos))
        }
        _ => (None, None),
    };
    let bootargs = tree.and_then(|tree| tree.find_node("/chosen")?.property("bootargs"));
    let command_line = match &info.platform_info {
        PlatformInfo::LinuxBootParams { command_line, .. } | PlatformInfo::Multiboot { command_line, .. } => {
            *command_line
        }
        _ => bootargs.as_ref().and_then(|property| text(property.value())),
    };
    run(Loaded {
        command_line: command_line.unwrap_or(""),
        vmm: if uhyve { Vmm::Uhyve } else { Vmm::Pvh },
        regions: &[Region { start: range.start, end: range.end }],
        tsc_khz: khz,
        wall,
    })
}

/// A text of the device tree, which ends with a zero byte there. None where it isn't UTF-8.
fn text(value: &[u8]) -> Option<&str> {
    core::str::from_utf8(value.split(|&byte| byte == 0).next()?).ok()
}

fn device_tree(address: u64) -> Fdt<'static> {
    let start = address as *const u8;
    // SAFETY: the loader passes the address of a device tree: 8 bytes are there, of which the last four say how many
    // more. It lies in the first GiB, which is mapped, and nothing has been written there yet.
    let length = unsafe { start.add(4).cast::<[u8; 4]>().read() };
    let length = (u32::from_be_bytes(length) as usize).min(MAX_DEVICE_TREE);
    // SAFETY: as above.
    match Fdt::new(unsafe { core::slice::from_raw_parts(start, length) }) {
        Ok(tree) => tree,
        Err(_) => cpu::give_up("the loader's device tree is damaged"),
    }
}
