//! Devices: finding them, network, channels to the launcher, random numbers, files. Where they are tested on an ordinary
//! system, a device that says what it likes stands at the other end of their queues: `liar`.
// What the machine alone calls is called by nobody there.
#![cfg_attr(test, allow(dead_code))]

pub mod console;
#[cfg(any(target_os = "none", test))]
mod device;
#[cfg(any(target_os = "none", test))]
mod hal;
#[cfg(test)]
mod liar;
#[cfg(any(target_os = "none", test))]
pub mod network;
pub mod p9;
#[cfg(any(target_os = "none", test))]
mod pci;
#[cfg(target_os = "none")]
mod random;
#[cfg(any(target_os = "none", test))]
mod ring;
pub mod words;

#[cfg(target_os = "none")]
pub use machine::{Devices, start};

#[cfg(target_os = "none")]
mod machine {
    use super::console::Console;
    use super::device::{self, Device};
    use super::network::{Card, UHYVE_FRAME};
    use super::p9::Volumes;
    use super::random;
    use crate::boot::command_line;
    use crate::cpu;
    use crate::host::executor::spawn;
    use crate::host::{log, platform};
    use crate::net::stack::Link;
    use alloc::boxed::Box;
    use alloc::vec::Vec;
    use virtio_drivers::transport::DeviceType;

    /// The devices of the machine, each ready for use.
    pub struct Devices {
        /// The first network card, for `net::start`.
        pub network: Option<Box<dyn Link>>,
        /// Channels to the launcher, where it has made some.
        pub console: Option<Console>,
        /// What the launcher shares over 9P.
        pub volumes: Volumes,
        sources_of_entropy: Vec<Device>,
    }

    /// Finds and sets up the devices, which lie where the command line says or else on the PCI bus.
    pub fn start(line: &str) -> Devices {
        let mut devices =
            Devices { network: None, console: None, volumes: Volumes::default(), sources_of_entropy: Vec::new() };
        for mut device in device::find(command_line::words(line).iter()) {
            match device.kind() {
                DeviceType::Network if devices.network.is_none() => match Card::new(device) {
                    Ok(mut card) => {
                        if cpu::is_uhyve() {
                            card.longest = UHYVE_FRAME;
                        }
                        devices.network = Some(Box::new(card));
                    }
                    Err(_) => log::warning("the virtio-net device can't be used"),
                },
                DeviceType::Console if devices.console.is_none() => match Console::new(device) {
                    Ok(console) => devices.console = Some(console),
                    Err(_) => log::warning("the virtio console can't be used"),
                },
                DeviceType::_9P => {
                    if devices.volumes.add(device).is_err() {
                        log::warning("a virtio-9p device can't be used");
                    }
                }
                DeviceType::EntropySource => devices.sources_of_entropy.push(device),
                _ => {}
            }
        }
        devices.volumes.start();
        devices
    }

    impl Devices {
        /// Mixes what the devices for it give into the machine's random numbers: before this returns where there are
        /// none yet, which takes a second for each device at most, and else meanwhile.
        pub async fn add_entropy(&mut self) {
            let devices = core::mem::take(&mut self.sources_of_entropy);
            let adding = spawn(async {
                for device in devices {
                    random::add_entropy(device).await;
                }
            });
            if platform::is_random() {
                adding.detach();
            } else {
                adding.await;
            }
        }
    }
}
