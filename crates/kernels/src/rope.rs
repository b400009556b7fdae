//! Rotary position embedding.

/// Rotates the heads of one token in place, halves apart: elements `i` and `i + d/2` of each head of `d = 2 · cos.len()`
/// by the angle whose cosine and sine are given.
///
/// Source: `RoFormer`, arXiv:2104.09864, in the order of Hugging Face's Llama.
///
/// # Panics
/// If `cos` and `sin` differ in length or `heads.len()` is no multiple of a head.
pub fn rope(heads: &mut [f32], cos: &[f32], sin: &[f32]) {
    assert_eq!(cos.len(), sin.len());
    let half = cos.len();
    if half == 0 {
        return;
    }
    assert!(
        heads.len().is_multiple_of(2 * half),
        "heads of 2 * cos.len() values"
    );
    for head in heads.chunks_exact_mut(2 * half) {
        let (first, second) = head.split_at_mut(half);
        for i in 0..half {
            let (a, b) = (first[i], second[i]);
            first[i] = a.mul_add(cos[i], -(b * sin[i]));
            second[i] = b.mul_add(cos[i], a * sin[i]);
        }
    }
}
