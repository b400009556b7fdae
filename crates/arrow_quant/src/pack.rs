//! Codes, one byte each, to packed panels and back. [`Layout::Panel16`] draws the order.

use crate::tensor::{Bits, Layout};
use crate::transpose::transpose;

/// Rows of a panel.
pub const PANEL: usize = 16;
/// Bytes of one step of a panel: 16 rows by 4 bytes.
const STEP: usize = 64;

/// Codes that one byte holds.
pub const fn per_byte(bits: Bits) -> usize {
    8 / bits.width()
}

/// Bytes of one panel of `k` columns.
pub const fn panel_len(k: usize, bits: Bits) -> usize {
    k.div_ceil(4 * per_byte(bits)) * STEP
}

/// Bytes of `[n, k]` packed codes; `None` if it overflows.
#[must_use]
pub fn packed_len(n: usize, k: usize, bits: Bits, layout: Layout) -> Option<usize> {
    match layout {
        Layout::RowMajor => n.checked_mul(k.div_ceil(per_byte(bits))),
        Layout::Panel16 => n
            .div_ceil(PANEL)
            .checked_mul(k.div_ceil(4 * per_byte(bits)))?
            .checked_mul(STEP),
    }
}

/// Distance between the rows of codes that [`pack_panel`] takes: whole blocks, and a cache line more,
/// lest rows of a power of two displace one another from the cache.
pub const fn code_stride(k: usize) -> usize {
    k.next_multiple_of(BLOCK) + 64
}

/// Packs a panel from 16 rows of codes, one a byte, [`code_stride`] apart and zero from `k` on.
#[inline(always)]
#[allow(clippy::inline_always)] // Must be compiled into each of its callers.
pub fn pack_panel(codes: &[u8], bits: Bits, panel: &mut [u8]) {
    match bits {
        Bits::Int8 => pack_steps::<1>(codes, panel),
        Bits::Int4 => pack_steps::<2>(codes, panel),
        Bits::Int2 => pack_steps::<4>(codes, panel),
    }
}

/// Unpacks a panel into 16 rows of codes: the inverse of [`pack_panel`].
#[inline(always)]
#[allow(clippy::inline_always)]
pub fn unpack_panel(panel: &[u8], bits: Bits, codes: &mut [u8]) {
    match bits {
        Bits::Int8 => unpack_steps::<1>(panel, codes),
        Bits::Int4 => unpack_steps::<2>(panel, codes),
        Bits::Int2 => unpack_steps::<4>(panel, codes),
    }
}

/// Columns that are transposed at once: four words of a row.
const BLOCK: usize = 16;

