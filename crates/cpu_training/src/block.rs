//! A block of a decoder: attention and a gated feed-forward layer, each behind a norm and added to the stream.

use cpu_inference::{BlockLayout, ModelConfig};
use kernels::Onto;

use crate::attention::{Gradients, Heads, Projected};
use crate::batch::Checked;
use crate::buffers::{Buffer, copy_rows, for_each_row};
use crate::error::{Result, TrainingError};
use crate::feed_forward::{self, Wide};
use crate::frozen::Tensors;
use crate::linear::{Context, Kept, Linear};
use crate::norm::Norm;
use crate::parameters::Parameter;

/// One block.
#[derive(Debug)]
pub(crate) struct Block {
    attention_norm: Norm,
    qkv: [Linear; 3],
    /// Norms of each head's query and key.
    head_norms: Option<[Norm; 2]>,
    output: Linear,
    feed_forward_norm: Norm,
    wide: [Linear; 2],
    down: Linear,
    heads: Heads,
}

/// What the way back needs of the way forth; the rest is computed again.
pub(crate) struct Saved {
    /// The stream before the block, and between its halves.
    stream: [Buffer; 2],
    /// Queries and keys before their norms, where they have some.
    plain: Option<[Buffer; 2]>,
    /// Queries, keys and values as they are compared.
    qkv: [Buffer; 3],
    attended: Buffer,
    wide: Wide,
    /// Of query, key, value, output, gate, up and down.
    kept: [Kept; 7],
}

/// Cosines and sines of the positions of a batch, `[rows, width / 2]`.
pub(crate) struct Angles {
    pub(crate) cos: Vec<f32>,
    pub(crate) sin: Vec<f32>,
    /// Negated: turns back.
    pub(crate) back: Vec<f32>,
}

/// What makes the parts of a block.
pub(crate) struct Loader<'a> {
    pub(crate) config: &'a ModelConfig,
    pub(crate) tensors: &'a Tensors<'a>,
    pub(crate) parameters: &'a [Parameter],
    pub(crate) layers: usize,
}

impl Loader<'_> {
    pub(crate) fn linear(&mut self, layer: &cpu_inference::Layer) -> Result<Linear> {
        let find = |part: &str| {
            let name = format!("{}.{part}", layer.name);
            self.parameters.iter().position(|one| one.name == name)
        };
        let fault = |detail: String| TrainingError::Parameter {
            name: layer.name.clone(),
            detail,
        };
        let magnitude = find("lora_magnitude_vector");
        let factors = match (find("lora_A.weight"), find("lora_B.weight")) {
            (None, None) if magnitude.is_none() => None,
            (Some(a), Some(b)) => {
                let rank = self.parameters[a].matrix().0;
                let expected = [[rank, layer.inputs], [layer.outputs, rank]];
                let got = [&self.parameters[a].shape, &self.parameters[b].shape];
                if rank == 0
                    || got
                        .iter()
                        .zip(&expected)
                        .any(|(got, want)| got[..] != want[..])
                {
                    return Err(fault(format!(
                        "expected factors of {expected:?}, got {got:?}"
                    )));
                }
                if let Some(got) = magnitude.map(|at| &self.parameters[at].shape)
                    && got[..] != [layer.outputs]
                {
                    let expected = layer.outputs;
                    return Err(fault(format!(
                        "expected a magnitude of [{expected}], got {got:?}"
                    )));
                }
                Some(crate::linear::Factors {
                    a,
                    b,
                    magnitude,
                    rank,
                })
            }
            _ => {
                return Err(fault(
                    "expected both factors, lora_A and lora_B, and got one, or none with a magnitude"
                        .to_owned(),
                ));
            }
        };
        let frozen = self
            .tensors
            .matrix(&layer.name, layer.outputs, layer.inputs)?;
        if layer.needs_bias && frozen.bias.is_none() {
            self.tensors
                .get(&format!("{}.bias", layer.name), &[layer.outputs])?;
        }
        self.layers += 1;
        Ok(Linear {
            frozen,
            index: self.layers - 1,
            factors,
        })
    }

    pub(crate) fn norm(&self, norm: &cpu_inference::Norm) -> Result<Norm> {
        if norm.needs_bias.is_some() {
            return Err(TrainingError::Unsupported {
                feature: "norm",
                got: norm.name.clone(),
                expected: "the root mean square norms of decoders",
            });
        }
        let name = format!("{}.weight", norm.name);
        let gamma = self.tensors.get(&name, &[norm.width])?.dequantize();
        let parameter = self.parameters.iter().position(|one| one.name == name);
        if let Some(index) = parameter
            && self.parameters[index].shape != [norm.width]
        {
            let got = &self.parameters[index].shape;
            let detail = format!("expected a norm of {}, got {got:?}", norm.width);
            return Err(TrainingError::Parameter { name, detail });
        }
        Ok(Norm::new(gamma, self.config.norm_eps, parameter))
    }
}

