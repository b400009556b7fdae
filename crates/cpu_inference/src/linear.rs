//! Linear layers and the input they share.

use kernels::{QuantRows, Terms, ThreadPool, fit};

use crate::low_rank::{LowRankBuffers, Run, SharedLayer, quant_runs};
use crate::matrix::{Matrix, Operand};
use crate::pass::Pass;
use crate::rows::for_each_run;

/// `y = x Wᵀ + b`.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    pub(crate) weight: Matrix,
    pub(crate) bias: Option<Vec<f32>>,
    /// Of those that cards know.
    pub(crate) site: usize,
    /// Of those that cards know, which may be that of others too.
    pub(crate) input: usize,
}

/// Memory of an [`Input`], reused by the next.
#[derive(Debug, Default)]
pub(crate) struct InputBuffers {
    plain: Vec<f32>,
    quantised: QuantRows,
    low_rank: LowRankBuffers,
    /// Of the integers that stand for a group.
    pub(crate) terms: Terms,
}

/// Rows that several layers multiply (query, key and value; gate and up).
///
/// The rows are computed where they are needed first: by the thread that turns them into integers, if all
/// layers have integer weights of one group size, so that as floats they never leave its cache.
pub(crate) struct Input<'a> {
    rows: usize,
    cols: usize,
    /// The pass that the rows are of, if they are.
    pass: Option<&'a Pass>,
    /// `[rows, cols]`; nothing where integers serve every layer.
    plain: &'a [f32],
    quantised: &'a mut QuantRows,
    low_rank: &'a mut LowRankBuffers,
    terms: Terms,
    /// Group size of the integers.
    group_size: Option<usize>,
}

impl<'a> Input<'a> {
    /// The input `[rows, layers[0].cols]` of `layers`. `fill(row, values)` is called once for each row, from
    /// any thread, and writes all its values.
    pub(crate) fn new<const N: usize>(
        pool: &ThreadPool,
        pass: Option<&'a Pass>,
        buffers: &'a mut InputBuffers,
        rows: usize,
        layers: [&Matrix; N],
        fill: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Self {
        let cols = layers[0].cols;
        let InputBuffers {
            plain,
            quantised,
            low_rank,
            terms,
        } = buffers;
        let group_size = common_group_size(layers);
        let plain = if let Some(group_size) = group_size {
            quantised.quantize_with(pool, (rows, cols), group_size, *terms, fill);
            &mut []
        } else {
            let plain = fit(plain, rows * cols);
            for_each_run(pool, [&mut *plain], cols, |first, [run]| {
                for (row, values) in (first..).zip(run.chunks_exact_mut(cols)) {
                    fill(row, values);
                }
            });
            plain
        };
        Self {
            rows,
            cols,
            pass,
            plain,
            quantised,
            low_rank,
            terms: *terms,
            group_size,
        }
    }

    /// The rows of `source`, `[rows, layers[0].cols]`.
    pub(crate) fn copied<const N: usize>(
        pool: &ThreadPool,
        pass: Option<&'a Pass>,
        buffers: &'a mut InputBuffers,
        source: &[f32],
        layers: [&Matrix; N],
    ) -> Self {
        let cols = layers[0].cols;
        let rows = source.len() / cols;
        Self::new(pool, pass, buffers, rows, layers, |row, values| {
            values.copy_from_slice(&source[row * cols..(row + 1) * cols]);
        })
    }

    /// As [`Input::new`], with the row of `stream`, `[rows, width]`, that belongs to each row of the input:
    /// `fill(row, stream_row, values)`.
    pub(crate) fn beside<const N: usize>(
        pool: &ThreadPool,
        pass: &'a Pass,
        buffers: &'a mut InputBuffers,
        (stream, width): (&mut [f32], usize),
        layers: [&Matrix; N],
        fill: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
    ) -> Self {
        let rows = stream.len() / width;
        let stream = kernels::SharedOut::new(stream);
        Self::new(pool, Some(pass), buffers, rows, layers, |row, values| {
            // SAFETY: each row is filled once, so no two parts overlap.
            let stream_row = unsafe { stream.part(row * width, width) };
            fill(row, stream_row, values);
        })
    }

    /// Writes `x Wᵀ + b` of each layer to its output, `[rows, weight.rows]`, and adds what the cards of the rows add.
    /// Layers of integers in groups of one size are computed side by side.
    pub(crate) fn project<const N: usize>(
        &mut self,
        pool: &ThreadPool,
        layers: [(&Linear, &mut [f32]); N],
    ) {
        if let Some(group_size) =
            common_group_size(layers.each_ref().map(|(layer, _)| &layer.weight))
        {
            return self.project_quant(pool, group_size, layers);
        }
        for (layer, out) in layers {
            if let Some(group_size) = layer.weight.group_size() {
                self.project_quant(pool, group_size, [(layer, out)]);
                continue;
            }
            let bias = layer.bias.as_deref();
            self.multiply(pool, self.weight(layer), bias, out);
            let out = &mut out[..self.rows * layer.weight.rows];
            let runs = self.runs(layer.input);
            self.low_rank.add_plain(pool, self.plain, runs, bias, out);
        }
    }

    /// The same for layers of integers in groups of that size.
    fn project_quant<const N: usize>(
        &mut self,
        pool: &ThreadPool,
        group_size: usize,
        layers: [(&Linear, &mut [f32]); N],
    ) {
        self.round(pool, group_size);
        let runs = quant_runs(self.runs(layers[0].0.input));
        let layers = layers.map(|(layer, out)| SharedLayer {
            weight: self.weight(layer).panels(),
            bias: layer.bias.as_deref(),
            out: &mut out[..self.rows * layer.weight.rows],
        });
        self.low_rank
            .project_quant(pool, self.quantised, layers, &runs);
    }

    /// The weights of a layer, or what a card that is merged puts in their place, in the same numbers.
    fn weight<'w>(&self, layer: &'w Linear) -> &'w Matrix
    where
        'a: 'w,
    {
        let merged = self.pass.and_then(Pass::merged);
        merged
            .and_then(|adapter| adapter.weight(layer.site))
            .unwrap_or(&layer.weight)
    }

