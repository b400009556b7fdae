//! Which unit of the CPU multiplies brain floats: chosen once, at run time.

use std::cell::Cell;
use std::fmt;
use std::sync::OnceLock;

use crate::isa::forced;
use crate::{Isa, isa};

/// A unit that [`gemm_bf16`](crate::gemm_bf16) is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Bf16Unit {
    /// Fused multiply-adds of single precision on rounded operands, on any CPU.
    Portable,
    /// Dot products of pairs: AVX-512 BF16.
    Pairs,
    /// Products of tiles of sixteen rows: AMX, beside AVX-512 BF16.
    Tiles,
}

impl fmt::Display for Bf16Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            Self::Pairs => "avx512bf16",
            Self::Tiles => "amx",
        })
    }
}

impl Bf16Unit {
    /// Every unit that this CPU has and the system lets us use, slowest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let fastest = detect();
        let all = [Self::Portable, Self::Pairs, Self::Tiles];
        all.into_iter().filter(|&unit| unit <= fastest).collect()
    }

    /// The unit in use: the fastest, or what is portable where [`isa`] is less than AVX-512.
    #[must_use]
    pub fn in_use() -> Self {
        FORCED.get().unwrap_or_else(|| {
            if isa() == Isa::Avx512 {
                detect()
            } else {
                Self::Portable
            }
        })
    }

    /// Calls `f` with this unit in use for what the calling thread asks of the kernels, as
    /// [`Isa::scope`] does: to compare units within one process.
    ///
    /// # Panics
    /// If this CPU lacks it.
    pub fn scope<R>(self, f: impl FnOnce() -> R) -> R {
        assert!(self <= detect(), "this CPU lacks {self}");
        forced(&FORCED, self, f)
    }
}

thread_local! {
    static FORCED: Cell<Option<Bf16Unit>> = const { Cell::new(None) };
}

fn detect() -> Bf16Unit {
    static FASTEST: OnceLock<Bf16Unit> = OnceLock::new();
    *FASTEST.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            let features = crate::cpu_features();
            let has = |name| features.contains(&(name, true));
            // The vector code around either unit is that of AVX-512.
            if Isa::available().contains(&Isa::Avx512) && has("avx512bf16") {
                let tiles = has("amx-bf16") && has("amx-tile") && super::amx::is_permitted();
                return if tiles {
                    Bf16Unit::Tiles
                } else {
                    Bf16Unit::Pairs
                };
            }
        }
        Bf16Unit::Portable
    })
}
