//! What single rows of a product get besides: the second factors of cards, each row those of its own.

use std::ptr::null;

use crate::panel16::{PANEL_ROWS, STEP_BYTES};
use crate::quant_dot::dot_part;
use crate::simd::{Simd, prefetch};
use crate::tile::lanes;
use crate::{CodeBits, GroupScales, GroupZero, QuantPanels, QuantRows};

/// A row of activations and weights of its own, whose product is added to that of a row: `y += gain · (y − bias)`
/// where there is a gain, then `y += x · wᵀ`.
///
/// A panel of it is computed where that of the row is, while its sums are in registers. The bits are those of a product onto what the output holds.
#[derive(Debug, Clone, Copy)]
pub struct RowProduct<'a> {
    acts: &'a [i8],
    act_scale: f32,
    act_sum: i32,
    w: QuantPanels<'a>,
    gain: Option<&'a [f32]>,
}

impl<'a> RowProduct<'a> {
    /// Row `row` of `x` with `w`, and by output how many times what there is is added to it before.
    ///
    /// # Panics
    /// If there is no such row, shapes disagree, [`QuantPanels::check`] fails, or either is not rounded by whole rows,
    /// in one term, with weights of eight bits around the middle.
    #[must_use]
    pub fn new(x: &'a QuantRows, row: usize, w: QuantPanels<'a>, gain: Option<&'a [f32]>) -> Self {
        if let Err(error) = w.check() {
            panic!("{error}");
        }
        assert!(row < x.m, "a row of x");
        assert_eq!(x.k, w.k, "activations and weights have the same k");
        assert!(
            x.words == 0 && x.groups() == 1 && w.groups() == 1,
            "whole rows, in one term"
        );
        assert!(
            w.bits == CodeBits::Int8 && matches!(w.zero, GroupZero::Middle),
            "eight bits around the middle"
        );
        assert!(
            gain.is_none_or(|gain| gain.len() == w.n),
            "a gain for each output"
        );
        Self {
            acts: &x.coarse.codes[row * x.stride..][..x.stride],
            act_scale: x.coarse.scales[row],
            act_sum: x.coarse.sums[row],
            w,
            gain,
        }
    }

    /// Outputs.
    pub(crate) const fn outputs(&self) -> usize {
        self.w.n
    }

    /// Bytes that the product reads.
    pub(crate) const fn bytes(&self) -> usize {
        self.w.bytes()
    }

    /// Asks for what a panel reads, which need not be there.
    #[inline(always)]
    pub(crate) fn prefetch(&self, panel: usize) {
        let steps = self.w.steps();
        let codes = self.w.codes.as_ptr();
        for step in panel * steps..(panel + 1) * steps {
            prefetch(codes.wrapping_add(step * STEP_BYTES));
        }
        match self.w.scales {
            GroupScales::F16(scales) => prefetch(scales.as_ptr().wrapping_add(panel * PANEL_ROWS)),
            GroupScales::F32(scales) => prefetch(scales.as_ptr().wrapping_add(panel * PANEL_ROWS)),
        }
    }

    /// Outputs of a panel with the product: of `y`, which is with `bias`.
    #[inline(always)]
    pub(crate) fn add<S: Simd>(&self, s: S, panel: usize, y: S::F, bias: S::F) -> S::F {
        let steps = self.w.steps();
        let panel_bytes = steps * STEP_BYTES;
        let (codes, _) = self.w.codes[panel * panel_bytes..][..panel_bytes].as_chunks();
        let zero = i32::from(CodeBits::Int8.middle()) - S::CODE_OFFSET;
        let start = [[s.splat_i32(-zero * self.act_sum)]; 1];
        let [[dot]] = dot_part::<S, 8, 1, false>(s, codes, null(), [self.acts], 0..steps, start);
        let column = panel * PANEL_ROWS;
        let scale = match self.w.scales {
            GroupScales::F16(scales) => s.load_f16(lanes(scales, column)),
            GroupScales::F32(scales) => s.load(lanes(scales, column)),
        };
        // To the letter what a product does alone.
        let scaled = s.mul(scale, s.to_f32(dot));
        let own = s.fma(scaled, s.splat(self.act_scale), s.splat(0.0));
        let own = s.add(own, s.splat(0.0));
        let y = match self.gain {
            None => y,
            Some(gain) => {
                let width = (self.w.n - column).min(PANEL_ROWS);
                let gain = s.load_part(&gain[column..column + width]);
                s.add(y, s.mul(gain, s.sub(y, bias)))
            }
        };
        s.add(y, own)
    }
}
