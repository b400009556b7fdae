//! What can be wrong with what a caller hands to a kernel.

use crate::{CodeBits, Isa};

/// A request the kernels cannot serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// `AIOS_ISA` holds a word that names no instruction set.
    #[error(
        "AIOS_ISA: expected scalar, avx2 or avx512, got {word:?}; unset it to choose automatically"
    )]
    UnknownIsa {
        /// The word found.
        word: String,
    },
    /// `AIOS_ISA` names an instruction set this CPU lacks.
    #[error(
        "AIOS_ISA: this CPU lacks {requested} (it has {best}); unset AIOS_ISA to choose automatically"
    )]
    IsaUnavailable {
        /// The instruction set asked for.
        requested: Isa,
        /// The widest one present.
        best: Isa,
    },
    /// A buffer's length does not follow from the matrix's shape.
    #[error(
        "quantised matrix [{n}, {k}]: expected {expected} {what}, got {got}; the tensor is damaged"
    )]
    Length {
        /// Which buffer.
        what: &'static str,
        /// Rows.
        n: usize,
        /// Columns.
        k: usize,
        /// Elements that the shape asks for.
        expected: usize,
        /// Elements found.
        got: usize,
    },
    /// A group would cut a 64-byte step in two.
    #[error(
        "group size: expected 0 or a multiple of {multiple} for {bits:?} codes, got {got}; quantise again"
    )]
    GroupSize {
        /// Columns of one step.
        multiple: usize,
        /// Width of the codes.
        bits: CodeBits,
        /// Group size found.
        got: usize,
    },
    /// A group is so long that its integer sum could overflow.
    #[error(
        "quantised matrix: expected groups of at most {limit} columns, got {got}; choose a group size"
    )]
    GroupTooLong {
        /// Most columns whose sum fits 32 bits.
        limit: usize,
        /// Columns of a group.
        got: usize,
    },
}
