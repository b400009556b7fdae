//! Side blocks of a card behind blocks of a decoder, `x + up(gelu(down(norm(x))))`, and their gradients.
//!
//! Source: bottleneck adapters, arXiv:1902.00751.

use kernels::{Onto, PlainRows};

use crate::activation::Activation;
use crate::buffers::Buffer;
use crate::error::{Result, TrainingError};
use crate::linear::Context;
use crate::norm::Norm;
use crate::parameters::Parameter;

/// What the names of its matrices end with, behind that of the block.
pub(crate) const PARTS: [&str; 2] = [".side_down.weight", ".side_up.weight"];

/// A side block.
#[derive(Debug)]
pub(crate) struct SideBlock {
    /// Where among the parameters its matrices are: `[width, hidden]`, and `[hidden, width]`.
    down: usize,
    up: usize,
    width: usize,
    norm: Norm,
}

/// What the way back needs of the way forth.
pub(crate) struct Saved {
    /// The stream before.
    stream: Buffer,
    /// Before the activation, `[rows, width]`.
    narrow: Buffer,
}

impl SideBlock {
    /// The one behind the block of that name, if it is trained.
    pub(crate) fn find(
        parameters: &[Parameter],
        block: &str,
        hidden: usize,
        eps: f32,
    ) -> Result<Option<Self>> {
        let place = |part| {
            let name = format!("{block}{part}");
            parameters.iter().position(|one| one.name == name)
        };
        let fault = |detail| TrainingError::Parameter {
            name: block.to_owned(),
            detail,
        };
        match PARTS.map(place) {
            [None, None] => Ok(None),
            [Some(down), Some(up)] => {
                let width = parameters[down].matrix().0;
                let expected = [[width, hidden], [hidden, width]];
                let got = [&parameters[down].shape, &parameters[up].shape];
                let mut pairs = got.iter().zip(&expected);
                if width == 0 || pairs.any(|(got, want)| got[..] != want[..]) {
                    let detail = format!("expected a side block of {expected:?}, got {got:?}");
                    return Err(fault(detail));
                }
                Ok(Some(Self {
                    down,
                    up,
                    width,
                    norm: Norm::new(vec![1.0; hidden], eps, None),
                }))
            }
            _ => {
                let detail = "expected both matrices, side_down and side_up, got one";
                Err(fault(detail.to_owned()))
            }
        }
    }

    /// Takes the stream, `[rows, hidden]`, through it.
    pub(crate) fn forward(
        &self,
        context: &Context<'_>,
        parameters: &[Parameter],
        stream: &mut [f32],
    ) -> Saved {
        let (pool, hidden) = (context.pool, parameters[self.up].matrix().0);
        let rows = stream.len() / hidden;
        let before = context.spare.copy(stream);
        let mut entered = context.spare.take(stream.len());
        self.norm
            .forward(pool, parameters, true, stream, &mut entered);
        let mut narrow = context.spare.take(rows * self.width);
        let down = PlainRows::F32(&parameters[self.down].values);
        let onto = Onto::Nothing;
        kernels::gemm_plain(
            pool,
            &entered,
            rows,
            hidden,
            down,
            self.width,
            onto,
            &mut narrow,
        );
        let mut active = context.spare.take(narrow.len());
        Activation::Gelu.forward(pool, rows, &narrow, &mut active);
        let up = PlainRows::F32(&parameters[self.up].values);
        kernels::gemm_plain(
            pool,
            &active,
            rows,
            self.width,
            up,
            hidden,
            Onto::Out,
            stream,
        );
        Saved {
            stream: before,
            narrow,
        }
    }

    /// Takes the gradient of the stream behind it to that before it, and adds to those of its matrices.
    pub(crate) fn backward(
        &self,
        context: &Context<'_>,
        parameters: &mut [Parameter],
        Saved { stream, narrow }: &Saved,
        gradient: &mut [f32],
    ) {
        let (pool, hidden, width) = (context.pool, parameters[self.up].matrix().0, self.width);
        let rows = stream.len() / hidden;
        let mut active = context.spare.take(narrow.len());
        Activation::Gelu.forward(pool, rows, narrow, &mut active);
        // Turned: as few rows as the block is wide are quicker than as many as the stream is.
        let mut turned = context.spare.take(active.len());
        kernels::transpose(&active, rows, width, &mut turned);
        let mut of_up = context.spare.take(width * hidden);
        let onto = Onto::Nothing;
        kernels::gemm_back(
            pool, &turned, width, rows, gradient, hidden, onto, &mut of_up,
        );
        let sums = &mut parameters[self.up].gradient;
        for (row, sums) in sums.chunks_exact_mut(width).enumerate() {
            for (column, sum) in sums.iter_mut().enumerate() {
                *sum += of_up[column * hidden + row];
            }
        }
        let up = &parameters[self.up].values;
        let mut of_narrow = active;
        kernels::gemm_back(
            pool,
            gradient,
            rows,
            hidden,
            up,
            width,
            onto,
            &mut of_narrow,
        );
        Activation::Gelu.backward(pool, rows, narrow, &mut of_narrow);
        let mut entered = context.spare.take(stream.len());
        self.norm
            .forward(pool, parameters, true, stream, &mut entered);
        kernels::transpose(&of_narrow, rows, width, &mut turned);
        let sums = &mut parameters[self.down].gradient;
        kernels::gemm_back(
            pool,
            &turned,
            width,
            rows,
            &entered,
            hidden,
            Onto::Out,
            sums,
        );
        let mut of_entered = entered;
        let down = &parameters[self.down].values;
        kernels::gemm_back(
            pool,
            &of_narrow,
            rows,
            width,
            down,
            hidden,
            onto,
            &mut of_entered,
        );
        self.norm
            .backward(pool, parameters, stream, &of_entered, gradient);
    }
}
