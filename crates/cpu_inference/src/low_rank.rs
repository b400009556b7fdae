//! Low-rank factors of cards, computed beside the layer that they add to.

use std::ops::Range;

use kernels::{
    FEW_ROWS, Onto, QuantPanels, QuantProduct, QuantRows, RowProduct, Terms, ThreadPool, fit,
};
use smallvec::SmallVec;

use crate::error::{InferenceError, Result};
use crate::matrix::{Matrix, Numbers};
use crate::rows::for_each_run;
use crate::sites::LayerSite;

/// Runs of rows whose products are listed without allocating: as many cards as a batch often mixes.
const RUNS: usize = 8;
/// Layers that share an input, at most: query, key and value.
const LAYERS: usize = 3;

/// `B A`, what cards add to layers that share an input, their weights and scales in it.
#[derive(Debug)]
pub(crate) struct Factors {
    /// `[ranks, inputs]`: those of the layers, one behind the other.
    a: Matrix,
    /// By layer; nothing where no card adds anything.
    layers: Vec<Option<Second>>,
}

/// What makes of `A x` what is added to a layer.
#[derive(Debug)]
struct Second {
    /// Of `A x`.
    columns: Range<usize>,
    /// `[outputs, rank]`.
    b: Matrix,
    /// By output, how many times what the layer itself gives is added to it: of cards that scale rows.
    gain: Option<Vec<f32>>,
}

/// Factors while cards are gathered: those of several stand side by side, as one of a larger rank.
#[derive(Debug)]
pub(crate) struct Gathered {
    inputs: usize,
    outputs: usize,
    /// Rows of A, those of one card behind those of another.
    a: Vec<f32>,
    /// By card: its rank and its B, `[outputs, rank]`.
    b: Vec<(usize, Vec<f32>)>,
    gain: Option<Vec<f32>>,
}

/// What a card says of one layer.
pub(crate) struct CardFactors<'a> {
    /// `[rank, inputs]`.
    pub(crate) a: &'a [f32],
    /// `[outputs, rank]`.
    pub(crate) b: Vec<f32>,
    /// `[outputs]`, of the rows of `W + scaling · B A` (`DoRA`, arXiv:2402.09353); none leaves them as they are.
    pub(crate) row_scales: Option<Vec<f32>>,
    pub(crate) scaling: f32,
    /// How much of the card is used.
    pub(crate) weight: f32,
}

/// Rows that use the same factors.
pub(crate) type Run<'a> = (Range<usize>, &'a Factors);

/// Memory in which products of factors are computed.
#[derive(Debug, Default)]
pub(crate) struct LowRankBuffers {
    /// `A x`, `[rows, rank]` of each run.
    narrow: Vec<f32>,
    /// The same as integers, runs of one rank together.
    rounded: Vec<QuantRows>,
}

impl Gathered {
    pub(crate) const fn new(inputs: usize, outputs: usize) -> Self {
        Self {
            inputs,
            outputs,
            a: Vec::new(),
            b: Vec::new(),
            gain: None,
        }
    }

    /// Adds `weight · scaling · B A`; of scaled rows `weight · (scales ⊙ (W + scaling · B A) - W)`.
    ///
    /// Only the product of a row of A and its column of B counts. Rows take the length 1, so that what they make
    /// of an input is of one size, and what rounding takes from that falls evenly.
    pub(crate) fn push(&mut self, card: CardFactors<'_>) {
        let CardFactors {
            a,
            mut b,
            row_scales,
            scaling,
            weight,
        } = card;
        let scale = scaling * weight;
        if weight == 0.0 || (scale == 0.0 && row_scales.is_none()) {
            return;
        }
        let rows = a.chunks_exact(self.inputs);
        let lengths: Vec<f64> = rows.clone().map(length).collect();
        for (row, &length) in rows.zip(&lengths) {
            // A row of zeros stays one.
            let by = 1.0 / length.max(f64::MIN_POSITIVE);
            self.a
                .extend(row.iter().map(|&n| (f64::from(n) * by) as f32));
        }
        let by: Vec<f64> = lengths.iter().map(|n| n * f64::from(scale)).collect();
        for row in b.chunks_exact_mut(by.len()) {
            for (n, by) in row.iter_mut().zip(&by) {
                *n = (f64::from(*n) * by) as f32;
            }
        }
        if let Some(scales) = row_scales {
            let outputs = self.outputs;
            let gain = self.gain.get_or_insert_with(|| vec![0.0; outputs]);
            for ((gain, scale), row) in gain
                .iter_mut()
                .zip(scales)
                .zip(b.chunks_exact_mut(by.len()))
            {
                *gain += weight * (scale - 1.0);
                for n in row {
                    *n *= scale;
                }
            }
        }
        self.b.push((by.len(), b));
    }

