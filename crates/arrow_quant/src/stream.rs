//! Stores that bypass the cache.

/// Copies `from` over `to`, which the caller will not read soon.
///
/// An ordinary store first reads the line it changes; a streaming one writes it whole, which halves
/// the traffic of a large output. Memory that was never touched gains nothing: mapping it
/// brings it into the cache.
///
/// # Panics
/// If the lengths differ.
pub fn copy(from: &[f32], to: &mut [f32]) {
    assert_eq!(from.len(), to.len(), "slices must have one length");
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx") {
        // SAFETY: the CPU has the feature the function is compiled for.
        return unsafe { copy_avx(from, to) };
    }
    to.copy_from_slice(from);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
fn copy_avx(from: &[f32], to: &mut [f32]) {
    use std::arch::x86_64::{__m256, _mm_sfence, _mm256_loadu_ps, _mm256_stream_ps};

    // SAFETY: eight floats are one register, and every bit pattern is one.
    let (head, registers, tail) = unsafe { to.align_to_mut::<__m256>() };
    let (from_head, from) = from.split_at(head.len());
    let (from, from_tail) = from.split_at(registers.len() * 8);
    head.copy_from_slice(from_head);
    for (register, from) in registers.iter_mut().zip(from.as_chunks::<8>().0) {
        // SAFETY: `from` is eight floats; `register` is writable and aligned by its type.
        unsafe {
            _mm256_stream_ps(
                std::ptr::from_mut(register).cast(),
                _mm256_loadu_ps(from.as_ptr()),
            );
        }
    }
    tail.copy_from_slice(from_tail);
    // Streaming stores are not ordered with those that tell another thread of them.
    _mm_sfence();
}
