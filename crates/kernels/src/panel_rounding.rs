//! A panel of 16 rows to codes and back: the inner loops of quantisation.
//!
//! Codes are computed four rows at a time, so that packing 32-bit integers to bytes, which works within
//! 128-bit quarters, leaves four columns of each row side by side, as a step of the panel has them.

use crate::plain_rows::{Values, with_values};
use crate::simd::{LANES, Simd, dispatched, prefetch};
use crate::tile::{lanes, lanes_mut};
use crate::{CodeBits, PANEL_ROWS, PlainRows, STEP_BYTES, isa};

/// Weights between the one in use and the one asked for.
const AHEAD: usize = 512;

/// Blocks of 16 columns whose codes stay in the cache while four rows after four are dequantised.
const CACHED_BLOCKS: usize = 64;

/// One value per row of a panel.
pub type PanelLanes<T> = [T; PANEL_ROWS];

/// How the weights of a panel become codes: `round((weight - minimum) * inverse) + zero`, within the levels.
///
/// One element a group of columns.
#[derive(Debug, Clone, Copy)]
pub struct PanelRounding<'a> {
    /// Steps of a unit.
    pub inverse: &'a [PanelLanes<f32>],
    /// What stands for code `zero`.
    pub minimum: &'a [PanelLanes<f32>],
    /// Code of the minimum.
    pub zero: &'a [PanelLanes<i32>],
}

/// What the codes of a panel stand for. One element a group of columns.
#[derive(Debug, Clone, Copy)]
pub struct PanelLevels<'a> {
    /// Distance of two levels.
    pub scale: &'a [PanelLanes<f32>],
    /// The lowest level, or its distance from zero in codes.
    pub offset: &'a [PanelLanes<f32>],
    /// `scale * code + offset` instead of `scale * (code - offset)`.
    pub is_minimum: bool,
}

/// Writes the least and the greatest value of every group of `width` columns of up to 16 rows `[rows, k]` to the lanes
/// of `low` and `high`. Returns the first row with a value that is not finite; then they hold anything.
///
/// # Panics
/// If the lengths of `rows`, `low` and `high` do not follow from `k` and `width`, or several groups are not of a
/// multiple of 16 columns.
#[must_use]
pub fn panel_ranges(
    rows: PlainRows<'_>,
    k: usize,
    width: usize,
    low: &mut [PanelLanes<f32>],
    high: &mut [PanelLanes<f32>],
) -> Option<usize> {
    assert!(
        k > 0 && rows.len().is_multiple_of(k) && rows.len() / k <= PANEL_ROWS,
        "up to 16 rows of {k} columns, got {} values",
        rows.len()
    );
    assert_eq!(k, width * low.len(), "groups of `width` columns");
    assert_eq!(low.len(), high.len(), "as many least as greatest values");
    check_groups(width, low.len());
    ranges_isa(isa(), rows, k, width, low, high)
}

/// Rounds up to 16 rows `[rows, k]` to a panel of codes; rows and columns that they lack are code 0.
///
/// # Panics
/// If the lengths of `rows`, `rounding` and `codes` do not follow from `k`, `width` and `bits`.
pub fn round_panel(
    rows: PlainRows<'_>,
    k: usize,
    width: usize,
    rounding: PanelRounding<'_>,
    bits: CodeBits,
    codes: &mut [u8],
) {
    check_panel(rows.len(), k, codes.len(), bits);
    let groups = rounding.inverse.len();
    assert!(
        groups * width == k && rounding.minimum.len() == groups && rounding.zero.len() == groups,
        "groups of `width` columns"
    );
    check_groups(width, groups);
    round_isa(isa(), rows, k, width, rounding, bits, codes);
}

