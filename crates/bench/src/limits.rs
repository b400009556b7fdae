//! What this machine's execution units and memory allow, to hold the kernels against.

use std::arch::x86_64::{
    _mm256_fmadd_ps, _mm256_set1_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_set1_epi32,
    _mm512_set1_ps,
};
use std::hint::black_box;

use kernels::{Isa, ThreadPool};

const STEPS: usize = 4096;
/// Independent chains: enough to hide any latency, few enough for the registers.
const CHAINS: usize = 12;

/// Operations of one call of [`multiply`] on a pool of `threads`.
pub fn operations(isa: Isa, dot: bool, threads: usize) -> usize {
    let each = match (isa, dot) {
        (Isa::Avx512, true) => 128,
        (Isa::Avx512, false) => 32,
        _ => 16,
    };
    threads * STEPS * CHAINS * each
}

/// Fused multiply-adds, or integer dot products, in registers alone.
pub fn multiply(pool: &ThreadPool, isa: Isa, dot: bool) {
    pool.run(pool.threads(), |_| {
        // SAFETY: the caller chooses among the instruction sets this CPU has.
        unsafe {
            match (isa, dot) {
                (Isa::Avx512, true) => dots_avx512(),
                (Isa::Avx512, false) => fmas_avx512(),
                _ => fmas_avx2(),
            }
        }
    });
}

/// Runs independent chains of one operation, whose operands the compiler does not know.
macro_rules! chains {
    ($splat:ident, $step:ident, $start:expr, $a:expr, $b:expr) => {{
        let mut sums = [$splat($start); CHAINS];
        let (a, b) = (black_box($splat($a)), black_box($splat($b)));
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = $step(*sum, a, b);
            }
        }
        black_box(sums);
    }};
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn dots_avx512() {
    chains!(_mm512_set1_epi32, _mm512_dpbusd_epi32, 1, 3, 5);
}

#[target_feature(enable = "avx512f")]
fn fmas_avx512() {
    chains!(_mm512_set1_ps, _mm512_fmadd_ps, 1.0, 0.5, 0.25);
}

#[target_feature(enable = "avx2,fma")]
fn fmas_avx2() {
    chains!(_mm256_set1_ps, _mm256_fmadd_ps, 1.0, 0.5, 0.25);
}

/// Sums `data` on all threads: the speed of memory where `data` exceeds the caches.
pub fn read(pool: &ThreadPool, data: &[u64]) {
    let parts: Vec<&[u64]> = data.chunks(64 * 1024).collect();
    pool.run(parts.len(), |part| {
        black_box(
            parts[part]
                .iter()
                .fold(0_u64, |sum, &x| sum.wrapping_add(x)),
        );
    });
}
