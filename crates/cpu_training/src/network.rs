//! A decoder, forth and back.

use cpu_inference::{Layout, ModelConfig, Rotary};

use crate::batch::Checked;
use crate::block::{Angles, Block, Loader, Saved};
use crate::buffers::Buffer;
use crate::embedding::{Embedding, Rows};
use crate::error::{Result, TrainingError};
use crate::frozen::{Base, Frozen, Tensors};
use crate::linear::Context;
use crate::norm::Norm;
use crate::parameters::Parameter;
use crate::side_block::{self, SideBlock};

/// A network with its base.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) embedding: Embedding,
    blocks: Vec<Block>,
    /// Behind each block.
    sides: Vec<Option<SideBlock>>,
    last: Norm,
    /// `None` where the table of the tokens is the head.
    head: Option<Frozen>,
    rotary: Rotary,
    /// The first block that the way back has to reach.
    first: usize,
}

/// What the way back needs of the way forth.
pub(crate) struct Tape {
    angles: Angles,
    blocks: Vec<(Saved, Option<side_block::Saved>)>,
    /// Before the last norm.
    stream: Buffer,
}

impl Network {
    pub(crate) fn load(
        config: &ModelConfig,
        base: Base<'_>,
        parameters: &[Parameter],
        row_ids: Vec<u32>,
    ) -> Result<Self> {
        let layout = Layout::of(config)?;
        let family = layout.family;
        let unsupported = |feature, got: &str, expected| TrainingError::Unsupported {
            feature,
            got: got.to_owned(),
            expected,
        };
        if !(family.is_decoder && family.is_rotary && family.is_gated) {
            return Err(unsupported(
                "family",
                family.name,
                "a decoder with a gate: llama, qwen2, qwen3",
            ));
        }
        if !["silu", "swish"].contains(&config.hidden_act.as_str()) {
            return Err(unsupported("hidden_act", &config.hidden_act, "silu"));
        }
        let tensors = Tensors(base);
        let mut loader = Loader {
            config,
            tensors: &tensors,
            parameters,
            layers: 0,
        };
        let words = tensors.matrix(&layout.words.name, layout.words.rows, layout.words.cols)?;
        let blocks = layout
            .blocks
            .iter()
            .map(|block| Block::load(&mut loader, block));
        let blocks = blocks.collect::<Result<Vec<_>>>()?;
        let sides = layout.blocks.iter().map(|block| {
            let (hidden, eps) = (config.hidden_size, config.norm_eps);
            SideBlock::find(parameters, &block.name, hidden, eps)
        });
        let sides = sides.collect::<Result<Vec<_>>>()?;
        let Some(last) = &layout.final_norm else {
            return Err(unsupported("network", "no norm behind its blocks", "one"));
        };
        let last = loader.norm(last)?;
        let head = match &layout.head {
            // A configuration may leave open whether it is tied.
            Some(head) if tensors.find(&format!("{}.weight", head.name)).is_some() => {
                Some(tensors.matrix(&head.name, head.rows, head.cols)?)
            }
            _ => None,
        };
        let name = format!("{}.rows", layout.words.name);
        let parameter = parameters.iter().position(|one| one.name == name);
        let rows = match parameter {
            None => None,
            Some(parameter) => {
                let (got, width) = (&parameters[parameter].shape, layout.words.cols);
                let fault = |detail| TrainingError::Parameter {
                    name: name.clone(),
                    detail,
                };
                if *got != [row_ids.len(), width] {
                    let expected = [row_ids.len(), width];
                    return Err(fault(format!("expected rows of {expected:?}, got {got:?}")));
                }
                if let Some(id) = row_ids.iter().find(|&&id| id as usize >= layout.words.rows) {
                    return Err(fault(format!(
                        "row {id} of a table of {}",
                        layout.words.rows
                    )));
                }
                Some(Rows {
                    ids: row_ids,
                    parameter,
                })
            }
        };
        let has_rows = rows.is_some();
        let mut pairs = blocks.iter().zip(&sides);
        let first = pairs.position(|(block, side)| block.is_trained() || side.is_some());
        let network = Self {
            embedding: Embedding { words, rows },
            first: if has_rows {
                0
            } else {
                first.unwrap_or(blocks.len())
            },
            blocks,
            sides,
            last,
            head,
            rotary: Rotary::from_config(config)?,
        };
        let mut known = names(&layout);
        tensors.check_all_used(|name| known.iter().any(|one| one == name))?;
        for block in &layout.blocks {
            known.extend(side_block::PARTS.map(|part| format!("{}{part}", block.name)));
        }
        check_all_used(parameters, &known)?;
        Ok(network)
    }