/// Writes the weights `[rows, k]` that the first rows of a panel stand for, up to 16.
///
/// # Panics
/// If the lengths of `codes`, `levels` and `out` do not follow from `k`, `width` and `bits`.
pub fn dequantize_panel(
    codes: &[u8],
    k: usize,
    width: usize,
    levels: PanelLevels<'_>,
    bits: CodeBits,
    out: &mut [f32],
) {
    check_panel(out.len(), k, codes.len(), bits);
    assert!(
        width > 0
            && levels.scale.len() == k.div_ceil(width)
            && levels.offset.len() == levels.scale.len(),
        "groups of `width` columns"
    );
    dequantize_isa(isa(), codes, k, width, levels, bits, out);
}

/// Packs up to 16 rows `[rows, k]` of codes, one a byte, into a panel.
pub(crate) fn pack_panel(rows: &[u8], k: usize, bits: CodeBits, panel: &mut [u8]) {
    check_panel(rows.len(), k, panel.len(), bits);
    pack_isa(isa(), rows, k, bits, panel);
}

/// Writes the codes `[rows, k]` of the first rows of a panel, up to 16, one a byte.
pub(crate) fn unpack_panel(panel: &[u8], k: usize, bits: CodeBits, rows: &mut [u8]) {
    check_panel(rows.len(), k, panel.len(), bits);
    unpack_isa(isa(), panel, k, bits, rows);
}

fn check_panel(values: usize, k: usize, bytes: usize, bits: CodeBits) {
    assert!(
        k > 0 && values.is_multiple_of(k) && (1..=PANEL_ROWS).contains(&(values / k)),
        "one to 16 rows of {k} columns, got {values} values"
    );
    assert_eq!(bytes, bits.panel_bytes(k), "a panel of {k} columns");
}

fn check_groups(width: usize, groups: usize) {
    assert!(
        groups == 1 || width.is_multiple_of(LANES),
        "groups of a multiple of 16 columns, got {width}"
    );
}

dispatched!(fn ranges_isa(
    rows: PlainRows<'_>,
    k: usize,
    width: usize,
    low: &mut [PanelLanes<f32>],
    high: &mut [PanelLanes<f32>],
) -> Option<usize> = ranges_on);
dispatched!(fn round_isa(
    rows: PlainRows<'_>,
    k: usize,
    width: usize,
    rounding: PanelRounding<'_>,
    bits: CodeBits,
    codes: &mut [u8],
) = round_on);
dispatched!(fn dequantize_isa(
    codes: &[u8],
    k: usize,
    width: usize,
    levels: PanelLevels<'_>,
    bits: CodeBits,
    out: &mut [f32],
) = dequantize_on);
dispatched!(fn pack_isa(rows: &[u8], k: usize, bits: CodeBits, panel: &mut [u8]) = pack_on);
dispatched!(fn unpack_isa(panel: &[u8], k: usize, bits: CodeBits, rows: &mut [u8]) = unpack_on);

/// Calls a kernel with the codes of a byte as a constant.
macro_rules! with_per_byte {
    ($bits:expr, $kernel:ident, ($($types:ty),*), $($arg:expr),* $(,)?) => {
        match $bits {
            CodeBits::Int8 => $kernel::<$($types,)* 1>($($arg),*),
            CodeBits::Int4 => $kernel::<$($types,)* 2>($($arg),*),
            CodeBits::Int2 => $kernel::<$($types,)* 4>($($arg),*),
        }
    };
}

#[inline(always)]
fn ranges_on<S: Simd>(
    s: S,
    rows: PlainRows<'_>,
    k: usize,
    width: usize,
    low: &mut [PanelLanes<f32>],
    high: &mut [PanelLanes<f32>],
) -> Option<usize> {
    let count = rows.len() / k;
    with_values!(rows, |values| match (low, high) {
        ([low], [high]) if k < LANES => narrow_ranges(s, values, k, low, high),
        (low, high) => (0..count).find(|&row| !ranges(s, values, row, width, low, high)),
    })
}