impl Block {
    pub(crate) fn load(loader: &mut Loader<'_>, layout: &BlockLayout) -> Result<Self> {
        let unsupported = |feature, got: &str, expected| TrainingError::Unsupported {
            feature,
            got: got.to_owned(),
            expected,
        };
        let [query, key, value] = &layout.qkv[..] else {
            let got = "one layer for queries, keys and values";
            return Err(unsupported("attention", got, "a layer for each"));
        };
        let [gate, up] = &layout.wide[..] else {
            return Err(unsupported(
                "feed-forward layer",
                "no gate of its own",
                "a gate beside it",
            ));
        };
        let Some(attention_norm) = &layout.attention_norm else {
            return Err(unsupported("block", "no norm before attention", "a norm"));
        };
        if layout.reach.is_some() {
            return Err(unsupported(
                "attention",
                "windows",
                "attention to all before",
            ));
        }
        let config = loader.config;
        let head_norms = match &layout.head_norms {
            Some([query, key]) => Some([loader.norm(query)?, loader.norm(key)?]),
            None => None,
        };
        Ok(Self {
            attention_norm: loader.norm(attention_norm)?,
            qkv: [
                loader.linear(query)?,
                loader.linear(key)?,
                loader.linear(value)?,
            ],
            head_norms,
            output: loader.linear(&layout.output)?,
            feed_forward_norm: loader.norm(&layout.feed_forward_norm)?,
            wide: [loader.linear(gate)?, loader.linear(up)?],
            down: loader.linear(&layout.down)?,
            heads: Heads {
                queries: config.num_heads,
                keys: config.kv_heads(),
                width: config.head_width(),
            },
        })
    }

    /// Whether anything of it is trained.
    pub(crate) fn is_trained(&self) -> bool {
        let layers = self
            .qkv
            .iter()
            .chain(&self.wide)
            .chain([&self.output, &self.down]);
        let norms = [&self.attention_norm, &self.feed_forward_norm];
        let norms = norms.into_iter().chain(self.head_norms.iter().flatten());
        layers.into_iter().any(|layer| layer.factors.is_some())
            || norms.into_iter().any(|norm| norm.parameter.is_some())
    }

    /// Takes the stream, `[rows, hidden]`, through the block; returns what it is behind it.
    pub(crate) fn forward(
        &self,
        context: &mut Context<'_>,
        parameters: &[Parameter],
        batch: &Checked<'_>,
        angles: &Angles,
        before: Buffer,
    ) -> (Buffer, Saved) {
        let (pool, rows, own) = (context.pool, batch.batch.len(), context.has_factors);
        let spare = context.spare.clone();
        let mut entered = spare.take(before.len());
        self.attention_norm
            .forward(pool, parameters, own, &before, &mut entered);
        let widths = [
            self.heads.query_width(),
            self.heads.key_width(),
            self.heads.key_width(),
        ];
        let mut qkv = widths.map(|width| spare.take(rows * width));
        let mut kept: [Kept; 7] = Default::default();
        let mut x = context.rows(&entered, &self.qkv);
        for (at, (layer, out)) in self.qkv.iter().zip(&mut qkv).enumerate() {
            kept[at] = layer.forward(context, parameters, &mut x, out);
        }
        let plain = self.head_norms.as_ref().map(|norms| {
            let plain = [&qkv[0], &qkv[1]].map(|one| spare.copy(one));
            for (norm, (plain, out)) in norms.iter().zip(plain.iter().zip(&mut qkv)) {
                norm.forward(pool, parameters, own, plain, out);
            }
            plain
        });
        for heads in &mut qkv[..2] {
            turn(context, rows, heads, &angles.cos, &angles.sin);
        }
        let mut attended = spare.take(rows * widths[0]);
        let [q, k, v] = &qkv;
        self.heads
            .forward(context, batch, Projected { q, k, v }, &mut attended);
        let mut between = spare.take(before.len());
        copy_rows(pool, rows, &before, &mut between);
        let mut x = context.rows(&attended, std::slice::from_ref(&self.output));
        kept[3] = self
            .output
            .forward_onto(context, parameters, &mut x, &mut between);
        self.feed_forward_norm
            .forward(pool, parameters, own, &between, &mut entered);
        let mut wide =
            [&self.wide[0], &self.wide[1]].map(|one| spare.take(rows * one.frozen.outputs()));
        let mut x = context.rows(&entered, &self.wide);
        for (at, (layer, out)) in self.wide.iter().zip(&mut wide).enumerate() {
            kept[4 + at] = layer.forward(context, parameters, &mut x, out);
        }
        let mut gated = spare.take(wide[0].len());
        feed_forward::forward(pool, rows, &wide[0], &wide[1], &mut gated);
        let mut behind = spare.take(between.len());
        copy_rows(pool, rows, &between, &mut behind);
        let mut x = context.rows(&gated, std::slice::from_ref(&self.down));
        kept[6] = self
            .down
            .forward_onto(context, parameters, &mut x, &mut behind);
        let saved = Saved {
            stream: [before, between],
            plain,
            qkv,
            attended,
            wide: Wide::keep(context, rows, wide),
            kept,
        };
        (behind, saved)
    }

