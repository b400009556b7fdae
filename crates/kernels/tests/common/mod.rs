//! Inputs for the tests.
#![allow(dead_code, reason = "each test crate uses a part")]

pub mod keys;

use half::f16;
use kernels::{CodeBits, GroupScales, GroupZero, QuantPanels, pack_groups, pack_panel16};

/// A small generator: equal seeds give equal inputs.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    /// In `[-1, 1)`.
    pub fn unit(&mut self) -> f32 {
        self.bits() as f32 / (1_u32 << 30) as f32 - 1.0
    }

    pub fn vector(&mut self, len: usize, scale: f32) -> Vec<f32> {
        (0..len).map(|_| self.unit() * scale).collect()
    }

    /// Rows `[m, k]` within `[-2, 2)` but for every 37th column, which is ten times as large: its groups get
    /// a second term, in most rows.
    pub fn activations(&mut self, m: usize, k: usize) -> Vec<f32> {
        let mut x = self.vector(m * k, 2.0);
        for row in x.chunks_mut(k) {
            row.iter_mut().skip(5).step_by(37).for_each(|x| *x *= 10.0);
        }
        x
    }

    pub fn bytes(&mut self, len: usize, mask: u8) -> Vec<u8> {
        (0..len).map(|_| self.bits() as u8 & mask).collect()
    }
}

/// How a matrix's zeros are stored.
#[derive(Debug, Clone, Copy)]
pub enum ZeroKind {
    Middle,
    U8,
    Min,
}

/// An owned quantised matrix beside its row-major parts.
#[derive(Debug)]
pub struct Matrix {
    pub n: usize,
    pub k: usize,
    pub bits: CodeBits,
    pub group_size: usize,
    pub half_scales: bool,
    pub kind: ZeroKind,
    pub codes: Vec<u8>,
    pub scales: Vec<f32>,
    pub zeros: Vec<u8>,
    pub mins: Vec<f32>,
    packed: Vec<u8>,
    packed_scales: Vec<f32>,
    packed_half_scales: Vec<u16>,
    packed_zeros: Vec<u8>,
    packed_mins: Vec<u16>,
}

impl Matrix {
    pub fn random(
        random: &mut Random,
        (n, k): (usize, usize),
        bits: CodeBits,
        group_size: usize,
        (kind, half_scales): (ZeroKind, bool),
    ) -> Self {
        let mask = u8::MAX >> (8 - bits.width());
        let groups = if group_size == 0 {
            1
        } else {
            k.div_ceil(group_size)
        };
        let codes = random.bytes(n * k, mask);
        let halves = |values: &[f32]| {
            values
                .iter()
                .map(|&v| f16::from_f32(v).to_bits())
                .collect::<Vec<_>>()
        };
        // Rounded to half precision, so that both forms of storage hold the same value.
        let round = |v: f32| f16::from_f32(v).to_f32();
        let scales: Vec<f32> = random
            .vector(n * groups, 0.1)
            .into_iter()
            .map(round)
            .collect();
        let mins: Vec<f32> = random
            .vector(n * groups, 1.0)
            .into_iter()
            .map(round)
            .collect();
        let zeros = random.bytes(n * groups, mask);
        Self {
            packed: pack_panel16(&codes, n, k, bits),
            packed_half_scales: pack_groups(&halves(&scales), n, groups),
            packed_scales: pack_groups(&scales, n, groups),
            packed_zeros: pack_groups(&zeros, n, groups),
            packed_mins: pack_groups(&halves(&mins), n, groups),
            n,
            k,
            bits,
            group_size,
            half_scales,
            kind,
            codes,
            scales,
            zeros,
            mins,
        }
    }

    pub fn panels(&self) -> QuantPanels<'_> {
        QuantPanels {
            n: self.n,
            k: self.k,
            bits: self.bits,
            group_size: self.group_size,
            codes: &self.packed,
            scales: if self.half_scales {
                GroupScales::F16(&self.packed_half_scales)
            } else {
                GroupScales::F32(&self.packed_scales)
            },
            zero: match self.kind {
                ZeroKind::Middle => GroupZero::Middle,
                ZeroKind::U8 => GroupZero::U8(&self.packed_zeros),
                ZeroKind::Min => GroupZero::MinF16(&self.packed_mins),
            },
        }
    }

    /// The weight that row-major codes, scales and zeros define.
    pub fn weight(&self, row: usize, column: usize) -> f64 {
        let groups = if self.group_size == 0 {
            1
        } else {
            self.k.div_ceil(self.group_size)
        };
        let at = row * groups + column.checked_div(self.group_size).unwrap_or(0);
        let code = f64::from(self.codes[row * self.k + column]);
        let scale = f64::from(self.scales[at]);
        match self.kind {
            ZeroKind::Middle => scale * (code - f64::from(self.bits.middle())),
            ZeroKind::U8 => scale * (code - f64::from(self.zeros[at])),
            ZeroKind::Min => scale * code + f64::from(self.mins[at]),
        }
    }
}

/// Panics with the first place where `a` and `b` differ in any bit, NaN aside.
pub fn assert_same_bits(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!(
            a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(),
            "{what}: {a:e} != {b:e} at {i}"
        );
    }
}