/// Of rows that are shorter than a vector: columns as vectors.
#[inline(always)]
fn narrow_ranges<S: Simd, V: Values>(
    s: S,
    values: V,
    k: usize,
    low: &mut PanelLanes<f32>,
    high: &mut PanelLanes<f32>,
) -> Option<usize> {
    let count = values.len() / k;
    let mut rows = [s.splat(0.0); LANES];
    for row in 0..count {
        rows[row] = values.load_part(s, row * k, k);
    }
    let columns = s.transpose(rows);
    let (mut least, mut greatest, mut magnitude) = (columns[0], columns[0], s.splat(0.0));
    for column in 0..k {
        least = s.min(columns[column], least);
        greatest = s.max(columns[column], greatest);
        magnitude = s.max_magnitude(columns[column], magnitude);
    }
    s.store(least, low);
    s.store(greatest, high);
    let mut largest = [0.0; LANES];
    s.store(magnitude, &mut largest);
    largest[..count].iter().position(|n| !n.is_finite())
}

/// Whether all values of row `row` are finite; writes its ranges to its lane.
#[inline(always)]
fn ranges<S: Simd, V: Values>(
    s: S,
    values: V,
    row: usize,
    width: usize,
    low: &mut [PanelLanes<f32>],
    high: &mut [PanelLanes<f32>],
) -> bool {
    let mut magnitude = s.splat(0.0);
    let groups = low.len();
    for (group, (low, high)) in low.iter_mut().zip(high).enumerate() {
        let start = (row * groups + group) * width;
        let end = start + width;
        let first = values.load(s, start);
        prefetch(values.address(start + AHEAD));
        let (mut least, mut greatest) = (first, first);
        magnitude = s.max_magnitude(first, magnitude);
        let mut at = start + LANES;
        while at < end {
            // The last vector may overlap the one before it.
            let value = values.load(s, at.min(end - LANES));
            prefetch(values.address(at + AHEAD));
            least = s.min(value, least);
            greatest = s.max(value, greatest);
            magnitude = s.max_magnitude(value, magnitude);
            at += LANES;
        }
        (low[row], high[row]) = (s.smallest(least), s.largest(greatest));
    }
    // Not a number counts as larger than infinity.
    s.largest_magnitude(magnitude) < f32::INFINITY
}

#[inline(always)]
fn round_on<S: Simd>(
    s: S,
    rows: PlainRows<'_>,
    k: usize,
    width: usize,
    rounding: PanelRounding<'_>,
    bits: CodeBits,
    codes: &mut [u8],
) {
    with_values!(rows, |values| with_per_byte!(
        bits,
        round,
        (S, _),
        s,
        values,
        k,
        width,
        rounding,
        codes
    ));
}

#[inline(always)]
fn round<S: Simd, V: Values, const PER_BYTE: usize>(
    s: S,
    values: V,
    k: usize,
    width: usize,
    rounding: PanelRounding<'_>,
    codes: &mut [u8],
) {
    let rows = values.len() / k;
    let (blocks, rest) = codes.split_at_mut(k / LANES * block_bytes::<PER_BYTE>());
    let mut blocks = blocks.chunks_exact_mut(block_bytes::<PER_BYTE>());
    for group in 0..rounding.inverse.len() {
        for block in 0..width / LANES {
            let Some(to) = blocks.next() else { return };
            let column = group * width + block * LANES;
            let load = |row: usize| values.load(s, row * k + column);
            let quads = round_block(s, rows, (rounding, group), load);
            store_block::<S, PER_BYTE>(s, quads, to);
        }
    }
    // Columns of a last, incomplete block: only a group of the whole row has them.
    let first = k / LANES * LANES;
    if first == k {
        return;
    }
    let load = |row: usize| values.load_part(s, row * k + first, k - first);
    let quads = round_block(s, rows, (rounding, 0), load);
    let mut block = [0; LARGEST_BLOCK];
    store_block::<S, PER_BYTE>(s, quads, &mut block[..block_bytes::<PER_BYTE>()]);
    rest.copy_from_slice(&block[..rest.len()]);
    // What stands for columns that there are not.
    let held = rest.len() / STEP_BYTES * 4 * PER_BYTE;
    for row in 0..rows {
        for column in k - first..held {
            let (byte, shift) = place::<PER_BYTE>(row, column);
            rest[byte] &= !(largest_code::<PER_BYTE>() << shift);
        }
    }
}

