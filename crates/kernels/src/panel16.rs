//! Quantised matrices in the order the kernels read: panels of 16 rows, steps of 64 bytes.
//!
//! A step holds 16 rows by `4 * per_byte` columns. In byte `i` of a row's four, bits
//! `[b * width, (b + 1) * width)` hold column `step * 4 * per_byte + 4 * b + i`: masking and shifting a
//! step yields `per_byte` operands of the 4-way dot-product instructions, and 16 steps of 8-bit codes
//! are one AMX tile.

use half::f16;

use crate::KernelError;
use crate::panel_rounding::{pack_panel, unpack_panel};

/// Rows of a panel.
pub const PANEL_ROWS: usize = 16;
/// Bytes of a step: 16 rows of 4 bytes.
pub const STEP_BYTES: usize = 64;
/// Longest group whose dot product of `u8` codes and `s8` activations fits an `i32`.
pub(crate) const MAX_GROUP: usize = 65_536;

/// Width of a weight's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CodeBits {
    /// 256 levels.
    Int8,
    /// 16 levels.
    Int4,
    /// 4 levels.
    Int2,
}

impl CodeBits {
    /// Bits of a code.
    #[must_use]
    pub const fn width(self) -> usize {
        match self {
            Self::Int8 => 8,
            Self::Int4 => 4,
            Self::Int2 => 2,
        }
    }

    /// Codes of a byte.
    #[must_use]
    pub const fn per_byte(self) -> usize {
        8 / self.width()
    }

    /// Columns of a 64-byte step.
    #[must_use]
    pub const fn step_columns(self) -> usize {
        4 * self.per_byte()
    }

    /// Number of levels.
    #[must_use]
    pub const fn levels(self) -> usize {
        1 << self.width()
    }

    /// Bytes of a panel of `k` columns.
    #[must_use]
    pub const fn panel_bytes(self, k: usize) -> usize {
        k.div_ceil(self.step_columns()) * STEP_BYTES
    }

    /// The code that stands for zero when no zero is stored.
    #[must_use]
    pub const fn middle(self) -> u8 {
        1 << (self.width() - 1)
    }

    const fn mask(self) -> u8 {
        u8::MAX >> (8 - self.width())
    }
}

