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
        let round_up = if how.group_size == 0 {
            single_scale
        } else {
            half_scale
        };
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
                scale = round_up(&exact, steps);
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
                scale = round_up(&exact, steps);
                for i in lanes() {
                    let place = (-smaller(low[i], 0.0) / scale[i]).round_ties_even();
                    zero[i] = if scale[i] > 0.0 {
                        smaller(place, steps)
                    } else {
                        0.0
                    };
                }
            }
            Grid::Minimum => {
                minimum = low.map(half_below);
                for i in lanes() {
                    exact[i] = half_range(minimum[i], high[i]) / steps * 2.0;
                }
                scale = round_up(&exact, steps);
            }
        }
        let mut inverse = [0.0; PANEL];
        for i in lanes() {
            inverse[i] = if scale[i] == 0.0 {
                0.0
            } else {
                scale[i].recip()
            };
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
        let mut nothing = [0.0; PANEL];
        for i in 0..PANEL {
            let (scale, zero, minimum) = (self.scale[i], self.zero[i], self.minimum[i]);
            let level = |value: f32| {
                let code = ((value - minimum) * self.inverse[i]).round_ties_even() + zero;
                (smaller(larger(code, 0.0), steps) - zero) * scale + minimum
            };
            nothing[i] = (scale + minimum) * 0.0 + level(low[i]) * 0.0 + level(high[i]) * 0.0;
        }
        nothing.iter().position(|&nothing| nothing != 0.0)
    }
}

/// Scales in single precision. A subnormal scale has no inverse; one rounded up from the largest
/// floats would make the outermost level infinite.
#[inline(always)]
#[allow(clippy::inline_always)]
fn single_scale(exact: &Lanes, steps: f32) -> Lanes {
    exact.map(|exact| {
        let scale = larger(exact, f32::MIN_POSITIVE);
        if exact == 0.0 {
            0.0
        } else if (scale * steps).is_finite() {
            scale
        } else {
            scale.next_down()
        }
    })
}

/// Scales in half precision, never below the exact ones, so that nothing clips.
#[inline(always)]
#[allow(clippy::inline_always)]
fn half_scale(exact: &Lanes, _steps: f32) -> Lanes {
    exact.map(half_above)
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
