//! A source of random numbers (Virtio 1.2, section 5.4), which is asked once.

use super::device::Device;
use super::ring::{Broken, Buffers, Ring};
use crate::host::executor::{sleep, timeout};
use crate::host::platform;
use alloc::vec;
use core::time::Duration;

const QUEUE: u16 = 0;
const BYTES: usize = 64;
/// That of QEMU's queue.
const SIZE: usize = 8;
/// How long the device may take.
const LIMIT: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(1);

/// Mixes what the device gives into the machine's random numbers; true where it gave something in time.
pub(super) async fn add_entropy(mut device: Device) -> bool {
    let Ok(mut ring) = begin(&mut device) else { return false };
    let answer = timeout(LIMIT, async {
        loop {
            match ring.take() {
                Ok(Some((Buffers { writes: Some(buffer), .. }, length))) => return Some((buffer, length)),
                Ok(Some(_)) | Err(Broken) => return None,
                Ok(None) => sleep(LOOK).await,
            }
        }
    });
    match answer.await {
        Ok(Some((buffer, length))) if length > 0 => {
            platform::add_entropy(&buffer[..length]);
            true
        }
        _ => false,
    }
}

fn begin(device: &mut Device) -> Result<Ring<SIZE>, Broken> {
    device.begin(0)?;
    let mut ring = device.ring(QUEUE)?;
    ring.set_interrupts(false);
    device.finish_silent();
    ring.add(Buffers { reads: None, writes: Some(vec![0; BYTES].into()) }).map_err(|_| Broken)?;
    device.notify(QUEUE, &mut ring);
    Ok(ring)
}
