//! How much memory connections may take.

/// Bytes for each connection, and how many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// What a peer may send before it is read.
    pub receive: usize,
    /// What may be written before the peer has taken it.
    pub send: usize,
    /// Connections at the same time, with those that are about to end.
    pub connections: usize,
}

const KIB: usize = 1024;
const MIB: u64 = 1 << 20;

impl Sizes {
    /// For a machine with so many bytes of memory: a quarter of it for the buffers at most.
    pub fn of_memory(bytes: u64) -> Sizes {
        let (receive, send) = match bytes / MIB {
            0..64 => (8 * KIB, 16 * KIB),
            64..256 => (32 * KIB, 32 * KIB),
            // Past 64 KiB the window is scaled (RFC 7323).
            _ => (128 * KIB, 128 * KIB),
        };
        let most = bytes / 4 / (receive + send) as u64;
        Sizes { receive, send, connections: most.clamp(16, 4096) as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_fill_a_quarter_of_the_memory_at_most() {
        for mebibytes in [8, 12, 16, 63, 64, 128, 256, 512, 4096] {
            let memory = mebibytes * MIB;
            let sizes = Sizes::of_memory(memory);
            assert!((sizes.connections * (sizes.receive + sizes.send)) as u64 <= memory / 4, "{mebibytes} MiB");
        }
    }

    #[test]
    fn the_least_machine_takes_a_burst_of_a_hundred() {
        assert!(Sizes::of_memory(12 * MIB).connections > 100);
    }
}