    /// The head, and the trained rows of it, where it is the table.
    pub(crate) fn head(&self) -> (&Frozen, Option<&Rows>) {
        match &self.head {
            Some(head) => (head, None),
            None => (&self.embedding.words, self.embedding.rows.as_ref()),
        }
    }

    /// Final states, `[positions, hidden]`; the tape holds what is needed to come back, if it is asked for.
    pub(crate) fn forward(
        &self,
        context: &mut Context<'_>,
        parameters: &[Parameter],
        batch: &Checked<'_>,
        keeps_tape: bool,
    ) -> (Buffer, Tape) {
        let mut angles = cpu_inference::Angles::default();
        self.rotary.angles(batch.batch.positions, &mut angles);
        let angles = Angles {
            back: angles.sin.iter().map(|sin| -sin).collect(),
            cos: angles.cos,
            sin: angles.sin,
        };
        let own = context.has_factors;
        let ids = batch.batch.ids;
        let mut stream = context
            .spare
            .take(ids.len() * self.embedding.words.inputs());
        self.embedding.forward(parameters, own, ids, &mut stream);
        let mut saved = Vec::new();
        for (index, block) in self.blocks.iter().enumerate() {
            let of_block;
            (stream, of_block) = block.forward(context, parameters, batch, &angles, stream);
            let side = self.sides[index].as_ref().filter(|_| own);
            let of_side = side.map(|side| side.forward(context, parameters, &mut stream));
            if keeps_tape && index >= self.first {
                saved.push((of_block, of_side));
            }
        }
        let mut states = context.spare.take(stream.len());
        self.last
            .forward(context.pool, parameters, own, &stream, &mut states);
        let tape = Tape {
            angles,
            blocks: saved,
            stream,
        };
        (states, tape)
    }

    /// Adds to the gradients of the parameters what those of the final states make of them.
    pub(crate) fn backward(
        &self,
        context: &mut Context<'_>,
        parameters: &mut [Parameter],
        batch: &Checked<'_>,
        tape: Tape,
        of_states: &[f32],
    ) {
        let mut gradient = context.spare.zeros(of_states.len());
        self.last.backward(
            context.pool,
            parameters,
            &tape.stream,
            of_states,
            &mut gradient,
        );
        let blocks = self.blocks.iter().zip(&self.sides).skip(self.first);
        let blocks = blocks.zip(tape.blocks).collect::<Vec<_>>();
        for ((block, side), (saved, of_side)) in blocks.into_iter().rev() {
            if let (Some(side), Some(saved)) = (side, &of_side) {
                side.backward(context, parameters, saved, &mut gradient);
            }
            block.backward(
                context,
                parameters,
                batch,
                &tape.angles,
                saved,
                &mut gradient,
            );
        }
        self.embedding
            .backward(parameters, batch.batch.ids, &gradient);
    }
}

/// Refuses parameters that nothing of the network uses.
pub(crate) fn check_all_used(parameters: &[Parameter], known: &[String]) -> Result<()> {
    let strange = parameters.iter().find(|one| !known.contains(&one.name));
    strange.map_or(Ok(()), |one| {
        Err(TrainingError::Parameter {
            name: one.name.clone(),
            detail: "the base has nothing of that name".to_owned(),
        })
    })
}

/// What of a card the network uses.
fn names(layout: &Layout) -> Vec<String> {
    let mut known = vec![format!("{}.rows", layout.words.name)];
    let norm = |norm: &cpu_inference::Norm| format!("{}.weight", norm.name);
    known.extend(layout.final_norm.as_ref().map(norm));
    for block in &layout.blocks {
        let layers = block
            .qkv
            .iter()
            .chain(&block.wide)
            .chain([&block.output, &block.down]);
        for layer in layers {
            known.extend(trained_of(&layer.name));
        }
        let norms = block
            .head_norms
            .iter()
            .flatten()
            .chain(&block.attention_norm);
        known.extend(norms.chain([&block.feed_forward_norm]).map(norm));
    }
    known
}

/// Names of what can be trained of a layer.
pub(crate) fn trained_of(layer: &str) -> [String; 3] {
    ["A.weight", "B.weight", "magnitude_vector"].map(|part| format!("{layer}.lora_{part}"))
}
