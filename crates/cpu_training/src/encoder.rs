//! An encoder, forth and back: tables, then blocks with a norm behind each of their halves.

use cpu_inference::{BlockLayout, Layout, ModelConfig, NormPlace};
use kernels::Onto;

use crate::activation::Activation;
use crate::attention::{Gradients, Heads, Projected};
use crate::batch::Checked;
use crate::block::Loader;
use crate::buffers::Buffer;
use crate::embedding::Embedding;
use crate::error::{Result, TrainingError};
use crate::frozen::{Base, Tensors};
use crate::layer_norm::LayerNorm;
use crate::linear::{Context, Kept, Linear};
use crate::parameters::Parameter;

/// A network with its base.
#[derive(Debug)]
pub(crate) struct Encoder {
    words: Embedding,
    /// Of the first type, and of the positions, `[window, hidden]`, the first at `offset`.
    type_row: Vec<f32>,
    positions: Vec<f32>,
    offset: usize,
    norm: LayerNorm,
    blocks: Vec<Block>,
    activation: Activation,
    heads: Heads,
    /// The first block that the way back has to reach.
    first: usize,
}

#[derive(Debug)]
struct Block {
    qkv: [Linear; 3],
    output: Linear,
    attention_norm: LayerNorm,
    wide: Linear,
    down: Linear,
    feed_forward_norm: LayerNorm,
}

/// What the way back needs of the way forth through a block.
pub(crate) struct Saved {
    entered: Buffer,
    qkv: [Buffer; 3],
    attended: Buffer,
    /// Before each norm.
    sums: [Buffer; 2],
    /// Behind the first norm.
    between: Buffer,
    /// Before the activation.
    wide: Buffer,
    /// Of query, key, value, output, wide and down.
    kept: [Kept; 6],
}

impl Encoder {
    pub(crate) fn load(
        config: &ModelConfig,
        base: Base<'_>,
        parameters: &[Parameter],
    ) -> Result<Self> {
        let layout = Layout::of(config)?;
        let family = layout.family;
        let known = family.norm_place == NormPlace::After && !family.is_rotary && !family.is_gated;
        let (true, Some(positions), Some(norm)) =
            (known, &layout.positions, &layout.embedding_norm)
        else {
            return Err(TrainingError::Unsupported {
                feature: "family",
                got: family.name.to_owned(),
                expected: "an encoder with norms behind its layers: bert, roberta",
            });
        };
        let tensors = Tensors(base);
        let mut loader = Loader {
            config,
            tensors: &tensors,
            parameters,
            layers: 0,
        };
        let blocks = layout.blocks.iter();
        let blocks = blocks.map(|block| Block::load(&mut loader, block));
        let blocks = blocks.collect::<Result<Vec<_>>>()?;
        let table = |name: &str, shape: [usize; 2]| {
            let found = tensors.get(&format!("{name}.weight"), &shape);
            found.map(arrow_quant::Tensor::dequantize)
        };
        let words = &layout.words;
        let type_row = match &layout.types {
            Some(types) => table(&types.name, [types.rows, types.cols])?[..types.cols].to_vec(),
            None => vec![0.0; words.cols],
        };
        let encoder = Self {
            words: Embedding {
                words: tensors.matrix(&words.name, words.rows, words.cols)?,
                rows: None,
            },
            type_row,
            positions: table(&positions.name, [positions.rows, positions.cols])?,
            offset: config.position_offset,
            norm: LayerNorm::load(&tensors, norm, config.norm_eps)?,
            first: blocks
                .iter()
                .position(Block::is_trained)
                .unwrap_or(blocks.len()),
            blocks,
            activation: Activation::parse(&config.hidden_act)?,
            heads: Heads {
                queries: config.num_heads,
                keys: config.kv_heads(),
                width: config.head_width(),
            },
        };
        let known = layout.blocks.iter().flat_map(factors).collect::<Vec<_>>();
        crate::network::check_all_used(parameters, &known)?;
        tensors.check_all_used(|name| known.iter().any(|one| one == name))?;
        Ok(encoder)
    }

