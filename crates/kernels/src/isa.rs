//! Which instruction set the kernels run on: chosen once, at run time.

use std::cell::Cell;
use std::fmt;
use std::sync::OnceLock;
use std::thread::LocalKey;

use crate::KernelError;

/// An instruction set the kernels are written for. Results do not depend on it, only the speed does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Isa {
    /// Portable Rust: the definition of every result.
    Scalar,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, VL, DQ and VNNI.
    Avx512,
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        })
    }
}

impl Isa {
    /// Every instruction set this CPU has, narrowest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let widest = detect();
        let all = [Self::Scalar, Self::Avx2, Self::Avx512];
        all.into_iter().filter(|&isa| isa <= widest).collect()
    }

    /// Calls `f` with this instruction set in use for what the calling thread asks of the kernels, helpers
    /// of a [`ThreadPool`](crate::ThreadPool) included: to compare instruction sets within one process.
    ///
    /// # Panics
    /// If this CPU lacks it.
    pub fn scope<R>(self, f: impl FnOnce() -> R) -> R {
        assert!(self <= detect(), "this CPU lacks {self}");
        forced(&FORCED, self, f)
    }
}

thread_local! {
    static FORCED: Cell<Option<Isa>> = const { Cell::new(None) };
}

/// Calls `f` while `cell` holds `value`; then it holds what it held before, even if `f` panics.
pub(crate) fn forced<T: Copy + 'static, R>(
    cell: &'static LocalKey<Cell<Option<T>>>,
    value: T,
    f: impl FnOnce() -> R,
) -> R {
    struct Restore<T: Copy + 'static>(&'static LocalKey<Cell<Option<T>>>, Option<T>);
    impl<T: Copy> Drop for Restore<T> {
        fn drop(&mut self) {
            self.0.set(self.1);
        }
    }
    let _restore = Restore(cell, cell.replace(Some(value)));
    f()
}

/// The instruction set in use: `AIOS_ISA` when it names one this CPU has, else the widest.
#[must_use]
pub fn isa() -> Isa {
    static DEFAULT: OnceLock<Isa> = OnceLock::new();
    FORCED
        .get()
        .unwrap_or_else(|| *DEFAULT.get_or_init(|| isa_checked().unwrap_or_else(|_| detect())))
}

/// [`isa`], or why `AIOS_ISA` cannot be followed.
///
/// # Errors
/// [`KernelError::UnknownIsa`] and [`KernelError::IsaUnavailable`].
pub fn isa_checked() -> Result<Isa, KernelError> {
    static CHOSEN: OnceLock<Result<Isa, KernelError>> = OnceLock::new();
    CHOSEN
        .get_or_init(|| choose(std::env::var_os("AIOS_ISA").as_deref(), detect()))
        .clone()
}

fn choose(word: Option<&std::ffi::OsStr>, best: Isa) -> Result<Isa, KernelError> {
    let Some(word) = word.filter(|word| !word.is_empty()) else {
        return Ok(best);
    };
    let word = word.to_string_lossy();
    let requested = match word.as_ref() {
        "scalar" => Isa::Scalar,
        "avx2" => Isa::Avx2,
        "avx512" => Isa::Avx512,
        _ => {
            return Err(KernelError::UnknownIsa {
                word: word.into_owned(),
            });
        }
    };
    if requested > best {
        Err(KernelError::IsaUnavailable { requested, best })
    } else {
        Ok(requested)
    }
}

fn detect() -> Isa {
    let has = |names: &[&str]| names.iter().all(|name| feature(name));
    if !has(&["avx2", "fma", "f16c"]) {
        Isa::Scalar
    } else if has(&["avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni"]) {
        Isa::Avx512
    } else {
        Isa::Avx2
    }
}

fn feature(name: &str) -> bool {
    cpu_features()
        .iter()
        .any(|&(known, present)| known == name && present)
}

/// The features that matter to the kernels, and whether this CPU has them.
#[must_use]
pub fn cpu_features() -> Vec<(&'static str, bool)> {
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! detected {
            ($($name:tt),* $(,)?) => { vec![$(($name, std::arch::is_x86_feature_detected!($name))),*] };
        }
        let mut features = detected![
            "avx2",
            "fma",
            "f16c",
            "avxvnni",
            "avx512f",
            "avx512bw",
            "avx512vl",
            "avx512dq",
            "avx512vnni",
            "avx512bf16",
        ];
        features.extend(amx_features());
        features
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        Vec::new()
    }
}

/// The standard library's detection of AMX is not stable yet.
#[cfg(target_arch = "x86_64")]
fn amx_features() -> [(&'static str, bool); 3] {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    let edx = if __cpuid(0).eax >= 7 {
        __cpuid_count(7, 0).edx
    } else {
        0
    };
    [("amx-bf16", 22), ("amx-tile", 24), ("amx-int8", 25)]
        .map(|(name, bit)| (name, edx >> bit & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_decides_and_a_wrong_word_is_an_error() {
        let choose = |word: &str, best| choose(Some(word.as_ref()), best);
        assert_eq!(choose("", Isa::Avx2), Ok(Isa::Avx2));
        assert_eq!(choose("scalar", Isa::Avx512), Ok(Isa::Scalar));
        assert_eq!(choose("avx512", Isa::Avx512), Ok(Isa::Avx512));
        assert_eq!(
            choose("avx512", Isa::Avx2),
            Err(KernelError::IsaUnavailable {
                requested: Isa::Avx512,
                best: Isa::Avx2
            })
        );
        assert_eq!(
            choose("sse9", Isa::Avx2),
            Err(KernelError::UnknownIsa {
                word: "sse9".into()
            })
        );
    }
}