    /// The rows whose cards add to layers that share this input, and what they add.
    fn runs(&self, input: usize) -> impl Iterator<Item = Run<'a>> + use<'a> {
        let pass = self.pass.filter(|pass| pass.is_adapted());
        let runs = pass.into_iter().flat_map(Pass::adapted);
        runs.filter_map(move |(rows, adapter)| Some((rows, adapter.factors(input)?)))
    }

    /// Adds to `out`, `[rows, weight.rows]`, what the `runs` add to their rows of a layer of those weights, which has
    /// no bias.
    pub(crate) fn add<'f>(
        &mut self,
        pool: &ThreadPool,
        weight: &Matrix,
        runs: impl Iterator<Item = Run<'f>>,
        out: &mut [f32],
    ) {
        let Some(group_size) = weight.group_size() else {
            return self.low_rank.add_plain(pool, self.plain, runs, None, out);
        };
        self.round(pool, group_size);
        let runs = quant_runs(runs);
        let layer = SharedLayer {
            weight: None,
            bias: None,
            out,
        };
        self.low_rank
            .project_quant(pool, self.quantised, [layer], &runs);
    }

    /// Writes `x Wᵀ + b` to `out`, `[rows, weight.rows]`.
    pub(crate) fn multiply(
        &mut self,
        pool: &ThreadPool,
        weight: &Matrix,
        bias: Option<&[f32]>,
        out: &mut [f32],
    ) {
        let out = &mut out[..self.rows * weight.rows];
        match weight.operand() {
            Operand::Plain(_) => weight.multiply_plain(pool, self.plain, bias.into(), out),
            Operand::Quant(panels) => {
                self.round(pool, panels.group_size);
                kernels::gemm_quant(pool, self.quantised, &panels, bias, out);
            }
        }
    }

    /// Turns the rows into integers of that group size, if they are not.
    fn round(&mut self, pool: &ThreadPool, group_size: usize) {
        if self.group_size == Some(group_size) {
            return;
        }
        let (plain, cols) = (self.plain, self.cols);
        let copy = |row: usize, values: &mut [f32]| {
            values.copy_from_slice(&plain[row * cols..(row + 1) * cols]);
        };
        let shape = (self.rows, cols);
        self.quantised
            .quantize_with(pool, shape, group_size, self.terms, copy);
        self.group_size = Some(group_size);
    }
}

/// The group size of the layers' weights if all are integers and have the same.
fn common_group_size<const N: usize>(layers: [&Matrix; N]) -> Option<usize> {
    let first = layers[0].group_size()?;
    let same = layers.iter().all(|layer| layer.group_size() == Some(first));
    same.then_some(first)
}
