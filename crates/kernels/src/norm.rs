//! Normalisations of one row.

/// `out = (x − mean) / sqrt(variance + eps) · gamma + beta`.
///
/// # Panics
/// If the lengths differ.
pub fn layer_norm(x: &[f32], gamma: &[f32], beta: &[f32], eps: f32, out: &mut [f32]) {
    assert!(x.len() == gamma.len() && x.len() == beta.len() && x.len() == out.len());
    let n = x.len() as f32;
    let mean = x.iter().sum::<f32>() / n;
    let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / n;
    let inverse = 1.0 / (variance + eps).sqrt();
    for (j, out) in out.iter_mut().enumerate() {
        *out = ((x[j] - mean) * inverse).mul_add(gamma[j], beta[j]);
    }
}

/// `residual += delta`, then [`layer_norm`] of it.
///
/// # Panics
/// If the lengths differ.
pub fn add_layer_norm(
    delta: &[f32],
    residual: &mut [f32],
    gamma: &[f32],
    beta: &[f32],
    eps: f32,
    out: &mut [f32],
) {
    crate::add(delta, residual);
    layer_norm(residual, gamma, beta, eps, out);
}

/// `out = x / sqrt(mean(x²) + eps) · gamma`.
///
/// # Panics
/// If the lengths differ.
pub fn rms_norm(x: &[f32], gamma: &[f32], eps: f32, out: &mut [f32]) {
    assert!(x.len() == gamma.len() && x.len() == out.len());
    let square = x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32;
    let inverse = 1.0 / (square + eps).sqrt();
    for (j, out) in out.iter_mut().enumerate() {
        *out = x[j] * inverse * gamma[j];
    }
}

/// `residual += delta`, then [`rms_norm`] of it.
///
/// # Panics
/// If the lengths differ.
pub fn add_rms_norm(delta: &[f32], residual: &mut [f32], gamma: &[f32], eps: f32, out: &mut [f32]) {
    crate::add(delta, residual);
    rms_norm(residual, gamma, eps, out);
}
