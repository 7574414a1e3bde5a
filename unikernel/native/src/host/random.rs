//! Random numbers for keys: ChaCha20 with a key that is renewed by every draw, so that nobody who reads it later learns
//! what was drawn before ("fast key erasure", as OpenBSD's arc4random).

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

pub(super) struct Random {
    key: [u8; 32],
}

impl Random {
    /// Worth nothing before something was mixed in.
    pub(super) const fn new() -> Self {
        Self { key: [0; 32] }
    }

    /// Mixes a seed of any length in: what comes after is known to nobody who lacks either the seed or the key before.
    pub(super) fn mix(&mut self, seed: &[u8]) {
        for part in seed.chunks(self.key.len()) {
            // So that a seed that is mixed in twice is not taken out again. The first one becomes the key: a start that
            // draws nothing needs no cipher.
            if self.key != [0; 32] {
                self.fill(&mut []);
            }
            for (byte, other) in self.key.iter_mut().zip(part) {
                *byte ^= other;
            }
        }
    }

    pub(super) fn fill(&mut self, into: &mut [u8]) {
        let mut stream = ChaCha20Rng::from_seed(self.key);
        stream.fill_bytes(&mut self.key);
        stream.fill_bytes(into);
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    fn drawn(random: &mut Random) -> [u8; 16] {
        let mut bytes = [0; 16];
        random.fill(&mut bytes);
        bytes
    }

    #[test]
    fn a_seed_changes_what_comes_after_whatever_its_length() {
        let seeds: [&[u8]; 4] = [b"", b"a", &[1; 32], &[1; 33]];
        let all: Vec<[u8; 16]> = seeds
            .iter()
            .map(|seed| {
                let mut random = Random::new();
                random.mix(seed);
                drawn(&mut random)
            })
            .collect();
        for (index, one) in all.iter().enumerate() {
            assert!(!all[..index].contains(one));
        }
    }

    #[test]
    fn a_seed_that_equals_the_key_does_not_cancel_it() {
        let mut random = Random::new();
        random.mix(b"secret");
        let key = random.key;
        random.mix(&key);
        let mut fresh = Random::new();
        assert_ne!(random.key, fresh.key);
        assert_ne!(drawn(&mut random), drawn(&mut fresh));
    }

    #[test]
    fn a_seed_that_is_mixed_in_twice_is_not_taken_out_again() {
        let mut random = Random::new();
        random.mix(b"secret");
        random.mix(b"secret");
        assert_ne!(drawn(&mut random), drawn(&mut Random::new()));
    }

    #[test]
    fn no_two_draws_are_the_same() {
        let mut random = Random::new();
        assert_ne!(drawn(&mut random), drawn(&mut random));
    }
}
