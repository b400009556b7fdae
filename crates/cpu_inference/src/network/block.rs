//! The block of a network: attention and a feed-forward layer.

use kernels::{ThreadPool, fit};

use super::entry::Entry;
use crate::activation::Activation;
use crate::attention::{Heads, LayerKeys};
use crate::config::ModelConfig;
use crate::error::{InferenceError, Result};
use crate::family::Family;
use crate::kv_cache::KvCache;
use crate::layout::BlockLayout;
use crate::linear::{Input, Linear};
use crate::norm::RmsNorm;
use crate::pass::Pass;
use crate::rotary::Angles;
use crate::rows::for_each_run;
use crate::tensors::Tensors;
use crate::workspace::Workspace;

/// One block.
#[derive(Debug)]
pub(super) struct Block {
    qkv: Qkv,
    /// Norms of each head's query and key.
    head_norms: Option<(RmsNorm, RmsNorm)>,
    is_rotary: bool,
    output: Linear,
    wide: Wide,
    activation: Activation,
    down: Linear,
    heads: Heads,
    /// Tokens see a window alone.
    is_windowed: bool,
}

/// The layers of query, key and value.
#[derive(Debug)]
enum Qkv {
    Apart(Box<[Linear; 3]>),
    /// All three side by side.
    Fused(Linear),
}

/// The layers that widen.
#[derive(Debug)]
enum Wide {
    Plain(Linear),
    /// Gate and up.
    Gated(Box<[Linear; 2]>),
    /// Gate and up side by side.
    FusedGate(Linear),
}

impl Block {
    pub(super) fn load(
        config: &ModelConfig,
        family: &Family,
        layout: &BlockLayout,
        tensors: &Tensors,
    ) -> Result<Self> {
        let norm = |norm| RmsNorm::load(tensors, norm, config.norm_eps);
        let head_norms = match &layout.head_norms {
            Some([query, key]) => Some((norm(query)?, norm(key)?)),
            None => None,
        };
        Ok(Self {
            qkv: match <[Linear; 3]>::try_from(tensors.linears(&layout.qkv)?) {
                Ok(apart) => Qkv::Apart(Box::new(apart)),
                Err(mut fused) => Qkv::Fused(fused.swap_remove(0)),
            },
            head_norms,
            is_rotary: family.is_rotary,
            output: tensors.linear(&layout.output)?,
            wide: match <[Linear; 2]>::try_from(tensors.linears(&layout.wide)?) {
                Ok(apart) => Wide::Gated(Box::new(apart)),
                Err(mut one) if family.is_gated => Wide::FusedGate(one.swap_remove(0)),
                Err(mut one) => Wide::Plain(one.swap_remove(0)),
            },
            activation: activation(config, family)?,
            down: tensors.linear(&layout.down)?,
            heads: Heads::of(config),
            is_windowed: layout.reach.is_some(),
        })
    }

    /// Lets the stream in and computes queries, keys and values; caches take those that they are to hold.
    pub(super) fn read(
        &self,
        pool: &ThreadPool,
        workspace: &mut Workspace,
        layer: usize,
        entry: &Entry,
        pass: &Pass,
        caches: &mut [KvCache],
    ) {
        self.project(pool, workspace, entry, pass);
        let tokens = pass.rows();
        let (query_width, kv_width) = (self.heads.query_width(), self.heads.kv_width());
        let Workspace {
            queries,
            keys,
            values,
            attended,
            angles: [angles, of_windows],
            ..
        } = workspace;
        let spare = fit(attended, tokens * query_width);
        let queries = fit(queries, tokens * query_width);
        let (keys, values) = (fit(keys, tokens * kv_width), fit(values, tokens * kv_width));
        if self.is_rotary {
            let has_own = self.is_windowed && !of_windows.cos.is_empty();
            let angles = if has_own { of_windows } else { angles };
            let norms = self.head_norms.as_ref();
            let norms = norms.map_or((None, None), |(query, key)| (Some(query), Some(key)));
            turn(pool, pass, (queries, query_width), norms.0, angles, spare);
            turn(pool, pass, (keys, kv_width), norms.1, angles, spare);
        }
        for (cache, rows, _) in pass.appends() {
            let rows = rows.start * kv_width..rows.end * kv_width;
            caches[cache].write(pool, layer, &keys[rows.clone()], &values[rows]);
        }
    }

