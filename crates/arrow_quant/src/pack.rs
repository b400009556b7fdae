//! Lengths of packed codes, and their row-major order: that of older files, and of matrices of few rows.

use bytes::Bytes;
use kernels::{PANEL_ROWS, unpack_panel16};

use crate::tensor::{CodeBits, Layout, QuantTensor, Scales, Zero};

/// Bytes of `[n, k]` packed codes; `None` if it overflows.
#[must_use]
pub fn packed_len(n: usize, k: usize, bits: CodeBits, layout: Layout) -> Option<usize> {
    match layout {
        Layout::RowMajor => n.checked_mul(k.div_ceil(bits.per_byte())),
        Layout::Panel16 => n
            .div_ceil(PANEL_ROWS)
            .checked_mul(k.div_ceil(bits.step_columns()))?
            .checked_mul(kernels::STEP_BYTES),
    }
}

/// Reads row `row` of row-major packed codes.
pub fn unpack_row_major(packed: &[u8], bits: CodeBits, row: usize, codes: &mut [u8]) {
    let width = bits.width();
    let mask = u8::MAX >> (8 - width);
    let row_len = codes.len().div_ceil(bits.per_byte());
    let packed = &packed[row * row_len..][..row_len];
    if bits == CodeBits::Int8 {
        codes.copy_from_slice(packed);
        return;
    }
    for (byte, to) in packed.iter().zip(codes.chunks_mut(bits.per_byte())) {
        for (b, code) in to.iter_mut().enumerate() {
            *code = byte >> (b * width) & mask;
        }
    }
}

impl QuantTensor {
    /// An `[n, k]` matrix of panels row by row, which takes less room if it has fewer rows than a panel.
    #[must_use]
    pub fn row_major(&self, n: usize, k: usize) -> Self {
        if self.layout == Layout::RowMajor {
            return self.clone();
        }
        let (groups, width) = (self.groups(k), self.bits.width());
        let codes = unpack_panel16(&self.codes, n, k, self.bits);
        let rows = codes.chunks_exact(k.max(1));
        let packed = rows.flat_map(|row| {
            let bytes = row.chunks(self.bits.per_byte());
            bytes.map(|codes| {
                let fields = codes.iter().enumerate();
                fields.fold(0, |byte, (b, code)| byte | code << (b * width))
            })
        });
        let in_rows = |bytes: &Bytes, size: usize| {
            let cells = (0..n).flat_map(|row| (0..groups).map(move |group| (row, group)));
            let places = cells.map(|(row, group)| {
                (row / PANEL_ROWS * groups + group) * PANEL_ROWS + row % PANEL_ROWS
            });
            let numbers = places.flat_map(|at| &bytes[at * size..][..size]);
            numbers.copied().collect::<Vec<u8>>().into()
        };
        Self {
            layout: Layout::RowMajor,
            codes: packed.collect::<Vec<u8>>().into(),
            scales: match &self.scales {
                Scales::F16(bytes) => Scales::F16(in_rows(bytes, 2)),
                Scales::F32(bytes) => Scales::F32(in_rows(bytes, 4)),
            },
            zero: match &self.zero {
                Zero::Middle => Zero::Middle,
                Zero::U8(bytes) => Zero::U8(in_rows(bytes, 1)),
                Zero::MinF16(bytes) => Zero::MinF16(in_rows(bytes, 2)),
            },
            ..self.clone()
        }
    }
}