    /// Whether no card adds anything.
    pub(crate) const fn is_empty(&self) -> bool {
        self.b.is_empty()
    }

    /// Adds to a layer's weights, `[outputs, inputs]`, what the cards add to them.
    pub(crate) fn add_to(&self, pool: &ThreadPool, weights: &mut [f32]) {
        let Self {
            inputs, outputs, a, ..
        } = self;
        if let Some(gain) = &self.gain {
            for (row, gain) in weights.chunks_exact_mut(*inputs).zip(gain) {
                for n in row {
                    *n += gain * *n;
                }
            }
        }
        let mut a = &a[..];
        for (rank, b) in &self.b {
            let own;
            (own, a) = a.split_at(rank * inputs);
            kernels::gemm_back(pool, b, *outputs, *rank, own, *inputs, Onto::Out, weights);
        }
    }

    const fn rank(&self) -> usize {
        self.a.len() / self.inputs
    }

    /// B in numbers of its own, and the gain, behind the first `before` columns of `A x`.
    fn second(self, site: &LayerSite, before: usize) -> Result<Second> {
        let rank = self.rank();
        let Self {
            outputs,
            b: cards,
            gain,
            ..
        } = self;
        let b = match <[_; 1]>::try_from(cards) {
            Ok([(_, b)]) => b,
            Err(cards) => side_by_side(&cards, outputs),
        };
        if !all_finite(&b) || !gain.as_deref().is_none_or(all_finite) {
            return Err(InferenceError::NotFinite {
                what: "products of a card's factors",
            });
        }
        // What A makes is rounded anew, by the whole row.
        let own = match site.numbers {
            Numbers::Integers { .. } => Numbers::Integers { group_size: 0 },
            plain @ Numbers::Plain(_) => plain,
        };
        Ok(Second {
            columns: before..before + rank,
            b: Matrix::of(&format!("{}.lora_B", site.name), &b, outputs, rank, own)?,
            gain,
        })
    }
}

/// `[outputs, rank]` of several cards as one, `[outputs, sum of ranks]`.
pub(crate) fn side_by_side(cards: &[(usize, Vec<f32>)], outputs: usize) -> Vec<f32> {
    let mut b = Vec::with_capacity(cards.iter().map(|(_, card)| card.len()).sum());
    for o in 0..outputs {
        for (rank, card) in cards {
            b.extend_from_slice(&card[o * rank..][..*rank]);
        }
    }
    b
}

/// Whether all are numbers. It looks at all of them: that is several at a time, where to stop at the first is one.
pub(crate) fn all_finite(numbers: &[f32]) -> bool {
    numbers
        .iter()
        .fold(true, |all, number| all & number.is_finite())
}

/// Of a row, in double precision, by sums that do not wait for each other.
fn length(row: &[f32]) -> f64 {
    let mut sums = [0.0; 8];
    let (blocks, rest) = row.as_chunks::<8>();
    for block in blocks {
        for (sum, &n) in sums.iter_mut().zip(block) {
            *sum += f64::from(n) * f64::from(n);
        }
    }
    let rest: f64 = rest.iter().map(|&n| f64::from(n) * f64::from(n)).sum();
    (sums.iter().sum::<f64>() + rest).sqrt()
}

/// A layer of integers whose input others share.
pub(crate) struct SharedLayer<'a> {
    /// Nothing where only what cards add is wanted, onto what `out` holds.
    pub(crate) weight: Option<QuantPanels<'a>>,
    pub(crate) bias: Option<&'a [f32]>,
    /// `[rows, outputs]`.
    pub(crate) out: &'a mut [f32],
}

/// Rows that use the same factors of integers.
pub(crate) struct QuantRun<'a> {
    rows: Range<usize>,
    /// `[ranks, inputs]`.
    a: QuantPanels<'a>,
    layers: &'a [Option<Second>],
    /// Where what A makes of the rows begins.
    begin: usize,
}

/// By row.
pub(crate) type QuantRuns<'a> = SmallVec<[QuantRun<'a>; RUNS]>;

/// What runs of rows add to one of the layers.
struct Part<'a> {
    /// Which of the layers.
    layer: usize,
    rows: Range<usize>,
    columns: &'a Range<usize>,
    b: QuantPanels<'a>,
    gain: Option<&'a [f32]>,
    /// Where what A makes of the rows begins, and the numbers of a row of it.
    narrow: (usize, usize),
    /// Where it lies rounded: of which buffer, and from which row on.
    rounded: (usize, usize),
}

/// By layer, then by row.
type Parts<'a> = SmallVec<[Part<'a>; LAYERS * RUNS]>;

