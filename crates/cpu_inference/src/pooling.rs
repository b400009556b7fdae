//! From the hidden states of a sequence to one vector.

use std::ops::Range;

use crate::config::Pooling;

impl Pooling {
    /// The tokens of a sequence, which has one at least, whose states make its vector.
    ///
    /// The first `skip` tokens, a prompt's, take no part; the last token always does.
    pub(crate) fn tokens(self, tokens: usize, skip: usize) -> Range<usize> {
        let first = skip.min(tokens - 1);
        match self {
            Self::Cls => first..first + 1,
            Self::Last => tokens - 1..tokens,
            Self::Mean | Self::MeanSqrt | Self::Max | Self::WeightedMean => first..tokens,
        }
    }

    /// Writes the vector, `[width]`, of the states, `[tokens, width]`, of those [`tokens`](Self::tokens), before which
    /// the sequence has `skipped` others.
    pub(crate) fn apply(self, kept: &[f32], skipped: usize, out: &mut [f32]) {
        let width = out.len();
        match self {
            Self::Cls | Self::Last => out.copy_from_slice(kept),
            Self::Mean => {
                sum(kept, out);
                kernels::scale(width as f32 / kept.len() as f32, out);
            }
            Self::MeanSqrt => {
                sum(kept, out);
                kernels::scale((width as f32 / kept.len() as f32).sqrt(), out);
            }
            Self::Max => {
                out.copy_from_slice(&kept[..width]);
                for state in kept.chunks_exact(width) {
                    out.iter_mut()
                        .zip(state)
                        .for_each(|(most, value)| *most = most.max(*value));
                }
            }
            Self::WeightedMean => {
                out.fill(0.0);
                // A place counts from the beginning of the text, whether what stands before is pooled or not.
                let places = skipped + 1..=skipped + kept.len() / width;
                for (place, state) in places.clone().zip(kept.chunks_exact(width)) {
                    kernels::axpy(place as f32, state, out);
                }
                kernels::scale(1.0 / places.sum::<usize>() as f32, out);
            }
        }
    }
}

fn sum(states: &[f32], out: &mut [f32]) {
    out.fill(0.0);
    states
        .chunks_exact(out.len())
        .for_each(|state| kernels::add(state, out));
}

/// Scales `vector` to length 1; a zero vector stays zero.
pub(crate) fn normalize(vector: &mut [f32]) {
    let length = kernels::dot_f32(vector, vector).sqrt();
    kernels::scale(1.0 / length.max(f32::MIN_POSITIVE), vector);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poolings_take_what_they_name() {
        let states = [1.0, 2.0, 3.0, 4.0, 8.0, 0.0];
        let pooled = |pooling: Pooling, skip| {
            let mut out = [0.0; 2];
            let tokens = pooling.tokens(3, skip);
            let kept = &states[2 * tokens.start..2 * tokens.end];
            pooling.apply(kept, tokens.start, &mut out);
            out
        };
        assert_eq!(pooled(Pooling::Cls, 0), [1.0, 2.0]);
        assert_eq!(pooled(Pooling::Last, 0), [8.0, 0.0]);
        assert_eq!(pooled(Pooling::Mean, 0), [4.0, 2.0]);
        assert_eq!(pooled(Pooling::Max, 0), [8.0, 4.0]);
        assert_eq!(
            pooled(Pooling::MeanSqrt, 0),
            [4.0, 2.0].map(|mean: f32| mean * 3f32.sqrt())
        );
        let weighted = pooled(Pooling::WeightedMean, 0);
        assert!((weighted[0] - 31.0 / 6.0).abs() < 1e-5 && (weighted[1] - 10.0 / 6.0).abs() < 1e-5);
        assert_eq!(pooled(Pooling::Cls, 1), [3.0, 4.0]);
        assert_eq!(pooled(Pooling::Mean, 1), [5.5, 2.0]);
        assert!((pooled(Pooling::WeightedMean, 1)[0] - 6.0).abs() < 1e-5);
        // The last token stays, however much is to be left out.
        assert_eq!(pooled(Pooling::Mean, 9), [8.0, 0.0]);
        let (mut vector, mut zero) = ([3.0, 4.0], [0.0; 2]);
        normalize(&mut vector);
        normalize(&mut zero);
        assert!((vector[0] - 0.6).abs() < 1e-6 && zero == [0.0; 2]);
    }
}
