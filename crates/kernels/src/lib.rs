//! SIMD primitives: dot products, matrix products, softmax, norms. Scalar code defines the truth.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
// Generic kernels must be inlined into the function that enables the instruction set.
#![allow(clippy::inline_always)]
// Indexed loops over arrays of registers unroll; iterators over them move the array through memory.
#![allow(clippy::needless_range_loop)]

mod activation;
mod attention;
mod compare;
mod cross_entropy;
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
mod row_product;
mod scratch;
mod shared;
mod simd;
mod strided;
mod tile;
mod transpose;
mod vector;

pub use activation::{gelu, gelu_tanh, silu_mul, silu_mul_back, softmax, softmax_back};
pub use attention::{
    Attention, AttentionShape, AttentionSpan, KeySegment, KeySource, KeyValues, KeyWindow,
    KvLayout, KvPage, PAGE_KEYS, Partials, Rows, attention,
};
pub use compare::{dot_rows, squared_distance_rows};
pub use cross_entropy::{divergence, largest, scaled_exp, sum_exp};
pub use error::KernelError;
pub use gemm_bf16::{Bf16Rows, Bf16Unit, Bf16Weights, gemm_bf16, gemm_bf16_rows};
pub use gemm_plain::{gemm_back, gemm_plain};
pub use gemm_quant::{FEW_ROWS, QuantProduct, gemm_quant, gemm_quant_all};
pub use isa::{Isa, cpu_features, isa, isa_checked};
pub use norm::{add_layer_norm, add_rms_norm, layer_norm, rms_norm, rms_norm_back};
pub use onto::Onto;
pub use panel_rounding::{
    PanelLanes, PanelLevels, PanelRounding, dequantize_panel, panel_ranges, round_panel,
};
pub use panel16::{
    CodeBits, GroupScales, GroupZero, PANEL_ROWS, QuantPanels, STEP_BYTES, dequantize_row,
    pack_groups, pack_panel16, unpack_panel16,
};
pub use plain_rows::PlainRows;
pub use quant_rows::{QuantRows, Terms};
pub use rope::rope;
pub use row_product::RowProduct;
pub use scratch::fit;
pub use shared::SharedOut;
pub use strided::{add_outer, strided_dots, strided_sum};
pub use threads::ThreadPool;
pub use transpose::transpose;
pub use vector::{abs_max, add, axpy, bf16_to_f32, dot_f32, f16_to_f32, scale};