/// Those of the runs whose factors are integers.
pub(crate) fn quant_runs<'a>(runs: impl Iterator<Item = Run<'a>>) -> QuantRuns<'a> {
    let mut end = 0;
    runs.filter_map(|(rows, factors)| {
        let a = factors.a.panels()?;
        let begin = end;
        end += rows.len() * a.n;
        Some(QuantRun {
            rows,
            a,
            layers: &factors.layers,
            begin,
        })
    })
    .collect()
}

/// What the runs add to each of so many layers. Neighbours of one rank are rounded together.
fn parts<'a>(runs: &'a [QuantRun<'a>], layers: usize) -> Parts<'a> {
    let mut found = Parts::new();
    let mut next = (0, 0);
    for layer in 0..layers {
        for run in runs {
            let Some(Some(Second { columns, b, gain })) = run.layers.get(layer) else {
                continue;
            };
            let Some(b) = b.panels() else { continue };
            if found.last().is_some_and(|last: &Part<'_>| last.b.k != b.k) {
                next = (next.0 + 1, 0);
            }
            found.push(Part {
                layer,
                rows: run.rows.clone(),
                columns,
                b,
                gain: gain.as_deref(),
                narrow: (run.begin, run.a.n),
                rounded: next,
            });
            next.1 += run.rows.len();
        }
    }
    found
}

impl Factors {
    /// The factors for the layers at `sites`, in the numbers of those; nothing if no card adds anything.
    ///
    /// # Errors
    /// The products are beyond single precision, or integers in groups that nothing else can be rounded in.
    pub(crate) fn of(sites: &[LayerSite], layers: Vec<Gathered>) -> Result<Option<Self>> {
        let ranks: usize = layers.iter().map(Gathered::rank).sum();
        let Some(first) = sites.first().filter(|_| ranks > 0) else {
            return Ok(None);
        };
        let (mut a, mut seconds) = (Vec::with_capacity(ranks * first.inputs), Vec::new());
        for (site, layer) in sites.iter().zip(layers) {
            let before = a.len() / first.inputs;
            a.extend_from_slice(&layer.a);
            let second = (layer.rank() > 0).then(|| layer.second(site, before));
            seconds.push(second.transpose()?);
        }
        let name = format!("{}.lora_A", first.name);
        Ok(Some(Self {
            a: Matrix::of(&name, &a, ranks, first.inputs, first.numbers)?,
            layers: seconds,
        }))
    }
}

impl LowRankBuffers {
    /// Writes `x wᵀ + bias` of each layer, and adds what the `runs` add to their rows of it.
    ///
    /// Of a few rows what the first factors give is computed before, and what the second add while a row's sums
    /// are at hand. Of more rows, which share them, what the layers give and what the first factors give are
    /// computed side by side, then the second factors.
    pub(crate) fn project_quant<const N: usize>(
        &mut self,
        pool: &ThreadPool,
        x: &QuantRows,
        mut layers: [SharedLayer<'_>; N],
        runs: &[QuantRun<'_>],
    ) {
        let parts = parts(runs, N);
        let is_whole = layers.iter().all(|layer| layer.weight.is_some());
        if is_whole && !parts.is_empty() && x.rows() <= FEW_ROWS {
            self.narrow(pool, x, &mut [], runs);
            self.round(pool, &parts);
            return self.multiply_few(pool, x, layers, &parts);
        }
        self.narrow(pool, x, &mut layers, runs);
        if parts.is_empty() {
            return;
        }
        self.round(pool, &parts);
        for part in &parts {
            let SharedLayer { bias, out, .. } = &mut layers[part.layer];
            let own = part.rows.start * part.b.n..part.rows.end * part.b.n;
            amplify(pool, part.gain, *bias, &mut out[own]);
        }
        self.widen(pool, layers.map(|layer| layer.out), &parts);
    }

    /// Computes `A x` of each run, beside the products of the layers.
    fn narrow(
        &mut self,
        pool: &ThreadPool,
        x: &QuantRows,
        layers: &mut [SharedLayer<'_>],
        runs: &[QuantRun<'_>],
    ) {
        let mut products: SmallVec<[_; LAYERS + RUNS]> = SmallVec::new();
        for SharedLayer { weight, bias, out } in layers {
            if let Some(w) = *weight {
                products.push(QuantProduct::new(x, 0..x.rows(), w, (*bias).into(), out));
            }
        }
        let numbers = runs.iter().map(|run| run.rows.len() * run.a.n).sum();
        let mut narrow = fit(&mut self.narrow, numbers);
        for QuantRun { rows, a, .. } in runs {
            let own;
            (own, narrow) = std::mem::take(&mut narrow).split_at_mut(rows.len() * a.n);
            products.push(QuantProduct::new(x, rows.clone(), *a, Onto::Nothing, own));
        }
        kernels::gemm_quant_all(pool, &products);
    }

    /// Rounds what [`narrow`](Self::narrow) computed, for each layer apart.
    fn round(&mut self, pool: &ThreadPool, parts: &[Part<'_>]) {
        let Self { narrow, rounded } = self;
        let alike = || parts.chunk_by(|one, other| one.rounded.0 == other.rounded.0);
        rounded.resize_with(rounded.len().max(alike().count()), QuantRows::new);
        for (parts, rounded) in alike().zip(rounded) {
            let rows = parts.iter().map(|part| part.rows.len()).sum();
            let copy = |row: usize, values: &mut [f32]| {
                let at = parts.partition_point(|part| part.rounded.1 <= row) - 1;
                let Part {
                    columns,
                    narrow: (begin, width),
                    rounded: (_, first),
                    ..
                } = &parts[at];
                let own = begin + (row - first) * width + columns.start;
                values.copy_from_slice(&narrow[own..][..values.len()]);
            };
            rounded.quantize_with(pool, (rows, parts[0].b.k), 0, Terms::One, copy);
        }
    }

    /// The products of the layers, and beside each row what its factors add.
    fn multiply_few<const N: usize>(
        &self,
        pool: &ThreadPool,
        x: &QuantRows,
        layers: [SharedLayer<'_>; N],
        parts: &[Part<'_>],
    ) {
        let rows = x.rows();
        let mut besides = [[None; FEW_ROWS]; N];
        for part in parts {
            let (buffer, first) = part.rounded;
            for (row, own) in part.rows.clone().zip(first..) {
                let product = RowProduct::new(&self.rounded[buffer], own, part.b, part.gain);
                besides[part.layer][row] = Some(product);
            }
        }
        let mut products: SmallVec<[_; LAYERS]> = SmallVec::new();
        for (SharedLayer { weight, bias, out }, besides) in layers.into_iter().zip(&besides) {
            if let Some(w) = weight {
                let own = QuantProduct::new(x, 0..rows, w, bias.into(), out);
                products.push(own.and(&besides[..rows]));
            }
        }
        kernels::gemm_quant_all(pool, &products);
    }

    /// Adds `B` times what [`round`](Self::round) rounded to the rows of each part.
    fn widen<const N: usize>(&self, pool: &ThreadPool, outs: [&mut [f32]; N], parts: &[Part<'_>]) {
        let mut parts = parts.iter().peekable();
        let mut products: SmallVec<[_; LAYERS * RUNS]> = SmallVec::new();
        for (layer, mut left) in outs.into_iter().enumerate() {
            let mut begin = 0;
            while let Some(Part {
                rows, b, rounded, ..
            }) = parts.next_if(|part| part.layer == layer)
            {
                let (_, behind) = left.split_at_mut((rows.start - begin) * b.n);
                let own;
                (own, left) = behind.split_at_mut(rows.len() * b.n);
                begin = rows.end;
                let (buffer, first) = *rounded;
                let part = first..first + rows.len();
                let rounded = &self.rounded[buffer];
                products.push(QuantProduct::new(rounded, part, *b, Onto::Out, own));
            }
        }
        kernels::gemm_quant_all(pool, &products);
    }

    /// Adds to `out`, `[rows, outputs]`, a layer's with its bias, what the `runs` add to their rows of `x`,
    /// `[rows, inputs]`.
    pub(crate) fn add_plain<'a>(
        &mut self,
        pool: &ThreadPool,
        x: &[f32],
        runs: impl Iterator<Item = Run<'a>>,
        bias: Option<&[f32]>,
        out: &mut [f32],
    ) {
        for (rows, Factors { a, layers }) in runs {
            // Of plain numbers each layer's are apart.
            let Some(Some(Second { b, gain, .. })) = layers.first() else {
                continue;
            };
            let narrow = fit(&mut self.narrow, rows.len() * a.rows);
            let part = |width: usize| rows.start * width..rows.end * width;
            amplify(pool, gain.as_deref(), bias, &mut out[part(b.rows)]);
            a.multiply_plain(pool, &x[part(a.cols)], Onto::Nothing, narrow);
            b.multiply_plain(pool, narrow, Onto::Out, &mut out[part(b.rows)]);
        }
    }
}

/// Adds to rows of a layer, `[rows, outputs]`, so many times what they are without its bias.
fn amplify(pool: &ThreadPool, gain: Option<&[f32]>, bias: Option<&[f32]>, out: &mut [f32]) {
    let Some(gain) = gain else { return };
    for_each_run(pool, [out], gain.len(), |_, [rows]| {
        for row in rows.chunks_exact_mut(gain.len()) {
            match bias {
                Some(bias) => {
                    for ((out, gain), bias) in row.iter_mut().zip(gain).zip(bias) {
                        *out += gain * (*out - bias);
                    }
                }
                None => {
                    for (out, gain) in row.iter_mut().zip(gain) {
                        *out += gain * *out;
                    }
                }
            }
        }
    });
}
