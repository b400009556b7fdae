//! Four rows of four words to four columns.

/// Word `i` of row `j` becomes word `j` of row `i`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[allow(clippy::inline_always)] // Three instructions a row, in the widest form of the caller.
pub fn transpose(rows: [[u32; 4]; 4]) -> [[u32; 4]; 4] {
    use std::arch::x86_64::{
        __m128i, _mm_unpackhi_epi32, _mm_unpackhi_epi64, _mm_unpacklo_epi32, _mm_unpacklo_epi64,
    };

    // SAFETY: both are 64 plain bytes, and any bits are a value of either.
    let [a, b, c, d]: [__m128i; 4] = unsafe { std::mem::transmute(rows) };
    // SAFETY: every x86-64 has SSE2.
    let columns = unsafe {
        let (ab, cd) = (_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d));
        let (ab_high, cd_high) = (_mm_unpackhi_epi32(a, b), _mm_unpackhi_epi32(c, d));
        [
            _mm_unpacklo_epi64(ab, cd),
            _mm_unpackhi_epi64(ab, cd),
            _mm_unpacklo_epi64(ab_high, cd_high),
            _mm_unpackhi_epi64(ab_high, cd_high),
        ]
    };
    // SAFETY: as above.
    unsafe { std::mem::transmute(columns) }
}

/// Word `i` of row `j` becomes word `j` of row `i`.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
#[allow(clippy::inline_always)]
pub fn transpose(rows: [[u32; 4]; 4]) -> [[u32; 4]; 4] {
    std::array::from_fn(|i| rows.map(|row| row[i]))
}

#[cfg(test)]
mod tests {
    #[test]
    fn rows_become_columns() {
        let rows = std::array::from_fn(|i| std::array::from_fn(|j| (4 * i + j) as u32));
        let columns = std::array::from_fn(|i| std::array::from_fn(|j| (4 * j + i) as u32));
        assert_eq!(super::transpose(rows), columns);
    }
}