/// Bytes of the largest block, that of eight bits a code.
const LARGEST_BLOCK: usize = 4 * STEP_BYTES;

/// The codes of sixteen columns, as [`store_block`] takes them; `load` gives those of a row.
#[inline(always)]
fn round_block<S: Simd>(
    s: S,
    rows: usize,
    (rounding, group): (PanelRounding<'_>, usize),
    load: impl Fn(usize) -> S::F,
) -> [S::B; 4] {
    let (minimum, zero) = (&rounding.minimum[group], &rounding.zero[group]);
    let inverse = &rounding.inverse[group];
    let mut quads = [s.load_bytes(&[0; 64]); 4];
    for quad in 0..4 {
        let mut four = [s.splat_i32(0); 4];
        for i in 0..4 {
            let row = 4 * quad + i;
            if row < rows {
                let steps = s.sub(load(row), s.splat(minimum[row]));
                let steps = s.to_i32(s.mul(steps, s.splat(inverse[row])));
                four[i] = s.add_i32(steps, s.splat_i32(zero[row]));
            }
        }
        quads[quad] = s.pack_rows(four);
    }
    quads
}

#[inline(always)]
fn dequantize_on<S: Simd>(
    s: S,
    codes: &[u8],
    k: usize,
    width: usize,
    levels: PanelLevels<'_>,
    bits: CodeBits,
    out: &mut [f32],
) {
    with_per_byte!(bits, dequantize, (S), s, codes, k, width, levels, out);
}

#[inline(always)]
fn dequantize<S: Simd, const PER_BYTE: usize>(
    s: S,
    codes: &[u8],
    k: usize,
    width: usize,
    levels: PanelLevels<'_>,
    out: &mut [f32],
) {
    let rows = out.len() / k;
    // Groups that end within a vector are done one column after the other.
    let is_whole = levels.scale.len() == 1 || width.is_multiple_of(LANES);
    let whole = if is_whole { k / LANES } else { 0 };
    let (blocks, rest) = codes.split_at(whole * block_bytes::<PER_BYTE>());
    let per_group = (width / LANES).max(1);
    let at_once = if levels.scale.len() == 1 {
        CACHED_BLOCKS
    } else {
        (CACHED_BLOCKS / per_group).max(1) * per_group
    };
    for (i, blocks) in blocks
        .chunks(at_once * block_bytes::<PER_BYTE>())
        .enumerate()
    {
        let part = Part {
            steps: blocks.as_chunks().0,
            first: i * at_once,
            per_group,
            k,
        };
        // Four rows at a time: sixteen a power of two apart would displace one another from the cache.
        for (quad, out) in out.chunks_mut(4 * k).enumerate() {
            match quad {
                0 => dequantize_quad::<S, PER_BYTE, 0>(s, &part, levels, out),
                1 => dequantize_quad::<S, PER_BYTE, 1>(s, &part, levels, out),
                2 => dequantize_quad::<S, PER_BYTE, 2>(s, &part, levels, out),
                _ => dequantize_quad::<S, PER_BYTE, 3>(s, &part, levels, out),
            }
        }
    }
    if is_whole && whole * LANES < k {
        let mut block = [0; LARGEST_BLOCK];
        block[..rest.len()].copy_from_slice(rest);
        let (block, group) = (&block[..block_bytes::<PER_BYTE>()], levels.scale.len() - 1);
        let loaded = load_block::<S, PER_BYTE>(s, block.as_chunks().0);
        for (row, out) in out.chunks_exact_mut(k).enumerate() {
            let scale = s.splat(levels.scale[group][row]);
            let offset = s.splat(levels.offset[group][row]);
            let code = s.to_f32(s.unpack_row(loaded[row / 4], row % 4));
            let value = if levels.is_minimum {
                s.add(s.mul(scale, code), offset)
            } else {
                s.mul(scale, s.sub(code, offset))
            };
            let mut lanes = [0.0; LANES];
            s.store(value, &mut lanes);
            let out = &mut out[whole * LANES..];
            let count = out.len();
            out.copy_from_slice(&lanes[..count]);
        }
        return;
    }
    for row in 0..rows {
        for column in whole * LANES..k {
            let group = column / width;
            let (scale, offset) = (levels.scale[group][row], levels.offset[group][row]);
            let (byte, shift) = place::<PER_BYTE>(row, column - whole * LANES);
            let code = f32::from(rest[byte] >> shift & largest_code::<PER_BYTE>());
            out[row * k + column] = if levels.is_minimum {
                scale * code + offset
            } else {
                scale * (code - offset)
            };
        }
    }
}

/// Some of a panel's blocks: either of one group, or whole groups.
struct Part<'a> {
    steps: &'a [[u8; STEP_BYTES]],
    /// Number of the first block.
    first: usize,
    /// Blocks of a group.
    per_group: usize,
    /// Columns of the panel.
    k: usize,
}

