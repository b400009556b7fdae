//! Where the levels of a group lie, for the 16 rows of a panel at once.

use kernels::{Isa, PANEL_ROWS as PANEL, isa};

use crate::half_step::{half_above, half_below};
use crate::quantize::{Grid, Quantization};

/// One value per row of a panel.
pub type Lanes = kernels::PanelLanes<f32>;

/// Levels of one group of columns: code `c` of a row stands for `scale * (c - zero) + minimum`.
#[derive(Clone)]
pub struct Levels {
    /// As stored; not finite where half precision cannot hold it.
    pub scale: Lanes,
    /// `1 / scale`, and 0 for a scale of 0.
    pub inverse: Lanes,
    /// As stored; 0 unless the grid stores it.
    pub minimum: Lanes,
    /// A whole number.
    pub zero: Lanes,
    /// The first row whose levels the scale's precision cannot hold: the scale and the minimum themselves, and
    /// those of the extremes, which may lie half a step beyond them.
    pub unbounded: Option<usize>,
}

impl Levels {
    /// Levels that reach from `low` to `high`.
    ///
    /// The same code for every width of registers: the compiler vectorises it, and as it never fuses
    /// multiplications with additions the result is the same on every CPU.
    pub fn new(how: Quantization, low: &Lanes, high: &Lanes) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
            fn avx512(how: Quantization, low: &Lanes, high: &Lanes) -> Levels {
                Levels::portable(how, low, high)
            }
            #[target_feature(enable = "avx2")]
            fn avx2(how: Quantization, low: &Lanes, high: &Lanes) -> Levels {
                Levels::portable(how, low, high)
            }
            match isa() {
                // SAFETY: only an instruction set that this CPU has is ever chosen.
                Isa::Avx512 => return unsafe { avx512(how, low, high) },
                // SAFETY: as above.
                Isa::Avx2 => return unsafe { avx2(how, low, high) },
                _ => {}
            }
        }
        Self::portable(how, low, high)
    }

    #[inline(always)]
    #[allow(clippy::inline_always)] // Must be compiled into each of its callers.
    fn portable(how: Quantization, low: &Lanes, high: &Lanes) -> Self {
        let bits = how.bits;
        let (middle, steps) = (f32::from(bits.middle()), (bits.levels() - 1) as f32);
        let lanes = || 0..PANEL;
        let (mut exact, mut minimum) = ([0.0; PANEL], [0.0; PANEL]);
        let mut zero = [0.0; PANEL];
        let mut scale;
        match how.grid {
            Grid::Symmetric => {
                for i in lanes() {
                    let (longer, shorter) = (larger(high[i], -low[i]), smaller(high[i], -low[i]));
                    exact[i] = larger(longer / middle, shorter / (middle - 1.0));
                }
                scale = stored_scale(how, &exact, steps);
                for i in lanes() {
                    scale[i] = if high[i] > -low[i] {
                        -scale[i]
                    } else {
                        scale[i]
                    };
                }
                zero = [middle; PANEL];
            }
            Grid::Asymmetric => {
                for i in lanes() {
                    exact[i] = half_range(smaller(low[i], 0.0), larger(high[i], 0.0)) / steps * 2.0;
                }
                scale = stored_scale(how, &exact, steps);
                for i in lanes() {
                    zero[i] = (-smaller(low[i], 0.0) / scale[i]).round_ties_even();
                }
                for i in lanes() {
                    // Nothing divided by nothing is not a number, and so not larger.
                    zero[i] = smaller(larger(zero[i], 0.0), steps);
                }
            }
            Grid::Minimum => {
                for i in lanes() {
                    minimum[i] = half_below(low[i]);
                }
                for i in lanes() {
                    exact[i] = half_range(minimum[i], high[i]) / steps * 2.0;
                }
                scale = stored_scale(how, &exact, steps);
            }
        }
        // Loops of their own: a division behind a condition is done one lane after the other.
        let mut inverse = [0.0; PANEL];
        for i in lanes() {
            inverse[i] = scale[i].recip();
        }
        for i in lanes() {
            inverse[i] = if scale[i] == 0.0 { 0.0 } else { inverse[i] };
        }
        let mut levels = Self {
            scale,
            inverse,
            minimum,
            zero,
            unbounded: None,
        };
        levels.unbounded = levels.first_unbounded(steps, low, high);
        levels
    }

    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn first_unbounded(&self, steps: f32, low: &Lanes, high: &Lanes) -> Option<usize> {
        // Infinities and NaN are no number times 0.
        let (mut nothing, mut any) = ([0.0_f32; PANEL], 0);
        for i in 0..PANEL {
            let (scale, zero, minimum) = (self.scale[i], self.zero[i], self.minimum[i]);
            let level = |value: f32| {
                let code = ((value - minimum) * self.inverse[i]).round_ties_even() + zero;
                (smaller(larger(code, 0.0), steps) - zero) * scale + minimum
            };
            nothing[i] = (scale + minimum) * 0.0 + level(low[i]) * 0.0 + level(high[i]) * 0.0;
        }
        for nothing in nothing {
            any |= nothing.abs().to_bits();
        }
        if any == 0 {
            return None;
        }
        nothing.iter().position(|nothing| nothing.is_nan())
    }
}

/// Scales as they are stored: in half precision never below the exact ones, so that nothing clips.
///
/// In single precision a subnormal scale has no inverse, and one rounded up from the largest floats would make the
/// outermost level infinite.
#[inline(always)]
#[allow(clippy::inline_always)]
fn stored_scale(how: Quantization, exact: &Lanes, steps: f32) -> Lanes {
    // `map` would leave its closure outside the function that enables the instruction set.
    let mut stored = [0.0; PANEL];
    for i in 0..PANEL {
        stored[i] = if how.group_size != 0 {
            half_above(exact[i])
        } else {
            single_above(exact[i], steps)
        };
    }
    stored
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn single_above(exact: f32, steps: f32) -> f32 {
    let scale = larger(exact, f32::MIN_POSITIVE);
    if exact == 0.0 {
        0.0
    } else if (scale * steps).is_finite() {
        scale
    } else {
        scale.next_down()
    }
}

/// Half of `high - low`, which cannot overflow.
#[inline(always)]
#[allow(clippy::inline_always)]
fn half_range(low: f32, high: f32) -> f32 {
    high * 0.5 - low * 0.5
}

// `f32::min` and `max` ask what to do about NaN, of which there is none here; these are one
// instruction each.

#[inline(always)]
#[allow(clippy::inline_always)]
pub fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

#[inline(always)]
#[allow(clippy::inline_always)]
pub fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}
