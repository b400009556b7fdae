//! Lengths of packed codes, and the row-major order of older files.

use kernels::PANEL_ROWS;

use crate::tensor::{CodeBits, Layout};

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
    for (byte, to) in packed.iter().zip(codes.chunks_mut(bits.per_byte())) {
        for (b, code) in to.iter_mut().enumerate() {
            *code = byte >> (b * width) & mask;
        }
    }
}
