//! Weights stored as floats, of any precision.

use half::{bf16, f16};

use crate::simd::{LANES, Simd};
use crate::tile::lanes;

/// Row-major weights `[n, k]`.
#[derive(Debug, Clone, Copy)]
pub enum PlainRows<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Half precision bits.
    F16(&'a [u16]),
    /// Brain float bits.
    Bf16(&'a [u16]),
}

impl PlainRows<'_> {
    /// Number of weights.
    #[must_use]
    pub const fn len(self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) | Self::Bf16(values) => values.len(),
        }
    }

    pub(crate) const fn bytes(self) -> usize {
        match self {
            Self::F32(values) => size_of_val(values),
            Self::F16(values) | Self::Bf16(values) => size_of_val(values),
        }
    }

    /// Whether there is no weight.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Weights `[start, start + len)`.
    ///
    /// # Panics
    /// If they lie beyond the end.
    #[must_use]
    pub fn slice(self, start: usize, len: usize) -> Self {
        match self {
            Self::F32(values) => Self::F32(&values[start..start + len]),
            Self::F16(values) => Self::F16(&values[start..start + len]),
            Self::Bf16(values) => Self::Bf16(&values[start..start + len]),
        }
    }
}

/// Weights of one known precision.
pub(crate) trait Values: Copy {
    fn len(self) -> usize;
    /// Weight `at`.
    fn get(self, at: usize) -> f32;
    /// Where weight `at` lies, or would lie.
    fn address(self, at: usize) -> *const u8;
    /// Sixteen weights from `at` on.
    fn load<S: Simd>(self, s: S, at: usize) -> S::F;
    /// `count` weights from `at` on, at most sixteen, and zeros behind them.
    fn load_part<S: Simd>(self, s: S, at: usize, count: usize) -> S::F;
}

macro_rules! values {
    ($name:ident, $type:ty, $load:ident, $value:expr, $load_part:expr) => {
        #[derive(Clone, Copy)]
        pub(crate) struct $name<'a>(pub(crate) &'a [$type]);

        impl Values for $name<'_> {
            #[inline(always)]
            fn len(self) -> usize {
                self.0.len()
            }
            #[inline(always)]
            fn get(self, at: usize) -> f32 {
                $value(self.0[at])
            }
            #[inline(always)]
            fn address(self, at: usize) -> *const u8 {
                self.0.as_ptr().wrapping_add(at).cast()
            }
            #[inline(always)]
            fn load<S: Simd>(self, s: S, at: usize) -> S::F {
                s.$load(lanes(self.0, at))
            }
            #[inline(always)]
            fn load_part<S: Simd>(self, s: S, at: usize, count: usize) -> S::F {
                let part = &self.0[at..at + count];
                // A vector of single precision is loaded with a mask, where there are such.
                if let Some(whole) = $load_part(part) {
                    return s.load_part(whole);
                }
                let mut lanes = [0.0; LANES];
                for (lane, &weight) in lanes.iter_mut().zip(part) {
                    *lane = $value(weight);
                }
                s.load(&lanes)
            }
        }
    };
}

values!(Singles, f32, load, std::convert::identity, Some::<&[f32]>);
values!(
    Halves,
    u16,
    load_f16,
    |bits| f16::from_bits(bits).to_f32(),
    |_| None::<&[f32]>
);
values!(
    BrainFloats,
    u16,
    load_bf16,
    |bits| bf16::from_bits(bits).to_f32(),
    |_| None::<&[f32]>
);

/// Evaluates `$body` with `$values` of the precision that `$rows` has.
macro_rules! with_values {
    ($rows:expr, |$values:ident| $body:expr) => {
        match $rows {
            $crate::PlainRows::F32(values) => {
                let $values = $crate::plain_rows::Singles(values);
                $body
            }
            $crate::PlainRows::F16(values) => {
                let $values = $crate::plain_rows::Halves(values);
                $body
            }
            $crate::PlainRows::Bf16(values) => {
                let $values = $crate::plain_rows::BrainFloats(values);
                $body
            }
        }
    };
}
pub(crate) use with_values;
