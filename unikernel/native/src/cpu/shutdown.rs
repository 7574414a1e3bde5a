//! The end of the machine.
use core::arch::asm;
use core::cell::UnsafeCell;
use core::fmt;

use super::{console, port};

/// The exit code of a machine that could not be started.
const REFUSED: u8 = 2;

const UHYVE_EXIT: u16 = 0x540;
/// The sleep control register of Cloud Hypervisor's ACPI (its `devices/src/acpi.rs`; `CLOUDHV_ACPI_SHUTDOWN_IO_ADDRESS` of
/// the firmware EDK II), and what switches the machine off: to go (bit 5) to the sleep state of type 5 (bits 2 to 4).
const SLEEP_CONTROL: u16 = 0x600;
const SWITCH_OFF: u8 = 1 << 5 | 5 << 2;
const I8042_COMMAND: u16 = 0x64;
const PULSE_RESET: u8 = 0xfe;

/// Says on the console why the machine cannot go on, and ends with exit code 2.
pub fn give_up(why: &str) -> ! {
    give_up_with(format_args!("{why}"))
}

/// [`give_up`] with formatted text.
pub fn give_up_with(why: fmt::Arguments) -> ! {
    console::line(why);
    shutdown(REFUSED)
}

/// Ends the machine. uhyve is told the exit code. Cloud Hypervisor is asked to switch the machine off; others see a reset,
/// with which Firecracker ends, and QEMU under `-no-reboot`.
pub fn shutdown(code: u8) -> ! {
    if console::is_uhyve() {
        exit_uhyve(code);
    }
    // SAFETY: Cloud Hypervisor switches the machine off, which it would start again after a reset. Others have nothing at
    // that port, and QEMU's q35 a register of ACPI's events, of which these bits take some back. Then the keyboard
    // controller, where there is one, resets the machine, and so it ends (Firecracker, QEMU's q35).
    unsafe {
        port::write_u8(SLEEP_CONTROL, SWITCH_OFF);
        port::write_u8(I8042_COMMAND, PULSE_RESET);
    }
    // QEMU takes a moment to do so.
    for _ in 0..1000 {
        core::hint::spin_loop();
    }
    triple_fault()
}

struct ExitCode(UnsafeCell<i32>);
// SAFETY: there is one processor, which writes this once, on its way out.
unsafe impl Sync for ExitCode {}
static EXIT_CODE: ExitCode = ExitCode(UnsafeCell::new(0));

fn exit_uhyve(code: u8) {
    // SAFETY: see `ExitCode`. uhyve (interface 1, "exit") reads the code there and ends the machine.
    unsafe {
        EXIT_CODE.0.get().write(code.into());
        port::write_u32(UHYVE_EXIT, EXIT_CODE.0.get() as u32);
    }
}

/// Without a table of interrupts, the next exception resets the processor.
fn triple_fault() -> ! {
    let no_table = [0u16; 5];
    // SAFETY: nothing runs after this.
    unsafe { asm!("cli", "lidt [{}]", "ud2", in(reg) &no_table, options(noreturn)) }
}