/// Writes rows `4 * QUAD` and on, up to four.
#[inline(always)]
fn dequantize_quad<S: Simd, const PER_BYTE: usize, const QUAD: usize>(
    s: S,
    part: &Part<'_>,
    levels: PanelLevels<'_>,
    out: &mut [f32],
) {
    let (k, rows) = (part.k, out.len() / part.k);
    let mut column = part.first * LANES;
    let groups = part.steps.chunks(part.per_group * 4 / PER_BYTE);
    for (group, steps) in (part.first / part.per_group..).zip(groups) {
        let (scale, offset) = (&levels.scale[group], &levels.offset[group]);
        let mut four = [(s.splat(0.0), s.splat(0.0)); 4];
        for i in 0..4 {
            let row = 4 * QUAD + i;
            four[i] = (s.splat(scale[row]), s.splat(offset[row]));
        }
        for block in steps.chunks_exact(4 / PER_BYTE) {
            let codes = load_block::<S, PER_BYTE>(s, block)[QUAD];
            for i in 0..4 {
                if i < rows {
                    let (code, (scale, offset)) = (s.to_f32(s.unpack_row(codes, i)), four[i]);
                    let value = if levels.is_minimum {
                        s.add(s.mul(scale, code), offset)
                    } else {
                        s.mul(scale, s.sub(code, offset))
                    };
                    s.store(value, lanes_mut(out, i * k + column));
                }
            }
            column += LANES;
        }
    }
}

#[inline(always)]
fn pack_on<S: Simd>(s: S, rows: &[u8], k: usize, bits: CodeBits, panel: &mut [u8]) {
    with_per_byte!(bits, pack, (S), s, rows, k, panel);
}

#[inline(always)]
fn pack<S: Simd, const PER_BYTE: usize>(s: S, rows: &[u8], k: usize, panel: &mut [u8]) {
    let (blocks, rest) = panel.split_at_mut(k / LANES * block_bytes::<PER_BYTE>());
    let blocks = blocks.chunks_exact_mut(block_bytes::<PER_BYTE>());
    for (block, to) in blocks.enumerate() {
        let mut quads = [s.load_bytes(&[0; 64]); 4];
        for quad in 0..4 {
            let mut four = [s.splat_i32(0); 4];
            for i in 0..4 {
                let row = 4 * quad + i;
                if row < rows.len() / k {
                    four[i] = s.load_u8_as_i32(lanes(rows, row * k + block * LANES));
                }
            }
            quads[quad] = s.pack_rows(four);
        }
        store_block::<S, PER_BYTE>(s, quads, to);
    }
    rest.fill(0);
    for (row, codes) in rows.chunks_exact(k).enumerate() {
        for (column, code) in codes[k / LANES * LANES..].iter().enumerate() {
            let (byte, shift) = place::<PER_BYTE>(row, column);
            rest[byte] |= code << shift;
        }
    }
}

