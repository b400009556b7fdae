//! What a trainer computes: a decoder or an encoder, both ways.

use cpu_inference::{Layout, ModelConfig};

use crate::batch::Checked;
use crate::buffers::Buffer;
use crate::embedding::Rows;
use crate::encoder::{self, Encoder};
use crate::error::{Result, TrainingError};
use crate::frozen::{Base, Frozen};
use crate::linear::Context;
use crate::network::{self, Network};
use crate::parameters::Parameter;

/// What is computed, both ways.
pub(crate) enum Body {
    Decoder(Box<Network>),
    Encoder(Box<Encoder>),
}

/// What the way back needs of the way forth.
pub(crate) enum Tape {
    Decoder(network::Tape),
    Encoder(Vec<encoder::Saved>),
}

impl Body {
    pub(crate) fn load(
        config: &ModelConfig,
        base: Base<'_>,
        parameters: &[Parameter],
        row_ids: Vec<u32>,
    ) -> Result<Self> {
        if Layout::of(config)?.family.is_decoder {
            let network = Network::load(config, base, parameters, row_ids)?;
            return Ok(Self::Decoder(Box::new(network)));
        }
        let encoder = Encoder::load(config, base, parameters)?;
        Ok(Self::Encoder(Box::new(encoder)))
    }

    /// The head of a decoder, and the trained rows of it.
    pub(crate) fn head(&self) -> Result<(&Frozen, Option<&Rows>)> {
        match self {
            Self::Decoder(network) => Ok(network.head()),
            Self::Encoder(_) => Err(TrainingError::Batch {
                detail: "an encoder writes no tokens; expected gradients of its states".to_owned(),
            }),
        }
    }

    pub(crate) fn width(&self) -> usize {
        match self {
            Self::Decoder(network) => network.embedding.words.inputs(),
            Self::Encoder(encoder) => encoder.width(),
        }
    }

    pub(crate) fn forward(
        &self,
        context: &mut Context<'_>,
        parameters: &[Parameter],
        batch: &Checked<'_>,
        keeps_tape: bool,
    ) -> (Buffer, Tape) {
        match self {
            Self::Decoder(network) => {
                let (states, tape) = network.forward(context, parameters, batch, keeps_tape);
                (states, Tape::Decoder(tape))
            }
            Self::Encoder(encoder) => {
                let (states, tape) = encoder.forward(context, parameters, batch, keeps_tape);
                (states, Tape::Encoder(tape))
            }
        }
    }

    pub(crate) fn backward(
        &self,
        context: &mut Context<'_>,
        parameters: &mut [Parameter],
        batch: &Checked<'_>,
        tape: Tape,
        of_states: &[f32],
    ) {
        match (self, tape) {
            (Self::Decoder(network), Tape::Decoder(tape)) => {
                network.backward(context, parameters, batch, tape, of_states);
            }
            (Self::Encoder(encoder), Tape::Encoder(tape)) => {
                encoder.backward(context, parameters, batch, tape, of_states);
            }
            _ => unreachable!("a tape is of the body that made it"),
        }
    }
}
