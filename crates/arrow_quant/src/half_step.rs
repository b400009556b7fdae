//! The half-precision neighbours of a number, in arithmetic that the compiler vectorises: a
//! conversion that rounds to nearest would have to be corrected lane by lane.

/// Bits of a single-precision mantissa that half precision lacks.
const LOST: u32 = (1 << 13) - 1;
/// Smallest normal half-precision number, 2^-14. Those below are multiples of 2^-24.
const MIN_NORMAL: f32 = 6.103_515_6e-5;
const MAX: f32 = 65504.0;
const TO_SUBNORMAL: f32 = 16_777_216.0;

/// Smallest half-precision number not below `value`, which is not negative; infinite if there is none.
#[inline(always)]
#[allow(clippy::inline_always)] // Must be compiled into each of its callers.
pub fn half_above(value: f32) -> f32 {
    let normal = f32::from_bits((value.to_bits() + LOST) & !LOST);
    let subnormal = (value * TO_SUBNORMAL).ceil() / TO_SUBNORMAL;
    let above = if value < MIN_NORMAL {
        subnormal
    } else {
        normal
    };
    if above > MAX { f32::INFINITY } else { above }
}

/// Largest half-precision number not above `value`; infinite if there is none.
#[inline(always)]
#[allow(clippy::inline_always)]
pub fn half_below(value: f32) -> f32 {
    let magnitude = value.abs();
    let normal = f32::from_bits(magnitude.to_bits() & !LOST);
    let subnormal = (magnitude * TO_SUBNORMAL).floor() / TO_SUBNORMAL;
    let below = if magnitude < MIN_NORMAL {
        subnormal
    } else {
        normal
    };
    let below = if below > MAX { MAX } else { below };
    if value < 0.0 {
        -half_above(magnitude)
    } else {
        below
    }
}

/// The bits of a number that half precision holds exactly.
#[inline(always)]
#[allow(clippy::inline_always)]
pub fn half_bits(value: f32) -> u16 {
    // The integers up to 2^23 are the mantissas of the floats from 2^23 on.
    const INTEGERS: f32 = 8_388_608.0;
    let magnitude = value.abs();
    let subnormal = (magnitude * TO_SUBNORMAL + INTEGERS).to_bits() as u16;
    let normal = (magnitude.to_bits() >> 13).wrapping_sub((127 - 15) << 10) as u16;
    let sign = (value.to_bits() >> 16) as u16 & 0x8000;
    sign | if magnitude < MIN_NORMAL {
        subnormal
    } else {
        normal
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // Exactness is the promise.
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn every_half_is_its_own_neighbour() {
        for half in (0..=u16::MAX)
            .map(f16::from_bits)
            .filter(|half| half.is_finite())
        {
            let value = half.to_f32();
            assert_eq!(half_bits(value), half.to_bits());
            assert_eq!(half_below(value), value);
            assert_eq!(half_above(value.abs()), value.abs());
        }
    }

    #[test]
    fn numbers_between_halves_go_up_or_down() {
        for bits in 0..f16::MAX.to_bits() {
            let (low, high) = (
                f16::from_bits(bits).to_f32(),
                f16::from_bits(bits + 1).to_f32(),
            );
            for value in [low.next_up(), low / 2.0 + high / 2.0, high.next_down()] {
                assert_eq!(
                    (half_below(value), half_above(value)),
                    (low, high),
                    "{value}"
                );
                assert_eq!(half_below(-value), -high);
            }
        }
        assert_eq!(half_above(65504.1), f32::INFINITY);
        assert_eq!(
            (half_below(1e9), half_below(-1e9)),
            (65504.0, f32::NEG_INFINITY)
        );
    }
}
