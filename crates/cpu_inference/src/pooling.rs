//! From the hidden states of a sequence to one vector.

use crate::config::Pooling;

impl Pooling {
    /// Writes the vector, `[width]`, of `states`, `[tokens, width]` with at least one token.
    ///
    /// The first `skip` tokens, a prompt's, take no part; the last token always does.
    pub(crate) fn apply(self, states: &[f32], skip: usize, out: &mut [f32]) {
        let width = out.len();
        let tokens = states.len() / width;
        let skip = skip.min(tokens - 1);
        let kept = &states[skip * width..];
        match self {
            Self::Cls => out.copy_from_slice(&kept[..width]),
            Self::Last => out.copy_from_slice(&kept[kept.len() - width..]),
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
                let places = skip + 1..=tokens;
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
            pooling.apply(&states, skip, &mut out);
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
