//! How the stream enters a layer: what the layer before gave joins it, and a norm is applied.

use crate::adapter::Adapter;
use crate::config::ModelConfig;
use crate::error::Result;
use crate::family::NormPlace;
use crate::layout::Layout;
use crate::norm::Norm;
use crate::tensors::Tensors;

/// The way from one layer's result to the next layer's input.
#[derive(Debug)]
pub(super) struct Entry {
    norm: Option<Norm>,
    /// `None`: no layer came before.
    place: Option<NormPlace>,
}

impl Entry {
    /// The entries of all layers in order, attention and feed-forward layer of each block, and behind them the
    /// one to the final states.
    pub(super) fn load_all(
        config: &ModelConfig,
        layout: &Layout,
        tensors: &Tensors,
    ) -> Result<Vec<Self>> {
        let mut norms = Vec::with_capacity(2 * layout.blocks.len() + 1);
        for block in &layout.blocks {
            norms.push(block.attention_norm.as_ref());
            norms.push(Some(&block.feed_forward_norm));
        }
        let place = layout.family.norm_place;
        match place {
            NormPlace::Before => norms.push(layout.final_norm.as_ref()),
            // A norm behind a layer is one before the next.
            NormPlace::After => norms.insert(0, None),
        }
        let load = |(index, norm): (usize, Option<_>)| {
            let norm = norm.map(|norm| Norm::load(tensors, norm, config.norm_eps));
            Ok(Self {
                norm: norm.transpose()?,
                place: (index > 0).then_some(place),
            })
        };
        norms.into_iter().enumerate().map(load).collect()
    }

    /// Joins `delta` to `stream` and writes the input of the next layer to `out`.
    #[inline]
    pub(super) fn enter(
        &self,
        adapter: Option<&Adapter>,
        delta: &[f32],
        stream: &mut [f32],
        out: &mut [f32],
    ) {
        match (&self.norm, self.place) {
            (None, None) => out.copy_from_slice(stream),
            (Some(norm), None) => norm.apply(adapter, stream, out),
            (None, Some(_)) => {
                kernels::add(delta, stream);
                out.copy_from_slice(stream);
            }
            (Some(norm), Some(place)) => {
                norm.join(adapter, delta, stream, out);
                if place == NormPlace::After {
                    stream.copy_from_slice(out);
                }
            }
        }
    }
}