#[inline(always)]
fn unpack_on<S: Simd>(s: S, panel: &[u8], k: usize, bits: CodeBits, rows: &mut [u8]) {
    with_per_byte!(bits, unpack, (S), s, panel, k, rows);
}

#[inline(always)]
fn unpack<S: Simd, const PER_BYTE: usize>(s: S, panel: &[u8], k: usize, rows: &mut [u8]) {
    let (blocks, rest) = panel.split_at(k / LANES * block_bytes::<PER_BYTE>());
    let blocks = blocks.as_chunks::<STEP_BYTES>().0;
    for (block, from) in blocks.chunks_exact(4 / PER_BYTE).enumerate() {
        let quads = load_block::<S, PER_BYTE>(s, from);
        for row in 0..PANEL_ROWS {
            if row < rows.len() / k {
                let codes = s.unpack_row(quads[row / 4], row % 4);
                s.store_u8(codes, lanes_mut(rows, row * k + block * LANES));
            }
        }
    }
    for (row, codes) in rows.chunks_exact_mut(k).enumerate() {
        for (column, code) in codes[k / LANES * LANES..].iter_mut().enumerate() {
            let (byte, shift) = place::<PER_BYTE>(row, column);
            *code = rest[byte] >> shift & largest_code::<PER_BYTE>();
        }
    }
}

/// Bytes of a block: 16 rows by 16 columns.
const fn block_bytes<const PER_BYTE: usize>() -> usize {
    PANEL_ROWS * LANES / PER_BYTE
}

/// Largest code, and the mask of one.
const fn largest_code<const PER_BYTE: usize>() -> u8 {
    u8::MAX >> (8 - 8 / PER_BYTE)
}

/// Byte and shift of the code of a row and column, counted from a step's first.
const fn place<const PER_BYTE: usize>(row: usize, column: usize) -> (usize, usize) {
    let (step, within) = (column / (4 * PER_BYTE), column % (4 * PER_BYTE));
    (
        step * STEP_BYTES + row * 4 + within % 4,
        within / 4 * (8 / PER_BYTE),
    )
}

/// Stores a block of which `quads[q]` holds rows `4q..4q + 4`, as [`Simd::pack_rows`] gives them.
#[inline(always)]
fn store_block<S: Simd, const PER_BYTE: usize>(s: S, quads: [S::B; 4], to: &mut [u8]) {
    let width = 8 / PER_BYTE;
    let columns = s.transpose_quarters(quads);
    for (i, to) in to.as_chunks_mut::<STEP_BYTES>().0.iter_mut().enumerate() {
        let mut step = s.at_most(columns[i * PER_BYTE], largest_code::<PER_BYTE>());
        for field in 1..PER_BYTE {
            let codes = s.at_most(columns[i * PER_BYTE + field], largest_code::<PER_BYTE>());
            step = s.set_field(step, codes, width, field);
        }
        s.store_bytes(step, to);
    }
}

/// Undoes [`store_block`].
#[inline(always)]
fn load_block<S: Simd, const PER_BYTE: usize>(s: S, from: &[[u8; STEP_BYTES]]) -> [S::B; 4] {
    let mut columns = [s.load_bytes(&[0; STEP_BYTES]); 4];
    for (i, from) in from.iter().enumerate() {
        let step = s.load_bytes(from);
        for field in 0..PER_BYTE {
            columns[i * PER_BYTE + field] = s.field(step, 8 / PER_BYTE, field);
        }
    }
    s.transpose_quarters(columns)
}