    pub(crate) fn width(&self) -> usize {
        self.type_row.len()
    }

    /// Final states, `[positions, hidden]`; what is needed to come back, if it is asked for.
    pub(crate) fn forward(
        &self,
        context: &mut Context<'_>,
        parameters: &[Parameter],
        batch: &Checked<'_>,
        keeps_tape: bool,
    ) -> (Buffer, Vec<Saved>) {
        let width = self.width();
        let own = context.has_factors;
        let ids = batch.batch.ids;
        let mut sums = context.spare.take(ids.len() * width);
        self.words.forward(parameters, own, ids, &mut sums);
        let places = batch.batch.positions.iter();
        for (sum, &place) in sums.chunks_exact_mut(width).zip(places) {
            let place = place as usize + self.offset;
            kernels::add(&self.positions[place * width..][..width], sum);
            kernels::add(&self.type_row, sum);
        }
        let mut stream = context.spare.take(sums.len());
        self.norm.forward(context.pool, &sums, &mut stream);
        let mut tape = Vec::new();
        for (index, block) in self.blocks.iter().enumerate() {
            let (states, saved) = self.through(block, context, parameters, batch, stream);
            stream = states;
            if keeps_tape && index >= self.first {
                tape.push(saved);
            }
        }
        (stream, tape)
    }

    fn through(
        &self,
        block: &Block,
        context: &mut Context<'_>,
        parameters: &[Parameter],
        batch: &Checked<'_>,
        entered: Buffer,
    ) -> (Buffer, Saved) {
        let (pool, rows, len) = (context.pool, batch.batch.len(), entered.len());
        let spare = context.spare.clone();
        let alone = std::slice::from_ref;
        let mut kept: [Kept; 6] = Default::default();
        let mut qkv = [0; 3].map(|_| spare.take(len));
        let mut x = context.rows(&entered, &block.qkv);
        for (at, (layer, out)) in block.qkv.iter().zip(&mut qkv).enumerate() {
            kept[at] = layer.forward(context, parameters, &mut x, out);
        }
        drop(x);
        let mut attended = spare.take(len);
        let [q, k, v] = &qkv;
        self.heads
            .forward(context, batch, Projected { q, k, v }, &mut attended);
        let mut first = spare.copy(&entered);
        let mut x = context.rows(&attended, alone(&block.output));
        kept[3] = block
            .output
            .forward_onto(context, parameters, &mut x, &mut first);
        drop(x);
        let mut between = spare.take(len);
        block.attention_norm.forward(pool, &first, &mut between);
        let mut wide = spare.take(rows * block.wide.frozen.outputs());
        let mut x = context.rows(&between, alone(&block.wide));
        kept[4] = block.wide.forward(context, parameters, &mut x, &mut wide);
        drop(x);
        let mut active = spare.take(wide.len());
        self.activation.forward(pool, rows, &wide, &mut active);
        let mut second = spare.copy(&between);
        let mut x = context.rows(&active, alone(&block.down));
        kept[5] = block
            .down
            .forward_onto(context, parameters, &mut x, &mut second);
        let mut left = spare.take(len);
        block.feed_forward_norm.forward(pool, &second, &mut left);
        let saved = Saved {
            entered,
            qkv,
            attended,
            sums: [first, second],
            between,
            wide,
            kept,
        };
        (left, saved)
    }

    /// Adds to the gradients of the parameters what those of the final states make of them.
    pub(crate) fn backward(
        &self,
        context: &mut Context<'_>,
        parameters: &mut [Parameter],
        batch: &Checked<'_>,
        tape: Vec<Saved>,
        of_states: &[f32],
    ) {
        let mut gradient = context.spare.copy(of_states);
        for (block, saved) in self.blocks[self.first..].iter().zip(tape).rev() {
            gradient = self.back_through(block, context, parameters, batch, &saved, gradient);
        }
    }

