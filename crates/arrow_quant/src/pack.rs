//! Codes, one byte each, to packed panels and back. [`Layout::Panel16`] draws the order.

use crate::tensor::{Bits, Layout};

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

/// Writes the codes of row `row` of a panel into it. The panel's padding must be zero beforehand.
///
/// `codes` is `[k]`, one code a byte, below `2^width`.
pub fn pack_row(codes: &[u8], bits: Bits, row: usize, panel: &mut [u8]) {
    let width = bits.width();
    let columns = 4 * per_byte(bits);
    let steps = panel.chunks_exact_mut(STEP);
    for (step, from) in steps.zip(codes.chunks(columns)) {
        // Four columns at a time, as the lanes of one word.
        let mut word = 0;
        for (b, four) in from.chunks(4).enumerate() {
            let lanes = four.try_into().map_or_else(
                |_| {
                    four.iter()
                        .enumerate()
                        .fold(0, |word, (i, &code)| word | u32::from(code) << (8 * i))
                },
                u32::from_le_bytes,
            );
            word |= lanes << (b * width);
        }
        step[row * 4..row * 4 + 4].copy_from_slice(&word.to_le_bytes());
    }
}

/// Reads the codes of row `row` of a panel: the inverse of [`pack_row`].
pub fn unpack_row(panel: &[u8], bits: Bits, row: usize, codes: &mut [u8]) {
    let width = bits.width();
    let mask = u32::from_le_bytes([u8::MAX >> (8 - width); 4]);
    let columns = 4 * per_byte(bits);
    for (step, to) in panel.chunks_exact(STEP).zip(codes.chunks_mut(columns)) {
        let mut word = [0; 4];
        word.copy_from_slice(&step[row * 4..row * 4 + 4]);
        let word = u32::from_le_bytes(word);
        for (b, four) in to.chunks_mut(4).enumerate() {
            let lanes = (word >> (b * width) & mask).to_le_bytes();
            four.copy_from_slice(&lanes[..four.len()]);
        }
    }
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
        let rows = codes
            .chunks_exact(k * PANEL)
            .chain([codes.chunks_exact(k * PANEL).remainder()]);
        for (panel, rows) in packed.chunks_exact_mut(panel_len(k, bits)).zip(rows) {
            for (row, codes) in rows.chunks_exact(k).enumerate() {
                pack_row(codes, bits, row, panel);
            }
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
        for (row, codes) in codes.chunks_exact_mut(k).enumerate() {
            let panel = &packed[row / PANEL * panel_len(k, bits)..][..panel_len(k, bits)];
            unpack_row(panel, bits, row % PANEL, codes);
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
