//! Rotary position embedding.

use crate::isa;
use crate::simd::{LANES, Simd, dispatched};

/// Rotates the heads of one token in place, halves apart: elements `i` and `i + d/2` of each head of
/// `d = 2 · cos.len()` values, by the angle whose cosine and sine are given.
///
/// Source: `RoFormer`, arXiv:2104.09864, in the order of Hugging Face's Llama.
///
/// # Panics
/// If `cos` and `sin` differ in length or `heads.len()` is no multiple of a head.
pub fn rope(heads: &mut [f32], cos: &[f32], sin: &[f32]) {
    assert_eq!(cos.len(), sin.len(), "cos and sin are equally long");
    assert!(
        cos.is_empty() || heads.len().is_multiple_of(2 * cos.len()),
        "{} values are no heads of {}",
        heads.len(),
        2 * cos.len()
    );
    if !cos.is_empty() {
        rope_isa(isa(), heads, cos, sin);
    }
}

dispatched!(fn rope_isa(heads: &mut [f32], cos: &[f32], sin: &[f32]) = rope_on);

#[inline(always)]
fn rope_on<S: Simd>(s: S, heads: &mut [f32], cos: &[f32], sin: &[f32]) {
    for head in heads.chunks_exact_mut(2 * cos.len()) {
        let (first, second) = head.split_at_mut(cos.len());
        let angles = cos.chunks(LANES).zip(sin.chunks(LANES));
        for ((a, b), (cos, sin)) in first
            .chunks_mut(LANES)
            .zip(second.chunks_mut(LANES))
            .zip(angles)
        {
            let (x, y) = (s.load_part(a), s.load_part(b));
            let (cos, sin) = (s.load_part(cos), s.load_part(sin));
            s.store_part(s.sub(s.mul(x, cos), s.mul(y, sin)), a);
            s.store_part(s.fma(y, cos, s.mul(x, sin)), b);
        }
    }
}