    /// The gradient of the stream before a block, from that behind it.
    fn back_through(
        &self,
        block: &Block,
        context: &mut Context<'_>,
        parameters: &mut [Parameter],
        batch: &Checked<'_>,
        saved: &Saved,
        mut gradient: Buffer,
    ) -> Buffer {
        let (pool, rows) = (context.pool, batch.batch.len());
        let spare = context.spare.clone();
        let [first, second] = &saved.sums;
        let kept = &saved.kept;
        block
            .feed_forward_norm
            .backward(pool, second, &mut gradient);
        let mut active = spare.take(saved.wide.len());
        self.activation
            .forward(pool, rows, &saved.wide, &mut active);
        let mut of_wide = spare.take(active.len());
        let ways = (&active[..], &kept[5]);
        block.down.backward(
            context,
            parameters,
            ways,
            &gradient,
            Onto::Nothing,
            &mut of_wide,
        );
        self.activation
            .backward(pool, rows, &saved.wide, &mut of_wide);
        // Beside the layers the stream goes on as it is.
        let mut of_between = gradient;
        let ways = (&saved.between[..], &kept[4]);
        block.wide.backward(
            context,
            parameters,
            ways,
            &of_wide,
            Onto::Out,
            &mut of_between,
        );
        block.attention_norm.backward(pool, first, &mut of_between);
        let mut of_attended = spare.take(saved.attended.len());
        let ways = (&saved.attended[..], &kept[3]);
        block.output.backward(
            context,
            parameters,
            ways,
            &of_between,
            Onto::Nothing,
            &mut of_attended,
        );
        let [q, k, v] = &saved.qkv;
        let mut of_qkv = [q, k, v].map(|one| spare.zeros(one.len()));
        let [dq, dk, dv] = &mut of_qkv;
        let gradients = Gradients {
            q: dq,
            k: dk,
            v: dv,
        };
        self.heads.backward(
            context,
            batch,
            Projected { q, k, v },
            &of_attended,
            gradients,
        );
        let mut of_entered = of_between;
        for (layer, (kept, dy)) in block.qkv.iter().zip(kept.iter().zip(&of_qkv)) {
            let ways = (&saved.entered[..], kept);
            layer.backward(context, parameters, ways, dy, Onto::Out, &mut of_entered);
        }
        of_entered
    }
}

impl Block {
    fn load(loader: &mut Loader<'_>, layout: &BlockLayout) -> Result<Self> {
        let unsupported = |feature, got: &str, expected| TrainingError::Unsupported {
            feature,
            got: got.to_owned(),
            expected,
        };
        let [query, key, value] = &layout.qkv[..] else {
            let got = "one layer for queries, keys and values";
            return Err(unsupported("attention", got, "a layer for each"));
        };
        let ([wide], None) = (&layout.wide[..], layout.reach) else {
            let got = "a gate, or windows of attention";
            return Err(unsupported("block", got, "neither"));
        };
        let Some(attention_norm) = &layout.attention_norm else {
            return Err(unsupported("block", "no norm behind attention", "a norm"));
        };
        let eps = loader.config.norm_eps;
        Ok(Self {
            qkv: [
                loader.linear(query)?,
                loader.linear(key)?,
                loader.linear(value)?,
            ],
            output: loader.linear(&layout.output)?,
            attention_norm: LayerNorm::load(loader.tensors, attention_norm, eps)?,
            wide: loader.linear(wide)?,
            down: loader.linear(&layout.down)?,
            feed_forward_norm: LayerNorm::load(loader.tensors, &layout.feed_forward_norm, eps)?,
        })
    }

    fn is_trained(&self) -> bool {
        let others = [&self.output, &self.wide, &self.down];
        let mut layers = self.qkv.iter().chain(others);
        layers.any(|layer| layer.factors.is_some())
    }
}

/// Names of the factors that a block can have.
fn factors(block: &BlockLayout) -> impl Iterator<Item = String> + '_ {
    let layers = block.qkv.iter().chain(&block.wide);
    let layers = layers.chain([&block.output, &block.down]);
    layers.flat_map(|layer| crate::network::trained_of(&layer.name))
}
