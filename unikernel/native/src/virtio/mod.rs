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
    use crate::host::executor::{sleep, spawn};
    use crate::host::{log, platform};
    use crate::net::stack::Link;
    use alloc::boxed::Box;
    use alloc::vec::Vec;
    use core::time::Duration;
    use virtio_drivers::transport::DeviceType;

    /// The devices of the machine.
    pub struct Devices {
        /// The first network card, which is set up when it is needed.
        network: Option<Device>,
        /// Channels to the launcher, where it has made some.
        pub console: Option<Console>,
        /// What the launcher shares over 9P.
        pub volumes: Volumes,
        sources_of_entropy: Vec<Device>,
    }

    /// How long after the start devices are asked for random numbers where there are some: an application begins before.
    const LATER: Duration = Duration::from_millis(100);

    /// Finds the devices, which lie where the command line says or else on the PCI bus.
    pub fn start(line: &str) -> Devices {
        let mut devices =
            Devices { network: None, console: None, volumes: Volumes::default(), sources_of_entropy: Vec::new() };
        for mut device in device::find(command_line::words(line).iter()) {
            match device.kind() {
                DeviceType::Network if devices.network.is_none() => devices.network = Some(device),
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
        /// The network card, ready for use. None where there is none, or it can't be used, which is said.
        pub fn network(&mut self) -> Option<Box<dyn Link>> {
            let Ok(mut card) = Card::new(self.network.take()?) else {
                log::warning("the virtio-net device can't be used");
                return None;
            };
            if cpu::is_uhyve() {
                card.longest = UHYVE_FRAME;
            }
            Some(Box::new(card))
        }

        /// Mixes what the devices for it give into the machine's random numbers: before this returns where there are
        /// none yet, which takes a second for each device at most, and else later.
        pub async fn add_entropy(&mut self) {
            let devices = core::mem::take(&mut self.sources_of_entropy);
            if platform::is_random() {
                spawn(async {
                    sleep(LATER).await;
                    add_entropy(devices).await;
                })
                .detach();
            } else {
                add_entropy(devices).await;
            }
        }
    }

    async fn add_entropy(devices: Vec<Device>) {
        for device in devices {
            random::add_entropy(device).await;
        }
    }
}
