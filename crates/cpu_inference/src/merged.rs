//! A card merged into copies of the layers that it adds to.

use kernels::ThreadPool;

use crate::card::Indexed;
use crate::error::{InferenceError, Result};
use crate::low_rank::{Gathered, all_finite};
use crate::matrix::Matrix;
use crate::sites::LayerSite;

/// Whether passes that use cards alone save more time by a merged copy than the copy adds to the memory.
///
/// A row multiplies every number of a layer and of the factors beside it once, so both are counted in numbers. Of
/// `layers + factors` a copy saves `factors` in time, and of as many in memory it adds `layers - factors`, for it
/// stands in the place of the factors.
pub(crate) fn pays(sites: &[LayerSite], cards: &[Indexed<'_>]) -> bool {
    let (mut layers, mut factors) = (0, 0);
    for site in sites {
        let name = format!("{}.lora_A.weight", site.name);
        let all = cards
            .iter()
            .filter_map(|card| card.get(&name)?.shape.first());
        let rank = all.copied().fold(0, usize::saturating_add);
        if rank > 0 {
            layers += site.inputs * site.outputs;
            factors += rank.saturating_mul(site.inputs + site.outputs);
        }
    }
    layers > 0 && factors >= layers.saturating_sub(factors)
}

impl LayerSite {
    /// The layer's weights with what cards add to them, in the numbers of the layer (integers of eight bits where it
    /// has fewer); nothing if they add nothing.
    ///
    /// # Errors
    /// The sums are beyond single precision, or beyond what scales of half precision hold.
    pub(crate) fn merged(&self, cards: &Gathered) -> Result<Option<Matrix>> {
        if cards.is_empty() {
            return Ok(None);
        }
        let weight = &self.weight;
        let mut sums = vec![0.0; weight.rows * weight.cols];
        for (index, row) in sums.chunks_exact_mut(weight.cols).enumerate() {
            weight.row(index, row);
        }
        // Layers are merged side by side, each by one thread.
        cards.add_to(&ThreadPool::new(1), &mut sums);
        if !all_finite(&sums) {
            return Err(InferenceError::NotFinite {
                what: "weights with a card merged into them",
            });
        }
        let numbers = weight.numbers();
        Matrix::of(&self.name, &sums, weight.rows, weight.cols, numbers).map(Some)
    }
}