    /// Leaves of the stream and the queries the wanted rows of `pass`, one behind the other.
    pub(super) fn narrow(&self, workspace: &mut Workspace, pass: &Pass) {
        let buffers = [
            (&mut workspace.hidden, self.output.weight.rows),
            (&mut workspace.queries, self.heads.query_width()),
        ];
        for (rows, width) in buffers {
            for (to, &from) in pass.wanted().iter().enumerate() {
                rows.copy_within(from * width..(from + 1) * width, to * width);
            }
        }
        workspace.sight.narrow(pass);
    }

    /// Writes what the attention gives to `workspace.delta`.
    pub(super) fn attend(
        &self,
        pool: &ThreadPool,
        workspace: &mut Workspace,
        layer: usize,
        pass: &Pass,
        caches: &[KvCache],
    ) {
        let tokens = pass.rows();
        let heads = self.heads;
        let Workspace {
            delta,
            queries,
            keys,
            values,
            attended,
            input: buffers,
            sight,
            ..
        } = workspace;
        let attended = fit(attended, tokens * heads.query_width());
        let queries = fit(queries, tokens * heads.query_width());
        let keys = LayerKeys {
            heads,
            layer,
            keys,
            values,
            caches,
        };
        sight.attend(pool, heads, self.is_windowed, queries, &keys, attended);
        let delta = fit(delta, tokens * self.output.weight.rows);
        Input::copied(pool, Some(pass), buffers, attended, [&self.output.weight])
            .project(pool, [(&self.output, delta)]);
    }

    /// Fills queries, keys and values.
    fn project(&self, pool: &ThreadPool, workspace: &mut Workspace, entry: &Entry, pass: &Pass) {
        let tokens = pass.rows();
        let (heads, width) = (self.heads, self.output.weight.rows);
        let Workspace {
            hidden,
            delta,
            queries,
            keys,
            values,
            wide,
            input: buffers,
            ..
        } = workspace;
        let delta = fit(delta, tokens * width);
        let stream = (fit(hidden, tokens * width), width);
        let fill = |row: usize, stream: &mut [f32], out: &mut [f32]| {
            let delta = &delta[row * width..(row + 1) * width];
            entry.enter(pass.adapter(row), delta, stream, out);
        };
        let queries = fit(queries, tokens * heads.query_width());
        let keys = fit(keys, tokens * heads.kv_width());
        let values = fit(values, tokens * heads.kv_width());
        match &self.qkv {
            Qkv::Apart(layers) => {
                let [query, key, value] = &**layers;
                let weights = [&query.weight, &key.weight, &value.weight];
                Input::beside(pool, pass, buffers, stream, weights, fill)
                    .project(pool, [(query, queries), (key, keys), (value, values)]);
            }
            Qkv::Fused(layer) => {
                let all = fit(wide, tokens * layer.weight.rows);
                let weights = [&layer.weight];
                Input::beside(pool, pass, buffers, stream, weights, fill)
                    .project(pool, [(layer, &mut *all)]);
                let (query_width, kv_width) = (heads.query_width(), heads.kv_width());
                let all = (&*all, layer.weight.rows);
                copy_columns(pool, all, 0, queries, query_width);
                copy_columns(pool, all, query_width, keys, kv_width);
                copy_columns(pool, all, query_width + kv_width, values, kv_width);
            }
        }
    }

