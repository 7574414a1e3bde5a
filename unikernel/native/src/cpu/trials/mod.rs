//! What the tests of the machine run in place of an application: `trial=NAME` on the command line chooses one.
//! `tests/unikernel/native/test_machine.py` starts them, and knows what each has to say.
mod hermit;
mod memory;

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use smoltcp::socket::tcp::{Socket, SocketBuffer};

use super::{clock, console, interrupts, port, random};
use crate::boot::BootInfo;
use crate::boot::command_line::words;

pub use hermit::enter_if_asked;

/// Runs a trial. Returns the exit code.
pub fn main(info: &BootInfo) -> u8 {
    let words = words(&info.command_line);
    let name = words.iter().find_map(|word| word.strip_prefix("trial=")).unwrap_or("");
    match name {
        "boot" => boot(info),
        "clock" => clock(),
        "floats" => floats(),
        "device" => device(),
        "random" => numbers(),
        "panic" => panic!("as was asked for"),
        "panic-of-a-crate" => panic_of_a_crate(),
        "invalid-instruction" => invalid_instruction(),
        "stack-overflow" => say(format_args!("{}", overflow(1))),
        "null" => say(format_args!("read {}", memory::read(0))),
        "write-code" => memory::write_code(),
        "write-constant" => memory::write_constant(),
        "execute-constant" => memory::execute_constant(),
        "execute-heap" => memory::execute_heap(),
        "publish" => memory::publish(),
        "stacks" => memory::stacks(),
        "guard" => memory::guard(),
        "guests" => memory::guests(),
        "touch-too-much" => memory::touch_too_much(),
        "beyond-a-guest" => memory::beyond_a_guest(),
        "heap" => memory::heap(),
        _ => say(format_args!("no trial {name:?}")),
    }
    0
}

fn say(text: core::fmt::Arguments) {
    console::line(text);
}

fn boot(info: &BootInfo) {
    say(format_args!("{:?} with {} MiB, words {:?}", info.vmm, info.memory >> 20, words(&info.command_line)));
    say(format_args!("wall {:?}", info.wall.map(|wall| wall.as_secs())));
}

fn clock() {
    static TICKS: AtomicU64 = AtomicU64::new(0);
    clock::on_tick(|| {
        TICKS.fetch_add(1, Ordering::Relaxed);
    });
    let begin = clock::now();
    while clock::now() < begin + Duration::from_millis(200) {}
    say(format_args!("ticks of 200 ms: {}", TICKS.load(Ordering::Relaxed)));
    for milliseconds in [3, 50, 1000] {
        let (begin, ticks) = (clock::now(), TICKS.load(Ordering::Relaxed));
        let asked = AtomicU64::new(0);
        clock::idle(Some(begin + Duration::from_millis(milliseconds)), || {
            asked.fetch_add(1, Ordering::Relaxed) == u64::MAX
        });
        let (took, ticks) = ((clock::now() - begin).as_millis(), TICKS.load(Ordering::Relaxed) - ticks);
        let woken = asked.load(Ordering::Relaxed) - 1;
        say(format_args!("idle for {milliseconds} ms: {took} ms, woken {woken} times, {ticks} ticks"));
    }
    let begin = clock::now();
    clock::idle(None, || true);
    say(format_args!("ready: {} ms", (clock::now() - begin).as_millis()));
}

fn numbers() {
    let mut numbers = [[0; 21]; 2];
    let filled = numbers.iter_mut().all(|numbers| random::fill(numbers));
    say(format_args!("random: {filled}, the same twice: {}", numbers[0] == numbers[1]));
}

/// Registers that guests use and the kernel doesn't are what they were when an interrupt is over.
fn floats() {
    static TICKS: AtomicU64 = AtomicU64::new(0);
    clock::on_tick(|| {
        TICKS.fetch_add(1, Ordering::Relaxed);
    });
    let (mut low, mut high): (u64, u64) = (0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210);
    // SAFETY: nothing else uses these registers here. 30 ticks or so come meanwhile.
    unsafe {
        asm!(
            "movq xmm0, {low}",
            "movq xmm15, {high}",
            "2: dec {count}",
            "jnz 2b",
            "movq {low}, xmm0",
            "movq {high}, xmm15",
            low = inout(reg) low,
            high = inout(reg) high,
            count = inout(reg) 200_000_000u64 => _,
        );
    }
    say(format_args!("{low:016x} {high:016x}, ticks in between: {}", TICKS.load(Ordering::Relaxed) > 0));
}

/// The serial port interrupts when it can send: once each time its line is opened, for nobody has it take that back.
fn device() {
    const LINE: u8 = 4;
    const INTERRUPT_ENABLE: u16 = console::COM1 + 1;
    const MODEM_CONTROL: u16 = console::COM1 + 4;
    const CAN_SEND: u8 = 2;
    const OUT2: u8 = 8;
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let registered = interrupts::register(LINE, || {
        COUNT.fetch_add(1, Ordering::Relaxed);
    });
    say(format_args!("registered: {registered:?}, line 24: {:?}", interrupts::register(24, || {})));
    // SAFETY: the port's registers touch no memory.
    unsafe {
        port::write_u8(MODEM_CONTROL, OUT2);
        port::write_u8(INTERRUPT_ENABLE, CAN_SEND);
    }
    let reaches = |wanted| {
        clock::idle(Some(clock::now() + Duration::from_millis(200)), || COUNT.load(Ordering::Relaxed) >= wanted);
        COUNT.load(Ordering::Relaxed) == wanted
    };
    say(format_args!("the first: {}, another one: {}", reaches(1), reaches(2)));
    interrupts::open(LINE);
    say(format_args!("opened again: {}", reaches(2)));
}

fn panic_of_a_crate() {
    let buffer = || SocketBuffer::new(alloc::vec![0_u8; 8]);
    Socket::new(buffer(), buffer()).set_hop_limit(Some(0));
}

fn invalid_instruction() {
    // SAFETY: it ends the machine.
    unsafe { asm!("ud2") }
}

/// Calls itself until the stack is full.
#[allow(unconditional_recursion)]
fn overflow(depth: u64) -> u64 {
    let kept = core::hint::black_box([depth; 100]);
    overflow(depth + 1) + kept[depth as usize % 100]
}
