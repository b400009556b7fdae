//! Activation functions.

/// Turns scores into probabilities in place. A row of nothing but −∞ becomes zeros.
pub fn softmax(row: &mut [f32]) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if largest == f32::NEG_INFINITY {
        row.fill(0.0);
        return;
    }
    let mut sum = 0.0;
    for x in row.iter_mut() {
        *x = (*x - largest).exp();
        sum += *x;
    }
    let inverse = 1.0 / sum;
    for x in row {
        *x *= inverse;
    }
}

/// Gaussian error linear unit by the error function, in place: `x · Φ(x)`.
pub fn gelu(x: &mut [f32]) {
    for x in x {
        *x = 0.5 * *x * (1.0 + erf(f64::from(*x) * std::f64::consts::FRAC_1_SQRT_2) as f32);
    }
}

/// Abramowitz and Stegun 7.1.26, absolute error below 1.5e-7.
fn erf(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let poly = t
        * (0.254_829_592
            + t * (-0.284_496_736
                + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    (1.0 - poly * (-x * x).exp()).copysign(x)
}

/// The tanh form of GELU (`gelu_new`), in place.
pub fn gelu_tanh(x: &mut [f32]) {
    for x in x {
        let inner = 0.797_884_6 * (0.044_715 * *x * *x).mul_add(*x, *x);
        *x = 0.5 * *x * (1.0 + inner.tanh());
    }
}

/// `out = gate · sigmoid(gate) · up`.
///
/// # Panics
/// If the lengths differ.
pub fn silu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == up.len() && gate.len() == out.len());
    for (j, out) in out.iter_mut().enumerate() {
        *out = gate[j] / (1.0 + (-gate[j]).exp()) * up[j];
    }
}
