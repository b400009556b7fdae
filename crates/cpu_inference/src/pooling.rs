//! From the hidden states of a sequence to one vector.

use crate::config::Pooling;

impl Pooling {
    /// Writes the vector, `[width]`, of `states`, `[tokens, width]` with at least one token.
    pub(crate) fn apply(self, states: &[f32], out: &mut [f32]) {
        let width = out.len();
        match self {
            Self::Cls => out.copy_from_slice(&states[..width]),
            Self::Last => out.copy_from_slice(&states[states.len() - width..]),
            Self::Mean => {
                out.fill(0.0);
                states
                    .chunks_exact(width)
                    .for_each(|state| kernels::add(state, out));
                kernels::scale(width as f32 / states.len() as f32, out);
            }
        }
    }
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
        let pooled = |pooling: Pooling| {
            let mut out = [0.0; 2];
            pooling.apply(&states, &mut out);
            out
        };
        assert_eq!(pooled(Pooling::Cls), [1.0, 2.0]);
        assert_eq!(pooled(Pooling::Last), [8.0, 0.0]);
        assert_eq!(pooled(Pooling::Mean), [4.0, 2.0]);
        let (mut vector, mut zero) = ([3.0, 4.0], [0.0; 2]);
        normalize(&mut vector);
        normalize(&mut zero);
        assert!((vector[0] - 0.6).abs() < 1e-6 && zero == [0.0; 2]);
    }
}