#[inline(always)]
#[allow(clippy::inline_always)]
fn pack_steps<const PER_BYTE: usize>(codes: &[u8], panel: &mut [u8]) {
    let stride = codes.len() / PANEL;
    let steps = panel.as_chunks_mut::<STEP>().0;
    for (block, steps) in steps.chunks_mut(4 / PER_BYTE).enumerate() {
        // Four columns of every row, as the lanes of words.
        let mut words = [[0; PANEL]; 4];
        for first in (0..PANEL).step_by(4) {
            let rows = std::array::from_fn(|row| {
                let from = &codes[(first + row) * stride + block * BLOCK..][..BLOCK];
                words_of(from)
            });
            for (words, column) in words.iter_mut().zip(transpose(rows)) {
                words[first..first + 4].copy_from_slice(&column);
            }
        }
        for (step, words) in steps.iter_mut().zip(words.as_chunks::<PER_BYTE>().0) {
            for (row, to) in step.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let lanes = |b: usize| words[b][row] << (b * 8 / PER_BYTE);
                *to = (0..PER_BYTE)
                    .fold(0, |word, b| word | lanes(b))
                    .to_le_bytes();
            }
        }
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn unpack_steps<const PER_BYTE: usize>(panel: &[u8], codes: &mut [u8]) {
    let stride = codes.len() / PANEL;
    let mask = u32::from_le_bytes([u8::MAX >> (8 - 8 / PER_BYTE); 4]);
    let steps = panel.as_chunks::<STEP>().0;
    for (block, steps) in steps.chunks(4 / PER_BYTE).enumerate() {
        let mut words = [[0; PANEL]; 4];
        for (step, words) in steps.iter().zip(words.as_chunks_mut::<PER_BYTE>().0) {
            for (row, &from) in step.as_chunks::<4>().0.iter().enumerate() {
                for (b, words) in words.iter_mut().enumerate() {
                    words[row] = u32::from_le_bytes(from) >> (b * 8 / PER_BYTE) & mask;
                }
            }
        }
        for first in (0..PANEL).step_by(4) {
            let columns = words.map(|words| {
                [
                    words[first],
                    words[first + 1],
                    words[first + 2],
                    words[first + 3],
                ]
            });
            for (row, words) in transpose(columns).into_iter().enumerate() {
                let to = &mut codes[(first + row) * stride + block * BLOCK..][..BLOCK];
                for (to, word) in to.as_chunks_mut::<4>().0.iter_mut().zip(words) {
                    *to = word.to_le_bytes();
                }
            }
        }
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn words_of(bytes: &[u8]) -> [u32; 4] {
    let mut words = [0; 4];
    for (word, &bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(bytes);
    }
    words
}

/// Reads row `row` of row-major packed codes.
pub fn unpack_row_major(packed: &[u8], bits: Bits, row: usize, codes: &mut [u8]) {
    let width = bits.width();
    let mask = u8::MAX >> (8 - width);
    let row_len = codes.len().div_ceil(per_byte(bits));
    let packed = &packed[row * row_len..][..row_len];
    for (byte, to) in packed.iter().zip(codes.chunks_mut(per_byte(bits))) {
        for (b, code) in to.iter_mut().enumerate() {
            *code = byte >> (b * width) & mask;
        }
    }
}

/// Packs `[n, k]` row-major codes, one a byte, into panels.
///
/// # Panics
/// If `codes` is not `n * k` long.
#[must_use]
pub fn pack_panel16(codes: &[u8], n: usize, k: usize, bits: Bits) -> Vec<u8> {
    assert_eq!(codes.len(), n * k, "codes must be [n, k]");
    let mut packed = vec![0; n.div_ceil(PANEL) * panel_len(k, bits)];
    if k > 0 {
        let stride = code_stride(k);
        let mut strided = vec![0; PANEL * stride];
        let panels = packed.chunks_exact_mut(panel_len(k, bits));
        for (panel, rows) in panels.zip(codes.chunks(PANEL * k)) {
            // Rows that the matrix lacks are stored as zeros.
            strided[rows.len() / k * stride..].fill(0);
            for (to, row) in strided.chunks_exact_mut(stride).zip(rows.chunks_exact(k)) {
                to[..k].copy_from_slice(row);
            }
            pack_panel(&strided, bits, panel);
        }
    }
    packed
}

/// Unpacks panels into `[n, k]` row-major codes, one a byte.
///
/// # Panics
/// If `packed` has not the length of `[n, k]` panels.
#[must_use]
pub fn unpack_panel16(packed: &[u8], n: usize, k: usize, bits: Bits) -> Vec<u8> {
    assert_eq!(
        packed.len(),
        n.div_ceil(PANEL) * panel_len(k, bits),
        "packed must hold [n, k] panels"
    );
    let mut codes = vec![0; n * k];
    if k > 0 {
        let stride = code_stride(k);
        let mut strided = vec![0; PANEL * stride];
        let panels = packed.chunks_exact(panel_len(k, bits));
        for (panel, rows) in panels.zip(codes.chunks_mut(PANEL * k)) {
            unpack_panel(panel, bits, &mut strided);
            for (row, from) in rows.chunks_exact_mut(k).zip(strided.chunks_exact(stride)) {
                row.copy_from_slice(&from[..k]);
            }
        }
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_follow_their_definition() {
        for bits in [Bits::Int8, Bits::Int4, Bits::Int2] {
            let (n, k, width) = (21, 45, bits.width());
            let codes: Vec<u8> = (0..n * k)
                .map(|i| (i * 7 + i / 13) as u8 & (u8::MAX >> (8 - width)))
                .collect();
            let packed = pack_panel16(&codes, n, k, bits);
            let columns = 4 * per_byte(bits);
            for row in 0..n {
                for column in 0..k {
                    let (step, within) = (column / columns, column % columns);
                    let (b, i) = (within / 4, within % 4);
                    let at = ((row / 16 * k.div_ceil(columns) + step) * 16 + row % 16) * 4 + i;
                    let code = packed[at] >> (b * width) & (u8::MAX >> (8 - width));
                    assert_eq!(code, codes[row * k + column]);
                }
            }
            assert_eq!(unpack_panel16(&packed, n, k, bits), codes);
        }
    }
}
