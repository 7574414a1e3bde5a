//! Segments, and the stacks that the processor changes to when it is interrupted.
use x86_64::VirtAddr;
use x86_64::instructions::tables::load_tss;
use x86_64::registers::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;

use super::unshared::Unshared;

/// Which stack an interrupt comes on. Guests' stacks may be full, so no interrupt uses the one that it has interrupted.
#[derive(Clone, Copy)]
pub(super) enum InterruptStack {
    Exceptions = 1,
    /// A double fault is one that comes while the exception stack is in use.
    DoubleFault = 2,
    Devices = 3,
}

const STACK_BYTES: usize = 16 << 10;

#[repr(C, align(4096))]
struct Stack([u8; STACK_BYTES]);

static STACKS: [Unshared<Stack>; 3] = [const { Unshared::new(Stack([0; STACK_BYTES])) }; 3];
static TASK: Unshared<TaskStateSegment> = Unshared::new(TaskStateSegment::new());
static TABLE: Unshared<GlobalDescriptorTable> = Unshared::new(GlobalDescriptorTable::new());

/// Loads segments of our own, which the loader's memory has no part in. To be called once.
pub(super) fn load() {
    // SAFETY: this is called once, and nobody else uses these.
    let (task, table) = unsafe { (TASK.get(), TABLE.get()) };
    for stack in [InterruptStack::Exceptions, InterruptStack::DoubleFault, InterruptStack::Devices] {
        let index = stack as usize - 1;
        task.interrupt_stack_table[index] = VirtAddr::new(STACKS[index].address() + STACK_BYTES as u64);
    }
    let code = table.append(Descriptor::kernel_code_segment());
    let data = table.append(Descriptor::kernel_data_segment());
    let task = table.append(Descriptor::tss_segment(task));
    table.load();
    // SAFETY: these are code and data segments of 64 bits, like those in use, and a task state segment whose stacks are
    // nobody else's.
    unsafe {
        CS::set_reg(code);
        SS::set_reg(data);
        DS::set_reg(data);
        ES::set_reg(data);
        load_tss(task);
    }
}
