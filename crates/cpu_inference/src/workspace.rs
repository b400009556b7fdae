//! Buffers of a forward pass, kept from call to call.

use crate::attention::Sight;
use crate::linear::InputBuffers;
use crate::pass::Pass;
use crate::rotary::Angles;

/// Scratch that grows to the largest pass seen and is then reused without allocating.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    /// Residual stream, `[rows, hidden]`.
    pub(crate) hidden: Vec<f32>,
    /// Output of a sub-layer before it joins the stream, `[rows, hidden]`.
    pub(crate) delta: Vec<f32>,
    /// `[rows, heads * head_dim]`.
    pub(crate) queries: Vec<f32>,
    /// `[rows, kv_heads * head_dim]`.
    pub(crate) keys: Vec<f32>,
    /// `[rows, kv_heads * head_dim]`.
    pub(crate) values: Vec<f32>,
    /// `[rows, heads * head_dim]`.
    pub(crate) attended: Vec<f32>,
    /// What a layer gives that is several side by side, or `[rows, intermediate]`.
    pub(crate) wide: Vec<f32>,
    /// `[rows, intermediate]`.
    pub(crate) gate: Vec<f32>,
    /// Of the positions, everywhere and in blocks that see a window.
    pub(crate) angles: [Angles; 2],
    /// The input of the current layers.
    pub(crate) input: InputBuffers,
    /// Which rows attend to which keys.
    pub(crate) sight: Sight,
    /// The wanted rows of the pass, which alone go through the end of the last block.
    pub(crate) narrow: Pass,
    /// Final states of the wanted rows, `[wanted, hidden]`.
    pub(crate) states: Vec<f32>,
}
