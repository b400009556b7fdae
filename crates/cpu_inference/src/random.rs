//! Random numbers whose sequence is part of the promise: same seed, same tokens.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

/// xoshiro256++, seeded through `SplitMix64`: named here, since what a library calls its default may change.
#[derive(Debug, Clone)]
pub struct Random(Xoshiro256PlusPlus);

impl Random {
    /// A generator for `seed`; every seed is good.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in [0, 1) with 53 random bits.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First numbers of an implementation written after the published C code.
    #[test]
    fn the_sequence_of_a_seed_stays() {
        let mut random = Random::new(7);
        let first: [u64; 4] = std::array::from_fn(|_| random.next_u64());
        assert_eq!(
            first,
            [
                1_021_219_803_524_665_661,
                3_174_977_118_032_272_916,
                13_236_943_193_235_544_178,
                7_880_630_202_246_103_356
            ]
        );
    }

    #[test]
    fn units_fill_the_interval() {
        let mut random = Random::new(7);
        let mean = (0..10_000).map(|_| random.unit()).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.02);
    }
}