/// Scales of the groups, in the order `[n / 16, groups, 16]`.
#[derive(Debug, Clone, Copy)]
pub enum GroupScales<'a> {
    /// Half precision bits.
    F16(&'a [u16]),
    /// Single precision.
    F32(&'a [f32]),
}

impl GroupScales<'_> {
    fn len(self) -> usize {
        match self {
            Self::F16(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }

    const fn bytes(self) -> usize {
        match self {
            Self::F16(values) => size_of_val(values),
            Self::F32(values) => size_of_val(values),
        }
    }

    pub(crate) fn get(self, index: usize) -> f32 {
        match self {
            Self::F16(values) => f16::from_bits(values[index]).to_f32(),
            Self::F32(values) => values[index],
        }
    }
}

/// Where a group's value zero lies, in the order of the scales.
#[derive(Debug, Clone, Copy)]
pub enum GroupZero<'a> {
    /// At the middle code: `w = scale * (code - middle)`.
    Middle,
    /// At a stored code: `w = scale * (code - zero)`.
    U8(&'a [u8]),
    /// Given by the least weight: `w = scale * code + min`, half precision bits.
    MinF16(&'a [u16]),
}

/// A quantised matrix `[n, k]`, borrowed from wherever it lies (a mapped file, mostly).
#[derive(Debug, Clone, Copy)]
pub struct QuantPanels<'a> {
    /// Rows (output features).
    pub n: usize,
    /// Columns (input features).
    pub k: usize,
    /// Width of a code.
    pub bits: CodeBits,
    /// Columns that share a scale, a multiple of [`CodeBits::step_columns`]; 0 is the whole row.
    pub group_size: usize,
    /// `[n / 16, k / step_columns, 16, 4]`, padded with zeros.
    pub codes: &'a [u8],
    /// Scales.
    pub scales: GroupScales<'a>,
    /// Zeros.
    pub zero: GroupZero<'a>,
}

impl QuantPanels<'_> {
    /// Panels of 16 rows, the last one padded.
    #[must_use]
    pub const fn panels(&self) -> usize {
        self.n.div_ceil(PANEL_ROWS)
    }

    /// Bytes that a product reads.
    pub(crate) const fn bytes(&self) -> usize {
        let zeros = match self.zero {
            GroupZero::Middle => 0,
            GroupZero::U8(zeros) => zeros.len(),
            GroupZero::MinF16(minima) => size_of_val(minima),
        };
        self.codes.len() + self.scales.bytes() + zeros
    }

    /// 64-byte steps of one panel.
    #[must_use]
    pub const fn steps(&self) -> usize {
        self.k.div_ceil(self.bits.step_columns())
    }

    /// Groups of one row.
    #[must_use]
    pub const fn groups(&self) -> usize {
        groups(self.k, self.group_size)
    }

    /// The rows from `first` on, a multiple of 16, `n` of them.
    ///
    /// # Panics
    /// If there are no such rows.
    #[must_use]
    pub fn rows(self, first: usize, n: usize) -> Self {
        assert!(
            first.is_multiple_of(PANEL_ROWS) && first + n <= self.n,
            "rows of whole panels"
        );
        let panels = first / PANEL_ROWS..(first + n).div_ceil(PANEL_ROWS);
        let bytes = self.bits.panel_bytes(self.k);
        let lanes = self.groups() * PANEL_ROWS;
        let groups = panels.start * lanes..panels.end * lanes;
        Self {
            n,
            codes: &self.codes[panels.start * bytes..panels.end * bytes],
            scales: match self.scales {
                GroupScales::F16(values) => GroupScales::F16(&values[groups.clone()]),
                GroupScales::F32(values) => GroupScales::F32(&values[groups.clone()]),
            },
            zero: match self.zero {
                GroupZero::Middle => GroupZero::Middle,
                GroupZero::U8(zeros) => GroupZero::U8(&zeros[groups]),
                GroupZero::MinF16(minima) => GroupZero::MinF16(&minima[groups]),
            },
            ..self
        }
    }

    /// Checks that every buffer has the length its shape asks for. The kernels index without asking again.
    ///
    /// # Errors
    /// [`KernelError::Length`], [`KernelError::GroupSize`], [`KernelError::GroupTooLong`].
    pub fn check(&self) -> Result<(), KernelError> {
        let multiple = self.bits.step_columns();
        if !self.group_size.is_multiple_of(multiple) {
            return Err(KernelError::GroupSize {
                multiple,
                bits: self.bits,
                got: self.group_size,
            });
        }
        let longest = if self.group_size == 0 {
            self.k
        } else {
            self.group_size.min(self.k)
        };
        if longest > MAX_GROUP {
            return Err(KernelError::GroupTooLong {
                limit: MAX_GROUP,
                got: longest,
            });
        }
        let scales = self
            .panels()
            .saturating_mul(self.groups())
            .saturating_mul(PANEL_ROWS);
        let codes = self
            .panels()
            .saturating_mul(self.steps())
            .saturating_mul(STEP_BYTES);
        self.check_length("code bytes", codes, self.codes.len())?;
        self.check_length("scales", scales, self.scales.len())?;
        match self.zero {
            GroupZero::Middle => Ok(()),
            GroupZero::U8(zeros) => self.check_length("zeros", scales, zeros.len()),
            GroupZero::MinF16(mins) => self.check_length("minima", scales, mins.len()),
        }
    }

    fn check_length(
        &self,
        what: &'static str,
        expected: usize,
        got: usize,
    ) -> Result<(), KernelError> {
        if expected == got {
            Ok(())
        } else {
            Err(KernelError::Length {
                what,
                n: self.n,
                k: self.k,
                expected,
                got,
            })
        }
    }

    /// Fills `out` with `value` of the codes of `row` from step `first` on.
    fn codes_of_row(&self, row: usize, first: usize, out: &mut [f32], value: impl Fn(u8) -> f32) {
        let (width, mask) = (self.bits.width(), self.bits.mask());
        let start = (row / PANEL_ROWS * self.steps() + first) * STEP_BYTES + row % PANEL_ROWS * 4;
        let steps = self.codes[start..].chunks(STEP_BYTES);
        for (step, out) in steps.zip(out.chunks_mut(self.bits.step_columns())) {
            for (field, out) in out.chunks_mut(4).enumerate() {
                for (&byte, out) in step.iter().zip(out) {
                    *out = value(byte >> (field * width) & mask);
                }
            }
        }
    }

    /// Index of a row's group among the scales.
    pub(crate) const fn group_index(&self, row: usize, group: usize) -> usize {
        (row / PANEL_ROWS * self.groups() + group) * PANEL_ROWS + row % PANEL_ROWS
    }
}

/// Groups of a row of `k` columns; 0 columns a group is the whole row.
pub(crate) const fn groups(k: usize, group_size: usize) -> usize {
    if group_size == 0 {
        1
    } else {
        k.div_ceil(group_size)
    }
}

/// Writes row `row` as `f32`: the lookup of an embedding.
///
/// # Panics
/// If `row >= w.n` or `out.len() != w.k`.
pub fn dequantize_row(w: &QuantPanels<'_>, row: usize, out: &mut [f32]) {
    assert!(row < w.n, "row {row} of a matrix of {} rows", w.n);
    assert_eq!(out.len(), w.k, "a row has k values");
    let group_size = if w.group_size == 0 {
        w.k.max(1)
    } else {
        w.group_size
    };
    for (group, values) in out.chunks_mut(group_size).enumerate() {
        let index = w.group_index(row, group);
        let scale = w.scales.get(index);
        let first = group * group_size / w.bits.step_columns();
        match w.zero {
            GroupZero::MinF16(mins) => {
                let min = f16::from_bits(mins[index]).to_f32();
                w.codes_of_row(row, first, values, |code| {
                    scale.mul_add(f32::from(code), min)
                });
            }
            GroupZero::Middle => {
                let zero = i16::from(w.bits.middle());
                w.codes_of_row(row, first, values, |code| {
                    scale * f32::from(i16::from(code) - zero)
                });
            }
            GroupZero::U8(zeros) => {
                let zero = i16::from(zeros[index]);
                w.codes_of_row(row, first, values, |code| {
                    scale * f32::from(i16::from(code) - zero)
                });
            }
        }
    }
}

/// Packs row-major codes `[n, k]`, one a byte, into panels.
///
/// # Panics
/// If `codes.len() != n * k` or a code does not fit its width.
#[must_use]
pub fn pack_panel16(codes: &[u8], n: usize, k: usize, bits: CodeBits) -> Vec<u8> {
    assert_eq!(codes.len(), n * k, "one code per weight");
    assert!(
        codes.iter().all(|&code| code <= bits.mask()),
        "a code of {bits:?} is at most {}",
        bits.mask()
    );
    let mut packed = vec![0; n.div_ceil(PANEL_ROWS) * bits.panel_bytes(k)];
    if k > 0 {
        let panels = packed.chunks_exact_mut(bits.panel_bytes(k));
        for (panel, rows) in panels.zip(codes.chunks(PANEL_ROWS * k)) {
            pack_panel(rows, k, bits, panel);
        }
    }
    packed
}

/// Undoes [`pack_panel16`]: row-major codes `[n, k]`, one a byte.
///
/// # Panics
/// If `packed` is not as long as `n` and `k` ask for.
#[must_use]
pub fn unpack_panel16(packed: &[u8], n: usize, k: usize, bits: CodeBits) -> Vec<u8> {
    let panel = bits.panel_bytes(k);
    assert_eq!(
        packed.len(),
        n.div_ceil(PANEL_ROWS) * panel,
        "padded panels"
    );
    let mut codes = vec![0; n * k];
    if k > 0 {
        let panels = packed.chunks_exact(panel);
        for (panel, rows) in panels.zip(codes.chunks_mut(PANEL_ROWS * k)) {
            unpack_panel(panel, k, bits, rows);
        }
    }
    codes
}

/// Reorders values of groups, scales or zeros, from `[n, groups]` to `[n / 16, groups, 16]`, padded with defaults.
///
/// # Panics
/// If `values.len() != n * groups`.
#[must_use]
pub fn pack_groups<T: Copy + Default>(values: &[T], n: usize, groups: usize) -> Vec<T> {
    assert_eq!(values.len(), n * groups, "one value per row and group");
    let mut packed = vec![T::default(); n.div_ceil(PANEL_ROWS) * groups * PANEL_ROWS];
    for row in 0..n {
        for group in 0..groups {
            packed[(row / PANEL_ROWS * groups + group) * PANEL_ROWS + row % PANEL_ROWS] =
                values[row * groups + group];
        }
    }
    packed
}
