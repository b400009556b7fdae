//! Dropout: which numbers are left out is a function of a seed and their place alone.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

/// How many of the inputs of low-rank factors are left out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropout {
    pub(crate) rate: f32,
    pub(crate) seed: u64,
}

impl Dropout {
    /// Multiplies the numbers of row `row` of layer `layer`: by 0 those that are left out, by
    /// `1 / (1 − rate)` the others. The same for the same row, in both directions.
    pub(crate) fn apply(self, layer: usize, row: usize, values: &mut [f32]) {
        let place = (layer as u64) << 32 | row as u64;
        let mut random = Xoshiro256PlusPlus::seed_from_u64(
            self.seed ^ place.wrapping_mul(0x9E37_79B9_7F4A_7C15),
        );
        let kept = 1.0 / (1.0 - self.rate);
        // One draw for two numbers.
        let least = (f64::from(self.rate) * f64::from(u32::MAX)) as u32;
        for pair in values.chunks_mut(2) {
            let bits = random.next_u64();
            for (value, bits) in pair.iter_mut().zip([bits as u32, (bits >> 32) as u32]) {
                *value *= if bits < least { 0.0 } else { kept };
            }
        }
    }
}
