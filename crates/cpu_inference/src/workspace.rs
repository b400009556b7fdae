//! Buffers of a forward pass, kept from call to call.

use kernels::AttentionSpan;

use crate::linear::InputBuffers;

/// Scratch that grows to the largest batch seen and is then reused without allocating.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    /// Residual stream, `[tokens, hidden]`.
    pub(crate) hidden: Vec<f32>,
    /// Output of a sub-layer before it joins the stream, `[tokens, hidden]`.
    pub(crate) delta: Vec<f32>,
    /// Final hidden states of a decoder, `[tokens, hidden]`.
    pub(crate) normed: Vec<f32>,
    /// `[tokens, heads * head_dim]`.
    pub(crate) queries: Vec<f32>,
    /// `[tokens, kv_heads * head_dim]`.
    pub(crate) keys: Vec<f32>,
    /// `[tokens, kv_heads * head_dim]`.
    pub(crate) values: Vec<f32>,
    /// `[tokens, heads * head_dim]`.
    pub(crate) attended: Vec<f32>,
    /// `[tokens, intermediate]`.
    pub(crate) wide: Vec<f32>,
    /// `[tokens, intermediate]`.
    pub(crate) gate: Vec<f32>,
    /// `[tokens, head_dim / 2]`.
    pub(crate) cos: Vec<f32>,
    /// `[tokens, head_dim / 2]`.
    pub(crate) sin: Vec<f32>,
    /// The input of the current layers.
    pub(crate) input: InputBuffers,
    /// Tokens of the current slice.
    pub(crate) ids: Vec<u32>,
    /// Where the slice's sequences begin and end.
    pub(crate) offsets: Vec<usize>,
    /// Which tokens attend to which.
    pub(crate) spans: Vec<AttentionSpan>,
}

/// The first `len` numbers of `buffer`, which grows when it must and never shrinks.
pub(crate) fn fit(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}
