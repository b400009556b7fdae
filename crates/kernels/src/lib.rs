//! SIMD primitives: dot products, matrix products, softmax, norms. Scalar code defines the truth.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
// Generic kernels must be inlined into the function that enables the instruction set.
#![allow(clippy::inline_always)]
// Indexed loops over arrays of registers unroll; iterators over them move the array through memory.
#![allow(clippy::needless_range_loop)]

mod activation;
mod attention;
mod compare;
mod error;
mod gemm_bf16;
mod gemm_plain;
mod gemm_quant;
mod isa;
mod norm;
mod onto;
mod panel16;
mod panel_rounding;
mod plain_rows;
mod plan;
mod quant_dot;
mod quant_rows;
mod rope;
mod scratch;
mod shared;
mod simd;
mod strided;
mod tile;
mod vector;

pub use activation::{gelu, gelu_tanh, silu_mul, softmax};
pub use attention::{
    Attention, AttentionShape, AttentionSpan, KeySegment, KeySource, KeyValues, KeyWindow,
    KvLayout, KvPage, PAGE_KEYS, Partials, Rows, attention,
};
pub use compare::{dot_rows, squared_distance_rows};
pub use error::KernelError;
pub use gemm_bf16::{Bf16Unit, Bf16Weights, gemm_bf16};
pub use gemm_plain::{gemm_back, gemm_plain};
pub use gemm_quant::{QuantProduct, gemm_quant, gemm_quant_all};
pub use isa::{Isa, cpu_features, isa, isa_checked};
pub use norm::{add_layer_norm, add_rms_norm, layer_norm, rms_norm};
pub use onto::Onto;
pub use panel_rounding::{
    PanelLanes, PanelLevels, PanelRounding, dequantize_panel, round_panel, row_ranges,
};
pub use panel16::{
    CodeBits, GroupScales, GroupZero, PANEL_ROWS, QuantPanels, STEP_BYTES, dequantize_row,
    pack_groups, pack_panel16, unpack_panel16,
};
pub use plain_rows::PlainRows;
pub use quant_rows::{QuantRows, Terms};
pub use rope::rope;
pub use scratch::fit;
pub use shared::SharedOut;
pub use strided::{add_outer, strided_dots, strided_sum};
pub use threads::ThreadPool;
pub use vector::{abs_max, add, axpy, bf16_to_f32, dot_f32, f16_to_f32, scale};