    /// Lets the stream in and writes what the feed-forward layer gives to `workspace.delta`.
    pub(super) fn feed_forward(
        &self,
        pool: &ThreadPool,
        workspace: &mut Workspace,
        entry: &Entry,
        pass: &Pass,
    ) {
        let tokens = pass.rows();
        let (hidden_width, width) = (self.down.weight.rows, self.down.weight.cols);
        let Workspace {
            hidden,
            delta,
            wide,
            gate,
            input: buffers,
            ..
        } = workspace;
        let delta = fit(delta, tokens * hidden_width);
        let stream = (fit(hidden, tokens * hidden_width), hidden_width);
        let enter = |row: usize, stream: &mut [f32], out: &mut [f32]| {
            let delta = &delta[row * hidden_width..(row + 1) * hidden_width];
            entry.enter(pass.adapter(row), delta, stream, out);
        };
        let (activation, down) = (self.activation, &self.down);
        let down_of = |buffers, fill: &(dyn Fn(usize, &mut [f32]) + Sync), delta: &mut [f32]| {
            Input::new(pool, Some(pass), buffers, tokens, [&down.weight], fill)
                .project(pool, [(down, delta)]);
        };
        match &self.wide {
            Wide::Plain(layer) => {
                let wide = fit(wide, tokens * width);
                Input::beside(pool, pass, buffers, stream, [&layer.weight], enter)
                    .project(pool, [(layer, &mut *wide)]);
                let fill = |row: usize, out: &mut [f32]| {
                    out.copy_from_slice(&wide[row * width..(row + 1) * width]);
                    activation.apply(out);
                };
                down_of(buffers, &fill, delta);
            }
            Wide::Gated(layers) => {
                let [gating, up] = &**layers;
                let (gate, wide) = (fit(gate, tokens * width), fit(wide, tokens * width));
                let weights = [&gating.weight, &up.weight];
                Input::beside(pool, pass, buffers, stream, weights, enter)
                    .project(pool, [(gating, &mut *gate), (up, &mut *wide)]);
                let fill = |row: usize, out: &mut [f32]| {
                    let span = row * width..(row + 1) * width;
                    activation.gate(&gate[span.clone()], &wide[span], out);
                };
                down_of(buffers, &fill, delta);
            }
            Wide::FusedGate(layer) => {
                let wide = fit(wide, tokens * 2 * width);
                Input::beside(pool, pass, buffers, stream, [&layer.weight], enter)
                    .project(pool, [(layer, &mut *wide)]);
                let fill = |row: usize, out: &mut [f32]| {
                    let both = &wide[2 * row * width..2 * (row + 1) * width];
                    let (gate, up) = both.split_at(width);
                    activation.gate(gate, up, out);
                };
                down_of(buffers, &fill, delta);
            }
        }
    }
}

/// That of the configuration, if the family has it.
fn activation(config: &ModelConfig, family: &Family) -> Result<Activation> {
    let (_, _, known) = family.config.activation;
    let found = Activation::parse(&config.hidden_act)?;
    if known
        .iter()
        .any(|name| Activation::parse(name) == Ok(found))
    {
        return Ok(found);
    }
    Err(InferenceError::ConfigValue {
        field: "hidden_act",
        expected: known.join(", "),
        got: config.hidden_act.clone(),
    })
}

/// Copies the columns from `first` of each row of `all`, of that many numbers, to the rows of `out`.
fn copy_columns(
    pool: &ThreadPool,
    (all, stride): (&[f32], usize),
    first: usize,
    out: &mut [f32],
    width: usize,
) {
    for_each_run(pool, [out], width, |start, [rows]| {
        for (row, out) in (start..).zip(rows.chunks_exact_mut(width)) {
            out.copy_from_slice(&all[row * stride + first..][..width]);
        }
    });
}

/// Normalises the heads of each row of `x`, `[tokens, width]`, where there is a norm, and rotates them by
/// `angles`. `spare` is as long as `x` or longer.
fn turn(
    pool: &ThreadPool,
    pass: &Pass,
    (x, width): (&mut [f32], usize),
    norm: Option<&RmsNorm>,
    Angles { cos, sin }: &Angles,
    spare: &mut [f32],
) {
    let half = cos.len() / (x.len() / width);
    for_each_run(pool, [x, spare], width, |first, [rows, spare]| {
        for (token, row) in (first..).zip(rows.chunks_exact_mut(width)) {
            if let Some(norm) = norm {
                row.chunks_exact_mut(2 * half).for_each(|head| {
                    norm.apply_in_place(pass.adapter(token), head, &mut spare[..2 * half]);
                });
            }
            let span = token * half..(token + 1) * half;
            kernels::rope(row, &cos[span.clone()], &sin[span]);
        }
    });
}