    /// Takes the gradient of the stream behind the block to that before it, and adds to those of the parameters.
    pub(crate) fn backward(
        &self,
        context: &mut Context<'_>,
        parameters: &mut [Parameter],
        batch: &Checked<'_>,
        angles: &Angles,
        saved: Saved,
        gradient: &mut [f32],
    ) {
        let (pool, rows) = (context.pool, batch.batch.len());
        let spare = context.spare.clone();
        let Saved {
            stream: [before, between],
            plain,
            qkv: [q, k, v],
            attended,
            wide,
            kept,
        } = saved;
        let [mut gate, mut up] = wide.read(context, rows);
        let mut gated = spare.take(gate.len());
        feed_forward::forward(pool, rows, &gate, &up, &mut gated);
        let mut of_gated = spare.take(gate.len());
        let ways = (&gated[..], &kept[6]);
        self.down.backward(
            context,
            parameters,
            ways,
            gradient,
            Onto::Nothing,
            &mut of_gated,
        );
        feed_forward::backward(pool, rows, &mut gate, &mut up, &of_gated);
        let mut entered = spare.take(gradient.len());
        self.feed_forward_norm
            .forward(pool, parameters, true, &between, &mut entered);
        let mut of_entered = spare.take(gradient.len());
        let mut onto = Onto::Nothing;
        for (layer, (kept, dy)) in self.wide.iter().zip([(&kept[4], &gate), (&kept[5], &up)]) {
            let ways = (&entered[..], kept);
            layer.backward(context, parameters, ways, dy, onto, &mut of_entered);
            onto = Onto::Out;
        }
        self.feed_forward_norm
            .backward(pool, parameters, &between, &of_entered, gradient);
        let mut of_attended = spare.take(attended.len());
        let ways = (&attended[..], &kept[3]);
        self.output.backward(
            context,
            parameters,
            ways,
            gradient,
            Onto::Nothing,
            &mut of_attended,
        );
        let mut of_qkv = [&q, &k, &v].map(|one| spare.zeros(one.len()));
        let [dq, dk, dv] = &mut of_qkv;
        let gradients = Gradients {
            q: dq,
            k: dk,
            v: dv,
        };
        let (q, k, v) = (&q[..], &k[..], &v[..]);
        self.heads.backward(
            context,
            batch,
            Projected { q, k, v },
            &of_attended,
            gradients,
        );
        for heads in &mut of_qkv[..2] {
            turn(context, rows, heads, &angles.cos, &angles.back);
        }
        if let Some((norms, plain)) = self.head_norms.as_ref().zip(plain) {
            for (norm, (plain, gradient)) in norms.iter().zip(plain.iter().zip(&mut of_qkv)) {
                let mut of_plain = spare.zeros(plain.len());
                norm.backward(pool, parameters, plain, gradient, &mut of_plain);
                *gradient = of_plain;
            }
        }
        self.attention_norm
            .forward(pool, parameters, true, &before, &mut entered);
        onto = Onto::Nothing;
        for (layer, (kept, dy)) in self.qkv.iter().zip(kept.iter().zip(&of_qkv)) {
            let ways = (&entered[..], kept);
            layer.backward(context, parameters, ways, dy, onto, &mut of_entered);
            onto = Onto::Out;
        }
        self.attention_norm
            .backward(pool, parameters, &before, &of_entered, gradient);
    }
}

/// Rotates the heads of each row.
fn turn(context: &Context<'_>, rows: usize, heads: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = cos.len() / rows;
    for_each_row(context.pool, rows, [heads], |row, [heads]| {
        let span = row * half..(row + 1) * half;
        kernels::rope(heads, &cos[span.clone()], &sin[span]);
    });
}
